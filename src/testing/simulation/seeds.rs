//! Many seeds, on several threads, with one result that does not depend on how many.

use super::Simulation;
use super::report::{Failure, Report};
use super::simulated::Simulated;
use super::state::mix_word;
use std::collections::BTreeMap;
use std::num::NonZero;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// What a range of seeds came to.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    /// How many were run.
    pub seeds: u64,
    /// How long all of them took on their virtual clocks.
    pub simulated: Duration,
    /// How many slots were chosen.
    pub slots: u64,
    /// How many calls of clients were answered.
    pub operations: u64,
    /// How often each kind of fault occurred.
    pub faults: BTreeMap<&'static str, u64>,
    /// A digest of all runs: the same for the same seeds, in any process and on any number of threads.
    pub trace: u64,
    /// The runs that broke a promise: the first few, in the order of their seeds.
    pub failures: Vec<Failure>,
}

/// After so many failures no further seed is begun.
const FAILURES_MAX: usize = 3;

impl Totals {
    fn add(&mut self, report: &Report) {
        self.seeds += 1;
        self.simulated += report.simulated;
        self.slots += report.slots;
        self.operations += report.operations;
        report.faults.iter().for_each(|(fault, count)| *self.faults.entry(fault).or_default() += count);
        // A sum, so that the order does not matter.
        self.trace = self.trace.wrapping_add(mix_word(report.seed, report.trace));
    }

    /// The sum of both.
    pub fn join(&mut self, other: Self) {
        self.seeds += other.seeds;
        self.simulated += other.simulated;
        self.slots += other.slots;
        self.operations += other.operations;
        other.faults.iter().for_each(|(fault, count)| *self.faults.entry(fault).or_default() += count);
        self.trace = self.trace.wrapping_add(other.trace);
        self.failures.extend(other.failures);
    }
}

/// Runs `simulation` with each of `seeds` in place of its own.
pub fn run_seeds<S: Simulated>(
    simulation: &Simulation<S>,
    seeds: Range<u64>,
    threads: NonZero<usize>,
) -> Totals {
    let next = AtomicU64::new(seeds.start);
    let totals = Mutex::new(Totals::default());
    let lock = || totals.lock().unwrap_or_else(PoisonError::into_inner);
    let work = || {
        let mut own = Totals::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end || lock().failures.len() >= FAILURES_MAX {
                break;
            }
            match simulation.clone().seed(seed).run() {
                Ok(report) => own.add(&report),
                Err(failure) => {
                    own.seeds += 1;
                    lock().failures.push(*failure);
                }
            }
        }
        lock().join(own);
    };
    std::thread::scope(|scope| {
        (0..threads.get()).for_each(|_| {
            scope.spawn(work);
        });
    });
    let mut totals = totals.into_inner().unwrap_or_else(PoisonError::into_inner);
    totals.failures.sort_by_key(|failure| failure.seed);
    totals
}
