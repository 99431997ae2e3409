//! Membership: who votes in which slot (protocol 6, Lamport's α).
//!
//! A membership chosen at slot *s* governs the slots above *s* + α. [`Memberships`] knows, for every slot that can still
//! be judged, the one that governs it: it is folded from what is learned, in slot order.

use super::slot::Slot;
use crate::paxos::NodeId;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

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

impl fmt::Display for MemberKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Voter => "voter",
            Self::Witness => "witness",
            Self::Observer => "observer",
        })
    }
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
    sessions_max: u32,
    lease_ms: u64,
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
    /// More members than [`Membership::MEMBERS_MAX`], or an address longer than [`Membership::ADDRESS_BYTES_MAX`].
    #[error("a membership holds at most {members} members with addresses of at most {bytes} bytes", members = Membership::MEMBERS_MAX, bytes = Membership::ADDRESS_BYTES_MAX)]
    TooLarge,
}

impl Membership {
    /// α where nothing else is said: a change comes into force 64 slots after it was chosen.
    pub const ALPHA_DEFAULT: u64 = 64;
    /// Clients' sessions that are remembered where nothing else is said (12.4).
    pub const SESSIONS_MAX_DEFAULT: u32 = 1000;
    /// The most members.
    pub const MEMBERS_MAX: usize = 256;
    /// The longest address.
    pub const ADDRESS_BYTES_MAX: usize = 256;

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
        let (sessions_max, lease_ms) = (Self::SESSIONS_MAX_DEFAULT, 0);
        let membership = Self { members, alpha, phase1_quorum, phase2_quorum, sessions_max, lease_ms };
        membership.check()?;
        Ok(membership)
    }

    /// As this one, with another α: a constant of the cluster, fixed at the bootstrap.
    ///
    /// # Errors
    ///
    /// [`MembershipError::AlphaZero`].
    pub fn with_alpha(self, alpha: u64) -> Result<Self, MembershipError> {
        let membership = Self { alpha, ..self };
        membership.check()?;
        Ok(membership)
    }

    /// As this one, remembering so many clients' sessions; beyond it the one that was used longest ago expires (12.4).
    #[must_use]
    pub fn with_sessions_max(self, sessions_max: u32) -> Self {
        Self { sessions_max: sessions_max.max(1), ..self }
    }

    /// As this one, with leases: a voter that hears the leader promises nobody else for so long, also after a restart
    /// (7.4), so the leader may serve reads by its clock alone. Zero, the default, means no leases. A constant of the
    /// cluster, fixed at the bootstrap. In whole milliseconds.
    #[must_use]
    pub fn with_lease(self, lease: Duration) -> Self {
        Self { lease_ms: u64::try_from(lease.as_millis()).unwrap_or(u64::MAX), ..self }
    }

    /// Other members under the same constants. Majorities stay majorities; flexible sizes keep the phase-2 quorum as far as
    /// that is possible, and the phase-1 quorum grows or shrinks so that both meet.
    ///
    /// # Errors
    ///
    /// As [`Membership::with_quorums`].
    pub fn with_members(&self, members: BTreeMap<NodeId, Member>) -> Result<Self, MembershipError> {
        let before = self.voting().count();
        let after = members.values().filter(|member| member.kind != MemberKind::Observer).count();
        let majority = before / 2 + 1;
        let (phase1_quorum, phase2_quorum) =
            if (self.phase1_quorum, self.phase2_quorum) == (majority, majority) {
                (after / 2 + 1, after / 2 + 1)
            } else {
                let phase2 = self.phase2_quorum.min(after);
                ((after + 1).saturating_sub(phase2), phase2)
            };
        let membership = Self { members, phase1_quorum, phase2_quorum, ..self.clone() };
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
        let longest = self.members.values().map(|member| member.address.len()).max().unwrap_or(0);
        if self.members.len() > Self::MEMBERS_MAX || longest > Self::ADDRESS_BYTES_MAX {
            return Err(MembershipError::TooLarge);
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

    /// Whether the voting members among `nodes`, which are all different, are a phase-2 quorum.
    pub fn is_phase2_quorum<'a>(&self, nodes: impl IntoIterator<Item = &'a NodeId>) -> bool {
        self.count(nodes) >= self.phase2_quorum
    }

    /// Whether every phase-1 quorum has a member among `nodes`: then no later leader can miss what they hold (6.5).
    pub fn meets_every_phase1_quorum(&self, nodes: &BTreeSet<NodeId>) -> bool {
        self.voting().count() < self.count(nodes) + self.phase1_quorum
    }

    /// Whether every phase-2 quorum has a member among `nodes`.
    pub fn meets_every_phase2_quorum(&self, nodes: &BTreeSet<NodeId>) -> bool {
        self.voting().count() < self.count(nodes) + self.phase2_quorum
    }

    /// The sizes of a phase-1 and of a phase-2 quorum.
    pub fn quorums(&self) -> (usize, usize) {
        (self.phase1_quorum, self.phase2_quorum)
    }

    /// How many clients' sessions are remembered (12.4).
    pub fn sessions_max(&self) -> u32 {
        self.sessions_max
    }

    /// For how long a voter that hears the leader promises nobody else (7.4); zero means that there are no leases.
    pub fn lease(&self) -> Duration {
        Duration::from_millis(self.lease_ms)
    }

    /// Whether `other` has the same α, lease and count of sessions, which never change.
    pub fn has_constants_of(&self, other: &Self) -> bool {
        let constants = |of: &Self| (of.alpha, of.lease_ms, of.sessions_max);
        constants(self) == constants(other)
    }

    /// How many of `nodes`, which are all different, vote.
    fn count<'a>(&self, nodes: impl IntoIterator<Item = &'a NodeId>) -> usize {
        nodes.into_iter().filter(|node| self.votes(**node)).count()
    }
}

