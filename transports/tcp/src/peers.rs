//! The peers: whom this node can send to, and where each is called.
//!
//! A peer with an address is called and has a queue for as long as it has the address. A peer without one (an observer
//! that called us, a node that the newest book leaves out) has a queue for as long as its connection lasts.
//! Invariants: at most one task calls a peer; at most `peers_max` peers are called; whoever is in no book, is not called
//! and has no connection is forgotten.
//! Locks are taken in this order: inbound, nodes, one queue or place.

use crate::address;
use crate::callers::Inbound;
use crate::config::Config;
use crate::queue::{Claim, NotQueued, Queue};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use synod::paxos::NodeId;
use synod::transport::Envelope;
use tokio::sync::{Notify, watch};

/// One node that can be sent to.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) node: NodeId,
    pub(crate) queue: Arc<Queue>,
    place: watch::Sender<Place>,
}

/// Where a peer is called.
#[derive(Clone, Debug, Default)]
pub(crate) struct Place {
    /// Nowhere, if none.
    pub(crate) address: Option<Arc<str>>,
    /// It left, and its place is needed: not even its present connection goes on.
    pub(crate) cut_off: bool,
}

impl Peer {
    /// Where it is called, now and at each change.
    pub(crate) fn place(&self) -> watch::Receiver<Place> {
        self.place.subscribe()
    }

    fn has_address(&self) -> bool {
        self.place.borrow().address.is_some()
    }
}

/// What is known of a peer.
#[derive(Debug)]
struct Known {
    peer: Arc<Peer>,
    /// The newest book names it.
    in_book: bool,
    /// A task calls it, or carries its last connection.
    called: bool,
}

impl Known {
    /// Whether it takes one of the `peers_max` places.
    fn holds_place(&self) -> bool {
        let place = self.peer.place.borrow();
        place.address.is_some() || (self.called && !place.cut_off)
    }
}

type Nodes = BTreeMap<NodeId, Known>;

#[derive(Debug)]
pub(crate) struct Peers {
    pub(crate) config: Arc<Config>,
    pub(crate) inbound: Mutex<Inbound>,
    nodes: RwLock<Nodes>,
    /// This node, once it runs.
    local: OnceLock<NodeId>,
    /// Someone may have to be called whom nobody calls.
    uncalled: Notify,
}

impl Peers {
    pub(crate) fn new(config: Arc<Config>) -> Self {
        let (inbound, nodes, local) = (Mutex::default(), RwLock::default(), OnceLock::new());
        Self { config, inbound, nodes, local, uncalled: Notify::new() }
    }

    /// Tells which node this is: one that is neither called nor sent to.
    pub(crate) fn set_local(&self, local: NodeId) {
        let local = *self.local.get_or_init(|| local);
        self.write().remove(&local);
    }

    fn is_local(&self, node: NodeId) -> bool {
        self.local.get() == Some(&node)
    }

    /// Queues `envelope`; `None` if nobody is known by that name.
    pub(crate) fn push(&self, to: NodeId, envelope: &Envelope) -> Option<Result<(), NotQueued>> {
        if self.is_local(to) {
            return None;
        }
        self.read().get(&to).map(|known| known.peer.queue.push(envelope))
    }

    /// Sets the address of `node`; false if there are too many nodes.
    pub(crate) fn set_address(&self, node: NodeId, address: &str) -> bool {
        if self.is_local(node) {
            return true;
        }
        let mut nodes = self.write();
        let mut places = Places::of(&nodes, &self.config, |other| other == node);
        self.place_at(&mut nodes, &mut places, node, address)
    }

