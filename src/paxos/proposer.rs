//! The proposer: the voice of Paxos.
//!
//! In: `Promise`, `Nack`. Out: `Prepare`, `Accept`.
//! Durable: its newest id, before `Prepare` leaves. Not the value: after a restart it takes a fresh id.
//! Invariants: P1 an id is never used twice. P2 one value per id, fixed at the first `Accept`. P3 that value is the one
//! accepted under the highest id among the promises, if any.
//! Knows nothing of: what is chosen, when to try again, time.

use super::{Message, NodeId, ProposalId, ProposalIdExhausted, Quorum, Step};
use std::collections::BTreeSet;

/// Wins phase 1, then proposes in phase 2 (*Paxos Made Simple*, section 2.2).
///
/// It never acts on its own: the caller says when to [`prepare`](Self::prepare) and when to
/// [`resend`](Self::resend). Give a refused proposer a random pause before the next `prepare`, or two of them
/// outbid each other for ever (section 2.4).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Proposer<V> {
    node: NodeId,
    quorum: Quorum,
    /// No id that anyone was seen to use is above this number.
    number_max: u64,
    /// What the application wants chosen. What is proposed may be another value: see P3.
    wish: Option<V>,
    attempt: Attempt<V>,
}

/// Where the proposer stands. One enum, so that "leading" and "under which id" cannot contradict each other.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Attempt<V> {
    /// No proposal is under way.
    None,
    /// Phase 1: collects promises for `id`.
    Preparing { id: ProposalId, promised_by: BTreeSet<NodeId>, reported: Option<(ProposalId, V)> },
    /// Phase 2: a quorum promised `id`. `value` is `None` until there is one to propose, and then never changes (P2).
    Leading { id: ProposalId, value: Option<V>, refused_by: BTreeSet<NodeId> },
}

/// The proposer gave up its proposal, for another one was promised or leads. [`Proposer::prepare`] again, after a pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct GaveUp {
    /// The id that was given up.
    pub id: ProposalId,
    /// The higher one that it gave way to.
    pub higher: ProposalId,
}

impl<V: Clone> Proposer<V> {
    /// A proposer that has never used an id. For a node that did, [`recover`](Self::recover) it.
    pub const fn new(node: NodeId, quorum: Quorum) -> Self {
        Self { node, quorum, number_max: 0, wish: None, attempt: Attempt::None }
    }

    /// The proposer after a restart; `last` is the newest id that it wrote.
    ///
    /// Nothing of the proposal under `last` is taken up again: its value is forgotten, and a second one under the same
    /// id could undo what was chosen. The next id is above (P1).
    pub fn recover(node: NodeId, quorum: Quorum, last: Option<ProposalId>) -> Self {
        let mut proposer = Self::new(node, quorum);
        proposer.number_max = last.map_or(0, |id| id.number);
        proposer
    }

    /// Says what the application wants chosen. The first wish stays; a later one is ignored.
    ///
    /// Sends `Accept` if phase 1 is won and nothing is proposed yet. Otherwise the value waits for the end of a phase 1,
    /// and gives way to one that was accepted before (P3): the value chosen in the end may be another one.
    pub fn propose(&mut self, value: V) -> Step<ProposalId, Option<Message<V>>> {
        let wish = self.wish.get_or_insert(value);
        match &mut self.attempt {
            Attempt::Leading { id, value: value @ None, .. } => {
                *value = Some(wish.clone());
                Step::send(Some(Message::Accept { id: *id, value: wish.clone() }))
            }
            _ => Step::nothing(),
        }
    }

    /// Phase 1a: starts anew, under a fresh id above all that were seen. Promises and nacks of older ids no longer count.
    ///
    /// The id is written before `Prepare` leaves, so that no restart can use it again (P1). To repeat a lost `Prepare`,
    /// [`resend`](Self::resend).
    ///
    /// # Errors
    ///
    /// [`ProposalIdExhausted`] if there is no id above those seen; then nothing has changed.
    #[doc(alias = "campaign")]
    #[doc(alias = "phase 1a")]
    pub fn prepare(&mut self) -> Result<Step<ProposalId, Option<Message<V>>>, ProposalIdExhausted> {
        let id = ProposalId::above(self.number_max, self.node)?;
        self.number_max = id.number;
        self.attempt = Attempt::Preparing { id, promised_by: BTreeSet::new(), reported: None };
        Ok(Step::write_then_send(id, Some(Message::Prepare { id })))
    }

