//! Shortening: fewer faults, clients and calls and an earlier end, as long as the same promise is broken.
//!
//! A run follows from its seed, so whatever is taken away changes all that comes after it. What is left is therefore not the
//! smallest run there is, but the smallest that was met within [`RUNS_MAX`] runs, always the same for the same failure.

use super::fault::{Fault, Faults};
use super::report::{Failure, Report};
use super::simulated::Simulated;
use super::state::mix_word;
use super::violation::Violation;
use super::weather::Weather;
use super::world::World;
use super::{Options, run_once};
use crate::multi::Jitter;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// At most so many runs are made to shorten one failure.
const RUNS_MAX: u64 = 800;
/// Single kinds of faults are tried so often, each time with everything else drawn anew.
const SALTS: u64 = 6;
/// So few faults are few enough.
const FEW: usize = 2;
/// After so many parts of the faults that are not enough no further part is drawn.
const IN_VAIN_MAX: u64 = 120;
/// The last lines of the history that are kept.
const LINES_MAX: usize = 60;

/// How a run ended that broke a promise.
#[derive(Clone, Debug)]
pub(super) struct Broken {
    pub(super) violation: Violation,
    pub(super) at: Duration,
    pub(super) trace: u64,
    /// The faults that were drawn until then.
    pub(super) drawn: Drawn,
    /// Calls that clients had begun.
    pub(super) operations: usize,
    pub(super) clients: usize,
    /// The kinds of faults that had occurred.
    pub(super) kinds: Vec<Fault>,
}

/// One fault that was drawn, counted among its like from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Draw {
    /// It befalls a share of all messages or writes.
    OfAShare(u64),
    /// It comes now and then.
    NowAndThen(u64),
}

/// How many faults were drawn.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Drawn {
    of_a_share: u64,
    now_and_then: u64,
}

impl Drawn {
    /// One more that befalls a message or a write.
    pub(super) fn of_a_share(&mut self) -> Draw {
        self.of_a_share += 1;
        Draw::OfAShare(self.of_a_share)
    }

    /// One more that comes now and then.
    pub(super) fn now_and_then(&mut self) -> Draw {
        self.now_and_then += 1;
        Draw::NowAndThen(self.now_and_then)
    }

    fn has(&self, draw: Draw) -> bool {
        match draw {
            Draw::OfAShare(nth) => nth <= self.of_a_share,
            Draw::NowAndThen(nth) => nth <= self.now_and_then,
        }
    }

    fn all(self) -> impl Iterator<Item = Draw> {
        let shares = (1..=self.of_a_share).map(Draw::OfAShare);
        shares.chain((1..=self.now_and_then).map(Draw::NowAndThen))
    }
}

/// What is taken away from what a seed says.
#[derive(Clone, Debug, Default)]
pub(super) struct Less {
    /// Of the faults that are drawn only these happen.
    kept: Option<Arc<BTreeSet<Draw>>>,
    /// At most so many clients.
    clients: Option<u64>,
    /// Clients stop when so many calls are begun.
    operations: Option<usize>,
    /// Batches without commands come at most this often.
    fill_every: Option<Duration>,
    /// All that is drawn after the weather is drawn otherwise; 0 for what the seed says.
    salt: u64,
}

impl Less {
    /// Whether this fault, that is drawn, happens.
    pub(super) fn keeps(&self, draw: Draw) -> bool {
        self.kept.as_ref().is_none_or(|kept| kept.contains(&draw))
    }

    /// Whether clients begin nothing more.
    pub(super) fn has_enough(&self, operations: usize) -> bool {
        self.operations.is_some_and(|enough| operations >= enough)
    }

