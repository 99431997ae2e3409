//! The cases, each named for what a node may rely on.

mod addresses;

use self::addresses::{book_before_run, own_address, same_book, without_address, without_node};
use super::world::{Reason, World};
use super::{Manner, REFUSAL, TransportHarness, bulk, envelope, identity, numbered};
use crate::multi::{
    AdminCall, AdminOutcome, Base, ClusterId, DiskId, ForwardOutcome, Identity, Interval, Membership,
    Memberships, Message, Origin, Page, Refusal, Request, Sequence, SessionId, SessionStamp, Slot,
    SnapshotId, Value,
};
use crate::paxos::{NodeId, ProposalId};
use crate::transport::{Envelope, GroupId, Inbox, SendOutcome, TransportError};
use bytes::Bytes;
use futures::FutureExt;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// An inbox that does not push back by itself.
const ROOMY: usize = 64 << 20;

/// Long enough for a message that must not arrive.
const A_WHILE: Duration = Duration::from_millis(200);

/// How long it may take to fill a queue, by the clock of the machine: it is memory alone that is filled.
const SEND_WITHIN: Duration = Duration::from_secs(5);

macro_rules! cases {
    ($($name:ident: $clause:literal, $text:literal;)*) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(non_camel_case_types)]
        pub(super) enum Case { $($name),* }

        pub(super) const ALL: &[Case] = &[$(Case::$name),*];

        impl Case {
            pub(super) fn clause(self) -> u8 { match self { $(Self::$name => $clause),* } }
            pub(super) fn name(self) -> &'static str { match self { $(Self::$name => $text),* } }
        }

        pub(super) async fn run(case: Case, harness: &mut dyn TransportHarness) -> Result<(), Reason> {
            match case { $(Case::$name => $name(harness).await),* }
        }
    };
}

cases! {
    unchanged: 1, "every kind of message arrives unchanged";
    large: 1, "large batches arrive unchanged";
    addressed: 1, "a message reaches the node it was sent to and no other";
    ordered: 2, "messages on one connection keep their order";
    ordered_when_full: 2, "order is kept while the receiver pushes back";
    bounded: 3, "what waits for one peer is bounded";
    unknown: 3, "a message to an unknown node is dropped";
    to_itself: 3, "a message to the node itself is dropped";
    too_large: 3, "a message larger than the bound is dropped and harms nothing";
    identity_shown: 4, "each end sees the whole identity of the other";
    asks_first: 4, "nothing is delivered before the inbox has said yes";
    other_cluster: 4, "a node of another cluster is refused";
    told_why: 4, "a refused node is told why and does not storm";
    own_name: 5, "each message comes under its own sender's name";
    link_down: 6, "the end of a peer is noticed";
    restarted: 6, "a peer that was started anew is connected again";
    early_bird: 6, "a peer that starts late is found";
    pushed_back: 7, "a connection that is pushed back stalls no other";
    once: 9, "a second run is refused";
    dropped: 9, "a dropped run delivers nothing more and ends its links";
    same_book: 10, "a book that says what is known, again and again, disturbs no connection";
    without_node: 10, "a node that a book leaves out keeps the connection that it has, and may come back";
    without_address: 10, "a book without addresses leaves what was known";
    own_address: 10, "what a book says of the node itself is ignored";
    book_before_run: 10, "a book that comes before the run keeps nobody away";
}

/// `count` nodes that all know each other, all linked.
async fn linked(
    harness: &mut dyn TransportHarness,
    count: u64,
    inbox_bytes_max: usize,
) -> Result<World, Reason> {
    let mut world = unlinked(harness, count, inbox_bytes_max).await?;
    world.link_all().await?;
    Ok(world)
}

async fn unlinked(
    harness: &mut dyn TransportHarness,
    count: u64,
    inbox_bytes_max: usize,
) -> Result<World, Reason> {
    let identities: Vec<Identity> = (1..=count).map(|node| identity(NodeId::new(node), node)).collect();
    World::new(harness, &identities, inbox_bytes_max).await
}

