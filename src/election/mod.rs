//! Election: when to campaign, and when to stop leading.
//!
//! Pure, like the roles. Safety never rests on it: two nodes that campaign at once cost time, not agreement.
//!
//! - [`heartbeat`](Election::heartbeat): a node that has not heard a leader for the liveness window asks the others
//!   (pre-prepare, 8.1), and campaigns when a quorum hears none either.
//! - [`external`](Election::external): the application says when.
//!
//! Either way a leader pulses, and steps down when no quorum answers (8.2).

mod external;
mod heartbeat;
mod pulse;

use crate::multi::{
    Briefing, Effect, ElectionInput, Event, Jitter, Local, Memberships, Message, ProposerInput,
    ProposerState, Slot, Time,
};
use crate::paxos::{NodeId, ProposalId};
use external::External;
use heartbeat::Heartbeat;
use pulse::Pulse;
use std::collections::BTreeSet;
use std::time::Duration;

/// How often a leader speaks, how long it may be silent, and how campaigns are spaced.
#[derive(Clone, Debug)]
pub struct Timing {
    /// How often a leader says that it is alive.
    pub heartbeat: Duration,
    /// How long a leader may be silent; jittered upwards by up to half.
    pub liveness_window: Duration,
    /// The longest pause between two campaigns.
    pub campaign_pause_max: Duration,
    /// A node waits so many heartbeats longer than others before it asks: 0 leads first (8.1).
    pub priority: u32,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_millis(50),
            liveness_window: Duration::from_millis(300),
            campaign_pause_max: Duration::from_secs(2),
            priority: 0,
        }
    }
}

/// When this node campaigns, and whether it leads with a quorum's contact.
#[derive(Debug)]
pub struct Election {
    view: View,
    mode: Mode,
    pulse: Option<Pulse>,
    /// Shared noise of all time-outs.
    jitter: Jitter,
    healthy: bool,
    stalled: bool,
    disk_well: bool,
    /// What heartbeats say beside the id.
    news: News,
    armed: Option<Time>,
}

/// What a leader's heartbeats say beside its id.
#[derive(Clone, Copy, Debug, Default)]
struct News {
    watermark: Slot,
    held_through: Slot,
    lease: bool,
}

/// Who decides when to campaign.
#[derive(Debug)]
enum Mode {
    Heartbeat(Heartbeat),
    External(External),
}

/// What is known of the cluster and its leader: the part that every mode looks at.
#[derive(Debug)]
struct View {
    me: NodeId,
    timing: Timing,
    memberships: Option<Memberships>,
    chosen_through: Slot,
    votes: bool,
    links: BTreeSet<NodeId>,
    promised: Option<ProposalId>,
    leader: Option<Leader>,
}

/// The leader that was heard or named last.
#[derive(Clone, Copy, Debug)]
struct Leader {
    id: ProposalId,
    /// When this node itself heard it; others' word does not count (8.1), or two could keep a dead leader alive.
    heard: Option<Time>,
    /// Its connection was closed and has not returned.
    gone: bool,
}

impl View {
    /// Whether this node may campaign (6.4).
    fn may_lead(&self) -> bool {
        self.votes && self.governing().is_some_and(|membership| membership.may_lead(self.me))
    }

    fn governing(&self) -> Option<&crate::multi::Membership> {
        self.memberships.as_ref().and_then(|all| all.governing(self.chosen_through.next()))
    }

    /// How long a voter grants the leader; zero without leases.
    fn lease(&self) -> Duration {
        self.governing().map_or(Duration::ZERO, crate::multi::Membership::lease)
    }

    fn voters(&self) -> Vec<NodeId> {
        self.governing().map(|membership| membership.voting().collect()).unwrap_or_default()
    }

    /// The leader, if it was heard within the window and not overtaken by a promise (8.1).
    fn live_leader(&self, now: Time) -> Option<ProposalId> {
        self.leader
            .filter(|leader| !leader.gone)
            .filter(|leader| leader.heard.is_some_and(|at| now.since(at) < self.timing.liveness_window))
            .filter(|leader| Some(leader.id) >= self.promised)
            .map(|leader| leader.id)
    }

    /// Nobody vouches for a leader that is not heard: then there is none to follow.
    fn forget_silent_leader(&mut self, now: Time) {
        if self.live_leader(now).is_none() {
            self.leader = None;
        }
    }
}

impl Election {
    /// The node decides by itself. `seed` feeds the jitter of its time-outs.
    pub fn heartbeat(me: NodeId, timing: Timing, seed: u64) -> Self {
        Self::new(me, timing, seed, Mode::Heartbeat(Heartbeat::default()))
    }

    /// The application decides.
    pub fn external(me: NodeId, timing: Timing, seed: u64) -> Self {
        Self::new(me, timing, seed, Mode::External(External))
    }

