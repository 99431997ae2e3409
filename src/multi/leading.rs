//! Leading under one id: the open slots, who accepted them, and how far all is chosen.
//!
//! Invariants: O1 a slot is opened once under an id, with one value, which is kept until the slot is learned (2.1). O2 the
//! watermark moves over a slot only when a quorum accepted this leader's own value there (3.1, 3.2). O3 what is under way
//! to a peer and not answered is bounded in bytes.

use super::effect::Effect;
use super::limits::Limits;
use super::membership::{Membership, Memberships};
use super::message::{Message, Page};
use super::phase1::Phase1;
use super::record::Value;
use super::slot::{Interval, Slot, Time};
use super::slots::Slots;
use crate::paxos::{NodeId, ProposalId};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// A leader's state under one id.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Leading {
    id: ProposalId,
    phase1: Phase1,
    /// The highest slot that any promise says is chosen.
    promised_chosen: Slot,
    /// Phase 1 is known to be won for the slots from `next` through this one.
    won_until: Slot,
    /// When promises were asked for last, beside the campaign.
    asked: Option<Time>,
    fill_through: Slot,
    /// What phase 1 brought to light and is not proposed yet.
    recovered: BTreeMap<Slot, (ProposalId, Value)>,
    recovery_through: Slot,
    /// The next slot to propose at.
    next: Slot,
    open: Slots<Open>,
    /// Bytes of those that are not chosen.
    open_bytes: usize,
    watermark: Slot,
    nacked: BTreeSet<NodeId>,
    renew_at: Option<Time>,
    under_way: BTreeMap<NodeId, UnderWay>,
}

/// A slot that is proposed and not learned.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Open {
    value: Value,
    opened: Time,
    /// Ascending: two or three, which a set would allocate more for.
    accepted: Vec<NodeId>,
    chosen: bool,
    send_again: Time,
    pause: Duration,
}

/// What was sent to a peer and not answered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct UnderWay {
    slots: Slots<(usize, Time)>,
    bytes: usize,
    /// The first slot that there was no room for.
    waits: Option<Slot>,
}

/// Whether a vote moved the watermark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Chosen {
    /// It stands where it stood.
    Same,
    /// It moved on.
    Further,
}

/// The leader's slot went to another value (3.2).
#[derive(Debug)]
pub(super) struct LostSlot {
    /// The batch that it had proposed there.
    pub(super) batch: Option<Bytes>,
}

impl UnderWay {
    fn add(&mut self, slot: Slot, bytes: usize, expires: Time) {
        self.bytes += bytes;
        if let Some((old, _)) = self.slots.insert(slot, (bytes, expires)) {
            self.bytes -= old;
        }
    }

    fn answered(&mut self, slots: Interval) {
        let Interval { first: mut slot, last } = self.slots.part_of(slots);
        while slot <= last {
            self.remove(slot);
            slot = slot.next();
        }
    }

    fn remove(&mut self, slot: Slot) {
        if let Some((bytes, _)) = self.slots.remove(slot) {
            self.bytes -= bytes;
        }
    }

    fn has_room_for(&self, bytes: usize, limits: &Limits) -> bool {
        self.bytes == 0 || self.bytes + bytes <= limits.unacknowledged_bytes_max
    }

    /// What was not answered for so long is taken as lost.
    fn expire(&mut self, now: Time) {
        let late = self.slots.iter().filter(|(_, (_, expires))| *expires <= now).map(|(slot, _)| slot);
        late.collect::<Vec<Slot>>().into_iter().for_each(|slot| self.remove(slot));
    }
}

