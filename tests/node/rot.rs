//! Disks that fill up or rot: a snapshot that cannot be written or fails its checksum, entries and snapshots that are
//! damaged while a node runs.

use crate::{Cluster, Ledger, config, entry, membership, pause, simulate};
use async_trait::async_trait;
use bytes::Bytes;
use std::io::ErrorKind;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;
use synod::multi::{Entry, Group, Owner, Record, Sequence, Slot, SnapshotId};
use synod::storage::{Recovered, Scrubbed, Start, Storage, StorageError};
use synod::{Handle, Host, MemoryStorage, Node, NodeId, SnapshotError};

/// What a test can do to a storage, and sees of it.
#[derive(Clone, Debug, Default)]
struct Disk {
    memory: Option<MemoryStorage>,
    /// What is read of a snapshot is not what was written.
    lies: Arc<AtomicBool>,
    lied: Arc<AtomicU32>,
    /// The next scrub finds damaged facts.
    facts_damaged: Arc<AtomicBool>,
    trims: Arc<AtomicU32>,
}

impl Disk {
    fn new(seed: u64) -> Self {
        Self { memory: Some(MemoryStorage::with_seed(seed)), ..Self::default() }
    }

    fn memory(&self) -> &MemoryStorage {
        self.memory.as_ref().unwrap()
    }
}

#[async_trait]
impl Storage for Disk {
    async fn open(&self, owner: Owner, start: Start) -> Result<Recovered, StorageError> {
        self.memory().open(owner, start).await
    }

    async fn recover(&self) -> Result<Recovered, StorageError> {
        self.memory().recover().await
    }

    async fn append(&self, group: Group) -> Result<(), StorageError> {
        self.memory().append(group).await
    }

    async fn read(&self, slots: Range<Slot>, bytes_max: usize) -> Result<Vec<(Slot, Entry)>, StorageError> {
        self.memory().read(slots, bytes_max).await
    }

    async fn trim(&self, through: Slot, facts: Vec<Record>) -> Result<Slot, StorageError> {
        self.trims.fetch_add(1, Ordering::Relaxed);
        self.memory().trim(through, facts).await
    }

    async fn begin_snapshot(&self, through: Slot, expected: Option<SnapshotId>) -> Result<u64, StorageError> {
        self.memory().begin_snapshot(through, expected).await
    }

    async fn write_snapshot(&self, at: u64, bytes: Bytes) -> Result<(), StorageError> {
        self.memory().write_snapshot(at, bytes).await
    }

    async fn seal_snapshot(&self) -> Result<SnapshotId, StorageError> {
        self.memory().seal_snapshot().await
    }

    async fn read_snapshot(
        &self,
        snapshot: SnapshotId,
        at: u64,
        bytes_max: usize,
    ) -> Result<Bytes, StorageError> {
        let bytes = self.memory().read_snapshot(snapshot, at, bytes_max).await?;
        if !self.lies.load(Ordering::Relaxed) {
            return Ok(bytes);
        }
        self.lied.fetch_add(1, Ordering::Relaxed);
        let mut bytes = bytes.to_vec();
        bytes.last_mut().into_iter().for_each(|last| *last ^= 1);
        Ok(bytes.into())
    }

    async fn scrub(&self, bytes_max: usize) -> Result<Scrubbed, StorageError> {
        let facts = self.facts_damaged.swap(false, Ordering::Relaxed);
        let scrubbed = self.memory().scrub(bytes_max).await?;
        Ok(Scrubbed { facts, bytes: scrubbed.bytes + 1, ..scrubbed })
    }

    fn log_bytes(&self) -> u64 {
        self.memory().log_bytes()
    }

    async fn close(&self) -> Result<(), StorageError> {
        self.memory().close().await
    }
}

async fn propose(handle: &Handle<Ledger>, numbers: std::ops::RangeInclusive<u64>) {
    for number in numbers {
        handle.propose((number, vec![7; 1000])).await.unwrap();
        pause(Duration::from_millis(10)).await;
    }
}

/// Nothing of what was learned is at hand in memory.
fn without_cache(config: &mut synod::Config) {
    config.cache_bytes_max = 0;
}

/// What the scrub of a node that is down finds.
async fn damage(storage: &MemoryStorage) -> Scrubbed {
    storage.scrub(usize::MAX).await.unwrap()
}

