//! The cut: what it leaves, in which order it is done, and what a crash in the middle of it comes to.

use super::*;
use std::io::ErrorKind;
use std::path::Path;
use synod::multi::{Base, SnapshotId};
use synod::storage::disk::{Fault, Operation, RealDisk, RecordedDisk, Unsynced};
use synod::storage::journal::Damage;

/// What an acceptor asks of its storage.
#[derive(Clone, Debug)]
enum Step {
    Append(Group),
    /// Cuts for the newest base.
    Trim,
}

/// The workload, with a base at what is learned, and a cut for it, after every so many groups.
fn trimming(operations: u64, every: u64) -> Vec<Step> {
    let mut steps = Vec::new();
    let (mut log, mut sequence) = (Log::default(), 0);
    for written in workload(operations) {
        written.records.iter().for_each(|record| log.apply(record));
        sequence += 1;
        steps.push(Step::Append(group(sequence, written.records)));
        if sequence % every == 0 {
            sequence += 1;
            let based = base_at(&log);
            log.apply(&based);
            steps.push(Step::Append(group(sequence, vec![based])));
            steps.push(Step::Trim);
        }
    }
    steps
}

/// The log may begin above all that is learned.
pub(super) fn base_at(log: &Log) -> Record {
    let through = log.chosen_through();
    let memberships = log.memberships().unwrap().as_of(through);
    let snapshot = Some(SnapshotId { through, bytes: 10, checksum: 7 });
    Record::Based { base: Base { through, memberships, disks: log.base().unwrap().disks.clone(), snapshot } }
}

/// What was acknowledged before the power failed.
#[derive(Clone, Default)]
struct Done {
    steps: usize,
    /// What each cut said.
    gone: Vec<Slot>,
    opened: bool,
}

fn run(disk: &SimulatedDisk, steps: &[Step]) -> Done {
    let storage = storage_on(disk);
    let mut done = Done { opened: bootstrap(&storage).is_ok(), ..Done::default() };
    let mut log = Log::default();
    if done.opened {
        go_on(&storage, steps, &mut done, &mut log);
        let _ = block_on(storage.close());
    }
    done
}

fn go_on(storage: &FileStorage, steps: &[Step], done: &mut Done, log: &mut Log) {
    for step in steps {
        match step {
            Step::Append(group) => {
                group.records.iter().for_each(|record| log.apply(record));
                if block_on(storage.append(group.clone())).is_err() {
                    return;
                }
            }
            Step::Trim => match block_on(storage.trim(log.base().unwrap().through, log.facts())) {
                Ok(gone) => done.gone.push(gone),
                Err(_) => return,
            },
        }
        done.steps += 1;
    }
}

/// The fold of all records of the first `count` steps, none cut away.
fn fold_steps(steps: &[Step], count: usize) -> Log {
    let mut log = Log::default();
    for step in &steps[..count] {
        if let Step::Append(group) = step {
            group.records.iter().for_each(|record| log.apply(record));
        }
    }
    log
}

/// The same log, with nothing in memory of what is learned, and cut at its base.
pub(super) fn settled(mut log: Log) -> Log {
    for _ in 0..2 {
        let through = log.base().map_or(Slot::ZERO, |base| base.through);
        log.apply(&Record::Trimmed { through });
    }
    log
}

/// Through which slot nothing can be read.
pub(super) fn gone_through(storage: &FileStorage) -> Slot {
    let is_held = |slot: &Slot| !block_on(storage.read(*slot..slot.next(), 1)).unwrap().is_empty();
    (1..100).map(Slot::new).find(is_held).map_or(Slot::ZERO, |first| first.minus(1))
}

