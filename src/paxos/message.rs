//! The messages: five sentences, and there are no others.
//!
//! Invariant: what a message says is durable at its sender (see [`Step`](super::Step)).
//! Knows nothing of: who sends it. That is for the transport to say, not for the sender.

use super::ProposalId;
use serde::{Deserialize, Serialize};

/// What nodes say to each other (*Paxos Made Simple*, sections 2.2 and 2.3). Each may be lost, repeated, or late.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Message<V> {
    /// Phase 1a, proposer to acceptors: accept nothing below `id`, and what have you accepted?
    Prepare {
        /// The id that the proposer wants to propose under.
        id: ProposalId,
    },
    /// Phase 1b, acceptor to proposer: I accept nothing below `id`, and this is what I accepted last.
    Promise {
        /// The promised id.
        id: ProposalId,
        /// The accepted proposal with the highest id. Never the *promised* id, which would hide a chosen value.
        accepted: Option<(ProposalId, V)>,
    },
    /// Phase 2a, proposer to acceptors: accept `value` under `id`.
    Accept {
        /// The id under which a quorum has promised.
        id: ProposalId,
        /// The one value that is ever proposed under `id`.
        value: V,
    },
    /// Phase 2b, acceptor to learners: I have accepted `value` under `id`.
    Accepted {
        /// The id of the accepted proposal.
        id: ProposalId,
        /// Its value.
        value: V,
    },
    /// Acceptor to proposer: I refuse `id`, for I promised a higher one. A hint that saves time; safety needs it not.
    #[doc(alias = "reject")]
    #[doc(alias = "preempt")]
    Nack {
        /// The refused id.
        id: ProposalId,
        /// The id that was promised instead.
        promised: ProposalId,
    },
}

impl<V> Message<V> {
    /// Whether every id in it is one that a correct node can have sent. Any other message is dropped unread.
    pub fn is_well_formed(&self) -> bool {
        match self {
            Self::Prepare { id } | Self::Accept { id, .. } | Self::Accepted { id, .. } => id.is_well_formed(),
            Self::Promise { id, accepted } => {
                id.is_well_formed() && accepted.as_ref().is_none_or(|(accepted, _)| accepted.is_well_formed())
            }
            Self::Nack { id, promised } => id.is_well_formed() && promised.is_well_formed(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::paxos::NodeId;

    #[test]
    fn one_id_out_of_range_makes_any_message_malformed() {
        let good = ProposalId::new(ProposalId::NUMBER_MAX, NodeId::new(1));
        let bad = ProposalId::new(ProposalId::NUMBER_MAX + 1, NodeId::new(1));
        let all = |id, accepted| {
            [
                Message::Prepare { id },
                Message::Promise { id, accepted: None },
                Message::Promise { id: good, accepted: Some((accepted, ())) },
                Message::Accept { id, value: () },
                Message::Accepted { id, value: () },
                Message::Nack { id, promised: good },
                Message::Nack { id: good, promised: id },
            ]
        };
        assert!(all(good, good).iter().all(Message::is_well_formed));
        assert!(!all(bad, bad).iter().any(Message::is_well_formed));
    }
}
