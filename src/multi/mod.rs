//! Multi-Paxos: one phase 1 for all later slots, and a log of batches.
//!
//! Pure, like [`crate::paxos`]: a role takes the time and one input and says what it wants done.

mod acceptor;
pub mod batch;
mod effect;
mod formation;
mod identity;
mod jitter;
mod leading;
mod learner;
mod limits;
mod log;
mod membership;
mod message;
pub mod node;
mod phase1;
mod proposer;
mod record;
mod session;
mod slot;

pub use acceptor::Acceptor;
pub use batch::{Batch, BatchBuilder, BatchId, MalformedBatch};
pub use effect::{
    AcceptorInput, Briefing, Effect, ElectionInput, Event, LearnerInput, Local, ProposerInput, ProposerState,
    Refusal, Role,
};
pub use identity::{ClusterId, ClusterIdError, DiskId, Identity, Incarnation, Owner, ProtocolRange};
pub use jitter::Jitter;
pub use learner::Learner;
pub use limits::Limits;
pub use log::{Log, PeerMemory};
pub use membership::{Member, MemberKind, Membership, MembershipError, Memberships};
pub use message::{ForwardOutcome, Message, Origin, Page};
pub use proposer::Proposer;
pub use record::{AbstainReason, Entry, Group, Record, Sequence, Value};
pub use session::OriginTable;
pub use slot::{Interval, Slot, Time, intervals};
