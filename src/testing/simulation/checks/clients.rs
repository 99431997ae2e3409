//! What clients were told: nothing acknowledged is lost, a session's command is applied once, and all states are one.

use super::super::simulated::Simulated;
use super::super::state::{Outcome, State};
use super::super::violation::Violation;
use super::agreement::Agreement;
use crate::multi::{BatchId, SessionId, SessionStamp, Slot, SnapshotId, Value};
use crate::paxos::NodeId;
use std::collections::{BTreeMap, BTreeSet};

/// The state that applying the log gives, and what the clients know of it.
pub(in super::super) struct Clients<S: Simulated> {
    /// Applied through every slot that is chosen without a gap.
    state: State<S>,
    /// The digest of the state after each of these slots, from slot 0 on.
    digests: Vec<u64>,
    /// The reply to each command of a session that was applied.
    replies: BTreeMap<(SessionId, u64), S::Reply>,
    snapshots: BTreeMap<Slot, SnapshotId>,
    acknowledged: BTreeSet<BatchId>,
    acknowledged_commands: BTreeSet<(SessionId, u64)>,
    acknowledged_through: Slot,
}

impl<S: Simulated> Clients<S> {
    pub(super) fn new(state: State<S>) -> Self {
        Self {
            digests: vec![state.digest],
            state,
            replies: BTreeMap::new(),
            snapshots: BTreeMap::new(),
            acknowledged: BTreeSet::new(),
            acknowledged_commands: BTreeSet::new(),
            acknowledged_through: Slot::ZERO,
        }
    }

    /// The state after all that is chosen without a gap.
    pub(in super::super) fn state(&self) -> &State<S> {
        &self.state
    }

    /// The next slot is chosen.
    pub(super) fn chosen(&mut self, slot: Slot, value: &Value) -> Result<(), Violation> {
        for outcome in self.state.apply(slot, value) {
            if let Outcome::Applied(stamp, reply) = outcome {
                let SessionStamp { session, serial, .. } = stamp;
                if self.replies.insert((session, serial), reply).is_some() {
                    return Err(Violation::AppliedTwice { session, serial, slot });
                }
            }
        }
        self.digests.push(self.state.digest);
        Ok(())
    }

    pub(super) fn has_state(&self, node: NodeId, slot: Slot, digest: u64) -> Result<(), Violation> {
        let expected = usize::try_from(slot.get()).ok().and_then(|at| self.digests.get(at));
        if expected == Some(&digest) { Ok(()) } else { Err(Violation::StateDiffers { node, slot }) }
    }

    /// `node` has drawn a snapshot: the same as any other of the same slot.
    pub(in super::super) fn drew(&mut self, node: NodeId, snapshot: SnapshotId) -> Result<(), Violation> {
        let known = *self.snapshots.entry(snapshot.through).or_insert(snapshot);
        let same = known == snapshot;
        if same { Ok(()) } else { Err(Violation::StateDiffers { node, slot: snapshot.through }) }
    }

    /// Whoever filled `batch` is told that it was applied at `slot`.
    pub(in super::super) fn acknowledged(&mut self, batch: BatchId, slot: Slot) {
        self.acknowledged.insert(batch);
        self.acknowledged_through = self.acknowledged_through.max(slot);
    }

    /// The highest slot of which anybody was told.
    pub(in super::super) fn acknowledged_through(&self) -> Slot {
        self.acknowledged_through
    }

    /// A client gets a reply from `node`.
    pub(in super::super) fn replied(
        &mut self,
        node: NodeId,
        stamp: SessionStamp,
        reply: &S::Reply,
    ) -> Result<(), Violation> {
        let SessionStamp { session, serial, .. } = stamp;
        self.acknowledged_commands.insert((session, serial));
        match self.replies.get(&(session, serial)) {
            Some(known) if known != reply => Err(Violation::ReplyDiffers { node, session, serial }),
            _ => Ok(()),
        }
    }

    /// Every acknowledged batch and command stands in the log.
    pub(super) fn finish(&self, agreement: &Agreement) -> Result<(), Violation> {
        if let Some(batch) = self.acknowledged.iter().find(|batch| !agreement.has_batch(batch)) {
            let BatchId { node, incarnation, serial } = batch;
            return Err(Violation::AcknowledgedLost { what: format!("batch {node}.{incarnation}.{serial}") });
        }
        let lost = self.acknowledged_commands.iter().find(|command| !self.replies.contains_key(command));
        match lost {
            Some((session, serial)) => {
                let what = format!("command {serial} of session {session}");
                Err(Violation::AcknowledgedLost { what })
            }
            None => Ok(()),
        }
    }
}
