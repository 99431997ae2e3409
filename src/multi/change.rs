//! Changes of the membership and of the leader: what an operator may ask for, and what may become of it (protocol 6.2, 8.5).
//!
//! A change names what it wants; the leader finds the way there. A new voter is made an observer first, so that every
//! node knows its address and it catches up, and then one membership puts all in force at once. Asked for again, a change
//! goes on from where it is.

use super::membership::{Member, MemberKind, Membership, MembershipError, Memberships};
use crate::paxos::NodeId;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// A change of the membership.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Change {
    /// One more node, or another kind or address for one that is there.
    Add {
        /// The node.
        node: NodeId,
        /// What it shall do, and where it is.
        member: Member,
    },
    /// One node less.
    Remove {
        /// The node.
        node: NodeId,
    },
    /// A node in the place of another, which is lost: the way back from a lost disk (10.1).
    Replace {
        /// The node that is lost; its id is never used again.
        lost: NodeId,
        /// The new node.
        node: NodeId,
        /// Where it is. It does what the lost one did.
        address: String,
    },
    /// Any set to any set.
    Set(Membership),
}

/// Why a change is refused.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ChangeRefusal {
    /// One change at a time.
    #[error("another change is under way")]
    InProgress,
    /// The id belonged to a member that was removed.
    #[error("node id {node} was a member once and is never used again")]
    Retired {
        /// The id.
        node: NodeId,
    },
    /// There is no such member.
    #[error("node {node} is no member")]
    NotAMember {
        /// The id.
        node: NodeId,
    },
    /// The membership that would result is not possible: nobody would vote, or quorums need not meet.
    #[error("the membership that would result is not possible: {0}")]
    Impossible(String),
    /// α, the lease and the count of sessions are constants of the cluster.
    #[error("alpha, the lease and the count of sessions are constants of the cluster")]
    OtherConstants,
    /// So many of the new voters do not answer or lag behind that the new membership could not go on.
    #[error("the new membership could not go on: {lagging:?} do not answer, or lag behind")]
    Lagging {
        /// Who.
        lagging: BTreeSet<NodeId>,
    },
    /// The most ids are retired.
    #[error("too many node ids are retired")]
    TooManyRetired,
    /// A witness has no state, and may have forgotten the log that it comes from (4.3): what it is it stays, or goes.
    #[error("node {node} is a witness and holds no state; remove it, and add a new node")]
    Stateless {
        /// The witness.
        node: NodeId,
    },
    /// Only a new node, or an observer, can take another one's place.
    #[error("node {node} votes already, and cannot take the place of another")]
    VotesAlready {
        /// The node.
        node: NodeId,
    },
}

impl From<MembershipError> for ChangeRefusal {
    fn from(error: MembershipError) -> Self {
        Self::Impossible(error.to_string())
    }
}

/// Why the lead is not handed over.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error, Serialize, Deserialize)]
#[non_exhaustive]
pub enum TransferRefusal {
    /// Only a voter can lead.
    #[error("node {node} is no voter")]
    NotAVoter {
        /// The node.
        node: NodeId,
    },
    /// The node does not answer, or is so far behind that the cluster would stand still.
    #[error("node {node} does not answer, or lags behind by {slots} slots")]
    Lags {
        /// The node.
        node: NodeId,
        /// By how much, as far as is known.
        slots: u64,
    },
    /// There is nobody to hand over to.
    #[error("no other voter is near")]
    Nobody,
    /// Another transfer or a change of the membership is under way.
    #[error("another transfer, or a change of the membership, is under way")]
    InProgress,
    /// The node did not take over in time; this one leads on.
    #[error("the node did not take over in time")]
    TimedOut,
}

/// An operator's call.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum AdminCall {
    /// Change the membership.
    Change(Change),
    /// Hand the lead over: to this node, or to whoever is nearest.
    Transfer(Option<NodeId>),
}

impl AdminCall {
    /// The bytes that it takes, about.
    pub fn size(&self) -> usize {
        let of = |membership: &Membership| membership.members().len() * (32 + Membership::ADDRESS_BYTES_MAX);
        match self {
            Self::Change(Change::Set(membership)) => of(membership),
            _ => 64 + Membership::ADDRESS_BYTES_MAX,
        }
    }
}

/// What became of an operator's call.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum AdminOutcome {
    /// The membership is in force.
    Changed(Membership),
    /// The change is refused; nothing was proposed.
    ChangeRefused(ChangeRefusal),
    /// This node leads now.
    Transferred(NodeId),
    /// The lead stays.
    TransferRefused(TransferRefusal),
    /// The asked node does not lead; perhaps this one does. Nothing was done.
    NotLeader(Option<NodeId>),
    /// The leader went while it was at work: it may be done, half done, or not.
    Unknown,
}

