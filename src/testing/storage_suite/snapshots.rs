//! The cases of clause 12: snapshots are written beside the log, sealed whole, and kept while somebody needs them.

use super::*;
use crate::multi::{Base, Memberships};
use std::collections::BTreeMap;

cases! {
    "12.1" "a sealed snapshot survives a power cut once a base names it" a_sealed_one_survives;
    "12.2" "its id says through where, how long and with which checksum" the_id_is_right;
    "12.3" "nobody sees one before it is sealed" unsealed_is_unseen;
    "12.4" "pieces of any size are read from any place" any_piece_is_read;
    "12.5" "a write at another place is refused, and changes nothing" a_write_elsewhere_is_refused;
    "12.6" "nothing is written or sealed that was not begun" nothing_without_a_beginning;
    "12.7" "a beginning takes the place of the one before" a_beginning_replaces;
    "12.8" "another one than the expected is not sealed, and nothing of it is left" the_unexpected_is_refused;
    "12.9" "an expected one is gone on with after a crash" an_expected_one_goes_on;
    "12.10" "an expected one is gone on with while open" an_expected_one_goes_on_while_open;
    "12.11" "nobody goes on with what is left of another one" another_one_begins_anew;
    "12.12" "of one that nobody expected nothing is left after a crash" the_unexpected_does_not_go_on;
    "12.13" "one is kept until two more are sealed" two_are_kept;
    "12.14" "the one that the newest base names is kept" the_named_one_is_kept;
    "12.15" "a base that is given to a cut names one too" a_cut_names_one;
    "12.16" "snapshots are written and read beside appends" beside_appends;
    "12.17" "a failed write ends that snapshot, and nothing else" a_failure_ends_one;
    "12.18" "two through the same slot are two" a_slot_may_have_two;
    "12.19" "what is damaged is not given, and sealing it again mends it" damage_is_not_given;
    "12.20" "the damage of one part leaves the others readable or says so" damage_is_never_skipped;
    "12.21" "nothing works before open or after close" nothing_while_closed;
}

/// A content that has no two equal parts.
pub(super) fn content(seed: u64, bytes: usize) -> Bytes {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    std::iter::repeat_with(next).take(bytes).collect()
}

fn id_of(through: u64, content: &[u8]) -> SnapshotId {
    let (through, bytes) = (Slot::new(through), content.len() as u64);
    SnapshotId { through, bytes, checksum: crc32fast::hash(content) }
}

/// Writes what is behind the byte `from`, in pieces.
async fn write_from(storage: &dyn Storage, content: &Bytes, from: u64, piece: usize) -> Verdict {
    let mut at = from as usize;
    while at < content.len() {
        let end = content.len().min(at + piece);
        storage.write_snapshot(at as u64, content.slice(at..end)).await?;
        at = end;
    }
    Ok(())
}

/// Writes and seals one that nobody expects.
pub(super) async fn take(storage: &dyn Storage, through: u64, content: &Bytes) -> Result<SnapshotId, Unmet> {
    let held = storage.begin_snapshot(Slot::new(through), None).await?;
    ensure_eq(&held, &0, "what is held of a new one")?;
    write_from(storage, content, 0, 10_000).await?;
    Ok(storage.seal_snapshot().await?)
}

async fn ensure_readable(storage: &dyn Storage, snapshot: SnapshotId, content: &Bytes) -> Verdict {
    let mut at = 0;
    loop {
        let read = storage.read_snapshot(snapshot, at as u64, 50_000).await?;
        if read.is_empty() {
            return ensure_eq(&at, &content.len(), "where it ends");
        }
        ensure(read.len() <= 50_000, || format!("{} bytes were given, 50000 asked for", read.len()))?;
        let is_right = content.get(at..at + read.len()).is_some_and(|part| part == read);
        ensure(is_right, || format!("other bytes than were written stand at {at}"))?;
        at += read.len();
    }
}

async fn ensure_gone(storage: &dyn Storage, snapshot: SnapshotId, what: &str) -> Verdict {
    ensure_refused(storage.read_snapshot(snapshot, 0, 1000).await, is_no_snapshot, what)
}

/// The record of a base that names `snapshot`.
pub(super) fn based(snapshot: SnapshotId) -> Result<Record, Unmet> {
    let memberships = Memberships::bootstrap(members(3)?);
    let (through, disks) = (snapshot.through, BTreeMap::new());
    Ok(Record::Based { base: Base { through, memberships, disks, snapshot: Some(snapshot) } })
}

