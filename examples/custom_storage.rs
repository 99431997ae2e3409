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
//! Cutting the log and keeping snapshots are optional: without them a log just grows. They are a few statements each here:
//! a cut deletes rows and puts the facts in their place, a snapshot is rows of a table of its own. All of it goes through the
//! one connection, so an append waits for the part of a snapshot that is being written; a database that takes two writers
//! would not. Scrubbing is left to `PRAGMA integrity_check`.
//!
//! A connection may move between threads but not be shared (`Send`, not `Sync`), and a commit blocks. So a thread of its
//! own holds the connection, and the futures wait for what it sends back. Anything that is not `Send` bridges the same way.
//!
//! ```text
//! cargo run --example custom_storage
//! ```

use async_trait::async_trait;
use bytes::Bytes;
use futures::channel::oneshot;
use rusqlite::{Connection, ErrorCode, OptionalExtension, params};
use serde::{Deserialize, Serialize};
use std::cell::Cell;
use std::error::Error;
use std::hash::{BuildHasher, RandomState};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use synod::codec;
use synod::multi::{
    DiskId, Entry, Group, Identity, Incarnation, Log, Membership, Owner, Record, Sequence, Slot, SnapshotId,
};
use synod::paxos::{NodeId, ProposalId};
use synod::storage::{Recovered, Start, Storage, StorageError};
use synod::testing::{StoragePlace, storage_suite};

type Job = Box<dyn FnOnce(&mut Database) + Send>;

/// An acceptor's memory in one SQLite file.
pub struct SqliteStorage {
    path: PathBuf,
    thread: Mutex<Option<Thread>>,
    /// What the entries take, in bytes: kept by the thread, read by anybody.
    log_bytes: Arc<AtomicU64>,
}

struct Thread {
    jobs: mpsc::Sender<Job>,
    handle: JoinHandle<()>,
}

impl SqliteStorage {
    /// A storage in the file at `path`, which is made by a bootstrap or a join.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), thread: Mutex::new(None), log_bytes: Arc::default() }
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
            let mut database = Database::connect(&self.path, Arc::clone(&self.log_bytes))?;
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

    async fn trim(&self, through: Slot, facts: Vec<Record>) -> Result<Slot, StorageError> {
        self.call(move |database| database.trim(through, &facts)).await
    }

    async fn begin_snapshot(&self, through: Slot, expected: Option<SnapshotId>) -> Result<u64, StorageError> {
        self.call(move |database| database.begin_snapshot(through, expected)).await
    }

    async fn write_snapshot(&self, at: u64, bytes: Bytes) -> Result<(), StorageError> {
        self.call(move |database| database.write_snapshot(at, &bytes)).await
    }

    async fn seal_snapshot(&self) -> Result<SnapshotId, StorageError> {
        self.call(Database::seal_snapshot).await
    }

    async fn read_snapshot(
        &self,
        snapshot: SnapshotId,
        at: u64,
        bytes_max: usize,
    ) -> Result<Bytes, StorageError> {
        self.call(move |database| database.read_snapshot(snapshot, at, bytes_max)).await
    }

    fn log_bytes(&self) -> u64 {
        self.log_bytes.load(Ordering::Relaxed)
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
    log_bytes: Arc<AtomicU64>,
    /// The snapshot that is being written.
    writing: Option<Writing>,
    /// The snapshot that the newest base names.
    named: Option<SnapshotId>,
}

struct Writing {
    number: i64,
    through: Slot,
    expected: Option<SnapshotId>,
    held: u64,
    checksum: crc32fast::Hasher,
}

impl Database {
    fn connect(path: &Path, log_bytes: Arc<AtomicU64>) -> Result<Self, StorageError> {
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
                 CREATE TABLE IF NOT EXISTS groups (number INTEGER PRIMARY KEY, sequence INTEGER NOT NULL, last_slot INTEGER NOT NULL, records BLOB NOT NULL);
                 CREATE TABLE IF NOT EXISTS entries (slot INTEGER PRIMARY KEY, entry BLOB NOT NULL);
                 CREATE TABLE IF NOT EXISTS facts (id INTEGER PRIMARY KEY CHECK (id = 1), gone INTEGER NOT NULL, sequence INTEGER NOT NULL, records BLOB NOT NULL);
                 CREATE TABLE IF NOT EXISTS snapshots (number INTEGER PRIMARY KEY, id BLOB NOT NULL, sealed INTEGER NOT NULL);
                 CREATE TABLE IF NOT EXISTS parts (snapshot INTEGER, at INTEGER, crc INTEGER NOT NULL, bytes BLOB NOT NULL, PRIMARY KEY (snapshot, at)) WITHOUT ROWID;
                 COMMIT;",
            )
            .map_err(|error| match error.sqlite_error_code() {
                Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                    StorageError::Locked { place: path.display().to_string() }
                }
                _ => failed("prepare the tables")(error),
            })?;
        Ok(Self { connection, identity: None, poisoned: false, log_bytes, writing: None, named: None })
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
            (Some(found), start) if !start.fits(&owner, &found.owner) => {
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
        let recovered = self.recover()?;
        self.named = recovered.log.base().and_then(|base| base.snapshot);
        self.forget_snapshots().map_err(other("remove old snapshots"))?;
        self.measure().map_err(failed("measure the entries"))?;
        Ok(recovered)
    }