    /// Takes in a book. Those that it leaves out go first, so that there is room for those who come.
    pub(crate) fn learn(&self, book: &BTreeMap<NodeId, String>) {
        let mut nodes = self.write();
        for (node, known) in
            nodes.iter_mut().filter(|(node, known)| known.in_book && !book.contains_key(node))
        {
            tracing::debug!(to = %node, "a peer is no member any more: it is not called again");
            known.in_book = false;
            known.peer.place.send_modify(|place| place.address = None);
            known.peer.queue.lasts(false);
        }
        nodes.retain(|_, known| is_reachable(known));
        let mut places = Places::of(&nodes, &self.config, |node| book.contains_key(&node));
        for (node, address) in book.iter().filter(|(node, _)| !self.is_local(**node)) {
            if !address::is_well_formed(address) {
                if !address.is_empty() {
                    tracing::warn!(to = %node, address, "leaves a peer where it was: its address is malformed");
                }
            } else if !self.place_at(&mut nodes, &mut places, *node, address) {
                tracing::warn!(to = %node, peers_max = self.config.peers_max, "too many peers: one is not called");
            }
            if let Some(known) = nodes.get_mut(node) {
                known.in_book = true;
            }
        }
    }

    fn place_at(&self, nodes: &mut Nodes, places: &mut Places, node: NodeId, address: &str) -> bool {
        if !nodes.get(&node).is_some_and(Known::holds_place) && !places.take() {
            return false;
        }
        let known = nodes.entry(node).or_insert_with(|| self.known(node));
        known.peer.queue.lasts(true);
        known.peer.place.send_if_modified(|place| {
            let moves = place.address.as_deref() != Some(address);
            if moves {
                *place = Place { address: Some(Arc::from(address)), cut_off: false };
            }
            moves
        });
        if !known.called {
            self.uncalled.notify_one();
        }
        true
    }

    fn known(&self, node: NodeId) -> Known {
        let queue = Queue::new(self.config.peer_bytes_max, self.config.frame_bytes_max);
        let (place, _) = watch::channel(Place::default());
        Known { peer: Arc::new(Peer { node, queue: Arc::new(queue), place }), in_book: false, called: false }
    }

    /// Whether this node calls `node`.
    pub(crate) fn has_address(&self, node: NodeId) -> bool {
        self.read().get(&node).is_some_and(|known| known.peer.has_address())
    }

    /// Waits until there are peers to call, and gives them out.
    pub(crate) async fn to_call(self: &Arc<Self>) -> Vec<Calling> {
        self.uncalled.notified().await;
        let mut nodes = self.write();
        nodes.retain(|node, _| !self.is_local(*node));
        let waiting = nodes.values_mut().filter(|known| !known.called && known.peer.has_address());
        let calling = waiting.map(|known| {
            known.called = true;
            Calling { peers: Arc::clone(self), peer: Arc::clone(&known.peer) }
        });
        calling.collect()
    }

    pub(crate) fn claim_for_caller(&self, node: NodeId) -> Option<Claim> {
        let mut nodes = self.write();
        let known = nodes.entry(node).or_insert_with(|| self.known(node));
        // The connection that this node made would find itself superseded, and never claim again.
        let served = known.peer.has_address() && known.peer.queue.is_claimed();
        (!served).then(|| known.peer.queue.claim())
    }

    /// Forgets `node` if nothing leads to it; true if so.
    pub(crate) fn forget_unreachable(&self, node: NodeId) -> bool {
        let mut nodes = self.write();
        let forgets = nodes.get(&node).is_some_and(|known| !is_reachable(known));
        if forgets {
            nodes.remove(&node);
        }
        forgets
    }