impl Leading {
    /// Leads with what `phase1` obliges to; everything through `chosen_through` is learned.
    pub(super) fn new(mut phase1: Phase1, chosen_through: Slot) -> Self {
        Self {
            id: phase1.id,
            recovery_through: phase1.recovery_through().max(chosen_through),
            recovered: phase1.take_values().split_off(&chosen_through.next()),
            promised_chosen: phase1.chosen_through().map_or(Slot::ZERO, |(through, _)| through),
            phase1,
            won_until: Slot::ZERO,
            asked: None,
            fill_through: Slot::ZERO,
            next: chosen_through.next(),
            open: Slots::default(),
            open_bytes: 0,
            watermark: chosen_through,
            nacked: BTreeSet::new(),
            renew_at: None,
            under_way: BTreeMap::new(),
        }
    }

    pub(super) fn id(&self) -> ProposalId {
        self.id
    }

    pub(super) fn next(&self) -> Slot {
        self.next
    }

    pub(super) fn watermark(&self) -> Slot {
        self.watermark
    }

    /// Bytes of the slots that are open and not chosen.
    pub(super) fn open_bytes(&self) -> usize {
        self.open_bytes
    }

    /// How far a read that arrives now has to wait (7.1).
    pub(super) fn read_mark(&self) -> Slot {
        self.recovery_through.max(self.next.minus(1))
    }

    /// Whether everything that phase 1 obliged to is proposed.
    pub(super) fn is_recovered(&self) -> bool {
        self.next > self.recovery_through
    }

    /// What to propose at the next slot while recovering: the value found there, or a no-op in a hole (1.7).
    pub(super) fn take_recovered(&mut self) -> Value {
        self.recovered.remove(&self.next).map_or(Value::Noop, |(_, value)| value)
    }

    /// One more page of a promise under this id: what it reports above what is proposed has to be recovered, too (1.7).
    pub(super) fn gather(&mut self, from: NodeId, chosen_through: Slot, page: Page) {
        self.phase1.gather(from, chosen_through, page);
        self.promised_chosen = self.promised_chosen.max(chosen_through);
        self.recovery_through = self.recovery_through.max(self.phase1.recovery_through());
        for (slot, (id, value)) in self.phase1.take_values().split_off(&self.next) {
            let known = self.recovered.get(&slot).map(|(known, _)| *known);
            if known < Some(id) {
                self.recovered.insert(slot, (id, value));
            }
        }
        self.won_until = Slot::ZERO;
    }

    /// The memberships are others than before: who has to have promised is looked up anew.
    pub(super) fn memberships_changed(&mut self) {
        self.won_until = Slot::ZERO;
        self.asked = None;
    }

    /// The last slot from the next one on at which this id may propose, as far as phase 1 goes (1.6), or `None`.
    pub(super) fn won_until(&mut self, memberships: &Memberships) -> Option<Slot> {
        if self.promised_chosen >= self.next {
            return None;
        }
        if self.won_until < self.next {
            self.won_until = self.phase1.won_until(self.next, memberships)?;
        }
        Some(self.won_until)
    }

    /// Whether phase 1 is won for `slot`.
    pub(super) fn is_won_for(&self, slot: Slot, memberships: &Memberships) -> bool {
        self.phase1.is_won_for(slot, memberships)
    }

    /// Whether it is time to ask for promises in the memberships that govern the slots through `last`: not again before
    /// `again` has passed.
    pub(super) fn is_due_to_ask(&mut self, now: Time, last: Slot, again: Duration) -> bool {
        let is_due = self.won_until < last && self.asked.is_none_or(|asked| now.since(asked) >= again);
        if is_due {
            self.asked = Some(now);
        }
        is_due
    }

    /// The voters of the memberships that govern the slots from `first` to `last` who have not promised for them; empty where
    /// phase 1 is won without them (6.3).
    pub(super) fn unpromised(&self, first: Slot, last: Slot, memberships: &Memberships) -> BTreeSet<NodeId> {
        let starts =
            memberships.first_slots().filter(|start| first < *start && *start <= last).chain([first]);
        let lacking = starts.filter(|slot| !self.phase1.is_won_for(*slot, memberships)).flat_map(|slot| {
            let voters = memberships.governing(slot).into_iter().flat_map(Membership::voting);
            voters.filter(move |voter| !self.phase1.has_promised(*voter, slot))
        });
        lacking.collect()
    }