/// For every slot that can still be judged, the membership that governs it; and the ids that were members once.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Memberships {
    /// By the first slot that each governs; the first key is the lowest slot that can be judged.
    by_first_slot: BTreeMap<Slot, Membership>,
    /// Left out by a membership that governs from this slot on: never given to a node again (6.5).
    retired: BTreeMap<NodeId, Slot>,
}

impl Memberships {
    /// The most ids that can be retired; then nothing more can be removed.
    pub const RETIRED_MAX: usize = 65_536;

    /// The membership of the bootstrap, which governs from the first slot on.
    pub fn bootstrap(membership: Membership) -> Self {
        Self::from_slot(Slot::FIRST, membership)
    }

    /// `membership` governs from `first` on, whatever stood before: for a forced membership (10.2).
    pub fn from_slot(first: Slot, membership: Membership) -> Self {
        Self { by_first_slot: BTreeMap::from([(first, membership)]), retired: BTreeMap::new() }
    }

    /// `membership` governs from `first` on in place of all that were known, and whoever it leaves out is retired: for a
    /// forced membership (10.2).
    #[must_use]
    pub fn alone_from(&self, first: Slot, membership: Membership) -> Self {
        let known = self.by_first_slot.values().flat_map(|known| known.members().keys().copied());
        let mut retired = self.retired.clone();
        for node in known {
            retired.entry(node).or_insert(first);
        }
        retired.retain(|node, _| !membership.members().contains_key(node));
        Self { retired, ..Self::from_slot(first, membership) }
    }

    /// `membership` was learned at `slot`, after all slots below: it governs the slots above `slot` + α (6.1). A repeat
    /// changes nothing.
    pub fn learn(&mut self, slot: Slot, membership: &Membership) {
        let Some(alpha) = self.governing(slot).map(Membership::alpha) else { return };
        let first = slot.plus(alpha).next();
        if self.by_first_slot.contains_key(&first) {
            return;
        }
        if let Some(newest) = self.newest() {
            let left_out = newest.members().keys().filter(|node| !membership.members().contains_key(*node));
            let left_out: Vec<NodeId> = left_out.copied().collect();
            for node in left_out {
                self.retired.entry(node).or_insert(first);
            }
        }
        self.by_first_slot.insert(first, membership.clone());
    }

