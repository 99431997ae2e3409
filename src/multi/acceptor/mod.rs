//! The acceptor: the memory of the log.
//!
//! In: `Prepare`, `Accept`, `Heartbeat`, `CatchUp`, `Form`; peers that show themselves; values that the learner fetched.
//! Out: `Promise`, `Accepted`, `Confirmed`, `Nack`, `Chosen`, `Base`; what is newly learned, to the learner and the
//! proposer.
//! Durable: the [`Log`], record by record, before any answer that rests on it leaves (protocol 1.2).
//! Invariants: A1 `promised` never goes down. A2 nothing is accepted under an id below `promised`. A3 one value per id
//! and slot. A4 at or below `chosen_through` nothing is accepted and nothing is reported as open (1.5, 2.2).
//! Knows nothing of: quorums, time-outs of leaders, the state machine.

mod company;
mod learning;
mod lease;
mod trimming;

use crate::multi::effect::{AcceptorInput, Effect, ElectionInput, LearnerInput, Local, ProposerInput};
use crate::multi::formation::Formation;
use crate::multi::identity::Identity;
use crate::multi::limits::Limits;
use crate::multi::log::Log;
use crate::multi::membership::Membership;
use crate::multi::message::{Message, Page};
use crate::multi::record::{AbstainReason, Record, Sequence, Value};
use crate::multi::slot::{Interval, Slot, Time, add_slot};
use crate::paxos::{NodeId, ProposalId};
use lease::Lease;
use std::collections::VecDeque;
use trimming::Trimming;

/// Requests for entries that may wait for the disk; one more is dropped, and asked again by its sender.
const READS_MAX: usize = 32;

/// Nodes outside the membership that are remembered; one more is refused.
const STRANGERS_MAX: usize = 256;

/// The acceptor of Multi-Paxos.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Acceptor {
    identity: Identity,
    limits: Limits,
    log: Log,
    /// The newest write asked for.
    sequence: Sequence,
    /// The newest write that is durable.
    durable: Sequence,
    /// Folded, but not yet part of a write: facts that may be lost, such as a watermark.
    unwritten: Vec<Record>,
    formation: Option<Formation>,
    reads: VecDeque<Read>,
    /// The storage is at work on the first of `reads`.
    reading: bool,
    /// How far the log had learned at each write that is not durable yet, and at the last durable one.
    learned_at: VecDeque<(Sequence, Slot)>,
    durable_through: Slot,
    trimming: Trimming,
    /// The highest that a leader said a set durably holds that no later leader can miss (4.3, 6.5).
    held_through: Slot,
    lease: Lease,
    /// Said once.
    removed: bool,
}

/// Why entries are being read back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Read {
    from: Slot,
    bytes_max: usize,
    /// The peer that asked, or the own learner.
    to: Option<NodeId>,
    /// What is learned through here is what the storage holds once `after` is durable; any earlier it may answer with
    /// what was accepted there before.
    through: Slot,
    after: Sequence,
}

impl Acceptor {
    /// Rebuilds an acceptor from what is durable. `identity` is this node's own, as shown to peers; `bootstrap` is the
    /// membership that it was bootstrapped with, which may still have to form; `sequence` is the last durable write.
    pub fn new(
        identity: Identity,
        bootstrap: Option<Membership>,
        sequence: Sequence,
        mut log: Log,
        limits: Limits,
    ) -> Self {
        log.set_cache(limits.cache_bytes_max);
        let durable_through = log.chosen_through();
        // Whoever may vote may have granted a lease without ever having promised anything.
        let lease = Lease::new(log.is_formed());
        let forming = bootstrap.filter(|_| !log.is_formed());
        let formation = forming.map(|membership| Formation::new(identity.node(), identity.disk, membership));
        Self {
            identity,
            limits,
            log,
            sequence,
            durable: sequence,
            unwritten: Vec::new(),
            formation,
            reads: VecDeque::new(),
            reading: false,
            learned_at: VecDeque::new(),
            durable_through,
            trimming: Trimming::default(),
            held_through: Slot::ZERO,
            lease,
            removed: false,
        }
    }

    /// Holds no state machine: its log is cut without a snapshot, once enough full nodes hold what it forgets (4.3).
    #[must_use]
    pub fn witness(mut self) -> Self {
        self.trimming.witness = true;
        self
    }

    /// This node.
    pub fn node(&self) -> NodeId {
        self.identity.node()
    }

