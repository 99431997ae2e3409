//! The transport: how messages travel between nodes.
//!
//! # The contract
//!
//! The cases of the public transport suite are numbered as these clauses are.
//!
//! 1. **One way, lossy.** [`Transport::send`] queues or drops; it never blocks, waits or fails otherwise. A message may be
//!    lost, repeated across connections, or late by any time. It is never changed, and never delivered to another node.
//! 2. **Ordered while a connection lasts.** Of two messages queued for one peer, the later never overtakes the earlier
//!    on the same connection.
//! 3. **Bounded.** What waits for one peer is bounded in bytes; beyond it, `send` says [`SendOutcome::Dropped`]. So it does
//!    for an unknown peer and for this node itself.
//! 4. **Shaken hands first.** Nothing is delivered before both ends have shown their [`Identity`] and [`Inbox::connect`] said
//!    yes. A refused peer is disconnected, told why where the medium allows ([`Inbox::refused`]), and tried again only
//!    with a growing delay.
//! 5. **Authentic as far as it goes.** Each [`PeerInbox`] belongs to one connection of one peer; a message is never
//!    delivered under another sender's name.
//! 6. **Watched.** The [`PeerInbox`] is dropped when its connection ends, and a peer that vanished without a word is
//!    noticed within a stated time. A new connection is tried with a jittered, growing delay.
//! 7. **Pushed back.** [`PeerInbox::deliver`] may wait; meanwhile that connection reads no more, and the others go on.
//! 8. **Suspicious.** Bytes that do not decode, are too long or nested too deep end their connection and allocate no more
//!    than a frame; they never end the transport or panic.
//! 9. **Gone when dropped.** Dropping the future of [`Transport::run`] ends every task and connection that it started, also
//!    those for nodes that it learned of while it ran.
//! 10. **Follows the membership.** A book ([`Transport::learn_addresses`]) names every node there is and its address. From
//!     then on a node in it is called there, also in place of an address given before. An address that is empty or does not
//!     parse leaves what was known, and this node's own is ignored. A node that an earlier book named and this one leaves
//!     out is not called any more once its present connection ends, and what waits for it then is dropped; a node known
//!     otherwise that no book ever named stays. Connections that stand go on, undisturbed, until they end by themselves. A
//!     transport that finds nodes by their id alone has nothing to learn.

use crate::multi::{Identity, Message, Refusal};
use crate::paxos::NodeId;
use async_trait::async_trait;
use futures::channel::{mpsc, oneshot};
use futures::{FutureExt, StreamExt};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, Waker};

/// Which of several logs that share a transport a message belongs to. 0 until there are several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct GroupId(pub u32);

/// A message with the group that it belongs to: the unit that a transport carries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// The group.
    pub group: GroupId,
    /// The message.
    pub message: Message,
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum SendOutcome {
    /// It waits to be sent; it may still be lost.
    Queued,
    /// It is lost: the peer is unknown or its bound is reached.
    Dropped,
}

/// Carries envelopes between nodes. The contract stands in the [module's documentation](self).
#[async_trait]
pub trait Transport: Send + Sync + 'static {
    /// Queues `envelope` for `to` without blocking; the hot path.
    fn send(&self, to: NodeId, envelope: &Envelope) -> SendOutcome;

    /// Tells which nodes there are and where, each time the membership changes: the addresses stand in the transport's own
    /// notation ([`Member::address`](crate::multi::Member::address)), and the book is complete (clause 10).
    ///
    /// Comes at any time, before `run`, too, and from any thread. Must not block, must cost little if nothing has changed, and
    /// must bound how many nodes it keeps. A repeat changes nothing. The default does nothing: for transports that know
    /// where nodes are by other means.
    fn learn_addresses(&self, book: &BTreeMap<NodeId, String>) {
        let _ = book;
    }

    /// Runs until dropped: accepts, connects, shakes hands, reads, delivers. Called once.
    ///
    /// # Errors
    ///
    /// If it cannot start or go on at all (a port in use, a second call). Trouble with one peer is no error.
    async fn run(self: Arc<Self>, inbox: Inbox) -> Result<(), TransportError>;
}

/// Why a transport cannot run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransportError {
    /// The address cannot be had.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: String,
        /// Why.
        source: std::io::Error,
    },
    /// `run` was called a second time.
    #[error("the transport runs already")]
    RunsAlready,
    /// A transport of one's own failed in a way of its own.
    #[error("{what}")]
    Other {
        /// What was tried.
        what: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// The node does not take the connection.
pub type Refused = Refusal;

/// The node is gone; the connection should end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the node takes no more messages")]
pub struct Closed;

/// Handshakes that may wait for an answer at a time; beyond it [`Refusal::Unavailable`].
const HANDSHAKES_MAX: usize = 64;

/// The node's side of a transport.
#[derive(Clone)]
pub struct Inbox {
    local: Arc<Identity>,
    arrivals: mpsc::UnboundedSender<Arrival>,
    bytes_max: usize,
    handshakes: Arc<AtomicUsize>,
}

impl std::fmt::Debug for Inbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inbox").field("local", &self.local.owner).finish_non_exhaustive()
    }
}

