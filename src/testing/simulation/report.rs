//! What a run came to: a report, or a failure that can be replayed.

use super::fault::Faults;
use super::violation::Violation;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// A run in which every promise was kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// How many nodes the cluster began with.
    pub nodes: u64,
    /// How many slots were chosen.
    pub slots: u64,
    /// How many calls of clients were answered.
    pub operations: u64,
    /// How long it took on the virtual clock.
    pub simulated: Duration,
    /// How often each kind of fault occurred, and what else is rare enough to be counted.
    pub faults: BTreeMap<&'static str, u64>,
    /// A digest of all that happened: the same for the same seed, in any process.
    pub trace: u64,
}

/// A run in which a promise was broken. Prints as the promise, the command that replays it, and a shortened history.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The seed.
    pub seed: u64,
    /// The promise.
    pub violation: Violation,
    /// The kinds of faults that are enough to break it.
    pub faults: Faults,
    /// How many single faults of these kinds happen in the shortened run.
    pub faults_left: u64,
    /// For how long they have to go on.
    pub safety: Option<Duration>,
    /// When it was broken in the shortened run, on the virtual clock.
    pub at: Duration,
    /// How many runs were made to shorten it: at most 800.
    pub runs: u64,
    /// A digest of all that happened in the run that was found, before it was shortened: a replay has the same.
    pub trace: u64,
    /// One command that runs it again.
    pub replay: String,
    /// The last of what happened in the shortened run that has to do with the violation.
    pub history: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, violation, faults, faults_left, runs, replay, .. } = self;
        writeln!(f, "seed {seed}: {violation}")?;
        writeln!(f, "  replay: {replay}")?;
        write!(f, "  shortened in {runs} runs; broken after {} ms", self.at.as_millis())?;
        match faults_left {
            0 => writeln!(f, " without any fault:")?,
            count => writeln!(f, "; faults left: {count} ({faults}):")?,
        }
        self.history.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

impl std::error::Error for Failure {}
