//! Shortening: fewer faults, clients and calls and an earlier end, as long as the same promise is broken.
//!
//! A run follows from its seed, so whatever is taken away changes all that comes after it. What is left is therefore not the
//! smallest run there is, but the smallest that was met within [`RUNS_MAX`] runs, always the same for the same failure.

use super::fault::{Fault, Faults};
use super::report::{Failure, Report};
use super::simulated::Simulated;
use super::violation::Violation;
use super::weather::Weather;
use super::world::World;
use super::{Options, run_once};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// At most so many runs are made to shorten one failure.
const RUNS_MAX: u64 = 600;
/// The last lines of the history that are kept.
const LINES_MAX: usize = 60;

/// How a run ended that broke a promise.
#[derive(Clone, Debug)]
pub(super) struct Broken {
    pub(super) violation: Violation,
    pub(super) at: Duration,
    pub(super) trace: u64,
    /// Faults that were drawn until then.
    pub(super) occurrences: u64,
    /// Calls that clients had begun.
    pub(super) operations: usize,
    pub(super) clients: usize,
}

/// What is taken away from what a seed says.
#[derive(Clone, Debug, Default)]
pub(super) struct Less {
    /// Of the faults that are drawn, counted from 1, only these happen.
    kept: Option<Arc<BTreeSet<u64>>>,
    /// At most so many clients.
    clients: Option<u64>,
    /// Clients stop when so many calls are begun.
    operations: Option<usize>,
    /// Batches without commands come at most this often.
    fill_every: Option<Duration>,
}

impl Less {
    /// Whether the fault that is drawn as the `nth` happens.
    pub(super) fn keeps(&self, nth: u64) -> bool {
        self.kept.as_ref().is_none_or(|kept| kept.contains(&nth))
    }

    /// Whether clients begin nothing more.
    pub(super) fn has_enough(&self, operations: usize) -> bool {
        self.operations.is_some_and(|enough| operations >= enough)
    }

    /// Takes away what is in the weather.
    pub(super) fn lighten(&self, weather: &mut Weather) {
        weather.clients = self.clients.map_or(weather.clients, |clients| weather.clients.min(clients));
        weather.fill_every =
            self.fill_every.map_or(weather.fill_every, |every| weather.fill_every.max(every));
    }
}

/// Runs `options` again and again with less in it, and tells of the smallest run that still breaks the promise.
pub(super) fn shorten<S: Simulated>(
    options: &Options,
    new: fn() -> S,
    found: Broken,
    replay: String,
) -> Failure {
    let trace = found.trace;
    let mut smallest = Smallest { options: options.clone(), broken: found, new, runs: 0 };
    smallest.fewer_kinds();
    smallest.fewer_faults();
    smallest.shorter_time();
    smallest.fewer_clients();
    smallest.fewer_calls();
    smallest.fewer_batches();
    smallest.fewer_faults();
    smallest.tell(replay, trace)
}

/// The smallest run so far.
struct Smallest<S: Simulated> {
    options: Options,
    broken: Broken,
    new: fn() -> S,
    runs: u64,
}

impl<S: Simulated> Smallest<S> {
    /// Makes a run with less; true if it breaks the same promise, and is then the smallest.
    fn attempt(&mut self, less: Options) -> bool {
        if self.runs >= RUNS_MAX {
            return false;
        }
        self.runs += 1;
        match run_once(&less, self.new) {
            Err(broken) if broken.violation.is_like(&self.broken.violation) => {
                (self.options, self.broken) = (less, broken);
                true
            }
            _ => false,
        }
    }

    /// No fault at all, or one kind alone, or else as few kinds as it takes.
    fn fewer_kinds(&mut self) {
        let kinds: Vec<Fault> = self.options.faults.iter().collect();
        let alone = kinds.iter().map(|kind| Faults::only([*kind]));
        for faults in std::iter::once(Faults::none()).chain(alone) {
            if self.attempt(Options { faults, ..self.options.clone() }) {
                return;
            }
        }
        fewer(self, kinds, |smallest, kinds| {
            let faults = Faults::only(kinds.iter().copied());
            smallest.attempt(Options { faults, ..smallest.options.clone() }).then(|| kinds.to_vec())
        });
    }

