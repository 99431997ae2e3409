//! A storage of your own: an acceptor's memory in SQLite.
//!
//! Copy this file when a node is to keep its memory in a database that you run anyway. It shows the three things that
//! every [`Storage`] has to get right, and runs the public suite, which tells you whether yours does:
//!
//! 1. **Durable before `Ok`.** `synchronous = FULL` flushes at each commit. The write-ahead log makes that one flush; the
//!    default of SQLite (a rollback journal) would make it three.
//! 2. **One writer.** `locking_mode = EXCLUSIVE` keeps the file locked while it is open, so a second process is refused.
//! 3. **The fold.** A group is one row. What a node knows after a restart is the fold of all rows by [`Log::apply`], the
//!    same function that ran while they were written. The table of entries only serves reads, and is filled in the same
//!    transaction.
//!
//! A connection may move between threads but not be shared (`Send`, not `Sync`), and a commit blocks. So a thread of its
//! own holds the connection, and the futures wait for what it sends back. Anything that is not `Send` bridges the same way.
//!
//! ```text
//! cargo run --example custom_storage
//! ```

use async_trait::async_trait;
use futures::channel::oneshot;
use rusqlite::{Connection, ErrorCode, OptionalExtension, params};
use serde::{Deserialize, Serialize};
use std::cell::Cell;
use std::error::Error;
use std::hash::{BuildHasher, RandomState};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use synod::codec;
use synod::multi::{
    DiskId, Entry, Group, Identity, Incarnation, Log, Membership, Owner, Record, Sequence, Slot,
};
use synod::paxos::{NodeId, ProposalId};
use synod::storage::{Recovered, Start, Storage, StorageError};
use synod::testing::{StoragePlace, storage_suite};

type Job = Box<dyn FnOnce(&mut Database) + Send>;

/// An acceptor's memory in one SQLite file.
pub struct SqliteStorage {
    path: PathBuf,
    thread: Mutex<Option<Thread>>,
}

struct Thread {
    jobs: mpsc::Sender<Job>,
    handle: JoinHandle<()>,
}

impl SqliteStorage {
    /// A storage in the file at `path`, which is made by a bootstrap or a join.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), thread: Mutex::new(None) }
    }

    fn thread(&self) -> std::sync::MutexGuard<'_, Option<Thread>> {
        self.thread.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does `work` on the thread that holds the connection. Once sent it is done, whether or not somebody waits for it:
    /// clause 6 of the contract.
    async fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Database) -> Result<T, StorageError> + Send + 'static,
    ) -> Result<T, StorageError> {
        let (answer, reply) = oneshot::channel();
        let job: Job = Box::new(move |database| {
            let _ = answer.send(work(database));
        });
        let sent = self.thread().as_ref().is_some_and(|thread| thread.jobs.send(job).is_ok());
        if sent { reply.await.unwrap_or(Err(StorageError::NotOpen)) } else { Err(StorageError::NotOpen) }
    }

    /// Ends the thread, and with it the connection and its lock.
    fn end(&self) -> bool {
        let Some(Thread { jobs, handle }) = self.thread().take() else { return false };
        drop(jobs);
        handle.join().is_ok()
    }
}

impl Drop for SqliteStorage {
    fn drop(&mut self) {
        self.end();
    }
}

#[async_trait]
impl Storage for SqliteStorage {
    async fn open(&self, owner: Owner, start: Start) -> Result<Recovered, StorageError> {
        let place = self.path.display().to_string();
        {
            let mut thread = self.thread();
            if thread.is_some() {
                return Err(StorageError::Locked { place });
            }
            if start == Start::Restart && !self.path.exists() {
                return Err(StorageError::Empty { place });
            }
            let mut database = Database::connect(&self.path)?;
            let (jobs, queue) = mpsc::channel::<Job>();
            let handle = thread::spawn(move || queue.into_iter().for_each(|job| job(&mut database)));
            *thread = Some(Thread { jobs, handle });
        }
        let opened = self.call(move |database| database.open(&place, owner, start)).await;
        if opened.is_err() {
            self.end();
        }
        opened
    }

    async fn recover(&self) -> Result<Recovered, StorageError> {
        self.call(|database| database.recover()).await
    }

    async fn append(&self, group: Group) -> Result<(), StorageError> {
        self.call(move |database| database.append(&group)).await
    }

    async fn read(&self, slots: Range<Slot>, bytes_max: usize) -> Result<Vec<(Slot, Entry)>, StorageError> {
        self.call(move |database| database.read(slots, bytes_max)).await
    }

