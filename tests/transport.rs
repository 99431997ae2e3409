//! The transport suite itself: it passes what keeps the contract and names the clause that is broken. Scenario N7.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[allow(dead_code, unreachable_pub)]
#[path = "../examples/custom_transport.rs"]
mod custom_transport;

use async_trait::async_trait;
use futures::StreamExt;
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use synod::multi::{Identity, Message, Refusal};
use synod::paxos::NodeId;
use synod::testing::{TransportHarness, TransportHarnessError, TransportReport, transport_suite};
use synod::timer::{Timer, TokioTimer};
use synod::transport::{
    Arrival, Envelope, GroupId, Inbox, PeerInbox, SendOutcome, Transport, TransportError,
};
use synod_memory::MemoryNetwork;

// scenario N7
#[tokio::test]
async fn the_example_keeps_the_contract() {
    let report = custom_transport::conformance().await.unwrap();
    assert!(report.passed(), "{report}");
}

/// What is wrong with a transport.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Defect {
    None,
    Corrupts,
    Repeats,
    Invents,
    CopiesToAnother,
    Reorders,
    Blocks,
    KeepsEverything,
    HidesRefusals,
    StallsAll,
    OutlivesItsRun,
    RenamesSenders,
    ForgetsLinkDown,
    TakesUnknown,
    RunsTwice,
    AsksTooLate,
    LosesWhenTold,
}

/// A good transport made bad.
struct Spoiled {
    inner: Arc<dyn Transport>,
    defect: Defect,
    /// Held back until the next one has overtaken it.
    held_back: Mutex<Option<(NodeId, Envelope)>>,
    /// A book came, and nothing was sent since.
    told: AtomicBool,
    /// What the transport had no room for.
    kept: Mutex<VecDeque<(NodeId, Envelope)>>,
}

#[async_trait]
impl Transport for Spoiled {
    fn send(&self, to: NodeId, envelope: &Envelope) -> SendOutcome {
        match self.defect {
            Defect::Reorders => {
                let mut held_back = self.held_back.lock().unwrap();
                match held_back.take() {
                    Some((earlier_to, earlier)) => {
                        let outcome = self.inner.send(to, envelope);
                        let _ = self.inner.send(earlier_to, &earlier);
                        outcome
                    }
                    // The last of an even number is never held back for long.
                    None => {
                        *held_back = Some((to, envelope.clone()));
                        SendOutcome::Queued
                    }
                }
            }
            Defect::TakesUnknown => {
                let _ = self.inner.send(to, envelope);
                SendOutcome::Queued
            }
            Defect::Corrupts => {
                let mut envelope = envelope.clone();
                if let Message::PrePrepare { nonce } = &mut envelope.message {
                    *nonce ^= 1;
                }
                self.inner.send(to, &envelope)
            }
            Defect::Repeats => {
                let _ = self.inner.send(to, envelope);
                self.inner.send(to, envelope)
            }
            Defect::CopiesToAnother => {
                let _ = self.inner.send(NodeId::new(to.get() + 1), envelope);
                self.inner.send(to, envelope)
            }
            Defect::Blocks => {
                while self.inner.send(to, envelope) == SendOutcome::Dropped && self.full(to, envelope) {
                    std::thread::park_timeout(Duration::from_millis(10));
                }
                SendOutcome::Queued
            }
            Defect::KeepsEverything => {
                let outcome = self.inner.send(to, envelope);
                if outcome == SendOutcome::Dropped {
                    self.kept.lock().unwrap().push_back((to, envelope.clone()));
                }
                SendOutcome::Queued
            }
            Defect::LosesWhenTold if self.told.swap(false, Ordering::Relaxed) => SendOutcome::Queued,
            _ => self.inner.send(to, envelope),
        }
    }

    fn learn_addresses(&self, book: &BTreeMap<NodeId, String>) {
        self.told.store(true, Ordering::Relaxed);
        self.inner.learn_addresses(book);
    }

    async fn run(self: Arc<Self>, inbox: Inbox) -> Result<(), TransportError> {
        let inner = Arc::clone(&self.inner);
        match self.defect {
            Defect::OutlivesItsRun => tokio::spawn(inner.run(inbox)).await.unwrap(),
            Defect::RunsTwice => {
                let first = inner.run(inbox).await;
                if first.is_err() { std::future::pending().await } else { first }
            }
            Defect::RenamesSenders
            | Defect::ForgetsLinkDown
            | Defect::AsksTooLate
            | Defect::Invents
            | Defect::HidesRefusals
            | Defect::StallsAll => {
                let (inside, mut arrivals) = Inbox::channel(inbox.local().clone(), usize::MAX);
                let mut run = inner.run(inside);
                let spoil = async {
                    let mut outside: BTreeMap<NodeId, PeerInbox> = BTreeMap::new();
                    let mut asked: BTreeMap<NodeId, Identity> = BTreeMap::new();
                    while let Some(arrival) = arrivals.next().await {
                        self.spoil(arrival, &inbox, &mut outside, &mut asked).await;
                    }
                };
                tokio::select! {
                    biased;
                    ended = &mut run => ended,
                    () = spoil => Ok(()),
                }
            }
            _ => inner.run(inbox).await,
        }
    }
}

impl Spoiled {
    /// Whether the transport drops `envelope` because too much waits, not because it would never take it.
    fn full(&self, to: NodeId, envelope: &Envelope) -> bool {
        let known = (1..=2).contains(&to.get());
        known && (1_000..16 << 20).contains(&envelope.message.size())
    }

