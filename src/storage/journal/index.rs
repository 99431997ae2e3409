//! The read index: which part of the journal to look in for a slot.
//!
//! It holds one line per block of about 64 KiB of groups, with the lowest and the highest slot in it, and none of the values:
//! a million slots of 16 bytes take about 4000 lines. A slot is looked for in the newest block that may have it first. It
//! also knows how far each segment is written, for whoever checks it beside the journal.

use super::Position;
use super::checkpoint::Checkpoint;
use super::group::Header;
use crate::multi::Slot;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A block takes no further group once it is this long.
const BLOCK_BYTES: usize = 64 << 10;

/// Groups one behind the other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Block {
    pub(super) start: Position,
    pub(super) end: usize,
    /// The lowest and the highest slot that a group of it speaks of.
    pub(super) first: Slot,
    pub(super) last: Slot,
    /// No groups: what was accepted at these slots before is unknown.
    pub(super) lost: bool,
}

/// Which blocks there are, oldest first. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Index {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    blocks: Vec<Block>,
    /// By segment: where its last group ends, and the sequence of that group.
    written: BTreeMap<u64, (usize, u64)>,
    /// The first segment that is kept.
    first_segment: u64,
    /// What is kept through here counts as log no more.
    based_through: Slot,
    /// Nothing through here is held.
    gone_through: Slot,
    log_bytes: u64,
    /// Where the scrub goes on.
    scrubbed: Position,
    /// The facts in the groups through this sequence stand in the checkpoint.
    restated: u64,
}

impl Index {
    /// The group of `header` is durable.
    pub(super) fn add(&self, header: &Header) {
        self.reach(header);
        let (Some(first), last) = (header.first_slot(), header.last_slot()) else { return };
        let (start, end) = (header.synced, header.end());
        let mut state = self.lock();
        if last > state.based_through {
            state.log_bytes += (end - start.offset) as u64;
        }
        match state.blocks.last_mut() {
            Some(block)
                if !block.lost
                    && block.start.segment == start.segment
                    && block.end == start.offset
                    && block.end - block.start.offset < BLOCK_BYTES =>
            {
                block.end = end;
                block.first = block.first.min(first);
                block.last = block.last.max(last);
            }
            _ => state.blocks.push(Block { start, end, first, last, lost: false }),
        }
    }

    /// What was accepted before at the slots from `first` to `last` is unknown.
    pub(super) fn lose(&self, first: Slot, last: Slot) {
        self.lock().blocks.push(Block { start: Position::default(), end: 0, first, last, lost: true });
    }

    /// There is a group there, intact or not.
    pub(super) fn reach(&self, header: &Header) {
        self.lock().written.insert(header.synced.segment, (header.end(), header.sequence));
    }

    /// The segments go that `checkpoint` leaves out, and what is kept through its mark counts as log no more.
    pub(super) fn trim(&self, checkpoint: &Checkpoint) {
        let Checkpoint { first_segment, through, gone_through, .. } = *checkpoint;
        let mut state = self.lock();
        (state.first_segment, state.based_through, state.gone_through) =
            (first_segment, through, gone_through);
        state.restated = checkpoint.restated.sequence;
        state.written = state.written.split_off(&first_segment);
        state.blocks.retain(|block| block.lost || block.start.segment >= first_segment);
        // What is lost hides older blocks; in front of all others it hides none.
        let hides_none = state.blocks.iter().take_while(|block| block.lost).count();
        state.blocks.drain(..hides_none);
        let left = state.blocks.iter().filter(|block| !block.lost && block.last > through);
        state.log_bytes = left.map(|block| (block.end - block.start.offset) as u64).sum();
    }

    /// How many bytes the groups take that speak of slots above the last trim.
    pub(super) fn log_bytes(&self) -> u64 {
        self.lock().log_bytes
    }

    /// Where the segment at or behind `number` ends, and the sequence of its last group.
    pub(super) fn written_from(&self, number: u64) -> Option<(u64, usize, u64)> {
        let state = self.lock();
        state.written.range(number..).next().map(|(number, (end, last))| (*number, *end, *last))
    }

    /// Whether the facts in the group with this sequence stand in the checkpoint.
    pub(super) fn is_restated(&self, sequence: u64) -> bool {
        sequence <= self.lock().restated
    }

    /// The lowest and the highest slot of each block that has a part between `from` and `to` of `segment`.
    pub(super) fn slots_between(&self, segment: u64, from: usize, to: usize) -> Vec<(Slot, Slot)> {
        let state = self.lock();
        let inside = |block: &&Block| {
            !block.lost && block.start.segment == segment && block.start.offset < to && from < block.end
        };
        state.blocks.iter().filter(inside).map(|block| (block.first, block.last)).collect()
    }

