//! Outcomes: how every call ends.

use crate::multi::{
    AbstainReason, ChangeRefusal, MemberKind, Membership, ProposerState, Slot, SnapshotId, TransferRefusal,
};
use crate::node::{ConfigError, Recovery};
use crate::paxos::{NodeId, ProposalId};
use crate::storage::StorageError;
use crate::transport::TransportError;
use std::sync::Arc;

/// Why a command was not applied, or not known to be.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProposeError {
    /// Nothing was proposed or forwarded: no leader was known in time, or forwarding is off.
    #[error("this node does not lead ({reason})")]
    NotLeader {
        /// Who may lead.
        hint: Option<NodeId>,
        /// Why this node could not serve the call.
        reason: NotLeaderReason,
    },
    /// Nothing was proposed or forwarded: too many commands are under way.
    #[error("too many commands are under way")]
    Busy,
    /// The deadline passed, or the part that knew is gone: the command may have been chosen, may still be, or never will.
    #[error("the outcome is unknown: the command may or may not be chosen")]
    Unknown {
        /// Whether the same call may be made again without applying the command twice: in a session, under the same serial.
        retry_is_safe: bool,
    },
    /// The encoded command does not fit a batch.
    #[error("the command has {bytes} bytes, {bytes_max} are allowed")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// The command cannot be encoded, or the leader cannot decode it.
    #[error("the command cannot be encoded or decoded")]
    Malformed,
    /// The session has expired, or never was; nothing was applied. What became of earlier calls in it is not known any
    /// more: open a new one.
    #[error("the session has expired")]
    SessionExpired,
    /// The client had said that it has the answer to this call of its session; nothing was applied (anew).
    #[error("this call of the session was answered already")]
    SerialAnswered,
    /// More than [`SessionStamp::OPEN_MAX`](crate::multi::SessionStamp::OPEN_MAX) calls of the session would be open; nothing
    /// was applied.
    #[error("too many calls of the session are open")]
    SerialTooFar,
    /// The node is stopped, or stopping.
    #[error("the node is stopped: {cause}")]
    Stopped {
        /// Why.
        cause: StopCause,
    },
}

/// Why a node could not serve a call that needs the leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotLeaderReason {
    /// No leader is known.
    #[error("no leader is known")]
    NoLeader,
    /// Another node leads, and forwarding is off.
    #[error("another node leads and forwarding is off")]
    ForwardingOff,
    /// The cluster has not formed yet.
    #[error("the cluster has not formed yet")]
    Forming,
}

/// Why a read was not served.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// No leader was known in time.
    #[error("no leader answered the read")]
    NoLeader {
        /// Who may lead.
        hint: Option<NodeId>,
    },
    /// The leader's mark was not applied here before the deadline.
    #[error("the read was not served within its deadline")]
    Deadline,
    /// Too many calls are under way.
    #[error("too many calls are under way")]
    Busy,
    /// The node holds no state machine: read through another one.
    #[error("a witness has no state")]
    Witness,
    /// The cluster has no leases, or this node's configuration does not vouch for its clock (7.4).
    #[error("lease reads are off")]
    NoLease,
    /// The part of the node that would have served it was rebuilt meanwhile: read again.
    #[error("the read was interrupted; read again")]
    Interrupted,
    /// The node is stopped, or stopping.
    #[error("the node is stopped: {cause}")]
    Stopped {
        /// Why.
        cause: StopCause,
    },
}

/// Why the membership was not changed, or is not known to be.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChangeError {
    /// The leader refused; nothing but observers was added.
    #[error("the change is refused: {0}")]
    Refused(#[from] ChangeRefusal),
    /// No leader was known in time; nothing was asked for.
    #[error("no leader could be asked ({reason})")]
    NotLeader {
        /// Who may lead.
        hint: Option<NodeId>,
        /// Why not.
        reason: NotLeaderReason,
    },
    /// The deadline passed, or the leader went: look at the membership. The same change may be asked for again; it goes on
    /// from where it is.
    #[error("it is not known how far the change has come; it may be asked for again")]
    Unknown,
    /// Too many calls are under way.
    #[error("too many calls are under way")]
    Busy,
    /// The node is stopped, or stopping.
    #[error("the node is stopped: {cause}")]
    Stopped {
        /// Why.
        cause: StopCause,
    },
}

/// Why the lead was not handed over, or is not known to be.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransferError {
    /// The leader refused, and leads on.
    #[error("the lead stays where it is: {0}")]
    Refused(#[from] TransferRefusal),
    /// No leader was known in time; nothing was asked for.
    #[error("no leader could be asked ({reason})")]
    NotLeader {
        /// Who may lead.
        hint: Option<NodeId>,
        /// Why not.
        reason: NotLeaderReason,
    },
    /// The deadline passed, or the leader went another way.
    #[error("it is not known who leads")]
    Unknown,
    /// Too many calls are under way.
    #[error("too many calls are under way")]
    Busy,
    /// The node is stopped, or stopping.
    #[error("the node is stopped: {cause}")]
    Stopped {
        /// Why.
        cause: StopCause,
    },
}

