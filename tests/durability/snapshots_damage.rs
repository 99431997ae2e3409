//! Snapshots that have rotted: no wrong byte is ever given, and a scrub finds what nobody has read yet.

use super::snapshots::{base_on, content, id_of, read, snapshot_files, write};
use super::*;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use synod::multi::SnapshotId;
use synod::storage::Scrubbed;
use synod::storage::disk::Unsynced;

const HEADER_BYTES: usize = 80;
/// A block with its checksum.
const BLOCK_BYTES: usize = (64 << 10) + 4;

fn open() -> (SimulatedDisk, FileStorage) {
    let disk = SimulatedDisk::new(3);
    let storage = storage_on(&disk);
    bootstrap(&storage).unwrap();
    (disk, storage)
}

fn only_file(disk: &SimulatedDisk) -> PathBuf {
    let files = snapshot_files(disk);
    assert_eq!(files.len(), 1, "{files:?}");
    files[0].clone()
}

/// All that scrubs find in one pass over the snapshots, in pieces of so many bytes.
fn scrub(storage: &FileStorage, bytes_max: usize) -> BTreeSet<SnapshotId> {
    let mut damaged = BTreeSet::new();
    for _ in 0..100 {
        let Scrubbed { snapshots, .. } = block_on(storage.scrub(bytes_max)).unwrap();
        damaged.extend(snapshots);
    }
    damaged
}

// scenario D7, fault F10
#[test]
fn a_flipped_byte_anywhere_in_a_snapshot_is_detected() {
    for (bytes, step) in [(3000, 1), (140_000, 13)] {
        let (disk, storage) = open();
        let content = content(1, bytes);
        let snapshot = base_on(&storage, 1, 9, &content);
        let path = only_file(&disk);
        let length = disk.files()[&path].len();
        let mut flips = 0;
        for offset in (0..length).step_by(step).chain(0..HEADER_BYTES + 8).chain(length - 40..length) {
            let mask = if offset % 2 == 0 { 0x01 } else { 0x80 };
            disk.flip(&path, offset, mask);
            let refused = read(&storage, snapshot);
            let is_refused =
                matches!(refused, Err(StorageError::Corrupt { .. } | StorageError::UnknownFormat { .. }));
            assert!(is_refused, "byte {offset}");
            let found = block_on(storage.scrub(usize::MAX)).unwrap();
            assert_eq!(found.snapshots, [snapshot], "byte {offset}");
            disk.flip(&path, offset, mask);
            flips += 1;
        }
        assert!(flips > 3000);
        assert_eq!(read(&storage, snapshot).unwrap(), content);
        assert_eq!(block_on(storage.scrub(usize::MAX)).unwrap().snapshots, []);
    }
}

// fault F10: damage is no reason not to start; a peer's snapshot mends it.
#[test]
fn a_node_starts_with_a_damaged_snapshot_and_mends_it() {
    for offset in [3, 9, 40, 500, 100_000] {
        let (disk, storage) = open();
        let content = content(1, 140_000);
        let snapshot = base_on(&storage, 1, 9, &content);
        drop(storage);
        disk.flip(&only_file(&disk), offset, 1);
        let storage = storage_on(&disk);
        restart(&storage).unwrap();
        assert!(read(&storage, snapshot).is_err());
        assert_eq!(write(&storage, 9, &content, true).unwrap(), snapshot);
        assert_eq!(read(&storage, snapshot).unwrap(), content);
        assert_eq!(scrub(&storage, usize::MAX), BTreeSet::new());
        disk.power_cut(Unsynced::Lost);
        let storage = storage_on(&disk);
        restart(&storage).unwrap();
        assert_eq!(read(&storage, snapshot).unwrap(), content);
    }
}

// fault F12
#[test]
fn a_block_or_a_file_in_another_place_is_not_believed() {
    let (disk, storage) = open();
    let contents = [content(1, 200_000), content(2, 200_000)];
    let first = write(&storage, 8, &contents[0], false).unwrap();
    let older = snapshot_files(&disk)[0].clone();
    let second = write(&storage, 9, &contents[1], false).unwrap();
    let newer = snapshot_files(&disk)[1].clone();
    let files = disk.files();
    let block = |nth: usize| HEADER_BYTES + nth * BLOCK_BYTES..HEADER_BYTES + (nth + 1) * BLOCK_BYTES;
    let refused = |id| matches!(read(&storage, id), Err(StorageError::Corrupt { .. }));

    disk.edit(&newer, |bytes| bytes.copy_within(block(0), block(1).start));
    assert!(refused(second), "a block of the same file in another place");
    disk.put(&newer, &files[&newer]);
    disk.edit(&newer, |bytes| bytes[block(1)].copy_from_slice(&files[&older][block(1)]));
    assert!(refused(second), "the same block of another file");
    disk.put(&newer, &files[&older]);
    assert!(refused(second), "another file under its name");
    disk.put(&newer, &files[&newer][..150_000]);
    assert!(refused(second), "a file that is cut off");
    Disk::remove(&disk, &newer).unwrap();
    assert!(refused(second), "a file that is gone");
    assert_eq!(scrub(&storage, usize::MAX), BTreeSet::from([second]));
    disk.put(&newer, &files[&newer]);
    assert_eq!(read(&storage, second).unwrap(), contents[1]);
    assert_eq!(read(&storage, first).unwrap(), contents[0]);
}

