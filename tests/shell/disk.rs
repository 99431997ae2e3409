//! A node's disk: a memory storage behind virtual delays. It loses what is not durable when the power goes, fails, is slow
//! and is full on request.
//!
//! In: what a node appends. Out: the same, later, or an error.
//! Invariants: a group is durable when its append has returned, unless [`Mutant::EarlyFlush`] lies.

use crate::Mutant;
use crate::random::Random;
use crate::trace::Trace;
use async_trait::async_trait;
use bytes::Bytes;
use futures::FutureExt;
use std::collections::VecDeque;
use std::io::ErrorKind;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use synod::multi::{Entry, Group, Owner, Record, SnapshotId};
use synod::storage::{Recovered, Scrubbed, Start, Storage, StorageError};
use synod::{MemoryStorage, Slot};
use tokio::sync::Notify;
use tokio::time::Instant;

/// How long a lying disk takes to do what it said was done.
const LIE: Duration = Duration::from_millis(1500);

/// Outlives the runs of its node. Clones are the same disk.
#[derive(Clone)]
pub(crate) struct Disk {
    place: Arc<MemoryStorage>,
    state: Arc<Mutex<State>>,
    power: Arc<Notify>,
    trace: Trace,
    mutant: Mutant,
}

struct State {
    random: Random,
    append_ms: u64,
    landed: f64,
    /// Counts the power cuts and the runs.
    run: u64,
    used: bool,
    poisoned: bool,
    fail_next: bool,
    full_until: Instant,
    slow_until: Instant,
    slow_ms: u64,
    /// Appended, and not durable: one at most, but for the lie.
    pending: VecDeque<(Instant, Group)>,
    open: Option<Arc<MemoryStorage>>,
}

impl Disk {
    pub(crate) fn new(
        seed: u64,
        node: u64,
        append_ms: u64,
        landed: f64,
        mutant: Mutant,
        trace: Trace,
    ) -> Self {
        let now = Instant::now();
        let mut random = Random::of(seed, "disk", node);
        let place = Arc::new(MemoryStorage::with_seed(random.next()));
        let state = State {
            random,
            append_ms,
            landed,
            run: 0,
            used: false,
            poisoned: false,
            fail_next: false,
            full_until: now,
            slow_until: now,
            slow_ms: 0,
            pending: VecDeque::new(),
            open: None,
        };
        Self { place, state: Arc::new(Mutex::new(state)), power: Arc::default(), trace, mutant }
    }

    /// The storage of the next run. What the last one left open is cut off, as at the end of its process.
    pub(crate) fn storage(&self) -> SimulatedStorage {
        self.cut_power();
        let mut state = self.lock();
        state.run += 1;
        state.poisoned = false;
        state.fail_next = false;
        SimulatedStorage { inner: Arc::new((*self.place).clone()), run: state.run, disk: self.clone() }
    }

    /// Whether a node was ever started on it.
    pub(crate) fn is_used(&self) -> bool {
        self.lock().used
    }

    /// What is not durable is lost, though an append under way may have landed.
    pub(crate) fn cut_power(&self) {
        let mut state = self.lock();
        state.run += 1;
        state.flush_due(Instant::now());
        if !state.pending.is_empty() {
            self.trace.count("append under way at a crash");
        }
        let landed = state.landed;
        if self.mutant != Mutant::EarlyFlush && state.random.happens(landed) {
            state.flush_due(Instant::now() + Duration::from_secs(3600));
        }
        state.pending.clear();
        state.open = None;
        self.place.lose_unflushed();
        drop(state);
        self.power.notify_waiters();
    }

    pub(crate) fn fail_next(&self) {
        self.lock().fail_next = true;
    }

    pub(crate) fn fill(&self, duration: Duration) {
        self.lock().full_until = Instant::now() + duration;
    }

    pub(crate) fn slow_down(&self, duration: Duration, append_ms: u64) {
        let mut state = self.lock();
        state.slow_until = Instant::now() + duration;
        state.slow_ms = append_ms;
    }

    /// No faults any more.
    pub(crate) fn mend(&self) {
        let mut state = self.lock();
        let now = Instant::now();
        (state.full_until, state.slow_until, state.fail_next) = (now, now, false);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn flush_due(&mut self, now: Instant) {
        while self.pending.front().is_some_and(|(due, _)| *due <= now) {
            let (Some((_, group)), Some(open)) = (self.pending.pop_front(), &self.open) else { return };
            // Nothing is held in the memory storage, so this is done at once.
            assert!(matches!(open.append(group).now_or_never(), Some(Ok(()))), "the memory takes it");
        }
    }

    fn delay(&mut self, now: Instant) -> Duration {
        let most = if self.slow_until > now { self.slow_ms } else { self.append_ms };
        self.random.up_to_ms(most)
    }
}

fn error(kind: ErrorKind) -> StorageError {
    StorageError::Io { op: "append", path: PathBuf::from("simulated"), source: kind.into() }
}

/// A disk as one run of a node sees it.
pub(crate) struct SimulatedStorage {
    disk: Disk,
    run: u64,
    inner: Arc<MemoryStorage>,
}

impl SimulatedStorage {
    /// The disk, while the power is there.
    fn powered(&self) -> Result<MutexGuard<'_, State>, StorageError> {
        let state = self.disk.lock();
        if state.run == self.run { Ok(state) } else { Err(error(ErrorKind::BrokenPipe)) }
    }

