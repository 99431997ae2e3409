//! Snapshots in files: what is left of them after a crash at any call, after a full disk, and in which order they are written.

use super::*;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;
use synod::multi::{Base, Memberships, SnapshotId};
use synod::storage::disk::{Access, DiskFile, DiskLock, Fault, Operation, RealDisk, RecordedDisk, Unsynced};

const BLOCK_BYTES: u64 = 64 << 10;

/// A content that has no two equal parts.
pub(super) fn content(seed: u64, bytes: usize) -> Bytes {
    let mut state = seed * 0x9e37_79b9 + 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    std::iter::repeat_with(next).take(bytes).collect()
}

pub(super) fn id_of(through: u64, content: &[u8]) -> SnapshotId {
    let (through, bytes) = (Slot::new(through), content.len() as u64);
    SnapshotId { through, bytes, checksum: crc32fast::hash(content) }
}

fn based(snapshot: SnapshotId) -> Record {
    let (memberships, through) = (Memberships::bootstrap(members()), snapshot.through);
    let disks = BTreeMap::from([(NODE, DiskId(1))]);
    Record::Based { base: Base { through, memberships, disks, snapshot: Some(snapshot) } }
}

/// Writes and seals a snapshot, from what is held of it on.
pub(super) fn write(
    storage: &FileStorage,
    through: u64,
    content: &Bytes,
    expected: bool,
) -> Result<SnapshotId, StorageError> {
    let expected = expected.then(|| id_of(through, content));
    let mut at = block_on(storage.begin_snapshot(Slot::new(through), expected))? as usize;
    while at < content.len() {
        let end = content.len().min(at + 50_000);
        block_on(storage.write_snapshot(at as u64, content.slice(at..end)))?;
        at = end;
    }
    block_on(storage.seal_snapshot())
}

/// Writes, seals, and names one in a base, as group `sequence`.
pub(super) fn base_on(storage: &FileStorage, sequence: u64, through: u64, content: &Bytes) -> SnapshotId {
    let snapshot = write(storage, through, content, false).unwrap();
    block_on(storage.append(group(sequence, vec![based(snapshot)]))).unwrap();
    snapshot
}

/// All of a snapshot.
pub(super) fn read(storage: &FileStorage, snapshot: SnapshotId) -> Result<Vec<u8>, StorageError> {
    let mut content = Vec::new();
    loop {
        let part = block_on(storage.read_snapshot(snapshot, content.len() as u64, 100_000))?;
        if part.is_empty() {
            return Ok(content);
        }
        content.extend_from_slice(&part);
    }
}

pub(super) fn snapshot_files(disk: &SimulatedDisk) -> Vec<PathBuf> {
    let is_ours = |path: &PathBuf| path.to_string_lossy().contains("snapshot-");
    disk.files().into_keys().filter(is_ours).collect()
}

/// One step of a node that takes snapshots of its own and fetches one.
enum Step {
    Append(Group),
    /// Through where, and whether it is expected.
    Snapshot(u64, bool),
}

fn content_of(through: u64) -> Bytes {
    content(through, 70_000 + 5000 * (through as usize % 7))
}

fn steps() -> Vec<Step> {
    let name =
        |sequence, through| Step::Append(group(sequence, vec![based(id_of(through, &content_of(through)))]));
    vec![
        Step::Append(group(1, vec![accepted(1, 1)])),
        Step::Snapshot(10, false),
        name(2, 10),
        Step::Snapshot(25, true),
        Step::Append(group(3, vec![accepted(30, 1)])),
        name(4, 25),
        Step::Snapshot(31, false),
        Step::Snapshot(33, false),
        Step::Snapshot(34, true),
        name(5, 34),
    ]
}

/// Takes the steps until the power fails, and says how many were acknowledged.
fn run(disk: &SimulatedDisk, steps: &[Step]) -> usize {
    let storage = storage_on(disk);
    if bootstrap(&storage).is_err() {
        return 0;
    }
    for (done, step) in steps.iter().enumerate() {
        let result = match step {
            Step::Append(group) => block_on(storage.append(group.clone())),
            Step::Snapshot(through, expected) => {
                write(&storage, *through, &content_of(*through), *expected).map(drop)
            }
        };
        if result.is_err() {
            return done;
        }
    }
    steps.len()
}

fn groups_of(steps: &[Step]) -> Vec<Group> {
    let group = |step: &Step| if let Step::Append(group) = step { Some(group.clone()) } else { None };
    steps.iter().filter_map(group).collect()
}

