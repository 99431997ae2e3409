//! Many seeds, on several threads, with one result that does not depend on how many.

use super::Simulation;
use super::fault::Fault;
use super::report::{Failure, Report};
use super::shorten::Broken;
use super::simulated::Simulated;
use super::state::mix_word;
use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZero;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// What a range of seeds came to. Prints as a table of what happened, and a line of sums below.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Totals {
    /// How many were run.
    pub seeds: u64,
    /// How long all of them took on their virtual clocks.
    pub simulated: Duration,
    /// How many slots were chosen.
    pub slots: u64,
    /// How many calls of clients were answered.
    pub operations: u64,
    /// How often each kind of fault occurred, and what else is rare enough to be counted.
    pub faults: BTreeMap<&'static str, u64>,
    /// A digest of all runs: the same for the same seeds, in any process and on any number of threads.
    pub trace: u64,
    /// The runs that broke a promise: the first few, in the order of their seeds.
    pub failures: Vec<Failure>,
}

/// After so many failures no further seed is counted.
const FAILURES_MAX: usize = 3;

impl Totals {
    /// Whether so many promises were broken that no further seed is worth its time.
    pub fn is_enough(&self) -> bool {
        self.failures.len() >= FAILURES_MAX
    }

    /// How often each kind of fault occurred, also never.
    pub fn by_fault(&self) -> BTreeMap<&'static str, u64> {
        let count = |name| self.faults.get(name).copied().unwrap_or_default();
        Fault::ALL.iter().map(|fault| (fault.name(), count(fault.name()))).collect()
    }

    fn add(&mut self, report: &Report) {
        self.seeds += 1;
        self.simulated += report.simulated;
        self.slots += report.slots;
        self.operations += report.operations;
        report.faults.iter().for_each(|(fault, count)| *self.faults.entry(fault).or_default() += count);
        self.trace = self.trace.wrapping_add(mix_word(report.seed, report.trace));
    }

    fn add_broken(&mut self, seed: u64, broken: &Broken) {
        self.seeds += 1;
        self.simulated += broken.at;
        self.trace = self.trace.wrapping_add(mix_word(seed, broken.trace));
    }

    /// Adds what `other`, other seeds, came to.
    pub fn join(&mut self, other: Self) {
        self.seeds += other.seeds;
        self.simulated += other.simulated;
        self.slots += other.slots;
        self.operations += other.operations;
        other.faults.iter().for_each(|(fault, count)| *self.faults.entry(fault).or_default() += count);
        // A sum, so that the order does not matter.
        self.trace = self.trace.wrapping_add(other.trace);
        self.failures.extend(other.failures);
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by_fault = self.by_fault();
        let consequences = || self.faults.iter().filter(|(name, _)| !by_fault.contains_key(*name));
        writeln!(f, "faults:")?;
        by_fault.iter().try_for_each(|(name, count)| writeln!(f, "{count:>12}  {name}"))?;
        writeln!(f, "what came of them:")?;
        consequences().try_for_each(|(name, count)| writeln!(f, "{count:>12}  {name}"))?;
        let hours = self.simulated.as_secs_f64() / 3600.0;
        let Self { seeds, slots, operations, .. } = self;
        writeln!(
            f,
            "{seeds} seeds, {hours:.2} simulated hours, {slots} slots, {operations} answers to clients"
        )?;
        write!(f, "{} broken promises, trace {:016x}", self.failures.len(), self.trace)
    }
}

/// The seeds under way, and those that have ended, folded in their order.
struct Folding {
    /// The next seed to be begun.
    begin: u64,
    /// The next seed to be folded.
    fold: u64,
    /// What has ended before an earlier one has.
    waiting: BTreeMap<u64, Result<Report, Box<Broken>>>,
    totals: Totals,
    broken: Vec<(u64, Broken)>,
}

impl Folding {
    fn is_enough(&self) -> bool {
        self.broken.len() >= FAILURES_MAX
    }

    fn begin(&mut self, end: u64) -> Option<u64> {
        let seed = self.begin;
        let begins = seed < end && !self.is_enough();
        begins.then(|| {
            self.begin += 1;
            seed
        })
    }

    /// A seed has ended. What comes after the last failure that counts is not counted, whether it was run or not.
    fn end(&mut self, seed: u64, outcome: Result<Report, Box<Broken>>) {
        self.waiting.insert(seed, outcome);
        while !self.is_enough()
            && let Some(outcome) = self.waiting.remove(&self.fold)
        {
            match outcome {
                Ok(report) => self.totals.add(&report),
                Err(broken) => {
                    self.totals.add_broken(self.fold, &broken);
                    self.broken.push((self.fold, *broken));
                }
            }
            self.fold += 1;
        }
    }
}

/// Runs `simulation` with each of `seeds` in place of its own, until a few of them have broken a promise.
///
/// What comes out depends on the seeds alone: not on `threads`, not on which of them is faster.
pub fn run_seeds<S: Simulated>(
    simulation: &Simulation<S>,
    seeds: Range<u64>,
    threads: NonZero<usize>,
) -> Totals {
    let folding = Folding {
        begin: seeds.start,
        fold: seeds.start,
        waiting: BTreeMap::new(),
        totals: Totals::default(),
        broken: Vec::new(),
    };
    let folding = Mutex::new(folding);
    let lock = || folding.lock().unwrap_or_else(PoisonError::into_inner);
    let begin = || lock().begin(seeds.end);
    let work = || {
        while let Some(seed) = begin() {
            let outcome = simulation.clone().seed(seed).run_once();
            lock().end(seed, outcome);
        }
    };
    std::thread::scope(|scope| {
        (0..threads.get()).for_each(|_| {
            scope.spawn(work);
        });
    });
    let Folding { mut totals, broken, .. } = folding.into_inner().unwrap_or_else(PoisonError::into_inner);
    let shortened = broken.into_iter().map(|(seed, broken)| simulation.clone().seed(seed).shorten(broken));
    totals.failures = shortened.collect();
    totals
}
