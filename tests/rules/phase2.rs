//! Phase 2: what an acceptor accepts, what a leader counts, and when it gives up.

use crate::support::*;
use synod::multi::*;

fn vote(under: (u64, u64), slots: &[Interval], sequence: u64) -> Message {
    Message::Accepted { id: id(under.0, under.1), slots: slots.to_vec(), sequence: Sequence(sequence) }
}

/// Wakes the proposer every 50 ms from `from` to `to`, and gathers what it does.
fn tick(proposer: &mut Proposer, from: u64, to: u64) -> Vec<Effect> {
    let mut out = Vec::new();
    for at in (from..=to).step_by(50) {
        proposer.step(ms(at), ProposerInput::Wake, &mut out);
    }
    out
}

// ------------------------------------------------------------------ the acceptor

// protocol 1.1
#[test]
fn accepting_without_a_promise_raises_the_promise() {
    let mut acceptor = acceptor([]);
    let out = acceptor.take(to_acceptor(2, accept(id(3, 2), 1, &[batch("a")], 0)));
    let expected = [
        persist(11, [accepted(1, id(3, 2), batch("a"))]),
        Effect::Local(Local::Proposer(ProposerInput::Promised { id: id(3, 2) })),
        Effect::Local(Local::Election(ElectionInput::Promised { id: id(3, 2) })),
        send_after(2, vote((3, 2), &[interval(1, 1)], 11), 11),
    ];
    assert_eq!(out, expected);
    let refused = acceptor.take(to_acceptor(3, prepare(id(2, 3), 1)));
    assert_eq!(sends(&refused), [(3, nack(id(2, 3), id(3, 2)))]);
}

// protocol 1.1
#[test]
fn an_accept_below_the_promise_is_refused_and_changes_nothing() {
    let mut acceptor = acceptor([Record::Promised { id: id(5, 3) }]);
    let before = acceptor.log().clone();
    let out = acceptor.take(to_acceptor(2, accept(id(3, 2), 1, &[batch("a")], 7)));
    assert_eq!(out, [send_after(2, nack(id(3, 2), id(5, 3)), 10)], "not even its watermark is believed");
    assert_eq!(*acceptor.log(), before);
}

// protocol 1.1
#[test]
fn a_higher_id_overwrites_what_was_accepted_in_an_open_slot() {
    let mut acceptor = acceptor([accepted(1, id(1, 2), batch("old"))]);
    acceptor.take(to_acceptor(3, accept(id(2, 3), 1, &[batch("new")], 0)));
    assert_eq!(acceptor.log().entry(slot(1)), Some(&Entry { id: id(2, 3), value: batch("new") }));
}

// protocol 2.2
#[test]
fn a_repeated_accept_repeats_the_vote_and_writes_nothing() {
    let mut acceptor = acceptor([]);
    acceptor.take(to_acceptor(2, accept(id(3, 2), 1, &[batch("a")], 0)));
    let out = acceptor.take(to_acceptor(2, accept(id(3, 2), 1, &[batch("a")], 0)));
    assert_eq!(out, [send_after(2, vote((3, 2), &[interval(1, 1)], 11), 11)], "and it waits for the write");
}

// protocol 2.2
#[test]
fn a_vote_names_exactly_the_slots_that_are_written() {
    let limits = Limits { ahead_slots_max: 3, ..Limits::default() };
    let mut acceptor = acceptor_with(limits, []);
    let values = [batch("a"), batch("b"), batch("c"), batch("d"), batch("e")];
    let out = acceptor.take(to_acceptor(2, accept(id(3, 2), 1, &values, 0)));
    assert_eq!(records(&out).len(), 3);
    assert_eq!(sends(&out), [(2, vote((3, 2), &[interval(1, 3)], 11))]);
}

