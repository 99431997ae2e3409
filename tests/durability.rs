//! What a storage promises: an acknowledged write is there after any crash, and damage is never taken for truth.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "durability/atomic_file.rs"]
mod atomic_file;
#[path = "durability/crash.rs"]
mod crash;
#[path = "durability/damage.rs"]
mod damage;
#[path = "durability/directory.rs"]
mod directory;
#[path = "durability/every_byte.rs"]
mod every_byte;
#[path = "durability/force.rs"]
mod force;
#[path = "durability/mixed.rs"]
mod mixed;
#[path = "durability/outcomes.rs"]
mod outcomes;
#[path = "durability/scrub.rs"]
mod scrub;
#[path = "durability/snapshots.rs"]
mod snapshots;
#[path = "durability/snapshots_damage.rs"]
mod snapshots_damage;
#[path = "durability/suite.rs"]
mod suite;
#[path = "durability/traced.rs"]
mod traced;
#[path = "durability/trim.rs"]
mod trim;
#[path = "durability/wrong.rs"]
mod wrong;

use bytes::Bytes;
use futures::executor::block_on;
use std::collections::BTreeMap;
use std::sync::Arc;
use synod::multi::{
    ClusterId, DiskId, Group, Incarnation, Log, Membership, Owner, Record, Sequence, Slot, Value,
};
use synod::paxos::{NodeId, ProposalId};
use synod::storage::disk::{Disk, SimulatedDisk};
use synod::storage::{FileStorage, Recovered, Start, Storage, StorageError};

const NODE: NodeId = NodeId::new(1);
const DIR: &str = "/data/node";

fn owner() -> Owner {
    Owner { cluster: ClusterId::new("durability").unwrap(), epoch: 0, node: NODE }
}

fn members() -> Membership {
    Membership::voters((1..=3).map(|node| (NodeId::new(node), format!("node-{node}:1")))).unwrap()
}

fn id(number: u64) -> ProposalId {
    ProposalId::new(number, NODE)
}

fn value(length: usize, seed: u64) -> Value {
    Value::Batch(Bytes::from((0..length).map(|nth| (nth as u64 * 31 + seed * 7) as u8).collect::<Vec<u8>>()))
}

fn accepted(slot: u64, number: u64) -> Record {
    Record::Accepted { slot: Slot::new(slot), id: id(number), value: value(20, slot * 1000 + number) }
}

fn group(sequence: u64, records: Vec<Record>) -> Group {
    Group { sequence: Sequence(sequence), records }
}

/// A storage on a simulated disk, without threads.
fn storage_on(disk: &SimulatedDisk) -> FileStorage {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    FileStorage::at(DIR).with_disk(disk).segment_bytes(4 << 10).inline()
}

fn bootstrap(storage: &FileStorage) -> Result<Recovered, StorageError> {
    block_on(storage.open(owner(), Start::Bootstrap(members())))
}

fn restart(storage: &FileStorage) -> Result<Recovered, StorageError> {
    block_on(storage.open(owner(), Start::Restart))
}

/// The fold of the first `count` groups.
fn fold(groups: &[Group], count: usize) -> Log {
    let mut log = Log::default();
    groups.iter().take(count).flat_map(|group| &group.records).for_each(|record| log.apply(record));
    log
}

/// What an acceptor writes in `operations` steps: promises, entries, entries again, watermarks, fetched values, and what
/// it learns of its peers.
fn workload(operations: u64) -> Vec<Group> {
    workload_under(20, operations)
}

/// The same with a higher id after every so many steps.
fn workload_under(steps: u64, operations: u64) -> Vec<Group> {
    let mut groups = Vec::new();
    let disks = BTreeMap::from([(NODE, DiskId(1))]);
    for step in 1..=operations {
        let number = step / steps + 1;
        let slot = step.div_ceil(2);
        let length = |slot: u64, number: u64| [0, 16, 200, 500][((slot + number) % 4) as usize];
        let batch = |slot, number| value(length(slot, number), slot * 100 + number);
        // Accepted last in step 2 * slot.
        let chosen =
            |slot| Record::Chosen { slot: Slot::new(slot), value: batch(slot, 2 * slot / steps + 1) };
        let mut records = match step % 10 {
            1 => vec![Record::Promised { id: id(number) }],
            4 => vec![Record::Watermark { id: id(number), through: Slot::new(slot.saturating_sub(3)) }],
            6 => vec![Record::PeerSequence { node: NodeId::new(2), sequence: Sequence(step) }],
            0 => (slot.saturating_sub(9).max(1)..=slot.saturating_sub(3)).map(chosen).collect(),
            _ => Vec::new(),
        };
        let entry =
            |slot| Record::Accepted { slot: Slot::new(slot), id: id(number), value: batch(slot, number) };
        records.push(entry(slot));
        records.push(entry(slot + 1));
        if step == 2 {
            records.push(Record::Formed { membership: members(), disks: disks.clone() });
            let incarnation = Incarnation { counter: 1, nonce: 5 };
            records.push(Record::PeerSeen { node: NodeId::new(2), disk: DiskId(2), incarnation });
        }
        groups.push(group(step, records));
    }
    groups
}
