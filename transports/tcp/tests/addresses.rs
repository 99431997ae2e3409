//! Whom a node calls follows the membership. Clause 10, and clauses 6 and 9 for nodes that came later.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::*;
use std::collections::BTreeMap;
use std::time::Duration;
use synod::multi::Message;
use synod::paxos::NodeId;
use synod::transport::{Arrival, SendOutcome, Transport};
use synod_tcp::{Config, Tcp};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::{Instant, timeout};

const FOUR: NodeId = NodeId::new(4);

/// Nobody listens there.
const NOWHERE: &str = "127.0.0.1:1";

/// Many times the pauses of [`hasty`].
const A_WHILE: Duration = Duration::from_millis(400);

fn hasty() -> Config {
    Config::default().retry(Duration::from_millis(5), Duration::from_millis(20))
}

fn book<const N: usize>(entries: [(NodeId, &str); N]) -> BTreeMap<NodeId, String> {
    entries.into_iter().map(|(node, address)| (node, address.to_owned())).collect()
}

/// A node that knows nobody.
fn alone(node: NodeId) -> Node {
    Node::start_with(identity(node), LOOPBACK, &[], hasty())
}

/// Links two nodes, and waits until the first sends on the connection that it made.
async fn link_from(one: &mut Node, two: (NodeId, &mut Node)) {
    link(one, two.1).await;
    arrives(one, two, ONE, 0).await;
}

async fn arrives(from: &Node, to: (NodeId, &mut Node), sender: NodeId, number: u64) {
    assert_eq!(from.send(to.0, number), SendOutcome::Queued);
    assert_eq!(to.1.message().await, (sender, Message::PrePrepare { nonce: number }));
}

/// Ends a node; gives a listener that has taken its address.
async fn vacate(node: Node) -> TcpListener {
    let address = node.address();
    node.run.abort();
    assert!(node.run.await.unwrap_err().is_cancelled());
    drop(node.tcp);
    TcpListener::bind(address).await.unwrap()
}

async fn is_called(listener: &TcpListener) -> TcpStream {
    timeout(PATIENCE, listener.accept()).await.expect("not in time: a call").unwrap().0
}

async fn is_not_called(listener: &TcpListener) {
    let call = timeout(A_WHILE, listener.accept()).await;
    assert!(call.is_err(), "it is called: {call:?}");
}

#[tokio::test]
async fn a_node_that_a_book_names_is_called_and_can_be_sent_to() {
    let (mut one, mut two) = (alone(ONE), alone(TWO));
    assert_eq!(one.send(TWO, 1), SendOutcome::Dropped, "nobody is known by that name");
    one.tcp.learn_addresses(&book([(ONE, NOWHERE), (TWO, &two.address())]));
    link(&mut one, &mut two).await;
    arrives(&one, (TWO, &mut two), ONE, 2).await;
    arrives(&two, (ONE, &mut one), TWO, 3).await;
    assert_eq!(one.send(ONE, 4), SendOutcome::Dropped, "its own name");
}

#[tokio::test]
async fn of_several_books_before_the_run_the_newest_says_who_is_called() {
    let mut two = alone(TWO);
    let gone = TcpListener::bind(LOOPBACK).await.unwrap();
    let tcp = Tcp::insecure(LOOPBACK, Vec::<(NodeId, String)>::new()).unwrap();
    tcp.learn_addresses(&book([(ONE, NOWHERE), (THREE, &gone.local_addr().unwrap().to_string())]));
    assert_eq!(tcp.send(THREE, &numbered(1)), SendOutcome::Queued);
    tcp.learn_addresses(&book([(ONE, NOWHERE), (TWO, &two.address())]));
    assert_eq!(tcp.send(THREE, &numbered(2)), SendOutcome::Dropped);
    let mut one = Node::run(identity(ONE), tcp);
    link(&mut one, &mut two).await;
    arrives(&one, (TWO, &mut two), ONE, 3).await;
    is_not_called(&gone).await;
}

