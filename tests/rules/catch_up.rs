//! Catch-up: how a node that lags fetches what was chosen.

use crate::support::*;
use synod::multi::*;

/// A learner whose log knows the first membership.
fn learner() -> Learner {
    let mut learner = Learner::new(node(1), Limits::default(), 1);
    learner.take(briefing(Some(Memberships::bootstrap(voters(3)))));
    learner
}

fn briefing(memberships: Option<Memberships>) -> LearnerInput {
    LearnerInput::Briefing(Briefing { memberships, chosen_through: slot(0), promised: None, votes: true })
}

// protocol 6.4
#[test]
fn a_node_that_joins_asks_where_the_log_begins_before_it_asks_for_slots() {
    let mut learner = Learner::new(node(4), Limits::default(), 1);
    learner.take(briefing(None));
    let out = learner.take(LearnerInput::LinkUp { peer: node(2) });
    assert_eq!(sends(&out), [(2, Message::AskBase { above: slot(0) })]);
    let memberships = Memberships::bootstrap(voters(3));
    let base = Base { through: slot(0), memberships: memberships.clone(), disks: [].into(), snapshot: None };
    let out = learner.take(to_learner(2, Message::Base { base: Box::new(base.clone()) }));
    assert_eq!(out[0], Effect::Local(Local::Acceptor(AcceptorInput::Install { base })));
    learner.take_at(ms(300), LearnerInput::Wake);
    let out = learner.take_at(ms(600), briefing(Some(memberships)));
    assert!(sends(&out).iter().all(|(_, message)| *message == catch_up(1)), "{out:?}");
}

// There may be no leader to say that a node lags, when the voters in force are the ones that lag.
#[test]
fn a_node_that_hears_of_nothing_new_asks_a_peer_now_and_then() {
    let mut learner = learner();
    learner.take(LearnerInput::LinkUp { peer: node(2) });
    learner.take(to_learner(2, told(1, &[], 0)));
    assert_eq!(sends(&learner.take_at(ms(1100), LearnerInput::Wake)), []);
    assert_eq!(sends(&learner.take_at(ms(1200), LearnerInput::Wake)), [(2, catch_up(1))]);
}

fn behind(peer: u64, through: Slot) -> LearnerInput {
    LearnerInput::Behind { peer: node(peer), through, chosen_through: slot(0) }
}

fn told(first: u64, values: &[Value], chosen_through: u64) -> Message {
    Message::Chosen { first: slot(first), values: values.to_vec(), chosen_through: slot(chosen_through) }
}

fn catch_up(from: u64) -> Message {
    Message::CatchUp { from: slot(from), bytes_max: 1 << 20 }
}

fn store(first: u64, values: &[Value]) -> Effect {
    Effect::Local(Local::Acceptor(AcceptorInput::Store { first: slot(first), values: values.to_vec() }))
}

// protocol 4.1
#[test]
fn a_reply_holds_learned_slots_only() {
    let mut acceptor =
        acceptor([chosen(1, batch("a")), chosen(2, batch("b")), accepted(3, id(1, 2), batch("c"))]);
    let out = acceptor.take(to_acceptor(3, catch_up(2)));
    assert_eq!(out, [send(3, told(2, &[batch("b")], 2))]);
    let out = acceptor.take(to_acceptor(3, catch_up(3)));
    assert_eq!(out, [send(3, told(3, &[], 2))], "an accepted value is no chosen one");
}

// protocol 4.1
#[test]
fn a_reply_keeps_to_the_bytes_asked_for_but_brings_at_least_one_value() {
    let mut acceptor = acceptor((1..=9).map(|at| chosen(at, batch("0123456789"))));
    let ask = |bytes_max| to_acceptor(3, Message::CatchUp { from: slot(1), bytes_max });
    let count = |out: Vec<Effect>| match &sends(&out)[..] {
        [(3, Message::Chosen { values, .. })] => values.len(),
        other => panic!("{other:?}"),
    };
    assert_eq!(count(acceptor.take(ask(0))), 1);
    assert_eq!(count(acceptor.take(ask(60))), 3);
    assert_eq!(count(acceptor.take(ask(u32::MAX))), 9);
}

// protocol 4.1
#[test]
fn fetched_values_are_written_before_they_count_and_the_promise_and_what_lies_above_stay() {
    let mut acceptor = acceptor([Record::Promised { id: id(7, 3) }, accepted(4, id(7, 3), batch("d"))]);
    let out = acceptor.take(AcceptorInput::Store { first: slot(1), values: vec![batch("a"), batch("b")] });
    assert_eq!(out[0], persist(11, [chosen(1, batch("a")), chosen(2, batch("b"))]));
    assert_eq!(acceptor.log().promised(), Some(id(7, 3)));
    assert_eq!(acceptor.log().chosen_through(), slot(2));
    assert_eq!(acceptor.log().entry(slot(4)), Some(&Entry { id: id(7, 3), value: batch("d") }));
}

