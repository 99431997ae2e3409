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
    /// The faults that are enough to break it.
    pub faults: Faults,
    /// For how long they have to go on.
    pub safety: Option<Duration>,
    /// When it was broken in the shortened run, on the virtual clock.
    pub at: Duration,
    /// How many runs were made to shorten it.
    pub runs: u64,
    /// One command that runs it again.
    pub replay: String,
    /// The last of what happened in the shortened run that has to do with the violation.
    pub history: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}: {}", self.seed, self.violation)?;
        writeln!(f, "  replay: {}", self.replay)?;
        let faults = self.faults.to_string();
        let faults = if faults.is_empty() { "none" } else { &faults };
        writeln!(
            f,
            "  enough of it (found in {} runs), broken at {:?}, with these faults: {faults}",
            self.runs, self.at
        )?;
        self.history.iter().try_for_each(|line| writeln!(f, "  {line}"))
    }
}

impl std::error::Error for Failure {}
