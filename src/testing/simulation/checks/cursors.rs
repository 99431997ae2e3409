//! Nothing goes back: what a node promised, how far it has learned and applied.

use super::super::violation::Violation;
use crate::multi::Slot;
use crate::paxos::{NodeId, ProposalId};
use std::collections::BTreeMap;

/// Where every node has been.
#[derive(Debug, Default)]
pub(in super::super) struct Cursors {
    /// The highest id under which each node answered.
    promised: BTreeMap<NodeId, ProposalId>,
    /// How far each node had learned, durably, at its last start.
    learned: BTreeMap<NodeId, Slot>,
    /// What each node has applied since its last start.
    applied: BTreeMap<NodeId, Slot>,
}

impl Cursors {
    pub(super) fn promised(&mut self, node: NodeId, id: ProposalId) -> Result<(), Violation> {
        match self.promised.get(&node) {
            Some(promised) if *promised > id => {
                return Err(Violation::PromiseBroken { node, id, promised: *promised });
            }
            _ => self.promised.insert(node, id),
        };
        Ok(())
    }

    /// `node` comes back from a past of which it will be told.
    pub(in super::super) fn begin_anew(&mut self, node: NodeId) {
        self.applied.remove(&node);
    }

    /// `node` comes back: what it promised is what it said it promised.
    pub(in super::super) fn restarted(
        &mut self,
        node: NodeId,
        promised: Option<ProposalId>,
    ) -> Result<(), Violation> {
        self.applied.remove(&node);
        let said = self.promised.get(&node).copied();
        if promised < said { Err(Violation::PromiseForgotten { node, said, promised }) } else { Ok(()) }
    }

    /// `node` comes back with a log that nothing has damaged.
    pub(in super::super) fn relearned(
        &mut self,
        node: NodeId,
        chosen_through: Slot,
    ) -> Result<(), Violation> {
        let learned = self.learned.insert(node, chosen_through).unwrap_or_default();
        let forgotten = chosen_through < learned;
        if forgotten { Err(Violation::LearnedForgotten { node, learned, chosen_through }) } else { Ok(()) }
    }

    pub(super) fn applied(&mut self, node: NodeId, slot: Slot) -> Result<(), Violation> {
        let last = self.applied.insert(node, slot).unwrap_or_default();
        if slot == last.next() { Ok(()) } else { Err(Violation::OutOfOrder { node, slot, last }) }
    }

    pub(super) fn restored(&mut self, node: NodeId, through: Slot) -> Result<(), Violation> {
        let last = self.applied.insert(node, through).unwrap_or_default();
        if last < through { Ok(()) } else { Err(Violation::OutOfOrder { node, slot: through, last }) }
    }

    /// How far `node` has applied since its last start.
    pub(in super::super) fn applied_through(&self, node: NodeId) -> Slot {
        self.applied.get(&node).copied().unwrap_or_default()
    }
}
