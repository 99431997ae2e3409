//! What a faulty peer may send, and what it comes to: never a panic, never a second value.

use crate::support::*;
use synod::multi::node::{is_forged, is_well_formed};
use synod::multi::*;
use synod::paxos::ProposalId;

// protocol 3.1, fault F40
#[test]
fn a_second_value_under_one_id_freezes_the_slot_and_ends_this_nodes_vote_for_good() {
    let mut before = acceptor([]);
    let first = accept(id(3, 2), 1, &[batch("a")], 0);
    let mut written = records(&before.take(to_acceptor(2, first)));
    let out = before.take(to_acceptor(2, accept(id(3, 2), 1, &[batch("b")], 1)));
    let reason = AbstainReason::SafetyViolation;
    assert_eq!(events(&out), [Event::Abstains { reason }]);
    written.extend(records(&out));
    let frozen = |acceptor: &Acceptor| {
        let entry = acceptor.log().entry(slot(1)).cloned().unwrap();
        assert_eq!((entry.id, entry.value), (id(3, 2), batch("a")));
        assert_eq!(acceptor.log().chosen_through(), Slot::ZERO, "neither value is taken for the chosen one");
        assert_eq!(acceptor.log().abstains(), Some(reason));
    };
    frozen(&before);
    let mut after = acceptor(written);
    for node in [&mut before, &mut after] {
        for message in [
            prepare(id(9, 3), 1),
            accept(id(9, 3), 1, &[batch("b")], 0),
            accept(id(9, 3), 2, &[batch("c")], 1),
            heartbeat(id(3, 2), 1, false),
            accept(id(3, 2), 2, &[], 1),
        ] {
            let out = node.take(to_acceptor(3, message));
            let votes =
                sends(&out).into_iter().filter(|(_, message)| !matches!(message, Message::Nack { .. }));
            assert_eq!(votes.count(), 0, "it votes no more");
            frozen(node);
        }
    }
}

// protocol 3.1, fault F40
#[test]
fn a_second_value_fetched_for_a_learned_slot_ends_the_vote_and_changes_nothing() {
    let mut acceptor = acceptor([chosen(1, batch("a"))]);
    let out = acceptor.take(AcceptorInput::Store { first: slot(1), values: vec![batch("b"), batch("c")] });
    assert_eq!(events(&out), [Event::Abstains { reason: AbstainReason::SafetyViolation }]);
    assert_eq!(acceptor.log().entry(slot(1)).map(|entry| &entry.value), Some(&batch("a")));
    assert_eq!(acceptor.log().chosen_through(), slot(1));
}

// protocol 1.3, fault F41
#[test]
fn no_message_with_a_number_above_the_highest_reaches_a_role() {
    let absurd = [ProposalId::NUMBER_MAX + 1, u64::MAX - 1, u64::MAX].map(|number| id(number, 2));
    for id in absurd {
        let good = crate::support::id(1, 2);
        let messages = [
            prepare(id, 1),
            promise(id, 0, []),
            promise(good, 0, [(1, id, batch("a"))]),
            nack(id, good),
            nack(good, id),
            accept(id, 1, &[batch("a")], 0),
            accepted_of(id, 1, 1),
            heartbeat(id, 0, false),
            Message::HeartbeatAck { id, pulse: 1, durable_through: slot(1), witness: false },
            Message::Confirm { id, nonce: 1 },
            Message::Confirmed { id, nonce: 1 },
            Message::TakeOver { id },
            Message::PrePrepareAnswer { nonce: 1, leader: Some(id) },
            Message::ReadMarkAnswer { request: 1, mark: Some((id, slot(1))) },
        ];
        for message in messages {
            assert!(!is_well_formed(&message), "{message:?}");
            let mut cluster = Cluster::external(3);
            cluster.campaign(1);
            cluster.settle();
            let before = format!("{:?}", cluster.node(1));
            cluster.wire.push_back((2, 1, message));
            cluster.settle();
            assert_eq!(format!("{:?}", cluster.node(1)), before);
        }
    }
}

// scenario S7
#[test]
fn no_message_in_the_name_of_another_node_reaches_a_role() {
    let (ours, origin) = (id(9, 3), Origin { node: node(3), incarnation: 1, serial: 1, answered_through: 0 });
    let command = bytes::Bytes::from_static(b"a");
    let messages = [
        prepare(ours, 1),
        accept(ours, 1, &[batch("a")], 0),
        heartbeat(ours, 0, false),
        Message::Confirm { id: ours, nonce: 1 },
        Message::TakeOver { id: ours },
        Message::Forward { origin, request: Request::Plain, command },
    ];
    for message in messages {
        assert!(is_well_formed(&message));
        assert_eq!([1, 2, 3].map(|from| is_forged(node(from), &message)), [true, true, false]);
        let mut cluster = Cluster::external(3);
        cluster.campaign(1);
        cluster.settle();
        let before = format!("{:?}", cluster.node(1));
        cluster.wire.push_back((2, 1, message.clone()));
        cluster.settle();
        assert_eq!(format!("{:?}", cluster.node(1)), before, "{message:?}");
    }
    for message in [promise(ours, 0, []), nack(ours, ours), accepted_of(ours, 1, 1)] {
        assert!(!is_forged(node(2), &message), "an answer names the id that it answers: {message:?}");
    }
}

// protocol 1.3, fault F41
#[test]
fn the_highest_number_is_honoured_and_nobody_counts_beyond_it() {
    let mut cluster = Cluster::external(3);
    let highest = id(ProposalId::NUMBER_MAX, 2);
    cluster.wire.push_back((2, 1, prepare(highest, 1)));
    cluster.settle();
    assert_eq!(cluster.node(1).acceptor.log().promised(), Some(highest));
    cluster.campaign(1);
    cluster.settle();
    assert!(cluster.machines[&1].events.contains(&Event::ProposalIdExhausted));
    assert_eq!(cluster.state(1), ProposerState::Idle);
    assert_eq!(cluster.node(1).acceptor.log().promised(), Some(highest), "the promise stands");
}
