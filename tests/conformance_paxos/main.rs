//! What the ancestor's tests say about single-decree Paxos, case by case, and what they should have said.
//!
//! One module per file of the ancestor's suite; `seed B01` names the case. Where the ancestor asserts something unsafe the
//! test asserts the opposite and says why. `defects` holds one test per defect that was found in the ancestor itself.
//! The cases about ticks and heartbeats are kept here as far as they concern Paxos; the rest is the election's.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod basic;
mod defects;
mod essential;
mod external;
mod functional;
mod multi;
mod practical;
mod proposers;

use synod::paxos::{Durable, Event, Message, Node, NodeId, Output, ProposalId, Quorum, Step, To};

type Text = &'static str;

const A: NodeId = NodeId::new(1);
const B: NodeId = NodeId::new(2);
const C: NodeId = NodeId::new(3);
const D: NodeId = NodeId::new(4);
const E: NodeId = NodeId::new(5);

const fn id(number: u64, node: NodeId) -> ProposalId {
    ProposalId::new(number, node)
}

/// Any two of A, B and C.
fn two() -> Quorum {
    Quorum::majority([A, B, C]).unwrap()
}

/// Any three of A to E.
fn three() -> Quorum {
    Quorum::majority([A, B, C, D, E]).unwrap()
}

fn promise(id: ProposalId) -> Message<Text> {
    Message::Promise { id, accepted: None }
}

fn promise_with(id: ProposalId, accepted: ProposalId, value: Text) -> Message<Text> {
    Message::Promise { id, accepted: Some((accepted, value)) }
}

fn accept(id: ProposalId, value: Text) -> Message<Text> {
    Message::Accept { id, value }
}

fn accepted(id: ProposalId, value: Text) -> Message<Text> {
    Message::Accepted { id, value }
}

fn nack(id: ProposalId, promised: ProposalId) -> Message<Text> {
    Message::Nack { id, promised }
}

/// A node whose steps are carried out at once: written to `disk`, then put into `sent` and `events`.
struct Driven {
    me: NodeId,
    quorum: Quorum,
    node: Node<Text>,
    disk: Durable<Text>,
    sent: Vec<(To, Message<Text>)>,
    events: Vec<Event<Text>>,
}

impl Driven {
    fn new(me: NodeId, quorum: Quorum) -> Self {
        let node = Node::new(me, quorum.clone());
        Self { me, quorum, node, disk: Durable::default(), sent: Vec::new(), events: Vec::new() }
    }

    /// A node that leads under the id it returns, having been promised by C, D and E as far as it needs them.
    fn leading(me: NodeId, quorum: Quorum) -> (Self, ProposalId) {
        let mut driven = Self::new(me, quorum);
        let id = driven.win();
        driven.forget();
        (driven, id)
    }

    fn carry_out(&mut self, step: Step<Durable<Text>, Output<Text>>) {
        if let Some(durable) = step.write {
            self.disk = durable;
        }
        self.sent.extend(step.send.message);
        self.events.extend(step.send.event);
    }

    fn prepare(&mut self) -> ProposalId {
        let step = self.node.prepare().unwrap();
        self.carry_out(step);
        self.node.proposer().proposal().unwrap()
    }

    /// Prepares and hears enough empty promises.
    fn win(&mut self) -> ProposalId {
        let id = self.prepare();
        for from in [E, D, C, B, A] {
            if self.quorum.contains(from) && !self.is_leading() {
                self.receive(from, promise(id));
            }
        }
        assert!(self.is_leading());
        id
    }

    fn propose(&mut self, value: Text) {
        let step = self.node.propose(value);
        self.carry_out(step);
    }

    fn resend(&mut self) {
        let step = self.node.resend();
        self.carry_out(step);
    }

    fn yield_to(&mut self, leader: ProposalId) {
        let step = self.node.yield_to(leader);
        self.carry_out(step);
    }

    fn receive(&mut self, from: NodeId, message: Message<Text>) {
        let step = self.node.on_message(from, message);
        self.carry_out(step);
    }

    /// Loses everything but the disk.
    fn restart(&mut self) {
        self.node = Node::recover(self.me, self.quorum.clone(), self.disk.clone());
        self.forget();
    }

    fn forget(&mut self) {
        self.sent.clear();
        self.events.clear();
    }

    fn is_leading(&self) -> bool {
        self.node.proposer().is_leading()
    }

    /// What was sent since the last look.
    fn sent(&mut self) -> Vec<(To, Message<Text>)> {
        std::mem::take(&mut self.sent)
    }

    /// What the application was told since the last look.
    fn events(&mut self) -> Vec<Event<Text>> {
        std::mem::take(&mut self.events)
    }
}

fn to_all(message: Message<Text>) -> Vec<(To, Message<Text>)> {
    vec![(To::All, message)]
}

fn to_one(to: NodeId, message: Message<Text>) -> Vec<(To, Message<Text>)> {
    vec![(To::One(to), message)]
}