// protocol 2.2
#[test]
fn an_accept_of_a_learned_slot_is_answered_with_what_was_chosen() {
    let mut acceptor = acceptor([chosen(1, batch("a")), chosen(2, batch("b"))]);
    let out = acceptor.take(to_acceptor(2, accept(id(3, 2), 1, &[batch("x"), batch("y"), batch("c")], 0)));
    let vote = vote((3, 2), &[interval(3, 3)], 11);
    let values = vec![batch("a"), batch("b")];
    let told = Message::Chosen { first: slot(1), values, chosen_through: slot(2) };
    assert_eq!(sends(&out), [(2, vote), (2, told)]);
    assert_eq!(acceptor.log().entry(slot(1)).unwrap().value, batch("a"));
}

// protocol 2.1, 3.1, fault F40
#[test]
fn two_values_under_one_id_and_slot_end_this_nodes_vote() {
    let mut acceptor = acceptor([accepted(1, id(3, 2), batch("a"))]);
    let out = acceptor.take(to_acceptor(2, accept(id(3, 2), 1, &[batch("b")], 0)));
    let reason = AbstainReason::SafetyViolation;
    assert_eq!(events(&out), [Event::Abstains { reason }]);
    assert_eq!(records(&out), [Record::Abstains { reason }]);
    assert_eq!(sends(&out), []);
    assert_eq!(acceptor.take(to_acceptor(3, prepare(id(9, 3), 1))), [], "it votes no more");
    let heartbeat = Message::Heartbeat {
        id: id(9, 3),
        watermark: slot(0),
        held_through: slot(0),
        pulse: 1,
        lease: false,
    };
    let out = acceptor.take(to_acceptor(3, heartbeat));
    assert_eq!(sends(&out), [], "and it is no contact for a leader (8.2)");
}

// protocol 1.1: a full memory must not shut out the one slot that would empty it.
#[test]
fn the_next_slot_to_learn_is_accepted_however_much_is_held_above_it() {
    let limits = Limits { ahead_bytes_max: 100, ..Limits::default() };
    let big = Value::Batch(vec![7; 80].into());
    let mut acceptor = acceptor_with(limits, []);
    acceptor.take(to_acceptor(2, accept(id(3, 2), 2, std::slice::from_ref(&big), 0)));
    let dropped = acceptor.take(to_acceptor(2, accept(id(3, 2), 3, std::slice::from_ref(&big), 0)));
    let taken = acceptor.take(to_acceptor(2, accept(id(3, 2), 1, std::slice::from_ref(&big), 0)));
    assert_eq!(sends(&dropped), []);
    assert_eq!(sends(&taken), [(2, vote((3, 2), &[interval(1, 1)], 12))]);
}

// protocol 2.2
#[test]
fn slots_at_either_end_of_the_numbers_are_taken_without_a_panic() {
    let mut acceptor = acceptor([]);
    let values = [batch("a"), batch("b"), batch("c")];
    for first in [0, u64::MAX - 1, u64::MAX] {
        let out = acceptor.take(to_acceptor(2, accept(id(3, 2), first, &values, u64::MAX)));
        let beyond = accepts(&out).into_iter().any(|(_, at, _)| at > 4096);
        assert!(!beyond);
    }
    assert!(acceptor.log().chosen_through() <= slot(2));
    acceptor.take(to_acceptor(2, Message::CatchUp { from: Slot::MAX, bytes_max: 0 }));
    acceptor.take(to_acceptor(2, Message::CatchUp { from: Slot::ZERO, bytes_max: 0 }));
    acceptor.take(to_acceptor(3, Message::Prepare { id: id(4, 3), from: Slot::MAX }));
    acceptor.take(AcceptorInput::Store { first: Slot::MAX, values: values.to_vec() });
}

// ------------------------------------------------------------------ the leader

// protocol 2.1, 3.2
#[test]
fn a_leader_sends_a_batch_to_every_voter_and_to_itself() {
    let mut leader = leader(4);
    let out = leader.take(propose("a"));
    let message = accept(id(1, 1), 5, &[batch("a")], 4);
    assert_eq!(out, [send(1, message.clone()), send(2, message.clone()), send(3, message)]);
}

