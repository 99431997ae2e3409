//! Channels under load, without any runtime: order, the bound, and a floor for the speed.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use futures::StreamExt;
use futures::channel::mpsc::UnboundedReceiver;
use futures::executor::{LocalPool, LocalSpawner};
use futures::task::LocalSpawnExt;
use std::sync::Arc;
use std::time::Instant;
use synod::multi::{ClusterId, DiskId, Identity, Message, Owner, ProtocolRange, Sequence};
use synod::paxos::NodeId;
use synod::transport::{Arrival, Envelope, GroupId, Inbox, SendOutcome, Transport};
use synod_channel::{ChannelHub, ChannelTransport};

const ONE: NodeId = NodeId::new(1);
const TWO: NodeId = NodeId::new(2);

fn start(
    hub: &ChannelHub,
    node: NodeId,
    spawner: &LocalSpawner,
) -> (Arc<ChannelTransport>, UnboundedReceiver<Arrival>) {
    let owner = Owner { cluster: ClusterId::new("channel").unwrap(), epoch: 0, node };
    let (protocol, sequence) = (ProtocolRange::OURS, Sequence(0));
    let identity = Identity { owner, disk: DiskId(1), incarnations: Vec::new(), sequence, protocol };
    let (inbox, arrivals) = Inbox::channel(identity, 1 << 20);
    let transport = Arc::new(hub.transport(node));
    let run = Arc::clone(&transport).run(inbox);
    spawner.spawn_local(async move { run.await.unwrap() }).unwrap();
    (transport, arrivals)
}

async fn linked(arrivals: &mut UnboundedReceiver<Arrival>) {
    loop {
        match arrivals.next().await.unwrap() {
            Arrival::Connect { answer, .. } => answer.send(Ok(())).unwrap(),
            Arrival::LinkUp { .. } => return,
            other => panic!("{other:?}"),
        }
    }
}

fn numbered(number: u64) -> Envelope {
    Envelope { group: GroupId(0), message: Message::PrePrepare { nonce: number } }
}

#[test]
fn millions_of_messages_arrive_in_order() {
    let mut pool = LocalPool::new();
    let hub = ChannelHub::new();
    let (one, mut one_arrivals) = start(&hub, ONE, &pool.spawner());
    let (_two, mut two_arrivals) = start(&hub, TWO, &pool.spawner());
    pool.run_until(async { futures::join!(linked(&mut one_arrivals), linked(&mut two_arrivals)) });
    let (count, burst) = (2_000_000, 1_000);
    let began = Instant::now();
    pool.run_until(async {
        let mut expected = 0;
        for number in 0..count {
            assert_eq!(one.send(TWO, &numbered(number)), SendOutcome::Queued);
            if number % burst == burst - 1 {
                while expected <= number {
                    let Some(Arrival::Message { envelope, .. }) = two_arrivals.next().await else { panic!() };
                    assert_eq!(envelope, numbered(expected));
                    expected += 1;
                }
            }
        }
    });
    let rate = f64::from(count as u32) / began.elapsed().as_secs_f64();
    println!("{rate:.0} messages/s");
    assert!(rate > 200_000.0, "a floor for a loaded machine, not a measurement: {rate:.0} messages/s");
}

#[test]
fn the_bound_counts_what_was_taken_and_not_yet_delivered() {
    let mut pool = LocalPool::new();
    let size = numbered(0).message.size();
    let hub = ChannelHub::with_bytes_max(100 * size);
    let (one, mut one_arrivals) = start(&hub, ONE, &pool.spawner());
    let (_two, mut two_arrivals) = start(&hub, TWO, &pool.spawner());
    pool.run_until(async { futures::join!(linked(&mut one_arrivals), linked(&mut two_arrivals)) });
    let inbox = (1 << 20) / size;
    // Nothing is read at the other end: its inbox fills, then the pipe.
    let mut queued = 0;
    while one.send(TWO, &numbered(0)) == SendOutcome::Queued {
        queued += 1;
        pool.run_until_stalled();
        assert!(queued <= inbox + 100, "the bound does not hold");
    }
    assert_eq!(queued, inbox + 100);
}
