//! The kind: whether the membership gives this node the part that it was started for.
//!
//! A witness holds no state and forgets what enough full nodes hold (protocol 4.3), so it must not pass for one of them, nor
//! lead: where a membership names it a voter, it does not run. The other way round nothing can be lost: a full node that is
//! named a witness applies all the same, and an operator hears of it.

use crate::multi::{MemberKind, Membership, Memberships, Slot};
use crate::node::Config;
use crate::paxos::NodeId;
use crate::storage::Recovered;

/// What a witness is in one of the memberships that govern a slot above `chosen_through`, or will, if it may not be that.
pub(super) fn forbids_witness(
    node: NodeId,
    memberships: &Memberships,
    chosen_through: Slot,
) -> Option<MemberKind> {
    let mut governing = memberships.governing_any(chosen_through.next(), Slot::MAX);
    governing.any(|membership| membership.may_lead(node)).then_some(MemberKind::Voter)
}

/// The same, of what a storage holds.
pub(super) fn forbids_restart(node: NodeId, recovered: &Recovered) -> Option<MemberKind> {
    let log = &recovered.log;
    match (log.memberships(), &recovered.bootstrap) {
        (Some(memberships), _) => forbids_witness(node, memberships, log.chosen_through()),
        (None, Some(membership)) => membership.may_lead(node).then_some(MemberKind::Voter),
        (None, None) => None,
    }
}

/// Tells an operator where the membership and the configuration differ, though the node goes on.
pub(super) fn warn_of_differences(config: &Config, witness: bool, membership: &Membership) {
    let node = config.owner.node;
    let Some(member) = membership.members().get(&node) else { return };
    if !witness && member.kind == MemberKind::Witness {
        tracing::warn!(%node, "is a witness by the membership, so it never leads, but holds a state all the same");
    }
    if !config.address.is_empty() && config.address != member.address {
        let (known, own) = (&member.address, &config.address);
        tracing::warn!(%node, known, own, "is called at another address than its own; change its entry");
    }
}
