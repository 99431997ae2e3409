//! The election of one among an application's processes to a named office.
//!
//! Not to be confused with [`crate::election`], which decides which *node* leads the log. The processes that stand
//! here are those of the application; a cluster can fill many offices, and the holder of one need not run where the leader does.

use super::client::{Guard, Lock};
use super::table::{FencingToken, Holder, LockRefusal};
use super::{HoldsLocks, LockError};
use crate::node::Handle;
use crate::timer::Timer;
use std::sync::Arc;
use std::time::Duration;

/// An office that one process at a time holds, as one candidate sees it: a [`Lock`] whose token is the term.
///
/// What is said of the lock holds here: one that was elected may have been replaced without knowing it, so those who take
/// orders from it must refuse a lower [term](Office::term) than they have seen.
#[derive(Debug)]
pub struct Election<S: HoldsLocks> {
    lock: Lock<S>,
}

impl<S: HoldsLocks> Election<S> {
    /// The election to `office`, for `candidate`, who may be silent for `ttl` while it holds it. Nothing is proposed yet. Offices
    /// and locks share their names.
    ///
    /// # Errors
    ///
    /// [`LockRefusal`], if no table would ever grant that.
    pub fn new(
        handle: Handle<S>,
        timer: Arc<dyn Timer>,
        office: impl Into<String>,
        candidate: impl Into<String>,
        ttl: Duration,
    ) -> Result<Self, LockRefusal> {
        Ok(Self { lock: Lock::new(handle, timer, office, candidate, ttl)? })
    }

    /// Stands for the office until it is won or the handle's deadline has passed. As to a call without a clear answer, see
    /// [`Lock::acquire`].
    ///
    /// # Errors
    ///
    /// [`LockError`]; [`LockError::Held`] says who holds the office.
    pub async fn campaign(&mut self) -> Result<Office<S>, LockError> {
        Ok(Office { guard: self.lock.acquire().await? })
    }

    /// Who holds the office.
    ///
    /// # Errors
    ///
    /// [`LockError::Read`], within the handle's deadline.
    pub async fn leader(&self) -> Result<Option<Holder>, LockError> {
        self.lock.holder().await
    }

    /// Waits until the office has another holder than the one of the term `known`, or until it has none (one, if `known` is
    /// `None`), and says which; when the handle's deadline passes first, who holds it still. Served from this node's copy, so
    /// the news may be late, but never goes back behind `known`.
    ///
    /// # Errors
    ///
    /// [`LockError::Read`], within the handle's deadline.
    pub async fn observe(&self, known: Option<FencingToken>) -> Result<Option<Holder>, LockError> {
        self.lock.changed(known).await
    }
}

/// An office that was won.
#[derive(Debug)]
#[must_use = "an office that nobody stays in or resigns is vacant only when its time is over"]
pub struct Office<S: HoldsLocks> {
    guard: Guard<S>,
}

impl<S: HoldsLocks> Office<S> {
    /// The term of this holder: higher than that of every earlier one. Goes with every order.
    pub fn term(&self) -> FencingToken {
        self.guard.token()
    }

    /// Says that the holder is alive; a third of the time to live is a good time between two calls.
    ///
    /// # Errors
    ///
    /// As [`Guard::renew`]; after [`LockError::Lost`] another one may be in office.
    pub async fn stay(&self) -> Result<(), LockError> {
        self.guard.renew().await
    }

    /// Leaves the office.
    ///
    /// # Errors
    ///
    /// As [`Guard::release`].
    pub async fn resign(&self) -> Result<(), LockError> {
        self.guard.release().await
    }
}