// protocol 2.1
#[test]
fn a_value_is_fixed_at_the_first_accept_whatever_promises_arrive_later() {
    let mut leader = leader(0);
    leader.take_at(ms(0), propose("mine"));
    leader.take_at(ms(10), to_proposer(3, promise(id(1, 1), 0, [(1, id(0, 3), batch("late"))])));
    let out = tick(&mut leader, 50, 200);
    assert_eq!(proposed(&out), [(1, batch("mine"))]);
}

// protocol 2.2, 3.1
#[test]
fn a_slot_is_chosen_when_a_quorum_of_distinct_voters_accepted_it_under_the_id() {
    let mut leader = leader(0);
    leader.take(propose("a"));
    let silent = [
        to_proposer(2, accepted_of(id(1, 1), 1, 1)),
        to_proposer(2, accepted_of(id(1, 1), 1, 1)),
        to_proposer(9, accepted_of(id(1, 1), 1, 1)),
        to_proposer(3, accepted_of(id(1, 2), 1, 1)),
        to_proposer(3, accepted_of(id(1, 1), 2, 9)),
    ];
    for input in silent {
        assert_eq!(leader.take(input.clone()), [], "{input:?}");
    }
    let out = leader.take(to_proposer(3, accepted_of(id(1, 1), 1, 1)));
    let own = AcceptorInput::Message { from: node(1), message: accept(id(1, 1), 2, &[], 1) };
    let expected = [
        Effect::Local(Local::Acceptor(own)),
        Effect::Local(Local::Election(ElectionInput::Watermark { through: slot(1) })),
    ];
    assert_eq!(out, expected);
}

// protocol 3.2
#[test]
fn the_watermark_waits_for_the_lowest_slot() {
    let mut leader = leader(0);
    leader.take(propose("a"));
    leader.take(propose("b"));
    leader.take(to_proposer(2, accepted_of(id(1, 1), 2, 2)));
    let second = leader.take(to_proposer(3, accepted_of(id(1, 1), 2, 2)));
    assert_eq!(second, [], "slot 1 is not chosen");
    leader.take(to_proposer(2, accepted_of(id(1, 1), 1, 1)));
    let first = leader.take(to_proposer(3, accepted_of(id(1, 1), 1, 1)));
    assert!(first.contains(&Effect::Local(Local::Election(ElectionInput::Watermark { through: slot(2) }))));
}

// protocol 2.2
#[test]
fn votes_for_turned_round_or_endless_intervals_are_harmless() {
    let mut leader = leader(0);
    leader.take(propose("a"));
    let slots = vec![interval(9, 1), Interval::new(slot(0), Slot::MAX), Interval::new(Slot::MAX, Slot::MAX)];
    let vote = Message::Accepted { id: id(1, 1), slots, sequence: Sequence(1) };
    leader.take(to_proposer(2, vote));
    let out = leader.take(to_proposer(3, accepted_of(id(1, 1), 1, 1)));
    assert!(out.contains(&Effect::Local(Local::Election(ElectionInput::Watermark { through: slot(1) }))));
}

// protocol 2.3
#[test]
fn an_open_slot_is_sent_again_to_those_who_have_not_accepted_with_growing_pauses() {
    let mut leader = leader(0);
    leader.take_at(ms(0), propose("a"));
    leader.take_at(ms(1), to_proposer(2, accepted_of(id(1, 1), 1, 1)));
    let mut times = Vec::new();
    for at in (50..=3500).step_by(50) {
        let out = leader.take_at(ms(at), ProposerInput::Wake);
        if !accepts(&out).is_empty() {
            assert_eq!(accepts(&out), [(1, 1, batch("a")), (3, 1, batch("a"))]);
            times.push(at);
        }
    }
    assert_eq!(times, [100, 300, 700, 1500, 2500, 3500], "doubled up to a second");
}

