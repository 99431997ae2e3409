//! Each checker is proven: something is broken on purpose, and has to be seen within a stated number of seeds.

use super::simulation;
use synod::testing::simulation::{Breakage, Failure, Violation};

/// Breaks something until a seed shows it.
fn first_failure(breakage: Breakage, seeds_max: u64) -> Failure {
    let broken = simulation(None).breakage(breakage);
    let failure = (0..seeds_max).find_map(|seed| broken.clone().seed(seed).run().err());
    *failure.unwrap_or_else(|| panic!("{seeds_max} seeds do not show {breakage:?}"))
}

fn assert_shows(breakage: Breakage, seeds_max: u64, is_it: impl Fn(&Violation) -> bool) {
    let broken = simulation(None).breakage(breakage);
    let mut others = Vec::new();
    for seed in 0..seeds_max {
        match broken.clone().seed(seed).run() {
            Err(failure) if is_it(&failure.violation) => {
                println!("{breakage:?} is seen at seed {seed}");
                return;
            }
            Err(failure) => others.push(failure.violation.to_string()),
            Ok(_) => {}
        }
    }
    panic!("{seeds_max} seeds do not show {breakage:?}, but {others:?}");
}

// fault F2, scenario D3
#[test]
fn a_disk_that_says_durable_too_early_is_seen() {
    assert_shows(Breakage::EarlyFlush, 300, |violation| {
        matches!(violation, Violation::PromiseForgotten { .. } | Violation::TwoValuesChosen { .. })
    });
}

#[test]
fn a_node_that_forgets_its_promise_is_seen() {
    assert_shows(Breakage::ForgottenPromise, 50, |violation| {
        matches!(violation, Violation::PromiseForgotten { .. })
    });
}

#[test]
fn a_node_that_forgets_its_votes_is_seen_as_two_values_chosen() {
    assert_shows(Breakage::ForgottenVotes, 2_000, |violation| {
        matches!(violation, Violation::TwoValuesChosen { .. })
    });
}

#[test]
fn a_client_that_is_told_before_the_write_is_chosen_is_seen() {
    assert_shows(Breakage::EarlyAnswer, 50, |violation| {
        matches!(violation, Violation::AcknowledgedLost { .. })
    });
}

#[test]
fn a_read_from_a_state_that_is_too_old_is_seen() {
    assert_shows(Breakage::StaleRead, 50, |violation| matches!(violation, Violation::HistoryWrong { .. }));
}

#[test]
fn a_command_that_is_applied_twice_is_seen() {
    assert_shows(Breakage::RepeatedCommand, 50, |violation| {
        matches!(violation, Violation::AppliedTwice { .. })
    });
}

#[test]
fn a_command_that_one_node_misses_is_seen() {
    assert_shows(Breakage::MissedCommand, 50, |violation| {
        matches!(violation, Violation::StateDiffers { .. })
    });
}

#[test]
fn a_snapshot_that_is_not_restored_is_seen() {
    assert_shows(Breakage::UnrestoredState, 100, |violation| {
        matches!(violation, Violation::StateDiffers { .. })
    });
}

#[test]
fn a_cluster_that_elects_nobody_is_seen() {
    assert_shows(Breakage::NoElection, 1, |violation| matches!(violation, Violation::NotServed { .. }));
}

#[test]
fn a_failure_is_told_with_few_faults_and_the_last_of_what_happened() {
    let failure = first_failure(Breakage::ForgottenPromise, 50);
    assert!(failure.faults_left <= 100, "{failure}");
    assert!(failure.replay.contains(&format!("SYNOD_SEED={} ", failure.seed)), "{failure}");
    assert!((1..=60).contains(&failure.history.len()), "{failure}");
    let node = failure.violation.node().expect("it is about a node");
    let (last, before) = failure.history.split_last().expect("lines");
    assert!(last.starts_with(">>>") && last.contains(&format!("n{node} said")), "{failure}");
    assert!(before.iter().any(|line| line.contains(&format!("n{node} stops"))), "{failure}");
    println!("{failure}");
}
