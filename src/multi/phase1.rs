//! Phase 1 under one id: the promises gathered so far, and what they oblige to (protocol 1.4 to 1.7).
//!
//! Invariants: G1 a promise counts for a slot only when its pages cover the slot without a gap and do not call it unknown.
//! G2 `recovery_through` and the values to recover take in every promise received under the id, counted or not.

use super::log::is_doubt;
use super::membership::Memberships;
use super::message::Page;
use super::record::Value;
use super::slot::{Interval, Slot, Time};
use crate::paxos::{NodeId, ProposalId};
use std::collections::{BTreeMap, BTreeSet};

/// The promises under one id.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Phase1 {
    pub(super) id: ProposalId,
    /// The campaign is given up then, unless another page arrives.
    pub(super) expires: Time,
    /// Voters that refused the id.
    pub(super) nacked: BTreeSet<NodeId>,
    promises: BTreeMap<NodeId, Promise>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Promise {
    chosen_through: Slot,
    pages: BTreeMap<Slot, Page>,
}

impl Promise {
    /// From which slot on the pages cover everything, or `None` while the last page is missing. A repeated `Prepare` may
    /// have been answered by other pages, so they may overlap.
    fn covers_from(&self) -> Option<Slot> {
        let open = self.pages.values().find(|page| page.covers.last == Slot::MAX)?;
        let below = self.pages.range(..open.covers.first).rev();
        Some(below.fold(open.covers.first, |first, (_, page)| {
            if page.covers.last.next() >= first { page.covers.first } else { first }
        }))
    }

    /// Whether it counts for `slot` (G1).
    fn counts_for(&self, slot: Slot) -> bool {
        self.covers_from().is_some_and(|first| first <= slot) && !self.calls_unknown(slot)
    }

    fn calls_unknown(&self, slot: Slot) -> bool {
        self.pages.values().flat_map(|page| &page.unknown).any(|unknown| unknown.contains(slot))
    }
}

impl Phase1 {
    pub(super) fn new(id: ProposalId, expires: Time) -> Self {
        Self { id, expires, nacked: BTreeSet::new(), promises: BTreeMap::new() }
    }

    /// Takes a page in; a repeat changes nothing.
    pub(super) fn gather(&mut self, from: NodeId, chosen_through: Slot, page: Page) {
        let promise = self.promises.entry(from).or_default();
        promise.chosen_through = promise.chosen_through.max(chosen_through);
        let known = promise.pages.get(&page.covers.first).map(|known| known.covers.last);
        if known < Some(page.covers.last) {
            promise.pages.insert(page.covers.first, page);
        }
    }

    /// The highest slot that any promise says is chosen, with who said so.
    pub(super) fn chosen_through(&self) -> Option<(Slot, NodeId)> {
        self.promises.iter().map(|(node, promise)| (promise.chosen_through, *node)).max()
    }

    /// The last slot that has to be recovered before clients' batches may go above it (1.7).
    pub(super) fn recovery_through(&self) -> Slot {
        let chosen = self.promises.values().map(|promise| promise.chosen_through);
        let reported = self.promises.values().flat_map(|promise| promise.pages.values()).flat_map(|page| {
            let entries = page.entries.iter().map(|(slot, _, _)| *slot);
            let unknown = page.unknown.iter().map(|unknown| match unknown {
                doubt if is_doubt(doubt) => doubt.first.minus(1),
                Interval { last, .. } => *last,
            });
            entries.chain(unknown)
        });
        chosen.chain(reported).max().unwrap_or(Slot::ZERO)
    }

    /// The value of the highest id that any promise reports, by slot (1.7).
    ///
    /// The promises give them away: what they cover, and what they call unknown, stays.
    pub(super) fn take_values(&mut self) -> BTreeMap<Slot, (ProposalId, Value)> {
        let mut highest: BTreeMap<Slot, (ProposalId, Value)> = BTreeMap::new();
        let pages = self.promises.values_mut().flat_map(|promise| promise.pages.values_mut());
        for (slot, id, value) in pages.flat_map(|page| std::mem::take(&mut page.entries)) {
            match highest.get_mut(&slot) {
                Some(best) if best.0 >= id => {}
                Some(best) => *best = (id, value),
                None => drop(highest.insert(slot, (id, value))),
            }
        }
        highest
    }

    /// Whether `node` has promised for all slots from `slot` on.
    pub(super) fn has_promised(&self, node: NodeId, slot: Slot) -> bool {
        let promise = self.promises.get(&node);
        promise.and_then(Promise::covers_from).is_some_and(|first| first <= slot)
    }

    /// The last slot up to which winning phase 1 for `slot` wins it for all: the last that the same membership governs, before
    /// anything unknown.
    pub(super) fn won_until(&self, slot: Slot, memberships: &Memberships) -> Option<Slot> {
        if !self.is_won_for(slot, memberships) {
            return None;
        }
        let pages = self.promises.values().flat_map(|promise| promise.pages.values());
        let doubts = pages.flat_map(|page| &page.unknown).map(|unknown| unknown.first);
        let turns = doubts.chain(memberships.first_slots()).filter(|turn| *turn > slot);
        Some(turns.min().map_or(Slot::MAX, |turn| turn.minus(1)))
    }

