//! The proposer: one phase 1 for all later slots, then a window of open slots in phase 2.
//!
//! In: `Promise`, `Nack`, `Accepted`, `Confirmed`; batches, reads, operators' calls; the election's word when to campaign.
//! Out: `Accept`, `Confirm`; the watermark; answers.
//! Durable: nothing of its own. Its id is promised by its own acceptor before `Prepare` leaves (1.3), and a proposer
//! that is rebuilt begins with a new one.
//! Invariants: P1 one value per id and slot (2.1). P2 nothing is proposed before phase 1 covers the slot in its
//! membership (1.6), at a slot that is learned, or more than α above `chosen_through` (6.2). P3 what was accepted before is
//! proposed again before anything new (1.7). P4 the watermark covers only what it proposed itself (3.2).
//! Knows nothing of: clients, the disk, when to campaign.

mod changing;
mod reading;

use crate::multi::effect::{
    AcceptorInput, Briefing, Effect, ElectionInput, Event, LearnerInput, Local, ProposerInput, ProposerState,
};
use crate::multi::jitter::Jitter;
use crate::multi::leading::{Chosen, Leading};
use crate::multi::limits::Limits;
use crate::multi::membership::{Membership, Memberships};
use crate::multi::message::{Message, Page};
use crate::multi::phase1::Phase1;
use crate::multi::record::{Sequence, Value};
use crate::multi::slot::{Interval, Slot, Time};
use crate::paxos::{NodeId, ProposalId};
use bytes::Bytes;
use changing::Changing;
use reading::Reading;
use std::collections::{BTreeMap, BTreeSet};

/// The proposer of Multi-Paxos.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
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
    /// Measured after each step.
    room: u64,
}

/// What it is doing; one at a time.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Phase {
    Idle,
    Preparing(Phase1),
    Leading(Box<Led>),
}

