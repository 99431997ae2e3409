//! Formation: how the first members become a cluster before any of them votes (protocol 9.1).
//!
//! Every initial member hears one disk id, and the same membership, from every other one; then it writes them down, and
//! may vote. A disk that was wiped afterwards can never pass for the one that formed.

use super::identity::DiskId;
use super::membership::Membership;
use super::message::Message;
use super::record::Record;
use crate::paxos::NodeId;
use std::collections::{BTreeMap, BTreeSet};

/// A bootstrap that has not formed yet.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Formation {
    me: NodeId,
    membership: Membership,
    heard: BTreeMap<NodeId, DiskId>,
    /// Members that were started with another membership, or belong to another cluster.
    differing: BTreeSet<NodeId>,
}

/// What another member's [`Message::Form`] comes to.
#[derive(Debug, PartialEq)]
pub(super) enum Heard {
    /// It was started with another membership; whether by now more than half of the others were.
    Differs { outvoted: bool },
    /// Others are missing still.
    Waiting,
    /// Everybody was heard: write this.
    Complete(Record),
}

impl Formation {
    pub(super) fn new(me: NodeId, disk: DiskId, membership: Membership) -> Self {
        Self { me, membership, heard: BTreeMap::from([(me, disk)]), differing: BTreeSet::new() }
    }

    /// What to tell `peer`.
    pub(super) fn form_for(&self, peer: NodeId, disk: DiskId) -> Message {
        Message::Form { membership: self.membership.clone(), disk, yours: self.heard.get(&peer).copied() }
    }

    /// Every other member.
    pub(super) fn others(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.membership.members().keys().copied().filter(|node| *node != self.me)
    }

    /// Takes what `peer` says of itself. A disk heard before is replaced: until everybody was heard, nobody has voted.
    pub(super) fn hear(&mut self, peer: NodeId, membership: &Membership, disk: DiskId) -> Heard {
        if *membership != self.membership {
            return Heard::Differs { outvoted: self.differs(peer) };
        }
        self.differing.remove(&peer);
        if self.membership.members().contains_key(&peer) {
            self.heard.insert(peer, disk);
        }
        self.complete().map_or(Heard::Waiting, Heard::Complete)
    }

    /// `peer` does not belong to what this node was started for; whether more than half of the other members do not.
    pub(super) fn differs(&mut self, peer: NodeId) -> bool {
        if self.membership.members().contains_key(&peer) {
            self.differing.insert(peer);
        }
        let differing = self.others().filter(|node| self.differing.contains(node)).count();
        differing * 2 > self.others().count()
    }

    /// The record of the formation, once every member was heard.
    pub(super) fn complete(&self) -> Option<Record> {
        let everybody = self.membership.members().keys().all(|node| self.heard.contains_key(node));
        everybody.then(|| Record::Formed { membership: self.membership.clone(), disks: self.heard.clone() })
    }
}
