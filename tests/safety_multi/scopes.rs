//! The clusters that are walked to the last state. Each number is how many states that is.

use crate::exhaustive::exhaust;
use crate::machine::Part;
use crate::scope::{Cluster, members};

fn proposer(batches: u8) -> Part {
    Part { campaigns: 1, batches, ..Part::default() }
}

fn crashing(part: Part) -> Part {
    Part { crashes: true, ..part }
}

// protocol 1 to 3, faults F1 and F2
#[test]
fn in_every_run_of_two_proposers_over_two_slots_with_a_crash_each_slot_has_one_value() {
    let parts = vec![proposer(1), crashing(proposer(1))];
    exhaust("two slots", Cluster::new(members("AB", 2), parts, 1), 5_635);
}

// protocol 1 to 3, faults F1 and F2
#[test]
fn in_every_run_of_a_leader_and_its_successor_with_a_voter_that_crashes_a_slot_has_one_value() {
    let parts = vec![proposer(1), proposer(0), crashing(Part::default())];
    exhaust("a successor", Cluster::new(members("ABC", 2), parts, 1), 109_272);
}

// protocol 6
#[test]
fn in_every_run_of_a_change_and_a_challenge_each_slot_has_one_value() {
    let leader = Part { change: Some(members("BC", 1)), ..proposer(1) };
    let parts = vec![leader, proposer(1), Part::default()];
    exhaust("a change", Cluster::new(members("ABc", 1), parts, 0), 765_543);
}
