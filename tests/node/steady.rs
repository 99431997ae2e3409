//! Full load on slow disks, over a network that loses: nobody may think that the leader is gone.
//!
//! Threads and real time: a heartbeat that waits behind the load is what this is about. `SYNOD_STEADY_SECONDS` says for how long
//! (30 where it is not set; the nightly run takes 600).

use crate::{config, membership};
use async_trait::async_trait;
use bytes::Bytes;
use futures::future::try_join_all;
use futures::{FutureExt, StreamExt};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use synod::multi::{Entry, Group, Jitter, Owner, Record, Slot, SnapshotId};
use synod::storage::{Recovered, Start, StorageError};
use synod::transport::{Envelope, Inbox, SendOutcome, Transport, TransportError};
use synod::{
    Handle, MemoryStorage, Node, NodeId, Position, ProposalId, ProposeError, RestoreError, Snapshot,
    SnapshotReader, StateMachine, Storage,
};
use synod_channel::{ChannelHub, ChannelTransport};

const CLIENTS: u64 = 512;
const COMMAND_BYTES: usize = 1024;
/// Of so many messages one is lost.
const LOSES_ONE_OF: u64 = 100;
/// What a write takes.
const FLUSH: Duration = Duration::from_millis(8);
/// One write of so many takes much longer.
const STALLS_ONE_OF: u64 = 100;
const STALL: Duration = Duration::from_millis(200);

/// Numbers that look drawn, from a count: several threads may ask.
#[derive(Debug)]
struct Dice {
    seed: u64,
    thrown: AtomicU64,
}

impl Dice {
    fn new(seed: u64) -> Self {
        Self { seed, thrown: AtomicU64::new(0) }
    }

    fn one_of(&self, many: u64) -> bool {
        let number = self.thrown.fetch_add(1, Ordering::Relaxed);
        Jitter::new(self.seed << 40 | number).draw().is_multiple_of(many)
    }
}

/// A memory whose writes take as long as those of a slow disk.
struct SlowDisk {
    memory: MemoryStorage,
    dice: Dice,
}

#[async_trait]
impl Storage for SlowDisk {
    async fn open(&self, owner: Owner, start: Start) -> Result<Recovered, StorageError> {
        self.memory.open(owner, start).await
    }

    async fn recover(&self) -> Result<Recovered, StorageError> {
        self.memory.recover().await
    }

    async fn append(&self, group: Group) -> Result<(), StorageError> {
        tokio::time::sleep(if self.dice.one_of(STALLS_ONE_OF) { STALL } else { FLUSH }).await;
        self.memory.append(group).await
    }

    async fn read(&self, slots: Range<Slot>, bytes_max: usize) -> Result<Vec<(Slot, Entry)>, StorageError> {
        self.memory.read(slots, bytes_max).await
    }

    async fn trim(&self, through: Slot, facts: Vec<Record>) -> Result<Slot, StorageError> {
        tokio::time::sleep(FLUSH).await;
        self.memory.trim(through, facts).await
    }

    async fn begin_snapshot(&self, through: Slot, expected: Option<SnapshotId>) -> Result<u64, StorageError> {
        self.memory.begin_snapshot(through, expected).await
    }

    async fn write_snapshot(&self, at: u64, bytes: Bytes) -> Result<(), StorageError> {
        self.memory.write_snapshot(at, bytes).await
    }

    async fn seal_snapshot(&self) -> Result<SnapshotId, StorageError> {
        tokio::time::sleep(FLUSH).await;
        self.memory.seal_snapshot().await
    }

    async fn read_snapshot(&self, id: SnapshotId, at: u64, bytes_max: usize) -> Result<Bytes, StorageError> {
        self.memory.read_snapshot(id, at, bytes_max).await
    }

    fn log_bytes(&self) -> u64 {
        self.memory.log_bytes()
    }

    async fn close(&self) -> Result<(), StorageError> {
        self.memory.close().await
    }
}

/// Channels that lose messages of every kind, on their way out.
struct Lossy {
    channel: Arc<ChannelTransport>,
    dice: Dice,
    lost: Arc<AtomicU64>,
}

