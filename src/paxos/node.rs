//! The node: proposer, acceptor and learner in one, as one plays them in practice.
//!
//! In: every [`Message`]. Out: messages, and an [`Event`] for the application.
//! Durable: [`Durable`], the proposer's newest id and the acceptor's state.
//! Invariants: N1 it talks to itself the way it talks to others: through the caller. N2 after a safety violation it is mute.
//! Knows nothing of: transports, disks, when to campaign, time.

use super::{
    Acceptor, AcceptorState, GaveUp, Learned, Learner, Message, NodeId, ProposalId, ProposalIdExhausted,
    Proposer, Quorum, SafetyViolation, Step,
};
use serde::{Deserialize, Serialize};

/// All three roles of one node (*Paxos Made Simple*, section 2.5).
///
/// Carry out each [`Step`] before, or at least in the order of, the next ([`Outbox`](super::Outbox)). What is for
/// [`To::All`] is for this node too: give it back through [`on_message`](Self::on_message), so that its own vote, like any
/// other, counts only when it is durable.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Node<V> {
    proposer: Proposer<V>,
    acceptor: Acceptor<V>,
    learner: Learner<V>,
    /// The newest id of the proposer, which every write repeats.
    proposed: Option<ProposalId>,
    voice: Voice,
}

/// Whether the node speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Voice {
    Active,
    /// Listens and remembers, but sends nothing.
    Passive,
    /// Saw the protocol broken (N2).
    Mute,
}

/// What a node must find again after a restart. Each write replaces the last one as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Durable<V> {
    /// The newest id that this node proposed under. It is never used again.
    pub proposed: Option<ProposalId>,
    /// What this node promised and accepted.
    pub acceptor: AcceptorState<V>,
}

impl<V> Default for Durable<V> {
    fn default() -> Self {
        Self { proposed: None, acceptor: AcceptorState::default() }
    }
}

/// What leaves the node once the step's write is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output<V> {
    /// At most one message, and to whom.
    pub message: Option<(To, Message<V>)>,
    /// What the application should know.
    pub event: Option<Event<V>>,
}

impl<V> Default for Output<V> {
    fn default() -> Self {
        Self { message: None, event: None }
    }
}

/// To whom a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum To {
    /// Every node, this one included.
    All,
    /// One node; perhaps this one.
    One(NodeId),
}

/// What the application should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<V> {
    /// Phase 1 is won: this node leads under the id.
    Leading(ProposalId),
    /// The own proposal, in whichever phase, was given up. [`Node::prepare`] again after a pause.
    GaveUp(GaveUp),
    /// The value is chosen. Said once between two restarts.
    Chosen {
        /// The id under which a quorum accepted it.
        id: ProposalId,
        /// The chosen value.
        value: V,
    },
    /// The protocol was broken. This node is mute from now on; do not restart it before a person has looked at it.
    SafetyViolation(SafetyViolation),
}

impl<V: Clone + PartialEq> Node<V> {
    /// A node that has no past.
    pub fn new(node: NodeId, quorum: Quorum) -> Self {
        Self::recover(node, quorum, Durable::default())
    }

    /// The node after a restart, from the newest durable write.
    ///
    /// It leads nothing: its next [`prepare`](Self::prepare) takes a fresh id, above every id that it used or saw written.
    pub fn recover(node: NodeId, quorum: Quorum, durable: Durable<V>) -> Self {
        let Durable { proposed, acceptor } = durable;
        let mut proposer = Proposer::recover(node, quorum.clone(), proposed);
        acceptor.promised.into_iter().for_each(|promised| proposer.observe(promised));
        Self {
            proposer,
            acceptor: Acceptor::recover(acceptor),
            learner: Learner::new(quorum),
            proposed,
            voice: Voice::Active,
        }
    }

    /// Lets the node speak, or silences it. A passive node listens, votes to its own disk, and sends nothing.
    ///
    /// A mute node stays mute.
    pub fn set_active(&mut self, is_active: bool) {
        if self.voice != Voice::Mute {
            self.voice = if is_active { Voice::Active } else { Voice::Passive };
        }
    }

