//! What the cluster is at one moment: acceptors, leaders, and the history from which *chosen* is judged.
//!
//! There is no network in it: what was proposed and accepted is what was sent. Leaves out: what a disk could forget, and
//! `chosen_through` and trim marks at acceptors, so every promise reports every slot.

use crate::reads::Read;
use crate::scope::*;

#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Acceptor {
    /// The leader whose id it promised; at first the lowest.
    pub promised: u8,
    /// The leaders that heard its promise.
    pub heard: Bits,
    /// The leaders whose proposals it accepted, for each slot.
    pub accepted: [Bits; SLOTS_MAX],
    /// Since the read arrived, it was at some time true that it had promised the reader and nobody higher.
    pub confirms: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Leader {
    pub learned: Log,
    pub proposed: Log,
    /// The highest watermark that it sent.
    pub watermark: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    pub acceptors: [Acceptor; NODES],
    pub leaders: [Leader; LEADERS_MAX],
    /// History: what was ever counted as chosen.
    pub chosen: Log,
    /// History: a slot was counted as chosen with two values.
    pub two_values: bool,
    pub read: Option<Read>,
}

impl World {
    fn nodes(&self, is_in: impl Fn(&Acceptor) -> bool) -> Bits {
        let bits =
            self.acceptors.iter().enumerate().map(|(node, acceptor)| Bits::from(is_in(acceptor)) << node);
        bits.sum()
    }

    pub fn heard_by(&self, leader: usize) -> Bits {
        self.nodes(|acceptor| acceptor.heard >> leader & 1 == 1)
    }

    pub fn voters(&self, leader: usize, slot: usize) -> Bits {
        self.nodes(|acceptor| acceptor.accepted[slot - 1] >> leader & 1 == 1)
    }

    pub fn confirming(&self) -> Bits {
        self.nodes(|acceptor| acceptor.confirms)
    }

    /// Who has promised nobody higher than this leader.
    pub fn may_promise(&self, leader: usize) -> Bits {
        self.nodes(|acceptor| usize::from(acceptor.promised) <= leader)
    }

    /// Who ever promised this leader, whenever that was.
    pub fn ever_promised(&self, leader: usize) -> Bits {
        let voted = |acceptor: &Acceptor| acceptor.accepted.iter().any(|ids| ids >> leader & 1 == 1);
        self.nodes(|acceptor| acceptor.heard >> leader & 1 == 1 || voted(acceptor))
    }

    /// The ids below the leader's own that its promises report at a slot.
    fn reported_ids(&self, leader: usize, slot: usize) -> Bits {
        let below = (1 << leader) - 1;
        let heard = self.acceptors.iter().filter(|acceptor| acceptor.heard >> leader & 1 == 1);
        heard.fold(0, |ids, acceptor| ids | acceptor.accepted[slot - 1] & below)
    }

    /// The value of the highest id that the promises report.
    pub fn reported(&self, leader: usize, slot: usize) -> Option<Value> {
        let highest = self.reported_ids(leader, slot).checked_ilog2()?;
        self.leaders[highest as usize].proposed[slot - 1]
    }

    pub fn recovery_through(&self, leader: usize) -> usize {
        (1..=SLOTS_MAX).rev().find(|slot| self.reported_ids(leader, *slot) != 0).unwrap_or(0)
    }

    pub fn raise(&mut self, node: usize, leader: usize) {
        let acceptor = &mut self.acceptors[node];
        acceptor.promised = acceptor.promised.max(leader as u8);
        let reader = self.read.as_ref().map(|read| read.reader);
        acceptor.confirms |= reader == Some(acceptor.promised);
    }

    /// Protocol 3.3: the slots at which a watermark tells an acceptor that its entry is chosen, and those entries.
    pub fn told_by_watermarks(&self) -> impl Iterator<Item = (usize, Value)> + '_ {
        self.acceptors.iter().flat_map(move |acceptor| {
            acceptor.accepted.iter().enumerate().filter_map(move |(index, ids)| {
                let leader = &self.leaders[ids.checked_ilog2()? as usize];
                let covered = leader.watermark as usize > index;
                Some((index + 1, leader.proposed[index].filter(|_| covered)?))
            })
        })
    }

    /// A value is chosen above s + α, where s is the slot of a change.
    pub fn is_governed_anew(&self, scope: &Scope) -> bool {
        (1..=scope.slots)
            .any(|slot| self.chosen[slot - 1].is_some() && scope.governing(&self.chosen, slot) != 0)
    }
}
