//! The node: the three roles and the election put together.
//!
//! [`route`] says which role takes a message, and [`Node`] runs all four in one place, until nothing is left to say
//! between them. The actors run the roles one by one and use the same [`route`]; the simulator and the models use [`Node`].
//! There is no second router.

use super::acceptor::Acceptor;
use super::effect::{AcceptorInput, Effect, ElectionInput, LearnerInput, Local, ProposerInput, Role};
use super::learner::Learner;
use super::message::Message;
use super::proposer::Proposer;
use super::slot::Time;
use crate::election::Election;
use crate::paxos::{NodeId, ProposalId};
use std::collections::VecDeque;

/// Which role of a node takes `message`.
pub fn route(message: &Message) -> Role {
    match message {
        Message::Promise { .. }
        | Message::Nack { .. }
        | Message::Accepted { .. }
        | Message::Confirmed { .. } => Role::Proposer,
        Message::Prepare { .. }
        | Message::Accept { .. }
        | Message::Heartbeat { .. }
        | Message::Confirm { .. }
        | Message::CatchUp { .. }
        | Message::AskBase { .. }
        | Message::Form { .. }
        | Message::AlreadyFormed { .. } => Role::Acceptor,
        Message::Chosen { .. }
        | Message::Base { .. }
        | Message::FetchSnapshot { .. }
        | Message::SnapshotChunk { .. } => Role::Learner,
        Message::PrePrepare { .. }
        | Message::PrePrepareAnswer { .. }
        | Message::HeartbeatAck { .. }
        | Message::TakeOver { .. } => Role::Election,
        // Clients' messages: the proposer's shell deals with them before the role sees them.
        Message::Forward { .. }
        | Message::ForwardAnswer { .. }
        | Message::ReadMark { .. }
        | Message::ReadMarkAnswer { .. }
        | Message::Admin { .. }
        | Message::AdminAnswer { .. } => Role::Proposer,
    }
}

/// Whether every proposal id in `message` is one that a correct node can have chosen, and every page of a promise is
/// coherent; otherwise the message is dropped (1.3, 1.4).
pub fn is_well_formed(message: &Message) -> bool {
    let coherent = match message {
        Message::Promise { page, .. } => page.is_well_formed(),
        _ => true,
    };
    coherent && message.carries_sound_memberships() && message.ids().all(ProposalId::is_well_formed)
}

/// Whether `message`, which came from `from`, is said in the name of another node; then it is dropped.
pub fn is_forged(from: NodeId, message: &Message) -> bool {
    message.speaker().is_some_and(|speaker| speaker != from)
}

/// `message` as an input of the role that takes it.
pub fn address(from: NodeId, message: Message) -> Local {
    match route(&message) {
        Role::Proposer => Local::Proposer(ProposerInput::Message { from, message }),
        Role::Acceptor => Local::Acceptor(AcceptorInput::Message { from, message }),
        Role::Learner => Local::Learner(LearnerInput::Message { from, message }),
        Role::Election => Local::Election(ElectionInput::Message { from, message }),
    }
}

/// What a connection to `peer` that came (`up`) or went is to the roles.
pub fn link(peer: NodeId, up: bool) -> [Local; 3] {
    if up {
        [
            Local::Proposer(ProposerInput::LinkUp { peer }),
            Local::Learner(LearnerInput::LinkUp { peer }),
            Local::Election(ElectionInput::LinkUp { peer }),
        ]
    } else {
        [
            Local::Proposer(ProposerInput::LinkDown { peer }),
            Local::Learner(LearnerInput::LinkDown { peer }),
            Local::Election(ElectionInput::LinkDown { peer }),
        ]
    }
}

/// The roles of one node in one place.
#[derive(Debug)]
pub struct Node {
    me: NodeId,
    /// What is left to be said within a step, and what a role has just said: empty between steps, kept for their room.
    inputs: VecDeque<Local>,
    effects: Vec<Effect>,
    /// Proposes.
    pub proposer: Proposer,
    /// Remembers.
    pub acceptor: Acceptor,
    /// Delivers.
    pub learner: Learner,
    /// Decides when to campaign.
    pub election: Election,
}

impl Node {
    /// Puts the roles together. Then [`Node::start`] it.
    pub fn new(proposer: Proposer, acceptor: Acceptor, learner: Learner, election: Election) -> Self {
        let (inputs, effects) = (VecDeque::new(), Vec::new());
        Self { me: acceptor.node(), inputs, effects, proposer, acceptor, learner, election }
    }

    /// Briefs the roles and asks for what is to be applied again.
    pub fn start(&mut self, now: Time, out: &mut Vec<(Role, Effect)>) {
        self.step(now, Local::Acceptor(AcceptorInput::Start), out);
        self.step(now, Local::Learner(LearnerInput::Start), out);
    }

    /// A message that arrived, from a peer or, once what it rests on is durable, from this node itself.
    pub fn receive(&mut self, now: Time, from: NodeId, message: Message, out: &mut Vec<(Role, Effect)>) {
        if is_well_formed(&message) && !is_forged(from, &message) {
            self.step(now, address(from, message), out);
        }
    }

    /// A connection came or went.
    pub fn link(&mut self, now: Time, peer: NodeId, up: bool, out: &mut Vec<(Role, Effect)>) {
        link(peer, up).into_iter().for_each(|input| self.step(now, input, out));
    }

    /// The deadline that `role` asked for has come.
    pub fn wake(&mut self, now: Time, role: Role, out: &mut Vec<(Role, Effect)>) {
        let input = match role {
            Role::Proposer => Local::Proposer(ProposerInput::Wake),
            Role::Acceptor => Local::Acceptor(AcceptorInput::Wake),
            Role::Learner => Local::Learner(LearnerInput::Wake),
            Role::Election => Local::Election(ElectionInput::Wake),
        };
        self.step(now, input, out);
    }

    /// Takes one input and all that the roles have to say to each other because of it; what is left for the outside stands
    /// in `out`, with the role that asked for it.
    pub fn step(&mut self, now: Time, input: Local, out: &mut Vec<(Role, Effect)>) {
        let mut next = Some(input);
        while let Some(input) = next {
            let role = match input {
                Local::Proposer(input) => {
                    self.proposer.step(now, input, &mut self.effects);
                    Role::Proposer
                }
                Local::Acceptor(input) => {
                    self.acceptor.step(now, input, &mut self.effects);
                    Role::Acceptor
                }
                Local::Learner(input) => {
                    self.learner.step(now, input, &mut self.effects);
                    Role::Learner
                }
                Local::Election(input) => {
                    self.election.step(now, input, &mut self.effects);
                    Role::Election
                }
            };
            for effect in self.effects.drain(..) {
                match effect {
                    Effect::Local(local) => self.inputs.push_back(local),
                    Effect::Send { to, message, after: None } if to == self.me => {
                        self.inputs.push_back(address(to, message));
                    }
                    effect => out.push((role, effect)),
                }
            }
            next = self.inputs.pop_front();
        }
    }
}
