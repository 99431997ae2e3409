//! The journal: groups of records, one behind the other, each durable by one write and one flush.
//!
//! In: groups of [`Record`]s. Out, at a restart: their fold, a [`Log`], and what was found damaged.
//! Durable: a group when [`Journal::append`] says `Ok`, nothing of it counts before; a cut when [`Journal::trim`] does.
//! Invariants: J1 at most one group is not flushed, the last. J2 behind the last group there are zeros. J3 after an error of
//! a write nothing more is written. J4 damage below a valid later header is never cut off (protocol 11.2). J5 a segment is
//! removed only when a durable checkpoint leaves it out.
//! Knows nothing of: threads, nodes, what a slot is for. It is synchronous; [`FileStorage`](super::FileStorage) gives it a
//! thread, a simulator runs it inline.
//!
//! # On disk
//!
//! ```text
//! checkpoint                  journal-000000000008.log    journal-000000000009.log
//! [facts, where it goes on] ─▶ [segment header][group]…[seal] [segment header][group]…[zeros]
//! ```
//!
//! Segments are numbered from 1 without gaps. A group is one write; its header tells what it follows. Before the first cut
//! there is no checkpoint, and the journal begins with segment 1. After it the checkpoint, an
//! [`AtomicFile`](super::atomic_file) under one checksum, stands in place of what was removed. Its value, as MessagePack:
//!
//! | field | what it says |
//! |---|---|
//! | stamp | three u64: hash of the cluster, node, disk, as in every header |
//! | through | the last slot that was allowed to go |
//! | gone through | the last slot that went: nothing through it is read or recovered as an entry |
//! | first segment | the first that is kept; what stands below it is left over from a crash, and removed |
//! | start | the chain in front of that segment: sequence and header CRC of the group before it, count of facts so far |
//! | restated | the chain at the time of the cut: every group through there was durable, and its facts stand below |
//! | written | the newest write at the time (protocol 9.4) |
//! | promised | the highest promise at the time |
//! | records | the facts, encoded as in a group |
//!
//! What a start finds is the fold of the facts, of [`Record::Trimmed`] and of the groups from the first segment on. Where the
//! journal behind a checkpoint ends before `restated`, groups are lost that were durable: the node abstains. Where a group is
//! damaged whose facts were restated, nothing is in doubt by it. A checkpoint that is damaged, or gone while segment 1 is
//! gone too, is refused with [`StorageError::Corrupt`]: there is no earlier one to fall back to.

mod checkpoint;
mod findings;
mod group;
mod index;
mod reader;
mod recovery;
mod scrub;
mod segment;
mod spare;
mod stamp;
mod trim;

pub(crate) use checkpoint::CHECKPOINT;
pub use findings::{Damage, Found, Replayed};
#[cfg(feature = "testing")]
pub(crate) use group::round_trip_of_any_group;
pub use reader::Reader;
pub use spare::{Spare, SpareOrder};
pub use stamp::{Position, Stamp};

use super::StorageError;
use super::disk::{Disk, write_all_at};
use super::record::{encode, promise_of};
use crate::multi::{AbstainReason, Group, Log, Record, Sequence};
use crate::paxos::ProposalId;
use crate::transport::GroupId;
use checkpoint::{Checkpoint, CheckpointFile};
use group::{Header, aligned, runs};
use index::Index;
use recovery::Replay;
use segment::Segment;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use trim::Extent;

/// How long a segment is where nothing else is said, in bytes.
pub const SEGMENT_BYTES_DEFAULT: usize = 16 << 20;
/// A segment is at least this long, in bytes.
pub const SEGMENT_BYTES_MIN: usize = 4 << 10;
/// A group is at most this long, in bytes.
pub const GROUP_BYTES_MAX: usize = 256 << 20;

/// Room for a seal, kept free at the end of each segment.
const SEAL_BYTES: usize = 128;

