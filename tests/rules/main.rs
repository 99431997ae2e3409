//! The rules of the protocol, one by one: each test drives a role, or a small cluster in memory, to where a rule decides, and
//! names the rule above its name.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod catch_up;
mod change;
mod election;
mod handover;
mod hostile;
mod identity;
mod learning;
mod leases;
mod membership;
mod phase1;
mod phase2;
mod reads;
mod scenarios;
mod sessions;
mod sizes;
mod snapshots;
mod support;
mod witness;
