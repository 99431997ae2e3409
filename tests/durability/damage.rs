//! Damage: bits that have rotted, groups that went missing, segments from elsewhere.

use super::*;
use std::path::{Path, PathBuf};
use synod::multi::AbstainReason;
use synod::storage::disk::Unsynced;
use synod::storage::journal::Damage;

const HEADER_BYTES: usize = 64;

fn segment(number: u64) -> PathBuf {
    Path::new(DIR).join(format!("journal-{number:012}.log"))
}

/// A directory that these groups were written to, closed.
fn written(groups: &[Group]) -> SimulatedDisk {
    let disk = SimulatedDisk::new(3);
    let storage = storage_on(&disk);
    bootstrap(&storage).unwrap();
    for group in groups {
        block_on(storage.append(group.clone())).unwrap();
    }
    block_on(storage.close()).unwrap();
    disk
}

/// Where the groups of a segment start.
fn starts(disk: &SimulatedDisk, number: u64) -> Vec<usize> {
    let files = disk.files();
    let content = &files[&segment(number)];
    (HEADER_BYTES..content.len()).step_by(64).filter(|at| content[*at..].starts_with(b"SYNg")).collect()
}

/// The last byte of group `nth`'s body: not padding.
fn body_end(disk: &SimulatedDisk, number: u64, nth: usize) -> usize {
    let files = disk.files();
    let content = &files[&segment(number)];
    let next = starts(disk, number)[nth + 1];
    (0..next).rev().find(|at| content[*at] != 0).unwrap()
}

/// What flipping bytes came to.
#[derive(Default)]
struct Flips {
    refused: usize,
    noticed: usize,
    all: usize,
}

/// Flips every `step`th byte of every file in turn, and checks that a restart is refused, or takes nothing damaged for true.
fn flip_each(disk: &SimulatedDisk, groups: &[Group], truth: &Log, step: impl Fn(&Path) -> usize) -> Flips {
    let values = |log: &Log, slot| log.entry(slot).map(|entry| entry.value.clone());
    let mut newest = BTreeMap::new();
    for record in groups.iter().flat_map(|group| &group.records) {
        if let Record::Accepted { slot, value, .. } | Record::Chosen { slot, value } = record {
            newest.insert(*slot, value.clone());
        }
    }
    let mut flips = Flips::default();
    for (path, content) in disk.files() {
        for offset in (0..content.len()).step_by(step(&path)) {
            let mask = if offset % 2 == 0 { 0x01 } else { 0x80 };
            let disk = disk.copy();
            disk.flip(&path, offset, mask);
            flips.all += 1;
            let what = format!("{} flipped at {offset}", path.display());
            let storage = storage_on(&disk);
            let recovered = match restart(&storage) {
                Err(StorageError::Corrupt { .. } | StorageError::UnknownFormat { .. }) => {
                    flips.refused += 1;
                    continue;
                }
                recovered => recovered.unwrap_or_else(|error| panic!("{what}: {error:?}")),
            };
            flips.noticed += usize::from(!storage.damage().is_empty());
            let (log, abstains) = (recovered.log, storage.damage().contains(&Damage::InDoubt));
            assert_eq!(log.abstains().is_some(), abstains, "{what}");
            assert!(abstains || log.promised() >= truth.promised(), "{what}: the promise went down");
            assert!(abstains || log.base() == truth.base(), "{what}: the base went down");
            let peer = NodeId::new(2);
            assert!(abstains || log.peer(peer).seen == truth.peer(peer).seen, "{what}: a peer was forgotten");
            assert!(log.chosen_through() <= truth.chosen_through(), "{what}: more is chosen than was");
            for (slot, value) in &newest {
                if *slot > log.chosen_through() {
                    let kept = log.entry(*slot).is_some_and(|entry| entry.value == *value);
                    let honest = abstains || kept || log.is_unknown(*slot);
                    assert!(honest, "{what}: {slot} says {:?}, it was {:?}", values(&log, *slot), value);
                }
                if let Ok(found) = block_on(storage.read(*slot..slot.next(), 10_000)) {
                    for (_, entry) in found {
                        let older = *slot > log.chosen_through() && log.is_unknown(*slot);
                        assert!(
                            entry.value == *value || abstains || older,
                            "{what}: {slot} reads another value"
                        );
                    }
                }
            }
        }
    }
    flips
}