    async fn spoil(
        &self,
        arrival: Arrival,
        inbox: &Inbox,
        outside: &mut BTreeMap<NodeId, PeerInbox>,
        asked: &mut BTreeMap<NodeId, Identity>,
    ) {
        match arrival {
            Arrival::Connect { identity, answer } if self.defect == Defect::AsksTooLate => {
                // Says yes for the node, and asks it when the first message is there.
                asked.insert(identity.node(), identity);
                answer.send(Ok(())).unwrap();
            }
            Arrival::Connect { identity, answer } => {
                let verdict = inbox.connect(identity.clone()).await;
                answer.send(verdict.as_ref().map(|_| ()).map_err(Refusal::clone)).unwrap();
                if let Ok(mut peer) = verdict {
                    if self.defect == Defect::Invents {
                        let message = Message::PrePrepare { nonce: 666 };
                        peer.deliver(Envelope { group: GroupId(0), message }).await.unwrap();
                    }
                    outside.insert(identity.node(), peer);
                }
            }
            Arrival::LinkUp { .. } => {}
            Arrival::LinkDown { peer } if self.defect == Defect::ForgetsLinkDown => {
                std::mem::forget(outside.remove(&peer));
            }
            Arrival::LinkDown { peer } => drop(outside.remove(&peer)),
            Arrival::Message { from, envelope, held } => {
                drop(held);
                if let Some(identity) = asked.remove(&from) {
                    outside.extend(inbox.connect(identity).await.ok().map(|peer| (from, peer)));
                }
                let named = match self.defect {
                    Defect::RenamesSenders => {
                        outside.keys().copied().find(|peer| *peer != from).unwrap_or(from)
                    }
                    _ => from,
                };
                if let Some(peer) = outside.get_mut(&named) {
                    peer.deliver(envelope).await.unwrap();
                }
            }
            Arrival::Refused { .. } if self.defect == Defect::HidesRefusals => {}
            Arrival::Refused { peer, refusal } => inbox.refused(peer, refusal),
        }
    }
}

struct SpoiledNetwork {
    network: MemoryNetwork,
    timer: Arc<TokioTimer>,
    defect: Defect,
}

impl SpoiledNetwork {
    fn transport(&self, node: NodeId) -> Arc<dyn Transport> {
        let inner = Arc::new(self.network.transport(node));
        Arc::new(Spoiled {
            inner,
            defect: self.defect,
            held_back: Mutex::default(),
            told: AtomicBool::default(),
            kept: Mutex::default(),
        })
    }
}

#[async_trait]
impl TransportHarness for SpoiledNetwork {
    async fn connect(&mut self, nodes: &[NodeId]) -> Result<Vec<Arc<dyn Transport>>, TransportHarnessError> {
        self.network = MemoryNetwork::new(1, self.timer());
        Ok(nodes.iter().map(|node| self.transport(*node)).collect())
    }

    async fn restart(&mut self, node: NodeId) -> Result<Arc<dyn Transport>, TransportHarnessError> {
        Ok(self.transport(node))
    }

    fn timer(&self) -> Arc<dyn Timer> {
        Arc::clone(&self.timer) as Arc<dyn Timer>
    }

    fn peer_bytes_max(&self) -> usize {
        16 << 20
    }
}

async fn judge(defect: Defect) -> TransportReport {
    let timer = Arc::<TokioTimer>::default();
    let network = MemoryNetwork::new(1, timer.clone());
    transport_suite(&mut SpoiledNetwork { network, timer, defect }).await
}

#[tokio::test(start_paused = true)]
async fn the_same_network_unspoiled_passes() {
    let report = judge(Defect::None).await;
    assert!(report.passed(), "{report}");
}

// scenarios N7 and S7
#[tokio::test(start_paused = true)]
async fn each_defect_is_found_under_its_clause() {
    let defects = [
        (Defect::Corrupts, 1, "every kind of message arrives unchanged"),
        (Defect::Repeats, 1, "every kind of message arrives unchanged"),
        (Defect::Invents, 1, "a message reaches the node it was sent to and no other"),
        (Defect::CopiesToAnother, 1, "a message reaches the node it was sent to and no other"),
        (Defect::Reorders, 2, "messages on one connection keep their order"),
        (Defect::Blocks, 3, "what waits for one peer is bounded"),
        (Defect::KeepsEverything, 3, "what waits for one peer is bounded"),
        (Defect::TakesUnknown, 3, "a message to an unknown node is dropped"),
        (Defect::AsksTooLate, 4, "nothing is delivered before the inbox has said yes"),
        (Defect::HidesRefusals, 4, "a refused node is told why and does not storm"),
        (Defect::RenamesSenders, 5, "each message comes under its own sender's name"),
        (Defect::ForgetsLinkDown, 6, "the end of a peer is noticed"),
        (Defect::StallsAll, 7, "a connection that is pushed back stalls no other"),
        (Defect::RunsTwice, 9, "a second run is refused"),
        (Defect::OutlivesItsRun, 9, "a dropped run delivers nothing more and ends its links"),
        (
            Defect::LosesWhenTold,
            10,
            "a book that says what is known, again and again, disturbs no connection",
        ),
    ];
    for (defect, clause, case) in defects {
        let report = judge(defect).await;
        let found = report.failures.iter().any(|failure| (failure.clause, failure.case) == (clause, case));
        assert!(found, "{defect:?} was not found under clause {clause}, {case}: {report}");
    }
}
