//! The lock: what an application process holds on to.
//!
//! Every call is a command or a read like any other and ends within its handle's deadline. Nothing is kept in here that
//! is needed to hold the lock: a process that forgets its [`Guard`] loses the lock when its time is over.

use super::table::{FencingToken, Holder, LockCommand, LockRefusal, LockReply, LockTable, check};
use super::{HoldsLocks, LockError};
use crate::node::{Handle, ProposeError};
use crate::timer::{Time, Timer};
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

/// Who waits for a lock looks this often whether it is free, at its own node's copy of the table.
const LOOK: Duration = Duration::from_millis(20);

/// A lock, as one process sees it: by its name, under its own name, with the time that it may be silent while it holds it.
///
/// Mutual exclusion is only as good as the clocks: see [the module](super) for why the [token](Guard::token) must go
/// with all that is done under the lock.
pub struct Lock<S: HoldsLocks> {
    handle: Handle<S>,
    timer: Arc<dyn Timer>,
    name: String,
    owner: String,
    ttl: Duration,
    /// Of the acquisition that is asked for; another one once it is granted.
    request: u64,
}

impl<S: HoldsLocks> fmt::Debug for Lock<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lock").field("name", &self.name).field("owner", &self.owner).finish_non_exhaustive()
    }
}

impl<S: HoldsLocks> Lock<S> {
    /// The lock `name`, for `owner`, who may be silent for `ttl` while it holds it: by the leader's clock, from when the
    /// leader learns of the acquisition or of the last renewal. Nothing is proposed yet.
    ///
    /// `timer` paces the waiting of [`Lock::acquire`]; it must work where that is awaited.
    ///
    /// # Errors
    ///
    /// [`LockRefusal`], if no table would ever grant that.
    pub fn new(
        handle: Handle<S>,
        timer: Arc<dyn Timer>,
        name: impl Into<String>,
        owner: impl Into<String>,
        ttl: Duration,
    ) -> Result<Self, LockRefusal> {
        let (name, owner) = (name.into(), owner.into());
        check(&name, &owner, ttl)?;
        Ok(Self { handle, timer, name, owner, ttl, request: a_request() })
    }

    /// Takes the lock; waits while another holds it, and while the cluster cannot say who does. Who of those that wait gets
    /// it next is left to chance.
    ///
    /// A call that ended without a clear answer, or was dropped, may have taken the lock all the same. The next call on
    /// this `Lock` then gets that very acquisition, with the same token. Without a next call it lasts until its time is over.
    ///
    /// # Errors
    ///
    /// Within the handle's deadline: [`LockError::Held`] by whom it was held when the cluster was asked last,
    /// [`LockError::Refused`] at once, or [`LockError::Propose`].
    pub async fn acquire(&mut self) -> Result<Guard<S>, LockError> {
        let deadline = self.timer.now() + self.handle.deadline();
        loop {
            let left = deadline.since(self.timer.now());
            let error = match self.ask(left).await {
                Ok(guard) => return Ok(guard),
                Err(error) => error,
            };
            let may_come = match &error {
                LockError::Held { holder } => self.until_free(holder.token, deadline).await,
                error if may_pass(error) => self.rest(deadline).await,
                _ => false,
            };
            if !may_come {
                return Err(error);
            }
        }
    }

    /// Takes the lock if nobody holds it. As to a call without a clear answer, see [`Lock::acquire`].
    ///
    /// # Errors
    ///
    /// [`LockError`], within the handle's deadline.
    pub async fn try_acquire(&mut self) -> Result<Guard<S>, LockError> {
        self.ask(self.handle.deadline()).await
    }

    /// Who holds the lock.
    ///
    /// # Errors
    ///
    /// [`LockError::Read`], within the handle's deadline.
    pub async fn holder(&self) -> Result<Option<Holder>, LockError> {
        let name = self.name.clone();
        self.read(move |table| table.holder(&name).cloned()).await
    }

    /// Waits until the holder is another than `known`, and says who it is; or who it is still when the handle's deadline has
    /// passed. `known` is the token of the holder that the caller knows of, if of any.
    ///
    /// # Errors
    ///
    /// [`LockError::Read`], within the handle's deadline.
    pub(super) async fn changed(&self, known: Option<FencingToken>) -> Result<Option<Holder>, LockError> {
        let deadline = self.timer.now() + self.handle.deadline();
        loop {
            let name = self.name.clone();
            let look = move |table: &LockTable| {
                let holder = table.holder(&name);
                let is_known = holder.map(|holder| holder.token) == known;
                // A copy that has not come as far as the caller has nothing to tell it.
                let is_old = known.is_some_and(|known| table.last_token() < known);
                (holder.cloned(), !is_known && !is_old)
            };
            let seen = self.look(look).await;
            if let Ok((holder, true)) = seen {
                return Ok(holder);
            }
            if !self.rest(deadline).await {
                return seen.map(|(holder, _)| holder);
            }
        }
    }

