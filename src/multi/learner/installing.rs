//! Installing: a snapshot in place of the log below it, fetched from a peer or the own one (protocol 5.2, F8, F10).
//!
//! ```text
//!  a peer's base ─▶ Begin ─▶ Held ─▶ FetchSnapshot ─▶ SnapshotChunk ─▶ Write ─▶ Held … ─▶ Seal ─▶ Sealed
//!     ─▶ Install (the acceptor writes where the log begins) ─▶ Begin ─▶ Restore ─▶ Restored
//! ```
//!
//! A restart enters at the acceptor's `Begin`: the own log begins at a snapshot.
//! Invariants: I1 nothing is delivered meanwhile. I2 the acceptor hears of a base after its snapshot is durable, and the state
//! is replaced after that base is.

use super::Learner;
use super::fetching::Transfer;
use crate::multi::effect::{AcceptorInput, Effect, Event, Local, SnapshotTask};
use crate::multi::record::{Base, SnapshotId};
use crate::multi::slot::{Slot, Time};
use crate::paxos::NodeId;
use std::time::Duration;

/// After a failure the pause doubles so often at most.
const DOUBLINGS_MAX: u32 = 6;
/// The peer whose snapshot failed is avoided for so many pauses.
const AVOIDED_PAUSES: u32 = 3;

/// How far the installing is.
#[derive(Debug, Default)]
pub(super) struct Installing {
    pub(super) stage: Stage,
    /// The own log and snapshots do not lead there: only a snapshot at or above this slot helps.
    pub(super) need: Option<Slot>,
    /// The own one that cannot be restored.
    pub(super) damaged: Option<SnapshotId>,
    /// How often it failed since it last succeeded.
    failures: u32,
    /// No transfer begins earlier.
    not_before: Time,
    /// Not from this peer before that time.
    avoided: Option<(NodeId, Time)>,
}

/// What is going on.
#[derive(Debug, Default)]
pub(super) enum Stage {
    #[default]
    Idle,
    /// A peer's snapshot is being fetched.
    Fetching(Box<Transfer>),
    /// The acceptor writes where the log begins; it is told again then.
    Basing { base: Base, expires: Time },
    /// The state is being replaced.
    Restoring { base: Base },
}

impl Installing {
    /// Whether anything is going on: nothing is delivered then.
    pub(super) fn is_under_way(&self) -> bool {
        !matches!(self.stage, Stage::Idle)
    }

    /// Whether the log below is being replaced: nothing of it is worth fetching then.
    pub(super) fn is_replacing_log(&self) -> bool {
        matches!(self.stage, Stage::Fetching(_) | Stage::Basing { .. })
    }

    /// When what it waits for is overdue.
    pub(super) fn due(&self) -> Option<Time> {
        match &self.stage {
            Stage::Fetching(transfer) => transfer.waits.expires(),
            Stage::Basing { expires, .. } => Some(*expires),
            Stage::Idle | Stage::Restoring { .. } => None,
        }
    }

    /// Whether `peer` is better not asked, where there is another.
    pub(super) fn avoids(&self, now: Time, peer: NodeId) -> bool {
        self.avoided.is_some_and(|(avoided, until)| avoided == peer && now < until)
    }

    /// Nothing came of it: the next attempt waits longer, and prefers another peer.
    pub(super) fn set_back(&mut self, now: Time, timeout: Duration, peer: NodeId) {
        let pause = timeout * (1 << self.failures.min(DOUBLINGS_MAX));
        self.failures = self.failures.saturating_add(1);
        self.not_before = now + pause;
        self.avoided = Some((peer, now + pause * AVOIDED_PAUSES));
        self.stage = Stage::Idle;
    }
}

