//! A disk in memory that forgets what was not flushed, and fails where it is told to.
//!
//! Each call that changes something or flushes has a number, counted from 0 ([`SimulatedDisk::operations`]); a [`Fault`] is
//! set by number. A power cut ends every handle and lock; what was written and not flushed is lost, kept, or lost in
//! part, sector by sector, in any order. A flush that fails leaves its data visible and never durable, as systems do.

use super::{Access, Disk, DiskFile, DiskLock};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The unit in which a write may tear, in bytes.
const SECTOR_BYTES: usize = 512;

/// What goes wrong with one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It fails and does nothing. A flush that fails gives up its data for ever.
    Error(io::ErrorKind),
    /// A write takes only so many bytes, and says so.
    Short(usize),
    /// The power fails before it.
    PowerOff,
    /// The power fails in the middle of a write: so many bytes of it are durable already.
    Torn(usize),
    /// The power fails right after it was done.
    PowerOffAfter,
}

/// What becomes of writes and names that were not flushed when the power is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsynced {
    /// They are gone.
    Lost,
    /// They have reached the disk (or only the process died).
    Kept,
    /// Each sector and each name by chance, from this seed.
    Some(u64),
}

/// A file system in memory. Clones share it; [`SimulatedDisk::copy`] makes another.
#[derive(Clone, Debug, Default)]
pub struct SimulatedDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Clone, Debug, Default)]
struct State {
    files: Vec<Content>,
    names: BTreeMap<PathBuf, usize>,
    names_durable: BTreeMap<PathBuf, usize>,
    names_pending: Vec<NameChange>,
    dirs: BTreeSet<PathBuf>,
    locks: BTreeSet<PathBuf>,
    faults: BTreeMap<u64, Fault>,
    operations: u64,
    /// Counts power cuts, so that handles from before are known.
    boot: u64,
    off: bool,
    temps: u64,
    random: u64,
}

#[derive(Clone, Debug, Default)]
struct Content {
    live: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<(usize, Vec<u8>)>,
}

#[derive(Clone, Debug)]
struct NameChange {
    removed: Option<PathBuf>,
    named: Option<(PathBuf, usize)>,
}

impl NameChange {
    fn make(&self, names: &mut BTreeMap<PathBuf, usize>) {
        if let Some(path) = &self.removed {
            names.remove(path);
        }
        if let Some((path, file)) = &self.named {
            names.insert(path.clone(), *file);
        }
    }

    fn is_in(&self, dir: &Path) -> bool {
        let path = self.removed.as_deref().or(self.named.as_ref().map(|(path, _)| path.as_path()));
        path.and_then(Path::parent) == Some(dir)
    }
}

#[derive(Debug)]
struct SimulatedFile {
    disk: SimulatedDisk,
    file: usize,
    boot: u64,
}

#[derive(Debug)]
struct SimulatedLock {
    disk: SimulatedDisk,
    path: PathBuf,
    boot: u64,
}

impl DiskLock for SimulatedLock {}

impl Drop for SimulatedLock {
    fn drop(&mut self) {
        let mut state = self.disk.lock_state();
        if state.boot == self.boot {
            state.locks.remove(&self.path);
        }
    }
}

