//! Sessions, as a client holds one: calls that may be made again and apply once (protocol 12.3).

use super::{Handle, ProposeError, StateMachine};
use crate::multi::{Request, SessionId, SessionStamp};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A client's session: it numbers its calls, and the cluster remembers which of them were applied and with which reply,
/// through changes of the leader, restarts and snapshots.
///
/// A session that was not used for long expires when others are opened: see
/// [`Membership::with_sessions_max`](crate::Membership::with_sessions_max). Clones share the numbers.
///
/// ```no_run
/// # async fn f<S: synod::StateMachine>(handle: synod::Handle<S>, command: S::Command) -> Result<(), synod::ProposeError> {
/// use synod::ProposeError;
///
/// let session = handle.open_session().await?;
/// let call = session.call(command)?;
/// let reply = loop {
///     match call.send().await {
///         // It may have been applied: asked again, it is not applied again.
///         Err(ProposeError::Unknown { retry_is_safe: true }) => continue,
///         outcome => break outcome?,
///     }
/// };
/// # drop(reply);
/// # Ok(())
/// # }
/// ```
pub struct Session<S: StateMachine> {
    handle: Handle<S>,
    serials: Arc<Serials>,
}

/// A command with its place in a session. However often and through whichever node it is sent, it is applied once at most.
///
/// Dropping it gives it up: later calls of the session say so, and if it is still on its way it is not applied any more.
pub struct SessionCall<S: StateMachine> {
    handle: Handle<S>,
    serials: Arc<Serials>,
    serial: u64,
    command: Vec<u8>,
}

/// The serials that a session has given out.
#[derive(Debug)]
struct Serials {
    session: SessionId,
    given: Mutex<Given>,
}

#[derive(Debug)]
struct Given {
    last: u64,
    /// Those whose answer is not there yet.
    open: BTreeSet<u64>,
}

impl Given {
    fn answered_through(&self) -> u64 {
        self.open.first().map_or(self.last, |first| first - 1)
    }
}

impl Serials {
    fn after(session: SessionId, answered_through: u64) -> Arc<Self> {
        let given = Given { last: answered_through, open: BTreeSet::new() };
        Arc::new(Self { session, given: Mutex::new(given) })
    }

    /// The next serial, unless so many are open that the reply to it would not be kept.
    fn next(&self) -> Option<u64> {
        let mut given = self.given();
        let serial = given.last.checked_add(1)?;
        if serial - given.answered_through() > SessionStamp::OPEN_MAX {
            return None;
        }
        given.last = serial;
        given.open.insert(serial);
        Some(serial)
    }

    fn stamp(&self, serial: u64) -> SessionStamp {
        let answered_through = self.given().answered_through();
        SessionStamp { session: self.session, serial, answered_through }
    }

    fn close(&self, serial: u64) {
        self.given().open.remove(&serial);
    }

    fn given(&self) -> MutexGuard<'_, Given> {
        self.given.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: StateMachine> Clone for Session<S> {
    fn clone(&self) -> Self {
        Self { handle: self.handle.clone(), serials: Arc::clone(&self.serials) }
    }
}

impl<S: StateMachine> std::fmt::Debug for Session<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("serials", &self.serials).finish_non_exhaustive()
    }
}

impl<S: StateMachine> std::fmt::Debug for SessionCall<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SessionCall").field("stamp", &self.stamp()).finish_non_exhaustive()
    }
}

impl<S: StateMachine> Session<S> {
    /// Which session: with it and [`Session::answered_through`] a client goes on after a restart
    /// ([`Handle::resume_session`]).
    pub fn id(&self) -> SessionId {
        self.serials.session
    }

    /// Every call through this serial is answered or given up. Every one above it that was made is still open.
    pub fn answered_through(&self) -> u64 {
        self.serials.given().answered_through()
    }

    /// A call of this session, to be sent.
    ///
    /// # Errors
    ///
    /// [`ProposeError::Malformed`] and [`ProposeError::TooLarge`] for what is wrong with the command; [`ProposeError::SerialTooFar`]
    /// while the oldest call that is still open is [`SessionStamp::OPEN_MAX`] calls back.
    pub fn call(&self, command: S::Command) -> Result<SessionCall<S>, ProposeError> {
        let command = self.handle.encode(&command)?;
        let serial = self.serials.next().ok_or(ProposeError::SerialTooFar)?;
        let (handle, serials) = (self.handle.clone(), Arc::clone(&self.serials));
        Ok(SessionCall { handle, serials, serial, command })
    }

