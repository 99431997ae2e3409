//! The proposer: one phase 1 for all later slots, then a window of open slots in phase 2.
//!
//! In: `Promise`, `Nack`, `Accepted`; batches; the election's word when to campaign. Out: `Accept`; the watermark.
//! Durable: nothing of its own. Its id is promised by its own acceptor before `Prepare` leaves (1.3), and a proposer
//! that is rebuilt begins with a new one.
//! Invariants: P1 one value per id and slot (2.1). P2 nothing is proposed before phase 1 covers the slot in its
//! membership (1.6), at a slot that is learned, or more than α above `chosen_through` (6.2). P3 what was accepted before is
//! proposed again before anything new (1.7). P4 the watermark covers only what it proposed itself (3.2).
//! Knows nothing of: clients, the disk, when to campaign.

use super::effect::{
    AcceptorInput, Briefing, Effect, ElectionInput, Event, Local, ProposerInput, ProposerState,
};
use super::jitter::Jitter;
use super::leading::{Chosen, Leading};
use super::limits::Limits;
use super::membership::Memberships;
use super::message::{Message, Page};
use super::phase1::Phase1;
use super::record::{Sequence, Value};
use super::slot::{Interval, Slot, Time};
use crate::paxos::{NodeId, ProposalId};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};

/// The proposer of Multi-Paxos.
#[derive(Debug)]
pub struct Proposer {
    me: NodeId,
    limits: Limits,
    jitter: Jitter,
    memberships: Option<Memberships>,
    votes: bool,
    /// How far the own log has learned.
    chosen_through: Slot,
    /// The highest number seen or promised.
    highest: u64,
    phase: Phase,
    /// Batches proposed under earlier ids whose slot is not learned yet; under two ids there may be two for one slot.
    orphans: BTreeMap<Slot, BTreeSet<Bytes>>,
    /// The highest sequence that each voter's votes showed since the acceptor was told (9.4).
    votes_seen: BTreeMap<NodeId, Sequence>,
    tick: Option<Time>,
}

/// What it is doing; one at a time.
#[derive(Debug)]
enum Phase {
    Idle,
    Preparing(Phase1),
    Leading(Leading),
}

impl Proposer {
    /// A proposer that does nothing until it was briefed and told to campaign. `seed` feeds its jitter.
    pub fn new(me: NodeId, limits: Limits, seed: u64) -> Self {
        Self {
            me,
            limits,
            jitter: Jitter::new(seed),
            memberships: None,
            votes: false,
            chosen_through: Slot::ZERO,
            highest: 0,
            phase: Phase::Idle,
            orphans: BTreeMap::new(),
            votes_seen: BTreeMap::new(),
            tick: None,
        }
    }

    /// What it is doing.
    pub fn state(&self) -> ProposerState {
        match &self.phase {
            Phase::Idle => ProposerState::Idle,
            Phase::Preparing(phase1) => ProposerState::Preparing { id: phase1.id },
            Phase::Leading(leading) => ProposerState::Leading { id: leading.id() },
        }
    }

    /// How many batches it would propose at once now; zero while it does not lead, recovers, or its window is full.
    pub fn room(&self) -> u64 {
        match &self.phase {
            Phase::Leading(leading)
                if leading.is_recovered() && leading.open_bytes() < self.limits.unacknowledged_bytes_max =>
            {
                (self.window_end().get() + 1).saturating_sub(leading.next().get())
            }
            _ => 0,
        }
    }

    /// How far a read that arrives now has to wait (7.1), while this node leads.
    pub fn read_mark(&self) -> Option<(ProposalId, Slot)> {
        match &self.phase {
            Phase::Leading(leading) => Some((leading.id(), leading.read_mark())),
            _ => None,
        }
    }

