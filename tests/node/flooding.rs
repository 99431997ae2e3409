//! A peer that asks faster than the disk writes.

use crate::{config, membership, pause, simulate};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use synod::multi::{DiskId, Identity, Incarnation, Message, Owner, ProtocolRange, Sequence, Slot};
use synod::transport::{Envelope, GroupId, Inbox, SendOutcome, Transport, TransportError};
use synod::{Host, MemoryStorage, Node, NodeId, ProposalId};

const REPEATS: usize = 50_000;

/// Brings node 2, which asks for the same promise again and again while the disk is stuck.
struct Flood {
    storage: MemoryStorage,
    taken: Arc<AtomicUsize>,
}

#[async_trait::async_trait]
impl Transport for Flood {
    fn send(&self, _to: NodeId, _envelope: &Envelope) -> SendOutcome {
        SendOutcome::Queued
    }

    async fn run(self: Arc<Self>, inbox: Inbox) -> Result<(), TransportError> {
        let two = NodeId::new(2);
        let identity = Identity {
            owner: Owner { node: two, ..inbox.local().owner.clone() },
            disk: DiskId(2),
            incarnations: vec![Incarnation { counter: 1, nonce: 1 }],
            sequence: Sequence(0),
            protocol: ProtocolRange::OURS,
        };
        let mut peer = inbox.connect(identity).await.unwrap();
        pause(Duration::from_secs(1)).await;
        self.storage.hold_flushes();
        for _ in 0..REPEATS {
            let message = Message::Prepare { id: ProposalId::new(1 << 40, two), from: Slot::FIRST };
            peer.deliver(Envelope { group: GroupId::default(), message }).await.unwrap();
            self.taken.fetch_add(1, Ordering::Relaxed);
            tokio::task::yield_now().await;
        }
        std::future::pending().await
    }
}

#[test]
fn what_waits_for_a_stuck_disk_is_bounded_and_goes_on_when_the_disk_does() {
    simulate(async {
        let (storage, taken) = (MemoryStorage::default(), Arc::new(AtomicUsize::new(0)));
        let mut config = config(1);
        config.batch_bytes_max = 1024;
        config.unacknowledged_bytes_max = 8 << 10;
        config.ahead_bytes_max = 16 << 10;
        config.inbox_bytes_max = 64 << 10;
        let node = Node::bootstrap(config, membership(1))
            .transport(Flood { storage: storage.clone(), taken: Arc::clone(&taken) })
            .storage(storage.clone())
            .host(Host::ThisArbiter)
            .start()
            .await
            .unwrap();
        pause(Duration::from_secs(3)).await;
        let stuck = taken.load(Ordering::Relaxed);
        assert!(stuck > 0 && stuck < 2_000, "{stuck} messages wait for the disk");
        storage.release();
        pause(Duration::from_secs(30)).await;
        assert_eq!(taken.load(Ordering::Relaxed), REPEATS, "all of it goes on");
        drop(node);
    });
}
