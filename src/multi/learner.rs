//! The learner.
use super::*;
use crate::paxos::NodeId;

/// The learner.
#[derive(Debug)]
pub struct Learner {}

impl Learner {
    /// A learner that has applied nothing. `seed` feeds its choice of peers.
    pub fn new(_me: NodeId, _limits: Limits, _seed: u64) -> Self {
        todo!()
    }

    /// Takes one input.
    pub fn step(&mut self, _now: Time, _input: LearnerInput, _out: &mut Vec<Effect>) {
        todo!()
    }

    /// The last slot that was delivered.
    pub fn applied_through(&self) -> Slot {
        todo!()
    }
}
