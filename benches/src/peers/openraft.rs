//! `openraft`: three `Raft`s whose network is a call of the other one, which goes through its channel, as in the library's
//! own benchmark; a log in a vector and a state machine behind `storage-v2`, no snapshots.

use crate::asynchronous::{Applied, Client, Service};
use crate::cluster::Error;
use crate::digest::Digest;
use ::openraft::error::{InstallSnapshotError, NetworkError, RPCError, RaftError};
use ::openraft::network::RPCOption;
use ::openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse,
    VoteRequest, VoteResponse,
};
use ::openraft::storage::{LogFlushed, RaftLogStorage, RaftStateMachine};
use ::openraft::{
    BasicNode, Config, EntryPayload, LogId, LogState, Raft, RaftLogReader, RaftNetwork, RaftNetworkFactory,
    RaftSnapshotBuilder, Snapshot, SnapshotMeta, SnapshotPolicy, StorageError, StoredMembership, Vote,
};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io::Cursor;
use std::ops::{Bound, RangeBounds};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

/// A command, cheap to clone: the library clones entries for each follower.
#[derive(Clone, Debug)]
pub(crate) enum Command {
    Short([u8; 16]),
    Long(Bytes),
}

impl Command {
    fn copy(bytes: &[u8]) -> Self {
        let short = bytes.try_into().map(Self::Short);
        short.unwrap_or_else(|_| Self::Long(Bytes::copy_from_slice(bytes)))
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Self::Short(bytes) => bytes,
            Self::Long(bytes) => bytes,
        }
    }
}

::openraft::declare_raft_types!(
    /// The types of the measured cluster.
    pub(crate) Types: D = Command, R = u64
);

type Entry = ::openraft::Entry<Types>;
type Rpc<T, E = RaftError<u64>> = Result<T, RPCError<u64, BasicNode, E>>;
type Stored<T> = Result<T, StorageError<u64>>;

/// Three replicas for the async suite.
pub(crate) struct Rafts {
    router: Router,
    applied: Vec<Applied>,
}

impl Service for Rafts {
    type Client = Raft<Types>;

    async fn start(_clients: usize) -> Result<Self, Error> {
        let config = Config {
            heartbeat_interval: 200,
            election_timeout_min: 2000,
            election_timeout_max: 4000,
            max_payload_entries: 4096,
            snapshot_policy: SnapshotPolicy::Never,
            ..Config::default()
        };
        let config = Arc::new(config.validate()?);
        let mut all = Self { router: Router::default(), applied: Vec::new() };
        for id in 1..=3 {
            let machine = Machine::default();
            all.applied.push(machine.applied.clone());
            let (router, log) = (all.router.clone(), Log::default());
            let raft = Raft::new(id, Arc::clone(&config), router, log, machine).await?;
            all.router.write().insert(id, raft);
        }
        let members: BTreeMap<u64, BasicNode> = (1..=3).map(|id| (id, BasicNode::default())).collect();
        let leader = all.router.get(1)?;
        leader.initialize(members).await?;
        leader.wait(Some(Duration::from_secs(10))).current_leader(1, "the first leads").await?;
        Ok(all)
    }

    fn client(&self) -> Self::Client {
        self.router.read()[&1].clone()
    }

    async fn applied(&self) -> Result<Vec<Digest>, Error> {
        Ok(self.applied.iter().map(|applied| applied.change(|digest| *digest)).collect())
    }

    async fn stop(self) -> Result<(), Error> {
        let all = std::mem::take(&mut *self.router.write());
        for raft in all.into_values() {
            raft.shutdown().await?;
        }
        Ok(())
    }
}

impl Client for Raft<Types> {
    async fn call(&self, command: &[u8]) -> Result<u64, Error> {
        Ok(self.client_write(Command::copy(command)).await?.data)
    }
}

// -------------------------------------------------------------------- network

/// Where the replicas find each other.
#[derive(Clone, Default)]
struct Router(Arc<RwLock<BTreeMap<u64, Raft<Types>>>>);

impl Router {
    fn read(&self) -> std::sync::RwLockReadGuard<'_, BTreeMap<u64, Raft<Types>>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, BTreeMap<u64, Raft<Types>>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, id: u64) -> Result<Raft<Types>, Gone> {
        self.read().get(&id).cloned().ok_or(Gone)
    }
}

#[derive(Debug, Clone, Copy)]
struct Gone;

impl std::fmt::Display for Gone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the replica is gone")
    }
}

impl std::error::Error for Gone {}

/// The way to one replica.
struct Link {
    router: Router,
    to: u64,
}

impl Link {
    #[allow(clippy::result_large_err)] // It is openraft's own.
    fn peer<E: std::error::Error>(&self) -> Rpc<Raft<Types>, E> {
        self.router.get(self.to).map_err(|gone| RPCError::Network(NetworkError::new(&gone)))
    }
}

fn refused<E: std::error::Error + 'static>(error: E) -> RPCError<u64, BasicNode, E> {
    RPCError::Network(NetworkError::new(&error))
}

impl RaftNetworkFactory<Types> for Router {
    type Network = Link;

    async fn new_client(&mut self, to: u64, _node: &BasicNode) -> Link {
        Link { router: self.clone(), to }
    }
}