    fn read(&self) -> RwLockReadGuard<'_, Nodes> {
        self.nodes.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Nodes> {
        self.nodes.write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_reachable(known: &Known) -> bool {
    known.called || known.peer.has_address() || known.peer.queue.is_claimed()
}

/// The places that are left among `peers_max`.
#[derive(Debug)]
struct Places {
    free: usize,
    /// Peers whose last connection may be ended if there are no others.
    leaving: Vec<Arc<Peer>>,
}

impl Places {
    fn of(nodes: &Nodes, config: &Config, stays: impl Fn(NodeId) -> bool) -> Self {
        let holders = || nodes.values().filter(|known| known.holds_place());
        let leaving = holders().filter(|known| !known.peer.has_address() && !stays(known.peer.node));
        let leaving = leaving.map(|known| Arc::clone(&known.peer)).collect();
        Self { free: config.peers_max.saturating_sub(holders().count()), leaving }
    }

    fn take(&mut self) -> bool {
        if let Some(free) = self.free.checked_sub(1) {
            self.free = free;
            return true;
        }
        let leaves = self.leaving.pop();
        if let Some(peer) = &leaves {
            peer.place.send_modify(|place| place.cut_off = true);
        }
        leaves.is_some()
    }
}

/// The right and the duty to call a peer; ended by its drop.
#[derive(Debug)]
pub(crate) struct Calling {
    peers: Arc<Peers>,
    peer: Arc<Peer>,
}

impl Calling {
    pub(crate) fn peer(&self) -> &Arc<Peer> {
        &self.peer
    }
}

impl Drop for Calling {
    fn drop(&mut self) {
        let (peers, node) = (&self.peers, self.peer.node);
        let inbound = lock(&peers.inbound);
        if let Some(known) = peers.write().get_mut(&node).filter(|known| Arc::ptr_eq(&known.peer, &self.peer))
        {
            known.called = false;
            if known.peer.has_address() {
                // It came back in the last moment.
                peers.uncalled.notify_one();
            }
        }
        if peers.forget_unreachable(node) {
            // That it would be called it was told in the handshake: let it call again, and be answered where it calls.
            inbound.end(node);
        }
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use futures::FutureExt;

    const TWO: NodeId = NodeId::new(2);

    fn peers(peers_max: usize) -> Arc<Peers> {
        Arc::new(Peers::new(Arc::new(Config::default().peers_max(peers_max))))
    }

    fn book(nodes: impl IntoIterator<Item = u64>) -> BTreeMap<NodeId, String> {
        nodes.into_iter().map(|node| (NodeId::new(node), format!("10.0.0.1:{node}"))).collect()
    }

    fn to_call(peers: &Arc<Peers>) -> Vec<Calling> {
        peers.to_call().now_or_never().unwrap_or_default()
    }

    #[test]
    fn each_peer_is_given_out_to_be_called_once_and_this_node_never() {
        let peers = peers(10);
        peers.learn(&book([1, 2]));
        peers.set_local(NodeId::new(1));
        let first = to_call(&peers);
        peers.learn(&book([1, 2, 3]));
        let second = to_call(&peers);
        let called: Vec<_> = first.iter().chain(&second).map(|calling| calling.peer().node.get()).collect();
        assert_eq!(called, [2, 3]);
        peers.learn(&book([1, 2, 3]));
        assert!(peers.to_call().now_or_never().is_none(), "nothing has changed");
    }

    #[test]
    fn a_peer_that_comes_back_while_its_last_call_ends_is_called_anew() {
        let peers = peers(10);
        peers.learn(&book([2]));
        let last = to_call(&peers);
        peers.learn(&book([]));
        peers.learn(&book([2]));
        assert!(to_call(&peers).is_empty(), "it is called still");
        drop(last);
        assert_eq!(to_call(&peers).len(), 1);
    }

    #[test]
    fn books_without_end_leave_no_trace_of_those_who_left() {
        let peers = peers(3);
        peers.learn(&book([500, 501]));
        let called = to_call(&peers);
        for first in 1..100 {
            peers.learn(&book(first..first + 10));
            let held = peers.read().values().filter(|known| known.holds_place()).count();
            assert_eq!(held, 3);
        }
        assert_eq!(peers.read().len(), 5, "two of them until their connections have ended");
        drop(called);
        assert_eq!(peers.read().len(), 3);
        peers.learn(&book([]));
        assert!(peers.read().is_empty());
    }

    #[test]
    fn a_caller_does_not_take_the_queue_of_a_peer_that_was_named_and_reached_meanwhile() {
        let peers = peers(10);
        let stranger = peers.claim_for_caller(TWO);
        assert!(stranger.is_some());
        peers.learn(&book([2]));
        assert!(peers.claim_for_caller(TWO).is_none(), "its queue has a connection");
        drop(stranger);
        assert!(peers.claim_for_caller(TWO).is_some(), "until it is reached");
    }
}