    /// Takes one input.
    pub fn step(&mut self, now: Time, input: ProposerInput, out: &mut Vec<Effect>) {
        match input {
            ProposerInput::Message { from, message } => self.on_message(now, from, message, out),
            ProposerInput::Propose { batch } => self.on_propose(now, batch, out),
            ProposerInput::Campaign => self.campaign(now, out),
            ProposerInput::StepDown => self.step_down(out),
            ProposerInput::Learned { values } => self.on_learned(now, &values, out),
            ProposerInput::Briefing(briefing) => self.on_briefing(briefing, out),
            ProposerInput::Promised { id } | ProposerInput::Saw { id } => self.saw(id),
            ProposerInput::LinkUp { peer } => {
                if let Phase::Leading(leading) = &mut self.phase {
                    leading.on_link_up(now, peer);
                    self.resend(now, out);
                }
            }
            ProposerInput::LinkDown { peer } => {
                if let Phase::Leading(leading) = &mut self.phase {
                    leading.on_link_down(peer);
                }
            }
            ProposerInput::Wake => self.on_wake(now, out),
            _ => {}
        }
    }

    fn on_message(&mut self, now: Time, from: NodeId, message: Message, out: &mut Vec<Effect>) {
        match message {
            Message::Promise { id, chosen_through, page, sequence } => {
                self.saw(id);
                self.saw_vote(from, sequence);
                self.on_promise(now, from, id, chosen_through, page, out);
            }
            Message::Accepted { id, slots, sequence } => {
                self.saw(id);
                self.saw_vote(from, sequence);
                self.on_accepted(now, from, id, &slots, out);
            }
            Message::Nack { asked, promised } => self.on_nack(now, from, asked, promised, out),
            _ => {}
        }
    }

    fn on_briefing(&mut self, briefing: Briefing, out: &mut Vec<Effect>) {
        self.memberships = briefing.memberships;
        self.chosen_through = self.chosen_through.max(briefing.chosen_through);
        if let Some(id) = briefing.promised {
            self.saw(id);
        }
        self.votes = briefing.votes;
        if !self.votes {
            self.step_down(out);
        }
        // This role or the election may have been built anew: they have to agree on what is going on.
        self.tell_state(out);
        self.tell_watermark(out);
    }

    // ---------------------------------------------------------------- phase 1

    /// Phase 1a: asks every voter under an id above all that it has seen (1.3).
    fn campaign(&mut self, now: Time, out: &mut Vec<Effect>) {
        let governing = self.memberships.as_ref().and_then(|all| all.governing(self.chosen_through.next()));
        let Some(membership) = governing.filter(|membership| self.votes && membership.may_lead(self.me))
        else {
            self.step_down(out);
            self.tell_state(out);
            return;
        };
        let to: Vec<NodeId> = membership.voting().collect();
        let Ok(id) = ProposalId::above(self.highest, self.me) else {
            out.push(Effect::Event(Event::ProposalIdExhausted));
            self.step_down(out);
            self.tell_state(out);
            return;
        };
        self.leave_phase();
        self.highest = id.number;
        self.phase = Phase::Preparing(Phase1::new(id, now + self.limits.campaign_timeout));
        self.tell_state(out);
        out.push(Effect::Local(Local::Acceptor(AcceptorInput::Candidate { id, to })));
        self.wake_soon(now, out);
    }

    fn on_promise(
        &mut self,
        now: Time,
        from: NodeId,
        id: ProposalId,
        chosen_through: Slot,
        page: Page,
        out: &mut Vec<Effect>,
    ) {
        let Phase::Preparing(phase1) = &mut self.phase else { return };
        if phase1.id != id {
            return;
        }
        phase1.gather(from, chosen_through, page);
        phase1.expires = now + self.limits.campaign_timeout;
        self.tell_state(out);
        self.try_to_lead(now, out);
    }

    /// Leads once phase 1 is won for everything above what is chosen, and that is learned (1.5).
    fn try_to_lead(&mut self, now: Time, out: &mut Vec<Effect>) {
        let Phase::Preparing(phase1) = &self.phase else { return };
        let Some(memberships) = &self.memberships else { return };
        if let Some((through, peer)) =
            phase1.chosen_through().filter(|(through, _)| *through > self.chosen_through)
        {
            let behind =
                super::effect::LearnerInput::Behind { peer, through, chosen_through: self.chosen_through };
            out.push(Effect::Local(Local::Learner(behind)));
            return;
        }
        if !phase1.is_won_above(self.chosen_through, memberships) {
            return;
        }
        let leading = Leading::new(phase1, self.chosen_through);
        self.phase = Phase::Leading(leading);
        self.tell_state(out);
        self.tell_watermark(out);
        self.recover(now, out);
    }

