//! `test_basic.py`: each role alone, three answers needed.

use super::*;
use synod::paxos::{Acceptor, AcceptorState, Learned, Learner, Proposer};

fn proposer() -> Proposer<Text> {
    Proposer::new(A, three())
}

/// A proposer that wants "foo" and has just prepared under the id it comes with.
fn preparing_above(number: u64) -> (Proposer<Text>, ProposalId) {
    let mut proposer = proposer();
    assert_eq!(proposer.propose("foo"), Step::nothing());
    proposer.observe(id(number, B));
    let _ = proposer.prepare().unwrap();
    let own = proposer.proposal().unwrap();
    (proposer, own)
}

fn learner() -> Learner<Text> {
    Learner::new(three())
}

// seed B01
#[test]
fn the_first_id_is_number_one() {
    assert_eq!(proposer().prepare().unwrap().write, Some(id(1, A)));
}

// seed B02
#[test]
fn the_second_id_is_number_two() {
    let mut proposer = proposer();
    let _ = proposer.prepare().unwrap();
    assert_eq!(proposer.prepare().unwrap().write, Some(id(2, A)));
}

// seed B03
#[test]
fn a_promise_to_another_raises_the_next_id() {
    let mut proposer = proposer();
    let _ = proposer.on_promise(B, id(5, C), None);
    assert_eq!(proposer.prepare().unwrap().write, Some(id(6, A)));
}

// seed B04
#[test]
fn the_third_empty_promise_brings_the_own_value() {
    let (mut proposer, own) = preparing_above(0);
    assert_eq!(proposer.on_promise(B, own, None), Step::nothing());
    assert_eq!(proposer.on_promise(C, own, None), Step::nothing());
    assert_eq!(proposer.on_promise(D, own, None), Step::send(Some(accept(own, "foo"))));
}

// seed B05
#[test]
fn a_promise_to_another_does_not_count() {
    let (mut proposer, own) = preparing_above(0);
    let _ = proposer.on_promise(B, own, None);
    let _ = proposer.on_promise(C, own, None);
    assert_eq!(proposer.on_promise(D, id(1, B), None), Step::nothing());
    assert_eq!(proposer.promises(), 2);
}

// seed B06: a whole id where the ancestor passed a bare number
#[test]
fn one_reported_value_replaces_the_own_one() {
    let (mut proposer, own) = preparing_above(1);
    let _ = proposer.on_promise(B, own, None);
    let _ = proposer.on_promise(C, own, Some((id(1, B), "bar")));
    assert_eq!(proposer.on_promise(D, own, None), Step::send(Some(accept(own, "bar"))));
}

// seed B07: whole ids where the ancestor passed bare numbers
#[test]
fn of_several_reported_values_the_one_with_the_highest_id_is_proposed() {
    let (mut proposer, own) = preparing_above(3);
    let _ = proposer.on_promise(B, own, Some((id(1, B), "abc")));
    let _ = proposer.on_promise(C, own, Some((id(3, B), "bar")));
    assert_eq!(proposer.on_promise(D, own, Some((id(2, B), "def"))), Step::send(Some(accept(own, "bar"))));
}

// seed B08
#[test]
fn an_acceptor_that_promises_twice_counts_once() {
    let (mut proposer, own) = preparing_above(0);
    let _ = proposer.on_promise(B, own, None);
    let _ = proposer.on_promise(B, own, None);
    assert_eq!(proposer.on_promise(C, own, None), Step::nothing());
    assert_eq!(proposer.on_promise(D, own, None), Step::send(Some(accept(own, "foo"))));
}

// seed B09
#[test]
fn an_old_promise_to_another_counts_neither_with_its_name_nor_with_its_value() {
    let (mut proposer, own) = preparing_above(5);
    let _ = proposer.on_promise(B, own, None);
    let _ = proposer.on_promise(C, own, None);
    assert_eq!(proposer.on_promise(D, id(5, B), Some((id(4, B), "baz"))), Step::nothing());
    assert_eq!(proposer.on_promise(D, own, None), Step::send(Some(accept(own, "foo"))));
}

// seed B10
#[test]
fn the_first_prepare_is_promised_and_nothing_reported() {
    assert_eq!(Acceptor::default().on_prepare(id(1, A)).send, Some(promise(id(1, A))));
}

// seed B11, changed: the ancestor reports the id promised before, which hides a chosen value (defect B1)
#[test]
fn an_acceptor_that_only_promised_reports_nothing() {
    let mut acceptor = Acceptor::default();
    let _ = acceptor.on_prepare(id(1, A));
    assert_eq!(acceptor.on_prepare(id(2, B)).send, Some(promise(id(2, B))));
}

// seed B12: the ancestor stays silent; a nack names the higher promise
#[test]
fn a_prepare_below_the_promise_is_refused() {
    let mut acceptor = Acceptor::default();
    let _ = acceptor.on_prepare(id(2, A));
    assert_eq!(acceptor.on_prepare(id(1, B)), Step::send(Some(nack(id(1, B), id(2, A)))));
}

// seed B13
#[test]
fn a_promise_reports_the_accepted_proposal() {
    let mut acceptor = Acceptor::default();
    let _ = acceptor.on_prepare(id(1, A));
    let _ = acceptor.on_accept(id(1, A), "foo");
    assert_eq!(acceptor.on_prepare(id(2, B)).send, Some(promise_with(id(2, B), id(1, A), "foo")));
}

