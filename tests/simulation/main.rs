//! Thousands of simulated clusters (`synod::testing::simulation`): no seed may break a promise, and every deliberate breakage has
//! to be seen.
//!
//! A failure prints its seed and a shortened history; `SYNOD_SEED=<seed> cargo test --test simulation` runs that one alone,
//! `SYNOD_NODES=<nodes>` with so many nodes, and `SYNOD_SEEDS=<seeds>` tries fewer.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub)]

mod breakages;
mod occurrences;

use std::num::NonZero;
use synod::testing::simulation::{Simulation, Totals, run_seeds};

const THREADS: NonZero<usize> = NonZero::new(2).unwrap();
/// Seeds by the count of nodes; `None` is 3 or 5, as the seed says.
const SEEDS: [(Option<u64>, u64); 4] = [(None, 60_000), (Some(1), 2_000), (Some(2), 1_000), (Some(7), 500)];

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
    if environment("SYNOD_SEEDS").is_none() {
        occurrences::assert_often(&totals);
    }
    assert!(totals.slots / seeds >= 30, "{} slots in {seeds} seeds", totals.slots);
    assert!(totals.operations / seeds >= 10, "{} answers in {seeds} seeds", totals.operations);
}

const DIGEST: &str = "SYNOD_DIGEST";

// scenario N6
#[test]
fn the_same_seeds_give_the_same_history_in_another_process_and_on_another_number_of_threads() {
    let digest = |seeds, threads| {
        let run = run_seeds(&simulation(None), seeds, threads);
        assert_kept(&run);
        format!("digest {:016x}", run.trace)
    };
    let here = digest(0..100, THREADS);
    if std::env::var_os(DIGEST).is_some() {
        println!("{here}");
        return;
    }
    assert_eq!(here, digest(0..100, NonZero::<usize>::MIN));
    assert_ne!(here, digest(1..101, THREADS), "a trace that says nothing");
    let other = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["the_same_seeds_give_the_same_history", "--nocapture"])
        .env(DIGEST, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&other.stdout);
    assert!(said.contains(&here), "{here}, and another process says {said}");
}