    /// What it knows.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// Takes one input.
    pub fn step(&mut self, now: Time, input: AcceptorInput, out: &mut Vec<Effect>) {
        self.begin_lease(now);
        match input {
            AcceptorInput::Start => self.start(now, out),
            AcceptorInput::Message { from, message } => self.on_message(now, from, message, out),
            AcceptorInput::Persisted { sequence } => self.on_persisted(sequence, out),
            AcceptorInput::ReadBack { entries } => self.on_read_back(entries, out),
            AcceptorInput::Store { first, values } => self.on_store(first, values, out),
            AcceptorInput::Replay { from } => self.on_replay(from, out),
            AcceptorInput::Admit { ticket, identity } => self.on_admit(ticket, &identity, out),
            AcceptorInput::Votes { sequences } => self.on_votes(sequences),
            AcceptorInput::Refused { peer, refusal } => self.on_refused(peer, &refusal, out),
            AcceptorInput::Candidate { id, to } => self.on_candidate(now, id, to, out),
            AcceptorInput::SnapshotTaken { snapshot } => self.on_snapshot_taken(snapshot, out),
            AcceptorInput::Install { base } => self.on_install(base, out),
            AcceptorInput::Trimmed { through } => self.on_trimmed(through, out),
            AcceptorInput::Damaged { slots } => self.on_damaged(slots, out),
            AcceptorInput::FactsDamaged => self.on_facts_damaged(out),
            AcceptorInput::Wake => self.ask_to_form(now, out),
        }
    }

    fn on_message(&mut self, now: Time, from: NodeId, message: Message, out: &mut Vec<Effect>) {
        match message {
            Message::Prepare { id, from: first } => self.on_prepare(now, from, id, first, out),
            Message::Accept { id, first, values, watermark } => {
                self.on_accept(from, id, first, values, watermark, out);
            }
            Message::Heartbeat { id, watermark, held_through, pulse, lease } => {
                if self.refuses(from, id, out) {
                    return;
                }
                let after = if lease { self.grant(now, id, out) } else { None };
                self.on_heartbeat(from, id, watermark, (pulse, after), out);
                self.on_held(held_through, out);
            }
            Message::Confirm { id, nonce } => self.on_confirm(from, id, nonce, out),
            Message::CatchUp { from: first, bytes_max } => {
                self.on_catch_up(from, first, bytes_max as usize, out)
            }
            Message::AskBase { above } => self.on_ask_base(from, above, out),
            Message::Form { membership, disk, yours } => self.on_form(from, &membership, disk, yours, out),
            Message::AlreadyFormed { disk } if disk != self.identity.disk => {
                self.abstain(AbstainReason::AlreadyFormed, out);
            }
            _ => {}
        }
    }

    /// Whether this node may vote: its cluster has formed, and it can prove what it promised.
    fn votes(&self) -> bool {
        self.log.is_formed() && self.log.abstains().is_none()
    }

    /// Whether there were two values where only one can be: which of them is chosen is not for this node to say any more, so
    /// it learns nothing further (3.1).
    fn is_frozen(&self) -> bool {
        self.log.abstains() == Some(AbstainReason::SafetyViolation)
    }

    // ---------------------------------------------------------------- phase 1

    /// Phase 1b: promises `id` and reports, page by page, what was accepted above `chosen_through`.
    ///
    /// A repeat gets the same answer again. *Paxos Made Simple*, section 2.2, P1a; section 3 for all slots at once.
    fn on_prepare(&mut self, now: Time, from: NodeId, id: ProposalId, first: Slot, out: &mut Vec<Effect>) {
        if !self.votes() || self.refuses(from, id, out) || self.is_leased_to_another(now, from, id, out) {
            return;
        }
        self.promise(id, out);
        self.send_promise(from, id, first, out);
    }

    /// The node's own proposer campaigns: its own promise first, durably, then the others' (1.3).
    fn on_candidate(&mut self, now: Time, id: ProposalId, to: Vec<NodeId>, out: &mut Vec<Effect>) {
        let me = self.node();
        if self.votes() && self.log.promised() < Some(id) && self.is_leased_to_another(now, me, id, out) {
            return;
        }
        if !self.votes() || self.log.promised() >= Some(id) {
            let promised = self.log.promised().unwrap_or(id);
            out.push(self.answer(me, Message::Nack { asked: id, promised }));
            return;
        }
        self.promise(id, out);
        let from = self.log.chosen_through().next();
        for peer in to.into_iter().filter(|peer| *peer != me) {
            out.push(self.answer(peer, Message::Prepare { id, from }));
        }
        self.send_promise(me, id, from, out);
    }

    fn promise(&mut self, id: ProposalId, out: &mut Vec<Effect>) {
        if self.log.promised() < Some(id) {
            self.write(vec![Record::Promised { id }], out);
            self.tell_promised(id, out);
        } else if !self.unwritten.is_empty() {
            self.write(Vec::new(), out);
        }
    }

