//! Synod's transport between nodes of one process.
//!
//! For several nodes in one binary: one per core or per disk, or a whole cluster in a test that needs no faults. Nothing is
//! encoded or copied, since the bytes of a message are shared; no runtime and no timer is needed.
//!
//! ```
//! use std::sync::Arc;
//! use synod::paxos::NodeId;
//! use synod_channel::ChannelHub;
//!
//! let hub = ChannelHub::new();
//! let [one, two] = [1, 2].map(|node| Arc::new(hub.transport(NodeId::new(node))));
//! ```
//!
//! Two nodes are connected while both run, and again as soon as one of them has been started anew on the same hub. What
//! waits from one node to another is bounded in bytes ([`ChannelHub::with_bytes_max`]). A pair of which one refused the
//! other stays apart until one of the two starts anew: a process holds no second truth that a retry could find.
//!
//! The hub finds a node by its id, whether a membership names it or not. So addresses may be empty, and
//! [`Transport::learn_addresses`] is left as it is provided: there is nothing to learn.

mod hub;
mod pipe;

pub use hub::ChannelHub;

use crate::hub::{Incoming, Pipes};
use async_trait::async_trait;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, Ordering};
use synod::multi::Refusal;
use synod::paxos::NodeId;
use synod::transport::{Closed, Envelope, Inbox, PeerInbox, SendOutcome, Transport, TransportError};

/// Handshakes that a node goes through at a time: fewer than an inbox takes, so that it never is too full for one.
const HANDSHAKES_MAX: usize = 32;

/// After as many messages without a pause, a pipe lets the others go on.
const TURN_MESSAGES: usize = 1024;

/// The transport of one node on a [`ChannelHub`].
#[derive(Debug)]
pub struct ChannelTransport {
    hub: ChannelHub,
    node: NodeId,
    out: Pipes,
    started: AtomicBool,
}

impl ChannelHub {
    /// The transport of `node`. For a node that is started anew, make another one; the older run, if there still is one,
    /// is cut off.
    pub fn transport(&self, node: NodeId) -> ChannelTransport {
        ChannelTransport { hub: self.clone(), node, out: Pipes::default(), started: AtomicBool::new(false) }
    }
}

#[async_trait]
impl Transport for ChannelTransport {
    fn send(&self, to: NodeId, envelope: &Envelope) -> SendOutcome {
        let pipes = self.out.read().unwrap_or_else(PoisonError::into_inner);
        match pipes.get(&to) {
            Some(pipe) if pipe.push(envelope) => SendOutcome::Queued,
            _ => SendOutcome::Dropped,
        }
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
        let (entry, mut incoming) = self.hub.enter(inbox.clone(), Arc::clone(&self.out));
        let mut waiting: VecDeque<Incoming> = VecDeque::new();
        let mut handshakes: FuturesUnordered<BoxFuture<'_, Option<Linked>>> = FuturesUnordered::new();
        let mut links: FuturesUnordered<BoxFuture<'_, ()>> = FuturesUnordered::new();
        loop {
            futures::select_biased! {
                () = links.select_next_some() => {}
                linked = handshakes.select_next_some() => {
                    links.extend(linked.map(|linked| Box::pin(carry(linked)) as BoxFuture<'_, ()>));
                }
                next = incoming.next() => match next {
                    Some(next) => waiting.push_back(next),
                    // A newer run of this node took its place; what it still delivers is over soon.
                    None => break,
                },
            }
            while handshakes.len() < HANDSHAKES_MAX
                && let Some(next) = waiting.pop_front()
            {
                handshakes.push(Box::pin(shake(next, &inbox)));
            }
        }
        while links.next().await.is_some() {}
        drop(entry);
        futures::future::pending().await
    }
}

#[derive(Debug)]
struct Linked {
    pipe: Arc<pipe::Pipe>,
    inbox: PeerInbox,
}

/// Lets the node judge who is at the other end of a pipe.
async fn shake(incoming: Incoming, inbox: &Inbox) -> Option<Linked> {
    let Incoming { pipe, from, sender } = incoming;
    match inbox.connect(from).await {
        Ok(inbox) => Some(Linked { pipe, inbox }),
        Err(refusal) => {
            pipe.close();
            sender.refused(inbox.local().node(), refusal);
            None
        }
    }
}

/// Delivers what comes through a pipe until it is closed or the node is gone.
async fn carry(linked: Linked) {
    let Linked { pipe, mut inbox } = linked;
    let closes = Closes(Arc::clone(&pipe));
    let mut taken = VecDeque::new();
    let mut turn = 0;
    while pipe.take(&mut taken).await {
        while let Some(envelope) = taken.pop_front() {
            let bytes = envelope.message.size();
            if let Err(Closed) = inbox.deliver(envelope).await {
                return;
            }
            pipe.delivered(bytes);
            turn += 1;
            if turn == TURN_MESSAGES {
                turn = 0;
                pause().await;
            }
        }
    }
    drop(closes);
}

/// Closes a pipe when its receiver goes.
#[derive(Debug)]
struct Closes(Arc<pipe::Pipe>);

impl Drop for Closes {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Lets everything else on this task go on first.
async fn pause() {
    let mut paused = false;
    std::future::poll_fn(|context| {
        if std::mem::replace(&mut paused, true) {
            return std::task::Poll::Ready(());
        }
        context.waker().wake_by_ref();
        std::task::Poll::Pending
    })
    .await;
}
