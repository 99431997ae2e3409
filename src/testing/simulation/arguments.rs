//! Arguments: what a command line says of a simulation, and the command line that says the same again.

use super::breakage::Breakage;
use super::fault::{Fault, Faults, UnknownFault};
use super::{NODES_MAX, Options};
use std::fmt;
use std::num::ParseIntError;
use std::ops::Range;
use std::time::Duration;

/// What a command line asks for. [`Simulation::arguments`](super::Simulation::arguments) takes over all that is said of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Arguments {
    /// The seeds to be run: all below `--seeds`, or `--seed` alone.
    pub seeds: Range<u64>,
    /// `--nodes`: so many in place of what each seed says, from 1 to [`NODES_MAX`].
    pub nodes: Option<u64>,
    /// `--faults`: only these, by their names with commas between them, or `none`.
    pub faults: Faults,
    /// `--safety`: how long the faults go on, in milliseconds on the virtual clock.
    pub safety: Option<Duration>,
    /// `--broken`: what is broken on purpose, by the name of the [`Breakage`].
    pub broken: Option<Breakage>,
    /// `--tell`: everything that happens is to be printed.
    pub tell: bool,
    /// `--json`: the last line is to be an object.
    pub json: bool,
}

/// Seeds that are run if nothing is said of them.
const SEEDS: u64 = 1_000;

impl Arguments {
    /// What may be said, for whoever said something else.
    pub const USAGE: &str = "[--seeds N] [--seed S] [--nodes N] [--faults A,B] [--safety MILLISECONDS] [--broken NAME] \
                             [--tell] [--json]";

    /// Reads the words of a command line, without the program's name.
    ///
    /// # Errors
    ///
    /// What is wrong with the first word that is wrong.
    pub fn read(words: impl IntoIterator<Item = String>) -> Result<Self, ArgumentError> {
        let mut read = Self::default();
        let (mut seeds, mut seed) = (None, None);
        let mut words = words.into_iter();
        while let Some(option) = words.next() {
            let mut next =
                || words.next().ok_or_else(|| ArgumentError::NothingFollows { option: option.clone() });
            match option.as_str() {
                "--seeds" => seeds = Some(number(&option, next()?, 1..=u64::MAX)?),
                "--seed" => seed = Some(number(&option, next()?, 0..=u64::MAX - 1)?),
                "--nodes" => read.nodes = Some(number(&option, next()?, 1..=NODES_MAX)?),
                "--faults" => read.faults = faults(&next()?)?,
                "--safety" => {
                    let millis = number(&option, next()?, 1..=SAFETY_MILLIS_MAX)?;
                    read.safety = Some(Duration::from_millis(millis));
                }
                "--broken" => read.broken = Some(breakage(next()?)?),
                "--tell" => read.tell = true,
                "--json" => read.json = true,
                _ => return Err(ArgumentError::Unknown { option }),
            }
        }
        match (seed, seeds) {
            (Some(_), Some(_)) => return Err(ArgumentError::SeedAndSeeds),
            (Some(seed), None) => read.seeds = seed..seed + 1,
            (None, Some(seeds)) => read.seeds = 0..seeds,
            (None, None) => {}
        }
        Ok(read)
    }
}

impl Default for Arguments {
    fn default() -> Self {
        Self {
            seeds: 0..SEEDS,
            nodes: None,
            faults: Faults::all(),
            safety: None,
            broken: None,
            tell: false,
            json: false,
        }
    }
}

/// An hour on the virtual clock.
const SAFETY_MILLIS_MAX: u64 = 3_600_000;

fn number(option: &str, given: String, range: std::ops::RangeInclusive<u64>) -> Result<u64, ArgumentError> {
    let option = option.to_owned();
    match given.parse() {
        Ok(number) if range.contains(&number) => Ok(number),
        Ok(_) => Err(ArgumentError::OutOfRange { option, given, from: *range.start(), to: *range.end() }),
        Err(source) => Err(ArgumentError::NotANumber { option, given, source }),
    }
}

fn faults(names: &str) -> Result<Faults, ArgumentError> {
    if names == NO_FAULTS {
        return Ok(Faults::none());
    }
    let faults: Result<Vec<Fault>, UnknownFault> = names.split(',').map(str::parse).collect();
    Ok(Faults::only(faults?))
}

