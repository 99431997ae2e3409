//! The checkpoint: what stands in place of the segments that were removed.
//!
//! It restates all facts, and says where the chain of groups goes on: which segment is the first that is kept, and what its
//! first group must follow. It is durable before a segment is removed, so a crash in between leaves segments too many, which
//! the next open removes. There is one, and no fallback.
//! Its layout stands in the [module above](super).

use super::{Stamp, io_error};
use crate::multi::{Record, Sequence, Slot};
use crate::paxos::ProposalId;
use crate::storage::StorageError;
use crate::storage::atomic_file::AtomicFile;
use crate::storage::disk::Disk;
use crate::storage::record::{decode, encode};
use crate::transport::GroupId;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The name of the checkpoint in the directory of its journal.
pub(crate) const CHECKPOINT: &str = "checkpoint";

/// How far the chain of groups has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Chain {
    /// The sequence of the last group.
    pub(super) sequence: u64,
    /// The checksum of its header.
    pub(super) previous_crc: u32,
    /// Facts in all groups so far.
    pub(super) facts: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct OnDisk {
    stamp: (u64, u64, u64),
    through: Slot,
    gone_through: Slot,
    first_segment: u64,
    start: Chain,
    restated: Chain,
    written: Sequence,
    promised: Option<ProposalId>,
    records: Bytes,
}

/// What the last trim left.
#[derive(Clone, Debug, Default)]
pub(super) struct Checkpoint {
    /// The last slot that was allowed to go.
    pub(super) through: Slot,
    /// The last slot that went.
    pub(super) gone_through: Slot,
    /// The first segment that is kept; 0 where nothing was trimmed yet.
    pub(super) first_segment: u64,
    /// The chain before the first group of that segment.
    pub(super) start: Chain,
    /// The chain at the time: what the groups through here said of facts is restated.
    pub(super) restated: Chain,
    /// The newest write at the time.
    pub(super) written: Sequence,
    /// The highest id promised at the time, as every header says it.
    pub(super) promised: Option<ProposalId>,
    pub(super) facts: Vec<Record>,
}

/// The file that holds it.
#[derive(Debug)]
pub(super) struct CheckpointFile {
    file: AtomicFile<OnDisk>,
    stamp: Stamp,
    path: PathBuf,
}

impl CheckpointFile {
    pub(super) fn open(disk: Arc<dyn Disk>, dir: &Path, stamp: Stamp) -> Result<Self, StorageError> {
        let path = dir.join(CHECKPOINT);
        Ok(Self { file: AtomicFile::open_on(disk, path.clone())?, stamp, path })
    }

    /// Whether there is one in `dir`.
    pub(super) fn exists(disk: &dyn Disk, dir: &Path) -> Result<bool, StorageError> {
        let names = disk.list(dir).map_err(io_error("list", dir))?;
        Ok(names.iter().any(|name| name == CHECKPOINT))
    }

    /// Removes what a crash left of one that was not whole.
    pub(super) fn clean(&self) -> Result<(), StorageError> {
        Ok(self.file.clean()?)
    }

    /// The last one; one that says nothing where there was none.
    pub(super) fn load(&self) -> Result<Checkpoint, StorageError> {
        let Some(found) = self.file.load()? else { return Ok(Checkpoint::default()) };
        let OnDisk {
            stamp,
            through,
            gone_through,
            first_segment,
            start,
            restated,
            written,
            promised,
            records,
        } = found;
        if stamp != self.stamp.parts() {
            return Err(self.corrupt("the checkpoint belongs to another disk"));
        }
        let mut rest = records.as_ref();
        let mut facts = Vec::new();
        while !rest.is_empty() {
            let decoded = decode(&mut rest);
            let (_, record) =
                decoded.map_err(|_| self.corrupt("a fact of the checkpoint cannot be decoded"))?;
            facts.push(record);
        }
        Ok(Checkpoint { through, gone_through, first_segment, start, restated, written, promised, facts })
    }

    pub(super) fn save(&mut self, checkpoint: &Checkpoint) -> Result<(), StorageError> {
        let mut records = Vec::new();
        for record in &checkpoint.facts {
            encode(&mut records, GroupId::default(), record)
                .map_err(|_| io_error("encode", &self.path)(io::Error::other("a fact cannot be encoded")))?;
        }
        let Checkpoint { through, gone_through, first_segment, start, restated, written, promised, .. } =
            *checkpoint;
        Ok(self.file.save(&OnDisk {
            stamp: self.stamp.parts(),
            through,
            gone_through,
            first_segment,
            start,
            restated,
            written,
            promised,
            records: records.into(),
        })?)
    }

    fn corrupt(&self, what: &str) -> StorageError {
        StorageError::Corrupt { path: self.path.clone(), offset: 0, what: what.to_owned() }
    }
}
