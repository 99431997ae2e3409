//! The file storage: a directory with a journal, snapshots, an identity and a lock.
//!
//! ```text
//! directory/identity              whose it is, and every start of it: replaced atomically at each open
//! directory/journal-….log         the acceptor's memory
//! directory/checkpoint            what stands in place of the segments that were cut away
//! directory/snapshot-….sealed     states that were applied through a slot; -….partial while one is written
//! directory/lock                  locked while open
//! ```
//!
//! A thread of its own runs the journal, so that a flush blocks nobody; another one reads, and a third keeps the snapshots.
//! An append is one message to the thread, one write, one flush, one message back.
//! Knows nothing of: what a record means, beyond the fold.

mod force;
mod place;
mod snapshots;
mod worker;

pub use force::{ForceError, ForceReport};
#[cfg(feature = "testing")]
pub(crate) use snapshots::round_trip_of_any_snapshot;

use super::disk::{Disk, RealDisk};
use super::journal::{Damage, SEGMENT_BYTES_DEFAULT};
use super::{Recovered, Scrubbed, Start, Storage, StorageError};
use crate::multi::{Entry, Group, Owner, Record, Slot, SnapshotId};
use async_trait::async_trait;
use bytes::Bytes;
use place::Place;
use snapshots::Snapshots;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use worker::Worker;

/// Keeps an acceptor's memory in a directory, which only one process has open at a time.
///
/// The directory is made (mode 0700) for a bootstrap and a join only. Dropping the storage ends its threads after the
/// append that is under way, seals the journal and unlocks the directory.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use synod::multi::{ClusterId, Membership, Owner};
/// # use synod::paxos::NodeId;
/// use synod::storage::{FileStorage, Start, Storage};
///
/// # let parent = tempfile::tempdir()?;
/// # let directory = parent.path().join("node-1");
/// # let node = NodeId::new(1);
/// # let owner = Owner { cluster: ClusterId::new("docs")?, epoch: 0, node };
/// # let membership = Membership::voters([(node, "")])?;
/// # futures::executor::block_on(async {
/// let storage = FileStorage::at(&directory).segment_bytes(1 << 20);
/// let recovered = storage.open(owner, Start::Bootstrap(membership)).await?;
/// assert_eq!(recovered.incarnations.len(), 1);
/// storage.close().await?;
/// # Ok(())
/// # })
/// # }
/// ```
#[derive(Debug)]
pub struct FileStorage {
    settings: Settings,
    state: Mutex<State>,
    /// Whose turn it is to do something with snapshots.
    turn: Arc<futures::lock::Mutex<()>>,
}

#[derive(Clone, Debug)]
struct Settings {
    dir: PathBuf,
    disk: Arc<dyn Disk>,
    segment_bytes: usize,
    seal_after: Duration,
    inline: bool,
}

#[derive(Debug)]
enum State {
    Closed,
    Threaded(Worker),
    Inline(Box<Place>),
}

impl FileStorage {
    /// A storage in `dir`, on the disk of this machine. Nothing is touched before it is opened.
    pub fn at(dir: impl Into<PathBuf>) -> Self {
        let settings = Settings {
            dir: dir.into(),
            disk: Arc::new(RealDisk),
            segment_bytes: SEGMENT_BYTES_DEFAULT,
            seal_after: Duration::from_millis(50),
            inline: false,
        };
        Self { settings, state: Mutex::new(State::Closed), turn: Arc::default() }
    }

    /// How long a segment of the journal is, in bytes: 16 MiB where nothing else is said, at least 4 KiB. Segments that
    /// exist keep their length.
    #[must_use]
    pub fn segment_bytes(mut self, bytes: usize) -> Self {
        self.settings.segment_bytes = bytes;
        self
    }

    /// Works on another disk: a recorded or a simulated one.
    #[must_use]
    pub fn with_disk(mut self, disk: Arc<dyn Disk>) -> Self {
        self.settings.disk = disk;
        self
    }

    /// Seals a group that had no successor for so long (protocol 11.2): 50 ms where nothing else is said.
    #[must_use]
    pub fn seal_after(mut self, idle: Duration) -> Self {
        self.settings.seal_after = idle;
        self
    }

    /// Does all work on the thread that calls, which then waits for the disk: for simulators, which want no threads and a
    /// fixed order. Groups are sealed when it is closed only.
    #[must_use]
    pub fn inline(mut self) -> Self {
        self.settings.inline = true;
        self
    }

