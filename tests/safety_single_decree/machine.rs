//! A node of single-decree Paxos with its disk, and the clusters that are made of it.
//!
//! Leaves out: time, and so when to campaign and when to send again. A node may campaign at any time, as often as the
//! scope allows; to send again is for a letter to arrive again.

use crate::exhaustive::{Machine, Out, Scope, Verdict};
use std::collections::{BTreeMap, BTreeSet};
use synod::paxos::{Durable, Event, Message, Node, NodeId, Output, ProposalId, Quorum, Step, To};

/// What a mutant does without.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Without {
    /// Letters wait for the flush of what they rest on.
    FlushBeforeSend,
    /// A repeated answer, which writes nothing, waits for the flush of the first one (defect B10).
    FlushBeforeRepeat,
    /// A restart knows what was promised.
    PromiseAfterRestart,
    /// A restart knows what was accepted.
    AcceptedAfterRestart,
    /// A restart knows which ids were used (defect B12).
    IdAfterRestart,
    /// Only a promise for the present id counts.
    PromiseOfThisId,
}

/// What one node may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Part {
    /// How often it may campaign.
    pub campaigns: u8,
    /// Whether it may lose all that was not flushed, once.
    pub crashes: bool,
    /// Whether it hears what others accepted.
    pub learns: bool,
    /// Whether it hears refusals.
    pub hears_nacks: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Letter {
    from: NodeId,
    to: To,
    message: Message<u8>,
}

#[derive(Clone, Debug)]
pub enum Act {
    Campaign,
    Flush,
    Crash,
}

/// One node: the core as it runs, what its disk holds, and what waits for the flush.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Host {
    me: NodeId,
    quorum: Quorum,
    part: Part,
    without: Option<Without>,
    node: Node<u8>,
    disk: Durable<u8>,
    unflushed: Option<Durable<u8>>,
    waiting: Vec<Letter>,
    /// What it wants; another thing after a restart.
    wish: u8,
}

pub const ADOPTED: u64 = 1;
pub const GAVE_UP: u64 = 1 << 1;
pub const LEARNED: u64 = 1 << 2;
pub const FIRST_CHOSEN: u64 = 1 << 3;
pub const SECOND_CHOSEN: u64 = 1 << 4;
pub const LOST_ID: u64 = 1 << 5;
pub const LOST_PROMISE: u64 = 1 << 6;
pub const LOST_VOTE: u64 = 1 << 7;

const SIGHTS: [&str; 8] = [
    "a proposer adopts a value that it did not want",
    "a proposer gives up",
    "a value is learned",
    "the first value is chosen",
    "the second value is chosen",
    "a crash loses an unflushed id",
    "a crash loses an unflushed promise",
    "a crash loses an unflushed vote",
];

/// Nodes want 0 and 1 in turn, and the other thing after a restart.
const VALUES: u8 = 2;

impl Host {
    fn new(me: NodeId, quorum: Quorum, part: Part, without: Option<Without>) -> Self {
        let wish = u8::try_from((me.get() + 1) % u64::from(VALUES)).unwrap();
        let mut node = Node::new(me, quorum.clone());
        let _ = node.propose(wish);
        let disk = node.durable();
        Self { me, quorum, part, without, node, disk, unflushed: None, waiting: Vec::new(), wish }
    }

    fn is_without(&self, rule: Without) -> bool {
        self.without == Some(rule)
    }

