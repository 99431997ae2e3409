//! Storage: where an acceptor's promises outlive the process.
//!
//! # The contract
//!
//! The cases of the public storage suite are numbered as these clauses are.
//!
//! 1. **Durable.** `Ok` from [`Storage::append`] means: the group survives power loss. So does what [`Storage::open`]
//!    raised.
//! 2. **Whole.** A group is recovered with all its records or not at all, and never without the groups before it.
//! 3. **In order.** What is recovered is the fold of the groups in the order in which they were appended
//!    ([`Log::apply`]).
//! 4. **One writer.** At most one `append` is under way at a time; `read` may run beside it. A second process that opens
//!    the same place is refused with [`StorageError::Locked`].
//! 5. **No way back from an error.** After a write failed, every later write fails with [`StorageError::Poisoned`]; there is
//!    no retry. What was durable before stays readable.
//! 6. **A dropped future does not undo its write.** It may still become durable.
//! 7. **Owned.** [`Storage::open`] refuses another cluster's or node's place ([`StorageError::WrongOwner`]), a used one for
//!    bootstrap and join ([`StorageError::InUse`]) and an empty one for restart ([`StorageError::Empty`]), and changes
//!    nothing then. A restart takes the epoch that the place holds, whichever was asked for ([`Start::fits`]).
//! 8. **Counted.** Each `open` appends one [`Incarnation`] to the identity, durably, before it returns (protocol 9.3).
//! 9. **Honest.** Damage is never skipped: it is repaired by the rules of protocol 11, reported in
//!    [`Recovered::log`] as unknown slots or as an abstention, or refused with [`StorageError::Corrupt`]. There is no
//!    fallback to an earlier state.
//! 10. **Readable.** [`Storage::read`] gives the newest durable entry of each slot asked for, ascending, from the first
//!     on, ending before the first gap, at `bytes_max`, or at the end; never an empty answer where the first slot is held.
//! 11. **Cut.** [`Storage::trim`] may forget entries through the slot that it is told, and no other; it says through which
//!     slot entries are gone, which may be lower, and never goes down. The facts take the place of all other records of the
//!     groups that it forgets. What is recovered from then on is the fold of the facts, of
//!     [`Record::Trimmed`](crate::multi::Record) with that slot if any entry is gone, and of the groups that were kept: the
//!     newest ones, whole and in order. A crash at any point leaves all or nothing of it to be seen.
//! 12. **Snapshots.** One is written at a time, beside appends, and seen by nobody before it is sealed; `Ok` from
//!     [`Storage::seal_snapshot`] means that it survives power loss, and that its length and checksum (CRC-32 of the content)
//!     are those of its id. A sealed one never changes. It is kept until two more were sealed, and beyond that while it is
//!     the one that the newest base names, of those that were appended or given to `trim`; at an `open` all others may go. Of
//!     one that was expected, what was written before a crash may be gone on with; of any other nothing is left. A failure to
//!     write one ends that snapshot and gives its space back, and touches nothing else: appends go on.
//! 13. **Scrubbed.** [`Storage::scrub`] reads on where it stood, about as much as it is told, begins anew after the end, and
//!     says what is damaged. It repairs nothing and changes nothing. A slot that was written again after the damage is well.

#[cfg(feature = "file-storage")]
pub mod atomic_file;
#[cfg(feature = "file-storage")]
pub mod disk;
#[cfg(feature = "file-storage")]
mod file;
#[cfg(feature = "file-storage")]
pub mod journal;
mod memory;
#[cfg(feature = "file-storage")]
mod record;

pub use memory::MemoryStorage;

#[cfg(feature = "file-storage")]
pub use file::{FileStorage, ForceError, ForceReport};
#[cfg(all(feature = "file-storage", feature = "testing"))]
pub(crate) use {
    file::round_trip_of_any_snapshot, journal::round_trip_of_any_group, record::round_trip_of_any_records,
};

use crate::multi::{
    DiskId, Entry, Group, Incarnation, Interval, Log, Membership, Owner, Record, Sequence, Slot, SnapshotId,
};
use async_trait::async_trait;
use bytes::Bytes;
use std::ops::Range;
use std::path::PathBuf;

