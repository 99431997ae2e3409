//! Crashes: before, after and in the middle of every call to the disk.

use super::*;
use std::io::ErrorKind;
use synod::multi::Entry;
use synod::storage::disk::{Fault, Unsynced};
use synod::storage::journal::Damage;

/// Runs the workload until the power fails, and says how many groups were acknowledged, and how many starts.
fn run(disk: &SimulatedDisk, groups: &[Group]) -> (usize, usize) {
    let storage = storage_on(disk);
    if bootstrap(&storage).is_err() {
        return (0, 0);
    }
    for (done, group) in groups.iter().enumerate() {
        if block_on(storage.append(group.clone())).is_err() {
            return (done, 1);
        }
    }
    let _ = block_on(storage.close());
    (groups.len(), 1)
}

/// Opens what a crash left and checks that it is the fold of the groups acknowledged, or of one more.
fn check(disk: &SimulatedDisk, groups: &[Group], (acknowledged, starts): (usize, usize), what: &str) {
    let storage = storage_on(disk);
    let recovered = match restart(&storage) {
        Err(StorageError::Empty { .. }) if starts == 0 => bootstrap(&storage).unwrap(),
        recovered => recovered.unwrap_or_else(|error| panic!("{what}: {error:?}")),
    };
    assert!(recovered.incarnations.len() > starts, "{what}: a start was forgotten"); // protocol 9.3
    let count =
        [acknowledged, acknowledged + 1].into_iter().find(|count| recovered.log == fold(groups, *count));
    let count =
        count.unwrap_or_else(|| panic!("{what}: {acknowledged} groups were acknowledged, and differ"));
    let known = |damage: &Damage| matches!(damage, Damage::TornTail(_));
    assert!(storage.damage().iter().all(known), "{what}: {:?}", storage.damage());
    readable(&storage, &recovered.log, what);
    // The journal goes on behind what was cut off.
    let more = group(10_000, vec![Record::Promised { id: id(77) }, accepted(500, 77)]);
    block_on(storage.append(more.clone())).unwrap();
    disk.power_cut(Unsynced::Lost);
    let mut expected = fold(groups, count);
    more.records.iter().for_each(|record| expected.apply(record));
    let again = restart(&storage_on(disk)).unwrap();
    assert_eq!(again.log, expected, "{what}: after one more append");
    assert_eq!(again.sequence, Sequence(10_000));
}

/// Every value that `chosen_through` covers can be read.
fn readable(storage: &FileStorage, log: &Log, what: &str) {
    let mut next = Slot::FIRST;
    while next <= log.chosen_through() {
        let page: Vec<(Slot, Entry)> =
            block_on(storage.read(next..log.chosen_through().next(), 500)).unwrap();
        assert!(!page.is_empty(), "{what}: {next} is chosen and not there"); // protocol 3.4
        assert_eq!(page[0].0, next);
        next = page[page.len() - 1].0.next();
    }
}

// scenario D1, protocol 1.2, 3.4, 9.3, 11.3
#[test]
fn every_acknowledged_append_is_there_after_a_power_cut_at_any_call() {
    let groups = workload(200);
    let whole = SimulatedDisk::new(3);
    assert_eq!(run(&whole, &groups), (200, 1));
    let operations = whole.operations();
    assert!(
        operations > 400 && fold(&groups, 200).chosen_through() > Slot::new(80),
        "the workload does too little"
    );
    for operation in 0..operations {
        for fault in [Fault::PowerOff, Fault::PowerOffAfter] {
            let disk = SimulatedDisk::new(3);
            disk.fault_at(operation, fault);
            let done = run(&disk, &groups);
            assert!(disk.is_off());
            for unsynced in
                [Unsynced::Lost, Unsynced::Kept, Unsynced::Some(operation), Unsynced::Some(!operation)]
            {
                let disk = disk.copy();
                disk.power_cut(unsynced);
                check(&disk, &groups, done, &format!("{fault:?} at call {operation}, {unsynced:?}"));
            }
        }
    }
}

// scenario D2
#[test]
fn a_write_torn_at_any_byte_of_a_header_and_any_sector_is_cut_off() {
    let groups = workload(14);
    let whole = SimulatedDisk::new(3);
    run(&whole, &groups);
    for operation in 0..whole.operations() {
        for bytes in (0..220).chain((0..=4096).step_by(512)) {
            let disk = SimulatedDisk::new(3);
            disk.fault_at(operation, Fault::Torn(bytes));
            let done = run(&disk, &groups);
            disk.power_cut(Unsynced::Lost);
            check(&disk, &groups, done, &format!("torn after {bytes} bytes at call {operation}"));
        }
    }
}

