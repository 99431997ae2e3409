//! A world of the suite: transports that run, inboxes that note what arrives, and a clock, polled side by side.

use super::{Manner, REFUSAL, TransportHarness};
use crate::multi::{Identity, Refusal};
use crate::paxos::NodeId;
use crate::timer::Timer;
use crate::transport::{Arrival, Envelope, Held, Inbox, SendOutcome, Transport, TransportError};
use futures::channel::{mpsc, oneshot};
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

/// Why a case failed, in words.
pub(super) type Reason = String;

pub(super) struct World {
    pub(super) nodes: Vec<Node>,
    timer: Arc<dyn Timer>,
    patience: Duration,
}

/// A node that is played by the suite.
pub(super) struct Node {
    pub(super) id: NodeId,
    pub(super) identity: Identity,
    pub(super) transport: Arc<dyn Transport>,
    pub(super) manner: Manner,
    /// Whether it keeps what was delivered counted against the bound.
    pub(super) keeps: bool,
    pub(super) seen: Seen,
    inbox_bytes_max: usize,
    run: Option<BoxFuture<'static, Result<(), TransportError>>>,
    arrivals: Option<mpsc::UnboundedReceiver<Arrival>>,
}

/// What a node has seen so far.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) messages: Vec<(NodeId, Envelope)>,
    pub(super) shown: Vec<Identity>,
    /// Connections that stand, by peer.
    pub(super) links: BTreeMap<NodeId, i64>,
    pub(super) ups: u64,
    pub(super) downs: u64,
    pub(super) refusals: Vec<(NodeId, Refusal)>,
    /// How its `run` ended, if it did.
    pub(super) ended: Option<String>,
    /// A message that came while no connection of its sender stood.
    pub(super) unlinked: Option<NodeId>,
    pub(super) held: Vec<Held>,
    hesitations: Vec<oneshot::Sender<Result<(), Refusal>>>,
}

impl World {
    pub(super) async fn new(
        harness: &mut dyn TransportHarness,
        identities: &[Identity],
        inbox_bytes_max: usize,
    ) -> Result<Self, Reason> {
        let ids: Vec<NodeId> = identities.iter().map(Identity::node).collect();
        let transports =
            harness.connect(&ids).await.map_err(|error| format!("the harness failed: {error}"))?;
        if transports.len() != ids.len() {
            return Err("the harness made another number of transports than it was asked for".to_owned());
        }
        let nodes = identities.iter().zip(transports);
        let nodes =
            nodes.map(|(identity, transport)| Node::new(identity.clone(), transport, inbox_bytes_max));
        Ok(Self { nodes: nodes.collect(), timer: harness.timer(), patience: harness.patience() })
    }

    /// Puts a new transport in the place of a node whose run was dropped.
    pub(super) async fn restart(
        &mut self,
        harness: &mut dyn TransportHarness,
        at: usize,
        identity: Identity,
    ) -> Result<(), Reason> {
        let transport =
            harness.restart(identity.node()).await.map_err(|error| format!("the harness failed: {error}"))?;
        self.nodes[at] = Node::new(identity, transport, self.nodes[at].inbox_bytes_max);
        self.nodes[at].start();
        Ok(())
    }

    pub(super) fn start_all(&mut self) {
        self.nodes.iter_mut().for_each(Node::start);
    }

    /// Starts all and waits until each has a connection from each other one.
    pub(super) async fn link_all(&mut self) -> Result<(), Reason> {
        self.start_all();
        self.until("every node is linked to every other", Self::linked).await
    }

    pub(super) fn linked(&self) -> bool {
        let linked = |node: &Node, other: &Node| node.id == other.id || node.seen.link(other.id);
        self.nodes.iter().all(|node| self.nodes.iter().all(|other| linked(node, other)))
    }

    /// Goes on until `done`.
    pub(super) async fn until(&mut self, what: &str, done: impl Fn(&Self) -> bool) -> Result<(), Reason> {
        if self.go_on(self.patience, done).await {
            return Ok(());
        }
        Err(format!("not within {:?}: {what}", self.patience))
    }

    /// Goes on for a while, whatever happens.
    pub(super) async fn for_a_while(&mut self, pause: Duration) {
        self.go_on(pause, |_| false).await;
    }

