//! The shell, simulated by the thousand seeds: whole nodes with their actors on a paused clock, over a network, disks and
//! clocks whose faults are drawn from the seed (issue 4, engine c of reliability 5.1).
//!
//! `SYNOD_SEED=7 cargo test --test shell thousands -- --include-ignored` runs one seed again; `SYNOD_SEEDS=200000` runs more of them.
//! Snapshots are left to `tests/node`, since they are drawn on threads.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod checks;
mod client;
mod clock;
mod disk;
mod line;
mod machine;
mod nemesis;
mod plan;
mod random;
mod run;
mod scenarios;
mod seeds;
mod trace;
mod world;

/// What a run may be told to do wrong, to see that it is noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mutant {
    None,
    /// Disks answer before the group is durable.
    EarlyFlush,
    /// A client takes a write that lasts for done.
    EarlyAnswer,
    /// Reads are served from what the node has applied, without asking.
    StaleRead,
    /// A write whose outcome is unknown is made again outside of a session.
    BlindRetry,
}
