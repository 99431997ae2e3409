//! What the tests of the protocol rules share: short names for values, roles that are ready to be driven, and a cluster
//! in memory whose messages, flushes and clock a test moves by hand.
#![allow(dead_code, unreachable_pub)]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;
use synod::election::{Election, Timing};
use synod::multi::node::Node;
use synod::multi::*;
use synod::paxos::{NodeId, ProposalId};

pub fn node(number: u64) -> NodeId {
    NodeId::new(number)
}

pub fn id(number: u64, owner: u64) -> ProposalId {
    ProposalId::new(number, node(owner))
}

pub fn slot(number: u64) -> Slot {
    Slot::new(number)
}

pub fn batch(text: &str) -> Value {
    Value::Batch(bytes::Bytes::copy_from_slice(text.as_bytes()))
}

pub fn ms(millis: u64) -> Time {
    Time::ZERO + Duration::from_millis(millis)
}

pub fn interval(first: u64, last: u64) -> Interval {
    Interval::new(slot(first), slot(last))
}

pub fn voters(count: u64) -> Membership {
    Membership::voters((1..=count).map(|number| (node(number), ""))).unwrap()
}

pub fn voters_with_alpha(count: u64, alpha: u64) -> Membership {
    let member = || Member { kind: MemberKind::Voter, address: String::new() };
    Membership::new((1..=count).map(|number| (node(number), member())).collect(), alpha).unwrap()
}

/// Voters with these ids.
pub fn voters_of(ids: &[u64], alpha: u64) -> Membership {
    members_of(&ids.iter().map(|id| (*id, MemberKind::Voter)).collect::<Vec<_>>(), alpha)
}

/// Members of these kinds, with majorities.
pub fn members_of(kinds: &[(u64, MemberKind)], alpha: u64) -> Membership {
    let members = kinds.iter().map(|(id, kind)| (node(*id), member(*kind)));
    Membership::new(members.collect(), alpha).unwrap()
}

pub fn member(kind: MemberKind) -> Member {
    Member { kind, address: String::new() }
}

pub fn identity(number: u64) -> Identity {
    Identity {
        owner: Owner { cluster: ClusterId::new("test").unwrap(), epoch: 0, node: node(number) },
        disk: DiskId(number),
        incarnations: vec![Incarnation { counter: 1, nonce: number }],
        sequence: Sequence(0),
        protocol: ProtocolRange::OURS,
    }
}

pub fn formed(membership: Membership) -> Record {
    let disks = membership.members().keys().map(|member| (*member, DiskId(member.get()))).collect();
    Record::Formed { membership, disks }
}

pub fn accepted(at: u64, under: ProposalId, value: Value) -> Record {
    Record::Accepted { slot: slot(at), id: under, value }
}

pub fn chosen(at: u64, value: Value) -> Record {
    Record::Chosen { slot: slot(at), value }
}

pub fn log(membership: Membership, records: impl IntoIterator<Item = Record>) -> Log {
    let mut log = Log::default();
    log.set_cache(Limits::default().cache_bytes_max);
    log.apply(&formed(membership));
    records.into_iter().for_each(|record| log.apply(&record));
    log
}

/// Acceptor 1 of a formed cluster of three, with a durable history of `records`.
pub fn acceptor(records: impl IntoIterator<Item = Record>) -> Acceptor {
    acceptor_with(Limits::default(), records)
}

pub fn acceptor_with(limits: Limits, records: impl IntoIterator<Item = Record>) -> Acceptor {
    Acceptor::new(identity(1), None, Sequence(10), log(voters(3), records), limits)
}

/// A role's effects of one input.
pub trait Drive<I> {
    fn take_at(&mut self, now: Time, input: I) -> Vec<Effect>;
    fn take(&mut self, input: I) -> Vec<Effect> {
        self.take_at(Time::ZERO, input)
    }
}

macro_rules! drive {
    ($role:ty, $input:ty) => {
        impl Drive<$input> for $role {
            fn take_at(&mut self, now: Time, input: $input) -> Vec<Effect> {
                let mut out = Vec::new();
                self.step(now, input, &mut out);
                out
            }
        }
    };
}
drive!(Acceptor, AcceptorInput);
drive!(Proposer, ProposerInput);
drive!(Learner, LearnerInput);
drive!(Election, ElectionInput);

