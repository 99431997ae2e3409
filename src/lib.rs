//! Synod: Paxos for any application over any network.
//!
//! A [`Node`] keeps a log of commands the same on several machines and applies it to your [`StateMachine`]; its
//! [`Handle`] proposes and reads. How messages travel ([`Transport`]), where promises are kept ([`Storage`]) and what time it is
//! ([`Timer`]) are traits of three methods or so.
//!
//! # Layout
//!
//! ```text
//!  applications, lock ── Handle: propose, read, leadership
//!  ┌──────────▼──────────────────────────────────────────────┐
//!  │ shell   node, actors             alone in knowing actix │
//!  │  ┌────────────────────────────────────────────────────┐ │
//!  │  │ seams   transport, storage, timer                  │◄├── synod-tcp, synod-channel, or your own
//!  │  │  ┌───────────────────────────────────────────────┐ │ │
//!  │  │  │ core   paxos, multi, election    pure         │ │ │
//!  │  │  └───────────────────────────────────────────────┘ │ │
//!  │  └────────────────────────────────────────────────────┘ │
//!  └─────────────────────────────────────────────────────────┘
//! ```
//!
//! Imports point inward only. To learn Paxos read [`paxos`] first, then [`multi`], then [`election`]. Rules are cited by
//! number ("protocol 3.2"): the tests that prove each one carry the same number.
//!
//! # Features
//!
//! - `actors` (default): [`Node`] and [`Handle`], on actix and tokio, and [`lock`], which is built on them.
//! - `file-storage` (default): [`FileStorage`] and [`storage::atomic_file`].
//! - `testing`: conformance suites for a transport and a storage of your own.
//!
//! Without default features the core and the seams build with neither actix nor tokio.

/// The README's program, compiled.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}

#[cfg(feature = "actors")]
mod actors;
#[cfg(feature = "codec")]
pub mod codec;
pub mod election;
#[cfg(feature = "actors")]
pub mod lock;
pub mod multi;
#[cfg(feature = "actors")]
pub mod node;
pub mod paxos;
pub mod storage;
#[cfg(feature = "testing")]
pub mod testing;
pub mod timer;
pub mod transport;

pub use multi::{Change, ClusterId, Member, MemberKind, Membership, Slot};
#[cfg(feature = "actors")]
pub use node::{
    Builder, ChangeError, Config, ElectionKind, Handle, Host, Leadership, Node, NotLeaderReason, Position,
    ProposeError, ReadError, RecoverError, Recovery, RestoreError, Session, SessionCall, Snapshot,
    SnapshotError, SnapshotReader, StartError, StateMachine, Status, StopCause, TransferError,
};
pub use paxos::{NodeId, ProposalId};
#[cfg(feature = "file-storage")]
pub use storage::FileStorage;
pub use storage::{MemoryStorage, Storage};
pub use timer::Timer;
pub use transport::Transport;