// protocol 2.3
#[test]
fn a_connection_that_returns_is_sent_what_it_missed_at_once() {
    let mut leader = leader(0);
    leader.take_at(ms(0), propose("a"));
    leader.take_at(ms(1), ProposerInput::LinkDown { peer: node(3) });
    let out = leader.take_at(ms(2), ProposerInput::LinkUp { peer: node(3) });
    assert!(accepts(&out).contains(&(3, 1, batch("a"))));
}

// protocol 2.3
#[test]
fn a_peer_that_answers_nothing_is_sent_no_more_than_the_bound_until_what_is_under_way_counts_as_lost() {
    let limits = Limits { unacknowledged_bytes_max: 250, ..Limits::default() };
    let mut leader = Proposer::new(node(1), limits, 1);
    leader.take(ProposerInput::Briefing(briefing(voters(3), 0, None)));
    leader.take(ProposerInput::Campaign);
    leader.take(to_proposer(1, promise(id(1, 1), 0, [])));
    leader.take(to_proposer(2, promise(id(1, 1), 0, [])));
    let text = "x".repeat(100);
    let sent = |out: &[Effect], to| accepts(out).iter().filter(|(peer, ..)| *peer == to).count();
    let mut out = Vec::new();
    for _ in 0..4 {
        leader.step(ms(0), propose(&text), &mut out);
    }
    assert_eq!((sent(&out, 1), sent(&out, 3)), (3, 2), "the own acceptor needs no bound, but open slots do");
    assert_eq!(leader.room(), 0, "as much is open as may be under way");
    leader.take_at(ms(1), to_proposer(2, accepted_of(id(1, 1), 1, 2)));
    assert_eq!(sent(&tick(&mut leader, 50, 150), 2), 1, "an answer makes room");
    assert!(sent(&tick(&mut leader, 200, 6000), 3) > 0, "and so does time");
}

// protocol 2.3
#[test]
fn a_value_larger_than_the_bound_goes_to_a_peer_that_owes_nothing() {
    let limits = Limits { unacknowledged_bytes_max: 10, ..Limits::default() };
    let mut leader = leader_with(limits, voters(3), &[1, 2]);
    let large = "x".repeat(100);
    let out = leader.take_at(ms(0), propose(&large));
    assert_eq!(accepts(&out), [1, 2, 3].map(|peer| (peer, 1, batch(&large))));
}

// protocol 2.3: the leader's own acceptor may have been built anew, without what only its queue had held.
#[test]
fn a_slot_that_others_chose_is_sent_again_to_the_leaders_own_acceptor() {
    let mut leader = leader(0);
    leader.take_at(ms(0), propose("a"));
    leader.take_at(ms(1), to_proposer(2, accepted_of(id(1, 1), 1, 1)));
    leader.take_at(ms(1), to_proposer(3, accepted_of(id(1, 1), 1, 1)));
    assert_eq!(accepts(&tick(&mut leader, 50, 150)), [(1, 1, batch("a"))]);
    leader.take_at(ms(160), to_proposer(1, accepted_of(id(1, 1), 1, 1)));
    assert_eq!(accepts(&tick(&mut leader, 200, 2000)), []);
}

// protocol 2.4
#[test]
fn a_nack_of_another_id_changes_nothing() {
    let mut leader = leader(0);
    for voter in 1..=3 {
        leader.take(to_proposer(voter, nack(id(1, 2), id(9, 3))));
    }
    tick(&mut leader, 50, 500);
    assert_eq!(leader.state(), ProposerState::Leading { id: id(1, 1) });
}

// protocol 2.4
#[test]
fn a_leader_with_a_quorum_left_wins_phase_1_anew_at_leisure_and_keeps_its_callers() {
    let mut leader = leader(0);
    leader.take_at(ms(0), propose("mine"));
    let out = leader.take_at(ms(10), to_proposer(3, nack(id(1, 1), id(7, 3))));
    assert_eq!(out, []);
    let out = tick(&mut leader, 50, 200);
    assert_eq!(leader.state(), ProposerState::Preparing { id: id(8, 1) }, "above the nacked id");
    assert_eq!(events(&out), [], "nobody hears of a loss");
    let mine = || [(1, id(1, 1), batch("mine"))];
    leader.take_at(ms(210), to_proposer(1, promise(id(8, 1), 0, mine())));
    let out = leader.take_at(ms(211), to_proposer(2, promise(id(8, 1), 0, mine())));
    assert_eq!(proposed(&out), [(1, batch("mine"))], "the same batch at the same slot");
}