fn check(holds: bool, reason: impl FnOnce() -> Reason) -> Result<(), Reason> {
    if holds { Ok(()) } else { Err(reason()) }
}

/// Sends `sent` from the first node to the second and checks that just that arrives.
async fn arrive(world: &mut World, sent: &[Envelope]) -> Result<(), Reason> {
    let (from, before) = (world.nodes[0].id, world.nodes[1].seen.messages.len());
    for envelope in sent {
        world.send(0, 1, envelope).await?;
    }
    let count = before + sent.len();
    world.until("all messages arrive", |world| world.nodes[1].seen.messages.len() >= count).await?;
    for (number, (expected, (sender, found))) in
        sent.iter().zip(&world.nodes[1].seen.messages[before..]).enumerate()
    {
        check(*sender == from, || format!("message {number} came from {sender}, not {from}"))?;
        check(found == expected, || format!("message {number} is {found:?}, not {expected:?}"))?;
    }
    Ok(())
}

async fn unchanged(harness: &mut dyn TransportHarness) -> Result<(), Reason> {
    let mut world = linked(harness, 2, ROOMY).await?;
    let sent: Vec<Envelope> = every_kind().into_iter().map(envelope).collect();
    arrive(&mut world, &sent).await?;
    let other_group = Envelope { group: GroupId(u32::MAX), message: Message::PrePrepare { nonce: u64::MAX } };
    arrive(&mut world, &[other_group]).await
}

async fn large(harness: &mut dyn TransportHarness) -> Result<(), Reason> {
    let bytes = (harness.peer_bytes_max() / 4).min(1 << 20);
    let mut world = linked(harness, 2, ROOMY).await?;
    let sent: Vec<Envelope> =
        (1..8).map(|number| if number % 2 == 0 { numbered(number) } else { bulk(number, bytes) }).collect();
    arrive(&mut world, &sent).await
}

async fn addressed(harness: &mut dyn TransportHarness) -> Result<(), Reason> {
    let mut world = linked(harness, 3, ROOMY).await?;
    arrive(&mut world, &(0..100).map(numbered).collect::<Vec<_>>()).await?;
    world.for_a_while(A_WHILE).await;
    check(world.nodes[2].seen.messages.is_empty(), || "node 3 got a message that was for node 2".to_owned())?;
    check(world.nodes[0].seen.messages.is_empty(), || "node 1 got a message of its own".to_owned())
}

async fn ordered(harness: &mut dyn TransportHarness) -> Result<(), Reason> {
    let mut world = linked(harness, 2, ROOMY).await?;
    arrive(&mut world, &(0..5_000).map(numbered).collect::<Vec<_>>()).await
}

async fn ordered_when_full(harness: &mut dyn TransportHarness) -> Result<(), Reason> {
    let mut world = linked(harness, 2, 1_000).await?;
    arrive(&mut world, &(0..500).map(|number| bulk(number, 700)).collect::<Vec<_>>()).await
}

async fn bounded(harness: &mut dyn TransportHarness) -> Result<(), Reason> {
    let bound = harness.peer_bytes_max();
    let mut world = linked(harness, 2, 10_000).await?;
    world.nodes[1].keeps = true;
    let message = bulk(1, (bound / 50).clamp(1, 100_000));
    let size = message.message.size();
    // A transport on threads of its own may move some of it on meanwhile: into the receiver, the system's buffers.
    let attempts = (bound + (64 << 20)) / size + 2;
    let (transport, to) = (Arc::clone(&world.nodes[0].transport), world.nodes[1].id);
    let (sender, counted) = std::sync::mpsc::channel();
    // On a thread of its own, so that a transport that blocks is found out; nothing else runs meanwhile to make room.
    std::thread::spawn(move || {
        let is_queued = |_: &usize| transport.send(to, &message) == SendOutcome::Queued;
        // The suite may have given up on it.
        let _ = sender.send((0..attempts).take_while(is_queued).count());
    });
    let queued = counted.recv_timeout(SEND_WITHIN);
    let queued = queued.map_err(|_| format!("sending went on for {SEND_WITHIN:?}: send blocks"))?;
    check(queued > 0, || "nothing was queued on a link that is up".to_owned())?;
    check(queued < attempts, || format!("{queued} messages of {size} bytes were queued, none dropped"))?;
    // And when there is room again, the queue takes more.
    world.nodes[1].keeps = false;
    world.nodes[1].seen.held.clear();
    world.send(0, 1, &numbered(1)).await
}

