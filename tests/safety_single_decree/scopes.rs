//! The clusters that are walked to the last state. Each number is how many states that is.

use crate::exhaustive::exhaust;
use crate::machine::Cluster;

// scenario A1
#[test]
fn in_every_run_of_a_duel_at_most_one_value_is_chosen_and_learned() {
    exhaust("a duel, with a learner", Cluster::new(&[1, 1, 0], &[], 0).with_learner(2), 100_515);
}

// scenario A1, faults F1 and F2
#[test]
fn in_every_run_of_a_duel_where_any_node_crashes_at_most_one_value_is_chosen() {
    exhaust("a duel with a crash", Cluster::new(&[1, 1, 0], &[0, 1, 2], 1), 1_687_339);
}

#[test]
fn in_every_run_of_a_duel_where_any_node_crashes_what_is_learned_is_chosen() {
    let cluster = Cluster::new(&[1, 1, 0], &[0, 1, 2], 1).with_learner(2).without_nacks();
    exhaust("a duel with a crash and a learner", cluster, 1_386_390);
}

#[test]
fn in_every_run_of_a_duel_where_two_nodes_crash_at_most_one_value_is_chosen() {
    let cluster = Cluster::new(&[1, 1, 0], &[0, 1, 2], 2).without_nacks();
    exhaust("a duel with two crashes", cluster, 508_846);
}

#[test]
fn in_every_run_of_three_proposers_at_most_one_value_is_chosen() {
    exhaust("three proposers", Cluster::new(&[1, 1, 1], &[], 0).without_nacks(), 233_970);
}

#[test]
fn in_every_run_of_a_proposer_that_campaigns_twice_against_another_at_most_one_value_is_chosen() {
    exhaust("three ids", Cluster::new(&[2, 1, 0], &[], 0), 12_552_300);
}

// scenario A3, exhausted
#[test]
fn in_every_run_of_a_proposer_that_restarts_with_another_value_at_most_one_value_is_chosen() {
    let cluster = Cluster::new(&[2, 1, 0], &[0], 1).without_nacks();
    exhaust("three ids and a restart", cluster, 861_117);
}

#[test]
fn in_every_run_of_a_duel_among_four_at_most_one_value_is_chosen() {
    exhaust("four acceptors", Cluster::new(&[1, 1, 0, 0], &[], 0), 666_023);
}

#[test]
fn in_every_run_of_a_duel_among_five_at_most_one_value_is_chosen() {
    exhaust("five acceptors", Cluster::new(&[1, 1, 0, 0, 0], &[], 0).without_nacks(), 2_060_659);
}
