//! Clusters in one process, whose state machine keeps a counter, and a ballast where snapshots shall have a size.

use std::io::Read;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use synod::{
    ClusterId, Config, FileStorage, Handle, Host, Membership, MemoryStorage, Node, NodeId, Position,
    ProposeError, RestoreError, Snapshot, SnapshotReader, StateMachine,
};
use synod_channel::ChannelHub;
use synod_tcp::Tcp;

/// 16 bytes: what a client proposes here.
pub(crate) type Payload = (u64, u64);

/// Counts commands, and carries bytes that stand for a state.
#[derive(Debug)]
pub(crate) struct Counter {
    count: u64,
    ballast: Arc<Vec<u8>>,
}

impl Counter {
    fn with_ballast(bytes: usize) -> Self {
        // Nothing that a file system could leave out.
        let ballast = (0..bytes).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        Self { count: 0, ballast: Arc::new(ballast) }
    }

    /// How many commands were applied.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }
}

impl StateMachine for Counter {
    type Command = Payload;
    type Reply = u64;
    fn apply(&mut self, _at: Position, _command: Payload) -> u64 {
        self.count += 1;
        self.count
    }

    fn snapshot(&self) -> Snapshot {
        let (count, ballast) = (self.count, Arc::clone(&self.ballast));
        Snapshot::new(move |out| {
            out.write_all(&count.to_be_bytes())?;
            out.write_all(&ballast)
        })
    }

    fn restore(&mut self, mut snapshot: SnapshotReader<'_>) -> Result<(), RestoreError> {
        let (mut count, mut ballast) = ([0; 8], Vec::new());
        snapshot.read_exact(&mut count)?;
        snapshot.read_to_end(&mut ballast)?;
        *self = Self { count: u64::from_be_bytes(count), ballast: Arc::new(ballast) };
        Ok(())
    }
}

pub(crate) type Error = Box<dyn std::error::Error>;

/// What distinguishes one measured cluster from another.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// How many first members.
    pub(crate) size: u64,
    /// Bytes of state beside the counter.
    pub(crate) ballast: usize,
    /// Changes the configuration of each node.
    pub(crate) tune: fn(&mut Config),
}

impl Default for Plan {
    fn default() -> Self {
        Self { size: 3, ballast: 0, tune: |_| {} }
    }
}

/// The members of a cluster.
#[derive(Debug)]
pub(crate) struct Cluster {
    plan: Plan,
    dir: PathBuf,
    peers: Vec<(NodeId, String)>,
    nodes: Vec<Node<Counter>>,
}

impl Plan {
    fn config(&self, node: NodeId) -> Result<Config, Error> {
        let mut config = Config::new(ClusterId::new("bench")?, node);
        (self.tune)(&mut config);
        Ok(config)
    }

    fn ids(&self) -> impl Iterator<Item = NodeId> + use<> {
        (1..=self.size).map(NodeId::new)
    }

