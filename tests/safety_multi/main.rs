//! Multi-Paxos chooses at most one value for a slot: every interleaving of whole clusters of the product's own `Proposer` and
//! `Acceptor`.
//!
//! `machine` is a node with its disk, whose flush is a step of its own; `scope` judges what is chosen, `scopes` says what is
//! walked, `mutants` leaves one rule out at a time. `exhaustive` (beside this directory) is how it is walked: letters are
//! lost, repeated and overtaken without bound.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub)]

#[path = "../exhaustive/mod.rs"]
mod exhaustive;
mod machine;
mod mutants;
mod scope;
mod scopes;