// seed B14: the ancestor stays silent; a nack names the higher promise
#[test]
fn a_prepare_below_the_accepted_proposal_is_refused() {
    let mut acceptor = Acceptor::default();
    let _ = acceptor.on_prepare(id(2, A));
    let _ = acceptor.on_accept(id(2, A), "foo");
    assert_eq!(acceptor.on_prepare(id(1, B)), Step::send(Some(nack(id(1, B), id(2, A)))));
}

// seed B15
#[test]
fn what_was_promised_is_accepted() {
    let mut acceptor = Acceptor::default();
    let _ = acceptor.on_prepare(id(1, A));
    assert_eq!(acceptor.on_accept(id(1, A), "foo").send, Some(accepted(id(1, A), "foo")));
}

// seed B16
#[test]
fn what_was_never_prepared_here_is_accepted_too() {
    let step = Acceptor::default().on_accept(id(1, A), "foo");
    assert_eq!(step.send, Some(accepted(id(1, A), "foo")));
}

// seed B17: the ancestor stays silent; a nack names the higher promise
#[test]
fn an_accept_below_the_promise_is_refused() {
    let mut acceptor = Acceptor::default();
    let _ = acceptor.on_prepare(id(5, B));
    assert_eq!(acceptor.on_accept(id(1, A), "foo"), Step::send(Some(nack(id(1, A), id(5, B)))));
}

// seed B18
#[test]
fn a_repeated_accept_is_answered_each_time() {
    let mut acceptor = Acceptor::default();
    let first = acceptor.on_accept(id(1, A), "foo").send;
    assert_eq!(acceptor.on_accept(id(1, A), "foo").send, first);
    assert_eq!(first, Some(accepted(id(1, A), "foo")));
}

// seed B19
#[test]
fn to_accept_is_to_promise() {
    let mut acceptor = Acceptor::default();
    let _ = acceptor.on_accept(id(5, B), "foo");
    let unchanged = AcceptorState { promised: Some(id(5, B)), accepted: Some((id(5, B), "foo")) };
    assert_eq!(acceptor.on_prepare(id(1, A)), Step::send(Some(nack(id(1, A), id(5, B)))));
    assert_eq!(acceptor.state(), &unchanged);
}

// seed B20
#[test]
fn one_of_three_chooses_nothing() {
    let mut learner = learner();
    assert_eq!(learner.on_accepted(A, id(1, A), "foo"), Learned::NothingNew);
    assert_eq!(learner.chosen(), None);
}

// seed B21
#[test]
fn two_of_three_choose_nothing() {
    let mut learner = learner();
    let _ = learner.on_accepted(A, id(1, A), "foo");
    assert_eq!(learner.on_accepted(B, id(1, A), "foo"), Learned::NothingNew);
    assert_eq!(learner.chosen(), None);
}

// seed B22
#[test]
fn three_of_three_choose() {
    let mut learner = learner();
    let _ = learner.on_accepted(A, id(1, A), "foo");
    let _ = learner.on_accepted(B, id(1, A), "foo");
    let chosen = Learned::Chosen { id: id(1, A), value: "foo" };
    assert_eq!(learner.on_accepted(C, id(1, A), "foo"), chosen);
    assert_eq!(learner.chosen(), Some((id(1, A), &"foo")));
}

// seed B23
#[test]
fn an_acceptor_that_accepts_twice_counts_once() {
    let mut learner = learner();
    for _ in 0..3 {
        assert_eq!(learner.on_accepted(A, id(1, A), "foo"), Learned::NothingNew);
    }
    let _ = learner.on_accepted(B, id(1, A), "foo");
    assert_eq!(learner.on_accepted(B, id(1, A), "foo"), Learned::NothingNew);
}

// seed B24
#[test]
fn proposals_under_different_ids_are_counted_apart() {
    let mut learner = learner();
    let _ = learner.on_accepted(A, id(1, A), "foo");
    let _ = learner.on_accepted(B, id(2, B), "foo");
    assert_eq!(learner.on_accepted(C, id(1, A), "foo"), Learned::NothingNew);
    assert!(matches!(learner.on_accepted(D, id(1, A), "foo"), Learned::Chosen { .. }));
}

// seed B25
#[test]
fn what_an_acceptor_accepted_earlier_does_not_count_any_more() {
    let mut learner = learner();
    let _ = learner.on_accepted(A, id(5, B), "bar");
    let _ = learner.on_accepted(B, id(1, A), "foo");
    let _ = learner.on_accepted(C, id(1, A), "foo");
    assert_eq!(learner.on_accepted(A, id(1, A), "foo"), Learned::NothingNew);
}

// seed B26
#[test]
fn what_an_acceptor_accepted_later_replaces_what_it_accepted_before() {
    let mut learner = learner();
    let _ = learner.on_accepted(A, id(1, A), "foo");
    let _ = learner.on_accepted(A, id(5, B), "bar");
    let _ = learner.on_accepted(B, id(5, B), "bar");
    assert!(matches!(learner.on_accepted(C, id(5, B), "bar"), Learned::Chosen { value: "bar", .. }));
}

// seed B27, revived: commented out in the ancestor
#[test]
fn after_the_choice_another_proposal_changes_nothing() {
    let mut learner = learner();
    for acceptor in [A, B, C] {
        let _ = learner.on_accepted(acceptor, id(2, A), "foo");
    }
    assert_eq!(learner.on_accepted(D, id(1, B), "bar"), Learned::NothingNew);
    assert_eq!(learner.chosen(), Some((id(2, A), &"foo")));
    assert_eq!(learner.accepted_by().collect::<Vec<_>>(), [A, B, C]);
}
