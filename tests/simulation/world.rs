//! The world: nodes, network and clients on one virtual clock.

mod upkeep;

use crate::checks::Checks;
use crate::disk::{Disk, Done};
use crate::snapshots::State;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::time::Duration;
use synod::election::{Election, Timing};
use synod::multi::node::Node;
use synod::multi::{
    Acceptor, AcceptorInput, AdminCall, AdminOutcome, Answer, Batch, BatchBuilder, BatchId, Change,
    ClusterId, DiskId, Effect, Event as NodeEvent, Identity, Jitter, Learner, Limits, Local, Member,
    MemberKind, Membership, Message, Owner, Proposer, ProposerInput, ProposerState, ProtocolRange, Role,
    Sequence, Slot, SnapshotTask, Tag, Time, Value,
};
use synod::paxos::NodeId;

const SAFETY_PHASE: Duration = Duration::from_secs(6);
const LIVENESS_PHASE: Duration = Duration::from_secs(12);

/// How often each kind of fault occurred.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    lost: u64,
    repeated: u64,
    delayed: u64,
    overtaken: u64,
    cuts: u64,
    one_way_cuts: u64,
    crashes: u64,
    unflushed_lost: u64,
    restarts: u64,
    changes: u64,
    transfers: u64,
    reads: u64,
    snapshots: u64,
    failed_snapshots: u64,
    spoiled: u64,
    resumed: u64,
    trims: u64,
    installs: u64,
    restores: u64,
    rotten_entries: u64,
    rotten_snapshots: u64,
    unrestored: u64,
    wiped: u64,
    replaced: u64,
}

impl Faults {
    pub fn add(&mut self, other: &Self) {
        self.lost += other.lost;
        self.repeated += other.repeated;
        self.delayed += other.delayed;
        self.overtaken += other.overtaken;
        self.cuts += other.cuts;
        self.one_way_cuts += other.one_way_cuts;
        self.crashes += other.crashes;
        self.unflushed_lost += other.unflushed_lost;
        self.restarts += other.restarts;
        self.changes += other.changes;
        self.transfers += other.transfers;
        self.reads += other.reads;
        self.snapshots += other.snapshots;
        self.failed_snapshots += other.failed_snapshots;
        self.spoiled += other.spoiled;
        self.resumed += other.resumed;
        self.trims += other.trims;
        self.installs += other.installs;
        self.restores += other.restores;
        self.rotten_entries += other.rotten_entries;
        self.rotten_snapshots += other.rotten_snapshots;
        self.unrestored += other.unrestored;
        self.wiped += other.wiped;
        self.replaced += other.replaced;
    }

