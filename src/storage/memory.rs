//! The memory storage: keeps what it is told until the process ends.
//!
//! For tests, simulations and nodes that are allowed to forget. A node is "restarted" by opening a clone of the value that
//! the old one had. It fails, holds its flushes and loses them on request; it has no threads and no clock.
//! Knows nothing of: disks.

use super::{Recovered, Start, Storage, StorageError};
use crate::multi::{
    DiskId, Entry, Group, Identity, Incarnation, Log, Membership, Owner, Record, Sequence, Slot,
};
use crate::paxos::{NodeId, ProposalId};
use async_trait::async_trait;
use futures::channel::oneshot;
use std::collections::{BTreeMap, VecDeque};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The id at an entry that was fetched as chosen.
const FETCHED: ProposalId = ProposalId::new(0, NodeId::new(0));

/// An acceptor's memory in the memory of this process. Clones are further storages on the same place, of which one at a
/// time is open; dropping the open one is like the end of its process, and loses what waits for a held flush.
#[derive(Debug)]
pub struct MemoryStorage {
    place: Arc<Mutex<Place>>,
    /// The opening that this value stands for.
    session: Mutex<Option<u64>>,
}

#[derive(Debug, Default)]
struct Place {
    node: Option<Node>,
    random: u64,
    /// Counts openings and power cuts, so that a storage from before is known.
    sessions: u64,
    open: Option<u64>,
    poisoned: bool,
    appends: u64,
    faults: BTreeMap<u64, io::ErrorKind>,
    hold: bool,
    held: VecDeque<(Group, oneshot::Sender<Result<(), StorageError>>)>,
}

#[derive(Debug)]
struct Node {
    owner: Owner,
    disk: DiskId,
    bootstrap: Option<Membership>,
    incarnations: Vec<Incarnation>,
    sequence: Sequence,
    log: Log,
    entries: BTreeMap<Slot, Entry>,
}

impl Node {
    fn fold(&mut self, group: &Group) {
        for record in &group.records {
            self.log.apply(record);
            match record {
                Record::Accepted { slot, id, value } => {
                    self.entries.insert(*slot, Entry { id: *id, value: value.clone() });
                }
                Record::Chosen { slot, value } => {
                    self.entries.insert(*slot, Entry { id: FETCHED, value: value.clone() });
                }
                _ => {}
            }
        }
        self.sequence = self.sequence.max(group.sequence);
    }

    fn recovered(&self) -> Recovered {
        Recovered {
            owner: self.owner.clone(),
            disk: self.disk,
            incarnations: self.incarnations.clone(),
            bootstrap: self.bootstrap.clone(),
            sequence: self.sequence,
            log: self.log.clone(),
        }
    }
}

impl Default for MemoryStorage {
    /// An empty place, whose disk id nobody can guess.
    fn default() -> Self {
        let mut hasher = RandomState::new().build_hasher();
        hasher.write_u32(std::process::id());
        Self::with_seed(hasher.finish())
    }
}

impl Clone for MemoryStorage {
    /// Another storage on the same place, not open.
    fn clone(&self) -> Self {
        Self { place: Arc::clone(&self.place), session: Mutex::new(None) }
    }
}

impl Drop for MemoryStorage {
    fn drop(&mut self) {
        self.end_session();
    }
}

impl MemoryStorage {
    /// An empty place, whose disk id and nonces follow from `seed`: for simulations.
    pub fn with_seed(seed: u64) -> Self {
        let place = Place { random: seed, ..Place::default() };
        Self { place: Arc::new(Mutex::new(place)), session: Mutex::new(None) }
    }

    /// Lets the next append fail like this. As after any failed write, the place takes no more until it is opened again.
    pub fn fail_next_append(&self, kind: io::ErrorKind) {
        self.fail_append(0, kind);
    }

    /// Lets the append fail that comes after `later` more.
    pub fn fail_append(&self, later: u64, kind: io::ErrorKind) {
        let mut place = self.lock();
        let number = place.appends.saturating_add(later);
        place.faults.insert(number, kind);
    }

    /// From now on an append waits, not durable, until [`MemoryStorage::release`].
    pub fn hold_flushes(&self) {
        self.lock().hold = true;
    }

    /// Makes durable and answers what waits, and holds no more.
    pub fn release(&self) {
        let mut place = self.lock();
        place.hold = false;
        let held = std::mem::take(&mut place.held);
        for (group, answer) in held {
            if let Some(node) = &mut place.node {
                node.fold(&group);
            }
            // A dropped future does not undo its write.
            let _ = answer.send(Ok(()));
        }
    }

    /// How many appends wait.
    pub fn held(&self) -> usize {
        self.lock().held.len()
    }

    /// Cuts the power: what waits is lost and never answered, the storage that was open is not any more, and the place can
    /// be opened again. Holds no more.
    pub fn lose_unflushed(&self) {
        let mut place = self.lock();
        place.held.clear();
        place.hold = false;
        place.open = None;
        place.poisoned = false;
    }

