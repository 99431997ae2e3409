//! Every call of a workload of 200 steps to the disk, times six outcomes: what was answered is honoured after a restart.

use super::mixed::{Step, Taker, content_of, fold_of, mixed};
use super::*;
use std::io::ErrorKind;
use std::path::PathBuf;
use synod::storage::disk::{Fault, Operation, RecordedDisk, Unsynced};
use synod::storage::journal::Damage;

const STEPS: usize = 200;
/// How long the header of a group is at most here, in bytes.
const GROUP_HEADER_BYTES: usize = 220;

/// What came of a run.
struct Done {
    steps: usize,
    starts: usize,
}

/// Takes the steps until one fails. What is asked after a failed append or cut is refused: nothing is answered any more.
fn run(disk: &SimulatedDisk, recorded: &RecordedDisk, steps: &[Step], what: &str) -> Done {
    let open = || Arc::new(recorded.clone()) as Arc<dyn Disk>;
    let mut taker = Taker::new(&open);
    let mut done = 0;
    if taker.open().is_ok() {
        done = steps.iter().position(|step| taker.take(step).is_err()).unwrap_or(steps.len());
    }
    let failed = steps.get(done).filter(|_| taker.starts > 0 && !disk.is_off());
    if let Some(Step::Append(_) | Step::Trim) = failed {
        let later = steps[done..].iter().take_while(|step| !matches!(step, Step::Restart));
        for step in later.filter(|step| !matches!(step, Step::Snapshot { .. })).take(3) {
            let refused = taker.take(step);
            assert!(matches!(refused, Err(StorageError::Poisoned)), "{what}: {refused:?} after a failure");
        }
    }
    Done { steps: done, starts: taker.starts }
}

/// Opens what is left, and checks that it is what was answered, or that and what was under way, at a record's boundary.
fn check(disk: &SimulatedDisk, steps: &[Step], done: &Done, what: &str) {
    let storage = storage_on(disk);
    let recovered = match restart(&storage) {
        Err(StorageError::Empty { .. }) if done.starts == 0 => bootstrap(&storage).unwrap(),
        recovered => recovered.unwrap_or_else(|error| panic!("{what}: {error:?}")),
    };
    assert!(recovered.incarnations.len() > done.starts, "{what}: a start was forgotten"); // protocol 9.3
    let known = |damage: &Damage| matches!(damage, Damage::TornTail(_));
    assert!(storage.damage().iter().all(known), "{what}: {:?}", storage.damage());
    let log = trim::settled(recovered.log.clone());
    let possible = [done.steps, (done.steps + 1).min(steps.len())];
    let is_possible = possible.into_iter().any(|count| trim::settled(fold_of(steps, count)) == log);
    assert!(is_possible, "{what}: {} steps were answered, and differ", done.steps);
    if let Some(snapshot) = recovered.log.base().and_then(|base| base.snapshot) {
        let found = snapshots::read(&storage, snapshot).unwrap_or_else(|error| panic!("{what}: {error:?}"));
        assert!(found == content_of(snapshot.through), "{what}: the snapshot reads other bytes");
    }
    let (mut next, through) = (trim::gone_through(&storage).next(), recovered.log.chosen_through());
    while next <= through {
        let page = block_on(storage.read(next..through.next(), 2000)).unwrap();
        assert_eq!(page.first().map(|(slot, _)| *slot), Some(next), "{what}: chosen, and not there");
        next = page[page.len() - 1].0.next();
    }
    trim::tidy(disk, what);
}

/// The calls that change something, in the order in which the simulated disk counts them.
fn counted(operations: Vec<Operation>) -> Vec<Operation> {
    operations.into_iter().filter(|operation| !matches!(operation, Operation::Lock(_))).collect()
}

/// Runs with one call going wrong, restarts, and says nothing if all is well.
fn try_outcome(steps: &[Step], at: usize, fault: Fault, unsynced: Unsynced, whole: &[Operation]) {
    let what = format!("{fault:?} at call {at}, {:?}, then {unsynced:?}", whole[at]);
    let disk = SimulatedDisk::new(3);
    let recorded = RecordedDisk::new(Arc::new(disk.clone()));
    disk.fault_at(at as u64, fault);
    let done = run(&disk, &recorded, steps, &what);
    if let (Fault::Error(_), Operation::SyncData(path)) = (fault, &whole[at]) {
        let after = counted(recorded.take()).split_off(at);
        let again = |operation: &Operation| matches!(operation, Operation::SyncData(again) if again == path);
        assert!(!after.iter().any(again), "{what}: a flush that failed was tried again");
    }
    disk.power_cut(unsynced);
    check(&disk, steps, &done, &what);
}

