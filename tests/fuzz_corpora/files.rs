//! Seeds from real files: groups of a journal, and snapshots.
//!
//! A directory draws its disk's id anew, so these are not the same each time; they are written where they are missing.

use bytes::Bytes;
use futures::executor::block_on;
use std::collections::BTreeMap;
use std::sync::Arc;
use synod::multi::{
    AbstainReason, Base, ClusterId, DiskId, Group, Incarnation, Interval, Membership, Memberships, Owner,
    Record, Sequence, Slot, Value,
};
use synod::paxos::{NodeId, ProposalId};
use synod::storage::disk::{Disk, SimulatedDisk};
use synod::storage::{FileStorage, Start, Storage};

/// The longest part of a file that is taken.
const SEED_BYTES_MAX: usize = 4096;

fn membership() -> Membership {
    Membership::voters((1..=3).map(|number| (NodeId::new(number), format!("node-{number}:1")))).unwrap()
}

/// A directory, and what is in it.
fn opened() -> (SimulatedDisk, FileStorage) {
    let disk = SimulatedDisk::new(1);
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let storage = FileStorage::at("/data").with_disk(shared).segment_bytes(64 << 10).inline();
    let cluster = ClusterId::new("fuzz").unwrap();
    let owner = Owner { cluster, epoch: 0, node: NodeId::new(1) };
    block_on(storage.open(owner, Start::Bootstrap(membership()))).unwrap();
    (disk, storage)
}

/// Records of each kind, some alone and some together.
fn groups() -> Vec<Vec<Record>> {
    let id = |number| ProposalId::new(number, NodeId::new(2));
    let batch = |bytes: usize| Value::Batch(Bytes::from(vec![7; bytes]));
    let accepted = |slot, value| Record::Accepted { slot: Slot::new(slot), id: id(3), value };
    let disks = BTreeMap::from([(NodeId::new(1), DiskId(1)), (NodeId::new(2), DiskId(u64::MAX))]);
    let base = Base {
        through: Slot::new(1),
        memberships: Memberships::bootstrap(membership()),
        disks: disks.clone(),
        snapshot: None,
    };
    vec![
        vec![Record::Formed { membership: membership(), disks }],
        vec![Record::Promised { id: id(1) }],
        vec![accepted(1, batch(20)), accepted(2, Value::Noop), accepted(3, Value::Membership(membership()))],
        vec![Record::Watermark { id: id(3), through: Slot::new(2) }, accepted(4, batch(300))],
        vec![Record::Chosen { slot: Slot::new(3), value: Value::Membership(membership()) }],
        vec![Record::Based { base }],
        vec![Record::Unknown { slots: vec![Interval::new(Slot::new(9), Slot::MAX)] }],
        vec![Record::PeerSeen {
            node: NodeId::new(2),
            disk: DiskId(2),
            incarnation: Incarnation { counter: 1, nonce: 5 },
        }],
        vec![Record::PeerSequence { node: NodeId::new(3), sequence: Sequence(u64::MAX) }],
        vec![Record::Abstains { reason: AbstainReason::SafetyViolation }],
        vec![],
    ]
}

/// The seeds of `journal_record`: each group as it is written, and what follows its header alone.
pub(crate) fn journal() -> Vec<(String, Vec<u8>)> {
    let (disk, storage) = opened();
    for (sequence, records) in (1..).zip(groups()) {
        block_on(storage.append(Group { sequence: Sequence(sequence), records })).unwrap();
    }
    let mut seeds = Vec::new();
    for (path, bytes) in disk.files() {
        if !path.to_string_lossy().contains("journal-") {
            continue;
        }
        let starts: Vec<usize> =
            (0..bytes.len()).step_by(64).filter(|at| bytes[*at..].starts_with(b"SYNg")).collect();
        let ends = starts.iter().skip(1).copied().chain([bytes.len()]);
        for (number, (start, end)) in starts.iter().copied().zip(ends).enumerate() {
            let group = &bytes[start..end.min(start + SEED_BYTES_MAX)];
            let used = group.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
            let header_bytes = u32::from_le_bytes(group[8..12].try_into().unwrap()) as usize;
            seeds.push((format!("group_{number:02}"), group[..used].to_vec()));
            seeds.push((format!("body_{number:02}"), group[header_bytes.min(used)..used].to_vec()));
        }
    }
    seeds.retain(|(_, bytes)| !bytes.is_empty());
    seeds
}

/// The seeds of `snapshot_header`: snapshots of several lengths, whole, begun, cut short and damaged.
pub(crate) fn snapshots() -> Vec<(String, Vec<u8>)> {
    let mut seeds = Vec::new();
    for (number, bytes) in [0, 1, 100, 1500].into_iter().enumerate() {
        for is_sealed in [false, true] {
            let (disk, storage) = opened();
            block_on(storage.begin_snapshot(Slot::new(5), None)).unwrap();
            if bytes > 0 {
                block_on(storage.write_snapshot(0, Bytes::from(vec![number as u8; bytes]))).unwrap();
            }
            if is_sealed && block_on(storage.seal_snapshot()).is_err() {
                continue;
            }
            let is_snapshot = |path: &std::path::Path| path.to_string_lossy().contains("snapshot-");
            let file = disk.files().into_iter().find(|(path, _)| is_snapshot(path));
            let Some((_, mut file)) = file else { continue };
            file.truncate(SEED_BYTES_MAX + 2048);
            let state = if is_sealed { "sealed" } else { "begun" };
            let mut damaged = file.clone();
            damaged[20] ^= 4;
            seeds.push((format!("{state}_{bytes}"), file.clone()));
            seeds.push((format!("{state}_{bytes}_damaged"), damaged));
            file.truncate(100);
            seeds.push((format!("{state}_{bytes}_cut_short"), file));
        }
    }
    seeds
}