/// Opens what a crash left, and checks that nothing acknowledged is lost and all or nothing is seen of what was under way.
fn check(disk: &SimulatedDisk, steps: &[Step], done: &Done, whole: &Done, what: &str) {
    let storage = storage_on(disk);
    let recovered = match restart(&storage) {
        Err(StorageError::Empty { .. }) if !done.opened => bootstrap(&storage).unwrap(),
        recovered => recovered.unwrap_or_else(|error| panic!("{what}: {error:?}")),
    };
    let under_way = (done.steps + 1).min(steps.len());
    let gone = gone_through(&storage);
    let trims_done = done.gone.len();
    let trim_under_way = matches!(steps.get(done.steps), Some(Step::Trim));
    let last = trims_done.checked_sub(1).map_or(Slot::ZERO, |last| done.gone[last]);
    let possible = [Some(&last), whole.gone.get(trims_done).filter(|_| trim_under_way)];
    assert!(
        possible.contains(&Some(&gone)),
        "{what}: cut through {gone}, and not through one of {possible:?}"
    );
    let log = settled(recovered.log.clone());
    let found = [done.steps, under_way].into_iter().find(|count| log == settled(fold_steps(steps, *count)));
    let count = found.unwrap_or_else(|| panic!("{what}: {} steps were acknowledged, and differ", done.steps));
    let known = |damage: &Damage| matches!(damage, Damage::TornTail(_));
    assert!(storage.damage().iter().all(known), "{what}: {:?}", storage.damage());
    let mut next = gone.next();
    while next <= recovered.log.chosen_through() {
        let page = block_on(storage.read(next..recovered.log.chosen_through().next(), 500)).unwrap();
        assert_eq!(page.first().map(|(slot, _)| *slot), Some(next), "{what}: learned, and not there");
        next = page[page.len() - 1].0.next();
    }
    tidy(disk, what);

    // It goes on: another base, another cut, and another start.
    let (mut again, mut log) = (Done::default(), fold_steps(steps, count));
    let mut more = vec![
        group(10_000, vec![Record::Promised { id: id(77) }, accepted(500, 77)]),
        group(10_001, vec![accepted(501, 77)]),
    ];
    if log.is_formed() {
        more.insert(1, group(10_000, vec![base_at(&log)]));
    }
    let mut more: Vec<Step> = more.into_iter().map(Step::Append).collect();
    if log.is_formed() {
        more.insert(2, Step::Trim);
    }
    go_on(&storage, &more, &mut again, &mut log);
    assert_eq!(again.steps, more.len(), "{what}");
    disk.power_cut(Unsynced::Lost);
    let last = restart(&storage_on(disk)).unwrap();
    assert_eq!(settled(last.log), settled(log), "{what}: after one more cut");
    assert_eq!(last.sequence, Sequence(10_001));
}

/// Nothing is left over in the directory.
pub(super) fn tidy(disk: &SimulatedDisk, what: &str) {
    let files = disk.files();
    let names: Vec<&str> = files.keys().filter_map(|path| path.file_name()?.to_str()).collect();
    assert!(!names.iter().any(|name| name.ends_with(".tmp")), "{what}: {names:?}");
    let segments: Vec<u64> = names.iter().filter_map(|name| number_of(name)).collect();
    let run = segments[0]..=segments[segments.len() - 1];
    assert!(segments.iter().copied().eq(run), "{what}: {segments:?}");
}

fn number_of(name: &str) -> Option<u64> {
    name.strip_prefix("journal-")?.strip_suffix(".log")?.parse().ok()
}

// scenario D1, clause 11, protocol 4.2, 9.4, faults F2, F4, F6
#[test]
fn a_power_cut_at_any_call_leaves_all_or_nothing_of_a_cut() {
    let steps = trimming(110, 12);
    let whole_disk = SimulatedDisk::new(3);
    let whole = run(&whole_disk, &steps);
    assert_eq!(whole.steps, steps.len());
    assert!(whole.gone.windows(2).filter(|pair| pair[0] < pair[1]).count() >= 5, "{:?}", whole.gone);
    for operation in 0..whole_disk.operations() {
        for fault in [Fault::PowerOff, Fault::PowerOffAfter] {
            let disk = SimulatedDisk::new(3);
            disk.fault_at(operation, fault);
            let done = run(&disk, &steps);
            assert!(disk.is_off());
            for unsynced in
                [Unsynced::Lost, Unsynced::Kept, Unsynced::Some(operation), Unsynced::Some(!operation)]
            {
                let disk = disk.copy();
                disk.power_cut(unsynced);
                let what = format!("{fault:?} at call {operation}, {unsynced:?}");
                check(&disk, &steps, &done, &whole, &what);
            }
        }
    }
}

