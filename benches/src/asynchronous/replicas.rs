//! Synod's replicas of the async suite: whole nodes with their defaults, hosted on the caller's arbiter.

use super::{Client, Service};
use crate::cluster::Error;
use crate::digest::Digest;
use bytes::Bytes;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::io::Read;
use std::time::Duration;
use synod::{
    ClusterId, Config, Handle, Host, Membership, MemoryStorage, Node, NodeId, Position, RestoreError,
    Snapshot, SnapshotReader, StateMachine,
};
use synod_channel::ChannelHub;

/// What clients propose: any type that serde knows.
pub(crate) trait Command: Serialize + DeserializeOwned + Send + 'static {
    fn copy(bytes: &[u8]) -> Self;
    fn digest(&self, digest: &mut Digest);
}

/// 16 bytes.
#[derive(Debug)]
pub(crate) struct Short([u8; 16]);

/// Any number of bytes.
pub(crate) type Long = Bytes;

impl Command for Short {
    fn copy(bytes: &[u8]) -> Self {
        Self(bytes.try_into().unwrap_or_default())
    }

    fn digest(&self, digest: &mut Digest) {
        digest.add(&self.0);
    }
}

impl Serialize for Short {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Short {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes: &[u8] = Deserialize::deserialize(deserializer)?;
        bytes.try_into().map(Self).map_err(D::Error::custom)
    }
}

impl Command for Long {
    fn copy(bytes: &[u8]) -> Self {
        Self::copy_from_slice(bytes)
    }

    fn digest(&self, digest: &mut Digest) {
        digest.add(self);
    }
}

/// Folds commands into a digest.
#[derive(Debug)]
pub(crate) struct Folding<C> {
    digest: Digest,
    commands: std::marker::PhantomData<fn(C)>,
}

impl<C> Folding<C> {
    fn new(digest: Digest) -> Self {
        Self { digest, commands: std::marker::PhantomData }
    }
}

impl<C: Command> StateMachine for Folding<C> {
    type Command = C;
    type Reply = u64;

    fn apply(&mut self, _at: Position, command: C) -> u64 {
        command.digest(&mut self.digest);
        self.digest.count()
    }

    fn snapshot(&self) -> Snapshot {
        let bytes = self.digest.to_bytes();
        Snapshot::new(move |out| out.write_all(&bytes))
    }

    fn restore(&mut self, mut snapshot: SnapshotReader<'_>) -> Result<(), RestoreError> {
        let mut bytes = [0; 16];
        snapshot.read_exact(&mut bytes)?;
        *self = Self::new(Digest::from_bytes(bytes));
        Ok(())
    }
}

/// Three nodes, and the leader's handle.
pub(crate) struct Trio<C: Command> {
    nodes: Vec<Node<Folding<C>>>,
    leader: Handle<Folding<C>>,
}

impl<C: Command> Service for Trio<C> {
    type Client = Handle<Folding<C>>;

    async fn start(_clients: usize) -> Result<Self, Error> {
        let hub = ChannelHub::new();
        let ids = [1, 2, 3].map(NodeId::new);
        let membership = Membership::voters(ids.map(|id| (id, "")))?;
        let mut nodes = Vec::new();
        for id in ids {
            let config = Config::new(ClusterId::new("bench")?, id);
            let node = Node::bootstrap(config, membership.clone())
                .transport(hub.transport(id))
                .storage(MemoryStorage::default())
                .host(Host::ThisArbiter)
                .state_machine(|| Folding::new(Digest::default()));
            nodes.push(node.start().await?);
        }
        for _ in 0..1000 {
            for handle in nodes.iter().map(Node::handle) {
                let status = handle.status().await?;
                // A read proves the lead.
                if status.leader.is_some_and(|leader| leader.node == status.node)
                    && handle.read(|_| ()).await.is_ok()
                {
                    return Ok(Self { nodes, leader: handle });
                }
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Err("no leader within ten seconds".into())
    }

    fn client(&self) -> Self::Client {
        self.leader.clone()
    }

    async fn applied(&self) -> Result<Vec<Digest>, Error> {
        let mut applied = Vec::new();
        for node in &self.nodes {
            applied.push(node.handle().read(|machine| machine.digest).await?);
        }
        Ok(applied)
    }

    async fn stop(self) -> Result<(), Error> {
        for node in self.nodes {
            node.shutdown().await?;
        }
        Ok(())
    }
}

impl<C: Command> Client for Handle<Folding<C>> {
    async fn call(&self, command: &[u8]) -> Result<u64, Error> {
        Ok(self.propose(C::copy(command)).await?)
    }
}
