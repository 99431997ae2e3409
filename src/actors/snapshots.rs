//! Snapshots: the learner's tasks with them, carried out beside everything else.
//!
//! Those that write or replace something run one after the other; reads for peers, which change nothing, do not wait for
//! them.
//! Invariants: W1 one task of each kind is under way. W2 every task is answered, unless the node ends.
//! Never does: hold the arbiter up; a failure costs one task.

use super::drawing::take;
use super::pace::Pace;
use super::restoring::restore;
use super::roster::Factory;
use super::state::State;
use super::wires::Wires;
use crate::multi::{Slot, SnapshotId};
use crate::node::{Snapshot, SnapshotError, StateMachine};
use crate::paxos::NodeId;
use bytes::Bytes;
use futures::FutureExt;
use futures::future::LocalBoxFuture;
use std::collections::VecDeque;
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context as Task, Poll};

/// What came of a task.
pub(super) enum Done<S> {
    /// A snapshot of the own state is durable, or not.
    Taken(Result<SnapshotId, SnapshotError>),
    /// So much of a peer's is held; `None` if it cannot be written.
    Held(Option<u64>),
    /// Whether a peer's is whole and durable.
    Sealed(bool),
    /// The state of a snapshot, if it can be had.
    Restored { snapshot: SnapshotId, state: Option<State<S>> },
    /// A part for a peer; empty if there is none.
    Read { to: NodeId, snapshot: SnapshotId, at: u64, bytes: Bytes },
}

/// The tasks under way.
pub(super) struct Snapshots<S: StateMachine> {
    wires: Rc<Wires<S>>,
    factory: Arc<Factory<S>>,
    work: Lane<S>,
    reads: Lane<S>,
    /// How fast those of the own state are written, those of peers written, and any sent.
    drawing: Rc<Pace>,
    fetching: Rc<Pace>,
    sending: Rc<Pace>,
    /// A snapshot of the own state is being drawn.
    taking: bool,
    over: VecDeque<Done<S>>,
}

/// Tasks that run one after the other.
struct Lane<S> {
    running: Option<LocalBoxFuture<'static, Done<S>>>,
    waiting: VecDeque<LocalBoxFuture<'static, Done<S>>>,
}

impl<S> Lane<S> {
    fn new() -> Self {
        Self { running: None, waiting: VecDeque::new() }
    }

    fn push(&mut self, task: impl Future<Output = Done<S>> + 'static) {
        self.waiting.push_back(task.boxed_local());
    }

    fn poll(&mut self, task: &mut Task<'_>) -> Poll<Done<S>> {
        if self.running.is_none() {
            self.running = self.waiting.pop_front();
        }
        let Some(running) = &mut self.running else { return Poll::Pending };
        let done = futures::ready!(running.poll_unpin(task));
        self.running = None;
        Poll::Ready(done)
    }
}

impl<S: StateMachine> Snapshots<S> {
    pub(super) fn new(wires: Rc<Wires<S>>, factory: Arc<Factory<S>>) -> Self {
        let pace = |rate| Rc::new(Pace::new(Arc::clone(&wires.timer), rate));
        let drawing = pace(wires.config.snapshot_bytes_per_second);
        let rate = wires.config.transfer_bytes_per_second;
        let (fetching, sending) = (pace(rate), pace(rate));
        let (work, reads, over) = (Lane::new(), Lane::new(), VecDeque::new());
        Self { wires, factory, work, reads, drawing, fetching, sending, taking: false, over }
    }

    /// Whether one of the own state is being drawn.
    pub(super) fn is_taking(&self) -> bool {
        self.taking
    }

    /// Drives what is under way; pending when there is nothing to do but wait.
    pub(super) fn poll(&mut self, task: &mut Task<'_>) -> Poll<Done<S>> {
        let over = self.over.pop_front().map_or(Poll::Pending, Poll::Ready);
        let done = if over.is_ready() { over } else { self.work.poll(task) };
        if let Poll::Ready(Done::Taken(_)) = done {
            self.taking = false;
        }
        if done.is_ready() { done } else { self.reads.poll(task) }
    }

    /// Draws `snapshot`, unless another one is being drawn: that one will do.
    pub(super) fn take(&mut self, through: Slot, snapshot: Snapshot) {
        if self.taking {
            return;
        }
        self.taking = true;
        let (storage, pace) = (Arc::clone(&self.wires.storage), Rc::clone(&self.drawing));
        let part_bytes = pace.part(self.wires.config.snapshot_chunk_bytes);
        self.work.push(async move { Done::Taken(take(storage, &pace, part_bytes, through, snapshot).await) });
    }

    /// None is drawn now: nobody needs it enough.
    pub(super) fn put_off(&mut self) {
        self.over.push_back(Done::Held(None));
    }

    /// None can be drawn.
    pub(super) fn cannot_take(&mut self, error: SnapshotError) {
        self.taking = true;
        self.over.push_back(Done::Taken(Err(error)));
    }

    /// Begins to write a peer's snapshot, or goes on with it.
    pub(super) fn begin(&mut self, snapshot: SnapshotId) {
        let storage = Arc::clone(&self.wires.storage);
        self.work.push(async move {
            let held = storage.begin_snapshot(snapshot.through, Some(snapshot)).await;
            Done::Held(held.map_err(|error| report(&error, "a snapshot cannot be begun")).ok())
        });
    }

    pub(super) fn write(&mut self, at: u64, bytes: Bytes) {
        let (storage, pace) = (Arc::clone(&self.wires.storage), Rc::clone(&self.fetching));
        self.work.push(async move {
            let held = at + bytes.len() as u64;
            pace.spend(bytes.len() as u64).await;
            let written = storage.write_snapshot(at, bytes).await;
            Done::Held(
                written.map_err(|error| report(&error, "a snapshot cannot be written")).ok().map(|()| held),
            )
        });
    }

    pub(super) fn seal(&mut self, snapshot: SnapshotId) {
        let storage = Arc::clone(&self.wires.storage);
        self.work.push(async move {
            let sealed = storage.seal_snapshot().await;
            let sealed = sealed.map_err(|error| report(&error, "a snapshot cannot be sealed"));
            Done::Sealed(sealed.is_ok_and(|sealed| sealed == snapshot))
        });
    }

    pub(super) fn restore(&mut self, snapshot: SnapshotId) {
        let (wires, factory, part_bytes) =
            (Rc::clone(&self.wires), Arc::clone(&self.factory), self.wires.config.snapshot_chunk_bytes);
        self.work.push(async move {
            let storage = Arc::clone(&wires.storage);
            let state = restore(storage, part_bytes, snapshot, &wires.identity.owner, factory).await;
            let state = state.map_err(|error| report(&error, "a snapshot cannot be restored")).ok();
            Done::Restored { snapshot, state }
        });
    }

    /// Reads a part for a peer.
    pub(super) fn read(&mut self, to: NodeId, snapshot: SnapshotId, at: u64, bytes_max: usize) {
        let (storage, pace) = (Arc::clone(&self.wires.storage), Rc::clone(&self.sending));
        let bytes_max = pace.part(bytes_max);
        self.reads.push(async move {
            let read = storage.read_snapshot(snapshot, at, bytes_max).await;
            let bytes = read.map_err(|error| report(&error, "a snapshot cannot be read")).unwrap_or_default();
            pace.spend(bytes.len() as u64).await;
            Done::Read { to, snapshot, at, bytes }
        });
    }
}

fn report(error: &(dyn std::error::Error + 'static), what: &'static str) {
    let cause = error.source();
    tracing::warn!(%error, cause, "{what}");
}
