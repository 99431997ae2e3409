//! Learning: what a node may take as chosen, and how it reaches the state machine.

use crate::support::*;
use synod::multi::*;

fn heartbeat(under: (u64, u64), watermark: u64) -> Message {
    Message::Heartbeat {
        id: id(under.0, under.1),
        watermark: slot(watermark),
        held_through: slot(0),
        pulse: 1,
        lease: false,
    }
}

fn learned_locally(out: &[Effect]) -> Vec<(u64, Value)> {
    let values = |effect: &Effect| match effect {
        Effect::Local(Local::Learner(LearnerInput::Learned { values, .. })) => values.clone(),
        _ => Vec::new(),
    };
    out.iter().flat_map(values).map(|(at, value)| (at.get(), value)).collect()
}

fn behind(out: &[Effect]) -> bool {
    out.iter().any(|effect| matches!(effect, Effect::Local(Local::Learner(LearnerInput::Behind { .. }))))
}

// protocol 3.3
#[test]
fn a_watermark_makes_learned_what_was_accepted_under_exactly_its_id() {
    let mut acceptor = acceptor([accepted(1, id(2, 2), batch("a")), accepted(2, id(2, 2), batch("b"))]);
    let out = acceptor.take(to_acceptor(2, heartbeat((2, 2), 2)));
    assert_eq!(learned_locally(&out), [(1, batch("a")), (2, batch("b"))]);
    assert!(!behind(&out));
}

// protocol 3.3
#[test]
fn an_entry_under_another_id_is_not_believed_but_fetched() {
    let mut acceptor = acceptor([accepted(1, id(1, 3), batch("other"))]);
    let out = acceptor.take(to_acceptor(2, heartbeat((2, 2), 1)));
    assert_eq!(learned_locally(&out), []);
    let fetch = LearnerInput::Behind { peer: node(2), through: slot(1), chosen_through: slot(0) };
    assert!(out.contains(&Effect::Local(Local::Learner(fetch))));
}

// protocol 3.3
#[test]
fn learning_stops_at_the_first_slot_that_is_missing() {
    let mut acceptor = acceptor([accepted(1, id(2, 2), batch("a")), accepted(3, id(2, 2), batch("c"))]);
    let out = acceptor.take(to_acceptor(2, heartbeat((2, 2), 3)));
    assert_eq!(learned_locally(&out), [(1, batch("a"))]);
    let out = acceptor.take(AcceptorInput::Store { first: slot(2), values: vec![batch("b")] });
    assert_eq!(learned_locally(&out), [(2, batch("b")), (3, batch("c"))], "3 was covered all along");
}

// protocol 3.3
#[test]
fn an_accept_that_arrives_after_the_watermark_is_learned_at_once() {
    let mut acceptor = acceptor([]);
    acceptor.take(to_acceptor(2, heartbeat((2, 2), 1)));
    let out = acceptor.take(to_acceptor(2, accept(id(2, 2), 1, &[batch("a")], 1)));
    assert_eq!(learned_locally(&out), [(1, batch("a"))]);
}

// protocol 3.3
#[test]
fn the_watermark_of_a_leader_that_was_overtaken_is_not_believed() {
    let mut acceptor = acceptor([accepted(1, id(2, 2), batch("a")), Record::Promised { id: id(3, 3) }]);
    let out = acceptor.take(to_acceptor(2, heartbeat((2, 2), 1)));
    assert_eq!(out, [send_after(2, nack(id(2, 2), id(3, 3)), 10)], "and it is told so (8.2)");
}

// protocol 3.4
#[test]
fn what_is_chosen_is_written_behind_the_values_that_it_covers() {
    let mut acceptor = acceptor([accepted(1, id(2, 2), batch("a"))]);
    let out = acceptor.take(to_acceptor(2, heartbeat((2, 2), 1)));
    assert_eq!(records(&out), [Record::Watermark { id: id(2, 2), through: slot(1) }]);
    let out = acceptor.take(AcceptorInput::Store { first: slot(2), values: vec![batch("b"), batch("c")] });
    assert_eq!(records(&out), [chosen(2, batch("b")), chosen(3, batch("c"))]);
}

// protocol 3.4
#[test]
fn a_restart_knows_what_was_learned_from_the_records_alone() {
    let mut acceptor = acceptor([]);
    let mut written = vec![formed(voters(3))];
    let inputs = [
        to_acceptor(2, accept(id(2, 2), 1, &[batch("a"), batch("b"), batch("c")], 0)),
        to_acceptor(2, accept(id(2, 2), 4, &[batch("d")], 2)),
        AcceptorInput::Store { first: slot(3), values: vec![batch("c")] },
        to_acceptor(3, prepare(id(5, 3), 4)),
    ];
    for input in inputs {
        written.extend(records(&acceptor.take(input)));
    }
    let mut log = Log::default();
    log.set_cache(Limits::default().cache_bytes_max);
    written.iter().for_each(|record| log.apply(record));
    assert_eq!(log, *acceptor.log());
    assert_eq!((log.chosen_through(), log.promised()), (slot(3), Some(id(5, 3))));
}

