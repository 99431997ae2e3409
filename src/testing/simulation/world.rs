//! The world: machines, network, disks and clients on one virtual clock.
//!
//! One thread, one source of randomness, ordered maps: the same seed gives the same history, in any process.

mod clients;
mod disks;
mod network;
mod nodes;
mod operators;
mod outages;
mod snapshots;

use super::breakage::Breakage;
use super::checks::Checks;
use super::event::{Event, Schedule};
use super::fault::Fault;
use super::machine::Machine;
use super::report::Report;
use super::shorten::Drawn;
use super::simulated::Simulated;
use super::state::{SESSIONS_MAX, State, mix_word};
use super::story::Story;
use super::violation::Violation;
use super::weather::Weather;
use super::{Options, PATIENCE};
use crate::multi::{Effect, Jitter, Membership, Role, Slot, Time};
use crate::paxos::NodeId;
use crate::testing::Operation;
use clients::Client;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Nodes that may join in one run.
const JOINERS_MAX: usize = 5;

/// A cluster with its surroundings.
pub(super) struct World<S: Simulated> {
    options: Options,
    new: fn() -> S,
    now: Time,
    schedule: Schedule,
    random: Jitter,
    weather: Weather,
    /// The faults go on.
    faulty: bool,
    membership: Membership,
    sessions_max: u32,
    machines: BTreeMap<NodeId, Machine<S>>,
    /// Connections that stand, by sender and receiver.
    links: BTreeSet<(NodeId, NodeId)>,
    cut: BTreeSet<(NodeId, NodeId)>,
    last_arrival: BTreeMap<(NodeId, NodeId), u64>,
    clients: Vec<Client<S>>,
    history: Vec<Operation<S::Command, S::Reply>>,
    checks: Checks<S>,
    counts: BTreeMap<&'static str, u64>,
    /// Faults that were drawn, whether they were let happen or not.
    drawn: Drawn,
    /// Room for what a step asks for.
    effects: Vec<(Role, Effect)>,
    /// A machine that was lost for good, and the one that is to replace it.
    lost: Option<(NodeId, NodeId)>,
    /// Somebody applied something since this was last looked at.
    has_applied: bool,
    trace: u64,
    story: Story,
    violation: Option<Violation>,
}

impl<S: Simulated> World<S> {
    /// The world of a seed, before anything happens. `None` if nobody is to vote in it.
    pub(super) fn new(options: Options, new: fn() -> S, told: bool) -> Option<Self> {
        let mut random = Jitter::new(options.seed.wrapping_mul(0x2545_f491_4f6c_dd1d) ^ 0x5eed);
        let mut weather = Weather::draw(&mut random, &options.faults);
        if let Some(safety) = options.safety {
            weather.safety = safety;
        }
        options.less.lighten(&mut weather);
        let drawn = if random.draw().is_multiple_of(5) { 5 } else { 3 };
        let nodes = options.nodes.unwrap_or(drawn);
        if nodes < 3 {
            // Nobody else has what is damaged.
            weather.rot.clear();
            weather.every.retain(|(fault, _)| *fault != Fault::Rot);
        }
        let ids: Vec<NodeId> = (1..=nodes).map(NodeId::new).collect();
        let alpha = match random.draw() % 3 {
            0 => 1,
            1 => 3,
            _ => 64,
        };
        let sessions_max = if random.draw().is_multiple_of(4) { 3 } else { SESSIONS_MAX };
        let membership = Membership::voters(ids.iter().map(|id| (*id, ""))).ok()?;
        let membership = membership.with_alpha(alpha).ok()?.with_sessions_max(sessions_max);
        let mut state = State::new(new(), sessions_max);
        state.repeats = options.breakage == Some(Breakage::RepeatedCommand);
        let random = options.less.salted(random);
        let clients = (0..weather.clients).map(|_| Client::new()).collect();
        let mut world = Self {
            new,
            now: Time::ZERO,
            schedule: Schedule::default(),
            random,
            faulty: true,
            sessions_max,
            machines: BTreeMap::new(),
            links: BTreeSet::new(),
            cut: BTreeSet::new(),
            last_arrival: BTreeMap::new(),
            clients,
            history: Vec::new(),
            checks: Checks::new(&membership, state),
            counts: BTreeMap::new(),
            drawn: Drawn::default(),
            effects: Vec::new(),
            lost: None,
            has_applied: false,
            trace: options.seed,
            story: Story::new(told),
            violation: None,
            options,
            weather,
            membership,
        };
        world.begin(&ids);
        Some(world)
    }

