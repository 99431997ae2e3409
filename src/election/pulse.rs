//! The pulse: how a leader says that it is alive, and learns whether a quorum hears it (protocol 8.2, 8.3).

use super::{News, View};
use crate::multi::{AcceptorInput, Effect, Local, Message, Time};
use crate::paxos::{NodeId, ProposalId};
use std::collections::{BTreeMap, BTreeSet};

/// A leader's heartbeats under one id.
#[derive(Debug)]
pub(super) struct Pulse {
    id: ProposalId,
    count: u64,
    next: Time,
    answered: BTreeMap<NodeId, Time>,
    /// When the newest heartbeats left that asked for a lease.
    sent: BTreeMap<u64, Time>,
    /// When the newest heartbeat left that each voter answered.
    granted: BTreeMap<NodeId, Time>,
}

/// Heartbeats whose answers still grant something.
const SENT_MAX: usize = 256;

impl Pulse {
    /// Begins at once; every voter counts as heard now, and has two windows to answer.
    pub(super) fn new(now: Time, id: ProposalId, view: &View) -> Self {
        let answered = view.voters().into_iter().map(|voter| (voter, now)).collect();
        Self { id, count: 0, next: now, answered, sent: BTreeMap::new(), granted: BTreeMap::new() }
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

    /// `from` answered heartbeat number `count`.
    pub(super) fn answered(&mut self, now: Time, from: NodeId, count: u64) {
        self.answered.insert(from, now);
        if let Some(sent) = self.sent.get(&count) {
            let granted = self.granted.entry(from).or_default();
            *granted = (*granted).max(*sent);
        }
    }

    /// Until when no other leader can have been elected: a lease counts from when the heartbeat left that a set answered
    /// that meets every phase-1 quorum (7.4). A tenth is taken off for clocks that run apart.
    pub(super) fn lease_until(&self, view: &View) -> Option<Time> {
        let (membership, length) = (view.governing()?, view.lease());
        let mut times: Vec<Time> = self.granted.values().copied().collect();
        times.sort_unstable();
        let holds = |since: &Time| {
            let granted = self.granted.iter().filter(|(_, at)| *at >= since).map(|(node, _)| *node).collect();
            membership.meets_every_phase1_quorum(&granted)
        };
        let since = times.into_iter().rev().find(holds)?;
        (!length.is_zero()).then(|| since + length * 9 / 10)
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
    pub(super) fn beat(&mut self, now: Time, news: News, silent: bool, view: &View, out: &mut Vec<Effect>) {
        if now < self.next {
            return;
        }
        self.next = now + view.timing.heartbeat;
        if silent {
            return;
        }
        self.count += 1;
        let News { watermark, held_through, lease } = news;
        let lease = lease && !view.lease().is_zero();
        if lease {
            self.sent.insert(self.count, now);
        }
        if self.sent.len() > SENT_MAX {
            self.sent.pop_first();
        }
        let message = Message::Heartbeat { id: self.id, watermark, held_through, pulse: self.count, lease };
        // The own acceptor answers, and grants a lease, like any other.
        let heard = AcceptorInput::Message { from: view.me, message: message.clone() };
        out.push(Effect::Local(Local::Acceptor(heard)));
        let peers: BTreeSet<NodeId> = view.voters().into_iter().chain(view.links.iter().copied()).collect();
        for to in peers.into_iter().filter(|peer| *peer != view.me) {
            out.push(Effect::Send { to, message: message.clone(), after: None });
        }
    }
}