/// The outcomes of one call: power cut before it and after it, torn, EIO, ENOSPC, and an error after which the same would
/// succeed (each error comes once; a failed flush leaves nothing to flush, as on ext4).
fn outcomes(at: usize, operation: &Operation) -> Vec<(Fault, Unsynced)> {
    let seed = at as u64;
    let mut outcomes = vec![
        (Fault::PowerOff, Unsynced::Lost),
        (Fault::PowerOff, Unsynced::Some(seed)),
        (Fault::PowerOffAfter, Unsynced::Lost),
        (Fault::PowerOffAfter, Unsynced::Kept), // fault F29: the process is killed, the cache stays
        (Fault::Error(ErrorKind::Other), Unsynced::Lost),
        (Fault::Error(ErrorKind::StorageFull), Unsynced::Kept),
        (Fault::Error(ErrorKind::Other), Unsynced::Some(!seed)),
    ];
    if let Operation::Write { bytes, .. } = operation {
        outcomes.extend((512..*bytes).step_by(512).map(|torn| (Fault::Torn(torn), Unsynced::Lost)));
        // Each byte of a header; each call takes every sixteenth of them, from another on.
        let header = (at % 16..GROUP_HEADER_BYTES.min(*bytes)).step_by(16);
        outcomes.extend(header.map(|torn| (Fault::Torn(torn), Unsynced::Lost)));
        outcomes.push((Fault::Torn(1 + at % 64), Unsynced::Some(seed)));
    }
    outcomes
}

// scenarios D1, D2, D4 and D5, faults F1, F2, F3, F4, F5, F6, F13, F14, F29
#[test]
fn every_reply_is_honoured_whatever_becomes_of_any_call_to_the_disk() {
    let steps = mixed(STEPS);
    let disk = SimulatedDisk::new(3);
    let recorded = RecordedDisk::new(Arc::new(disk.clone()));
    assert_eq!(run(&disk, &recorded, &steps, "nothing fails").steps, STEPS);
    let whole = counted(recorded.take());
    assert_eq!(whole.len() as u64, disk.operations(), "every call is in the record");
    let kinds: [fn(&Step) -> bool; 5] = [
        |step| matches!(step, Step::Append(_)),
        |step| matches!(step, Step::Trim),
        |step| matches!(step, Step::Snapshot { is_installed: false, .. }),
        |step| matches!(step, Step::Snapshot { is_installed: true, .. }),
        |step| matches!(step, Step::Restart),
    ];
    assert!(kinds.iter().all(|kind| steps.iter().filter(|step| kind(step)).count() >= 3));
    let calls: Vec<usize> = (0..whole.len()).collect();
    let runs: usize = std::thread::scope(|scope| {
        let halves = [0, 1].map(|half| {
            let (steps, whole, calls) = (&steps, &whole, &calls);
            scope.spawn(move || {
                let mut runs = 0;
                for at in calls.iter().copied().filter(|at| at % 2 == half) {
                    for (fault, unsynced) in outcomes(at, &whole[at]) {
                        try_outcome(steps, at, fault, unsynced, whole);
                        runs += 1;
                    }
                }
                runs
            })
        });
        halves.map(|half| half.join().unwrap()).iter().sum()
    });
    println!("{runs} runs, {} calls to the disk", whole.len());
    assert!(runs >= 5000, "{runs} runs of {} calls", whole.len());
}

// fault F3: durable, and the machine fails before the answer leaves. The peer asks again, and hears the same.
#[test]
fn what_was_flushed_before_a_crash_is_answered_the_same_when_it_is_asked_again() {
    let disk = SimulatedDisk::new(3);
    let storage = storage_on(&disk);
    bootstrap(&storage).unwrap();
    let vote = group(1, vec![Record::Promised { id: id(4) }, accepted(1, 4)]);
    let before = disk.operations();
    // One write, one flush; the power fails right after the flush.
    disk.fault_at(before + 1, Fault::PowerOffAfter);
    assert!(block_on(storage.append(vote.clone())).is_err(), "no answer left");
    disk.power_cut(Unsynced::Lost);
    let log = restart(&storage_on(&disk)).unwrap().log;
    assert_eq!(log, fold(&[vote], 1));
    assert_eq!(log.promised(), Some(id(4)));
}

