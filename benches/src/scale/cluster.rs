//! Clusters in one process for commands of any size, whose state is a count and a digest, and whose messages are counted.

use crate::cluster::Error;
use crate::digest::Digest;
use async_trait::async_trait;
use bytes::Bytes;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use synod::multi::Jitter;
use synod::transport::{Envelope, Inbox, SendOutcome, Transport, TransportError};
use synod::{
    ClusterId, Config, FileStorage, Handle, Host, Membership, MemoryStorage, Node, NodeId, Position,
    RestoreError, Snapshot, SnapshotReader, StateMachine,
};
use synod_channel::{ChannelHub, ChannelTransport};

/// The state: how many commands there were, and which.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Log(Digest);

impl StateMachine for Log {
    type Command = Bytes;
    type Reply = u64;

    fn apply(&mut self, _at: Position, command: Bytes) -> u64 {
        self.0.add(&command);
        self.0.count()
    }

    fn snapshot(&self) -> Snapshot {
        let bytes = self.0.to_bytes();
        Snapshot::new(move |out| out.write_all(&bytes))
    }

    fn restore(&mut self, mut snapshot: SnapshotReader<'_>) -> Result<(), RestoreError> {
        let mut bytes = [0; 16];
        snapshot.read_exact(&mut bytes)?;
        self.0 = Digest::from_bytes(bytes);
        Ok(())
    }
}

/// Channels, with a count of what was sent, and a loss.
#[derive(Debug)]
struct Counting {
    channel: Arc<ChannelTransport>,
    sent: Arc<AtomicU64>,
    loses_one_of: u64,
}

#[async_trait]
impl Transport for Counting {
    fn send(&self, to: NodeId, envelope: &Envelope) -> SendOutcome {
        let number = self.sent.fetch_add(1, Ordering::Relaxed);
        // Spread, so that it hits messages of every kind.
        if self.loses_one_of > 0 && Jitter::new(number).draw().is_multiple_of(self.loses_one_of) {
            return SendOutcome::Queued;
        }
        self.channel.send(to, envelope)
    }

    async fn run(self: Arc<Self>, inbox: Inbox) -> Result<(), TransportError> {
        Arc::clone(&self.channel).run(inbox).await
    }
}

/// What distinguishes one cluster from another.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    pub(crate) replicas: u64,
    /// Files below here, and a thread for each node; otherwise memory, and all nodes on this arbiter.
    pub(crate) files: Option<PathBuf>,
    pub(crate) tune: fn(&mut Config),
    /// One message of so many is lost; 0 for none.
    pub(crate) loses_one_of: u64,
}

impl Shape {
    pub(crate) fn in_memory(replicas: u64) -> Self {
        Self { replicas, files: None, tune: |_| {}, loses_one_of: 0 }
    }

    pub(crate) fn on_disk(dir: &Path) -> Self {
        Self { replicas: 3, files: Some(dir.to_path_buf()), tune: |_| {}, loses_one_of: 0 }
    }

    pub(crate) async fn start(&self) -> Result<Cluster, Error> {
        let hub = ChannelHub::new();
        let sent = Arc::new(AtomicU64::new(0));
        let ids = || (1..=self.replicas).map(NodeId::new);
        let membership = Membership::voters(ids().map(|id| (id, "")))?;
        let mut nodes = Vec::new();
        for id in ids() {
            let mut config = Config::new(ClusterId::new("bench")?, id);
            (self.tune)(&mut config);
            let channel = Arc::new(hub.transport(id));
            let loses_one_of = self.loses_one_of;
            let transport = Counting { channel, sent: Arc::clone(&sent), loses_one_of };
            let node = Node::bootstrap(config, membership.clone()).transport(transport);
            let node = match &self.files {
                Some(dir) => {
                    let storage = FileStorage::at(dir.join(id.to_string()));
                    node.storage(storage).state_machine(Log::default).start().await?
                }
                None => {
                    let node = node.storage(MemoryStorage::default()).host(Host::ThisArbiter);
                    node.state_machine(Log::default).start().await?
                }
            };
            nodes.push(node);
        }
        let leader = lead(&nodes).await?;
        Ok(Cluster { nodes, leader, sent, proposed: 1 })
    }
}

