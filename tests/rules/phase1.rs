//! Phase 1: what an acceptor promises and reports, and what a proposer may conclude from it.

use crate::support::*;
use synod::multi::node::is_well_formed;
use synod::multi::*;
use synod::paxos::ProposalId;

// ------------------------------------------------------------------ the acceptor

// protocol 1.1
#[test]
fn a_promise_is_written_before_it_is_said() {
    let mut acceptor = acceptor([]);
    let out = acceptor.take(to_acceptor(2, prepare(id(3, 2), 1)));
    let page = Page { covers: Interval::new(slot(1), Slot::MAX), entries: vec![], unknown: vec![] };
    let message = Message::Promise { id: id(3, 2), chosen_through: slot(0), page, sequence: Sequence(11) };
    let expected = [
        persist(11, [Record::Promised { id: id(3, 2) }]),
        Effect::Local(Local::Proposer(ProposerInput::Promised { id: id(3, 2) })),
        Effect::Local(Local::Election(ElectionInput::Promised { id: id(3, 2) })),
        send_after(2, message, 11),
    ];
    assert_eq!(out, expected);
}

// protocol 1.1
#[test]
fn a_prepare_below_the_promise_is_refused_and_changes_nothing() {
    let mut acceptor = acceptor([Record::Promised { id: id(5, 3) }]);
    let before = acceptor.log().clone();
    let out = acceptor.take(to_acceptor(2, prepare(id(4, 2), 1)));
    assert_eq!(out, [send_after(2, nack(id(4, 2), id(5, 3)), 10)]);
    assert_eq!(*acceptor.log(), before);
}

// protocol 1.1
#[test]
fn of_two_ids_with_one_number_the_higher_node_wins() {
    let mut acceptor = acceptor([Record::Promised { id: id(5, 2) }]);
    let refused = acceptor.take(to_acceptor(1, prepare(id(5, 1), 1)));
    let promised = acceptor.take(to_acceptor(3, prepare(id(5, 3), 1)));
    assert_eq!(sends(&refused), [(1, nack(id(5, 1), id(5, 2)))]);
    assert_eq!(records(&promised), [Record::Promised { id: id(5, 3) }]);
}

// protocol 1.2, scenario D3
#[test]
fn a_repeated_prepare_repeats_the_promise_and_waits_for_the_same_write() {
    let mut acceptor = acceptor([]);
    let first = acceptor.take(to_acceptor(2, prepare(id(3, 2), 1)));
    let again = acceptor.take(to_acceptor(2, prepare(id(3, 2), 1)));
    assert_eq!(again, [first.last().unwrap().clone()], "nothing changed, so nothing to write");
}

// protocol 1.2
#[test]
fn a_refusal_waits_for_the_promise_that_it_rests_on() {
    let mut acceptor = acceptor([]);
    acceptor.take(to_acceptor(3, prepare(id(5, 3), 1)));
    let out = acceptor.take(to_acceptor(2, prepare(id(4, 2), 1)));
    assert_eq!(out, [send_after(2, nack(id(4, 2), id(5, 3)), 11)]);
}

// protocol 1.2
#[test]
fn a_promise_that_tells_of_a_watermark_waits_until_the_watermark_is_written() {
    let mut acceptor = acceptor([accepted(1, id(2, 2), batch("a"))]);
    acceptor.take(to_acceptor(2, accept(id(2, 2), 2, &[], 1)));
    let out = acceptor.take(to_acceptor(3, prepare(id(3, 3), 1)));
    let watermark = Record::Watermark { id: id(2, 2), through: slot(1) };
    assert_eq!(out[0], persist(11, [watermark, Record::Promised { id: id(3, 3) }]));
    assert!(matches!(
        out.last().unwrap(),
        Effect::Send { message: Message::Promise { chosen_through, .. }, after: Some(Sequence(11)), .. }
            if *chosen_through == slot(1)
    ));
}