    fn begin(&mut self, ids: &[NodeId]) {
        for id in ids {
            let machine = Machine::new(*id, self.new_state());
            self.machines.insert(*id, machine);
        }
        ids.iter().for_each(|id| self.restart(*id));
        self.after(self.weather.safety, Event::EndOfFaults);
        self.after(self.weather.fill_every, Event::Fill);
        for client in 0..self.clients.len() {
            let begins = self.micros(1_000, 200_000);
            self.after(begins, Event::Client { client, turn: 0 });
        }
        for (fault, every) in self.weather.every.clone() {
            let first = self.spread(every);
            self.after(first, Event::Fault(fault));
        }
    }

    fn new_state(&self) -> State<S> {
        let mut state = State::new((self.new)(), self.sessions_max);
        state.repeats = self.is_broken(Breakage::RepeatedCommand);
        state
    }

    /// Runs to the end: until the faults have ended and the cluster has served, or something is wrong.
    pub(super) fn run(&mut self) -> Result<Report, Violation> {
        let mut ends = None;
        while self.violation.is_none() {
            let Some((at, event)) = self.schedule.pop() else { break };
            if ends.is_some_and(|(_, end)| at > end) {
                break;
            }
            self.now = at;
            if matches!(event, Event::EndOfFaults) {
                ends = Some((self.checks.agreement.count(), self.now + PATIENCE));
            }
            self.handle(event);
            if let Some((before, _)) = ends
                && std::mem::take(&mut self.has_applied)
                && self.is_served(before)
            {
                break;
            }
        }
        if let Some(violation) = self.violation.take() {
            return Err(violation);
        }
        let before = ends.map_or(0, |(before, _)| before);
        if !self.is_served(before) {
            return Err(self.not_served());
        }
        self.checks.finish()?;
        S::check(&self.history).map_err(|why| Violation::HistoryWrong { why })?;
        Ok(self.report())
    }

    fn report(&self) -> Report {
        Report {
            seed: self.options.seed,
            nodes: self.membership.members().len() as u64,
            slots: self.checks.agreement.count() as u64,
            operations: self.history.iter().filter(|operation| operation.output.is_some()).count() as u64,
            simulated: self.now.since(Time::ZERO),
            faults: self.counts.clone(),
            trace: self.trace,
        }
    }

    fn not_served(&self) -> Violation {
        let node = |(id, machine): (&NodeId, &Machine<S>)| {
            let state = machine.node.as_ref().map(|node| node.proposer.state());
            format!("n{id} applied {} and is {state:?}", self.checks.cursors.applied_through(*id))
        };
        Violation::NotServed {
            waited: PATIENCE,
            chosen: self.checks.agreement.count(),
            nodes: self.machines.iter().map(node).collect::<Vec<_>>().join(", "),
        }
    }

    /// Ten new slots are chosen since the healing, and every node has applied all of them.
    fn is_served(&self, before: usize) -> bool {
        let target = Slot::new(before as u64 + 10);
        let applied = |id: &NodeId| self.checks.cursors.applied_through(*id) >= target;
        self.lost.is_none()
            && self.checks.agreement.count() as u64 >= target.get()
            && self.checks.agreement.newest_members().iter().all(applied)
    }

    /// What happened, of what has to do with `violation`.
    pub(super) fn history_of(&self, violation: &Violation, lines: usize) -> Vec<String> {
        self.story.about(violation, self.now, &self.history, lines)
    }

    /// All that happened, as far as it was recorded.
    pub(super) fn whole_history(&self) -> Vec<String> {
        self.story.all()
    }

    /// The kinds of faults that occurred.
    pub(super) fn kinds(&self) -> Vec<Fault> {
        Fault::ALL.iter().copied().filter(|fault| self.counts.contains_key(fault.name())).collect()
    }

    /// How many faults were drawn.
    pub(super) fn drawn(&self) -> Drawn {
        self.drawn
    }

    /// How many calls clients began.
    pub(super) fn operations(&self) -> usize {
        self.history.len()
    }

    /// How many clients there are.
    pub(super) fn clients(&self) -> usize {
        self.clients.len()
    }

    /// The digest of all that happened so far.
    pub(super) fn trace(&self) -> u64 {
        self.trace
    }

    /// When it is.
    pub(super) fn elapsed(&self) -> Duration {
        self.now.since(Time::ZERO)
    }