/// A message as an input of the acceptor, the proposer, the learner or the election.
pub fn to_acceptor(from: u64, message: Message) -> AcceptorInput {
    AcceptorInput::Message { from: node(from), message }
}

pub fn to_proposer(from: u64, message: Message) -> ProposerInput {
    ProposerInput::Message { from: node(from), message }
}

pub fn to_learner(from: u64, message: Message) -> LearnerInput {
    LearnerInput::Message { from: node(from), message }
}

pub fn to_election(from: u64, message: Message) -> ElectionInput {
    ElectionInput::Message { from: node(from), message }
}

pub fn prepare(under: ProposalId, from: u64) -> Message {
    Message::Prepare { id: under, from: slot(from) }
}

pub fn accept(under: ProposalId, first: u64, values: &[Value], watermark: u64) -> Message {
    Message::Accept { id: under, first: slot(first), values: values.to_vec(), watermark: slot(watermark) }
}

pub fn accepted_of(under: ProposalId, first: u64, last: u64) -> Message {
    Message::Accepted { id: under, slots: vec![interval(first, last)], sequence: Sequence(1) }
}

/// A whole promise in one page: everything above `chosen_through` is `entries`.
pub fn promise(
    under: ProposalId,
    chosen_through: u64,
    entries: impl IntoIterator<Item = (u64, ProposalId, Value)>,
) -> Message {
    let covers = Interval::new(slot(chosen_through + 1), Slot::MAX);
    promise_page(under, chosen_through, covers, entries, [])
}

pub fn promise_page(
    under: ProposalId,
    chosen_through: u64,
    covers: Interval,
    entries: impl IntoIterator<Item = (u64, ProposalId, Value)>,
    unknown: impl IntoIterator<Item = Interval>,
) -> Message {
    let entries = entries.into_iter().map(|(at, accepted, value)| (slot(at), accepted, value)).collect();
    let page = Page { covers, entries, unknown: unknown.into_iter().collect() };
    Message::Promise { id: under, chosen_through: slot(chosen_through), page, sequence: Sequence(1) }
}

pub fn nack(asked: ProposalId, promised: ProposalId) -> Message {
    Message::Nack { asked, promised }
}

pub fn send(to: u64, message: Message) -> Effect {
    Effect::Send { to: node(to), message, after: None }
}

pub fn send_after(to: u64, message: Message, after: u64) -> Effect {
    Effect::Send { to: node(to), message, after: Some(Sequence(after)) }
}

pub fn persist(sequence: u64, records: impl IntoIterator<Item = Record>) -> Effect {
    Effect::Persist { sequence: Sequence(sequence), records: records.into_iter().collect() }
}

/// Every message that `effects` send, with its receiver.
pub fn sends(effects: &[Effect]) -> Vec<(u64, Message)> {
    let send = |effect: &Effect| match effect {
        Effect::Send { to, message, .. } => Some((to.get(), message.clone())),
        _ => None,
    };
    effects.iter().filter_map(send).collect()
}

pub fn records(effects: &[Effect]) -> Vec<Record> {
    let written = |effect: &Effect| match effect {
        Effect::Persist { records, .. } => records.clone(),
        _ => Vec::new(),
    };
    effects.iter().flat_map(written).collect()
}

pub fn events(effects: &[Effect]) -> Vec<Event> {
    let event = |effect: &Effect| match effect {
        Effect::Event(event) => Some(event.clone()),
        _ => None,
    };
    effects.iter().filter_map(event).collect()
}

/// How calls ended, by ticket.
pub fn answers(effects: &[Effect]) -> Vec<(u64, Answer)> {
    let answer = |effect: &Effect| match effect {
        Effect::Answer { ticket, answer } => Some((*ticket, answer.clone())),
        _ => None,
    };
    effects.iter().filter_map(answer).collect()
}

/// How operators' calls ended, by ticket.
pub fn outcomes(effects: &[Effect]) -> Vec<(u64, AdminOutcome)> {
    let outcome = |(ticket, answer)| match answer {
        Answer::Admin(outcome) => Some((ticket, outcome)),
        _ => None,
    };
    answers(effects).into_iter().filter_map(outcome).collect()
}