impl AdminOutcome {
    /// The bytes that it takes, about.
    pub fn size(&self) -> usize {
        match self {
            Self::Changed(membership) => membership.members().len() * (32 + Membership::ADDRESS_BYTES_MAX),
            Self::ChangeRefused(ChangeRefusal::Lagging { lagging }) => lagging.len() * 9,
            _ => 64,
        }
    }
}

/// The next step on the way to a goal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NextStep {
    /// Propose this.
    Propose(Membership),
    /// Nothing before these have caught up.
    Wait(BTreeSet<NodeId>),
    /// The goal is reached.
    Done,
}

impl Change {
    /// The membership that this change wants, seen from what is in force.
    ///
    /// # Errors
    ///
    /// [`ChangeRefusal`], if it may never be.
    pub(super) fn goal(&self, memberships: &Memberships) -> Result<Membership, ChangeRefusal> {
        let Some(present) = memberships.newest() else { return Err(ChangeRefusal::InProgress) };
        let mut members = present.members().clone();
        let goal = match self {
            Self::Add { node, member } => {
                members.insert(*node, member.clone());
                present.with_members(members)?
            }
            Self::Remove { node } => {
                members.remove(node).ok_or(ChangeRefusal::NotAMember { node: *node })?;
                present.with_members(members)?
            }
            // Asked for again, it is done.
            Self::Replace { lost, node, .. }
                if memberships.retired().contains_key(lost) && present.votes(*node) =>
            {
                present.clone()
            }
            Self::Replace { lost, node, .. } if present.votes(*node) => {
                return Err(ChangeRefusal::VotesAlready { node: *node });
            }
            Self::Replace { lost, node, address } => {
                let kind = members.remove(lost).ok_or(ChangeRefusal::NotAMember { node: *lost })?.kind;
                members.insert(*node, Member { kind, address: address.clone() });
                present.with_members(members)?
            }
            Self::Set(membership) => {
                membership.check()?;
                membership.clone()
            }
        };
        check(&goal, present, memberships)?;
        Ok(goal)
    }
}

/// Whether `goal` may follow `present` (6.1, 6.5).
fn check(goal: &Membership, present: &Membership, memberships: &Memberships) -> Result<(), ChangeRefusal> {
    if !goal.has_constants_of(present) {
        return Err(ChangeRefusal::OtherConstants);
    }
    if let Some(node) = goal.members().keys().find(|node| memberships.retired().contains_key(*node)) {
        return Err(ChangeRefusal::Retired { node: *node });
    }
    let is_witness =
        |node: &NodeId| present.members().get(node).is_some_and(|member| member.kind == MemberKind::Witness);
    let mut others = goal.members().iter().filter(|(_, member)| member.kind != MemberKind::Witness);
    if let Some((node, _)) = others.find(|(node, _)| is_witness(node)) {
        return Err(ChangeRefusal::Stateless { node: *node });
    }
    let left_out = present.members().keys().filter(|node| !goal.members().contains_key(*node)).count();
    if memberships.retired().len() + left_out > Memberships::RETIRED_MAX {
        return Err(ChangeRefusal::TooManyRetired);
    }
    Ok(())
}