/// An open journal, the only writer of its directory.
#[derive(Debug)]
pub struct Journal {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    stamp: Stamp,
    segment_bytes: usize,
    segment: Segment,
    at: usize,
    sequence: u64,
    previous_crc: u32,
    written: Sequence,
    promised: Option<ProposalId>,
    facts: u64,
    sealed: bool,
    poisoned: bool,
    spare: Option<Segment>,
    spare_ordered: bool,
    index: Index,
    buffer: Vec<u8>,
    checkpoint: Checkpoint,
    checkpoint_file: CheckpointFile,
    /// By number.
    extents: BTreeMap<u64, Extent>,
}

impl Journal {
    /// Makes the first segment of a new journal in `dir`, durably.
    ///
    /// # Errors
    ///
    /// [`StorageError::Io`] as the system says.
    pub fn create(
        disk: &dyn Disk,
        dir: &Path,
        stamp: Stamp,
        segment_bytes: usize,
    ) -> Result<(), StorageError> {
        let bytes = clamp_segment(segment_bytes);
        Segment::prepare(disk, dir, 1, bytes, stamp)?.publish(disk, dir)
    }

    /// Whether `dir` holds segments, and whether anything was ever written to them.
    ///
    /// # Errors
    ///
    /// [`StorageError::Io`] as the system says.
    pub fn look(disk: &dyn Disk, dir: &Path) -> Result<Option<Found>, StorageError> {
        recovery::look(disk, dir)
    }

    /// Removes the segments of a journal that was never written to.
    ///
    /// # Errors
    ///
    /// [`StorageError::Io`] as the system says.
    pub fn remove(disk: &dyn Disk, dir: &Path) -> Result<(), StorageError> {
        for number in segment::list(disk, dir)? {
            let path = segment::path(dir, number);
            disk.remove(&path).map_err(io_error("remove", &path))?;
        }
        segment::clean(disk, dir)
    }