/// The acceptor's memory, shared by `Arc`. The contract stands in the [module's documentation](self).
#[async_trait]
pub trait Storage: Send + Sync + 'static {
    /// Locks the place, checks `owner` and `start` against what is there, raises the incarnation durably. Called once.
    ///
    /// # Errors
    ///
    /// See clauses 4, 7 and 9.
    async fn open(&self, owner: Owner, start: Start) -> Result<Recovered, StorageError>;

    /// What is durable now; a role is rebuilt from it. Any number of times after `open`, never while an `append` is under
    /// way.
    ///
    /// # Errors
    ///
    /// If the place cannot be read.
    async fn recover(&self) -> Result<Recovered, StorageError>;

    /// Makes `group` durable: all or nothing, one flush.
    ///
    /// # Errors
    ///
    /// Any error is final (clause 5): the caller stops and answers nothing that waits for the group.
    async fn append(&self, group: Group) -> Result<(), StorageError>;

    /// The newest durable entries of `slots` (half-open), up to about `bytes_max` bytes but at least one (clause 10).
    ///
    /// # Errors
    ///
    /// If the place cannot be read, or what is there fails its checksum.
    async fn read(&self, slots: Range<Slot>, bytes_max: usize) -> Result<Vec<(Slot, Entry)>, StorageError>;

    /// Forgets entries through `through`, as far as that is cheap, and keeps `facts` in place of all else that was said with
    /// them (clause 11). Returns the last slot through which every entry is gone. Not while an `append` is under way.
    ///
    /// # Errors
    ///
    /// As [`Storage::append`].
    async fn trim(&self, through: Slot, facts: Vec<Record>) -> Result<Slot, StorageError> {
        drop((through, facts));
        Ok(Slot::ZERO)
    }

    /// Begins to write a snapshot that was applied through `through`, in place of any other that is not sealed. With
    /// `expected` it is one that a peer holds, of the same `through`, and what is left of an earlier attempt at the same one
    /// is gone on with. Returns how many bytes of its content are held already (clause 12).
    ///
    /// # Errors
    ///
    /// If it cannot be written; nothing else fails by it.
    async fn begin_snapshot(&self, through: Slot, expected: Option<SnapshotId>) -> Result<u64, StorageError> {
        let _ = (through, expected);
        Err(StorageError::NoSnapshot)
    }

    /// Appends to the snapshot that was begun; `at` is how many bytes are held.
    ///
    /// # Errors
    ///
    /// If it cannot be written, which ends this snapshot and nothing else. [`StorageError::NoSnapshot`] if none was begun or
    /// `at` is another place, which changes nothing.
    async fn write_snapshot(&self, at: u64, bytes: Bytes) -> Result<(), StorageError> {
        drop((at, bytes));
        Err(StorageError::NoSnapshot)
    }

    /// Makes the snapshot that was begun durable, and says which it is.
    ///
    /// # Errors
    ///
    /// As [`Storage::write_snapshot`]; [`StorageError::Corrupt`] if it is not the one that was expected: what was written is
    /// removed, and the transfer has to begin anew.
    async fn seal_snapshot(&self) -> Result<SnapshotId, StorageError> {
        Err(StorageError::NoSnapshot)
    }

    /// The content of a sealed snapshot from the byte `at` on, at most `bytes_max` of it; empty at its end.
    ///
    /// # Errors
    ///
    /// [`StorageError::NoSnapshot`] if it is not held; [`StorageError::Corrupt`] if this part fails its checksum.
    async fn read_snapshot(
        &self,
        snapshot: SnapshotId,
        at: u64,
        bytes_max: usize,
    ) -> Result<Bytes, StorageError> {
        let _ = (snapshot, at, bytes_max);
        Err(StorageError::NoSnapshot)
    }

    /// Checks the next `bytes_max` bytes, about, of what is held (clause 13).
    ///
    /// # Errors
    ///
    /// If the place cannot be read at all.
    async fn scrub(&self, bytes_max: usize) -> Result<Scrubbed, StorageError> {
        let _ = bytes_max;
        Ok(Scrubbed::default())
    }

    /// How many bytes the entries take that `trim` has not forgotten, about: the measure of when to take a snapshot.
    fn log_bytes(&self) -> u64 {
        0
    }

    /// What `open` found damaged and how it judged it, in words for an operator; nothing by default.
    fn damage(&self) -> Vec<String> {
        Vec::new()
    }

    /// Ends writing in good order and unlocks. Writes after it are refused.
    ///
    /// # Errors
    ///
    /// If the last flush fails.
    async fn close(&self) -> Result<(), StorageError>;
}

