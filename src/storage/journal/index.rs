//! The read index: which part of the journal to look in for a slot.
//!
//! It holds one line per block of about 64 KiB of groups, with the lowest and the highest slot in it, and none of the values:
//! a million slots of 16 bytes take about 4000 lines. A slot is looked for in the newest block that may have it first. It
//! also knows how far each segment is written, for whoever checks it beside the journal.

use super::group::Header;
use super::segment::{self, Segment};
use super::{Position, Stamp};
use crate::multi::{Entry, Record, Slot};
use crate::paxos::{NodeId, ProposalId};
use crate::storage::disk::{Access, Disk};
use crate::storage::{StorageError, record};
use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A block takes no further group once it is this long.
const BLOCK_BYTES: usize = 64 << 10;
/// Slots that are looked up with one pass over the index.
const WINDOW_SLOTS: u64 = 256;
/// Blocks that one read keeps in memory.
const BLOCKS_CACHED: usize = 4;
/// The id at an entry that was fetched as chosen.
const FETCHED: ProposalId = ProposalId::new(0, NodeId::new(0));

#[derive(Clone, Copy, Debug)]
struct Block {
    start: Position,
    end: usize,
    first: Slot,
    last: Slot,
    /// No groups: what was accepted at these slots before is unknown.
    lost: bool,
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
    /// What was trimmed through here counts as log no more.
    based_through: Slot,
    log_bytes: u64,
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

