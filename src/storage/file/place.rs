//! The directory, opened: checks whose it is, counts the start, folds the journal. Synchronous.

use super::Settings;
use super::snapshots::{Named, Snapshots, Whose};
use crate::multi::{DiskId, Entry, Group, Identity, Incarnation, Membership, Owner, Record, Slot};
use crate::storage::atomic_file::AtomicFile;
use crate::storage::disk::{Disk, DiskLock};
use crate::storage::journal::{
    CHECKPOINT, Damage, Found, Journal, Reader, Replayed, Spare, SpareOrder, Stamp, io_error,
};
use crate::storage::{Recovered, Start, StorageError};
use serde::{Deserialize, Serialize};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

const IDENTITY: &str = "identity";
const LOCK: &str = "lock";

/// What the identity file says. The version of its format stands in the header of the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct IdentityOnDisk {
    owner: Owner,
    disk: DiskId,
    bootstrap: Option<Membership>,
    incarnations: Vec<Incarnation>,
}

impl IdentityOnDisk {
    fn recovered(&self, replayed: Replayed) -> Recovered {
        Recovered {
            owner: self.owner.clone(),
            disk: self.disk,
            incarnations: self.incarnations.clone(),
            bootstrap: self.bootstrap.clone(),
            sequence: replayed.written,
            log: replayed.log,
        }
    }

    fn stamp(&self) -> Stamp {
        Stamp::new(&self.owner.cluster, self.owner.node, self.disk)
    }

    /// Counts one more start, and forgets the oldest beyond what is kept.
    fn count_start(&mut self, nonce: u64) {
        let counter = self.incarnations.last().map_or(0, |last| last.counter).saturating_add(1);
        self.incarnations.push(Incarnation { counter, nonce });
        let surplus = self.incarnations.len().saturating_sub(Identity::INCARNATIONS_MAX);
        self.incarnations.drain(..surplus);
    }
}

/// A directory that is open.
#[derive(Debug)]
pub(super) struct Place {
    identity: IdentityOnDisk,
    journal: Journal,
    damage: Vec<Damage>,
    snapshots: Arc<Mutex<Snapshots>>,
    /// Which snapshot the journal needs.
    named: Arc<Named>,
    /// After the journal, so that it is given up last.
    _lock: Arc<dyn DiskLock>,
}

impl Place {
    pub(super) fn open(
        settings: &Settings,
        owner: Owner,
        start: Start,
    ) -> Result<(Self, Recovered), StorageError> {
        let (disk, dir) = (&settings.disk, settings.dir.as_path());
        let place = || dir.display().to_string();
        prepare_dir(disk.as_ref(), dir, &start)?;
        let lock_path = dir.join(LOCK);
        let lock = disk.lock(&lock_path).map_err(io_error("lock", &lock_path))?;
        let lock: Arc<dyn DiskLock> = lock.ok_or_else(|| StorageError::Locked { place: place() })?.into();
        let mut file = AtomicFile::<IdentityOnDisk>::open_on(Arc::clone(disk), dir.join(IDENTITY))?;
        let mut identity = match file.load()? {
            Some(found) => {
                check(disk, dir, &found, &owner, &start)?;
                found
            }
            None => begin(settings, owner, start)?,
        };
        let (journal, replayed) =
            Journal::open(Arc::clone(disk), dir, identity.stamp(), settings.segment_bytes)?;
        file.clean()?;
        // A force that a crash ended before it was written here (10.2).
        identity.owner.epoch = identity.owner.epoch.max(replayed.epoch);
        identity.count_start(disk.random());
        file.save(&identity)?;
        let damage = replayed.damage.clone();
        let recovered = identity.recovered(replayed);
        let whose = Whose { stamp: identity.stamp(), epoch: identity.owner.epoch };
        let named = recovered.log.base().and_then(|base| base.snapshot);
        let snapshots = Snapshots::open(Arc::clone(disk), dir, whose, named, Arc::clone(&lock))?;
        let named = snapshots.named();
        let snapshots = Arc::new(Mutex::new(snapshots));
        Ok((Self { identity, journal, damage, snapshots, named, _lock: lock }, recovered))
    }

    pub(super) fn recover(&self) -> Result<Recovered, StorageError> {
        Ok(self.identity.recovered(self.journal.replay()?))
    }

    pub(super) fn append(&mut self, group: &Group) -> Result<(), StorageError> {
        self.named.expect(&group.records);
        self.journal.append(group)?;
        self.named.settle();
        Ok(())
    }

    /// Used beside the journal, by another thread.
    pub(super) fn snapshots(&self) -> Arc<Mutex<Snapshots>> {
        Arc::clone(&self.snapshots)
    }

