//! Single-decree Paxos: how a set of nodes chooses one value.
mod proposal;

pub use proposal::{NodeId, ProposalId, ProposalIdExhausted};
