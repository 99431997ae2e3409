//! The pump: how an actor reads its queue.
//!
//! Each wake takes a bounded number of inputs, then lets the actor finish the turn (fill a batch, carry the effects out,
//! set its alarm). A panic in a turn ends the actor; its [`LastWords`] tell the supervisor, however it goes.

use super::alarm::Alarm;
use super::carry_out::{Writes, carry_out};
use super::queue::Sender;
use super::wires::{HeartbeatMail, Receiver, Wires};
use crate::multi::{Effect, Role};
use crate::node::StateMachine;
use crate::timer::Time;
use actix::fut::ActorFuture;
use actix::{Actor, ActorContext, Context};
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context as Task, Poll};

/// An actor that reads a queue.
pub(super) trait Part: Actor<Context = Context<Self>> {
    /// What is in its queue.
    type Mail: 'static;

    /// How many inputs it takes before others have their turn.
    const TURN: usize = 256;

    /// A turn begins: look at the clock.
    fn begin(&mut self);

    /// Takes one input.
    fn receive(&mut self, mail: Self::Mail);

    /// The turn is over: carry out what it brought, and ask to be woken.
    fn finish(&mut self, task: &mut Task<'_>) -> Flow;

    /// A turn has panicked; the actor goes.
    fn panicked(&mut self, message: String);
}

/// Whether an actor goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    Continue,
    Stop,
}

/// Reads the queue of `A` for as long as `A` lives.
pub(super) struct Pump<A: Part> {
    queue: Receiver<A::Mail>,
}

impl<A: Part> Pump<A> {
    pub(super) fn new(queue: Receiver<A::Mail>) -> Self {
        Self { queue }
    }

    fn turn(&self, actor: &mut A, task: &mut Task<'_>) -> Flow {
        actor.begin();
        let mut drained = false;
        for _ in 0..A::TURN {
            // One at a time, and not borrowed during the step: what a panic leaves is still in the queue.
            let next = self.queue.borrow_mut().poll_next(task);
            match next {
                Poll::Ready(Some(mail)) => actor.receive(mail),
                Poll::Ready(None) => return Flow::Stop,
                Poll::Pending => {
                    drained = true;
                    break;
                }
            }
        }
        if !drained {
            task.waker().wake_by_ref();
        }
        actor.finish(task)
    }
}

impl<A: Part> ActorFuture<A> for Pump<A> {
    type Output = ();

    fn poll(
        self: Pin<&mut Self>,
        actor: &mut A,
        context: &mut Context<A>,
        task: &mut Task<'_>,
    ) -> Poll<Self::Output> {
        match catch_unwind(AssertUnwindSafe(|| self.turn(actor, task))) {
            Ok(Flow::Continue) => return Poll::Pending,
            Ok(Flow::Stop) => {}
            Err(panic) => actor.panicked(said(panic.as_ref())),
        }
        context.stop();
        Poll::Ready(())
    }
}

/// What a panic said.
pub(super) fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "(no message)".to_owned())
}

/// Ends a turn like a panic, for a test of what is rebuilt.
pub(super) fn panic_as_asked() {
    std::panic::resume_unwind(Box::new("asked to"))
}

/// Tells the supervisor that a role is gone, when it is.
pub(super) struct LastWords {
    role: Role,
    supervisor: Sender<HeartbeatMail>,
    pub(super) panicked: Option<String>,
}

impl LastWords {
    pub(super) fn of<S: StateMachine>(role: Role, wires: &Wires<S>) -> Self {
        Self { role, supervisor: wires.heartbeat.clone(), panicked: None }
    }
}

impl Drop for LastWords {
    fn drop(&mut self) {
        let mail = HeartbeatMail::Died { role: self.role, panicked: self.panicked.take() };
        // When the supervisor is gone, nobody needs to hear it.
        let _ = self.supervisor.send(mail);
    }
}

/// What every actor has on its desk: the wires, the time, what its role wants done, and its alarm.
pub(super) struct Desk<S: StateMachine> {
    pub(super) wires: Rc<Wires<S>>,
    pub(super) now: Time,
    /// What the role wants done.
    pub(super) effects: Vec<Effect>,
    /// Of that, what the actor itself must do.
    own: Vec<Effect>,
    /// The role's deadline.
    deadline: Option<Time>,
    alarm: Alarm,
}

impl<S: StateMachine> Desk<S> {
    pub(super) fn new(wires: Rc<Wires<S>>) -> Self {
        let alarm = Alarm::new(Rc::clone(&wires).timer.clone());
        let now = wires.timer.now();
        Self { wires, now, effects: Vec::new(), own: Vec::new(), deadline: None, alarm }
    }

    /// Looks at the clock; whether the role's deadline has come.
    pub(super) fn begin(&mut self) -> bool {
        self.now = self.wires.timer.now();
        let due = self.deadline.is_some_and(|deadline| deadline <= self.now);
        if due {
            self.deadline = None;
        }
        due
    }

    /// Carries out what the role wants done; what is left for the actor itself is handed to `own`.
    pub(super) fn carry_out(&mut self, writes: Option<&mut Writes>, mut own: impl FnMut(Effect)) {
        carry_out(&self.wires, writes, &mut self.effects, &mut self.own);
        for effect in self.own.drain(..) {
            match effect {
                Effect::Deadline(at) => self.deadline = Some(at),
                effect => own(effect),
            }
        }
    }

    /// Asks to be woken at the role's deadline, or at `also` if that is earlier.
    pub(super) fn sleep(&mut self, also: Option<Time>, task: &mut Task<'_>) {
        if let Some(at) = [self.deadline, also].into_iter().flatten().min() {
            self.alarm.set(at, task);
        }
    }

    pub(super) fn flow(&self) -> Flow {
        if self.wires.board.over.get() { Flow::Stop } else { Flow::Continue }
    }
}