    /// Who said that more is chosen than this leader has learned, and how far.
    pub(super) fn behind(&self, chosen_through: Slot) -> Option<(Slot, NodeId)> {
        self.phase1.chosen_through().filter(|(through, _)| *through > chosen_through)
    }

    /// Whether a membership is proposed, or to be proposed again, and not learned yet.
    pub(super) fn has_open_membership(&self) -> bool {
        let open = self.open.iter().map(|(_, open)| &open.value);
        let recovered = self.recovered.values().map(|(_, value)| value);
        open.chain(recovered).any(|value| matches!(value, Value::Membership(_)))
    }

    /// The last slot that has to be filled so that the membership proposed last comes into force.
    pub(super) fn fill_through(&self) -> Slot {
        self.fill_through
    }

    /// Whether everything that was proposed is learned.
    pub(super) fn has_nothing_open(&self) -> bool {
        self.open.is_empty()
    }

    /// Opens the next slot with `value`.
    pub(super) fn open(&mut self, now: Time, value: Value, limits: &Limits) -> Slot {
        let slot = self.next;
        self.next = slot.next();
        if let Value::Membership(membership) = &value {
            self.fill_through = slot.plus(membership.alpha());
        }
        self.open_bytes += value.size();
        let open = Open {
            value,
            opened: now,
            accepted: Vec::with_capacity(3),
            chosen: false,
            send_again: now + limits.resend,
            pause: limits.resend,
        };
        self.open.insert(slot, open);
        slot
    }

    /// Phase 2a of an open slot, to every one of `voters` that has not accepted it and has room for it.
    pub(super) fn send(
        &mut self,
        now: Time,
        slot: Slot,
        voters: impl Iterator<Item = NodeId>,
        limits: &Limits,
        out: &mut Vec<Effect>,
    ) {
        let Some(open) = self.open.get(slot) else { return };
        let bytes = open.value.size();
        for to in voters.filter(|voter| !open.accepted.contains(voter)) {
            if to != self.id.node {
                let under_way = self.under_way.entry(to).or_default();
                if !under_way.has_room_for(bytes, limits) {
                    under_way.waits = Some(under_way.waits.map_or(slot, |waits| waits.min(slot)));
                    continue;
                }
                under_way.add(slot, bytes, now + limits.resend_max * 2);
            }
            let (id, watermark) = (self.id, self.watermark);
            let message = Message::Accept { id, first: slot, values: vec![open.value.clone()], watermark };
            out.push(Effect::Send { to, message, after: None });
        }
    }

    /// What `from` had no room for, as far as it has now.
    pub(super) fn send_waiting(
        &mut self,
        now: Time,
        from: NodeId,
        memberships: &Memberships,
        limits: &Limits,
        out: &mut Vec<Effect>,
    ) {
        let Some(mut slot) = self.under_way.get_mut(&from).and_then(|under_way| under_way.waits.take())
        else {
            return;
        };
        slot = slot.max(self.open.first_slot().unwrap_or(self.next));
        let waits = |leading: &Self| leading.under_way.get(&from).is_some_and(|way| way.waits.is_some());
        while slot < self.next && !waits(self) {
            let votes = memberships.governing(slot).is_some_and(|membership| membership.votes(from));
            self.send(now, slot, votes.then_some(from).into_iter(), limits, out);
            slot = slot.next();
        }
    }

