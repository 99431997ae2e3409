//! Agreement per slot: one table of who proposed and who accepted what, from the messages alone.

use super::super::violation::Violation;
use crate::multi::{Batch, BatchId, Membership, Memberships, Slot, Value};
use crate::paxos::{NodeId, ProposalId};
use std::collections::{BTreeMap, BTreeSet};

/// One id at one slot.
#[derive(Debug)]
struct Ballot {
    id: ProposalId,
    value: Value,
    voters: BTreeSet<NodeId>,
}

/// What was proposed, accepted and chosen.
#[derive(Debug)]
pub(in super::super) struct Agreement {
    /// Folded from what is chosen, in slot order, through `folded`.
    memberships: Memberships,
    folded: Slot,
    ballots: BTreeMap<Slot, Vec<Ballot>>,
    chosen: BTreeMap<Slot, Value>,
    batches: BTreeSet<BatchId>,
}

impl Agreement {
    pub(super) fn new(membership: &Membership) -> Self {
        Self {
            memberships: Memberships::bootstrap(membership.clone()),
            folded: Slot::ZERO,
            ballots: BTreeMap::new(),
            chosen: BTreeMap::new(),
            batches: BTreeSet::new(),
        }
    }

    /// How many slots are chosen.
    pub(in super::super) fn count(&self) -> usize {
        self.chosen.len()
    }

    /// What is chosen at `slot`.
    pub(in super::super) fn chosen(&self, slot: Slot) -> Option<&Value> {
        self.chosen.get(&slot)
    }

    /// Whether `batch` is in the log.
    pub(super) fn has_batch(&self, batch: &BatchId) -> bool {
        self.batches.contains(batch)
    }

    /// The voters of the newest membership that is chosen.
    pub(in super::super) fn newest_members(&self) -> Vec<NodeId> {
        self.memberships.newest().map(|newest| newest.voting().collect()).unwrap_or_default()
    }

    /// The first slot that the newest chosen membership governs, if it is in force.
    pub(in super::super) fn newest_in_force(&self) -> Option<Slot> {
        let next = self.folded.next();
        self.memberships.coming(next).is_none().then(|| self.memberships.governs_from(next))
    }

    /// `from` proposes `values` under `id`, from slot `first` on.
    pub(in super::super) fn proposed(
        &mut self,
        from: NodeId,
        id: ProposalId,
        first: Slot,
        values: &[Value],
    ) -> Result<(), Violation> {
        if id.node != from {
            return Err(Violation::ForeignId { node: from, id });
        }
        let alpha = self.memberships.newest().map_or(0, Membership::alpha);
        let mut slot = first;
        for value in values {
            if slot > self.folded.plus(alpha) {
                return Err(Violation::TooFarAhead { node: from, slot, chosen_through: self.folded });
            }
            let ballots = self.ballots.entry(slot).or_default();
            match ballots.iter().find(|ballot| ballot.id == id) {
                Some(known) if known.value != *value => {
                    return Err(Violation::TwoValuesProposed { slot, id });
                }
                Some(_) => {}
                None => ballots.push(Ballot { id, value: value.clone(), voters: BTreeSet::new() }),
            }
            slot = slot.next();
        }
        Ok(())
    }

    /// `node` is to accept `value`: somebody proposed just that.
    pub(super) fn accepted(
        &self,
        node: NodeId,
        slot: Slot,
        id: ProposalId,
        value: &Value,
    ) -> Result<(), Violation> {
        let mut ballots = self.ballots.get(&slot).into_iter().flatten();
        match ballots.find(|ballot| ballot.id == id) {
            Some(ballot) if ballot.value == *value => Ok(()),
            _ => Err(Violation::NotProposed { node, slot, id }),
        }
    }

    /// `node` says that it accepted; true if that makes it chosen.
    pub(super) fn voted(&mut self, node: NodeId, slot: Slot, id: ProposalId) -> Result<bool, Violation> {
        let ballot = self.ballots.get_mut(&slot).and_then(|at| at.iter_mut().find(|ballot| ballot.id == id));
        let Some(ballot) = ballot else { return Err(Violation::NotProposed { node, slot, id }) };
        let governing = self.memberships.governing(slot);
        if !ballot.voters.insert(node) || !governing.is_some_and(|by| by.is_phase2_quorum(&ballot.voters)) {
            return Ok(false);
        }
        match self.chosen.get(&slot) {
            Some(known) if *known != ballot.value => Err(Violation::TwoValuesChosen { slot }),
            Some(_) => Ok(false),
            None => {
                self.chosen.insert(slot, ballot.value.clone());
                Ok(true)
            }
        }
    }

    /// The next chosen slot without a gap, taken in.
    pub(super) fn fold_next(&mut self) -> Result<Option<(Slot, Value)>, Violation> {
        let slot = self.folded.next();
        let Some(value) = self.chosen.get(&slot) else { return Ok(None) };
        self.folded = slot;
        match value {
            Value::Membership(membership) => self.memberships.learn(slot, membership),
            Value::Batch(bytes) => {
                if let Ok(batch) = Batch::read(bytes.clone())
                    && !self.batches.insert(batch.id())
                {
                    return Err(Violation::ChosenTwice { batch: batch.id(), slot });
                }
            }
            Value::Noop => {}
        }
        Ok(Some((slot, value.clone())))
    }
}