    /// What takes two of the others at the same place.
    pub fn rare(&self) -> [(&'static str, u64); 3] {
        [
            ("spoiled a part of a snapshot", self.spoiled),
            ("resumed a transfer", self.resumed),
            ("found the own snapshot damaged", self.unrestored),
        ]
    }

    pub fn counts(&self) -> [(&'static str, u64); 21] {
        [
            ("lost", self.lost),
            ("repeated", self.repeated),
            ("delayed", self.delayed),
            ("overtaken", self.overtaken),
            ("cut both ways", self.cuts),
            ("cut one way", self.one_way_cuts),
            ("crashed", self.crashes),
            ("lost unflushed writes", self.unflushed_lost),
            ("restarted", self.restarts),
            ("changed the membership", self.changes),
            ("handed the lead over", self.transfers),
            ("read", self.reads),
            ("took a snapshot", self.snapshots),
            ("failed to write a snapshot", self.failed_snapshots),
            ("cut the log", self.trims),
            ("installed a peer's snapshot", self.installs),
            ("restored a state", self.restores),
            ("damaged an entry", self.rotten_entries),
            ("damaged a snapshot", self.rotten_snapshots),
            ("lost a machine for good", self.wiped),
            ("replaced one", self.replaced),
        ]
    }
}

/// What a seed came to.
#[derive(Debug)]
pub struct Outcome {
    pub chosen: u64,
    pub faults: Faults,
    pub simulated: Duration,
    /// A digest of all that happened.
    pub trace: u64,
}

/// What else befalls the machines; each alone, for more is more than a majority survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Members come and go.
    Operated,
    /// Entries and snapshots are damaged.
    Rotting,
    /// Machines are lost with their disks, and replaced.
    Losing,
}

/// How bad this seed is; each drawn anew, also as zero.
#[derive(Debug)]
struct Weather {
    lose: u64,
    repeat: u64,
    delay: u64,
    crash_every: Option<Duration>,
    cut_every: Option<Duration>,
    propose_every: Duration,
    /// How often an operator changes the membership, or hands the lead over.
    operate_every: Option<Duration>,
    flush_max: Duration,
    /// How often somebody asks for a snapshot; else a node takes one when its log is long.
    snapshot_every: Option<Duration>,
    mode: Mode,
}

impl Weather {
    fn draw(random: &mut Jitter) -> Self {
        let mut percent =
            |max: u64| if random.draw().is_multiple_of(4) { 0 } else { random.draw() % (max + 1) };
        let (lose, repeat, delay) = (percent(25), percent(30), percent(20));
        let mut every = |from: u64, spread: u64| {
            let every = Duration::from_millis(from + random.draw() % spread);
            (!random.draw().is_multiple_of(4)).then_some(every)
        };
        let (crash_every, cut_every) = (every(150, 1500), every(100, 1500));
        let operate_every = every(100, 1200);
        let propose_every = Duration::from_millis(2 + random.draw() % 20);
        let flush_max = Duration::from_micros(100 + random.draw() % 20_000);
        let every = Duration::from_millis(50 + random.draw() % 800);
        let snapshot_every = (!random.draw().is_multiple_of(4)).then_some(every);
        let mode = match random.draw() % 20 {
            0..9 => Mode::Operated,
            9..15 => Mode::Rotting,
            _ => Mode::Losing,
        };
        Self {
            lose,
            repeat,
            delay,
            crash_every,
            cut_every,
            propose_every,
            operate_every,
            flush_max,
            snapshot_every,
            mode,
        }
    }
}

#[derive(Debug)]
enum Event {
    Arrive { from: NodeId, to: NodeId, message: Message, number: u64 },
    Wake { node: NodeId, role: Role, at: Time, life: u64 },
    Flushed { node: NodeId, life: u64 },
    ReadBack { node: NodeId, life: u64, slots: std::ops::Range<Slot> },
    SnapshotTask { node: NodeId, life: u64 },
    Snapshot,
    Rot,
    Scrub { node: NodeId },
    Wipe,
    Replace,
    Connect { from: NodeId, to: NodeId },
    Propose,
    Operate,
    Crash,
    Restart { node: NodeId },
    Cut,
    Heal { a: NodeId, b: NodeId, both: bool },
    EndOfFaults,
}

/// An event with its time; the number keeps the order of two at the same time.
#[derive(Debug)]
struct Scheduled(Time, u64, Event);

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        (self.0, self.1) == (other.0, other.1)
    }
}
impl Eq for Scheduled {}
impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.0, self.1).cmp(&(other.0, other.1))
    }
}

struct Machine {
    disk: Disk,
    node: Option<Node>,
    life: u64,
    /// Sends and admissions that wait for a write.
    waiting: Vec<(Sequence, Effect)>,
    deadlines: BTreeMap<Role, Time>,
    tickets: BTreeMap<u64, NodeId>,
    batches: u64,
    /// It was left out by a membership and has been told that it may go.
    removed: bool,
    tickets_out: BTreeMap<u64, Ticket>,
    next_ticket: u64,
    state: State,
    /// What the disk is asked for beside the log, the first under way; each with the state when it was asked for.
    tasks: VecDeque<(SnapshotTask, State)>,
}

impl Machine {
    fn new(id: NodeId) -> Self {
        Self {
            disk: Disk::new(DiskId(id.get() * 1000)),
            node: None,
            life: 0,
            waiting: Vec::new(),
            deadlines: BTreeMap::new(),
            tickets: BTreeMap::new(),
            batches: 0,
            removed: false,
            tickets_out: BTreeMap::new(),
            next_ticket: 0,
            state: State::default(),
            tasks: VecDeque::new(),
        }
    }
}

