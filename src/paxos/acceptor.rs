//! The acceptor: the memory of Paxos.
//!
//! In: `Prepare`, `Accept`. Out: `Promise`, `Accepted`, `Nack`.
//! Durable: the promised id and the accepted proposal, before any answer leaves this node.
//! Invariants: A1 `promised` never goes down. A2 `accepted.id <= promised`. A3 one value per id.
//! Knows nothing of: quorums, other acceptors, time.

use super::{Message, ProposalId, Step};
use serde::{Deserialize, Serialize};

/// Promises not to look back, and remembers what it accepted (*Paxos Made Simple*, section 2.2).
///
/// It answers whoever asks, whether or not the asker is of its cluster's acceptors: only counting looks at quorums.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Acceptor<V> {
    state: AcceptorState<V>,
}

/// All that an acceptor knows. It is what a [`Step`] of the acceptor writes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct AcceptorState<V> {
    /// Nothing below this id is accepted any more.
    pub promised: Option<ProposalId>,
    /// The proposal with the highest id that was accepted: id and value are one field, for they are true together only.
    pub accepted: Option<(ProposalId, V)>,
}

impl<V> Default for AcceptorState<V> {
    fn default() -> Self {
        Self { promised: None, accepted: None }
    }
}

impl<V> Default for Acceptor<V> {
    /// An acceptor that never promised anything. For a node that did, [`recover`](Self::recover) it.
    fn default() -> Self {
        Self::recover(AcceptorState::default())
    }
}

impl<V> Acceptor<V> {
    /// The acceptor as it was when `state`, the newest durable one, was written.
    pub const fn recover(state: AcceptorState<V>) -> Self {
        Self { state }
    }

    /// What it has promised and accepted.
    pub const fn state(&self) -> &AcceptorState<V> {
        &self.state
    }
}

impl<V: Clone + PartialEq> Acceptor<V> {
    /// Phase 1b: promises `id` and reports the proposal accepted last, if any.
    ///
    /// Answers `Nack` if a higher id was promised. A repeated `Prepare` gets the same answer again, so a lost reply
    /// costs only a resend. Keeps A1, on which P1a of *Paxos Made Simple* (section 2.2) rests.
    #[doc(alias = "phase 1b")]
    pub fn on_prepare(&mut self, id: ProposalId) -> Step<AcceptorState<V>, Option<Message<V>>> {
        if let Some(nack) = self.nack_below_promise(id) {
            return Step::send(Some(nack));
        }
        let promise = Some(Message::Promise { id, accepted: self.state.accepted.clone() });
        if self.state.promised == Some(id) {
            return Step::send(promise);
        }
        self.state.promised = Some(id);
        Step::write_then_send(self.state.clone(), promise)
    }

    /// Phase 2b: accepts `value` under `id`, and thereby promises `id` too (A2).
    ///
    /// Answers `Nack` if a higher id was promised. A repeated `Accept` gets the same answer again. A *second* value under
    /// an id that was accepted, which no correct proposer sends, is neither accepted nor answered (A3). P1a of *Paxos
    /// Made Simple* (section 2.2): an acceptor accepts unless it has promised not to; no promise to this proposer is needed.
    #[doc(alias = "phase 2b")]
    pub fn on_accept(&mut self, id: ProposalId, value: V) -> Step<AcceptorState<V>, Option<Message<V>>> {
        if let Some(nack) = self.nack_below_promise(id) {
            return Step::send(Some(nack));
        }
        let accepted = Some(Message::Accepted { id, value: value.clone() });
        match &self.state.accepted {
            Some((last, first_value)) if *last == id && *first_value != value => Step::nothing(),
            Some((last, _)) if *last == id => Step::send(accepted),
            _ => {
                self.state = AcceptorState { promised: Some(id), accepted: Some((id, value)) };
                Step::write_then_send(self.state.clone(), accepted)
            }
        }
    }

    fn nack_below_promise(&self, id: ProposalId) -> Option<Message<V>> {
        self.state.promised.filter(|promised| id < *promised).map(|promised| Message::Nack { id, promised })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::paxos::NodeId;

    fn id(number: u64, node: u64) -> ProposalId {
        ProposalId::new(number, NodeId::new(node))
    }

    #[test]
    fn a_promise_is_written_before_it_is_sent() {
        let step = Acceptor::<&str>::default().on_prepare(id(1, 7));
        assert_eq!(step.write, Some(AcceptorState { promised: Some(id(1, 7)), accepted: None }));
        assert_eq!(step.send, Some(Message::Promise { id: id(1, 7), accepted: None }));
    }

    #[test]
    fn an_accepted_proposal_is_written_before_it_is_reported() {
        let step = Acceptor::default().on_accept(id(1, 7), "v");
        let state = AcceptorState { promised: Some(id(1, 7)), accepted: Some((id(1, 7), "v")) };
        assert_eq!(step.write, Some(state));
        assert_eq!(step.send, Some(Message::Accepted { id: id(1, 7), value: "v" }));
    }

    #[test]
    fn a_repeated_prepare_repeats_the_promise() {
        let mut acceptor = Acceptor::<&str>::default();
        let first = acceptor.on_prepare(id(1, 7));
        let again = acceptor.on_prepare(id(1, 7));
        assert_eq!(again.send, first.send);
        assert_eq!(again.write, None, "nothing changed, so nothing to write");
    }

    #[test]
    fn a_repeated_accept_repeats_the_answer() {
        let mut acceptor = Acceptor::default();
        let first = acceptor.on_accept(id(1, 7), "v");
        let again = acceptor.on_accept(id(1, 7), "v");
        assert_eq!(again.send, first.send);
        assert_eq!(again.write, None, "nothing changed, so nothing to write");
    }

    #[test]
    fn accepting_again_above_keeps_the_higher_proposal() {
        let mut acceptor = Acceptor::default();
        let _ = acceptor.on_accept(id(1, 7), "v");
        let _ = acceptor.on_accept(id(2, 8), "w");
        assert_eq!(acceptor.state().accepted, Some((id(2, 8), "w")));
    }

    #[test]
    fn a_refusal_writes_nothing() {
        let mut acceptor = Acceptor::default();
        let _ = acceptor.on_prepare(id(5, 1));
        let nack = Some(Message::Nack { id: id(4, 9), promised: id(5, 1) });
        assert_eq!(acceptor.on_prepare(id(4, 9)), Step::send(nack.clone()));
        assert_eq!(acceptor.on_accept(id(4, 9), "v"), Step::send(nack));
    }

    #[test]
    fn a_second_value_under_one_id_is_neither_accepted_nor_answered() {
        let mut acceptor = Acceptor::default();
        let _ = acceptor.on_accept(id(1, 7), "v");
        assert_eq!(acceptor.on_accept(id(1, 7), "w"), Step::nothing());
        assert_eq!(acceptor.state().accepted, Some((id(1, 7), "v")));
    }

    #[test]
    fn an_acceptor_recovered_from_its_last_write_gives_the_same_answers() {
        let mut before = Acceptor::default();
        let _ = before.on_accept(id(1, 7), "v");
        let state = before.on_prepare(id(5, 1)).write.unwrap();
        let mut after = Acceptor::recover(state);
        for asked in [id(4, 9), id(5, 1), id(6, 2)] {
            assert_eq!(after.on_prepare(asked), before.on_prepare(asked));
        }
    }
}
