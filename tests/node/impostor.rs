//! A peer that speaks in the name of another.

use crate::{Ledger, config, entry, membership, pause, simulate};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use synod::multi::{Message, ProposerState};
use synod::transport::{Envelope, Inbox, SendOutcome, Transport, TransportError};
use synod::{Host, MemoryStorage, Node, NodeId, ProposalId};
use synod_channel::{ChannelHub, ChannelTransport};

/// A channel that remembers whom it answered. That of node 2 also repeats in the name of node 3 what it forwards, and claims
/// that node 3 leads whenever it owns that another node does.
struct Wire {
    node: u64,
    inner: Arc<ChannelTransport>,
    heard: Arc<Heard>,
}

#[derive(Default)]
struct Heard {
    /// Lies that were queued.
    lies: AtomicU64,
    /// Whose forwarded commands were answered.
    answered: Mutex<Vec<NodeId>>,
}

/// In the name of node 3.
fn lie(truth: &Message) -> Option<Message> {
    let three = NodeId::new(3);
    match truth.clone() {
        Message::Forward { mut origin, request, command } => {
            origin.node = three;
            Some(Message::Forward { origin, request, command })
        }
        Message::HeartbeatAck { id, pulse, durable_through, .. } => Some(Message::Heartbeat {
            id: ProposalId::new(id.number + 1000, three),
            watermark: durable_through,
            held_through: durable_through,
            pulse,
            lease: false,
        }),
        _ => None,
    }
}

#[async_trait::async_trait]
impl Transport for Wire {
    fn send(&self, to: NodeId, envelope: &Envelope) -> SendOutcome {
        if let Message::ForwardAnswer { .. } = envelope.message {
            self.heard.answered.lock().unwrap().push(to);
        }
        if let Some(message) = lie(&envelope.message).filter(|_| self.node == 2)
            && self.inner.send(to, &Envelope { message, ..*envelope }) == SendOutcome::Queued
        {
            self.heard.lies.fetch_add(1, Ordering::Relaxed);
        }
        self.inner.send(to, envelope)
    }

    async fn run(self: Arc<Self>, inbox: Inbox) -> Result<(), TransportError> {
        Arc::clone(&self.inner).run(inbox).await
    }
}

// scenario S7, protocol 12.2
#[test]
fn what_is_said_in_the_name_of_another_node_is_dropped_and_counted() {
    simulate(async {
        let (hub, heard) = (ChannelHub::new(), Arc::<Heard>::default());
        let mut nodes = Vec::new();
        for node in 1..=3 {
            let inner = Arc::new(hub.transport(NodeId::new(node)));
            let started = Node::bootstrap(config(node), membership(3))
                .transport(Wire { node, inner, heard: Arc::clone(&heard) })
                .storage(MemoryStorage::with_seed(node))
                .state_machine(Ledger::default)
                .host(Host::ThisArbiter)
                .seed(node)
                .start();
            nodes.push(started.await.unwrap());
        }
        let [leader, liar, bystander] = [0, 1, 2].map(|place: usize| nodes[place].handle());
        pause(Duration::from_secs(10)).await;
        leader.transfer(Some(NodeId::new(1))).await.unwrap();
        pause(Duration::from_secs(10)).await;
        let before = leader.status().await.unwrap();
        assert!(matches!(before.proposer, ProposerState::Leading { .. }), "{before:?}");

        let numbers: Vec<u64> = (1..=10).collect();
        for number in &numbers {
            liar.propose(entry(*number)).await.unwrap();
        }
        pause(Duration::from_secs(10)).await;
        assert_eq!(leader.read(Ledger::numbers).await.unwrap(), numbers, "each is applied once");
        let answered = heard.answered.lock().unwrap().clone();
        assert_eq!(answered, vec![NodeId::new(2); numbers.len()], "nobody else asked");

        let after = leader.status().await.unwrap();
        assert_eq!((after.proposer, after.promised), (before.proposer, before.promised), "it leads on");
        assert_eq!(after.forged, heard.lies.load(Ordering::Relaxed));
        assert!(
            after.forged > before.forged + 10,
            "commands and heartbeats: {} and {}",
            before.forged,
            after.forged
        );
        let others = [liar.status().await.unwrap().forged, bystander.status().await.unwrap().forged];
        assert_eq!(others, [0, 0], "nobody lied to them");
    });
}
