//! Simulates clusters under every fault that Synod knows, seed by seed, with a state machine of this file's own.
//!
//! ```text
//! cargo run --release --example simulate -- [--seeds N] [--seed S] [--nodes N] [--faults a,b] [--tell] [--json]
//! ```
//!
//! Without `--nodes` most clusters have 3 nodes, some 5 or 7. `--seed` runs that one alone, `--faults` switches all others
//! off, `--tell` prints everything that happens. With `--json` the last line is an object, whose `trace_digest` is the same for
//! the same arguments wherever it is run. Ends with 1 if a promise was broken.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::num::NonZero;
use std::process::ExitCode;
use synod::multi::Jitter;
use synod::testing::Operation;
use synod::testing::simulation::{Fault, Faults, Simulated, Simulation, Totals, run_seeds};

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

/// What the command line asks for.
struct Arguments {
    seeds: u64,
    seed: Option<u64>,
    nodes: Option<u64>,
    faults: Faults,
    tell: bool,
    json: bool,
}

impl Arguments {
    fn read() -> Result<Self, String> {
        let mut read =
            Self { seeds: 1_000, seed: None, nodes: None, faults: Faults::all(), tell: false, json: false };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let mut number = || -> Result<u64, String> {
                let number = words.next().ok_or(format!("{word} needs a number"))?;
                number.parse().map_err(|error| format!("{word} {number}: {error}"))
            };
            match word.as_str() {
                "--seeds" => read.seeds = number()?,
                "--seed" => read.seed = Some(number()?),
                "--nodes" => read.nodes = Some(number()?),
                "--faults" => read.faults = faults(&words.next().unwrap_or_default())?,
                "--tell" => read.tell = true,
                "--json" => read.json = true,
                _ => return Err(format!("what is {word}?")),
            }
        }
        Ok(read)
    }
}

fn faults(names: &str) -> Result<Faults, String> {
    let names = names.split(',').filter(|name| !name.is_empty() && *name != "none");
    let faults: Result<Vec<Fault>, _> = names.map(str::parse).collect();
    faults.map(Faults::only).map_err(|error| error.to_string())
}

const THREADS: NonZero<usize> = NonZero::<usize>::MIN.saturating_add(1);

/// Runs what was asked for; with no word of how many nodes, clusters of several sizes.
fn run(arguments: &Arguments) -> Totals {
    let seeds = match arguments.seed {
        Some(seed) => seed..seed.saturating_add(1),
        None => 0..arguments.seeds,
    };
    let simulation = Simulation::new(0).state_machine(Bank::default).faults(arguments.faults.clone());
    if let Some(nodes) = arguments.nodes {
        return run_seeds(&simulation.nodes(nodes), seeds, THREADS);
    }
    let mut totals = run_seeds(&simulation, seeds.clone(), THREADS);
    if arguments.seed.is_none() {
        for nodes in [5, 7] {
            let few = seeds.start..seeds.end.div_ceil(50);
            totals.join(run_seeds(&simulation.clone().nodes(nodes), few, THREADS));
        }
    }
    totals
}

fn print(totals: &Totals, json: bool) {
    let hours = totals.simulated.as_secs_f64() / 3600.0;
    for failure in &totals.failures {
        println!("{failure}");
    }
    if json {
        let summary = serde_json::json!({
            "seeds": totals.seeds,
            "simulated_hours": (hours * 1000.0).round() / 1000.0,
            "violations": totals.failures.len(),
            "slots": totals.slots,
            "operations": totals.operations,
            "faults": totals.faults,
            "trace_digest": format!("{:016x}", totals.trace),
        });
        println!("{summary}");
        return;
    }
    for (fault, count) in &totals.faults {
        println!("{count:>12}  {fault}");
    }
    let Totals { seeds, slots, operations, failures, trace, .. } = totals;
    println!("{seeds} seeds, {hours:.1} simulated hours, {slots} slots, {operations} answers to clients");
    println!("{} broken promises, trace {trace:016x}", failures.len());
}

fn main() -> ExitCode {
    let arguments = match Arguments::read() {
        Ok(arguments) => arguments,
        Err(why) => {
            eprintln!("{why}");
            return ExitCode::from(2);
        }
    };
    if arguments.tell {
        let seed = arguments.seed.unwrap_or_default();
        let simulation = Simulation::new(seed).state_machine(Bank::default).faults(arguments.faults.clone());
        let simulation = arguments.nodes.into_iter().fold(simulation, Simulation::nodes);
        simulation.tell().iter().for_each(|line| println!("{line}"));
    }
    let totals = run(&arguments);
    print(&totals, arguments.json);
    if totals.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
