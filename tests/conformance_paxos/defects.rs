//! The defects of the ancestor that concern single-decree Paxos, one test each at least. B6 stands in `multi`; B7, B9 and
//! B18 are about disks.

use super::*;
use std::collections::BTreeSet;
use synod::paxos::{Acceptor, Due, GaveUp, Learned, Learner, Outbox, Proposer};

// defect B1: a promise reported the id promised before, not the one accepted; that hid a chosen value
#[test]
fn an_empty_promise_of_a_higher_number_does_not_hide_a_chosen_value() {
    let (mut x, mut y, mut z) = (Acceptor::default(), Acceptor::default(), Acceptor::default());
    let _ = y.on_accept(id(2, B), "bar");
    let _ = z.on_accept(id(2, B), "bar"); // chosen
    let _ = x.on_prepare(id(5, C));

    let mut proposer = Proposer::new(D, Quorum::majority([A, B, C]).unwrap());
    let _ = proposer.propose("own");
    proposer.observe(id(5, C));
    let _ = proposer.prepare().unwrap();
    let mut last = Step::nothing();
    for (from, acceptor) in [(A, &mut x), (B, &mut y)] {
        let Some(Message::Promise { id, accepted }) = acceptor.on_prepare(id(6, D)).send else {
            panic!("refused")
        };
        last = proposer.on_promise(from, id, accepted);
    }
    assert_eq!(last.send, Some(accept(id(6, D), "bar")));
}

// defect B2: an initial leader proposed without phase 1, below an id that had been prepared
#[test]
fn a_node_that_won_no_phase_1_has_nothing_to_say() {
    let mut late = Driven::new(C, two());
    late.propose("foo");
    late.receive(A, accepted(id(1, A), "bar"));
    late.resend();
    assert_eq!(late.sent(), [], "neither a prepare nor an accept without being told to prepare");

    let own = late.prepare();
    late.forget();
    late.receive(A, promise_with(own, id(1, A), "bar"));
    late.receive(B, promise(own));
    assert_eq!(late.sent(), to_all(accept(own, "bar")));
}

// defect B3: the leader flag stayed up after the leadership was lost
#[test]
fn whoever_lost_the_leadership_leads_in_no_respect() {
    let lose_by_nacks = |leader: &mut Driven, own: ProposalId| {
        leader.receive(B, nack(own, id(2, B)));
        leader.receive(C, nack(own, id(2, B)));
    };
    let lose_by_yielding = |leader: &mut Driven, _: ProposalId| leader.yield_to(id(2, B));
    let ways: [fn(&mut Driven, ProposalId); 2] = [lose_by_nacks, lose_by_yielding];
    for lose in ways {
        let (mut leader, own) = Driven::leading(A, two());
        lose(&mut leader, own);
        leader.propose("foo");
        leader.resend();
        assert!(!leader.is_leading());
        assert_eq!(leader.node.proposer().proposal(), None);
        assert_eq!(leader.sent(), []);
        assert_eq!(leader.events(), [Event::GaveUp(GaveUp { id: own, higher: id(2, B) })]);
    }
}

// defect B4: after a restart the node led again under the old id, without the value it had proposed under it
#[test]
fn after_a_restart_no_second_value_goes_out_under_the_old_id() {
    let (mut leader, old) = Driven::leading(A, two());
    leader.propose("foo");
    assert_eq!(leader.sent(), to_all(accept(old, "foo")));
    leader.restart();
    leader.propose("bar");
    for from in [B, C] {
        leader.receive(from, promise(old));
    }
    leader.resend();
    assert!(!leader.is_leading());
    assert_eq!(leader.sent(), []);
}

// defect B5: the fact that a value was delivered was saved before it was delivered; a crash in between lost it. What
// was said to the application is not durable here: after a restart it is said again
#[test]
fn a_chosen_value_is_told_again_after_a_restart() {
    let mut node = Driven::new(A, two());
    for _ in 0..2 {
        node.receive(B, accepted(id(1, B), "foo"));
        node.receive(C, accepted(id(1, B), "foo"));
        assert_eq!(node.events(), [Event::Chosen { id: id(1, B), value: "foo" }]);
        node.restart();
    }
}

// defect B8: a value that means "none" in the ancestor's language was decided twice, or crashed it
#[test]
fn a_value_that_looks_like_nothing_is_chosen_once() {
    let mut learner = Learner::<Option<u8>>::new(three());
    let told: Vec<_> =
        [A, B, C, D, E].into_iter().map(|from| learner.on_accepted(from, id(1, A), None)).collect();
    let chosen = Learned::Chosen { id: id(1, A), value: None };
    let nothing = || Learned::NothingNew;
    assert_eq!(told, [nothing(), nothing(), chosen, nothing(), nothing()]);
    assert_eq!(learner.chosen(), Some((id(1, A), &None)));

    let mut proposer = Proposer::<Option<u8>>::new(A, two());
    let _ = proposer.propose(None);
    let _ = proposer.propose(Some(1));
    let _ = proposer.prepare().unwrap();
    let _ = proposer.on_promise(B, id(1, A), None);
    let step = proposer.on_promise(C, id(1, A), None);
    assert_eq!(step.send, Some(Message::Accept { id: id(1, A), value: None }));
}

