//! The handle: how an application talks to its node, from any thread and any executor.

use super::credits::Credit;
use super::watch::Subscription;
use super::{Config, Leadership, ProposeError, ReadError, StateMachine, Status, StopCause};
use crate::actors::{
    HeartbeatMail, LearnerMail, Lines, Outcome, ProposerMail, ReadCall, UNKNOWN, Waiter, command_bytes_max,
};
use crate::codec;
use crate::multi::{ElectionInput, Slot};
use crate::timer::Time;
use bytes::Bytes;
use futures::channel::oneshot;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

/// A handle to a node: `Clone + Send + Sync`, plain futures, no runtime type.
pub struct Handle<S: StateMachine> {
    lines: Lines<S>,
    deadline: Duration,
    command_bytes_max: usize,
}

impl<S: StateMachine> Clone for Handle<S> {
    fn clone(&self) -> Self {
        Self { lines: self.lines.clone(), ..*self }
    }
}

impl<S: StateMachine> std::fmt::Debug for Handle<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handle").field("deadline", &self.deadline).finish_non_exhaustive()
    }
}

/// Changes of leadership, newest state first; a slow reader sees the newest only.
#[derive(Debug)]
pub struct LeadershipStream {
    changes: Subscription<Leadership>,
}

impl futures::Stream for LeadershipStream {
    type Item = Leadership;
    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Leadership>> {
        self.changes.poll_change(context)
    }
}

impl<S: StateMachine> Handle<S> {
    pub(crate) fn new(lines: Lines<S>, config: &Config) -> Self {
        let command_bytes_max = command_bytes_max(config.batch_bytes_max);
        Self { lines, deadline: config.propose_deadline, command_bytes_max }
    }

    pub(super) fn tell(&self, mail: HeartbeatMail) -> Result<(), StopCause> {
        self.lines.heartbeat.unbounded_send(mail).map_err(|_| self.cause())
    }

    /// The same handle with another deadline for its calls than `Config::propose_deadline`.
    pub fn with_deadline(&self, deadline: Duration) -> Self {
        Self { deadline, ..self.clone() }
    }

    /// How long a call may take.
    pub(crate) fn deadline(&self) -> Duration {
        self.deadline
    }

    /// Proposes `command`, and answers with the state machine's reply once it is chosen and applied by the leader. Waits for
    /// a credit if too many commands are under way.
    ///
    /// # Errors
    ///
    /// [`ProposeError`], within the deadline. Dropping the future does not take the command back.
    pub async fn propose(&self, command: S::Command) -> Result<S::Reply, ProposeError> {
        let command = self.encode(&command)?;
        let credit = match self.lines.shared.credits.try_take() {
            Some(credit) => credit,
            None => self.wait_for_credit().await.map_err(|cause| match cause {
                Some(cause) => ProposeError::Stopped { cause },
                None => ProposeError::Busy,
            })?,
        };
        self.call(command, credit).await
    }

    /// As [`Handle::propose`], but [`ProposeError::Busy`] where it would wait for a credit.
    ///
    /// # Errors
    ///
    /// [`ProposeError`].
    pub async fn try_propose(&self, command: S::Command) -> Result<S::Reply, ProposeError> {
        let command = self.encode(&command)?;
        match (self.lines.shared.credits.try_take(), self.lines.shared.stopped()) {
            (_, Some(cause)) => Err(ProposeError::Stopped { cause }),
            (Some(credit), None) => self.call(command, credit).await,
            (None, None) => Err(ProposeError::Busy),
        }
    }

    fn encode(&self, command: &S::Command) -> Result<Bytes, ProposeError> {
        let bytes = codec::encode(command).map_err(|_| ProposeError::Malformed)?;
        if bytes.len() > self.command_bytes_max {
            return Err(ProposeError::TooLarge { bytes: bytes.len(), bytes_max: self.command_bytes_max });
        }
        Ok(Bytes::from(bytes))
    }

    async fn call(&self, command: Bytes, credit: Credit) -> Outcome<S> {
        let (reply, outcome) = oneshot::channel();
        let waiter = Waiter::caller(reply, credit);
        let mail = ProposerMail::Call { command, patience: self.deadline, waiter };
        if self.lines.proposer.unbounded_send(mail).is_err() {
            return Err(ProposeError::Stopped { cause: self.cause() });
        }
        // A waiter that goes without a word was never handed over, or its role has panicked.
        outcome.await.unwrap_or_else(|_| match self.lines.shared.stopped() {
            Some(cause) => Err(ProposeError::Stopped { cause }),
            None => Err(UNKNOWN),
        })
    }