/// Opens what a crash left: the log is right, what its base names is there, and nobody sees half a snapshot.
fn check(disk: &SimulatedDisk, steps: &[Step], acknowledged: usize, what: &str) {
    let storage = storage_on(disk);
    let recovered = match restart(&storage) {
        Err(StorageError::Empty { .. }) if acknowledged == 0 => bootstrap(&storage).unwrap(),
        recovered => recovered.unwrap_or_else(|error| panic!("{what}: {error:?}")),
    };
    let log = recovered.log;
    let is_fold = |taken: &usize| fold(&groups_of(&steps[..*taken]), usize::MAX) == log;
    let taken = [acknowledged, (acknowledged + 1).min(steps.len())].into_iter().find(is_fold);
    assert!(taken.is_some(), "{what}: {acknowledged} steps were acknowledged, and the log differs");
    let named = log.base().and_then(|base| base.snapshot);
    for step in steps {
        let Step::Snapshot(through, expected) = step else { continue };
        let content = content_of(*through);
        let id = id_of(*through, &content);
        match read(&storage, id) {
            Ok(found) => assert!(found == content, "{what}: {id:?} reads other bytes"),
            Err(StorageError::NoSnapshot) => assert!(named != Some(id), "{what}: the base names {id:?}"),
            Err(error) => panic!("{what}: {id:?}: {error:?}"),
        }
        let held = block_on(storage.begin_snapshot(Slot::new(*through), Some(id))).unwrap();
        assert!(held <= content.len() as u64 && held % BLOCK_BYTES == 0, "{what}: {held} bytes are held");
        assert!(*expected || held == 0, "{what}: {held} bytes are held of one that nobody expected");
    }
    let files = snapshot_files(disk);
    assert_eq!(files.len(), usize::from(named.is_some()) + 1, "{what}: {files:?}");
    let last = steps.len() as u64;
    base_on(&storage, last + 1, 50, &content_of(50));
    disk.power_cut(Unsynced::Lost);
    let storage = storage_on(disk);
    restart(&storage).unwrap();
    assert_eq!(read(&storage, id_of(50, &content_of(50))).unwrap(), content_of(50), "{what}: the next one");
    assert_eq!(snapshot_files(disk).len(), 1, "{what}: what nobody needs is removed");
}

// scenario M6, the storage half; protocol 5.2
#[test]
fn what_the_base_names_is_whole_after_a_power_cut_at_any_call() {
    let steps = steps();
    let whole = SimulatedDisk::new(3);
    assert_eq!(run(&whole, &steps), steps.len());
    assert!(whole.operations() > 60, "the workload does too little");
    for operation in 0..whole.operations() {
        for fault in [Fault::PowerOff, Fault::PowerOffAfter, Fault::Torn(30), Fault::Torn(5000)] {
            let disk = SimulatedDisk::new(3);
            disk.fault_at(operation, fault);
            let done = run(&disk, &steps);
            assert!(disk.is_off() || matches!(fault, Fault::Torn(_)));
            for unsynced in
                [Unsynced::Lost, Unsynced::Kept, Unsynced::Some(operation), Unsynced::Some(!operation)]
            {
                let disk = disk.copy();
                disk.power_cut(unsynced);
                check(&disk, &steps, done, &format!("{fault:?} at call {operation}, {unsynced:?}"));
            }
        }
    }
}

// clause 12: what was written before a crash is gone on with.
#[test]
fn an_expected_snapshot_goes_on_from_its_whole_blocks_after_a_crash_anywhere() {
    let content = content(7, (4 << 20) + 300_000);
    let expected = id_of(9, &content);
    let whole = SimulatedDisk::new(3);
    let storage = storage_on(&whole);
    bootstrap(&storage).unwrap();
    let first = whole.operations();
    write(&storage, 9, &content, true).unwrap();
    let mut resumed = 0;
    for operation in (first..whole.operations()).step_by(6) {
        for unsynced in [Unsynced::Kept, Unsynced::Lost, Unsynced::Some(operation)] {
            let disk = SimulatedDisk::new(3);
            let storage = storage_on(&disk);
            bootstrap(&storage).unwrap();
            disk.fault_at(operation, Fault::PowerOff);
            assert!(write(&storage, 9, &content, true).is_err());
            disk.power_cut(unsynced);
            let storage = storage_on(&disk);
            restart(&storage).unwrap();
            let held = block_on(storage.begin_snapshot(Slot::new(9), Some(expected))).unwrap();
            resumed += usize::from(held > 0);
            assert!(held % BLOCK_BYTES == 0 && held <= expected.bytes);
            let what = format!("call {operation}, {unsynced:?}");
            assert_eq!(write(&storage, 9, &content, true).unwrap(), expected, "{what}");
            block_on(storage.append(group(1, vec![based(expected)]))).unwrap();
            disk.power_cut(Unsynced::Lost);
            let storage = storage_on(&disk);
            restart(&storage).unwrap();
            assert!(read(&storage, expected).unwrap() == content, "{what}: after it was sealed");
        }
    }
    assert!(resumed > 12, "only {resumed} went on");
}