    /// What was known when every slot through `through` was learned, and nothing above: what a snapshot there holds (5.1).
    #[must_use]
    pub fn as_of(&self, through: Slot) -> Self {
        let mut known = self.clone();
        let next = through.next();
        let alpha = self.governing(next).map_or(0, Membership::alpha);
        // The lowest stays, also where a forced one governs only later slots.
        let lowest = self.by_first_slot.keys().next().copied();
        let last = through.plus(alpha).next();
        known.by_first_slot.retain(|first, _| *first <= last || Some(*first) == lowest);
        known.retired.retain(|_, first| *first <= last || Some(*first) == lowest);
        known.forget_below(next);
        known
    }

    /// Forgets the memberships that govern no slot from `slot` on.
    pub fn forget_below(&mut self, slot: Slot) {
        let governing = self.by_first_slot.range(..=slot).next_back().map(|(first, _)| *first);
        if let Some(governing) = governing {
            self.by_first_slot = self.by_first_slot.split_off(&governing);
        }
    }

    /// The membership that governs `slot`.
    pub fn governing(&self, slot: Slot) -> Option<&Membership> {
        self.governing_entry(slot).map(|(_, membership)| membership)
    }

    fn governing_entry(&self, slot: Slot) -> Option<(&Slot, &Membership)> {
        // Nearly always it is the newest, which is found without a search.
        let newest = self.by_first_slot.last_key_value().filter(|(first, _)| **first <= slot);
        newest.or_else(|| self.by_first_slot.range(..=slot).next_back())
    }

    /// The first slot that the newest one governs, if that is above `slot`: it is chosen and not yet in force there.
    pub fn coming(&self, slot: Slot) -> Option<Slot> {
        self.by_first_slot.last_key_value().map(|(first, _)| *first).filter(|first| *first > slot)
    }