    fn handle(&mut self, event: Event) {
        let paused = event.node().and_then(|node| self.machines.get_mut(&node)?.paused.as_mut());
        if let Some(held) = paused {
            held.push(event);
            return;
        }
        match event {
            Event::Arrive { from, to, message, number } => self.arrive(from, to, message, number),
            Event::LinkDown { from, to } => self.notice_down(from, to),
            Event::Connect { from, to } => self.connect(from, to),
            Event::Refused { node, by, refusal, life } => self.refused(node, by, refusal, life),
            Event::Wake { node, role, at, life } => self.wake(node, role, at, life),
            Event::Flushed { node, life } => self.flushed(node, life),
            Event::ReadBack { node, life, slots } => self.read_back(node, life, slots),
            Event::SnapshotTask { node, life } => self.end_task(node, life),
            Event::Scrub { node } => self.scrub(node),
            Event::Replace => self.replace_lost(),
            Event::Fill => self.fill(),
            Event::Client { .. } if self.options.less.has_enough(self.history.len()) => {}
            Event::Client { client, turn } => self.client_acts(client, turn),
            Event::Fault(fault) => self.fault(fault),
            Event::Restart { node } => self.restart(node),
            Event::Resume { node } => self.resume(node),
            Event::Space { node } => self.space(node),
            Event::Isolate { node } => self.isolate(node),
            Event::Heal { a, b } => self.heal(a, b),
            Event::EndOfFaults => self.end_faults(),
        }
    }

    /// A fault that comes now and then, and when it comes next.
    fn fault(&mut self, fault: Fault) {
        let Some(every) = self.weather.between(fault).filter(|_| self.faulty) else { return };
        let next = self.spread(every);
        self.after(next, Event::Fault(fault));
        let draw = self.drawn.now_and_then();
        if !self.options.less.keeps(draw) {
            return;
        }
        match fault {
            Fault::Rot => self.damage_one(),
            Fault::Wipe => self.wipe_one(),
            Fault::OldImage => self.restore_old_image(),
            Fault::Membership => self.operate(),
            Fault::Snapshot => self.snapshot_one(),
            fault => self.outage(fault, every),
        }
    }

    fn after(&mut self, delay: Duration, event: Event) {
        self.schedule.push(self.now + delay, event);
    }

    fn count(&mut self, what: &'static str) {
        self.story.tell_count(self.now, what);
        *self.counts.entry(what).or_default() += 1;
    }

    /// The first violation counts.
    fn judge(&mut self, verdict: Result<(), Violation>) {
        if let Err(violation) = verdict {
            self.violation.get_or_insert(violation);
        }
    }

    fn is_broken(&self, breakage: Breakage) -> bool {
        self.options.breakage == Some(breakage)
    }

    fn percent(&mut self, percent: u64) -> bool {
        self.faulty && percent > 0 && self.random.draw() % 100 < percent && self.befalls()
    }

    /// In a hundredth of a percent.
    fn seldom(&mut self, share: u64) -> bool {
        self.faulty && share > 0 && self.random.draw() % 10_000 < share && self.befalls()
    }

    /// A fault of a message or a write is drawn; false if shortening has taken it away.
    fn befalls(&mut self) -> bool {
        let draw = self.drawn.of_a_share();
        self.options.less.keeps(draw)
    }

    fn micros(&mut self, from: u64, spread: u64) -> Duration {
        Duration::from_micros(from + self.random.draw() % spread.max(1))
    }

    /// From none to twice `every`.
    fn spread(&mut self, every: Duration) -> Duration {
        let micros = u64::try_from(every.as_micros()).unwrap_or(u64::MAX / 2);
        self.micros(5_000, micros.saturating_mul(2))
    }

    fn note(&mut self, node: NodeId, text: impl FnOnce() -> String) {
        self.story.tell(self.now, [node, node], text);
    }

    fn ids(&self) -> Vec<NodeId> {
        self.machines.keys().copied().collect()
    }

    /// Any machine.
    fn pick(&mut self) -> NodeId {
        let ids = self.ids();
        self.one_of(&ids).unwrap_or(NodeId::new(1))
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> Option<T> {
        let nth = self.random.draw() % (all.len() as u64).max(1);
        all.get(usize::try_from(nth).ok()?).copied()
    }

    fn tick_trace(&mut self, word: u64) {
        self.trace = mix_word(self.trace ^ self.now.as_nanos(), word);
    }
}