// protocol 1.2, 1.4, fault F3
#[test]
fn an_acceptor_that_is_built_anew_remembers_what_it_promised_and_accepted() {
    let mut before = acceptor([]);
    let mut written = Vec::new();
    for input in [to_acceptor(2, accept(id(2, 2), 1, &[batch("a")], 0)), to_acceptor(3, prepare(id(5, 3), 1))]
    {
        written.extend(records(&before.take(input)));
    }
    let mut after = acceptor(written);
    assert_eq!(sends(&after.take(to_acceptor(1, prepare(id(4, 1), 1)))), [(1, nack(id(4, 1), id(5, 3)))]);
    let repeated =
        |acceptor: &mut Acceptor| match sends(&acceptor.take(to_acceptor(3, prepare(id(5, 3), 1)))).pop() {
            Some((3, Message::Promise { page, .. })) => page,
            other => panic!("{other:?}"),
        };
    assert_eq!(repeated(&mut after).entries, [(slot(1), id(2, 2), batch("a"))]);
    assert_eq!(repeated(&mut after), repeated(&mut before));
}

// protocol 3.4
#[test]
fn every_prefix_of_the_records_is_a_log_that_never_goes_back() {
    let history = [
        formed(voters(3)),
        Record::Promised { id: id(1, 2) },
        accepted(1, id(1, 2), batch("a")),
        accepted(2, id(1, 2), batch("b")),
        Record::Watermark { id: id(1, 2), through: slot(1) },
        accepted(2, id(3, 3), batch("B")),
        Record::Watermark { id: id(3, 3), through: slot(2) },
        chosen(3, batch("c")),
    ];
    let mut log = Log::default();
    let mut marks = Vec::new();
    for record in &history {
        let before = (log.promised(), log.chosen_through());
        log.apply(record);
        assert!(before.0 <= log.promised() && before.1 <= log.chosen_through());
        marks.push(log.chosen_through().get());
    }
    assert_eq!(marks, [0, 0, 0, 0, 1, 1, 2, 3]);
}

// protocol 3.1
#[test]
fn a_value_fetched_for_a_slot_that_was_learned_otherwise_ends_this_nodes_vote() {
    let mut acceptor = acceptor([chosen(1, batch("a"))]);
    let out = acceptor.take(AcceptorInput::Store { first: slot(1), values: vec![batch("b")] });
    assert_eq!(events(&out), [Event::Abstains { reason: AbstainReason::SafetyViolation }]);
}

// protocol 4.1, scenario M9
#[test]
fn nothing_takes_the_log_back_below_what_is_learned() {
    let history = (1..=9).map(|at| chosen(at, batch("x")));
    let mut acceptor = acceptor(history.chain([Record::Promised { id: id(4, 2) }]));
    let before = acceptor.log().clone();
    acceptor.take(AcceptorInput::Store { first: slot(4), values: vec![batch("x")] });
    acceptor.take(to_acceptor(2, accept(id(4, 2), 4, &[batch("y")], 4)));
    acceptor.take(to_acceptor(2, heartbeat((4, 2), 4)));
    assert_eq!(*acceptor.log(), before);
}

// ------------------------------------------------------------------ delivery

fn to_learn(first: u64, values: &[Value], chosen_through: u64, replay: bool) -> LearnerInput {
    let values = values.iter().cloned().enumerate().map(|(at, value)| (slot(first + at as u64), value));
    LearnerInput::Learned { values: values.collect(), chosen_through: slot(chosen_through), replay }
}

fn deliver(at: u64, value: Value) -> Effect {
    Effect::Deliver { slot: slot(at), value }
}

fn replay(from: u64) -> Effect {
    Effect::Local(Local::Acceptor(AcceptorInput::Replay { from: slot(from) }))
}

fn learner() -> Learner {
    Learner::new(node(1), Limits::default(), 1)
}

// protocol 0 (applied), scenario M2
#[test]
fn learned_values_are_delivered_in_slot_order_once() {
    let mut learner = learner();
    let out = learner.take(to_learn(1, &[batch("a"), batch("b")], 2, false));
    assert_eq!(out, [deliver(1, batch("a")), deliver(2, batch("b"))]);
    assert_eq!(learner.take(to_learn(2, &[batch("b")], 2, false)), []);
    assert_eq!(learner.applied_through(), slot(2));
}

// protocol 0 (applied), scenario M2
#[test]
fn a_gap_is_asked_for_and_nothing_is_delivered_above_it() {
    let mut learner = learner();
    let out = learner.take(to_learn(3, &[batch("c")], 3, false));
    assert_eq!(out, [replay(1), Effect::Deadline(ms(300))]);
    let out = learner.take(to_learn(1, &[batch("a"), batch("b"), batch("c")], 3, true));
    assert_eq!(out, [deliver(1, batch("a")), deliver(2, batch("b")), deliver(3, batch("c"))]);
}