impl Learner {
    /// `from` says where its log begins.
    pub(super) fn on_base(&mut self, now: Time, from: NodeId, base: Base, out: &mut Vec<Effect>) {
        let news = base.through > self.learned || !self.introduced;
        if self.witness {
            // It needs no state; how much it may forget is for the acceptor to judge.
            if news {
                let base = Base { snapshot: None, ..base };
                out.push(Effect::Local(Local::Acceptor(AcceptorInput::Install { base })));
            }
            return;
        }
        let Some(snapshot) = base.snapshot.filter(|snapshot| snapshot.through == base.through) else {
            if base.through == Slot::ZERO && !self.introduced && !self.installing.is_under_way() {
                self.forget_request(from);
                out.push(Effect::Local(Local::Acceptor(AcceptorInput::Install { base })));
            } else {
                // No state to begin with: others may have one. This one is not asked again at once.
                self.known.remove(&from);
            }
            return;
        };
        let useful = self.installing.need.map_or(news, |above| above <= base.through);
        if base.through <= self.applied || !useful {
            return;
        }
        match &self.installing.stage {
            Stage::Idle if self.installing.not_before <= now && !self.installing.avoids(now, from) => {
                self.request = None;
                self.begin_transfer(base, snapshot, from, out);
            }
            Stage::Fetching(_) => self.on_base_meanwhile(now, from, base, snapshot, out),
            _ => {}
        }
    }

    /// The acceptor says where the own log begins.
    pub(super) fn on_begin(&mut self, now: Time, base: Base, out: &mut Vec<Effect>) {
        self.learned = self.learned.max(base.through);
        self.serving.note_base(&base);
        let ready = matches!(self.installing.stage, Stage::Idle | Stage::Basing { .. });
        if base.through > self.applied {
            self.replaying = None;
        }
        if ready && !self.witness {
            self.installing.stage = Stage::Idle;
            if base.through > self.applied {
                self.restore(base, out);
            }
        }
        self.fetch(now, out);
    }

    fn restore(&mut self, base: Base, out: &mut Vec<Effect>) {
        let sound = base.snapshot.filter(|snapshot| self.installing.damaged != Some(*snapshot));
        if let Some(snapshot) = sound {
            self.installing.stage = Stage::Restoring { base };
            out.push(Effect::Snapshot(SnapshotTask::Restore { snapshot }));
        } else {
            self.installing.need = self.installing.need.max(Some(base.through));
        }
    }

    pub(super) fn on_restored(
        &mut self,
        now: Time,
        snapshot: SnapshotId,
        restored: bool,
        out: &mut Vec<Effect>,
    ) {
        let Stage::Restoring { base } = &self.installing.stage else { return };
        if base.snapshot != Some(snapshot) {
            return;
        }
        self.installing.stage = Stage::Idle;
        if restored {
            self.applied = snapshot.through;
            self.learned = self.learned.max(self.applied);
            self.installing = Installing { need: self.installing.need, ..Installing::default() };
            self.met_need();
        } else {
            self.installing.damaged = Some(snapshot);
            self.installing.need = self.installing.need.max(Some(snapshot.through));
            out.push(Effect::Event(Event::SnapshotDamaged { snapshot }));
        }
        self.go_on(now, out);
    }

    /// The own log cannot be read where it goes on.
    pub(super) fn on_unreadable(&mut self, now: Time, from: Slot, out: &mut Vec<Effect>) {
        self.replaying = None;
        if from == self.applied.next() {
            self.installing.need = self.installing.need.max(Some(from));
        }
        self.fetch(now, out);
    }

    pub(super) fn met_need(&mut self) {
        self.installing.need = self.installing.need.filter(|above| *above > self.applied);
    }

    pub(super) fn install(&mut self, now: Time, base: Base, out: &mut Vec<Effect>) {
        out.push(Effect::Local(Local::Acceptor(AcceptorInput::Install { base: base.clone() })));
        let expires = now + self.limits.catch_up_timeout;
        self.installing.stage = Stage::Basing { base, expires };
    }

    /// Delivers and fetches on as without installing.
    pub(super) fn go_on(&mut self, now: Time, out: &mut Vec<Effect>) {
        if self.applied < self.learned {
            self.replay(now, out);
        }
        self.fetch(now, out);
    }

    /// What was not answered in time is asked again, or of another.
    pub(super) fn on_wake_installing(&mut self, now: Time, out: &mut Vec<Effect>) {
        if self.installing.due().is_none_or(|due| due > now) {
            return;
        }
        match &self.installing.stage {
            Stage::Fetching(_) => self.stalled(now, out),
            Stage::Basing { base, .. } => {
                let base = base.clone();
                self.install(now, base, out);
            }
            Stage::Idle | Stage::Restoring { .. } => {}
        }
    }
}