    /// Proposes `command` in this session once: for what is not made again.
    ///
    /// # Errors
    ///
    /// As [`Session::call`] and [`SessionCall::send`]; but after [`ProposeError::Unknown`] the call is given up, and the next
    /// one has another serial, so no retry is safe.
    pub async fn propose(&self, command: S::Command) -> Result<S::Reply, ProposeError> {
        match self.call(command)?.send().await {
            Err(ProposeError::Unknown { .. }) => Err(ProposeError::Unknown { retry_is_safe: false }),
            outcome => outcome,
        }
    }
}

impl<S: StateMachine> SessionCall<S> {
    /// What the log will say of this call, for a retry by [`Handle::propose_in_session`].
    pub fn stamp(&self) -> SessionStamp {
        self.serials.stamp(self.serial)
    }

    /// Proposes the command, or asks for the reply to it if it was applied before. After an error that leaves the outcome
    /// open (`Unknown`, `NotLeader`, `Busy`) it may be sent again.
    ///
    /// # Errors
    ///
    /// [`ProposeError`], within the deadline.
    pub async fn send(&self) -> Result<S::Reply, ProposeError> {
        self.send_through(&self.handle).await
    }

    /// As [`SessionCall::send`], but through another node: when this one is gone, say.
    ///
    /// # Errors
    ///
    /// [`ProposeError`], within the deadline.
    pub async fn send_through(&self, handle: &Handle<S>) -> Result<S::Reply, ProposeError> {
        let outcome = handle.send_in_session(self.stamp(), self.command.clone()).await;
        if !matches!(
            outcome,
            Err(ProposeError::Unknown { .. }
                | ProposeError::NotLeader { .. }
                | ProposeError::Busy
                | ProposeError::Stopped { .. })
        ) {
            self.serials.close(self.serial);
        }
        outcome
    }
}

impl<S: StateMachine> Drop for SessionCall<S> {
    fn drop(&mut self) {
        self.serials.close(self.serial);
    }
}

impl<S: StateMachine> Handle<S> {
    /// Opens a session, by an entry of the log.
    ///
    /// # Errors
    ///
    /// [`ProposeError`], within the deadline. After [`ProposeError::Unknown`] there may be a session that nobody uses; it
    /// expires in time.
    pub async fn open_session(&self) -> Result<Session<S>, ProposeError> {
        let session = self.request_session().await?;
        Ok(Session { handle: self.clone(), serials: Serials::after(session, 0) })
    }

    /// Goes on with a session that was opened before, through whichever node, by a client that has every answer through
    /// `answered_through`. The calls above it that it may have made are to be made again in the same order; those that were
    /// applied are answered as before.
    pub fn resume_session(&self, session: SessionId, answered_through: u64) -> Session<S> {
        Session { handle: self.clone(), serials: Serials::after(session, answered_through) }
    }

    /// Proposes `command` under a stamp that the caller keeps count of: the same stamp is the same command, through whichever
    /// node. For those who serve clients and keep no state for them.
    ///
    /// # Errors
    ///
    /// [`ProposeError`], within the deadline; a retry after [`ProposeError::Unknown`] is safe.
    pub async fn propose_in_session(
        &self,
        stamp: SessionStamp,
        command: S::Command,
    ) -> Result<S::Reply, ProposeError> {
        let command = self.encode(&command)?;
        self.send_in_session(stamp, command).await
    }

    async fn send_in_session(&self, stamp: SessionStamp, command: Vec<u8>) -> Result<S::Reply, ProposeError> {
        if stamp.is_answered() {
            return Err(ProposeError::SerialAnswered);
        }
        if stamp.is_too_far() {
            return Err(ProposeError::SerialTooFar);
        }
        let outcome = self.request(Request::InSession(stamp), command).await;
        match outcome {
            Err(ProposeError::Unknown { .. }) => Err(ProposeError::Unknown { retry_is_safe: true }),
            outcome => outcome,
        }
    }
}
