//! Simulates clusters under every fault that Synod knows, seed by seed, with a state machine of this file's own.
//!
//! ```text
//! cargo run --release --example simulate -- [--seeds N] [--seed S] [--nodes N] [--json]
//! ```
//!
//! `--seeds` runs all seeds below `N`, `--seed` that one alone; without `--nodes` most clusters have 3 nodes, some 5. With
//! `--json` the last line is an object, whose `trace_digest` is the same for the same arguments wherever it is run. Ends with 1
//! if a promise was broken, with 2 if the arguments make no sense.
//!
//! `--broken ForgottenPromise` shows what a broken promise looks like. `--faults crash,message_lost` leaves only these, `--tell`
//! prints everything that happens. To simulate a state machine of your own, copy this file and replace the bank.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::num::NonZero;
use std::ops::Range;
use std::process::ExitCode;
use synod::multi::Jitter;
use synod::testing::Operation;
use synod::testing::simulation::{Arguments, Simulated, Simulation, Totals, run_seeds};

/// Accounts between which money moves: whatever fails, there is always the same amount of it.
#[derive(Debug)]
struct Bank(BTreeMap<u8, u64>);

#[derive(Clone, Debug, Serialize, Deserialize)]
enum Command {
    Transfer { from: u8, to: u8, amount: u64 },
    Total,
}

const ACCOUNTS: u8 = 4;
const EACH: u64 = 100;

impl Default for Bank {
    fn default() -> Self {
        Self((0..ACCOUNTS).map(|account| (account, EACH)).collect())
    }
}

impl Simulated for Bank {
    type Command = Command;
    type Reply = u64;

    fn apply(&mut self, command: &Command) -> u64 {
        if let Command::Transfer { from, to, amount } = command
            && let Some(left) = self.0.get(from).and_then(|held| held.checked_sub(*amount))
        {
            self.0.insert(*from, left);
            *self.0.entry(*to).or_default() += amount;
        }
        self.0.values().sum()
    }

    fn read(&self, command: &Command) -> Option<u64> {
        matches!(command, Command::Total).then(|| self.0.values().sum())
    }

    fn snapshot(&self) -> Vec<u8> {
        synod::codec::encode(&self.0).unwrap_or_default()
    }

    fn restore(self, snapshot: &[u8]) -> Option<Self> {
        synod::codec::decode(snapshot).ok().map(Self)
    }

    fn next_command(random: &mut Jitter) -> Command {
        let mut account = || (random.draw() % u64::from(ACCOUNTS)) as u8;
        let (from, to) = (account(), account());
        match random.draw() % 50 {
            amount if amount > 25 => Command::Transfer { from, to, amount },
            _ => Command::Total,
        }
    }

    fn check(history: &[Operation<Command, u64>]) -> Result<(), String> {
        let total = u64::from(ACCOUNTS) * EACH;
        match history.iter().find(|operation| operation.output.is_some_and(|sum| sum != total)) {
            Some(wrong) => Err(format!("money was made or lost: {wrong:?}")),
            None => Ok(()),
        }
    }
}

const THREADS: NonZero<usize> = NonZero::<usize>::MIN.saturating_add(1);
/// So often it is said how far it has come.
const TIMES_TOLD: u64 = 10;

fn run(simulation: &Simulation<Bank>, seeds: Range<u64>, quiet: bool) -> Totals {
    let mut totals = Totals::default();
    let step = (seeds.end - seeds.start).div_ceil(TIMES_TOLD);
    let mut next = seeds.start;
    while next < seeds.end && !totals.is_enough() {
        let end = next.saturating_add(step).min(seeds.end);
        totals.join(run_seeds(simulation, next..end, THREADS));
        next = end;
        if !quiet {
            println!(
                "{} of {} seeds, {} broken promises",
                totals.seeds,
                seeds.end - seeds.start,
                totals.failures.len()
            );
        }
    }
    totals
}

/// The last line with `--json`.
#[derive(Serialize)]
struct Summary {
    seeds: u64,
    simulated_hours: f64,
    violations: usize,
    faults: BTreeMap<&'static str, u64>,
    trace_digest: String,
}

impl Summary {
    fn new(totals: &Totals) -> Self {
        Self {
            seeds: totals.seeds,
            simulated_hours: (totals.simulated.as_secs_f64() / 3.6).round() / 1000.0,
            violations: totals.failures.len(),
            faults: totals.by_fault(),
            trace_digest: format!("{:016x}", totals.trace),
        }
    }
}

fn main() -> ExitCode {
    let arguments = match Arguments::read(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(why) => {
            eprintln!("{why}. What may be said: {}", Arguments::USAGE);
            return ExitCode::from(2);
        }
    };
    let simulation = Simulation::new(arguments.seeds.start)
        .state_machine(Bank::default)
        .arguments(&arguments)
        .replay("cargo run --release --example simulate -- {arguments}");
    if arguments.tell {
        simulation.tell().iter().for_each(|line| println!("{line}"));
    }
    let totals = run(&simulation, arguments.seeds, arguments.json);
    totals.failures.iter().for_each(|failure| println!("{failure}"));
    match serde_json::to_string(&Summary::new(&totals)) {
        Ok(summary) if arguments.json => println!("{summary}"),
        _ => println!("{totals}"),
    }
    if totals.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
