//! `test_proposers.py`: winning and losing leadership, three promises needed; the half that is Paxos.
//!
//! An observed heartbeat reaches Paxos as `yield_to`. The other half, when to try, is the election's.

use super::*;
use synod::paxos::GaveUp;

fn node() -> Driven {
    Driven::new(A, three())
}

// seed P03
#[test]
fn three_promises_gain_the_leadership() {
    let mut node = node();
    node.propose("99");
    let own = node.prepare();
    assert_eq!(node.sent(), to_all(Message::Prepare { id: id(1, A) }));
    for from in [B, C] {
        node.receive(from, promise(own));
        assert_eq!((node.sent(), node.events()), (vec![], vec![]));
    }
    node.receive(D, promise(own));
    assert_eq!(node.sent(), to_all(accept(own, "99")));
    assert_eq!(node.events(), [Event::Leading(own)]);
}

// seed P04, revived: disabled in the ancestor
#[test]
fn a_refusal_during_the_attempt_prevents_the_leadership() {
    let mut node = node();
    node.propose("99");
    let own = node.prepare();
    node.receive(B, promise(own));
    node.receive(C, promise(own));
    node.receive(D, nack(own, id(5, B)));
    node.forget();
    node.receive(E, promise(own));
    assert!(!node.is_leading());
    assert_eq!(node.sent(), []);
}

// seed P05
#[test]
fn the_refusal_of_an_older_attempt_does_not_disturb_this_one() {
    let mut node = node();
    let older = node.prepare();
    let own = node.prepare();
    node.receive(B, promise(own));
    node.receive(C, nack(older, id(1, B)));
    node.receive(C, promise(own));
    assert!(!node.is_leading());
    node.receive(D, promise(own));
    assert!(node.is_leading());
}

// seed P06, the Paxos half
#[test]
fn a_leader_gives_way_to_a_higher_id() {
    let (mut leader, own) = Driven::leading(A, three());
    leader.yield_to(id(5, B));
    assert!(!leader.is_leading());
    assert_eq!(leader.events(), [Event::GaveUp(GaveUp { id: own, higher: id(5, B) })]);
}

// seed P07, changed: the ancestor keeps its leader flag up after the loss (defect B3)
#[test]
fn the_third_distinct_nack_loses_the_leadership() {
    let (mut leader, own) = Driven::leading(A, three());
    leader.propose("99");
    leader.receive(B, nack(own, id(2, B)));
    leader.receive(B, nack(own, id(2, B)));
    leader.receive(C, nack(own, id(2, B)));
    assert!(leader.is_leading(), "three are left: a quorum");
    assert_eq!(leader.events(), []);
    leader.receive(D, nack(own, id(5, B)));
    assert!(!leader.is_leading());
    assert_eq!(leader.events(), [Event::GaveUp(GaveUp { id: own, higher: id(5, B) })]);
}

// seed P08, the Paxos half
#[test]
fn leadership_that_was_lost_is_regained_above_the_one_that_took_it() {
    let (mut leader, _) = Driven::leading(A, three());
    leader.yield_to(id(5, B));
    leader.forget();
    assert_eq!(leader.win(), id(6, A));
    assert_eq!(leader.events(), [Event::Leading(id(6, A))]);
}

// seed P09, the Paxos half
#[test]
fn a_lower_id_does_not_displace_a_leader() {
    let mut node = node();
    node.yield_to(id(5, B));
    let own = node.win();
    node.forget();
    node.yield_to(id(1, A));
    node.yield_to(id(5, B));
    assert_eq!((node.is_leading(), node.node.proposer().proposal()), (true, Some(own)));
    assert_eq!(node.events(), []);
}

// seed P11, changed, the Paxos half: the ancestor repeats the same id after a window without a quorum; a fresh one makes
// late answers to the first attempt harmless
#[test]
fn a_second_attempt_takes_a_fresh_id() {
    let mut node = node();
    let first = node.prepare();
    node.receive(B, promise(first));
    assert_eq!(node.prepare(), id(2, A));
    node.receive(C, promise(first));
    node.receive(D, promise(first));
    assert!(!node.is_leading());
}
