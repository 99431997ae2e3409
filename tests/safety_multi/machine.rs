//! A node of Multi-Paxos with its disk: the product's `Proposer` and `Acceptor`, put together by the product's `route`.
//!
//! In place of the learner, whose choice of peers is random, a stand-in asks at once whoever is said to have more, and hands
//! what comes to the acceptor. Time stands still: nothing is sent again but by arriving again, and who campaigns is open.
//! Leaves out: the election, leases, reads, trimming and snapshots, and the sequences that votes show (protocol 9.4).

use crate::exhaustive::{Machine, Out};
use bytes::Bytes;
use std::collections::VecDeque;
use synod::multi::node::address;
use synod::multi::*;
use synod::paxos::NodeId;

/// What a mutant does without.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Without {
    /// Letters wait for the flush of what they rest on (1.2).
    FlushBeforeSend,
    /// A restart knows what was promised (1.1).
    PromiseAfterRestart,
    /// A restart knows what was accepted (1.1).
    AcceptedAfterRestart,
    /// A promise reports what was accepted (1.4).
    ReportOfAccepted,
}

/// What one node may do in a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Part {
    pub campaigns: u8,
    /// Batches that it may propose.
    pub batches: u8,
    /// A membership that it may change to, once.
    pub change: Option<Membership>,
    pub crashes: bool,
    /// Whether it hears refusals.
    pub hears_nacks: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Letter {
    pub from: NodeId,
    pub to: NodeId,
    pub message: Message,
}

#[derive(Clone, Debug)]
pub enum Act {
    Campaign,
    Propose,
    Change,
    Flush,
    Crash,
}

/// One node: the core as it runs, what its disk holds, and what waits for the flush.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Host {
    part: Part,
    without: Option<Without>,
    proposer: Proposer,
    acceptor: Acceptor,
    disk: Log,
    durable: Sequence,
    unflushed: Vec<Record>,
    written: Sequence,
    waiting: Vec<Letter>,
    /// A nack that was taken is not taken again: it would draw another number, and nothing else.
    nacks: Vec<Letter>,
    /// What the next batch holds.
    batch: u8,
}

pub const LOST_PROMISE: u64 = 1;
pub const LOST_VOTE: u64 = 1 << 1;
pub const LED: u64 = 1 << 2;
pub const LED_AGAIN: u64 = 1 << 3;
pub const CAUGHT_UP: u64 = 1 << 4;
pub const CHANGE_LEARNED: u64 = 1 << 5;

/// A value as a number below [`VALUES`]: a no-op, a membership, or a batch.
pub fn code(value: &Value) -> u32 {
    match value {
        Value::Noop => 0,
        Value::Membership(_) => 1,
        Value::Batch(bytes) => 2 + u32::from(bytes[0]),
    }
}

pub const VALUES: u32 = 6;

/// A value at a slot as a bit.
pub fn bit(slot: Slot, value: &Value) -> u32 {
    let at = u32::try_from(slot.get() - 1).unwrap() * VALUES + code(value);
    assert!(at < 31, "more slots than bits");
    1 << at
}

fn identity(me: NodeId) -> Identity {
    Identity {
        owner: Owner { cluster: ClusterId::new("model").unwrap(), epoch: 0, node: me },
        disk: DiskId(me.get()),
        incarnations: Vec::new(),
        sequence: Sequence(0),
        protocol: ProtocolRange::OURS,
    }
}

impl Host {
    pub fn new(me: NodeId, first: &Membership, part: Part, without: Option<Without>) -> Self {
        let disks = first.members().keys().map(|member| (*member, DiskId(member.get()))).collect();
        let mut disk = Log::default();
        disk.set_cache(Limits::default().cache_bytes_max);
        disk.apply(&Record::Formed { membership: first.clone(), disks });
        let batch = 2 * u8::try_from(me.get() - 1).unwrap();
        let mut host = Self {
            part,
            without,
            proposer: Proposer::new(me, Limits::default(), 0),
            acceptor: Acceptor::new(identity(me), None, Sequence(0), disk.clone(), Limits::default()),
            disk,
            durable: Sequence(0),
            unflushed: Vec::new(),
            written: Sequence(0),
            waiting: Vec::new(),
            nacks: Vec::new(),
            batch,
        };
        host.step(Local::Acceptor(AcceptorInput::Start), &mut Out::default());
        host
    }