    /// A credit; `None` if none came in time, or why the node gives none any more.
    async fn wait_for_credit(&self) -> Result<Credit, Option<StopCause>> {
        let place = self.lines.shared.credits.wait(self.deadline);
        let asked = self.lines.proposer.unbounded_send(ProposerMail::CreditWanted);
        if asked.is_err() {
            return Err(Some(self.cause()));
        }
        place.await.map_err(|_| self.lines.shared.stopped())
    }

    /// Reads what this node has applied: possibly stale, served without asking anybody.
    ///
    /// # Errors
    ///
    /// [`ReadError`].
    pub async fn read_stale<R: Send + 'static>(
        &self,
        read: impl FnOnce(&S) -> R + Send + 'static,
    ) -> Result<R, ReadError> {
        self.read(read, |call| {
            let mail = LearnerMail::Read { at: Slot::ZERO, leader: None, call };
            self.lines.learner.unbounded_send(mail).is_ok()
        })
        .await
    }

    /// Reads the state that the leader, as this node knows it, has applied: asks it for its mark, waits until that is
    /// applied here, and reads. May be stale after a leader change, until reads are confirmed by a quorum.
    ///
    /// # Errors
    ///
    /// [`ReadError`], within the deadline.
    pub async fn read_from_leader<R: Send + 'static>(
        &self,
        read: impl FnOnce(&S) -> R + Send + 'static,
    ) -> Result<R, ReadError> {
        self.read(read, |call| self.lines.proposer.unbounded_send(ProposerMail::Read(call)).is_ok()).await
    }

    async fn read<R: Send + 'static>(
        &self,
        read: impl FnOnce(&S) -> R + Send + 'static,
        send: impl FnOnce(ReadCall<S>) -> bool,
    ) -> Result<R, ReadError> {
        let credit = match self.lines.shared.credits.try_take() {
            Some(credit) => credit,
            None => self.wait_for_credit().await.map_err(|cause| match cause {
                Some(cause) => ReadError::Stopped { cause },
                None => ReadError::Busy,
            })?,
        };
        let (reply, outcome) = oneshot::channel();
        let read = Box::new(move |state: Result<&S, ReadError>| {
            // A caller that has gone need not hear it.
            let _ = reply.send(state.map(read));
        });
        let call = ReadCall { read, patience: self.deadline, expires: Time::ZERO, _credit: credit };
        if !send(call) {
            return Err(ReadError::Stopped { cause: self.cause() });
        }
        outcome.await.unwrap_or_else(|_| match self.lines.shared.stopped() {
            Some(cause) => Err(ReadError::Stopped { cause }),
            None => Err(ReadError::Interrupted),
        })
    }

    /// What the node knows of itself.
    ///
    /// # Errors
    ///
    /// The cause, if it has stopped.
    pub async fn status(&self) -> Result<Status, StopCause> {
        let (asker, status) = oneshot::channel();
        self.tell(HeartbeatMail::Status(asker))?;
        status.await.map_err(|_| self.cause())
    }

    /// The present leadership, then every change of it.
    pub fn leadership(&self) -> LeadershipStream {
        LeadershipStream { changes: self.lines.shared.leadership.subscribe() }
    }

    /// Campaign now (for [`super::ElectionKind::External`]; harmless otherwise).
    ///
    /// # Errors
    ///
    /// The cause, if the node has stopped.
    pub async fn campaign(&self) -> Result<(), StopCause> {
        self.tell(HeartbeatMail::Input(ElectionInput::Campaign, None))
    }

    /// Lead no more, until the application or the election says otherwise.
    ///
    /// # Errors
    ///
    /// The cause, if the node has stopped.
    pub async fn step_down(&self) -> Result<(), StopCause> {
        self.tell(HeartbeatMail::Input(ElectionInput::StepDown, None))
    }

    /// Resolves when the node has stopped, with the cause.
    pub async fn stopped(&self) -> StopCause {
        self.lines.shared.over().await
    }

    fn cause(&self) -> StopCause {
        self.lines.shared.stopped().unwrap_or(StopCause::Gone)
    }

    /// Makes a role panic at its next turn: for tests of what is rebuilt.
    #[cfg(any(test, feature = "testing"))]
    #[doc(hidden)]
    pub fn panic_role(&self, role: crate::multi::Role) {
        use crate::actors::AcceptorMail;
        use crate::multi::Role;
        let lines = &self.lines;
        // A node that is over has nothing left to panic.
        let _ = match role {
            Role::Proposer => lines.proposer.unbounded_send(ProposerMail::Panic).is_ok(),
            Role::Acceptor => lines.acceptor.unbounded_send(AcceptorMail::Panic).is_ok(),
            Role::Learner => lines.learner.unbounded_send(LearnerMail::Panic).is_ok(),
            Role::Election => lines.heartbeat.unbounded_send(HeartbeatMail::Panic).is_ok(),
        };
    }
}
