//! Peers that come, go and vanish.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::*;
use std::sync::Arc;
use std::time::Duration;
use synod::multi::Message;
use synod::transport::{Arrival, Inbox, SendOutcome, Transport};
use synod_tcp::{Config, Tcp};
use tokio::net::TcpStream;
use tokio::time::Instant;

#[tokio::test]
async fn a_peer_that_vanishes_without_a_word_is_noticed() {
    // fault F37, scenario N5: the peer's host is gone, so nothing closes the connection
    let config =
        Config::default().ping_after(Duration::from_millis(100)).idle_after(Duration::from_millis(300));
    let mut one = Node::start_with(identity(ONE), LOOPBACK, &[], config);
    let address = one.address();
    let call = tokio::spawn(async move { call_as(&identity(TWO), &address).await });
    one.up(TWO).await;
    let _silent = call.await.unwrap();
    let began = Instant::now();
    one.down(TWO).await;
    assert!(began.elapsed() >= Duration::from_millis(150), "not before its time");
    eventually("it is counted", || one.stats().vanished == 1).await;
}

#[tokio::test]
async fn a_silent_connection_between_two_that_live_stands() {
    let config =
        Config::default().ping_after(Duration::from_millis(50)).idle_after(Duration::from_millis(500));
    let mut one = Node::start_with(identity(ONE), LOOPBACK, &[], config.clone());
    let mut two = Node::start_with(identity(TWO), LOOPBACK, &[(ONE, one.address())], config);
    link(&mut one, &mut two).await;
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(two.send(ONE, 1), SendOutcome::Queued);
    let first = one.arrivals.try_recv();
    assert!(first.is_err(), "no link went down: {first:?}");
    assert_eq!(one.message().await, (TWO, Message::PrePrepare { nonce: 1 }));
}

#[tokio::test]
async fn after_a_dead_wire_both_notice_and_connect_again() {
    // scenario N5
    let config =
        Config::default().ping_after(Duration::from_millis(100)).idle_after(Duration::from_millis(400));
    let mut one = Node::start_with(identity(ONE), LOOPBACK, &[], config.clone());
    let (through, stopped) = wire(one.address()).await;
    let mut two = Node::start_with(identity(TWO), LOOPBACK, &[(ONE, through)], config);
    link(&mut one, &mut two).await;
    stopped.send(true).unwrap();
    one.down(TWO).await;
    two.down(ONE).await;
    stopped.send(false).unwrap();
    link(&mut one, &mut two).await;
    let _ = two.send(ONE, 7);
    assert_eq!(one.message().await, (TWO, Message::PrePrepare { nonce: 7 }));
}

#[tokio::test]
async fn a_node_whose_address_is_not_known_gets_its_answers_on_its_own_connection() {
    let mut one = Node::start(ONE, &[]);
    assert_eq!(one.send(TWO, 1), SendOutcome::Dropped, "nobody is known by that name");
    let mut two = Node::start(TWO, &[(ONE, one.address())]);
    link(&mut one, &mut two).await;
    assert_eq!(one.send(TWO, 2), SendOutcome::Queued);
    assert_eq!(two.message().await, (ONE, Message::PrePrepare { nonce: 2 }));
    two.run.abort();
    one.down(TWO).await;
    eventually("its queue is gone, too", || one.send(TWO, 3) == SendOutcome::Dropped).await;
}

#[tokio::test]
async fn an_observer_whose_address_becomes_known_is_called() {
    let mut one = Node::start(ONE, &[]);
    let mut two = Node::start(TWO, &[(ONE, one.address())]);
    link(&mut one, &mut two).await;
    one.tcp.add_peer(TWO, two.address());
    two.up(ONE).await;
    for number in 0..10 {
        assert_eq!(one.send(TWO, number), SendOutcome::Queued);
        assert_eq!(two.message().await, (ONE, Message::PrePrepare { nonce: number }));
    }
}

#[tokio::test]
async fn a_second_connection_of_one_node_takes_the_place_of_the_first() {
    // fault F37: a peer that was restarted need not wait until its old connection is noticed to be dead
    let mut one = Node::start(ONE, &[]);
    let address = one.address();
    let calls = tokio::spawn(async move {
        let first = call_as(&identity(TWO), &address).await;
        let second = call_as(&identity(TWO), &address).await;
        (first, second)
    });
    one.up(TWO).await;
    one.up(TWO).await;
    one.down(TWO).await;
    let ((mut first, _), (second, verdict)) = calls.await.unwrap();
    assert_eq!(verdict, Ok(()));
    closed(&mut first).await;
    assert_eq!(one.send(TWO, 1), SendOutcome::Queued);
    let mut byte = [0; 1];
    tokio::time::timeout(PATIENCE, second.peek(&mut byte))
        .await
        .expect("it is sent over the second")
        .unwrap();
}