    /// What is drawn once the weather is known.
    pub(super) fn salted(&self, random: Jitter) -> Jitter {
        if self.salt == 0 { random } else { Jitter::new(random.clone().draw() ^ mix_word(0, self.salt)) }
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
    smallest.any_part();
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
                (self.options, self.broken) = (less, *broken);
                true
            }
            _ => false,
        }
    }

    /// Makes a run with these kinds of faults alone.
    fn only_kinds(&mut self, kinds: &[Fault], salt: u64) -> bool {
        let less = Less { salt, ..self.options.less.clone() };
        self.attempt(Options { faults: Faults::only(kinds.iter().copied()), less, ..self.options.clone() })
    }

    /// No fault at all, or one kind alone, or two, or else as few kinds as it takes.
    fn fewer_kinds(&mut self) {
        if self.only_kinds(&[], 0) {
            return;
        }
        let kinds = self.broken.kinds.clone();
        let found = (0..SALTS).any(|salt| kinds.iter().any(|kind| self.only_kinds(&[*kind], salt)))
            || kinds.iter().any(|a| kinds.iter().any(|b| a < b && self.only_kinds(&[*a, *b], 0)));
        if !found {
            fewer(self, kinds, |smallest, kinds| smallest.only_kinds(kinds, 0).then(|| kinds.to_vec()));
        }
    }

    /// The single faults that happened.
    fn happened(&self) -> Vec<Draw> {
        self.broken.drawn.all().filter(|draw| self.options.less.keeps(*draw)).collect()
    }

    /// Only these faults happen; what of them is left if that is enough.
    fn keep(&mut self, kept: &[Draw]) -> Option<Vec<Draw>> {
        let set = Arc::new(kept.iter().copied().collect());
        let less = Less { kept: Some(set), ..self.options.less.clone() };
        let is_enough = self.attempt(Options { less, ..self.options.clone() });
        // What is drawn only after the promise is broken need not be kept.
        is_enough.then(|| kept.iter().copied().filter(|draw| self.broken.drawn.has(*draw)).collect())
    }

    /// Of the single faults, as few as it takes: none of those that befall a share, or one alone of the others, or parts of all.
    fn fewer_faults(&mut self) {
        let (others, shares): (Vec<_>, Vec<_>) =
            self.happened().into_iter().partition(|draw| matches!(draw, Draw::NowAndThen(_)));
        if shares.is_empty() || self.keep(&others).is_some() {
            let alone = self.happened();
            if alone.len() > 1 && alone.iter().any(|draw| self.keep(&[*draw]).is_some()) {
                return;
            }
        }
        let happened = self.happened();
        fewer(self, happened, Self::keep);
    }

    /// Since a run with less is another run, any part of what is left may be enough: some are tried.
    fn any_part(&mut self) {
        let mut random = Jitter::new(self.options.seed);
        let mut in_vain = 0;
        while in_vain < IN_VAIN_MAX && self.runs < RUNS_MAX {
            let happened = self.happened();
            let eighths = 1 + random.draw() % 7;
            let part: Vec<Draw> = happened.iter().copied().filter(|_| random.draw() % 8 < eighths).collect();
            if happened.len() <= FEW {
                break;
            }
            let before = self.options.less.salt;
            let salt = if random.draw().is_multiple_of(2) { before } else { self.runs };
            self.options.less.salt = salt;
            if part.len() < happened.len() && self.keep(&part).is_some() {
                in_vain = 0;
            } else {
                self.options.less.salt = before;
                in_vain += 1;
            }
        }
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
            Some((Faults::only(world.kinds()), world.history_of(&self.broken.violation, LINES_MAX)))
        };
        let (faults, history) = listen().unwrap_or_else(|| (self.options.faults.clone(), Vec::new()));
        Failure {
            seed: self.options.seed,
            faults_left: self.happened().len() as u64,
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::testing::simulation::{Arguments, Breakage, Registers, Simulation, run_seeds};
    use std::num::NonZero;

    fn broken(breakage: Breakage) -> Simulation {
        Simulation::new(0).breakage(breakage).replay("simulate {arguments}")
    }

    fn first_failure(simulation: &Simulation) -> Failure {
        *(0..60).find_map(|seed| simulation.clone().seed(seed).run().err()).unwrap()
    }

    #[test]
    fn the_command_that_a_failure_prints_makes_the_same_run_and_the_same_failure() {
        let faults = Faults::all().without(Fault::Pause).without(Fault::Membership);
        let simulations = [
            broken(Breakage::MissedCommand).nodes(5),
            broken(Breakage::RepeatedCommand),
            broken(Breakage::EarlyAnswer).faults(faults).safety(Duration::from_millis(900)),
        ];
        for simulation in simulations {
            let failure = first_failure(&simulation);
            let words = failure.replay.strip_prefix("simulate ").unwrap().split(' ');
            let read = Arguments::read(words.map(str::to_owned)).unwrap();
            let again = Simulation::new(read.seeds.start).arguments(&read).replay("simulate {arguments}");
            let again = again.run().unwrap_err();
            assert_eq!(again.trace, failure.trace, "{failure}");
            assert_eq!(again.to_string(), failure.to_string());
        }
    }

    #[test]
    fn a_failure_is_shortened_to_few_faults_and_at_most_60_lines_with_the_violation_last() {
        for (breakage, faults_max) in [
            (Breakage::UnrestoredState, 20),
            (Breakage::StaleRead, 20),
            (Breakage::RepeatedCommand, 0),
            (Breakage::EarlyAnswer, 0),
            (Breakage::NoElection, 0),
        ] {
            let failure = first_failure(&broken(breakage));
            println!("{breakage:?}: {failure}");
            assert!(failure.faults_left <= faults_max, "{breakage:?}: {failure}");
            assert!(failure.runs <= RUNS_MAX, "{breakage:?}: {failure}");
            assert!((2..=LINES_MAX).contains(&failure.history.len()), "{breakage:?}: {failure}");
            let (last, before) = failure.history.split_last().unwrap();
            assert!(last.starts_with(">>> ") && last.contains(" ms  "), "{breakage:?}: {failure}");
            assert!(before.iter().all(|line| !line.starts_with(">>>")), "{breakage:?}: {failure}");
        }
    }

    // scenario N6
    #[test]
    fn failures_are_the_same_on_any_number_of_threads() {
        let simulation = broken(Breakage::EarlyAnswer);
        let [alone, three] =
            [1, 3].map(|threads| run_seeds(&simulation, 0..100, NonZero::new(threads).unwrap()));
        assert_eq!((alone.seeds, alone.trace), (three.seeds, three.trace));
        assert_eq!(alone.faults, three.faults);
        let told = |failures: &[Failure]| failures.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(told(&alone.failures), told(&three.failures));
        assert!(alone.is_enough(), "{alone}");
    }

    #[test]
    fn parts_are_taken_away_until_only_what_matters_is_left() {
        let mut smallest = Smallest {
            options: broken(Breakage::NoElection).options,
            broken: Broken {
                violation: Violation::Panicked { text: String::new() },
                at: Duration::ZERO,
                trace: 0,
                drawn: Drawn::default(),
                operations: 0,
                clients: 0,
                kinds: Vec::new(),
            },
            new: Registers::default,
            runs: 0,
        };
        let mut left = Vec::new();
        let mut attempts = 0;
        fewer(&mut smallest, (0..100).collect(), |_, part: &[u32]| {
            attempts += 1;
            let is_enough = [3, 50, 97].iter().all(|number| part.contains(number));
            is_enough.then(|| {
                left = part.to_vec();
                left.clone()
            })
        });
        assert_eq!(left, [3, 50, 97]);
        assert!(attempts < 150, "{attempts}");
    }
}