async fn able(place: &dyn StoragePlace) -> Result<Arc<dyn Storage>, Unmet> {
    ensure_able(place.keeps_snapshots())?;
    bootstrap(place).await
}

async fn a_sealed_one_survives(place: &dyn StoragePlace) -> Verdict {
    let storage = able(place).await?;
    let content = content(1, 200_000);
    let snapshot = take(&*storage, 100, &content).await?;
    storage.append(group(1, vec![based(snapshot)?])).await?;
    let (storage, recovered) = reopen(place, storage).await?;
    let named = recovered.log.base().and_then(|base| base.snapshot);
    ensure_eq(&named, &Some(snapshot), "what the base names")?;
    ensure_readable(&*storage, snapshot, &content).await?;
    let (storage, _) = reopen(place, storage).await?;
    ensure_readable(&*storage, snapshot, &content).await
}

async fn the_id_is_right(place: &dyn StoragePlace) -> Verdict {
    let storage = able(place).await?;
    for (through, bytes) in [(1, 0), (2, 1), (3, 65_536), (4, 300_001)] {
        let content = content(through, bytes);
        let snapshot = take(&*storage, through, &content).await?;
        ensure_eq(&snapshot, &id_of(through, &content), "the id")?;
        ensure_readable(&*storage, snapshot, &content).await?;
    }
    Ok(())
}

async fn unsealed_is_unseen(place: &dyn StoragePlace) -> Verdict {
    let storage = able(place).await?;
    let content = content(1, 100_000);
    let snapshot = id_of(7, &content);
    storage.begin_snapshot(Slot::new(7), Some(snapshot)).await?;
    write_from(&*storage, &content, 0, 30_000).await?;
    ensure_gone(&*storage, snapshot, "a read of one that is not sealed").await?;
    ensure_eq(&storage.seal_snapshot().await?, &snapshot, "the id")?;
    ensure_readable(&*storage, snapshot, &content).await
}

async fn any_piece_is_read(place: &dyn StoragePlace) -> Verdict {
    let storage = able(place).await?;
    let content = content(3, 260_000);
    let snapshot = take(&*storage, 5, &content).await?;
    let length = content.len();
    let places = [0, 1, 9_999, 65_535, 65_536, 65_537, 131_071, 200_000, length - 1];
    for at in places {
        for bytes_max in [1, 100, 65_536, 70_000, usize::MAX] {
            let read = storage.read_snapshot(snapshot, at as u64, bytes_max).await?;
            ensure(!read.is_empty() && read.len() <= bytes_max, || {
                format!("{} bytes at {at}, {bytes_max} were asked for", read.len())
            })?;
            let is_right = content.get(at..at + read.len()).is_some_and(|part| part == read);
            ensure(is_right, || format!("other bytes than were written stand at {at}"))?;
        }
    }
    for at in [length as u64, length as u64 + 1, u64::MAX] {
        let read = storage.read_snapshot(snapshot, at, 1000).await?;
        ensure(read.is_empty(), || format!("there is something at {at}, behind the end"))?;
    }
    Ok(())
}

async fn a_write_elsewhere_is_refused(place: &dyn StoragePlace) -> Verdict {
    let storage = able(place).await?;
    let content = content(4, 90_000);
    storage.begin_snapshot(Slot::new(5), None).await?;
    storage.write_snapshot(0, content.slice(..40_000)).await?;
    for at in [0, 39_999, 40_001, u64::MAX] {
        let written = storage.write_snapshot(at, content.slice(40_000..)).await;
        ensure_refused(written, is_no_snapshot, &format!("a write at {at} where 40000 bytes are held"))?;
    }
    storage.write_snapshot(40_000, content.slice(40_000..)).await?;
    let snapshot = storage.seal_snapshot().await?;
    ensure_eq(&snapshot, &id_of(5, &content), "the id")?;
    ensure_readable(&*storage, snapshot, &content).await
}

async fn nothing_without_a_beginning(place: &dyn StoragePlace) -> Verdict {
    let storage = able(place).await?;
    for when in ["before a beginning", "after the end"] {
        let written = storage.write_snapshot(0, content(1, 10)).await;
        ensure_refused(written, is_no_snapshot, &format!("a write {when}"))?;
        ensure_refused(storage.seal_snapshot().await, is_no_snapshot, &format!("a seal {when}"))?;
        take(&*storage, 3, &content(2, 1000)).await?;
    }
    ensure_gone(&*storage, id_of(9, b"other"), "a read of one that was never written").await
}

