//! The memory storage: keeps what it is told until the process ends.
//!
//! For tests, simulations and nodes that are allowed to forget. A node is "restarted" by opening a clone of the value that
//! the old one had. It fails, holds its flushes and loses them on request; it has no threads and no clock.
//! Knows nothing of: disks.

mod place;
mod snapshots;

use super::{Recovered, Scrubbed, Start, Storage, StorageError};
use crate::multi::{Entry, Group, Owner, Record, Slot, SnapshotId};
use async_trait::async_trait;
use bytes::Bytes;
use futures::channel::oneshot;
use place::Place;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// An acceptor's memory in the memory of this process. Clones are further storages on the same place, of which one at a
/// time is open; dropping the open one is like the end of its process, and loses what waits for a held flush.
#[derive(Debug)]
pub struct MemoryStorage {
    place: Arc<Mutex<Place>>,
    /// The opening that this value stands for.
    session: Mutex<Option<u64>>,
}

impl Default for MemoryStorage {
    /// An empty place, whose disk id nobody can guess.
    fn default() -> Self {
        let mut hasher = RandomState::new().build_hasher();
        hasher.write_u32(std::process::id());
        Self::with_seed(hasher.finish())
    }
}

impl Clone for MemoryStorage {
    /// Another storage on the same place, not open.
    fn clone(&self) -> Self {
        Self { place: Arc::clone(&self.place), session: Mutex::new(None) }
    }
}

impl Drop for MemoryStorage {
    fn drop(&mut self) {
        self.end_session();
    }
}

impl MemoryStorage {
    /// An empty place, whose disk id and nonces follow from `seed`: for simulations.
    pub fn with_seed(seed: u64) -> Self {
        let place = Place { random: seed, ..Place::default() };
        Self { place: Arc::new(Mutex::new(place)), session: Mutex::new(None) }
    }

    /// Lets the next append fail like this. As after any failed write, the place takes no more until it is opened again.
    pub fn fail_next_append(&self, kind: io::ErrorKind) {
        self.fail_append(0, kind);
    }

    /// Lets the append fail that comes after `later` more.
    pub fn fail_append(&self, later: u64, kind: io::ErrorKind) {
        let mut place = self.lock();
        let number = place.appends.saturating_add(later);
        place.faults.insert(number, kind);
    }

    /// From now on an append waits, not durable, until [`MemoryStorage::release`].
    pub fn hold_flushes(&self) {
        self.lock().hold = true;
    }

    /// Makes durable and answers what waits, and holds no more.
    pub fn release(&self) {
        let mut place = self.lock();
        place.hold = false;
        let held = std::mem::take(&mut place.held);
        for (group, answer) in held {
            place.take(group);
            // A dropped future does not undo its write.
            let _ = answer.send(Ok(()));
        }
    }

    /// Lets the next write of a snapshot fail like this; that ends the snapshot, and nothing else.
    pub fn fail_next_snapshot_write(&self, kind: io::ErrorKind) {
        self.lock().snapshots.fail_write(0, kind);
    }

    /// Lets the write of a snapshot fail that comes after `later` more.
    pub fn fail_snapshot_write(&self, later: u64, kind: io::ErrorKind) {
        self.lock().snapshots.fail_write(later, kind);
    }

    /// Damages what is held of `slot`, as rot does, and says whether anything is: a read of it fails, a scrub finds it, and
    /// after a restart what was accepted there is unknown. Ends when the slot is written again.
    pub fn corrupt_entry(&self, slot: Slot) -> bool {
        self.lock().node.as_mut().is_some_and(|node| node.corrupt(slot))
    }

    /// Damages a sealed snapshot, as rot does, and says whether it is held: a read of it fails, and a scrub finds it. Ends
    /// when the same one is sealed again.
    pub fn corrupt_snapshot(&self, snapshot: SnapshotId) -> bool {
        self.lock().snapshots.corrupt(snapshot)
    }

    /// How many appends wait.
    pub fn held(&self) -> usize {
        self.lock().held.len()
    }

