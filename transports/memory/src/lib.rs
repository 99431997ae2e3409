//! Synod's transport in memory, with faults from a seed: for tests and simulation.
//!
//! ```
//! use std::sync::Arc;
//! use std::time::Duration;
//! use synod::paxos::NodeId;
//! use synod_memory::{Faults, MemoryNetwork};
//! # use synod::timer::{Time, Timer};
//! # struct Still;
//! # #[async_trait::async_trait]
//! # impl Timer for Still {
//! #     fn now(&self) -> Time { Time::ZERO }
//! #     async fn sleep_until(&self, _: Time) { std::future::pending().await }
//! # }
//! # let timer = Arc::new(Still);
//!
//! let network = MemoryNetwork::new(7, timer);
//! let [one, two] = [1, 2].map(|node| Arc::new(network.transport(NodeId::new(node))));
//! network.set_faults(Faults { loss: 0.1, delay_max: Duration::from_millis(5), ..Faults::default() });
//! network.cut(NodeId::new(1), NodeId::new(2));
//! network.heal_all();
//! ```
//!
//! Time is the timer's that you give, so virtual time works; no runtime is needed. Each link draws from a generator of its
//! own, so what happens on one does not change what happens on another. Handshakes are neither lost nor late, but wait
//! while the link is cut.
//!
//! The network finds a node by its id, whether a membership names it or not. So addresses may be empty, and
//! [`Transport::learn_addresses`] is left as it is provided: there is nothing to learn.

mod faults;
mod link;
mod network;

pub use faults::Faults;
pub use network::{MemoryNetwork, MemoryStats};

use crate::link::Came;
use crate::network::Incoming;
use async_trait::async_trait;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use synod::multi::Refusal;
use synod::paxos::NodeId;
use synod::transport::{Closed, Envelope, Inbox, PeerInbox, SendOutcome, Transport, TransportError};

/// The first pause after a refusal; each is twice the last.
const RETRY_MIN: Duration = Duration::from_millis(100);

/// The longest pause after a refusal.
const RETRY_MAX: Duration = Duration::from_secs(1);

/// The transport of one node on a [`MemoryNetwork`].
#[derive(Debug)]
pub struct MemoryTransport {
    network: MemoryNetwork,
    node: NodeId,
    /// Its number on the network, from 1; 0 before it runs.
    number: AtomicU64,
    started: AtomicBool,
}

impl MemoryNetwork {
    /// The transport of `node`. For a node that is started anew, make another one; the older run, if there still is one,
    /// is cut off.
    pub fn transport(&self, node: NodeId) -> MemoryTransport {
        MemoryTransport {
            network: self.clone(),
            node,
            number: AtomicU64::new(0),
            started: AtomicBool::new(false),
        }
    }
}

#[async_trait]
impl Transport for MemoryTransport {
    fn send(&self, to: NodeId, envelope: &Envelope) -> SendOutcome {
        self.network.send(self.node, self.number.load(Ordering::Acquire), to, envelope)
    }

    async fn run(self: Arc<Self>, inbox: Inbox) -> Result<(), TransportError> {
        if self.started.swap(true, Ordering::AcqRel) {
            return Err(TransportError::RunsAlready);
        }
        if inbox.local().node() != self.node {
            return Err(TransportError::Other {
                what: format!(
                    "the transport of node {} was given to node {}",
                    self.node,
                    inbox.local().node()
                ),
                source: Box::new(Refusal::OwnId),
            });
        }
        let (entry, incoming) = self.network.enter(inbox.clone());
        self.number.store(entry.number, Ordering::Release);
        let mut incoming = incoming.fuse();
        let mut links: FuturesUnordered<BoxFuture<'_, ()>> = FuturesUnordered::new();
        loop {
            futures::select_biased! {
                () = links.select_next_some() => {}
                next = incoming.next() => match next {
                    Some(next) => links.push(Box::pin(keep(&self.network, next, &inbox))),
                    // A newer run of this node took its place.
                    None => break,
                },
            }
        }
        while links.next().await.is_some() {}
        drop(entry);
        futures::future::pending().await
    }
}

/// Keeps a connection over a link until the link is gone.
async fn keep(network: &MemoryNetwork, incoming: Incoming, inbox: &Inbox) {
    let Incoming { link, from, sender } = incoming;
    let closes = Closes(&link);
    let mut pause = RETRY_MIN;
    while link.until_whole().await {
        match inbox.connect(from.clone()).await {
            Ok(peer_inbox) => {
                pause = RETRY_MIN;
                if carry(network, &link, peer_inbox).await.is_none() {
                    break;
                }
            }
            Err(refusal) => {
                sender.refused(inbox.local().node(), refusal);
                network.timer.sleep_until(network.timer.now() + pause).await;
                pause = (2 * pause).min(RETRY_MAX);
            }
        }
    }
    drop(closes);
}

/// Delivers until silence; `None` if the link or the node is gone.
async fn carry(network: &MemoryNetwork, link: &link::Link, mut inbox: PeerInbox) -> Option<()> {
    loop {
        match link.next(&*network.timer, network.silence_max).await {
            Came::Envelope(envelope) => match inbox.deliver(envelope).await {
                Ok(()) => network.count_delivery(),
                Err(Closed) => return None,
            },
            Came::Silence => return Some(()),
            Came::Closed => return None,
        }
    }
}

/// Closes a link when its receiver goes.
#[derive(Debug)]
struct Closes<'a>(&'a link::Link);

impl Drop for Closes<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}
