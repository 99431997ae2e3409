//! Membership: who votes in which slot (protocol 6, Lamport's α).
//!
//! A membership chosen at slot *s* governs the slots above *s* + α. [`Memberships`] knows, for every slot, the one that
//! governs it; until memberships can change there is just the one of the bootstrap, which governs every slot.

use super::slot::Slot;
use crate::paxos::NodeId;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// What a member does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum MemberKind {
    /// Proposes, accepts and learns.
    Voter,
    /// Accepts only: counts in every quorum, holds no state machine.
    Witness,
    /// Learns only: counts in no quorum.
    Observer,
}

/// One node of a membership.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Member {
    /// What it does.
    pub kind: MemberKind,
    /// Where its transport is reached, in the transport's own notation; may be empty where none is needed.
    pub address: String,
}

/// The nodes that decide a range of slots, and how many of them it takes.
#[doc(alias = "configuration")]
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Membership {
    members: BTreeMap<NodeId, Member>,
    alpha: u64,
    phase1_quorum: usize,
    phase2_quorum: usize,
}

/// Why a membership is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MembershipError {
    /// Nobody would vote.
    #[error("a membership needs at least one voter")]
    NoVoter,
    /// Two quorums could miss each other, and two values be chosen.
    #[error(
        "quorums of {phase1} and {phase2} among {voters} voting members need not meet: their sum must exceed {voters}"
    )]
    QuorumsDoNotMeet {
        /// Size of a phase-1 quorum.
        phase1: usize,
        /// Size of a phase-2 quorum.
        phase2: usize,
        /// Members that vote.
        voters: usize,
    },
    /// A quorum larger than the set, or of nobody.
    #[error("a quorum of {size} cannot be formed of {voters} voting members")]
    QuorumImpossible {
        /// The size asked for.
        size: usize,
        /// Members that vote.
        voters: usize,
    },
    /// α must be at least 1.
    #[error("alpha must be at least 1")]
    AlphaZero,
}

impl Membership {
    /// α where nothing else is said: a change comes into force 64 slots after it was chosen.
    pub const ALPHA_DEFAULT: u64 = 64;

    /// Voters by id and address, majorities, the default α.
    ///
    /// # Errors
    ///
    /// [`MembershipError::NoVoter`] if there are none.
    pub fn voters<A: Into<String>>(
        voters: impl IntoIterator<Item = (NodeId, A)>,
    ) -> Result<Self, MembershipError> {
        let members = voters
            .into_iter()
            .map(|(id, address)| (id, Member { kind: MemberKind::Voter, address: address.into() }))
            .collect();
        Self::new(members, Self::ALPHA_DEFAULT)
    }

    /// Members of any kind with majorities as quorums.
    ///
    /// # Errors
    ///
    /// As [`Membership::with_quorums`].
    pub fn new(members: BTreeMap<NodeId, Member>, alpha: u64) -> Result<Self, MembershipError> {
        let majority = members.values().filter(|member| member.kind != MemberKind::Observer).count() / 2 + 1;
        Self::with_quorums(members, alpha, majority, majority)
    }

    /// Members with flexible quorum sizes (*Flexible Paxos*, Howard et al. 2016): any phase-1 quorum must meet any
    /// phase-2 quorum.
    ///
    /// # Errors
    ///
    /// [`MembershipError`] if nobody votes, a quorum cannot be formed, two quorums need not meet, or α is zero.
    pub fn with_quorums(
        members: BTreeMap<NodeId, Member>,
        alpha: u64,
        phase1_quorum: usize,
        phase2_quorum: usize,
    ) -> Result<Self, MembershipError> {
        let membership = Self { members, alpha, phase1_quorum, phase2_quorum };
        membership.check()?;
        Ok(membership)
    }

    /// Whether quorums can be formed and must meet. A membership that came over the wire or from disk is checked
    /// before it is believed.
    ///
    /// # Errors
    ///
    /// As [`Membership::with_quorums`].
    pub fn check(&self) -> Result<(), MembershipError> {
        let voters = self.voting().count();
        if !self.members.values().any(|member| member.kind == MemberKind::Voter) {
            return Err(MembershipError::NoVoter);
        }
        if self.alpha == 0 {
            return Err(MembershipError::AlphaZero);
        }
        for size in [self.phase1_quorum, self.phase2_quorum] {
            if size == 0 || size > voters {
                return Err(MembershipError::QuorumImpossible { size, voters });
            }
        }
        if self.phase1_quorum + self.phase2_quorum <= voters {
            return Err(MembershipError::QuorumsDoNotMeet {
                phase1: self.phase1_quorum,
                phase2: self.phase2_quorum,
                voters,
            });
        }
        Ok(())
    }