impl RaftNetwork<Types> for Link {
    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Types>,
        _option: RPCOption,
    ) -> Rpc<AppendEntriesResponse<u64>> {
        self.peer()?.append_entries(request).await.map_err(refused)
    }

    async fn install_snapshot(
        &mut self,
        request: InstallSnapshotRequest<Types>,
        _option: RPCOption,
    ) -> Rpc<InstallSnapshotResponse<u64>, RaftError<u64, InstallSnapshotError>> {
        self.peer()?.install_snapshot(request).await.map_err(refused)
    }

    async fn vote(&mut self, request: VoteRequest<u64>, _option: RPCOption) -> Rpc<VoteResponse<u64>> {
        self.peer()?.vote(request).await.map_err(refused)
    }
}

// -------------------------------------------------------------------- storage

/// The log in memory: a vector, whose entries are never purged.
#[derive(Clone, Debug, Default)]
struct Log(Arc<Mutex<Entries>>);

#[derive(Debug, Default)]
struct Entries {
    entries: Vec<Entry>,
    vote: Option<Vote<u64>>,
}

impl Log {
    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RaftLogReader<Types> for Log {
    async fn try_get_log_entries<R: RangeBounds<u64> + Clone + Debug + Send>(
        &mut self,
        range: R,
    ) -> Stored<Vec<Entry>> {
        let log = self.lock();
        let count = log.entries.len();
        let bound = |bound: Bound<&u64>, included: u64, open: usize| match bound {
            Bound::Included(at) => usize::try_from(at + included).unwrap_or(count).min(count),
            Bound::Excluded(at) => usize::try_from(at + 1 - included).unwrap_or(count).min(count),
            Bound::Unbounded => open,
        };
        let (first, end) = (bound(range.start_bound(), 0, 0), bound(range.end_bound(), 1, count));
        Ok(log.entries.get(first..end).unwrap_or_default().to_vec())
    }
}

impl RaftLogStorage<Types> for Log {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Stored<LogState<Types>> {
        let last_log_id = self.lock().entries.last().map(|entry| entry.log_id);
        Ok(LogState { last_purged_log_id: None, last_log_id })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote<u64>) -> Stored<()> {
        self.lock().vote = Some(*vote);
        Ok(())
    }

    async fn read_vote(&mut self) -> Stored<Option<Vote<u64>>> {
        Ok(self.lock().vote)
    }

    async fn append<I>(&mut self, entries: I, flushed: LogFlushed<Types>) -> Stored<()>
    where
        I: IntoIterator<Item = Entry> + Send,
        I::IntoIter: Send,
    {
        self.lock().entries.extend(entries);
        flushed.log_io_completed(Ok(()));
        Ok(())
    }

    async fn truncate(&mut self, from: LogId<u64>) -> Stored<()> {
        self.lock().entries.retain(|entry| entry.log_id.index < from.index);
        Ok(())
    }

    async fn purge(&mut self, _through: LogId<u64>) -> Stored<()> {
        Ok(())
    }
}

/// Folds commands into a digest.
#[derive(Clone, Debug, Default)]
struct Machine {
    applied: Applied,
    last: Option<LogId<u64>>,
    membership: StoredMembership<u64, BasicNode>,
}

impl Machine {
    fn meta(&self) -> SnapshotMeta<u64, BasicNode> {
        let last_membership = self.membership.clone();
        SnapshotMeta { last_log_id: self.last, last_membership, snapshot_id: format!("{:?}", self.last) }
    }
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> Stored<(Option<LogId<u64>>, StoredMembership<u64, BasicNode>)> {
        Ok((self.last, self.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Stored<Vec<u64>>
    where
        I: IntoIterator<Item = Entry> + Send,
        I::IntoIter: Send,
    {
        let Self { applied, last, membership } = self;
        Ok(applied.change(|digest| {
            let replies = entries.into_iter().map(|entry| {
                *last = Some(entry.log_id);
                match entry.payload {
                    EntryPayload::Blank => {}
                    EntryPayload::Normal(command) => digest.add(command.bytes()),
                    EntryPayload::Membership(new) => {
                        *membership = StoredMembership::new(Some(entry.log_id), new);
                    }
                }
                digest.count()
            });
            replies.collect()
        }))
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn begin_receiving_snapshot(&mut self) -> Stored<Box<Cursor<Vec<u8>>>> {
        Ok(Box::default())
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta<u64, BasicNode>,
        snapshot: Box<Cursor<Vec<u8>>>,
    ) -> Stored<()> {
        let bytes = snapshot.into_inner().try_into().unwrap_or_default();
        self.applied.change(|digest| *digest = Digest::from_bytes(bytes));
        (self.last, self.membership) = (meta.last_log_id, meta.last_membership.clone());
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Stored<Option<Snapshot<Types>>> {
        Ok(None)
    }
}

impl RaftSnapshotBuilder<Types> for Machine {
    async fn build_snapshot(&mut self) -> Stored<Snapshot<Types>> {
        let bytes = self.applied.change(|digest| digest.to_bytes()).to_vec();
        Ok(Snapshot { meta: self.meta(), snapshot: Box::new(Cursor::new(bytes)) })
    }
}