// protocol 1.2
#[test]
fn the_own_vote_waits_for_the_disk_like_any_other() {
    let mut acceptor = acceptor([]);
    let out = acceptor.take(to_acceptor(1, accept(id(3, 1), 1, &[batch("a")], 0)));
    let vote = Message::Accepted { id: id(3, 1), slots: vec![interval(1, 1)], sequence: Sequence(11) };
    assert_eq!(out.last().unwrap(), &send_after(1, vote, 11));
}

// protocol 1.3
#[test]
fn a_candidate_asks_others_only_after_its_own_durable_promise() {
    let mut acceptor = acceptor([]);
    let to = vec![node(1), node(2), node(3)];
    let out = acceptor.take(AcceptorInput::Candidate { id: id(1, 1), to });
    assert_eq!(out[0], persist(11, [Record::Promised { id: id(1, 1) }]));
    assert!(out.contains(&send_after(2, prepare(id(1, 1), 1), 11)));
    assert!(out.contains(&send_after(3, prepare(id(1, 1), 1), 11)));
    assert_eq!(sends(&out).len(), 3, "two others are asked, and the own promise goes to the own proposer");
}

// protocol 1.3
#[test]
fn a_candidate_whose_acceptor_promised_as_much_asks_nobody() {
    let mut acceptor = acceptor([Record::Promised { id: id(1, 1) }]);
    let to = vec![node(1), node(2), node(3)];
    let out = acceptor.take(AcceptorInput::Candidate { id: id(1, 1), to });
    assert_eq!(out, [send_after(1, nack(id(1, 1), id(1, 1)), 10)], "no id is used twice");
}

// protocol 1.3
#[test]
fn a_candidates_number_is_one_above_every_number_that_it_saw_or_promised() {
    let seen: [(u64, ProposerInput); 7] = [
        (4, ProposerInput::Promised { id: id(3, 2) }),
        (6, ProposerInput::Saw { id: id(5, 2) }),
        (8, to_proposer(2, nack(id(1, 1), id(7, 3)))),
        (10, to_proposer(2, promise(id(9, 2), 0, []))),
        (12, to_proposer(2, accepted_of(id(11, 2), 1, 1))),
        (14, ProposerInput::Briefing(briefing(voters(3), 0, Some(id(13, 3))))),
        (1, learned(1, &[batch("a")])),
    ];
    for (number, input) in seen {
        let mut proposer = proposer(voters(3), 0);
        proposer.take(input.clone());
        proposer.take(ProposerInput::Campaign);
        assert_eq!(proposer.state(), ProposerState::Preparing { id: id(number, 1) }, "{input:?}");
    }
}

// protocol 1.3: a heartbeat that was only heard, not promised, counts among the numbers seen.
#[test]
fn a_leader_heard_under_a_higher_id_raises_the_next_number() {
    let mut acceptor = acceptor([Record::Promised { id: id(1, 1) }]);
    let heartbeat = Message::Heartbeat {
        id: id(5, 2),
        watermark: slot(0),
        held_through: slot(0),
        pulse: 1,
        lease: false,
    };
    let out = acceptor.take(to_acceptor(2, heartbeat));
    assert!(out.contains(&Effect::Local(Local::Proposer(ProposerInput::Saw { id: id(5, 2) }))));
}

// protocol 1.3, fault F41
#[test]
fn an_honest_number_may_jump_as_far_as_it_likes_and_a_malformed_one_is_dropped() {
    let highest = ProposalId::NUMBER_MAX;
    assert!(is_well_formed(&prepare(id(highest, 2), 1)));
    assert!(!is_well_formed(&prepare(id(highest + 1, 2), 1)));
    assert!(!is_well_formed(&nack(id(1, 1), id(u64::MAX, 2))));
    assert!(!is_well_formed(&promise(id(1, 1), 0, [(1, id(highest + 1, 2), batch("a"))])));
}