// scenarios D2, D4 and D5, faults F5, F13, F14
#[test]
fn a_call_that_fails_or_tears_while_the_log_is_cut_loses_nothing() {
    let steps = trimming(60, 12);
    let whole_disk = SimulatedDisk::new(3);
    let whole = run(&whole_disk, &steps);
    for operation in 0..whole_disk.operations() {
        for fault in
            [Fault::Error(ErrorKind::StorageFull), Fault::Torn(20), Fault::Torn(512), Fault::Short(30)]
        {
            for unsynced in [Unsynced::Lost, Unsynced::Kept] {
                let disk = SimulatedDisk::new(3);
                disk.fault_at(operation, fault);
                let done = run(&disk, &steps);
                disk.power_cut(unsynced);
                let what = format!("{fault:?} at call {operation}, {unsynced:?}");
                check(&disk, &steps, &done, &whole, &what);
            }
        }
    }
}

// clause 5, fault F13
#[test]
fn a_cut_that_failed_ends_all_writing() {
    let disk = SimulatedDisk::new(3);
    let storage = storage_on(&disk);
    bootstrap(&storage).unwrap();
    let groups = workload(20);
    groups.iter().for_each(|group| block_on(storage.append(group.clone())).unwrap());
    // Making, writing and flushing the checkpoint.
    disk.fault_at(disk.operations() + 2, Fault::Error(ErrorKind::Other));
    let facts = fold(&groups, 20).facts();
    let failed = block_on(storage.trim(Slot::new(3), facts.clone()));
    assert!(matches!(failed, Err(StorageError::Io { op: "fsync", .. })), "{failed:?}");
    let operations = disk.operations();
    assert!(matches!(block_on(storage.trim(Slot::new(3), facts)), Err(StorageError::Poisoned)));
    assert!(matches!(block_on(storage.append(group(99, vec![]))), Err(StorageError::Poisoned)));
    assert_eq!(disk.operations(), operations);
    drop(storage);
    disk.power_cut(Unsynced::Kept);
    assert_eq!(restart(&storage_on(&disk)).unwrap().log, fold(&groups, 20));
}

// scenario D6
#[test]
fn the_checkpoint_is_durable_before_the_first_segment_is_removed() {
    let directory = tempfile::tempdir().unwrap();
    let dir = directory.path().join("node");
    let recorded = RecordedDisk::new(Arc::new(RealDisk));
    let storage = FileStorage::at(&dir).with_disk(Arc::new(recorded.clone())).segment_bytes(4 << 10).inline();
    bootstrap(&storage).unwrap();
    let (mut log, mut removed) = (Log::default(), 0);
    for step in trimming(120, 30) {
        let Step::Append(group) = step else {
            recorded.take();
            block_on(storage.trim(log.base().unwrap().through, log.facts())).unwrap();
            let operations = recorded.take();
            let [
                Operation::CreateTemp(made),
                Operation::Write { path: written, offset: 0, .. },
                Operation::SyncData(flushed),
                Operation::Rename { from, to },
                Operation::SyncDir(parent),
                removals @ ..,
            ] = operations.as_slice()
            else {
                panic!("{operations:?}")
            };
            assert!([written, flushed, from].iter().all(|path| *path == made), "{operations:?}");
            assert!(*to == dir.join("checkpoint") && *parent == dir, "{operations:?}");
            let is_segment = |path: &Path| number_of(path.file_name().unwrap().to_str().unwrap()).is_some();
            assert!(
                removals.iter().all(|removal| matches!(removal, Operation::Remove(path) if is_segment(path)))
            );
            removed += removals.len();
            continue;
        };
        group.records.iter().for_each(|record| log.apply(record));
        block_on(storage.append(group)).unwrap();
    }
    assert!(removed >= 5, "{removed} segments were removed");
}

