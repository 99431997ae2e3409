//! Violations: what a checker says when a promise is broken.

use crate::multi::{BatchId, SessionId, Slot};
use crate::paxos::{NodeId, ProposalId};
use std::time::Duration;

/// A promise that was broken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// Two values for one slot, each accepted by a quorum under one id.
    #[error("two values are chosen at slot {slot}")]
    TwoValuesChosen {
        /// The slot.
        slot: Slot,
    },
    /// Two values were proposed under one id (protocol 2.1).
    #[error("two values under {id} at slot {slot} (protocol 2.1)")]
    TwoValuesProposed {
        /// The slot.
        slot: Slot,
        /// The id.
        id: ProposalId,
    },
    /// A node proposed under an id that is not its own.
    #[error("n{node} proposes under another node's id {id}")]
    ForeignId {
        /// The node.
        node: NodeId,
        /// The id.
        id: ProposalId,
    },
    /// A node proposed further ahead than α permits (protocol 1.6).
    #[error("n{node} proposes at slot {slot}, with {chosen_through} chosen (protocol 1.6)")]
    TooFarAhead {
        /// The node.
        node: NodeId,
        /// The slot.
        slot: Slot,
        /// All through this slot are chosen.
        chosen_through: Slot,
    },
    /// Something was accepted that nobody had proposed.
    #[error("n{node} accepted at slot {slot} under {id} what nobody proposed")]
    NotProposed {
        /// The node.
        node: NodeId,
        /// The slot.
        slot: Slot,
        /// The id.
        id: ProposalId,
    },
    /// A node answered under a lower id than it had promised (protocol 1.1).
    #[error("n{node} answers under {id} after it answered under {promised} (protocol 1.1)")]
    PromiseBroken {
        /// The node.
        node: NodeId,
        /// What it answers under.
        id: ProposalId,
        /// What it had said.
        promised: ProposalId,
    },
    /// A node restarted with a lower promise than it had sent (protocol 1.2).
    #[error("n{node} said {said:?} and comes back with {promised:?} (protocol 1.2)")]
    PromiseForgotten {
        /// The node.
        node: NodeId,
        /// What it had said.
        said: Option<ProposalId>,
        /// What it comes back with.
        promised: Option<ProposalId>,
    },
    /// A node applied out of order, or went back.
    #[error("n{node} applies slot {slot} after {last}")]
    OutOfOrder {
        /// The node.
        node: NodeId,
        /// What it applied.
        slot: Slot,
        /// What it had applied before.
        last: Slot,
    },
    /// A node's log lost what it had learned durably.
    #[error("n{node} had learned through {learned} and comes back with {chosen_through}")]
    LearnedForgotten {
        /// The node.
        node: NodeId,
        /// What it had learned.
        learned: Slot,
        /// What it comes back with.
        chosen_through: Slot,
    },
    /// A node applied what is not chosen there.
    #[error("n{node} applies at slot {slot} what is not chosen there")]
    NotChosen {
        /// The node.
        node: NodeId,
        /// The slot.
        slot: Slot,
    },
    /// Two nodes that applied the same have another state, or gave other replies.
    #[error("n{node} has another state after slot {slot} than applying the log gives (protocol 5.1)")]
    StateDiffers {
        /// The node.
        node: NodeId,
        /// All through this slot were applied.
        slot: Slot,
    },
    /// A node votes no more, or refuses a peer, though nothing gave it a reason.
    #[error("n{node} is out of service: {why}")]
    OutOfService {
        /// The node.
        node: NodeId,
        /// In the words of the core.
        why: String,
    },
    /// The same batch stands in the log twice (protocol 2.5).
    #[error("batch {batch:?} is chosen twice, the second time at slot {slot} (protocol 2.5)")]
    ChosenTwice {
        /// The batch.
        batch: BatchId,
        /// Where the second one stands.
        slot: Slot,
    },
    /// A client was told of a write that is not in the log.
    #[error("{what} was acknowledged and is not chosen")]
    AcknowledgedLost {
        /// Which.
        what: String,
    },
    /// A command of a session was applied twice (protocol 12.3).
    #[error("command {serial} of session {session} is applied again at slot {slot} (protocol 12.3)")]
    AppliedTwice {
        /// The session.
        session: SessionId,
        /// The command.
        serial: u64,
        /// Where it is applied again.
        slot: Slot,
    },
    /// A client got another reply than its command had (protocol 12.3).
    #[error(
        "command {serial} of session {session} gets another reply from n{node} than it had (protocol 12.3)"
    )]
    ReplyDiffers {
        /// Who answered.
        node: NodeId,
        /// The session.
        session: SessionId,
        /// The command.
        serial: u64,
    },
    /// A read was to be served from a state that misses what was acknowledged before it (protocol 7.1).
    #[error("n{node} serves a read at {mark}, and {acknowledged} was acknowledged (protocol 7.1)")]
    StaleRead {
        /// The node.
        node: NodeId,
        /// What it would have applied.
        mark: Slot,
        /// What had been acknowledged when the read arrived.
        acknowledged: Slot,
    },
    /// The state machine's own check of what clients saw failed.
    #[error("what the clients saw is wrong: {why}")]
    HistoryWrong {
        /// In the words of [`Simulated::check`](super::Simulated::check).
        why: String,
    },
    /// The cluster did not serve after everything had healed.
    #[error("not served {waited:?} after everything healed: {chosen} slots chosen; {nodes}")]
    NotServed {
        /// How long the check waited.
        waited: Duration,
        /// How many slots are chosen.
        chosen: usize,
        /// Where every node stands.
        nodes: String,
    },
    /// The code under test panicked.
    #[error("panicked: {text}")]
    Panicked {
        /// What it said.
        text: String,
    },
}

impl Violation {
    /// The slot that it is about, if it is about one.
    pub fn slot(&self) -> Option<Slot> {
        match self {
            Self::TwoValuesChosen { slot }
            | Self::TwoValuesProposed { slot, .. }
            | Self::TooFarAhead { slot, .. }
            | Self::NotProposed { slot, .. }
            | Self::OutOfOrder { slot, .. }
            | Self::NotChosen { slot, .. }
            | Self::StateDiffers { slot, .. }
            | Self::ChosenTwice { slot, .. }
            | Self::AppliedTwice { slot, .. } => Some(*slot),
            Self::StaleRead { acknowledged, .. } => Some(*acknowledged),
            _ => None,
        }
    }

    /// The node that it is about, if it is about one.
    pub fn node(&self) -> Option<NodeId> {
        match self {
            Self::ForeignId { node, .. }
            | Self::TooFarAhead { node, .. }
            | Self::NotProposed { node, .. }
            | Self::PromiseBroken { node, .. }
            | Self::PromiseForgotten { node, .. }
            | Self::OutOfOrder { node, .. }
            | Self::LearnedForgotten { node, .. }
            | Self::NotChosen { node, .. }
            | Self::StateDiffers { node, .. }
            | Self::OutOfService { node, .. }
            | Self::ReplyDiffers { node, .. }
            | Self::StaleRead { node, .. } => Some(*node),
            _ => None,
        }
    }

    /// Whether it is about what clients were told.
    pub(super) fn is_of_clients(&self) -> bool {
        matches!(
            self,
            Self::HistoryWrong { .. }
                | Self::AcknowledgedLost { .. }
                | Self::AppliedTwice { .. }
                | Self::ReplyDiffers { .. }
        )
    }

    /// Whether `other` breaks the same promise, perhaps elsewhere.
    pub fn is_like(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }
}
