//! Calls that need the leader's word and propose nothing: linearizable reads, and what operators ask for.
//!
//! A call of this node goes to the own role while it leads, else to the leader; one of another node to the own role only. A
//! read asks again until its time is over, and so does a change of the membership, which goes on from where it is. A transfer
//! is asked for once.

use super::learner::EXPIRY;
use super::waiter::{AdminError, ReadCall};
use super::wires::{LearnerMail, Wires};
use crate::multi::{AdminCall, AdminOutcome, Answer, Effect, Message, ProposerInput, ProposerState, Slot};
use crate::node::{ReadError, StateMachine};
use crate::paxos::{NodeId, ProposalId};
use crate::timer::Time;
use futures::channel::oneshot;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

/// Who waits for an operator's call.
pub(super) type AdminReply = oneshot::Sender<Result<AdminOutcome, AdminError>>;

/// The calls under way, by ticket, which is their number where another node is asked.
pub(super) struct Calls<S: StateMachine> {
    wires: Rc<Wires<S>>,
    calls: BTreeMap<u64, Call<S>>,
    /// Not with the role, and not asked for yet.
    new: VecDeque<u64>,
    /// How many are of other nodes, and how many are operators'.
    of_peers: usize,
    of_operators: usize,
    /// When the first may have waited long enough, or is to be asked for again.
    next_look: Option<Time>,
}

struct Call<S: StateMachine> {
    kind: Kind<S>,
    stage: Stage,
    expires: Time,
}

enum Kind<S: StateMachine> {
    Read { call: ReadCall<S>, lease: bool },
    Admin { call: AdminCall, reply: AdminReply },
    PeerRead { node: NodeId, request: u64 },
    PeerAdmin { node: NodeId, request: u64, call: AdminCall },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    New,
    WithRole,
    Asked { leader: NodeId, at: Time },
}

impl<S: StateMachine> Kind<S> {
    fn is_of_peer(&self) -> bool {
        matches!(self, Self::PeerRead { .. } | Self::PeerAdmin { .. })
    }

    fn is_of_operator(&self) -> bool {
        matches!(self, Self::Admin { .. } | Self::PeerAdmin { .. })
    }
}

impl<S: StateMachine> Calls<S> {
    pub(super) fn new(wires: Rc<Wires<S>>) -> Self {
        Self {
            wires,
            calls: BTreeMap::new(),
            new: VecDeque::new(),
            of_peers: 0,
            of_operators: 0,
            next_look: None,
        }
    }

    /// When to call [`Calls::look`] again.
    pub(super) fn next_look(&self) -> Option<Time> {
        self.next_look
    }

    fn look_at(&mut self, at: Time) {
        self.next_look = Some(self.next_look.map_or(at, |next| next.min(at)));
    }

    fn take_in(&mut self, kind: Kind<S>, expires: Time) {
        self.look_at(expires + EXPIRY);
        let ticket = self.wires.next_number();
        self.of_peers += usize::from(kind.is_of_peer());
        self.of_operators += usize::from(kind.is_of_operator());
        self.calls.insert(ticket, Call { kind, stage: Stage::New, expires });
        self.new.push_back(ticket);
    }

    fn remove(&mut self, ticket: u64) -> Option<Call<S>> {
        let call = self.calls.remove(&ticket)?;
        self.of_peers -= usize::from(call.kind.is_of_peer());
        self.of_operators -= usize::from(call.kind.is_of_operator());
        Some(call)
    }

    // ---------------------------------------------------------------- arriving

    /// A client's read.
    pub(super) fn read(&mut self, now: Time, mut call: ReadCall<S>, lease: bool) {
        call.expires = now + call.patience;
        let expires = call.expires;
        self.take_in(Kind::Read { call, lease }, expires);
    }

    /// An operator's call.
    pub(super) fn admin(&mut self, now: Time, call: AdminCall, patience: Duration, reply: AdminReply) {
        if self.of_operators >= self.wires.config.admin_max {
            // Whoever asked may have gone.
            let _ = reply.send(Err(AdminError::Busy));
        } else {
            self.take_in(Kind::Admin { call, reply }, now + patience);
        }
    }

    /// Another node asks for a read's mark; it asks again if nothing comes.
    pub(super) fn mark_wanted(
        &mut self,
        now: Time,
        node: NodeId,
        request: u64,
        state: ProposerState,
        out: &mut Vec<Effect>,
    ) {
        if !matches!(state, ProposerState::Leading { .. }) {
            out.push(mark_answer(node, request, None));
        } else if self.of_peers < self.wires.config.forwarded_max {
            let expires = now + self.wires.config.propose_deadline;
            self.take_in(Kind::PeerRead { node, request }, expires);
        }
    }