// protocol 1.3, fault F41
#[test]
fn a_proposer_without_a_number_left_says_so_and_stays_idle() {
    let mut proposer = proposer(voters(3), 0);
    proposer.take(ProposerInput::Promised { id: id(ProposalId::NUMBER_MAX, 2) });
    let out = proposer.take(ProposerInput::Campaign);
    assert_eq!(events(&out), [Event::ProposalIdExhausted]);
    assert_eq!(
        out.last().unwrap(),
        &Effect::Local(Local::Election(ElectionInput::Proposer(ProposerState::Idle))),
        "the election is not left waiting for a campaign"
    );
}

// protocol 1.4
#[test]
fn a_promise_reports_everything_accepted_above_what_is_chosen_in_pages_without_gaps() {
    let limits = Limits { frame_bytes_max: 400, ..Limits::default() };
    let value = Value::Batch(vec![7; 100].into());
    let records = (2..=6).map(|at| accepted(at, id(1, 2), value.clone()));
    let mut acceptor = acceptor_with(limits, [chosen(1, batch("a"))].into_iter().chain(records));
    let out = acceptor.take(to_acceptor(3, prepare(id(3, 3), 1)));
    let pages: Vec<Page> = sends(&out)
        .into_iter()
        .map(|(_, message)| match message {
            Message::Promise { page, chosen_through, .. } => {
                assert_eq!(chosen_through, slot(1));
                page
            }
            other => panic!("{other:?}"),
        })
        .collect();
    assert!(pages.len() > 1, "several pages: {pages:?}");
    assert_eq!(pages[0].covers.first, slot(2));
    assert!(pages.windows(2).all(|pair| pair[0].covers.last.next() == pair[1].covers.first));
    assert_eq!(pages.last().unwrap().covers.last, Slot::MAX);
    let reported: Vec<u64> = pages.iter().flat_map(|page| &page.entries).map(|(at, ..)| at.get()).collect();
    assert_eq!(reported, [2, 3, 4, 5, 6]);
    assert!(pages.iter().all(Page::is_well_formed));
}

// protocol 1.5
#[test]
fn a_promise_says_nothing_about_slots_that_are_chosen() {
    let mut acceptor = acceptor([chosen(1, batch("a")), chosen(2, batch("b"))]);
    let out = acceptor.take(to_acceptor(2, prepare(id(3, 2), 1)));
    let expected = Message::Promise {
        id: id(3, 2),
        chosen_through: slot(2),
        page: Page { covers: Interval::new(slot(3), Slot::MAX), entries: vec![], unknown: vec![] },
        sequence: Sequence(11),
    };
    assert_eq!(sends(&out), [(2, expected)]);
}

// protocol 9.1
#[test]
fn a_node_that_has_not_formed_promises_and_accepts_nothing() {
    let mut acceptor =
        Acceptor::new(identity(1), Some(voters(3)), Sequence(0), Log::default(), Limits::default());
    assert_eq!(acceptor.take(to_acceptor(2, prepare(id(3, 2), 1))), []);
    assert_eq!(acceptor.take(to_acceptor(2, accept(id(3, 2), 1, &[batch("a")], 0))), []);
}

// ------------------------------------------------------------------ damaged slots

fn page_of(out: &[Effect]) -> Page {
    match &sends(out)[..] {
        [(_, Message::Promise { page, .. })] => page.clone(),
        other => panic!("{other:?}"),
    }
}

fn damaged(log: Log) -> Acceptor {
    Acceptor::new(identity(1), None, Sequence(10), log, Limits::default())
}

// protocol 11.4, 11.5
#[test]
fn a_damaged_slot_is_reported_as_unknown_and_not_as_empty() {
    let mut log = log(voters(3), [accepted(1, id(1, 2), batch("a")), accepted(2, id(1, 2), batch("b"))]);
    log.lose(slot(1));
    let page = page_of(&damaged(log).take(to_acceptor(3, prepare(id(3, 3), 1))));
    assert_eq!(page.unknown, [interval(1, 1)]);
    assert_eq!(page.entries, [(slot(2), id(1, 2), batch("b"))]);
}

