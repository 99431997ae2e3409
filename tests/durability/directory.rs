//! The data directory: whose it is, who has it open, and in which order it is written.

use super::*;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use synod::storage::disk::{Operation, RealDisk, RecordedDisk};

fn contents(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

// scenario D6: nothing is answered before it is flushed.
#[test]
fn an_append_is_one_write_and_one_flush_and_the_file_does_not_grow() {
    let directory = tempfile::tempdir().unwrap();
    let recorded = RecordedDisk::new(Arc::new(RealDisk));
    let storage =
        FileStorage::at(directory.path().join("node")).with_disk(Arc::new(recorded.clone())).inline();
    bootstrap(&storage).unwrap();
    let segment = directory.path().join("node").join("journal-000000000001.log");
    let length = fs::metadata(&segment).unwrap().len();
    recorded.take();
    for step in 1..=20 {
        block_on(storage.append(group(step, vec![accepted(step, 1)]))).unwrap();
        let operations = recorded.take();
        let [Operation::Write { path, offset, .. }, Operation::SyncData(flushed)] = operations.as_slice()
        else {
            panic!("{operations:?}")
        };
        assert!(*path == segment && path == flushed && offset % 64 == 0);
    }
    assert_eq!(fs::metadata(&segment).unwrap().len(), length);
}

// scenario D6
#[test]
fn every_file_is_flushed_before_it_gets_its_name_and_its_directory_after() {
    let directory = tempfile::tempdir().unwrap();
    let recorded = RecordedDisk::new(Arc::new(RealDisk));
    let disk = Arc::new(recorded.clone());
    let storage =
        FileStorage::at(directory.path().join("a/b/node")).with_disk(disk).segment_bytes(4 << 10).inline();
    bootstrap(&storage).unwrap();
    for group in workload(60) {
        block_on(storage.append(group)).unwrap();
    }
    let operations = recorded.take();
    let mut renames = 0;
    for (at, operation) in operations.iter().enumerate() {
        let Operation::Rename { from, to } = operation else { continue };
        renames += 1;
        let is_write =
            |operation: &&Operation| matches!(operation, Operation::Write { path, .. } if path == from);
        let last_write = operations[..at].iter().rposition(|operation| is_write(&operation)).unwrap();
        assert!(operations[last_write..at].contains(&Operation::SyncData(from.clone())));
        assert_eq!(operations[at + 1], Operation::SyncDir(to.parent().unwrap().to_path_buf()));
    }
    assert!(renames >= 5, "the journal's segments and the identity");
    for parent in ["", "a", "a/b"] {
        let parent = directory.path().join(parent);
        let is_flush = |operation: &Operation| matches!(operation, Operation::SyncDir(dir) if dir.components().eq(parent.components()));
        assert!(operations.iter().any(is_flush), "{} is not durable", parent.display());
    }
}

// scenario D10, defect B9, fault F33
#[test]
fn a_second_process_is_refused_until_the_first_is_killed() {
    let directory = tempfile::tempdir().unwrap();
    let dir = directory.path().join("node");
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "directory::holds_a_directory_for_another_test", "--ignored", "--nocapture"])
        .env("SYNOD_TEST_DIR", &dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("promised")));
    let storage = FileStorage::at(&dir);
    assert!(matches!(restart(&storage), Err(StorageError::Locked { .. })));
    child.kill().unwrap();
    child.wait().unwrap();
    let recovered = restart(&storage).unwrap();
    assert_eq!(recovered.log.promised(), Some(id(9)));
    assert_eq!(recovered.incarnations.len(), 2);
}

#[test]
#[ignore = "the other process of a_second_process_is_refused_until_the_first_is_killed"]
fn holds_a_directory_for_another_test() {
    let Some(dir) = std::env::var_os("SYNOD_TEST_DIR") else { return };
    let storage = FileStorage::at(dir);
    bootstrap(&storage).unwrap();
    block_on(storage.append(group(1, vec![Record::Promised { id: id(9) }]))).unwrap();
    println!("promised");
    let _ = std::io::stdin().read(&mut [0]);
}

// defect B9
#[test]
fn a_promise_cannot_be_replaced_by_a_second_storage_in_this_process() {
    let directory = tempfile::tempdir().unwrap();
    let first = FileStorage::at(directory.path());
    bootstrap(&first).unwrap();
    let second = FileStorage::at(directory.path());
    assert!(matches!(restart(&second), Err(StorageError::Locked { .. })));
    assert!(matches!(block_on(second.append(group(1, vec![]))), Err(StorageError::NotOpen)));
    block_on(first.append(group(1, vec![Record::Promised { id: id(9) }]))).unwrap();
    drop(first);
    assert_eq!(restart(&second).unwrap().log.promised(), Some(id(9)));
}

