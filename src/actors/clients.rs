//! The proposer's clients: the commands that are not proposed yet, and those forwarded to the leader.
//!
//! Invariants: K1 a command is handed over (proposed or forwarded) at most once (12.1). K2 `answered_through` covers only
//! serials that nobody waits for any more (12.2).

use super::learner::EXPIRY;
use super::state::Taken;
use super::waiter::{Place, UNKNOWN, Waiter, forward_answer};
use super::wires::{LearnerMail, Wires};
use crate::multi::{
    BatchBuilder, BatchId, Effect, ForwardOutcome, Message, Origin, ProposerState, Request, Tag,
};
use crate::node::{NotLeaderReason, ProposeError, StateMachine};
use crate::paxos::NodeId;
use crate::timer::Time;
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

/// Messages of clients that a leader takes or answers with; the rest is the role's.
pub(super) struct Clients<S: StateMachine> {
    wires: Rc<Wires<S>>,
    /// In order of arrival.
    commands: VecDeque<Command<S>>,
    /// How many of them are of other nodes.
    of_peers: usize,
    /// By serial.
    forwarded: BTreeMap<u64, Forwarded<S>>,
    /// When the first of those who wait may have waited long enough, or the next question is due.
    next_look: Option<Time>,
}

struct Command<S: StateMachine> {
    /// A vector: a client's command is encoded into one, and `Bytes` would allocate once more to share it.
    bytes: Vec<u8>,
    request: Request,
    origin: Option<Origin>,
    waiter: Waiter<S>,
}

impl<S: StateMachine> Command<S> {
    fn tag(&self) -> Tag {
        Tag::new(self.request, self.origin)
    }
}

struct Forwarded<S: StateMachine> {
    to: NodeId,
    bytes: usize,
    waiter: Waiter<S>,
}

impl<S: StateMachine> Clients<S> {
    pub(super) fn new(wires: Rc<Wires<S>>) -> Self {
        Self { wires, commands: VecDeque::new(), of_peers: 0, forwarded: BTreeMap::new(), next_look: None }
    }

    /// When to call [`Clients::look`] again.
    pub(super) fn next_look(&self) -> Option<Time> {
        self.next_look
    }

    fn look_at(&mut self, at: Time) {
        self.next_look = Some(self.next_look.map_or(at, |next| next.min(at)));
    }

    // ---------------------------------------------------------------- commands

    /// A client of this node.
    pub(super) fn call(
        &mut self,
        now: Time,
        request: Request,
        bytes: Vec<u8>,
        patience: Duration,
        mut waiter: Waiter<S>,
    ) {
        waiter.expires = now + patience;
        self.look_at(waiter.expires + EXPIRY);
        self.commands.push_back(Command { bytes, request, origin: None, waiter });
    }

    /// A command that another node forwards; taken only while this node leads or is about to.
    pub(super) fn forwarded_here(
        &mut self,
        now: Time,
        from: NodeId,
        (origin, request, bytes): (Origin, Request, Bytes),
        state: ProposerState,
        out: &mut Vec<Effect>,
    ) {
        let config = &self.wires.config;
        let refusal = if state == ProposerState::Idle {
            Some(ForwardOutcome::NotLeader(self.wires.board.leader.get().map(|leader| leader.node)))
        } else if bytes.len() > command_bytes_max(config.batch_bytes_max) {
            Some(ForwardOutcome::TooLarge)
        } else {
            None
        };
        if let Some(refusal) = refusal {
            out.push(forward_answer(from, origin.serial, refusal));
            return;
        }
        let Some(place) = Place::take(&self.wires.forwarded, config.forwarded_max) else {
            out.push(forward_answer(from, origin.serial, ForwardOutcome::Busy));
            return;
        };
        let expires = now + config.propose_deadline;
        self.look_at(expires + EXPIRY);
        let waiter = Waiter::peer(from, origin.serial, place, expires);
        self.commands.push_back(Command { bytes: bytes.into(), request, origin: Some(origin), waiter });
        self.of_peers += 1;
    }

    /// The next batch, as full as it gets, once its callers wait at the learner.
    pub(super) fn next_batch(&mut self) -> Option<Bytes> {
        self.commands.front()?;
        let (commands_max, bytes_max) =
            (self.wires.config.batch_commands_max, self.wires.config.batch_bytes_max);
        let board = &self.wires.board;
        let serial = board.batch.get() + 1;
        board.batch.set(serial);
        let id = BatchId { node: self.wires.me(), incarnation: self.wires.incarnation(), serial };
        // If they are about as long as the first, the batch does not grow.
        let count = self.commands.len().min(commands_max);
        let first = self.commands.front().map_or(0, |next| BatchBuilder::cost(next.bytes.len(), &next.tag()));
        let mut batch = BatchBuilder::with_room(id, first.saturating_mul(count).min(bytes_max));
        let mut waiters = Vec::with_capacity(count);
        while batch.commands() < commands_max
            && let Some(next) = self.commands.front()
            && batch.size() + BatchBuilder::cost(next.bytes.len(), &next.tag()) <= bytes_max
            && let Some(mut command) = self.commands.pop_front()
        {
            batch.push(&command.tag(), &command.bytes);
            self.of_peers -= usize::from(command.origin.is_some());
            command.waiter.handed = true;
            waiters.push(command.waiter);
        }
        // The learner's queue is closed only when the node is over.
        let _ = self.wires.learner.send(LearnerMail::Batch { serial, waiters });
        Some(batch.finish())
    }

