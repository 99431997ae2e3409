//! The log: an acceptor's memory, as the fold of its records.
//!
//! In: [`Record`]s, in the order in which they are made durable. The acceptor folds each one as it issues it, a storage
//! folds them again after a restart: the same function, so a restarted node knows what the running one knew.
//! Invariants: L1 `promised` never goes down. L2 no entry above `chosen_through` has an id above `promised`. L3
//! `chosen_through` only goes up, and every slot through it was learned. L4 a slot that is damaged is never reported as
//! one that accepted nothing (protocol 11.5).
//! Knows nothing of: messages, quorums, disks, time.

use super::identity::{DiskId, Incarnation};
use super::membership::{Membership, Memberships};
use super::record::{AbstainReason, Entry, Record, Sequence, Value};
use super::slot::{Interval, Slot, intervals};
use crate::paxos::{NodeId, ProposalId};
use std::collections::{BTreeMap, BTreeSet};

/// The id that stands at an entry that was fetched as chosen: how it came to be chosen does not matter any more.
const FETCHED: ProposalId = ProposalId::new(0, NodeId::new(0));

/// What an acceptor knows: its promise, what it accepted, how far it has learned, and whom it has met.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Log {
    promised: Option<ProposalId>,
    /// Everything above `chosen_through`; below it what the cache still holds.
    entries: BTreeMap<Slot, Entry>,
    chosen_through: Slot,
    watermark: Option<(ProposalId, Slot)>,
    /// Chosen above a damaged place: only then is this not empty.
    chosen_beyond: BTreeSet<Slot>,
    unknown: BTreeSet<Slot>,
    unknown_from: Option<Slot>,
    formed: Option<(Membership, BTreeMap<NodeId, DiskId>)>,
    peers: BTreeMap<NodeId, PeerMemory>,
    abstains: Option<AbstainReason>,
    cache_bytes_max: usize,
    cached_bytes: usize,
    ahead_bytes: usize,
}

/// What is remembered of a peer (9.3, 9.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PeerMemory {
    /// Its disk and its newest start, once it has shown them.
    pub seen: Option<(DiskId, Incarnation)>,
    /// The highest sequence that its votes showed.
    pub sequence: Sequence,
}

impl Log {
    /// Folds one more record in. What it makes learned stays in memory until the next record at least.
    pub fn apply(&mut self, record: &Record) {
        self.evict();
        match record {
            Record::Promised { id } => self.raise_promise(*id),
            Record::Accepted { slot, id, value } => {
                self.raise_promise(*id);
                if *slot > self.chosen_through && !self.chosen_beyond.contains(slot) {
                    self.unknown.remove(slot);
                    self.insert(*slot, Entry { id: *id, value: value.clone() });
                }
                self.advance();
            }
            Record::Chosen { slot, value } => self.learn(*slot, value),
            Record::Watermark { id, through } => {
                if self.watermark.is_none_or(|known| known < (*id, *through)) {
                    self.watermark = Some((*id, *through));
                }
                self.advance();
            }
            Record::Formed { membership, disks } => self.formed = Some((membership.clone(), disks.clone())),
            Record::PeerSeen { node, disk, incarnation } => {
                self.peers.entry(*node).or_default().seen = Some((*disk, *incarnation));
            }
            Record::PeerSequence { node, sequence } => {
                let known = &mut self.peers.entry(*node).or_default().sequence;
                *known = (*known).max(*sequence);
            }
            Record::Abstains { reason } => self.abstains = Some(*reason),
        }
    }

    /// A damaged group said something about `slot` (11.4): what was accepted there is unknown until it is accepted anew
    /// or learned.
    pub fn lose(&mut self, slot: Slot) {
        if slot > self.chosen_through {
            self.forget(slot);
            self.unknown.insert(slot);
        }
    }