    fn recover(&self) -> Result<Recovered, StorageError> {
        let identity = self.identity.clone().ok_or(StorageError::NotOpen)?;
        let (sequence, log) = self.fold()?;
        let IdentityRow { owner, disk, bootstrap, incarnations } = identity;
        Ok(Recovered { owner, disk, incarnations, bootstrap, sequence, log })
    }

    fn fold(&self) -> Result<(Sequence, Log), StorageError> {
        let (mut sequence, mut log) = (Sequence::default(), Log::default());
        if let Some((gone, last, records)) = self.facts().map_err(failed("read the facts"))? {
            let facts: Vec<Record> = codec::decode(&records).map_err(failed("decode the facts"))?;
            facts.iter().for_each(|fact| log.apply(fact));
            if gone > 0 {
                log.apply(&Record::Trimmed { through: Slot::new(gone as u64) });
            }
            sequence = Sequence(last as u64);
        }
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

    /// What stands in place of the groups that were cut: through which slot, the newest sequence, and the facts.
    fn facts(&self) -> Result<Option<(i64, i64, Vec<u8>)>, rusqlite::Error> {
        let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
        self.connection.query_row("SELECT gone, sequence, records FROM facts", [], row).optional()
    }

    fn append(&mut self, group: &Group) -> Result<(), StorageError> {
        if self.poisoned {
            return Err(StorageError::Poisoned);
        }
        let written = self.write(group);
        // There is no way back from a failed write: nobody knows what the disk holds now.
        self.poisoned = written.is_err();
        let bytes = written.map_err(other("append"))?;
        self.log_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.note_bases(&group.records);
        Ok(())
    }

    fn trim(&mut self, through: Slot, facts: &[Record]) -> Result<Slot, StorageError> {
        if self.poisoned {
            return Err(StorageError::Poisoned);
        }
        let cut = self.cut(through, facts);
        self.poisoned = cut.is_err();
        let gone = cut.map_err(other("trim"))?;
        self.note_bases(facts);
        self.measure().map_err(failed("measure the entries"))?;
        Ok(gone)
    }

    /// Deletes the oldest groups that say nothing about slots above `through`, and puts the facts in their place.
    fn cut(&mut self, through: Slot, facts: &[Record]) -> Result<Slot, Failure> {
        let (before, known, _) = self.facts()?.unwrap_or_default();
        let transaction = self.connection.transaction()?;
        let first_kept: Option<i64> = transaction.query_row(
            "SELECT MIN(number) FROM groups WHERE last_slot > ?1",
            params![bound(through)],
            |row| row.get(0),
        )?;
        let first_kept = first_kept.unwrap_or(i64::MAX);
        let (gone, sequence): (i64, i64) = transaction.query_row(
            "SELECT MAX(?2, IFNULL(MAX(last_slot), 0)), MAX(?3, IFNULL(MAX(sequence), 0)) FROM groups WHERE number < ?1",
            params![first_kept, before, known],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )?;
        transaction.execute("DELETE FROM groups WHERE number < ?1", params![first_kept])?;
        transaction.execute("DELETE FROM entries WHERE slot <= ?1", params![gone])?;
        transaction.execute(
            "INSERT OR REPLACE INTO facts VALUES (1, ?1, ?2, ?3)",
            params![gone, sequence, codec::encode(&facts)?],
        )?;
        transaction.commit()?;
        Ok(Slot::new(gone as u64))
    }

    fn measure(&self) -> Result<(), rusqlite::Error> {
        let sum = "SELECT IFNULL(SUM(LENGTH(entry)), 0) FROM entries";
        let bytes: i64 = self.connection.query_row(sum, [], |row| row.get(0))?;
        self.log_bytes.store(bytes as u64, Ordering::Relaxed);
        Ok(())
    }

    /// The newest base names the snapshot that has to stay.
    fn note_bases(&mut self, records: &[Record]) {
        for record in records {
            if let Record::Based { base } = record
                && let Some(named) = base.snapshot
                && self.named.is_none_or(|known| known.through <= named.through)
            {
                self.named = Some(named);
            }
        }
    }

    /// Writes a group, and says how many bytes its entries take.
    fn write(&mut self, group: &Group) -> Result<u64, Failure> {
        let transaction = self.connection.transaction()?;
        let (mut last_slot, mut bytes) = (Slot::ZERO, 0);
        for record in &group.records {
            let (slot, entry) = match record {
                Record::Accepted { slot, id, value } => (slot, Entry { id: *id, value: value.clone() }),
                Record::Chosen { slot, value } => {
                    (slot, Entry { id: ProposalId::new(0, NodeId::new(0)), value: value.clone() })
                }
                _ => continue,
            };
            let entry = codec::encode(&entry)?;
            (last_slot, bytes) = (last_slot.max(*slot), bytes + entry.len() as u64);
            transaction
                .prepare_cached("INSERT OR REPLACE INTO entries VALUES (?1, ?2)")?
                .execute(params![slot.get() as i64, entry])?;
        }
        transaction
            .prepare_cached("INSERT INTO groups (sequence, last_slot, records) VALUES (?1, ?2, ?3)")?
            .execute(params![group.sequence.0 as i64, bound(last_slot), codec::encode(&group.records)?])?;
        transaction.commit()?;
        Ok(bytes)
    }

    fn read(&self, slots: Range<Slot>, bytes_max: usize) -> Result<Vec<(Slot, Entry)>, StorageError> {
        let (mut found, mut bytes, mut next) = (Vec::new(), 0_usize, slots.start);
        let mut statement = self
            .connection
            .prepare_cached("SELECT slot, entry FROM entries WHERE slot >= ?1 AND slot < ?2 ORDER BY slot")
            .map_err(failed("read the entries"))?;
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

/// Snapshots: a failure of one is its own, and poisons nothing.
impl Database {
    fn begin_snapshot(&mut self, through: Slot, expected: Option<SnapshotId>) -> Result<u64, StorageError> {
        if let Some(writing) =
            self.writing.as_ref().filter(|writing| expected.is_some() && writing.expected == expected)
        {
            return Ok(writing.held);
        }
        let writing = self.begin(through, expected).map_err(other("begin a snapshot"))?;
        Ok(self.writing.insert(writing).held)
    }

    fn begin(&mut self, through: Slot, expected: Option<SnapshotId>) -> Result<Writing, Failure> {
        self.writing = None;
        let id = codec::encode(&expected)?;
        let left = "SELECT number FROM snapshots WHERE sealed = 0 AND id = ?1";
        let left: Option<i64> = match expected {
            Some(_) => self.connection.query_row(left, params![id], |row| row.get(0)).optional()?,
            None => None,
        };
        let mut writing =
            Writing { number: 0, through, expected, held: 0, checksum: crc32fast::Hasher::new() };
        if let Some(number) = left {
            writing.number = number;
            let mut statement =
                self.connection.prepare_cached("SELECT bytes FROM parts WHERE snapshot = ?1 ORDER BY at")?;
            let mut rows = statement.query(params![number])?;
            while let Some(row) = rows.next()? {
                let part: Vec<u8> = row.get(0)?;
                writing.held += part.len() as u64;
                writing.checksum.update(&part);
            }
            return Ok(writing);
        }
        self.forget_unsealed()?;
        self.connection.execute("INSERT INTO snapshots (id, sealed) VALUES (?1, 0)", params![id])?;
        writing.number = self.connection.last_insert_rowid();
        Ok(writing)
    }

    fn write_snapshot(&mut self, at: u64, bytes: &[u8]) -> Result<(), StorageError> {
        let writing = self.writing.as_mut().filter(|writing| writing.held == at);
        let writing = writing.ok_or(StorageError::NoSnapshot)?;
        if bytes.is_empty() {
            return Ok(());
        }
        let part = params![writing.number, at as i64, crc32fast::hash(bytes), bytes];
        match self.connection.execute("INSERT INTO parts VALUES (?1, ?2, ?3, ?4)", part) {
            Ok(_) => {
                writing.held += bytes.len() as u64;
                writing.checksum.update(bytes);
                Ok(())
            }
            Err(error) => {
                self.abandon();
                Err(failed("write a snapshot")(error))
            }
        }
    }

    fn seal_snapshot(&mut self) -> Result<SnapshotId, StorageError> {
        let Writing { number, through, expected, held, checksum } =
            self.writing.take().ok_or(StorageError::NoSnapshot)?;
        let id = SnapshotId { through, bytes: held, checksum: checksum.finalize() };
        if expected.is_some_and(|expected| expected != id) {
            self.abandon();
            return Err(corrupt("the snapshot is not the one that was expected"));
        }
        let sealed = self.seal(number, id);
        if sealed.is_err() {
            self.abandon();
        }
        sealed.map_err(other("seal a snapshot"))?;
        Ok(id)
    }

    /// Seals it, and deletes the ones that are neither among the newest two nor named by the newest base.
    fn seal(&mut self, number: i64, id: SnapshotId) -> Result<(), Failure> {
        let named = codec::encode(&self.named)?;
        let id = codec::encode(&Some(id))?;
        let transaction = self.connection.transaction()?;
        transaction.execute("DELETE FROM snapshots WHERE id = ?1 AND number <> ?2", params![id, number])?;
        transaction
            .execute("UPDATE snapshots SET id = ?1, sealed = 1 WHERE number = ?2", params![id, number])?;
        transaction.execute(
            "DELETE FROM snapshots WHERE id <> ?1 AND number NOT IN (SELECT number FROM snapshots ORDER BY number DESC LIMIT 2)",
            params![named],
        )?;
        transaction.execute(FORGET_PARTS, [])?;
        Ok(transaction.commit()?)
    }

    fn read_snapshot(&self, snapshot: SnapshotId, at: u64, bytes_max: usize) -> Result<Bytes, StorageError> {
        let found = self.read_part(snapshot, at).map_err(other("read a snapshot"))?;
        let Some((start, crc, part)) = found.ok_or(StorageError::NoSnapshot)? else {
            return Ok(Bytes::new());
        };
        if crc32fast::hash(&part) != crc {
            return Err(corrupt("a part of the snapshot fails its checksum"));
        }
        // The rest of the part is enough: whoever reads goes on behind what it got.
        let part = Bytes::from(part);
        let from = usize::try_from(at.saturating_sub(start as u64)).unwrap_or(usize::MAX).min(part.len());
        Ok(part.slice(from..from.saturating_add(bytes_max).min(part.len())))
    }

    /// The part in which the byte `at` stands; `None` if the snapshot is not held.
    fn read_part(&self, snapshot: SnapshotId, at: u64) -> Result<Option<Option<Part>>, Failure> {
        let sealed = "SELECT number FROM snapshots WHERE sealed = 1 AND id = ?1";
        let id = codec::encode(&Some(snapshot))?;
        let number: Option<i64> =
            self.connection.query_row(sealed, params![id], |row| row.get(0)).optional()?;
        let Some(number) = number else { return Ok(None) };
        let part =
            "SELECT at, crc, bytes FROM parts WHERE snapshot = ?1 AND at <= ?2 ORDER BY at DESC LIMIT 1";
        let at = i64::try_from(at).unwrap_or(i64::MAX);
        let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
        Ok(Some(self.connection.query_row(part, params![number, at], row).optional()?))
    }

    /// At an open: all that no base names may go, but for what somebody may go on with.
    fn forget_snapshots(&mut self) -> Result<(), Failure> {
        let (named, unexpected) = (codec::encode(&self.named)?, codec::encode(&None::<SnapshotId>)?);
        let transaction = self.connection.transaction()?;
        transaction.execute("DELETE FROM snapshots WHERE sealed = 1 AND id <> ?1", params![named])?;
        transaction.execute("DELETE FROM snapshots WHERE sealed = 0 AND id = ?1", params![unexpected])?;
        transaction.execute(FORGET_PARTS, [])?;
        Ok(transaction.commit()?)
    }

    fn forget_unsealed(&mut self) -> Result<(), rusqlite::Error> {
        let transaction = self.connection.transaction()?;
        transaction.execute("DELETE FROM snapshots WHERE sealed = 0", [])?;
        transaction.execute(FORGET_PARTS, [])?;
        transaction.commit()
    }

    /// Ends the snapshot that is being written. What cannot be deleted now is deleted before the next one begins.
    fn abandon(&mut self) {
        self.writing = None;
        let _ = self.forget_unsealed();
    }
}

const FORGET_PARTS: &str = "DELETE FROM parts WHERE snapshot NOT IN (SELECT number FROM snapshots)";

/// Where a part starts, its checksum, and its bytes.
type Part = (i64, u32, Vec<u8>);
type Failure = Box<dyn Error + Send + Sync>;

/// SQLite knows 63 bits; no log gets there.
fn bound(slot: Slot) -> i64 {
    i64::try_from(slot.get()).unwrap_or(i64::MAX)
}

fn corrupt(what: &str) -> StorageError {
    StorageError::Corrupt { path: PathBuf::from("snapshots"), offset: 0, what: what.to_owned() }
}

fn other(op: &'static str) -> impl FnOnce(Failure) -> StorageError {
    move |source| StorageError::Other { op, source }
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

    fn scrubs(&self) -> bool {
        false
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