    /// One request, and its answer.
    async fn ask(&mut self, patience: Duration) -> Result<Guard<S>, LockError> {
        let handle = self.handle.with_deadline(patience);
        let command = LockCommand::Acquire {
            name: self.name.clone(),
            owner: self.owner.clone(),
            request: self.request,
            ttl: self.ttl,
        };
        let token = match propose(&handle, command).await? {
            LockReply::Acquired(token) => token,
            LockReply::Held(holder) => return Err(LockError::Held { holder }),
            reply => return Err(refused(reply)),
        };
        self.request = a_request();
        Ok(Guard { handle: self.handle.clone(), name: self.name.clone(), token, ttl: self.ttl })
    }

    /// Waits until this node's copy shows that the acquisition `token` is over and nobody holds the lock; `false` if that
    /// does not come before `deadline`. A copy that lags costs time, no more.
    async fn until_free(&self, token: FencingToken, deadline: Time) -> bool {
        while self.rest(deadline).await {
            let name = self.name.clone();
            let is_free =
                move |table: &LockTable| table.last_token() >= token && table.holder(&name).is_none();
            match self.look(is_free).await {
                Ok(false) => {}
                // What is wrong with this node is for the next request to say.
                Ok(true) | Err(_) => return true,
            }
        }
        false
    }

    /// A pause between two looks; `false` if `deadline` comes first.
    async fn rest(&self, deadline: Time) -> bool {
        let next = self.timer.now() + LOOK;
        if next >= deadline {
            return false;
        }
        self.timer.sleep_until(next).await;
        true
    }

    /// Looks at this node's copy of the table, which may be old.
    async fn look<R: Send + 'static>(
        &self,
        look: impl FnOnce(&LockTable) -> R + Send + 'static,
    ) -> Result<R, LockError> {
        Ok(self.handle.read_stale(move |machine| look(machine.locks())).await?)
    }

    /// Reads the table as the leader knows it.
    async fn read<R: Send + 'static>(
        &self,
        read: impl FnOnce(&LockTable) -> R + Send + 'static,
    ) -> Result<R, LockError> {
        Ok(self.handle.read(move |machine| read(machine.locks())).await?)
    }
}

/// A lock that was acquired. Whether it is held still, only a [`Guard::renew`] can tell, and only for the moment at which it
/// was applied; so send the [token](Guard::token) along with what is done under the lock.
///
/// Dropping a guard does not release: the lock is free when its time is over.
#[must_use = "a lock that nobody renews or releases is free only when its time is over"]
pub struct Guard<S: HoldsLocks> {
    handle: Handle<S>,
    name: String,
    token: FencingToken,
    ttl: Duration,
}

impl<S: HoldsLocks> fmt::Debug for Guard<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard").field("name", &self.name).field("token", &self.token).finish_non_exhaustive()
    }
}

impl<S: HoldsLocks> Guard<S> {
    /// The token of this acquisition: higher than every earlier one. For the resource that the lock protects, which must
    /// refuse a lower one than it has seen.
    pub fn token(&self) -> FencingToken {
        self.token
    }

    /// The lock.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How long the holder may be silent. A third of it is a good time between two renewals.
    pub fn ttl(&self) -> Duration {
        self.ttl
    }

    /// Says that the holder is alive: its time begins anew. A repeat does no harm.
    ///
    /// # Errors
    ///
    /// [`LockError::Lost`] if another may hold the lock by now: stop what is done under it. [`LockError::Propose`], within the
    /// handle's deadline; the time may or may not have begun anew.
    pub async fn renew(&self) -> Result<(), LockError> {
        let command = LockCommand::Renew { name: self.name.clone(), token: self.token };
        match propose(&self.handle, command).await? {
            LockReply::Renewed { .. } => Ok(()),
            LockReply::Void => Err(LockError::Lost { token: self.token }),
            reply => Err(refused(reply)),
        }
    }

    /// Frees the lock.
    ///
    /// # Errors
    ///
    /// [`LockError::Lost`] if this acquisition was over before: what was done at the end may not have been done alone. (Or
    /// an earlier call, of which the outcome was unknown, has released it.) [`LockError::Propose`], within the handle's deadline;
    /// it may be called again.
    pub async fn release(&self) -> Result<(), LockError> {
        let command = LockCommand::Release { name: self.name.clone(), token: self.token };
        match propose(&self.handle, command).await? {
            LockReply::Released => Ok(()),
            LockReply::Void => Err(LockError::Lost { token: self.token }),
            reply => Err(refused(reply)),
        }
    }
}

async fn propose<S: HoldsLocks>(handle: &Handle<S>, command: LockCommand) -> Result<LockReply, LockError> {
    let reply = handle.propose(S::lock_command(command)).await?;
    S::lock_reply(reply).ok_or(LockError::WrongReply)
}

/// A reply that is none to the command.
fn refused(reply: LockReply) -> LockError {
    match reply {
        LockReply::Refused(refusal) => LockError::Refused(refusal),
        _ => LockError::WrongReply,
    }
}

/// Whether the same request may have another answer soon. To ask again is safe: it is granted once (protocol 12.5).
fn may_pass(error: &LockError) -> bool {
    use ProposeError::{Busy, NotLeader, Unknown};
    matches!(error, LockError::Propose(Busy | NotLeader { .. } | Unknown { .. }))
}

/// A number that no other request of the same owner has, also in another process or life of it, but by a chance of one
/// in 2^64.
fn a_request() -> u64 {
    RandomState::new().hash_one(())
}