    /// Persist, then send: what is sent waits for the flush of all that was written before.
    fn carry_out(&mut self, step: Step<Durable<u8>, Output<u8>>, out: &mut Out<Letter>) {
        let writes = step.write.is_some();
        if let Some(durable) = step.write {
            self.unflushed = Some(durable);
        }
        // Where no crash can come any more, to flush later is for the letters to arrive later.
        if !self.part.crashes {
            self.unflushed_is_durable();
        }
        if let Some((to, message)) = step.send.message {
            if matches!(&message, Message::Accept { value, .. } if *value != self.wish) {
                out.sights |= ADOPTED;
            }
            let letter = Letter { from: self.me, to, message };
            let too_early = self.is_without(Without::FlushBeforeSend)
                || self.is_without(Without::FlushBeforeRepeat) && !writes;
            if self.unflushed.is_none() || too_early {
                self.leave(letter, out);
            } else if !self.waiting.contains(&letter) {
                self.waiting.push(letter);
            }
        }
        match step.send.event {
            Some(Event::Chosen { value, .. }) => {
                out.sights |= LEARNED;
                out.learned |= 1 << value;
            }
            Some(Event::SafetyViolation(_)) => out.alarm = true,
            Some(Event::GaveUp(_)) => out.sights |= GAVE_UP,
            Some(Event::Leading(_)) | None => {}
        }
    }

    fn unflushed_is_durable(&mut self) {
        if let Some(durable) = self.unflushed.take() {
            self.disk = durable;
        }
    }

    /// A letter leaves; what a node says to itself is back at once.
    fn leave(&mut self, letter: Letter, out: &mut Out<Letter>) {
        let own = self.is_for(&letter).then(|| letter.message.clone());
        let to_others = letter.to != To::One(self.me);
        if to_others {
            out.sent.push(letter);
        }
        if let Some(message) = own {
            let step = self.node.on_message(self.me, message);
            self.carry_out(step, out);
        }
    }

    fn crash(&mut self, out: &mut Out<Letter>) {
        if let Some(lost) = self.unflushed.take() {
            let (kept, lost_acceptor) = (&self.disk.acceptor, &lost.acceptor);
            for (is_lost, sight) in [
                (lost.proposed != self.disk.proposed, LOST_ID),
                (lost_acceptor.promised != kept.promised, LOST_PROMISE),
                (lost_acceptor.accepted != kept.accepted, LOST_VOTE),
            ] {
                out.sights |= if is_lost { sight } else { 0 };
            }
        }
        if self.is_without(Without::PromiseAfterRestart) {
            self.disk.acceptor.promised = None;
        }
        if self.is_without(Without::AcceptedAfterRestart) {
            self.disk.acceptor.accepted = None;
        }
        let mut disk = self.disk.clone();
        if self.is_without(Without::IdAfterRestart) {
            disk.proposed = None;
            disk.acceptor.promised = None;
        }
        self.node = Node::recover(self.me, self.quorum.clone(), disk);
        self.wish = (self.wish + 1) % VALUES;
        let _ = self.node.propose(self.wish);
        self.waiting.clear();
        self.part.crashes = false;
    }
}

impl Machine for Host {
    type Letter = Letter;
    type Act = Act;

    fn acts(&self) -> Vec<Act> {
        let mut acts = Vec::new();
        if self.part.campaigns > 0 {
            acts.push(Act::Campaign);
        }
        if self.unflushed.is_some() {
            acts.push(Act::Flush);
        }
        if self.part.crashes {
            acts.push(Act::Crash);
        }
        acts
    }

    fn is_crash(act: &Act) -> bool {
        matches!(act, Act::Crash)
    }

    fn act(&mut self, act: &Act, out: &mut Out<Letter>) {
        match act {
            Act::Campaign => {
                self.part.campaigns -= 1;
                let step = self.node.prepare().unwrap();
                self.carry_out(step, out);
            }
            Act::Flush => {
                self.unflushed_is_durable();
                for letter in std::mem::take(&mut self.waiting) {
                    self.leave(letter, out);
                }
            }
            Act::Crash => self.crash(out),
        }
    }

    fn is_for(&self, letter: &Letter) -> bool {
        let is_heard = match letter.message {
            Message::Accepted { .. } => self.part.learns,
            Message::Nack { .. } => self.part.hears_nacks,
            _ => true,
        };
        is_heard && (letter.to == To::All || letter.to == To::One(self.me))
    }

