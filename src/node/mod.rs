//! The node and its handle: what an application holds.
//!
//! [`Node`] is built by [`Node::bootstrap`], [`Node::join`] or [`Node::restart`], runs until it is shut down or dropped, and
//! hands out [`Handle`]s, which any executor and any thread can use.

mod builder;
mod config;
pub(crate) mod credits;
mod handle;
mod outcome;
mod recovery;
mod session;
pub(crate) mod shared;
mod snapshot;
mod state_machine;
mod watch;

pub use builder::{Builder, Host, Node};
pub use config::{Config, ConfigError, ElectionKind};
pub use handle::{Handle, LeadershipStream};
pub use outcome::{
    ChangeError, Leadership, NotLeaderReason, ProposeError, ReadError, SnapshotError, StartError, Status,
    StopCause, TransferError,
};
pub use recovery::{RecoverError, Recovery};
pub use session::{Session, SessionCall};
pub use snapshot::{RestoreError, Snapshot, SnapshotReader};
pub use state_machine::{Position, StateMachine};