    /// Counts `from`'s votes, and moves the watermark over what they complete.
    pub(super) fn count(&mut self, from: NodeId, slots: &[Interval], memberships: &Memberships) -> Chosen {
        for interval in slots.iter().filter(|interval| interval.first <= interval.last) {
            if let Some(under_way) = self.under_way.get_mut(&from) {
                under_way.answered(*interval);
            }
            let Interval { first: mut next, last } = self.open.part_of(*interval);
            while next <= last {
                let slot = next;
                next = next.next();
                let Some(open) = self.open.get_mut(slot) else { continue };
                let Err(place) = open.accepted.binary_search(&from) else { continue };
                open.accepted.insert(place, from);
                let membership = memberships.governing(slot);
                if !open.chosen
                    && membership.is_some_and(|membership| membership.is_phase2_quorum(&open.accepted))
                {
                    open.chosen = true;
                    self.open_bytes -= open.value.size();
                }
            }
        }
        let before = self.watermark;
        while self.open.get(self.watermark.next()).is_some_and(|open| open.chosen) {
            self.watermark = self.watermark.next();
        }
        if self.watermark > before { Chosen::Further } else { Chosen::Same }
    }

    /// A slot was learned: done with it if it holds this leader's value.
    pub(super) fn learned(&mut self, slot: Slot, value: &Value) -> Result<(), LostSlot> {
        if let Some(open) = self.open.remove(slot) {
            if !open.chosen {
                self.open_bytes -= open.value.size();
            }
            if open.value == *value {
                self.watermark = self.watermark.max(slot);
                return Ok(());
            }
            let batch = if let Value::Batch(batch) = open.value { Some(batch) } else { None };
            return Err(LostSlot { batch });
        }
        if slot < self.next {
            return Ok(());
        }
        // Learned before it was proposed here: fine while recovering, a sign of another leader above.
        self.recovered.remove(&slot);
        self.next = slot.next();
        self.watermark = self.watermark.max(slot);
        if slot <= self.recovery_through { Ok(()) } else { Err(LostSlot { batch: None }) }
    }

    /// `from` refused the id: whether no phase-2 quorum is left. Otherwise phase 1 is due anew at `renew_at` (2.4).
    pub(super) fn nacked(&mut self, from: NodeId, renew_at: Time, memberships: &Memberships) -> bool {
        memberships.governing(self.next).is_none_or(|membership| {
            if !membership.votes(from) {
                return false;
            }
            self.nacked.insert(from);
            self.renew_at.get_or_insert(renew_at);
            let left: Vec<NodeId> = membership.voting().filter(|node| !self.nacked.contains(node)).collect();
            !membership.is_phase2_quorum(&left)
        })
    }

    pub(super) fn renew_at(&self) -> Option<Time> {
        self.renew_at
    }

    /// Whether the oldest open slot is older than `age_max` (8.3).
    pub(super) fn is_stalled(&self, now: Time, age_max: Duration) -> bool {
        self.open.iter().next().is_some_and(|(_, open)| now.since(open.opened) > age_max)
    }

    /// Open slots to send again now, each with a longer pause to its next time.
    pub(super) fn overdue(&mut self, now: Time, limits: &Limits) -> Vec<Slot> {
        self.under_way.values_mut().for_each(|under_way| under_way.expire(now));
        let me = self.id.node;
        let mut overdue = Vec::new();
        for (slot, open) in self.open.iter_mut().filter(|(_, open)| open.send_again <= now) {
            // What is chosen is fetched by those who lack it, but nobody else would tell this node.
            if open.chosen && open.accepted.contains(&me) {
                continue;
            }
            open.pause = (open.pause * 2).min(limits.resend_max);
            open.send_again = now + open.pause;
            overdue.push(slot);
        }
        overdue
    }

    /// A connection to `peer` stands: what it has not accepted is due at once.
    pub(super) fn on_link_up(&mut self, now: Time, peer: NodeId) {
        self.on_link_down(peer);
        for (_, open) in self.open.iter_mut().filter(|(_, open)| !open.accepted.contains(&peer)) {
            open.send_again = now;
        }
    }

    /// What was under way to `peer` is lost.
    pub(super) fn on_link_down(&mut self, peer: NodeId) {
        self.under_way.remove(&peer);
    }