#[test]
fn what_was_flushed_of_a_long_transfer_survives_a_power_cut() {
    let content = content(7, 9 << 20);
    let disk = SimulatedDisk::new(3);
    let storage = storage_on(&disk);
    bootstrap(&storage).unwrap();
    block_on(storage.begin_snapshot(Slot::new(9), Some(id_of(9, &content)))).unwrap();
    block_on(storage.write_snapshot(0, content.slice(..6 << 20))).unwrap();
    disk.power_cut(Unsynced::Lost);
    let storage = storage_on(&disk);
    restart(&storage).unwrap();
    let held = block_on(storage.begin_snapshot(Slot::new(9), Some(id_of(9, &content)))).unwrap();
    assert!(held >= 4 << 20, "{held}");
}

// scenario D5, fault F14, clause 12
#[test]
fn a_failed_call_ends_a_snapshot_gives_its_space_back_and_appends_go_on() {
    let (kept, content) = (content_of(10), content(7, (4 << 20) + 300_000));
    let start = || {
        let disk = SimulatedDisk::new(3);
        let storage = storage_on(&disk);
        bootstrap(&storage).unwrap();
        base_on(&storage, 1, 10, &kept);
        (disk, storage)
    };
    let (whole, storage) = start();
    let first = whole.operations();
    write(&storage, 20, &content, false).unwrap();
    let last = whole.operations();
    let mut failed = 0;
    // One block is like another: the beginning, the flush and the end count.
    let counts =
        |operation: &u64| *operation < first + 5 || *operation + 16 > last || operation.is_multiple_of(10);
    for operation in (first..last).filter(counts) {
        for kind in [ErrorKind::StorageFull, ErrorKind::Other] {
            let (disk, storage) = start();
            let files = disk.files().into_keys().collect::<Vec<PathBuf>>();
            disk.fault_at(operation, Fault::Error(kind));
            let what = format!("{kind:?} at call {operation}");
            // An expected one takes one call less.
            let expected = operation % 2 == 0 && operation + 1 < last;
            let written = write(&storage, 20, &content, expected);
            let Err(StorageError::Io { source, .. }) = written else { panic!("{what}: {written:?}") };
            assert_eq!(source.kind(), kind, "{what}");
            failed += 1;
            assert_eq!(disk.files().into_keys().collect::<Vec<PathBuf>>(), files, "{what}");
            block_on(storage.append(group(2, vec![accepted(60, 1)]))).unwrap();
            assert!(matches!(block_on(storage.seal_snapshot()), Err(StorageError::NoSnapshot)));
            assert!(read(&storage, id_of(10, &kept)).unwrap() == kept, "{what}");
            let again = write(&storage, 20, &content, true).unwrap();
            block_on(storage.append(group(3, vec![based(again)]))).unwrap();
            disk.power_cut(Unsynced::Lost);
            let storage = storage_on(&disk);
            let log = restart(&storage).unwrap().log;
            assert!(log.entry(Slot::new(60)).is_some(), "{what}");
            assert!(read(&storage, again).unwrap() == content, "{what}");
        }
    }
    assert!(failed > 45, "{failed}");
}

#[test]
fn one_that_is_sealed_again_is_never_lost_to_a_failure() {
    let content = content_of(10);
    let start = || {
        let disk = SimulatedDisk::new(3);
        let storage = storage_on(&disk);
        bootstrap(&storage).unwrap();
        let named = base_on(&storage, 1, 10, &content);
        (disk, storage, named)
    };
    let (whole, storage, _) = start();
    let first = whole.operations();
    write(&storage, 10, &content, true).unwrap();
    for operation in first..whole.operations() {
        let (disk, storage, named) = start();
        disk.fault_at(operation, Fault::Error(ErrorKind::Other));
        assert!(write(&storage, 10, &content, true).is_err());
        assert!(read(&storage, named).unwrap() == content, "call {operation}");
        for unsynced in [Unsynced::Lost, Unsynced::Kept, Unsynced::Some(operation)] {
            let disk = disk.copy();
            disk.power_cut(unsynced);
            let storage = storage_on(&disk);
            restart(&storage).unwrap();
            assert!(read(&storage, named).unwrap() == content, "call {operation}, {unsynced:?}");
        }
    }
}

