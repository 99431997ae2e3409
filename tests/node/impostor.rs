//! A peer that speaks in the name of another.

use crate::{Ledger, config, entry, membership, pause, simulate};
use bytes::Bytes;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use synod::codec;
use synod::multi::{
    DiskId, ForwardOutcome, Identity, Incarnation, Message, Origin, Owner, ProtocolRange, Request, Sequence,
};
use synod::transport::{Envelope, GroupId, Inbox, SendOutcome, Transport, TransportError};
use synod::{Host, MemoryStorage, Node, NodeId};

const PEER: NodeId = NodeId::new(2);

/// Brings node 2, which forwards a command as node 3 and another one as itself.
#[derive(Clone, Default)]
struct Impostor {
    sent: Arc<Mutex<Vec<(NodeId, Message)>>>,
}

#[async_trait::async_trait]
impl Transport for Impostor {
    fn send(&self, to: NodeId, envelope: &Envelope) -> SendOutcome {
        self.sent.lock().unwrap().push((to, envelope.message.clone()));
        SendOutcome::Queued
    }

    async fn run(self: Arc<Self>, inbox: Inbox) -> Result<(), TransportError> {
        let identity = Identity {
            owner: Owner { node: PEER, ..inbox.local().owner.clone() },
            disk: DiskId(2),
            incarnations: vec![Incarnation { counter: 1, nonce: 1 }],
            sequence: Sequence(0),
            protocol: ProtocolRange::OURS,
        };
        let mut peer = inbox.connect(identity).await.unwrap();
        pause(Duration::from_secs(3)).await;
        for (node, number) in [(NodeId::new(3), 33), (PEER, 22)] {
            let origin = Origin { node, incarnation: 1, serial: number, answered_through: 0 };
            let command = Bytes::from(codec::encode(&entry(number)).unwrap());
            let message = Message::Forward { origin, request: Request::Plain, command };
            peer.deliver(Envelope { group: GroupId::default(), message }).await.unwrap();
        }
        std::future::pending().await
    }
}

// scenario S7, protocol 12.2
#[test]
fn a_command_in_the_name_of_another_node_is_neither_applied_nor_answered() {
    simulate(async {
        let transport = Impostor::default();
        let node = Node::bootstrap(config(1), membership(1))
            .transport(transport.clone())
            .storage(MemoryStorage::default())
            .state_machine(Ledger::default)
            .host(Host::ThisArbiter)
            .start()
            .await
            .unwrap();
        pause(Duration::from_secs(10)).await;
        assert_eq!(node.handle().read(Ledger::numbers).await.unwrap(), [22]);
        let sent = transport.sent.lock().unwrap().clone();
        let answered = sent.iter().filter_map(|(to, message)| match message {
            Message::ForwardAnswer { serial, outcome: ForwardOutcome::Applied(_) } => Some((*to, *serial)),
            Message::ForwardAnswer { .. } => panic!("{message:?}"),
            _ => None,
        });
        assert_eq!(answered.collect::<Vec<_>>(), [(PEER, 22)]);
    });
}