async fn unknown(harness: &mut dyn TransportHarness) -> Result<(), Reason> {
    let world = linked(harness, 2, ROOMY).await?;
    let outcome = world.nodes[0].transport.send(NodeId::new(99), &numbered(1));
    check(outcome == SendOutcome::Dropped, || "it was queued".to_owned())
}

async fn to_itself(harness: &mut dyn TransportHarness) -> Result<(), Reason> {
    let mut world = linked(harness, 2, ROOMY).await?;
    let outcome = world.nodes[0].transport.send(world.nodes[0].id, &numbered(1));
    check(outcome == SendOutcome::Dropped, || "it was queued".to_owned())?;
    world.for_a_while(A_WHILE).await;
    check(world.nodes[0].seen.messages.is_empty(), || "it was delivered".to_owned())
}

async fn too_large(harness: &mut dyn TransportHarness) -> Result<(), Reason> {
    let bound = harness.peer_bytes_max();
    let mut world = linked(harness, 2, ROOMY).await?;
    let outcome = world.nodes[0].transport.send(world.nodes[1].id, &bulk(1, bound + 1));
    check(outcome == SendOutcome::Dropped, || "it was queued".to_owned())?;
    arrive(&mut world, &[numbered(1)]).await
}

async fn identity_shown(harness: &mut dyn TransportHarness) -> Result<(), Reason> {
    let world = linked(harness, 3, ROOMY).await?;
    for node in &world.nodes {
        for shown in &node.seen.shown {
            let known = world.nodes.iter().any(|other| other.id != node.id && other.identity == *shown);
            check(known, || format!("node {} was shown {shown:?}", node.id))?;
        }
    }
    Ok(())
}

async fn asks_first(harness: &mut dyn TransportHarness) -> Result<(), Reason> {
    let mut world = unlinked(harness, 2, ROOMY).await?;
    world.nodes[1].manner = Manner::Hesitates;
    world.start_all();
    world.until("node 2 is asked", |world| !world.nodes[1].seen.shown.is_empty()).await?;
    let to = world.nodes[1].id;
    // Queued or not: it must not come through.
    let _ = world.nodes[0].transport.send(to, &numbered(1));
    world.for_a_while(A_WHILE).await;
    check(world.nodes[1].seen.messages.is_empty(), || "a message came before the answer".to_owned())?;
    world.nodes[1].manner = Manner::Welcomes;
    world.nodes[1].seen.relent();
    world.until("the link comes up after the answer", World::linked).await?;
    world.send(0, 1, &numbered(2)).await?;
    let second = numbered(2);
    let arrived = |world: &World| world.nodes[1].seen.from(NodeId::new(1)).any(|found| *found == second);
    world.until("messages come through after the answer", arrived).await?;
    check(world.nodes[1].seen.unlinked.is_none(), || "a message came while no link was up".to_owned())
}