    fn send_promise(&self, to: NodeId, id: ProposalId, from: Slot, out: &mut Vec<Effect>) {
        let chosen_through = self.log.chosen_through();
        let first = from.max(chosen_through.next());
        let (entries, unknown) = self.log.accepted(Interval::new(first, Slot::MAX));
        let page_bytes_max = self.limits.frame_bytes_max / 2;
        let mut covers_from = first;
        let mut page = Vec::new();
        let mut bytes = 0;
        let send = |covers: Interval, entries: Vec<(Slot, ProposalId, Value)>, out: &mut Vec<Effect>| {
            let unknown = unknown
                .iter()
                .filter(|interval| interval.first <= covers.last && covers.first <= interval.last)
                .map(|interval| {
                    Interval::new(interval.first.max(covers.first), interval.last.min(covers.last))
                })
                .collect();
            let page = Page { covers, entries, unknown };
            out.push(self.answer(to, Message::Promise { id, chosen_through, page, sequence: self.sequence }));
        };
        for (slot, entry) in entries {
            let size = entry.value.size() + 32;
            if bytes > 0 && bytes + size > page_bytes_max {
                send(Interval::new(covers_from, slot.minus(1)), std::mem::take(&mut page), out);
                covers_from = slot;
                bytes = 0;
            }
            bytes += size;
            page.push((slot, entry.id, entry.value.clone()));
        }
        send(Interval::new(covers_from, Slot::MAX), page, out);
    }

    // ---------------------------------------------------------------- phase 2

    /// Phase 2b: accepts each value unless a higher id was promised, and names exactly what is durable here under `id`.
    ///
    /// Slots that are learned already are answered with what was chosen there (2.2).
    fn on_accept(
        &mut self,
        from: NodeId,
        id: ProposalId,
        first: Slot,
        values: Vec<Value>,
        watermark: Slot,
        out: &mut Vec<Effect>,
    ) {
        if self.refuses(from, id, out) {
            return;
        }
        if self.votes() && !values.is_empty() {
            self.accept(from, id, first, values, out);
        }
        self.on_watermark(from, id, watermark, out);
    }

    fn accept(
        &mut self,
        from: NodeId,
        id: ProposalId,
        first: Slot,
        values: Vec<Value>,
        out: &mut Vec<Effect>,
    ) {
        let raises = self.log.promised() < Some(id);
        let mut slots = Vec::new();
        let mut records = Vec::with_capacity(values.len());
        let mut stale = None;
        let mut ahead = self.log.ahead_bytes();
        let next = self.log.chosen_through().next();
        let last = self.log.chosen_through().plus(self.limits.ahead_slots_max.min(Log::AHEAD_SLOTS_MAX));
        let mut slot = first;
        for value in values {
            let held = self.log.entry(slot).filter(|entry| entry.id == id);
            if slot <= self.log.chosen_through() {
                stale.get_or_insert(slot);
            } else if let Some(held) = held {
                if held.value != value {
                    self.abstain(AbstainReason::SafetyViolation, out);
                    return;
                }
                add_slot(&mut slots, slot);
            } else if slot == next || slot <= last && ahead + value.size() <= self.limits.ahead_bytes_max {
                // The next slot to learn is always taken: all that is held above waits for it.
                ahead += value.size();
                add_slot(&mut slots, slot);
                records.push(Record::Accepted { slot, id, value });
            }
            slot = slot.next();
        }
        if !records.is_empty() {
            self.write(records, out);
        }
        if raises && self.log.promised() == Some(id) {
            self.tell_promised(id, out);
        }
        if !slots.is_empty() {
            out.push(self.answer(from, Message::Accepted { id, slots, sequence: self.sequence }));
        }
        if let Some(slot) = stale.filter(|_| from != self.node()) {
            self.on_catch_up(from, slot, self.limits.catch_up_bytes_max, out);
        }
    }

    /// A leader is alive, and nobody higher was promised anything; one that votes no more is no contact (8.2). The answer waits
    /// for the write that a lease rests on.
    fn on_heartbeat(
        &mut self,
        from: NodeId,
        id: ProposalId,
        watermark: Slot,
        (pulse, after): (u64, Option<Sequence>),
        out: &mut Vec<Effect>,
    ) {
        if self.log.promised() < Some(id) {
            out.push(Effect::Local(Local::Proposer(ProposerInput::Saw { id })));
        }
        out.push(Effect::Local(Local::Election(ElectionInput::Heard { id })));
        self.on_watermark(from, id, watermark, out);
        if self.votes() {
            let (durable_through, witness) = (self.durable_through, self.trimming.witness);
            let message = Message::HeartbeatAck { id, pulse, durable_through, witness };
            out.push(Effect::Send { to: from, message, after });
        }
        if !self.unwritten.is_empty() {
            self.write(Vec::new(), out);
        }
    }