    /// Every member with what it does and where it is, by id.
    pub fn members(&self) -> &BTreeMap<NodeId, Member> {
        &self.members
    }

    /// The nodes that count in quorums: voters and witnesses.
    pub fn voting(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.members.iter().filter(|(_, member)| member.kind != MemberKind::Observer).map(|(id, _)| *id)
    }

    /// Whether `node` counts in quorums.
    pub fn votes(&self, node: NodeId) -> bool {
        self.members.get(&node).is_some_and(|member| member.kind != MemberKind::Observer)
    }

    /// Whether `node` may lead: a voter, not a witness.
    pub fn may_lead(&self, node: NodeId) -> bool {
        self.members.get(&node).is_some_and(|member| member.kind == MemberKind::Voter)
    }

    /// How far above its own slot a membership comes into force, and how many slots may be open.
    pub fn alpha(&self) -> u64 {
        self.alpha
    }

    /// Whether the voting members among `nodes` are a phase-1 quorum.
    pub fn is_phase1_quorum(&self, nodes: &BTreeSet<NodeId>) -> bool {
        self.count(nodes) >= self.phase1_quorum
    }

    /// Whether the voting members among `nodes` are a phase-2 quorum.
    pub fn is_phase2_quorum(&self, nodes: &BTreeSet<NodeId>) -> bool {
        self.count(nodes) >= self.phase2_quorum
    }

    fn count(&self, nodes: &BTreeSet<NodeId>) -> usize {
        nodes.iter().filter(|node| self.votes(**node)).count()
    }
}

/// For every slot, the membership that governs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Memberships {
    /// By the first slot that each governs; the first key is the lowest slot that can be judged.
    by_first_slot: BTreeMap<Slot, Membership>,
}

impl Memberships {
    /// The membership of the bootstrap, which governs from the first slot on.
    pub fn bootstrap(membership: Membership) -> Self {
        Self { by_first_slot: BTreeMap::from([(Slot::FIRST, membership)]) }
    }

    /// The membership that governs `slot`.
    pub fn governing(&self, slot: Slot) -> Option<&Membership> {
        self.by_first_slot.range(..=slot).next_back().map(|(_, membership)| membership)
    }

    /// The first slot that each membership governs.
    pub(super) fn first_slots(&self) -> impl Iterator<Item = Slot> + '_ {
        self.by_first_slot.keys().copied()
    }

    /// The newest one, in force or not: its addresses are the ones to call.
    pub fn newest(&self) -> Option<&Membership> {
        self.by_first_slot.values().next_back()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn witnesses_count_in_quorums_and_observers_do_not() {
        let kinds = [MemberKind::Voter, MemberKind::Witness, MemberKind::Witness, MemberKind::Observer];
        let members =
            (1..).zip(kinds).map(|(node, kind)| (NodeId::new(node), Member { kind, address: String::new() }));
        let membership = Membership::new(members.collect(), 64).unwrap();
        let set = |nodes: &[u64]| nodes.iter().map(|node| NodeId::new(*node)).collect();
        assert!(membership.is_phase2_quorum(&set(&[1, 2])));
        assert!(!membership.is_phase2_quorum(&set(&[1, 4])));
        assert!(membership.may_lead(NodeId::new(1)) && !membership.may_lead(NodeId::new(2)));
    }

    #[test]
    fn witnesses_alone_are_no_membership() {
        let witness = Member { kind: MemberKind::Witness, address: String::new() };
        let members = BTreeMap::from([(NodeId::new(1), witness)]);
        assert_eq!(Membership::new(members, 64), Err(MembershipError::NoVoter));
    }

    #[test]
    fn no_membership_governs_below_the_first_slot() {
        let memberships = Memberships::bootstrap(Membership::voters([(NodeId::new(1), "")]).unwrap());
        assert!(memberships.governing(Slot::ZERO).is_none());
        assert!(memberships.governing(Slot::FIRST).is_some() && memberships.governing(Slot::MAX).is_some());
    }
}
