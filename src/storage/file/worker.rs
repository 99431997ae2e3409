//! The threads of a file storage: one writes and seals, one reads, one keeps the snapshots, and one prepares the next segment
//! now and then.

use super::Settings;
use super::place::{Entries, Place};
use super::snapshots::Snapshots;
use crate::multi::{Group, Owner, Record, Slot};
use crate::storage::journal::{Damage, Reader, Spare};
use crate::storage::{Recovered, Scrubbed, Start, StorageError};
use futures::channel::oneshot;
use futures::lock::OwnedMutexGuard;
use std::ops::Range;
use std::path::Path;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, SyncSender};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::{Builder, JoinHandle};

type Answer<T> = oneshot::Sender<Result<T, StorageError>>;

/// What comes back from a thread, or is known already.
#[derive(Debug)]
pub(super) enum Reply<T> {
    Ready(Result<T, StorageError>),
    Later(oneshot::Receiver<Result<T, StorageError>>),
}

impl<T> Reply<T> {
    pub(super) fn ready(result: Result<T, StorageError>) -> Self {
        Self::Ready(result)
    }

    pub(super) async fn wait(self) -> Result<T, StorageError> {
        match self {
            Self::Ready(result) => result,
            Self::Later(receiver) => receiver.await.unwrap_or(Err(StorageError::NotOpen)),
        }
    }
}

enum Job {
    Append(Group, Answer<()>),
    Trim(Slot, Vec<Record>, Answer<Slot>),
    Recover(Answer<Recovered>),
    Close(Answer<()>),
}

/// What is read beside the journal.
enum Read {
    Entries(Range<Slot>, usize, Answer<Entries>),
    Scrub(usize, Answer<Scrubbed>),
}

/// Something to do with snapshots.
type SnapshotJob = Box<dyn FnOnce() + Send>;
/// Whoever holds it may send a job to do with snapshots: there is never more than one in the queue.
pub(super) type Turn = OwnedMutexGuard<()>;

/// What is known once the directory is open.
#[derive(Debug)]
struct Opened {
    reader: Reader,
    damage: Vec<Damage>,
    snapshots: Arc<Mutex<Snapshots>>,
}

/// The threads, as the storage holds them. Dropped, they end after what is under way.
#[derive(Debug)]
pub(super) struct Worker {
    jobs: Option<Sender<Job>>,
    reads: Option<Sender<(Reader, Read)>>,
    snapshots: Option<SyncSender<SnapshotJob>>,
    opened: Arc<OnceLock<Opened>>,
    threads: Vec<JoinHandle<()>>,
}

impl Worker {
    /// Starts the threads; the directory is opened on the first of them.
    pub(super) fn start(
        settings: &Settings,
        owner: Owner,
        start: Start,
    ) -> Result<(Self, Reply<Recovered>), StorageError> {
        let (jobs, queue) = mpsc::channel();
        let (reads, read_queue) = mpsc::channel::<(Reader, Read)>();
        let (snapshots, snapshot_queue) = mpsc::sync_channel::<SnapshotJob>(1);
        let (answer, reply) = oneshot::channel();
        let opened = Arc::new(OnceLock::new());
        let mut worker = Self {
            jobs: Some(jobs),
            reads: Some(reads),
            snapshots: Some(snapshots),
            opened: Arc::clone(&opened),
            threads: Vec::new(),
        };
        let (dir, settings) = (settings.dir.clone(), settings.clone());
        let write = move || Writing { queue, opened, preparing: None }.run(&settings, owner, start, answer);
        worker.threads.push(spawn("synod-write", &dir, write)?);
        let read = move || {
            for (reader, read) in read_queue {
                // Whoever asked may have gone away.
                match read {
                    Read::Entries(slots, bytes_max, answer) => {
                        let _ = answer.send(reader.read(slots, bytes_max));
                    }
                    Read::Scrub(bytes_max, answer) => {
                        let _ = answer.send(reader.scrub(bytes_max));
                    }
                }
            }
        };
        worker.threads.push(spawn("synod-read", &dir, read)?);
        let keep = move || snapshot_queue.into_iter().for_each(|job| job());
        worker.threads.push(spawn("synod-snapshot", &dir, keep)?);
        Ok((worker, Reply::Later(reply)))
    }

    pub(super) fn has_ended(&self) -> bool {
        self.threads.first().is_none_or(JoinHandle::is_finished)
    }

    pub(super) fn damage(&self) -> Vec<Damage> {
        self.opened.get().map(|opened| opened.damage.clone()).unwrap_or_default()
    }

    pub(super) fn append(&self, group: Group) -> Reply<()> {
        self.ask(|answer| Job::Append(group, answer))
    }

    pub(super) fn trim(&self, through: Slot, facts: Vec<Record>) -> Reply<Slot> {
        self.ask(|answer| Job::Trim(through, facts, answer))
    }

    pub(super) fn recover(&self) -> Reply<Recovered> {
        self.ask(Job::Recover)
    }

    pub(super) fn read(&self, slots: Range<Slot>, bytes_max: usize) -> Reply<Entries> {
        self.look(|answer| Read::Entries(slots, bytes_max, answer))
    }

    pub(super) fn scrub(&self, bytes_max: usize) -> Reply<Scrubbed> {
        self.look(|answer| Read::Scrub(bytes_max, answer))
    }

    pub(super) fn log_bytes(&self) -> u64 {
        self.opened.get().map_or(0, |opened| opened.reader.log_bytes())
    }