// protocol 3.4
#[test]
fn a_learner_that_starts_asks_for_everything_and_goes_on_chunk_by_chunk() {
    let mut learner = learner();
    assert_eq!(learner.take(LearnerInput::Start), [replay(1), Effect::Deadline(ms(300))]);
    let out = learner.take(to_learn(1, &[batch("a")], 2, true));
    assert_eq!(out, [deliver(1, batch("a")), replay(2)]);
}

// A replay that a rebuilt acceptor never answered once kept the learner waiting for ever.
#[test]
fn a_replay_that_is_not_answered_is_asked_for_again() {
    let mut learner = learner();
    learner.take(LearnerInput::Start);
    assert!(learner.take_at(ms(300), LearnerInput::Wake).contains(&replay(1)));
}

#[test]
fn a_replay_that_brings_nothing_is_asked_for_again_later_and_not_at_once() {
    let mut learner = learner();
    learner.take(LearnerInput::Start);
    assert_eq!(learner.take(to_learn(1, &[], 2, true)), []);
    assert!(learner.take_at(ms(300), LearnerInput::Wake).contains(&replay(1)));
}

// ------------------------------------------------------------------ reading back

/// An acceptor that keeps nothing learned in memory.
fn forgetful(records: impl IntoIterator<Item = Record>) -> Acceptor {
    acceptor_with(Limits { cache_bytes_max: 0, ..Limits::default() }, records)
}

// protocol 4.1: the storage once answered with what had been accepted before, since what was learned was not yet written.
#[test]
fn what_is_learned_is_not_read_back_before_it_is_durable() {
    let mut acceptor = forgetful([accepted(1, id(1, 2), batch("not chosen"))]);
    acceptor.take(AcceptorInput::Store { first: slot(1), values: vec![batch("chosen")] });
    acceptor.take(AcceptorInput::Votes { sequences: vec![(node(2), Sequence(3))] });
    assert_eq!(acceptor.log().entry(slot(1)), None, "it was evicted");
    let out = acceptor.take(to_acceptor(3, Message::CatchUp { from: slot(1), bytes_max: 1000 }));
    assert_eq!(out, [], "the write is under way");
    let out = acceptor.take(AcceptorInput::Persisted { sequence: Sequence(11) });
    assert_eq!(out, [Effect::Read { slots: slot(1)..slot(2), bytes_max: 1000 }]);
}

#[test]
fn one_read_runs_at_a_time_and_a_repeated_request_waits_once() {
    let mut acceptor = forgetful([chosen(1, batch("a")), chosen(2, batch("b"))]);
    let ask = |from| Message::CatchUp { from: slot(from), bytes_max: 10 };
    assert_eq!(acceptor.take(to_acceptor(2, ask(1))).len(), 1);
    assert_eq!(acceptor.take(to_acceptor(2, ask(1))), []);
    assert_eq!(acceptor.take(to_acceptor(3, ask(1))), []);
    let entry = Entry { id: id(0, 0), value: batch("a") };
    let out = acceptor.take(AcceptorInput::ReadBack { entries: vec![(slot(1), entry.clone())] });
    let told = Message::Chosen { first: slot(1), values: vec![batch("a")], chosen_through: slot(2) };
    assert_eq!(out, [send(2, told), Effect::Read { slots: slot(1)..slot(3), bytes_max: 10 }]);
    acceptor.take(AcceptorInput::ReadBack { entries: vec![(slot(1), entry)] });
    assert_eq!(acceptor.take(AcceptorInput::ReadBack { entries: vec![] }), [], "nothing was asked");
}

// Law 4: what waits is bounded.
#[test]
fn requests_beyond_the_bound_are_dropped_like_lost_messages() {
    let mut acceptor = forgetful([chosen(1, batch("a"))]);
    for peer in 2..200 {
        acceptor.take(to_acceptor(peer, Message::CatchUp { from: slot(1), bytes_max: 10 }));
    }
    let mut answers = 0;
    while !acceptor.take(AcceptorInput::ReadBack { entries: vec![] }).is_empty() {
        answers += 1;
    }
    assert_eq!(answers, 32);
}

// protocol 3.1
#[test]
fn a_record_of_an_acceptance_changes_no_slot_that_is_learned() {
    for at in [1, 2] {
        let mut log = log(voters(3), [chosen(1, batch("a")), chosen(2, batch("b"))]);
        let before = log.entry(slot(at)).cloned();
        assert!(before.is_some());
        log.apply(&accepted(at, id(9, 2), batch("c")));
        assert_eq!(log.entry(slot(at)).cloned(), before);
        assert_eq!(log.chosen_through(), slot(2));
    }
}
