//! A workload of everything that a node asks of its storage: appends, cuts, snapshots taken and installed, restarts.

use super::*;
use synod::multi::{Base, SnapshotId};

/// One thing that is asked, and answered.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Append(Group),
    /// Cuts for the newest base.
    Trim,
    /// A snapshot through there: taken, or installed as one that a peer holds.
    Snapshot {
        through: Slot,
        is_installed: bool,
    },
    Restart,
}

/// The content of the snapshot through `through`.
pub(super) fn content_of(through: Slot) -> Bytes {
    snapshots::content(through.get() + 1, 2000 + 100 * (through.get() % 7) as usize)
}

pub(super) fn snapshot_of(through: Slot) -> SnapshotId {
    snapshots::id_of(through.get(), &content_of(through))
}

/// So many steps.
pub(super) fn mixed(count: usize) -> Vec<Step> {
    let (mut steps, mut log, mut sequence) = (Vec::new(), Log::default(), 0);
    for (nth, written) in workload(count as u64).into_iter().enumerate() {
        sequence += 1;
        written.records.iter().for_each(|record| log.apply(record));
        steps.push(Step::Append(group(sequence, written.records)));
        if nth % 20 == 19 {
            sequence += 1;
            let through = log.chosen_through();
            let memberships = log.memberships().unwrap().as_of(through);
            let disks = log.base().unwrap().disks.clone();
            let snapshot = Some(snapshot_of(through));
            let based = Record::Based { base: Base { through, memberships, disks, snapshot } };
            log.apply(&based);
            steps.push(Step::Snapshot { through, is_installed: nth % 40 == 39 });
            steps.push(Step::Append(group(sequence, vec![based])));
            steps.push(Step::Trim);
        }
        if nth % 30 == 29 {
            steps.push(Step::Restart);
        }
    }
    steps.truncate(count);
    steps
}

/// A node's storage while the steps are taken.
pub(super) struct Taker<'a> {
    pub(super) disk: &'a dyn Fn() -> Arc<dyn Disk>,
    pub(super) storage: Option<FileStorage>,
    /// How many starts were answered.
    pub(super) starts: usize,
    log: Log,
}

impl<'a> Taker<'a> {
    pub(super) fn new(disk: &'a dyn Fn() -> Arc<dyn Disk>) -> Self {
        Self { disk, storage: None, starts: 0, log: Log::default() }
    }

    /// Opens the place, for the first time or again.
    pub(super) fn open(&mut self) -> Result<(), StorageError> {
        let start = if self.starts == 0 { Start::Bootstrap(members()) } else { Start::Restart };
        let storage = FileStorage::at(DIR).with_disk((self.disk)()).segment_bytes(4 << 10).inline();
        block_on(storage.open(owner(), start))?;
        self.storage = Some(storage);
        self.starts += 1;
        Ok(())
    }

    /// Asks for one step; `Ok` is the reply.
    pub(super) fn take(&mut self, step: &Step) -> Result<(), StorageError> {
        if matches!(step, Step::Restart) {
            if let Some(storage) = self.storage.take() {
                block_on(storage.close())?;
            }
            return self.open();
        }
        let storage = self.storage.as_ref().ok_or(StorageError::NotOpen)?;
        match step {
            Step::Append(group) => {
                group.records.iter().for_each(|record| self.log.apply(record));
                block_on(storage.append(group.clone()))
            }
            Step::Trim => {
                let through = self.log.base().map_or(Slot::ZERO, |base| base.through);
                block_on(storage.trim(through, self.log.facts())).map(drop)
            }
            Step::Snapshot { through, is_installed } => {
                snapshots::write(storage, through.get(), &content_of(*through), *is_installed).map(drop)
            }
            Step::Restart => Ok(()),
        }
    }
}

/// The fold of what the first `count` steps say, none cut away.
pub(super) fn fold_of(steps: &[Step], count: usize) -> Log {
    let mut log = Log::default();
    for step in &steps[..count] {
        if let Step::Append(group) = step {
            group.records.iter().for_each(|record| log.apply(record));
        }
    }
    log
}