    async fn close(&self) -> Result<(), StorageError> {
        if self.end() { Ok(()) } else { Err(StorageError::NotOpen) }
    }
}

/// What is known of the node itself: one row.
#[derive(Clone, Serialize, Deserialize)]
struct IdentityRow {
    owner: Owner,
    disk: DiskId,
    bootstrap: Option<Membership>,
    incarnations: Vec<Incarnation>,
}

/// The connection, on its thread.
struct Database {
    connection: Connection,
    identity: Option<IdentityRow>,
    poisoned: bool,
}

impl Database {
    fn connect(path: &Path) -> Result<Self, StorageError> {
        let connection = Connection::open(path).map_err(failed("open the database"))?;
        connection.busy_timeout(Duration::ZERO).map_err(failed("open the database"))?;
        // The lock is taken by the first access and kept; a second process fails there.
        connection
            .execute_batch(
                "PRAGMA locking_mode = EXCLUSIVE;
                 PRAGMA journal_mode = WAL;
                 PRAGMA synchronous = FULL;
                 BEGIN IMMEDIATE;
                 CREATE TABLE IF NOT EXISTS identity (id INTEGER PRIMARY KEY CHECK (id = 1), row BLOB NOT NULL);
                 CREATE TABLE IF NOT EXISTS groups (number INTEGER PRIMARY KEY, sequence INTEGER NOT NULL, records BLOB NOT NULL);
                 CREATE TABLE IF NOT EXISTS entries (slot INTEGER PRIMARY KEY, entry BLOB NOT NULL);
                 COMMIT;",
            )
            .map_err(|error| match error.sqlite_error_code() {
                Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                    StorageError::Locked { place: path.display().to_string() }
                }
                _ => failed("prepare the tables")(error),
            })?;
        Ok(Self { connection, identity: None, poisoned: false })
    }

    fn open(&mut self, place: &str, owner: Owner, start: Start) -> Result<Recovered, StorageError> {
        let place = || place.to_owned();
        let row: Option<Vec<u8>> = self
            .connection
            .query_row("SELECT row FROM identity", [], |row| row.get(0))
            .optional()
            .map_err(failed("read the identity"))?;
        let found: Option<IdentityRow> =
            row.map(|row| codec::decode(&row)).transpose().map_err(failed("decode"))?;
        let mut identity = match (found, start) {
            (Some(found), _) if found.owner != owner => {
                let (found, asked) = (Box::new(found.owner), Box::new(owner));
                return Err(StorageError::WrongOwner { place: place(), found, asked });
            }
            (Some(found), Start::Restart) => found,
            (Some(found), Start::Bootstrap(membership)) if found.bootstrap.as_ref() == Some(&membership) => {
                // The same bootstrap again, after a crash: fine until the cluster has formed.
                let log = self.fold()?.1;
                if log.is_formed() || log.promised().is_some() {
                    return Err(StorageError::InUse { place: place() });
                }
                found
            }
            (Some(_), Start::Bootstrap(_) | Start::Join) => {
                return Err(StorageError::InUse { place: place() });
            }
            (None, Start::Restart) => return Err(StorageError::Empty { place: place() }),
            (None, Start::Bootstrap(membership)) => new_identity(owner, Some(membership)),
            (None, Start::Join) => new_identity(owner, None),
        };
        let counter = identity.incarnations.last().map_or(0, |last| last.counter) + 1;
        identity.incarnations.push(Incarnation { counter, nonce: random() });
        let surplus = identity.incarnations.len().saturating_sub(Identity::INCARNATIONS_MAX);
        identity.incarnations.drain(..surplus);
        let row = codec::encode(&identity).map_err(failed("encode"))?;
        self.connection
            .execute("INSERT OR REPLACE INTO identity VALUES (1, ?1)", params![row])
            .map_err(failed("write the identity"))?;
        self.identity = Some(identity);
        self.recover()
    }

    fn recover(&self) -> Result<Recovered, StorageError> {
        let identity = self.identity.clone().ok_or(StorageError::NotOpen)?;
        let (sequence, log) = self.fold()?;
        let IdentityRow { owner, disk, bootstrap, incarnations } = identity;
        Ok(Recovered { owner, disk, incarnations, bootstrap, sequence, log })
    }

    fn fold(&self) -> Result<(Sequence, Log), StorageError> {
        let (mut sequence, mut log) = (Sequence::default(), Log::default());
        let mut statement = self
            .connection
            .prepare_cached("SELECT sequence, records FROM groups ORDER BY number")
            .map_err(failed("read the groups"))?;
        let mut rows = statement.query([]).map_err(failed("read the groups"))?;
        while let Some(row) = rows.next().map_err(failed("read the groups"))? {
            let number: i64 = row.get(0).map_err(failed("read the groups"))?;
            let bytes: Vec<u8> = row.get(1).map_err(failed("read the groups"))?;
            let records: Vec<Record> = codec::decode(&bytes).map_err(failed("decode a group"))?;
            records.iter().for_each(|record| log.apply(record));
            sequence = sequence.max(Sequence(number as u64));
        }
        Ok((sequence, log))
    }

    fn append(&mut self, group: &Group) -> Result<(), StorageError> {
        if self.poisoned {
            return Err(StorageError::Poisoned);
        }
        let written = self.write(group);
        // There is no way back from a failed write: nobody knows what the disk holds now.
        self.poisoned = written.is_err();
        written.map_err(|source| StorageError::Other { op: "append", source })
    }

    fn write(&mut self, group: &Group) -> Result<(), Box<dyn Error + Send + Sync>> {
        let transaction = self.connection.transaction()?;
        transaction
            .prepare_cached("INSERT INTO groups (sequence, records) VALUES (?1, ?2)")?
            .execute(params![group.sequence.0 as i64, codec::encode(&group.records)?])?;
        for record in &group.records {
            let (slot, entry) = match record {
                Record::Accepted { slot, id, value } => (slot, Entry { id: *id, value: value.clone() }),
                Record::Chosen { slot, value } => {
                    (slot, Entry { id: ProposalId::new(0, NodeId::new(0)), value: value.clone() })
                }
                _ => continue,
            };
            transaction
                .prepare_cached("INSERT OR REPLACE INTO entries VALUES (?1, ?2)")?
                .execute(params![slot.get() as i64, codec::encode(&entry)?])?;
        }
        Ok(transaction.commit()?)
    }

    fn read(&self, slots: Range<Slot>, bytes_max: usize) -> Result<Vec<(Slot, Entry)>, StorageError> {
        let (mut found, mut bytes, mut next) = (Vec::new(), 0_usize, slots.start);
        let mut statement = self
            .connection
            .prepare_cached("SELECT slot, entry FROM entries WHERE slot >= ?1 AND slot < ?2 ORDER BY slot")
            .map_err(failed("read the entries"))?;
        // SQLite knows 63 bits; no log gets there.
        let bound = |slot: Slot| i64::try_from(slot.get()).unwrap_or(i64::MAX);
        let mut rows = statement
            .query(params![bound(slots.start), bound(slots.end)])
            .map_err(failed("read the entries"))?;
        while let Some(row) = rows.next().map_err(failed("read the entries"))? {
            let slot: i64 = row.get(0).map_err(failed("read the entries"))?;
            let entry: Vec<u8> = row.get(1).map_err(failed("read the entries"))?;
            let entry: Entry = codec::decode(&entry).map_err(failed("decode an entry"))?;
            bytes = bytes.saturating_add(entry.value.size());
            if slot as u64 != next.get() || (bytes > bytes_max && !found.is_empty()) {
                break;
            }
            found.push((next, entry));
            next = next.next();
        }
        Ok(found)
    }
}

fn new_identity(owner: Owner, bootstrap: Option<Membership>) -> IdentityRow {
    IdentityRow { owner, disk: DiskId(random()), bootstrap, incarnations: Vec::new() }
}

/// The standard library keys its hash maps with random numbers of the system.
fn random() -> u64 {
    RandomState::new().hash_one(std::process::id())
}

fn failed<E: Error + Send + Sync + 'static>(op: &'static str) -> impl FnOnce(E) -> StorageError {
    move |source| StorageError::Other { op, source: Box::new(source) }
}

/// A fresh file for each case of the suite.
struct Place(PathBuf);

impl StoragePlace for Place {
    fn storage(&self) -> Arc<dyn Storage> {
        Arc::new(SqliteStorage::at(&self.0))
    }
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let places = Cell::new(0);
    let make = || {
        places.set(places.get() + 1);
        Place(directory.path().join(format!("{}.sqlite", places.get())))
    };
    let report = futures::executor::block_on(storage_suite(make));
    print!("{report}");
    let skipped = report.cases.len() - report.passed() - report.failures().count();
    println!("custom_storage: {} of {} cases passed, {skipped} skipped", report.passed(), report.cases.len());
    Ok(if report.is_passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