#[test]
fn one_that_cannot_be_removed_harms_nobody_and_is_removed_later() {
    let disk = SimulatedDisk::new(3);
    let storage = storage_on(&disk);
    bootstrap(&storage).unwrap();
    for through in 1..=2 {
        write(&storage, through, &content_of(through), false).unwrap();
    }
    let third = content_of(3);
    let expected = id_of(3, &third);
    block_on(storage.begin_snapshot(Slot::new(3), Some(expected))).unwrap();
    block_on(storage.write_snapshot(0, third.clone())).unwrap();
    // The last block, the flush, the rename, the flush of the directory; then the removal.
    disk.fault_at(disk.operations() + 4, Fault::Error(ErrorKind::Other));
    assert_eq!(block_on(storage.seal_snapshot()).unwrap(), expected);
    assert_eq!(snapshot_files(&disk).len(), 3);
    write(&storage, 4, &content_of(4), false).unwrap();
    assert_eq!(snapshot_files(&disk).len(), 2);
    assert!(matches!(read(&storage, id_of(1, &content_of(1))), Err(StorageError::NoSnapshot)));
}

// scenario D6
#[test]
fn a_snapshot_is_flushed_before_it_gets_its_name_and_the_directory_before_it_is_said() {
    let recorded = RecordedDisk::new(Arc::new(SimulatedDisk::new(3)));
    let storage = FileStorage::at(DIR).with_disk(Arc::new(recorded.clone())).inline();
    bootstrap(&storage).unwrap();
    for expected in [false, true] {
        for through in 1..=3 {
            recorded.take();
            // No multiple of what is flushed on the way.
            let sealed = write(&storage, through, &content(through, (5 << 20) + 9), expected).unwrap();
            let operations = recorded.take();
            let partial = Path::new(DIR).join(format!("snapshot-{through:012}.partial"));
            let is_written = |operation: &Operation| matches!(operation, Operation::Write { path, .. } if *path == partial);
            let last_write = operations.iter().rposition(is_written).unwrap();
            let [
                Operation::SyncData(flushed),
                Operation::Rename { from, to },
                Operation::SyncDir(dir),
                rest @ ..,
            ] = &operations[last_write + 1..]
            else {
                panic!("{:?}", &operations[last_write..])
            };
            assert!(*flushed == partial && *from == partial && dir == Path::new(DIR));
            let name = format!("snapshot-{through:012}-{}-{:08x}.sealed", sealed.bytes, sealed.checksum);
            assert_eq!(*to, Path::new(DIR).join(name));
            // An older one goes only when the newer one is durable.
            let removed = rest.iter().all(|operation| matches!(operation, Operation::Remove(_)));
            assert!(removed && rest.len() <= 1, "{rest:?}");
            assert!(
                !operations[..last_write].iter().any(|operation| matches!(operation, Operation::Remove(_)))
            );
        }
    }
}

#[test]
fn leftovers_are_removed_at_an_open_and_other_files_are_not() {
    let disk = SimulatedDisk::new(3);
    let storage = storage_on(&disk);
    bootstrap(&storage).unwrap();
    let named = base_on(&storage, 1, 10, &content_of(10));
    write(&storage, 12, &content_of(12), false).unwrap();
    block_on(storage.begin_snapshot(Slot::new(13), None)).unwrap();
    block_on(storage.write_snapshot(0, content_of(13))).unwrap();
    drop(storage);
    let left =
        ["snapshot-000000000014.partial", ".snapshot-7.tmp", "snapshot-000000000015-9-00000001.sealed"];
    let others = ["snapshot-notes.txt", "notes.tmp", "snapshot-1-2.sealed"];
    for name in left.into_iter().chain(others) {
        disk.put(&Path::new(DIR).join(name), b"something");
    }
    assert_eq!(snapshot_files(&disk).len(), 8);
    let storage = storage_on(&disk);
    restart(&storage).unwrap();
    let names: Vec<String> = snapshot_files(&disk)
        .into_iter()
        .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
        .collect();
    let sealed = format!("snapshot-000000000010-{}-{:08x}.sealed", named.bytes, named.checksum);
    assert_eq!(names, [sealed.as_str(), "snapshot-1-2.sealed", "snapshot-notes.txt"]);
    assert_eq!(read(&storage, named).unwrap(), content_of(10));
}