#[tokio::test]
async fn what_waits_for_a_peer_that_cannot_be_reached_is_lost_not_kept() {
    let one = Node::start(ONE, &[(TWO, "127.0.0.1:1".to_owned())]);
    let message = bulk(1 << 20);
    let mut queued = 0;
    // More than the bound, which would fill for good if the queue were kept.
    eventually("room again and again", || {
        while one.tcp.send(TWO, &message) == SendOutcome::Queued {
            queued += 1;
        }
        queued > 40
    })
    .await;
}

#[tokio::test]
async fn a_dropped_run_frees_the_port_and_every_connection() {
    let mut one = Node::start(ONE, &[]);
    let address = one.address();
    let mut two = Node::start(TWO, &[(ONE, address.clone())]);
    link(&mut one, &mut two).await;
    one.run.abort();
    assert!(one.run.await.unwrap_err().is_cancelled());
    two.down(ONE).await;
    assert!(TcpStream::connect(&address).await.is_err(), "nobody listens");
    let mut again = Node::start_with(identity(ONE), &address, &[], Config::default());
    link(&mut again, &mut two).await;
}

#[tokio::test]
async fn a_peer_that_stops_reading_keeps_its_bound_and_the_others_go_on() {
    let config = Config::default().peer_bytes_max(1 << 20);
    let mut one = Node::start_with(identity(ONE), LOOPBACK, &[], config);
    let mut two = Node::start(TWO, &[(ONE, one.address())]);
    two.keeps = true;
    link(&mut one, &mut two).await;
    let mut three = Node::start(THREE, &[(ONE, one.address())]);
    link(&mut one, &mut three).await;
    let message = bulk(100_000);
    // Its inbox takes 1 MiB, the system's buffers some more; then nothing for a whole second.
    let (mut queued, mut last) = (0, Instant::now());
    let reading = tokio::spawn(async move {
        two.until("nothing", |_| None::<()>).await;
    });
    while last.elapsed() < Duration::from_secs(1) {
        if one.tcp.send(TWO, &message) == SendOutcome::Queued {
            (queued, last) = (queued + 1, Instant::now());
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert!(queued < 1_000, "the bound does not hold");
    }
    assert_eq!(one.send(THREE, 5), SendOutcome::Queued);
    assert_eq!(three.message().await, (ONE, Message::PrePrepare { nonce: 5 }));
    assert!(one.stats().dropped > 0);
    reading.abort();
}

#[tokio::test]
async fn small_messages_flow_by_the_hundred_thousand() {
    // Not a measurement: a floor that one system call or one wake per message would miss.
    let mut one = Node::start(ONE, &[]);
    let mut two = Node::start(TWO, &[(ONE, one.address())]);
    link(&mut one, &mut two).await;
    let count = 300_000;
    let sender = Arc::clone(&two.tcp);
    let began = Instant::now();
    tokio::spawn(async move {
        for number in 0..count {
            while sender.send(ONE, &numbered(number)) == SendOutcome::Dropped {
                tokio::task::yield_now().await;
            }
            if number % 64 == 0 {
                tokio::task::yield_now().await;
            }
        }
    });
    let mut next = 0;
    let all = |arrival: &Arrival| {
        if let Arrival::Message { envelope, .. } = arrival {
            assert_eq!(envelope.message, Message::PrePrepare { nonce: next });
            next += 1;
        }
        (next == count).then_some(())
    };
    one.until("all arrive", all).await;
    let rate = count as f64 / began.elapsed().as_secs_f64();
    println!("{rate:.0} messages/s");
    assert!(rate > 20_000.0, "{rate:.0} messages/s");
}

#[tokio::test]
async fn without_a_runtime_run_is_an_error_and_no_panic() {
    let tcp = Arc::new(Tcp::insecure(LOOPBACK, Vec::<(synod::paxos::NodeId, String)>::new()).unwrap());
    let (inbox, _arrivals) = Inbox::channel(identity(ONE), 1);
    let outcome = std::thread::spawn(move || futures::executor::block_on(tcp.run(inbox))).join();
    assert!(outcome.unwrap().is_err());
}