    fn new(me: NodeId, timing: Timing, seed: u64, mode: Mode) -> Self {
        let view = View {
            me,
            timing,
            memberships: None,
            chosen_through: Slot::ZERO,
            votes: false,
            links: BTreeSet::new(),
            promised: None,
            leader: None,
        };
        Self {
            view,
            mode,
            pulse: None,
            jitter: Jitter::new(seed),
            healthy: true,
            stalled: false,
            disk_well: true,
            news: News::default(),
            armed: None,
        }
    }

    /// The leader that this node follows, itself included.
    pub fn leader(&self) -> Option<ProposalId> {
        match &self.pulse {
            Some(pulse) => Some(pulse.id()),
            None => self.view.leader.map(|leader| leader.id),
        }
    }

    /// Takes one input.
    pub fn step(&mut self, now: Time, input: ElectionInput, out: &mut Vec<Effect>) {
        let before = self.leader();
        let led = self.pulse.is_some();
        match input {
            ElectionInput::Message { from, message } => self.on_message(now, from, message, out),
            ElectionInput::Heard { id } => self.on_heard(now, id, out),
            ElectionInput::Promised { id } => self.on_promised(now, id),
            ElectionInput::Proposer(state) => self.on_proposer(now, state),
            ElectionInput::Watermark { through } => {
                self.news.watermark = through;
                self.view.chosen_through = self.view.chosen_through.max(through);
            }
            ElectionInput::Held { through } => self.news.held_through = through,
            ElectionInput::Lease(asks) => self.news.lease = asks,
            ElectionInput::Campaign => self.on_campaign(out),
            ElectionInput::StepDown => self.step_down(out),
            ElectionInput::Briefing(briefing) => self.on_briefing(now, briefing),
            ElectionInput::Stalled(stalled) => self.stalled = stalled,
            ElectionInput::Healthy(healthy) => self.healthy = healthy,
            ElectionInput::DiskWell(well) => self.on_disk_well(well, out),
            ElectionInput::LinkUp { peer } => self.on_link_up(now, peer),
            ElectionInput::LinkDown { peer } => self.on_link_down(now, peer),
            ElectionInput::Wake => self.on_wake(now, out),
        }
        self.tell_leader(before, led, out);
        self.arm(out);
    }

    fn on_message(&mut self, now: Time, from: NodeId, message: Message, out: &mut Vec<Effect>) {
        match message {
            Message::PrePrepare { nonce } => {
                let leader = match &self.pulse {
                    Some(pulse) => pulse.has_contact(now, &self.view).then(|| pulse.id()),
                    None => self.view.live_leader(now),
                };
                let message = Message::PrePrepareAnswer { nonce, leader };
                out.push(Effect::Send { to: from, message, after: None });
            }
            Message::PrePrepareAnswer { nonce, leader } => {
                if let Mode::Heartbeat(detector) = &mut self.mode {
                    detector.on_answer(now, from, nonce, leader, &mut self.view, &mut self.jitter, out);
                }
            }
            Message::HeartbeatAck { id, durable_through, witness, pulse: count } => {
                if let Some(pulse) = self.pulse.as_mut().filter(|pulse| pulse.id() == id) {
                    pulse.answered(now, from, count);
                    let progress = ProposerInput::Progress { peer: from, durable_through, witness };
                    out.push(Effect::Local(Local::Proposer(progress)));
                    let next = self.view.chosen_through.next();
                    if let Some(until) = pulse.lease_until(&self.view).filter(|_| self.news.lease) {
                        out.push(Effect::Local(Local::Proposer(ProposerInput::Lease { until, next })));
                    }
                }
            }
            Message::TakeOver { id } => self.on_take_over(id, out),
            _ => {}
        }
    }

    /// The own acceptor follows `id`; a leader with a higher id is not displaced by it.
    fn on_heard(&mut self, now: Time, id: ProposalId, out: &mut Vec<Effect>) {
        let known = self.leader().filter(|known| *known > id);
        if Some(id) < self.view.promised || known.is_some() || id.node == self.view.me {
            return;
        }
        if self.pulse.as_ref().is_some_and(|pulse| pulse.id() < id) {
            self.step_down(out);
        }
        self.view.leader = Some(Leader { id, heard: Some(now), gone: false });
        if let Mode::Heartbeat(detector) = &mut self.mode {
            detector.on_leader(now, &self.view, &mut self.jitter, out);
        }
    }

    /// A promise to a candidate: it gets time to lead before anyone else tries.
    fn on_promised(&mut self, now: Time, id: ProposalId) {
        self.view.promised = self.view.promised.max(Some(id));
        if self.view.leader.is_some_and(|leader| leader.id < id) {
            self.view.leader = None;
        }
        if let Mode::Heartbeat(detector) = &mut self.mode {
            detector.on_promised(now, &self.view, &mut self.jitter);
        }
    }

