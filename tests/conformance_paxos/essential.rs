//! `test_essential.py`: each role alone, two answers needed.

use super::*;
use synod::paxos::{Acceptor, AcceptorState, Learned, Learner, Proposer, SafetyViolation};

fn proposer() -> Proposer<Text> {
    Proposer::new(A, two())
}

fn preparing() -> Proposer<Text> {
    let mut proposer = proposer();
    let _ = proposer.prepare().unwrap();
    proposer
}

fn learner() -> Learner<Text> {
    Learner::new(two())
}

// seed E01
#[test]
fn a_first_wish_is_kept_and_nothing_is_sent() {
    let mut proposer = proposer();
    assert_eq!(proposer.propose("foo"), Step::nothing());
    assert_eq!(proposer.value(), Some(&"foo"));
}

// seed E02
#[test]
fn a_second_wish_does_not_replace_the_first() {
    let mut proposer = proposer();
    let _ = proposer.propose("foo");
    assert_eq!(proposer.propose("bar"), Step::nothing());
    assert_eq!(proposer.value(), Some(&"foo"));
}

// seed E03
#[test]
fn to_prepare_is_not_yet_to_lead() {
    let mut proposer = proposer();
    assert_eq!(proposer.prepare().unwrap().send, Some(Message::Prepare { id: id(1, A) }));
    assert!(!proposer.is_leading());
}

// seed E04
#[test]
fn each_prepare_takes_the_next_id() {
    let mut proposer = proposer();
    assert_eq!(proposer.prepare().unwrap().send, Some(Message::Prepare { id: id(1, A) }));
    assert_eq!(proposer.prepare().unwrap().send, Some(Message::Prepare { id: id(2, A) }));
}

// seed E05
#[test]
fn a_new_prepare_forgets_the_promises_for_the_old_one() {
    let mut proposer = preparing();
    let _ = proposer.on_promise(B, id(1, A), None);
    assert_eq!(proposer.promises(), 1);
    let _ = proposer.prepare().unwrap();
    assert_eq!(proposer.promises(), 0);
}

// seed E06
#[test]
fn a_promise_for_an_equal_number_of_another_node_does_not_count() {
    let mut proposer = preparing();
    let _ = proposer.on_promise(B, id(1, B), None);
    assert_eq!(proposer.promises(), 0);
}

// seed E07
#[test]
fn a_repeated_promise_counts_once() {
    let mut proposer = preparing();
    let _ = proposer.on_promise(B, id(1, A), None);
    let _ = proposer.on_promise(B, id(1, A), None);
    assert_eq!(proposer.promises(), 1);
    assert!(!proposer.is_leading());
}

/// Prepares under number 5 and hears from B that "foo" was accepted under 2.
fn having_heard_of_foo() -> Proposer<Text> {
    let mut proposer = Proposer::new(A, three());
    proposer.observe(id(4, B));
    let _ = proposer.prepare().unwrap();
    let _ = proposer.on_promise(B, id(5, A), Some((id(2, B), "foo")));
    proposer
}

// seed E08
#[test]
fn a_reported_value_is_taken_over() {
    assert_eq!(having_heard_of_foo().value(), Some(&"foo"));
}

// seed E09
#[test]
fn a_value_reported_under_a_higher_id_replaces_it() {
    let mut proposer = having_heard_of_foo();
    let _ = proposer.on_promise(C, id(5, A), Some((id(3, B), "bar")));
    assert_eq!(proposer.value(), Some(&"bar"));
}

// seed E10
#[test]
fn a_value_reported_under_a_lower_id_does_not_replace_it() {
    let mut proposer = having_heard_of_foo();
    let _ = proposer.on_promise(C, id(5, A), Some((id(1, B), "baz")));
    assert_eq!(proposer.value(), Some(&"foo"));
}

// seed E11
#[test]
fn the_first_prepare_is_promised_with_nothing_accepted() {
    assert_eq!(Acceptor::default().on_prepare(id(1, A)).send, Some(promise(id(1, A))));
}

// seed E12
#[test]
fn a_repeated_prepare_gets_the_same_promise() {
    let mut acceptor = Acceptor::<Text>::default();
    let first = acceptor.on_prepare(id(1, A));
    assert_eq!(acceptor.on_prepare(id(1, A)).send, first.send);
}