async fn other_cluster(harness: &mut dyn TransportHarness) -> Result<(), Reason> {
    let mut foreign = identity(NodeId::new(2), 1);
    foreign.owner.cluster = ClusterId::new("another").map_err(|error| error.to_string())?;
    let mut world = World::new(harness, &[identity(NodeId::new(1), 1), foreign], ROOMY).await?;
    world.start_all();
    if harness.tells_refusals() {
        let told = |world: &World| world.nodes.iter().any(|node| !node.seen.refusals.is_empty());
        world.until("one of the two hears that it is refused", told).await?;
        let wrong = world.nodes.iter().flat_map(|node| &node.seen.refusals);
        let wrong = wrong.into_iter().find(|(_, refusal)| *refusal != Refusal::WrongCluster);
        check(wrong.is_none(), || format!("the reason given is {wrong:?}"))?;
    }
    for (from, to) in [(0, 1), (1, 0)] {
        let to = world.nodes[to].id;
        // Queued or not: it must not come through.
        let _ = world.nodes[from].transport.send(to, &numbered(1));
    }
    world.for_a_while(A_WHILE).await;
    for node in &world.nodes {
        check(node.seen.ups == 0, || format!("node {} has a link to another cluster", node.id))?;
        check(node.seen.messages.is_empty(), || format!("node {} got a message", node.id))?;
    }
    Ok(())
}

async fn told_why(harness: &mut dyn TransportHarness) -> Result<(), Reason> {
    let mut world = unlinked(harness, 2, ROOMY).await?;
    world.nodes[1].manner = Manner::Refuses;
    world.start_all();
    world.until("node 2 is asked", |world| !world.nodes[1].seen.shown.is_empty()).await?;
    if harness.tells_refusals() {
        let expected = (world.nodes[1].id, REFUSAL);
        let told = |world: &World| world.nodes[0].seen.refusals.contains(&expected);
        world.until("node 1 hears why it is refused", told).await?;
    }
    world.for_a_while(Duration::from_secs(1)).await;
    let asked = world.nodes[1].seen.shown.len();
    check(asked <= 20, || format!("node 2 was asked {asked} times within about a second"))?;
    check(world.nodes[1].seen.ups == 0, || "the link came up although it was refused".to_owned())
}

async fn own_name(harness: &mut dyn TransportHarness) -> Result<(), Reason> {
    let mut world = linked(harness, 4, ROOMY).await?;
    for number in 0..50 {
        for from in 1..4 {
            world.send(from, 0, &numbered(100 * from as u64 + number)).await?;
        }
    }
    world.until("all messages arrive", |world| world.nodes[0].seen.messages.len() >= 150).await?;
    for (from, envelope) in &world.nodes[0].seen.messages {
        let Message::PrePrepare { nonce } = envelope.message else {
            return Err(format!("another message arrived: {envelope:?}"));
        };
        let expected = NodeId::new(nonce / 100 + 1);
        check(expected == *from, || format!("a message of {expected} came under the name of {from}"))?;
    }
    let unlinked = world.nodes[0].seen.unlinked;
    check(unlinked.is_none(), || format!("a message of {unlinked:?} came while no link was up"))
}

async fn link_down(harness: &mut dyn TransportHarness) -> Result<(), Reason> {
    let mut world = linked(harness, 3, ROOMY).await?;
    world.nodes[2].stop();
    let gone = world.nodes[2].id;
    let noticed = |world: &World| world.nodes[..2].iter().all(|node| !node.seen.link(gone));
    world.until("the others notice that node 3 is gone", noticed).await?;
    arrive(&mut world, &[numbered(1)]).await
}

async fn restarted(harness: &mut dyn TransportHarness) -> Result<(), Reason> {
    let mut world = linked(harness, 3, ROOMY).await?;
    world.nodes[1].stop();
    let gone = world.nodes[1].id;
    world.until("node 1 notices", |world| !world.nodes[0].seen.link(gone)).await?;
    let anew = identity(gone, 5);
    world.restart(harness, 1, anew.clone()).await?;
    world.until("the links come up again", World::linked).await?;
    check(world.nodes[0].seen.shown.contains(&anew), || "its new identity was not shown".to_owned())?;
    let (lost_at, lost) = (world.nodes[1].seen.messages.len(), numbered(7));
    // The first ones may be lost with the old connection.
    let mut tries = 0;
    while world.nodes[1].seen.messages.len() == lost_at {
        tries += 1;
        check(tries < 100, || "no message reaches the node that was started anew".to_owned())?;
        world.send(0, 1, &lost).await?;
        world.for_a_while(Duration::from_millis(50)).await;
    }
    world.send(1, 0, &numbered(8)).await?;
    world.until("and it is heard", |world| world.nodes[0].seen.from(gone).next().is_some()).await
}

