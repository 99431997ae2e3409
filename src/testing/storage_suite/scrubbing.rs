//! The cases of clause 13: rot is found before somebody needs what has rotted.

use super::snapshots::{based, content, take};
use super::*;
use crate::multi::Interval;
use crate::storage::Scrubbed;

cases! {
    "13.1" "a scrub of what is well finds nothing, and begins anew after the end" a_scrub_finds_nothing;
    "13.2" "a damaged entry is found, and no other" a_damaged_entry_is_found;
    "13.3" "a slot that was written again is well" written_again_is_well;
    "13.4" "a damaged snapshot is found, and no other" a_damaged_snapshot_is_found;
    "13.5" "a scrub changes nothing" a_scrub_changes_nothing;
    "13.6" "no scrub before open or after close" no_scrub_while_closed;
}

/// What one scrub is told to read, in bytes.
const PIECE_BYTES: usize = 16 << 10;
/// So many scrubs come around whatever the cases write, more than once.
const SCRUBS: usize = 200;

fn text(slot: u64) -> String {
    format!("the entry of slot {slot:>1000}")
}

/// Slots 1 to 40, and two snapshots where the place keeps any, the newer one named by a base.
async fn filled(place: &dyn StoragePlace) -> Result<(Arc<dyn Storage>, Vec<SnapshotId>), Unmet> {
    ensure_able(place.scrubs())?;
    let storage = bootstrap(place).await?;
    for slot in 1..=40 {
        storage.append(group(slot, vec![accepted(slot, 1, &text(slot))])).await?;
    }
    let mut snapshots = Vec::new();
    if place.keeps_snapshots() {
        for through in [3, 5] {
            snapshots.push(take(&*storage, through, &content(through, 150_000)).await?);
        }
    }
    if let Some(newest) = snapshots.last() {
        storage.append(group(41, vec![based(*newest)?])).await?;
    }
    Ok((storage, snapshots))
}

/// All that a number of scrubs finds.
async fn scrub(storage: &dyn Storage) -> Result<Scrubbed, Unmet> {
    let mut found = Scrubbed::default();
    for _ in 0..SCRUBS {
        let part = storage.scrub(PIECE_BYTES).await?;
        found.bytes += part.bytes;
        found.facts |= part.facts;
        found.slots.extend(part.slots);
        found.snapshots.extend(part.snapshots);
    }
    found.slots.sort_unstable_by_key(|slots| slots.first);
    found.slots.dedup();
    found.snapshots.sort_unstable();
    found.snapshots.dedup();
    Ok(found)
}

fn ensure_found(found: &Scrubbed, slots: &[Interval], snapshots: &[SnapshotId]) -> Verdict {
    ensure_eq(&found.slots, &slots.to_vec(), "damaged slots")?;
    ensure_eq(&found.snapshots, &snapshots.to_vec(), "damaged snapshots")?;
    ensure(found.bytes > 0, || "nothing was read".to_owned())
}

fn slot(slot: u64) -> Interval {
    Interval::new(Slot::new(slot), Slot::new(slot))
}

async fn a_scrub_finds_nothing(place: &dyn StoragePlace) -> Verdict {
    let (storage, _) = filled(place).await?;
    let found = scrub(&*storage).await?;
    ensure_found(&found, &[], &[])?;
    ensure(!found.facts, || "facts are damaged".to_owned())?;
    let (storage, _) = reopen(place, storage).await?;
    ensure_found(&scrub(&*storage).await?, &[], &[])
}

async fn a_damaged_entry_is_found(place: &dyn StoragePlace) -> Verdict {
    let (storage, _) = filled(place).await?;
    scrub(&*storage).await?;
    for nth in [7, 31] {
        ensure_able(place.corrupt_entry(Slot::new(nth), text(nth).as_bytes()))?;
    }
    let read = storage.read(Slot::new(7)..Slot::new(8), 1000).await;
    ensure_refused(read, is_corrupt, "a read of what is damaged")?;
    ensure_found(&scrub(&*storage).await?, &[slot(7), slot(31)], &[])
}

async fn written_again_is_well(place: &dyn StoragePlace) -> Verdict {
    let (storage, _) = filled(place).await?;
    ensure_able(place.corrupt_entry(Slot::new(7), text(7).as_bytes()))?;
    storage.append(group(42, vec![accepted(7, 2, "again")])).await?;
    ensure_found(&scrub(&*storage).await?, &[], &[])?;
    let read = storage.read(Slot::new(7)..Slot::new(8), 1000).await?;
    ensure_eq(&read, &vec![(Slot::new(7), entry(2, "again"))], "the read")
}

async fn a_damaged_snapshot_is_found(place: &dyn StoragePlace) -> Verdict {
    let (storage, snapshots) = filled(place).await?;
    for snapshot in &snapshots {
        scrub(&*storage).await?;
        ensure_able(place.corrupt_snapshot(*snapshot, 140_000))?;
        let damaged: Vec<SnapshotId> =
            snapshots.iter().copied().filter(|other| other.through <= snapshot.through).collect();
        ensure_found(&scrub(&*storage).await?, &[], &damaged)?;
    }
    ensure_able(!snapshots.is_empty())
}

async fn a_scrub_changes_nothing(place: &dyn StoragePlace) -> Verdict {
    let (storage, snapshots) = filled(place).await?;
    ensure_able(place.corrupt_entry(Slot::new(7), text(7).as_bytes()))?;
    let damaged: Vec<SnapshotId> =
        snapshots.iter().copied().take(1).filter(|first| place.corrupt_snapshot(*first, 70_000)).collect();
    let before = storage.recover().await?;
    let found = scrub(&*storage).await?;
    ensure_found(&found, &[slot(7)], &damaged)?;
    ensure_found(&scrub(&*storage).await?, &[slot(7)], &damaged)?;
    let after = storage.recover().await?;
    ensure_eq(&after.log, &before.log, "the fold")?;
    ensure_eq(&after.sequence, &before.sequence, "the sequence")
}

async fn no_scrub_while_closed(place: &dyn StoragePlace) -> Verdict {
    ensure_able(place.scrubs())?;
    let storage = place.storage();
    ensure_refused(storage.scrub(1000).await, is_not_open, "a scrub before open")?;
    storage.open(owner()?, Start::Bootstrap(members(3)?)).await?;
    storage.close().await?;
    ensure_refused(storage.scrub(1000).await, is_not_open, "a scrub after close")
}
