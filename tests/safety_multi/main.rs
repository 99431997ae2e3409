//! Multi-Paxos
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "../exhaustive/mod.rs"]
mod exhaustive;
mod machine;
mod mutants;
mod scope;
mod scopes;