// scenario D7, faults F5 to F11
#[test]
fn a_flipped_byte_anywhere_is_detected_or_harmless() {
    let groups = workload_under(3, 21);
    let disk = written(&groups);
    let Flips { refused, noticed, all } = flip_each(&disk, &groups, &fold(&groups, groups.len()), |_| 1);
    assert!(refused > 100 && noticed > 2000, "{refused} refused and {noticed} noticed of {all}");
}

fn checkpoint() -> PathBuf {
    Path::new(DIR).join("checkpoint")
}

/// A closed directory that these groups were written to and that was cut twice: after two thirds of them, and at `last`.
fn cut_at(groups: &[Group], last: usize) -> (SimulatedDisk, Vec<Group>) {
    let disk = SimulatedDisk::new(3);
    let storage = storage_on(&disk);
    bootstrap(&storage).unwrap();
    let (mut log, mut all) = (Log::default(), Vec::new());
    for (nth, written) in groups.iter().enumerate() {
        let mut group = group(written.sequence.0, written.records.clone());
        group.records.iter().for_each(|record| log.apply(record));
        let cuts = nth == groups.len() * 2 / 3 || nth == last;
        if cuts {
            let based = trim::base_at(&log);
            log.apply(&based);
            group.records.push(based);
        }
        block_on(storage.append(group.clone())).unwrap();
        all.push(group);
        if cuts {
            block_on(storage.trim(log.base().unwrap().through, log.facts())).unwrap();
        }
    }
    block_on(storage.close()).unwrap();
    assert!(!disk.files().contains_key(&segment(1)), "the first segment was cut away");
    (disk, all)
}

// scenario D7, faults F5 to F11: each byte of a checkpoint, and many of the journal behind it.
#[test]
fn a_flipped_byte_behind_a_cut_is_detected_or_harmless() {
    for last in [50, 59] {
        let (disk, groups) = cut_at(&workload_under(4, 60), last);
        let truth = fold(&groups, groups.len());
        let step = |path: &Path| if path == checkpoint() { 1 } else { 3 };
        let Flips { refused, noticed, all } = flip_each(&disk, &groups, &truth, step);
        let bytes = disk.files()[&checkpoint()].len();
        assert!(refused > bytes && noticed > 500, "{refused} refused and {noticed} noticed of {all}");
    }
}

// fault F7, law 2
#[test]
fn a_checkpoint_that_is_damaged_cut_missing_or_of_another_disk_is_refused_and_nothing_changes() {
    let (disk, _) = cut_at(&workload(60), 50);
    let other = {
        let other = SimulatedDisk::new(4);
        let storage = storage_on(&other);
        bootstrap(&storage).unwrap();
        block_on(storage.trim(Slot::ZERO, vec![Record::Promised { id: id(1) }])).unwrap();
        other.files()[&checkpoint()].clone()
    };
    let changes: [&dyn Fn(&SimulatedDisk); 5] = [
        &|disk| disk.flip(&checkpoint(), 60, 1),
        &|disk| disk.edit(&checkpoint(), |content| content.truncate(content.len() / 2)),
        &|disk| disk.edit(&checkpoint(), Vec::clear),
        &|disk| Disk::remove(disk, &checkpoint()).unwrap(),
        &|disk| disk.put(&checkpoint(), &other),
    ];
    for (nth, change) in changes.into_iter().enumerate() {
        let disk = disk.copy();
        change(&disk);
        let before = disk.files();
        let refused = restart(&storage_on(&disk));
        assert!(matches!(refused, Err(StorageError::Corrupt { .. })), "change {nth}: {refused:?}");
        assert_eq!(disk.files(), before, "change {nth}");
    }
    // Nothing else is left of the directory: still no place for a new node.
    for (path, _) in disk.files().iter().filter(|(path, _)| **path != checkpoint()) {
        Disk::remove(&disk, path).unwrap();
    }
    for start in [Start::Restart, Start::Join] {
        let refused = block_on(storage_on(&disk).open(owner(), start));
        assert!(matches!(refused, Err(StorageError::Corrupt { .. })), "{refused:?}");
    }
}