/// What a scrub found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scrubbed {
    /// How many bytes were checked; 0 when there is nothing to check.
    pub bytes: u64,
    /// The slots whose newest entry is damaged.
    pub slots: Vec<Interval>,
    /// Facts (a promise, a peer's start) are damaged where they were written: they have to be restated, by
    /// [`Storage::trim`], before the next start.
    pub facts: bool,
    /// Snapshots that are damaged.
    pub snapshots: Vec<SnapshotId>,
}

/// How a node is started, which the storage checks against what it finds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// A first member of a new cluster: the place must be empty, or hold a bootstrap of the same membership that has not
    /// formed yet.
    Bootstrap(Membership),
    /// A new node of a cluster that exists, or a witness: the place must be empty.
    Join,
    /// A node that was here before: the place must hold it.
    Restart,
}

impl Start {
    /// Whether whoever asks for `asked` may start on the place of `found`: a restart takes the epoch that it finds, which
    /// [`Recovered::owner`] tells.
    pub fn fits(&self, asked: &Owner, found: &Owner) -> bool {
        let epoch_fits = *self == Self::Restart || asked.epoch == found.epoch;
        epoch_fits && (&asked.cluster, asked.node) == (&found.cluster, found.node)
    }
}

/// What a storage found: who the node is and what it knew.
#[derive(Clone, Debug)]
pub struct Recovered {
    /// Whose it is.
    pub owner: Owner,
    /// Which disk.
    pub disk: DiskId,
    /// Every start of this disk, the present one last; at most [`Identity::INCARNATIONS_MAX`](crate::multi::Identity).
    pub incarnations: Vec<Incarnation>,
    /// The membership that this node was bootstrapped with, if it was.
    pub bootstrap: Option<Membership>,
    /// The last durable write.
    pub sequence: Sequence,
    /// The fold of all durable records.
    pub log: Log,
}

/// Why a storage cannot keep a promise, or will not touch a place.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// A call to the system failed.
    #[error("{op} of {path} failed", path = path.display())]
    Io {
        /// Which call.
        op: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// What is there fails its checksum or does not follow the format.
    #[error("{path} is damaged at byte {offset}: {what}", path = path.display())]
    Corrupt {
        /// Which file.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// What is wrong.
        what: String,
    },
    /// The format is of another, unknown version.
    #[error("{path} has format version {found}, this program reads version {known}", path = path.display())]
    UnknownFormat {
        /// Which file.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// Ours.
        known: u32,
    },
    /// Another process has it open.
    #[error("{place} is in use by another process")]
    Locked {
        /// What is locked.
        place: String,
    },
    /// It belongs to another node or cluster.
    #[error("{place} belongs to node {} of cluster {} in epoch {}, not to node {} of cluster {} in epoch {}", found.node, found.cluster, found.epoch, asked.node, asked.cluster, asked.epoch)]
    WrongOwner {
        /// What was opened.
        place: String,
        /// Whose it is.
        found: Box<Owner>,
        /// Who asked.
        asked: Box<Owner>,
    },
    /// A bootstrap or a join found a place that holds a node already.
    #[error("{place} holds a node already; restart it instead")]
    InUse {
        /// What was opened.
        place: String,
    },
    /// A restart found nothing.
    #[error("{place} holds no node; bootstrap a new cluster, or join as a new node")]
    Empty {
        /// What was opened.
        place: String,
    },
    /// The snapshot is not held, or not being written.
    #[error("there is no such snapshot")]
    NoSnapshot,
    /// It is not open, or closed already.
    #[error("the storage is not open")]
    NotOpen,
    /// An earlier write failed: nothing more is written.
    #[error("an earlier write failed, so nothing more is written")]
    Poisoned,
    /// A storage of one's own failed in a way of its own.
    #[error("{op} failed")]
    Other {
        /// What was tried.
        op: &'static str,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}
