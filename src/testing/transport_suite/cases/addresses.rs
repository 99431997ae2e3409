//! The cases of clause 10: what a book may change, and what it must leave alone.
//!
//! Every transport passes them, one that ignores books as well. That a node is called where a book says, and that it is not
//! called any more, shows only where there are addresses: test that beside the suite.

use super::{A_WHILE, ROOMY, Reason, TransportHarness, World, arrive, check, linked, numbered, unlinked};
use crate::paxos::NodeId;
use crate::transport::SendOutcome;
use std::collections::BTreeMap;

type Book = BTreeMap<NodeId, String>;

/// Every node of `world`, where the harness says that it is.
fn book(world: &World, harness: &dyn TransportHarness) -> Book {
    world.nodes.iter().map(|node| (node.id, harness.address(node.id))).collect()
}

fn tell_all(world: &World, book: &Book) {
    world.nodes.iter().for_each(|node| node.transport.learn_addresses(book));
}

/// Checks that since then no connection of `world` came or went.
fn undisturbed(world: &World, ups_before: &[u64]) -> Result<(), Reason> {
    for (node, before) in world.nodes.iter().zip(ups_before) {
        let (ups, downs) = (node.seen.ups, node.seen.downs);
        check(ups == *before && downs == 0, || {
            format!("node {} had {before} links; {downs} went down and {} came up", node.id, ups - before)
        })?;
    }
    Ok(())
}

fn ups(world: &World) -> Vec<u64> {
    world.nodes.iter().map(|node| node.seen.ups).collect()
}

pub(super) async fn same_book(harness: &mut dyn TransportHarness) -> Result<(), Reason> {
    let mut world = linked(harness, 3, ROOMY).await?;
    let (book, before) = (book(&world, harness), ups(&world));
    for round in 0..50 {
        tell_all(&world, &book);
        let sent: Vec<_> = (0..20).map(|number| numbered(20 * round + number)).collect();
        for envelope in &sent[..10] {
            world.send(0, 2, envelope).await?;
        }
        tell_all(&world, &book);
        arrive(&mut world, &sent).await?;
    }
    let expected = (0..50).flat_map(|round| (0..10).map(move |number| numbered(20 * round + number)));
    let expected: Vec<_> = expected.collect();
    let count = expected.len();
    world.until("node 3 gets as much", |world| world.nodes[2].seen.messages.len() >= count).await?;
    let ordered = world.nodes[2].seen.from(world.nodes[0].id).eq(&expected);
    check(ordered, || "what was sent to node 3 between two books came in another order".to_owned())?;
    world.for_a_while(A_WHILE).await;
    undisturbed(&world, &before)
}

pub(super) async fn without_node(harness: &mut dyn TransportHarness) -> Result<(), Reason> {
    let mut world = linked(harness, 3, ROOMY).await?;
    let (whole, before) = (book(&world, harness), ups(&world));
    let mut without = whole.clone();
    without.remove(&world.nodes[1].id);
    for round in 0..10 {
        for (book, first) in [(&whole, 0), (&without, 10)] {
            tell_all(&world, book);
            let sent = (first..first + 10).map(|number| numbered(20 * round + number));
            arrive(&mut world, &sent.collect::<Vec<_>>()).await?;
        }
    }
    // To stay, this time.
    tell_all(&world, &without);
    world.for_a_while(A_WHILE).await;
    arrive(&mut world, &[numbered(1_000)]).await?;
    tell_all(&world, &whole);
    world.for_a_while(A_WHILE).await;
    arrive(&mut world, &[numbered(1_001)]).await?;
    undisturbed(&world, &before)
}

pub(super) async fn without_address(harness: &mut dyn TransportHarness) -> Result<(), Reason> {
    let mut world = linked(harness, 2, ROOMY).await?;
    let (book, before) = (book(&world, harness), ups(&world));
    let blank: Book = book.keys().map(|node| (*node, String::new())).collect();
    tell_all(&world, &blank);
    arrive(&mut world, &[numbered(1)]).await?;
    world.for_a_while(A_WHILE).await;
    undisturbed(&world, &before)?;
    let gone = world.nodes[1].id;
    world.nodes[1].stop();
    world.until("node 1 notices that node 2 is gone", |world| !world.nodes[0].seen.link(gone)).await?;
    let identity = world.nodes[1].identity.clone();
    world.restart(harness, 1, identity).await?;
    tell_all(&world, &blank);
    world.until("node 2 is still found where it was", World::linked).await
}

pub(super) async fn own_address(harness: &mut dyn TransportHarness) -> Result<(), Reason> {
    let mut world = linked(harness, 2, ROOMY).await?;
    let (mut book, before) = (book(&world, harness), ups(&world));
    let (own, other) = (world.nodes[0].id, harness.address(world.nodes[1].id));
    for address in [harness.address(own), other] {
        book.insert(own, address);
        world.nodes[0].transport.learn_addresses(&book);
        let outcome = world.nodes[0].transport.send(own, &numbered(1));
        check(outcome == SendOutcome::Dropped, || "a message to the node itself was queued".to_owned())?;
        world.for_a_while(A_WHILE).await;
    }
    check(world.nodes[0].seen.messages.is_empty(), || "a message to the node itself came back".to_owned())?;
    arrive(&mut world, &[numbered(2)]).await?;
    undisturbed(&world, &before)
}

pub(super) async fn book_before_run(harness: &mut dyn TransportHarness) -> Result<(), Reason> {
    let mut world = unlinked(harness, 3, ROOMY).await?;
    let whole = book(&world, harness);
    tell_all(&world, &Book::new());
    tell_all(&world, &whole);
    tell_all(&world, &whole);
    world.link_all().await?;
    arrive(&mut world, &(0..100).map(numbered).collect::<Vec<_>>()).await?;
    let own = world.nodes[0].transport.send(world.nodes[0].id, &numbered(1));
    check(own == SendOutcome::Dropped, || "a message to the node itself was queued".to_owned())
}
