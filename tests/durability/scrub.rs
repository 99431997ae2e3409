//! The scrub: finds what rots while the storage is open, and nothing else.

use super::*;
use std::path::{Path, PathBuf};
use synod::multi::{AbstainReason, Interval, intervals};
use synod::storage::Scrubbed;
use synod::storage::disk::Unsynced;

const HEADER_BYTES: usize = 112;
const RUN_BYTES: usize = 24;

/// A group on the disk.
struct Written {
    path: PathBuf,
    /// Where it starts, where its body does, and where that ends.
    start: usize,
    body: usize,
    end: usize,
    /// The group that it was, if it is no seal.
    nth: Option<usize>,
}

/// The groups of the journal in the order in which they were written.
fn written(disk: &SimulatedDisk) -> Vec<Written> {
    let word =
        |content: &[u8], at: usize| u32::from_le_bytes(content[at..at + 4].try_into().unwrap()) as usize;
    let mut found = Vec::new();
    let mut nth = 0;
    for (path, content) in disk.files() {
        if !path.to_string_lossy().contains("journal-") {
            continue;
        }
        for start in (64..content.len()).step_by(64).filter(|at| content[*at..].starts_with(b"SYNg")) {
            let (header, body) = (word(&content, start + 8), word(&content, start + 12));
            let is_seal = header == HEADER_BYTES;
            assert_eq!((header - HEADER_BYTES) % RUN_BYTES, 0);
            let (body, end) = (start + header, start + header + body);
            found.push(Written { path: path.clone(), start, body, end, nth: (!is_seal).then_some(nth) });
            nth += usize::from(!is_seal);
        }
    }
    found
}

fn scrub(storage: &FileStorage, bytes_max: usize) -> Scrubbed {
    block_on(storage.scrub(bytes_max)).unwrap()
}

/// All that one pass finds.
fn pass(storage: &FileStorage) -> Scrubbed {
    scrub(storage, usize::MAX)
}

fn slots_of(group: &Group) -> Vec<Slot> {
    let slot = |record: &Record| match record {
        Record::Accepted { slot, .. } | Record::Chosen { slot, .. } => Some(*slot),
        _ => None,
    };
    group.records.iter().filter_map(slot).collect()
}

/// The slots whose newest entry stands in group `nth`.
fn newest_in(groups: &[Group], nth: usize) -> Vec<Interval> {
    let mut slots = slots_of(&groups[nth]);
    slots.sort_unstable();
    slots.dedup();
    intervals(
        slots
            .into_iter()
            .filter(|slot| !groups[nth + 1..].iter().any(|later| slots_of(later).contains(slot))),
    )
}

fn open_with(disk: &SimulatedDisk, groups: &[Group]) -> FileStorage {
    let storage = storage_on(disk);
    bootstrap(&storage).unwrap();
    groups.iter().for_each(|group| block_on(storage.append(group.clone())).unwrap());
    storage
}

// clause 13, scenario D7, faults F7 to F9, F11
#[test]
fn each_flipped_byte_of_a_group_is_found_and_reported_by_the_slots_that_it_hurts() {
    let groups = workload(40);
    let disk = SimulatedDisk::new(3);
    let storage = open_with(&disk, &groups);
    assert_eq!(pass(&storage).slots, []);
    let mut flips = 0;
    for Written { path, start, body, end, nth } in written(&disk) {
        let hurt = nth.map_or(Vec::new(), |nth| newest_in(&groups, nth));
        let has_fact = nth == Some(1);
        for offset in (start..end).filter(|offset| offset % 3 == 0 || *offset < body) {
            disk.flip(&path, offset, 0x04);
            let found = pass(&storage);
            disk.flip(&path, offset, 0x04);
            flips += 1;
            let what = format!("{} flipped at {offset}: {found:?}", path.display());
            if offset >= body {
                assert_eq!((&found.slots, found.facts), (&hurt, has_fact), "{what}");
            } else {
                // What a damaged header spoke of is not known: all that its block did.
                let is_reported = |slot: Slot| found.slots.iter().any(|slots| slots.contains(slot));
                assert!(
                    found.facts
                        && hurt.iter().all(|slots| is_reported(slots.first) && is_reported(slots.last)),
                    "{what}"
                );
            }
            assert!(found.bytes > 0);
        }
    }
    assert!(flips > 5000, "{flips}");
    assert_eq!(pass(&storage).slots, [], "sound again");
}

