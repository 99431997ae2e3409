//! Who proposes, and under which id: the total order on which Paxos rests.
//!
//! [`NodeId`] names a node for ever; [`ProposalId`] is a number that belongs to one node. Two proposers can never own
//! the same id, and a proposer never uses one twice, not even after a restart (protocol 1.3).

use serde::{Deserialize, Serialize};
use std::fmt;

/// A node of the cluster. Ids are never reused: a machine that lost its disk comes back under a new one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeId(u64);

impl NodeId {
    /// Names a node by its number.
    pub const fn new(id: u64) -> Self {
        Self(id)
    }

    /// The number behind the name.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "n{}", self.0)
    }
}

/// The id of a proposal: ordered by number, then by the node that owns it.
///
/// *Paxos Made Simple*, section 2.2: "different proposals have different numbers". The node makes them so.
#[doc(alias = "ballot")]
#[doc(alias = "term")]
#[doc(alias = "round")]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ProposalId {
    /// The number, at most [`ProposalId::NUMBER_MAX`] in anything that a node sends or believes.
    pub number: u64,
    /// The only node that may propose under this id.
    pub node: NodeId,
}

/// No further proposal id exists above the highest one seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("proposal numbers are exhausted: no id above {highest}")]
pub struct ProposalIdExhausted {
    /// The highest number that was seen or promised.
    pub highest: u64,
}

impl ProposalId {
    /// The highest number that is well formed. A message with a higher one is refused as malformed (protocol 1.3).
    pub const NUMBER_MAX: u64 = 1 << 62;

    /// The id `number` of `node`.
    pub const fn new(number: u64, node: NodeId) -> Self {
        Self { number, node }
    }

    /// The lowest id of `node` whose number is above `highest`.
    ///
    /// # Errors
    ///
    /// [`ProposalIdExhausted`] if that number would pass [`ProposalId::NUMBER_MAX`].
    pub const fn above(highest: u64, node: NodeId) -> Result<Self, ProposalIdExhausted> {
        if highest >= Self::NUMBER_MAX {
            return Err(ProposalIdExhausted { highest });
        }
        Ok(Self { number: highest + 1, node })
    }

    /// Whether the number is one that a correct node can have chosen.
    pub const fn is_well_formed(self) -> bool {
        self.number <= Self::NUMBER_MAX
    }
}

impl fmt::Display for ProposalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.number, self.node)
    }
}

impl fmt::Debug for ProposalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "p{}.{}", self.number, self.node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u64, node: u64) -> ProposalId {
        ProposalId::new(number, NodeId::new(node))
    }

    #[test]
    fn the_number_orders_before_the_node() {
        assert!(id(1, 9) < id(2, 1));
        assert!(id(2, 1) < id(2, 9));
    }

    #[test]
    fn the_id_above_is_the_next_number_of_that_node() {
        assert_eq!(ProposalId::above(4, NodeId::new(7)), Ok(id(5, 7)));
    }

    #[test]
    fn there_is_no_id_above_the_highest_number() {
        let max = ProposalId::NUMBER_MAX;
        assert_eq!(ProposalId::above(max - 1, NodeId::new(7)), Ok(id(max, 7)));
        assert_eq!(ProposalId::above(max, NodeId::new(7)), Err(ProposalIdExhausted { highest: max }));
        assert!(id(max, 7).is_well_formed());
        assert!(!id(max + 1, 7).is_well_formed());
    }
}