// scenario D11, fault F32
#[test]
fn another_owner_or_start_is_refused_and_every_file_stays_as_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let storage = FileStorage::at(directory.path()).segment_bytes(64 << 10);
    bootstrap(&storage).unwrap();
    for group in workload(10) {
        block_on(storage.append(group)).unwrap();
    }
    drop(storage);
    let before = contents(directory.path());
    let other_node = Owner { node: NodeId::new(2), ..owner() };
    let other_cluster = Owner { cluster: ClusterId::new("other").unwrap(), ..owner() };
    let storage = FileStorage::at(directory.path());
    for other in [other_node, other_cluster] {
        for start in [Start::Restart, Start::Join, Start::Bootstrap(members())] {
            let refused = block_on(storage.open(other.clone(), start));
            assert!(matches!(refused, Err(StorageError::WrongOwner { .. })));
        }
    }
    for start in [Start::Join, Start::Bootstrap(members())] {
        assert!(matches!(block_on(storage.open(owner(), start)), Err(StorageError::InUse { .. })));
    }
    assert_eq!(contents(directory.path()), before);
}

// fault F30
#[test]
fn a_restart_makes_no_directory_and_no_file() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("missing");
    assert!(matches!(restart(&FileStorage::at(&missing)), Err(StorageError::Empty { .. })));
    assert!(!missing.exists());
    assert!(matches!(restart(&FileStorage::at(directory.path())), Err(StorageError::Empty { .. })));
    assert!(contents(directory.path()).is_empty());
}

// scenario S9
#[cfg(unix)]
#[test]
fn only_the_owner_can_read_the_directory_and_its_files() {
    use std::os::unix::fs::PermissionsExt;
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let directory = tempfile::tempdir().unwrap();
    let dir = directory.path().join("node");
    bootstrap(&FileStorage::at(&dir).segment_bytes(64 << 10)).unwrap();
    assert_eq!(mode(&dir), 0o700);
    for path in contents(&dir).keys() {
        assert_eq!(mode(path), 0o600, "{}", path.display());
    }
}

/// Waits for what another thread will do.
fn eventually(mut holds: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    while !holds() {
        if start.elapsed() > Duration::from_secs(20) {
            return false;
        }
        std::thread::yield_now();
    }
    true
}

// protocol 11.2
#[test]
fn a_group_without_a_successor_is_sealed_once_and_the_last_one_at_the_end() {
    let directory = tempfile::tempdir().unwrap();
    let recorded = RecordedDisk::new(Arc::new(RealDisk));
    let disk = Arc::new(recorded.clone());
    let storage =
        FileStorage::at(directory.path()).with_disk(disk.clone()).seal_after(Duration::from_millis(1));
    bootstrap(&storage).unwrap();
    recorded.take();
    block_on(storage.append(group(1, vec![accepted(1, 1)]))).unwrap();
    let mut operations = Vec::new();
    let sealed = eventually(|| {
        operations.extend(recorded.take());
        operations.len() == 4
    });
    assert!(sealed, "{operations:?}");
    block_on(storage.close()).unwrap();
    assert_eq!(recorded.take(), [], "sealed already");

    let storage = FileStorage::at(directory.path()).with_disk(disk).seal_after(Duration::from_secs(1000));
    restart(&storage).unwrap();
    block_on(storage.append(group(2, vec![accepted(2, 1)]))).unwrap();
    recorded.take();
    drop(storage);
    assert_eq!(recorded.take().len(), 2, "the seal and its flush");
}

#[test]
fn segments_are_prepared_ahead_and_reads_go_on_beside_appends() {
    let directory = tempfile::tempdir().unwrap();
    let storage = FileStorage::at(directory.path()).segment_bytes(32 << 10);
    bootstrap(&storage).unwrap();
    let groups = workload(400);
    for group in &groups {
        block_on(storage.append(group.clone())).unwrap();
        let found = block_on(storage.read(Slot::FIRST..Slot::new(9), 100_000)).unwrap();
        assert!(!found.is_empty());
    }
    assert_eq!(block_on(storage.recover()).unwrap().log, fold(&groups, 400));
    drop(storage);
    let storage = FileStorage::at(directory.path());
    assert_eq!(restart(&storage).unwrap().log, fold(&groups, 400));
    let temps =
        contents(directory.path()).into_keys().filter(|path| path.extension() == Some("tmp".as_ref()));
    assert_eq!(temps.count(), 0);
}