// protocol 4.1
#[test]
fn values_above_a_gap_are_not_stored() {
    let mut acceptor = acceptor([chosen(1, batch("a"))]);
    let out = acceptor.take(AcceptorInput::Store { first: slot(3), values: vec![batch("c")] });
    let answer = LearnerInput::Learned { values: vec![], chosen_through: slot(1), replay: false };
    assert_eq!(out, [Effect::Local(Local::Learner(answer))], "the learner hears where the log stands");
    assert_eq!(acceptor.log().chosen_through(), slot(1));
}

// protocol 4.1
#[test]
fn a_learner_that_lags_asks_and_hands_what_comes_to_the_acceptor() {
    let mut learner = learner();
    let out = learner.take(behind(2, slot(3)));
    assert_eq!(out, [send(2, catch_up(1)), Effect::Deadline(ms(300))]);
    let out = learner.take(to_learner(2, told(1, &[batch("a")], 3)));
    assert_eq!(out, [store(1, &[batch("a")])]);
    let values = vec![(slot(1), batch("a"))];
    let out = learner.take(LearnerInput::Learned { values, chosen_through: slot(1), replay: false });
    let deliver = Effect::Deliver { slot: slot(1), value: batch("a") };
    assert_eq!(out, [deliver, send(2, catch_up(2))], "the next chunk is asked for");
}

// protocol 4.1
#[test]
fn the_next_chunk_is_asked_for_when_the_last_is_stored() {
    let mut learner = learner();
    learner.take(LearnerInput::LinkUp { peer: node(2) });
    learner.take(behind(2, slot(3)));
    learner.take(to_learner(2, told(1, &[batch("a")], 3)));
    let values = vec![(slot(1), batch("a"))];
    let out = learner.take(LearnerInput::Learned { values, chosen_through: slot(1), replay: false });
    assert_eq!(sends(&out), [(2, catch_up(2))]);
}

// protocol 4.1
#[test]
fn one_request_is_under_way_at_a_time() {
    let mut learner = learner();
    learner.take(behind(2, slot(3)));
    assert_eq!(learner.take(behind(3, slot(9))), []);
}

// protocol 4.1
#[test]
fn a_peer_that_does_not_answer_is_passed_over() {
    let mut learner = learner();
    learner.take(behind(2, slot(3)));
    learner.take(LearnerInput::LinkUp { peer: node(3) });
    let out = learner.take_at(ms(300), LearnerInput::Wake);
    assert_eq!(sends(&out), [(3, catch_up(1))]);
}

// protocol 4.1
#[test]
fn a_peer_whose_connection_closes_is_passed_over_at_once() {
    let mut learner = learner();
    learner.take(LearnerInput::LinkUp { peer: node(2) });
    learner.take(LearnerInput::LinkUp { peer: node(3) });
    learner.take(behind(2, slot(3)));
    let out = learner.take(LearnerInput::LinkDown { peer: node(2) });
    assert_eq!(sends(&out), [(3, catch_up(1))]);
}

// protocol 8.4
#[test]
fn a_learner_told_to_catch_up_with_someone_stops_where_that_one_stands() {
    let mut learner = learner();
    learner.take(behind(2, Slot::MAX));
    let out = learner.take(to_learner(2, told(1, &[], 0)));
    assert_eq!(out, [], "the other has nothing more");
    assert_eq!(learner.take_at(ms(300), LearnerInput::Wake), []);
}

// A peer that has more but sends nothing of it was once asked again without a pause, as fast as messages go.
#[test]
fn an_empty_answer_is_not_asked_for_again_at_once() {
    let mut learner = learner();
    learner.take(LearnerInput::LinkUp { peer: node(2) });
    learner.take(behind(2, slot(3)));
    assert_eq!(learner.take(to_learner(2, told(1, &[], 3))), []);
    assert_eq!(sends(&learner.take_at(ms(300), LearnerInput::Wake)), [(2, catch_up(1))]);
}

// A leader that was gone had more, and whoever was there instead was once asked for it as fast as messages go.
#[test]
fn a_peer_that_has_no_more_is_not_asked_again_at_once_for_what_another_had() {
    let mut learner = learner();
    learner.take(LearnerInput::LinkUp { peer: node(3) });
    learner.take(behind(2, slot(9)));
    for nth in 1..=20 {
        let now = ms(300 * nth);
        let asked = sends(&learner.take_at(now, LearnerInput::Wake));
        if asked == [(3, catch_up(1))] {
            for _ in 0..2 {
                let out = learner.take_at(now, to_learner(3, told(1, &[], 0)));
                assert_eq!(sends(&out), [], "nor when the answer is repeated");
            }
            learner.take_at(now, behind(2, slot(9)));
        }
    }
    let late = sends(&learner.take_at(ms(300 * 21), LearnerInput::Wake));
    assert_eq!(late.len(), 1, "but in time");
}

