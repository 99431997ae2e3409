//! The public storage suite, against our storages and against ones that are wrong (scenario D13).

use futures::executor::block_on;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use synod::multi::{Slot, SnapshotId};
use synod::storage::disk::{Disk, Fault, SimulatedDisk, Unsynced};
use synod::storage::{FileStorage, MemoryStorage, Storage};
use synod::testing::{CaseOutcome, StoragePlace, StorageReport, storage_suite};

#[path = "../../examples/custom_storage.rs"]
#[allow(dead_code, unreachable_pub)]
mod custom_storage;

struct Memory(MemoryStorage);

impl StoragePlace for Memory {
    fn storage(&self) -> Arc<dyn Storage> {
        Arc::new(self.0.clone())
    }

    fn power_cut(&self) {
        self.0.lose_unflushed();
    }

    fn fail_next_append(&self) -> bool {
        self.0.fail_next_append(ErrorKind::StorageFull);
        true
    }

    fn fail_next_snapshot_write(&self) -> bool {
        self.0.fail_next_snapshot_write(ErrorKind::StorageFull);
        true
    }

    fn corrupt_entry(&self, slot: Slot, _: &[u8]) -> bool {
        self.0.corrupt_entry(slot)
    }

    fn corrupt_snapshot(&self, snapshot: SnapshotId, _: u64) -> bool {
        self.0.corrupt_snapshot(snapshot)
    }
}

/// Whether the journal cuts and scrubs: then clauses 11 and 13 hold for the file storage too.
const JOURNAL_CUTS: bool = true;

/// Whether `path` is a segment of the journal.
fn is_segment(path: &Path) -> bool {
    path.extension() == Some("log".as_ref())
}

/// Where `content` stands in `bytes`.
fn position_of(content: &[u8], bytes: &[u8]) -> Option<usize> {
    bytes.windows(content.len()).position(|window| window == content)
}

/// Whether `path` is the file of `snapshot`.
fn is_file_of(snapshot: SnapshotId, path: &Path) -> bool {
    path.to_string_lossy().ends_with(&format!("-{}-{:08x}.sealed", snapshot.bytes, snapshot.checksum))
}

/// Where about the byte `at` of a snapshot's content stands in its file.
fn place_of(at: u64) -> usize {
    100 + at as usize
}

struct RealFiles(tempfile::TempDir);

impl StoragePlace for RealFiles {
    fn storage(&self) -> Arc<dyn Storage> {
        Arc::new(FileStorage::at(self.0.path().join("node")).segment_bytes(64 << 10))
    }

    fn trims(&self) -> bool {
        JOURNAL_CUTS
    }

    fn corrupt_entry(&self, _: Slot, content: &[u8]) -> bool {
        JOURNAL_CUTS && self.flip(|path, bytes| position_of(content, bytes).filter(|_| is_segment(path)))
    }

    fn corrupt_snapshot(&self, snapshot: SnapshotId, at: u64) -> bool {
        self.flip(|path, _| is_file_of(snapshot, path).then_some(place_of(at)))
    }
}

impl RealFiles {
    /// Changes the byte that `place` finds, and says whether it found any.
    fn flip(&self, place: impl Fn(&Path, &[u8]) -> Option<usize>) -> bool {
        let files = fs::read_dir(self.0.path().join("node")).unwrap();
        for path in files.map(|entry| entry.unwrap().path()) {
            let mut bytes = fs::read(&path).unwrap();
            if let Some(at) = place(&path, &bytes) {
                bytes[at] ^= 1;
                fs::write(&path, &bytes).unwrap();
                return true;
            }
        }
        false
    }
}

struct SimulatedFiles {
    disk: SimulatedDisk,
    inline: bool,
}

impl StoragePlace for SimulatedFiles {
    fn storage(&self) -> Arc<dyn Storage> {
        let disk: Arc<dyn Disk> = Arc::new(self.disk.clone());
        let storage = FileStorage::at(PathBuf::from("/data/node")).with_disk(disk).segment_bytes(8 << 10);
        Arc::new(if self.inline { storage.inline() } else { storage })
    }

