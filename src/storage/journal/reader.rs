//! Reading beside the journal that writes: the index says where to look, and every group is checked on the way.

use super::group::{ALIGNMENT, Header};
use super::index::{Block, Index};
use super::segment::{self, Segment};
use super::{Position, Stamp};
use crate::multi::{Entry, Record, Slot};
use crate::paxos::{NodeId, ProposalId};
use crate::storage::disk::{Access, Disk};
use crate::storage::{StorageError, record};
use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

/// Slots that are looked up with one pass over the index.
const WINDOW_SLOTS: u64 = 256;
/// Blocks that one read keeps in memory.
const BLOCKS_CACHED: usize = 4;
/// The id at an entry that was fetched as chosen.
const FETCHED: ProposalId = ProposalId::new(0, NodeId::new(0));

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
        let mut cache = Cache { reader: self, blocks: VecDeque::new(), lost_is_damage: false };
        let mut found: Vec<(Slot, Entry)> = Vec::new();
        let mut bytes = 0_usize;
        let mut slot = slots.start.max(Slot::FIRST);
        if slot <= self.index.gone_through() {
            return Ok(found);
        }
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

    /// Those of `slots` whose newest entry cannot be read, or was lost when the journal was opened.
    pub(super) fn unreadable(&self, slots: impl Iterator<Item = Slot>) -> Vec<Slot> {
        let mut cache = Cache { reader: self, blocks: VecDeque::new(), lost_is_damage: true };
        let mut is_unreadable =
            |slot: &Slot| cache.find(*slot, &self.index.candidates(*slot, *slot)).is_err();
        slots.filter(|slot| is_unreadable(slot)).collect()
    }
}

struct Cache<'a> {
    reader: &'a Reader,
    blocks: VecDeque<CachedBlock>,
    /// What was lost when the journal was opened counts as damaged, not as absent.
    lost_is_damage: bool,
}

struct CachedBlock {
    block: Block,
    bytes: Vec<u8>,
    /// The newest group of each slot, by its place in `headers`.
    newest: BTreeMap<Slot, usize>,
    headers: Vec<Header>,
    /// The last damaged header, and how many intact ones come before it.
    gap: Option<(Position, usize)>,
    /// The group that was decoded last.
    decoded: Option<(usize, BTreeMap<Slot, Entry>)>,
}

impl Cache<'_> {
    fn find(&mut self, slot: Slot, candidates: &[Block]) -> Result<Option<Entry>, StorageError> {
        // What was accepted before damage does not count any more; what was chosen does.
        let mut only_chosen = false;
        for block in candidates.iter().filter(|block| block.first <= slot && slot <= block.last) {
            if block.lost && self.lost_is_damage {
                return Err(self.reader.damaged(block.start, "it was lost when the journal was opened"));
            }
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
            if let Some(nth) = cached.newest(reader, slot)? {
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
        let mut cached =
            Self { block, bytes, newest: BTreeMap::new(), headers: Vec::new(), gap: None, decoded: None };
        let mut position = block.start;
        while position.offset < block.end {
            match Header::read(&cached.bytes, block.start.offset, position, reader.stamp) {
                Some((header, _)) => {
                    for slot in header.slots() {
                        cached.newest.insert(slot, cached.headers.len());
                    }
                    position.offset = header.end();
                    cached.headers.push(header);
                }
                None => {
                    let before = cached.headers.len();
                    if cached.gap.is_none_or(|(_, known)| known != before) {
                        cached.gap = Some((position, before));
                    }
                    position.offset += ALIGNMENT;
                }
            }
        }
        Ok(cached)
    }

    /// The newest group of `slot`, by its place in `headers`: an error if it may be one whose header is damaged.
    fn newest(&self, reader: &Reader, slot: Slot) -> Result<Option<usize>, StorageError> {
        let newest = self.newest.get(&slot).copied();
        match self.gap {
            Some((position, before)) if newest.is_none_or(|nth| nth < before) => {
                Err(reader.damaged(position, "the header of a group is damaged"))
            }
            _ => Ok(newest),
        }
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