// protocol 4.1
#[test]
fn when_one_peer_has_no_more_the_next_that_has_is_asked_at_once() {
    let mut learner = learner();
    [2, 3].into_iter().for_each(|peer| drop(learner.take(LearnerInput::LinkUp { peer: node(peer) })));
    learner.take(to_learner(2, told(1, &[], 0)));
    learner.take(behind(2, slot(3)));
    learner.take(behind(3, slot(3)));
    let asked = sends(&learner.take_at(ms(300), LearnerInput::Wake))[0].0;
    let out = learner.take_at(ms(300), to_learner(asked, told(1, &[], 0)));
    assert_eq!(sends(&out), [(5 - asked, catch_up(1))]);
}

// A store that a rebuilt acceptor never answered once kept the learner from asking for ever.
#[test]
fn a_store_that_is_not_answered_is_given_up_and_fetched_again() {
    let mut learner = learner();
    learner.take(LearnerInput::LinkUp { peer: node(2) });
    learner.take(behind(2, slot(3)));
    learner.take_at(ms(100), to_learner(2, told(1, &[batch("a")], 3)));
    learner.take_at(ms(300), LearnerInput::Wake);
    let out = learner.take_at(ms(400), LearnerInput::Wake);
    assert_eq!(sends(&out), [(2, catch_up(1))]);
}

// An acceptor that was built anew may have lost a watermark that was not written yet.
#[test]
fn a_learner_fetches_from_where_the_log_stands_even_if_that_is_further_back_than_before() {
    let mut learner = learner();
    learner.take(LearnerInput::LinkUp { peer: node(2) });
    let values = (1..=5).map(|at| (slot(at), batch("x"))).collect();
    learner.take(LearnerInput::Learned { values, chosen_through: slot(5), replay: false });
    learner.take(LearnerInput::Behind { peer: node(2), through: slot(9), chosen_through: slot(3) });
    learner.take(to_learner(2, told(6, &[batch("y")], 9)));
    let rejected = LearnerInput::Learned { values: vec![], chosen_through: slot(3), replay: false };
    assert_eq!(sends(&learner.take(rejected)), [(2, catch_up(4))]);
}

// protocol 4.1
#[test]
fn values_that_nobody_asked_for_are_stored_if_they_are_next_and_ignored_if_not() {
    let mut learner = learner();
    let out = learner.take(to_learner(2, told(5, &[batch("e")], 5)));
    assert_eq!(out[0], send(2, catch_up(1)), "what is before it is asked for");
    let out = learner.take(to_learner(2, told(1, &[batch("a")], 1)));
    assert_eq!(out[0], store(1, &[batch("a")]));
}

// protocol 4.1
#[test]
fn slots_at_the_end_of_the_numbers_are_ignored_without_a_panic() {
    let mut learner = learner();
    learner.take(to_learner(2, told(u64::MAX, &[batch("a"), batch("b")], u64::MAX)));
    assert_eq!(learner.applied_through(), slot(0));
}

// protocol 4.1, scenario M5
#[test]
fn a_catch_up_reply_that_races_the_last_votes_delivers_each_slot_once() {
    let mut cluster = Cluster::external(3);
    cluster.campaign(1);
    cluster.settle();
    cluster.propose(1, "a");
    cluster.settle();
    cluster.propose(1, "b");
    let values = vec![batch("a"), batch("b")];
    cluster.wire.push_front((2, 1, Message::Chosen { first: slot(1), values, chosen_through: slot(2) }));
    cluster.pass(1000);
    for number in 1..=3 {
        assert_eq!(cluster.delivered(number), [(1, batch("a")), (2, batch("b"))], "at n{number}");
    }
}

// protocol 4.1, scenario M4
#[test]
fn a_node_that_lags_is_given_the_chosen_values_and_not_silence() {
    let mut cluster = Cluster::external(3);
    cluster.isolate(1, 3);
    cluster.isolate(2, 3);
    cluster.campaign(1);
    cluster.settle();
    for text in ["a", "b", "c"] {
        cluster.propose(1, text);
        cluster.settle();
    }
    cluster.pass(100);
    assert_eq!(cluster.delivered(3), []);
    cluster.heal();
    cluster.pass(2000);
    assert_eq!(cluster.delivered(3), [(1, batch("a")), (2, batch("b")), (3, batch("c"))]);
}

// protocol 4.1: any peer may answer, also for slots that it has to read back.
#[test]
fn a_node_that_was_rebuilt_from_its_disk_delivers_everything_again() {
    let mut cluster = Cluster::external(3);
    cluster.campaign(1);
    cluster.settle();
    for text in ["a", "b"] {
        cluster.propose(1, text);
        cluster.settle();
    }
    cluster.pass(200);
    cluster.crash(3);
    cluster.start(3, false);
    cluster.pass(1000);
    assert_eq!(cluster.delivered(3), [(1, batch("a")), (2, batch("b"))]);
}