    /// Of the single faults, as few as it takes.
    fn fewer_faults(&mut self) {
        let count = self.broken.occurrences;
        let happened = (1..=count).filter(|nth| self.options.less.keeps(*nth)).collect();
        fewer(self, happened, |smallest, kept| {
            let set = Arc::new(kept.iter().copied().collect());
            let less = Less { kept: Some(set), ..smallest.options.less.clone() };
            let is_smaller = smallest.attempt(Options { less, ..smallest.options.clone() });
            // What is drawn only after the promise is broken need not be kept.
            let count = smallest.broken.occurrences;
            is_smaller.then(|| kept.iter().copied().filter(|nth| *nth <= count).collect())
        });
    }

    /// The faults end earlier.
    fn shorter_time(&mut self) {
        for parts in [8, 4, 2] {
            let safety = self.broken.at.min(self.options.safety.unwrap_or(self.broken.at)) / parts;
            if self.attempt(Options { safety: Some(safety), ..self.options.clone() }) {
                return;
            }
        }
    }

    fn fewer_clients(&mut self) {
        for clients in 1..self.broken.clients as u64 {
            let less = Less { clients: Some(clients), ..self.options.less.clone() };
            if self.attempt(Options { less, ..self.options.clone() }) {
                return;
            }
        }
    }

    /// None, or one, or twice as many, up to a part of what it takes now; then a little fewer.
    fn fewer_calls(&mut self) {
        let mut enough = 0;
        while enough < self.broken.operations {
            let less = Less { operations: Some(enough), ..self.options.less.clone() };
            if self.attempt(Options { less, ..self.options.clone() }) {
                break;
            }
            enough = (enough * 2).max(1);
        }
        for part in [2, 3, 4, 6, 8] {
            let calls = self.broken.operations - self.broken.operations / part;
            let less = Less { operations: Some(calls), ..self.options.less.clone() };
            if calls < self.broken.operations && self.attempt(Options { less, ..self.options.clone() }) {
                return;
            }
        }
    }

    /// What makes the log grow comes more seldom.
    fn fewer_batches(&mut self) {
        for millis in [200, 100, 50] {
            let less = Less { fill_every: Some(Duration::from_millis(millis)), ..self.options.less.clone() };
            if self.attempt(Options { less, ..self.options.clone() }) {
                return;
            }
        }
    }

    /// Runs it once more and listens.
    fn tell(self, replay: String, trace: u64) -> Failure {
        let listen = || {
            let mut world = World::new(self.options.clone(), self.new, true)?;
            let run = std::panic::AssertUnwindSafe(|| world.run());
            let _: Result<Result<Report, Violation>, _> = std::panic::catch_unwind(run);
            let occurred = Fault::ALL.iter().copied().filter(|fault| world.counted(*fault) > 0);
            Some((Faults::only(occurred), world.history_of(&self.broken.violation, LINES_MAX)))
        };
        let (faults, history) = listen().unwrap_or_else(|| (self.options.faults.clone(), Vec::new()));
        let kept = |nth: &u64| self.options.less.keeps(*nth);
        Failure {
            seed: self.options.seed,
            faults_left: (1..=self.broken.occurrences).filter(kept).count() as u64,
            violation: self.broken.violation,
            faults,
            safety: self.options.safety,
            at: self.broken.at,
            runs: self.runs,
            trace,
            replay,
            history,
        }
    }
}

/// Takes parts away from `all`, first halves, then ever smaller ones, in the end single ones, the last of them first.
/// `attempt` says what is left if it is still enough.
fn fewer<T: Clone, S: Simulated>(
    smallest: &mut Smallest<S>,
    mut all: Vec<T>,
    mut attempt: impl FnMut(&mut Smallest<S>, &[T]) -> Option<Vec<T>>,
) {
    let mut size = all.len();
    while size > 0 && !all.is_empty() {
        let mut end = all.len();
        while end > 0 {
            let start = end.saturating_sub(size);
            let left: Vec<T> = all.iter().take(start).chain(all.iter().skip(end)).cloned().collect();
            if let Some(left) = attempt(smallest, &left) {
                all = left;
            }
            end = start.min(all.len());
        }
        size = if size == 1 { 0 } else { size.div_ceil(2) };
    }
}
