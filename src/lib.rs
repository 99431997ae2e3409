//! Synod: Paxos for any application over any network.

#[cfg(feature = "actors")]
mod actors;
#[cfg(feature = "codec")]
pub mod codec;
pub mod election;
pub mod multi;
#[cfg(feature = "actors")]
pub mod node;
pub mod paxos;
pub mod storage;
#[cfg(feature = "testing")]
pub mod testing;
pub mod timer;
pub mod transport;

pub use multi::{ClusterId, Membership, Slot};
#[cfg(feature = "actors")]
pub use node::{
    Builder, Config, ElectionKind, Handle, Host, Leadership, Node, NotLeaderReason, Position, ProposeError,
    ReadError, StartError, StateMachine, Status, StopCause,
};
pub use paxos::{NodeId, ProposalId};
#[cfg(feature = "file-storage")]
pub use storage::FileStorage;
pub use storage::{MemoryStorage, Storage};
pub use timer::Timer;
pub use transport::Transport;
