//! Formation: how the first members become a cluster before any of them votes (protocol 9.1).
//!
//! Every initial member hears one disk id, and the same membership, from every other one; then it writes them down, and
//! may vote. A disk that was wiped afterwards can never pass for the one that formed.

use super::identity::DiskId;
use super::membership::Membership;
use super::message::Message;
use super::record::Record;
use crate::paxos::NodeId;
use std::collections::BTreeMap;

/// A bootstrap that has not formed yet.
#[derive(Debug)]
pub(super) struct Formation {
    me: NodeId,
    membership: Membership,
    heard: BTreeMap<NodeId, DiskId>,
}

/// What another member's [`Message::Form`] comes to.
#[derive(Debug, PartialEq)]
pub(super) enum Heard {
    /// It was started with another membership.
    Differs,
    /// Others are missing still.
    Waiting,
    /// Everybody was heard: write this.
    Complete(Record),
}

impl Formation {
    pub(super) fn new(me: NodeId, disk: DiskId, membership: Membership) -> Self {
        Self { me, membership, heard: BTreeMap::from([(me, disk)]) }
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
            return Heard::Differs;
        }
        if self.membership.members().contains_key(&peer) {
            self.heard.insert(peer, disk);
        }
        self.complete().map_or(Heard::Waiting, Heard::Complete)
    }

    /// The record of the formation, once every member was heard.
    pub(super) fn complete(&self) -> Option<Record> {
        let everybody = self.membership.members().keys().all(|node| self.heard.contains_key(node));
        everybody.then(|| Record::Formed { membership: self.membership.clone(), disks: self.heard.clone() })
    }
}
