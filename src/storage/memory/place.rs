//! The place of a memory storage: what outlives the one that has it open.
//!
//! It keeps the groups as they came and folds them when it is asked what it knows, like a journal whose segments hold one
//! group each. What a test damages is found the way a disk finds it: by who reads it.

use super::snapshots::Snapshots;
use crate::multi::{
    DiskId, Entry, Group, Identity, Incarnation, Interval, Log, Membership, Owner, Record, Sequence, Slot,
};
use crate::paxos::{NodeId, ProposalId};
use crate::storage::{Recovered, Scrubbed, Start, StorageError};
use futures::channel::oneshot;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::ops::Range;
use std::path::PathBuf;

/// The id at an entry that was fetched as chosen.
const FETCHED: ProposalId = ProposalId::new(0, NodeId::new(0));
/// What a record takes beside its value, about, in bytes.
const RECORD_BYTES: u64 = 32;

/// What clones of a memory storage share.
#[derive(Debug, Default)]
pub(super) struct Place {
    pub(super) node: Option<Node>,
    pub(super) snapshots: Snapshots,
    pub(super) random: u64,
    /// Counts openings, so that a storage from before is known.
    pub(super) sessions: u64,
    pub(super) open: Option<u64>,
    pub(super) poisoned: bool,
    pub(super) appends: u64,
    pub(super) faults: BTreeMap<u64, io::ErrorKind>,
    pub(super) hold: bool,
    pub(super) held: VecDeque<(Group, oneshot::Sender<Result<(), StorageError>>)>,
}

/// A node's memory.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) owner: Owner,
    disk: DiskId,
    bootstrap: Option<Membership>,
    incarnations: Vec<Incarnation>,
    pub(super) sequence: Sequence,
    /// What stands in place of the groups that were trimmed.
    facts: Vec<Record>,
    trimmed_through: Slot,
    groups: VecDeque<Group>,
    /// The newest entry of each slot.
    entries: BTreeMap<Slot, Entry>,
    /// The slots whose newest entry a test has damaged.
    damaged: BTreeSet<Slot>,
    /// Nothing through here counts as log any more.
    based_through: Slot,
    log_bytes: u64,
}

fn slot_of(record: &Record) -> Option<Slot> {
    match record {
        Record::Accepted { slot, .. } | Record::Chosen { slot, .. } => Some(*slot),
        _ => None,
    }
}

fn size_of(record: &Record) -> u64 {
    match record {
        Record::Accepted { value, .. } | Record::Chosen { value, .. } => value.size() as u64 + RECORD_BYTES,
        _ => 0,
    }
}

impl Node {
    fn new(owner: Owner, disk: DiskId, bootstrap: Option<Membership>) -> Self {
        Self {
            owner,
            disk,
            bootstrap,
            incarnations: Vec::new(),
            sequence: Sequence::default(),
            facts: Vec::new(),
            trimmed_through: Slot::ZERO,
            groups: VecDeque::new(),
            entries: BTreeMap::new(),
            damaged: BTreeSet::new(),
            based_through: Slot::ZERO,
            log_bytes: 0,
        }
    }

    /// `group` is durable.
    pub(super) fn take(&mut self, group: Group) {
        for record in &group.records {
            let entry = match record {
                Record::Accepted { slot, id, value } => (*slot, Entry { id: *id, value: value.clone() }),
                Record::Chosen { slot, value } => (*slot, Entry { id: FETCHED, value: value.clone() }),
                _ => continue,
            };
            self.damaged.remove(&entry.0);
            if entry.0 > self.based_through {
                self.log_bytes += size_of(record);
            }
            self.entries.insert(entry.0, entry.1);
        }
        self.sequence = self.sequence.max(group.sequence);
        self.groups.push_back(group);
    }

    pub(super) fn trim(&mut self, through: Slot, facts: Vec<Record>) -> Slot {
        // What rotted in place still says of which slot it was.
        let last_of = |record: &Record| match record {
            Record::Unknown { slots } => slots.last().map(|interval| interval.last),
            record => slot_of(record),
        };
        let highest = |group: &Group| group.records.iter().filter_map(last_of).max().unwrap_or_default();
        while let Some(last) = self.groups.front().map(highest).filter(|last| *last <= through) {
            self.trimmed_through = self.trimmed_through.max(last);
            self.groups.pop_front();
        }
        let kept = self.trimmed_through.next();
        self.entries = self.entries.split_off(&kept);
        self.damaged = self.damaged.split_off(&kept);
        self.facts = facts;
        self.based_through = self.based_through.max(through);
        let left = self.groups.iter().flat_map(|group| &group.records);
        let left = left.filter(|record| slot_of(record).is_some_and(|slot| slot > self.based_through));
        self.log_bytes = left.map(size_of).sum();
        self.trimmed_through
    }

    /// The fold of the facts and of what was kept.
    pub(super) fn log(&self) -> Log {
        let mut log = Log::default();
        self.facts.iter().for_each(|record| log.apply(record));
        if self.trimmed_through > Slot::ZERO {
            log.apply(&Record::Trimmed { through: self.trimmed_through });
        }
        self.groups.iter().flat_map(|group| &group.records).for_each(|record| log.apply(record));
        log
    }

