//! Trimming: the oldest segments go, once a checkpoint says what they said.
//!
//! Invariants: C1 a segment is removed only after the checkpoint that leaves it out is durable. C2 only a run of the oldest
//! segments goes, each of which speaks of no slot above the mark; the newest stays. C3 what is kept follows the checkpoint,
//! group by group, as the chain in the headers proves.

use super::checkpoint::{Chain, Checkpoint};
use super::{Journal, segment};
use crate::multi::{Record, Slot};
use crate::storage::StorageError;

/// What is known of a segment beside its groups.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Extent {
    /// The chain before its first group.
    pub(super) start: Chain,
    /// The highest slot that a group of it speaks of.
    pub(super) last_slot: Slot,
}

impl Journal {
    /// Forgets the entries through `through`, as far as whole segments hold nothing else, and keeps `facts` in place of all
    /// other records in them; see [`Storage::trim`](crate::storage::Storage::trim).
    ///
    /// # Errors
    ///
    /// As [`Journal::append`].
    pub fn trim(&mut self, through: Slot, facts: Vec<Record>) -> Result<Slot, StorageError> {
        self.guarded(|journal| journal.cut_below(through, facts))
    }

    fn cut_below(&mut self, through: Slot, facts: Vec<Record>) -> Result<Slot, StorageError> {
        let newest = self.segment.number;
        let through = through.max(self.checkpoint.through);
        let mut gone_through = self.checkpoint.gone_through;
        let mut kept = self.extents.iter().peekable();
        while let Some((_, extent)) =
            kept.next_if(|(number, extent)| **number < newest && extent.last_slot <= through)
        {
            gone_through = gone_through.max(extent.last_slot);
        }
        let (first_segment, start) =
            kept.next().map_or((newest, self.chain()), |(number, extent)| (*number, extent.start));
        let checkpoint = Checkpoint {
            through,
            gone_through,
            first_segment,
            start,
            restated: self.chain(),
            written: self.written,
            promised: self.promised,
            facts,
        };
        self.checkpoint_file.save(&checkpoint)?;
        self.index.trim(&checkpoint);
        self.checkpoint = checkpoint;
        let kept = self.extents.split_off(&first_segment);
        for number in std::mem::replace(&mut self.extents, kept).into_keys() {
            // A segment that stays by a failure is removed at the next open.
            let _ = self.disk.remove(&segment::path(&self.dir, number));
        }
        Ok(gone_through)
    }

    /// How far the chain of groups has come.
    pub(super) fn chain(&self) -> Chain {
        Chain { sequence: self.sequence, previous_crc: self.previous_crc, facts: self.facts }
    }
}
