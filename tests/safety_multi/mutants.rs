//! One rule left out at a time, in the host and never in the core: the walk has to find what goes wrong.

use crate::exhaustive::find;
use crate::machine::{Part, Without};
use crate::scope::{Cluster, members};

/// Two proposers, and a third node that may crash.
fn duel() -> Cluster {
    let proposer = || Part { campaigns: 1, batches: 1, ..Part::default() };
    let voter = Part { crashes: true, ..Part::default() };
    Cluster::new(members("ABC", 1), vec![proposer(), proposer(), voter], 1)
}

/// A change from three voters to two of them, and a third node that may crash.
fn change() -> Cluster {
    let leader = Part { campaigns: 1, batches: 1, change: Some(members("BC", 1)), ..Part::default() };
    let challenger = Part { campaigns: 1, batches: 1, ..Part::default() };
    let voter = Part { crashes: true, ..Part::default() };
    Cluster::new(members("ABC", 1), vec![leader, challenger, voter], 1)
}

// protocol 1.2
#[test]
fn a_vote_that_leaves_before_its_flush_lets_two_values_be_chosen_in_a_slot() {
    find(duel().without(Without::FlushBeforeSend));
}

// protocol 1.1
#[test]
fn a_restart_that_forgets_the_promise_lets_two_values_be_chosen_in_a_slot() {
    find(duel().without(Without::PromiseAfterRestart));
}

// protocol 1.1
#[test]
fn a_restart_that_forgets_the_votes_lets_two_values_be_chosen_in_a_slot() {
    find(duel().without(Without::AcceptedAfterRestart));
}

// protocol 1.4, 1.7
#[test]
fn a_promise_that_leaves_out_what_was_accepted_lets_two_values_be_chosen_in_a_slot() {
    find(duel().without(Without::ReportOfAccepted));
}

// protocol 1.4, 1.7
#[test]
fn a_promise_that_leaves_out_what_was_accepted_breaks_a_change() {
    find(change().without(Without::ReportOfAccepted));
}