/// What a ticket was given for.
enum Ticket {
    /// A read, which must not miss what was acknowledged through this slot when it arrived.
    Read(Slot),
    Change,
    Transfer,
}

/// Nodes that may join in one run.
const JOINERS_MAX: usize = 5;

pub struct World {
    seed: u64,
    story: bool,
    now: Time,
    count: u64,
    events: BinaryHeap<Reverse<Scheduled>>,
    random: Jitter,
    weather: Weather,
    faulty: bool,
    membership: Membership,
    machines: BTreeMap<NodeId, Machine>,
    /// Connections that stand, by sender and receiver.
    links: BTreeSet<(NodeId, NodeId)>,
    cut: BTreeSet<(NodeId, NodeId)>,
    last_arrival: BTreeMap<(NodeId, NodeId), u64>,
    checks: Checks,
    faults: Faults,
    /// A machine that was lost for good, and the one that is to replace it.
    lost: Option<(NodeId, NodeId)>,
    trace: u64,
}

impl World {
    pub fn new(seed: u64, story: bool) -> Self {
        let mut random = Jitter::new(seed.wrapping_mul(0x2545_f491_4f6c_dd1d) ^ 0x5eed);
        let weather = Weather::draw(&mut random);
        let nodes = if random.draw().is_multiple_of(5) { 5 } else { 3 };
        let ids: Vec<NodeId> = (1..=nodes).map(NodeId::new).collect();
        let alpha = [1, 3, 64][usize::try_from(random.draw() % 3).unwrap()];
        let membership =
            Membership::voters(ids.iter().map(|id| (*id, ""))).unwrap().with_alpha(alpha).unwrap();
        let checks = Checks::new(&membership);
        let machines = ids.iter().map(|id| (*id, Machine::new(*id))).collect();
        let mut world = Self {
            seed,
            story,
            now: Time::ZERO,
            count: 0,
            events: BinaryHeap::new(),
            random,
            weather,
            faulty: true,
            membership,
            machines,
            links: BTreeSet::new(),
            cut: BTreeSet::new(),
            last_arrival: BTreeMap::new(),
            checks,
            faults: Faults::default(),
            lost: None,
            trace: 0xcbf2_9ce4_8422_2325,
        };
        for id in ids {
            world.restart(id);
        }
        world.after(SAFETY_PHASE, Event::EndOfFaults);
        world.after(Duration::from_millis(1), Event::Propose);
        world.begin_upkeep();
        if let Some(every) = world.weather.operate_every {
            world.after(every, Event::Operate);
        }
        if let Some(every) = world.weather.crash_every {
            world.after(every, Event::Crash);
        }
        if let Some(every) = world.weather.cut_every {
            world.after(every, Event::Cut);
        }
        world
    }

    pub fn run(mut self) -> Outcome {
        let end = Time::ZERO + SAFETY_PHASE + LIVENESS_PHASE;
        let mut chosen_at_healing = None;
        while let Some(Reverse(Scheduled(at, _, event))) = self.events.pop() {
            if at > end {
                break;
            }
            self.now = at;
            if matches!(event, Event::EndOfFaults) {
                chosen_at_healing = Some(self.checks.chosen.len());
            }
            self.handle(event);
            if chosen_at_healing.is_some_and(|before| self.is_served(before)) {
                break;
            }
        }
        let before = chosen_at_healing.unwrap_or_default();
        assert!(
            self.is_served(before),
            "not served {LIVENESS_PHASE:?} after healing: {} slots chosen, {before} before it, applied {:?}, states {:?}",
            self.checks.chosen.len(),
            self.machines.keys().map(|id| self.checks.applied_through(*id)).collect::<Vec<_>>(),
            self.machines
                .values()
                .map(|machine| machine.node.as_ref().map(|n| n.proposer.state()))
                .collect::<Vec<_>>(),
        );
        self.checks.finish();
        Outcome {
            chosen: self.checks.chosen.len() as u64,
            faults: self.faults,
            simulated: self.now.since(Time::ZERO),
            trace: self.trace,
        }
    }

