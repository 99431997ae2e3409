//! Multi-Paxos: one phase 1 for all later slots, and a log of batches.
//!
//! Pure, like [`crate::paxos`]: a role takes the time and one input and says what it wants done.

pub mod batch;
mod effect;
mod identity;
mod log;
mod membership;
mod message;
mod record;
mod slot;

pub use batch::{Batch, BatchBuilder, BatchId, MalformedBatch};
pub use effect::{
    AcceptorInput, Effect, ElectionInput, Event, LearnerInput, Local, ProposerInput, ProposerState, Refusal,
    Role,
};
pub use identity::{ClusterId, ClusterIdError, DiskId, Identity, Incarnation, Owner, ProtocolRange};
pub use log::{Log, PeerMemory};
pub use membership::{Member, MemberKind, Membership, MembershipError, Memberships};
pub use message::{ForwardOutcome, Message, Origin, Page};
pub use record::{AbstainReason, Entry, Group, Record, Sequence, Value};
pub use slot::{Interval, Slot, Time, intervals};