    /// Whether a trim has left out this segment.
    pub(super) fn is_gone(&self, segment: u64) -> bool {
        segment < self.lock().first_segment
    }

    /// Whether a trim has left out any segment.
    pub(super) fn is_cut(&self) -> bool {
        self.lock().first_segment > 0
    }

    /// Nothing through this slot is held.
    pub(super) fn gone_through(&self) -> Slot {
        self.lock().gone_through
    }

    /// Where the scrub goes on.
    pub(super) fn scrubbed(&self) -> Position {
        self.lock().scrubbed
    }

    pub(super) fn set_scrubbed(&self, to: Position) {
        self.lock().scrubbed = to;
    }

    /// How many blocks there are.
    #[cfg(test)]
    pub(super) fn blocks(&self) -> usize {
        self.lock().blocks.len()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The blocks that may hold one of these slots, newest first.
    pub(super) fn candidates(&self, first: Slot, last: Slot) -> Vec<Block> {
        let state = self.lock();
        state
            .blocks
            .iter()
            .rev()
            .filter(|block| block.first <= last && first <= block.last)
            .copied()
            .collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use crate::multi::{ClusterId, DiskId, Group, Record, Sequence, Slot, Value};
    use crate::paxos::{NodeId, ProposalId};
    use crate::storage::disk::{Disk, SimulatedDisk};
    use crate::storage::journal::{Journal, Stamp};
    use bytes::Bytes;
    use std::path::Path;
    use std::sync::Arc;

    fn accepted(slot: u64, number: u64) -> Record {
        let id = ProposalId::new(number, NodeId::new(1));
        Record::Accepted { slot: Slot::new(slot), id, value: Value::Batch(Bytes::from(vec![7; 16])) }
    }

    fn journal() -> Journal {
        let disk: Arc<dyn Disk> = Arc::new(SimulatedDisk::new(1));
        let dir = Path::new("/data");
        let stamp = Stamp::new(&ClusterId::new("index").unwrap(), NodeId::new(1), DiskId(1));
        disk.create_dir(dir).unwrap();
        Journal::create(disk.as_ref(), dir, stamp, 1 << 20).unwrap();
        Journal::open(disk, dir, stamp, 1 << 20).unwrap().0
    }

    #[test]
    fn a_slot_costs_far_less_than_sixteen_bytes_of_memory() {
        const SLOTS: u64 = 20_000;
        let mut journal = journal();
        for slot in 1..=SLOTS {
            journal.append(&Group { sequence: Sequence(slot), records: vec![accepted(slot, 1)] }).unwrap();
        }
        let bytes = journal.index.blocks() * size_of::<super::Block>();
        assert!(bytes < SLOTS as usize, "{bytes} bytes for {SLOTS} slots, each in a group of its own");
        let found = journal.reader().read(Slot::new(777)..Slot::new(780), 1000).unwrap();
        assert_eq!(found.len(), 3);
    }

    #[test]
    fn the_newest_entry_is_found_however_often_a_slot_was_accepted_again() {
        let mut journal = journal();
        for number in 1..=2000 {
            let records = vec![accepted(1 + number % 3, number), accepted(1000 + number, number)];
            journal.append(&Group { sequence: Sequence(number), records }).unwrap();
        }
        let found = journal.reader().read(Slot::FIRST..Slot::new(4), 1000).unwrap();
        let numbers: Vec<u64> = found.iter().map(|(_, entry)| entry.id.number).collect();
        assert_eq!(numbers, [1998, 1999, 2000]);
    }

    #[test]
    fn a_thousand_cuts_leave_nothing_of_an_old_slot_in_memory() {
        let mut journal = journal();
        let mut most = 0;
        for cycle in 1..=1000 {
            for slot in cycle * 40..cycle * 40 + 40 {
                let records =
                    vec![accepted(slot, 1), Record::Promised { id: ProposalId::new(cycle, NodeId::new(1)) }];
                journal.append(&Group { sequence: Sequence(slot), records }).unwrap();
            }
            journal.trim(Slot::new(cycle * 40 + 39), Vec::new()).unwrap();
            let written = journal.index.lock().written.len();
            most = most.max(journal.index.blocks() + written + journal.extents.len());
        }
        assert!(journal.segment.number > 5, "segments were removed");
        assert!(most <= 20, "{most} lines for one segment of 16 blocks");
    }
}