    // ---------------------------------------------------------------- phase 2

    fn on_propose(&mut self, now: Time, batch: Bytes, out: &mut Vec<Effect>) {
        if self.room() == 0 {
            out.push(Effect::Event(Event::BatchRefused { batch }));
            return;
        }
        self.propose(now, Value::Batch(batch), out);
    }

    /// Phase 2a for what phase 1 brought to light, in slot order, as far as the window goes (1.7).
    fn recover(&mut self, now: Time, out: &mut Vec<Effect>) {
        loop {
            let end = self.window_end();
            let Phase::Leading(leading) = &mut self.phase else { return };
            if leading.is_recovered() || leading.next() > end {
                return;
            }
            let value = leading.take_recovered();
            self.propose(now, value, out);
        }
    }

    /// Phase 2a: asks every voter of the slot's membership to accept `value` at the next slot.
    fn propose(&mut self, now: Time, value: Value, out: &mut Vec<Effect>) {
        let Phase::Leading(leading) = &mut self.phase else { return };
        let Some(membership) = self.memberships.as_ref().and_then(|all| all.governing(leading.next())) else {
            return;
        };
        let slot = leading.open(now, value, &self.limits);
        leading.send(now, slot, membership.voting(), &self.limits, out);
        self.wake_soon(now, out);
    }

    /// Counts votes; a slot with a phase-2 quorum under this id is chosen (3.1).
    fn on_accepted(
        &mut self,
        now: Time,
        from: NodeId,
        id: ProposalId,
        slots: &[Interval],
        out: &mut Vec<Effect>,
    ) {
        let Phase::Leading(leading) = &mut self.phase else { return };
        let Some(memberships) = &self.memberships else { return };
        if leading.id() != id {
            return;
        }
        if leading.count(from, slots, memberships) == Chosen::Further {
            let (id, watermark, first) = (leading.id(), leading.watermark(), leading.next());
            let message = Message::Accept { id, first, values: Vec::new(), watermark };
            out.push(Effect::Local(Local::Acceptor(AcceptorInput::Message { from: self.me, message })));
            self.tell_watermark(out);
            self.recover(now, out);
        }
    }

    /// A refusal of the present id; any other is old news (2.4).
    fn on_nack(
        &mut self,
        now: Time,
        from: NodeId,
        asked: ProposalId,
        promised: ProposalId,
        out: &mut Vec<Effect>,
    ) {
        self.saw(promised);
        let next = self.chosen_through.next();
        let Some(memberships) = &self.memberships else { return };
        match &mut self.phase {
            Phase::Preparing(phase1) if phase1.id == asked => {
                phase1.nacked.insert(from);
                // Without the own promise no `Prepare` has left.
                if from == self.me || phase1.is_lost(next, memberships) {
                    self.step_down(out);
                }
            }
            Phase::Leading(leading) if leading.id() == asked => {
                let pause = self.jitter.between(self.limits.resend / 4, self.limits.resend);
                if leading.nacked(from, now + pause, memberships) {
                    self.step_down(out);
                }
            }
            _ => {}
        }
    }

    /// Slots were learned: the window moves, and a leader whose proposal lost its slot steps down (3.2).
    fn on_learned(&mut self, now: Time, values: &[(Slot, Value)], out: &mut Vec<Effect>) {
        let before = self.watermark();
        for (slot, value) in values {
            self.chosen_through = self.chosen_through.max(*slot);
            for batch in self.orphans.remove(slot).into_iter().flatten() {
                if !matches!(value, Value::Batch(chosen) if *chosen == batch) {
                    out.push(Effect::Event(Event::BatchLost { batch }));
                }
            }
            if let Phase::Leading(leading) = &mut self.phase
                && let Err(lost) = leading.learned(*slot, value)
            {
                if let Some(batch) = lost.batch {
                    out.push(Effect::Event(Event::BatchLost { batch }));
                }
                self.step_down(out);
            }
        }
        if before < self.watermark() {
            self.tell_watermark(out);
        }
        self.try_to_lead(now, out);
        self.recover(now, out);
    }

