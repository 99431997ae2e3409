//! The callers: connections that came in, and which one of each node is the present one.
//!
//! Invariants: at most one standing connection per node; at most `handshakes_max` callers that have not shown themselves.

use crate::peers::{Peers, lock};
use crate::queue::Claim;
use futures::future::AbortHandle;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use synod::paxos::NodeId;

/// All connections that came in.
#[derive(Debug, Default)]
pub(crate) struct Inbound {
    next: u64,
    /// Callers that have not shown themselves, oldest first.
    unknown: VecDeque<(u64, AbortHandle)>,
    /// The one connection from each node.
    standing: BTreeMap<NodeId, (u64, AbortHandle)>,
}

impl Inbound {
    /// Ends the connection from `node`, if there is one.
    pub(crate) fn end(&self, node: NodeId) {
        if let Some((_, ends)) = self.standing.get(&node) {
            ends.abort();
        }
    }
}

/// A connection that came in: its place among the inbound ones, given back when dropped.
#[derive(Debug)]
pub(crate) struct Caller {
    peers: Arc<Peers>,
    number: u64,
    ends: AbortHandle,
    node: Option<NodeId>,
}

impl Caller {
    /// Takes in a caller; if too many are waiting, the oldest is pushed out, and the second of the answer is true.
    pub(crate) fn enter(peers: &Arc<Peers>, ends: AbortHandle) -> (Self, bool) {
        let mut inbound = lock(&peers.inbound);
        let crowded = inbound.unknown.len() >= peers.config.handshakes_max;
        if crowded && let Some((_, oldest)) = inbound.unknown.pop_front() {
            oldest.abort();
        }
        let number = inbound.next;
        inbound.next += 1;
        inbound.unknown.push_back((number, ends.clone()));
        (Self { peers: Arc::clone(peers), number, ends, node: None }, crowded)
    }

    /// It has shown itself: newer callers push it out no more.
    pub(crate) fn shown(&self) {
        lock(&self.peers.inbound).unknown.retain(|(number, _)| *number != self.number);
    }

    /// Whether a connection from `node` would be one too many.
    pub(crate) fn full(&self, node: NodeId) -> bool {
        if self.peers.has_address(node) {
            return false;
        }
        let inbound = lock(&self.peers.inbound);
        let strangers = inbound.standing.keys().filter(|other| !self.peers.has_address(**other)).count();
        !inbound.standing.contains_key(&node) && strangers >= self.peers.config.inbound_max
    }

    /// It is the connection of `node` from now on; an earlier one ends.
    pub(crate) fn stands(&mut self, node: NodeId) {
        self.node = Some(node);
        let earlier = lock(&self.peers.inbound).standing.insert(node, (self.number, self.ends.clone()));
        if let Some((_, earlier)) = earlier {
            earlier.abort();
        }
    }

    /// Takes over the queue of a node without an address, which is made if need be. `None` if the node has got an address
    /// since the handshake began, and its queue a connection.
    pub(crate) fn claim(&self, node: NodeId) -> Option<Claim> {
        self.peers.claim_for_caller(node)
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        self.shown();
        let Some(node) = self.node else { return };
        let mut inbound = lock(&self.peers.inbound);
        if inbound.standing.get(&node).is_none_or(|(number, _)| *number != self.number) {
            return;
        }
        inbound.standing.remove(&node);
        self.peers.forget_unreachable(node);
    }
}
