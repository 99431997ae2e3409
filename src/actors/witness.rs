//! The learner's shell on a witness: keeps the log complete, and applies nothing.
//!
//! A witness learns what is chosen like any other node, since its log is cut only as far as it has learned (protocol 4.3),
//! and drops what the others apply.
//! Never does: hold a state, or answer from one.

use super::pump::{Desk, Flow, LastWords, Part, Pump, panic_as_asked};
use super::wires::{HeartbeatMail, LearnerMail, Receiver, Wires};
use crate::multi::{Effect, Learner, LearnerInput, Role};
use crate::node::{ReadError, SnapshotError, StateMachine};
use actix::{Actor, AsyncContext, Context};
use std::rc::Rc;
use std::task::Context as Task;

pub(super) struct WitnessActor<S: StateMachine> {
    role: Learner,
    desk: Desk<S>,
    queue: Receiver<LearnerMail<S>>,
    last_words: LastWords,
}

impl<S: StateMachine> WitnessActor<S> {
    pub(super) fn new(wires: Rc<Wires<S>>, queue: Receiver<LearnerMail<S>>, role: Learner) -> Self {
        let last_words = LastWords::of(Role::Learner, &wires);
        Self { role: role.witness(), desk: Desk::new(wires), queue, last_words }
    }

    fn step(&mut self, input: LearnerInput) {
        self.role.step(self.desk.now, input, &mut self.desk.effects);
    }
}

impl<S: StateMachine> Part for WitnessActor<S> {
    type Mail = LearnerMail<S>;

    fn begin(&mut self) {
        if self.desk.begin() {
            self.step(LearnerInput::Wake);
        }
    }

    fn receive(&mut self, mail: LearnerMail<S>) {
        match mail {
            LearnerMail::Input(input, held) => {
                self.step(input);
                drop(held);
            }
            LearnerMail::Read { call, .. } => call.serve(Err(ReadError::Witness)),
            // Whoever asked may have gone.
            LearnerMail::Snapshot { reply, .. } => drop(reply.send(Err(SnapshotError::Witness))),
            // A witness never leads. Whoever waits all the same hears by the drop that nobody knows.
            LearnerMail::Batch { .. } | LearnerMail::BatchOver { .. } | LearnerMail::SnapshotDamaged(_) => {}
            LearnerMail::Ping => self.desk.wires.pong(Role::Learner),
            LearnerMail::Panic => panic_as_asked(),
        }
    }

    fn finish(&mut self, task: &mut Task<'_>) -> Flow {
        let wires = Rc::clone(&self.desk.wires);
        self.desk.carry_out(None, |effect| {
            if let Effect::Event(event) = effect {
                wires.tell(HeartbeatMail::Event(event));
            }
        });
        self.desk.sleep(None, task);
        self.desk.flow()
    }

    fn panicked(&mut self, message: String) {
        self.last_words.panicked = Some(message);
    }
}

impl<S: StateMachine> Actor for WitnessActor<S> {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        context.spawn(Pump::<Self>::new(Rc::clone(&self.queue)));
    }
}