// protocol 11.2, 11.4: the checkpoint knows that groups were durable which nothing else speaks of any more.
#[test]
fn a_node_abstains_when_the_newest_groups_that_a_checkpoint_covers_are_gone() {
    let (disk, groups) = cut_at(&workload(60), 59);
    let truth = fold(&groups, groups.len());
    let newest = disk.files().into_keys().rfind(|path| path.to_string_lossy().contains("journal-")).unwrap();
    disk.edit(&newest, |content| content[HEADER_BYTES..].fill(0));
    for _ in 0..3 {
        let log = restart(&storage_on(&disk)).unwrap().log;
        assert_eq!(log.abstains(), Some(AbstainReason::PromiseInDoubt));
        assert_eq!((log.promised(), log.base()), (truth.promised(), truth.base()), "as the checkpoint says");
        assert!(log.is_unknown(log.chosen_through().next()));
        disk.power_cut(Unsynced::Lost);
    }
}

// protocol 9.3: an older word on a fact never counts again because the newest is damaged.
#[test]
fn a_damaged_fact_that_the_checkpoint_restates_does_not_bring_an_older_one_back() {
    let seen = |counter| {
        let incarnation = Incarnation { counter, nonce: counter };
        Record::PeerSeen { node: NodeId::new(2), disk: DiskId(2), incarnation }
    };
    for is_followed in [false, true] {
        let mut groups: Vec<Group> = (1..=3).map(|counter| group(counter, vec![seen(counter)])).collect();
        let disk = SimulatedDisk::new(3);
        let storage = storage_on(&disk);
        bootstrap(&storage).unwrap();
        groups.iter().for_each(|group| block_on(storage.append(group.clone())).unwrap());
        block_on(storage.trim(Slot::ZERO, fold(&groups, 3).facts())).unwrap();
        if is_followed {
            groups.push(group(4, vec![accepted(1, 1)]));
            block_on(storage.append(groups[3].clone())).unwrap();
        }
        block_on(storage.close()).unwrap();
        disk.flip(&segment(1), body_end(&disk, 1, 2), 0x10);
        let log = restart(&storage_on(&disk)).unwrap().log;
        assert_eq!(log, fold(&groups, groups.len()), "followed: {is_followed}");
    }
}

// 11.2: the last segments are missing, and the chain in front of them ends with a seal.
#[test]
fn missing_segments_are_damage_also_where_nothing_was_written_behind_them() {
    let groups = workload(60);
    let disk = written(&groups);
    let files = disk.files();
    let newest = files.keys().filter(|path| path.to_string_lossy().contains("journal-")).count() as u64;
    disk.edit(&segment(newest), |content| content[HEADER_BYTES..].fill(0));
    Disk::remove(&disk, &segment(newest - 1)).unwrap();
    let log = restart(&storage_on(&disk)).unwrap().log;
    assert_eq!(log.abstains(), Some(AbstainReason::PromiseInDoubt));
    assert!(log.is_unknown(log.chosen_through().next()));
}

// scenario D8, protocol 11.2, 11.4, fault F11
#[test]
fn a_damaged_body_in_the_middle_leaves_its_slots_unknown_and_nothing_is_cut_off() {
    let groups: Vec<Group> = (1..=6).map(|slot| group(slot, vec![accepted(slot, slot)])).collect();
    let disk = written(&groups);
    disk.flip(&segment(1), body_end(&disk, 1, 2), 0x10);
    let before = disk.files()[&segment(1)].clone();
    let storage = storage_on(&disk);
    let log = restart(&storage).unwrap().log;
    let unknown: Vec<u64> = (1..=6).filter(|slot| log.is_unknown(Slot::new(*slot))).collect();
    assert_eq!(unknown, [3]);
    assert_eq!(log.promised(), Some(id(6)));
    assert_eq!(log.abstains(), None);
    assert_eq!(storage.damage().len(), 1);
    assert!(matches!(storage.damage()[0], Damage::Body(_)));
    assert_eq!(disk.files()[&segment(1)], before, "nothing was changed");
    let found = block_on(storage.read(Slot::new(3)..Slot::new(4), 100)).unwrap();
    assert_eq!(found, [], "what is unknown is not read");
}

