//! The storage suite: what every [`Storage`] must do, as cases that run against yours.
//!
//! The cases are numbered as the clauses of the [contract](crate::storage) are: case 4.1 is the first of clause 4. Give it
//! a function that makes fresh places; each case gets one of its own, opens it, drops it, opens it again.
//! Needs no runtime: the futures are driven by whatever yours need.
//!
//! ```
//! use std::sync::Arc;
//! use synod::storage::{MemoryStorage, Storage};
//! use synod::testing::{StoragePlace, storage_suite};
//!
//! struct Place(MemoryStorage);
//!
//! impl StoragePlace for Place {
//!     fn storage(&self) -> Arc<dyn Storage> {
//!         Arc::new(self.0.clone())
//!     }
//! }
//!
//! let report = futures::executor::block_on(storage_suite(|| Place(MemoryStorage::default())));
//! assert!(report.is_passed(), "{report}");
//! ```

use crate::multi::{ClusterId, Entry, Group, Membership, Owner, Record, Sequence, Slot, SnapshotId, Value};
use crate::paxos::{NodeId, ProposalId};
use crate::storage::{Recovered, Start, Storage, StorageError};
use bytes::Bytes;
use futures::future::LocalBoxFuture;
use std::fmt;
use std::sync::Arc;

/// One case: a fresh place in, a verdict out.
struct Case {
    number: &'static str,
    name: &'static str,
    run: for<'a> fn(&'a dyn StoragePlace) -> LocalBoxFuture<'a, Verdict>,
}

macro_rules! cases {
    ($($number:literal $name:literal $function:ident;)*) => {
        pub(super) const ALL: &[$crate::testing::storage_suite::Case] = &[
            $($crate::testing::storage_suite::Case {
                number: $number,
                name: $name,
                run: |place| futures::FutureExt::boxed_local($function(place)),
            },)*
        ];
    };
}

mod cases;
mod scrubbing;
mod snapshots;
mod trimming;

/// A place that storages are opened on, one after the other.
pub trait StoragePlace {
    /// A storage on this place, not open yet, as a process has it that starts.
    fn storage(&self) -> Arc<dyn Storage>;

    /// Loses what was not durable. Called when every storage on the place has been dropped. Where nothing can be lost
    /// that easily, the end of the process has to do.
    fn power_cut(&self) {}

    /// Lets the next append fail, and says whether it can; cases that need it are skipped where it cannot.
    fn fail_next_append(&self) -> bool {
        false
    }

    /// Whether the storage cuts its log (clause 11). Say `false` where it keeps everything, as the trait does by default.
    fn trims(&self) -> bool {
        true
    }

    /// Whether it keeps snapshots (clause 12). Say `false` where it does not, as the trait does by default.
    fn keeps_snapshots(&self) -> bool {
        true
    }

    /// Whether it scrubs (clause 13). Say `false` where it does not, as the trait does by default.
    fn scrubs(&self) -> bool {
        true
    }

    /// Lets the next write of a snapshot fail, and says whether it can.
    fn fail_next_snapshot_write(&self) -> bool {
        false
    }

    /// Damages what is written of `slot`, whose batch is `content`, as rot does, under the storage that has it open, and
    /// says whether it can.
    fn corrupt_entry(&self, slot: Slot, content: &[u8]) -> bool {
        let _ = (slot, content);
        false
    }

    /// Damages a sealed snapshot in the same way, in the byte `at` of its content or beside it, and says whether it can.
    fn corrupt_snapshot(&self, snapshot: SnapshotId, at: u64) -> bool {
        let _ = (snapshot, at);
        false
    }
}

/// How a case ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CaseOutcome {
    /// As the contract says.
    Passed,
    /// The place cannot do what the case needs.
    Skipped,
    /// Otherwise, with what happened.
    Failed(String),
}

/// One case of the suite.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaseResult {
    /// The clause of the contract, and the number of the case in it.
    pub number: &'static str,
    /// What should happen.
    pub name: &'static str,
    /// What did.
    pub outcome: CaseOutcome,
}

/// What the suite found. Prints as a table.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "the suite does not panic, it reports"]
pub struct StorageReport {
    /// Every case, in order.
    pub cases: Vec<CaseResult>,
}

impl StorageReport {
    /// Whether no case failed.
    pub fn is_passed(&self) -> bool {
        self.failures().next().is_none()
    }

    /// The cases that failed.
    pub fn failures(&self) -> impl Iterator<Item = &CaseResult> {
        self.cases.iter().filter(|case| matches!(case.outcome, CaseOutcome::Failed(_)))
    }

    /// How many cases passed.
    pub fn passed(&self) -> usize {
        self.cases.iter().filter(|case| case.outcome == CaseOutcome::Passed).count()
    }
}