// protocol 2.4, scenario L3
#[test]
fn many_nacks_of_one_id_cause_one_campaign() {
    let mut leader = proposer(voters(5), 0);
    leader.take(ProposerInput::Campaign);
    for voter in 1..=3 {
        leader.take(to_proposer(voter, promise(id(1, 1), 0, [])));
    }
    let mut out = Vec::new();
    for _ in 0..4 {
        leader.step(ms(10), to_proposer(5, nack(id(1, 1), id(7, 5))), &mut out);
    }
    out.extend(tick(&mut leader, 50, 400));
    let campaigns = out
        .iter()
        .filter(|effect| matches!(effect, Effect::Local(Local::Acceptor(AcceptorInput::Candidate { .. }))));
    assert_eq!(campaigns.count(), 1);
}

// protocol 2.4
#[test]
fn a_nack_of_a_node_that_has_no_vote_is_no_reason_to_campaign() {
    let mut leader = leader(0);
    leader.take_at(ms(0), to_proposer(9, nack(id(1, 1), id(7, 9))));
    tick(&mut leader, 50, 500);
    assert_eq!(leader.state(), ProposerState::Leading { id: id(1, 1) });
}

// protocol 2.4
#[test]
fn a_leader_without_a_phase_2_quorum_left_steps_down() {
    let mut leader = leader(0);
    leader.take(to_proposer(2, nack(id(1, 1), id(7, 3))));
    let out = leader.take(to_proposer(3, nack(id(1, 1), id(7, 3))));
    let idle = Effect::Local(Local::Election(ElectionInput::Proposer(ProposerState::Idle)));
    assert_eq!(out, [idle]);
    assert_eq!(leader.state(), ProposerState::Idle);
}

// protocol 2.5
#[test]
fn a_batch_is_given_up_only_when_its_slot_was_learned_with_another_value() {
    let mut leader = leader(0);
    leader.take(propose("mine"));
    let out = leader.take(ProposerInput::StepDown);
    assert_eq!(events(&out), [], "it may still be chosen");
    let out = leader.take(learned(1, &[batch("other")]));
    assert_eq!(events(&out), [Event::BatchLost { batch: "mine".into() }]);
}

// protocol 2.5
#[test]
fn a_batch_that_was_chosen_after_its_leader_stepped_down_is_not_lost() {
    let mut leader = leader(0);
    leader.take(propose("mine"));
    leader.take(ProposerInput::StepDown);
    assert_eq!(events(&leader.take(learned(1, &[batch("mine")]))), []);
}

// protocol 2.5: the second batch for the slot once pushed the first one out of memory, and its callers never heard.
#[test]
fn both_batches_that_were_proposed_for_a_slot_are_accounted_for() {
    let mut leader = leader(0);
    leader.take(propose("first"));
    leader.take(ProposerInput::StepDown);
    leader.take(ProposerInput::Promised { id: id(5, 2) });
    leader.take(ProposerInput::Campaign);
    let entries = || [(1, id(5, 2), batch("second"))];
    leader.take(to_proposer(2, promise(id(6, 1), 0, entries())));
    leader.take(to_proposer(3, promise(id(6, 1), 0, entries())));
    leader.take(ProposerInput::StepDown);
    let out = leader.take(learned(1, &[batch("second")]));
    assert_eq!(events(&out), [Event::BatchLost { batch: "first".into() }]);
}