    /// Whether a phase-1 quorum of the membership that governs `slot` has promised for it.
    pub(super) fn is_won_for(&self, slot: Slot, memberships: &Memberships) -> bool {
        let counted: BTreeSet<NodeId> = self
            .promises
            .iter()
            .filter(|(_, promise)| promise.counts_for(slot))
            .map(|(node, _)| *node)
            .collect();
        memberships.governing(slot).is_some_and(|membership| membership.is_phase1_quorum(&counted))
    }

    /// Whether phase 1 is won for every slot above `chosen_through` that the membership in force there governs; the one that
    /// comes after it is asked before its first slot is used (6.3).
    ///
    /// Who counts changes only where a promise begins to cover, where something unknown begins or ends, and where another
    /// membership begins to govern, so it is enough to look there.
    pub(super) fn is_won_above(&self, chosen_through: Slot, memberships: &Memberships) -> bool {
        let first = chosen_through.next();
        let in_force = memberships.coming(first).map_or(Slot::MAX, |coming| coming.minus(1));
        let last = self.recovery_through().max(chosen_through).next().min(in_force);
        let covers = self.promises.values().filter_map(Promise::covers_from);
        let unknown = self
            .promises
            .values()
            .flat_map(|promise| promise.pages.values())
            .flat_map(|page| &page.unknown)
            .flat_map(|unknown| [unknown.first, unknown.last.next()]);
        let turns: BTreeSet<Slot> = covers
            .chain(unknown)
            .chain(memberships.first_slots())
            .chain([first, last])
            .filter(|slot| first <= *slot && *slot <= last)
            .collect();
        turns.into_iter().all(|slot| self.is_won_for(slot, memberships))
    }

    /// Whether so many voters refused that no phase-1 quorum for `slot` is left.
    pub(super) fn is_lost(&self, slot: Slot, memberships: &Memberships) -> bool {
        memberships.governing(slot).is_none_or(|membership| {
            let left = membership.voting().filter(|node| !self.nacked.contains(node)).collect();
            !membership.is_phase1_quorum(&left)
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::multi::Membership;

    const ID: ProposalId = ProposalId::new(2, NodeId::new(1));

    fn memberships() -> Memberships {
        let voters = (1..=3).map(|node| (NodeId::new(node), ""));
        Memberships::bootstrap(Membership::voters(voters).unwrap())
    }

    fn page(first: u64, last: Slot, unknown: &[Interval]) -> Page {
        Page { covers: Interval::new(Slot::new(first), last), entries: vec![], unknown: unknown.to_vec() }
    }

    fn gathered(pages: &[(u64, Page)]) -> Phase1 {
        let mut phase1 = Phase1::new(ID, Time::ZERO);
        pages.iter().for_each(|(node, page)| phase1.gather(NodeId::new(*node), Slot::ZERO, page.clone()));
        phase1
    }

    #[test]
    fn every_slot_is_judged_by_itself() {
        let doubt = [Interval::new(Slot::new(3), Slot::new(4))];
        let phase1 = gathered(&[(1, page(1, Slot::MAX, &[])), (2, page(1, Slot::MAX, &doubt))]);
        let won: Vec<bool> = (1..=6).map(|slot| phase1.is_won_for(Slot::new(slot), &memberships())).collect();
        assert_eq!(won, [true, true, false, false, true, true]);
        assert!(!phase1.is_won_above(Slot::ZERO, &memberships()));
        assert!(!phase1.is_won_above(Slot::new(3), &memberships()));
        assert!(phase1.is_won_above(Slot::new(4), &memberships()));
    }

    #[test]
    fn doubts_of_different_voters_in_different_slots_are_not_added_up() {
        let doubt = |slot| [Interval::new(Slot::new(slot), Slot::new(slot))];
        let pages = [(1, page(1, Slot::MAX, &doubt(2))), (2, page(1, Slot::MAX, &doubt(5)))];
        let mut phase1 = gathered(&pages);
        assert!(!phase1.is_won_above(Slot::ZERO, &memberships()));
        phase1.gather(NodeId::new(3), Slot::ZERO, page(1, Slot::MAX, &[]));
        assert!(phase1.is_won_above(Slot::ZERO, &memberships()));
        assert_eq!(phase1.recovery_through(), Slot::new(5));
    }

    #[test]
    fn a_promise_that_begins_higher_counts_from_there_on() {
        let phase1 = gathered(&[(1, page(1, Slot::MAX, &[])), (2, page(4, Slot::MAX, &[]))]);
        assert!(!phase1.is_won_above(Slot::new(2), &memberships()));
        assert!(phase1.is_won_above(Slot::new(3), &memberships()));
    }
}