    /// Ten new slots are chosen since the healing, and every node has applied all of them.
    fn is_served(&self, before: usize) -> bool {
        let target = Slot::new(before as u64 + 10);
        let members = self.checks.newest_members();
        self.lost.is_none() && members.iter().all(|id| self.checks.applied_through(*id) >= target)
    }

    fn after(&mut self, delay: Duration, event: Event) {
        self.count += 1;
        self.events.push(Reverse(Scheduled(self.now + delay, self.count, event)));
    }

    fn percent(&mut self, percent: u64) -> bool {
        self.faulty && self.random.draw() % 100 < percent
    }

    fn micros(&mut self, from: u64, spread: u64) -> Duration {
        Duration::from_micros(from + self.random.draw() % spread.max(1))
    }

    fn note(&mut self, what: impl Fn() -> String) {
        if self.story {
            println!("{:?} {}", self.now, what());
        }
    }

    fn pick(&mut self) -> NodeId {
        let count = self.machines.len() as u64;
        let nth = usize::try_from(self.random.draw() % count).unwrap();
        *self.machines.keys().nth(nth).unwrap()
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Arrive { from, to, message, number } => self.arrive(from, to, message, number),
            Event::Wake { node, role, at, life } => {
                let machine = self.machines.get_mut(&node).unwrap();
                if machine.life == life && machine.deadlines.get(&role) == Some(&at) {
                    machine.deadlines.remove(&role);
                    self.with(node, |node, now, out| node.wake(now, role, out));
                }
            }
            Event::Flushed { node, life } => self.flushed(node, life),
            Event::ReadBack { node, life, slots } => self.read_back(node, life, slots),
            Event::SnapshotTask { node, life } => self.end_task(node, life),
            Event::Snapshot => self.snapshot_one(),
            Event::Rot => self.rot_one(),
            Event::Scrub { node } => self.scrub(node),
            Event::Wipe => self.wipe_one(),
            Event::Replace => self.replace_lost(),
            Event::Connect { from, to } => self.connect(from, to),
            Event::Propose => self.propose(),
            Event::Operate => self.operate(),
            Event::Crash => self.crash_one(),
            Event::Restart { node } => self.restart(node),
            Event::Cut => self.cut_one(),
            Event::Heal { a, b, both } => {
                self.heal(a, b);
                if both {
                    self.heal(b, a);
                }
            }
            Event::EndOfFaults => self.end_faults(),
        }
    }

    // ------------------------------------------------------------ nodes

    fn identity(&self, node: NodeId, sequence: Sequence) -> Identity {
        let disk = &self.machines[&node].disk;
        let owner = Owner { cluster: ClusterId::new("simulated").unwrap(), epoch: 0, node };
        Identity {
            owner,
            disk: disk.id,
            incarnations: disk.incarnations.clone(),
            sequence,
            protocol: ProtocolRange::OURS,
        }
    }

    fn restart(&mut self, id: NodeId) {
        if self.machines[&id].node.is_some() || self.machines[&id].removed {
            return;
        }
        let nonce = self.random.draw();
        let machine = self.machines.get_mut(&id).unwrap();
        let (sequence, log) = machine.disk.open(nonce);
        machine.life += 1;
        if machine.life > 1 {
            self.faults.restarts += 1;
        }
        self.checks.restarted(id, log.promised());
        self.note(|| {
            format!("{id:?} starts, {:?} chosen through {:?}", log.promised(), log.chosen_through())
        });
        let identity = self.identity(id, sequence);
        let bootstrap = self.membership.members().contains_key(&id).then(|| self.membership.clone());
        let limits = Limits {
            change_patience: Duration::from_secs(2),
            cache_bytes_max: 2_000,
            catch_up_bytes_max: 1_000,
            frame_bytes_max: 2_000,
            snapshot_chunk_bytes: 100,
            ..Limits::default()
        };
        let seeds = [self.random.draw(), self.random.draw(), self.random.draw()];
        let node = Node::new(
            Proposer::new(id, limits.clone(), seeds[0]),
            Acceptor::new(identity, bootstrap, sequence, log, limits.clone()),
            Learner::new(id, limits, seeds[1]),
            Election::heartbeat(id, Timing::default(), seeds[2]),
        );
        let machine = self.machines.get_mut(&id).unwrap();
        machine.node = Some(node);
        machine.state = State::default();
        self.with(id, |node, now, out| node.start(now, out));
        for peer in self.machines.keys().copied().filter(|peer| *peer != id).collect::<Vec<_>>() {
            self.try_connect(id, peer);
            self.try_connect(peer, id);
        }
    }

    /// Runs one step of a node and carries out what it asks for.
    fn with(&mut self, id: NodeId, step: impl FnOnce(&mut Node, Time, &mut Vec<(Role, Effect)>)) {
        let now = self.now;
        let mut effects = Vec::new();
        if let Some(node) = &mut self.machines.get_mut(&id).unwrap().node {
            step(node, now, &mut effects);
        }
        for (role, effect) in effects {
            self.carry_out(id, role, effect);
        }
    }

    fn carry_out(&mut self, id: NodeId, role: Role, effect: Effect) {
        let machine = self.machines.get_mut(&id).unwrap();
        let life = machine.life;
        match effect {
            Effect::Persist { sequence, records } => {
                if machine.disk.write(sequence, records) {
                    self.begin_flush(id);
                }
            }
            Effect::Send { to, message, after } => match after {
                Some(after) if !self.is_durable(id, after) => {
                    let machine = self.machines.get_mut(&id).unwrap();
                    machine.waiting.push((after, Effect::Send { to, message, after: None }));
                }
                _ => self.send(id, to, message),
            },
            Effect::Admission { ticket, verdict, after } => match after {
                Some(after) if !self.is_durable(id, after) => {
                    let machine = self.machines.get_mut(&id).unwrap();
                    machine.waiting.push((after, Effect::Admission { ticket, verdict, after: None }));
                }
                _ => {
                    let peer = self.machines.get_mut(&id).unwrap().tickets.remove(&ticket).unwrap();
                    assert_eq!(verdict, Ok(()), "n{id} refuses n{peer}");
                    self.link_up(peer, id);
                }
            },
            Effect::Read { slots, .. } => {
                let delay = self.micros(50, 2_000);
                self.after(delay, Event::ReadBack { node: id, life, slots });
            }
            Effect::Deliver { slot, value } => self.delivered(id, slot, &value),
            Effect::Deadline(at) => {
                machine.deadlines.insert(role, at);
                let delay = at.since(self.now);
                self.after(delay, Event::Wake { node: id, role, at, life });
            }
            Effect::Answer { ticket, answer } => self.answered(id, ticket, &answer),
            Effect::Trim { through, facts } => {
                if machine.disk.trim(through, facts) {
                    self.begin_flush(id);
                }
            }
            Effect::Snapshot(task) => self.snapshot_task(id, task),
            Effect::Event(NodeEvent::Removed) => {
                self.note(|| format!("{id:?} is removed"));
                self.crash(id);
                self.machines.get_mut(&id).unwrap().removed = true;
            }
            Effect::Event(event) => {
                let bad = matches!(event, NodeEvent::Abstains { .. } | NodeEvent::FormationDiffers { .. });
                assert!(!bad, "n{id}: {event:?}");
                self.faults.installs += u64::from(matches!(event, NodeEvent::Installed { .. }));
                self.faults.unrestored += u64::from(matches!(event, NodeEvent::SnapshotDamaged { .. }));
                self.note(|| format!("{id:?} {event:?}"));
            }
            Effect::Local(_) => unreachable!("the node routes these itself"),
        }
    }

    fn is_durable(&self, id: NodeId, sequence: Sequence) -> bool {
        self.machines[&id].disk.sequence >= sequence
    }

    fn begin_flush(&mut self, id: NodeId) {
        let max = u64::try_from(self.weather.flush_max.as_micros()).unwrap();
        let delay = self.micros(50, max);
        let life = self.machines[&id].life;
        self.after(delay, Event::Flushed { node: id, life });
    }

    fn flushed(&mut self, id: NodeId, life: u64) {
        let machine = self.machines.get_mut(&id).unwrap();
        if machine.life != life || machine.node.is_none() {
            return;
        }
        let (done, next) = machine.disk.done(&mut self.random);
        if next {
            self.begin_flush(id);
        }
        let sequence = match done {
            Done::Written(sequence) => sequence,
            Done::Trimmed(through) => {
                self.faults.trims += 1;
                let trimmed = Local::Acceptor(AcceptorInput::Trimmed { through });
                self.with(id, |node, now, out| node.step(now, trimmed, out));
                return;
            }
        };
        let machine = self.machines.get_mut(&id).unwrap();
        let waiting = std::mem::take(&mut machine.waiting);
        let (ready, waiting) = waiting.into_iter().partition(|(after, _)| *after <= sequence);
        machine.waiting = waiting;
        let ready: Vec<(Sequence, Effect)> = ready;
        for (_, effect) in ready {
            self.carry_out(id, Role::Acceptor, effect);
        }
        let persisted = Local::Acceptor(AcceptorInput::Persisted { sequence });
        self.with(id, |node, now, out| node.step(now, persisted, out));
        self.bound_log(id);
    }

    fn read_back(&mut self, id: NodeId, life: u64, slots: std::ops::Range<Slot>) {
        if self.machines[&id].life != life {
            return;
        }
        let entries = self.machines[&id].disk.read(slots);
        let input = Local::Acceptor(AcceptorInput::ReadBack { entries });
        self.with(id, |node, now, out| node.step(now, input, out));
    }

    // ------------------------------------------------------------ network

    fn send(&mut self, from: NodeId, to: NodeId, message: Message) {
        self.checks.sent(from, &message);
        self.note(|| format!("{from:?} -> {to:?} {message:?}"));
        if to == from {
            self.with(from, |node, now, out| node.receive(now, from, message, out));
            return;
        }
        if !self.links.contains(&(from, to)) {
            return;
        }
        if self.percent(self.weather.lose) {
            self.faults.lost += 1;
            return;
        }
        if self.percent(self.weather.repeat) {
            self.faults.repeated += 1;
            self.travel(from, to, message.clone());
        }
        self.travel(from, to, message);
    }

    fn travel(&mut self, from: NodeId, to: NodeId, message: Message) {
        let mut delay = self.micros(50, 1_000);
        if self.percent(self.weather.delay) {
            self.faults.delayed += 1;
            delay += self.micros(0, 300_000);
        }
        let number = self.count;
        self.after(delay, Event::Arrive { from, to, message, number });
    }

    fn arrive(&mut self, from: NodeId, to: NodeId, message: Message, number: u64) {
        if self.cut.contains(&(from, to)) || self.machines[&to].node.is_none() {
            return;
        }
        let last = self.last_arrival.entry((from, to)).or_default();
        if *last > number {
            self.faults.overtaken += 1;
        }
        *last = number.max(*last);
        let word = (from.get() << 8) ^ to.get() ^ self.now.as_nanos() ^ ((message.size() as u64) << 40);
        self.trace = (self.trace ^ word).wrapping_mul(0x0000_0100_0000_01b3);
        self.with(to, |node, now, out| node.receive(now, from, message, out));
    }

    fn try_connect(&mut self, from: NodeId, to: NodeId) {
        let delay = self.micros(500, 20_000);
        self.after(delay, Event::Connect { from, to });
    }

    /// `from` shows itself to `to`, which lets it in once it has noted so.
    fn connect(&mut self, from: NodeId, to: NodeId) {
        let both = self.machines[&from].node.is_some() && self.machines[&to].node.is_some();
        if !both || self.cut.contains(&(from, to)) || self.links.contains(&(from, to)) {
            return;
        }
        let ticket = self.random.draw();
        self.machines.get_mut(&to).unwrap().tickets.insert(ticket, from);
        let started_at = self.machines[&from].disk.sequence;
        let identity = self.identity(from, started_at);
        let admit = Local::Acceptor(AcceptorInput::Admit { ticket, identity });
        self.with(to, |node, now, out| node.step(now, admit, out));
    }

    fn link_up(&mut self, from: NodeId, to: NodeId) {
        if self.machines[&from].node.is_some()
            && !self.cut.contains(&(from, to))
            && self.links.insert((from, to))
        {
            self.with(to, |node, now, out| node.link(now, from, true, out));
        }
    }

    fn link_down(&mut self, from: NodeId, to: NodeId) {
        if self.links.remove(&(from, to)) {
            self.with(to, |node, now, out| node.link(now, from, false, out));
        }
    }

    // ------------------------------------------------------------ clients

    /// Somebody reads at every node that says it leads.
    fn read(&mut self, id: NodeId) {
        let acknowledged = self.checks.acknowledged_through;
        self.ticket(id, Ticket::Read(acknowledged), |ticket| ProposerInput::Read {
            tickets: vec![ticket],
            lease: false,
        });
    }

    fn ticket(&mut self, id: NodeId, kind: Ticket, input: impl FnOnce(u64) -> ProposerInput) {
        let machine = self.machines.get_mut(&id).unwrap();
        machine.next_ticket += 1;
        let ticket = machine.next_ticket;
        machine.tickets_out.insert(ticket, kind);
        let input = Local::Proposer(input(ticket));
        self.with(id, |node, now, out| node.step(now, input, out));
    }

    fn answered(&mut self, id: NodeId, ticket: u64, answer: &Answer) {
        self.note(|| format!("{id:?} answers {answer:?}"));
        match (self.machines.get_mut(&id).unwrap().tickets_out.remove(&ticket), answer) {
            (Some(Ticket::Read(acknowledged)), Answer::Readable(mark)) => {
                assert!(
                    *mark >= acknowledged,
                    "n{id} serves a read at {mark}, {acknowledged} was acknowledged"
                );
                self.faults.reads += 1;
            }
            (Some(Ticket::Change), Answer::Admin(AdminOutcome::Changed(_))) => self.faults.changes += 1,
            (Some(Ticket::Transfer), Answer::Admin(AdminOutcome::Transferred(_))) => {
                self.faults.transfers += 1
            }
            _ => {}
        }
    }

    /// An operator adds, removes or replaces a node, or hands the lead over, at every node that says it leads.
    fn operate(&mut self) {
        if !self.faulty {
            return;
        }
        let leaders = self.leaders();
        let members: Vec<NodeId> = self.checks.newest_members();
        for id in leaders {
            let victim = members[usize::try_from(self.random.draw()).unwrap_or(0) % members.len()];
            let what = self.random.draw() % 4;
            if what == 0 || self.weather.mode != Mode::Operated {
                self.ticket(id, Ticket::Transfer, |ticket| ProposerInput::Admin {
                    ticket,
                    call: AdminCall::Transfer(None),
                });
                continue;
            }
            let change = match what {
                1 if members.len() > 2 => Change::Remove { node: victim },
                2 if self.may_join() => {
                    let node = self.join();
                    Change::Replace { lost: victim, node, address: String::new() }
                }
                _ if self.may_join() && members.len() < 6 => {
                    let member = Member { kind: MemberKind::Voter, address: String::new() };
                    Change::Add { node: self.join(), member }
                }
                _ if members.len() > 3 => Change::Remove { node: victim },
                _ => continue,
            };
            self.note(|| format!("an operator asks {id:?} for {change:?}"));
            self.ticket(id, Ticket::Change, |ticket| ProposerInput::Admin {
                ticket,
                call: AdminCall::Change(change),
            });
        }
        let every = u64::try_from(self.weather.operate_every.unwrap().as_micros()).unwrap();
        let next = self.micros(10_000, every * 2);
        self.after(next, Event::Operate);
    }

    fn may_join(&self) -> bool {
        self.machines.len() < self.membership.members().len() + JOINERS_MAX
    }

    /// A new node joins, under an id that no other had.
    fn join(&mut self) -> NodeId {
        let id = NodeId::new(self.machines.len() as u64 + 1);
        self.machines.insert(id, Machine::new(id));
        self.restart(id);
        id
    }

    fn leaders(&self) -> Vec<NodeId> {
        let leads = |machine: &Machine| {
            machine
                .node
                .as_ref()
                .is_some_and(|node| matches!(node.proposer.state(), ProposerState::Leading { .. }))
        };
        self.machines.iter().filter(|(_, machine)| leads(machine)).map(|(id, _)| *id).collect()
    }

    /// Somebody proposes at every node that says it leads.
    fn propose(&mut self) {
        for id in self.leaders() {
            self.read(id);
        }
        for id in self.machines.keys().copied().collect::<Vec<_>>() {
            let machine = self.machines.get_mut(&id).unwrap();
            let room = machine.node.as_ref().is_some_and(|node| node.proposer.room() > 0);
            if room {
                machine.batches += 1;
                let counter = machine.disk.incarnations.len() as u64;
                let batch = BatchId { node: id, incarnation: counter, serial: machine.batches };
                let mut builder = BatchBuilder::new(batch);
                builder.push(&Tag::Plain, &self.seed.to_le_bytes());
                let input = Local::Proposer(ProposerInput::Propose { batch: builder.finish() });
                self.with(id, |node, now, out| node.step(now, input, out));
            }
        }
        let every = self.weather.propose_every;
        self.after(every, Event::Propose);
    }

    fn delivered(&mut self, id: NodeId, slot: Slot, value: &Value) {
        self.checks.applied(id, slot, value);
        self.machines.get_mut(&id).unwrap().state.apply(slot, value);
        if let Value::Batch(bytes) = value {
            let batch = Batch::read(bytes.clone()).unwrap().id();
            let incarnation = self.machines[&id].disk.incarnations.len() as u64;
            if batch.node == id && batch.incarnation == incarnation {
                self.checks.acknowledged.insert(batch);
                self.checks.acknowledged_through = self.checks.acknowledged_through.max(slot);
            }
        }
    }

    // ------------------------------------------------------------ faults

    fn crash_one(&mut self) {
        if !self.faulty {
            return;
        }
        let id = self.pick();
        self.crash(id);
        let every = self.weather.crash_every.unwrap();
        let spread = u64::try_from(every.as_micros()).unwrap();
        let (next, back) = (self.micros(10_000, spread * 2), self.micros(1_000, spread * 2));
        self.after(next, Event::Crash);
        self.after(back, Event::Restart { node: id });
    }

    fn crash(&mut self, id: NodeId) {
        let machine = self.machines.get_mut(&id).unwrap();
        if machine.node.take().is_none() {
            return;
        }
        self.faults.crashes += 1;
        if machine.disk.crash(&mut self.random) {
            self.faults.unflushed_lost += 1;
        }
        machine.life += 1;
        machine.waiting.clear();
        machine.deadlines.clear();
        machine.tickets.clear();
        machine.tickets_out.clear();
        machine.tasks.clear();
        self.note(|| format!("{id:?} crashes"));
        for peer in self.machines.keys().copied().collect::<Vec<_>>() {
            self.link_down(id, peer);
            self.links.remove(&(peer, id));
        }
    }

    fn cut_one(&mut self) {
        if !self.faulty {
            return;
        }
        let (a, b) = (self.pick(), self.pick());
        let both = self.random.draw().is_multiple_of(2);
        if a != b {
            self.note(|| format!("{a:?} is cut off from {b:?}, both ways: {both}"));
            self.cut(a, b);
            if both {
                self.cut(b, a);
                self.faults.cuts += 1;
            } else {
                self.faults.one_way_cuts += 1;
            }
            let lasts = self.micros(20_000, 2_000_000);
            self.after(lasts, Event::Heal { a, b, both });
        }
        let every = u64::try_from(self.weather.cut_every.unwrap().as_micros()).unwrap();
        let next = self.micros(10_000, every * 2);
        self.after(next, Event::Cut);
    }

    /// Messages from `a` to `b` are lost from now on; half of the time `b` notices that the connection is gone.
    fn cut(&mut self, a: NodeId, b: NodeId) {
        self.cut.insert((a, b));
        if self.random.draw().is_multiple_of(2) {
            self.link_down(a, b);
        }
    }

    fn heal(&mut self, a: NodeId, b: NodeId) {
        if self.cut.remove(&(a, b)) {
            self.try_connect(a, b);
        }
    }

    fn end_faults(&mut self) {
        self.faulty = false;
        self.note(|| "the faults end".into());
        for (a, b) in std::mem::take(&mut self.cut) {
            self.try_connect(a, b);
        }
        for id in self.machines.keys().copied().collect::<Vec<_>>() {
            self.restart(id);
        }
    }
}
