//! The proposer's shell: fills batches while it leads, hands commands over while another does.
//!
//! A batch is proposed when the mailbox is drained, so batches form by themselves and nobody lingers. Its callers wait at
//! the learner before it is proposed.
//! Never does: touch the disk but through the acceptor.

use super::calls::Calls;
use super::clients::Clients;
use super::pump::{Desk, Flow, LastWords, Part, Pump, panic_as_asked};
use super::wires::{Fate, HeartbeatMail, LearnerMail, ProposerMail, Receiver, Wires};
use crate::multi::{Answer, Batch, Effect, Event, Message, Proposer, ProposerInput, ProposerState, Role};
use crate::node::StateMachine;
use crate::paxos::NodeId;
use actix::{Actor, AsyncContext, Context};
use bytes::Bytes;
use std::rc::Rc;
use std::task::Context as Task;

pub(super) struct ProposerActor<S: StateMachine> {
    role: Proposer,
    clients: Clients<S>,
    calls: Calls<S>,
    desk: Desk<S>,
    queue: Receiver<ProposerMail<S>>,
    last_words: LastWords,
}

impl<S: StateMachine> ProposerActor<S> {
    pub(super) fn new(wires: Rc<Wires<S>>, queue: Receiver<ProposerMail<S>>, role: Proposer) -> Self {
        let last_words = LastWords::of(Role::Proposer, &wires);
        wires.board.proposer.set(None);
        let (clients, calls) = (Clients::new(Rc::clone(&wires)), Calls::new(Rc::clone(&wires)));
        Self { role, clients, calls, desk: Desk::new(wires), queue, last_words }
    }

    fn step(&mut self, input: ProposerInput) {
        self.role.step(self.desk.now, input, &mut self.desk.effects);
    }

    /// Clients' messages are the shell's; the rest is the role's.
    fn input(&mut self, input: ProposerInput) {
        match input {
            ProposerInput::Message { from, message } => self.message(from, message),
            ProposerInput::LinkDown { peer } => {
                self.clients.leader_gone(peer, &mut self.desk.effects);
                self.step(ProposerInput::LinkDown { peer });
            }
            input => self.step(input),
        }
    }

    fn message(&mut self, from: NodeId, message: Message) {
        let out = &mut self.desk.effects;
        match message {
            Message::Forward { origin, request, command } => {
                let (state, asked) = (self.role.state(), (origin, request, command));
                self.clients.forwarded_here(self.desk.now, from, asked, state, out);
            }
            Message::ForwardAnswer { serial, outcome } => {
                self.clients.forward_answered(from, serial, outcome, out);
            }
            Message::ReadMark { request } => {
                self.calls.mark_wanted(self.desk.now, from, request, self.role.state(), out);
            }
            Message::ReadMarkAnswer { request, mark } => self.calls.mark_answered(from, request, mark),
            Message::Admin { request, call } => {
                self.calls.admin_wanted(self.desk.now, from, request, call, self.role.state(), out);
            }
            Message::AdminAnswer { request, outcome } => {
                self.calls.admin_answered(from, request, outcome, out);
            }
            message => self.step(ProposerInput::Message { from, message }),
        }
    }

    /// The role's answers to reads and operators.
    fn answered(&mut self, answers: Vec<(u64, Answer)>) {
        let id = match self.role.state() {
            ProposerState::Leading { id } => Some(id),
            _ => None,
        };
        for (ticket, answer) in answers {
            self.calls.answered(ticket, answer, id, &mut self.desk.effects);
        }
    }

    /// Proposes what waits, as far as the window allows, or hands it over to who leads.
    fn serve(&mut self) {
        let now = self.desk.now;
        match self.role.state() {
            ProposerState::Leading { .. } => {
                while self.role.room() > 0
                    && let Some(batch) = self.clients.next_batch()
                {
                    self.step(ProposerInput::Propose { batch });
                }
            }
            // What comes of the campaign is soon known.
            ProposerState::Preparing { .. } => {}
            ProposerState::Idle => self.clients.pass_on(&mut self.desk.effects),
        }
        self.clients.look(now, self.role.state(), &mut self.desk.effects);
        self.calls.look(now);
        for input in self.calls.serve(now, self.role.state(), &mut self.desk.effects) {
            self.step(input);
        }
    }
}

/// Tells the learner, where the callers of the batch wait.
fn batch_over<S: StateMachine>(wires: &Wires<S>, batch: Bytes, fate: Fate) {
    // A batch of an earlier start has no callers here.
    let Ok(batch) = Batch::read(batch) else { return };
    let id = batch.id();
    if id.node == wires.me() && id.incarnation == wires.incarnation() {
        // The learner's queue is closed only when the node is over.
        let _ = wires.learner.send(LearnerMail::BatchOver { serial: id.serial, fate });
    }
}

impl<S: StateMachine> Part for ProposerActor<S> {
    type Mail = ProposerMail<S>;

    fn begin(&mut self) {
        if self.desk.begin() {
            self.step(ProposerInput::Wake);
        }
    }

    fn receive(&mut self, mail: ProposerMail<S>) {
        match mail {
            ProposerMail::Call { request, command, patience, waiter } => {
                self.clients.call(self.desk.now, request, command, patience, waiter);
            }
            ProposerMail::Input(input, held) => {
                self.input(input);
                drop(held);
            }
            ProposerMail::Admin { call, patience, reply } => {
                self.calls.admin(self.desk.now, call, patience, reply);
            }
            ProposerMail::Read(call) => self.calls.read(self.desk.now, call, false),
            ProposerMail::LeaseRead(call) => self.calls.read(self.desk.now, call, true),
            ProposerMail::CreditWanted => self.clients.credit_wanted(self.desk.now),
            // The turn that it begins serves those who wait.
            ProposerMail::LeaderChanged => {}
            ProposerMail::Ping => self.desk.wires.pong(Role::Proposer),
            ProposerMail::Panic => panic_as_asked(),
        }
    }

    fn finish(&mut self, task: &mut Task<'_>) -> Flow {
        self.serve();
        let wires = Rc::clone(&self.desk.wires);
        let mut answers = Vec::new();
        self.desk.carry_out(None, |effect| match effect {
            Effect::Answer { ticket, answer } => answers.push((ticket, answer)),
            Effect::Event(Event::BatchRefused { batch }) => batch_over(&wires, batch, Fate::Refused),
            Effect::Event(Event::BatchLost { batch }) => batch_over(&wires, batch, Fate::Lost),
            Effect::Event(event) => wires.tell(HeartbeatMail::Event(event)),
            _ => {}
        });
        wires.board.proposer.set(Some(self.role.state()));
        if !answers.is_empty() {
            self.answered(answers);
            // What follows from them is the next turn's.
            task.waker().wake_by_ref();
        }
        let looks = [self.clients.next_look(), self.calls.next_look()];
        self.desk.sleep(looks.into_iter().flatten().min(), task);
        self.desk.flow()
    }

    fn panicked(&mut self, message: String) {
        self.last_words.panicked = Some(message);
    }
}

impl<S: StateMachine> Actor for ProposerActor<S> {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        context.spawn(Pump::<Self>::new(Rc::clone(&self.queue)));
    }
}