async fn a_beginning_replaces(place: &dyn StoragePlace) -> Verdict {
    let storage = able(place).await?;
    let (first, second) = (content(1, 80_000), content(2, 70_000));
    storage.begin_snapshot(Slot::new(5), None).await?;
    write_from(&*storage, &first, 0, 30_000).await?;
    let snapshot = take(&*storage, 6, &second).await?;
    ensure_eq(&snapshot, &id_of(6, &second), "the id")?;
    ensure_readable(&*storage, snapshot, &second).await?;
    ensure_gone(&*storage, id_of(5, &first), "a read of the one that was left").await
}

async fn the_unexpected_is_refused(place: &dyn StoragePlace) -> Verdict {
    let storage = able(place).await?;
    let right = content(1, 150_000);
    let expected = id_of(8, &right);
    let mut flipped = right.to_vec();
    flipped.iter_mut().skip(100_000).take(1).for_each(|byte| *byte ^= 1);
    for wrong in [Bytes::from(flipped), right.slice(..149_999), right.slice(..70_000)] {
        let held = storage.begin_snapshot(Slot::new(8), Some(expected)).await?;
        ensure_eq(&held, &0, "what is held of one that was refused")?;
        write_from(&*storage, &wrong, 0, 40_000).await?;
        ensure_refused(storage.seal_snapshot().await, is_corrupt, "another one than the expected")?;
        ensure_gone(&*storage, id_of(8, &wrong), "a read of what was refused").await?;
        ensure_gone(&*storage, expected, "a read of what was expected").await?;
    }
    let held = storage.begin_snapshot(Slot::new(8), Some(expected)).await?;
    ensure_eq(&held, &0, "what is held of one that was refused")?;
    write_from(&*storage, &right, 0, 40_000).await?;
    ensure_eq(&storage.seal_snapshot().await?, &expected, "the id")
}

async fn an_expected_one_goes_on(place: &dyn StoragePlace) -> Verdict {
    let mut storage = able(place).await?;
    let content = content(1, 600_000);
    let expected = id_of(8, &content);
    for written in [150_000_u64, 400_000, 500_000] {
        let mut held = storage.begin_snapshot(Slot::new(8), Some(expected)).await?;
        ensure(held <= written, || format!("{held} bytes are held where {written} were written at most"))?;
        while held < written {
            let end = (held + 20_000).min(written);
            storage.write_snapshot(held, content.slice(held as usize..end as usize)).await?;
            held = end;
        }
        (storage, _) = reopen(place, storage).await?;
        ensure_gone(&*storage, expected, "a read of one that is not sealed").await?;
    }
    let held = storage.begin_snapshot(Slot::new(8), Some(expected)).await?;
    ensure(held <= 500_000, || format!("{held} bytes are held where 500000 were written at most"))?;
    write_from(&*storage, &content, held, 20_000).await?;
    ensure_eq(&storage.seal_snapshot().await?, &expected, "the id")?;
    ensure_readable(&*storage, expected, &content).await
}

async fn an_expected_one_goes_on_while_open(place: &dyn StoragePlace) -> Verdict {
    let storage = able(place).await?;
    let content = content(1, 200_000);
    let expected = id_of(8, &content);
    storage.begin_snapshot(Slot::new(8), Some(expected)).await?;
    write_from(&*storage, &content.slice(..130_000), 0, 13_000).await?;
    let held = storage.begin_snapshot(Slot::new(8), Some(expected)).await?;
    ensure(held <= 130_000, || format!("{held} bytes are held where 130000 were written"))?;
    write_from(&*storage, &content, held, 20_000).await?;
    ensure_eq(&storage.seal_snapshot().await?, &expected, "the id")?;
    ensure_readable(&*storage, expected, &content).await
}

async fn another_one_begins_anew(place: &dyn StoragePlace) -> Verdict {
    let mut storage = able(place).await?;
    let (first, second) = (content(1, 200_000), content(2, 200_000));
    for (through, crash) in [(8, false), (8, true), (9, false), (9, true)] {
        storage.begin_snapshot(Slot::new(8), Some(id_of(8, &first))).await?;
        write_from(&*storage, &first.slice(..150_000), 0, 50_000).await?;
        if crash {
            (storage, _) = reopen(place, storage).await?;
        }
        let expected = id_of(through, &second);
        let held = storage.begin_snapshot(Slot::new(through), Some(expected)).await?;
        ensure_eq(&held, &0, "what is held of another one")?;
        write_from(&*storage, &second, 0, 50_000).await?;
        ensure_eq(&storage.seal_snapshot().await?, &expected, "the id")?;
        ensure_readable(&*storage, expected, &second).await?;
    }
    Ok(())
}