// protocol 11.4
#[test]
fn when_a_whole_group_is_lost_every_open_slot_is_unknown_but_those_accepted_later() {
    let mut log = log(voters(3), [chosen(1, batch("a")), accepted(3, id(1, 2), batch("c"))]);
    log.lose_all_open(2, 6);
    log.apply(&accepted(4, id(1, 2), batch("d")));
    let page = page_of(&damaged(log).take(to_acceptor(3, prepare(id(3, 3), 1))));
    assert_eq!(page.unknown, [interval(2, 3), interval(5, 11)]);
    assert_eq!(page.entries, [(slot(4), id(1, 2), batch("d"))]);
}

// protocol 11.5
#[test]
fn accepting_or_learning_ends_the_doubt_about_a_slot() {
    let mut log = log(voters(3), []);
    log.lose(slot(1));
    log.lose(slot(2));
    let mut acceptor = damaged(log);
    acceptor.take(to_acceptor(2, accept(id(3, 2), 2, &[batch("b")], 0)));
    acceptor.take(AcceptorInput::Store { first: slot(1), values: vec![batch("a")] });
    assert!(!acceptor.log().has_unknown());
}

// protocol 11.5
#[test]
fn a_promise_counts_for_no_slot_that_it_calls_unknown() {
    let mut proposer = candidate(0);
    proposer.take(to_proposer(1, promise(id(1, 1), 0, [])));
    let all = Interval::new(slot(1), Slot::MAX);
    proposer.take(to_proposer(2, promise_page(id(1, 1), 0, all, [], [interval(2, 2)])));
    assert_eq!(proposer.state(), ProposerState::Preparing { id: id(1, 1) }, "slot 2 has one promise only");
    let out = proposer.take(to_proposer(3, promise(id(1, 1), 0, [])));
    assert_eq!(proposer.state(), ProposerState::Leading { id: id(1, 1) });
    assert_eq!(
        proposed(&out),
        [(1, Value::Noop), (2, Value::Noop)],
        "the doubtful slot is recovered too (1.7)"
    );
}

// protocol 11.5
#[test]
fn a_promise_that_knows_nothing_from_a_slot_on_counts_for_none_of_them() {
    let mut proposer = candidate(0);
    proposer.take(to_proposer(1, promise(id(1, 1), 0, [])));
    let all = Interval::new(slot(1), Slot::MAX);
    proposer.take(to_proposer(2, promise_page(id(1, 1), 0, all, [], [all])));
    assert_eq!(proposer.state(), ProposerState::Preparing { id: id(1, 1) });
    let out = proposer.take(to_proposer(3, promise(id(1, 1), 0, [])));
    assert_eq!(proposer.state(), ProposerState::Leading { id: id(1, 1) });
    assert_eq!(proposed(&out), [], "an open end of doubt is nothing to recover");
}

// protocol 11.4: a header that was damaged once kept a node out of every later phase 1.
#[test]
fn a_node_that_lost_a_group_counts_again_for_the_slots_beyond_what_it_can_have_accepted() {
    let mut log = log(voters(3), [chosen(1, batch("a"))]);
    log.lose_all_open(1, 6);
    let mut acceptor = damaged(log);
    let page = page_of(&acceptor.take(to_acceptor(3, prepare(id(3, 3), 2))));
    assert_eq!(page.unknown, [interval(2, 8)]);
    acceptor.take(AcceptorInput::Store { first: slot(2), values: vec![batch("x"); 7] });
    let page = page_of(&acceptor.take(to_acceptor(3, prepare(id(4, 3), 9))));
    assert_eq!((page.covers.last, page.unknown), (Slot::MAX, vec![]));
}

// ------------------------------------------------------------------ the proposer

// protocol 1.3
#[test]
fn a_campaign_begins_at_the_own_acceptor() {
    let mut proposer = proposer(voters(3), 0);
    let out = proposer.take(ProposerInput::Campaign);
    let to = vec![node(1), node(2), node(3)];
    let expected = [
        Effect::Local(Local::Election(ElectionInput::Proposer(ProposerState::Preparing { id: id(1, 1) }))),
        Effect::Local(Local::Acceptor(AcceptorInput::Candidate { id: id(1, 1), to })),
        Effect::Deadline(ms(50)),
    ];
    assert_eq!(out, expected);
}