impl Inbox {
    /// An inbox, and the stream of what arrives in it, for whoever stands in for a node (the node itself, a suite, a
    /// simulator). `bytes_max` bounds what one connection may have delivered and not [`Held`] released.
    pub fn channel(local: Identity, bytes_max: usize) -> (Self, mpsc::UnboundedReceiver<Arrival>) {
        let (arrivals, receiver) = mpsc::unbounded();
        (Self { local: Arc::new(local), arrivals, bytes_max, handshakes: Arc::default() }, receiver)
    }

    /// Who this node is: what to show in the handshake.
    pub fn local(&self) -> &Identity {
        &self.local
    }

    /// After the handshake, once per connection that will deliver messages: checks cluster, identity and history (which
    /// may take a durable write), and tells the node that the link is up.
    ///
    /// # Errors
    ///
    /// [`Refused`] with the reason, to be told to the peer.
    pub async fn connect(&self, peer: Identity) -> Result<PeerInbox, Refused> {
        let node = peer.node();
        if peer.owner.cluster != self.local.owner.cluster || peer.owner.epoch != self.local.owner.epoch {
            return Err(Refusal::WrongCluster);
        }
        if node == self.local.node() {
            return Err(Refusal::OwnId);
        }
        if self.local.protocol.common(peer.protocol).is_none() {
            return Err(Refusal::NoCommonProtocol);
        }
        if self.handshakes.fetch_add(1, Ordering::AcqRel) >= HANDSHAKES_MAX {
            self.handshakes.fetch_sub(1, Ordering::AcqRel);
            return Err(Refusal::Unavailable);
        }
        let place = Place(Arc::clone(&self.handshakes));
        let (answer, verdict) = oneshot::channel();
        let asked = self.arrivals.unbounded_send(Arrival::Connect { identity: peer, answer });
        let verdict = if asked.is_ok() { verdict.await } else { Ok(Err(Refusal::Unavailable)) };
        drop(place);
        verdict.unwrap_or(Err(Refusal::Unavailable))?;
        let connection = PeerInbox {
            peer: node,
            arrivals: self.arrivals.clone(),
            gate: Arc::new(Gate {
                state: Mutex::new(GateState { held: 0, waker: None }),
                bytes_max: self.bytes_max,
            }),
        };
        self.arrivals.unbounded_send(Arrival::LinkUp { peer: node }).map_err(|_| Refusal::Unavailable)?;
        Ok(connection)
    }

    /// A peer refused this node in a handshake of the peer's: tell the node, which must heed a
    /// [`Refusal::StaleIncarnation`].
    pub fn refused(&self, peer: NodeId, refusal: Refusal) {
        // A node that is gone need not hear it.
        let _ = self.arrivals.unbounded_send(Arrival::Refused { peer, refusal });
    }
}

struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// One connection from one peer, with one byte bound. Its drop tells the node that the link is down.
#[derive(Debug)]
pub struct PeerInbox {
    peer: NodeId,
    arrivals: mpsc::UnboundedSender<Arrival>,
    gate: Arc<Gate>,
}

impl PeerInbox {
    /// Who is at the other end.
    pub fn peer(&self) -> NodeId {
        self.peer
    }

    /// Hands `envelope` to the node; waits while the bytes delivered and not yet dealt with are above the bound.
    ///
    /// # Errors
    ///
    /// [`Closed`] when the node is gone.
    pub async fn deliver(&mut self, envelope: Envelope) -> Result<(), Closed> {
        let bytes = envelope.message.size();
        let gate = Arc::clone(&self.gate);
        futures::future::poll_fn(|context| gate.poll_take(bytes, context.waker())).await;
        let held = Held { gate, bytes };
        let arrival = Arrival::Message { from: self.peer, envelope, held };
        self.arrivals.unbounded_send(arrival).map_err(|_| Closed)
    }
}

impl Drop for PeerInbox {
    fn drop(&mut self) {
        // A node that is gone need not hear it.
        let _ = self.arrivals.unbounded_send(Arrival::LinkDown { peer: self.peer });
    }
}

/// What a transport brought, as the node sees it.
#[derive(Debug)]
pub enum Arrival {
    /// A peer shows itself; answer yes or no.
    Connect {
        /// Who it says it is.
        identity: Identity,
        /// Where the answer goes.
        answer: oneshot::Sender<Result<(), Refusal>>,
    },
    /// One more connection from `peer` stands. Counted: a peer is gone when all its connections are.
    LinkUp {
        /// The peer.
        peer: NodeId,
    },
    /// A message.
    Message {
        /// The authenticated sender.
        from: NodeId,
        /// What it sent.
        envelope: Envelope,
        /// Keep until it is dealt with.
        held: Held,
    },
    /// One connection from `peer` has ended.
    LinkDown {
        /// The peer.
        peer: NodeId,
    },
    /// `peer` refused this node.
    Refused {
        /// The peer.
        peer: NodeId,
        /// Why.
        refusal: Refusal,
    },
}

/// Bytes of a message that count against its connection's bound until this is dropped.
#[derive(Debug)]
#[must_use = "dropping it opens the connection for more"]
pub struct Held {
    gate: Arc<Gate>,
    bytes: usize,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.gate.give_back(self.bytes);
    }
}