// clauses 9 and 13, protocol 11.5
#[test]
fn a_damaged_entry_is_an_error_to_read_until_it_is_written_again() {
    let groups: Vec<Group> = (1..=6).map(|slot| group(slot, vec![accepted(slot, slot)])).collect();
    let disk = SimulatedDisk::new(3);
    let storage = open_with(&disk, &groups);
    let third = &written(&disk)[2];
    disk.flip(&third.path, third.end - 1, 1);
    let slot = Slot::new(3);
    assert_eq!(pass(&storage).slots, [Interval::new(slot, slot)]);
    let read = || block_on(storage.read(slot..slot.next(), 100));
    assert!(matches!(read(), Err(StorageError::Corrupt { .. })));
    assert_eq!(block_on(storage.read(Slot::new(4)..Slot::MAX, 1000)).unwrap().len(), 3);
    block_on(storage.append(group(7, vec![accepted(3, 9)]))).unwrap();
    assert_eq!((pass(&storage).slots, read().unwrap().len()), (vec![], 1));
}

// A header that is damaged hides one group, and none of those behind it.
#[test]
fn what_was_written_behind_a_damaged_header_is_still_read() {
    let groups: Vec<Group> = (1..=6).map(|slot| group(slot, vec![accepted(slot % 4, slot)])).collect();
    let disk = SimulatedDisk::new(3);
    let storage = open_with(&disk, &groups);
    let third = &written(&disk)[2];
    disk.flip(&third.path, third.start + 20, 1);
    let read = |slot: u64| block_on(storage.read(Slot::new(slot)..Slot::new(slot + 1), 100));
    assert!((1..=2).all(|slot| read(slot).unwrap().len() == 1), "written again in groups 5 and 6");
    assert!(matches!(read(3), Err(StorageError::Corrupt { .. })));
}

// protocol 11.4: what was lost at the start stays reported until it is written again.
#[test]
fn what_a_restart_found_damaged_is_found_by_the_scrub_too() {
    let groups: Vec<Group> = (1..=6).map(|slot| group(slot, vec![accepted(slot, slot)])).collect();
    let disk = SimulatedDisk::new(3);
    let storage = open_with(&disk, &groups);
    let third = &written(&disk)[2];
    disk.flip(&third.path, third.end - 1, 1);
    block_on(storage.close()).unwrap();
    let storage = storage_on(&disk);
    let slot = Slot::new(3);
    assert!(restart(&storage).unwrap().log.is_unknown(slot));
    assert_eq!(pass(&storage).slots, [Interval::new(slot, slot)]);
    block_on(storage.append(group(7, vec![accepted(3, 9)]))).unwrap();
    assert_eq!(pass(&storage).slots, []);
}

// What a crash tore was cut off: nothing is damaged.
#[test]
fn a_torn_write_that_was_cut_off_is_not_reported() {
    let groups: Vec<Group> = (1..=3).map(|slot| group(slot, vec![accepted(slot, slot)])).collect();
    let disk = SimulatedDisk::new(3);
    let storage = open_with(&disk, &groups);
    let last = written(&disk).pop().unwrap();
    drop(storage);
    disk.power_cut(Unsynced::Lost);
    disk.edit(&last.path, |content| content[last.end - 30..last.end].fill(0));
    let storage = storage_on(&disk);
    restart(&storage).unwrap();
    assert_eq!(storage.damage().len(), 1);
    let found = pass(&storage);
    assert_eq!((found.slots, found.facts), (vec![], false));
}

// clause 13
#[test]
fn a_pass_is_done_in_small_pieces_and_begins_anew_after_the_end() {
    let groups = workload(120);
    let disk = SimulatedDisk::new(3);
    let storage = open_with(&disk, &groups);
    let whole = pass(&storage).bytes;
    let on_disk: usize =
        written(&disk).iter().map(|group| (group.end - group.start).next_multiple_of(64)).sum();
    assert_eq!(whole, on_disk as u64);
    for _ in 0..2 {
        let (mut sum, mut pieces) = (0, 0);
        while sum < whole && pieces < 1000 {
            let bytes = scrub(&storage, 6000).bytes;
            assert!(bytes <= 6000 + 4096, "{bytes}");
            (sum, pieces) = (sum + bytes, pieces + 1);
        }
        assert_eq!(sum, whole, "each group once");
        assert!((5..50).contains(&pieces), "{pieces}");
    }
}