// protocol 1.6
#[test]
fn one_promise_of_three_does_not_win_and_a_repeat_of_it_does_not_either() {
    let mut proposer = candidate(0);
    proposer.take(to_proposer(2, promise(id(1, 1), 0, [])));
    proposer.take(to_proposer(2, promise(id(1, 1), 0, [])));
    assert_eq!(proposer.state(), ProposerState::Preparing { id: id(1, 1) });
}

// protocol 1.6
#[test]
fn a_promise_of_a_node_outside_the_membership_does_not_count() {
    let mut proposer = candidate(0);
    proposer.take(to_proposer(1, promise(id(1, 1), 0, [])));
    proposer.take(to_proposer(9, promise(id(1, 1), 0, [])));
    assert_eq!(proposer.state(), ProposerState::Preparing { id: id(1, 1) });
}

// protocol 1.4
#[test]
fn a_promise_for_another_id_does_not_count() {
    let mut proposer = candidate(0);
    proposer.take(ProposerInput::Campaign);
    for voter in 1..=3 {
        proposer.take(to_proposer(voter, promise(id(1, 1), 0, [(1, id(0, 3), batch("old"))])));
    }
    assert_eq!(proposer.state(), ProposerState::Preparing { id: id(2, 1) });
}

// protocol 1.4
#[test]
fn a_promise_with_a_page_missing_does_not_count_until_the_page_arrives() {
    let mut proposer = candidate(0);
    proposer.take(to_proposer(1, promise(id(1, 1), 0, [])));
    let open = Interval::new(slot(4), Slot::MAX);
    let page = |covers, at, text| promise_page(id(1, 1), 0, covers, [(at, id(0, 3), batch(text))], []);
    proposer.take(to_proposer(2, page(interval(1, 1), 1, "a")));
    proposer.take(to_proposer(2, page(open, 4, "d")));
    assert_eq!(proposer.state(), ProposerState::Preparing { id: id(1, 1) }, "2 and 3 are not covered");
    let out = proposer.take(to_proposer(2, page(interval(2, 3), 2, "b")));
    let expected = [(1, batch("a")), (2, batch("b")), (3, Value::Noop), (4, batch("d"))];
    assert_eq!(proposed(&out), expected);
}

// protocol 1.4
#[test]
fn a_promise_without_its_last_page_does_not_count() {
    let mut proposer = candidate(0);
    proposer.take(to_proposer(1, promise(id(1, 1), 0, [])));
    proposer.take(to_proposer(2, promise_page(id(1, 1), 0, interval(1, 9), [], [])));
    assert_eq!(proposer.state(), ProposerState::Preparing { id: id(1, 1) });
}

// protocol 1.4: a Prepare that arrived twice is answered twice, and the second answer may be cut into other pages.
#[test]
fn pages_that_overlap_cover_what_they_cover_together() {
    let mut proposer = candidate(0);
    proposer.take(to_proposer(1, promise(id(1, 1), 0, [])));
    let pages = [interval(1, 9), interval(7, 9), Interval::new(slot(10), Slot::MAX), interval(3, 4)];
    for covers in pages {
        proposer.take(to_proposer(2, promise_page(id(1, 1), 0, covers, [], [])));
    }
    assert_eq!(proposer.state(), ProposerState::Leading { id: id(1, 1) });
}

// protocol 1.4
#[test]
fn a_longer_page_takes_the_place_of_a_shorter_one_from_the_same_slot() {
    let mut proposer = candidate(0);
    proposer.take(to_proposer(1, promise(id(1, 1), 0, [])));
    proposer.take(to_proposer(2, promise_page(id(1, 1), 0, interval(1, 9), [], [])));
    proposer.take(to_proposer(2, promise(id(1, 1), 0, [])));
    assert_eq!(proposer.state(), ProposerState::Leading { id: id(1, 1) });
}

