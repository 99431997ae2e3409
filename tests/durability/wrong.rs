//! Storages that are wrong in one way each: the suite has to notice (scenario D13).

use async_trait::async_trait;
use bytes::Bytes;
use futures::executor::block_on;
use std::io::ErrorKind;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};
use synod::multi::{Entry, Group, Interval, Owner, Record, Slot, SnapshotId};
use synod::storage::{MemoryStorage, Recovered, Scrubbed, Start, Storage, StorageError};
use synod::testing::{StoragePlace, storage_suite};

/// What a storage does wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Wrong {
    Nothing,
    LosesTheLastGroup,
    KeepsHalfAGroup,
    TurnsTheOrderRound,
    GoesOnAfterAFailure,
    UndoesWhatIsDropped,
    AllowsASecondOpen,
    ForgetsItsOwner,
    TakesTheEpochAsked,
    CountsNoStarts,
    ReadsAcrossGaps,
    IgnoresTheBytes,
    CutsTooMuch,
    DropsTheFacts,
    SaysLessThanItCut,
    LosesAppendsAfterACut,
    CutsInTwoSteps,
    MeasuresNothing,
    MeasuresWhatIsGone,
    CutsAfterAFailure,
    WorksWhileClosed,
    LosesSnapshots,
    NamesAnotherChecksum,
    ShowsTheUnsealed,
    ReadsFromTheStart,
    WritesAnywhere,
    SealsNothing,
    IgnoresASecondBeginning,
    SealsTheUnexpected,
    ClaimsMoreThanItHolds,
    GoesOnWithAnother,
    GoesOnWithTheUnexpected,
    KeepsOneSnapshot,
    ForgetsTheNamed,
    ForgetsTheNamedInACut,
    RefusesAppendsWhileWriting,
    RefusesAppendsAfterAFailure,
    KeepsOneForASlot,
    GivesDamage,
    BlamesASlot,
    SeesNoDamagedEntry,
    SeesNoDamagedSnapshot,
    RepairsByScrubbing,
}

/// What a wrong storage remembers while it is open.
#[derive(Debug, Default)]
struct Memory {
    unwritten: Option<Group>,
    has_cut: bool,
    measured: u64,
    is_writing: bool,
    written: u64,
    has_failed: bool,
    sealed: Vec<SnapshotId>,
    has_reported: bool,
}

struct WrongStorage {
    inner: MemoryStorage,
    wrong: Wrong,
    /// The first that was expected, by whoever had the place open.
    first: Arc<Mutex<Option<SnapshotId>>>,
    memory: Mutex<Memory>,
}

struct WrongPlace {
    inner: MemoryStorage,
    wrong: Wrong,
    first: Arc<Mutex<Option<SnapshotId>>>,
}

impl StoragePlace for WrongPlace {
    fn storage(&self) -> Arc<dyn Storage> {
        let (inner, first) = (self.inner.clone(), Arc::clone(&self.first));
        Arc::new(WrongStorage { inner, wrong: self.wrong, first, memory: Mutex::default() })
    }

    fn fail_next_append(&self) -> bool {
        self.inner.fail_next_append(ErrorKind::StorageFull);
        true
    }

    fn fail_next_snapshot_write(&self) -> bool {
        self.inner.fail_next_snapshot_write(ErrorKind::StorageFull);
        true
    }

    fn corrupt_entry(&self, slot: Slot, _: &[u8]) -> bool {
        self.inner.corrupt_entry(slot)
    }

    fn corrupt_snapshot(&self, snapshot: SnapshotId, _: u64) -> bool {
        self.inner.corrupt_snapshot(snapshot)
    }
}

impl WrongStorage {
    fn is(&self, wrong: Wrong) -> bool {
        self.wrong == wrong
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap()
    }

    /// Whether the storage has forgotten a snapshot that it should hold.
    fn has_forgotten(&self, snapshot: SnapshotId) -> bool {
        let memory = self.memory();
        let newer = memory.sealed.iter().rev().take_while(|sealed| **sealed != snapshot);
        match self.wrong {
            Wrong::LosesSnapshots => !memory.sealed.contains(&snapshot),
            Wrong::KeepsOneSnapshot => newer.count() > 0,
            Wrong::ForgetsTheNamed => newer.count() > 1,
            Wrong::KeepsOneForASlot => newer.into_iter().any(|newer| newer.through == snapshot.through),
            _ => false,
        }
    }
}

