//! Waiters: who wants to know what became of a command or a read.
//!
//! Invariant: every waiter hears exactly once, by an answer or, through its drop, that the outcome is unknown.

use super::state::Taken;
use crate::codec;
use crate::multi::{Effect, ForwardOutcome, Message, SessionId};
use crate::node::credits::Credit;
use crate::node::{
    ChangeError, NotLeaderReason, ProposeError, ReadError, StateMachine, StopCause, TransferError,
};
use crate::paxos::NodeId;
use crate::timer::Time;
use bytes::Bytes;
use futures::channel::oneshot;
use serde::Serialize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// How a call ends.
pub(crate) type Outcome<S> = Result<<S as StateMachine>::Reply, ProposeError>;

/// Who waits for a command.
pub(crate) struct Waiter<S: StateMachine> {
    to: Option<To<S>>,
    /// By when it wants to know.
    pub(super) expires: Time,
    /// The command may have left this node: nothing but its reply is certain any more (12.1).
    pub(super) handed: bool,
}

enum To<S: StateMachine> {
    Caller { reply: oneshot::Sender<Outcome<S>>, _credit: Credit },
    Opener { reply: oneshot::Sender<Result<SessionId, ProposeError>>, _credit: Credit },
    Peer { node: NodeId, serial: u64, _place: Place },
}

/// A forwarded command's place at the leader.
pub(super) struct Place(Arc<AtomicUsize>);