async fn the_unexpected_does_not_go_on(place: &dyn StoragePlace) -> Verdict {
    let mut storage = able(place).await?;
    let content = content(1, 200_000);
    for expected in [None, Some(id_of(8, &content))] {
        storage.begin_snapshot(Slot::new(8), None).await?;
        write_from(&*storage, &content.slice(..150_000), 0, 50_000).await?;
        (storage, _) = reopen(place, storage).await?;
        let held = storage.begin_snapshot(Slot::new(8), expected).await?;
        ensure_eq(&held, &0, "what is held of one that nobody expected")?;
    }
    Ok(())
}

async fn two_are_kept(place: &dyn StoragePlace) -> Verdict {
    let storage = able(place).await?;
    let mut sealed = Vec::new();
    for through in 1..=6 {
        let content = content(through, 70_000);
        sealed.push((take(&*storage, through, &content).await?, content));
        for (snapshot, content) in sealed.iter().rev().take(2) {
            ensure_readable(&*storage, *snapshot, content).await?;
        }
    }
    Ok(())
}

async fn the_named_one_is_kept(place: &dyn StoragePlace) -> Verdict {
    let mut storage = able(place).await?;
    let mut sequence = 0;
    for first in [1, 11] {
        let content_named = content(first, 70_000);
        let named = take(&*storage, first, &content_named).await?;
        sequence += 1;
        storage.append(group(sequence, vec![based(named)?])).await?;
        for through in first + 1..first + 6 {
            take(&*storage, through, &content(through, 5000)).await?;
            ensure_readable(&*storage, named, &content_named).await?;
        }
        (storage, _) = reopen(place, storage).await?;
        for through in first + 1..first + 6 {
            take(&*storage, through, &content(through, 5000)).await?;
            ensure_readable(&*storage, named, &content_named).await?;
        }
    }
    Ok(())
}

async fn a_cut_names_one(place: &dyn StoragePlace) -> Verdict {
    let storage = able(place).await?;
    ensure_able(place.trims())?;
    let content_named = content(1, 70_000);
    let named = take(&*storage, 1, &content_named).await?;
    storage.append(group(1, vec![accepted(1, 1, "a")])).await?;
    storage.trim(Slot::FIRST, vec![based(named)?, Record::Promised { id: id(1) }]).await?;
    for through in 2..7 {
        take(&*storage, through, &content(through, 5000)).await?;
        ensure_readable(&*storage, named, &content_named).await?;
    }
    let (storage, _) = reopen(place, storage).await?;
    ensure_readable(&*storage, named, &content_named).await
}

async fn beside_appends(place: &dyn StoragePlace) -> Verdict {
    let storage = able(place).await?;
    let (held, written) = (content(1, 150_000), content(2, 200_000));
    let earlier = take(&*storage, 1, &held).await?;
    storage.begin_snapshot(Slot::new(2), None).await?;
    for nth in 0..20_u64 {
        let (at, from) = (nth as usize * 10_000, nth * 7000);
        let append = storage.append(group(nth + 1, vec![accepted(nth + 1, 1, "a")]));
        let write = storage.write_snapshot(at as u64, written.slice(at..at + 10_000));
        let read = storage.read_snapshot(earlier, from, 5000);
        let (appended, wrote, read) = futures::join!(append, write, read);
        (appended?, wrote?);
        let read = read?;
        let part = held.get(from as usize..from as usize + read.len());
        ensure(part.is_some_and(|part| part == read), || format!("other bytes stand at {from}"))?;
    }
    let (sealed, appended) =
        futures::join!(storage.seal_snapshot(), storage.append(group(21, vec![accepted(21, 1, "a")])));
    let (sealed, ()) = (sealed?, appended?);
    storage.append(group(22, vec![based(sealed)?])).await?;
    let (storage, recovered) = reopen(place, storage).await?;
    ensure_readable(&*storage, sealed, &written).await?;
    for slot in 3..=21 {
        ensure_eq(&recovered.log.entry(Slot::new(slot)), &Some(&entry(1, "a")), "an entry")?;
    }
    Ok(())
}