    /// What was found damaged when it was opened, and how it was judged. Empty while it is not open.
    pub fn damage(&self) -> Vec<Damage> {
        match &*self.state() {
            State::Closed => Vec::new(),
            State::Threaded(worker) => worker.damage(),
            State::Inline(place) => place.damage().to_vec(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does `work` beside the journal, one at a time.
    async fn on_snapshots<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Snapshots) -> Result<T, StorageError> + Send + 'static,
    ) -> Result<T, StorageError> {
        let turn = Arc::clone(&self.turn).lock_owned().await;
        let reply = match &mut *self.state() {
            State::Closed => return Err(StorageError::NotOpen),
            State::Threaded(worker) => worker.on_snapshots(turn, work),
            State::Inline(place) => {
                let snapshots = place.snapshots();
                worker::Reply::ready(work(&mut snapshots.lock().unwrap_or_else(PoisonError::into_inner)))
            }
        };
        reply.wait().await
    }

    fn locked(&self) -> StorageError {
        StorageError::Locked { place: self.settings.dir.display().to_string() }
    }
}

#[async_trait]
impl Storage for FileStorage {
    async fn open(&self, owner: Owner, start: Start) -> Result<Recovered, StorageError> {
        let opened = {
            let mut state = self.state();
            match &*state {
                State::Closed => {}
                // Its lock, if it has one still, ends with it.
                State::Threaded(worker) if worker.has_ended() => *state = State::Closed,
                State::Threaded(_) | State::Inline(_) => return Err(self.locked()),
            }
            if self.settings.inline {
                let (place, recovered) = Place::open(&self.settings, owner, start)?;
                *state = State::Inline(Box::new(place));
                return Ok(recovered);
            }
            let (worker, opened) = Worker::start(&self.settings, owner, start)?;
            *state = State::Threaded(worker);
            opened
        };
        let opened = opened.wait().await;
        if opened.is_err() {
            *self.state() = State::Closed;
        }
        opened
    }

    async fn recover(&self) -> Result<Recovered, StorageError> {
        let reply = match &mut *self.state() {
            State::Closed => return Err(StorageError::NotOpen),
            State::Threaded(worker) => worker.recover(),
            State::Inline(place) => worker::Reply::ready(place.recover()),
        };
        reply.wait().await
    }

    async fn append(&self, group: Group) -> Result<(), StorageError> {
        let reply = match &mut *self.state() {
            State::Closed => return Err(StorageError::NotOpen),
            State::Threaded(worker) => worker.append(group),
            State::Inline(place) => worker::Reply::ready(place.append(&group)),
        };
        reply.wait().await
    }

    async fn read(&self, slots: Range<Slot>, bytes_max: usize) -> Result<Vec<(Slot, Entry)>, StorageError> {
        let reply = match &mut *self.state() {
            State::Closed => return Err(StorageError::NotOpen),
            State::Threaded(worker) => worker.read(slots, bytes_max),
            State::Inline(place) => worker::Reply::ready(place.reader().read(slots, bytes_max)),
        };
        reply.wait().await
    }

    async fn trim(&self, through: Slot, facts: Vec<Record>) -> Result<Slot, StorageError> {
        let reply = match &mut *self.state() {
            State::Closed => return Err(StorageError::NotOpen),
            State::Threaded(worker) => worker.trim(through, facts),
            State::Inline(place) => worker::Reply::ready(place.trim(through, facts)),
        };
        reply.wait().await
    }

    /// Half of it goes to the journal, half to the snapshots.
    async fn scrub(&self, bytes_max: usize) -> Result<Scrubbed, StorageError> {
        let bytes_max = bytes_max.div_ceil(2);
        let reply = match &mut *self.state() {
            State::Closed => return Err(StorageError::NotOpen),
            State::Threaded(worker) => worker.scrub(bytes_max),
            State::Inline(place) => worker::Reply::ready(place.reader().scrub(bytes_max)),
        };
        let journal = reply.wait().await?;
        let snapshots = self.on_snapshots(move |snapshots| Ok(snapshots.scrub(bytes_max))).await?;
        let bytes = journal.bytes + snapshots.bytes;
        Ok(Scrubbed { bytes, snapshots: snapshots.snapshots, ..journal })
    }

    async fn begin_snapshot(&self, through: Slot, expected: Option<SnapshotId>) -> Result<u64, StorageError> {
        self.on_snapshots(move |snapshots| snapshots.begin(through, expected)).await
    }

    async fn write_snapshot(&self, at: u64, bytes: Bytes) -> Result<(), StorageError> {
        self.on_snapshots(move |snapshots| snapshots.write(at, &bytes)).await
    }

    async fn seal_snapshot(&self) -> Result<SnapshotId, StorageError> {
        self.on_snapshots(Snapshots::seal).await
    }

    async fn read_snapshot(
        &self,
        snapshot: SnapshotId,
        at: u64,
        bytes_max: usize,
    ) -> Result<Bytes, StorageError> {
        self.on_snapshots(move |snapshots| snapshots.read(snapshot, at, bytes_max)).await
    }

    fn log_bytes(&self) -> u64 {
        match &*self.state() {
            State::Closed => 0,
            State::Threaded(worker) => worker.log_bytes(),
            State::Inline(place) => place.reader().log_bytes(),
        }
    }

    fn damage(&self) -> Vec<String> {
        Self::damage(self).iter().map(|damage| format!("{damage:?}")).collect()
    }

    async fn close(&self) -> Result<(), StorageError> {
        let ended = std::mem::replace(&mut *self.state(), State::Closed);
        match ended {
            State::Closed => Err(StorageError::NotOpen),
            State::Threaded(worker) => worker.close().wait().await,
            State::Inline(mut place) => place.seal(),
        }
    }
}
