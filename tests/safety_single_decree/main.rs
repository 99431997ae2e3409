//! Single-decree Paxos chooses at most one value: every interleaving of whole clusters of `synod::paxos::Node`, and the
//! scenarios A1 to A10.
//!
//! # What is walked
//!
//! `machine` is a node with its disk, whose flush is a step of its own; `scopes` says which clusters are walked, `mutants`
//! leaves one rule out at a time, in the machine and never in the core, and the walk has to find two chosen values.
//! `exhaustive` (beside this directory) is how they are walked: letters are lost, repeated and overtaken without bound.
//!
//! | scope | nodes | proposers | ids each | crashes |
//! |---|---|---|---|---|
//! | a duel | 3 | 2 | 1, and 1 more | any one node |
//!
//! "Chosen" is judged from the history of what acceptors reported as accepted, never from their present state.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "../exhaustive/mod.rs"]
mod exhaustive;
mod machine;
mod mutants;
mod scenarios;
mod scopes;
