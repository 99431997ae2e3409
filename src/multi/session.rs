//! Sessions: what makes a repeated command apply once.
//!
//! A command that a node forwards carries its [`Origin`] (12.2): which node, which start of it, which serial. The table
//! below is folded from the log, so every node decides alike whether a command is new.

use super::message::Origin;
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
}

#[cfg(test)]
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
}
