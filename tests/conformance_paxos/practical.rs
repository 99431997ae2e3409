//! `test_practical.py`: nacks, passive nodes, resending, restarts; two answers needed.

use super::*;
use synod::paxos::{Due, Outbox};

fn node() -> Driven {
    Driven::new(A, two())
}

fn passive() -> Driven {
    let mut driven = node();
    driven.node.set_active(false);
    driven
}

// seed R01
#[test]
fn a_leader_proposes_its_first_value_at_once() {
    let (mut leader, own) = Driven::leading(A, two());
    leader.propose("foo");
    assert_eq!(leader.sent(), to_all(accept(own, "foo")));
}

// seed R02, revived: shadowed in the ancestor
#[test]
fn a_leader_repeats_its_accept() {
    let (mut leader, own) = Driven::leading(A, two());
    leader.propose("foo");
    leader.forget();
    leader.resend();
    assert_eq!(leader.sent(), to_all(accept(own, "foo")));
}

// seed R03
#[test]
fn a_passive_leader_repeats_nothing() {
    let (mut leader, own) = Driven::leading(A, two());
    leader.propose("foo");
    leader.forget();
    leader.node.set_active(false);
    leader.resend();
    assert_eq!(leader.sent(), []);
    leader.node.set_active(true);
    leader.resend();
    assert_eq!(leader.sent(), to_all(accept(own, "foo")));
}

// seed R04
#[test]
fn a_passive_leader_keeps_its_value_and_sends_nothing() {
    let (mut leader, _) = Driven::leading(A, two());
    leader.node.set_active(false);
    leader.propose("foo");
    assert_eq!(leader.sent(), []);
    assert_eq!(leader.node.proposer().value(), Some(&"foo"));
}

// seed R05
#[test]
fn a_promise_to_another_node_raises_the_next_id() {
    let mut node = node();
    node.receive(B, promise(id(5, C)));
    node.prepare();
    assert_eq!(node.sent(), to_all(Message::Prepare { id: id(6, A) }));
}

// seed R06
#[test]
fn a_passive_node_takes_the_next_id_and_sends_nothing() {
    let mut node = passive();
    node.receive(B, promise(id(5, C)));
    assert_eq!(node.prepare(), id(6, A));
    assert_eq!(node.sent(), []);
    assert_eq!(node.disk.proposed, Some(id(6, A)), "what it does not say it still remembers");
}

// seed R07
#[test]
fn a_repeated_prepare_keeps_the_id_and_the_promises() {
    let mut node = node();
    let own = node.prepare();
    node.receive(B, promise(own));
    node.forget();
    node.resend();
    assert_eq!(node.sent(), to_all(Message::Prepare { id: own }));
    assert_eq!(node.node.proposer().promises(), 1);
}

// seed R08
#[test]
fn a_promise_that_comes_after_the_quorum_is_not_collected() {
    let (mut leader, own) = Driven::leading(A, two());
    let before = leader.node.clone();
    leader.receive(A, promise_with(own, id(0, B), "late"));
    assert_eq!(leader.node, before);
    assert_eq!((leader.sent(), leader.events()), (vec![], vec![]));
}

// seed R09
#[test]
fn the_second_promise_makes_a_leader_that_proposes() {
    let mut node = node();
    node.propose("foo");
    let own = node.prepare();
    node.receive(B, promise(own));
    assert_eq!(node.events(), []);
    node.forget();
    node.receive(C, promise(own));
    assert!(node.is_leading());
    assert_eq!(node.events(), [Event::Leading(own)]);
    assert_eq!(node.sent(), to_all(accept(own, "foo")));
}

// seed R10
#[test]
fn a_passive_node_wins_and_says_so_to_its_application_only() {
    let mut node = passive();
    node.propose("foo");
    let own = node.win();
    assert_eq!(node.events(), [Event::Leading(own)]);
    assert_eq!(node.sent(), []);
}

// seed R11
#[test]
fn a_leader_without_a_value_sends_nothing() {
    let mut node = node();
    let own = node.prepare();
    node.receive(B, promise(own));
    node.forget();
    node.receive(C, promise(own));
    assert_eq!(node.events(), [Event::Leading(own)]);
    assert_eq!(node.sent(), []);
}

// seed R12: in phase 1 a resend repeats the prepare, which the ancestor has another call for (seed R07)
#[test]
fn no_accept_is_repeated_before_there_is_leadership_and_a_value() {
    let mut node = node();
    node.resend();
    assert_eq!(node.sent(), []);
    let own = node.win();
    node.forget();
    node.resend();
    assert_eq!(node.sent(), []);
    node.propose("foo");
    node.forget();
    for _ in 0..2 {
        node.resend();
        assert_eq!(node.sent(), to_all(accept(own, "foo")));
    }
}

// seed R13; the guard against overflow is scenario A9
#[test]
fn an_observed_id_raises_the_next_one() {
    let mut node = node();
    node.node.observe(id(5, B));
    assert_eq!(node.prepare(), id(6, A));
}

