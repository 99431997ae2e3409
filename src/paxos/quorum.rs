//! The quorum: how many acceptors are enough.
//!
//! Invariant Q1: every phase-1 quorum shares an acceptor with every phase-2 quorum. It is checked where a [`Quorum`] is
//! made, and a quorum is never changed afterwards.
//! Knows nothing of: proposals, values, who has answered so far.

use super::NodeId;
use std::collections::BTreeSet;

/// The acceptors of one decision, and how many of them each phase needs.
///
/// By default a majority for both phases (*Paxos Made Simple*, section 2.2). [`flexible`](Self::flexible) sizes may
/// differ, as long as every quorum of phase 1 meets every quorum of phase 2 (Howard, Malkhi, Spiegelman: *Flexible
/// Paxos*, 2016): that is all that the proof uses.
///
/// There is no way to change one. A quorum that a single node changes on its own no longer meets those of the others.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Quorum {
    acceptors: BTreeSet<NodeId>,
    promises: usize,
    accepts: usize,
}

/// These acceptors and sizes make no quorum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QuorumError {
    /// No acceptor was named.
    #[error("a quorum needs at least one acceptor")]
    NoAcceptors,
    /// More answers were asked for than there are acceptors.
    #[error("{size} of {acceptors} acceptors can never answer")]
    Unreachable {
        /// The size asked for.
        size: usize,
        /// The acceptors there are.
        acceptors: usize,
    },
    /// Some phase-1 quorum would share no acceptor with some phase-2 quorum.
    #[error("{promises} promises and {accepts} accepts of {acceptors} acceptors need not meet")]
    Disjoint {
        /// The size of a phase-1 quorum.
        promises: usize,
        /// The size of a phase-2 quorum.
        accepts: usize,
        /// The acceptors there are.
        acceptors: usize,
    },
}

impl Quorum {
    /// More than half of `acceptors`, in both phases. A node that is named twice is one acceptor.
    ///
    /// # Errors
    ///
    /// [`QuorumError::NoAcceptors`] if none is named.
    pub fn majority(acceptors: impl IntoIterator<Item = NodeId>) -> Result<Self, QuorumError> {
        let acceptors = BTreeSet::from_iter(acceptors);
        let size = acceptors.len() / 2 + 1;
        Self::flexible(acceptors, size, size)
    }

    /// `promises` acceptors for phase 1 and `accepts` acceptors for phase 2.
    ///
    /// # Errors
    ///
    /// [`QuorumError::Disjoint`] unless `promises + accepts` is more than the number of acceptors;
    /// [`QuorumError::Unreachable`] if one of them alone is; [`QuorumError::NoAcceptors`] if none is named.
    pub fn flexible(
        acceptors: impl IntoIterator<Item = NodeId>,
        promises: usize,
        accepts: usize,
    ) -> Result<Self, QuorumError> {
        let acceptors = BTreeSet::from_iter(acceptors);
        let count = acceptors.len();
        if count == 0 {
            return Err(QuorumError::NoAcceptors);
        }
        let size = promises.max(accepts);
        if size > count {
            return Err(QuorumError::Unreachable { size, acceptors: count });
        }
        if promises + accepts <= count {
            return Err(QuorumError::Disjoint { promises, accepts, acceptors: count });
        }
        Ok(Self { acceptors, promises, accepts })
    }

    /// Whether `node` is an acceptor: only an acceptor's answer counts.
    pub fn contains(&self, node: NodeId) -> bool {
        self.acceptors.contains(&node)
    }

    /// The acceptors, in order.
    pub fn acceptors(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.acceptors.iter().copied()
    }

    /// Whether these nodes are a phase-1 quorum. Strangers among them do not count.
    pub fn is_promised_by(&self, nodes: &BTreeSet<NodeId>) -> bool {
        self.count(nodes) >= self.promises
    }

    /// Whether these nodes are a phase-2 quorum. Strangers among them do not count.
    pub fn is_accepted_by(&self, nodes: &BTreeSet<NodeId>) -> bool {
        self.count(nodes) >= self.accepts
    }

    /// Whether a phase-2 quorum is left when these nodes refuse.
    pub fn is_left_without(&self, refusing: &BTreeSet<NodeId>) -> bool {
        self.acceptors.len() - self.count(refusing) >= self.accepts
    }

    fn count(&self, nodes: &BTreeSet<NodeId>) -> usize {
        self.acceptors.intersection(nodes).count()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn nodes(count: u64) -> impl Iterator<Item = NodeId> + Clone {
        (1..=count).map(NodeId::new)
    }

    #[test]
    fn sizes_that_need_not_meet_are_refused() {
        let refused = Quorum::flexible(nodes(4), 2, 2);
        assert_eq!(refused, Err(QuorumError::Disjoint { promises: 2, accepts: 2, acceptors: 4 }));
        assert!(Quorum::flexible(nodes(4), 3, 2).is_ok());
    }

    #[test]
    fn a_quorum_that_nobody_can_reach_is_refused() {
        let refused = Quorum::flexible(nodes(3), 1, 4);
        assert_eq!(refused, Err(QuorumError::Unreachable { size: 4, acceptors: 3 }));
    }

    #[test]
    fn a_phase_that_needs_nobody_is_refused() {
        assert!(Quorum::flexible(nodes(3), 0, 3).is_err());
        assert!(Quorum::flexible(nodes(3), 3, 0).is_err());
    }

    #[test]
    fn nobody_is_no_quorum() {
        assert_eq!(Quorum::majority([]), Err(QuorumError::NoAcceptors));
    }

    #[test]
    fn a_node_named_twice_is_one_acceptor() {
        let quorum = Quorum::majority([1, 1, 2, 3].map(NodeId::new)).unwrap();
        assert_eq!(quorum, Quorum::majority(nodes(3)).unwrap());
    }

    #[test]
    fn strangers_do_not_count() {
        let quorum = Quorum::majority(nodes(3)).unwrap();
        let one_of_ours = BTreeSet::from([1, 8, 9].map(NodeId::new));
        assert!(!quorum.is_promised_by(&one_of_ours));
        assert!(!quorum.is_accepted_by(&one_of_ours));
        assert!(quorum.is_left_without(&one_of_ours));
    }
}
