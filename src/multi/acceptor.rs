//! The acceptor.
use super::*;
use crate::paxos::NodeId;

/// The acceptor.
#[derive(Debug)]
pub struct Acceptor {}

impl Acceptor {
    /// Rebuilds an acceptor from what is durable. `identity` is this node's own, as shown to peers; `bootstrap` is the
    /// membership that it was bootstrapped with and that may still have to form; `sequence` is the last durable write.
    pub fn new(
        _identity: Identity,
        _bootstrap: Option<Membership>,
        _sequence: Sequence,
        _log: Log,
        _limits: Limits,
    ) -> Self {
        todo!()
    }

    /// Takes one input.
    pub fn step(&mut self, _now: Time, _input: AcceptorInput, _out: &mut Vec<Effect>) {
        todo!()
    }

    /// The log.
    pub fn log(&self) -> &Log {
        todo!()
    }
    /// x
    pub fn node(&self) -> NodeId {
        todo!()
    }
}