    /// See [`Proposer::propose`].
    pub fn propose(&mut self, value: V) -> Step<Durable<V>, Output<V>> {
        let step = self.proposer.propose(value);
        self.broadcast(step)
    }

    /// See [`Proposer::prepare`].
    ///
    /// # Errors
    ///
    /// [`ProposalIdExhausted`] if there is no id above those seen; then nothing has changed.
    pub fn prepare(&mut self) -> Result<Step<Durable<V>, Output<V>>, ProposalIdExhausted> {
        if self.voice == Voice::Mute {
            return Ok(Step::nothing());
        }
        let step = self.proposer.prepare()?;
        Ok(self.broadcast(step))
    }

    /// See [`Proposer::resend`].
    pub fn resend(&mut self) -> Step<Durable<V>, Output<V>> {
        let step = self.proposer.resend();
        self.broadcast(step)
    }

    /// See [`Proposer::observe`].
    pub fn observe(&mut self, id: ProposalId) {
        self.proposer.observe(id);
    }

    /// See [`Proposer::yield_to`].
    pub fn yield_to(&mut self, leader: ProposalId) -> Step<Durable<V>, Output<V>> {
        let event = self.proposer.yield_to(leader).map(Event::GaveUp);
        self.speak(None, Output { message: None, event })
    }

    /// Gives the message to the role that it is for. An ill-formed message is dropped.
    ///
    /// `from` is who sent it, as the transport knows; a sender that could lie would count as many.
    pub fn on_message(&mut self, from: NodeId, message: Message<V>) -> Step<Durable<V>, Output<V>> {
        if self.voice == Voice::Mute || !message.is_well_formed() {
            return Step::nothing();
        }
        match message {
            Message::Prepare { id } => {
                self.proposer.observe(id);
                let step = self.acceptor.on_prepare(id);
                self.answer(To::One(from), step)
            }
            Message::Promise { id, accepted } => {
                let led = self.proposer.is_leading();
                let step = self.proposer.on_promise(from, id, accepted);
                let mut step = self.broadcast(step);
                step.send.event = (self.proposer.is_leading() && !led).then_some(Event::Leading(id));
                step
            }
            Message::Accept { id, value } => self.on_accept(from, id, value),
            Message::Accepted { id, value } => match self.learner.on_accepted(from, id, value) {
                Learned::NothingNew => Step::nothing(),
                Learned::Chosen { id, value } => {
                    self.speak(None, Output { message: None, event: Some(Event::Chosen { id, value }) })
                }
                Learned::Violation(violation) => self.fall_mute(violation),
            },
            Message::Nack { id, promised } => {
                let event = self.proposer.on_nack(from, id, promised).map(Event::GaveUp);
                self.speak(None, Output { message: None, event })
            }
        }
    }

    /// Phase 2b, unless the proposer contradicts what it had this very node accept.
    fn on_accept(&mut self, from: NodeId, id: ProposalId, value: V) -> Step<Durable<V>, Output<V>> {
        self.proposer.observe(id);
        if let Some((accepted, first_value)) = &self.acceptor.state().accepted
            && *accepted == id
            && *first_value != value
        {
            return self.fall_mute(SafetyViolation { from, id, against: id });
        }
        let step = self.acceptor.on_accept(id, value);
        let to = if matches!(step.send, Some(Message::Accepted { .. })) { To::All } else { To::One(from) };
        self.answer(to, step)
    }

    /// Ends the speech of this node for good (N2).
    fn fall_mute(&mut self, violation: SafetyViolation) -> Step<Durable<V>, Output<V>> {
        self.voice = Voice::Mute;
        self.learner.violate(violation);
        Step::send(Output { message: None, event: Some(Event::SafetyViolation(violation)) })
    }