// scenario D4, the storage half
#[test]
fn an_append_is_refused_for_ever_after_a_flush_that_failed_once() {
    let disk = SimulatedDisk::new(3);
    let storage = storage_on(&disk);
    bootstrap(&storage).unwrap();
    block_on(storage.append(group(1, vec![accepted(1, 1)]))).unwrap();
    disk.fault_at(disk.operations() + 1, Fault::Error(ErrorKind::Other));
    let failed = block_on(storage.append(group(2, vec![accepted(2, 2)])));
    assert!(matches!(failed, Err(StorageError::Io { op: "fsync", .. })));
    let operations = disk.operations();
    for sequence in 3..6 {
        let refused = block_on(storage.append(group(sequence, vec![accepted(3, 1)])));
        assert!(matches!(refused, Err(StorageError::Poisoned)));
    }
    assert!(matches!(block_on(storage.close()), Err(StorageError::Poisoned)));
    assert_eq!(disk.operations(), operations, "nothing is written and nothing flushed after the failure");
    disk.power_cut(Unsynced::Kept);
    assert_eq!(restart(&storage_on(&disk)).unwrap().log, fold(&[group(1, vec![accepted(1, 1)])], 1));
}

// scenario D5, the storage half; fault F14
#[test]
fn a_full_disk_is_a_typed_error_and_a_restart_with_space_goes_on() {
    let groups = workload(30);
    let whole = SimulatedDisk::new(3);
    run(&whole, &groups);
    for operation in 0..whole.operations() {
        let disk = SimulatedDisk::new(3);
        disk.fault_at(operation, Fault::Error(ErrorKind::StorageFull));
        let done = run(&disk, &groups);
        disk.power_cut(Unsynced::Kept);
        check(&disk, &groups, done, &format!("disk full at call {operation}"));
    }
    let disk = SimulatedDisk::new(3);
    let storage = storage_on(&disk);
    bootstrap(&storage).unwrap();
    disk.fault_at(disk.operations(), Fault::Error(ErrorKind::StorageFull));
    let failed = block_on(storage.append(groups[0].clone()));
    let Err(StorageError::Io { op: "write", source, .. }) = failed else { panic!("{failed:?}") };
    assert_eq!(source.kind(), ErrorKind::StorageFull);
}

// defect B18, fault F15
#[test]
fn short_and_interrupted_writes_go_on_to_the_end() {
    let groups = workload(20);
    let whole = SimulatedDisk::new(3);
    run(&whole, &groups);
    for operation in 0..whole.operations() {
        for fault in [Fault::Short(3), Fault::Short(64)] {
            let disk = SimulatedDisk::new(3);
            disk.fault_at(operation, fault);
            assert_eq!(run(&disk, &groups), (20, 1), "{fault:?} at call {operation}");
            disk.power_cut(Unsynced::Lost);
            check(&disk, &groups, (20, 1), &format!("{fault:?} at call {operation}"));
        }
    }
    let disk = SimulatedDisk::new(3);
    let storage = storage_on(&disk);
    bootstrap(&storage).unwrap();
    disk.fault_at(disk.operations(), Fault::Error(ErrorKind::Interrupted));
    block_on(storage.append(groups[0].clone())).unwrap();
}

// protocol 9.3
#[test]
fn the_newest_starts_are_kept_when_there_were_very_many() {
    let disk = SimulatedDisk::new(3);
    drop(bootstrap(&storage_on(&disk)).unwrap());
    for _ in 0..1100 {
        drop(restart(&storage_on(&disk)).unwrap());
    }
    let recovered = restart(&storage_on(&disk)).unwrap();
    let counters: Vec<u64> = recovered.incarnations.iter().map(|incarnation| incarnation.counter).collect();
    assert_eq!(counters, (79..=1102).collect::<Vec<u64>>());
}

// protocol 11.6, clause 6
#[test]
fn an_append_whose_future_was_dropped_is_in_what_is_recovered_after_it() {
    let directory = tempfile::tempdir().unwrap();
    let storage = FileStorage::at(directory.path()).segment_bytes(64 << 10);
    bootstrap(&storage).unwrap();
    for step in 1..=50 {
        use futures::FutureExt;
        let _ = storage.append(group(step, vec![accepted(step, 1)])).now_or_never();
        let recovered = block_on(storage.recover()).unwrap();
        assert_eq!(recovered.sequence, Sequence(step), "the append has ended before the fold");
    }
}