#[tokio::test]
async fn a_changed_address_is_followed_while_the_old_one_fails() {
    // Another node at a peer's address makes the pause as long as it gets.
    let config = Config::default().retry(Duration::from_millis(200), Duration::from_secs(60));
    let (one, three) = (Node::start_with(identity(ONE), LOOPBACK, &[], config), alone(THREE));
    one.tcp.learn_addresses(&book([(TWO, &three.address())]));
    eventually("the wrong node answers", || one.stats().wrong_node == 1).await;
    let new = TcpListener::bind(LOOPBACK).await.unwrap();
    let began = Instant::now();
    one.tcp.learn_addresses(&book([(TWO, &new.local_addr().unwrap().to_string())]));
    let _call = is_called(&new).await;
    assert!(began.elapsed() >= Duration::from_millis(95), "after a pause with jitter: {:?}", began.elapsed());
    assert_eq!(one.stats().wrong_node, 1, "the old address is called no more");
}

/// A listener that no more calls get through to, and the calls that fill it.
async fn crowded() -> (TcpListener, Vec<TcpStream>) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(LOOPBACK.parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let (address, mut calls) = (listener.local_addr().unwrap(), Vec::new());
    while let Ok(call) = timeout(Duration::from_millis(300), TcpStream::connect(address)).await {
        calls.push(call.unwrap());
        assert!(calls.len() < 100, "it is never full");
    }
    (listener, calls)
}

#[tokio::test]
async fn a_call_that_hangs_is_given_up_for_a_changed_address() {
    let config = hasty().handshake_within(Duration::from_secs(600));
    let (mut one, mut two) = (Node::start_with(identity(ONE), LOOPBACK, &[], config), alone(TWO));
    let (crowded, _calls) = crowded().await;
    one.tcp.learn_addresses(&book([(TWO, &crowded.local_addr().unwrap().to_string())]));
    tokio::time::sleep(A_WHILE).await;
    one.tcp.learn_addresses(&book([(TWO, &two.address())]));
    link(&mut one, &mut two).await;
}

#[tokio::test]
async fn a_connection_outlives_a_change_of_address_which_is_followed_when_it_ends() {
    let (mut one, mut two) = (alone(ONE), alone(TWO));
    one.tcp.learn_addresses(&book([(TWO, &two.address())]));
    link_from(&mut one, (TWO, &mut two)).await;
    let mut moved = alone(TWO);
    one.tcp.learn_addresses(&book([(TWO, &moved.address())]));
    tokio::time::sleep(A_WHILE).await;
    arrives(&one, (TWO, &mut two), ONE, 1).await;
    let old = vacate(two).await;
    link(&mut one, &mut moved).await;
    arrives(&one, (TWO, &mut moved), ONE, 2).await;
    is_not_called(&old).await;
}

#[tokio::test]
async fn a_node_that_a_book_leaves_out_keeps_its_connection_and_is_not_called_again() {
    let (mut one, mut two, mut three) = (alone(ONE), alone(TWO), alone(THREE));
    let (at_two, at_three) = (two.address(), three.address());
    one.tcp.learn_addresses(&book([(TWO, &at_two), (THREE, &at_three)]));
    link_from(&mut one, (TWO, &mut two)).await;
    three.up(ONE).await;
    one.tcp.learn_addresses(&book([(THREE, &at_three)]));
    tokio::time::sleep(A_WHILE).await;
    for number in 0..100 {
        arrives(&one, (TWO, &mut two), ONE, number).await;
    }
    let (left, stays) = (vacate(two).await, vacate(three).await);
    let _call = is_called(&stays).await;
    is_not_called(&left).await;
    assert_eq!(one.send(TWO, 1), SendOutcome::Dropped, "it is unknown");
    // And back again.
    one.tcp.learn_addresses(&book([(TWO, &at_two), (THREE, &at_three)]));
    let _call = is_called(&left).await;
}

#[tokio::test]
async fn what_waits_for_a_node_that_is_left_out_is_dropped_with_it() {
    let config = hasty().handshake_within(A_WHILE);
    let one = Node::start_with(identity(ONE), LOOPBACK, &[], config);
    let mute = TcpListener::bind(LOOPBACK).await.unwrap();
    let at_mute = mute.local_addr().unwrap().to_string();
    one.tcp.learn_addresses(&book([(TWO, &at_mute)]));
    let mut call = is_called(&mute).await;
    assert_eq!(one.send(TWO, 1), SendOutcome::Queued);
    one.tcp.learn_addresses(&book([]));
    assert_eq!(one.send(TWO, 2), SendOutcome::Dropped, "at once");
    closed(&mut call).await;
    drop(mute);
    let mut two = Node::start_with(identity(TWO), &at_mute, &[], hasty());
    one.tcp.learn_addresses(&book([(TWO, &at_mute)]));
    let mut one = one;
    link(&mut one, &mut two).await;
    arrives(&one, (TWO, &mut two), ONE, 3).await;
}

