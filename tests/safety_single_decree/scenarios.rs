//! Scenarios A2 to A10, each played once by hand.

use std::collections::{BTreeMap, BTreeSet};
use synod::paxos::{
    Acceptor, Durable, Event, Learned, Learner, Message, Node, NodeId, Output, ProposalId,
    ProposalIdExhausted, Proposer, Quorum, SafetyViolation, Step, To,
};

type Text = &'static str;

const A: NodeId = NodeId::new(1);
const B: NodeId = NodeId::new(2);
const C: NodeId = NodeId::new(3);
const D: NodeId = NodeId::new(4);
const E: NodeId = NodeId::new(5);

const fn id(number: u64, node: NodeId) -> ProposalId {
    ProposalId::new(number, node)
}

fn quorum() -> Quorum {
    Quorum::majority([A, B, C]).unwrap()
}

/// A node's step, carried out at once: what it wrote goes to the disk, what it sends comes back.
fn carry_out<V>(disk: &mut Durable<V>, step: Step<Durable<V>, Output<V>>) -> Output<V> {
    if let Some(durable) = step.write {
        *disk = durable;
    }
    step.send
}

// scenario A2: the trap of defect B1
#[test]
fn a_higher_promise_elsewhere_does_not_hide_what_a_quorum_accepted() {
    let (x, y, z) = (A, B, C);
    let bar = id(2, B);
    let mut acceptors = BTreeMap::from([x, y, z].map(|node| (node, Acceptor::default())));
    for node in [y, z] {
        let _ = acceptors.get_mut(&node).unwrap().on_accept(bar, "bar");
    }
    let _ = acceptors.get_mut(&x).unwrap().on_prepare(id(5, C));

    let mut proposer = Proposer::new(D, quorum());
    let _ = proposer.propose("own");
    proposer.observe(id(5, C));
    assert_eq!(proposer.prepare().unwrap().write, Some(id(6, D)));
    let mut sent = Vec::new();
    for node in [x, y] {
        let answer = acceptors.get_mut(&node).unwrap().on_prepare(id(6, D)).send;
        let Some(Message::Promise { id, accepted }) = answer else { panic!("refused: {answer:?}") };
        sent.extend(proposer.on_promise(node, id, accepted).send);
    }
    assert_eq!(sent, [Message::Accept { id: id(6, D), value: "bar" }]);
}

// scenario A3
#[test]
fn a_restart_between_prepare_and_accept_puts_no_second_value_under_an_id() {
    let mut disk = Durable::default();
    let mut voters = BTreeMap::from([B, C].map(|node| (node, Acceptor::default())));
    let mut proposed = BTreeMap::<ProposalId, BTreeSet<Text>>::new();

    for value in ["before", "after"] {
        let mut node = Node::recover(A, quorum(), disk.clone());
        let _ = node.propose(value);
        let step = node.prepare().unwrap();
        let sent = carry_out(&mut disk, step).message;
        let Some((To::All, Message::Prepare { id })) = sent else { panic!("no prepare: {sent:?}") };
        for (from, voter) in &mut voters {
            let promise = voter.on_prepare(id).send.unwrap();
            let step = node.on_message(*from, promise);
            if let Some((_, Message::Accept { id, value })) = carry_out(&mut disk, step).message {
                proposed.entry(id).or_default().insert(value); // delayed: it reaches nobody
            }
        }
    }

    let under = |number, value| (id(number, A), BTreeSet::from([value]));
    assert_eq!(proposed, BTreeMap::from([under(1, "before"), under(2, "after")]));
}

// scenario A4
#[test]
fn a_promise_for_an_earlier_attempt_does_not_count_for_this_one() {
    let mut proposer = Proposer::new(A, quorum());
    let _ = proposer.propose("v");
    let _ = proposer.prepare().unwrap();
    let _ = proposer.prepare().unwrap();
    let _ = proposer.on_promise(C, id(2, A), None);
    assert_eq!(proposer.on_promise(B, id(1, A), None), Step::nothing());
    assert!(!proposer.is_leading());
    assert_eq!(proposer.promises(), 1);
}

// scenario A5
#[test]
fn an_acceptor_that_answers_three_times_is_one_of_three() {
    let three_of_five = Quorum::majority([A, B, C, D, E]).unwrap();
    let mut proposer = Proposer::<Text>::new(A, three_of_five.clone());
    let _ = proposer.prepare().unwrap();
    let mut learner = Learner::new(three_of_five);
    for _ in 0..3 {
        let _ = proposer.on_promise(B, id(1, A), None);
        assert_eq!(learner.on_accepted(B, id(1, A), "v"), Learned::NothingNew);
    }
    assert_eq!(proposer.promises(), 1);
    assert!(!proposer.is_leading());
    let _ = proposer.on_promise(C, id(1, A), None);
    let _ = proposer.on_promise(D, id(1, A), None);
    assert!(proposer.is_leading());
}

// scenario A6
#[test]
fn one_value_under_two_ids_is_not_chosen_until_one_id_has_a_quorum() {
    let mut learner = Learner::new(quorum());
    assert_eq!(learner.on_accepted(A, id(1, A), "foo"), Learned::NothingNew);
    assert_eq!(learner.on_accepted(B, id(2, B), "foo"), Learned::NothingNew);
    assert_eq!(learner.chosen(), None);
    let chosen = Learned::Chosen { id: id(2, B), value: "foo" };
    assert_eq!(learner.on_accepted(C, id(2, B), "foo"), chosen);
}