async fn a_failure_ends_one(place: &dyn StoragePlace) -> Verdict {
    let storage = able(place).await?;
    let (held, content) = (content(1, 50_000), content(2, 300_000));
    let earlier = take(&*storage, 1, &held).await?;
    storage.begin_snapshot(Slot::new(2), Some(id_of(2, &content))).await?;
    storage.write_snapshot(0, content.slice(..100_000)).await?;
    ensure_able(place.fail_next_snapshot_write())?;
    let failed = storage.write_snapshot(100_000, content.slice(100_000..)).await;
    ensure(failed.is_err(), || "the write did not fail".to_owned())?;
    let later = storage.write_snapshot(100_000, content.slice(100_000..)).await;
    ensure_refused(later, is_no_snapshot, "a write after the failure")?;
    ensure_refused(storage.seal_snapshot().await, is_no_snapshot, "a seal after the failure")?;
    storage.append(group(1, vec![accepted(1, 1, "a")])).await?;
    ensure_readable(&*storage, earlier, &held).await?;
    let begun = storage.begin_snapshot(Slot::new(2), Some(id_of(2, &content))).await?;
    ensure_eq(&begun, &0, "what is held of one whose write failed")?;
    write_from(&*storage, &content, 0, 50_000).await?;
    let sealed = storage.seal_snapshot().await?;
    ensure_readable(&*storage, sealed, &content).await
}

async fn a_slot_may_have_two(place: &dyn StoragePlace) -> Verdict {
    let storage = able(place).await?;
    let contents = [content(1, 100_000), content(2, 100_000)];
    let first = take(&*storage, 5, &contents[0]).await?;
    let second = take(&*storage, 5, &contents[1]).await?;
    ensure_readable(&*storage, first, &contents[0]).await?;
    ensure_readable(&*storage, second, &contents[1]).await
}

async fn damage_is_not_given(place: &dyn StoragePlace) -> Verdict {
    let storage = able(place).await?;
    let (content, other) = (content(1, 100_000), content(2, 100_000));
    let snapshot = take(&*storage, 5, &content).await?;
    let well = take(&*storage, 6, &other).await?;
    ensure_able(place.corrupt_snapshot(snapshot, 0))?;
    let read = storage.read_snapshot(snapshot, 0, 1000).await;
    ensure_refused(read, is_corrupt, "a read of what is damaged")?;
    ensure_readable(&*storage, well, &other).await?;
    storage.begin_snapshot(Slot::new(5), Some(snapshot)).await?;
    write_from(&*storage, &content, 0, 30_000).await?;
    ensure_eq(&storage.seal_snapshot().await?, &snapshot, "the id")?;
    ensure_readable(&*storage, snapshot, &content).await?;
    ensure_readable(&*storage, well, &other).await
}

async fn damage_is_never_skipped(place: &dyn StoragePlace) -> Verdict {
    let storage = able(place).await?;
    let content = content(1, 300_000);
    let snapshot = take(&*storage, 5, &content).await?;
    ensure_able(place.corrupt_snapshot(snapshot, 150_000))?;
    let mut refused = 0;
    for at in (0..content.len()).step_by(1000) {
        match storage.read_snapshot(snapshot, at as u64, 1000).await {
            Ok(read) => {
                let part = content.get(at..at + read.len());
                ensure(part.is_some_and(|part| part == read), || format!("other bytes stand at {at}"))?;
            }
            Err(error) if is_corrupt(&error) => refused += 1,
            Err(error) => return Err(error.into()),
        }
    }
    ensure(refused > 0, || "the damage was not noticed".to_owned())
}

async fn nothing_while_closed(place: &dyn StoragePlace) -> Verdict {
    ensure_able(place.keeps_snapshots())?;
    let storage = place.storage();
    for when in ["before open", "after close"] {
        let begun = storage.begin_snapshot(Slot::FIRST, None).await;
        ensure_refused(begun, is_not_open, &format!("a beginning {when}"))?;
        let written = storage.write_snapshot(0, content(1, 10)).await;
        ensure_refused(written, is_not_open, &format!("a write {when}"))?;
        ensure_refused(storage.seal_snapshot().await, is_not_open, &format!("a seal {when}"))?;
        let read = storage.read_snapshot(id_of(1, b""), 0, 10).await;
        ensure_refused(read, is_not_open, &format!("a read {when}"))?;
        if when == "before open" {
            storage.open(owner()?, Start::Bootstrap(members(3)?)).await?;
            storage.begin_snapshot(Slot::FIRST, None).await?;
            storage.close().await?;
        }
    }
    Ok(())
}