/// The next step from `present` to `goal`, where `near` answer and are near: new voters become observers, then all is put in
/// force at once, when quorums of the goal could go on (6.2).
pub(super) fn next_step(present: &Membership, goal: &Membership, near: &BTreeSet<NodeId>) -> NextStep {
    if present == goal {
        return NextStep::Done;
    }
    let is_new = |node: &NodeId| !present.members().contains_key(node);
    let strangers: BTreeMap<NodeId, Member> = goal
        .members()
        .iter()
        .filter(|(node, member)| member.kind != MemberKind::Observer && is_new(node))
        .map(|(node, member)| (*node, Member { kind: MemberKind::Observer, ..member.clone() }))
        .collect();
    if !strangers.is_empty() {
        let mut members = present.members().clone();
        members.extend(strangers);
        // Observers change no quorum.
        if let Ok(step) =
            Membership::with_quorums(members, present.alpha(), present.quorums().0, present.quorums().1)
        {
            let step = step.with_sessions_max(present.sessions_max()).with_lease(present.lease());
            return NextStep::Propose(step);
        }
    }
    let promoted = goal.voting().filter(|node| !present.votes(*node));
    let mut lagging: BTreeSet<NodeId> = promoted.filter(|node| !near.contains(node)).collect();
    let can_go_on = goal.is_phase1_quorum(near) && goal.is_phase2_quorum(near);
    if !can_go_on {
        lagging.extend(goal.voting().filter(|node| !near.contains(node)));
    }
    if lagging.is_empty() { NextStep::Propose(goal.clone()) } else { NextStep::Wait(lagging) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::multi::Slot;

    fn node(id: u64) -> NodeId {
        NodeId::new(id)
    }

    fn set(ids: &[u64]) -> BTreeSet<NodeId> {
        ids.iter().copied().map(NodeId::new).collect()
    }

    fn voter(address: &str) -> Member {
        Member { kind: MemberKind::Voter, address: address.to_owned() }
    }

    fn three() -> Memberships {
        Memberships::bootstrap(Membership::voters((1..=3).map(|id| (node(id), ""))).unwrap())
    }

    #[test]
    fn a_new_voter_is_an_observer_until_it_has_caught_up() {
        let memberships = three();
        let present = memberships.newest().unwrap().clone();
        let goal = Change::Add { node: node(4), member: voter("four") }.goal(&memberships).unwrap();
        let NextStep::Propose(first) = next_step(&present, &goal, &set(&[1, 2, 3])) else { unreachable!() };
        assert_eq!(first.members()[&node(4)], Member { kind: MemberKind::Observer, address: "four".into() });
        assert_eq!(first.quorums(), present.quorums());
        assert_eq!(next_step(&first, &goal, &set(&[1, 2, 3])), NextStep::Wait(set(&[4])));
        assert_eq!(next_step(&first, &goal, &set(&[1, 2, 3, 4])), NextStep::Propose(goal.clone()));
        assert_eq!(next_step(&goal, &goal, &set(&[])), NextStep::Done);
    }

    // protocol 6.2
    #[test]
    fn a_membership_whose_quorums_do_not_answer_is_not_proposed() {
        let memberships = three();
        let present = memberships.newest().unwrap().clone();
        let goal = Change::Remove { node: node(3) }.goal(&memberships).unwrap();
        assert_eq!(next_step(&present, &goal, &set(&[1, 3])), NextStep::Wait(set(&[2])));
        assert_eq!(next_step(&present, &goal, &set(&[1, 2])), NextStep::Propose(goal));
    }

    // protocol 10.1
    #[test]
    fn a_lost_node_is_replaced_in_one_change_and_its_id_is_never_used_again() {
        let mut memberships = three();
        let replace = Change::Replace { lost: node(3), node: node(4), address: "four".into() };
        let goal = replace.goal(&memberships).unwrap();
        assert_eq!(goal.members().keys().copied().collect::<Vec<_>>(), [node(1), node(2), node(4)]);
        memberships.learn(Slot::new(1), &goal);
        assert_eq!(replace.goal(&memberships), Ok(goal), "asked for again, it is done");
        let back = Change::Add { node: node(3), member: voter("") };
        assert_eq!(back.goal(&memberships), Err(ChangeRefusal::Retired { node: node(3) }));
    }

    // protocol 10.1
    #[test]
    fn a_node_that_votes_takes_no_other_place_and_not_its_own_anew() {
        let memberships = three();
        for (lost, taker) in [(3, 2), (3, 3)] {
            let replace = Change::Replace { lost: node(lost), node: node(taker), address: String::new() };
            assert_eq!(replace.goal(&memberships), Err(ChangeRefusal::VotesAlready { node: node(taker) }));
        }
    }

    // protocol 4.3
    #[test]
    fn a_witness_stays_one_or_goes_since_it_holds_no_state() {
        let mut members = three().newest().unwrap().members().clone();
        let member = |kind| Member { kind, address: String::new() };
        members.insert(node(3), member(MemberKind::Witness));
        let memberships = Memberships::bootstrap(Membership::new(members, 64).unwrap());
        for kind in [MemberKind::Voter, MemberKind::Observer] {
            let change = Change::Add { node: node(3), member: member(kind) };
            assert_eq!(change.goal(&memberships), Err(ChangeRefusal::Stateless { node: node(3) }));
        }
        let moved = Member { kind: MemberKind::Witness, address: "elsewhere".into() };
        assert!(Change::Add { node: node(3), member: moved }.goal(&memberships).is_ok());
        assert!(Change::Remove { node: node(3) }.goal(&memberships).is_ok());
    }

    #[test]
    fn the_last_voter_stays_and_quorums_have_to_meet() {
        let one = Memberships::bootstrap(Membership::voters([(node(1), "")]).unwrap());
        let remove = Change::Remove { node: node(1) }.goal(&one);
        assert!(matches!(remove, Err(ChangeRefusal::Impossible(_))));
        let other = Membership::voters([(node(1), "")]).unwrap().with_alpha(3).unwrap();
        assert_eq!(Change::Set(other).goal(&one), Err(ChangeRefusal::OtherConstants));
        let absent = Change::Remove { node: node(9) }.goal(&one);
        assert_eq!(absent, Err(ChangeRefusal::NotAMember { node: node(9) }));
    }
}