// scenario A7
#[test]
fn two_values_under_one_id_silence_the_node() {
    let mut node = Node::new(C, quorum());
    let _ = node.on_message(A, Message::Accepted { id: id(3, A), value: "foo" });
    let step = node.on_message(B, Message::Accepted { id: id(3, A), value: "bar" });
    let violation = SafetyViolation { from: B, id: id(3, A), against: id(3, A) };
    assert_eq!(step.send.event, Some(Event::SafetyViolation(violation)));
    assert_eq!(node.learner().chosen(), None);
    assert_eq!(node.learner().violation(), Some(violation));

    node.set_active(true);
    for message in [
        Message::Prepare { id: id(4, A) },
        Message::Accept { id: id(4, A), value: "foo" },
        Message::Accepted { id: id(3, A), value: "foo" },
    ] {
        assert_eq!(node.on_message(A, message), Step::nothing(), "it votes no more");
    }
    assert_eq!(node.prepare(), Ok(Step::nothing()));
}

// scenario A7, at the acceptor: the second value under one id comes from the proposer
#[test]
fn two_accepts_under_one_id_with_different_values_silence_the_node() {
    let mut node = Node::new(C, quorum());
    let _ = node.on_message(A, Message::Accept { id: id(3, A), value: "foo" });
    let step = node.on_message(A, Message::Accept { id: id(3, A), value: "bar" });
    let violation = SafetyViolation { from: A, id: id(3, A), against: id(3, A) };
    assert_eq!(step.send.event, Some(Event::SafetyViolation(violation)));
    assert_eq!((step.write, step.send.message), (None, None));
    assert_eq!(node.durable().acceptor.accepted, Some((id(3, A), "foo")));
    assert_eq!(node.learner().violation(), Some(violation));
    assert_eq!(node.on_message(B, Message::Prepare { id: id(4, B) }), Step::nothing());
}

/// Every subset of the first `count` nodes.
fn subsets(count: u64) -> Vec<BTreeSet<NodeId>> {
    let members = |mask: u64| (0..count).filter(move |bit| mask >> bit & 1 == 1).map(NodeId::new).collect();
    (0..1 << count).map(members).collect()
}

// scenario A8
#[test]
fn a_majority_is_more_than_half_and_any_two_of_them_meet() {
    for count in [1, 2, 3, 4, 5, 7] {
        let quorum = Quorum::majority((0..count).map(NodeId::new)).unwrap();
        let (quorums, rest): (Vec<_>, Vec<_>) =
            subsets(count).into_iter().partition(|nodes| quorum.is_accepted_by(nodes));
        assert!(quorums.iter().all(|nodes| nodes.len() as u64 > count / 2));
        assert!(rest.iter().all(|nodes| nodes.len() as u64 <= count / 2));
        assert!(quorums.iter().all(|one| quorums.iter().all(|other| !one.is_disjoint(other))));
        assert!(
            subsets(count).iter().all(|nodes| quorum.is_promised_by(nodes) == quorum.is_accepted_by(nodes))
        );
    }
}

// scenario A8, for quorums of two sizes
#[test]
fn flexible_quorums_exist_exactly_where_every_promise_meets_every_accept() {
    for count in [1_u64, 2, 3, 4, 5] {
        let sizes = 0..=count as usize;
        for (promises, accepts) in sizes.clone().flat_map(|one| sizes.clone().map(move |other| (one, other)))
        {
            let of_size = |size| subsets(count).into_iter().filter(move |nodes| nodes.len() == size);
            let all_meet =
                of_size(promises).all(|one| of_size(accepts).all(|other| !one.is_disjoint(&other)));
            let quorum = Quorum::flexible((0..count).map(NodeId::new), promises, accepts);
            assert_eq!(quorum.is_ok(), all_meet, "{promises} and {accepts} of {count}");
            for nodes in quorum.iter().flat_map(|_| subsets(count)) {
                let quorum = quorum.as_ref().unwrap();
                assert_eq!(quorum.is_promised_by(&nodes), nodes.len() >= promises);
                assert_eq!(quorum.is_accepted_by(&nodes), nodes.len() >= accepts);
            }
        }
    }
}

// scenario A9
#[test]
fn when_the_numbers_are_used_up_prepare_fails_and_changes_nothing() {
    let mut node = Node::<Text>::new(A, quorum());
    node.observe(id(ProposalId::NUMBER_MAX, B));
    let before = node.clone();
    assert_eq!(node.prepare(), Err(ProposalIdExhausted { highest: ProposalId::NUMBER_MAX }));
    assert_eq!(node, before);
}

// scenario A9: a number that no correct node can have reached uses nothing up, for it is not believed
#[test]
fn a_number_near_the_end_of_the_integers_is_not_believed() {
    let mut node = Node::<Text>::new(A, quorum());
    let before = node.clone();
    let absurd = id(u64::MAX - 1, B);
    node.observe(absurd);
    assert_eq!(node.on_message(B, Message::Prepare { id: absurd }), Step::nothing());
    assert_eq!(node.on_message(B, Message::Nack { id: id(1, A), promised: absurd }), Step::nothing());
    assert_eq!(node, before);
    assert_eq!(node.prepare().unwrap().write.unwrap().proposed, Some(id(1, A)));
}

// scenario A10
#[test]
fn an_empty_value_is_chosen_once() {
    let empty = Vec::<u8>::new();
    let mut node = Node::new(A, quorum());
    let mut events = Vec::new();
    for from in [A, B, C, A, B, C] {
        let step = node.on_message(from, Message::Accepted { id: id(1, B), value: empty.clone() });
        events.extend(step.send.event);
    }
    assert_eq!(events, [Event::Chosen { id: id(1, B), value: empty }]);
}