#[cfg(unix)]
#[test]
fn only_the_owner_can_read_snapshots() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let storage = FileStorage::at(directory.path()).segment_bytes(64 << 10);
    bootstrap(&storage).unwrap();
    write(&storage, 5, &content_of(5), false).unwrap();
    block_on(storage.begin_snapshot(Slot::new(6), None)).unwrap();
    let entries = std::fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().path());
    let snapshots: Vec<PathBuf> =
        entries.filter(|path| path.to_string_lossy().contains("snapshot-")).collect();
    assert_eq!(snapshots.len(), 2);
    for path in snapshots {
        assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}

#[test]
fn a_read_gives_a_bounded_part_however_much_is_asked_for() {
    let disk = SimulatedDisk::new(3);
    let storage = storage_on(&disk);
    bootstrap(&storage).unwrap();
    let content = content(2, 6 << 20);
    let snapshot = write(&storage, 5, &content, false).unwrap();
    let part = block_on(storage.read_snapshot(snapshot, 100, usize::MAX)).unwrap();
    assert_eq!(part.len(), 4 << 20);
    assert_eq!(part, content.slice(100..100 + (4 << 20)));
}

/// A real disk on which a flush of a snapshot takes until the test lets it go on.
#[derive(Debug)]
struct SlowDisk {
    flushing: mpsc::Sender<()>,
    go_on: Arc<std::sync::Mutex<mpsc::Receiver<()>>>,
}

#[derive(Debug)]
struct SlowFile {
    file: Box<dyn DiskFile>,
    flushing: mpsc::Sender<()>,
    go_on: Arc<std::sync::Mutex<mpsc::Receiver<()>>>,
}

impl Disk for SlowDisk {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        RealDisk.create_dir(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        RealDisk.list(dir)
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn DiskFile>> {
        let file = RealDisk.open(path, access)?;
        if path.extension() != Some("partial".as_ref()) {
            return Ok(file);
        }
        Ok(Box::new(SlowFile { file, flushing: self.flushing.clone(), go_on: Arc::clone(&self.go_on) }))
    }

    fn create_temp(&self, dir: &Path, prefix: &str) -> io::Result<(PathBuf, Box<dyn DiskFile>)> {
        RealDisk.create_temp(dir, prefix)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        RealDisk.sync_dir(dir)
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn DiskLock>>> {
        RealDisk.lock(path)
    }

    fn random(&self) -> u64 {
        RealDisk.random()
    }
}

impl DiskFile for SlowFile {
    fn length(&self) -> io::Result<u64> {
        self.file.length()
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(bytes, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.file.write_at(bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        let _ = self.flushing.send(());
        let _ = self.go_on.lock().unwrap().recv();
        self.file.sync_data()
    }
}

#[test]
fn no_append_and_no_read_of_the_log_waits_for_a_snapshot() {
    let directory = tempfile::tempdir().unwrap();
    let (flushing, is_flushing) = mpsc::channel();
    let (go, go_on) = mpsc::channel();
    let disk = Arc::new(SlowDisk { flushing, go_on: Arc::new(std::sync::Mutex::new(go_on)) });
    let storage = Arc::new(FileStorage::at(directory.path()).with_disk(disk).segment_bytes(64 << 10));
    bootstrap(&storage).unwrap();
    let content = content_of(3);
    let sealing = {
        let (storage, content) = (Arc::clone(&storage), content.clone());
        std::thread::spawn(move || write(&storage, 3, &content, false))
    };
    is_flushing.recv_timeout(Duration::from_secs(20)).unwrap();
    let (done, is_done) = mpsc::channel();
    let appending = {
        let storage = Arc::clone(&storage);
        std::thread::spawn(move || {
            for slot in 1..=10 {
                block_on(storage.append(group(slot, vec![accepted(slot, 1)]))).unwrap();
            }
            let found = block_on(storage.read(Slot::FIRST..Slot::new(11), 10_000)).unwrap();
            done.send(found.len()).unwrap();
        })
    };
    let found = is_done.recv_timeout(Duration::from_secs(20));
    drop(go);
    assert_eq!(found, Ok(10), "they wait for the flush of the snapshot");
    appending.join().unwrap();
    let snapshot = sealing.join().unwrap().unwrap();
    assert_eq!(read(&storage, snapshot).unwrap(), content);
}