    /// While another node leads: hands the commands over to it, or says why not.
    pub(super) fn pass_on(&mut self, out: &mut Vec<Effect>) {
        let leader = self.wires.board.leader.get().map(|leader| leader.node);
        if self.of_peers > 0 {
            // A command is forwarded once: those of other nodes go back.
            let mut own = VecDeque::with_capacity(self.commands.len());
            for mut command in self.commands.drain(..) {
                if command.waiter.is_peer() {
                    let reason = NotLeaderReason::NoLeader;
                    command.waiter.fail(ProposeError::NotLeader { hint: leader, reason }, out);
                } else {
                    own.push_back(command);
                }
            }
            self.commands = own;
            self.of_peers = 0;
        }
        if !self.wires.config.forward {
            if let Some(hint) = leader.filter(|leader| *leader != self.wires.me()) {
                for mut command in self.commands.drain(..) {
                    let reason = NotLeaderReason::ForwardingOff;
                    command.waiter.fail(ProposeError::NotLeader { hint: Some(hint), reason }, out);
                }
            }
        } else if let Some(to) = self.wires.other_leader() {
            while let Some(command) = self.commands.pop_front() {
                self.forward(to, command, out);
            }
        }
    }

    fn forward(&mut self, to: NodeId, command: Command<S>, out: &mut Vec<Effect>) {
        let serial = self.wires.next_number();
        let Command { bytes, request, mut waiter, .. } = command;
        waiter.handed = true;
        self.forwarded.insert(serial, Forwarded { to, bytes: bytes.len(), waiter });
        let first = self.forwarded.first_key_value().map_or(serial, |(first, _)| *first);
        let origin = Origin {
            node: self.wires.me(),
            incarnation: self.wires.incarnation(),
            serial,
            answered_through: first - 1,
        };
        let message = Message::Forward { origin, request, command: bytes.into() };
        out.push(Effect::Send { to, message, after: None });
    }

    /// What became of a command that was forwarded.
    pub(super) fn forward_answered(
        &mut self,
        from: NodeId,
        serial: u64,
        outcome: ForwardOutcome,
        out: &mut Vec<Effect>,
    ) {
        if self.forwarded.get(&serial).is_none_or(|forwarded| forwarded.to != from) {
            return;
        }
        let Some(mut forwarded) = self.forwarded.remove(&serial) else { return };
        let taken = match outcome {
            ForwardOutcome::Applied(reply) => Taken::Known(reply),
            ForwardOutcome::SessionOpened(session) => Taken::Opened(session),
            ForwardOutcome::Malformed => Taken::Refused(ProposeError::Malformed),
            ForwardOutcome::SessionExpired => Taken::Refused(ProposeError::SessionExpired),
            ForwardOutcome::SerialAnswered => Taken::Refused(ProposeError::SerialAnswered),
            ForwardOutcome::SerialTooFar => Taken::Refused(ProposeError::SerialTooFar),
            ForwardOutcome::TooLarge => Taken::Refused(ProposeError::TooLarge {
                bytes: forwarded.bytes,
                bytes_max: command_bytes_max(self.wires.config.batch_bytes_max),
            }),
            // It was in a forwarded frame: nothing less is certain (12.1).
            _ => Taken::Refused(UNKNOWN),
        };
        forwarded.waiter.settle(taken, out);
    }

    /// The node that commands were forwarded to is gone, and its answers with it: their outcome is unknown.
    pub(super) fn leader_gone(&mut self, peer: NodeId, out: &mut Vec<Effect>) {
        self.forwarded.retain(|_, forwarded| {
            let stays = forwarded.to != peer;
            if !stays {
                forwarded.waiter.fail(UNKNOWN, out);
            }
            stays
        });
    }

    // ---------------------------------------------------------------- time

    /// Somebody waits for a credit: the node's clock runs for them, too.
    pub(super) fn credit_wanted(&mut self, now: Time) {
        if self.wires.shared.credits.expire(now) {
            self.look_at(now + EXPIRY);
        }
    }

    /// Answers those who have waited long enough.
    pub(super) fn look(&mut self, now: Time, state: ProposerState, out: &mut Vec<Effect>) {
        if self.next_look.is_none_or(|next| next > now) {
            return;
        }
        self.next_look = None;
        self.credit_wanted(now);
        let leader = self.wires.board.leader.get().map(|leader| leader.node);
        let formed = self.wires.board.membership.borrow().is_some();
        let mut next: Option<Time> = None;
        let mut expect = |expires: Time| next = Some(next.map_or(expires, |next| next.min(expires)));
        let of_peers = &mut self.of_peers;
        self.commands.retain_mut(|command| {
            if command.waiter.expires > now {
                expect(command.waiter.expires);
                return true;
            }
            *of_peers -= usize::from(command.origin.is_some());
            command.waiter.fail(never_sent(state, leader, formed), out);
            false
        });
        self.forwarded.retain(|_, forwarded| {
            let waits = !forwarded.waiter.expire(now, out);
            if waits {
                expect(forwarded.waiter.expires);
            }
            waits
        });
        if let Some(next) = next {
            self.look_at(next + EXPIRY);
        }
    }
}

/// Why a command was neither proposed nor forwarded before its time was over.
fn never_sent(state: ProposerState, hint: Option<NodeId>, formed: bool) -> ProposeError {
    match state {
        ProposerState::Leading { .. } => ProposeError::Busy,
        _ if !formed => ProposeError::NotLeader { hint, reason: NotLeaderReason::Forming },
        _ => ProposeError::NotLeader { hint, reason: NotLeaderReason::NoLeader },
    }
}

/// The longest command that fits a batch by itself, forwarded or not, in a session or not.
pub(crate) fn command_bytes_max(batch_bytes_max: usize) -> usize {
    let id = BatchId { node: NodeId::new(0), incarnation: 0, serial: 0 };
    batch_bytes_max.saturating_sub(BatchBuilder::new(id).size() + BatchBuilder::cost_max(0))
}
