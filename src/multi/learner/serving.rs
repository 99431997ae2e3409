//! Snapshots for others: one of the own state when it is asked for, and parts of those that are held for peers.
//!
//! Invariants: S1 one snapshot of the own state is drawn at a time, and none where nothing was applied since the last. S2 one
//! read for a peer is under way at a time, and few altogether; what is dropped is asked again.

use super::Learner;
use crate::multi::effect::{Effect, Event, SnapshotTask};
use crate::multi::message::Message;
use crate::multi::record::{Base, SnapshotId};
use crate::multi::slot::{Slot, Time};
use crate::paxos::NodeId;
use bytes::Bytes;
use std::collections::BTreeSet;

/// Peers that are read for at a time; one more is dropped, and asks again.
const READS_MAX: usize = 8;

/// A snapshot of which nothing is heard for so many time-outs is given up.
const TAKE_TIMEOUTS: u32 = 200;

/// What is under way for others.
#[derive(Debug, Default)]
pub(super) struct Serving {
    reads: BTreeSet<NodeId>,
    /// The own log begins here, with a snapshot.
    based: Slot,
    /// A snapshot is being drawn, through this slot; given up at that time.
    taking: Option<(Slot, Time)>,
}

impl Serving {
    /// The own log begins at `base`.
    pub(super) fn note_base(&mut self, base: &Base) {
        if base.snapshot.is_some() {
            self.based = self.based.max(base.through);
            self.taking = self.taking.filter(|(through, _)| base.through < *through);
        }
    }

    /// The snapshot that was being drawn could not be written.
    pub(super) fn note_failure(&mut self) {
        self.taking = None;
    }
}

impl Learner {
    pub(super) fn on_take_snapshot(&mut self, now: Time, out: &mut Vec<Effect>) {
        let waits = self.serving.taking.is_some_and(|(_, expires)| now < expires);
        let useful = self.serving.based < self.applied && !self.installing.is_under_way();
        let Some(memberships) = self.memberships.as_ref().filter(|_| useful && !waits && !self.witness)
        else {
            return;
        };
        let through = self.applied;
        let memberships = memberships.as_of(through);
        self.serving.taking = Some((through, now + self.limits.catch_up_timeout * TAKE_TIMEOUTS));
        out.push(Effect::Snapshot(SnapshotTask::Take { through, memberships }));
    }

    /// The newest snapshot is damaged: another one takes its place, also of the same slot (F10).
    pub(super) fn on_snapshot_damaged(&mut self, now: Time, snapshot: SnapshotId, out: &mut Vec<Effect>) {
        if self.serving.based == snapshot.through {
            self.serving.based = Slot::ZERO;
        }
        out.push(Effect::Event(Event::SnapshotDamaged { snapshot }));
        self.on_take_snapshot(now, out);
    }

    pub(super) fn on_fetch_snapshot(
        &mut self,
        from: NodeId,
        snapshot: SnapshotId,
        at: u64,
        bytes_max: u32,
        out: &mut Vec<Effect>,
    ) {
        if self.witness {
            let message = Message::SnapshotChunk { snapshot, at, bytes: Bytes::new() };
            out.push(Effect::Send { to: from, message, after: None });
            return;
        }
        let bytes_max = (bytes_max as usize).min(self.limits.snapshot_chunk_bytes);
        // An empty answer would say that it is not held.
        let sound = bytes_max > 0 && at < snapshot.bytes;
        if sound && self.serving.reads.len() < READS_MAX && self.serving.reads.insert(from) {
            out.push(Effect::Snapshot(SnapshotTask::Read { to: from, snapshot, at, bytes_max }));
        }
    }

    pub(super) fn on_snapshot_read(
        &mut self,
        to: NodeId,
        snapshot: SnapshotId,
        at: u64,
        bytes: Bytes,
        out: &mut Vec<Effect>,
    ) {
        if self.serving.reads.remove(&to) {
            let message = Message::SnapshotChunk { snapshot, at, bytes };
            out.push(Effect::Send { to, message, after: None });
        }
    }
}
