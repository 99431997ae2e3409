//! Multi-Paxos: one phase 1 for all later slots, and a log of batches.
//!
//! A [`Slot`] is decided by one instance of Paxos (read [`crate::paxos`] first). What makes it *multi* is that one
//! [`ProposalId`](crate::paxos::ProposalId), won in one phase 1, serves every slot from the first that is not chosen
//! (*Paxos Made Simple*, section 3): while a leader lasts, a commit is one `Accept` and one `Accepted`.
//!
//! # A commit
//!
//! ```text
//!  leader: Proposer            Acceptor (leader's and followers')          Learner
//!     │ Accept { id, slot, batch, watermark } ─▶│                              │
//!     │                                         │ write the record, flush it   │
//!     │◀───────────── Accepted { id, slots } ───│ and only then answer         │
//!     │ a phase-2 quorum under one id: chosen   │                              │
//!     │ watermark, with the next Accept ───────▶│                              │
//!     │ or heartbeat                            │── Learned, in slot order ───▶│ deliver
//! ```
//!
//! A node that missed something sees it from the watermark and fetches the chosen values from any peer. A new leader
//! first proposes again what its promises brought to light, fills holes with no-ops, and only then takes new batches.
//!
//! # Pure
//!
//! A role takes the time and one input, and says what it wants done: `step(now, input, &mut effects)`. It holds no I/O, no
//! clock and no randomness, so a simulator runs the very code that production runs. A [`Effect::Send`] names the write
//! that it waits for.
//!
//! # Reading order
//!
//! | file | what |
//! |---|---|
//! | `slot.rs`, `record.rs`, `message.rs`, `effect.rs` | the words: places, facts, what nodes say, what roles want |
//! | `log.rs`, `slots.rs` | the acceptor's memory, as the fold of its records, and how it is kept |
//! | `acceptor/` | promises, accepts, what is learned, whom it deals with |
//! | `phase1.rs`, `leading.rs`, `proposer.rs` | winning phase 1, leading under one id, and both put together |
//! | `learner/` | in order and without gaps, catching up, snapshots |
//! | `membership.rs`, `change.rs` | who votes in which slot, and how that changes |
//! | `formation.rs`, `identity.rs` | how a cluster begins, who is who |
//! | `batch.rs`, `session/` | several commands as one value; what makes a repeat apply once |
//! | `node.rs` | which role takes which message, and all roles in one place |
//!
//! Comments cite the rules of the protocol by number, such as "(2.3)"; the tests that prove a rule carry its number too.

mod acceptor;
pub mod batch;
mod change;
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
mod slots;

pub use acceptor::Acceptor;
pub use batch::{Batch, BatchBuilder, BatchId, Commands, MalformedBatch, Tag};
pub use change::{AdminCall, AdminOutcome, Change, ChangeRefusal, TransferRefusal};
pub use effect::{
    AcceptorInput, Answer, Briefing, Effect, ElectionInput, Event, LearnerInput, Local, ProposerInput,
    ProposerState, Refusal, Role, SnapshotTask,
};
pub use identity::{ClusterId, ClusterIdError, DiskId, Identity, Incarnation, Owner, ProtocolRange};
pub use jitter::Jitter;
pub use learner::Learner;
pub use limits::Limits;
#[cfg(feature = "file-storage")]
pub(crate) use log::is_doubt;
pub use log::{Log, PeerMemory};
pub use membership::{Member, MemberKind, Membership, MembershipError, Memberships};
pub use message::{ForwardOutcome, Message, Origin, Page};
pub use proposer::Proposer;
pub use record::{AbstainReason, Base, Entry, Group, Record, Sequence, SnapshotId, Value};
pub use session::{Admission, OriginTable, Request, SessionId, SessionIdError, SessionStamp, Sessions};
pub use slot::{Interval, Slot, Time, intervals};
