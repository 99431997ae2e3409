//! The learner's snapshots: what its role wants done with them, why one is taken, and what comes of it.
//!
//! Never does: stop for an error. A snapshot that cannot be had costs that snapshot.

use super::keeping::SnapshotReply;
use super::learner::LearnerActor;
use super::pump::said;
use super::snapshots::Done;
use super::state::SnapshotHead;
use crate::multi::{AcceptorInput, LearnerInput, Local, Memberships, Slot, SnapshotTask};
use crate::node::{SnapshotError, StateMachine};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::{Context as Task, Poll};
use std::thread;
use std::time::Duration;

/// Tasks that may end at once, one after the other, before others have their turn.
const TASKS_PER_TURN: usize = 16;

impl<S: StateMachine> LearnerActor<S> {
    /// Whether there is a state to read.
    pub(super) fn has_state(&self) -> bool {
        self.state.has_begun() && !self.desk.wires.board.is_restoring()
    }

    pub(super) fn snapshot_task(&mut self, task: SnapshotTask) {
        match task {
            SnapshotTask::Take { through, memberships } => self.take_snapshot(through, memberships),
            SnapshotTask::Begin { snapshot } => self.snapshots.begin(snapshot),
            SnapshotTask::Write { at, bytes } => self.snapshots.write(at, bytes),
            SnapshotTask::Seal { snapshot } => self.snapshots.seal(snapshot),
            SnapshotTask::Restore { snapshot } => self.snapshots.restore(snapshot),
            SnapshotTask::Read { to, snapshot, at, bytes_max } => {
                self.snapshots.read(to, snapshot, at, bytes_max);
            }
        }
    }

    /// The copy is made here and now, between two slots; its bytes are drawn later.
    fn take_snapshot(&mut self, through: Slot, memberships: Memberships) {
        if self.keeping.rests(self.desk.now) {
            self.snapshots.put_off();
            return;
        }
        let owner = &self.desk.wires.identity.owner;
        let head = SnapshotHead { cluster: owner.cluster.clone(), epoch: owner.epoch, through, memberships };
        self.keeping.begin(self.desk.now);
        match catch_unwind(AssertUnwindSafe(|| self.state.snapshot(head))) {
            Ok(snapshot) => self.snapshots.take(through, snapshot),
            Err(panic) => {
                let message = said(panic.as_ref());
                self.snapshots.cannot_take(SnapshotError::Panicked { message });
            }
        }
    }

    /// Has a snapshot taken when the log has grown long enough.
    pub(super) fn look_at_log(&mut self) {
        let wires = &self.desk.wires;
        if !self.snapshots.is_taking() && self.keeping.is_due(self.desk.now, &*wires.storage, &wires.config) {
            self.step(LearnerInput::TakeSnapshot);
        }
    }

    /// An operator wants one: whoever asks while one is being taken gets that one.
    pub(super) fn snapshot_wanted(&mut self, patience: Duration, reply: SnapshotReply) {
        let applied = self.role.applied_through();
        let under_way = self.snapshots.is_taking() || self.keeping.is_taken();
        let answer = if self.keeping.waiting() >= self.desk.wires.config.admin_max {
            Some(Err(SnapshotError::Busy))
        } else if under_way {
            None
        } else if let Some(based) = self.keeping.based().filter(|based| based.through >= applied) {
            Some(Ok(based))
        } else {
            (applied == Slot::ZERO).then_some(Err(SnapshotError::Empty))
        };
        if let Some(answer) = answer {
            // Whoever asked may have gone.
            let _ = reply.send(answer);
            return;
        }
        let expires = self.desk.now + patience;
        self.expect(expires);
        self.keeping.wait(expires, reply);
        if !under_way {
            self.step(LearnerInput::TakeSnapshot);
            self.carry_out();
            if !self.snapshots.is_taking() {
                // One of a peer is being installed.
                self.keeping.gave_way();
            }
        }
    }

    /// Drives what is under way.
    pub(super) fn go_on_with_snapshots(&mut self, task: &mut Task<'_>) {
        for _ in 0..TASKS_PER_TURN {
            let Poll::Ready(done) = self.snapshots.poll(task) else { return };
            self.snapshot_done(done);
            self.carry_out();
        }
        task.waker().wake_by_ref();
    }

    fn snapshot_done(&mut self, done: Done<S>) {
        match done {
            Done::Taken(Ok(snapshot)) => {
                self.keeping.taken(self.desk.now, snapshot);
                let taken = AcceptorInput::SnapshotTaken { snapshot };
                self.desk.wires.pass(Local::Acceptor(taken), None);
            }
            Done::Taken(Err(error)) => {
                tracing::warn!(node = %self.desk.wires.me(), %error, "takes no snapshot, for now");
                self.keeping.failed(self.desk.now, error);
                self.step(LearnerInput::SnapshotHeld { bytes: None });
            }
            Done::Held(bytes) => self.step(LearnerInput::SnapshotHeld { bytes }),
            Done::Sealed(sealed) => self.step(LearnerInput::SnapshotSealed { sealed }),
            Done::Restored { snapshot, state } => {
                let restored = state.is_some();
                if let Some(state) = state {
                    drop_aside(std::mem::replace(&mut self.state, state));
                }
                self.step(LearnerInput::Restored { snapshot, restored });
            }
            Done::Read { to, snapshot, at, bytes } => {
                self.step(LearnerInput::SnapshotRead { to, snapshot, at, bytes });
            }
        }
    }
}

/// A large state takes a while to go.
fn drop_aside(state: impl Send + 'static) {
    // Where no thread can be started, it goes here.
    let _ = thread::Builder::new().name("synod-drop".to_owned()).spawn(move || drop(state));
}