async fn early_bird(harness: &mut dyn TransportHarness) -> Result<(), Reason> {
    let mut world = unlinked(harness, 2, ROOMY).await?;
    world.nodes[0].start();
    world.for_a_while(A_WHILE).await;
    world.nodes[1].start();
    world.until("the links come up", World::linked).await?;
    world.send(1, 0, &numbered(1)).await?;
    world.until("a message arrives", |world| !world.nodes[0].seen.messages.is_empty()).await
}

async fn pushed_back(harness: &mut dyn TransportHarness) -> Result<(), Reason> {
    let message = bulk(1, 1_000);
    let inbox_bytes_max = 10 * message.message.size();
    let mut world = linked(harness, 3, inbox_bytes_max).await?;
    world.nodes[0].keeps = true;
    for _ in 0..50 {
        world.send(1, 0, &message).await?;
    }
    let (busy, idle) = (world.nodes[1].id, world.nodes[2].id);
    world.until("the bound is reached", |world| world.nodes[0].seen.from(busy).count() >= 10).await?;
    for number in 0..8 {
        world.send(2, 0, &numbered(number)).await?;
    }
    let through = |world: &World| world.nodes[0].seen.from(idle).count() >= 8;
    world.until("the other connection goes on", through).await?;
    world.for_a_while(A_WHILE).await;
    let count = world.nodes[0].seen.from(busy).count();
    check(count <= 10, || format!("{count} messages were delivered where 10 fill the bound"))?;
    world.nodes[0].keeps = false;
    world.nodes[0].seen.held.clear();
    world.until("the rest follows", |world| world.nodes[0].seen.from(busy).count() >= 50).await
}

async fn once(harness: &mut dyn TransportHarness) -> Result<(), Reason> {
    let mut world = linked(harness, 2, ROOMY).await?;
    let (inbox, _arrivals) = Inbox::channel(world.nodes[0].identity.clone(), ROOMY);
    let second = Arc::clone(&world.nodes[0].transport).run(inbox).now_or_never();
    let refused = matches!(second, Some(Err(TransportError::RunsAlready)));
    check(refused, || format!("a second run answered {second:?}, not \"runs already\" at once"))?;
    arrive(&mut world, &[numbered(1)]).await?;
    check(world.nodes[0].seen.ended.is_none(), || "the first run ended".to_owned())
}

async fn dropped(harness: &mut dyn TransportHarness) -> Result<(), Reason> {
    let mut world = linked(harness, 3, ROOMY).await?;
    world.nodes[1].stop();
    let balanced = |world: &World| world.nodes[1].seen.ups == world.nodes[1].seen.downs;
    world.until("its own links go down", balanced).await?;
    let gone = world.nodes[1].id;
    world.until("the others notice", |world| !world.nodes[0].seen.link(gone)).await?;
    let count = world.nodes[1].seen.messages.len();
    let ups = world.nodes[1].seen.ups;
    // Queued or not: nobody is there.
    let _ = world.nodes[0].transport.send(gone, &numbered(1));
    world.for_a_while(2 * A_WHILE).await;
    check(world.nodes[1].seen.messages.len() == count, || "a message was delivered to it".to_owned())?;
    check(world.nodes[1].seen.ups == ups, || "a link to it came up".to_owned())
}