// seed R14
#[test]
fn a_nack_raises_the_next_id() {
    let mut node = node();
    let own = node.prepare();
    node.receive(B, nack(own, id(5, B)));
    assert_eq!(node.prepare(), id(6, A));
}

// seed R15
#[test]
fn a_prepare_below_the_promise_is_nacked_to_its_sender() {
    let mut node = node();
    node.receive(B, Message::Prepare { id: id(2, B) });
    node.forget();
    node.receive(C, Message::Prepare { id: id(1, C) });
    assert_eq!(node.sent(), to_one(C, nack(id(1, C), id(2, B))));
}

// seed R16
#[test]
fn a_passive_node_nacks_no_prepare() {
    let mut node = passive();
    node.receive(B, Message::Prepare { id: id(2, B) });
    node.receive(C, Message::Prepare { id: id(1, C) });
    assert_eq!(node.sent(), []);
    assert_eq!(node.disk.acceptor.promised, Some(id(2, B)));
}

// seed R17, revived: shadowed in the ancestor
#[test]
fn an_accept_below_the_promise_is_nacked_to_its_sender() {
    let mut node = node();
    node.receive(B, Message::Prepare { id: id(5, B) });
    node.forget();
    node.receive(C, accept(id(1, C), "foo"));
    assert_eq!(node.sent(), to_one(C, nack(id(1, C), id(5, B))));
}

// seed R18
#[test]
fn a_passive_node_nacks_no_accept_and_accepts_nothing_below_its_promise() {
    let mut node = passive();
    node.receive(B, Message::Prepare { id: id(5, B) });
    let before = node.disk.clone();
    node.receive(C, accept(id(1, C), "foo"));
    assert_eq!(node.sent(), []);
    assert_eq!((&node.disk, node.node.acceptor().state()), (&before, &before.acceptor));
}

// seed R19
#[test]
fn a_passive_node_promises_to_its_disk_only() {
    let mut node = passive();
    node.receive(B, Message::Prepare { id: id(1, B) });
    assert_eq!(node.sent(), []);
    assert_eq!(node.disk.acceptor.promised, Some(id(1, B)));
}

// seed R20
#[test]
fn a_node_that_became_passive_does_not_repeat_its_promise() {
    let mut node = node();
    node.receive(B, Message::Prepare { id: id(1, B) });
    assert_eq!(node.sent(), to_one(B, promise(id(1, B))));
    node.node.set_active(false);
    node.receive(B, Message::Prepare { id: id(1, B) });
    assert_eq!(node.sent(), []);
}

// seed R21
#[test]
fn a_repeated_accept_is_told_to_all_again() {
    let mut node = node();
    for _ in 0..2 {
        node.receive(B, accept(id(1, B), "foo"));
        assert_eq!(node.sent(), to_all(accepted(id(1, B), "foo")));
    }
}

// seed R22
#[test]
fn a_node_that_became_passive_does_not_repeat_what_it_accepted() {
    let mut node = node();
    node.receive(B, accept(id(1, B), "foo"));
    assert_eq!(node.sent(), to_all(accepted(id(1, B), "foo")));
    node.node.set_active(false);
    node.receive(B, accept(id(1, B), "foo"));
    assert_eq!(node.sent(), []);
}

// seed R23
#[test]
fn a_passive_node_accepts_to_its_disk_only() {
    let mut node = passive();
    node.receive(B, accept(id(1, B), "foo"));
    assert_eq!(node.sent(), []);
    assert_eq!(node.disk.acceptor.accepted, Some((id(1, B), "foo")));
}

// seed R24
#[test]
fn a_passive_node_accepts_what_it_promised_to_its_disk_only() {
    let mut node = passive();
    node.receive(B, Message::Prepare { id: id(1, B) });
    node.receive(B, accept(id(1, B), "foo"));
    assert_eq!(node.sent(), []);
    assert_eq!(node.disk.acceptor.accepted, Some((id(1, B), "foo")));
}

// seed R25
#[test]
fn a_restarted_node_repeats_its_promise() {
    let mut node = node();
    node.receive(B, Message::Prepare { id: id(1, B) });
    node.restart();
    node.receive(B, Message::Prepare { id: id(1, B) });
    assert_eq!(node.sent(), to_one(B, promise(id(1, B))));
}

// seed R26
#[test]
fn a_restarted_node_reports_what_it_accepted() {
    let mut node = node();
    node.receive(B, Message::Prepare { id: id(1, B) });
    node.receive(B, accept(id(1, B), "foo"));
    node.restart();
    node.receive(C, Message::Prepare { id: id(2, C) });
    assert_eq!(node.sent(), to_one(C, promise_with(id(2, C), id(1, B), "foo")));
}

