//! Arrivals: what the transport brought goes to its role; the connections of each peer are counted.

use super::heartbeat::HeartbeatActor;
use crate::multi::{AcceptorInput, Local, node};
use crate::node::StateMachine;
use crate::paxos::NodeId;
use crate::transport::{Arrival, GroupId};
use futures::StreamExt;
use std::task::{Context as Task, Poll};

/// Arrivals that are brought to their role before others have their turn.
const ARRIVALS_PER_TURN: usize = 256;

impl<S: StateMachine> HeartbeatActor<S> {
    pub(super) fn take_arrivals(&mut self, task: &mut Task<'_>) {
        for _ in 0..ARRIVALS_PER_TURN {
            match self.arrivals.poll_next_unpin(task) {
                Poll::Ready(Some(arrival)) => self.arrive(arrival),
                // The inbox lives as long as the transport; its end is told in another way.
                Poll::Ready(None) | Poll::Pending => return,
            }
        }
        task.waker().wake_by_ref();
    }

    fn arrive(&mut self, arrival: Arrival) {
        match arrival {
            Arrival::Connect { identity, answer } => {
                self.tickets += 1;
                self.admissions.insert(self.tickets, answer);
                let admit = AcceptorInput::Admit { ticket: self.tickets, identity };
                self.desk.wires.pass(Local::Acceptor(admit), None);
            }
            Arrival::LinkUp { peer } => self.link(peer, true),
            Arrival::LinkDown { peer } => self.link(peer, false),
            Arrival::Message { from, envelope, held } => {
                if envelope.group != GroupId::default() || !node::is_well_formed(&envelope.message) {
                    tracing::debug!(node = %self.desk.wires.me(), %from, "drops a malformed message");
                    return;
                }
                if node::is_forged(from, &envelope.message) {
                    let forged = &self.desk.wires.board.forged;
                    forged.set(forged.get().saturating_add(1));
                    tracing::debug!(node = %self.desk.wires.me(), %from, "drops a message in another's name");
                    return;
                }
                self.desk.wires.pass(node::address(from, envelope.message), Some(held));
            }
            Arrival::Refused { peer, refusal } => {
                tracing::warn!(node = %self.desk.wires.me(), from = %peer, %refusal, "was refused by a peer");
                self.desk.wires.pass(Local::Acceptor(AcceptorInput::Refused { peer, refusal }), None);
            }
        }
    }

    /// Counts the connections of a peer: it is there with the first and gone with the last.
    fn link(&mut self, peer: NodeId, up: bool) {
        {
            let mut links = self.desk.wires.board.links.borrow_mut();
            let count = links.entry(peer).or_default();
            let before = *count;
            *count = if up { before + 1 } else { before.saturating_sub(1) };
            let changed = (before == 0) != (*count == 0);
            if *count == 0 {
                links.remove(&peer);
            }
            if !changed {
                return;
            }
        }
        tracing::debug!(node = %self.desk.wires.me(), from = %peer, up, "a link changes");
        node::link(peer, up).into_iter().for_each(|input| self.desk.wires.pass(input, None));
    }
}
