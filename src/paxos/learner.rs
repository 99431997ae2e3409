//! The learner: the ear of Paxos.
//!
//! In: `Accepted`. Out: the chosen value, once.
//! Durable: nothing. What is chosen can be learned again from the acceptors.
//! Invariants: L1 what was learned never changes. L2 it was accepted by a phase-2 quorum under one id.
//! Knows nothing of: proposers, promises, time.

use super::{NodeId, ProposalId, Quorum};
use std::collections::{BTreeMap, BTreeSet};

/// Learns that a value is chosen (*Paxos Made Simple*, section 2.3).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Learner<V> {
    quorum: Quorum,
    state: State<V>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum State<V> {
    /// The newest proposal that each acceptor is known to have accepted.
    Counting(BTreeMap<NodeId, (ProposalId, V)>),
    Chosen(Chosen<V>),
    /// Someone broke the protocol. Nothing is learned any more; what was, stays (L1).
    Violated {
        violation: SafetyViolation,
        chosen: Option<Chosen<V>>,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Chosen<V> {
    id: ProposalId,
    value: V,
    accepted_by: BTreeSet<NodeId>,
}

/// What an `Accepted` taught the learner.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a value is reported as chosen once"]
pub enum Learned<V> {
    /// Nothing that it did not know, or not enough yet.
    NothingNew,
    /// `value` is chosen. Said once.
    #[doc(alias = "decided")]
    #[doc(alias = "committed")]
    #[doc(alias = "resolved")]
    Chosen {
        /// The id under which a quorum accepted it; another node may learn it under a higher one.
        id: ProposalId,
        /// The chosen value.
        value: V,
    },
    /// Two values where the protocol allows but one. Said once.
    Violation(SafetyViolation),
}

/// Proof that some node broke the protocol: a value where only another one can be.
///
/// Lost or altered storage of an acceptor can cause it, or two nodes under one id. No message is to be trusted any more:
/// the node stops voting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("node {from} reports under proposal {id} another value than the one of proposal {against}")]
pub struct SafetyViolation {
    /// The node that sent the message which cannot be.
    pub from: NodeId,
    /// The id in it.
    pub id: ProposalId,
    /// The id with whose value it cannot be reconciled: the same, or a lower one whose value is chosen.
    pub against: ProposalId,
}

impl<V: Clone + PartialEq> Learner<V> {
    /// A learner that knows nothing yet. After a restart too: it learns again.
    pub const fn new(quorum: Quorum) -> Self {
        Self { quorum, state: State::Counting(BTreeMap::new()) }
    }

    /// Notes that `from` has accepted `value` under `id`; says so when the value is thereby chosen.
    ///
    /// Only the newest id of each acceptor counts; repeats, older ones and those of strangers change nothing. Once a value
    /// is chosen, an acceptor that reports the same value, under whichever id, is added to
    /// [`accepted_by`](Self::accepted_by).
    ///
    /// Two values under one id, or another value above the id of the chosen one, are a
    /// [`Violation`](Learned::Violation).
    pub fn on_accepted(&mut self, from: NodeId, id: ProposalId, value: V) -> Learned<V> {
        if !self.quorum.contains(from) {
            return Learned::NothingNew;
        }
        if let Some(against) = self.contradicted(id, &value) {
            let violation = SafetyViolation { from, id, against };
            self.violate(violation);
            return Learned::Violation(violation);
        }
        match &mut self.state {
            State::Counting(newest) => {
                if newest.get(&from).is_some_and(|(seen, _)| *seen >= id) {
                    return Learned::NothingNew;
                }
                newest.insert(from, (id, value.clone()));
                self.count(id, value)
            }
            State::Chosen(chosen) => {
                if chosen.value == value {
                    chosen.accepted_by.insert(from);
                }
                Learned::NothingNew
            }
            State::Violated { .. } => Learned::NothingNew,
        }
    }

    /// Whether enough acceptors accepted `value` under `id`, none of them having moved on since.
    fn count(&mut self, id: ProposalId, value: V) -> Learned<V> {
        let State::Counting(newest) = &self.state else { return Learned::NothingNew };
        let accepted_by = |same: &dyn Fn(&(ProposalId, V)) -> bool| -> BTreeSet<NodeId> {
            newest.iter().filter(|(_, accepted)| same(accepted)).map(|(node, _)| *node).collect()
        };
        if !self.quorum.is_accepted_by(&accepted_by(&|accepted| accepted.0 == id)) {
            return Learned::NothingNew;
        }
        let accepted_by = accepted_by(&|accepted| accepted.1 == value);
        self.state = State::Chosen(Chosen { id, value: value.clone(), accepted_by });
        Learned::Chosen { id, value }
    }

    /// The id whose value rules out `value` under `id`.
    fn contradicted(&self, id: ProposalId, value: &V) -> Option<ProposalId> {
        match &self.state {
            State::Counting(newest) => {
                newest.values().find(|known| known.0 == id && known.1 != *value).map(|_| id)
            }
            State::Chosen(chosen) => (id >= chosen.id && chosen.value != *value).then_some(chosen.id),
            State::Violated { .. } => None,
        }
    }

    /// Stops learning. Also for a contradiction that another role of the node has found.
    pub(super) fn violate(&mut self, violation: SafetyViolation) {
        let chosen = match std::mem::replace(&mut self.state, State::Counting(BTreeMap::new())) {
            State::Counting(_) => None,
            State::Chosen(chosen) => Some(chosen),
            State::Violated { chosen, .. } => chosen,
        };
        self.state = State::Violated { violation, chosen };
    }

    /// The chosen value, if it is known, and an id under which a quorum accepted it.
    pub fn chosen(&self) -> Option<(ProposalId, &V)> {
        self.known().map(|chosen| (chosen.id, &chosen.value))
    }

    /// The acceptors that are known to have accepted the chosen value.
    pub fn accepted_by(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.known().into_iter().flat_map(|chosen| chosen.accepted_by.iter().copied())
    }

    /// The violation that ended the learning, if there was one.
    pub const fn violation(&self) -> Option<SafetyViolation> {
        match self.state {
            State::Violated { violation, .. } => Some(violation),
            State::Counting(_) | State::Chosen(_) => None,
        }
    }

    const fn known(&self) -> Option<&Chosen<V>> {
        match &self.state {
            State::Chosen(chosen) => Some(chosen),
            State::Violated { chosen, .. } => chosen.as_ref(),
            State::Counting(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn n(node: u64) -> NodeId {
        NodeId::new(node)
    }

    fn id(number: u64, node: u64) -> ProposalId {
        ProposalId::new(number, n(node))
    }

    fn learner() -> Learner<&'static str> {
        Learner::new(Quorum::majority([1, 2, 3].map(n)).unwrap())
    }

    #[test]
    fn a_strangers_word_does_not_count() {
        let mut learner = learner();
        let _ = learner.on_accepted(n(1), id(1, 1), "v");
        assert_eq!(learner.on_accepted(n(9), id(1, 1), "v"), Learned::NothingNew);
        assert_eq!(learner.chosen(), None);
    }

    #[test]
    fn an_acceptor_that_contradicts_itself_breaks_the_protocol() {
        let mut learner = learner();
        let _ = learner.on_accepted(n(1), id(1, 1), "v");
        let violation = SafetyViolation { from: n(1), id: id(1, 1), against: id(1, 1) };
        assert_eq!(learner.on_accepted(n(1), id(1, 1), "w"), Learned::Violation(violation));
    }

    #[test]
    fn another_value_above_the_chosen_one_breaks_the_protocol() {
        let mut learner = learner();
        let _ = learner.on_accepted(n(1), id(2, 1), "v");
        let _ = learner.on_accepted(n(2), id(2, 1), "v");
        assert_eq!(learner.on_accepted(n(3), id(1, 3), "older"), Learned::NothingNew);
        let violation = SafetyViolation { from: n(3), id: id(3, 3), against: id(2, 1) };
        assert_eq!(learner.on_accepted(n(3), id(3, 3), "w"), Learned::Violation(violation));
        assert_eq!(learner.chosen(), Some((id(2, 1), &"v")), "what was learned stays");
    }

    #[test]
    fn another_value_under_the_chosen_id_breaks_the_protocol() {
        let mut learner = learner();
        let _ = learner.on_accepted(n(1), id(2, 1), "v");
        let _ = learner.on_accepted(n(2), id(2, 1), "v");
        let violation = SafetyViolation { from: n(3), id: id(2, 1), against: id(2, 1) };
        assert_eq!(learner.on_accepted(n(3), id(2, 1), "w"), Learned::Violation(violation));
    }

    #[test]
    fn after_a_violation_nothing_is_learned() {
        let mut learner = learner();
        let _ = learner.on_accepted(n(1), id(1, 1), "v");
        let _ = learner.on_accepted(n(2), id(1, 1), "w");
        assert!(learner.violation().is_some());
        for acceptor in [1, 2, 3].map(n) {
            assert_eq!(learner.on_accepted(acceptor, id(2, 1), "v"), Learned::NothingNew);
        }
    }

    #[test]
    fn those_who_accepted_the_value_under_another_id_belong_to_its_acceptors() {
        let mut learner = learner();
        let _ = learner.on_accepted(n(1), id(1, 1), "v");
        let _ = learner.on_accepted(n(2), id(2, 2), "v");
        let _ = learner.on_accepted(n(3), id(2, 2), "v");
        assert_eq!(learner.accepted_by().collect::<Vec<_>>(), [1, 2, 3].map(n));
    }
}