    fn me(&self) -> NodeId {
        self.acceptor.node()
    }

    fn is_without(&self, rule: Without) -> bool {
        self.without == Some(rule)
    }

    /// One input, and all that the roles have to say to each other because of it.
    fn step(&mut self, input: Local, out: &mut Out<Letter>) {
        let mut inputs = VecDeque::from([input]);
        let mut effects = Vec::new();
        let led = matches!(self.proposer.state(), ProposerState::Leading { .. });
        while let Some(input) = inputs.pop_front() {
            match input {
                Local::Proposer(input) => self.proposer.step(Time::ZERO, input, &mut effects),
                Local::Acceptor(input) => self.acceptor.step(Time::ZERO, input, &mut effects),
                Local::Learner(input) => inputs.extend(self.learn(input, out)),
                Local::Election(_) => {}
            }
            for effect in effects.drain(..) {
                inputs.extend(self.carry_out(effect, out));
            }
        }
        if !led && matches!(self.proposer.state(), ProposerState::Leading { .. }) {
            out.sights |= if self.part.crashes { LED } else { LED | LED_AGAIN };
        }
    }

    /// What the learner's stand-in does.
    fn learn(&mut self, input: LearnerInput, out: &mut Out<Letter>) -> Option<Local> {
        match input {
            LearnerInput::Learned { values, .. } => {
                for (slot, value) in values {
                    out.learned |= bit(slot, &value);
                    if matches!(value, Value::Membership(_)) {
                        out.sights |= CHANGE_LEARNED;
                    }
                }
                None
            }
            LearnerInput::Behind { peer, chosen_through, .. } => {
                let message = Message::CatchUp { from: chosen_through.next(), bytes_max: 1000 };
                self.send(peer, message, None, out)
            }
            LearnerInput::Message { message: Message::Chosen { first, values, .. }, .. } => {
                out.sights |= CAUGHT_UP;
                Some(Local::Acceptor(AcceptorInput::Store { first, values }))
            }
            _ => None,
        }
    }

    fn carry_out(&mut self, effect: Effect, out: &mut Out<Letter>) -> Option<Local> {
        match effect {
            Effect::Local(local) => return Some(local),
            Effect::Persist { sequence, records } => {
                self.written = sequence;
                self.unflushed.extend(records);
                // Where no crash can come any more, to flush later is for the letters to arrive later.
                if !self.part.crashes {
                    self.flush_records();
                    return Some(Local::Acceptor(AcceptorInput::Persisted { sequence }));
                }
            }
            Effect::Send { to, message, after } => return self.send(to, message, after, out),
            Effect::Event(Event::Abstains { .. }) => out.alarm = true,
            Effect::Read { .. } | Effect::Trim { .. } | Effect::Snapshot(_) => {
                panic!("not in this model: {effect:?}")
            }
            _ => {}
        }
        None
    }

    /// Sends once the write `after` is durable; what goes to this node itself is back at once.
    fn send(
        &mut self,
        to: NodeId,
        mut message: Message,
        after: Option<Sequence>,
        out: &mut Out<Letter>,
    ) -> Option<Local> {
        match &mut message {
            Message::Promise { sequence, page, .. } => {
                *sequence = Sequence(0);
                if self.is_without(Without::ReportOfAccepted) {
                    page.entries.clear();
                }
            }
            Message::Accepted { sequence, .. } => *sequence = Sequence(0),
            _ => {}
        }
        let letter = Letter { from: self.me(), to, message };
        let waits = after.is_some_and(|after| after > self.durable);
        if waits && !self.is_without(Without::FlushBeforeSend) {
            if !self.waiting.contains(&letter) {
                self.waiting.push(letter);
            }
            return None;
        }
        self.leave(letter, out)
    }

    /// A letter leaves. What a node says to itself is in the history, too, where it is a proposal or a vote.
    fn leave(&mut self, letter: Letter, out: &mut Out<Letter>) -> Option<Local> {
        let own = (letter.to == self.me()).then(|| address(letter.from, letter.message.clone()));
        if own.is_none() || matches!(letter.message, Message::Accept { .. } | Message::Accepted { .. }) {
            out.sent.push(letter);
        }
        own
    }

