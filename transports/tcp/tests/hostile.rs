//! Hostile and broken callers: each costs its own connection, and the others go on.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::*;
use std::time::Duration;
use synod::codec;
use synod::multi::{Message, Refusal, Slot};
use synod::paxos::{NodeId, ProposalId};
use synod::transport::{Arrival, Envelope, GroupId, TransportError};
use synod_tcp::{Config, Tcp};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

const DEADLINE: Duration = Duration::from_millis(500);

fn impatient() -> Config {
    Config::default().handshake_within(DEADLINE)
}

/// A node with a peer; check with [`still_works`] that no harm was done.
async fn pair() -> (Node, Node) {
    let one = Node::start_with(identity(ONE), LOOPBACK, &[], impatient());
    let two = Node::start(TWO, &[(ONE, one.address())]);
    let (mut one, mut two) = (one, two);
    link(&mut one, &mut two).await;
    (one, two)
}

async fn still_works(one: &mut Node, two: &mut Node) {
    let _ = two.send(ONE, 42);
    assert_eq!(one.message().await, (TWO, Message::PrePrepare { nonce: 42 }));
    assert!(!one.run.is_finished());
}

async fn caller_is_closed(bytes: &[u8]) -> Duration {
    let (mut one, mut two) = pair().await;
    let mut stream = TcpStream::connect(one.address()).await.unwrap();
    // Fails if the other side has closed already, as it should.
    let _ = stream.write_all(bytes).await;
    let took = closed(&mut stream).await;
    eventually("it is counted", || one.stats().malformed + one.stats().unfinished == 1).await;
    still_works(&mut one, &mut two).await;
    took
}

#[tokio::test]
async fn an_http_client_is_closed_at_its_first_byte() {
    // fault F36, scenario S1
    assert!(caller_is_closed(b"GET / HTTP/1.1\r\nHost: synod\r\n\r\n").await < DEADLINE);
}

#[tokio::test]
async fn a_tls_client_is_closed() {
    // fault F36, scenario S1
    caller_is_closed(&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xFC, 3, 3]).await;
}

#[tokio::test]
async fn a_mebibyte_of_noise_is_closed() {
    // fault F36, scenario S1
    let mut random = 1_u32;
    let noise = std::iter::repeat_with(|| {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (random >> 24) as u8
    });
    caller_is_closed(&noise.take(1 << 20).collect::<Vec<_>>()).await;
}

#[tokio::test]
async fn noise_behind_the_magic_is_closed() {
    caller_is_closed(&[MAGIC, &[0xA5; 4096]].concat()).await;
}

#[tokio::test]
async fn a_caller_that_says_nothing_is_closed_at_the_deadline() {
    // fault F37
    assert!(caller_is_closed(&[]).await >= DEADLINE / 2);
}

#[tokio::test]
async fn a_caller_that_stops_within_the_handshake_is_closed_at_the_deadline() {
    // fault F37: slowloris
    caller_is_closed(&MAGIC[..3]).await;
    caller_is_closed(&[MAGIC, &frame(&codec::encode(&(identity(THREE), false)).unwrap())].concat()).await;
}

#[tokio::test]
async fn a_handshake_longer_than_its_cap_is_refused() {
    // fault F35, scenario S2
    let took = caller_is_closed(&[MAGIC, &frame(&vec![0xC0; 65 * 1024])].concat()).await;
    assert!(took < DEADLINE);
}

/// A caller that shook hands as node 3 sends `bytes`.
async fn peer_is_closed(bytes: &[u8]) {
    let (mut one, mut two) = pair().await;
    let address = one.address();
    let call = tokio::spawn(async move { call_as(&identity(THREE), &address).await });
    one.up(THREE).await;
    let (mut stream, verdict) = call.await.unwrap();
    assert_eq!(verdict, Ok(()));
    let good = frame(&codec::encode(&numbered(1)).unwrap());
    stream.write_all(&[&good, bytes].concat()).await.unwrap();
    assert_eq!(
        one.message().await,
        (THREE, Message::PrePrepare { nonce: 1 }),
        "what came before is delivered"
    );
    let end = |arrival: &Arrival| match arrival {
        Arrival::Message { envelope, .. } => panic!("malformed bytes became {envelope:?}"),
        Arrival::LinkDown { peer: THREE } => Some(()),
        _ => None,
    };
    one.until("the connection ends", end).await;
    closed(&mut stream).await;
    eventually("it is counted", || one.stats().malformed == 1).await;
    still_works(&mut one, &mut two).await;
}