/// Why no snapshot was taken.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// It cannot be written, or the state machine cannot write it. The node goes on.
    #[error("the snapshot cannot be written: {0}")]
    Failed(Arc<dyn std::error::Error + Send + Sync>),
    /// Another one is being taken, installed or restored.
    #[error("another snapshot is under way")]
    InProgress,
    /// The state machine panicked while it wrote itself. The node goes on.
    #[error("the state machine panicked: {message}")]
    Panicked {
        /// What the panic said.
        message: String,
    },
    /// It was not done within the deadline, and goes on.
    #[error("the snapshot was not taken within its deadline; it goes on")]
    Deadline,
    /// Nothing is applied yet, so there is nothing to take.
    #[error("nothing is applied yet")]
    Empty,
    /// Too many wait for one.
    #[error("too many calls are under way")]
    Busy,
    /// The node holds no state machine.
    #[error("a witness has no state")]
    Witness,
    /// The part of the node that took it was rebuilt meanwhile.
    #[error("the snapshot was interrupted")]
    Interrupted,
    /// The node is stopped, or stopping.
    #[error("the node is stopped: {cause}")]
    Stopped {
        /// Why.
        cause: StopCause,
    },
}

impl SnapshotError {
    pub(crate) fn failed(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Failed(Arc::new(error))
    }
}

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The configuration contradicts itself.
    #[error("the configuration is not possible")]
    Config(#[from] ConfigError),
    /// The membership given to `bootstrap` does not name this node.
    #[error("the membership does not name node {node}")]
    NotAMember {
        /// This node.
        node: NodeId,
    },
    /// The membership, given to `bootstrap` or held by the storage, gives this node another part than it was started for: a
    /// witness has no state to lead with, and other nodes may have forgotten what it would be taken to hold (4.3).
    #[error("the membership names node {node} a {named}, but it was started as a {started}")]
    OtherKind {
        /// This node.
        node: NodeId,
        /// What the membership says.
        named: MemberKind,
        /// What the builder was told; a full node counts as a voter.
        started: MemberKind,
    },
    /// A lost node comes back under an id that was never used (protocol 9.2, 10.1), not under its own.
    #[error("node {node} is lost, and comes back under a new id only")]
    SameId {
        /// The id of both.
        node: NodeId,
    },
    /// The storage refused, or failed.
    #[error("the storage cannot be opened")]
    Storage(#[from] StorageError),
    /// The transport cannot run.
    #[error("the transport cannot run")]
    Transport(#[from] TransportError),
    /// `Host::ThisArbiter` was asked for outside of an actix system.
    #[error("there is no actix arbiter on this thread")]
    NoArbiter,
    /// The node's thread cannot be started.
    #[error("the node's thread cannot be started")]
    Thread(#[source] std::io::Error),
    /// The node stopped while it was being started.
    #[error("the node stopped while it was being started: {0}")]
    Stopped(StopCause),
}

/// Why a node stopped.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StopCause {
    /// `shutdown` was called, or the `Node` dropped.
    #[error("it was shut down")]
    Shutdown,
    /// The storage failed: nothing more can be promised.
    #[error("its storage failed: {0}")]
    Storage(Arc<StorageError>),
    /// The transport ended.
    #[error("its transport ended: {0}")]
    Transport(Arc<TransportError>),
    /// A role panicked more often than the restart budget allows.
    #[error("its {role} panicked too often; the last time: {message}")]
    RolePanicked {
        /// Which role.
        role: &'static str,
        /// What the panic said.
        message: String,
    },
    /// More than half of the other initial members were started for another cluster or with another membership.
    #[error("node {peer} and others belong to another cluster or were started with another membership")]
    FormationDiffers {
        /// One of them.
        peer: NodeId,
    },
    /// The membership leaves this node out, and the others need it no more (6.5).
    #[error("it was removed from the membership")]
    Removed,
    /// The membership names this witness a voter, which it has no state for. Start it as what it is, or remove it.
    #[error("the membership names it a {named}, but it was started as a witness")]
    OtherKind {
        /// What the membership says.
        named: MemberKind,
    },
    /// The node may not vote any more, and says so.
    #[error("it may not vote any more: {0}")]
    Abstains(AbstainReason),
    /// Its thread is gone without a word.
    #[error("its thread is gone")]
    Gone,
}

/// What a node knows of itself.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Status {
    /// This node.
    pub node: NodeId,
    /// What its proposer does.
    pub proposer: ProposerState,
    /// The leader it follows, itself included.
    pub leader: Option<ProposalId>,
    /// The highest id it promised.
    pub promised: Option<ProposalId>,
    /// Every slot through this one is learned here.
    pub chosen_through: Slot,
    /// Every slot through this one is applied here: none on a witness.
    pub applied_through: Slot,
    /// The log begins above this slot, once the cluster has formed: what is below stands in the snapshot, if there is one.
    pub log_begins_at: Option<Slot>,
    /// The snapshot of what is below the log.
    pub snapshot: Option<SnapshotId>,
    /// The state is being restored from the snapshot, or fetched: reads wait, and the node does not lead.
    pub restoring: bool,
    /// The membership, once the cluster has formed.
    pub membership: Option<Membership>,
    /// What that membership names this node; `None` if it does not.
    pub kind: Option<MemberKind>,
    /// How far it has come, if it was started in the place of a lost node.
    pub recovery: Option<Recovery>,
    /// Whether and why it does not vote.
    pub abstains: Option<AbstainReason>,
    /// How often a role was rebuilt.
    pub rebuilt: u32,
    /// How many messages were dropped because a peer sent them in the name of another node.
    pub forged: u64,
}

/// A change of leadership, as this node saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Leadership {
    /// This node leads, under this id.
    Acquired(ProposalId),
    /// This node leads no more.
    Lost,
    /// Another node leads, or none is known.
    Changed(Option<ProposalId>),
}