    /// A damaged group may have said anything (11.4): every slot above `chosen_through` is unknown until it is accepted
    /// anew or learned.
    pub fn lose_all_open(&mut self) {
        let first = self.chosen_through.next();
        let open: Vec<Slot> = self.entries.range(first..).map(|(slot, _)| *slot).collect();
        for slot in open {
            if !self.chosen_beyond.contains(&slot) {
                self.forget(slot);
            }
        }
        self.unknown_from = Some(self.unknown_from.map_or(first, |from| from.min(first)));
    }

    /// What a journal's intact header says was promised after its group.
    pub fn raise_promise(&mut self, id: ProposalId) {
        self.promised = self.promised.max(Some(id));
    }

    /// From now on, keep about this many bytes of learned entries in memory.
    pub fn set_cache(&mut self, bytes_max: usize) {
        self.cache_bytes_max = bytes_max;
        self.evict();
    }

    /// The highest promised id.
    pub fn promised(&self) -> Option<ProposalId> {
        self.promised
    }

    /// Every slot through this one is learned.
    pub fn chosen_through(&self) -> Slot {
        self.chosen_through
    }

    /// The highest watermark heard, with the id of its leader.
    pub fn watermark(&self) -> Option<(ProposalId, Slot)> {
        self.watermark
    }

    /// The entry at `slot`, if it is in memory.
    pub fn entry(&self, slot: Slot) -> Option<&Entry> {
        self.entries.get(&slot)
    }

    /// What was accepted in `covers`, and which slots of it are unknown. All of it must lie above `chosen_through`.
    pub fn accepted(&self, covers: Interval) -> (Vec<(Slot, &Entry)>, Vec<Interval>) {
        let entries: Vec<(Slot, &Entry)> = self
            .entries
            .range(covers.first..=covers.last)
            .filter(|(slot, _)| !self.chosen_beyond.contains(slot))
            .map(|(slot, entry)| (*slot, entry))
            .collect();
        let mut unknown: Vec<Interval> = Vec::new();
        if let Some(from) = self.unknown_from {
            let mut next = from.max(covers.first);
            for (slot, _) in entries.iter().filter(|(slot, _)| *slot >= from) {
                if next < *slot {
                    unknown.push(Interval::new(next, slot.minus(1)));
                }
                next = slot.next();
            }
            if next <= covers.last {
                unknown.push(Interval::new(next, covers.last));
            }
        }
        let single: BTreeSet<Slot> = self.unknown.union(&self.chosen_beyond).copied().collect();
        let before = self.unknown_from.unwrap_or(Slot::MAX);
        let single = single.range(covers.first..=covers.last).filter(|slot| **slot < before).copied();
        let mut all = intervals(single);
        all.append(&mut unknown);
        (entries, all)
    }

    /// Whether what was accepted at `slot` is unknown.
    pub fn is_unknown(&self, slot: Slot) -> bool {
        let (_, unknown) = self.accepted(Interval::new(slot, slot));
        slot > self.chosen_through && !unknown.is_empty()
    }

    /// Whether anything at all is unknown.
    pub fn has_unknown(&self) -> bool {
        !self.unknown.is_empty() || self.unknown_from.is_some()
    }

    /// Bytes of entries above `chosen_through`.
    pub fn ahead_bytes(&self) -> usize {
        self.ahead_bytes
    }

    /// The first membership and its disks, once the cluster has formed.
    pub fn formed(&self) -> Option<&(Membership, BTreeMap<NodeId, DiskId>)> {
        self.formed.as_ref()
    }

    /// The memberships known.
    pub fn memberships(&self) -> Option<Memberships> {
        self.formed.as_ref().map(|(membership, _)| Memberships::bootstrap(membership.clone()))
    }

    /// What is remembered of `node`.
    pub fn peer(&self, node: NodeId) -> PeerMemory {
        self.peers.get(&node).copied().unwrap_or_default()
    }

    /// How many peers are remembered.
    pub fn peers_seen(&self) -> usize {
        self.peers.len()
    }

    /// Why this node may not vote, if so.
    pub fn abstains(&self) -> Option<AbstainReason> {
        self.abstains
    }