    // ---------------------------------------------------------------- time

    fn on_wake(&mut self, now: Time, out: &mut Vec<Effect>) {
        if self.tick.is_none_or(|tick| tick > now) {
            return;
        }
        self.tick = None;
        if !self.votes_seen.is_empty() {
            let sequences = std::mem::take(&mut self.votes_seen).into_iter().collect();
            out.push(Effect::Local(Local::Acceptor(AcceptorInput::Votes { sequences })));
        }
        match &self.phase {
            Phase::Idle => return,
            Phase::Preparing(phase1) if phase1.expires <= now => self.step_down(out),
            Phase::Preparing(_) => {}
            Phase::Leading(leading) if leading.renew_at().is_some_and(|at| at <= now) => {
                self.campaign(now, out);
                return;
            }
            Phase::Leading(leading) => {
                let stalled = leading.is_stalled(now, self.limits.open_slot_age_max);
                out.push(Effect::Local(Local::Election(ElectionInput::Stalled(stalled))));
                self.resend(now, out);
            }
        }
        self.wake_soon(now, out);
    }

    /// Sends open slots again whose answer is overdue (2.3).
    fn resend(&mut self, now: Time, out: &mut Vec<Effect>) {
        let Phase::Leading(leading) = &mut self.phase else { return };
        let Some(memberships) = &self.memberships else { return };
        for slot in leading.overdue(now, &self.limits) {
            if let Some(membership) = memberships.governing(slot) {
                leading.send(now, slot, membership.voting(), &self.limits, out);
            }
        }
    }

    /// One coarse tick serves all time-outs; it runs only while there is something to wait for.
    fn wake_soon(&mut self, now: Time, out: &mut Vec<Effect>) {
        if self.tick.is_none() && !matches!(self.phase, Phase::Idle) {
            let at = now + self.limits.resend / 2;
            self.tick = Some(at);
            out.push(Effect::Deadline(at));
        }
    }

    // ---------------------------------------------------------------- leaving

    fn step_down(&mut self, out: &mut Vec<Effect>) {
        if !matches!(self.phase, Phase::Idle) {
            self.leave_phase();
            self.tell_state(out);
        }
    }

    fn leave_phase(&mut self) {
        if let Phase::Leading(leading) = std::mem::replace(&mut self.phase, Phase::Idle) {
            for (slot, batch) in leading.into_batches() {
                self.orphans.entry(slot).or_default().insert(batch);
            }
        }
    }

    fn window_end(&self) -> Slot {
        let alpha = self
            .memberships
            .as_ref()
            .and_then(|memberships| memberships.governing(self.chosen_through.next()))
            .map_or(0, |membership| membership.alpha());
        self.chosen_through.plus(alpha.min(self.limits.open_slots_max))
    }

    fn saw(&mut self, id: ProposalId) {
        self.highest = self.highest.max(id.number);
    }

    fn saw_vote(&mut self, from: NodeId, sequence: Sequence) {
        if from != self.me {
            let seen = self.votes_seen.entry(from).or_default();
            *seen = (*seen).max(sequence);
        }
    }

    fn tell_state(&self, out: &mut Vec<Effect>) {
        out.push(Effect::Local(Local::Election(ElectionInput::Proposer(self.state()))));
    }

    fn watermark(&self) -> Option<Slot> {
        match &self.phase {
            Phase::Leading(leading) => Some(leading.watermark()),
            _ => None,
        }
    }

    fn tell_watermark(&self, out: &mut Vec<Effect>) {
        if let Some(through) = self.watermark() {
            out.push(Effect::Local(Local::Election(ElectionInput::Watermark { through })));
        }
    }
}
