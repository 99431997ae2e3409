//! The snapshots of a directory: the one that is being written, and those that are sealed (clause 12).
//!
//! Durable: a snapshot when [`Snapshots::seal`] says `Ok`: flushed, then renamed, then its directory flushed.
//! Invariants: N1 a file under a sealed name was whole and flushed when it got it, and is never written again. N2 the one
//! that the newest durable base names is never removed. N3 a failure leaves the journal alone.
//! Knows nothing of: threads, what a snapshot is for. It is synchronous, and shares nothing with the journal but the disk and
//! what the newest base names, so that it runs beside it.

mod format;
mod named;
mod scrub;
mod writing;

pub(super) use format::Whose;
#[cfg(feature = "testing")]
pub(crate) use format::round_trip_of_any_snapshot;
pub(super) use named::Named;

use super::super::disk::{Access, Disk, DiskLock};
use super::super::journal::io_error;
use super::super::{Scrubbed, StorageError};
use crate::multi::{Slot, SnapshotId};
use bytes::Bytes;
use format::{
    BLOCK_BYTES, Header, SnapshotFile, TEMP_PREFIX, damaged, partial_name, partial_path, sealed_name,
    sealed_path,
};
use scrub::Cursor;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use writing::Writing;

/// How many sealed ones are kept, beside the one that the newest base names.
const KEPT: usize = 2;
/// One read gives at most this much, in bytes, however much is asked for.
const READ_BYTES_MAX: usize = 4 << 20;

/// What is held of snapshots.
#[derive(Debug)]
pub(super) struct Snapshots {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    whose: Whose,
    named: Arc<Named>,
    /// Oldest first.
    sealed: Vec<SnapshotId>,
    writing: Option<Writing>,
    /// What an earlier process left of one that was expected, until the first one is begun.
    left: Option<PathBuf>,
    scrubbing: Cursor,
    /// The directory stays locked as long as this may write.
    _lock: Arc<dyn DiskLock>,
}

