//! The peers: whom this node can send to, and which connection of each is the present one.
//!
//! A peer with an address has a queue for good. A peer without one (an observer that called us) has a queue for as
//! long as its connection lasts.
//! Invariants: at most one inbound connection per node; at most `handshakes_max` callers that have not shown themselves.

use crate::config::Config;
use crate::queue::{Claim, NotQueued, Queue};
use futures::future::AbortHandle;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use synod::paxos::NodeId;
use synod::transport::Envelope;

/// One node that can be sent to.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) node: NodeId,
    pub(crate) queue: Arc<Queue>,
    address: Mutex<Option<String>>,
}

impl Peer {
    pub(crate) fn address(&self) -> Option<String> {
        lock(&self.address).clone()
    }
}

#[derive(Debug)]
pub(crate) struct Peers {
    config: Arc<Config>,
    nodes: RwLock<BTreeMap<NodeId, Arc<Peer>>>,
    inbound: Mutex<Inbound>,
}

#[derive(Debug, Default)]
struct Inbound {
    next: u64,
    /// Callers that have not shown themselves, oldest first.
    unknown: VecDeque<(u64, AbortHandle)>,
    /// The one connection from each node.
    standing: BTreeMap<NodeId, (u64, AbortHandle)>,
}

impl Peers {
    pub(crate) fn new(config: Arc<Config>) -> Self {
        Self { config, nodes: RwLock::default(), inbound: Mutex::default() }
    }

    /// Queues `envelope`; `None` if nobody is known by that name.
    pub(crate) fn push(&self, to: NodeId, envelope: &Envelope) -> Option<Result<(), NotQueued>> {
        let nodes = self.nodes.read().unwrap_or_else(PoisonError::into_inner);
        nodes.get(&to).map(|peer| peer.queue.push(envelope))
    }

    /// Sets the address of `node`; gives the peer if it had none before, so that someone starts to call it.
    pub(crate) fn set_address(&self, node: NodeId, address: String) -> Option<Arc<Peer>> {
        let peer = self.peer(node);
        let earlier = lock(&peer.address).replace(address);
        earlier.is_none().then_some(peer)
    }

    /// Whether this node calls `node`.
    pub(crate) fn has_address(&self, node: NodeId) -> bool {
        let nodes = self.nodes.read().unwrap_or_else(PoisonError::into_inner);
        nodes.get(&node).is_some_and(|peer| lock(&peer.address).is_some())
    }

    fn peer(&self, node: NodeId) -> Arc<Peer> {
        let mut nodes = self.nodes.write().unwrap_or_else(PoisonError::into_inner);
        let fresh = || {
            let queue = Queue::new(self.config.peer_bytes_max, self.config.frame_bytes_max);
            Arc::new(Peer { node, queue: Arc::new(queue), address: Mutex::default() })
        };
        Arc::clone(nodes.entry(node).or_insert_with(fresh))
    }

    /// Takes in a caller; if too many are waiting, the oldest is pushed out, and the second of the answer is true.
    pub(crate) fn caller(self: &Arc<Self>, ends: AbortHandle) -> (Caller, bool) {
        let mut inbound = lock(&self.inbound);
        let crowded = inbound.unknown.len() >= self.config.handshakes_max;
        if crowded && let Some((_, oldest)) = inbound.unknown.pop_front() {
            oldest.abort();
        }
        let number = inbound.next;
        inbound.next += 1;
        inbound.unknown.push_back((number, ends.clone()));
        (Caller { peers: Arc::clone(self), number, ends, node: None }, crowded)
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

    /// Takes over the queue of a node without an address, which is made if need be.
    pub(crate) fn claim(&self, node: NodeId) -> Claim {
        self.peers.peer(node).queue.claim()
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
        let mut nodes = self.peers.nodes.write().unwrap_or_else(PoisonError::into_inner);
        if nodes.get(&node).is_some_and(|peer| lock(&peer.address).is_none()) {
            nodes.remove(&node);
        }
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