/// The latest time at which the role asked to be woken.
pub fn deadline(effects: &[Effect]) -> Option<Time> {
    let at = |effect: &Effect| match effect {
        Effect::Deadline(at) => Some(*at),
        _ => None,
    };
    effects.iter().filter_map(at).next_back()
}

/// The `Accept`s among `effects` as (receiver, slot, value).
pub fn accepts(effects: &[Effect]) -> Vec<(u64, u64, Value)> {
    let mut found = Vec::new();
    for (to, message) in sends(effects) {
        if let Message::Accept { first, values, .. } = message {
            for (offset, value) in values.into_iter().enumerate() {
                found.push((to, first.get() + offset as u64, value));
            }
        }
    }
    found
}

/// The slots and values that `effects` propose, each once.
pub fn proposed(effects: &[Effect]) -> Vec<(u64, Value)> {
    let mut found: Vec<(u64, Value)> = Vec::new();
    for (_, at, value) in accepts(effects) {
        if !found.contains(&(at, value.clone())) {
            found.push((at, value));
        }
    }
    found
}

pub fn briefing(membership: Membership, chosen_through: u64, promised: Option<ProposalId>) -> Briefing {
    Briefing {
        memberships: Some(Memberships::bootstrap(membership)),
        chosen_through: slot(chosen_through),
        promised,
        votes: true,
    }
}

/// Proposer 1, briefed as a member of `membership` that has learned through `chosen_through`.
pub fn proposer(membership: Membership, chosen_through: u64) -> Proposer {
    let mut proposer = Proposer::new(node(1), Limits::default(), 1);
    proposer.take(ProposerInput::Briefing(briefing(membership, chosen_through, None)));
    proposer
}

/// Proposer 1 of a cluster of three, campaigning under 1.1.
pub fn candidate(chosen_through: u64) -> Proposer {
    let mut proposer = proposer(voters(3), chosen_through);
    proposer.take(ProposerInput::Campaign);
    proposer
}

/// Proposer 1 of a cluster of three, leading under 1.1 with nothing to recover.
pub fn leader(chosen_through: u64) -> Proposer {
    let mut proposer = candidate(chosen_through);
    for voter in 1..=2 {
        proposer.take(to_proposer(voter, promise(id(1, 1), chosen_through, [])));
    }
    assert_eq!(proposer.state(), ProposerState::Leading { id: id(1, 1) });
    proposer
}

/// Proposer 1 of `membership`, leading under 1.1 by the promises of `promised`, with nothing to recover.
pub fn leader_of(membership: Membership, promised: &[u64]) -> Proposer {
    leader_with(Limits::default(), membership, promised)
}

pub fn leader_with(limits: Limits, membership: Membership, promised: &[u64]) -> Proposer {
    let mut proposer = Proposer::new(node(1), limits, 1);
    proposer.take(ProposerInput::Briefing(briefing(membership, 0, None)));
    proposer.take(ProposerInput::Campaign);
    for voter in promised {
        proposer.take(to_proposer(*voter, promise(id(1, 1), 0, [])));
    }
    assert_eq!(proposer.state(), ProposerState::Leading { id: id(1, 1) });
    proposer
}

pub fn change(ticket: u64, change: Change) -> ProposerInput {
    ProposerInput::Admin { ticket, call: AdminCall::Change(change) }
}

pub fn transfer(ticket: u64, to: Option<u64>) -> ProposerInput {
    ProposerInput::Admin { ticket, call: AdminCall::Transfer(to.map(node)) }
}

/// `peer` answered a heartbeat, and has learned through `through`.
pub fn progress(peer: u64, through: u64) -> ProposerInput {
    ProposerInput::Progress { peer: node(peer), durable_through: slot(through), witness: false }
}

pub fn heartbeat(under: ProposalId, held_through: u64, lease: bool) -> Message {
    let held_through = slot(held_through);
    Message::Heartbeat { id: under, watermark: slot(0), held_through, pulse: 1, lease }
}

