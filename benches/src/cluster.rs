//! Clusters in one process, whose state machine keeps a counter only.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::time::Duration;
use synod::{
    ClusterId, Config, FileStorage, Handle, Host, Membership, MemoryStorage, Node, NodeId, Position,
    ProposeError, RestoreError, Snapshot, SnapshotReader, StateMachine,
};
use synod_channel::ChannelHub;
use synod_tcp::Tcp;

/// 16 bytes: what a client proposes here.
pub(crate) type Payload = (u64, u64);

/// Counts commands.
#[derive(Debug, Default)]
pub(crate) struct Counter(u64);

impl StateMachine for Counter {
    type Command = Payload;
    type Reply = u64;
    fn apply(&mut self, _at: Position, _command: Payload) -> u64 {
        self.0 += 1;
        self.0
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot::of(self.0)
    }

    fn restore(&mut self, mut snapshot: SnapshotReader<'_>) -> Result<(), RestoreError> {
        self.0 = snapshot.decode()?;
        Ok(())
    }
}

pub(crate) type Error = Box<dyn std::error::Error>;

/// The members of a cluster.
#[derive(Debug)]
pub(crate) struct Cluster {
    nodes: Vec<Node<Counter>>,
}

const SIZE: u64 = 3;

fn config(node: NodeId) -> Result<Config, Error> {
    Ok(Config::new(ClusterId::new("bench")?, node))
}

fn ids() -> impl Iterator<Item = NodeId> {
    (1..=SIZE).map(NodeId::new)
}

impl Cluster {
    /// Three nodes on this arbiter: channels, memory.
    pub(crate) async fn in_memory() -> Result<Self, Error> {
        let hub = ChannelHub::new();
        let membership = Membership::voters(ids().map(|id| (id, "")))?;
        let mut nodes = Vec::new();
        for id in ids() {
            let node = Node::bootstrap(config(id)?, membership.clone())
                .transport(hub.transport(id))
                .storage(MemoryStorage::default())
                .host(Host::ThisArbiter)
                .state_machine(Counter::default);
            nodes.push(node.start().await?);
        }
        Ok(Self { nodes })
    }

    /// Three nodes with a thread each: channels, files below `dir`.
    pub(crate) async fn on_disk(dir: &Path) -> Result<Self, Error> {
        let hub = ChannelHub::new();
        let membership = Membership::voters(ids().map(|id| (id, "")))?;
        let mut nodes = Vec::new();
        for id in ids() {
            let node = Node::bootstrap(config(id)?, membership.clone())
                .transport(hub.transport(id))
                .storage(FileStorage::at(dir.join(id.to_string())))
                .state_machine(Counter::default);
            nodes.push(node.start().await?);
        }
        Ok(Self { nodes })
    }

    /// Three nodes with a thread each: TCP on loopback, files below `dir`.
    pub(crate) async fn over_tcp(dir: &Path) -> Result<Self, Error> {
        let addresses = free_addresses()?;
        let peers: Vec<(NodeId, String)> = ids().zip(addresses.iter().map(ToString::to_string)).collect();
        let membership = Membership::voters(peers.clone())?;
        let mut nodes = Vec::new();
        for (id, address) in ids().zip(&addresses) {
            let node = Node::bootstrap(config(id)?, membership.clone())
                .transport(Tcp::insecure(*address, peers.clone())?)
                .storage(FileStorage::at(dir.join(id.to_string())))
                .state_machine(Counter::default);
            nodes.push(node.start().await?);
        }
        Ok(Self { nodes })
    }

    /// A handle of the leader, once there is one and it has applied a command.
    pub(crate) async fn leader(&self) -> Result<Handle<Counter>, Error> {
        for _ in 0..500 {
            for node in &self.nodes {
                let handle = node.handle();
                let status = handle.status().await?;
                if status.leader.is_some_and(|leader| leader.node == status.node)
                    && handle.propose((0, 0)).await.is_ok()
                {
                    return Ok(handle);
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Err("no leader within ten seconds".into())
    }

    /// Stops all nodes.
    pub(crate) async fn stop(self) -> Result<(), Error> {
        for node in self.nodes {
            node.shutdown().await?;
        }
        Ok(())
    }
}

fn free_addresses() -> std::io::Result<Vec<SocketAddr>> {
    let listeners: Vec<TcpListener> =
        (0..SIZE).map(|_| TcpListener::bind(("127.0.0.1", 0))).collect::<std::io::Result<_>>()?;
    listeners.iter().map(TcpListener::local_addr).collect()
}

/// `clients` callers that each propose one command after the other, until `count` are answered in all.
pub(crate) async fn closed_loop(
    handle: &Handle<Counter>,
    clients: u64,
    count: u64,
) -> Result<(), ProposeError> {
    let callers = (0..clients).map(|client| async move {
        let share = count / clients + u64::from(client < count % clients);
        for number in 0..share {
            handle.propose((client, number)).await?;
        }
        Ok(())
    });
    futures::future::try_join_all(callers).await.map(drop)
}