    /// Whether the leader under `id` still is the last one that was promised anything, promises that are not durable yet
    /// included (7.2).
    fn on_confirm(&mut self, from: NodeId, id: ProposalId, nonce: u64, out: &mut Vec<Effect>) {
        if self.votes() && !self.refuses(from, id, out) && self.log.promised() == Some(id) {
            out.push(self.answer(from, Message::Confirmed { id, nonce }));
        }
    }

    fn refuses(&self, from: NodeId, id: ProposalId, out: &mut Vec<Effect>) -> bool {
        match self.log.promised() {
            Some(promised) if id < promised => {
                out.push(self.answer(from, Message::Nack { asked: id, promised }));
                true
            }
            _ => false,
        }
    }

    // ---------------------------------------------------------------- writing

    /// Folds `records` in and asks to make them durable, behind what is unwritten so far.
    fn write(&mut self, records: Vec<Record>, out: &mut Vec<Effect>) {
        let mut learned = Vec::new();
        for record in &records {
            self.fold(record, &mut learned);
        }
        let begins = records.iter().any(|record| matches!(record, Record::Based { .. }));
        let mut group = std::mem::take(&mut self.unwritten);
        if group.is_empty() {
            group = records;
        } else {
            group.extend(records);
        }
        self.sequence = self.sequence.next();
        self.learned_at.push_back((self.sequence, self.log.chosen_through()));
        out.push(Effect::Persist { sequence: self.sequence, records: group });
        if begins {
            // Who governs the slots above a base has to be known before any of them counts as learned (1.6).
            self.brief(out);
        }
        self.tell_learned(learned, out);
    }

    /// Folds a record in that is written with the next group: losing it loses no promise.
    fn fold_unwritten(&mut self, record: Record, out: &mut Vec<Effect>) {
        let mut learned = Vec::new();
        self.fold(&record, &mut learned);
        match (self.unwritten.last_mut(), &record) {
            (Some(Record::Watermark { id: known, through }), Record::Watermark { id, through: higher })
                if known == id =>
            {
                *through = *higher;
            }
            _ => self.unwritten.push(record),
        }
        self.tell_learned(learned, out);
    }

    fn fold(&mut self, record: &Record, learned: &mut Vec<(Slot, Value)>) {
        let before = self.log.chosen_through();
        self.log.apply(record);
        let mut slot = before.next();
        while slot <= self.log.chosen_through() {
            if let Some(entry) = self.log.entry(slot) {
                learned.push((slot, entry.value.clone()));
            }
            slot = slot.next();
        }
    }

    fn on_persisted(&mut self, sequence: Sequence, out: &mut Vec<Effect>) {
        self.durable = self.durable.max(sequence);
        while let Some((_, through)) = self.learned_at.front().copied().filter(|(at, _)| *at <= self.durable)
        {
            self.durable_through = through;
            self.learned_at.pop_front();
        }
        self.based(out);
        self.ask_storage(out);
    }

    fn tell_learned(&self, values: Vec<(Slot, Value)>, out: &mut Vec<Effect>) {
        if !values.is_empty() {
            let chosen_through = self.log.chosen_through();
            let changes: Vec<(Slot, Membership)> = values
                .iter()
                .filter_map(|(slot, value)| match value {
                    Value::Membership(membership) => Some((*slot, membership.clone())),
                    _ => None,
                })
                .collect();
            out.push(Effect::Local(Local::Proposer(ProposerInput::Learned { values: values.clone() })));
            let first = values.first().map(|(slot, _)| *slot).unwrap_or_default();
            let learned = LearnerInput::Learned { values, chosen_through, replay: false };
            out.push(Effect::Local(Local::Learner(learned)));
            self.tell_changes(first, changes, out);
        }
    }

    fn tell_promised(&self, id: ProposalId, out: &mut Vec<Effect>) {
        out.push(Effect::Local(Local::Proposer(ProposerInput::Promised { id })));
        out.push(Effect::Local(Local::Election(ElectionInput::Promised { id })));
    }

    /// An answer that rests on everything issued so far (1.2).
    fn answer(&self, to: NodeId, message: Message) -> Effect {
        Effect::Send { to, message, after: Some(self.sequence) }
    }
}