// clause 13: beside appends and cuts, on real threads.
#[test]
fn a_sound_journal_is_never_reported_while_it_is_written_and_cut() {
    let directory = tempfile::tempdir().unwrap();
    let storage = FileStorage::at(directory.path()).segment_bytes(16 << 10);
    bootstrap(&storage).unwrap();
    let (done, checked) = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut log = Log::default();
            for written in workload(1500) {
                written.records.iter().for_each(|record| log.apply(record));
                let sequence = written.sequence.0;
                block_on(storage.append(written)).unwrap();
                if sequence % 50 == 0 {
                    block_on(storage.trim(log.chosen_through(), log.facts())).unwrap();
                }
            }
        });
        let mut checked = 0;
        while !writer.is_finished() && checked < 1 << 30 {
            let found = scrub(&storage, 5000);
            assert_eq!((&found.slots, found.facts), (&vec![], false), "{found:?}");
            checked += found.bytes;
        }
        (writer.join().is_ok(), checked)
    });
    assert!(done && checked > 100_000, "{checked} bytes were checked");
}

/// A journal that was cut, with what was appended to it.
fn cut(disk: &SimulatedDisk) -> (FileStorage, Vec<Group>, Log) {
    let mut groups = workload(60);
    groups.push(group(61, vec![trim::base_at(&fold(&groups, 60))]));
    let storage = open_with(disk, &groups);
    let log = fold(&groups, 61);
    let gone = block_on(storage.trim(log.base().unwrap().through, log.facts())).unwrap();
    assert!(gone > Slot::new(5));
    (storage, groups, log)
}

// clause 13, fault F7: the checkpoint is restated before the next start.
#[test]
fn a_damaged_checkpoint_is_found_and_mended_by_the_next_cut() {
    let disk = SimulatedDisk::new(3);
    let (storage, _, log) = cut(&disk);
    assert_eq!((pass(&storage).slots, pass(&storage).facts), (vec![], false));
    let path = Path::new(DIR).join("checkpoint");
    for offset in (0..disk.files()[&path].len()).step_by(5) {
        disk.flip(&path, offset, 0x20);
        assert!(pass(&storage).facts, "flipped at {offset}");
        block_on(storage.trim(Slot::FIRST, log.facts())).unwrap();
        assert!(!pass(&storage).facts, "restated");
    }
    Disk::remove(&disk, &path).unwrap();
    assert!(pass(&storage).facts, "it is gone");
    block_on(storage.trim(Slot::FIRST, log.facts())).unwrap();
    drop(storage);
    disk.power_cut(Unsynced::Lost);
    let recovered = restart(&storage_on(&disk)).unwrap().log;
    assert_eq!((recovered.promised(), recovered.base()), (log.promised(), log.base()));
}

// clause 13: a fact that was restated since its group was damaged is well, also for the next start.
#[test]
fn a_damaged_fact_is_reported_until_it_is_restated() {
    let disk = SimulatedDisk::new(3);
    let groups = workload(10);
    let storage = open_with(&disk, &groups);
    let second = &written(&disk)[1];
    disk.flip(&second.path, second.end - 1, 1);
    assert!(pass(&storage).facts, "what the cluster formed of stands there");
    let log = fold(&groups, 10);
    block_on(storage.trim(Slot::ZERO, log.facts())).unwrap();
    assert!(!pass(&storage).facts);
    block_on(storage.close()).unwrap();
    let recovered = restart(&storage_on(&disk)).unwrap().log;
    assert_eq!((recovered.abstains(), recovered.base()), (None, log.base()));
    assert_eq!(recovered.peer(NodeId::new(2)), log.peer(NodeId::new(2)));
    drop(disk);

    let disk = SimulatedDisk::new(3);
    let storage = open_with(&disk, &groups);
    disk.flip(&second.path, second.end - 1, 1);
    block_on(storage.close()).unwrap();
    let recovered = restart(&storage_on(&disk)).unwrap().log;
    assert_eq!(recovered.abstains(), Some(AbstainReason::PromiseInDoubt), "it was not restated in time");
}