impl Snapshots {
    /// Looks at what is there: keeps the snapshot that the newest base names, and what may be gone on with, and removes all
    /// else.
    pub(super) fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        whose: Whose,
        named: Option<SnapshotId>,
        lock: Arc<dyn DiskLock>,
    ) -> Result<Self, StorageError> {
        let mut snapshots = Self {
            disk,
            dir: dir.to_path_buf(),
            whose,
            named: Arc::new(Named::new(named)),
            sealed: Vec::new(),
            writing: None,
            left: None,
            scrubbing: Cursor::default(),
            _lock: lock,
        };
        for name in snapshots.disk.list(dir).map_err(io_error("list", dir))? {
            snapshots.take_in(&name);
        }
        Ok(snapshots)
    }

    fn take_in(&mut self, name: &str) {
        let path = self.dir.join(name);
        if let Some(id) = sealed_name(name) {
            if self.named.keeps(id) {
                self.sealed.push(id);
                return;
            }
        } else if let Some(through) = partial_name(name) {
            let file = SnapshotFile::open(self.disk.as_ref(), path.clone(), Access::Read);
            let header = file.ok().map(|file| file.header);
            let goes_on = |header: &Header| header.through == through && header.is_expected;
            if self.left.is_none() && header.as_ref().is_some_and(goes_on) {
                self.left = Some(path);
                return;
            }
        } else if !(name.starts_with(TEMP_PREFIX) && name.ends_with(".tmp")) {
            return;
        }
        // No reason not to start, if it fails.
        self.give_up(&path);
    }

    /// What tells which snapshot has to stay.
    pub(super) fn named(&self) -> Arc<Named> {
        Arc::clone(&self.named)
    }

    pub(super) fn begin(&mut self, through: Slot, expected: Option<SnapshotId>) -> Result<u64, StorageError> {
        let goes_on = |writing: &&Writing| expected.is_some() && writing.expected() == expected;
        if let Some(writing) = self.writing.as_ref().filter(goes_on) {
            return Ok(writing.held());
        }
        self.abandon();
        let (disk, nonce) = (Arc::clone(&self.disk), self.disk.random());
        let header =
            Header { whose: self.whose, nonce, through, known: expected, is_expected: expected.is_some() };
        let left = self.left.take();
        let same =
            left.as_ref().filter(|left| expected.is_some() && **left == partial_path(&self.dir, through));
        let resumed = same.and_then(|_| Writing::resume(Arc::clone(&disk), &self.dir, header));
        let writing = match resumed {
            Some(writing) => writing,
            None => {
                left.inspect(|left| self.give_up(left));
                Writing::create(disk, &self.dir, header)?
            }
        };
        Ok(self.writing.insert(writing).held())
    }

    pub(super) fn write(&mut self, at: u64, bytes: &[u8]) -> Result<(), StorageError> {
        let writing = self.writing.as_mut().filter(|writing| writing.held() == at);
        let written = writing.ok_or(StorageError::NoSnapshot)?.write(bytes);
        if written.is_err() {
            self.abandon();
        }
        written
    }

    pub(super) fn seal(&mut self) -> Result<SnapshotId, StorageError> {
        let writing = self.writing.as_mut().ok_or(StorageError::NoSnapshot)?;
        let from = writing.path().to_path_buf();
        let sealed = writing.seal().and_then(|id| {
            self.disk.rename(&from, &sealed_path(&self.dir, id)).map_err(io_error("rename", &from))?;
            Ok(id)
        });
        let Ok(id) = sealed else {
            self.abandon();
            return sealed;
        };
        self.writing = None;
        if let Err(error) = self.disk.sync_dir(&self.dir) {
            // Where the same one was sealed before, either file is whole.
            if !self.sealed.contains(&id) {
                self.give_up(&sealed_path(&self.dir, id));
            }
            return Err(io_error("fsync", &self.dir)(error));
        }
        self.sealed.retain(|sealed| *sealed != id);
        self.sealed.push(id);
        self.forget_older();
        Ok(id)
    }

    pub(super) fn read(
        &self,
        snapshot: SnapshotId,
        at: u64,
        bytes_max: usize,
    ) -> Result<Bytes, StorageError> {
        if !self.sealed.contains(&snapshot) {
            return Err(StorageError::NoSnapshot);
        }
        let end = snapshot.bytes.min(at.saturating_add(bytes_max.min(READ_BYTES_MAX) as u64));
        if at >= end {
            return Ok(Bytes::new());
        }
        let file = self.open_sealed(snapshot)?;
        let block_bytes = BLOCK_BYTES as u64;
        let mut content = Vec::with_capacity(usize::try_from(end - at).unwrap_or_default());
        let mut block = Vec::new();
        for number in at / block_bytes..end.div_ceil(block_bytes) {
            file.read_block(number, snapshot.bytes, &mut block)?;
            let start = number * block_bytes;
            let inside = |place: u64| place.saturating_sub(start).min(block.len() as u64) as usize;
            content.extend_from_slice(block.get(inside(at)..inside(end)).unwrap_or_default());
        }
        Ok(content.into())
    }

    /// Checks the next `bytes_max` bytes, about, of what is sealed: at least a block, at most to the end of the last one.
    pub(super) fn scrub(&mut self, bytes_max: usize) -> Scrubbed {
        let cursor = std::mem::take(&mut self.scrubbing);
        let (scrubbed, cursor) = scrub::run(self, cursor, bytes_max as u64);
        self.scrubbing = cursor;
        scrubbed
    }

    fn open_sealed(&self, snapshot: SnapshotId) -> Result<SnapshotFile, StorageError> {
        let path = sealed_path(&self.dir, snapshot);
        let file = SnapshotFile::open(self.disk.as_ref(), path.clone(), Access::Read)?;
        if file.header.known != Some(snapshot) || !file.header.is_of(self.whose) {
            return Err(damaged(&path, 0, "it is another snapshot than its name says"));
        }
        Ok(file)
    }

    fn forget_older(&mut self) {
        let surplus = self.sealed.len().saturating_sub(KEPT);
        let mut nth = 0;
        self.sealed.retain(|id| {
            nth += 1;
            // What cannot be removed stays, and the next one that is sealed tries again.
            nth > surplus || self.named.keeps(*id) || self.disk.remove(&sealed_path(&self.dir, *id)).is_err()
        });
    }

    /// Ends the one that is being written, and gives its space back.
    fn abandon(&mut self) {
        if let Some(writing) = self.writing.take() {
            let path = writing.path().to_path_buf();
            drop(writing);
            self.give_up(&path);
        }
    }

    /// Gives the space of a file back. What cannot be removed now is removed at the next open.
    fn give_up(&self, path: &Path) {
        let _ = self.disk.remove(path);
    }
}