    /// The memberships that govern any of the slots from `first` to `last`.
    pub fn governing_any(&self, first: Slot, last: Slot) -> impl Iterator<Item = &Membership> + '_ {
        let start = self.by_first_slot.range(..=first).next_back().map_or(first, |(start, _)| *start);
        self.by_first_slot.range(start..=last.max(start)).map(|(_, membership)| membership)
    }

    /// The first slot that the membership which governs `slot` governs.
    pub fn governs_from(&self, slot: Slot) -> Slot {
        self.governing_entry(slot).map_or(Slot::FIRST, |(first, _)| *first)
    }

    /// The first slot that each membership governs.
    pub(super) fn first_slots(&self) -> impl Iterator<Item = Slot> + '_ {
        self.by_first_slot.keys().copied()
    }

    /// The newest one, in force or not: its addresses are the ones to call.
    pub fn newest(&self) -> Option<&Membership> {
        self.by_first_slot.last_key_value().map(|(_, membership)| membership)
    }

    /// The first slot that the newest one governs.
    pub fn newest_from(&self) -> Option<Slot> {
        self.by_first_slot.last_key_value().map(|(first, _)| *first)
    }

    /// The ids that were members once, each with the first slot that a membership without it governs.
    pub fn retired(&self) -> &BTreeMap<NodeId, Slot> {
        &self.retired
    }

    /// Whether each membership is coherent: what came over the wire or from disk is checked before it is believed.
    pub fn is_well_formed(&self) -> bool {
        !self.by_first_slot.is_empty()
            && self.retired.len() <= Self::RETIRED_MAX
            && self.by_first_slot.values().all(|membership| membership.check().is_ok())
    }

    /// The bytes that it takes on the wire, about.
    pub fn size(&self) -> usize {
        let members = self.by_first_slot.values().flat_map(|membership| membership.members().values());
        members.map(|member| member.address.len() + 32).sum::<usize>() + self.retired.len() * 18 + 64
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
        let set = |nodes: &[u64]| nodes.iter().map(|node| NodeId::new(*node)).collect::<Vec<_>>();
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

    fn three() -> Membership {
        Membership::voters((1..=3).map(|node| (NodeId::new(node), ""))).unwrap().with_alpha(4).unwrap()
    }

    fn without(membership: &Membership, node: u64) -> Membership {
        let mut members = membership.members().clone();
        members.remove(&NodeId::new(node));
        membership.with_members(members).unwrap()
    }

    // protocol 6.1
    #[test]
    fn a_membership_governs_from_above_its_slot_plus_alpha() {
        let mut memberships = Memberships::bootstrap(three());
        let two = without(&three(), 3);
        memberships.learn(Slot::new(10), &two);
        assert_eq!(memberships.governing(Slot::new(14)), Some(&three()));
        assert_eq!(memberships.governing(Slot::new(15)), Some(&two));
        assert_eq!(memberships.coming(Slot::new(14)), Some(Slot::new(15)));
        assert_eq!(memberships.coming(Slot::new(15)), None);
        assert_eq!(*memberships.retired(), BTreeMap::from([(NodeId::new(3), Slot::new(15))]));
    }

    // protocol 5.1
    #[test]
    fn a_snapshot_knows_the_memberships_that_were_learned_before_it_and_still_govern() {
        let mut memberships = Memberships::bootstrap(three());
        memberships.learn(Slot::new(10), &without(&three(), 3));
        memberships.learn(Slot::new(20), &without(&three(), 2));
        let before = memberships.as_of(Slot::new(9));
        assert_eq!(before.governing(Slot::new(99)), Some(&three()));
        let between = memberships.as_of(Slot::new(12));
        assert_eq!(between.governing(Slot::new(13)), Some(&three()));
        assert_eq!(between.newest(), Some(&without(&three(), 3)));
        let after = memberships.as_of(Slot::new(19));
        assert_eq!(after.governing(Slot::new(14)), None, "what governs no later slot is forgotten");
        assert_eq!(after.newest(), Some(&without(&three(), 3)));
    }

    // protocol 5.1, 6.5: a node that begins there must not take itself for removed before its part is done.
    #[test]
    fn a_snapshot_does_not_call_a_node_retired_that_only_a_later_membership_leaves_out() {
        let mut memberships = Memberships::bootstrap(three());
        memberships.learn(Slot::new(10), &without(&three(), 3));
        memberships.learn(Slot::new(20), &without(&without(&three(), 3), 2));
        let retired = |through| memberships.as_of(Slot::new(through)).retired().keys().copied().collect();
        let (none, first): (Vec<NodeId>, Vec<NodeId>) = (retired(9), retired(19));
        assert_eq!((none, first), (vec![], vec![NodeId::new(3)]));
    }

    // 6.1: a learner that delivers what the acceptor has folded already learns each membership a second time.
    #[test]
    fn a_membership_that_is_learned_again_retires_nobody_who_came_later() {
        let mut memberships = Memberships::bootstrap(without(&three(), 3));
        memberships.learn(Slot::new(10), &without(&three(), 2));
        memberships.learn(Slot::new(20), &three());
        let before = memberships.clone();
        memberships.learn(Slot::new(10), &without(&three(), 2));
        assert_eq!(memberships, before);
    }

    #[test]
    fn flexible_sizes_still_meet_after_a_member_came_or_went() {
        let members = |nodes: u64| {
            let member = Member { kind: MemberKind::Voter, address: String::new() };
            (1..=nodes).map(|node| (NodeId::new(node), member.clone())).collect::<BTreeMap<_, _>>()
        };
        let flexible = Membership::with_quorums(members(5), 64, 4, 2).unwrap();
        assert_eq!(flexible.with_members(members(6)).unwrap().quorums(), (5, 2));
        assert_eq!(flexible.with_members(members(1)).unwrap().quorums(), (1, 1));
        assert_eq!(three().with_members(members(4)).unwrap().quorums(), (3, 3));
    }

    #[test]
    fn a_set_meets_every_phase_1_quorum_when_those_outside_it_are_too_few_for_one() {
        let set = |nodes: &[u64]| nodes.iter().map(|node| NodeId::new(*node)).collect();
        assert!(!three().meets_every_phase1_quorum(&set(&[1])));
        assert!(three().meets_every_phase1_quorum(&set(&[1, 2])));
        assert!(!three().meets_every_phase1_quorum(&set(&[1, 9])));
    }
}