pub fn propose(text: &str) -> ProposerInput {
    ProposerInput::Propose { batch: bytes::Bytes::copy_from_slice(text.as_bytes()) }
}

pub fn learned(first: u64, values: &[Value]) -> ProposerInput {
    let values = values.iter().cloned().enumerate().map(|(at, value)| (slot(first + at as u64), value));
    ProposerInput::Learned { values: values.collect() }
}

// ------------------------------------------------------------------ a cluster

/// Nodes 1 to n with instantaneous links; a write is durable at once, unless the test holds it.
pub struct Cluster {
    pub now: Time,
    pub machines: BTreeMap<u64, Machine>,
    /// Messages under way, oldest first.
    pub wire: VecDeque<(u64, u64, Message)>,
    /// From and to: nothing passes.
    pub cut: BTreeSet<(u64, u64)>,
    timing: Timing,
    /// Of all jitter.
    seed: u64,
}

pub struct Machine {
    pub node: Option<Node>,
    pub held: bool,
    pub written: Vec<(Sequence, Vec<Record>)>,
    pub entries: BTreeMap<Slot, Entry>,
    pub delivered: Vec<(u64, Value)>,
    pub events: Vec<Event>,
    pub answers: Vec<(u64, Answer)>,
    unwritten: Vec<(Sequence, Vec<Record>)>,
    waiting: Vec<(Sequence, u64, Message)>,
    deadlines: BTreeMap<Role, Time>,
}

impl Machine {
    fn holding(written: Vec<(Sequence, Vec<Record>)>) -> Self {
        Self {
            node: None,
            held: false,
            written,
            entries: BTreeMap::new(),
            delivered: Vec::new(),
            events: Vec::new(),
            answers: Vec::new(),
            unwritten: Vec::new(),
            waiting: Vec::new(),
            deadlines: BTreeMap::new(),
        }
    }
}

impl Cluster {
    /// `count` formed voters; nobody campaigns by itself.
    pub fn external(count: u64) -> Self {
        Self::new(voters(count), false)
    }

    /// `count` formed voters with the heartbeat election.
    pub fn heartbeat(count: u64) -> Self {
        Self::new(voters(count), true)
    }

    /// The same, with jitter of its own.
    pub fn seeded(count: u64, seed: u64) -> Self {
        Self::with_seed(voters(count), true, seed)
    }

    pub fn new(membership: Membership, heartbeat: bool) -> Self {
        Self::with_seed(membership, heartbeat, 0)
    }

    fn with_seed(membership: Membership, heartbeat: bool, seed: u64) -> Self {
        let timing = Timing::default();
        let written = vec![(Sequence(1), vec![formed(membership.clone())])];
        let machines =
            membership.members().keys().map(|member| (member.get(), Machine::holding(written.clone())));
        let mut cluster = Self {
            now: Time::ZERO,
            machines: machines.collect(),
            wire: VecDeque::new(),
            cut: BTreeSet::new(),
            timing,
            seed,
        };
        let all: Vec<u64> = cluster.machines.keys().copied().collect();
        all.into_iter().for_each(|number| cluster.start(number, heartbeat));
        cluster
    }

    /// A node that nobody has heard of yet joins.
    pub fn join(&mut self, number: u64, heartbeat: bool) {
        self.machines.insert(number, Machine::holding(Vec::new()));
        self.start(number, heartbeat);
    }

    /// An operator's call at a node.
    pub fn admin(&mut self, number: u64, ticket: u64, call: AdminCall) {
        self.input(number, Local::Proposer(ProposerInput::Admin { ticket, call }));
    }

    /// How an operator's call ended, if it has.
    pub fn outcome(&self, number: u64, ticket: u64) -> Option<AdminOutcome> {
        let answers = self.machines[&number].answers.iter();
        let ended = answers.filter(|(of, _)| *of == ticket).map(|(_, answer)| answer.clone());
        ended
            .filter_map(|answer| if let Answer::Admin(outcome) = answer { Some(outcome) } else { None })
            .next()
    }

    /// The node that leads, if there is one, and no other.
    pub fn leader(&self) -> Option<u64> {
        let leads: Vec<u64> = self.machines.keys().copied().filter(|number| self.leads(*number)).collect();
        if let [leader] = leads[..] { Some(leader) } else { None }
    }