// fault F14
#[test]
fn a_disk_that_is_too_full_for_a_snapshot_still_takes_commits_and_the_snapshot_is_tried_again() {
    simulate(async {
        let mut cluster = Cluster::tuned(3, |config| config.snapshot_log_bytes = 20_000).await;
        let handle = cluster.handle(1);
        cluster.storages[&1].fail_next_snapshot_write(ErrorKind::StorageFull);
        handle.propose(entry(0)).await.unwrap();
        pause(Duration::from_millis(100)).await;
        let error = handle.snapshot().await.unwrap_err();
        assert!(matches!(error, SnapshotError::Failed(_)), "{error:?}");
        for _ in 0..3 {
            cluster.storages[&1].fail_next_snapshot_write(ErrorKind::StorageFull);
            cluster.storages[&1].fail_snapshot_write(1, ErrorKind::StorageFull);
        }
        propose(&handle, 1..=200).await;
        let status = handle.status().await.unwrap();
        assert!(status.snapshot.is_none(), "it waits longer after each failure: {status:?}");
        pause(Duration::from_secs(10)).await;
        assert!(handle.status().await.unwrap().snapshot.is_some(), "there is room again");
        cluster.kill(1).await;
        cluster.restart(1).await;
        assert_eq!(cluster.numbers(1).await, (0..=200).collect::<Vec<_>>());
    });
}

// protocol 5.1
#[test]
fn a_snapshot_that_comes_damaged_is_refused_whole_and_fetched_from_another() {
    simulate(async {
        let disks: Vec<Disk> = (1..=3).map(Disk::new).collect();
        let hub = synod_channel::ChannelHub::new();
        let start = |place: usize, restart: bool| {
            let id = place as u64 + 1;
            let mut config = config(id);
            (config.snapshot_log_bytes, config.cache_bytes_max) = (20_000, 0);
            // The state goes in several parts.
            config.snapshot_chunk_bytes = 256;
            let builder =
                if restart { Node::restart(config) } else { Node::bootstrap(config, membership(3)) };
            let builder = builder.transport(hub.transport(NodeId::new(id))).storage(disks[place].clone());
            builder.host(Host::ThisArbiter).seed(id).state_machine(Ledger::default).start()
        };
        let first = start(0, false).await.unwrap();
        let second = start(1, false).await.unwrap();
        let third = start(2, false).await.unwrap();
        propose(&first.handle(), 1..=3).await;
        third.shutdown().await.unwrap();
        propose(&first.handle(), 4..=120).await;
        disks[0].lies.store(true, Ordering::Relaxed);
        disks[1].lies.store(true, Ordering::Relaxed);
        let third = start(2, true).await.unwrap();
        pause(Duration::from_secs(5)).await;
        assert!(disks.iter().map(|disk| disk.lied.load(Ordering::Relaxed)).sum::<u32>() > 3);
        let status = third.handle().status().await.unwrap();
        assert!(status.snapshot.is_none(), "nothing of it was taken in: {status:?}");
        disks[1].lies.store(false, Ordering::Relaxed);
        let patient = third.handle().with_deadline(Duration::from_secs(60));
        assert_eq!(patient.read(Ledger::numbers).await.unwrap(), (1..=120).collect::<Vec<_>>());
        drop(second);
    });
}

// fault F8
#[test]
fn a_damaged_entry_is_found_by_the_scrub_and_written_anew_from_memory() {
    simulate(async {
        let mut cluster = Cluster::start(1).await;
        propose(&cluster.handle(1), 1..=10).await;
        let slot = cluster.handle(1).status().await.unwrap().applied_through;
        assert!(cluster.storages[&1].corrupt_entry(slot));
        pause(Duration::from_secs(2)).await;
        let status = cluster.handle(1).status().await.unwrap();
        assert_eq!(status.snapshot, None, "no snapshot was needed");
        cluster.kill(1).await;
        let (log, storage) = cluster.on_disk(1).await;
        assert!(damage(&storage).await.slots.is_empty() && !log.is_unknown(slot));
        drop(storage);
        cluster.restart(1).await;
        cluster.leader().await;
        assert_eq!(cluster.numbers(1).await, (1..=10).collect::<Vec<_>>());
    });
}

// fault F8
#[test]
fn a_damaged_entry_that_memory_does_not_hold_is_cut_away_behind_a_snapshot() {
    simulate(async {
        let mut cluster = Cluster::tuned(1, without_cache).await;
        propose(&cluster.handle(1), 1..=10).await;
        assert!(cluster.storages[&1].corrupt_entry(Slot::new(5)));
        pause(Duration::from_secs(2)).await;
        let status = cluster.handle(1).status().await.unwrap();
        assert!(status.snapshot.is_some_and(|snapshot| snapshot.through >= Slot::new(5)), "{status:?}");
        cluster.kill(1).await;
        let (_, storage) = cluster.on_disk(1).await;
        assert!(damage(&storage).await.slots.is_empty());
        drop(storage);
        cluster.restart(1).await;
        cluster.leader().await;
        assert_eq!(cluster.numbers(1).await, (1..=10).collect::<Vec<_>>());
    });
}