/// One message of each kind, with the values that are hardest to carry.
fn every_kind() -> Vec<Message> {
    let id = ProposalId::new(ProposalId::NUMBER_MAX, NodeId::new(u64::MAX));
    let (zero, max) = (Slot::ZERO, Slot::MAX);
    let batch = Value::Batch(Bytes::from_static(b"\x00\xC1\xFFbatch"));
    let membership = [(NodeId::new(1), "[::1]:7000"), (NodeId::new(2), "zwei:7000")];
    let membership = Membership::voters(membership).ok();
    let origin = Origin { node: NodeId::new(3), incarnation: 4, serial: 5, answered_through: 4 };
    let session = SessionId { slot: max, index: u32::MAX };
    let stamp = SessionStamp { session, serial: u64::MAX, answered_through: u64::MAX };
    let snapshot = SnapshotId { through: max, bytes: u64::MAX, checksum: u32::MAX };
    let page = Page {
        covers: Interval::new(Slot::FIRST, max),
        entries: vec![(Slot::new(2), id, batch.clone()), (Slot::new(9), id, Value::Noop)],
        unknown: vec![Interval::new(Slot::new(3), Slot::new(8))],
    };
    let mut kinds = vec![
        Message::PrePrepare { nonce: u64::MAX },
        Message::PrePrepareAnswer { nonce: 0, leader: None },
        Message::PrePrepareAnswer { nonce: 1, leader: Some(id) },
        Message::Prepare { id, from: max },
        Message::Promise { id, chosen_through: zero, page, sequence: Sequence(u64::MAX) },
        Message::Nack { asked: id, promised: id },
        Message::Accept { id, first: max, values: vec![batch.clone(), Value::Noop], watermark: zero },
        Message::Accept { id, first: Slot::FIRST, values: Vec::new(), watermark: zero },
        Message::Accepted { id, slots: vec![Interval::new(zero, max)], sequence: Sequence(0) },
        Message::Heartbeat { id, watermark: max, held_through: max, pulse: u64::MAX, lease: true },
        Message::HeartbeatAck { id, pulse: 0, durable_through: max, witness: true },
        Message::CatchUp { from: Slot::FIRST, bytes_max: u32::MAX },
        Message::Chosen { first: Slot::FIRST, values: vec![batch], chosen_through: max },
        Message::Confirm { id, nonce: u64::MAX },
        Message::Confirmed { id, nonce: 0 },
        Message::AskBase { above: max },
        Message::FetchSnapshot { snapshot, at: u64::MAX, bytes_max: u32::MAX },
        Message::SnapshotChunk { snapshot, at: 0, bytes: Bytes::from_static(b"\x00chunk") },
        Message::Admin { request: 1, call: AdminCall::Transfer(None) },
        Message::AdminAnswer { request: 1, outcome: AdminOutcome::Transferred(NodeId::new(2)) },
        Message::TakeOver { id },
        Message::AlreadyFormed { disk: DiskId(u64::MAX) },
        Message::Forward { origin, request: Request::Plain, command: Bytes::from_static(b"command") },
        Message::Forward { origin, request: Request::InSession(stamp), command: Bytes::new() },
        Message::Forward { origin, request: Request::OpenSession, command: Bytes::new() },
        Message::ForwardAnswer { serial: 4, outcome: ForwardOutcome::SessionOpened(session) },
        Message::ForwardAnswer { serial: 5, outcome: ForwardOutcome::Applied(Bytes::from_static(b"reply")) },
        Message::ForwardAnswer { serial: 6, outcome: ForwardOutcome::NotLeader(Some(NodeId::new(2))) },
        Message::ForwardAnswer { serial: 7, outcome: ForwardOutcome::Unknown },
        Message::ReadMark { request: 1 },
        Message::ReadMarkAnswer { request: 1, mark: Some((id, max)) },
    ];
    if let Some(membership) = membership {
        let memberships = Memberships::bootstrap(membership.clone());
        let disks = BTreeMap::from([(NodeId::new(1), DiskId(u64::MAX))]);
        let base = Base { through: max, memberships, disks, snapshot: Some(snapshot) };
        kinds.push(Message::Base { base: Box::new(base) });
        kinds.push(Message::Form { membership, disk: DiskId(1), yours: None });
    }
    kinds
}