    /// Starts a node from what is durable on its disk.
    pub fn start(&mut self, number: u64, heartbeat: bool) {
        let me = node(number);
        let machine = self.machines.get_mut(&number).unwrap();
        let mut log = Log::default();
        machine.written.iter().flat_map(|(_, records)| records).for_each(|record| log.apply(record));
        let sequence = machine.written.last().map_or(Sequence(0), |(sequence, _)| *sequence);
        let election = if heartbeat {
            Election::heartbeat(me, self.timing.clone(), self.seed * 100 + number)
        } else {
            Election::external(me, self.timing.clone(), number)
        };
        machine.node = Some(Node::new(
            Proposer::new(me, Limits::default(), number),
            Acceptor::new(identity(number), None, sequence, log, Limits::default()),
            Learner::new(me, Limits::default(), number),
            election,
        ));
        machine.delivered.clear();
        self.with(number, |node, now, out| node.start(now, out));
        let peers: Vec<u64> = self.members().filter(|peer| *peer != number).collect();
        for peer in peers {
            if self.machines[&peer].node.is_some() {
                self.link(number, peer, true);
                self.link(peer, number, true);
            }
        }
    }

    /// The node stops at once; what was not durable is lost.
    pub fn crash(&mut self, number: u64) {
        let machine = self.machines.get_mut(&number).unwrap();
        machine.node = None;
        machine.unwritten.clear();
        machine.waiting.clear();
        machine.deadlines.clear();
        self.wire.retain(|(from, to, _)| *from != number && *to != number);
        let peers: Vec<u64> = self.members().filter(|peer| *peer != number).collect();
        peers.into_iter().for_each(|peer| self.link(peer, number, false));
    }

    pub fn members(&self) -> impl Iterator<Item = u64> + use<> {
        self.machines.keys().copied().collect::<Vec<_>>().into_iter()
    }

    pub fn link(&mut self, at: u64, peer: u64, up: bool) {
        self.with(at, |machine, now, out| machine.link(now, node(peer), up, out));
    }

    /// Nothing passes between `one` and `other` any more, in neither direction; no connection is seen to close.
    pub fn isolate(&mut self, one: u64, other: u64) {
        self.cut.extend([(one, other), (other, one)]);
    }

    pub fn heal(&mut self) {
        self.cut.clear();
    }

    pub fn node(&self, number: u64) -> &Node {
        self.machines[&number].node.as_ref().unwrap()
    }

    pub fn chosen_through(&self, number: u64) -> u64 {
        self.node(number).acceptor.log().chosen_through().get()
    }

    pub fn state(&self, number: u64) -> ProposerState {
        self.node(number).proposer.state()
    }

    pub fn leads(&self, number: u64) -> bool {
        self.machines[&number]
            .node
            .as_ref()
            .is_some_and(|node| matches!(node.proposer.state(), ProposerState::Leading { .. }))
    }

    pub fn delivered(&self, number: u64) -> Vec<(u64, Value)> {
        self.machines[&number].delivered.clone()
    }

    /// One input, without carrying any message.
    pub fn input(&mut self, number: u64, input: Local) {
        self.with(number, |node, now, out| node.step(now, input, out));
    }

    pub fn campaign(&mut self, number: u64) {
        self.input(number, Local::Proposer(ProposerInput::Campaign));
    }

    pub fn propose(&mut self, number: u64, text: &str) {
        self.input(number, Local::Proposer(propose(text)));
    }

    /// Carries messages until none is under way.
    pub fn settle(&mut self) {
        for _ in 0..100_000 {
            if !self.carry() {
                return;
            }
        }
        panic!("messages go on for ever: {:?}", self.wire.front());
    }

    /// Carries the oldest message.
    pub fn carry(&mut self) -> bool {
        let Some((from, to, message)) = self.wire.pop_front() else { return false };
        if !self.cut.contains(&(from, to)) {
            self.with(to, |machine, now, out| machine.receive(now, node(from), message, out));
        }
        true
    }