    fn on_proposer(&mut self, now: Time, state: ProposerState) {
        match state {
            ProposerState::Leading { id } => {
                if self.pulse.as_ref().is_none_or(|pulse| pulse.id() != id) {
                    self.pulse = Some(Pulse::new(now, id, &self.view));
                    self.view.leader = None;
                    self.stalled = false;
                    self.news = News { lease: true, ..News::default() };
                }
            }
            // A leader that wins phase 1 anew (2.4) goes on as one, under its old id meanwhile.
            ProposerState::Preparing { .. } => {}
            ProposerState::Idle => self.pulse = None,
        }
        if let Mode::Heartbeat(detector) = &mut self.mode {
            detector.on_proposer(now, state, &self.view, &mut self.jitter);
        }
    }

    fn on_briefing(&mut self, now: Time, briefing: Briefing) {
        self.view.chosen_through = self.view.chosen_through.max(briefing.chosen_through);
        self.view.promised = self.view.promised.max(briefing.promised);
        self.view.votes = briefing.votes;
        self.view.memberships = briefing.memberships;
        if let Mode::Heartbeat(detector) = &mut self.mode {
            detector.on_briefing(now, &self.view, &mut self.jitter);
        }
    }

    fn on_campaign(&mut self, out: &mut Vec<Effect>) {
        if let Mode::External(external) = &self.mode {
            external.campaign(&self.view, self.pulse.is_some(), out);
        }
    }

    /// The leader under `id` wants this node to lead, at once (8.5).
    fn on_take_over(&mut self, id: ProposalId, out: &mut Vec<Effect>) {
        let is_present = Some(id) >= self.view.promised;
        if is_present && self.view.may_lead() && self.is_well() && self.pulse.is_none() {
            out.push(Effect::Local(Local::Proposer(ProposerInput::Campaign)));
        }
    }

    fn is_well(&self) -> bool {
        self.healthy && self.disk_well
    }

    /// A leader whose disk does not keep up steps down, and is not elected before it does again.
    fn on_disk_well(&mut self, well: bool, out: &mut Vec<Effect>) {
        self.disk_well = well;
        if !well && self.pulse.is_some() {
            self.step_down(out);
        }
    }

    fn on_link_up(&mut self, now: Time, peer: NodeId) {
        self.view.links.insert(peer);
        if let Some(leader) = self.view.leader.as_mut().filter(|leader| leader.id.node == peer) {
            leader.gone = false;
        }
        if let Some(pulse) = &mut self.pulse {
            pulse.hurry(now);
        }
    }

    fn on_link_down(&mut self, now: Time, peer: NodeId) {
        self.view.links.remove(&peer);
        if let Some(leader) = self.view.leader.as_mut().filter(|leader| leader.id.node == peer) {
            leader.gone = true;
            if let Mode::Heartbeat(detector) = &mut self.mode {
                detector.on_leader_gone(now, &self.view, &mut self.jitter);
            }
        }
    }

    fn on_wake(&mut self, now: Time, out: &mut Vec<Effect>) {
        self.armed = None;
        if let Some(pulse) = &mut self.pulse {
            if !pulse.has_contact(now, &self.view) {
                self.step_down(out);
                return;
            }
            let silent = !self.healthy || self.stalled;
            pulse.beat(now, self.news, silent, &self.view, out);
        } else {
            let well = self.is_well();
            if let Mode::Heartbeat(detector) = &mut self.mode {
                detector.on_wake(now, &mut self.view, &mut self.jitter, well, out);
            }
        }
    }

    /// Falls silent at once; the proposer follows (8.2).
    fn step_down(&mut self, out: &mut Vec<Effect>) {
        self.pulse = None;
        out.push(Effect::Local(Local::Proposer(ProposerInput::StepDown)));
    }

    fn tell_leader(&self, before: Option<ProposalId>, led: bool, out: &mut Vec<Effect>) {
        let after = self.leader();
        match &self.pulse {
            Some(pulse) if before != Some(pulse.id()) || !led => {
                out.push(Effect::Event(Event::Acquired { id: pulse.id() }));
            }
            Some(_) => {}
            None => {
                if led {
                    out.push(Effect::Event(Event::Lost));
                }
                if after != before {
                    out.push(Effect::Event(Event::Changed { leader: after }));
                }
            }
        }
    }

    /// Asks to be woken at the next thing that is due.
    fn arm(&mut self, out: &mut Vec<Effect>) {
        let due = match (&self.pulse, &self.mode) {
            (Some(pulse), _) => Some(pulse.due()),
            (None, Mode::Heartbeat(detector)) => detector.due(),
            (None, Mode::External(_)) => None,
        };
        if let Some(due) = due.filter(|due| self.armed != Some(*due)) {
            self.armed = Some(due);
            out.push(Effect::Deadline(due));
        }
    }
}
