//! How a call of a lock or an election ends, if not well.

use super::table::{FencingToken, Holder, LockRefusal};
use crate::node::{ProposeError, ReadError};

/// Why a lock is not held, or not known to be.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LockError {
    /// Another request holds it.
    #[error("`{}` holds the lock, under token {}", holder.owner, holder.token)]
    Held {
        /// Whose.
        holder: Holder,
    },
    /// The acquisition is over: its time was, or it was released. Another may hold the lock by now.
    #[error("the lock was lost: token {token} holds it no more")]
    Lost {
        /// Of the acquisition.
        token: FencingToken,
    },
    /// The table does not grant such a request, whoever makes it.
    #[error("the request was refused")]
    Refused(#[from] LockRefusal),
    /// The command was not applied, or is not known to be.
    #[error("the command was not applied, or is not known to be")]
    Propose(#[from] ProposeError),
    /// The table was not read.
    #[error("the table was not read")]
    Read(#[from] ReadError),
    /// The state machine answered with something else: its `HoldsLocks` and its `apply` do not agree.
    #[error("the state machine's reply is none to a lock command")]
    WrongReply,
}