    pub(super) fn recovered(&self) -> Recovered {
        Recovered {
            owner: self.owner.clone(),
            disk: self.disk,
            incarnations: self.incarnations.clone(),
            bootstrap: self.bootstrap.clone(),
            sequence: self.sequence,
            log: self.log(),
        }
    }

    pub(super) fn read(
        &self,
        slots: Range<Slot>,
        bytes_max: usize,
    ) -> Result<Vec<(Slot, Entry)>, StorageError> {
        let mut found = Vec::new();
        let mut bytes = 0_usize;
        let mut next = slots.start.max(Slot::FIRST);
        if next >= slots.end {
            return Ok(found);
        }
        for (slot, entry) in self.entries.range(next..slots.end) {
            bytes = bytes.saturating_add(entry.value.size());
            if *slot != next || (bytes > bytes_max && !found.is_empty()) {
                break;
            }
            if self.damaged.contains(slot) {
                return Err(damaged(format!("the entry of slot {slot}")));
            }
            found.push((*slot, entry.clone()));
            next = slot.next();
        }
        Ok(found)
    }

    /// Damages what is written of `slot`, as rot does: what was accepted there is unknown after a restart.
    pub(super) fn corrupt(&mut self, slot: Slot) -> bool {
        let held = self.entries.contains_key(&slot);
        if held {
            self.damaged.insert(slot);
            for group in &mut self.groups {
                for record in std::mem::take(&mut group.records) {
                    if slot_of(&record) != Some(slot) {
                        group.records.push(record);
                        continue;
                    }
                    // The header, with what was promised, is intact (protocol 11.4).
                    if let Record::Accepted { id, .. } = record {
                        group.records.push(Record::Promised { id });
                    }
                    group.records.push(Record::Unknown { slots: vec![Interval::new(slot, slot)] });
                }
            }
        }
        held
    }

    pub(super) fn log_bytes(&self) -> u64 {
        self.log_bytes
    }

    fn count_start(&mut self, nonce: u64) {
        let counter = self.incarnations.last().map_or(0, |last| last.counter).saturating_add(1);
        self.incarnations.push(Incarnation { counter, nonce });
        let surplus = self.incarnations.len().saturating_sub(Identity::INCARNATIONS_MAX);
        self.incarnations.drain(..surplus);
    }
}

pub(super) fn damaged(what: String) -> StorageError {
    StorageError::Corrupt { path: PathBuf::from("memory"), offset: 0, what }
}

impl Place {
    pub(super) const NAME: &str = "the memory storage";

    pub(super) fn open(&mut self, owner: Owner, start: Start) -> Result<Recovered, StorageError> {
        let place = Self::NAME.to_owned();
        if self.open.is_some() {
            return Err(StorageError::Locked { place });
        }
        match (&self.node, &start) {
            (Some(node), _) if !start.fits(&owner, &node.owner) => {
                let (found, asked) = (Box::new(node.owner.clone()), Box::new(owner));
                return Err(StorageError::WrongOwner { place, found, asked });
            }
            (Some(_), Start::Restart) => {}
            (Some(node), Start::Bootstrap(membership)) if node.bootstrap.as_ref() == Some(membership) => {
                let log = node.log();
                if log.is_formed() || log.promised().is_some() {
                    return Err(StorageError::InUse { place });
                }
            }
            (Some(_), Start::Bootstrap(_) | Start::Join) => return Err(StorageError::InUse { place }),
            (None, Start::Restart) => return Err(StorageError::Empty { place }),
            (None, Start::Bootstrap(_) | Start::Join) => {}
        }
        let (disk, nonce) = (self.next_random(), self.next_random());
        let bootstrap = if let Start::Bootstrap(membership) = start { Some(membership) } else { None };
        let node = self.node.get_or_insert_with(|| Node::new(owner, DiskId(disk), bootstrap));
        node.count_start(nonce);
        let recovered = node.recovered();
        self.snapshots.forget_unnamed(recovered.log.base().and_then(|base| base.snapshot));
        self.sessions += 1;
        self.open = Some(self.sessions);
        self.poisoned = false;
        Ok(recovered)
    }

    /// `group` is durable.
    pub(super) fn take(&mut self, group: Group) {
        self.snapshots.note_bases(&group.records);
        if let Some(node) = &mut self.node {
            node.take(group);
        }
    }

    /// Everything is small enough to be checked at once.
    pub(super) fn scrub(&self) -> Scrubbed {
        let Some(node) = &self.node else { return Scrubbed::default() };
        let entries: u64 = node.entries.values().map(|entry| entry.value.size() as u64).sum();
        Scrubbed {
            bytes: entries + self.snapshots.bytes(),
            slots: crate::multi::intervals(node.damaged.iter().copied()),
            facts: false,
            snapshots: self.snapshots.damaged(),
        }
    }

    /// SplitMix64.
    fn next_random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.random ^ (self.random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}