    fn factory(&self) -> impl Fn() -> Counter + Send + Sync + 'static {
        let ballast = self.ballast;
        move || Counter::with_ballast(ballast)
    }

    /// Nodes on this arbiter: channels, memory.
    pub(crate) async fn in_memory(self) -> Result<Cluster, Error> {
        let hub = ChannelHub::new();
        let membership = Membership::voters(self.ids().map(|id| (id, "")))?;
        let mut nodes = Vec::new();
        for id in self.ids() {
            let node = Node::bootstrap(self.config(id)?, membership.clone())
                .transport(hub.transport(id))
                .storage(MemoryStorage::default())
                .host(Host::ThisArbiter)
                .state_machine(self.factory());
            nodes.push(node.start().await?);
        }
        Ok(Cluster { plan: self, dir: PathBuf::new(), peers: Vec::new(), nodes })
    }

    /// Nodes with a thread each: channels, files below `dir`.
    pub(crate) async fn on_disk(self, dir: &Path) -> Result<Cluster, Error> {
        let hub = ChannelHub::new();
        let membership = Membership::voters(self.ids().map(|id| (id, "")))?;
        let mut nodes = Vec::new();
        for id in self.ids() {
            let node = Node::bootstrap(self.config(id)?, membership.clone())
                .transport(hub.transport(id))
                .storage(FileStorage::at(dir.join(id.to_string())))
                .state_machine(self.factory());
            nodes.push(node.start().await?);
        }
        Ok(Cluster { plan: self, dir: dir.to_path_buf(), peers: Vec::new(), nodes })
    }

    /// Nodes with a thread each: TCP on loopback, files below `dir`.
    pub(crate) async fn over_tcp(self, dir: &Path) -> Result<Cluster, Error> {
        let addresses = free_addresses(self.size)?;
        let peers: Vec<(NodeId, String)> =
            self.ids().zip(addresses.iter().map(ToString::to_string)).collect();
        let membership = Membership::voters(peers.clone())?;
        let mut nodes = Vec::new();
        for (id, address) in self.ids().zip(&addresses) {
            let node = Node::bootstrap(self.config(id)?, membership.clone())
                .transport(Tcp::insecure(*address, peers.clone())?)
                .storage(FileStorage::at(dir.join(id.to_string())))
                .state_machine(self.factory());
            nodes.push(node.start().await?);
        }
        Ok(Cluster { plan: self, dir: dir.to_path_buf(), peers, nodes })
    }

    /// The only member of a cluster that stopped, started again on its files below `dir`.
    pub(crate) async fn restart_alone(self, dir: &Path) -> Result<Cluster, Error> {
        let id = NodeId::new(1);
        let node = Node::restart(self.config(id)?)
            .transport(ChannelHub::new().transport(id))
            .storage(FileStorage::at(dir.join(id.to_string())))
            .state_machine(self.factory());
        let nodes = vec![node.start().await?];
        Ok(Cluster { plan: self, dir: dir.to_path_buf(), peers: Vec::new(), nodes })
    }
}

impl Cluster {
    /// A handle of the leader, once there is one and it has applied a command.
    pub(crate) async fn leader(&self) -> Result<Handle<Counter>, Error> {
        for _ in 0..500 {
            for handle in self.handles() {
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

    /// The handles of all nodes.
    pub(crate) fn handles(&self) -> impl Iterator<Item = Handle<Counter>> {
        self.nodes.iter().map(Node::handle)
    }

    /// One more node, over TCP, that knows nothing yet and starts without the ballast.
    pub(crate) async fn join(&mut self) -> Result<Handle<Counter>, Error> {
        let id = NodeId::new(self.nodes.len() as u64 + 1);
        let address = *free_addresses(1)?.first().ok_or("no free port")?;
        let node = Node::join(self.plan.config(id)?)
            .transport(Tcp::insecure(address, self.peers.clone())?)
            .storage(FileStorage::at(self.dir.join(id.to_string())))
            .state_machine(|| Counter::with_ballast(0));
        let node = node.start().await?;
        let handle = node.handle();
        self.nodes.push(node);
        Ok(handle)
    }

    /// Whether every node comes to have applied as many commands as the first says now.
    pub(crate) async fn check_equal(&self) -> Result<(), Error> {
        let leader = self.leader().await?;
        let count = leader.read(Counter::count).await?;
        for handle in self.handles() {
            let theirs = handle.read(Counter::count).await?;
            if theirs < count {
                return Err(format!("a node has applied {theirs} commands, the leader {count}").into());
            }
        }
        Ok(())
    }

    /// Stops all nodes.
    pub(crate) async fn stop(self) -> Result<(), Error> {
        for node in self.nodes {
            node.shutdown().await?;
        }
        Ok(())
    }
}

fn free_addresses(count: u64) -> std::io::Result<Vec<SocketAddr>> {
    let listeners: Vec<TcpListener> =
        (0..count).map(|_| TcpListener::bind(("127.0.0.1", 0))).collect::<std::io::Result<_>>()?;
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