// faults F8, F11
#[test]
fn a_damaged_entry_that_a_peer_asks_for_does_not_stop_the_node() {
    simulate(async {
        let without = |config: &mut synod::Config| {
            without_cache(config);
            config.scrub_bytes_per_second = 0;
        };
        let mut cluster = Cluster::tuned(3, without).await;
        propose(&cluster.handle(1), 1..=5).await;
        let absent = cluster.follower().await;
        cluster.kill(absent).await;
        let other = cluster.leader().await;
        propose(&cluster.handle(other), 6..=30).await;
        for storage in cluster.storages.values() {
            storage.corrupt_entry(Slot::new(20));
        }
        cluster.restart(absent).await;
        assert_eq!(cluster.numbers(absent).await, (1..=30).collect::<Vec<_>>());
        cluster.handle(absent).propose(entry(31)).await.unwrap();
        for handle in cluster.nodes.values().map(Node::handle) {
            assert_eq!(handle.read(Ledger::numbers).await.unwrap().len(), 31, "all three still run");
        }
    });
}

// fault F8
#[test]
fn a_learner_that_cannot_read_its_own_log_gets_the_state_from_a_peer() {
    simulate(async {
        let mut cluster = Cluster::tuned(3, without_cache).await;
        propose(&cluster.handle(1), 1..=30).await;
        let restarted = cluster.follower().await;
        cluster.kill(restarted).await;
        let other = cluster.leader().await;
        propose(&cluster.handle(other), 31..=40).await;
        assert!(cluster.storages[&restarted].corrupt_entry(Slot::new(10)));
        cluster.restart(restarted).await;
        assert_eq!(cluster.numbers(restarted).await, (1..=40).collect::<Vec<_>>());
    });
}

// fault F10
#[test]
fn a_damaged_snapshot_is_found_by_the_scrub_and_replaced() {
    simulate(async {
        let mut cluster = Cluster::start(1).await;
        propose(&cluster.handle(1), 1..=10).await;
        let taken = cluster.handle(1).snapshot().await.unwrap();
        assert!(cluster.storages[&1].corrupt_snapshot(taken));
        pause(Duration::from_secs(2)).await;
        let status = cluster.handle(1).status().await.unwrap();
        cluster.kill(1).await;
        let (log, storage) = cluster.on_disk(1).await;
        assert_eq!(log.base().unwrap().snapshot, status.snapshot);
        assert!(damage(&storage).await.snapshots.is_empty());
        drop(storage);
        cluster.restart(1).await;
        cluster.leader().await;
        assert_eq!(cluster.numbers(1).await, (1..=10).collect::<Vec<_>>());
    });
}

// fault F10
#[test]
fn a_node_that_restarts_on_a_damaged_snapshot_fetches_one_of_a_peer() {
    simulate(async {
        let mut cluster = Cluster::tuned(3, |config| config.snapshot_log_bytes = 20_000).await;
        propose(&cluster.handle(1), 1..=60).await;
        let restarted = cluster.follower().await;
        let held = cluster.handle(restarted).status().await.unwrap().snapshot.unwrap();
        cluster.kill(restarted).await;
        let other = cluster.leader().await;
        propose(&cluster.handle(other), 61..=70).await;
        assert!(cluster.storages[&restarted].corrupt_snapshot(held));
        cluster.restart(restarted).await;
        let handle = cluster.handle(restarted).with_deadline(Duration::from_secs(30));
        assert_eq!(handle.read(Ledger::numbers).await.unwrap(), (1..=70).collect::<Vec<_>>());
        let status = handle.status().await.unwrap();
        assert!(status.snapshot.unwrap().through > held.through && !status.restoring, "{status:?}");
    });
}

// fault F7
#[test]
fn damaged_facts_are_restated_by_a_cut_that_loses_nothing() {
    simulate(async {
        let disk = Disk::new(1);
        let builder = Node::bootstrap(config(1), membership(1)).storage(disk.clone());
        let hub = synod_channel::ChannelHub::new();
        let builder = builder.transport(hub.transport(NodeId::new(1))).host(Host::ThisArbiter).seed(1);
        let node = builder.state_machine(Ledger::default).start().await.unwrap();
        propose(&node.handle(), 1..=5).await;
        let promised = node.handle().status().await.unwrap().promised;
        assert_eq!(disk.trims.load(Ordering::Relaxed), 0);
        disk.facts_damaged.store(true, Ordering::Relaxed);
        pause(Duration::from_secs(1)).await;
        assert_eq!(disk.trims.load(Ordering::Relaxed), 1);
        propose(&node.handle(), 6..=7).await;
        node.shutdown().await.unwrap();
        let recovered = disk.memory().clone();
        let recovered = recovered.open(config(1).owner, Start::Restart).await.unwrap();
        assert_eq!(recovered.log.promised(), promised);
        assert!(recovered.sequence > Sequence(7) && recovered.log.trimmed_through() == Slot::ZERO);
    });
}
