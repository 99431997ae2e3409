//! Locks and elections for applications: without a log of one's own, with a fencing token.
//!
//! A [`Lock`] is held by one process at a time; an [`Election`] fills a named office with one candidate at a time. Both are
//! entries of a [`LockTable`] that the cluster keeps in its log, so they survive every fault that the log survives.
//! (`synod::election` is something else: which *node* leads the log.)
//!
//! # Why a lock without a fencing token is not safe
//!
//! A holder may die, so a lock must have a time-out. A holder may also be only slow: stopped by the garbage collector, by a
//! page that comes from a slow disk, by the system's scheduler, or with a packet that the network holds back. Then it
//! acts on a lock that it has lost, and nothing that it could ask before acting would help, since the pause may come after
//! the answer:
//!
//! ```text
//!             lock service            A                       B                resource
//!                  │◄── acquire ──────│                       │                    │
//!                  │─── token 33 ────►│                       │                    │
//!                  │              "I hold it"                 │                    │
//!                  │                  ┊ pause                 │                    │
//!        time over │                  ┊                       │                    │
//!                  │◄─────────────────┊──── acquire ──────────│                    │
//!                  │──────────────────┊──── token 34 ────────►│                    │
//!                  │                  ┊                       │── write, 34 ──────►│ 34: the highest yet
//!                  │                  ┊ goes on               │                    │
//!                  │                  │────────── write, 33 ──────────────────────►│ 33 < 34: refused
//! ```
//!
//! No lock service can prevent the last arrow. The resource can refuse it: it keeps the highest token that it has seen,
//! along with its data, and refuses a lower one. The token is a counter in the replicated state, one per acquisition
//! (protocol 12.5), so the resource need not ask anybody. Chubby hands out such numbers as *sequencers* (Burrows, *The Chubby lock service for
//! loosely-coupled distributed systems*, 2006, section 2.4); the argument that a lock with a time-out is not safe without one is
//! Kleppmann's (*How to do distributed locking*, 2016).
//!
//! If the resource cannot compare tokens, the lock still saves work that would be done twice. Do not let correctness
//! depend on it.
//!
//! ```
//! use synod::lock::FencingToken;
//!
//! /// A file on a file server, say.
//! #[derive(Default)]
//! struct Resource { text: String, fence: FencingToken }
//!
//! impl Resource {
//!     fn write(&mut self, token: FencingToken, text: &str) -> Result<(), String> {
//!         if token < self.fence {
//!             return Err(format!("{token} is overtaken by {}", self.fence));
//!         }
//!         self.fence = token; // in one atomic step with the data, and as durable
//!         self.text = text.to_owned();
//!         Ok(())
//!     }
//! }
//!
//! let mut resource = Resource::default();
//! let (slow, next) = (FencingToken::new(33), FencingToken::new(34)); // Guard::token of A and of B
//! resource.write(next, "B's").expect("the holder writes");
//! resource.write(slow, "A's").expect_err("A has lost the lock, though it does not know");
//! assert_eq!(resource.text, "B's");
//! ```
//!
//! # Who measures the time
//!
//! The leader, on its own clock, from when it learns of an acquisition or renewal; a new leader starts each time afresh (protocol
//! 12.5). So a lock is never taken away before its time is over, and may be kept for longer when the leader changes. Every
//! node runs [`keep_time`] as a [service](crate::Builder::service).
//!
//! # How it is used
//!
//! A node that is a lock service and nothing else has a [`LockTable`] for its state machine; `examples/lock.rs` is a whole program:
//!
//! ```no_run
//! # async fn example(
//! #     builder: synod::Builder<()>, timer: std::sync::Arc<dyn synod::Timer>,
//! # ) -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//! use synod::lock::{Lock, LockTable, keep_time};
//!
//! let node = builder.state_machine(LockTable::default).service(keep_time).start().await?;
//!
//! let mut lock = Lock::new(node.handle(), timer, "reports", "worker 7", Duration::from_secs(30))?;
//! let guard = lock.acquire().await?;
//! let fence = guard.token(); // goes along with all that is written
//! guard.renew().await?; // every ten seconds or so
//! guard.release().await?;
//! # Ok(())
//! # }
//! ```
//!
//! An application with a state of its own has a table among it, and says so by [`HoldsLocks`].
//!
//! # Layout
//!
//! | file | what is in it |
//! |---|---|
//! | `table.rs` | the replicated state: pure, no clock |
//! | `keeper.rs` | the time-outs, measured by the leader |
//! | `client.rs` | the lock as a process sees it: acquire, renew, release |
//! | `election.rs` | the same, for an office with a term |
//! | `error.rs` | how a call ends otherwise |

mod client;
mod election;
mod error;
mod keeper;
mod table;

pub use client::{Guard, Lock};
pub use election::{Election, Office};
pub use error::LockError;
pub use keeper::{LOOK, keep_time};
pub use table::{
    FencingToken, Holder, LOCKS_MAX, LockCommand, LockRefusal, LockReply, LockTable, NAME_BYTES_MAX,
    OWNER_BYTES_MAX, TTL_MAX,
};

use crate::node::StateMachine;

/// A state machine with a [`LockTable`] in it: a variant of its command is a [`LockCommand`], which `apply` hands to
/// [`LockTable::apply`], and a variant of its reply is a [`LockReply`].
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use synod::lock::{HoldsLocks, LockCommand, LockReply, LockTable};
/// use synod::{Position, RestoreError, Snapshot, SnapshotReader, StateMachine};
///
/// #[derive(Clone, Default, Serialize, Deserialize)]
/// struct Inventory { lamps: u32, locks: LockTable }
///
/// #[derive(Serialize, Deserialize)]
/// enum Command { Add(u32), Lock(LockCommand) }
///
/// #[derive(Serialize, Deserialize)]
/// enum Reply { Lamps(u32), Lock(LockReply) }
///
/// impl StateMachine for Inventory {
///     type Command = Command;
///     type Reply = Reply;
///
///     fn apply(&mut self, _at: Position, command: Command) -> Reply {
///         match command {
///             Command::Add(count) => {
///                 self.lamps += count;
///                 Reply::Lamps(self.lamps)
///             }
///             Command::Lock(command) => Reply::Lock(self.locks.apply(command)),
///         }
///     }
///
///     fn snapshot(&self) -> Snapshot {
///         Snapshot::of(self.clone())
///     }
///
///     fn restore(&mut self, mut snapshot: SnapshotReader<'_>) -> Result<(), RestoreError> {
///         *self = snapshot.decode()?;
///         Ok(())
///     }
/// }
///
/// impl HoldsLocks for Inventory {
///     fn locks(&self) -> &LockTable { &self.locks }
///     fn lock_command(command: LockCommand) -> Command { Command::Lock(command) }
///     fn lock_reply(reply: Reply) -> Option<LockReply> {
///         match reply {
///             Reply::Lock(reply) => Some(reply),
///             _ => None,
///         }
///     }
/// }
/// ```
pub trait HoldsLocks: StateMachine {
    /// The table.
    fn locks(&self) -> &LockTable;

    /// The command that hands `command` to the table.
    fn lock_command(command: LockCommand) -> Self::Command;

    /// What the table replied; `None` if `reply` is none to a lock command.
    fn lock_reply(reply: Self::Reply) -> Option<LockReply>;
}

impl HoldsLocks for LockTable {
    fn locks(&self) -> &LockTable {
        self
    }

    fn lock_command(command: LockCommand) -> LockCommand {
        command
    }

    fn lock_reply(reply: LockReply) -> Option<LockReply> {
        Some(reply)
    }
}
