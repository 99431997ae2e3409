//! The log: an acceptor's memory, as the fold of its records.
//!
//! In: [`Record`]s, in the order in which they are made durable. The acceptor folds each one as it issues it, a storage
//! folds them again after a restart: the same function, so a restarted node knows what the running one knew.
//! Invariants: L1 `promised` never goes down. L2 no entry above `chosen_through` has an id above `promised`. L3
//! `chosen_through` only goes up, and every slot through it was learned. L4 a slot that is damaged is never reported as
//! one that accepted nothing (protocol 11.5). L5 the memberships are those of the base and of every slot learned above it.
//! Knows nothing of: messages, quorums, disks, time.

use super::identity::{DiskId, Incarnation};
use super::membership::Memberships;
use super::record::{AbstainReason, Base, Entry, Record, Sequence, Value};
use super::slot::{Interval, Slot, intervals};
use super::slots::Slots;
use crate::paxos::{NodeId, ProposalId};
use std::collections::{BTreeMap, BTreeSet};

/// The id that stands at an entry that was fetched as chosen: how it came to be chosen does not matter any more.
const FETCHED: ProposalId = ProposalId::new(0, NodeId::new(0));

/// Longer rows of entries are not told one by one as damaged.
const ENTRIES_MAX: u64 = 1024;

/// Whether `unknown` is no row of damaged entries, but all that lost groups may have spoken of: nothing need be there, and
/// there is nothing to recover.
pub(crate) fn is_doubt(unknown: &Interval) -> bool {
    unknown.last > unknown.first.plus(ENTRIES_MAX)
}

/// Leaders above the base whose watermarks are remembered.
const WATERMARKS_MAX: usize = 256;

/// What an acceptor knows: its promise, what it accepted, how far it has learned, and whom it has met.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Log {
    promised: Option<ProposalId>,
    /// Everything above `chosen_through`; below it what the cache still holds.
    entries: Slots<Entry>,
    chosen_through: Slot,
    /// The highest heard of each leader, as far as entries above the base may rest on it.
    watermarks: BTreeMap<ProposalId, Slot>,
    /// Chosen above a damaged place: only then is this not empty.
    chosen_beyond: BTreeSet<Slot>,
    unknown: BTreeSet<Slot>,
    /// Unknown too, but for the slots that hold an entry.
    unknown_open: Option<Interval>,
    /// Where the log may begin, once the cluster has formed.
    base: Option<Base>,
    /// The entries through here are not held any more.
    trimmed_through: Slot,
    memberships: Option<Memberships>,
    peers: BTreeMap<NodeId, PeerMemory>,
    abstains: Option<AbstainReason>,
    cache_bytes_max: usize,
    cached_bytes: usize,
    ahead_bytes: usize,
}

/// What is remembered of a peer (9.3, 9.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct PeerMemory {
    /// Its disk and its newest start, once it has shown them.
    pub seen: Option<(DiskId, Incarnation)>,
    /// The highest sequence that its votes showed.
    pub sequence: Sequence,
}

