//! Scrubbing: reads sealed snapshots piece by piece, to find rot before somebody needs them (clause 13).

use super::Snapshots;
use super::format::{HEADER_BYTES, blocks_of};
use crate::multi::SnapshotId;
use crate::storage::Scrubbed;
use std::collections::BTreeSet;

/// Where the next scrub goes on: in the snapshot of this id, or behind it if it is gone.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cursor(Option<(SnapshotId, u64)>);

/// Checks from `cursor` on until `bytes_max` bytes are read, or the last snapshot is done.
pub(super) fn run(snapshots: &Snapshots, cursor: Cursor, bytes_max: u64) -> (Scrubbed, Cursor) {
    let mut scrubbed = Scrubbed::default();
    let sealed: BTreeSet<SnapshotId> = snapshots.sealed.iter().copied().collect();
    for id in &sealed {
        let first = match cursor.0 {
            Some((reached, _)) if *id < reached => continue,
            Some((reached, block)) if *id == reached => block,
            _ => 0,
        };
        if scrubbed.bytes > 0 && scrubbed.bytes >= bytes_max {
            return (scrubbed, Cursor(Some((*id, first))));
        }
        match check(snapshots, *id, first, bytes_max, &mut scrubbed.bytes) {
            Some(Pass::Whole) => {}
            Some(Pass::Through(next)) => return (scrubbed, Cursor(Some((*id, next)))),
            None => scrubbed.snapshots.push(*id),
        }
    }
    (scrubbed, Cursor::default())
}

/// How far a snapshot was found well.
enum Pass {
    Whole,
    /// The block that is the next to check.
    Through(u64),
}

/// Checks one snapshot from block `first` on; `None` if it is damaged, or cannot be read.
fn check(snapshots: &Snapshots, id: SnapshotId, first: u64, bytes_max: u64, bytes: &mut u64) -> Option<Pass> {
    *bytes += HEADER_BYTES as u64;
    let file = snapshots.open_sealed(id).ok()?;
    let mut block = Vec::new();
    for number in first..blocks_of(id.bytes) {
        if number > first && *bytes >= bytes_max {
            return Some(Pass::Through(number));
        }
        let read = file.read_block(number, id.bytes, &mut block);
        *bytes += block.len() as u64;
        read.ok()?;
    }
    Some(Pass::Whole)
}