    /// Counts a promise; with a phase-1 quorum of them this proposer leads and, having a value, sends `Accept`.
    ///
    /// That value is the one accepted under the highest id that the promises report, else the application's: P2c of
    /// *Paxos Made Simple* (section 2.2). A promise for another id, a repeated one, one of a stranger, or one that comes
    /// after the quorum changes nothing.
    #[doc(alias = "phase 2a")]
    pub fn on_promise(
        &mut self,
        from: NodeId,
        id: ProposalId,
        accepted: Option<(ProposalId, V)>,
    ) -> Step<ProposalId, Option<Message<V>>> {
        self.observe(id);
        let Attempt::Preparing { id: own, promised_by, reported } = &mut self.attempt else {
            return Step::nothing();
        };
        if id != *own || !self.quorum.contains(from) || !promised_by.insert(from) {
            return Step::nothing();
        }
        if let Some((accepted_id, value)) = accepted
            && reported.as_ref().is_none_or(|(highest, _)| accepted_id > *highest)
        {
            *reported = Some((accepted_id, value));
        }
        if !self.quorum.is_promised_by(promised_by) {
            return Step::nothing();
        }
        let value = reported.take().map(|(_, value)| value).or_else(|| self.wish.clone());
        self.attempt = Attempt::Leading { id, value: value.clone(), refused_by: BTreeSet::new() };
        Step::send(value.map(|value| Message::Accept { id, value }))
    }

    /// Takes a refusal: remembers the higher id, and gives up if its own proposal is no longer worth pursuing.
    ///
    /// In phase 1 one refusal is enough, in phase 2 it takes so many that no phase-2 quorum is left. Gives up once: a nack
    /// of an older id, and every nack after the decisive one, says nothing new. Section 2.2: "It is probably a good idea
    /// to abandon a proposal if some proposer has begun trying to issue a higher-numbered one."
    pub fn on_nack(&mut self, from: NodeId, id: ProposalId, promised: ProposalId) -> Option<GaveUp> {
        self.observe(promised);
        if self.proposal() != Some(id) || promised <= id || !self.quorum.contains(from) {
            return None;
        }
        if let Attempt::Leading { refused_by, .. } = &mut self.attempt {
            refused_by.insert(from);
            if self.quorum.is_left_without(refused_by) {
                return None;
            }
        }
        self.attempt = Attempt::None;
        Some(GaveUp { id, higher: promised })
    }

    /// Gives way to another node that leads under `leader`, if that is above the own proposal.
    pub fn yield_to(&mut self, leader: ProposalId) -> Option<GaveUp> {
        self.observe(leader);
        let id = self.proposal().filter(|id| leader > *id && leader.is_well_formed())?;
        self.attempt = Attempt::None;
        Some(GaveUp { id, higher: leader })
    }

    /// Notes an id that was seen anywhere, so that the next own one is above it. An ill-formed id is ignored.
    pub fn observe(&mut self, id: ProposalId) {
        if id.is_well_formed() {
            self.number_max = self.number_max.max(id.number);
        }
    }

    /// Repeats what may have been lost: `Prepare` in phase 1, `Accept` in phase 2, else nothing. Changes nothing.
    pub fn resend(&self) -> Step<ProposalId, Option<Message<V>>> {
        Step::send(match &self.attempt {
            Attempt::Preparing { id, .. } => Some(Message::Prepare { id: *id }),
            Attempt::Leading { id, value: Some(value), .. } => {
                Some(Message::Accept { id: *id, value: value.clone() })
            }
            Attempt::None | Attempt::Leading { value: None, .. } => None,
        })
    }

