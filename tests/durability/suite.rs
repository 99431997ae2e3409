//! The public storage suite, against our storages and against ones that are wrong (scenario D13).

use async_trait::async_trait;
use futures::executor::block_on;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use synod::multi::{Entry, Group, Owner, Slot};
use synod::storage::disk::{Disk, Fault, SimulatedDisk, Unsynced};
use synod::storage::{FileStorage, MemoryStorage, Recovered, Start, Storage, StorageError};
use synod::testing::{StoragePlace, storage_suite};

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
        self.0.fail_next_append(std::io::ErrorKind::StorageFull);
        true
    }
}

struct RealFiles(tempfile::TempDir);

impl StoragePlace for RealFiles {
    fn storage(&self) -> Arc<dyn Storage> {
        Arc::new(FileStorage::at(self.0.path().join("node")).segment_bytes(64 << 10))
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
            self.disk.fault_at(self.disk.operations() + 1, Fault::Error(std::io::ErrorKind::Other));
        }
        self.inline
    }
}

#[test]
fn the_memory_storage_passes() {
    let report = block_on(storage_suite(|| Memory(MemoryStorage::default())));
    assert!(report.is_passed() && report.passed() == report.cases.len(), "{report}");
    assert!(report.cases.len() >= 40, "scenario D13 asks for 40 cases");
}

#[test]
fn the_file_storage_passes_on_a_real_disk() {
    let report = block_on(storage_suite(|| RealFiles(tempfile::tempdir().unwrap())));
    assert!(report.is_passed(), "{report}");
}

#[test]
fn the_file_storage_passes_on_a_disk_that_loses_what_was_not_flushed() {
    for inline in [true, false] {
        let report = block_on(storage_suite(|| SimulatedFiles { disk: SimulatedDisk::new(1), inline }));
        assert!(report.is_passed(), "{report}");
    }
}

struct Sqlite(tempfile::TempDir);

impl StoragePlace for Sqlite {
    fn storage(&self) -> Arc<dyn Storage> {
        Arc::new(custom_storage::SqliteStorage::at(self.0.path().join("node.sqlite")))
    }
}

#[test]
fn the_storage_of_the_example_passes() {
    let report = block_on(storage_suite(|| Sqlite(tempfile::tempdir().unwrap())));
    assert!(report.is_passed(), "{report}");
}

/// What a storage does wrong.
#[derive(Clone, Copy, PartialEq)]
enum Wrong {
    LosesTheLastGroup,
    AllowsASecondOpen,
    ForgetsItsOwner,
    ReadsAcrossGaps,
    IgnoresTheBytes,
    CountsNoStarts,
}

struct WrongStorage {
    inner: MemoryStorage,
    wrong: Wrong,
    held: Mutex<Option<Group>>,
}

struct WrongPlace(MemoryStorage, Wrong);

impl StoragePlace for WrongPlace {
    fn storage(&self) -> Arc<dyn Storage> {
        Arc::new(WrongStorage { inner: self.0.clone(), wrong: self.1, held: Mutex::default() })
    }
}

#[async_trait]
impl Storage for WrongStorage {
    async fn open(&self, mut owner: Owner, start: Start) -> Result<Recovered, StorageError> {
        if self.wrong == Wrong::ForgetsItsOwner {
            owner.epoch = 0;
        }
        let opened = self.inner.open(owner.clone(), start).await;
        let mut opened = match opened {
            Err(StorageError::Locked { .. }) if self.wrong == Wrong::AllowsASecondOpen => {
                self.inner.lose_unflushed();
                self.inner.open(owner, Start::Restart).await?
            }
            opened => opened?,
        };
        if self.wrong == Wrong::CountsNoStarts {
            opened.incarnations.truncate(1);
        }
        Ok(opened)
    }

    async fn recover(&self) -> Result<Recovered, StorageError> {
        self.inner.recover().await
    }

    async fn append(&self, group: Group) -> Result<(), StorageError> {
        if self.wrong != Wrong::LosesTheLastGroup {
            return self.inner.append(group).await;
        }
        let earlier = self.held.lock().unwrap().replace(group);
        match earlier {
            Some(earlier) => self.inner.append(earlier).await,
            None => Ok(()),
        }
    }

    async fn read(&self, slots: Range<Slot>, bytes_max: usize) -> Result<Vec<(Slot, Entry)>, StorageError> {
        let inner = &self.inner;
        match self.wrong {
            Wrong::IgnoresTheBytes => inner.read(slots, usize::MAX).await,
            Wrong::ReadsAcrossGaps => {
                let mut found = inner.read(slots.clone(), bytes_max).await?;
                let behind = found.last().map_or(slots.start, |(slot, _)| *slot).plus(2);
                found.append(&mut inner.read(behind..slots.end, bytes_max).await?);
                Ok(found)
            }
            _ => inner.read(slots, bytes_max).await,
        }
    }

    async fn close(&self) -> Result<(), StorageError> {
        self.inner.close().await
    }
}

#[test]
fn a_wrong_storage_fails_in_the_clause_that_it_breaks() {
    let wrongs = [
        (Wrong::LosesTheLastGroup, "1.1"),
        (Wrong::AllowsASecondOpen, "4.1"),
        (Wrong::ForgetsItsOwner, "7.4"),
        (Wrong::ReadsAcrossGaps, "10.2"),
        (Wrong::IgnoresTheBytes, "10.3"),
        (Wrong::CountsNoStarts, "8.1"),
    ];
    for (wrong, clause) in wrongs {
        let report = block_on(storage_suite(|| WrongPlace(MemoryStorage::default(), wrong)));
        assert!(report.failures().any(|case| case.number == clause), "{clause} should fail:\n{report}");
    }
}