impl SimulatedDisk {
    /// An empty disk; what it calls random follows from `seed`.
    pub fn new(seed: u64) -> Self {
        let state = State { random: seed, ..State::default() };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// Another disk with the same content, at the same point, without its locks and faults.
    pub fn copy(&self) -> Self {
        let mut state = self.lock_state().clone();
        state.boot += 1;
        state.locks.clear();
        state.faults.clear();
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// How many calls that change something or flush there were: the number of the next one.
    pub fn operations(&self) -> u64 {
        self.lock_state().operations
    }

    /// Lets call number `operation` go wrong.
    pub fn fault_at(&self, operation: u64, fault: Fault) {
        self.lock_state().faults.insert(operation, fault);
    }

    /// Whether a fault has turned the power off.
    pub fn is_off(&self) -> bool {
        self.lock_state().off
    }

    /// Cuts the power and turns it on again: handles and locks end, and `unsynced` says what the disk holds now.
    pub fn power_cut(&self, unsynced: Unsynced) {
        let mut state = self.lock_state();
        let mut chance = match unsynced {
            Unsynced::Some(seed) => seed,
            Unsynced::Lost | Unsynced::Kept => 0,
        };
        let survives = |chance: &mut u64| match unsynced {
            Unsynced::Lost => false,
            Unsynced::Kept => true,
            Unsynced::Some(_) => next_random(chance) & 1 == 1,
        };
        for content in &mut state.files {
            for (offset, bytes) in std::mem::take(&mut content.pending) {
                let mut at = offset;
                let mut rest = bytes.as_slice();
                while !rest.is_empty() {
                    let (sector, later) = rest.split_at(rest.len().min(SECTOR_BYTES - at % SECTOR_BYTES));
                    if survives(&mut chance) {
                        put(&mut content.durable, at, sector);
                    }
                    at += sector.len();
                    rest = later;
                }
            }
            content.live.clone_from(&content.durable);
        }
        let mut names = std::mem::take(&mut state.names_durable);
        for change in std::mem::take(&mut state.names_pending) {
            if survives(&mut chance) {
                change.make(&mut names);
            }
        }
        state.names.clone_from(&names);
        state.names_durable = names;
        state.locks.clear();
        state.faults.clear();
        state.boot += 1;
        state.off = false;
    }

    /// Every file with what it holds.
    pub fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let state = self.lock_state();
        let content =
            |file: &usize| state.files.get(*file).map(|content| content.live.clone()).unwrap_or_default();
        state.names.iter().map(|(path, file)| (path.clone(), content(file))).collect()
    }

    /// Changes the byte of `path` at `offset` behind everybody's back: bit rot. Nothing happens beyond the end.
    pub fn flip(&self, path: &Path, offset: usize, mask: u8) {
        self.edit(path, |bytes| {
            if let Some(byte) = bytes.get_mut(offset) {
                *byte ^= mask;
            }
        });
    }

    /// Changes what `path` holds behind everybody's back, durably. Nothing happens if there is no such file.
    pub fn edit(&self, path: &Path, mut change: impl FnMut(&mut Vec<u8>)) {
        let mut state = self.lock_state();
        let file = state.names.get(path).copied();
        if let Some(content) = file.and_then(|file| state.files.get_mut(file)) {
            change(&mut content.live);
            content.durable.clone_from(&content.live);
            content.pending.clear();
        }
    }

    /// Puts a file of this content there, durably.
    pub fn put(&self, path: &Path, bytes: &[u8]) {
        let mut state = self.lock_state();
        let content = Content { live: bytes.to_vec(), durable: bytes.to_vec(), pending: Vec::new() };
        let file = state.files.len();
        state.files.push(content);
        state.names.insert(path.to_path_buf(), file);
        state.names_durable.insert(path.to_path_buf(), file);
    }

    fn lock_state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a call must do, after its fault was looked up.
enum Turn {
    Whole,
    Part { bytes: usize, then_off: bool },
    WholeThenOff,
}

impl State {
    fn alive(&self, boot: u64) -> io::Result<()> {
        if self.off || boot != self.boot { Err(io::Error::other("the power is off")) } else { Ok(()) }
    }

    fn take_turn(&mut self) -> io::Result<Turn> {
        self.alive(self.boot)?;
        let number = self.operations;
        self.operations += 1;
        match self.faults.remove(&number) {
            None => Ok(Turn::Whole),
            Some(Fault::Error(kind)) => Err(kind.into()),
            Some(Fault::Short(bytes)) => Ok(Turn::Part { bytes, then_off: false }),
            Some(Fault::Torn(bytes)) => Ok(Turn::Part { bytes, then_off: true }),
            Some(Fault::PowerOffAfter) => Ok(Turn::WholeThenOff),
            Some(Fault::PowerOff) => {
                self.off = true;
                self.alive(self.boot)?;
                Ok(Turn::Whole)
            }
        }
    }

    /// Ends a call that was done: the power may fail now.
    fn end_turn(&mut self, turn: &Turn) -> io::Result<()> {
        if matches!(turn, Turn::WholeThenOff | Turn::Part { then_off: true, .. }) {
            self.off = true;
        }
        self.alive(self.boot)
    }

    fn change_name(&mut self, change: NameChange) -> io::Result<()> {
        let turn = self.take_turn()?;
        change.make(&mut self.names);
        self.names_pending.push(change);
        self.end_turn(&turn)
    }
}

impl Disk for SimulatedDisk {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.lock_state();
        let turn = state.take_turn()?;
        for dir in dir.ancestors() {
            state.dirs.insert(dir.to_path_buf());
        }
        state.end_turn(&turn)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let state = self.lock_state();
        state.alive(state.boot)?;
        if !state.dirs.contains(dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let inside = state.names.keys().filter(|path| path.parent() == Some(dir));
        Ok(inside.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect())
    }

    fn open(&self, path: &Path, _access: Access) -> io::Result<Box<dyn DiskFile>> {
        let state = self.lock_state();
        state.alive(state.boot)?;
        let file = *state.names.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(SimulatedFile { disk: self.clone(), file, boot: state.boot }))
    }

    fn create_temp(&self, dir: &Path, prefix: &str) -> io::Result<(PathBuf, Box<dyn DiskFile>)> {
        let mut state = self.lock_state();
        if !state.dirs.contains(dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.temps += 1;
        let path = dir.join(format!("{prefix}{}.tmp", state.temps));
        let file = state.files.len();
        state.files.push(Content::default());
        state.change_name(NameChange { removed: None, named: Some((path.clone(), file)) })?;
        let boot = state.boot;
        Ok((path, Box::new(SimulatedFile { disk: self.clone(), file, boot })))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.lock_state();
        let file = *state.names.get(from).ok_or(io::ErrorKind::NotFound)?;
        state.change_name(NameChange {
            removed: Some(from.to_path_buf()),
            named: Some((to.to_path_buf(), file)),
        })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.lock_state();
        if !state.names.contains_key(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.change_name(NameChange { removed: Some(path.to_path_buf()), named: None })
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.lock_state();
        let turn = state.take_turn()?;
        let (durable, pending) = std::mem::take(&mut state.names_pending)
            .into_iter()
            .partition::<Vec<_>, _>(|change| change.is_in(dir));
        for change in durable {
            change.make(&mut state.names_durable);
        }
        state.names_pending = pending;
        state.end_turn(&turn)
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn DiskLock>>> {
        let mut state = self.lock_state();
        state.alive(state.boot)?;
        if !path.parent().is_some_and(|dir| state.dirs.contains(dir)) {
            return Err(io::ErrorKind::NotFound.into());
        }
        if !state.locks.insert(path.to_path_buf()) {
            return Ok(None);
        }
        if !state.names.contains_key(path) {
            let file = state.files.len();
            state.files.push(Content::default());
            let change = NameChange { removed: None, named: Some((path.to_path_buf(), file)) };
            change.make(&mut state.names);
            state.names_pending.push(change);
        }
        let boot = state.boot;
        Ok(Some(Box::new(SimulatedLock { disk: self.clone(), path: path.to_path_buf(), boot })))
    }

    fn random(&self) -> u64 {
        next_random(&mut self.lock_state().random)
    }
}

impl SimulatedFile {
    fn with<T>(&self, work: impl FnOnce(&mut State, usize) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.disk.lock_state();
        state.alive(self.boot)?;
        work(&mut state, self.file)
    }
}

impl DiskFile for SimulatedFile {
    fn length(&self) -> io::Result<u64> {
        self.with(|state, file| Ok(state.files.get(file).map_or(0, |content| content.live.len()) as u64))
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        self.with(|state, file| {
            let live = state.files.get(file).map(|content| content.live.as_slice()).unwrap_or_default();
            let from = usize::try_from(offset).ok().and_then(|offset| live.get(offset..)).unwrap_or_default();
            let count = from.len().min(bytes.len());
            bytes[..count].copy_from_slice(&from[..count]);
            Ok(count)
        })
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let offset = usize::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
        self.with(|state, file| {
            let turn = state.take_turn()?;
            let taken = match turn {
                Turn::Part { bytes: part, .. } => &bytes[..part.min(bytes.len())],
                Turn::Whole | Turn::WholeThenOff => bytes,
            };
            if let Some(content) = state.files.get_mut(file) {
                put(&mut content.live, offset, taken);
                if matches!(turn, Turn::Part { then_off: true, .. }) {
                    put(&mut content.durable, offset, taken);
                } else {
                    content.pending.push((offset, taken.to_vec()));
                }
            }
            state.end_turn(&turn)?;
            Ok(taken.len())
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.with(|state, file| {
            let turn = state.take_turn();
            let lost = turn.is_err() && !state.off;
            if let Some(content) = state.files.get_mut(file).filter(|_| turn.is_ok() || lost) {
                for (offset, bytes) in std::mem::take(&mut content.pending) {
                    if !lost {
                        put(&mut content.durable, offset, &bytes);
                    }
                }
            }
            state.end_turn(&turn?)
        })
    }
}

fn put(content: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    content[offset..end].copy_from_slice(bytes);
}

/// SplitMix64.
fn next_random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
