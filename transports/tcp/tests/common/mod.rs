//! A node that is played by a test: a transport that runs, and what arrives.

#![allow(dead_code, unreachable_pub)]

use bytes::Bytes;
use futures::StreamExt;
use futures::channel::mpsc::UnboundedReceiver;
use std::sync::Arc;
use std::time::Duration;
use synod::codec;
use synod::multi::{
    ClusterId, DiskId, Identity, Incarnation, Message, Owner, ProtocolRange, Refusal, Sequence, Slot, Value,
};
use synod::paxos::{NodeId, ProposalId};
use synod::transport::{Arrival, Envelope, GroupId, Held, Inbox, SendOutcome, Transport, TransportError};
use synod_tcp::{Config, Tcp, TcpStats};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

pub const LOOPBACK: &str = "127.0.0.1:0";
/// No test here should need it; a loaded machine may.
pub const PATIENCE: Duration = Duration::from_secs(10);
pub const ONE: NodeId = NodeId::new(1);
pub const TWO: NodeId = NodeId::new(2);
pub const THREE: NodeId = NodeId::new(3);

pub fn identity(node: NodeId) -> Identity {
    Identity {
        owner: Owner { cluster: ClusterId::new("tcp").unwrap(), epoch: 0, node },
        disk: DiskId(node.get()),
        incarnations: vec![Incarnation { counter: 1, nonce: 1 }],
        sequence: Sequence(0),
        protocol: ProtocolRange::OURS,
    }
}

pub fn numbered(number: u64) -> Envelope {
    Envelope { group: GroupId(0), message: Message::PrePrepare { nonce: number } }
}

pub fn bulk(bytes: usize) -> Envelope {
    let id = ProposalId::new(1, ONE);
    let values = vec![Value::Batch(Bytes::from(vec![7; bytes]))];
    let message = Message::Accept { id, first: Slot::FIRST, values, watermark: Slot::ZERO };
    Envelope { group: GroupId(0), message }
}

pub struct Node {
    pub tcp: Arc<Tcp>,
    pub arrivals: UnboundedReceiver<Arrival>,
    pub run: JoinHandle<Result<(), TransportError>>,
    /// Keep what is delivered counted.
    pub keeps: bool,
    pub held: Vec<Held>,
}

impl Node {
    pub fn start(node: NodeId, peers: &[(NodeId, String)]) -> Self {
        Self::start_with(identity(node), LOOPBACK, peers, Config::default())
    }

    pub fn start_with(identity: Identity, listen: &str, peers: &[(NodeId, String)], config: Config) -> Self {
        Self::run(identity, Tcp::insecure_with(listen, peers.iter().cloned(), config).unwrap())
    }

    pub fn run(identity: Identity, tcp: Tcp) -> Self {
        let tcp = Arc::new(tcp);
        let (inbox, arrivals) = Inbox::channel(identity, 1 << 20);
        let run = tokio::spawn(Arc::clone(&tcp).run(inbox));
        Self { tcp, arrivals, run, keeps: false, held: Vec::new() }
    }

    pub fn address(&self) -> String {
        self.tcp.local_addr().to_string()
    }

    pub fn stats(&self) -> TcpStats {
        self.tcp.stats()
    }

    pub fn send(&self, to: NodeId, number: u64) -> SendOutcome {
        self.tcp.send(to, &numbered(number))
    }