    async fn go_on(&mut self, within: Duration, done: impl Fn(&Self) -> bool) -> bool {
        let timer = Arc::clone(&self.timer);
        let mut over = timer.sleep_until(timer.now() + within);
        poll_fn(|context| {
            for node in &mut self.nodes {
                node.poll(context);
            }
            if done(self) {
                return Poll::Ready(true);
            }
            over.poll_unpin(context).map(|()| false)
        })
        .await
    }

    /// Sends, and fails if the message is not queued within the patience. A queue may be full for a moment.
    pub(super) async fn send(&mut self, from: usize, to: usize, envelope: &Envelope) -> Result<(), Reason> {
        let to = self.nodes[to].id;
        let end = self.timer.now() + self.patience;
        while self.nodes[from].transport.send(to, envelope) == SendOutcome::Dropped {
            if self.timer.now() >= end {
                return Err(format!("a message to {to} was dropped again and again although the link is up"));
            }
            self.for_a_while(Duration::from_millis(1)).await;
        }
        Ok(())
    }
}

impl Node {
    fn new(identity: Identity, transport: Arc<dyn Transport>, inbox_bytes_max: usize) -> Self {
        Self {
            id: identity.node(),
            identity,
            transport,
            manner: Manner::Welcomes,
            keeps: false,
            seen: Seen::default(),
            inbox_bytes_max,
            run: None,
            arrivals: None,
        }
    }

    pub(super) fn start(&mut self) {
        let (inbox, arrivals) = Inbox::channel(self.identity.clone(), self.inbox_bytes_max);
        self.run = Some(Arc::clone(&self.transport).run(inbox));
        self.arrivals = Some(arrivals);
    }

    /// Drops the future of `run`; what it says to its inbox on the way is still noted.
    pub(super) fn stop(&mut self) {
        self.run = None;
    }

    fn poll(&mut self, context: &mut Context<'_>) {
        if let Some(run) = &mut self.run
            && let Poll::Ready(result) = run.poll_unpin(context)
        {
            self.run = None;
            self.seen.ended = Some(format!("{result:?}"));
        }
        let Some(arrivals) = &mut self.arrivals else { return };
        while let Poll::Ready(Some(arrival)) = arrivals.poll_next_unpin(context) {
            self.seen.note(arrival, self.manner, self.keeps);
        }
    }
}

impl Seen {
    /// Whether a connection from `peer` stands.
    pub(super) fn link(&self, peer: NodeId) -> bool {
        self.links.get(&peer).is_some_and(|count| *count > 0)
    }

    /// What came from `peer`, in order.
    pub(super) fn from(&self, peer: NodeId) -> impl Iterator<Item = &Envelope> {
        self.messages.iter().filter(move |(from, _)| *from == peer).map(|(_, envelope)| envelope)
    }

    /// The handshakes that it has left unanswered are answered with yes.
    pub(super) fn relent(&mut self) {
        for answer in self.hesitations.drain(..) {
            // A transport that has given up waiting asks again.
            let _ = answer.send(Ok(()));
        }
    }

    fn note(&mut self, arrival: Arrival, manner: Manner, keeps: bool) {
        match arrival {
            Arrival::Connect { identity, answer } => {
                self.shown.push(identity);
                // As above.
                let _ = match manner {
                    Manner::Welcomes => answer.send(Ok(())),
                    Manner::Refuses => answer.send(Err(REFUSAL)),
                    Manner::Hesitates => {
                        self.hesitations.push(answer);
                        return;
                    }
                };
            }
            Arrival::LinkUp { peer } => {
                self.ups += 1;
                *self.links.entry(peer).or_default() += 1;
            }
            Arrival::LinkDown { peer } => {
                self.downs += 1;
                *self.links.entry(peer).or_default() -= 1;
            }
            Arrival::Message { from, envelope, held } => {
                if !self.link(from) {
                    self.unlinked = Some(from);
                }
                self.messages.push((from, envelope));
                if keeps {
                    self.held.push(held);
                }
            }
            Arrival::Refused { peer, refusal } => self.refusals.push((peer, refusal)),
        }
    }
}