// defect B10: a repeated message was answered at once, while the first was still being written
#[test]
fn the_answer_to_a_repeat_waits_for_the_write_of_the_first() {
    for message in [Message::Prepare { id: id(1, B) }, accept(id(1, B), "foo")] {
        let (mut node, mut outbox) = (Node::<Text>::new(A, two()), Outbox::default());
        outbox.push(node.on_message(B, message.clone()));
        outbox.push(node.on_message(B, message));
        assert!(matches!(outbox.due(), Some(Due::Write(_))));
        assert_eq!(outbox.due(), None, "nothing leaves before the write is durable");
        outbox.written();
        let first = outbox.due();
        assert!(matches!(first, Some(Due::Send(_))));
        assert_eq!(outbox.due(), first);
    }
}

// defect B11: the promise that waited for its write left with the id of a later prepare
#[test]
fn a_promise_that_waits_keeps_its_own_id_and_addressee() {
    let (mut node, mut outbox) = (Node::<Text>::new(C, two()), Outbox::default());
    outbox.push(node.on_message(A, Message::Prepare { id: id(1, A) }));
    outbox.push(node.on_message(B, Message::Prepare { id: id(1, B) }));
    let mut sent = Vec::new();
    while let Some(due) = outbox.due() {
        match due {
            Due::Write(_) => outbox.written(),
            Due::Send(output) => sent.extend(output.message),
        }
    }
    assert_eq!(sent, [(To::One(A), promise(id(1, A))), (To::One(B), promise(id(1, B)))]);
}

// defect B12: after a restart the numbers began again at one
#[test]
fn no_id_is_used_twice_whenever_the_node_restarts() {
    let mut node = Driven::new(A, two());
    let mut used = BTreeSet::new();
    for _ in 0..3 {
        assert!(used.insert(node.prepare()));
        assert!(used.insert(node.prepare()));
        node.restart();
    }
    node.receive(B, Message::Prepare { id: id(9, B) });
    node.restart();
    assert_eq!(node.prepare(), id(10, A), "above what it had promised, too");
}

// defect B13: the proposer's own id had another type than one that came over the wire
#[test]
fn an_id_that_went_through_a_wire_is_the_same_id() {
    let mut node = Driven::new(A, two());
    node.prepare();
    let Some((_, prepare)) = node.sent().pop() else { panic!("nothing sent") };
    let over_the_wire: Message<String> =
        serde_json::from_str(&serde_json::to_string(&prepare).unwrap()).unwrap();
    let Message::Prepare { id: received } = over_the_wire else { panic!("not a prepare") };
    node.node.observe(received);
    node.receive(B, promise(received));
    assert_eq!(node.node.proposer().promises(), 1);
    node.receive(C, nack(received, id(4, C)));
    assert_eq!(node.prepare(), id(5, A));
}

// defect B14: each nack, of whichever id, set off another prepare
#[test]
fn many_nacks_are_one_reason_to_give_up() {
    let mut node = Driven::new(A, three());
    let older = node.prepare();
    let own = node.prepare();
    node.forget();
    for from in [B, C, D, E] {
        node.receive(from, nack(older, id(2, B)));
        node.receive(from, nack(own, id(2, B)));
    }
    assert_eq!(node.sent(), []);
    assert_eq!(node.events(), [Event::GaveUp(GaveUp { id: own, higher: id(2, B) })]);
}

// defect B15: one absurd number from anywhere, and no later leader was seen
#[test]
fn an_absurd_number_is_not_believed() {
    let absurd = id(1 << 63, B);
    let (mut leader, own) = Driven::leading(A, two());
    leader.yield_to(absurd);
    leader.node.observe(absurd);
    for message in
        [Message::Prepare { id: absurd }, accept(absurd, "foo"), nack(own, absurd), promise(absurd)]
    {
        leader.receive(B, message);
        leader.receive(C, nack(own, absurd));
    }
    assert!(leader.is_leading());
    assert_eq!((leader.sent(), leader.events()), (vec![], vec![]));
    assert_eq!(leader.disk.acceptor.promised, None);

    leader.yield_to(id(2, B));
    assert_eq!(leader.events(), [Event::GaveUp(GaveUp { id: own, higher: id(2, B) })]);
    assert_eq!(leader.prepare(), id(3, A));
}

// defect B16: a promise that came after the accept changed the value under the same id
#[test]
fn a_late_promise_does_not_change_what_was_proposed() {
    let mut node = Driven::new(A, two());
    node.node.observe(id(1, B));
    node.propose("foo");
    let own = node.prepare();
    node.receive(A, promise(own));
    node.receive(B, promise(own));
    node.forget();
    node.receive(C, promise_with(own, id(1, B), "bar"));
    node.resend();
    assert_eq!(node.sent(), to_all(accept(own, "foo")));
}

// defect B17: a quorum was "exactly so many", and could be jumped over
#[test]
fn more_than_enough_is_enough() {
    let quorum = Quorum::flexible([A, B, C, D, E], 4, 2).unwrap();
    let all = BTreeSet::from([A, B, C, D, E]);
    assert!(quorum.is_promised_by(&all));
    assert!(quorum.is_accepted_by(&all));
    assert!(!quorum.is_left_without(&all));
}