// fault F15: std's own `write_all` repeats after EINTR only; `write_all_at` and `read_full_at` do after EAGAIN too, and are
// the only ways by which the storage writes and reads.
#[test]
fn a_call_that_was_interrupted_or_would_block_is_repeated_to_its_end() {
    let steps = mixed(60);
    let disk = SimulatedDisk::new(3);
    let recorded = RecordedDisk::new(Arc::new(disk.clone()));
    run(&disk, &recorded, &steps, "nothing fails");
    let whole = counted(recorded.take());
    let is_write = |at: &usize| matches!(whole[*at], Operation::Write { .. });
    let writes: Vec<usize> = (0..whole.len()).filter(is_write).collect();
    assert!(writes.len() > 50);
    for at in writes {
        for kind in [ErrorKind::Interrupted, ErrorKind::WouldBlock] {
            let disk = SimulatedDisk::new(3);
            let recorded = RecordedDisk::new(Arc::new(disk.clone()));
            disk.fault_at(at as u64, Fault::Error(kind));
            let what = format!("{kind:?} at call {at}");
            let done = run(&disk, &recorded, &steps, &what);
            assert_eq!(done.steps, steps.len(), "{what}");
            disk.power_cut(Unsynced::Lost);
            check(&disk, &steps, &done, &what);
        }
    }
}

/// What must hold of the order of calls, whoever saw them.
#[derive(Clone, Debug)]
pub(super) enum Call {
    Write(PathBuf),
    Flush(PathBuf),
    Rename(PathBuf, PathBuf),
    FlushDir(PathBuf),
    Reply,
}

/// Checks that a file is flushed before it is renamed, its directory after it, and all of it before the reply. Says how
/// many renames and replies there were.
pub(super) fn check_order(calls: &[Call]) -> (usize, usize) {
    let (mut unflushed, mut unnamed) = (std::collections::BTreeSet::new(), Vec::new());
    let (mut renames, mut replies) = (0, 0);
    for (nth, call) in calls.iter().enumerate() {
        let context = || &calls[nth.saturating_sub(12)..=nth];
        match call {
            Call::Write(path) => drop(unflushed.insert(path.clone())),
            Call::Flush(path) => drop(unflushed.remove(path)),
            Call::Rename(from, to) => {
                assert!(!unflushed.contains(from), "renamed before it was flushed: {:?}", context());
                unnamed.push(to.parent().unwrap().to_path_buf());
                renames += 1;
            }
            Call::FlushDir(dir) => unnamed.retain(|unnamed| unnamed != dir),
            Call::Reply => {
                assert!(unnamed.is_empty(), "replied before the name was durable: {:?}", context());
                let name = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();
                // What nobody relies on yet: a file in preparation.
                let is_state = |name: &String| !name.starts_with('.') && !name.ends_with(".partial");
                let open: Vec<String> = unflushed.iter().map(name).filter(is_state).collect();
                assert!(open.is_empty(), "replied before {open:?} was flushed: {:?}", context());
                replies += 1;
            }
        }
    }
    (renames, replies)
}

// scenario D6
#[test]
fn in_the_record_of_all_calls_a_reply_follows_the_flush_and_a_rename_stands_between_two() {
    let recorded = RecordedDisk::new(Arc::new(SimulatedDisk::new(3)));
    let open = || Arc::new(recorded.clone()) as Arc<dyn Disk>;
    let (mut taker, mut calls) = (Taker::new(&open), Vec::new());
    taker.open().unwrap();
    for step in &mixed(STEPS) {
        let is_written = matches!(step, Step::Append(_));
        taker.take(step).unwrap();
        let operations = recorded.take();
        let is_flush = |operation: &Operation| matches!(operation, Operation::SyncData(_));
        assert!(!is_written || operations.iter().any(is_flush), "replied without a flush: {operations:?}");
        calls.extend(operations.into_iter().filter_map(|operation| match operation {
            Operation::Write { path, .. } => Some(Call::Write(path)),
            Operation::SyncData(path) => Some(Call::Flush(path)),
            Operation::Rename { from, to } => Some(Call::Rename(from, to)),
            Operation::SyncDir(dir) => Some(Call::FlushDir(dir)),
            _ => None,
        }));
        calls.push(Call::Reply);
    }
    let (renames, replies) = check_order(&calls);
    assert!(renames > 30 && replies == STEPS, "{renames} renames and {replies} replies");
}