    fn learn(&mut self, slot: Slot, value: &Value) {
        if slot <= self.chosen_through {
            return;
        }
        self.unknown.remove(&slot);
        if self.entries.get(&slot).is_none_or(|entry| entry.value != *value) {
            self.insert(slot, Entry { id: FETCHED, value: value.clone() });
        }
        self.chosen_beyond.insert(slot);
        self.advance();
    }

    fn insert(&mut self, slot: Slot, entry: Entry) {
        self.ahead_bytes += entry.value.size();
        if let Some(old) = self.entries.insert(slot, entry) {
            self.ahead_bytes -= old.value.size();
        }
    }

    fn forget(&mut self, slot: Slot) {
        if let Some(old) = self.entries.remove(&slot) {
            self.ahead_bytes -= old.value.size();
        }
    }

    /// Moves `chosen_through` over every next slot whose value is known to be the chosen one (3.3).
    fn advance(&mut self) {
        loop {
            let next = self.chosen_through.next();
            let Some(entry) = self.entries.get(&next) else { break };
            let covered = self.watermark.is_some_and(|(id, through)| next <= through && entry.id == id);
            if !self.chosen_beyond.remove(&next) && !covered {
                break;
            }
            let bytes = entry.value.size();
            self.ahead_bytes -= bytes;
            self.cached_bytes += bytes;
            self.chosen_through = next;
            self.unknown.remove(&next);
        }
        if self.unknown_from.is_some_and(|from| from <= self.chosen_through) {
            self.unknown_from = Some(self.chosen_through.next());
        }
    }

    fn evict(&mut self) {
        while self.cached_bytes > self.cache_bytes_max {
            match self.entries.first_key_value() {
                Some((slot, _)) if *slot <= self.chosen_through => {
                    if let Some((_, entry)) = self.entries.pop_first() {
                        self.cached_bytes -= entry.value.size();
                    }
                }
                _ => break,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: ProposalId = ProposalId::new(3, NodeId::new(2));

    fn accepted(slot: u64, bytes: usize) -> Record {
        let value = Value::Batch(vec![0; bytes].into());
        Record::Accepted { slot: Slot::new(slot), id: ID, value }
    }

    #[test]
    fn the_cache_forgets_the_oldest_learned_entries_and_no_open_one() {
        let mut log = Log::default();
        log.set_cache(300);
        (1..=6).for_each(|slot| log.apply(&accepted(slot, 92)));
        assert_eq!(log.ahead_bytes(), 600);
        log.apply(&Record::Watermark { id: ID, through: Slot::new(5) });
        assert_eq!(log.ahead_bytes(), 100);
        assert!(log.entry(Slot::new(1)).is_some(), "what was just learned stays until the next record");
        log.apply(&Record::Promised { id: ID });
        let held: Vec<bool> = (1..=6).map(|slot| log.entry(Slot::new(slot)).is_some()).collect();
        assert_eq!(held, [false, false, true, true, true, true]);
    }

    #[test]
    fn bytes_held_ahead_are_counted_once_however_often_a_slot_is_overwritten_or_lost() {
        let mut log = Log::default();
        (0..9).for_each(|_| log.apply(&accepted(2, 92)));
        assert_eq!(log.ahead_bytes(), 100);
        log.lose(Slot::new(2));
        log.lose(Slot::new(2));
        assert_eq!(log.ahead_bytes(), 0);
        assert!(log.is_unknown(Slot::new(2)) && !log.is_unknown(Slot::new(3)));
    }

    #[test]
    fn a_slot_chosen_above_a_damaged_one_waits_for_it() {
        let mut log = Log::default();
        log.lose(Slot::new(1));
        let chosen = |slot| Record::Chosen { slot: Slot::new(slot), value: Value::Noop };
        log.apply(&chosen(2));
        log.apply(&accepted(2, 9));
        assert_eq!(log.chosen_through(), Slot::ZERO);
        assert!(log.is_unknown(Slot::new(2)), "a promise must not report it as open (1.5)");
        log.apply(&chosen(1));
        assert_eq!(log.chosen_through(), Slot::new(2));
        assert_eq!(log.entry(Slot::new(2)).map(|entry| &entry.value), Some(&Value::Noop));
    }
}