    fn lock(&self) -> MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn session(&self) -> Option<u64> {
        *self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The place, if this value has it open.
    fn open_place(&self) -> Result<MutexGuard<'_, Place>, StorageError> {
        let session = self.session();
        let place = self.lock();
        if session.is_none() || place.open != session { Err(StorageError::NotOpen) } else { Ok(place) }
    }

    /// Whether this value had the place open.
    fn end_session(&self) -> bool {
        let session = self.session.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut place = self.lock();
        let was_open = session.is_some() && place.open == session;
        if was_open {
            place.open = None;
            place.held.clear();
        }
        was_open
    }
}

impl Place {
    const NAME: &str = "the memory storage";

    fn open(&mut self, owner: Owner, start: Start) -> Result<Recovered, StorageError> {
        let place = Self::NAME.to_owned();
        if self.open.is_some() {
            return Err(StorageError::Locked { place });
        }
        match (&self.node, &start) {
            (Some(node), _) if node.owner != owner => {
                let (found, asked) = (Box::new(node.owner.clone()), Box::new(owner));
                return Err(StorageError::WrongOwner { place, found, asked });
            }
            (Some(_), Start::Restart) => {}
            (Some(node), Start::Bootstrap(membership))
                if node.bootstrap.as_ref() == Some(membership)
                    && !node.log.is_formed()
                    && node.log.promised().is_none() => {}
            (Some(_), Start::Bootstrap(_) | Start::Join) => return Err(StorageError::InUse { place }),
            (None, Start::Restart) => return Err(StorageError::Empty { place }),
            (None, Start::Bootstrap(_) | Start::Join) => {}
        }
        let (disk, nonce) = (self.next_random(), self.next_random());
        let node = self.node.get_or_insert_with(|| Node {
            owner,
            disk: DiskId(disk),
            bootstrap: if let Start::Bootstrap(membership) = start { Some(membership) } else { None },
            incarnations: Vec::new(),
            sequence: Sequence::default(),
            log: Log::default(),
            entries: BTreeMap::new(),
        });
        let counter = node.incarnations.last().map_or(0, |last| last.counter).saturating_add(1);
        node.incarnations.push(Incarnation { counter, nonce });
        let surplus = node.incarnations.len().saturating_sub(Identity::INCARNATIONS_MAX);
        node.incarnations.drain(..surplus);
        let recovered = node.recovered();
        self.sessions += 1;
        self.open = Some(self.sessions);
        self.poisoned = false;
        Ok(recovered)
    }

    /// SplitMix64.
    fn next_random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.random ^ (self.random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[async_trait]
impl Storage for MemoryStorage {
    async fn open(&self, owner: Owner, start: Start) -> Result<Recovered, StorageError> {
        let (recovered, session) = {
            let mut place = self.lock();
            let recovered = place.open(owner, start)?;
            (recovered, place.open)
        };
        *self.session.lock().unwrap_or_else(PoisonError::into_inner) = session;
        Ok(recovered)
    }

    async fn recover(&self) -> Result<Recovered, StorageError> {
        let place = self.open_place()?;
        place.node.as_ref().map(Node::recovered).ok_or(StorageError::NotOpen)
    }

    async fn append(&self, group: Group) -> Result<(), StorageError> {
        let answer = {
            let mut place = self.open_place()?;
            if place.poisoned {
                return Err(StorageError::Poisoned);
            }
            let number = place.appends;
            place.appends += 1;
            if let Some(kind) = place.faults.remove(&number) {
                place.poisoned = true;
                let path = PathBuf::from("memory");
                return Err(StorageError::Io { op: "append", path, source: kind.into() });
            }
            if !place.hold {
                if let Some(node) = &mut place.node {
                    node.fold(&group);
                }
                return Ok(());
            }
            let (sender, receiver) = oneshot::channel();
            place.held.push_back((group, sender));
            receiver
        };
        answer.await.unwrap_or(Err(StorageError::NotOpen))
    }

    async fn read(&self, slots: Range<Slot>, bytes_max: usize) -> Result<Vec<(Slot, Entry)>, StorageError> {
        let place = self.open_place()?;
        let mut found = Vec::new();
        let mut bytes = 0_usize;
        let mut next = slots.start.max(Slot::FIRST);
        let entries =
            place.node.as_ref().filter(|_| next < slots.end).map(|node| node.entries.range(next..slots.end));
        for (slot, entry) in entries.into_iter().flatten() {
            bytes = bytes.saturating_add(entry.value.size());
            if *slot != next || (bytes > bytes_max && !found.is_empty()) {
                break;
            }
            found.push((*slot, entry.clone()));
            next = slot.next();
        }
        Ok(found)
    }

    async fn close(&self) -> Result<(), StorageError> {
        if self.open_place().is_ok() {
            self.release();
        }
        if self.end_session() { Ok(()) } else { Err(StorageError::NotOpen) }
    }
}