    /// A step of the proposer as one of the node.
    fn broadcast(&mut self, step: Step<ProposalId, Option<Message<V>>>) -> Step<Durable<V>, Output<V>> {
        let write = step.write.map(|id| {
            self.proposed = Some(id);
            self.durable()
        });
        self.speak(write, Output { message: step.send.map(|message| (To::All, message)), event: None })
    }

    /// A step of the acceptor as one of the node.
    fn answer(
        &mut self,
        to: To,
        step: Step<AcceptorState<V>, Option<Message<V>>>,
    ) -> Step<Durable<V>, Output<V>> {
        let write = step.write.map(|acceptor| Durable { proposed: self.proposed, acceptor });
        self.speak(write, Output { message: step.send.map(|message| (to, message)), event: None })
    }

    /// What was decided to write and to say, less the messages if this node is not to speak.
    fn speak(&self, write: Option<Durable<V>>, mut output: Output<V>) -> Step<Durable<V>, Output<V>> {
        if self.voice != Voice::Active {
            output.message = None;
        }
        Step { write, send: output }
    }

    /// All that a restart must find, as it is now in memory.
    pub fn durable(&self) -> Durable<V> {
        Durable { proposed: self.proposed, acceptor: self.acceptor.state().clone() }
    }

    /// The proposer, to look at.
    pub const fn proposer(&self) -> &Proposer<V> {
        &self.proposer
    }

    /// The acceptor, to look at.
    pub const fn acceptor(&self) -> &Acceptor<V> {
        &self.acceptor
    }

    /// The learner, to look at.
    pub const fn learner(&self) -> &Learner<V> {
        &self.learner
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

    /// Node 1 of three.
    fn node() -> Node<&'static str> {
        Node::new(n(1), Quorum::majority([1, 2, 3].map(n)).unwrap())
    }

    #[test]
    fn each_write_repeats_what_the_other_role_has_written() {
        let mut node = node();
        let _ = node.on_message(n(2), Message::Prepare { id: id(1, 2) });
        let prepared = node.prepare().unwrap().write.unwrap();
        assert_eq!((prepared.proposed, prepared.acceptor.promised), (Some(id(2, 1)), Some(id(1, 2))));
        let promised = node.on_message(n(3), Message::Prepare { id: id(1, 3) }).write.unwrap();
        assert_eq!((promised.proposed, promised.acceptor.promised), (Some(id(2, 1)), Some(id(1, 3))));
    }

    #[test]
    fn an_id_seen_by_the_acceptor_raises_the_next_one_of_the_proposer() {
        let messages = [Message::Prepare { id: id(5, 2) }, Message::Accept { id: id(5, 2), value: "v" }];
        for message in messages {
            let mut node = node();
            let _ = node.on_message(n(2), message);
            assert_eq!(node.prepare().unwrap().write.unwrap().proposed, Some(id(6, 1)));
        }
    }

    #[test]
    fn only_what_is_accepted_is_for_all_to_hear() {
        let mut node = node();
        let to = |step: Step<_, Output<_>>| step.send.message.map(|(to, _)| to);
        assert_eq!(to(node.on_message(n(2), Message::Prepare { id: id(5, 2) })), Some(To::One(n(2))));
        let accept = |id| Message::Accept { id, value: "v" };
        assert_eq!(to(node.on_message(n(3), accept(id(4, 3)))), Some(To::One(n(3))), "a nack");
        assert_eq!(to(node.on_message(n(2), accept(id(5, 2)))), Some(To::All));
    }

    #[test]
    fn a_node_alone_counts_its_own_vote_only_when_it_comes_back() {
        let mut node = Node::new(n(1), Quorum::majority([n(1)]).unwrap());
        let _ = node.propose("v");
        let mut step = node.prepare().unwrap();
        while let Some((_, message)) = step.send.message {
            assert_eq!(node.learner().chosen(), None);
            step = node.on_message(n(1), message);
        }
        assert_eq!(step.send.event, Some(Event::Chosen { id: id(1, 1), value: "v" }));
    }
}