// protocol 1.4
#[test]
fn an_incoherent_page_is_malformed() {
    let page = |covers: Interval, entries: &[u64], unknown: &[Interval]| {
        let entries = entries.iter().map(|at| (*at, id(0, 3), Value::Noop)).collect::<Vec<_>>();
        is_well_formed(&promise_page(id(1, 1), 0, covers, entries, unknown.to_vec()))
    };
    assert!(page(interval(1, 9), &[1, 5, 9], &[interval(2, 4)]));
    assert!(!page(interval(9, 1), &[], &[]), "it ends before it begins");
    assert!(!page(interval(1, 9), &[10], &[]), "an entry outside");
    assert!(!page(interval(1, 9), &[5, 5], &[]), "two entries for one slot");
    assert!(!page(interval(1, 9), &[], &[interval(4, 2)]), "an interval turned round");
    assert!(!page(interval(1, 9), &[], &[Interval::new(slot(4), Slot::MAX)]), "doubt outside");
    assert!(!page(interval(1, 9), &[], &[interval(2, 5), interval(4, 6)]), "doubt twice");
}

// protocol 1.5
#[test]
fn a_candidate_that_lags_learns_first_and_then_leads() {
    let mut proposer = candidate(0);
    proposer.take(to_proposer(1, promise(id(1, 1), 0, [])));
    let out = proposer.take(to_proposer(2, promise(id(1, 1), 2, [(3, id(0, 2), batch("c"))])));
    let behind = LearnerInput::Behind { peer: node(2), through: slot(2), chosen_through: slot(0) };
    assert!(out.contains(&Effect::Local(Local::Learner(behind))));
    assert_eq!(proposed(&out), []);
    assert_eq!(proposer.state(), ProposerState::Preparing { id: id(1, 1) });
    let out = proposer.take(learned(1, &[batch("a"), batch("b")]));
    assert_eq!(proposer.state(), ProposerState::Leading { id: id(1, 1) });
    assert_eq!(proposed(&out), [(3, batch("c"))], "nothing at or below what is chosen");
}

// protocol 1.6
#[test]
fn nobody_proposes_before_phase_1_is_won() {
    let mut proposer = candidate(0);
    let out = proposer.take(propose("mine"));
    assert_eq!(events(&out), [Event::BatchRefused { batch: "mine".into() }]);
    assert_eq!(accepts(&out), []);
    assert_eq!(proposer.room(), 0);
}

// protocol 1.6, 6.2
#[test]
fn the_window_ends_alpha_slots_above_what_is_learned() {
    let mut proposer = proposer(voters_with_alpha(3, 2), 0);
    proposer.take(ProposerInput::Campaign);
    for voter in 1..=2 {
        proposer.take(to_proposer(voter, promise(id(1, 1), 0, [])));
    }
    proposer.take(propose("a"));
    proposer.take(propose("b"));
    let full = proposer.take(propose("c"));
    assert_eq!(events(&full), [Event::BatchRefused { batch: "c".into() }]);
    proposer.take(learned(1, &[batch("a")]));
    assert_eq!(proposed(&proposer.take(propose("c"))), [(3, batch("c"))]);
}

// protocol 6.2
#[test]
fn recovery_keeps_to_the_window_too_and_goes_on_as_slots_are_learned() {
    let mut proposer = proposer(voters_with_alpha(3, 2), 0);
    proposer.take(ProposerInput::Campaign);
    proposer.take(to_proposer(1, promise(id(1, 1), 0, [])));
    let entries = (1..=4).map(|at| (at, id(0, 2), batch("old")));
    let out = proposer.take(to_proposer(2, promise(id(1, 1), 0, entries)));
    assert_eq!(proposed(&out), [(1, batch("old")), (2, batch("old"))]);
    assert_eq!(proposer.room(), 0, "clients' batches go above (1.7)");
    let out = proposer.take(learned(1, &[batch("old")]));
    assert_eq!(proposed(&out), [(3, batch("old"))]);
}

