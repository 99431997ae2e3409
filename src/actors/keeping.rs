//! Keeping: when a snapshot of the own state is taken, and who waits for one.
//!
//! Invariant: everybody who asked is answered once, within the time that they gave.

use crate::multi::SnapshotId;
use crate::node::{Config, SnapshotError};
use crate::storage::Storage;
use crate::timer::Time;
use futures::channel::oneshot;
use std::time::Duration;

/// How long the log is, is looked at this often.
const LOOK: Duration = Duration::from_millis(100);
/// After a failure nobody but an operator has another one taken for so long, and twice as long after each that follows.
const PAUSE: Duration = Duration::from_secs(1);
/// The pause doubles so often at most.
const DOUBLINGS_MAX: u32 = 6;

/// Who waits for a snapshot.
pub(crate) type SnapshotReply = oneshot::Sender<Result<SnapshotId, SnapshotError>>;

/// The reasons for snapshots, and what became of them.
#[derive(Debug, Default)]
pub(super) struct Keeping {
    asked: Vec<(Time, SnapshotReply)>,
    /// Durable, and the log does not begin there yet.
    taken: Option<SnapshotId>,
    /// The log begins there.
    based: Option<SnapshotId>,
    began_at: Time,
    failures: u32,
    not_before: Time,
    next_look: Time,
}

impl Keeping {
    /// Whether the log has grown enough for the next snapshot; looked at now and then.
    pub(super) fn is_due(&mut self, now: Time, storage: &dyn Storage, config: &Config) -> bool {
        if now < self.next_look {
            return false;
        }
        self.next_look = now + LOOK;
        let waits = self.taken.is_some() || now < self.not_before;
        !waits && storage.log_bytes() >= config.snapshot_log_bytes
    }

    /// Whether the last one failed so short ago that the next has to wait, if nobody asked for it.
    pub(super) fn rests(&self, now: Time) -> bool {
        self.failures > 0 && now < self.not_before && self.asked.is_empty()
    }

    /// Whether one is durable, and the log is about to begin there.
    pub(super) fn is_taken(&self) -> bool {
        self.taken.is_some()
    }

    /// Where the log begins.
    pub(super) fn based(&self) -> Option<SnapshotId> {
        self.based
    }

    /// One is being drawn.
    pub(super) fn begin(&mut self, now: Time) {
        self.began_at = now;
    }

    /// Somebody waits for the one that is being taken.
    pub(super) fn wait(&mut self, expires: Time, reply: SnapshotReply) {
        self.asked.push((expires, reply));
    }

    pub(super) fn waiting(&self) -> usize {
        self.asked.len()
    }

    /// It is durable, and the log is about to begin there. The next one may take as long as this one did, no longer: writing
    /// them must not be all that a disk does.
    pub(super) fn taken(&mut self, now: Time, snapshot: SnapshotId) {
        self.taken = Some(snapshot);
        self.failures = 0;
        self.not_before = now + now.since(self.began_at);
    }

    /// The log begins at `snapshot`.
    pub(super) fn begins_at(&mut self, snapshot: Option<SnapshotId>) {
        self.based = snapshot.or(self.based);
        let (Some(taken), Some(based)) = (self.taken.take(), self.based) else { return };
        let outcome = if taken.through <= based.through { Ok(based) } else { Err(SnapshotError::InProgress) };
        self.answer(&outcome);
    }

    /// There will be none, for now.
    pub(super) fn failed(&mut self, now: Time, error: SnapshotError) {
        self.not_before = now + PAUSE * (1 << self.failures.min(DOUBLINGS_MAX));
        self.failures = self.failures.saturating_add(1);
        self.answer(&Err(error));
    }

    /// None is begun now: one of a peer is being installed.
    pub(super) fn gave_way(&mut self) {
        self.answer(&Err(SnapshotError::InProgress));
    }

    fn answer(&mut self, outcome: &Result<SnapshotId, SnapshotError>) {
        for (_, reply) in self.asked.drain(..) {
            // Whoever asked may have gone.
            let _ = reply.send(outcome.clone());
        }
    }

    /// Answers those who have waited long enough; when the next one will have.
    pub(super) fn expire(&mut self, now: Time) -> Option<Time> {
        let (over, asked) =
            std::mem::take(&mut self.asked).into_iter().partition(|(expires, _)| *expires <= now);
        self.asked = asked;
        let over: Vec<(Time, SnapshotReply)> = over;
        for (_, reply) in over {
            // Whoever asked may have gone.
            let _ = reply.send(Err(SnapshotError::Deadline));
        }
        self.asked.iter().map(|(expires, _)| *expires).min()
    }
}