    fn power_cut(&self) {
        self.disk.power_cut(Unsynced::Lost);
    }

    fn fail_next_append(&self) -> bool {
        // Only without a thread is it known which call comes next.
        if self.inline {
            self.disk.fault_at(self.disk.operations() + 1, Fault::Error(ErrorKind::Other));
        }
        self.inline
    }

    fn trims(&self) -> bool {
        JOURNAL_CUTS
    }

    fn fail_next_snapshot_write(&self) -> bool {
        if self.inline {
            self.disk.fault_at(self.disk.operations(), Fault::Error(ErrorKind::StorageFull));
        }
        self.inline
    }

    fn corrupt_entry(&self, _: Slot, content: &[u8]) -> bool {
        let files = self.disk.files();
        let mut segments = files.iter().filter(|(path, _)| JOURNAL_CUTS && is_segment(path));
        let found = segments.find_map(|(path, bytes)| Some((path, position_of(content, bytes)?)));
        found.inspect(|(path, at)| self.disk.flip(path, *at, 1)).is_some()
    }

    fn corrupt_snapshot(&self, snapshot: SnapshotId, at: u64) -> bool {
        let files = self.disk.files();
        let path = files.keys().find(|path| is_file_of(snapshot, path));
        path.inspect(|path| self.disk.flip(path, place_of(at), 1)).is_some()
    }
}

/// The cases that were skipped, beside those that need a journal that cuts and scrubs where it does not.
fn skipped(report: &StorageReport) -> Vec<&'static str> {
    let needs_cuts =
        |number: &str| number.starts_with("11.") || ["12.15", "13.2", "13.3", "13.5"].contains(&number);
    let skipped = report.cases.iter().filter(|case| case.outcome == CaseOutcome::Skipped);
    skipped.map(|case| case.number).filter(|number| JOURNAL_CUTS || !needs_cuts(number)).collect()
}

/// The cases in which a write fails on request: with threads, nobody knows which call to the disk comes next.
fn need_failures() -> Vec<&'static str> {
    ["5.1", "5.2", "11.10", "12.17"].into_iter().filter(|number| JOURNAL_CUTS || *number != "11.10").collect()
}

// scenario D13
#[test]
fn the_memory_storage_passes() {
    let report = block_on(storage_suite(|| Memory(MemoryStorage::default())));
    assert!(report.is_passed() && report.passed() == report.cases.len(), "{report}");
    assert!(report.cases.len() >= 40, "scenario D13 asks for 40 cases");
    let clauses = ["11.", "12.", "13."]
        .map(|clause| report.cases.iter().filter(|case| case.number.starts_with(clause)).count());
    assert_eq!(clauses, [11, 21, 6]);
}

// scenario D13
#[test]
fn the_file_storage_passes_on_a_real_disk() {
    let report = block_on(storage_suite(|| RealFiles(tempfile::tempdir().unwrap())));
    assert!(report.is_passed(), "{report}");
    assert_eq!(skipped(&report), need_failures());
}

// scenario D13
#[test]
fn the_file_storage_passes_on_a_disk_that_loses_what_was_not_flushed() {
    for inline in [true, false] {
        let report = block_on(storage_suite(|| SimulatedFiles { disk: SimulatedDisk::new(1), inline }));
        assert!(report.is_passed(), "{report}");
        assert_eq!(skipped(&report), if inline { Vec::new() } else { need_failures() });
    }
}

struct Sqlite(tempfile::TempDir);

impl StoragePlace for Sqlite {
    fn storage(&self) -> Arc<dyn Storage> {
        Arc::new(custom_storage::SqliteStorage::at(self.0.path().join("node.sqlite")))
    }

    fn scrubs(&self) -> bool {
        false
    }
}

// scenario D13
#[test]
fn the_storage_of_the_example_passes() {
    let report = block_on(storage_suite(|| Sqlite(tempfile::tempdir().unwrap())));
    assert!(report.is_passed(), "{report}");
    let skipped = report.cases.len() - report.passed();
    assert_eq!(
        skipped, 12,
        "it neither fails nor rots on request, and leaves scrubbing to the database:\n{report}"
    );
}