// protocol 1.7
#[test]
fn recovery_takes_the_value_of_the_highest_id_and_fills_holes_with_no_ops() {
    let mut proposer = proposer(voters(5), 0);
    proposer.take(ProposerInput::Promised { id: id(5, 3) });
    proposer.take(ProposerInput::Campaign);
    let mine = id(6, 1);
    proposer.take(to_proposer(1, promise(mine, 0, [(2, id(1, 2), batch("low"))])));
    proposer
        .take(to_proposer(2, promise(mine, 0, [(2, id(3, 2), batch("high")), (4, id(1, 3), batch("four"))])));
    let out = proposer.take(to_proposer(3, promise(mine, 0, [(2, id(2, 3), batch("middle"))])));
    let expected = [(1, Value::Noop), (2, batch("high")), (3, Value::Noop), (4, batch("four"))];
    assert_eq!(proposed(&out), expected);
}

// protocol 1.7
#[test]
fn clients_batches_go_above_all_that_was_reported() {
    let mut proposer = candidate(0);
    proposer.take(to_proposer(1, promise(id(1, 1), 0, [])));
    proposer.take(to_proposer(2, promise(id(1, 1), 0, [(3, id(0, 2), batch("c"))])));
    assert_eq!(proposed(&proposer.take(propose("mine"))), [(4, batch("mine"))]);
}

// protocol 1.7: a promise that does not count for a quorum still tells how far to recover.
#[test]
fn a_promise_that_does_not_count_still_raises_what_is_recovered() {
    let mut proposer = candidate(0);
    proposer.take(to_proposer(9, promise(id(1, 1), 0, [(2, id(0, 9), batch("b"))])));
    proposer.take(to_proposer(1, promise(id(1, 1), 0, [])));
    let out = proposer.take(to_proposer(2, promise(id(1, 1), 0, [])));
    assert_eq!(proposed(&out), [(1, Value::Noop), (2, batch("b"))]);
    assert_eq!(proposer.read_mark(), Some((id(1, 1), slot(2))));
}

// protocol 1.4: a page with a slot near the end of the numbers once made the proposer count to it.
#[test]
fn a_slot_at_the_end_of_the_numbers_costs_no_time() {
    let far = u64::MAX - 1;
    let mut proposer = candidate(0);
    proposer.take(to_proposer(1, promise(id(1, 1), 0, [])));
    let out = proposer.take(to_proposer(2, promise(id(1, 1), 0, [(far, id(0, 2), batch("far"))])));
    assert_eq!(proposed(&out).len(), 64, "the window bounds the recovery");
    let mut proposer = candidate(0);
    proposer.take(to_proposer(1, promise(id(1, 1), u64::MAX - 1, [])));
    proposer.take(to_proposer(2, promise(id(1, 1), u64::MAX - 1, [])));
    assert_eq!(proposer.state(), ProposerState::Preparing { id: id(1, 1) });
}

// protocol 6.4
#[test]
fn a_node_that_may_not_lead_does_not_campaign() {
    let mut members = voters(2).members().clone();
    members.insert(node(1), Member { kind: MemberKind::Witness, address: String::new() });
    let witness = Membership::new(members, 64).unwrap();
    let mut abstaining = briefing(voters(3), 0, None);
    abstaining.votes = false;
    for briefing in [briefing(witness, 0, None), abstaining] {
        let mut proposer = Proposer::new(node(1), Limits::default(), 1);
        proposer.take(ProposerInput::Briefing(briefing));
        let out = proposer.take(ProposerInput::Campaign);
        let idle = Effect::Local(Local::Election(ElectionInput::Proposer(ProposerState::Idle)));
        assert_eq!(out, [idle]);
    }
}