const NO_FAULTS: &str = "none";

fn breakage(name: String) -> Result<Breakage, ArgumentError> {
    let found = Breakage::ALL.iter().find(|breakage| format!("{breakage:?}") == name);
    found.copied().ok_or(ArgumentError::UnknownBreakage { name })
}

/// A command line that cannot be followed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ArgumentError {
    /// There is no such option.
    #[error("there is no option {option:?}")]
    Unknown {
        /// What was given.
        option: String,
    },
    /// The last word wants another one behind it.
    #[error("{option} wants to be followed by a value")]
    NothingFollows {
        /// The option.
        option: String,
    },
    /// A number is none.
    #[error("{option} wants a number, and {given:?} is none")]
    NotANumber {
        /// The option.
        option: String,
        /// What was given.
        given: String,
        /// Why it is none.
        source: ParseIntError,
    },
    /// A number is too low or too high.
    #[error("{option} wants a number from {from} to {to}, not {given}")]
    OutOfRange {
        /// The option.
        option: String,
        /// What was given.
        given: String,
        /// The lowest.
        from: u64,
        /// The highest.
        to: u64,
    },
    /// One seed, or all below a number: not both.
    #[error("--seed runs one seed and --seeds all below a number: not both")]
    SeedAndSeeds,
    /// There is no such fault.
    #[error(transparent)]
    UnknownFault(#[from] UnknownFault),
    /// There is no such breakage.
    #[error("nothing is broken by the name {name:?}")]
    UnknownBreakage {
        /// What was given.
        name: String,
    },
}

/// The arguments that make exactly this run.
pub(super) struct Replay<'a>(pub(super) &'a Options);

impl fmt::Display for Replay<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Options { seed, nodes, faults, safety, breakage, .. } = self.0;
        write!(f, "--seed {seed}")?;
        if let Some(nodes) = nodes {
            write!(f, " --nodes {nodes}")?;
        }
        if *faults == Faults::none() {
            write!(f, " --faults {NO_FAULTS}")?;
        } else if *faults != Faults::all() {
            write!(f, " --faults {faults}")?;
        }
        if let Some(safety) = safety {
            write!(f, " --safety {}", safety.as_millis())?;
        }
        if let Some(breakage) = breakage {
            write!(f, " --broken {breakage:?}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::testing::simulation::Simulation;

    fn read(line: &str) -> Result<Arguments, ArgumentError> {
        Arguments::read(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn a_seed_is_run_alone_and_seeds_are_all_below() {
        assert_eq!(read("--seed 7").unwrap().seeds, 7..8);
        assert_eq!(read("--seeds 7").unwrap().seeds, 0..7);
        assert_eq!(read("").unwrap().seeds, 0..SEEDS);
        assert_eq!(read("--seed 7 --seeds 7"), Err(ArgumentError::SeedAndSeeds));
    }

    #[test]
    fn what_cannot_be_followed_is_refused_with_a_sentence() {
        let refused = [
            ("--sed 7", "there is no option \"--sed\""),
            ("--seed", "--seed wants to be followed by a value"),
            ("--seeds seven", "--seeds wants a number, and \"seven\" is none"),
            ("--seeds 0", "--seeds wants a number from 1 to 18446744073709551615, not 0"),
            ("--nodes 0", "--nodes wants a number from 1 to 7, not 0"),
            ("--nodes 8", "--nodes wants a number from 1 to 7, not 8"),
            ("--faults crash,cold", "there is no fault \"cold\""),
            ("--broken Window", "nothing is broken by the name \"Window\""),
        ];
        for (line, sentence) in refused {
            assert_eq!(read(line).unwrap_err().to_string(), sentence, "{line}");
        }
    }

    #[test]
    fn the_arguments_of_a_replay_make_the_same_run() {
        let lines = [
            "--seed 7",
            "--seed 7 --nodes 5",
            "--seed 0 --nodes 1 --faults none",
            "--seed 18446744073709551614 --nodes 7 --faults message_lost,crash --safety 900 --broken StaleRead",
        ];
        for line in lines {
            let read = read(line).unwrap();
            let simulation = Simulation::new(read.seeds.start).arguments(&read);
            assert_eq!(Replay(&simulation.options).to_string(), line);
        }
    }
}