// seed E13
#[test]
fn a_later_promise_reports_what_was_accepted_before() {
    let mut acceptor = Acceptor::default();
    let _ = acceptor.on_prepare(id(1, A));
    let _ = acceptor.on_accept(id(1, A), "foo");
    assert_eq!(acceptor.on_prepare(id(2, B)).send, Some(promise_with(id(2, B), id(1, A), "foo")));
}

// seed E14
#[test]
fn an_accept_without_a_promise_is_accepted() {
    let mut acceptor = Acceptor::default();
    assert_eq!(acceptor.on_accept(id(1, A), "foo").send, Some(accepted(id(1, A), "foo")));
    assert_eq!(acceptor.state().promised, Some(id(1, A)));
}

// seed E15
#[test]
fn an_accept_of_the_promised_id_is_accepted() {
    let mut acceptor = Acceptor::default();
    let _ = acceptor.on_prepare(id(1, A));
    assert_eq!(acceptor.on_accept(id(1, A), "foo").send, Some(accepted(id(1, A), "foo")));
}

// seed E16
#[test]
fn an_accept_above_the_promise_is_accepted() {
    let mut acceptor = Acceptor::default();
    let _ = acceptor.on_prepare(id(1, A));
    assert_eq!(acceptor.on_accept(id(5, A), "foo").send, Some(accepted(id(5, A), "foo")));
    assert_eq!(acceptor.state().promised, Some(id(5, A)));
}

// seed E17
#[test]
fn an_accept_below_the_promise_leaves_the_state_as_it_was() {
    let mut acceptor = Acceptor::default();
    let _ = acceptor.on_prepare(id(5, A));
    assert_eq!(acceptor.on_accept(id(1, A), "foo").write, None);
    assert_eq!(acceptor.state(), &AcceptorState { promised: Some(id(5, A)), accepted: None });
}

// seed E18
#[test]
fn two_acceptors_of_one_proposal_choose_its_value() {
    let mut learner = learner();
    let _ = learner.on_accepted(A, id(1, A), "foo");
    let chosen = Learned::Chosen { id: id(1, A), value: "foo" };
    assert_eq!(learner.on_accepted(B, id(1, A), "foo"), chosen);
    assert_eq!(learner.chosen(), Some((id(1, A), &"foo")));
}

// seed E19: the ancestor lets it pass in silence, but a second quorum for another value is a broken protocol
#[test]
fn a_later_quorum_for_another_value_changes_nothing_and_is_reported() {
    let mut learner = learner();
    let _ = learner.on_accepted(A, id(1, A), "foo");
    let _ = learner.on_accepted(B, id(1, A), "foo");
    let violation = SafetyViolation { from: A, id: id(5, A), against: id(1, A) };
    assert_eq!(learner.on_accepted(A, id(5, A), "bar"), Learned::Violation(violation));
    assert_eq!(learner.on_accepted(B, id(5, A), "bar"), Learned::NothingNew);
    assert_eq!(learner.chosen(), Some((id(1, A), &"foo")));
}

// seed E20
#[test]
fn a_repeated_accepted_counts_once() {
    let mut learner = learner();
    let _ = learner.on_accepted(A, id(1, A), "foo");
    assert_eq!(learner.on_accepted(A, id(1, A), "foo"), Learned::NothingNew);
    assert_eq!(learner.chosen(), None);
}

// seed E21
#[test]
fn an_older_accepted_of_the_same_acceptor_is_ignored() {
    let mut learner = learner();
    let _ = learner.on_accepted(A, id(5, A), "foo");
    let _ = learner.on_accepted(A, id(1, A), "foo");
    assert_eq!(learner.on_accepted(B, id(1, A), "foo"), Learned::NothingNew);
    assert!(matches!(learner.on_accepted(B, id(5, A), "foo"), Learned::Chosen { .. }));
}

// seed E22
#[test]
fn a_newer_accepted_of_the_same_acceptor_counts() {
    let mut learner = learner();
    let _ = learner.on_accepted(A, id(1, A), "foo");
    let _ = learner.on_accepted(A, id(5, A), "bar");
    assert!(matches!(learner.on_accepted(B, id(5, A), "bar"), Learned::Chosen { value: "bar", .. }));
}
