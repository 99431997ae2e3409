//! The node and its handle: what an application holds.
//!
//! [`Node`] is built by [`Node::bootstrap`], [`Node::join`] or [`Node::restart`], runs until it is shut down or dropped, and
//! hands out [`Handle`]s, which any executor and any thread can use.

mod builder;
mod config;
mod handle;
mod outcome;
mod state_machine;

pub use builder::{Builder, Host, Node};
pub use config::{Config, ConfigError, ElectionKind};
pub use handle::{Handle, LeadershipStream};
pub use outcome::{Leadership, NotLeaderReason, ProposeError, ReadError, StartError, Status, StopCause};
pub use state_machine::{Position, StateMachine};