    /// Takes every handshake; gives what matches first.
    pub async fn until<T>(&mut self, what: &str, mut wanted: impl FnMut(&Arrival) -> Option<T>) -> T {
        let wait = async {
            loop {
                let arrival = self.arrivals.next().await.expect("the inbox is open");
                let found = wanted(&arrival);
                match arrival {
                    // A caller that has given up needs no answer.
                    Arrival::Connect { answer, .. } => drop(answer.send(Ok(()))),
                    Arrival::Message { held, .. } if self.keeps => self.held.push(held),
                    _ => {}
                }
                if let Some(found) = found {
                    return found;
                }
            }
        };
        timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("not in time: {what}"))
    }

    pub async fn up(&mut self, expected: NodeId) {
        let up = |arrival: &Arrival| {
            matches!(arrival, Arrival::LinkUp { peer } if *peer == expected).then_some(())
        };
        self.until("link up", up).await;
    }

    pub async fn down(&mut self, expected: NodeId) {
        let down = |arrival: &Arrival| {
            matches!(arrival, Arrival::LinkDown { peer } if *peer == expected).then_some(())
        };
        self.until("link down", down).await;
    }

    pub async fn message(&mut self) -> (NodeId, Message) {
        self.until("a message", |arrival| match arrival {
            Arrival::Message { from, envelope, .. } => Some((*from, envelope.message.clone())),
            _ => None,
        })
        .await
    }

    pub async fn refusal(&mut self) -> (NodeId, Refusal) {
        self.until("a refusal", |arrival| match arrival {
            Arrival::Refused { peer, refusal } => Some((*peer, refusal.clone())),
            _ => None,
        })
        .await
    }
}

/// Waits until both are linked: each has to answer for it, so they wait side by side.
pub async fn link(a: &mut Node, b: &mut Node) {
    let up = |arrival: &Arrival| matches!(arrival, Arrival::LinkUp { .. }).then_some(());
    futures::join!(a.until("link up", up), b.until("link up", up));
}

/// Waits, in real time, until `done`.
pub async fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < PATIENCE, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Ends when the other side closed the connection; gives how long that took.
pub async fn closed(stream: &mut TcpStream) -> Duration {
    let began = Instant::now();
    let mut sink = [0; 4096];
    let read = async { while matches!(stream.read(&mut sink).await, Ok(count) if count > 0) {} };
    timeout(PATIENCE, read).await.expect("the connection is closed");
    began.elapsed()
}

pub const MAGIC: &[u8] = b"synod\0\0\x01";

/// A frame, written by hand so that a change of the format is noticed here.
pub fn frame(payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes().to_vec();
    frame.extend(crc32fast::hash(payload).to_be_bytes());
    frame.extend(crc32fast::hash(&frame).to_be_bytes());
    frame.extend(payload);
    frame
}

async fn read_frame(stream: &mut TcpStream) -> Vec<u8> {
    let mut header = [0; 12];
    stream.read_exact(&mut header).await.unwrap();
    let mut payload = vec![0; u32::from_be_bytes(header[..4].try_into().unwrap()) as usize];
    stream.read_exact(&mut payload).await.unwrap();
    payload
}

/// Calls a node and shakes hands as `identity` does, by hand.
pub async fn call_as(identity: &Identity, address: &str) -> (TcpStream, Result<(), Refusal>) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(MAGIC).await.unwrap();
    stream.write_all(&frame(&codec::encode(&(identity, false)).unwrap())).await.unwrap();
    let mut magic = [0; 8];
    stream.read_exact(&mut magic).await.unwrap();
    assert_eq!(magic, MAGIC);
    let (_, _): (Identity, bool) = codec::decode(&read_frame(&mut stream).await).unwrap();
    stream.write_all(&frame(&codec::encode(&Ok::<(), Refusal>(())).unwrap())).await.unwrap();
    let verdict = codec::decode(&read_frame(&mut stream).await).unwrap();
    (stream, verdict)
}

/// A wire between two nodes that can be stopped: bytes are then swallowed and no end is told.
pub async fn wire(to: String) -> (String, tokio::sync::watch::Sender<bool>) {
    let listener = TcpListener::bind(LOOPBACK).await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (stopped, watch) = tokio::sync::watch::channel(false);
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            let Ok(far) = TcpStream::connect(&to).await else { continue };
            let ((near_read, near_write), (far_read, far_write)) = (near.into_split(), far.into_split());
            for (mut read, mut write) in [(near_read, far_write), (far_read, near_write)] {
                let watch = watch.clone();
                tokio::spawn(async move {
                    let mut bytes = [0; 4096];
                    while let Ok(count) = read.read(&mut bytes).await {
                        let stopped = *watch.borrow();
                        if stopped {
                            continue;
                        }
                        if count == 0 || write.write_all(&bytes[..count]).await.is_err() {
                            return;
                        }
                    }
                });
            }
        }
    });
    (address, stopped)
}
