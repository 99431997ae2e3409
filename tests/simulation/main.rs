//! The simulator: whole clusters of the real core on virtual time, seeded.
//!
//! First a safety phase, in which messages are lost, repeated, delayed, overtaken and cut off, and nodes crash and
//! restart without what they had not flushed, take snapshots, cut their logs and begin at each other's; disks rot, or are lost
//! with their machines; then everything heals, and the cluster has to serve. Throughout, what was
//! chosen is judged from the history of messages (`checks.rs`), never from what the nodes believe.
//!
//! A failure prints its seed; `SYNOD_SEED=<seed> cargo test --test simulation` runs that one alone, with its story.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub)]

mod checks;
mod disk;
mod snapshots;
mod world;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use world::{Faults, Outcome, World};

const SEEDS: u64 = 2_000;
/// Each kind of fault has to occur this often over all seeds, else the schedule tests nothing.
const FAULTS_MIN: u64 = 1_000;
/// And what is rare by its nature this often.
const RARE_MIN: u64 = 200;
/// The median seed has to choose this many slots.
const SLOTS_MEDIAN_MIN: u64 = 100;

fn run_seed(seed: u64, story: bool) -> Result<Outcome, String> {
    let run = std::panic::catch_unwind(|| World::new(seed, story).run());
    run.map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_default()
    })
}

// scenarios N1 to N3, M8, L5
#[test]
fn no_seed_breaks_agreement_loses_a_write_or_stops_the_cluster() {
    if let Ok(seed) = std::env::var("SYNOD_SEED") {
        let outcome = World::new(seed.parse().expect("SYNOD_SEED is a number"), true).run();
        println!("{outcome:?}");
        return;
    }
    let next = AtomicU64::new(0);
    let outcomes: Mutex<Vec<Outcome>> = Mutex::default();
    let failures: Mutex<Vec<String>> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= SEEDS || failures.lock().unwrap().len() >= 3 {
                        return;
                    }
                    match run_seed(seed, false) {
                        Ok(outcome) => outcomes.lock().unwrap().push(outcome),
                        Err(why) => failures.lock().unwrap().push(format!(
                            "seed {seed}: {why}\n  replay: SYNOD_SEED={seed} cargo test --test simulation -- --nocapture"
                        )),
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{}", failures.join("\n"));

    let outcomes = outcomes.into_inner().unwrap();
    let mut faults = Faults::default();
    outcomes.iter().for_each(|outcome| faults.add(&outcome.faults));
    let mut slots: Vec<u64> = outcomes.iter().map(|outcome| outcome.chosen).collect();
    slots.sort_unstable();
    let median = slots[slots.len() / 2];
    let hours = outcomes.iter().map(|outcome| outcome.simulated.as_secs_f64()).sum::<f64>() / 3600.0;
    println!(
        "{} seeds, {hours:.1} simulated hours, median {median} slots, faults {faults:?}",
        outcomes.len()
    );
    for (kind, count) in faults.counts() {
        assert!(count >= FAULTS_MIN, "only {count} times {kind}: the schedule tests nothing");
    }
    for (kind, count) in faults.rare() {
        assert!(count >= RARE_MIN, "only {count} times {kind}: the schedule tests nothing");
    }
    assert!(median >= SLOTS_MEDIAN_MIN, "the median seed chose {median} slots");
}

#[test]
fn the_same_seed_gives_the_same_history() {
    for seed in 0..20 {
        let first = World::new(seed, false).run();
        let again = World::new(seed, false).run();
        assert_eq!(first.trace, again.trace, "seed {seed}");
    }
}