    /// Another node passes an operator's call on.
    pub(super) fn admin_wanted(
        &mut self,
        now: Time,
        node: NodeId,
        request: u64,
        call: AdminCall,
        state: ProposerState,
        out: &mut Vec<Effect>,
    ) {
        let known = self.calls.values().any(|known| {
            matches!(&known.kind, Kind::PeerAdmin { node: of, request: same, .. } if (*of, *same) == (node, request))
        });
        if !matches!(state, ProposerState::Leading { .. }) {
            let hint = self.wires.board.leader.get().map(|leader| leader.node);
            out.push(admin_answer(node, request, AdminOutcome::NotLeader(hint)));
        } else if !known && self.of_operators < self.wires.config.admin_max {
            let expires = now + self.wires.config.change_patience;
            self.take_in(Kind::PeerAdmin { node, request, call }, expires);
        }
    }

    // ---------------------------------------------------------------- on their way

    /// Brings what is new to the own role while it leads, else to the leader.
    pub(super) fn serve(
        &mut self,
        now: Time,
        state: ProposerState,
        out: &mut Vec<Effect>,
    ) -> Vec<ProposerInput> {
        let (mut inputs, mut reads, mut leased) = (Vec::new(), Vec::new(), Vec::new());
        let other = self.wires.other_leader();
        for ticket in std::mem::take(&mut self.new) {
            let Some(call) = self.calls.get_mut(&ticket) else { continue };
            match (state, other) {
                (ProposerState::Leading { .. }, _) => {
                    call.stage = Stage::WithRole;
                    match &call.kind {
                        Kind::Read { lease: true, .. } => leased.push(ticket),
                        Kind::Read { .. } | Kind::PeerRead { .. } => reads.push(ticket),
                        Kind::Admin { call, .. } | Kind::PeerAdmin { call, .. } => {
                            inputs.push(ProposerInput::Admin { ticket, call: call.clone() });
                        }
                    }
                }
                _ if call.kind.is_of_peer() => self.end_of_lead(ticket, out),
                (ProposerState::Idle, Some(leader)) => {
                    call.stage = Stage::Asked { leader, at: now };
                    let message = match &call.kind {
                        Kind::Admin { call, .. } => Message::Admin { request: ticket, call: call.clone() },
                        _ => Message::ReadMark { request: ticket },
                    };
                    out.push(Effect::Send { to: leader, message, after: None });
                    self.look_at(now + self.wires.limits.resend);
                }
                _ => self.new.push_back(ticket),
            }
        }
        for (tickets, lease) in [(reads, false), (leased, true)] {
            if !tickets.is_empty() {
                inputs.push(ProposerInput::Read { tickets, lease });
            }
        }
        inputs
    }

    /// The role has answered.
    pub(super) fn answered(
        &mut self,
        ticket: u64,
        answer: Answer,
        id: Option<ProposalId>,
        out: &mut Vec<Effect>,
    ) {
        match answer {
            Answer::Readable(mark) => self.readable(ticket, mark, id, out),
            Answer::NotLeading => self.end_of_lead(ticket, out),
            Answer::Admin(outcome) => self.admin_done(ticket, outcome, out),
        }
    }

    fn readable(&mut self, ticket: u64, mark: Slot, id: Option<ProposalId>, out: &mut Vec<Effect>) {
        match self.remove(ticket).map(|call| call.kind) {
            Some(Kind::Read { call, .. }) => self.serve_at(mark, None, call),
            Some(Kind::PeerRead { node, request }) => {
                out.push(mark_answer(node, request, id.map(|id| (id, mark))));
            }
            _ => {}
        }
    }

    /// This node leads no more: calls of its own go to who leads next, those of others back.
    fn end_of_lead(&mut self, ticket: u64, out: &mut Vec<Effect>) {
        if self.calls.get(&ticket).is_some_and(|call| call.kind.is_of_peer()) {
            let hint = self.wires.board.leader.get().map(|leader| leader.node);
            match self.remove(ticket).map(|call| call.kind) {
                Some(Kind::PeerRead { node, request }) => out.push(mark_answer(node, request, None)),
                Some(Kind::PeerAdmin { node, request, .. }) => {
                    out.push(admin_answer(node, request, AdminOutcome::NotLeader(hint)));
                }
                _ => {}
            }
        } else {
            self.again(ticket);
        }
    }

    fn again(&mut self, ticket: u64) {
        if let Some(call) = self.calls.get_mut(&ticket)
            && call.stage != Stage::New
        {
            call.stage = Stage::New;
            self.new.push_back(ticket);
        }
    }

    /// What became of an operator's call here, or at the leader.
    fn admin_done(&mut self, ticket: u64, outcome: AdminOutcome, out: &mut Vec<Effect>) {
        let Some(call) = self.calls.get(&ticket) else { return };
        let asks_again = matches!(
            (&call.kind, &outcome),
            (Kind::Admin { .. }, AdminOutcome::NotLeader(_))
                | (Kind::Admin { call: AdminCall::Change(_), .. }, AdminOutcome::Unknown)
        );
        if asks_again {
            // Not at once: who leads is not settled.
            return self.pause(ticket);
        }
        match self.remove(ticket).map(|call| call.kind) {
            // Whoever asked may have gone.
            Some(Kind::Admin { reply, .. }) => drop(reply.send(Ok(outcome))),
            Some(Kind::PeerAdmin { node, request, .. }) => out.push(admin_answer(node, request, outcome)),
            _ => {}
        }
    }