    pub(super) fn trim(&mut self, through: Slot, facts: Vec<Record>) -> Result<Slot, StorageError> {
        self.named.expect(&facts);
        let trimmed = self.journal.trim(through, facts)?;
        self.named.settle();
        Ok(trimmed)
    }

    /// Says durably that the place is in `epoch` (10.2).
    pub(super) fn enter_epoch(&mut self, settings: &Settings, epoch: u64) -> Result<(), StorageError> {
        self.identity.owner.epoch = epoch;
        let path = settings.dir.join(IDENTITY);
        Ok(AtomicFile::open_on(Arc::clone(&settings.disk), path)?.save(&self.identity)?)
    }

    pub(super) fn reader(&self) -> Reader {
        self.journal.reader()
    }

    pub(super) fn needs_seal(&self) -> bool {
        self.journal.needs_seal()
    }

    pub(super) fn seal(&mut self) -> Result<(), StorageError> {
        self.journal.seal()
    }

    pub(super) fn order_spare(&mut self) -> Option<SpareOrder> {
        self.journal.order_spare()
    }

    pub(super) fn take_spare(&mut self, spare: Spare) {
        self.journal.take_spare(spare);
    }

    pub(super) fn damage(&self) -> &[Damage] {
        &self.damage
    }
}

/// Makes the directory where `start` allows it; a restart leaves a directory that holds no node untouched.
fn prepare_dir(disk: &dyn Disk, dir: &Path, start: &Start) -> Result<(), StorageError> {
    let empty = || StorageError::Empty { place: dir.display().to_string() };
    match disk.list(dir) {
        Ok(names) => {
            let is_ours = |name: &String| {
                [IDENTITY, CHECKPOINT].contains(&name.as_str()) || name.starts_with("journal-")
            };
            if *start == Start::Restart && !names.iter().any(is_ours) {
                return Err(empty());
            }
            Ok(())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if *start == Start::Restart {
                return Err(empty());
            }
            let is_missing = |dir: &&Path| {
                let kind = disk.list(dir).err().map(|error| error.kind());
                !dir.as_os_str().is_empty() && kind == Some(io::ErrorKind::NotFound)
            };
            let made: Vec<&Path> = dir.ancestors().take_while(is_missing).collect();
            disk.create_dir(dir).map_err(io_error("mkdir", dir))?;
            for parent in made.into_iter().filter_map(Path::parent) {
                let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
                disk.sync_dir(parent).map_err(io_error("fsync", parent))?;
            }
            Ok(())
        }
        Err(error) => Err(io_error("list", dir)(error)),
    }
}

/// Whether `owner` may start like this on the directory of `found`. Changes nothing.
fn check(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    found: &IdentityOnDisk,
    owner: &Owner,
    start: &Start,
) -> Result<(), StorageError> {
    let place = dir.display().to_string();
    if !start.fits(owner, &found.owner) {
        let (found, asked) = (Box::new(found.owner.clone()), Box::new(owner.clone()));
        return Err(StorageError::WrongOwner { place, found, asked });
    }
    match start {
        Start::Restart => Ok(()),
        Start::Bootstrap(membership) if found.bootstrap.as_ref() == Some(membership) => {
            // A crash while the cluster formed; what formed is in use.
            let replayed = Journal::peek(disk, dir, found.stamp())?;
            let unused = !replayed.log.is_formed() && replayed.log.promised().is_none();
            if unused && replayed.damage.is_empty() { Ok(()) } else { Err(StorageError::InUse { place }) }
        }
        Start::Bootstrap(_) | Start::Join => Err(StorageError::InUse { place }),
    }
}

/// Makes the journal of a new node. The identity, written after it, makes the directory one that is in use.
fn begin(settings: &Settings, owner: Owner, start: Start) -> Result<IdentityOnDisk, StorageError> {
    let (disk, dir) = (settings.disk.as_ref(), settings.dir.as_path());
    let found = Journal::look(disk, dir)?;
    if found == Some(Found::Used) {
        let what = "the identity is gone, and the journal is not empty".to_owned();
        return Err(StorageError::Corrupt { path: dir.join(IDENTITY), offset: 0, what });
    }
    let bootstrap = match start {
        Start::Restart => return Err(StorageError::Empty { place: dir.display().to_string() }),
        Start::Bootstrap(membership) => Some(membership),
        Start::Join => None,
    };
    Journal::remove(disk, dir)?;
    let identity = IdentityOnDisk { owner, disk: DiskId(disk.random()), bootstrap, incarnations: Vec::new() };
    Journal::create(disk, dir, identity.stamp(), settings.segment_bytes)?;
    Ok(identity)
}

/// What a read gives.
pub(super) type Entries = Vec<(Slot, Entry)>;