    /// The id of the proposal under way.
    pub const fn proposal(&self) -> Option<ProposalId> {
        match self.attempt {
            Attempt::None => None,
            Attempt::Preparing { id, .. } | Attempt::Leading { id, .. } => Some(id),
        }
    }

    /// Whether phase 1 is won and the proposal was not given up since.
    pub const fn is_leading(&self) -> bool {
        matches!(self.attempt, Attempt::Leading { .. })
    }

    /// How many acceptors have promised the proposal in preparation.
    pub fn promises(&self) -> usize {
        match &self.attempt {
            Attempt::Preparing { promised_by, .. } => promised_by.len(),
            Attempt::None | Attempt::Leading { .. } => 0,
        }
    }

    /// What is proposed, or would be if phase 1 were won now.
    pub fn value(&self) -> Option<&V> {
        match &self.attempt {
            Attempt::None | Attempt::Preparing { reported: None, .. } => self.wish.as_ref(),
            Attempt::Preparing { reported: Some((_, value)), .. } => Some(value),
            Attempt::Leading { value, .. } => value.as_ref(),
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

    /// Node 1 of three, after its first `prepare`.
    fn preparing() -> Proposer<&'static str> {
        let mut proposer = Proposer::new(n(1), Quorum::majority([1, 2, 3].map(n)).unwrap());
        let _ = proposer.prepare().unwrap();
        proposer
    }

    #[test]
    fn an_id_is_written_before_prepare_leaves() {
        let mut proposer = Proposer::<()>::new(n(1), Quorum::majority([n(1)]).unwrap());
        let step = proposer.prepare().unwrap();
        assert_eq!(step, Step::write_then_send(id(1, 1), Some(Message::Prepare { id: id(1, 1) })));
    }

    #[test]
    fn a_strangers_promise_does_not_count() {
        let mut proposer = preparing();
        let _ = proposer.on_promise(n(8), id(1, 1), None);
        let _ = proposer.on_promise(n(9), id(1, 1), None);
        assert!(!proposer.is_leading());
    }

    #[test]
    fn a_strangers_nack_does_not_count() {
        let mut proposer = preparing();
        assert_eq!(proposer.on_nack(n(9), id(1, 1), id(2, 2)), None);
        assert_eq!(proposer.proposal(), Some(id(1, 1)));
    }

    #[test]
    fn a_nack_that_names_no_higher_id_is_no_reason_to_give_up() {
        let mut proposer = preparing();
        assert_eq!(proposer.on_nack(n(2), id(1, 1), id(1, 1)), None);
        assert_eq!(proposer.proposal(), Some(id(1, 1)));
    }

    #[test]
    fn a_leader_without_a_value_proposes_the_first_that_it_is_given() {
        let mut proposer = preparing();
        let _ = proposer.on_promise(n(1), id(1, 1), None);
        assert_eq!(proposer.on_promise(n(2), id(1, 1), None), Step::nothing());
        let accept = Some(Message::Accept { id: id(1, 1), value: "v" });
        assert_eq!(proposer.propose("v"), Step::send(accept));
        assert_eq!(proposer.propose("w"), Step::nothing());
    }

    #[test]
    fn a_new_attempt_forgets_what_the_old_one_heard() {
        let mut proposer = preparing();
        let _ = proposer.propose("own");
        let _ = proposer.on_promise(n(2), id(1, 1), Some((id(0, 2), "theirs")));
        let _ = proposer.prepare().unwrap();
        assert_eq!((proposer.promises(), proposer.value()), (0, Some(&"own")));
    }

    #[test]
    fn a_leader_yields_to_a_higher_id_only() {
        let mut proposer = preparing();
        assert_eq!(proposer.yield_to(id(0, 9)), None);
        assert_eq!(proposer.yield_to(id(1, 1)), None);
        assert_eq!(proposer.yield_to(id(1, 2)), Some(GaveUp { id: id(1, 1), higher: id(1, 2) }));
        assert_eq!(proposer.proposal(), None);
    }
}
