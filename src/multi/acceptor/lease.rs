//! Leases: a voter that hears a leader promises nobody else for a while (protocol 7.4).
//!
//! Invariants: E1 while a lease runs nobody but its leader is promised anything. E2 after a restart nobody is, for the
//! length of a lease, since the one that was granted before is forgotten. E3 whoever is granted one is promised its id, so
//! that an earlier leader, who does not know that it was overtaken, cannot take the lease over.
//! Assumes: a clock that runs while the machine is suspended, and no faster than the leader allows for.

use super::Acceptor;
use crate::multi::effect::Effect;
use crate::multi::membership::Membership;
use crate::multi::message::Message;
use crate::multi::record::Sequence;
use crate::multi::slot::Time;
use crate::paxos::{NodeId, ProposalId};
use std::time::Duration;

/// To whom, and until when.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Lease {
    granted: Option<(ProposalId, Time)>,
    /// When this acceptor first looked at the clock.
    started: Option<Time>,
    /// An earlier life of this node, or of this acceptor, may have granted one that is forgotten.
    forgotten: bool,
    /// The write by which the newest one was promised.
    promised_at: Sequence,
}

impl Lease {
    /// `restarted`: this is not the first life of the node.
    pub(super) fn new(restarted: bool) -> Self {
        Self { forgotten: restarted, ..Self::default() }
    }
}

impl Acceptor {
    fn lease_length(&self) -> Duration {
        let next = self.log.chosen_through().next();
        let governing = self.log.memberships().and_then(|memberships| memberships.governing(next));
        governing.map_or(Duration::ZERO, Membership::lease)
    }

    /// The leader under `id`, which is not below the promise, was heard, and asks for a lease. Returns the write that must be
    /// durable before it may count on it.
    pub(super) fn grant(&mut self, now: Time, id: ProposalId, out: &mut Vec<Effect>) -> Option<Sequence> {
        let length = self.lease_length();
        if length.is_zero() || !self.votes() {
            return None;
        }
        if self.log.promised() < Some(id) {
            self.promise(id, out);
            self.lease.promised_at = self.sequence;
        }
        self.lease.granted = Some((id, now + length));
        Some(self.lease.promised_at).filter(|at| *at > self.durable)
    }

    /// Whether `from` has to wait with its `id`, and is told so, since another one holds a lease.
    pub(super) fn is_leased_to_another(
        &mut self,
        now: Time,
        from: NodeId,
        id: ProposalId,
        out: &mut Vec<Effect>,
    ) -> bool {
        let length = self.lease_length();
        if length.is_zero() {
            return false;
        }
        let Some(started) = self.lease.started else { return false };
        let granted = self.lease.granted.filter(|(_, until)| *until > now);
        let waits = match granted {
            Some((leader, _)) => leader.node != from,
            None => now.since(started) < length && self.lease.forgotten,
        };
        if waits {
            let promised = self.log.promised().unwrap_or(id);
            let message = Message::Nack { asked: id, promised };
            out.push(Effect::Send { to: from, message, after: None });
        }
        waits
    }

    /// The clock as it was when this acceptor began.
    pub(super) fn begin_lease(&mut self, now: Time) {
        self.lease.started.get_or_insert(now);
    }
}
