//! The shell: whole nodes, with their actors, on one paused clock (unless a test is about threads).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod enduring;
mod failing;
mod faults;
mod flooding;
mod impostor;
mod law;
mod observing;
mod operating;
mod proposing;
mod recovering;
mod rot;
mod secrecy;
mod services;
mod sessions;
mod snapshots;
mod starting;
mod steady;
mod stopping;
mod throughput;
mod witness;

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;
use synod::multi::ProposerState;
use synod::{
    Builder, ClusterId, Config, Handle, Host, Member, MemberKind, Membership, MemoryStorage, Node, NodeId,
    Position, RestoreError, Snapshot, SnapshotReader, StartError, StateMachine,
};
use synod_channel::ChannelHub;

/// All that was ever added, in order.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Ledger {
    applied: Vec<(Position, u64)>,
}

impl Ledger {
    fn numbers(&self) -> Vec<u64> {
        self.applied.iter().map(|(_, number)| *number).collect()
    }
}

/// A number with some bytes to make it large.
pub type Entry = (u64, Vec<u8>);

impl StateMachine for Ledger {
    type Command = Entry;
    /// How many were applied, this one included.
    type Reply = usize;

    fn apply(&mut self, at: Position, (number, _): Entry) -> usize {
        self.applied.push((at, number));
        self.applied.len()
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot::of(self.clone())
    }

    fn restore(&mut self, mut snapshot: SnapshotReader<'_>) -> Result<(), RestoreError> {
        *self = snapshot.decode()?;
        Ok(())
    }
}

fn entry(number: u64) -> Entry {
    (number, Vec::new())
}

/// Runs `test` on one arbiter whose clock goes on whenever nothing else does.
fn simulate<T>(test: impl Future<Output = T>) -> T {
    let runtime =
        || tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    actix::System::with_tokio_rt(runtime).block_on(test)
}

/// What this thread logs goes to `subscriber` until the answer is dropped.
///
/// While there is one subscriber only, whoever logs first from a line of code decides whether that line is heard at all, and
/// other tests hear nothing. So there are two.
fn listen(
    subscriber: impl tracing::Subscriber + Send + Sync + 'static,
) -> (tracing::subscriber::DefaultGuard, tracing::Dispatch) {
    let deaf = tracing::Dispatch::new(tracing::subscriber::NoSubscriber::new());
    (tracing::subscriber::set_default(subscriber), deaf)
}

async fn pause(duration: Duration) {
    tokio::time::sleep(duration).await;
}

fn config(node: u64) -> Config {
    Config::new(ClusterId::new("tests").unwrap(), NodeId::new(node))
}

fn node(id: u64) -> NodeId {
    NodeId::new(id)
}

fn member(kind: MemberKind) -> Member {
    Member { kind, address: String::new() }
}

fn membership(nodes: u64) -> Membership {
    Membership::voters((1..=nodes).map(|node| (NodeId::new(node), ""))).unwrap()
}

/// Nodes on one hub, and their memories.
struct Cluster {
    hub: ChannelHub,
    size: u64,
    nodes: BTreeMap<u64, Node<Ledger>>,
    storages: BTreeMap<u64, MemoryStorage>,
    tune: fn(&mut Config),
}

impl Cluster {
    /// Bootstraps `size` nodes and waits until one leads.
    async fn start(size: u64) -> Self {
        Self::tuned(size, |_| {}).await
    }

    async fn tuned(size: u64, tune: fn(&mut Config)) -> Self {
        let mut cluster = Self::unformed(size, tune);
        for node in 1..=size {
            cluster.bootstrap(node).await;
        }
        cluster.leader().await;
        cluster
    }

    fn unformed(size: u64, tune: fn(&mut Config)) -> Self {
        let storages = (1..=size).map(|node| (node, MemoryStorage::with_seed(node))).collect();
        Self { hub: ChannelHub::new(), size, nodes: BTreeMap::new(), storages, tune }
    }

    async fn bootstrap(&mut self, node: u64) {
        let builder = Node::bootstrap(self.config(node), membership(self.size));
        self.run(node, builder.state_machine(Ledger::default)).await;
    }

    /// A new node that knows nobody but the hub.
    async fn join(&mut self, node: u64) {
        self.storages.insert(node, MemoryStorage::with_seed(node));
        let builder = Node::join(self.config(node));
        self.run(node, builder.state_machine(Ledger::default)).await;
    }

    async fn restart(&mut self, node: u64) {
        let builder = Node::restart(self.config(node));
        self.run(node, builder.state_machine(Ledger::default)).await;
    }

    fn config(&self, node: u64) -> Config {
        let mut config = config(node);
        (self.tune)(&mut config);
        config
    }

    async fn run(&mut self, node: u64, builder: Builder<Ledger>) {
        let started = self.try_run(node, builder).await.unwrap();
        self.nodes.insert(node, started);
    }

    async fn try_run<S: StateMachine>(&self, node: u64, builder: Builder<S>) -> Result<Node<S>, StartError> {
        builder
            .transport(self.hub.transport(NodeId::new(node)))
            .storage(self.storages[&node].clone())
            .host(Host::ThisArbiter)
            .seed(node)
            .start()
            .await
    }

    fn handle(&self, node: u64) -> Handle<Ledger> {
        self.nodes[&node].handle()
    }

    /// The node that leads, once one does and the others follow it.
    async fn leader(&self) -> u64 {
        for _ in 0..1000 {
            let mut leads = Vec::new();
            let mut follow = 0;
            for (node, running) in &self.nodes {
                let status = running.handle().status().await.unwrap();
                if matches!(status.proposer, ProposerState::Leading { .. }) {
                    leads.push((*node, status.leader));
                }
                follow += usize::from(status.leader.is_some());
            }
            if let [(node, leader)] = leads[..]
                && follow == self.nodes.len()
                && leader.is_some()
            {
                return node;
            }
            pause(Duration::from_millis(10)).await;
        }
        panic!("nobody leads");
    }

    async fn follower(&self) -> u64 {
        let leader = self.leader().await;
        *self.nodes.keys().find(|node| **node != leader).unwrap()
    }

    /// Drops a node and waits until it is gone.
    async fn kill(&mut self, node: u64) {
        let killed = self.nodes.remove(&node).unwrap();
        let handle = killed.handle();
        drop(killed);
        handle.stopped().await;
    }

    /// What a node has applied, once it has applied as much as the leader had.
    async fn numbers(&self, node: u64) -> Vec<u64> {
        self.handle(node).read(Ledger::numbers).await.unwrap()
    }
}