#[derive(Debug)]
struct Gate {
    state: Mutex<GateState>,
    bytes_max: usize,
}

#[derive(Debug)]
struct GateState {
    held: usize,
    waker: Option<Waker>,
}

impl Gate {
    /// Takes `bytes` if the bound allows; a message above the bound passes alone.
    fn poll_take(&self, bytes: usize, waker: &Waker) -> Poll<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.held > 0 && state.held + bytes > self.bytes_max {
            state.waker = Some(waker.clone());
            return Poll::Pending;
        }
        state.held += bytes;
        Poll::Ready(())
    }

    fn give_back(&self, bytes: usize) {
        let waker = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.held -= bytes;
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// Takes what has arrived without waiting: for suites and simulators.
pub fn arrived(receiver: &mut mpsc::UnboundedReceiver<Arrival>) -> Option<Arrival> {
    receiver.next().now_or_never().flatten()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::multi::{ClusterId, DiskId, Owner, ProtocolRange, Sequence};

    fn identity(node: u64) -> Identity {
        let owner = Owner { cluster: ClusterId::new("inbox").unwrap(), epoch: 0, node: NodeId::new(node) };
        let protocol = ProtocolRange::OURS;
        Identity { owner, disk: DiskId(node), incarnations: Vec::new(), sequence: Sequence(0), protocol }
    }

    fn envelope() -> Envelope {
        Envelope { group: GroupId(0), message: Message::ReadMark { request: 1 } }
    }

    /// A connection of node 2 to the inbox of node 1.
    fn connected(bytes_max: usize) -> (PeerInbox, mpsc::UnboundedReceiver<Arrival>) {
        let (inbox, mut arrivals) = Inbox::channel(identity(1), bytes_max);
        let mut connecting = Box::pin(inbox.connect(identity(2)));
        assert!(connecting.as_mut().now_or_never().is_none(), "waits for the node");
        let Some(Arrival::Connect { answer, .. }) = arrived(&mut arrivals) else { panic!("asks first") };
        answer.send(Ok(())).unwrap();
        let peer = connecting.now_or_never().unwrap().unwrap();
        assert!(matches!(arrived(&mut arrivals), Some(Arrival::LinkUp { .. })));
        (peer, arrivals)
    }

    #[test]
    fn delivery_waits_until_the_node_has_dealt_with_enough() {
        let size = envelope().message.size();
        let (mut peer, mut arrivals) = connected(2 * size);
        for _ in 0..2 {
            assert_eq!(peer.deliver(envelope()).now_or_never(), Some(Ok(())));
        }
        let mut third = Box::pin(peer.deliver(envelope()));
        assert_eq!(third.as_mut().now_or_never(), None);
        let Some(Arrival::Message { held, .. }) = arrived(&mut arrivals) else { panic!("the first") };
        assert_eq!(third.as_mut().now_or_never(), None, "still held");
        drop(held);
        assert_eq!(third.now_or_never(), Some(Ok(())));
    }

    #[test]
    fn a_message_above_the_bound_passes_alone() {
        let (mut peer, mut arrivals) = connected(1);
        assert_eq!(peer.deliver(envelope()).now_or_never(), Some(Ok(())));
        assert_eq!(peer.deliver(envelope()).now_or_never(), None);
        drop(arrived(&mut arrivals));
        assert_eq!(peer.deliver(envelope()).now_or_never(), Some(Ok(())));
    }

    #[test]
    fn the_end_of_a_connection_is_told_once_and_of_a_refused_one_never() {
        let (peer, mut arrivals) = connected(1);
        drop(peer);
        assert!(matches!(arrived(&mut arrivals), Some(Arrival::LinkDown { .. })));
        let (inbox, mut arrivals) = Inbox::channel(identity(1), 1);
        let mut connecting = Box::pin(inbox.connect(identity(2)));
        assert!(connecting.as_mut().now_or_never().is_none());
        let Some(Arrival::Connect { answer, .. }) = arrived(&mut arrivals) else { panic!("asks first") };
        answer.send(Err(Refusal::OtherDisk)).unwrap();
        assert_eq!(connecting.now_or_never().unwrap().unwrap_err(), Refusal::OtherDisk);
        assert!(arrived(&mut arrivals).is_none());
    }

    #[test]
    fn handshakes_beyond_the_bound_are_refused_and_given_up_ones_make_room() {
        // fault F37
        let (inbox, _arrivals) = Inbox::channel(identity(1), 1);
        let connect = |node| {
            let mut connecting = Box::pin(inbox.connect(identity(node)));
            let answer = connecting.as_mut().now_or_never().map(Result::unwrap_err);
            (connecting, answer)
        };
        let waiting: Vec<_> = (0..HANDSHAKES_MAX as u64).map(|node| connect(node + 2)).collect();
        assert!(waiting.iter().all(|(_, answer)| answer.is_none()));
        assert_eq!(connect(100).1, Some(Refusal::Unavailable));
        drop(waiting);
        assert_eq!(connect(100).1, None);
    }
}