#[tokio::test]
async fn a_length_bomb_ends_its_connection() {
    // fault F35, scenario S2
    peer_is_closed(&[0xFF; 12]).await;
    let mut bomb = [[0xFF; 8].as_slice(), &[0; 4]].concat();
    let check = crc32fast::hash(&bomb[..8]).to_be_bytes();
    bomb[8..].copy_from_slice(&check);
    peer_is_closed(&bomb).await;
}

#[tokio::test]
async fn a_depth_bomb_ends_its_connection() {
    // fault F35, scenario S3
    peer_is_closed(&frame(&[0x91; 200_000])).await;
}

#[tokio::test]
async fn trailing_bytes_end_their_connection() {
    // scenario S4
    let mut payload = codec::encode(&numbered(2)).unwrap();
    payload.push(0);
    peer_is_closed(&frame(&payload)).await;
}

#[tokio::test]
async fn a_damaged_byte_never_reaches_the_node() {
    // fault F21
    let mut damaged = frame(&codec::encode(&numbered(2)).unwrap());
    *damaged.last_mut().unwrap() ^= 1;
    peer_is_closed(&damaged).await;
}

#[tokio::test]
async fn a_proposal_id_above_the_highest_ends_its_connection() {
    let id = ProposalId::new(ProposalId::NUMBER_MAX + 1, THREE);
    let message = Message::Prepare { id, from: Slot::FIRST };
    peer_is_closed(&frame(&codec::encode(&Envelope { group: GroupId(0), message }).unwrap())).await;
}

#[tokio::test]
async fn a_node_of_another_cluster_is_refused_with_the_reason() {
    // fault F32, scenario S6
    let mut one = Node::start(ONE, &[]);
    let mut foreign = identity(TWO);
    foreign.owner.cluster = synod::multi::ClusterId::new("another").unwrap();
    let mut two = Node::start_with(foreign, LOOPBACK, &[(ONE, one.address())], Config::default());
    assert_eq!(one.refusal().await, (TWO, Refusal::WrongCluster));
    assert!(two.arrivals.try_recv().is_err(), "the other never saw a link");
    // By hand, so that it does not refuse first.
    let mut stranger = identity(THREE);
    stranger.owner.cluster = synod::multi::ClusterId::new("another").unwrap();
    let (_stream, verdict) = call_as(&stranger, &one.address()).await;
    assert_eq!(verdict, Err(Refusal::WrongCluster));
    eventually("it is counted", || one.stats().refused == 1).await;
}

#[tokio::test]
async fn a_connection_recorded_in_one_cluster_is_refused_by_another() {
    // fault F39: byte for byte what node 2 said to node 1 of its own cluster.
    let recorded = [
        MAGIC,
        &frame(&codec::encode(&(identity(TWO), false)).unwrap()),
        &frame(&codec::encode(&Ok::<(), Refusal>(())).unwrap()),
        &frame(&codec::encode(&numbered(7)).unwrap()),
    ]
    .concat();
    let mut other = identity(ONE);
    other.owner.cluster = synod::multi::ClusterId::new("another").unwrap();
    let mut one = Node::start_with(other, LOOPBACK, &[], impatient());
    let mut stream = TcpStream::connect(one.address()).await.unwrap();
    stream.write_all(&recorded).await.unwrap();
    closed(&mut stream).await;
    eventually("it is counted", || one.stats().refused == 1).await;
    assert!(one.arrivals.try_recv().is_err(), "the node neither sees a link nor gets the message");
}

#[tokio::test]
async fn another_handshake_version_is_closed() {
    // fault F34
    let mut magic = MAGIC.to_vec();
    *magic.last_mut().unwrap() += 1;
    let hello = frame(&codec::encode(&(identity(THREE), false)).unwrap());
    assert!(caller_is_closed(&[magic, hello].concat()).await < DEADLINE);
}