impl fmt::Display for StorageReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for case in &self.cases {
            match &case.outcome {
                CaseOutcome::Passed => writeln!(f, "{:>5} ok       {}", case.number, case.name)?,
                CaseOutcome::Skipped => writeln!(f, "{:>5} skipped  {}", case.number, case.name)?,
                CaseOutcome::Failed(why) => writeln!(f, "{:>5} FAILED   {}: {why}", case.number, case.name)?,
            }
        }
        Ok(())
    }
}

/// Runs every case, each on a place of its own from `make`, which starts empty.
pub async fn storage_suite<P: StoragePlace>(make: impl Fn() -> P) -> StorageReport {
    let mut cases = Vec::new();
    let all = [cases::ALL, trimming::ALL, snapshots::ALL, scrubbing::ALL];
    for case in all.into_iter().flatten() {
        let place = make();
        let outcome = match (case.run)(&place).await {
            Ok(()) => CaseOutcome::Passed,
            Err(Unmet::Skipped) => CaseOutcome::Skipped,
            Err(Unmet::Failed(why)) => CaseOutcome::Failed(why),
        };
        cases.push(CaseResult { number: case.number, name: case.name, outcome });
    }
    StorageReport { cases }
}

/// Why a case did not pass.
enum Unmet {
    Skipped,
    Failed(String),
}

impl From<StorageError> for Unmet {
    fn from(error: StorageError) -> Self {
        let source =
            std::error::Error::source(&error).map(|source| format!(": {source}")).unwrap_or_default();
        Self::Failed(format!("{error}{source}"))
    }
}

type Verdict = Result<(), Unmet>;

fn ensure(holds: bool, otherwise: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { Err(Unmet::Failed(otherwise())) }
}

fn ensure_eq<T: PartialEq + fmt::Debug>(found: &T, expected: &T, what: &str) -> Verdict {
    ensure(found == expected, || format!("{what}: found {found:?}, expected {expected:?}"))
}

/// Skips a case that the place cannot do.
fn ensure_able(able: bool) -> Verdict {
    if able { Ok(()) } else { Err(Unmet::Skipped) }
}

/// Whether `result` is the refusal that `expected` recognises.
fn ensure_refused<T>(
    result: Result<T, StorageError>,
    expected: impl FnOnce(&StorageError) -> bool,
    what: &str,
) -> Verdict {
    match result {
        Ok(_) => Err(Unmet::Failed(format!("{what} was not refused"))),
        Err(error) => ensure(expected(&error), || format!("{what} was refused with another error: {error}")),
    }
}

const NODE: NodeId = NodeId::new(1);

fn is_not_open(error: &StorageError) -> bool {
    matches!(error, StorageError::NotOpen)
}

fn is_corrupt(error: &StorageError) -> bool {
    matches!(error, StorageError::Corrupt { .. })
}

fn is_no_snapshot(error: &StorageError) -> bool {
    matches!(error, StorageError::NoSnapshot)
}

fn owner() -> Result<Owner, Unmet> {
    owner_of("suite", 0, NODE)
}

fn owner_of(cluster: &str, epoch: u64, node: NodeId) -> Result<Owner, Unmet> {
    let cluster = ClusterId::new(cluster).map_err(|error| Unmet::Failed(error.to_string()))?;
    Ok(Owner { cluster, epoch, node })
}

fn members(count: u64) -> Result<Membership, Unmet> {
    let voters = (1..=count).map(|node| (NodeId::new(node), format!("node-{node}:1")));
    Membership::voters(voters).map_err(|error| Unmet::Failed(error.to_string()))
}

fn id(number: u64) -> ProposalId {
    ProposalId::new(number, NODE)
}

fn value(text: &str) -> Value {
    Value::Batch(Bytes::copy_from_slice(text.as_bytes()))
}

fn accepted(slot: u64, number: u64, text: &str) -> Record {
    Record::Accepted { slot: Slot::new(slot), id: id(number), value: value(text) }
}

fn entry(number: u64, text: &str) -> Entry {
    Entry { id: id(number), value: value(text) }
}

fn group(sequence: u64, records: Vec<Record>) -> Group {
    Group { sequence: Sequence(sequence), records }
}

async fn bootstrap(place: &dyn StoragePlace) -> Result<Arc<dyn Storage>, Unmet> {
    let storage = place.storage();
    storage.open(owner()?, Start::Bootstrap(members(3)?)).await?;
    Ok(storage)
}

/// Drops the storage as a crash does, and opens the place again.
async fn reopen(
    place: &dyn StoragePlace,
    storage: Arc<dyn Storage>,
) -> Result<(Arc<dyn Storage>, Recovered), Unmet> {
    drop(storage);
    place.power_cut();
    let storage = place.storage();
    let recovered = storage.open(owner()?, Start::Restart).await?;
    Ok((storage, recovered))
}
