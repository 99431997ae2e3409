//! Synod.
pub mod paxos;