    /// Cuts the power: what waits is lost and never answered, the storage that was open is not any more, and the place can
    /// be opened again. Holds no more.
    pub fn lose_unflushed(&self) {
        let mut place = self.lock();
        place.held.clear();
        place.hold = false;
        place.open = None;
        place.poisoned = false;
    }

    fn lock(&self) -> MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn session(&self) -> Option<u64> {
        *self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The place, if this value has it open.
    fn open_place(&self) -> Result<MutexGuard<'_, Place>, StorageError> {
        let session = self.session();
        let place = self.lock();
        if session.is_none() || place.open != session { Err(StorageError::NotOpen) } else { Ok(place) }
    }

    /// Whether this value had the place open.
    fn end_session(&self) -> bool {
        let session = self.session.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut place = self.lock();
        let was_open = session.is_some() && place.open == session;
        if was_open {
            place.open = None;
            place.held.clear();
        }
        was_open
    }
}

#[async_trait]
impl Storage for MemoryStorage {
    async fn open(&self, owner: Owner, start: Start) -> Result<Recovered, StorageError> {
        let (recovered, session) = {
            let mut place = self.lock();
            let recovered = place.open(owner, start)?;
            (recovered, place.open)
        };
        *self.session.lock().unwrap_or_else(PoisonError::into_inner) = session;
        Ok(recovered)
    }

    async fn recover(&self) -> Result<Recovered, StorageError> {
        let place = self.open_place()?;
        place.node.as_ref().map(place::Node::recovered).ok_or(StorageError::NotOpen)
    }

    async fn append(&self, group: Group) -> Result<(), StorageError> {
        let answer = {
            let mut place = self.open_place()?;
            if place.poisoned {
                return Err(StorageError::Poisoned);
            }
            let number = place.appends;
            place.appends += 1;
            if let Some(kind) = place.faults.remove(&number) {
                place.poisoned = true;
                let path = PathBuf::from("memory");
                return Err(StorageError::Io { op: "append", path, source: kind.into() });
            }
            if !place.hold {
                place.take(group);
                return Ok(());
            }
            let (sender, receiver) = oneshot::channel();
            place.held.push_back((group, sender));
            receiver
        };
        answer.await.unwrap_or(Err(StorageError::NotOpen))
    }

    async fn read(&self, slots: Range<Slot>, bytes_max: usize) -> Result<Vec<(Slot, Entry)>, StorageError> {
        let place = self.open_place()?;
        place.node.as_ref().map_or(Ok(Vec::new()), |node| node.read(slots, bytes_max))
    }

    async fn trim(&self, through: Slot, facts: Vec<Record>) -> Result<Slot, StorageError> {
        let mut place = self.open_place()?;
        if place.poisoned {
            return Err(StorageError::Poisoned);
        }
        place.snapshots.note_bases(&facts);
        place.node.as_mut().map(|node| node.trim(through, facts)).ok_or(StorageError::NotOpen)
    }

    async fn begin_snapshot(&self, through: Slot, expected: Option<SnapshotId>) -> Result<u64, StorageError> {
        Ok(self.open_place()?.snapshots.begin(through, expected))
    }

    async fn write_snapshot(&self, at: u64, bytes: Bytes) -> Result<(), StorageError> {
        self.open_place()?.snapshots.write(at, &bytes)
    }

    async fn seal_snapshot(&self) -> Result<SnapshotId, StorageError> {
        self.open_place()?.snapshots.seal()
    }

    async fn read_snapshot(
        &self,
        snapshot: SnapshotId,
        at: u64,
        bytes_max: usize,
    ) -> Result<Bytes, StorageError> {
        self.open_place()?.snapshots.read(snapshot, at, bytes_max)
    }

    async fn scrub(&self, _: usize) -> Result<Scrubbed, StorageError> {
        Ok(self.open_place()?.scrub())
    }

    fn log_bytes(&self) -> u64 {
        let bytes = |place: MutexGuard<'_, Place>| place.node.as_ref().map_or(0, place::Node::log_bytes);
        self.open_place().map_or(0, bytes)
    }

    async fn close(&self) -> Result<(), StorageError> {
        if self.open_place().is_ok() {
            self.release();
        }
        if self.end_session() { Ok(()) } else { Err(StorageError::NotOpen) }
    }
}