/// Pushes what the node does with a message, and takes out all that is due.
fn receive_into(
    outbox: &mut Outbox<Durable<Text>, Output<Text>>,
    node: &mut Node<Text>,
    from: NodeId,
    message: Message<Text>,
) -> Vec<Due<Durable<Text>, Output<Text>>> {
    outbox.push(node.on_message(from, message));
    std::iter::from_fn(|| outbox.due()).collect()
}

fn says(to: To, message: Message<Text>) -> Due<Durable<Text>, Output<Text>> {
    Due::Send(Output { message: Some((to, message)), event: None })
}

// seed R27: the ancestor drops the second prepare, here it waits its turn
#[test]
fn while_a_promise_is_being_written_another_prepare_is_not_answered() {
    let (mut node, mut outbox) = (Node::new(A, two()), Outbox::default());
    let due = receive_into(&mut outbox, &mut node, B, Message::Prepare { id: id(1, B) });
    assert!(matches!(due[..], [Due::Write(_)]));
    assert_eq!(receive_into(&mut outbox, &mut node, C, Message::Prepare { id: id(2, C) }), []);
    outbox.written();
    assert_eq!(outbox.due(), Some(says(To::One(B), promise(id(1, B)))));
    assert!(matches!(outbox.due(), Some(Due::Write(_))), "the second promise is written only now");
    assert_eq!(outbox.due(), None);
}

// seed R28
#[test]
fn a_restarted_node_accepts_what_it_had_promised() {
    let mut node = node();
    node.receive(B, Message::Prepare { id: id(1, B) });
    node.restart();
    node.receive(B, accept(id(1, B), "foo"));
    assert_eq!(node.sent(), to_all(accepted(id(1, B), "foo")));
}

// seed R29
#[test]
fn a_restarted_node_accepts_above_what_it_had_promised() {
    let mut node = node();
    node.receive(B, Message::Prepare { id: id(1, B) });
    node.restart();
    node.receive(B, accept(id(5, B), "foo"));
    assert_eq!(node.sent(), to_all(accepted(id(5, B), "foo")));
}

// seed R30: the ancestor drops the second accept, here it waits its turn
#[test]
fn while_a_proposal_is_being_written_another_accept_is_not_answered() {
    let (mut node, mut outbox) = (Node::new(A, two()), Outbox::default());
    let due = receive_into(&mut outbox, &mut node, B, accept(id(5, B), "foo"));
    assert!(matches!(due[..], [Due::Write(_)]));
    assert_eq!(receive_into(&mut outbox, &mut node, C, accept(id(6, C), "foo")), []);
    outbox.written();
    assert_eq!(outbox.due(), Some(says(To::All, accepted(id(5, B), "foo"))));
    assert!(matches!(outbox.due(), Some(Due::Write(_))), "the second proposal is written only now");
    assert_eq!(outbox.due(), None);
}

// seed R31
#[test]
fn a_restarted_node_nacks_an_accept_below_what_it_had_promised() {
    let mut node = node();
    node.receive(B, Message::Prepare { id: id(5, B) });
    node.restart();
    node.receive(C, accept(id(1, C), "foo"));
    assert_eq!(node.sent(), to_one(C, nack(id(1, C), id(5, B))));
    assert_eq!(node.disk.acceptor.accepted, None);
}

/// A node that learned "foo" from A and B.
fn having_learned_foo() -> Driven {
    let mut node = node();
    node.receive(A, accepted(id(1, A), "foo"));
    node.receive(B, accepted(id(1, A), "foo"));
    assert_eq!(node.events(), [Event::Chosen { id: id(1, A), value: "foo" }]);
    node
}

fn accepted_by(node: &Driven) -> Vec<NodeId> {
    node.node.learner().accepted_by().collect()
}

// seed R32
#[test]
fn those_whose_votes_chose_the_value_are_known() {
    assert_eq!(accepted_by(&having_learned_foo()), [A, B]);
}

// seed R33
#[test]
fn an_acceptor_that_follows_later_joins_them() {
    let mut node = having_learned_foo();
    node.receive(C, accepted(id(1, A), "foo"));
    assert_eq!(accepted_by(&node), [A, B, C]);
    assert_eq!(node.events(), [], "the choice is told once");
}

// seed R34
#[test]
fn an_acceptor_of_the_same_value_under_another_id_joins_them() {
    let mut node = having_learned_foo();
    node.receive(C, accepted(id(0, A), "foo"));
    assert_eq!(accepted_by(&node), [A, B, C]);
}

// seed R35, changed: the ancestor's node changes its quorum on its own, which breaks the intersection with everybody
// else's. A quorum has no setter; another one is another cluster's, and a majority of it need not meet ours
#[test]
fn a_quorum_of_its_own_choosing_is_refused_unless_it_meets_itself() {
    assert!(Quorum::flexible([A, B, C], 1, 2).is_err());
    assert!(Quorum::flexible([A, B, C, D], 2, 2).is_err());
    assert!(Quorum::flexible([A, B, C, D], 3, 2).is_ok());
}
