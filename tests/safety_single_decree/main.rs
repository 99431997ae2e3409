//! Single-decree Paxos chooses at most one value: every interleaving of whole clusters of `synod::paxos::Node`, and the
//! scenarios A1 to A10.
//!
//! # What is walked
//!
//! `machine` is a node with its disk, whose flush is a step of its own; `scopes` says which clusters are walked, `mutants`
//! leaves one rule out at a time, in the machine and never in the core, and the walk has to find two chosen values.
//! `exhaustive` (beside this directory) is how they are walked: letters are lost, repeated and overtaken without bound.
//!
//! | scope | nodes | proposers | ids | crashes |
//! |---|---|---|---|---|
//! | a duel, with a learner | 3 | 2 | 1 each | none |
//! | a duel with a crash, with and without a learner | 3 | 2 | 1 each | any node, once |
//! | a duel with two crashes | 3 | 2 | 1 each | any two nodes |
//! | three proposers | 3 | 3 | 1 each | none |
//! | three ids | 3 | 2 | 2 and 1 | none |
//! | three ids and a restart | 3 | 2 | 2 and 1 | a proposer, once |
//! | four and five acceptors | 4, 5 | 2 | 1 each | none |
//!
//! Some scopes lose every refusal, to stay small: a refusal only makes a proposer give up.
//!
//! "Chosen" is judged from the history of what acceptors reported as accepted, never from their present state.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub)]

#[path = "../exhaustive/mod.rs"]
mod exhaustive;
mod machine;
mod mutants;
mod scenarios;
mod scopes;
