//! One rule left out at a time.

use crate::exhaustive::find;
use crate::machine::{Cluster, Without};

#[test]
fn a_promise_that_leaves_before_its_flush_lets_two_values_be_chosen() {
    find(Cluster::new(&[1, 1, 0], &[2], 1).without_nacks().without(Without::FlushBeforeSend));
}

// defect B10
#[test]
fn a_repeated_answer_that_leaves_before_the_flush_of_the_first_lets_two_values_be_chosen() {
    find(Cluster::new(&[1, 1, 0], &[2], 1).without_nacks().without(Without::FlushBeforeRepeat));
}

#[test]
fn a_restart_that_forgets_the_promise_lets_two_values_be_chosen() {
    find(Cluster::new(&[1, 1, 0], &[2], 1).without_nacks().without(Without::PromiseAfterRestart));
}

#[test]
fn a_restart_that_forgets_the_vote_lets_two_values_be_chosen() {
    find(Cluster::new(&[1, 1, 0], &[2], 1).without_nacks().without(Without::AcceptedAfterRestart));
}

// defect B12
#[test]
fn a_restart_that_uses_an_id_again_puts_two_values_under_it() {
    find(Cluster::new(&[2, 0, 0], &[0], 1).without_nacks().without(Without::IdAfterRestart));
}

#[test]
fn a_promise_for_another_id_that_counts_lets_two_values_be_chosen() {
    find(Cluster::new(&[2, 1, 0], &[], 0).without_nacks().without(Without::PromiseOfThisId));
}
