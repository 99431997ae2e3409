//! The pulse: how a leader says that it is alive, and learns whether a quorum hears it (protocol 8.2, 8.3).

use super::View;
use crate::multi::{Effect, Message, Slot, Time};
use crate::paxos::{NodeId, ProposalId};
use std::collections::{BTreeMap, BTreeSet};

/// A leader's heartbeats under one id.
#[derive(Debug)]
pub(super) struct Pulse {
    id: ProposalId,
    count: u64,
    next: Time,
    answered: BTreeMap<NodeId, Time>,
}

impl Pulse {
    /// Begins at once; every voter counts as heard now, and has two windows to answer.
    pub(super) fn new(now: Time, id: ProposalId, view: &View) -> Self {
        let answered = view.voters().into_iter().map(|voter| (voter, now)).collect();
        Self { id, count: 0, next: now, answered }
    }

    pub(super) fn id(&self) -> ProposalId {
        self.id
    }

    /// When the next heartbeat leaves.
    pub(super) fn due(&self) -> Time {
        self.next
    }

    /// Speaks to a peer that has just connected without waiting.
    pub(super) fn hurry(&mut self, now: Time) {
        self.next = now;
    }

    pub(super) fn answered(&mut self, now: Time, from: NodeId) {
        self.answered.insert(from, now);
    }

    /// Whether a phase-2 quorum, this node included, answered within two windows (8.2).
    pub(super) fn has_contact(&self, now: Time, view: &View) -> bool {
        let patience = view.timing.liveness_window * 2;
        let heard: BTreeSet<NodeId> = self
            .answered
            .iter()
            .filter(|(node, at)| **node == view.me || now.since(**at) < patience)
            .map(|(node, _)| *node)
            .collect();
        view.governing().is_some_and(|membership| membership.is_phase2_quorum(&heard))
    }

    /// One heartbeat to every voter and everybody who is connected, if it is time; none while `silent` (8.3).
    pub(super) fn beat(
        &mut self,
        now: Time,
        watermark: Slot,
        silent: bool,
        view: &View,
        out: &mut Vec<Effect>,
    ) {
        if now < self.next {
            return;
        }
        self.next = now + view.timing.heartbeat;
        if silent {
            return;
        }
        self.count += 1;
        let peers: BTreeSet<NodeId> = view.voters().into_iter().chain(view.links.iter().copied()).collect();
        for to in peers.into_iter().filter(|peer| *peer != view.me) {
            let message = Message::Heartbeat { id: self.id, watermark, pulse: self.count };
            out.push(Effect::Send { to, message, after: None });
        }
    }
}