/// A handle of the leader, which has applied one command.
async fn lead(nodes: &[Node<Log>]) -> Result<Handle<Log>, Error> {
    for _ in 0..500 {
        for handle in nodes.iter().map(Node::handle) {
            let status = handle.status().await?;
            let leads = status.leader.is_some_and(|leader| leader.node == status.node);
            if leads {
                handle.propose(payload(16, 0, 0)).await?;
                return Ok(handle);
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Err("no leader within ten seconds".into())
}

/// A cluster that has a leader.
#[derive(Debug)]
pub(crate) struct Cluster {
    nodes: Vec<Node<Log>>,
    leader: Handle<Log>,
    sent: Arc<AtomicU64>,
    /// Commands that were answered so far.
    proposed: u64,
}

impl Cluster {
    /// `clients` callers that each propose one command of `bytes` after the other, until `count` are answered in all.
    pub(crate) async fn closed_loop(&mut self, clients: u64, count: u64, bytes: usize) -> Result<(), Error> {
        let leader = &self.leader;
        let callers = (0..clients).map(|client| async move {
            let share = count / clients + u64::from(client < count % clients);
            for number in 0..share {
                leader.propose(payload(bytes, client, number)).await?;
            }
            Ok::<_, Error>(())
        });
        futures::future::try_join_all(callers).await?;
        self.proposed += count;
        // Where another node leads now, commands were forwarded: that is another measure.
        let status = self.leader.status().await?;
        if status.leader.is_some_and(|leader| leader.node == status.node) {
            Ok(())
        } else {
            Err("the leader changed under load".into())
        }
    }

    /// Answered commands per second of such a loop.
    pub(crate) async fn rate(&mut self, clients: u64, count: u64, bytes: usize) -> Result<f64, Error> {
        let begin = Instant::now();
        self.closed_loop(clients, count, bytes).await?;
        Ok(count as f64 / begin.elapsed().as_secs_f64())
    }

    /// Answered reads per second on the leader, by leases or confirmed by others.
    pub(crate) async fn read_rate(&self, clients: u64, count: u64, lease: bool) -> Result<f64, Error> {
        let leader = &self.leader;
        let begin = Instant::now();
        let callers = (0..clients).map(|_| async move {
            for _ in 0..count / clients {
                let seen = |log: &Log| log.0.count();
                let answer = if lease { leader.read_lease(seen).await } else { leader.read(seen).await };
                answer?;
            }
            Ok::<_, Error>(())
        });
        futures::future::try_join_all(callers).await?;
        Ok((count / clients * clients) as f64 / begin.elapsed().as_secs_f64())
    }

    /// Messages that any node has sent to another so far.
    pub(super) fn messages(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// How many slots the leader has applied.
    pub(super) async fn slots(&self) -> Result<u64, Error> {
        Ok(self.leader.status().await?.applied_through.get())
    }

    /// Whether every node has applied every command that was answered, and the same ones in the same order; then stops all.
    pub(crate) async fn check_and_stop(self) -> Result<(), Error> {
        let ours = self.leader.read(|log| log.0).await?;
        if ours.count() != self.proposed {
            return Err(format!("{} commands were answered, {} applied", self.proposed, ours.count()).into());
        }
        for node in &self.nodes {
            let theirs = node.handle().read(|log| log.0).await?;
            if theirs != ours {
                return Err(format!("a node has {theirs:?}, the leader {ours:?}").into());
            }
        }
        for node in self.nodes {
            node.shutdown().await?;
        }
        Ok(())
    }
}

/// A command of `bytes`, at least 16, that is like no other of the same loop.
fn payload(bytes: usize, client: u64, number: u64) -> Bytes {
    let mut payload = vec![7; bytes];
    payload[..8].copy_from_slice(&client.to_le_bytes());
    payload[8..16].copy_from_slice(&number.to_le_bytes());
    payload.into()
}