#[tokio::test]
async fn a_node_that_was_left_out_is_answered_where_it_calls() {
    // Protocol 6.5: it has to learn that it was removed, and to hand over.
    let config = hasty().ping_after(Duration::from_millis(100)).idle_after(Duration::from_millis(400));
    let mut one = Node::start_with(identity(ONE), LOOPBACK, &[], config.clone());
    let mut two = Node::start_with(identity(TWO), LOOPBACK, &[(ONE, one.address())], config);
    let (through, stopped) = wire(two.address()).await;
    link(&mut one, &mut two).await;
    one.tcp.learn_addresses(&book([(TWO, &through)]));
    two.up(ONE).await;
    // By then each sends on the connection that it made.
    tokio::time::sleep(A_WHILE).await;
    arrives(&one, (TWO, &mut two), ONE, 1).await;
    one.tcp.learn_addresses(&book([]));
    stopped.send(true).unwrap();
    let called_again = |arrival: &Arrival| matches!(arrival, Arrival::LinkUp { peer: ONE }).then_some(());
    futures::join!(one.up(TWO), two.until("it is answered", called_again));
    stopped.send(false).unwrap();
    arrives(&one, (TWO, &mut two), ONE, 2).await;
    arrives(&two, (ONE, &mut one), TWO, 3).await;
}

#[tokio::test]
async fn a_peer_given_at_the_start_stays_until_a_book_that_named_it_leaves_it_out() {
    let given = TcpListener::bind(LOOPBACK).await.unwrap();
    let at_given = given.local_addr().unwrap().to_string();
    let one = Node::start_with(identity(ONE), LOOPBACK, &[(TWO, at_given.clone())], hasty());
    one.tcp.learn_addresses(&book([(THREE, NOWHERE)]));
    one.tcp.learn_addresses(&book([]));
    for _ in 0..3 {
        drop(is_called(&given).await);
    }
    one.tcp.learn_addresses(&book([(TWO, "")]));
    drop(is_called(&given).await);
    one.tcp.learn_addresses(&book([]));
    // The last call may have been under way.
    tokio::time::sleep(A_WHILE).await;
    while timeout(Duration::from_millis(1), given.accept()).await.is_ok() {}
    is_not_called(&given).await;
    assert_eq!(one.send(TWO, 1), SendOutcome::Dropped);
}

#[tokio::test]
async fn a_malformed_address_leaves_what_was_known() {
    let one = alone(ONE);
    let peer = TcpListener::bind(LOOPBACK).await.unwrap();
    one.tcp.learn_addresses(&book([(TWO, &peer.local_addr().unwrap().to_string())]));
    for malformed in ["", "nobody", "127.0.0.1", "127.0.0.1:0", ":7000", "\0:7000", "a b:1", "host:99999"] {
        one.tcp.learn_addresses(&book([(TWO, malformed), (THREE, malformed)]));
        drop(is_called(&peer).await);
        drop(is_called(&peer).await);
        assert_eq!(one.send(THREE, 1), SendOutcome::Dropped, "{malformed:?} makes no peer");
    }
}

#[tokio::test]
async fn no_more_than_the_bound_of_peers_is_called_and_who_left_makes_way() {
    let config = hasty().peers_max(2);
    let mut one = Node::start_with(identity(ONE), LOOPBACK, &[], config);
    let mut two = alone(TWO);
    one.tcp.learn_addresses(&book([(TWO, &two.address()), (THREE, NOWHERE), (FOUR, NOWHERE)]));
    link_from(&mut one, (TWO, &mut two)).await;
    assert_eq!(one.send(THREE, 1), SendOutcome::Queued);
    assert_eq!(one.send(FOUR, 1), SendOutcome::Dropped, "one too many");
    one.tcp.add_peer(FOUR, NOWHERE);
    assert_eq!(one.send(FOUR, 1), SendOutcome::Dropped, "still one too many");
    // It still stands, since nobody needs its place.
    one.tcp.learn_addresses(&book([(THREE, NOWHERE)]));
    arrives(&one, (TWO, &mut two), ONE, 2).await;
    one.tcp.learn_addresses(&book([(THREE, NOWHERE), (FOUR, NOWHERE)]));
    assert_eq!(one.send(FOUR, 3), SendOutcome::Queued);
    two.down(ONE).await;
    eventually("it is unknown", || one.send(TWO, 4) == SendOutcome::Dropped).await;
}

