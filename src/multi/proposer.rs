//! The proposer.
use super::*;
use crate::paxos::NodeId;

/// The proposer.
#[derive(Debug)]
pub struct Proposer {}

impl Proposer {
    /// A proposer that does nothing until it was briefed and told to campaign. `seed` feeds its jitter.
    pub fn new(_me: NodeId, _limits: Limits, _seed: u64) -> Self {
        todo!()
    }

    /// Takes one input.
    pub fn step(&mut self, _now: Time, _input: ProposerInput, _out: &mut Vec<Effect>) {
        todo!()
    }

    /// What it is doing.
    pub fn state(&self) -> ProposerState {
        todo!()
    }

    /// How many batches it would propose at once now; zero while it does not lead or its window is full.
    pub fn room(&self) -> u64 {
        todo!()
    }

    /// How far a read that arrives now has to wait (7.1), while this node leads.
    pub fn read_mark(&self) -> Option<(ProposalId, Slot)> {
        todo!()
    }
}
use crate::paxos::ProposalId;