    /// Does `work` beside the journal. Once sent it is done, whether or not somebody waits for it.
    pub(super) fn on_snapshots<T: Send + 'static>(
        &self,
        turn: Turn,
        work: impl FnOnce(&mut Snapshots) -> Result<T, StorageError> + Send + 'static,
    ) -> Reply<T> {
        let (answer, reply) = oneshot::channel();
        let Some((opened, jobs)) = self.opened.get().zip(self.snapshots.as_ref()) else {
            return Reply::Ready(Err(StorageError::NotOpen));
        };
        let snapshots = Arc::clone(&opened.snapshots);
        let job = move || {
            let done = work(&mut snapshots.lock().unwrap_or_else(PoisonError::into_inner));
            drop(turn);
            let _ = answer.send(done);
        };
        match jobs.send(Box::new(job)) {
            Ok(()) => Reply::Later(reply),
            Err(_) => Reply::Ready(Err(StorageError::NotOpen)),
        }
    }

    /// Ends the threads; the answer comes when the journal is sealed and the directory unlocked.
    pub(super) fn close(self) -> Reply<()> {
        self.ask(Job::Close)
    }

    fn ask<T>(&self, job: impl FnOnce(Answer<T>) -> Job) -> Reply<T> {
        let (answer, reply) = oneshot::channel();
        match self.jobs.as_ref().map(|jobs| jobs.send(job(answer))) {
            Some(Ok(())) => Reply::Later(reply),
            Some(Err(_)) | None => Reply::Ready(Err(StorageError::NotOpen)),
        }
    }

    fn look<T>(&self, read: impl FnOnce(Answer<T>) -> Read) -> Reply<T> {
        let (answer, reply) = oneshot::channel();
        let Some((opened, reads)) = self.opened.get().zip(self.reads.as_ref()) else {
            return Reply::Ready(Err(StorageError::NotOpen));
        };
        match reads.send((opened.reader.clone(), read(answer))) {
            Ok(()) => Reply::Later(reply),
            Err(_) => Reply::Ready(Err(StorageError::NotOpen)),
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.jobs = None;
        self.reads = None;
        self.snapshots = None;
        for thread in self.threads.drain(..) {
            // A thread that panicked has nothing more to say.
            let _ = thread.join();
        }
    }
}

fn spawn<T: Send + 'static>(
    name: &str,
    dir: &Path,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, StorageError> {
    let spawned = Builder::new().name(name.to_owned()).spawn(work);
    spawned.map_err(|source| StorageError::Io { op: "start a thread", path: dir.to_path_buf(), source })
}

/// The side of the thread that writes.
struct Writing {
    queue: Receiver<Job>,
    opened: Arc<OnceLock<Opened>>,
    /// The next segment, in preparation on a thread of its own.
    preparing: Option<JoinHandle<Option<Spare>>>,
}

impl Writing {
    fn run(mut self, settings: &Settings, owner: Owner, start: Start, answer: Answer<Recovered>) {
        let mut place = match Place::open(settings, owner, start) {
            Ok((place, recovered)) => {
                let (reader, snapshots) = (place.reader(), place.snapshots());
                let opened = Opened { reader, damage: place.damage().to_vec(), snapshots };
                // Set once, here.
                let _ = self.opened.set(opened);
                // Whoever asked may have gone away: the place is open all the same.
                let _ = answer.send(Ok(recovered));
                place
            }
            Err(error) => {
                let _ = answer.send(Err(error));
                return;
            }
        };
        let closing = self.serve(&mut place, settings);
        self.collect_spare(&mut place, true);
        let sealed = place.seal();
        drop(place);
        if let Some(answer) = closing {
            let _ = answer.send(sealed);
        }
    }

    /// Works until the storage is closed, which is answered, or dropped.
    fn serve(&mut self, place: &mut Place, settings: &Settings) -> Option<Answer<()>> {
        loop {
            let job = if place.needs_seal() {
                match self.queue.recv_timeout(settings.seal_after) {
                    Ok(job) => job,
                    Err(RecvTimeoutError::Disconnected) => return None,
                    Err(RecvTimeoutError::Timeout) => {
                        // A failure poisons the journal, and the next append says so.
                        let _ = place.seal();
                        continue;
                    }
                }
            } else {
                self.queue.recv().ok()?
            };
            match job {
                Job::Append(group, answer) => {
                    self.collect_spare(place, false);
                    let appended = place.append(&group);
                    // A dropped future does not undo its write.
                    let _ = answer.send(appended);
                    if let Some(order) = place.order_spare() {
                        // If it fails, the journal prepares the segment itself when it needs it, and says why.
                        let prepare = move || order.make().ok();
                        self.preparing = spawn("synod-prepare", &settings.dir, prepare).ok();
                    }
                }
                Job::Trim(through, facts, answer) => {
                    let _ = answer.send(place.trim(through, facts));
                }
                Job::Recover(answer) => {
                    let _ = answer.send(place.recover());
                }
                Job::Close(answer) => return Some(answer),
            }
        }
    }

    /// Hands over the segment that was prepared, if it is ready, or waits for it.
    fn collect_spare(&mut self, place: &mut Place, wait: bool) {
        if let Some(thread) = self.preparing.take_if(|thread| wait || thread.is_finished())
            && let Ok(Some(spare)) = thread.join()
        {
            place.take_spare(spare);
        }
    }
}