// protocol 11.2: the last group is known to have been flushed, by its seal.
#[test]
fn damage_to_the_last_group_before_its_seal_is_rot() {
    let groups: Vec<Group> = (1..=3).map(|slot| group(slot, vec![accepted(slot, slot)])).collect();
    let disk = written(&groups);
    disk.flip(&segment(1), body_end(&disk, 1, 2), 0x10);
    let log = restart(&storage_on(&disk)).unwrap().log;
    assert!(log.is_unknown(Slot::new(3)));
    assert_eq!(log.promised(), Some(id(3)));
}

// scenario D8, protocol 11.2, 11.3, fault F5
#[test]
fn a_torn_last_group_is_cut_off_reported_and_zeroed_before_the_first_append() {
    let groups: Vec<Group> = (1..=3).map(|slot| group(slot, vec![accepted(slot, slot)])).collect();
    let disk = SimulatedDisk::new(3);
    let storage = storage_on(&disk);
    bootstrap(&storage).unwrap();
    for group in &groups {
        block_on(storage.append(group.clone())).unwrap();
    }
    disk.power_cut(Unsynced::Lost);
    let last = starts(&disk, 1)[2];
    // The tail of the last write never came to the disk.
    disk.edit(&segment(1), |content| content[last + 150..last + 192].fill(0));
    let storage = storage_on(&disk);
    let log = restart(&storage).unwrap().log;
    assert_eq!(log, fold(&groups, 2));
    assert!(matches!(storage.damage()[..], [Damage::TornTail(at)] if at.offset == last));
    disk.power_cut(Unsynced::Lost);
    let content = disk.files()[&segment(1)].clone();
    assert!(content[last..].iter().all(|byte| *byte == 0), "the rest was zeroed, durably");
}

// protocol 11.4
#[test]
fn a_damaged_header_leaves_every_open_slot_unknown_that_is_not_accepted_again_later() {
    let mut groups: Vec<Group> = (1..=6).map(|slot| group(slot, vec![accepted(slot, 1)])).collect();
    groups[1].records.push(Record::Watermark { id: id(1), through: Slot::new(2) });
    groups.push(group(7, vec![accepted(3, 5)]));
    let disk = written(&groups);
    let third = starts(&disk, 1)[4];
    disk.flip(&segment(1), third + 50, 0x10);
    let storage = storage_on(&disk);
    let log = restart(&storage).unwrap().log;
    let unknown: Vec<u64> = (1..=9).filter(|slot| log.is_unknown(Slot::new(*slot))).collect();
    assert_eq!(log.chosen_through(), Slot::new(2));
    assert_eq!(unknown, [4, 5, 7, 8, 9], "1 and 2 are chosen, 3 and 6 were accepted later");
    assert_eq!(log.promised(), Some(id(5)), "as the later header says");
    assert_eq!(log.abstains(), None);
    // protocol 11.5: accepting there ends it, also for the next start.
    block_on(storage.append(group(8, vec![accepted(4, 6)]))).unwrap();
    disk.power_cut(Unsynced::Lost);
    let log = restart(&storage_on(&disk)).unwrap().log;
    assert!(!log.is_unknown(Slot::new(4)) && log.is_unknown(Slot::new(5)));
}

// protocol 11.4, fault F7: no later header says what was promised.
#[test]
fn a_node_abstains_for_ever_when_the_promise_is_in_doubt() {
    let groups: Vec<Group> = (1..=4).map(|slot| group(slot, vec![accepted(slot, slot)])).collect();
    let disk = written(&groups);
    let starts = starts(&disk, 1);
    disk.flip(&segment(1), body_end(&disk, 1, 2), 0x10);
    disk.flip(&segment(1), starts[3] + 20, 0x10);
    disk.flip(&segment(1), starts[4] + 20, 0x10);
    for _ in 0..3 {
        let log = restart(&storage_on(&disk)).unwrap().log;
        assert_eq!(log.abstains(), Some(AbstainReason::PromiseInDoubt));
        assert!(log.is_unknown(Slot::new(3)) && log.is_unknown(Slot::new(4)));
        disk.power_cut(Unsynced::Lost);
    }
    assert!(!disk.files().contains_key(&segment(3)), "one new segment, not one for each start");
}