// protocol 3.2
#[test]
fn a_leader_that_learns_another_value_than_it_proposed_steps_down_before_it_says_more() {
    let mut leader = leader(0);
    leader.take(propose("mine"));
    leader.take(propose("next"));
    let out = leader.take(learned(1, &[batch("other")]));
    let idle = Effect::Local(Local::Election(ElectionInput::Proposer(ProposerState::Idle)));
    assert_eq!(out, [Effect::Event(Event::BatchLost { batch: "mine".into() }), idle]);
    assert_eq!(leader.take(to_proposer(2, accepted_of(id(1, 1), 1, 2))), []);
    assert_eq!(leader.read_mark(), None);
}

// protocol 3.2
#[test]
fn a_leader_that_learns_a_slot_which_it_never_proposed_steps_down() {
    let mut leader = leader(0);
    leader.take(learned(1, &[batch("other")]));
    assert_eq!(leader.state(), ProposerState::Idle, "somebody leads above it");
}

// protocol 3.2: on an idle cluster the followers never heard of a slot that the leader learned from a peer's answer.
#[test]
fn the_watermark_moves_over_the_leaders_own_value_however_it_was_learned() {
    let mut leader = leader(0);
    leader.take(propose("mine"));
    let out = leader.take(learned(1, &[batch("mine")]));
    assert_eq!(out, [Effect::Local(Local::Election(ElectionInput::Watermark { through: slot(1) }))]);
}

// protocol 1.6, 1.7
#[test]
fn a_slot_that_is_learned_during_the_recovery_is_not_proposed() {
    let mut proposer = proposer(voters_with_alpha(3, 1), 0);
    proposer.take(ProposerInput::Campaign);
    proposer.take(to_proposer(1, promise(id(1, 1), 0, [])));
    let entries = (1..=3).map(|at| (at, id(0, 2), batch("old")));
    proposer.take(to_proposer(2, promise(id(1, 1), 0, entries)));
    let out = proposer.take(learned(1, &[batch("old"), batch("old")]));
    assert_eq!(proposed(&out), [(3, batch("old"))], "2 was fetched meanwhile");
    assert_eq!(proposer.state(), ProposerState::Leading { id: id(1, 1) });
}

// protocol 8.3
#[test]
fn a_leader_whose_oldest_slot_stays_open_too_long_says_that_it_is_stalled() {
    let mut leader = leader(0);
    leader.take_at(ms(0), propose("a"));
    let stalled = |value| Effect::Local(Local::Election(ElectionInput::Stalled(value)));
    assert!(!tick(&mut leader, 50, 5000).contains(&stalled(true)));
    assert!(tick(&mut leader, 5050, 5050).contains(&stalled(true)));
    leader.take_at(ms(5060), learned(1, &[batch("a")]));
    assert!(tick(&mut leader, 5100, 5100).contains(&stalled(false)));
}

// protocol 7.1
#[test]
fn a_read_mark_covers_what_is_recovered_and_what_is_proposed() {
    let mut proposer = candidate(0);
    assert_eq!(proposer.read_mark(), None);
    proposer.take(to_proposer(1, promise(id(1, 1), 0, [(3, id(0, 2), batch("c"))])));
    proposer.take(to_proposer(2, promise(id(1, 1), 0, [])));
    assert_eq!(proposer.read_mark(), Some((id(1, 1), slot(3))));
    proposer.take(propose("d"));
    assert_eq!(proposer.read_mark(), Some((id(1, 1), slot(4))));
}

// protocol 9.4
#[test]
fn the_sequences_that_votes_show_reach_the_acceptor_with_the_next_tick() {
    let mut leader = leader(0);
    leader.take_at(ms(0), propose("a"));
    let vote = |sequence| Message::Accepted { id: id(1, 1), slots: vec![], sequence: Sequence(sequence) };
    leader.take_at(ms(1), to_proposer(2, vote(8)));
    leader.take_at(ms(1), to_proposer(2, vote(7)));
    leader.take_at(ms(1), to_proposer(1, vote(9)));
    let out = leader.take_at(ms(50), ProposerInput::Wake);
    let votes = AcceptorInput::Votes { sequences: vec![(node(2), Sequence(8))] };
    assert!(out.contains(&Effect::Local(Local::Acceptor(votes))));
}