    /// Loses every message under way that matches.
    pub fn lose(&mut self, mut matches: impl FnMut(u64, u64, &Message) -> bool) {
        self.wire.retain(|(from, to, message)| !matches(*from, *to, message));
    }

    /// Lets time pass: every deadline is met, every message carried.
    pub fn pass(&mut self, millis: u64) {
        let end = self.now + Duration::from_millis(millis);
        self.settle();
        while let Some((at, number, role)) = self.next_deadline().filter(|(at, ..)| *at <= end) {
            self.now = self.now.max(at);
            self.machines.get_mut(&number).unwrap().deadlines.remove(&role);
            self.with(number, |node, now, out| node.wake(now, role, out));
            self.settle();
        }
        self.now = end;
    }

    fn next_deadline(&self) -> Option<(Time, u64, Role)> {
        let all = self.machines.iter().flat_map(|(number, machine)| {
            machine.deadlines.iter().map(move |(role, at)| (*at, *number, *role))
        });
        all.min()
    }

    /// From now on the node's writes wait.
    pub fn hold(&mut self, number: u64) {
        self.machines.get_mut(&number).unwrap().held = true;
    }

    /// What the node has written so far becomes durable.
    pub fn flush(&mut self, number: u64) {
        let machine = self.machines.get_mut(&number).unwrap();
        machine.held = false;
        self.persist(number);
    }

    fn persist(&mut self, number: u64) {
        let machine = self.machines.get_mut(&number).unwrap();
        if machine.held || machine.unwritten.is_empty() {
            return;
        }
        for (_, records) in &machine.unwritten {
            for record in records {
                if let Record::Accepted { slot, id, value } = record {
                    machine.entries.insert(*slot, Entry { id: *id, value: value.clone() });
                } else if let Record::Chosen { slot, value } = record {
                    machine.entries.insert(*slot, Entry { id: id(0, 0), value: value.clone() });
                }
            }
        }
        machine.written.append(&mut machine.unwritten);
        let sequence = machine.written.last().unwrap().0;
        let (ready, waiting) = std::mem::take(&mut machine.waiting)
            .into_iter()
            .partition(|(after, ..): &(Sequence, u64, Message)| *after <= sequence);
        machine.waiting = waiting;
        self.wire.extend(ready.into_iter().map(|(_, to, message)| (number, to, message)));
        self.with(number, |node, now, out| {
            node.step(now, Local::Acceptor(AcceptorInput::Persisted { sequence }), out);
        });
    }

    fn with(&mut self, number: u64, act: impl FnOnce(&mut Node, Time, &mut Vec<(Role, Effect)>)) {
        let mut out = Vec::new();
        let now = self.now;
        let Some(node) = self.machines.get_mut(&number).and_then(|machine| machine.node.as_mut()) else {
            return;
        };
        act(node, now, &mut out);
        for (role, effect) in out {
            let machine = self.machines.get_mut(&number).unwrap();
            match effect {
                Effect::Persist { sequence, records } => machine.unwritten.push((sequence, records)),
                Effect::Send { to, message, after } => {
                    let newest = machine.written.last().map_or(Sequence(0), |(sequence, _)| *sequence);
                    match after.filter(|after| *after > newest) {
                        Some(after) => machine.waiting.push((after, to.get(), message)),
                        None => self.wire.push_back((number, to.get(), message)),
                    }
                }
                Effect::Read { slots, .. } => {
                    let mut next = slots.start;
                    let mut entries = Vec::new();
                    while let Some(entry) = machine.entries.get(&next).filter(|_| next < slots.end) {
                        entries.push((next, entry.clone()));
                        next = next.next();
                    }
                    self.input(number, Local::Acceptor(AcceptorInput::ReadBack { entries }));
                }
                Effect::Deliver { slot, value } => machine.delivered.push((slot.get(), value)),
                Effect::Deadline(at) => {
                    machine.deadlines.insert(role, at);
                }
                Effect::Event(event) => machine.events.push(event),
                Effect::Answer { ticket, answer } => machine.answers.push((ticket, answer)),
                Effect::Trim { .. } | Effect::Snapshot(_) => {}
                Effect::Admission { .. } | Effect::Local(_) => {}
            }
        }
        self.persist(number);
    }
}
