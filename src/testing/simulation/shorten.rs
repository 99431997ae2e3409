//! Shortening: fewer faults and an earlier end, as long as the same promise is broken.

use super::fault::{Fault, Faults};
use super::report::{Failure, Report};
use super::simulated::Simulated;
use super::violation::Violation;
use super::world::World;
use super::{Options, run_once};
use std::time::Duration;

/// The last lines of the history that are kept.
const LINES_MAX: usize = 60;

/// Runs `options` again and again with less in it, and tells of the shortest run that still breaks the promise.
pub(super) fn shorten<S: Simulated>(
    options: &Options,
    new: fn() -> S,
    found: Violation,
    at: Duration,
) -> Failure {
    let mut best = Best { options: options.clone(), violation: found, at, runs: 0 };
    let alone = Fault::ALL.iter().filter(|fault| options.faults.has(**fault));
    for few in std::iter::once(Faults::none()).chain(alone.map(|fault| Faults::only([*fault]))) {
        if best.attempt(Options { faults: few, ..options.clone() }, new) {
            break;
        }
    }
    for fault in Fault::ALL.iter().filter(|fault| options.faults.has(**fault)) {
        if !best.options.faults.has(*fault) {
            continue;
        }
        let less = Options { faults: best.options.faults.without(*fault), ..best.options.clone() };
        best.attempt(less, new);
    }
    for parts in [8, 4, 2] {
        let safety = best.at.min(best.options.safety.unwrap_or(best.at)) / parts;
        if !best.options.safety.is_some_and(|known| known <= safety) {
            let less = Options { safety: Some(safety), ..best.options.clone() };
            best.attempt(less, new);
        }
    }
    best.tell(new)
}

/// The shortest run so far.
struct Best {
    options: Options,
    violation: Violation,
    at: Duration,
    runs: u64,
}

impl Best {
    /// True if the same promise is broken with less.
    fn attempt<S: Simulated>(&mut self, less: Options, new: fn() -> S) -> bool {
        self.runs += 1;
        if let Err((violation, at)) = run_once(&less, new)
            && violation.is_like(&self.violation)
        {
            (self.options, self.violation, self.at) = (less, violation, at);
            return true;
        }
        false
    }

    /// Runs it once more and listens.
    fn tell<S: Simulated>(self, new: fn() -> S) -> Failure {
        let listen = || {
            let mut world = World::new(self.options.clone(), new, true)?;
            let _: Result<Report, Violation> = world.run();
            Some(world.history_of(&self.violation, LINES_MAX))
        };
        let history = std::panic::catch_unwind(std::panic::AssertUnwindSafe(listen)).ok().flatten();
        Failure {
            seed: self.options.seed,
            violation: self.violation,
            faults: self.options.faults,
            safety: self.options.safety,
            at: self.at,
            runs: self.runs,
            replay: self.options.replay,
            history: history.unwrap_or_default(),
        }
    }
}