// protocol 6.1
#[test]
fn flexible_quorums_are_counted_by_their_sizes() {
    let members = voters(5).members().clone();
    let membership = Membership::with_quorums(members, 64, 4, 2).unwrap();
    let mut proposer = proposer(membership, 0);
    proposer.take(ProposerInput::Campaign);
    for voter in 1..=3 {
        proposer.take(to_proposer(voter, promise(id(1, 1), 0, [])));
    }
    assert_eq!(proposer.state(), ProposerState::Preparing { id: id(1, 1) });
    proposer.take(to_proposer(4, promise(id(1, 1), 0, [])));
    proposer.take(propose("a"));
    proposer.take(to_proposer(1, accepted_of(id(1, 1), 1, 1)));
    let out = proposer.take(to_proposer(2, accepted_of(id(1, 1), 1, 1)));
    let watermark = ElectionInput::Watermark { through: slot(1) };
    assert!(out.contains(&Effect::Local(Local::Election(watermark))), "two of five choose");
}

// protocol 8.5
#[test]
fn each_page_restarts_the_campaigns_timer_and_silence_ends_it() {
    let mut proposer = candidate(0);
    proposer.take_at(ms(400), to_proposer(2, promise_page(id(1, 1), 0, interval(1, 9), [], [])));
    proposer.take_at(ms(600), ProposerInput::Wake);
    assert_eq!(proposer.state(), ProposerState::Preparing { id: id(1, 1) });
    let mut tick = ms(600);
    while tick < ms(900) {
        tick = tick + std::time::Duration::from_millis(50);
        proposer.take_at(tick, ProposerInput::Wake);
    }
    assert_eq!(proposer.state(), ProposerState::Idle);
    proposer.take_at(ms(1000), ProposerInput::Campaign);
    assert_eq!(proposer.state(), ProposerState::Preparing { id: id(2, 1) }, "under a fresh id");
}

// protocol 2.4
#[test]
fn a_candidate_gives_up_when_no_quorum_can_promise_any_more() {
    let mut proposer = candidate(0);
    proposer.take(to_proposer(2, nack(id(1, 1), id(4, 2))));
    assert_eq!(proposer.state(), ProposerState::Preparing { id: id(1, 1) }, "two others may still promise");
    proposer.take(to_proposer(3, nack(id(1, 1), id(4, 2))));
    assert_eq!(proposer.state(), ProposerState::Idle);
}

// protocol 1.3
#[test]
fn a_role_that_was_built_anew_is_told_what_the_other_is_doing() {
    let mut proposer = leader(0);
    let out = proposer.take(ProposerInput::Briefing(briefing(voters(3), 0, Some(id(1, 1)))));
    let state = ElectionInput::Proposer(ProposerState::Leading { id: id(1, 1) });
    let watermark = ElectionInput::Watermark { through: slot(0) };
    assert_eq!(out, [Effect::Local(Local::Election(state)), Effect::Local(Local::Election(watermark))]);
}

// 6.2: a membership that a promise had reported, and that was learned before the lead was won, once counted as open for ever.
#[test]
fn what_was_learned_before_the_lead_was_won_is_not_open_any_more() {
    let membership = voters_with_alpha(3, 1);
    let mut proposer = proposer(membership.clone(), 0);
    proposer.take(ProposerInput::Saw { id: id(4, 2) });
    proposer.take(ProposerInput::Campaign);
    let reported = [(1, id(4, 2), Value::Membership(membership.clone()))];
    proposer.take(to_proposer(2, promise(id(5, 1), 0, reported)));
    proposer.take(learned(1, &[Value::Membership(membership.clone()), Value::Noop]));
    proposer.take(ProposerInput::Briefing(briefing(membership, 2, Some(id(5, 1)))));
    proposer.take(to_proposer(1, promise(id(5, 1), 2, [])));
    assert_eq!(proposer.state(), ProposerState::Leading { id: id(5, 1) });
    let call = AdminCall::Change(Change::Remove { node: node(3) });
    let out = proposer.take(ProposerInput::Admin { ticket: 1, call });
    let refused = |effect: &Effect| matches!(effect, Effect::Answer { .. });
    assert!(!out.iter().any(refused), "{out:?}");
}