    /// The batches whose slots are not learned yet.
    pub(super) fn into_batches(self) -> impl Iterator<Item = (Slot, Bytes)> {
        self.open.into_values().filter_map(|(slot, open)| match open.value {
            Value::Batch(batch) => Some((slot, batch)),
            _ => None,
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const ID: ProposalId = ProposalId::new(2, NodeId::new(1));

    fn leading() -> (Leading, Memberships) {
        let voters = (1..=3).map(|node| (NodeId::new(node), ""));
        let memberships = Memberships::bootstrap(Membership::voters(voters).unwrap());
        (Leading::new(Phase1::new(ID, Time::ZERO), Slot::new(4)), memberships)
    }

    fn batch(text: &'static str) -> Value {
        Value::Batch(Bytes::from_static(text.as_bytes()))
    }

    #[test]
    fn the_watermark_stops_before_a_slot_that_is_open() {
        let (mut leading, memberships) = leading();
        for text in ["5", "6", "7"] {
            leading.open(Time::ZERO, batch(text), &Limits::default());
        }
        let votes = [Interval::new(Slot::new(5), Slot::new(5)), Interval::new(Slot::new(7), Slot::new(7))];
        assert_eq!(leading.count(NodeId::new(2), &votes, &memberships), Chosen::Same);
        assert_eq!(leading.count(NodeId::new(3), &votes, &memberships), Chosen::Further);
        assert_eq!((leading.watermark(), leading.next()), (Slot::new(5), Slot::new(8)));
    }

    #[test]
    fn what_is_not_learned_is_handed_back_with_its_slot() {
        let (mut leading, _) = leading();
        leading.open(Time::ZERO, batch("5"), &Limits::default());
        leading.open(Time::ZERO, Value::Noop, &Limits::default());
        leading.open(Time::ZERO, batch("7"), &Limits::default());
        leading.learned(Slot::new(5), &batch("5")).unwrap();
        let left: Vec<_> = leading.into_batches().collect();
        assert_eq!(left, [(Slot::new(7), Bytes::from_static(b"7"))]);
    }

    #[test]
    fn a_slot_that_went_to_another_value_gives_its_batch_back() {
        let (mut leading, _) = leading();
        leading.open(Time::ZERO, batch("mine"), &Limits::default());
        let lost = leading.learned(Slot::new(5), &batch("other")).unwrap_err();
        assert_eq!(lost.batch, Some(Bytes::from_static(b"mine")));
        assert_eq!(leading.watermark(), Slot::new(4), "it covers no slot that went to another value (3.2)");
    }

    // The bound on what is under way must not cost a pause until the slot is sent again.
    #[test]
    fn a_slot_that_a_peer_had_no_room_for_is_sent_when_the_peer_answers() {
        let (mut leading, memberships) = leading();
        let limits = Limits { unacknowledged_bytes_max: 20, ..Limits::default() };
        let peer = NodeId::new(2);
        let mut out = Vec::new();
        for text in ["five", "six", "seven"] {
            let slot = leading.open(Time::ZERO, batch(text), &limits);
            leading.send(Time::ZERO, slot, [peer].into_iter(), &limits, &mut out);
        }
        assert_eq!(out.len(), 1, "{out:?}");
        let sent = |out: &mut Vec<Effect>| {
            let first = |effect: Effect| match effect {
                Effect::Send { to, message: Message::Accept { first, .. }, .. } if to == peer => Some(first),
                _ => None,
            };
            out.drain(..).filter_map(first).collect::<Vec<_>>()
        };
        assert_eq!(sent(&mut out), [Slot::new(5)]);
        for (answered, next) in [(5, vec![Slot::new(6)]), (6, vec![Slot::new(7)]), (7, vec![])] {
            let answered = Interval::new(Slot::new(answered), Slot::new(answered));
            leading.count(peer, &[answered], &memberships);
            leading.send_waiting(Time::ZERO, peer, &memberships, &limits, &mut out);
            assert_eq!(sent(&mut out), next);
        }
    }
}
