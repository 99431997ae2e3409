//! Thousands of simulated clusters (`synod::testing::simulation`): no seed may break a promise, and every deliberate breakage has
//! to be seen.
//!
//! A failure prints its seed and a shortened history; `SYNOD_SEED=<seed> cargo test --test simulation` runs that one alone,
//! `SYNOD_NODES=<nodes>` with so many nodes, and `SYNOD_SEEDS=<seeds>` tries fewer.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub)]

mod breakages;

use std::num::NonZero;
use synod::testing::simulation::{Simulation, Totals, run_seeds};

const THREADS: NonZero<usize> = NonZero::new(2).unwrap();
/// Seeds by the count of nodes; `None` is 3 or 5, as the seed says.
const SEEDS: [(Option<u64>, u64); 3] = [(None, 2_000), (Some(5), 50), (Some(7), 20)];
/// Each kind of fault, and each rare thing that comes of them, has to occur this often, else the schedule tests nothing.
const OCCURRENCES_MIN: u64 = 5;
/// What the faults come to, beside themselves.
const CONSEQUENCES: [&str; 19] = [
    "client_asked_again",
    "client_gave_up",
    "command_repeated",
    "lead_handed_over",
    "log_cut",
    "machine_replaced",
    "membership_changed",
    "message_overtaken",
    "read_served",
    "restart",
    "session_expired",
    "snapshot_found_damaged",
    "snapshot_installed",
    "snapshot_part_spoiled",
    "snapshot_restored",
    "snapshot_resumed",
    "snapshot_taken",
    "stale_node_fenced",
    "unflushed_writes_lost",
];

pub fn simulation(nodes: Option<u64>) -> Simulation {
    let simulation = nodes.into_iter().fold(Simulation::new(0), Simulation::nodes);
    let nodes = nodes.map(|nodes| format!("SYNOD_NODES={nodes} ")).unwrap_or_default();
    simulation.replay(format!("SYNOD_SEED={{seed}} {nodes}cargo test --test simulation -- --nocapture"))
}

fn assert_kept(totals: &Totals) {
    let failures: Vec<String> = totals.failures.iter().map(ToString::to_string).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

fn environment(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|number| number.parse().expect("a number"))
}

/// The seeds of the corpus with their counts of nodes.
fn corpus() -> Vec<(u64, Option<u64>)> {
    let lines = include_str!("corpus").lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    let read = |line: &str| {
        let mut words = line.split_whitespace();
        let (seed, nodes) = (words.next().expect("a seed"), words.next().expect("nodes, or -"));
        assert!(words.next().is_some(), "seed {seed} stands there without a reason");
        (seed.parse().expect("a seed"), nodes.parse().ok())
    };
    lines.map(read).collect()
}

// scenarios L5, M7, M8, M10, N1 to N3
#[test]
fn no_seed_breaks_a_promise_or_stops_the_cluster() {
    if let Some(seed) = environment("SYNOD_SEED") {
        let run = simulation(environment("SYNOD_NODES")).seed(seed).run();
        println!("{:?}", run.map_err(|failure| panic!("{failure}")));
        return;
    }
    for (seed, nodes) in corpus() {
        assert_kept(&run_seeds(&simulation(nodes), seed..seed + 1, NonZero::<usize>::MIN));
    }
    let began = std::time::Instant::now();
    let mut totals = Totals::default();
    for (nodes, seeds) in SEEDS {
        let seeds = environment("SYNOD_SEEDS").map_or(seeds, |limit| limit.min(seeds));
        let run = run_seeds(&simulation(nodes), 0..seeds, THREADS);
        assert_kept(&run);
        totals.join(run);
    }
    let hours = totals.simulated.as_secs_f64() / 3600.0;
    let (seeds, rate) = (totals.seeds, totals.seeds as f64 / began.elapsed().as_secs_f64());
    println!("{seeds} seeds, {rate:.0} a second, {hours:.0} simulated hours, {} slots", totals.slots);
    println!("{:?}", totals.faults);
    let kinds = synod::testing::simulation::Fault::ALL.iter().map(|fault| fault.name());
    for kind in kinds.chain(CONSEQUENCES) {
        let count = totals.faults.get(kind).copied().unwrap_or_default();
        assert!(count >= OCCURRENCES_MIN, "only {count} times {kind}: the schedule tests nothing");
    }
    assert!(totals.slots / seeds >= 30, "{} slots in {seeds} seeds", totals.slots);
    assert!(totals.operations / seeds >= 10, "{} answers in {seeds} seeds", totals.operations);
}

// scenario N6
#[test]
fn the_same_seed_gives_the_same_history() {
    let simulation = simulation(None);
    let first = run_seeds(&simulation, 0..100, THREADS);
    let again = run_seeds(&simulation, 0..100, NonZero::<usize>::MIN);
    assert_kept(&first);
    assert_eq!(first.trace, again.trace);
    assert_ne!(first.trace, run_seeds(&simulation, 1..101, THREADS).trace, "a trace that says nothing");
}