/// Lets somebody else run, once.
async fn pause() {
    let mut paused = false;
    std::future::poll_fn(|context| {
        context.waker().wake_by_ref();
        if std::mem::replace(&mut paused, true) {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
}

#[async_trait]
impl Storage for WrongStorage {
    async fn open(&self, mut owner: Owner, start: Start) -> Result<Recovered, StorageError> {
        let asked = owner.epoch;
        if self.is(Wrong::ForgetsItsOwner) {
            owner.cluster = synod::multi::ClusterId::new("suite").unwrap();
        }
        let opened = self.inner.open(owner.clone(), start).await;
        let mut opened = match opened {
            Err(StorageError::Locked { .. }) if self.is(Wrong::AllowsASecondOpen) => {
                self.inner.lose_unflushed();
                self.inner.open(owner, Start::Restart).await?
            }
            opened => opened?,
        };
        if self.is(Wrong::CountsNoStarts) {
            opened.incarnations.truncate(1);
        }
        if self.is(Wrong::TakesTheEpochAsked) {
            opened.owner.epoch = asked;
        }
        Ok(opened)
    }

    async fn recover(&self) -> Result<Recovered, StorageError> {
        self.inner.recover().await
    }

    async fn append(&self, mut group: Group) -> Result<(), StorageError> {
        match self.wrong {
            Wrong::KeepsHalfAGroup => group.records.truncate(group.records.len().div_ceil(2)),
            Wrong::TurnsTheOrderRound => group.records.reverse(),
            Wrong::UndoesWhatIsDropped => pause().await,
            _ => {}
        }
        let refused = {
            let memory = self.memory();
            (self.is(Wrong::RefusesAppendsWhileWriting) && memory.is_writing)
                || (self.is(Wrong::RefusesAppendsAfterAFailure) && memory.has_failed)
        };
        if refused {
            return Err(StorageError::Poisoned);
        }
        if self.is(Wrong::LosesAppendsAfterACut) && self.memory().has_cut {
            return Ok(());
        }
        if !self.is(Wrong::LosesTheLastGroup) {
            return match self.inner.append(group).await {
                Err(StorageError::Poisoned) if self.is(Wrong::GoesOnAfterAFailure) => Ok(()),
                Err(StorageError::NotOpen) if self.is(Wrong::WorksWhileClosed) => Ok(()),
                appended => appended,
            };
        }
        let earlier = self.memory().unwritten.replace(group);
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

    async fn trim(&self, through: Slot, mut facts: Vec<Record>) -> Result<Slot, StorageError> {
        self.memory().has_cut = true;
        let inner = &self.inner;
        match self.wrong {
            Wrong::CutsTooMuch => inner.trim(through.plus(20), facts).await,
            Wrong::DropsTheFacts => inner.trim(through, Vec::new()).await,
            Wrong::SaysLessThanItCut => Ok(inner.trim(through, facts).await?.min(through)),
            Wrong::CutsInTwoSteps => {
                inner.trim(through, Vec::new()).await?;
                pause().await;
                inner.trim(through, facts).await
            }
            Wrong::CutsAfterAFailure => match inner.trim(through, facts).await {
                Err(StorageError::Poisoned) => Ok(Slot::ZERO),
                cut => cut,
            },
            Wrong::ForgetsTheNamedInACut => {
                facts.retain(|fact| !matches!(fact, Record::Based { .. }));
                inner.trim(through, facts).await
            }
            Wrong::WorksWhileClosed => Ok(inner.trim(through, facts).await.unwrap_or_default()),
            _ => inner.trim(through, facts).await,
        }
    }

    async fn begin_snapshot(&self, through: Slot, expected: Option<SnapshotId>) -> Result<u64, StorageError> {
        let was_writing = std::mem::replace(&mut self.memory().is_writing, true);
        let first = *self.first.lock().unwrap().get_or_insert(expected.unwrap_or(ANY));
        let inner = &self.inner;
        let held = match self.wrong {
            Wrong::IgnoresASecondBeginning if was_writing => Ok(0),
            Wrong::SealsTheUnexpected => inner.begin_snapshot(through, None).await,
            Wrong::ClaimsMoreThanItHolds => Ok(inner.begin_snapshot(through, expected).await? + 200_000),
            Wrong::GoesOnWithAnother => inner.begin_snapshot(through, expected.and(Some(first))).await,
            Wrong::GoesOnWithTheUnexpected => inner.begin_snapshot(through, expected.or(Some(ANY))).await,
            Wrong::WorksWhileClosed => Ok(inner.begin_snapshot(through, expected).await.unwrap_or_default()),
            _ => inner.begin_snapshot(through, expected).await,
        }?;
        self.memory().written = held;
        Ok(held)
    }

    async fn write_snapshot(&self, mut at: u64, bytes: Bytes) -> Result<(), StorageError> {
        if self.is(Wrong::WritesAnywhere) {
            at = self.memory().written;
        }
        let length = bytes.len() as u64;
        let written = self.inner.write_snapshot(at, bytes).await;
        let mut memory = self.memory();
        memory.written += length;
        memory.has_failed |= matches!(written, Err(StorageError::Io { .. }));
        written
    }

    async fn seal_snapshot(&self) -> Result<SnapshotId, StorageError> {
        let sealed = match self.inner.seal_snapshot().await {
            Err(StorageError::NoSnapshot) if self.is(Wrong::SealsNothing) => return Ok(ANY),
            sealed => sealed?,
        };
        let mut memory = self.memory();
        memory.is_writing = false;
        memory.sealed.push(sealed);
        let off = u32::from(self.is(Wrong::NamesAnotherChecksum));
        Ok(SnapshotId { checksum: sealed.checksum ^ off, ..sealed })
    }

    async fn read_snapshot(
        &self,
        snapshot: SnapshotId,
        at: u64,
        bytes_max: usize,
    ) -> Result<Bytes, StorageError> {
        if self.has_forgotten(snapshot) {
            return Err(StorageError::NoSnapshot);
        }
        let at = if self.is(Wrong::ReadsFromTheStart) { 0 } else { at };
        match self.inner.read_snapshot(snapshot, at, bytes_max).await {
            Err(StorageError::NoSnapshot) if self.is(Wrong::ShowsTheUnsealed) => Ok(Bytes::new()),
            Err(StorageError::Corrupt { .. }) if self.is(Wrong::GivesDamage) => Ok(vec![0; bytes_max].into()),
            read => read,
        }
    }

    async fn scrub(&self, bytes_max: usize) -> Result<Scrubbed, StorageError> {
        let mut scrubbed = match self.inner.scrub(bytes_max).await {
            Err(StorageError::NotOpen) if self.is(Wrong::WorksWhileClosed) => Scrubbed::default(),
            scrubbed => scrubbed?,
        };
        let mut memory = self.memory();
        let has_reported = memory.has_reported;
        memory.has_reported |= !scrubbed.slots.is_empty();
        match self.wrong {
            Wrong::BlamesASlot => scrubbed.slots.push(Interval::new(Slot::new(7), Slot::new(7))),
            Wrong::SeesNoDamagedEntry => scrubbed.slots.clear(),
            Wrong::SeesNoDamagedSnapshot => scrubbed.snapshots.clear(),
            Wrong::RepairsByScrubbing if has_reported => scrubbed.slots.clear(),
            _ => {}
        }
        Ok(scrubbed)
    }

    fn log_bytes(&self) -> u64 {
        let mut memory = self.memory();
        memory.measured = memory.measured.max(self.inner.log_bytes());
        match self.wrong {
            Wrong::MeasuresNothing => 0,
            Wrong::MeasuresWhatIsGone => memory.measured,
            _ => self.inner.log_bytes(),
        }
    }

    async fn close(&self) -> Result<(), StorageError> {
        self.inner.close().await
    }
}

/// A snapshot that nobody has.
const ANY: SnapshotId = SnapshotId { through: Slot::ZERO, bytes: 1, checksum: 1 };

fn run(wrong: Wrong) -> synod::testing::StorageReport {
    let make = || WrongPlace { inner: MemoryStorage::default(), wrong, first: Arc::default() };
    block_on(storage_suite(make))
}

// scenario D13
#[test]
fn a_wrong_storage_fails_in_the_clause_that_it_breaks() {
    let right = run(Wrong::Nothing);
    assert!(right.passed() == right.cases.len(), "nothing but the fault makes it fail:\n{right}");
    let wrongs: [(Wrong, &[&str]); 42] = [
        (Wrong::LosesTheLastGroup, &["1.1"]),
        (Wrong::KeepsHalfAGroup, &["2.1"]),
        (Wrong::TurnsTheOrderRound, &["3.1"]),
        (Wrong::AllowsASecondOpen, &["4.1"]),
        (Wrong::GoesOnAfterAFailure, &["5.1"]),
        (Wrong::UndoesWhatIsDropped, &["6.1"]),
        (Wrong::ForgetsItsOwner, &["7.4"]),
        (Wrong::TakesTheEpochAsked, &["7.8"]),
        (Wrong::CountsNoStarts, &["8.1"]),
        (Wrong::ReadsAcrossGaps, &["10.2"]),
        (Wrong::IgnoresTheBytes, &["10.3"]),
        (Wrong::CutsTooMuch, &["11.1"]),
        (Wrong::DropsTheFacts, &["11.2", "11.3", "11.7"]),
        (Wrong::SaysLessThanItCut, &["11.4"]),
        (Wrong::LosesAppendsAfterACut, &["11.5"]),
        (Wrong::CutsInTwoSteps, &["11.6"]),
        (Wrong::MeasuresNothing, &["11.8"]),
        (Wrong::MeasuresWhatIsGone, &["11.9"]),
        (Wrong::CutsAfterAFailure, &["11.10"]),
        (Wrong::WorksWhileClosed, &["9.1", "11.11", "12.21", "13.6"]),
        (Wrong::LosesSnapshots, &["12.1"]),
        (Wrong::NamesAnotherChecksum, &["12.2"]),
        (Wrong::ShowsTheUnsealed, &["12.3"]),
        (Wrong::ReadsFromTheStart, &["12.4"]),
        (Wrong::WritesAnywhere, &["12.5"]),
        (Wrong::SealsNothing, &["12.6"]),
        (Wrong::IgnoresASecondBeginning, &["12.7"]),
        (Wrong::SealsTheUnexpected, &["12.8"]),
        (Wrong::ClaimsMoreThanItHolds, &["12.9", "12.10"]),
        (Wrong::GoesOnWithAnother, &["12.11"]),
        (Wrong::GoesOnWithTheUnexpected, &["12.12"]),
        (Wrong::KeepsOneSnapshot, &["12.13"]),
        (Wrong::ForgetsTheNamed, &["12.14"]),
        (Wrong::ForgetsTheNamedInACut, &["12.15"]),
        (Wrong::RefusesAppendsWhileWriting, &["12.16"]),
        (Wrong::RefusesAppendsAfterAFailure, &["12.17"]),
        (Wrong::KeepsOneForASlot, &["12.18"]),
        (Wrong::GivesDamage, &["12.19", "12.20"]),
        (Wrong::BlamesASlot, &["13.1", "13.3"]),
        (Wrong::SeesNoDamagedEntry, &["13.2"]),
        (Wrong::SeesNoDamagedSnapshot, &["13.4"]),
        (Wrong::RepairsByScrubbing, &["13.5"]),
    ];
    for clause in (1..=13).map(|clause| format!("{clause}.")) {
        let is_broken = wrongs.iter().flat_map(|(_, cases)| *cases).any(|case| case.starts_with(&clause));
        assert!(is_broken, "nothing breaks clause {clause}");
    }
    assert!(right.cases.len() >= 40, "scenario D13 asks for 40 cases");
    for (wrong, cases) in wrongs {
        let report = run(wrong);
        for case in cases {
            let failed = report.failures().any(|failed| failed.number == *case);
            assert!(failed, "{case} should fail, for it {wrong:?}:\n{report}");
        }
    }
}