#[test]
fn a_snapshot_of_another_disk_is_not_believed() {
    let (disk, storage) = open();
    let content = content(1, 100_000);
    let snapshot = base_on(&storage, 1, 9, &content);
    let path = only_file(&disk);
    let other = SimulatedDisk::new(4);
    let elsewhere = storage_on(&other);
    bootstrap(&elsewhere).unwrap();
    base_on(&elsewhere, 1, 9, &content);
    other.put(&path, &disk.files()[&path]);
    assert!(matches!(read(&elsewhere, snapshot), Err(StorageError::Corrupt { .. })));
}

#[test]
fn an_expected_snapshot_goes_on_from_what_is_well_of_it() {
    let content = content(1, 400_000);
    let expected = id_of(9, &content);
    for (offset, blocks) in
        [(0, 0), (30, 0), (HEADER_BYTES, 0), (HEADER_BYTES + BLOCK_BYTES + 9, 1), (300_000, 4)]
    {
        let (disk, storage) = open();
        block_on(storage.begin_snapshot(Slot::new(9), Some(expected))).unwrap();
        block_on(storage.write_snapshot(0, content.slice(..350_000))).unwrap();
        drop(storage);
        disk.flip(&only_file(&disk), offset, 0x10);
        let storage = storage_on(&disk);
        restart(&storage).unwrap();
        let held = block_on(storage.begin_snapshot(Slot::new(9), Some(expected))).unwrap();
        assert_eq!(held, blocks * (64 << 10), "byte {offset}");
        assert_eq!(write(&storage, 9, &content, true).unwrap(), expected);
        assert_eq!(read(&storage, expected).unwrap(), content, "byte {offset}");
    }
}

#[test]
fn more_than_is_expected_is_refused_at_once_and_nothing_of_it_is_kept() {
    let (disk, storage) = open();
    let content = content(1, 100_000);
    block_on(storage.begin_snapshot(Slot::new(9), Some(id_of(9, &content[..80_000])))).unwrap();
    block_on(storage.write_snapshot(0, content.slice(..70_000))).unwrap();
    let more = block_on(storage.write_snapshot(70_000, content.slice(70_000..)));
    assert!(matches!(more, Err(StorageError::Corrupt { .. })));
    assert!(snapshot_files(&disk).is_empty());
}

// protocol 11, clause 13
#[test]
fn a_scrub_goes_on_where_it_stood_comes_around_and_keeps_to_its_bytes() {
    let (disk, storage) = open();
    let snapshots: Vec<SnapshotId> =
        (1..=2).map(|through| write(&storage, through, &content(through, 300_000), false).unwrap()).collect();
    let path = snapshot_files(&disk)[1].clone();
    disk.flip(&path, 299_000, 1);
    let (mut found, mut read) = (Vec::new(), 0);
    for nth in 0..20 {
        let part = block_on(storage.scrub(70_000)).unwrap();
        assert!((1..=70_000 + 2 * BLOCK_BYTES as u64).contains(&part.bytes), "{}", part.bytes);
        read += part.bytes;
        found.extend(part.snapshots.into_iter().map(|snapshot| (nth, snapshot)));
    }
    assert!(read > 1_200_000, "{read}");
    assert!(found.len() >= 2 && found.iter().all(|(_, damaged)| *damaged == snapshots[1]), "{found:?}");
    assert!(found[0].0 > 4, "found when its turn came: {found:?}");
    disk.flip(&path, 299_000, 1);
    assert_eq!(scrub(&storage, 70_000), BTreeSet::new());
    assert_eq!(scrub(&storage, 0), BTreeSet::new(), "at least one block at a time");
}

// scenario S8, the header of a snapshot; clause 9
#[test]
fn a_snapshot_file_of_any_bytes_is_read_without_a_panic() {
    let (disk, storage) = open();
    let content = content(1, 100_000);
    let snapshot = base_on(&storage, 1, 9, &content);
    drop(storage);
    let sealed = only_file(&disk);
    let partial = Path::new(DIR).join("snapshot-000000000011.partial");
    let mut random = 0x1234_5678_9abc_def0_u64;
    let mut next = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    for _ in 0..1000 {
        let disk = disk.copy();
        disk.put(&partial, &disk.files()[&sealed]);
        for path in [&sealed, &partial] {
            disk.edit(path, |bytes| {
                for _ in 0..next() % 4 + 1 {
                    let reach = [100, bytes.len()][next() as usize % 2];
                    let start = next() as usize % reach;
                    let end = (start + next() as usize % 30).min(bytes.len());
                    let filler = [0, 0xff, next() as u8][next() as usize % 3];
                    bytes[start..end].fill(filler);
                }
                if next() % 10 == 0 {
                    bytes.truncate(next() as usize % bytes.len());
                }
            });
        }
        let storage = storage_on(&disk);
        restart(&storage).unwrap();
        if let Ok(found) = read(&storage, snapshot) {
            assert!(found == content);
        }
        block_on(storage.scrub(usize::MAX)).unwrap();
        assert_eq!(write(&storage, 11, &content, true).unwrap(), id_of(11, &content));
    }
}