    /// The segments before `first_segment` go, and what is kept through `through` counts as log no more.
    pub(super) fn trim(&self, first_segment: u64, through: Slot, restated: u64) {
        let mut state = self.lock();
        (state.first_segment, state.based_through, state.restated) = (first_segment, through, restated);
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

    fn is_gone(&self, segment: u64) -> bool {
        segment < self.lock().first_segment
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
    fn candidates(&self, first: Slot, last: Slot) -> Vec<Block> {
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

/// Reads entries beside the journal that writes them. Clones share the index.
#[derive(Clone, Debug)]
pub struct Reader {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) dir: PathBuf,
    pub(super) stamp: Stamp,
    pub(super) index: Index,
}

impl Reader {
    /// The newest durable entries of `slots`, as [`Storage::read`](crate::storage::Storage::read) has it.
    ///
    /// # Errors
    ///
    /// If a file cannot be read or a group fails its checksum.
    pub fn read(&self, slots: Range<Slot>, bytes_max: usize) -> Result<Vec<(Slot, Entry)>, StorageError> {
        let mut cache = Cache { reader: self, blocks: VecDeque::new() };
        let mut found: Vec<(Slot, Entry)> = Vec::new();
        let mut bytes = 0_usize;
        let mut slot = slots.start.max(Slot::FIRST);
        let mut candidates = Vec::new();
        let mut window_end = slot;
        while slot < slots.end {
            if slot >= window_end {
                window_end = slot.plus(WINDOW_SLOTS).min(slots.end);
                candidates = self.index.candidates(slot, window_end.minus(1));
            }
            let Some(entry) = cache.find(slot, &candidates)? else { break };
            bytes = bytes.saturating_add(entry.value.size());
            if bytes > bytes_max && !found.is_empty() {
                break;
            }
            found.push((slot, entry));
            slot = slot.next();
        }
        Ok(found)
    }

    /// How many bytes the groups take that speak of slots above the last trim.
    pub fn log_bytes(&self) -> u64 {
        self.index.log_bytes()
    }

    /// Those of `slots` whose newest entry cannot be read.
    pub(super) fn unreadable(&self, slots: impl Iterator<Item = Slot>) -> Vec<Slot> {
        let mut cache = Cache { reader: self, blocks: VecDeque::new() };
        let mut is_unreadable =
            |slot: &Slot| cache.find(*slot, &self.index.candidates(*slot, *slot)).is_err();
        slots.filter(|slot| is_unreadable(slot)).collect()
    }
}

struct Cache<'a> {
    reader: &'a Reader,
    blocks: VecDeque<CachedBlock>,
}

struct CachedBlock {
    block: Block,
    bytes: Vec<u8>,
    /// The newest group of each slot, by its place in `headers`.
    newest: BTreeMap<Slot, usize>,
    headers: Vec<Header>,
    /// The group that was decoded last.
    decoded: Option<(usize, BTreeMap<Slot, Entry>)>,
}

impl Cache<'_> {
    fn find(&mut self, slot: Slot, candidates: &[Block]) -> Result<Option<Entry>, StorageError> {
        // What was accepted before damage does not count any more; what was chosen does.
        let mut only_chosen = false;
        for block in candidates.iter().filter(|block| block.first <= slot && slot <= block.last) {
            if block.lost {
                only_chosen = true;
                continue;
            }
            let reader = self.reader;
            let cached = match self.block(block) {
                // A trim removed it since the index was asked.
                Err(StorageError::Io { .. }) if reader.index.is_gone(block.start.segment) => return Ok(None),
                cached => cached?,
            };
            if let Some(nth) = cached.newest.get(&slot).copied() {
                let entry = cached.entry(reader, slot, nth)?;
                if entry.as_ref().is_some_and(|entry| !only_chosen || entry.id == FETCHED) {
                    return Ok(entry);
                }
            }
        }
        Ok(None)
    }

    fn block(&mut self, block: &Block) -> Result<&mut CachedBlock, StorageError> {
        let is_same =
            |cached: &CachedBlock| cached.block.start == block.start && cached.block.end == block.end;
        let at = match self.blocks.iter().position(is_same) {
            Some(at) => at,
            None => {
                let loaded = CachedBlock::load(self.reader, *block)?;
                self.blocks.truncate(BLOCKS_CACHED - 1);
                self.blocks.push_front(loaded);
                0
            }
        };
        Ok(&mut self.blocks[at])
    }
}

impl CachedBlock {
    fn load(reader: &Reader, block: Block) -> Result<Self, StorageError> {
        let segment = Segment::open(reader.disk.as_ref(), &reader.dir, block.start.segment, Access::Read)?;
        let mut bytes = Vec::new();
        segment.read(block.start.offset, block.end, &mut bytes)?;
        let (mut newest, mut headers) = (BTreeMap::new(), Vec::new());
        let mut position = block.start;
        while position.offset < block.end {
            let header = Header::read(&bytes, block.start.offset, position, reader.stamp);
            let (header, _) =
                header.ok_or_else(|| reader.damaged(position, "the header of a group is damaged"))?;
            for slot in header.slots() {
                newest.insert(slot, headers.len());
            }
            position.offset = header.end();
            headers.push(header);
        }
        Ok(Self { block, bytes, newest, headers, decoded: None })
    }

    fn entry(&mut self, reader: &Reader, slot: Slot, nth: usize) -> Result<Option<Entry>, StorageError> {
        if self.decoded.as_ref().is_none_or(|(known, _)| *known != nth) {
            let Some(header) = self.headers.get(nth) else { return Ok(None) };
            let damaged = |what| reader.damaged(header.synced, what);
            let mut body = header
                .body(&self.bytes, self.block.start.offset)
                .ok_or_else(|| damaged("the body of a group fails its checksum"))?;
            let mut entries = BTreeMap::new();
            while !body.is_empty() {
                match record::decode(&mut body).map_err(|_| damaged("a record cannot be decoded"))? {
                    (_, Record::Accepted { slot, id, value }) => entries.insert(slot, Entry { id, value }),
                    (_, Record::Chosen { slot, value }) => entries.insert(slot, Entry { id: FETCHED, value }),
                    _ => None,
                };
            }
            self.decoded = Some((nth, entries));
        }
        Ok(self.decoded.as_ref().and_then(|(_, entries)| entries.get(&slot).cloned()))
    }
}

impl Reader {
    fn damaged(&self, position: Position, what: &str) -> StorageError {
        let path = segment::path(&self.dir, position.segment);
        StorageError::Corrupt { path, offset: position.offset as u64, what: what.to_owned() }
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
}