    /// Opens the journal in `dir`: folds it, cuts off a torn tail, notes damage (protocol 11.2 to 11.4).
    ///
    /// # Errors
    ///
    /// [`StorageError`] if it cannot be read, is another's, or is of an unknown format.
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        stamp: Stamp,
        segment_bytes: usize,
    ) -> Result<(Self, Replayed), StorageError> {
        segment::clean(disk.as_ref(), dir)?;
        let checkpoint_file = CheckpointFile::open(Arc::clone(&disk), dir, stamp)?;
        checkpoint_file.clean()?;
        let checkpoint = checkpoint_file.load()?;
        let index = Index::default();
        let mut replay = Replay::run(disk.as_ref(), dir, stamp, &checkpoint, index.clone(), None)?;
        segment::remove_below(disk.as_ref(), dir, checkpoint.first_segment)?;
        let segment = replay.cut(disk.as_ref(), dir)?;
        let at = if segment.number == replay.end.segment { replay.end.offset } else { segment::HEADER_BYTES };
        let mut journal = Self {
            disk,
            dir: dir.to_path_buf(),
            stamp,
            segment_bytes: clamp_segment(segment_bytes),
            segment,
            at,
            sequence: replay.sequence,
            previous_crc: replay.previous_crc,
            written: replay.written,
            promised: replay.log.promised(),
            facts: replay.facts,
            sealed: replay.sealed,
            poisoned: false,
            spare: None,
            spare_ordered: false,
            index,
            buffer: Vec::new(),
            checkpoint,
            checkpoint_file,
            extents: std::mem::take(&mut replay.extents),
        };
        if replay.tail_in_doubt {
            // Goes on in a new segment, and leaves out a number, so that the damage is found again.
            journal.sequence = journal.sequence.max(journal.checkpoint.restated.sequence) + 1;
            journal.facts = journal.facts.max(journal.checkpoint.restated.facts);
            journal.sealed = true;
            journal.next_segment(SEAL_BYTES)?;
            journal.write(&[], journal.written)?;
        }
        let mut replayed = replay.into_replayed();
        if replayed.damage.contains(&Damage::InDoubt) && replayed.log.abstains().is_none() {
            // Written down, for the damage may be behind groups that follow when the journal is read again.
            let record = Record::Abstains { reason: AbstainReason::PromiseInDoubt };
            replayed.log.apply(&record);
            journal.append(&Group { sequence: journal.written, records: vec![record] })?;
        }
        Ok((journal, replayed))
    }

    /// The fold of the journal in `dir`, which is left as it is.
    ///
    /// # Errors
    ///
    /// As [`Journal::open`].
    pub fn peek(disk: &Arc<dyn Disk>, dir: &Path, stamp: Stamp) -> Result<Replayed, StorageError> {
        let checkpoint = CheckpointFile::open(Arc::clone(disk), dir, stamp)?.load()?;
        let replay = Replay::run(disk.as_ref(), dir, stamp, &checkpoint, Index::default(), None)?;
        Ok(replay.into_replayed())
    }

    /// What is durable now, read again from the disk.
    ///
    /// # Errors
    ///
    /// [`StorageError`] if it cannot be read.
    pub fn replay(&self) -> Result<Replayed, StorageError> {
        let (disk, until) = (self.disk.as_ref(), Some(self.end()));
        let replay = Replay::run(disk, &self.dir, self.stamp, &self.checkpoint, Index::default(), until)?;
        let complete = replay.sequence == self.sequence;
        let mut replayed = replay.into_replayed();
        if !complete {
            replayed.damage.push(Damage::Header(self.end()));
            replayed.log.lose_all_open(u64::MAX, Log::AHEAD_SLOTS_MAX);
        }
        if let Some(promised) = self.promised {
            replayed.log.raise_promise(promised);
        }
        replayed.written = self.written;
        if replayed.damage.contains(&Damage::InDoubt) && replayed.log.abstains().is_none() {
            replayed.log.apply(&Record::Abstains { reason: AbstainReason::PromiseInDoubt });
        }
        Ok(replayed)
    }

    /// Makes `group` durable: one write, one flush.
    ///
    /// # Errors
    ///
    /// [`StorageError`]; any error is final, and every later append is refused with [`StorageError::Poisoned`].
    pub fn append(&mut self, group: &Group) -> Result<(), StorageError> {
        self.guarded(|journal| journal.write(&group.records, group.sequence))
    }

    /// Writes an empty group behind the last one, so that damage to it is known from a torn write (protocol 11.2). Does
    /// nothing if that was done.
    ///
    /// # Errors
    ///
    /// As [`Journal::append`].
    pub fn seal(&mut self) -> Result<(), StorageError> {
        if self.sealed { Ok(()) } else { self.guarded(|journal| journal.write(&[], journal.written)) }
    }

    /// Whether the last group has no seal yet.
    pub fn needs_seal(&self) -> bool {
        !self.sealed && !self.poisoned
    }

    /// A segment to prepare, once, when the present one is half full.
    pub fn order_spare(&mut self) -> Option<SpareOrder> {
        if self.spare_ordered || self.poisoned || self.at < self.segment.bytes / 2 {
            return None;
        }
        self.spare_ordered = true;
        Some(SpareOrder {
            disk: Arc::clone(&self.disk),
            dir: self.dir.clone(),
            number: self.segment.number + 1,
            bytes: self.segment_bytes,
            stamp: self.stamp,
        })
    }

    /// Takes a prepared segment; one that comes too late is removed.
    pub fn take_spare(&mut self, spare: Spare) {
        if spare.0.number == self.segment.number + 1 {
            self.spare = Some(spare.0);
        } else {
            self.discard(&spare.0);
        }
    }

    /// What reads beside this journal.
    pub fn reader(&self) -> Reader {
        let (disk, dir) = (Arc::clone(&self.disk), self.dir.clone());
        Reader { disk, dir, stamp: self.stamp, index: self.index.clone() }
    }

    /// Where the next group goes.
    pub fn end(&self) -> Position {
        self.segment.at(self.at)
    }

    fn guarded<T>(
        &mut self,
        write: impl FnOnce(&mut Self) -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        if self.poisoned {
            return Err(StorageError::Poisoned);
        }
        let written = write(self);
        self.poisoned = written.is_err();
        written
    }

    fn write(&mut self, records: &[Record], written: Sequence) -> Result<(), StorageError> {
        let runs = runs(records);
        let header_bytes = Header::bytes(runs.len());
        self.buffer.clear();
        self.buffer.resize(header_bytes, 0);
        for record in records {
            encode(&mut self.buffer, GroupId::default(), record)
                .map_err(|source| StorageError::Other { op: "encode a record", source: Box::new(source) })?;
            if self.buffer.len() > GROUP_BYTES_MAX {
                return Err(io_error("append", &self.dir)(io::ErrorKind::FileTooLarge.into()));
            }
        }
        let body_bytes = self.buffer.len() - header_bytes;
        self.buffer.resize(aligned(self.buffer.len()), 0);
        let is_seal = records.is_empty();
        let reserved = if is_seal { 0 } else { SEAL_BYTES };
        if self.at + self.buffer.len() + reserved > self.segment.bytes {
            self.next_segment(self.buffer.len())?;
        }
        let facts = runs.iter().filter(|run| run.kind.is_fact()).map(|run| run.count).sum::<u64>();
        let promised = records.iter().filter_map(promise_of).max();
        let header = Header {
            sequence: self.sequence + 1,
            written: self.written.max(written),
            previous_crc: self.previous_crc,
            synced: self.end(),
            promised: self.promised.max(promised),
            facts: self.facts + facts,
            runs,
            body_bytes,
            body_crc: crc32fast::hash(&self.buffer[header_bytes..header_bytes + body_bytes]),
        };
        let crc = header.write(&mut self.buffer, self.stamp);
        let path = &self.segment.path;
        write_all_at(self.segment.file.as_ref(), &self.buffer, self.at as u64)
            .map_err(io_error("write", path))?;
        self.segment.file.sync_data().map_err(io_error("fsync", path))?;
        self.index.add(&header);
        let extent = self.extents.entry(self.segment.number).or_default();
        extent.last_slot = extent.last_slot.max(header.last_slot());
        self.at += self.buffer.len();
        (self.sequence, self.previous_crc, self.facts) = (header.sequence, crc, header.facts);
        (self.written, self.promised, self.sealed) = (header.written, header.promised, is_seal);
        self.buffer.shrink_to(BUFFER_BYTES_KEPT);
        Ok(())
    }

    /// Seals the present segment and goes on in the next, which has room for a group of `bytes`.
    fn next_segment(&mut self, bytes: usize) -> Result<(), StorageError> {
        let group = std::mem::take(&mut self.buffer);
        if !self.sealed && self.at + SEAL_BYTES <= self.segment.bytes {
            self.write(&[], self.written)?;
        }
        let needed = segment::HEADER_BYTES + bytes + SEAL_BYTES;
        let number = self.segment.number + 1;
        let mut next = match self.spare.take() {
            Some(spare) if spare.bytes >= needed => spare,
            unfit => {
                if let Some(spare) = unfit {
                    self.discard(&spare);
                }
                let bytes = self.segment_bytes.max(needed);
                Segment::prepare(self.disk.as_ref(), &self.dir, number, bytes, self.stamp)?
            }
        };
        next.publish(self.disk.as_ref(), &self.dir)?;
        self.segment = next;
        let extent = Extent { start: self.chain(), ..Extent::default() };
        self.extents.insert(self.segment.number, extent);
        self.at = segment::HEADER_BYTES;
        self.spare_ordered = false;
        self.buffer = group;
        Ok(())
    }

    fn discard(&self, spare: &Segment) {
        // Only tidiness: the next open removes it as well.
        let _ = self.disk.remove(&spare.path);
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        if let Some(spare) = self.spare.take() {
            self.discard(&spare);
        }
    }
}

/// A buffer that one large group has made larger is given back.
const BUFFER_BYTES_KEPT: usize = 4 << 20;

fn clamp_segment(bytes: usize) -> usize {
    aligned(bytes.clamp(SEGMENT_BYTES_MIN, 1 << 29))
}

/// Adds the call and the path to an error of the system.
pub(crate) fn io_error(op: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StorageError {
    let path = path.to_path_buf();
    move |source| StorageError::Io { op, path, source }
}