    /// Asks again after a while.
    fn pause(&mut self, ticket: u64) {
        let (me, now) = (self.wires.me(), self.wires.timer.now());
        if let Some(call) = self.calls.get_mut(&ticket) {
            call.stage = Stage::Asked { leader: me, at: now };
            self.look_at(now + self.wires.limits.resend);
        }
    }

    /// The leader's answer to a read; an old leader's counts no less, since it was confirmed after this very request.
    pub(super) fn mark_answered(&mut self, from: NodeId, request: u64, mark: Option<(ProposalId, Slot)>) {
        let asked = self.calls.get(&request).map(|call| call.stage);
        if !matches!(asked, Some(Stage::Asked { leader, .. }) if leader == from) {
            return;
        }
        match mark {
            None => self.pause(request),
            Some((_, mark)) => {
                if let Some(Call { kind: Kind::Read { call, .. }, .. }) = self.remove(request) {
                    self.serve_at(mark, Some(from), call);
                }
            }
        }
    }

    /// The leader's answer to an operator's call.
    pub(super) fn admin_answered(
        &mut self,
        from: NodeId,
        request: u64,
        outcome: AdminOutcome,
        out: &mut Vec<Effect>,
    ) {
        let asked = self.calls.get(&request).map(|call| call.stage);
        if matches!(asked, Some(Stage::Asked { leader, .. }) if leader == from) {
            self.admin_done(request, outcome, out);
        }
    }

    fn serve_at(&self, at: Slot, leader: Option<NodeId>, call: ReadCall<S>) {
        // The learner's queue is closed only when the node is over.
        let _ = self.wires.learner.send(LearnerMail::Read { at, leader, call });
    }

    // ---------------------------------------------------------------- time

    /// Answers those who have waited long enough, and asks again for what may be lost.
    pub(super) fn look(&mut self, now: Time) {
        if self.next_look.is_none_or(|next| next > now) {
            return;
        }
        self.next_look = None;
        let resend = self.wires.limits.resend;
        let over = self.calls.iter().filter(|(_, call)| call.expires <= now).map(|(ticket, _)| *ticket);
        for ticket in over.collect::<Vec<_>>() {
            self.expire(ticket);
        }
        let due = self
            .calls
            .iter()
            .filter(|(_, call)| matches!(call.stage, Stage::Asked { at, .. } if now.since(at) >= resend));
        for ticket in due.map(|(ticket, _)| *ticket).collect::<Vec<_>>() {
            let call = self.calls.get(&ticket);
            let is_once = |call: &Call<S>| {
                let told = !matches!(call.stage, Stage::Asked { leader, .. } if leader == self.wires.me());
                told && matches!(&call.kind, Kind::Admin { call: AdminCall::Transfer(_), .. })
            };
            if !call.is_some_and(is_once) {
                self.again(ticket);
            }
        }
        let waits = self.calls.values().any(|call| matches!(call.stage, Stage::Asked { .. }));
        let first = self.calls.values().map(|call| call.expires + EXPIRY).min();
        if let Some(next) = first.into_iter().chain(waits.then(|| now + resend)).min() {
            self.look_at(next);
        }
    }

    fn expire(&mut self, ticket: u64) {
        let hint = self.wires.board.leader.get().map(|leader| leader.node);
        let Some(Call { kind, stage, .. }) = self.remove(ticket) else { return };
        match (kind, stage) {
            (Kind::Read { call, .. }, Stage::New) => call.serve(Err(ReadError::NoLeader { hint })),
            (Kind::Read { call, .. }, _) => call.serve(Err(ReadError::Deadline)),
            // Whoever asked may have gone.
            (Kind::Admin { reply, .. }, Stage::New) => drop(reply.send(Err(AdminError::NoLeader(hint)))),
            (Kind::Admin { reply, .. }, _) => drop(reply.send(Ok(AdminOutcome::Unknown))),
            // The node that asked keeps its own time.
            (Kind::PeerRead { .. } | Kind::PeerAdmin { .. }, _) => {}
        }
    }
}

fn mark_answer(to: NodeId, request: u64, mark: Option<(ProposalId, Slot)>) -> Effect {
    Effect::Send { to, message: Message::ReadMarkAnswer { request, mark }, after: None }
}

fn admin_answer(to: NodeId, request: u64, outcome: AdminOutcome) -> Effect {
    Effect::Send { to, message: Message::AdminAnswer { request, outcome }, after: None }
}
