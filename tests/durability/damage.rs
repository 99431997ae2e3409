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

// scenario D7, faults F5 to F11
#[test]
fn a_flipped_byte_anywhere_is_detected_or_harmless() {
    let groups = workload_under(3, 21);
    let disk = written(&groups);
    let truth = fold(&groups, groups.len());
    let values = |log: &Log, slot| log.entry(slot).map(|entry| entry.value.clone());
    let mut newest = BTreeMap::new();
    for record in groups.iter().flat_map(|group| &group.records) {
        if let Record::Accepted { slot, value, .. } | Record::Chosen { slot, value } = record {
            newest.insert(*slot, value.clone());
        }
    }
    let (mut refused, mut noticed, mut flips) = (0, 0, 0);
    for (path, content) in disk.files() {
        for offset in 0..content.len() {
            let mask = if offset % 2 == 0 { 0x01 } else { 0x80 };
            let disk = disk.copy();
            disk.flip(&path, offset, mask);
            flips += 1;
            let what = format!("{} flipped at {offset}", path.display());
            let storage = storage_on(&disk);
            let recovered = match restart(&storage) {
                Err(StorageError::Corrupt { .. } | StorageError::UnknownFormat { .. }) => {
                    refused += 1;
                    continue;
                }
                recovered => recovered.unwrap_or_else(|error| panic!("{what}: {error:?}")),
            };
            noticed += usize::from(!storage.damage().is_empty());
            let (log, abstains) = (recovered.log, storage.damage().contains(&Damage::InDoubt));
            assert_eq!(log.abstains().is_some(), abstains, "{what}");
            assert!(abstains || log.promised() >= truth.promised(), "{what}: the promise went down");
            assert!(abstains || log.base() == truth.base(), "{what}: the cluster is not formed any more");
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
    assert!(refused > 100 && noticed > 2000, "{refused} refused and {noticed} noticed of {flips}");
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