// protocol 11.1, fault F12
#[test]
fn a_group_in_another_place_or_of_another_disk_is_not_believed() {
    let groups: Vec<Group> = (1..=3).map(|slot| group(slot, vec![accepted(slot, slot)])).collect();
    let disk = written(&groups);
    let starts = starts(&disk, 1);
    disk.edit(&segment(1), |content| content.copy_within(starts[1]..starts[2], starts[2]));
    let log = restart(&storage_on(&disk)).unwrap().log;
    assert!(log.is_unknown(Slot::new(3)), "a stale sector in the place of a group is damage");

    let other = SimulatedDisk::new(4);
    let storage = storage_on(&other);
    bootstrap(&storage).unwrap();
    block_on(storage.close()).unwrap();
    other.put(&segment(1), &written(&groups).files()[&segment(1)]);
    assert!(matches!(restart(&storage_on(&other)), Err(StorageError::Corrupt { .. })));
}

#[test]
fn a_missing_segment_is_damage_and_a_missing_journal_is_refused() {
    let groups = workload(60);
    let disk = written(&groups);
    assert!(disk.files().contains_key(&segment(4)));
    let gap = disk.copy();
    Disk::remove(&gap, &segment(2)).unwrap();
    let storage = storage_on(&gap);
    let log = restart(&storage).unwrap().log;
    assert!(log.has_unknown() || log.abstains().is_some());
    for (path, _) in disk.files().iter().filter(|(path, _)| path.to_string_lossy().contains("journal-")) {
        Disk::remove(&disk, path).unwrap();
    }
    assert!(matches!(restart(&storage_on(&disk)), Err(StorageError::Corrupt { .. })));
}

#[test]
fn a_missing_identity_is_refused_and_the_journal_is_not_touched() {
    let disk = written(&workload(5));
    Disk::remove(&disk, &Path::new(DIR).join("identity")).unwrap();
    let before = disk.files();
    for start in [Start::Restart, Start::Join, Start::Bootstrap(members())] {
        let refused = block_on(storage_on(&disk).open(owner(), start));
        assert!(matches!(refused, Err(StorageError::Corrupt { .. })));
    }
    assert_eq!(disk.files(), before);
}

// clause 9; lengths that cannot be true allocate nothing.
#[test]
fn a_journal_of_any_bytes_is_read_without_a_panic() {
    let groups = workload(12);
    let disk = written(&groups);
    let mut random = 0x1234_5678_9abc_def0_u64;
    let mut next = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    for _ in 0..2000 {
        let disk = disk.copy();
        disk.edit(&segment(1), |content| {
            for _ in 0..next() % 8 + 1 {
                let (start, length) = (next() as usize % content.len(), next() as usize % 300);
                let end = (start + length).min(content.len());
                let filler = [0, 0xff, next() as u8][next() as usize % 3];
                content[start..end].fill(filler);
            }
            if next() % 10 == 0 {
                content.truncate(next() as usize % content.len());
            }
        });
        let storage = storage_on(&disk);
        if restart(&storage).is_ok() {
            let _ = block_on(storage.read(Slot::FIRST..Slot::MAX, 10_000));
            let _ = block_on(storage.append(group(100, vec![accepted(90, 90)])));
            let _ = block_on(storage.recover());
        }
    }
}

#[test]
fn a_read_of_what_rotted_while_open_is_an_error() {
    let disk = SimulatedDisk::new(3);
    let storage = storage_on(&disk);
    bootstrap(&storage).unwrap();
    block_on(storage.append(group(1, vec![accepted(1, 1)]))).unwrap();
    block_on(storage.append(group(2, vec![accepted(2, 1)]))).unwrap();
    disk.flip(&segment(1), body_end(&disk, 1, 0), 1);
    let found = block_on(storage.read(Slot::FIRST..Slot::new(3), 1000));
    assert!(matches!(found, Err(StorageError::Corrupt { .. })));
    assert!(block_on(storage.recover()).unwrap().log.is_unknown(Slot::FIRST));
}