    fn flush_records(&mut self) {
        for record in std::mem::take(&mut self.unflushed) {
            let forgotten = match record {
                Record::Promised { .. } => self.is_without(Without::PromiseAfterRestart),
                Record::Accepted { .. } => self.is_without(Without::AcceptedAfterRestart),
                _ => false,
            };
            if !forgotten {
                self.disk.apply(&record);
            }
        }
        self.durable = self.written;
    }

    fn flush(&mut self, out: &mut Out<Letter>) {
        self.flush_records();
        let waiting = std::mem::take(&mut self.waiting);
        let own: Vec<Local> = waiting.into_iter().filter_map(|letter| self.leave(letter, out)).collect();
        self.step(Local::Acceptor(AcceptorInput::Persisted { sequence: self.durable }), out);
        own.into_iter().for_each(|input| self.step(input, out));
    }

    fn crash(&mut self, out: &mut Out<Letter>) {
        for record in std::mem::take(&mut self.unflushed) {
            out.sights |= match record {
                Record::Promised { .. } => LOST_PROMISE,
                Record::Accepted { .. } => LOST_VOTE,
                _ => 0,
            };
        }
        let me = self.me();
        self.written = self.durable;
        self.waiting.clear();
        self.nacks.clear();
        self.part.crashes = false;
        self.batch |= 1;
        self.proposer = Proposer::new(me, Limits::default(), 0);
        self.acceptor = Acceptor::new(identity(me), None, self.durable, self.disk.clone(), Limits::default());
        self.step(Local::Acceptor(AcceptorInput::Start), out);
    }

    /// Everybody answers and is near, as far as this leader is told: that is for progress only (6.2).
    fn change(&mut self, goal: Membership, out: &mut Out<Letter>) {
        let me = self.me();
        for peer in goal.voting().filter(|peer| *peer != me) {
            let progress = ProposerInput::Progress { peer, durable_through: Slot::ZERO, witness: false };
            self.step(Local::Proposer(progress), out);
        }
        let call = AdminCall::Change(Change::Set(goal));
        self.step(Local::Proposer(ProposerInput::Admin { ticket: 0, call }), out);
    }
}

impl Machine for Host {
    type Letter = Letter;
    type Act = Act;

    fn acts(&self) -> Vec<Act> {
        let room = self.proposer.room() > 0;
        [
            (self.part.campaigns > 0, Act::Campaign),
            (self.part.batches > 0 && room, Act::Propose),
            (self.part.change.is_some() && room, Act::Change),
            (self.written > self.durable, Act::Flush),
            (self.part.crashes, Act::Crash),
        ]
        .into_iter()
        .filter_map(|(may, act)| may.then_some(act))
        .collect()
    }

    fn is_crash(act: &Act) -> bool {
        matches!(act, Act::Crash)
    }

    fn act(&mut self, act: &Act, out: &mut Out<Letter>) {
        match act {
            Act::Campaign => {
                self.part.campaigns -= 1;
                self.step(Local::Proposer(ProposerInput::Campaign), out);
            }
            Act::Propose => {
                self.part.batches -= 1;
                let batch = Bytes::copy_from_slice(&[self.batch]);
                self.step(Local::Proposer(ProposerInput::Propose { batch }), out);
            }
            Act::Change => {
                let goal = self.part.change.take().unwrap();
                self.change(goal, out);
            }
            Act::Flush => self.flush(out),
            Act::Crash => self.crash(out),
        }
    }

    fn is_for(&self, letter: &Letter) -> bool {
        let is_nack = matches!(letter.message, Message::Nack { .. });
        letter.to == self.me() && letter.from != self.me() && (self.part.hears_nacks || !is_nack)
    }

    fn receive(&mut self, letter: &Letter, out: &mut Out<Letter>) {
        if matches!(letter.message, Message::Nack { .. }) {
            if self.nacks.contains(letter) {
                return;
            }
            self.nacks.push(letter.clone());
        }
        self.step(address(letter.from, letter.message.clone()), out);
    }
}
