//! Origins: a command that one node forwards to another is applied once, also if the transport repeats it (12.2).

use crate::multi::membership::Membership;
use crate::multi::message::Origin;
use crate::paxos::NodeId;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Which forwarded commands have been applied.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OriginTable {
    by_node: BTreeMap<NodeId, Applied>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Applied {
    incarnation: u64,
    answered_through: u64,
    above: BTreeSet<u64>,
}

impl OriginTable {
    /// Whether the command of `origin` is to be applied: not if it was already, if its node has given up waiting for it, or
    /// if it comes from an earlier start of that node. Call it once for each command, in log order.
    pub fn admit(&mut self, origin: Origin) -> bool {
        let applied = self.by_node.entry(origin.node).or_default();
        if origin.incarnation < applied.incarnation {
            return false;
        }
        if origin.incarnation > applied.incarnation {
            *applied = Applied { incarnation: origin.incarnation, ..Applied::default() };
        }
        if origin.answered_through > applied.answered_through {
            applied.answered_through = origin.answered_through;
            applied.above = applied.above.split_off(&origin.answered_through.saturating_add(1));
        }
        origin.serial > applied.answered_through && applied.above.insert(origin.serial)
    }

    /// Forgets every node that is not in `membership`, which has just been learned: none of their commands may be admitted
    /// any more.
    pub fn keep_members(&mut self, membership: &Membership) {
        self.by_node.retain(|node, _| membership.members().contains_key(node));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn origin(incarnation: u64, serial: u64, answered_through: u64) -> Origin {
        Origin { node: NodeId::new(1), incarnation, serial, answered_through }
    }

    // protocol 12.2
    #[test]
    fn a_repeated_forwarded_command_is_applied_once() {
        let mut table = OriginTable::default();
        assert!(table.admit(origin(1, 1, 0)));
        assert!(table.admit(origin(1, 3, 0)));
        assert!(!table.admit(origin(1, 1, 0)));
        assert!(table.admit(origin(1, 2, 0)));
        assert!(!table.admit(origin(1, 3, 2)));
    }

    #[test]
    fn a_command_that_its_node_no_longer_waits_for_is_not_applied() {
        let mut table = OriginTable::default();
        assert!(table.admit(origin(1, 5, 4)));
        assert!(!table.admit(origin(1, 4, 0)));
    }

    #[test]
    fn a_serial_at_the_end_of_the_numbers_is_refused_without_a_panic() {
        let mut table = OriginTable::default();
        assert!(!table.admit(origin(1, u64::MAX, u64::MAX)));
        assert!(!table.admit(origin(1, 1, 0)));
    }

    #[test]
    fn a_command_of_an_earlier_start_is_not_applied_and_a_later_start_counts_anew() {
        let mut table = OriginTable::default();
        assert!(table.admit(origin(2, 1, 0)));
        assert!(!table.admit(origin(1, 2, 0)));
        assert!(table.admit(origin(3, 1, 0)));
    }
    #[test]
    fn who_is_left_out_of_the_membership_is_forgotten_and_nobody_else() {
        let other = Origin { node: NodeId::new(2), ..origin(1, 1, 0) };
        let mut table = OriginTable::default();
        assert!(table.admit(origin(1, 1, 0)) && table.admit(other));
        table.keep_members(&Membership::voters([(NodeId::new(2), "")]).unwrap());
        assert_eq!(table.by_node.keys().copied().collect::<Vec<_>>(), [NodeId::new(2)]);
        assert!(!table.admit(other));
    }
}
