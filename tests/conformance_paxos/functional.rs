//! `test_functional.py`: the heartbeat node, three promises needed; the half that is Paxos.
//!
//! An observed heartbeat reaches Paxos as `yield_to`. The other half, when to try, is the election's.

use super::*;
use synod::paxos::GaveUp;

fn node() -> Driven {
    let mut node = Driven::new(A, three());
    node.propose("foo");
    node
}

fn leader() -> (Driven, ProposalId) {
    let mut node = node();
    let own = node.win();
    node.forget();
    (node, own)
}

// seed F03
#[test]
fn a_campaign_ends_with_three_promises_in_an_accept() {
    let mut node = node();
    let own = node.win();
    assert_eq!(own, id(1, A));
    assert_eq!(node.events(), [Event::Leading(own)]);
    assert_eq!(node.sent(), [(To::All, Message::Prepare { id: own }), (To::All, accept(own, "foo"))]);
}

// seed F04, the Paxos half
#[test]
fn a_campaign_ends_when_a_higher_leader_shows() {
    let mut node = node();
    let own = node.prepare();
    node.receive(B, promise(own));
    node.receive(C, promise(own));
    node.yield_to(id(5, B));
    assert_eq!(node.events(), [Event::GaveUp(GaveUp { id: own, higher: id(5, B) })]);
    node.forget();
    node.receive(D, promise(own));
    assert!(!node.is_leading());
    assert_eq!(node.sent(), []);
}

// seed F05: the ancestor prepares again at once; here the application is told once, and prepares after a pause
#[test]
fn a_nack_ends_the_campaign_and_the_next_id_is_above_it() {
    let mut node = node();
    let own = node.prepare();
    node.forget();
    node.receive(B, nack(own, id(2, C)));
    assert_eq!(node.sent(), [], "no duel");
    assert_eq!(node.events(), [Event::GaveUp(GaveUp { id: own, higher: id(2, C) })]);
    assert_eq!(node.prepare(), id(3, A));
    node.forget();
    node.receive(D, nack(own, id(2, C)));
    assert_eq!((node.sent(), node.events()), (vec![], vec![]), "a nack of an older id");
}

// seed F06, the Paxos half
#[test]
fn a_leader_that_sees_a_higher_one_loses() {
    let (mut leader, own) = leader();
    leader.yield_to(id(5, B));
    assert!(!leader.is_leading());
    assert_eq!(leader.events(), [Event::GaveUp(GaveUp { id: own, higher: id(5, B) })]);
}

// seed F07
#[test]
fn three_nacks_take_the_leadership() {
    let (mut leader, own) = leader();
    for from in [B, C] {
        leader.receive(from, nack(own, id(5, B)));
        assert!(leader.is_leading());
    }
    leader.receive(D, nack(own, id(5, B)));
    assert!(!leader.is_leading());
    assert_eq!(leader.events(), [Event::GaveUp(GaveUp { id: own, higher: id(5, B) })]);
}

// seed F08, the Paxos half
#[test]
fn a_leader_that_lost_regains_above_and_proposes_again() {
    let (mut leader, _) = leader();
    leader.yield_to(id(5, B));
    leader.forget();
    assert_eq!(leader.win(), id(6, A));
    assert_eq!(leader.sent().pop(), Some((To::All, accept(id(6, A), "foo"))));
    assert_eq!(leader.events(), [Event::Leading(id(6, A))]);
}

// seed F09, the Paxos half
#[test]
fn the_heartbeat_of_an_older_leader_changes_nothing() {
    let mut node = node();
    node.node.observe(id(4, B));
    let own = node.win();
    node.forget();
    node.yield_to(id(4, B));
    assert_eq!((node.node.proposer().proposal(), node.events()), (Some(own), vec![]));
    assert!(node.is_leading());
}

// seed F11, the Paxos half
#[test]
fn the_promises_for_the_second_attempt_win_it() {
    let mut node = node();
    node.prepare();
    assert_eq!(node.win(), id(2, A));
    assert_eq!(node.events(), [Event::Leading(id(2, A))]);
}