impl Place {
    /// A place, if fewer than `places_max` are taken.
    pub(super) fn take(taken: &Arc<AtomicUsize>, places_max: usize) -> Option<Self> {
        if taken.load(Ordering::Relaxed) >= places_max {
            return None;
        }
        taken.fetch_add(1, Ordering::Relaxed);
        Some(Self(Arc::clone(taken)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<S: StateMachine> Waiter<S> {
    pub(crate) fn caller(reply: oneshot::Sender<Outcome<S>>, credit: Credit) -> Self {
        Self { to: Some(To::Caller { reply, _credit: credit }), expires: Time::ZERO, handed: false }
    }

    /// Waits for a session to be opened.
    pub(crate) fn opener(reply: oneshot::Sender<Result<SessionId, ProposeError>>, credit: Credit) -> Self {
        Self { to: Some(To::Opener { reply, _credit: credit }), expires: Time::ZERO, handed: false }
    }

    pub(super) fn peer(node: NodeId, serial: u64, place: Place, expires: Time) -> Self {
        Self { to: Some(To::Peer { node, serial, _place: place }), expires, handed: false }
    }

    /// Whether it waits for another node's client.
    pub(super) fn is_peer(&self) -> bool {
        matches!(self.to, Some(To::Peer { .. }))
    }

    /// The command was chosen, and this came of it.
    pub(super) fn settle(&mut self, taken: Taken<S::Reply>, out: &mut Vec<Effect>) {
        match taken {
            // Another waiter answers for the same command.
            Taken::Repeated => self.to = None,
            Taken::Refused(error) => self.fail(error, out),
            taken => match self.to.take() {
                // A caller that has gone need not hear it.
                Some(To::Caller { reply, .. }) => drop(reply.send(typed::<S>(taken))),
                Some(To::Opener { reply, .. }) => {
                    let opened = if let Taken::Opened(session) = taken { Ok(session) } else { Err(UNKNOWN) };
                    drop(reply.send(opened));
                }
                Some(To::Peer { node, serial, .. }) => out.push(forward_answer(node, serial, encoded(taken))),
                None => {}
            },
        }
    }

    /// The command was not applied, or nobody knows.
    pub(super) fn fail(&mut self, error: ProposeError, out: &mut Vec<Effect>) {
        match self.to.take() {
            Some(To::Caller { reply, .. }) => drop(reply.send(Err(error))),
            Some(To::Opener { reply, .. }) => drop(reply.send(Err(error))),
            Some(To::Peer { node, serial, .. }) => {
                let outcome = match error {
                    ProposeError::NotLeader { hint, .. } => ForwardOutcome::NotLeader(hint),
                    ProposeError::Busy => ForwardOutcome::Busy,
                    ProposeError::TooLarge { .. } => ForwardOutcome::TooLarge,
                    ProposeError::Malformed => ForwardOutcome::Malformed,
                    ProposeError::SessionExpired => ForwardOutcome::SessionExpired,
                    ProposeError::SerialAnswered => ForwardOutcome::SerialAnswered,
                    ProposeError::SerialTooFar => ForwardOutcome::SerialTooFar,
                    _ => ForwardOutcome::Unknown,
                };
                out.push(forward_answer(node, serial, outcome));
            }
            None => {}
        }
    }

    /// Fails with `Unknown` if its time is over; whether it waits no more.
    pub(super) fn expire(&mut self, now: Time, out: &mut Vec<Effect>) -> bool {
        if self.expires <= now {
            self.fail(UNKNOWN, out);
        }
        self.to.is_none()
    }
}

impl<S: StateMachine> Drop for Waiter<S> {
    fn drop(&mut self) {
        if self.handed && !self.is_peer() {
            // Nobody but a peer is answered by an effect.
            self.fail(UNKNOWN, &mut Vec::new());
        }
    }
}

/// What a caller of this node hears of a command that was applied.
fn typed<S: StateMachine>(taken: Taken<S::Reply>) -> Outcome<S> {
    match taken {
        Taken::Applied(reply) | Taken::Kept(reply, _) => Ok(reply),
        Taken::Known(reply) => codec::decode(&reply).map_err(|_| UNKNOWN),
        _ => Err(UNKNOWN),
    }
}

/// What another node hears of a command that was applied, or a session that was opened.
fn encoded<R: Serialize>(taken: Taken<R>) -> ForwardOutcome {
    match taken {
        Taken::Applied(reply) => codec::encode(&reply)
            .map_or(ForwardOutcome::Unknown, |reply| ForwardOutcome::Applied(Bytes::from(reply))),
        Taken::Kept(_, reply) | Taken::Known(reply) => ForwardOutcome::Applied(reply),
        Taken::Opened(session) => ForwardOutcome::SessionOpened(session),
        _ => ForwardOutcome::Unknown,
    }
}

/// The outcome that nobody can tell, and a repeat of which may apply the command twice.
pub(crate) const UNKNOWN: ProposeError = ProposeError::Unknown { retry_is_safe: false };

pub(super) fn forward_answer(to: NodeId, serial: u64, outcome: ForwardOutcome) -> Effect {
    Effect::Send { to, message: Message::ForwardAnswer { serial, outcome }, after: None }
}

/// Why an operator's call was not asked for at all.
#[derive(Clone, Debug)]
pub(crate) enum AdminError {
    /// No leader was known in time.
    NoLeader(Option<NodeId>),
    /// Too many are under way.
    Busy,
    /// The node is over.
    Stopped(StopCause),
}

impl From<AdminError> for ChangeError {
    fn from(error: AdminError) -> Self {
        match error {
            AdminError::NoLeader(hint) => Self::NotLeader { hint, reason: NotLeaderReason::NoLeader },
            AdminError::Busy => Self::Busy,
            AdminError::Stopped(cause) => Self::Stopped { cause },
        }
    }
}

impl From<AdminError> for TransferError {
    fn from(error: AdminError) -> Self {
        match error {
            AdminError::NoLeader(hint) => Self::NotLeader { hint, reason: NotLeaderReason::NoLeader },
            AdminError::Busy => Self::Busy,
            AdminError::Stopped(cause) => Self::Stopped { cause },
        }
    }
}

/// What a read does with the state, or with the reason why it does not see it.
pub(crate) type ReadFn<S> = Box<dyn FnOnce(Result<&S, ReadError>) + Send>;

/// A read that waits.
pub(crate) struct ReadCall<S> {
    pub(crate) read: ReadFn<S>,
    pub(crate) patience: Duration,
    pub(crate) expires: Time,
    /// Given back with the call.
    pub(crate) _credit: Credit,
}

impl<S> ReadCall<S> {
    pub(super) fn serve(self, answer: Result<&S, ReadError>) {
        (self.read)(answer);
    }
}