    fn receive(&mut self, letter: &Letter, out: &mut Out<Letter>) {
        let mut message = letter.message.clone();
        if let (Message::Promise { id, .. }, Some(own)) = (&mut message, self.node.proposer().proposal())
            && self.is_without(Without::PromiseOfThisId)
        {
            *id = own;
        }
        // Its own letters were back at once.
        if letter.from != self.me {
            let step = self.node.on_message(letter.from, message);
            self.carry_out(step, out);
        }
    }
}

/// A cluster to walk, by what each of its nodes may do.
#[derive(Clone, Debug)]
pub struct Cluster {
    parts: Vec<Part>,
    /// How many crashes there may be in a run.
    crashes: u8,
    without: Option<Without>,
    quorum: Quorum,
}

impl Cluster {
    /// Majorities. For each node how often it may campaign, and which nodes may crash, but only so many of them in a run.
    pub fn new(campaigns: &[u8], crashing: &[usize], crashes: u8) -> Self {
        let part = |(index, campaigns): (usize, &u8)| Part {
            campaigns: *campaigns,
            crashes: crashing.contains(&index),
            learns: false,
            hears_nacks: true,
        };
        let parts = campaigns.iter().enumerate().map(part).collect::<Vec<_>>();
        let quorum = Quorum::majority((1..=parts.len() as u64).map(NodeId::new)).unwrap();
        Self { parts, crashes, without: None, quorum }
    }

    pub fn with_learner(mut self, node: usize) -> Self {
        self.parts[node].learns = true;
        self
    }

    /// Every refusal is lost.
    pub fn without_nacks(mut self) -> Self {
        self.parts.iter_mut().for_each(|part| part.hears_nacks = false);
        self
    }

    pub fn without(self, rule: Without) -> Self {
        Self { without: Some(rule), ..self }
    }
}

impl Scope for Cluster {
    type Machine = Host;

    fn sights(&self) -> &'static [&'static str] {
        &SIGHTS
    }

    fn expected(&self) -> u64 {
        let learns = self.parts.iter().any(|part| part.learns);
        let nacks = self.parts.iter().any(|part| part.hears_nacks);
        let always = ADOPTED | FIRST_CHOSEN | SECOND_CHOSEN | if nacks { GAVE_UP } else { 0 };
        let crash = if self.crashes > 0 { LOST_ID | LOST_PROMISE | LOST_VOTE } else { 0 };
        always | crash | if learns { LEARNED } else { 0 }
    }

    fn machines(&self) -> Vec<Host> {
        let node = |index: usize| NodeId::new(index as u64 + 1);
        let host =
            |(index, part): (usize, &Part)| Host::new(node(index), self.quorum.clone(), *part, self.without);
        self.parts.iter().enumerate().map(host).collect()
    }

    fn crashes(&self) -> u8 {
        self.crashes
    }

    fn counts(&self, letter: &Letter) -> bool {
        matches!(letter.message, Message::Accept { .. } | Message::Accepted { .. })
    }

    fn judge(&self, letters: &[&Letter]) -> Verdict {
        let mut votes = BTreeMap::<(ProposalId, u8), BTreeSet<NodeId>>::new();
        let mut values = BTreeMap::<ProposalId, u8>::new();
        let mut verdict = Verdict::default();
        for letter in letters {
            match letter.message {
                Message::Accept { id, value } | Message::Accepted { id, value } => {
                    verdict.wrong |= *values.entry(id).or_insert(value) != value;
                    if matches!(letter.message, Message::Accepted { .. }) {
                        votes.entry((id, value)).or_default().insert(letter.from);
                    }
                }
                _ => {}
            }
        }
        let chosen = votes.iter().filter(|(_, voters)| self.quorum.is_accepted_by(voters));
        verdict.chosen = chosen.fold(0, |chosen, ((_, value), _)| chosen | 1 << value);
        verdict.wrong |= verdict.chosen.count_ones() > 1;
        verdict
    }

    fn sighted(&self, chosen: u32) -> u64 {
        let sight = |value: u32, sight| if chosen >> value & 1 == 1 { sight } else { 0 };
        sight(0, FIRST_CHOSEN) | sight(1, SECOND_CHOSEN)
    }
}
