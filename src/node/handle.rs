//! The handle: how an application talks to its node, from any thread and any executor.

use super::{Leadership, ProposeError, ReadError, StateMachine, Status, StopCause};
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

/// A handle to a node: `Clone + Send + Sync`, plain futures, no runtime type.
pub struct Handle<S: StateMachine> {
    machine: PhantomData<fn() -> S>,
}

impl<S: StateMachine> Clone for Handle<S> {
    fn clone(&self) -> Self {
        Self { machine: PhantomData }
    }
}

impl<S: StateMachine> std::fmt::Debug for Handle<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handle").finish_non_exhaustive()
    }
}

/// Changes of leadership, newest state first; a slow reader sees the newest only.
#[derive(Debug)]
pub struct LeadershipStream {}

impl futures::Stream for LeadershipStream {
    type Item = Leadership;
    fn poll_next(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<Option<Leadership>> {
        todo!()
    }
}

impl<S: StateMachine> Handle<S> {
    /// The same handle with another deadline for its calls than `Config::propose_deadline`.
    pub fn with_deadline(&self, _deadline: Duration) -> Self {
        todo!()
    }

    /// Proposes `command`, and answers with the state machine's reply once it is chosen and applied by the leader. Waits for
    /// a credit if too many commands are under way.
    ///
    /// # Errors
    ///
    /// [`ProposeError`], within the deadline. Dropping the future does not take the command back.
    pub async fn propose(&self, _command: S::Command) -> Result<S::Reply, ProposeError> {
        todo!()
    }

    /// As [`Handle::propose`], but [`ProposeError::Busy`] where it would wait for a credit.
    ///
    /// # Errors
    ///
    /// [`ProposeError`].
    pub async fn try_propose(&self, _command: S::Command) -> Result<S::Reply, ProposeError> {
        todo!()
    }

    /// Reads what this node has applied: possibly stale, served without asking anybody.
    ///
    /// # Errors
    ///
    /// [`ReadError`].
    pub async fn read_stale<R: Send + 'static>(
        &self,
        _read: impl FnOnce(&S) -> R + Send + 'static,
    ) -> Result<R, ReadError> {
        todo!()
    }

    /// Reads the state that the leader, as this node knows it, has applied: asks it for its mark, waits until that is
    /// applied here, and reads. May be stale after a leader change, until reads are confirmed by a quorum.
    ///
    /// # Errors
    ///
    /// [`ReadError`], within the deadline.
    pub async fn read_from_leader<R: Send + 'static>(
        &self,
        _read: impl FnOnce(&S) -> R + Send + 'static,
    ) -> Result<R, ReadError> {
        todo!()
    }

    /// What the node knows of itself.
    ///
    /// # Errors
    ///
    /// The cause, if it has stopped.
    pub async fn status(&self) -> Result<Status, StopCause> {
        todo!()
    }

    /// The present leadership, then every change of it.
    pub fn leadership(&self) -> LeadershipStream {
        todo!()
    }

    /// Campaign now (for [`super::ElectionKind::External`]; harmless otherwise).
    ///
    /// # Errors
    ///
    /// The cause, if the node has stopped.
    pub async fn campaign(&self) -> Result<(), StopCause> {
        todo!()
    }

    /// Lead no more, until the application or the election says otherwise.
    ///
    /// # Errors
    ///
    /// The cause, if the node has stopped.
    pub async fn step_down(&self) -> Result<(), StopCause> {
        todo!()
    }

    /// Resolves when the node has stopped, with the cause.
    pub async fn stopped(&self) -> StopCause {
        todo!()
    }
}
