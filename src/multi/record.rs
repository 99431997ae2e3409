//! Records: what an acceptor makes durable, and in which order.
//!
//! The acceptor's memory is the fold of its records ([`super::Log`] folds them, while it runs and after a restart
//! alike), so a node that restarts knows exactly what it knew when the last of them was flushed.

use super::identity::{DiskId, Incarnation};
use super::membership::{Membership, Memberships};
use super::slot::{Interval, Slot};
use crate::paxos::{NodeId, ProposalId};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// What a slot holds.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Value {
    /// Nothing to apply: fills a hole.
    Noop,
    /// Commands, opaque to the protocol (see [`super::batch`]).
    Batch(Bytes),
    /// A membership, in force above this slot + α.
    Membership(Membership),
}

impl Value {
    /// The bytes that it holds in memory and on the wire, about.
    pub fn size(&self) -> usize {
        match self {
            Self::Noop => 1,
            Self::Batch(bytes) => bytes.len() + 8,
            Self::Membership(membership) => {
                membership.members().values().map(|member| member.address.len() + 32).sum::<usize>() + 32
            }
        }
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Noop => write!(f, "noop"),
            Self::Batch(bytes) => write!(f, "batch of {} bytes", bytes.len()),
            Self::Membership(membership) => write!(f, "{membership:?}"),
        }
    }
}

/// A value with the id under which it was accepted.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Entry {
    /// The id of the proposal.
    pub id: ProposalId,
    /// Its value.
    pub value: Value,
}

/// The number of a write: one more for each group of records that an acceptor asks to make durable, for ever.
///
/// "Send after this write" is a sequence, and a vote carries the one that it rests on (protocol 9.4).
#[doc(alias = "token")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Sequence(pub u64);

impl Sequence {
    /// The write after this one.
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// Which snapshot: two with the same id hold the same bytes, so a transfer may go on with either.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SnapshotId {
    /// The last slot that was applied to it.
    pub through: Slot,
    /// How long its content is.
    pub bytes: u64,
    /// CRC-32 of its content.
    pub checksum: u32,
}

/// What the log through a slot comes to: where it begins for whoever does not hold the slots below (protocol 5.1).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Base {
    /// Every slot through this one is chosen and taken in.
    pub through: Slot,
    /// The memberships that govern the slots above, and the ids that are retired.
    pub memberships: Memberships,
    /// The disk of each initial member (9.1).
    pub disks: BTreeMap<NodeId, DiskId>,
    /// The state after `through`, which is durable here. `None` where there is none to have: before the first slot, and
    /// on a witness.
    pub snapshot: Option<SnapshotId>,
}

/// One fact that must outlive the process.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Record {
    /// Nothing below `id` is promised or accepted any more (1.1).
    Promised {
        /// The promised id.
        id: ProposalId,
    },
    /// `value` was accepted at `slot` under `id`; this raises the promise to `id` too.
    Accepted {
        /// Where.
        slot: Slot,
        /// Under which id.
        id: ProposalId,
        /// What.
        value: Value,
    },
    /// `value` is known to be chosen at `slot`: fetched from a peer (4.1).
    Chosen {
        /// Where.
        slot: Slot,
        /// What.
        value: Value,
    },
    /// Every slot through `through` is chosen; those that were accepted under exactly `id` hold their value here (3.4).
    Watermark {
        /// The id of the leader whose watermark it was.
        id: ProposalId,
        /// The last slot covered.
        through: Slot,
    },
    /// The cluster has formed of these disks (9.1).
    Formed {
        /// The first membership.
        membership: Membership,
        /// The disk of each member.
        disks: BTreeMap<NodeId, DiskId>,
    },
    /// The log may begin above this: the checkpoint of protocol 5.2. The snapshot that it names was durable before.
    Based {
        /// Where it begins.
        base: Base,
    },
    /// The slots through this one are no longer held (4.2, 4.3). Said by a storage in what it recovers, never appended.
    Trimmed {
        /// The last slot that is gone.
        through: Slot,
    },
    /// What was accepted in these slots is unknown (11.4). Said by a storage in what it recovers, never appended.
    Unknown {
        /// The slots; the last interval may be open.
        slots: Vec<Interval>,
    },
    /// The newest start seen of a peer, and the disk it was on (9.3).
    PeerSeen {
        /// The peer.
        node: NodeId,
        /// Its disk.
        disk: DiskId,
        /// Its newest start.
        incarnation: Incarnation,
    },
    /// The highest journal sequence that a peer's votes showed (9.4).
    PeerSequence {
        /// The peer.
        node: NodeId,
        /// The sequence.
        sequence: Sequence,
    },
    /// An operator left this node alone with what it has, in a new epoch (10.2). What was unknown is given up, and whatever
    /// kept the node from voting is void, for nobody of the old epoch is ever talked to again.
    Forced {
        /// The new epoch.
        epoch: u64,
        /// Who votes above what was learned, in place of all memberships before.
        memberships: Memberships,
    },
    /// This node may never vote again under its id (9.2, 9.3), unless it is forced.
    Abstains {
        /// Why.
        reason: AbstainReason,
    },
}

/// Why a node may not vote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum AbstainReason {
    /// A peer remembers a later start of this node: the disk is an old image or a copy.
    #[error("a peer remembers a later start of this node: the data directory is an old image or a copy")]
    StaleIncarnation,
    /// The journal is damaged where the promise was, and nothing later proves it.
    #[error("the journal is damaged and the promise cannot be proven")]
    PromiseInDoubt,
    /// Two values were seen where only one can be.
    #[error("two values were seen where only one can be chosen")]
    SafetyViolation,
    /// A formed cluster knows this node id by another disk.
    #[error("the cluster has already formed with another disk for this node id")]
    AlreadyFormed,
}

/// Records that become durable together or not at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// The newest write in it.
    pub sequence: Sequence,
    /// What it says, in order.
    pub records: Vec<Record>,
}
