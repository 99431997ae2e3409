//! At most one value is chosen for a slot, whatever membership governs it (protocol 6 with 1.6, 1.7 and 3.2).
//!
//! A mutant breaks agreement itself, or makes a watermark tell an acceptor a value that was not chosen (3.3): then two
//! learners differ at the next step. Leaves out what `main.rs` lists.

use crate::model::{exhaust, find};
use crate::scope::*;
use crate::world::World;
use stateright::Property;
use synod::multi::{Memberships, Slot};

const TWO_VALUES: &str = "at most one value is chosen for a slot";
const WRONGLY_TOLD: &str = "what a watermark tells is chosen";

/// What has to happen in some run, or else the walk showed nothing.
pub fn properties() -> Vec<Property<Scope>> {
    vec![
        Property::sometimes("a value is chosen under the new membership", |scope: &Scope, world: &World| {
            world.is_governed_anew(scope)
        }),
        Property::sometimes("both leaders get a value chosen", |_, world: &World| {
            [0, 1].iter().all(|leader| world.chosen.contains(&Some(Value::Batch(*leader))))
        }),
    ]
}

// protocol 6, α = 1: {A, B, C} → {D}
#[test]
fn in_every_run_with_a_change_by_the_sitting_leader_a_slot_has_one_value() {
    exhaust(Scope::new(3, 1, "ABC", "D", ""), 368_489);
}

#[test]
fn in_every_run_with_a_change_by_the_challenger_a_slot_has_one_value() {
    exhaust(Scope::new(3, 1, "ABC", "", "D"), 308_303);
}

// α = 1: {A, B, C} → {A, D, E}
#[test]
fn in_every_run_with_a_voter_in_both_memberships_a_slot_has_one_value() {
    exhaust(Scope::new(3, 1, "ABC", "", "ADE"), 914_335);
}

// α = 2: {A} → {A, B, C}
#[test]
fn in_every_run_of_one_voter_that_becomes_three_with_two_slots_open_a_slot_has_one_value() {
    exhaust(Scope::new(4, 2, "A", "ABC", ""), 52_678);
}

#[test]
fn in_every_run_of_one_voter_that_a_challenger_makes_three_with_two_slots_open_a_slot_has_one_value() {
    exhaust(Scope::new(4, 2, "A", "", "ABC"), 6_170);
}

// α = 2: {A} → {D}
#[test]
fn in_every_run_of_one_voter_that_another_replaces_with_two_slots_open_a_slot_has_one_value() {
    exhaust(Scope::new(4, 2, "A", "D", "D"), 10_773);
}

fn a_change() -> Scope {
    Scope::new(3, 1, "ABC", "D", "")
}

// protocol 1.6
#[test]
fn to_propose_one_slot_too_early_makes_two_values() {
    find(a_change().without(Without::LearnedBelow), TWO_VALUES);
}

// protocol 1.6
#[test]
fn to_propose_one_slot_too_early_makes_two_values_with_two_slots_open_as_well() {
    find(Scope::new(4, 2, "A", "ABC", "").without(Without::LearnedBelow), TWO_VALUES);
}

// protocol 6.3
#[test]
fn to_skip_phase_1_in_the_new_membership_makes_two_values() {
    find(a_change().without(Without::PhaseOneInNewMembership), TWO_VALUES);
}

// protocol 3.2
#[test]
fn a_watermark_over_a_slot_that_went_to_another_value_tells_a_wrong_one() {
    find(a_change().without(Without::WatermarkOfOwnValues), WRONGLY_TOLD);
}

// protocol 1.6, last sentence
#[test]
fn a_proposal_at_a_slot_that_was_learned_makes_a_watermark_tell_a_wrong_value() {
    find(a_change().without(Without::NothingWhereLearned), WRONGLY_TOLD);
}

/// The number read as a log: in base three, a batch or one of the two changes for each slot.
fn log(number: usize) -> Log {
    let value = |digit| [Value::Batch(0), Value::Change(0), Value::Change(1)][digit];
    std::array::from_fn(|index| Some(value(number / 3_usize.pow(index as u32) % 3)))
}

// protocol 6.1: what the models take for granted is what the product does
#[test]
fn the_memberships_of_the_product_govern_the_slots_that_the_model_says() {
    for (alpha, number) in (1..=2).flat_map(|alpha| (0..81).map(move |number| (alpha, number))) {
        let scope = Scope::new(SLOTS_MAX, alpha, "ABC", "D", "ADE");
        let names = ["ABC", "D", "ADE"].map(|names| membership(names, alpha));
        let mut memberships = Memberships::bootstrap(names[0].clone());
        let log = log(number);
        for (slot, value) in (1..).zip(&log) {
            if let Some(Value::Change(leader)) = value {
                memberships.learn(Slot::new(slot), &names[usize::from(*leader) + 1]);
            }
        }
        for slot in 1..=SLOTS_MAX {
            let expected = &names[scope.governing(&log, slot)];
            assert_eq!(memberships.governing(Slot::new(slot as u64)), Some(expected), "{log:?} at {slot}");
        }
    }
}