#[tokio::test]
async fn another_epoch_and_a_claim_to_the_own_id_are_refused() {
    // fault F32
    let one = Node::start(ONE, &[]);
    let mut forced = identity(THREE);
    forced.owner.epoch = 1;
    assert_eq!(call_as(&forced, &one.address()).await.1, Err(Refusal::WrongCluster));
    assert_eq!(call_as(&identity(ONE), &one.address()).await.1, Err(Refusal::OwnId));
    let mut newer = identity(THREE);
    newer.protocol = synod::multi::ProtocolRange { oldest: 2, newest: 3 };
    // fault F34
    assert_eq!(call_as(&newer, &one.address()).await.1, Err(Refusal::NoCommonProtocol));
}

#[tokio::test]
async fn another_node_at_a_peers_address_gets_nothing() {
    // fault F32
    let mut three = Node::start(THREE, &[]);
    let one = Node::start(ONE, &[(TWO, three.address())]);
    let _ = one.send(TWO, 1);
    eventually("it is counted", || one.stats().wrong_node >= 2).await;
    let seen = three.arrivals.try_recv();
    assert!(seen.is_err(), "the wrong node saw {seen:?}");
}

#[tokio::test]
async fn a_port_in_use_is_a_typed_error_at_once() {
    let taken = Tcp::insecure(LOOPBACK, Vec::<(NodeId, String)>::new()).unwrap();
    let again = Tcp::insecure(taken.local_addr(), Vec::<(NodeId, String)>::new());
    let Err(TransportError::Listen { address, source }) = again else { panic!("{again:?}") };
    assert_eq!(address, taken.local_addr().to_string());
    assert_eq!(source.kind(), std::io::ErrorKind::AddrInUse);
}

#[tokio::test]
async fn a_flood_of_silent_callers_does_not_keep_a_peer_out() {
    // fault F37
    let config = Config::default().handshakes_max(8);
    let mut one = Node::start_with(identity(ONE), LOOPBACK, &[], config);
    let mut flood = Vec::new();
    for _ in 0..100 {
        flood.push(TcpStream::connect(one.address()).await.unwrap());
    }
    eventually("the oldest are pushed out", || one.stats().crowded_out >= 92).await;
    let mut two = Node::start(TWO, &[(ONE, one.address())]);
    link(&mut one, &mut two).await;
    for stream in &mut flood[..90] {
        closed(stream).await;
    }
    still_works(&mut one, &mut two).await;
}

#[tokio::test]
async fn nodes_without_a_known_address_take_no_peers_place() {
    // fault F37
    let one = Node::start_with(identity(ONE), LOOPBACK, &[], Config::default().inbound_max(2));
    let address = one.address();
    one.tcp.add_peer(TWO, "127.0.0.1:1");
    let mut one = one;
    let calls = tokio::spawn(async move {
        let mut verdicts = Vec::new();
        for node in [11, 12, 13, 2] {
            verdicts.push(call_as(&identity(NodeId::new(node)), &address).await);
        }
        verdicts
    });
    one.up(TWO).await;
    let verdicts: Vec<_> = calls.await.unwrap().into_iter().map(|(_, verdict)| verdict).collect();
    assert_eq!(verdicts, [Ok(()), Ok(()), Err(Refusal::Unavailable), Ok(())]);
}

// scenario S9
#[test]
fn a_transport_that_authenticates_nobody_is_had_by_a_constructor_that_says_so_and_by_no_other() {
    let sources = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut constructors, mut others) = (Vec::new(), Vec::new());
    for entry in std::fs::read_dir(sources).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        for section in text.split("\nimpl").skip(1) {
            let (head, body) = section.split_once('{').unwrap();
            let body = body.split("\n}").next().unwrap();
            if head.trim() == "Tcp" {
                let functions =
                    body.split("pub fn ").skip(1).map(|function| function.split(" {\n").next().unwrap());
                let makers =
                    functions.filter(|function| function.contains("Self") && !function.contains("self"));
                constructors.extend(makers.map(|maker| maker.split(['<', '(']).next().unwrap().to_owned()));
            } else if head.trim_end().ends_with(" for Tcp") {
                others.push(head.trim().to_owned());
            }
        }
    }
    constructors.sort();
    assert_eq!(constructors, ["insecure", "insecure_with"]);
    assert_eq!(others, ["Transport for Tcp"], "no default, no conversion");
}