impl Log {
    /// The furthest above `chosen_through` that an acceptor accepts, whatever its limits say: behind a damaged place of its
    /// journal nothing is in doubt beyond.
    pub const AHEAD_SLOTS_MAX: u64 = 8192;

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
                let known = self.watermarks.entry(*id).or_default();
                *known = (*known).max(*through);
                self.forget_watermarks();
                self.advance();
            }
            Record::Formed { membership, disks } => self.begin_at(&Base {
                through: Slot::ZERO,
                memberships: Memberships::bootstrap(membership.clone()),
                disks: disks.clone(),
                snapshot: None,
            }),
            Record::Based { base } => self.begin_at(base),
            Record::Trimmed { through } => self.trimmed_through = self.trimmed_through.max(*through),
            Record::Unknown { slots } => self.lose_slots(slots),
            Record::PeerSeen { node, disk, incarnation } => {
                self.peers.entry(*node).or_default().seen = Some((*disk, *incarnation));
            }
            Record::PeerSequence { node, sequence } => {
                let known = &mut self.peers.entry(*node).or_default().sequence;
                *known = (*known).max(*sequence);
            }
            Record::Forced { memberships, .. } => self.force(memberships),
            Record::Abstains { reason } => self.abstains = Some(*reason),
        }
    }

    /// The base gets the new memberships too, so that whoever begins there, as this node does after the log was cut, counts by
    /// them alone: no membership of the old epoch is learned again, since none governs the slot where it stands.
    fn force(&mut self, memberships: &Memberships) {
        if let Some(base) = &mut self.base {
            base.memberships = memberships.clone();
        }
        self.memberships = Some(memberships.clone());
        self.abstains = None;
        self.unknown.clear();
        self.unknown_open = None;
    }

    /// A damaged group said something about `slot` (11.4): what was accepted there is unknown until it is accepted anew
    /// or learned.
    pub fn lose(&mut self, slot: Slot) {
        if slot > self.chosen_through {
            self.forget(slot);
            self.unknown.insert(slot);
        }
    }

    /// Damaged groups of at most `records_max` records may have said anything (11.4): every slot above `chosen_through` is
    /// unknown until it is accepted anew or learned, as far as anything can have been accepted.
    ///
    /// The node had learned no more than what is held here and what was lost told it, and accepted no further ahead of that
    /// than [`Log::AHEAD_SLOTS_MAX`], or `ahead_slots_max` if it was stricter: a base, which leads further, is a fact whose
    /// loss makes the node abstain. Without that bound it could take part in no phase 1 ever again.
    pub fn lose_all_open(&mut self, records_max: u64, ahead_slots_max: u64) {
        let first = self.chosen_through.next();
        let held = self.entries.last_slot();
        let known = held.max(self.unknown.last().copied()).max(self.unknown_open.map(|open| open.last));
        let known = known.max(Some(self.chosen_through.max(self.trimmed_through))).unwrap_or_default();
        let open: Vec<Slot> = self.entries.range(first, Slot::MAX).map(|(slot, _)| slot).collect();
        for slot in open {
            if !self.chosen_beyond.contains(&slot) {
                self.forget(slot);
            }
        }
        let ahead = ahead_slots_max.min(Self::AHEAD_SLOTS_MAX);
        self.lose_open(Interval::new(first, known.plus(records_max).plus(ahead)));
    }

    fn lose_open(&mut self, lost: Interval) {
        let all = self
            .unknown_open
            .map_or(lost, |known| Interval::new(known.first.min(lost.first), known.last.max(lost.last)));
        self.unknown_open = Some(all);
        self.end_unknown();
    }

    /// What is learned is unknown no more.
    fn end_unknown(&mut self) {
        let next = self.chosen_through.next();
        let left =
            |open: Interval| (next <= open.last).then(|| Interval::new(open.first.max(next), open.last));
        self.unknown_open = self.unknown_open.and_then(left);
    }

    fn lose_slots(&mut self, slots: &[Interval]) {
        for unknown in slots {
            let Interval { first, last } = unknown;
            if is_doubt(unknown) {
                self.lose_open(*unknown);
            } else {
                let mut slot = (*first).max(self.chosen_through.next());
                while slot <= *last {
                    self.lose(slot);
                    slot = slot.next();
                }
            }
        }
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

    /// The watermark of the highest leader heard, with its id.
    pub fn watermark(&self) -> Option<(ProposalId, Slot)> {
        self.watermarks.last_key_value().map(|(id, through)| (*id, *through))
    }

    /// The entry at `slot`, if it is in memory.
    pub fn entry(&self, slot: Slot) -> Option<&Entry> {
        self.entries.get(slot)
    }

    /// What was accepted in `covers`, and which slots of it are unknown. All of it must lie above `chosen_through`.
    pub fn accepted(&self, covers: Interval) -> (Vec<(Slot, &Entry)>, Vec<Interval>) {
        let entries: Vec<(Slot, &Entry)> = self
            .entries
            .range(covers.first, covers.last)
            .filter(|(slot, _)| !self.chosen_beyond.contains(slot))
            .collect();
        let mut unknown: Vec<Interval> = Vec::new();
        if let Some(open) = self.unknown_open {
            let (mut next, last) = (open.first.max(covers.first), open.last.min(covers.last));
            for (slot, _) in entries.iter().filter(|(slot, _)| open.contains(*slot)) {
                if next < *slot {
                    unknown.push(Interval::new(next, slot.minus(1)));
                }
                next = slot.next();
            }
            if next <= last {
                unknown.push(Interval::new(next, last));
            }
        }
        let single: BTreeSet<Slot> = self.unknown.union(&self.chosen_beyond).copied().collect();
        let is_apart = |slot: &&Slot| self.unknown_open.is_none_or(|open| !open.contains(**slot));
        unknown.extend(intervals(single.range(covers.first..=covers.last).filter(is_apart).copied()));
        unknown.sort_unstable_by_key(|interval| interval.first);
        (entries, unknown)
    }

    /// Whether what was accepted at `slot` is unknown.
    pub fn is_unknown(&self, slot: Slot) -> bool {
        let (_, unknown) = self.accepted(Interval::new(slot, slot));
        slot > self.chosen_through && !unknown.is_empty()
    }

    /// Whether anything at all is unknown.
    pub fn has_unknown(&self) -> bool {
        !self.unknown.is_empty() || self.unknown_open.is_some()
    }

    /// Bytes of entries above `chosen_through`.
    pub fn ahead_bytes(&self) -> usize {
        self.ahead_bytes
    }

    /// Where the log may begin: known once the cluster has formed, or this node was told of it.
    pub fn base(&self) -> Option<&Base> {
        self.base.as_ref()
    }

    /// Whether the cluster has formed, as far as this node knows.
    pub fn is_formed(&self) -> bool {
        self.base.is_some()
    }

    /// The entries through this slot are not held any more.
    pub fn trimmed_through(&self) -> Slot {
        self.trimmed_through
    }

    /// The memberships that govern the slots above the base, as far as they are learned.
    pub fn memberships(&self) -> Option<&Memberships> {
        self.memberships.as_ref()
    }

    /// The disk of `node`, if it was an initial member.
    pub fn formed_disk(&self, node: NodeId) -> Option<DiskId> {
        self.base.as_ref().and_then(|base| base.disks.get(&node).copied())
    }

    /// All that is known beside the entries above the base: folded before what is left of the log, they give this log
    /// again.
    pub fn facts(&self) -> Vec<Record> {
        let mut facts: Vec<Record> = Vec::new();
        facts.extend(self.base.clone().map(|base| Record::Based { base }));
        facts.extend(self.promised.map(|id| Record::Promised { id }));
        let watermark =
            |(id, through): (&ProposalId, &Slot)| Record::Watermark { id: *id, through: *through };
        facts.extend(self.watermarks.iter().map(watermark));
        for (node, memory) in &self.peers {
            if let Some((disk, incarnation)) = memory.seen {
                facts.push(Record::PeerSeen { node: *node, disk, incarnation });
            }
            facts.push(Record::PeerSequence { node: *node, sequence: memory.sequence });
        }
        let mut unknown = intervals(self.unknown.iter().copied());
        unknown.extend(self.unknown_open);
        if !unknown.is_empty() {
            facts.push(Record::Unknown { slots: unknown });
        }
        facts.extend(self.abstains.map(|reason| Record::Abstains { reason }));
        facts
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

    /// The log may begin at `base`; if that is above what is learned, it does, and all below is taken in.
    fn begin_at(&mut self, base: &Base) {
        if self.base.as_ref().is_some_and(|known| known.through > base.through) {
            return;
        }
        if base.through > self.chosen_through || self.memberships.is_none() {
            self.jump(base);
        } else if let Some(memberships) = &mut self.memberships {
            memberships.forget_below(base.through.next());
        }
        self.base = Some(base.clone());
        self.forget_watermarks();
        self.advance();
    }

    /// Forgets the watermarks that no entry above the base rests on, and the oldest where there are very many: what rested
    /// on those is learned anew after a restart.
    fn forget_watermarks(&mut self) {
        let newest = self.watermarks.last_key_value().map(|(id, _)| *id);
        let base = self.base.as_ref().map_or(Slot::ZERO, |base| base.through);
        self.watermarks.retain(|id, through| *through > base || Some(*id) == newest);
        while self.watermarks.len() > WATERMARKS_MAX {
            self.watermarks.pop_first();
        }
    }

    fn jump(&mut self, base: &Base) {
        self.memberships = Some(base.memberships.clone());
        if base.through <= self.chosen_through {
            return;
        }
        while let Some(slot) = self.entries.first_slot().filter(|slot| *slot <= base.through) {
            let bytes = self.entries.remove(slot).map_or(0, |entry| entry.value.size());
            if slot <= self.chosen_through { self.cached_bytes -= bytes } else { self.ahead_bytes -= bytes }
        }
        self.chosen_through = base.through;
        self.trimmed_through = self.trimmed_through.max(base.through);
        self.chosen_beyond = self.chosen_beyond.split_off(&base.through.next());
        self.unknown = self.unknown.split_off(&base.through.next());
        self.end_unknown();
    }

    fn learn(&mut self, slot: Slot, value: &Value) {
        if slot <= self.chosen_through {
            return;
        }
        self.unknown.remove(&slot);
        if self.entries.get(slot).is_none_or(|entry| entry.value != *value) {
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
        if let Some(old) = self.entries.remove(slot) {
            self.ahead_bytes -= old.value.size();
        }
    }

    /// Moves `chosen_through` over every next slot whose value is known to be the chosen one (3.3).
    fn advance(&mut self) {
        loop {
            let next = self.chosen_through.next();
            let Some(entry) = self.entries.get(next) else { break };
            let covered = self.watermarks.get(&entry.id).is_some_and(|through| next <= *through);
            if !self.chosen_beyond.remove(&next) && !covered {
                break;
            }
            let bytes = entry.value.size();
            if let (Value::Membership(membership), Some(memberships)) = (&entry.value, &mut self.memberships)
            {
                memberships.learn(next, membership);
            }
            self.ahead_bytes -= bytes;
            self.cached_bytes += bytes;
            self.chosen_through = next;
            self.unknown.remove(&next);
        }
        self.end_unknown();
    }

    fn evict(&mut self) {
        while self.cached_bytes > self.cache_bytes_max {
            let oldest = self.entries.first_slot().filter(|slot| *slot <= self.chosen_through);
            let Some(entry) = oldest.and_then(|slot| self.entries.remove(slot)) else { break };
            self.cached_bytes -= entry.value.size();
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::multi::{Member, MemberKind, Membership, SnapshotId};

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

    fn voters(nodes: u64) -> Membership {
        Membership::voters((1..=nodes).map(|node| (NodeId::new(node), ""))).unwrap().with_alpha(4).unwrap()
    }

    fn base(through: u64) -> Base {
        let through = Slot::new(through);
        let snapshot = Some(SnapshotId { through, bytes: 9, checksum: 9 });
        Base { through, memberships: Memberships::bootstrap(voters(3)), disks: BTreeMap::new(), snapshot }
    }

    // protocol 5.2, scenario M6
    #[test]
    fn a_base_above_what_is_learned_keeps_the_promise_and_the_entries_above_it() {
        let mut log = Log::default();
        (1..=6).for_each(|slot| log.apply(&accepted(slot, 92)));
        log.apply(&Record::Based { base: base(4) });
        assert_eq!((log.chosen_through(), log.trimmed_through()), (Slot::new(4), Slot::new(4)));
        assert_eq!(log.promised(), Some(ID));
        assert_eq!(log.ahead_bytes(), 200);
        assert!(log.entry(Slot::new(4)).is_none() && log.entry(Slot::new(5)).is_some());
        log.apply(&Record::Watermark { id: ID, through: Slot::new(6) });
        assert_eq!(log.chosen_through(), Slot::new(6));
        log.apply(&Record::Based { base: base(3) });
        assert_eq!(log.base().unwrap().through, Slot::new(4), "it never goes back");
    }

    // protocol 6.1
    #[test]
    fn a_membership_counts_from_when_it_is_learned_and_not_from_when_it_is_accepted() {
        let mut log = Log::default();
        log.apply(&Record::Formed { membership: voters(3), disks: BTreeMap::new() });
        let value = Value::Membership(voters(5));
        log.apply(&Record::Accepted { slot: Slot::FIRST, id: ID, value });
        assert_eq!(log.memberships().unwrap().coming(Slot::FIRST), None);
        log.apply(&Record::Watermark { id: ID, through: Slot::FIRST });
        assert_eq!(log.memberships().unwrap().coming(Slot::FIRST), Some(Slot::new(6)));
    }

    // 3.3, 3.4: what an earlier leader's watermark covered stays learned when the log is cut below it.
    #[test]
    fn the_facts_keep_what_rests_on_the_watermark_of_an_earlier_leader() {
        let later = ProposalId::new(9, NodeId::new(1));
        let kept = [accepted(4, 10), accepted(5, 10)];
        let mut log = Log::default();
        log.apply(&Record::Formed { membership: voters(3), disks: BTreeMap::new() });
        (1..=3).map(|slot| accepted(slot, 10)).chain(kept.clone()).for_each(|record| log.apply(&record));
        log.apply(&Record::Watermark { id: ID, through: Slot::new(5) });
        let last = Record::Accepted { slot: Slot::new(6), id: later, value: Value::Noop };
        log.apply(&last);
        log.apply(&Record::Watermark { id: later, through: Slot::new(6) });
        log.apply(&Record::Based { base: base(3) });
        let mut again = Log::default();
        log.facts().iter().chain(&kept).chain([&last]).for_each(|record| again.apply(record));
        assert_eq!(again.chosen_through(), Slot::new(6));
        assert_eq!(again.watermark(), log.watermark());
    }

    // 11.5: a node once forgot with its log what it did not know, and promised that it had accepted nothing there.
    #[test]
    fn the_facts_keep_which_slots_above_the_base_are_unknown() {
        let mut log = Log::default();
        (1..=9).for_each(|slot| log.apply(&accepted(slot, 10)));
        [6, 7].into_iter().for_each(|slot| log.lose(Slot::new(slot)));
        log.apply(&Record::Based { base: base(4) });
        let mut again = Log::default();
        log.facts().iter().chain(&[accepted(9, 10)]).for_each(|record| again.apply(record));
        let unknown = |log: &Log| (5..=9).filter(|slot| log.is_unknown(Slot::new(*slot))).collect::<Vec<_>>();
        assert_eq!((unknown(&again), unknown(&log)), (vec![6, 7], vec![6, 7]));
    }

    // protocol 11.4: a header that was damaged once kept a node out of every later phase 1.
    #[test]
    fn behind_a_lost_group_only_what_can_have_been_accepted_is_unknown() {
        let mut log = Log::default();
        (1..=4).for_each(|slot| log.apply(&accepted(slot, 10)));
        log.apply(&Record::Watermark { id: ID, through: Slot::new(2) });
        log.lose_all_open(3, 10);
        log.apply(&accepted(9, 10));
        let unknown = |log: &Log| log.accepted(Interval::new(log.chosen_through().next(), Slot::MAX)).1;
        let interval = |first, last| Interval::new(Slot::new(first), Slot::new(last));
        assert_eq!(unknown(&log), [interval(3, 8), interval(10, 17)]);
        // Lost again: what was lost before may have been accepted too.
        log.lose_all_open(1, 10);
        assert_eq!(unknown(&log), [interval(3, 28)]);
        let learn = |log: &mut Log, slots: std::ops::RangeInclusive<u64>| {
            slots.for_each(|slot| log.apply(&Record::Chosen { slot: Slot::new(slot), value: Value::Noop }));
        };
        learn(&mut log, 3..=27);
        assert!(log.is_unknown(Slot::new(28)) && !log.is_unknown(Slot::new(29)));
        learn(&mut log, 28..=28);
        assert!(!log.has_unknown());
    }

    // protocol 10.2
    #[test]
    fn a_forced_membership_replaces_all_others_and_outlives_a_cut() {
        let old = Value::Membership(voters(5));
        let learned = [
            Record::Accepted { slot: Slot::new(1), id: ID, value: Value::Noop },
            Record::Accepted { slot: Slot::new(2), id: ID, value: old },
            Record::Watermark { id: ID, through: Slot::new(2) },
        ];
        let alone = voters(5).with_members(BTreeMap::from([(
            NodeId::new(1),
            Member { kind: MemberKind::Voter, address: String::new() },
        )]));
        let mut log = Log::default();
        log.apply(&Record::Formed { membership: voters(3), disks: BTreeMap::new() });
        learned.iter().for_each(|record| log.apply(record));
        log.apply(&accepted(3, 9));
        log.lose(Slot::new(4));
        log.lose_all_open(1, Log::AHEAD_SLOTS_MAX);
        log.apply(&Record::Abstains { reason: AbstainReason::PromiseInDoubt });
        let memberships = log.memberships().unwrap().alone_from(Slot::new(3), alone.unwrap());
        log.apply(&Record::Forced { epoch: 1, memberships });
        assert_eq!((log.abstains(), log.has_unknown(), log.promised()), (None, false, Some(ID)));
        let governs = |log: &Log, slot| {
            let governing = log.memberships().unwrap().governing(Slot::new(slot)).cloned();
            governing.map(|membership| membership.voting().collect::<Vec<_>>())
        };
        assert_eq!(governs(&log, 3), Some(vec![NodeId::new(1)]));
        assert_eq!(log.memberships().unwrap().retired().len(), 4);
        // Cut at the base, with the old membership's entry still there.
        let mut again = Log::default();
        log.facts().iter().chain(&learned).for_each(|record| again.apply(record));
        assert_eq!(again.chosen_through(), Slot::new(2));
        assert_eq!((governs(&again, 3), governs(&again, 99)), (governs(&log, 3), governs(&log, 3)));
        let base = again.memberships().unwrap().as_of(Slot::FIRST);
        assert!(base.is_well_formed(), "a base below what was forced still names who votes above it");
    }

    #[test]
    fn the_facts_and_what_is_left_give_the_same_log_again() {
        let (promised, incarnation) =
            (ProposalId::new(9, NodeId::new(1)), Incarnation { counter: 2, nonce: 5 });
        let kept = [accepted(5, 10), Record::Promised { id: promised }, accepted(6, 10)];
        let records = [
            Record::Formed { membership: voters(3), disks: BTreeMap::from([(NodeId::new(1), DiskId(7))]) },
            Record::PeerSeen { node: NodeId::new(2), disk: DiskId(8), incarnation },
            accepted(1, 10),
            accepted(2, 10),
            Record::PeerSequence { node: NodeId::new(2), sequence: Sequence(4) },
            Record::Watermark { id: ID, through: Slot::new(2) },
            Record::Based { base: base(2) },
            Record::Abstains { reason: AbstainReason::PromiseInDoubt },
        ];
        let mut log = Log::default();
        records.iter().chain(&kept).for_each(|record| log.apply(record));
        let mut again = Log::default();
        log.facts().iter().chain(&kept).for_each(|record| again.apply(record));
        again.apply(&Record::Trimmed { through: Slot::new(2) });
        log.apply(&Record::Trimmed { through: Slot::new(2) });
        assert_eq!(again, log);
    }
}
