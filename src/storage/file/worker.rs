//! The two threads of a file storage: one writes and seals, the other reads and prepares segments.

use super::Settings;
use super::place::{Entries, Place};
use crate::multi::{Group, Owner, Slot};
use crate::storage::journal::{Damage, Reader, Spare, SpareOrder};
use crate::storage::{Recovered, Start, StorageError};
use futures::channel::oneshot;
use std::ops::Range;
use std::path::Path;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, OnceLock};
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
    Recover(Answer<Recovered>),
    Close(Answer<()>),
}

enum SideJob {
    Read { reader: Reader, slots: Range<Slot>, bytes_max: usize, answer: Answer<Entries> },
    Prepare(SpareOrder),
}

/// What is known once the directory is open.
#[derive(Debug)]
struct Opened {
    reader: Reader,
    damage: Vec<Damage>,
}

/// The threads, as the storage holds them. Dropped, they end after what is under way.
#[derive(Debug)]
pub(super) struct Worker {
    jobs: Option<Sender<Job>>,
    side_jobs: Option<Sender<SideJob>>,
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
        let (side_jobs, side_queue) = mpsc::channel();
        let (answer, reply) = oneshot::channel();
        let opened = Arc::new(OnceLock::new());
        let threads = Vec::new();
        let mut worker = Self { jobs: Some(jobs), side_jobs: Some(side_jobs.clone()), opened, threads };
        let (prepared, spares) = mpsc::channel();
        worker
            .threads
            .push(spawn("synod-read", &settings.dir, move || read_and_prepare(&side_queue, &prepared))?);
        let writing = Writing { queue, side_jobs, spares, opened: Arc::clone(&worker.opened) };
        let settings = settings.clone();
        let name = settings.dir.clone();
        worker
            .threads
            .insert(0, spawn("synod-write", &name, move || writing.run(&settings, owner, start, answer))?);
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

    pub(super) fn recover(&self) -> Reply<Recovered> {
        self.ask(Job::Recover)
    }

    pub(super) fn read(&self, slots: Range<Slot>, bytes_max: usize) -> Reply<Entries> {
        let (answer, reply) = oneshot::channel();
        let Some((opened, side_jobs)) = self.opened.get().zip(self.side_jobs.as_ref()) else {
            return Reply::Ready(Err(StorageError::NotOpen));
        };
        let reader = opened.reader.clone();
        match side_jobs.send(SideJob::Read { reader, slots, bytes_max, answer }) {
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
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.jobs = None;
        self.side_jobs = None;
        for thread in self.threads.drain(..) {
            // A thread that panicked has nothing more to say.
            let _ = thread.join();
        }
    }
}

fn spawn(
    name: &str,
    dir: &Path,
    work: impl FnOnce() + Send + 'static,
) -> Result<JoinHandle<()>, StorageError> {
    let spawned = Builder::new().name(name.to_owned()).spawn(work);
    spawned.map_err(|source| StorageError::Io { op: "start a thread", path: dir.to_path_buf(), source })
}

/// The side of the thread that writes.
struct Writing {
    queue: Receiver<Job>,
    side_jobs: Sender<SideJob>,
    spares: Receiver<Spare>,
    opened: Arc<OnceLock<Opened>>,
}

impl Writing {
    fn run(self, settings: &Settings, owner: Owner, start: Start, answer: Answer<Recovered>) {
        let mut place = match Place::open(settings, owner, start) {
            Ok((place, recovered)) => {
                let opened = Opened { reader: place.reader(), damage: place.damage().to_vec() };
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
        let sealed = place.seal();
        drop(place);
        if let Some(answer) = closing {
            let _ = answer.send(sealed);
        }
    }

    /// Works until the storage is closed, which is answered, or dropped.
    fn serve(&self, place: &mut Place, settings: &Settings) -> Option<Answer<()>> {
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
                    while let Ok(spare) = self.spares.try_recv() {
                        place.take_spare(spare);
                    }
                    let appended = place.append(&group);
                    // A dropped future does not undo its write.
                    let _ = answer.send(appended);
                    if let Some(order) = place.order_spare() {
                        // Without the other thread the journal prepares its segments itself.
                        let _ = self.side_jobs.send(SideJob::Prepare(order));
                    }
                }
                Job::Recover(answer) => {
                    let _ = answer.send(place.recover());
                }
                Job::Close(answer) => return Some(answer),
            }
        }
    }
}

/// The side of the thread that reads, and prepares segments ahead.
fn read_and_prepare(queue: &Receiver<SideJob>, prepared: &Sender<Spare>) {
    while let Ok(job) = queue.recv() {
        match job {
            SideJob::Read { reader, slots, bytes_max, answer } => {
                let _ = answer.send(reader.read(slots, bytes_max));
            }
            SideJob::Prepare(order) => {
                // If it fails, the journal tries again itself, and says why.
                if let Ok(spare) = order.make() {
                    let _ = prepared.send(spare);
                }
            }
        }
    }
}