    /// Waits like a disk does, or until the power goes.
    async fn wait(&self, delay: Duration) {
        if delay < Duration::from_millis(1) {
            return;
        }
        let power = self.disk.power.notified();
        futures::future::select(Box::pin(tokio::time::sleep(delay)), Box::pin(power)).await;
    }

    /// Draws how an append goes: how long it takes, and whether and how it fails.
    fn draw(&self) -> Result<(Duration, Option<ErrorKind>), StorageError> {
        let mut state = self.powered()?;
        if state.poisoned {
            return Err(StorageError::Poisoned);
        }
        if state.open.is_none() {
            return Err(StorageError::NotOpen);
        }
        let now = Instant::now();
        let delay = state.delay(now);
        if state.slow_until > now {
            self.disk.trace.count("slow append");
        }
        let fails = if std::mem::take(&mut state.fail_next) {
            self.disk.trace.count("failed append");
            Some(ErrorKind::Other)
        } else if state.full_until > now {
            self.disk.trace.count("append to a full disk");
            Some(ErrorKind::StorageFull)
        } else {
            None
        };
        Ok((delay, fails))
    }
}

#[async_trait]
impl Storage for SimulatedStorage {
    async fn open(&self, owner: Owner, start: Start) -> Result<Recovered, StorageError> {
        if self.powered()?.full_until > Instant::now() {
            self.disk.trace.count("start on a full disk");
            return Err(error(ErrorKind::StorageFull));
        }
        let recovered = self.inner.open(owner, start).await?;
        let mut state = self.powered()?;
        state.used = true;
        state.open = Some(Arc::clone(&self.inner));
        Ok(recovered)
    }

    async fn recover(&self) -> Result<Recovered, StorageError> {
        self.powered()?.flush_due(Instant::now() + LIE);
        self.inner.recover().await
    }

    async fn append(&self, group: Group) -> Result<(), StorageError> {
        let (delay, fails) = self.draw()?;
        let lies = self.disk.mutant == Mutant::EarlyFlush;
        let due = Instant::now() + if lies { LIE } else { delay };
        {
            let mut state = self.powered()?;
            if !lies && !state.pending.is_empty() {
                self.disk.trace.wrong("two appends at once".to_owned());
            }
            self.disk.trace.note((group.sequence.0, group.records.len()));
            state.pending.push_back((due, group));
        }
        self.wait(delay).await;
        let mut state = self.powered()?;
        if let Some(kind) = fails {
            // What was to be written may be there, or not.
            let landed = state.landed;
            if state.random.happens(landed) {
                state.flush_due(due);
            }
            state.pending.clear();
            state.poisoned = true;
            return Err(error(kind));
        }
        if state.open.is_none() {
            return Err(StorageError::NotOpen);
        }
        // What is done at once is due a little later by the clock.
        state.flush_due(if lies { Instant::now() } else { due });
        Ok(())
    }

    async fn read(&self, slots: Range<Slot>, bytes_max: usize) -> Result<Vec<(Slot, Entry)>, StorageError> {
        self.powered()?.flush_due(
            Instant::now() + if self.disk.mutant == Mutant::EarlyFlush { LIE } else { Duration::ZERO },
        );
        self.inner.read(slots, bytes_max).await
    }

    async fn trim(&self, through: Slot, facts: Vec<Record>) -> Result<Slot, StorageError> {
        let (delay, _) = self.draw()?;
        self.wait(delay).await;
        drop(self.powered()?);
        self.inner.trim(through, facts).await
    }

    async fn begin_snapshot(&self, through: Slot, expected: Option<SnapshotId>) -> Result<u64, StorageError> {
        drop(self.powered()?);
        self.inner.begin_snapshot(through, expected).await
    }

    async fn write_snapshot(&self, at: u64, bytes: Bytes) -> Result<(), StorageError> {
        drop(self.powered()?);
        self.inner.write_snapshot(at, bytes).await
    }

    async fn seal_snapshot(&self) -> Result<SnapshotId, StorageError> {
        drop(self.powered()?);
        self.inner.seal_snapshot().await
    }

    async fn read_snapshot(
        &self,
        snapshot: SnapshotId,
        at: u64,
        bytes_max: usize,
    ) -> Result<Bytes, StorageError> {
        drop(self.powered()?);
        self.inner.read_snapshot(snapshot, at, bytes_max).await
    }

    async fn scrub(&self, bytes_max: usize) -> Result<Scrubbed, StorageError> {
        drop(self.powered()?);
        self.inner.scrub(bytes_max).await
    }

    fn log_bytes(&self) -> u64 {
        self.inner.log_bytes()
    }

    async fn close(&self) -> Result<(), StorageError> {
        {
            let mut state = self.powered()?;
            state.flush_due(Instant::now() + LIE);
            state.open = None;
        }
        self.inner.close().await
    }
}