// clause 11: what is forgotten is not read, what is kept is, before and after a restart.
#[test]
fn a_cut_is_seen_the_same_before_and_after_a_restart() {
    let disk = SimulatedDisk::new(3);
    let steps = trimming(100, 25);
    let storage = storage_on(&disk);
    bootstrap(&storage).unwrap();
    let (mut done, mut log) = (Done::default(), Log::default());
    go_on(&storage, &steps, &mut done, &mut log);
    let gone = *done.gone.last().unwrap();
    assert!(gone > Slot::new(20) && gone <= log.base().unwrap().through);
    let seen = |storage: &FileStorage| {
        let pages = (1..60).map(|slot| block_on(storage.read(Slot::new(slot)..Slot::MAX, 100)).unwrap());
        pages.collect::<Vec<_>>()
    };
    let before = seen(&storage);
    assert!(before[..gone.get() as usize].iter().all(Vec::is_empty), "entries are gone through {gone}");
    let held = gone.get() as usize..log.chosen_through().get() as usize;
    assert!(before[held].iter().all(|page| !page.is_empty()), "and no other");
    assert_eq!(settled(block_on(storage.recover()).unwrap().log), settled(log.clone()));
    let bytes = storage.log_bytes();
    block_on(storage.close()).unwrap();
    let storage = storage_on(&disk);
    restart(&storage).unwrap();
    assert_eq!(seen(&storage), before);
    assert!(storage.log_bytes() <= bytes && storage.log_bytes() > 0, "{} and {bytes}", storage.log_bytes());
    // A lower mark changes nothing, and the answer never goes down.
    assert_eq!(block_on(storage.trim(Slot::FIRST, log.facts())).unwrap(), gone);
    assert_eq!(seen(&storage), before);
}

#[test]
fn the_bytes_of_the_log_grow_with_entries_and_fall_with_a_cut() {
    let storage = storage_on(&SimulatedDisk::new(3));
    assert_eq!(storage.log_bytes(), 0);
    bootstrap(&storage).unwrap();
    block_on(storage.append(group(1, vec![Record::Promised { id: id(1) }]))).unwrap();
    assert_eq!(storage.log_bytes(), 0, "no entry");
    let entry = |slot: u64| Record::Accepted { slot: Slot::new(slot), id: id(1), value: value(1000, slot) };
    for slot in 1..=40 {
        let before = storage.log_bytes();
        block_on(storage.append(group(slot + 1, vec![entry(slot)]))).unwrap();
        let more = storage.log_bytes() - before;
        assert!((1000..1300).contains(&more), "{more}");
    }
    let facts = vec![Record::Promised { id: id(1) }];
    let all = storage.log_bytes();
    block_on(storage.trim(Slot::new(30), facts.clone())).unwrap();
    let left = storage.log_bytes();
    assert!(left < all / 2 && left >= 10_000, "{left} of {all}");
    block_on(storage.trim(Slot::new(40), facts)).unwrap();
    assert_eq!(storage.log_bytes(), 0);
}

#[test]
fn a_thousand_cuts_leave_a_directory_as_small_as_the_first() {
    let directory = tempfile::tempdir().unwrap();
    let storage = FileStorage::at(directory.path()).segment_bytes(16 << 10);
    bootstrap(&storage).unwrap();
    let (mut log, mut slot, mut largest) = (Log::default(), 0, 0);
    let formed = Record::Formed { membership: members(), disks: BTreeMap::new() };
    log.apply(&formed);
    block_on(storage.append(group(1, vec![formed]))).unwrap();
    for cycle in 2..1002 {
        let mut records: Vec<Record> = (slot + 1..slot + 11).map(|slot| accepted(slot, 1)).collect();
        slot += 10;
        records.push(Record::Watermark { id: id(1), through: Slot::new(slot) });
        records.iter().for_each(|record| log.apply(record));
        let based = base_at(&log);
        log.apply(&based);
        records.push(based);
        block_on(storage.append(group(cycle, records))).unwrap();
        block_on(storage.trim(Slot::new(slot), log.facts())).unwrap();
        let files =
            std::fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().metadata().unwrap());
        largest = largest.max(files.map(|file| file.len()).sum::<u64>());
    }
    // Two segments, one in preparation, and the small files.
    assert!(largest < 60_000, "{largest} bytes");
    drop(storage);
    let storage = FileStorage::at(directory.path());
    let recovered = restart(&storage).unwrap();
    assert_eq!(recovered.log.chosen_through(), Slot::new(10_000));
    assert_eq!(recovered.sequence, Sequence(1001)); // protocol 9.4
}
