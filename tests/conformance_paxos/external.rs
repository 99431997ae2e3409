//! `test_external.py`: the application decides who leads; three promises needed.
//!
//! A proclamation reaches Paxos as `yield_to`. Who is proclaimed, and to whom, is the election's.

use super::*;
use synod::paxos::GaveUp;

// seed X01, changed: the ancestor can be made a leader without phase 1, and then two values are chosen (defect B2)
#[test]
fn nobody_is_born_a_leader() {
    let mut node = Driven::new(A, three());
    node.propose("foo");
    node.resend();
    assert!(!node.is_leading());
    assert_eq!((node.sent(), node.events()), (vec![], vec![]));
}

// seed X02
#[test]
fn whoever_is_told_to_prepare_gains_the_leadership() {
    let mut node = Driven::new(A, three());
    node.propose("foo");
    let own = node.win();
    assert_eq!(node.sent().pop(), Some((To::All, accept(own, "foo"))));
    assert_eq!(node.events(), [Event::Leading(own)]);
    assert_eq!(node.node.proposer().proposal().map(|id| id.node), Some(A));
}

// seed X03
#[test]
fn after_a_nack_the_application_prepares_above_it() {
    let mut node = Driven::new(A, three());
    let own = node.prepare();
    node.receive(B, nack(own, id(2, C)));
    node.forget();
    node.prepare();
    assert_eq!(node.sent(), to_all(Message::Prepare { id: id(3, A) }));
}

// seed X04, changed: the ancestor keeps its leader flag up after the loss (defect B3)
#[test]
fn a_proclamation_from_above_ends_the_leadership() {
    let (mut leader, own) = Driven::leading(A, three());
    leader.yield_to(id(5, B));
    assert!(!leader.is_leading());
    assert_eq!(leader.events(), [Event::GaveUp(GaveUp { id: own, higher: id(5, B) })]);
}

// seed X05
#[test]
fn the_third_nack_ends_the_leadership() {
    let (mut leader, own) = Driven::leading(A, three());
    leader.receive(B, nack(own, id(5, B)));
    leader.receive(C, nack(own, id(5, B)));
    assert!(leader.is_leading());
    leader.receive(E, nack(own, id(5, B)));
    assert!(!leader.is_leading());
    assert_eq!(leader.events(), [Event::GaveUp(GaveUp { id: own, higher: id(5, B) })]);
}

// seed X06
#[test]
fn a_leader_that_gave_way_regains_above_the_proclaimed_id() {
    let (mut leader, _) = Driven::leading(A, three());
    leader.yield_to(id(5, B));
    leader.forget();
    assert_eq!(leader.win(), id(6, A));
    assert_eq!(leader.events(), [Event::Leading(id(6, A))]);
}

// seed X07
#[test]
fn a_proclamation_from_below_changes_nothing() {
    let (mut leader, own) = Driven::leading(B, three());
    leader.yield_to(id(1, A));
    assert_eq!((leader.node.proposer().proposal(), leader.is_leading()), (Some(own), true));
    assert_eq!(leader.events(), []);
}

// seed X08
#[test]
fn the_second_prepare_is_won_by_its_own_promises_only() {
    let mut node = Driven::new(A, three());
    let first = node.prepare();
    node.receive(B, promise(first));
    node.receive(C, promise(first));
    let second = node.prepare();
    assert_eq!(second, id(2, A));
    node.receive(D, promise(first));
    node.receive(D, promise(second));
    node.receive(E, promise(second));
    assert!(!node.is_leading());
    node.receive(B, promise(second));
    assert!(node.is_leading());
}