#[async_trait]
impl Transport for Lossy {
    fn send(&self, to: NodeId, envelope: &Envelope) -> SendOutcome {
        if self.dice.one_of(LOSES_ONE_OF) {
            self.lost.fetch_add(1, Ordering::Relaxed);
            return SendOutcome::Queued;
        }
        self.channel.send(to, envelope)
    }

    async fn run(self: Arc<Self>, inbox: Inbox) -> Result<(), TransportError> {
        Arc::clone(&self.channel).run(inbox).await
    }
}

/// How many commands there were.
#[derive(Clone, Debug, Default)]
struct Tally(u64);

impl StateMachine for Tally {
    type Command = Bytes;
    type Reply = u64;

    fn apply(&mut self, _at: Position, _command: Bytes) -> u64 {
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

fn time_to_run() -> Duration {
    let seconds = std::env::var("SYNOD_STEADY_SECONDS").map(|seconds| seconds.parse().unwrap());
    Duration::from_secs(seconds.unwrap_or(30))
}

/// The leader that all of them follow, under an id that all have promised.
async fn common_leader(handles: &[Handle<Tally>]) -> Option<ProposalId> {
    let mut leaders = Vec::new();
    for handle in handles {
        let status = handle.status().await.unwrap();
        leaders.push(status.leader.filter(|leader| status.promised == Some(*leader)));
    }
    leaders.iter().all(|leader| *leader == leaders[0]).then_some(leaders[0]).flatten()
}

async fn elected(handles: &[Handle<Tally>]) -> ProposalId {
    for _ in 0..1000 {
        if let Some(leader) = common_leader(handles).await {
            return leader;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("nobody leads");
}

/// One command after the other, as long as there is time; how many were answered.
async fn client(handle: &Handle<Tally>, until: Instant) -> Result<u64, ProposeError> {
    let command = Bytes::from(vec![7; COMMAND_BYTES]);
    let mut answered = 0;
    while Instant::now() < until {
        handle.propose(command.clone()).await?;
        answered += 1;
    }
    Ok(answered)
}

// protocol 8.1, 8.2, 8.3
#[test]
fn full_load_on_slow_disks_with_loss_elects_nobody() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (hub, lost) = (ChannelHub::new(), Arc::new(AtomicU64::new(0)));
        let mut nodes = Vec::new();
        for number in 1..=3 {
            let channel = Arc::new(hub.transport(NodeId::new(number)));
            let node = Node::bootstrap(config(number), membership(3))
                .transport(Lossy { channel, dice: Dice::new(number), lost: Arc::clone(&lost) })
                .storage(SlowDisk { memory: MemoryStorage::with_seed(number), dice: Dice::new(number + 3) })
                .state_machine(Tally::default);
            nodes.push(node.start().await.unwrap());
        }
        let handles: Vec<_> = nodes.iter().map(Node::handle).collect();
        let leader = elected(&handles).await;
        let mut changes: Vec<_> = handles.iter().map(Handle::leadership).collect();
        for changes in &mut changes {
            // How it stands comes first.
            while changes.next().now_or_never().flatten().is_some() {}
        }
        let leading = &handles[leader.node.get() as usize - 1];
        let until = Instant::now() + time_to_run();
        let answered = try_join_all((0..CLIENTS).map(|_| client(leading, until))).await.unwrap();
        let answered: u64 = answered.iter().sum();
        let lost = lost.load(Ordering::Relaxed);
        println!("{answered} commands in {:?}, {lost} messages lost", time_to_run());
        assert!(lost > 10, "the network lost {lost} messages: too few to say anything");
        for (handle, changes) in handles.iter().zip(&mut changes) {
            let change = changes.next().now_or_never().flatten();
            assert_eq!(change, None, "somebody else led, or nobody did");
            assert_eq!(handle.read(|tally| tally.0).await.unwrap(), answered);
        }
        assert_eq!(elected(&handles).await, leader, "no id was promised above the leader's");
    });
}