#[tokio::test]
async fn a_stranger_is_delivered_and_a_wrong_address_for_it_loses_nothing() {
    let mut one = alone(ONE);
    let mut two = Node::start(TWO, &[(ONE, one.address())]);
    link(&mut one, &mut two).await;
    arrives(&two, (ONE, &mut one), TWO, 1).await;
    // More than the receiver and the system take: the first part is being written, the second waits while calls fail.
    let message = bulk(100_000);
    for number in 0..150 {
        if number == 120 {
            tokio::time::sleep(A_WHILE).await;
        }
        assert_eq!(one.tcp.send(TWO, &message), SendOutcome::Queued);
    }
    one.tcp.learn_addresses(&book([(TWO, NOWHERE)]));
    tokio::time::sleep(A_WHILE).await;
    for _ in 0..150 {
        assert_eq!(two.message().await, (ONE, message.message.clone()));
    }
    one.tcp.learn_addresses(&book([(TWO, &two.address())]));
    two.up(ONE).await;
    arrives(&one, (TWO, &mut two), ONE, 2).await;
}

#[tokio::test]
async fn a_half_open_peer_is_noticed_and_called_where_the_newest_book_says() {
    // fault F37, scenario N5
    let config = hasty().ping_after(Duration::from_millis(100)).idle_after(Duration::from_millis(400));
    let mut one = Node::start_with(identity(ONE), LOOPBACK, &[], config.clone());
    let mut two = Node::start_with(identity(TWO), LOOPBACK, &[], config);
    let (through, stopped) = wire(two.address()).await;
    one.tcp.learn_addresses(&book([(TWO, &through)]));
    link_from(&mut one, (TWO, &mut two)).await;
    stopped.send(true).unwrap();
    one.tcp.learn_addresses(&book([(TWO, &two.address())]));
    link(&mut one, &mut two).await;
    assert_eq!(one.stats().vanished, 1);
    arrives(&one, (TWO, &mut two), ONE, 1).await;
}

#[tokio::test]
async fn a_dropped_run_ends_the_calls_that_came_with_a_book() {
    // clause 9
    let (mut one, mut two) = (alone(ONE), alone(TWO));
    let mute = TcpListener::bind(LOOPBACK).await.unwrap();
    let later = TcpListener::bind(LOOPBACK).await.unwrap();
    let at = |listener: &TcpListener| listener.local_addr().unwrap().to_string();
    one.tcp.learn_addresses(&book([(TWO, &two.address())]));
    link(&mut one, &mut two).await;
    one.tcp.learn_addresses(&book([(TWO, &two.address()), (THREE, &at(&mute)), (FOUR, NOWHERE)]));
    let mut call = is_called(&mute).await;
    one.run.abort();
    assert!(one.run.await.unwrap_err().is_cancelled());
    two.down(ONE).await;
    closed(&mut call).await;
    one.tcp.learn_addresses(&book([(THREE, &at(&mute)), (FOUR, &at(&later))]));
    is_not_called(&mute).await;
    is_not_called(&later).await;
}

#[tokio::test]
async fn a_node_that_comes_and_goes_in_every_book_has_one_connection() {
    let (mut one, mut two) = (alone(ONE), alone(TWO));
    let named = book([(TWO, &two.address())]);
    one.tcp.learn_addresses(&named);
    link_from(&mut one, (TWO, &mut two)).await;
    for other in 100..150 {
        one.tcp.learn_addresses(&book([(NodeId::new(other), NOWHERE)]));
        tokio::time::sleep(Duration::from_millis(2)).await;
        one.tcp.learn_addresses(&named);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    tokio::time::sleep(A_WHILE).await;
    let seen = two.arrivals.try_recv();
    assert!(seen.is_err(), "it was called again: {seen:?}");
    arrives(&one, (TWO, &mut two), ONE, 1).await;
    // Whoever called it twice would do so now.
    let left = vacate(two).await;
    let first = is_called(&left).await;
    is_not_called(&left).await;
    drop(first);
}