/// All that ends with the lead.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Led {
    leading: Leading,
    reading: Reading,
    changing: Changing,
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
            room: 0,
        }
    }

    /// What it is doing.
    pub fn state(&self) -> ProposerState {
        match &self.phase {
            Phase::Idle => ProposerState::Idle,
            Phase::Preparing(phase1) => ProposerState::Preparing { id: phase1.id },
            Phase::Leading(led) => ProposerState::Leading { id: led.leading.id() },
        }
    }

    /// How many batches it would propose at once now; zero while it does not lead, recovers, hands over, puts a membership in
    /// force, or its window is full.
    pub fn room(&self) -> u64 {
        self.room
    }

    fn measure_room(&mut self) {
        if self.led().is_none() {
            self.room = 0;
            return;
        }
        let (end, fill) = (self.end(), self.fill_through());
        self.room = match (&self.phase, end) {
            (Phase::Leading(led), Some(end))
                if led.leading.is_recovered()
                    && led.leading.next() > fill
                    && !led.changing.is_handing_over()
                    && led.leading.open_bytes() < self.limits.unacknowledged_bytes_max =>
            {
                end.get().saturating_add(1).saturating_sub(led.leading.next().get())
            }
            _ => 0,
        };
    }

    /// How far a read that arrives now has to wait (7.1), while this node leads.
    pub fn read_mark(&self) -> Option<(ProposalId, Slot)> {
        self.led().map(|led| (led.leading.id(), led.leading.read_mark()))
    }

    /// Takes one input.
    pub fn step(&mut self, now: Time, input: ProposerInput, out: &mut Vec<Effect>) {
        match input {
            ProposerInput::Message { from, message } => self.on_message(now, from, message, out),
            ProposerInput::Propose { batch } => self.on_propose(now, batch, out),
            ProposerInput::Read { tickets, lease } => self.on_read(now, &tickets, lease, out),
            ProposerInput::Lease { until, next } => self.on_lease(until, next),
            ProposerInput::Admin { ticket, call } => self.on_admin(now, ticket, call, out),
            ProposerInput::Progress { peer, durable_through, witness } => {
                self.on_progress(now, peer, durable_through, witness, out);
            }
            ProposerInput::Campaign => self.campaign(now, out),
            ProposerInput::StepDown => self.step_down(out),
            ProposerInput::Learned { values } => self.on_learned(now, &values, out),
            ProposerInput::Briefing(briefing) => self.on_briefing(now, briefing, out),
            ProposerInput::Promised { id } => {
                self.saw(id);
                self.yield_to(id, out);
            }
            ProposerInput::Saw { id } => self.saw(id),
            ProposerInput::LinkUp { peer } => {
                if let Phase::Leading(led) = &mut self.phase {
                    led.leading.on_link_up(now, peer);
                    self.resend(now, out);
                }
            }
            ProposerInput::LinkDown { peer } => {
                if let Phase::Leading(led) = &mut self.phase {
                    led.leading.on_link_down(peer);
                }
            }
            ProposerInput::Wake => self.on_wake(now, out),
        }
        self.measure_room();
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
            Message::Confirmed { id, nonce } => self.on_confirmed(now, from, id, nonce, out),
            Message::Nack { asked, promised } => self.on_nack(now, from, asked, promised, out),
            _ => {}
        }
    }

    fn on_briefing(&mut self, now: Time, briefing: Briefing, out: &mut Vec<Effect>) {
        if self.memberships != briefing.memberships {
            self.memberships = briefing.memberships;
            if let Phase::Leading(led) = &mut self.phase {
                led.leading.memberships_changed();
            }
        }
        let jumped = self.chosen_through < briefing.chosen_through;
        self.chosen_through = self.chosen_through.max(briefing.chosen_through);
        let above = self.orphans.split_off(&self.chosen_through.next());
        for batch in std::mem::replace(&mut self.orphans, above).into_values().flatten() {
            out.push(Effect::Event(Event::BatchLost { batch }));
        }
        if let Some(id) = briefing.promised {
            self.saw(id);
        }
        self.votes = briefing.votes;
        // What a base that was installed covers is never learned slot by slot: another has led, or will.
        if !self.votes || jumped && self.led().is_some() {
            self.step_down(out);
        }
        // This role or the election may have been built anew: they have to agree on what is going on.
        self.tell_state(out);
        self.tell_watermark(out);
        self.try_to_lead(now, out);
    }

    fn led(&self) -> Option<&Led> {
        match &self.phase {
            Phase::Leading(led) => Some(led),
            _ => None,
        }
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
        // Those of a membership that is about to come into force are asked along (6.3).
        let (first, last) = (self.chosen_through.next(), self.chosen_through.plus(membership.alpha()).next());
        let all = self.memberships.iter().flat_map(|all| all.governing_any(first, last));
        let to: BTreeSet<NodeId> = all.flat_map(Membership::voting).collect();
        let Ok(id) = ProposalId::above(self.highest, self.me) else {
            out.push(Effect::Event(Event::ProposalIdExhausted));
            self.step_down(out);
            self.tell_state(out);
            return;
        };
        self.leave_phase(out);
        self.highest = id.number;
        self.phase = Phase::Preparing(Phase1::new(id, now + self.limits.campaign_timeout));
        self.tell_state(out);
        out.push(Effect::Local(Local::Acceptor(AcceptorInput::Candidate {
            id,
            to: to.into_iter().collect(),
        })));
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
        match &mut self.phase {
            Phase::Preparing(phase1) if phase1.id == id => {
                phase1.gather(from, chosen_through, page);
                phase1.expires = now + self.limits.campaign_timeout;
                self.tell_state(out);
                self.try_to_lead(now, out);
            }
            Phase::Leading(led) if led.leading.id() == id => {
                led.leading.gather(from, chosen_through, page);
                self.learn_first(out);
                self.advance(now, out);
                self.look_at_reads(now, out);
            }
            _ => {}
        }
    }

    /// A promise says that more is chosen than this leader has learned: that comes first (1.5).
    fn learn_first(&self, out: &mut Vec<Effect>) {
        if let Some((through, peer)) = self.led().and_then(|led| led.leading.behind(self.chosen_through)) {
            self.tell_behind(peer, through, out);
        }
    }

    fn tell_behind(&self, peer: NodeId, through: Slot, out: &mut Vec<Effect>) {
        if peer != self.me {
            let behind = LearnerInput::Behind { peer, through, chosen_through: self.chosen_through };
            out.push(Effect::Local(Local::Learner(behind)));
        }
    }

    /// Leads once phase 1 is won for everything above what is chosen, and that is learned (1.5).
    fn try_to_lead(&mut self, now: Time, out: &mut Vec<Effect>) {
        let Phase::Preparing(phase1) = &self.phase else { return };
        let Some(memberships) = &self.memberships else { return };
        if let Some((through, peer)) =
            phase1.chosen_through().filter(|(through, _)| *through > self.chosen_through)
        {
            self.tell_behind(peer, through, out);
            return;
        }
        if !phase1.is_won_above(self.chosen_through, memberships) {
            return;
        }
        let Phase::Preparing(phase1) = std::mem::replace(&mut self.phase, Phase::Idle) else { return };
        let leading = Leading::new(phase1, self.chosen_through);
        let led = Led { leading, reading: Reading::default(), changing: Changing::default() };
        self.phase = Phase::Leading(Box::new(led));
        self.tell_state(out);
        self.tell_watermark(out);
        self.advance(now, out);
    }

    // ---------------------------------------------------------------- phase 2

    fn on_propose(&mut self, now: Time, batch: Bytes, out: &mut Vec<Effect>) {
        if self.room == 0 {
            out.push(Effect::Event(Event::BatchRefused { batch }));
            return;
        }
        self.propose(now, Value::Batch(batch), out);
    }

    /// Phase 2a for all that does not come from clients, as far as the window goes: what phase 1 brought to light, in slot
    /// order (1.7), a membership that is wanted, and the no-ops that put it in force (6.2).
    fn advance(&mut self, now: Time, out: &mut Vec<Effect>) {
        if self.led().is_none() {
            return;
        }
        self.ask_promises(now, out);
        loop {
            let (end, fill) = (self.end(), self.fill_through());
            let Phase::Leading(led) = &mut self.phase else { return };
            let next = led.leading.next();
            if end.is_none_or(|end| next > end) {
                break;
            }
            let value = if !led.leading.is_recovered() {
                led.leading.take_recovered()
            } else if next <= fill {
                Value::Noop
            } else if let Some(membership) = self.next_membership(now, out) {
                Value::Membership(membership)
            } else {
                break;
            };
            self.propose(now, value, out);
        }
        self.hand_over(now, out);
    }

    /// Phase 1 under the present id in a membership that comes into force soon, before the first slot that it governs (6.3).
    fn ask_promises(&mut self, now: Time, out: &mut Vec<Effect>) {
        let (Phase::Leading(led), Some(memberships)) = (&mut self.phase, &self.memberships) else { return };
        let next = led.leading.next();
        let alpha = memberships.governing(self.chosen_through.next()).map_or(0, Membership::alpha);
        let last = self.chosen_through.plus(alpha).next();
        if !led.leading.is_due_to_ask(now, last, self.limits.resend) {
            return;
        }
        let id = led.leading.id();
        for to in led.leading.unpromised(next, last, memberships) {
            let message = Message::Prepare { id, from: self.chosen_through.next() };
            out.push(Effect::Send { to, message, after: None });
        }
    }

    /// The last slot at which this node may propose now: in the window, under a membership in which it may lead and has won
    /// phase 1 (1.6, 6.2, 6.3).
    fn end(&mut self) -> Option<Slot> {
        let window_end = self.window_end();
        let (Phase::Leading(led), Some(memberships)) = (&mut self.phase, &self.memberships) else {
            return None;
        };
        let won_until = led.leading.won_until(memberships)?;
        let may_lead = memberships.governing(led.leading.next()).is_some_and(|all| all.may_lead(self.me));
        may_lead.then(|| won_until.min(window_end))
    }

    /// The last slot that has to be filled so that a membership that is chosen or proposed comes into force.
    fn fill_through(&self) -> Slot {
        let coming = self.memberships.as_ref().and_then(|all| all.coming(self.chosen_through.next()));
        let coming = coming.map_or(Slot::ZERO, |first| first.minus(1));
        self.led().map_or(coming, |led| led.leading.fill_through().max(coming))
    }

    /// Phase 2a: asks every voter of the slot's membership to accept `value` at the next slot.
    fn propose(&mut self, now: Time, value: Value, out: &mut Vec<Effect>) {
        let Phase::Leading(led) = &mut self.phase else { return };
        let leading = &mut led.leading;
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
        let Phase::Leading(led) = &mut self.phase else { return };
        let Some(memberships) = &self.memberships else { return };
        let leading = &mut led.leading;
        if leading.id() != id {
            return;
        }
        let chosen = leading.count(from, slots, memberships);
        leading.send_waiting(now, from, memberships, &self.limits, out);
        if chosen == Chosen::Further {
            let (id, watermark, first) = (leading.id(), leading.watermark(), leading.next());
            let message = Message::Accept { id, first, values: Vec::new(), watermark };
            out.push(Effect::Local(Local::Acceptor(AcceptorInput::Message { from: self.me, message })));
            self.tell_watermark(out);
            self.advance(now, out);
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
        self.yield_to(promised, out);
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
            Phase::Leading(led) if led.leading.id() == asked => {
                let pause = self.jitter.between(self.limits.resend / 4, self.limits.resend);
                if led.leading.nacked(from, now + pause, memberships) {
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
            if let Value::Membership(membership) = value {
                self.learn_membership(*slot, membership);
            }
            for batch in self.orphans.remove(slot).into_iter().flatten() {
                if !matches!(value, Value::Batch(chosen) if *chosen == batch) {
                    out.push(Effect::Event(Event::BatchLost { batch }));
                }
            }
            if let Phase::Leading(led) = &mut self.phase
                && let Err(lost) = led.leading.learned(*slot, value)
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
        self.advance(now, out);
        self.look_at_reads(now, out);
    }

    fn learn_membership(&mut self, slot: Slot, membership: &Membership) {
        if let Some(memberships) = &mut self.memberships {
            memberships.learn(slot, membership);
        }
        if let Phase::Leading(led) = &mut self.phase {
            led.leading.memberships_changed();
        }
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
            Phase::Leading(led) if led.leading.renew_at().is_some_and(|at| at <= now) => {
                self.campaign(now, out);
                return;
            }
            Phase::Leading(led) => {
                let stalled = led.leading.is_stalled(now, self.limits.open_slot_age_max);
                out.push(Effect::Local(Local::Election(ElectionInput::Stalled(stalled))));
                self.resend(now, out);
                self.learn_first(out);
                self.advance(now, out);
                self.confirm_again(now, out);
            }
        }
        self.wake_soon(now, out);
    }

    /// Sends open slots again whose answer is overdue (2.3).
    fn resend(&mut self, now: Time, out: &mut Vec<Effect>) {
        let Phase::Leading(led) = &mut self.phase else { return };
        let Some(memberships) = &self.memberships else { return };
        let leading = &mut led.leading;
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
            self.leave_phase(out);
            self.tell_state(out);
        }
    }

    fn leave_phase(&mut self, out: &mut Vec<Effect>) {
        if let Phase::Leading(led) = std::mem::replace(&mut self.phase, Phase::Idle) {
            let Led { leading, reading, changing } = *led;
            reading.end(out);
            changing.end(out);
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
            Phase::Leading(led) => Some(led.leading.watermark()),
            _ => None,
        }
    }

    fn tell_watermark(&self, out: &mut Vec<Effect>) {
        if let Some(through) = self.watermark() {
            out.push(Effect::Local(Local::Election(ElectionInput::Watermark { through })));
        }
    }
}
