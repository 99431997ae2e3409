//! The node and its handle: what an application holds.
//!
//! [`Node`] is built by [`Node::bootstrap`], [`Node::join`], [`Node::restart`] or [`Node::recover`], runs until it is shut down
//! or dropped, and hands out [`Handle`]s, which any executor and any thread can use.
//!
//! # Which kind of node
//!
//! | kind | holds the state | counts in quorums | may lead | for |
//! |---|---|---|---|---|
//! | voter | yes | yes | yes | the nodes that the cluster consists of: three or five |
//! | witness ([`Builder::witness`]) | no | yes | no | a cheap third place: two voters and a witness survive the loss of any one |
//! | observer ([`Node::join`]) | yes | no | no | reads near their clients, backups, a node that shall become a voter |
//!
//! The membership says which node is of which kind ([`MemberKind`](crate::MemberKind)), and every kind takes commands and passes
//! them on to the leader. A node that joins is an observer until the membership names it something else, which it asks for by
//! [`Handle::join_as`]. A witness forgets what enough voters hold (protocol 4.3), so it never becomes another kind: remove it,
//! and add a new node. A machine whose disk is lost comes back under a new node id, in the old one's place, whichever kind that
//! was: [`Node::recover`].

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
