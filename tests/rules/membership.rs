//! Membership: which one governs which slot, and what a leader has to win before it proposes there.

use crate::support::*;
use synod::multi::*;

/// 1, 2 and 3 vote through slot 3; a membership stands at slot 1 and α is 2.
const ALPHA: u64 = 2;

fn old() -> Membership {
    voters_with_alpha(3, ALPHA)
}

/// 1, 4 and 5 vote from slot 4 on.
fn new() -> Membership {
    voters_of(&[1, 4, 5], ALPHA)
}

fn value(membership: Membership) -> Value {
    Value::Membership(membership)
}

/// Leads under 1.1 among 1, 2 and 3, and has found a membership of 1, 4 and 5 at slot 1.
fn leader_that_recovers(next: Membership) -> (Proposer, Vec<Effect>) {
    let mut proposer = proposer(old(), 0);
    proposer.take(ProposerInput::Campaign);
    proposer.take(to_proposer(1, promise(id(1, 1), 0, [])));
    let out = proposer.take(to_proposer(2, promise(id(1, 1), 0, [(1, id(0, 2), value(next))])));
    assert_eq!(proposer.state(), ProposerState::Leading { id: id(1, 1) });
    (proposer, out)
}

/// The same, with slots 1 and 2 learned and slot 3 proposed: the next slot is the first one of the new membership.
fn leader_at_the_turn() -> Proposer {
    let (mut leader, _) = leader_that_recovers(new());
    leader.take(learned(1, &[value(new())]));
    leader.take(learned(2, &[Value::Noop]));
    leader
}

/// Whom `effects` ask for a promise, and from which slot on.
fn asked(effects: &[Effect]) -> Vec<(u64, u64)> {
    let ask = |(to, message)| match message {
        Message::Prepare { from, .. } => Some((to, from.get())),
        _ => None,
    };
    sends(effects).into_iter().filter_map(ask).collect()
}

fn watermark(effects: &[Effect]) -> Option<u64> {
    let told = |effect: &Effect| match effect {
        Effect::Local(Local::Election(ElectionInput::Watermark { through })) => Some(through.get()),
        _ => None,
    };
    effects.iter().filter_map(told).next_back()
}

fn receivers(effects: &[Effect], at: u64) -> Vec<u64> {
    accepts(effects).into_iter().filter(|(_, slot, _)| *slot == at).map(|(to, ..)| to).collect()
}

// ------------------------------------------------------------------ which one governs

// protocol 6.1, scenario M8
#[test]
fn the_slots_through_alpha_above_a_membership_stay_with_the_old_voters() {
    let (mut leader, out) = leader_that_recovers(new());
    assert_eq!(proposed(&out), [(1, value(new())), (2, Value::Noop)]);
    assert_eq!((receivers(&out, 1), receivers(&out, 2)), (vec![1, 2, 3], vec![1, 2, 3]));
    let out = leader.take(learned(1, &[value(new())]));
    assert_eq!(receivers(&out, 3), [1, 2, 3], "learned, and still not in force");
    leader.take(to_proposer(4, accepted_of(id(1, 1), 1, 3)));
    let out = leader.take(to_proposer(5, accepted_of(id(1, 1), 1, 3)));
    assert_eq!(watermark(&out), None, "the new voters have no say there");
    leader.take(to_proposer(2, accepted_of(id(1, 1), 2, 3)));
    let out = leader.take(to_proposer(3, accepted_of(id(1, 1), 2, 3)));
    assert_eq!(watermark(&out), Some(3));
}

// protocol 6.1
#[test]
fn the_slots_above_go_to_the_new_voters_and_to_nobody_else() {
    let mut leader = leader_at_the_turn();
    leader.take(to_proposer(4, promise(id(1, 1), 1, [])));
    let out = leader.take(propose("a"));
    assert_eq!(receivers(&out, 4), [1, 4, 5]);
    leader.take(learned(3, &[Value::Noop]));
    for old in [2, 3] {
        let out = leader.take(to_proposer(old, accepted_of(id(1, 1), 4, 4)));
        assert_eq!(watermark(&out), None, "{old} has no say any more");
    }
    leader.take(to_proposer(1, accepted_of(id(1, 1), 4, 4)));
    let out = leader.take(to_proposer(5, accepted_of(id(1, 1), 4, 4)));
    assert_eq!(watermark(&out), Some(4));
}

// protocol 6.1: the sizes of a quorum come with the membership.
#[test]
fn flexible_sizes_come_into_force_with_their_membership_and_no_earlier() {
    let flexible = Membership::with_quorums(old().members().clone(), ALPHA, 3, 1).unwrap();
    let (mut leader, _) = leader_that_recovers(flexible.clone());
    let out = leader.take(to_proposer(1, accepted_of(id(1, 1), 1, 1)));
    assert_eq!(watermark(&out), None, "two of three, by the old sizes");
    leader.take(learned(1, &[value(flexible)]));
    leader.take(learned(2, &[Value::Noop, Value::Noop]));
    assert_eq!(leader.room(), 0, "a phase-1 quorum is three of three");
    leader.take(to_proposer(3, promise(id(1, 1), 1, [])));
    leader.take(propose("a"));
    let out = leader.take(to_proposer(3, accepted_of(id(1, 1), 4, 4)));
    assert_eq!(watermark(&out), Some(4), "one is a phase-2 quorum now");
}

// protocol 6.1
#[test]
fn an_acceptor_counts_from_when_a_membership_is_learned_and_tells_the_other_roles() {
    let mut acceptor = acceptor([]);
    let out = acceptor.take(to_acceptor(2, accept(id(1, 2), 1, &[value(voters(4))], 0)));
    assert_eq!(events(&out), [], "it may still be overwritten");
    let out = acceptor.take(to_acceptor(2, accept(id(1, 2), 2, &[], 1)));
    let event = Event::MembershipLearned { membership: voters(4), in_force_above: slot(65) };
    assert_eq!(events(&out), [event]);
    let told = |effect: &Effect| matches!(effect, Effect::Local(Local::Election(ElectionInput::Briefing(_))));
    assert!(out.iter().any(told), "the election calls the new members");
}

// protocol 6.1
#[test]
fn memberships_that_overlap_in_time_govern_one_after_the_other() {
    let mut memberships = Memberships::bootstrap(voters_with_alpha(3, 4));
    for (at, voters) in [(2, 4), (3, 5), (3, 5)] {
        memberships.learn(slot(at), &voters_with_alpha(voters, 4));
    }
    let governs = |at| memberships.governing(slot(at)).unwrap().voting().count();
    assert_eq!((1..=9).map(governs).collect::<Vec<_>>(), [3, 3, 3, 3, 3, 3, 4, 5, 5]);
    let of = |first, last| memberships.governing_any(slot(first), slot(last)).count();
    assert_eq!((of(1, 6), of(6, 7), of(6, 8), of(8, 99)), (1, 2, 3, 1));
}

// ------------------------------------------------------------------ phase 1 in the new membership

// protocol 6.3
#[test]
fn a_sitting_leader_asks_the_new_voters_under_the_same_id_and_proposes_nothing_in_their_slots_before() {
    let (mut leader, out) = leader_that_recovers(new());
    assert_eq!(asked(&out), [], "the membership may still lose its slot");
    let out = leader.take(learned(1, &[value(new())]));
    assert_eq!(asked(&out), [(4, 2), (5, 2)], "1 has promised already");
    assert!(sends(&out).iter().all(|(_, message)| message.ids().all(|under| under == id(1, 1))));
    leader.take(learned(2, &[Value::Noop, Value::Noop]));
    assert_eq!(leader.room(), 0);
    let out = leader.take(propose("a"));
    assert_eq!(events(&out), [Event::BatchRefused { batch: "a".into() }]);
    assert_eq!(leader.state(), ProposerState::Leading { id: id(1, 1) });
}

// protocol 6.3
#[test]
fn a_promise_of_a_member_of_both_counts_and_one_of_an_old_member_alone_does_not() {
    let mut leader = leader_at_the_turn();
    leader.take(learned(3, &[Value::Noop]));
    leader.take(to_proposer(3, promise(id(1, 1), 0, [])));
    assert_eq!(leader.room(), 0, "1 is the only one of the new membership");
    leader.take(to_proposer(4, promise(id(1, 1), 1, [])));
    assert_eq!(leader.room(), ALPHA);
}

// protocol 6.3, 11.5
#[test]
fn a_promise_of_a_member_of_both_counts_only_for_slots_that_it_covers_without_doubt() {
    let mut proposer = proposer(old(), 0);
    proposer.take(ProposerInput::Campaign);
    let doubt = Interval::new(slot(4), Slot::MAX);
    let all = Interval::new(slot(1), Slot::MAX);
    proposer.take(to_proposer(1, promise_page(id(1, 1), 0, all, [], [doubt])));
    proposer.take(to_proposer(2, promise(id(1, 1), 0, [(1, id(0, 2), value(new()))])));
    proposer.take(to_proposer(3, promise(id(1, 1), 0, [])));
    proposer.take(learned(1, &[value(new()), Value::Noop, Value::Noop]));
    proposer.take(to_proposer(4, promise(id(1, 1), 0, [])));
    assert_eq!(proposer.room(), 0, "1 does not know what it accepted at 4");
    proposer.take(to_proposer(5, promise(id(1, 1), 0, [])));
    assert_eq!(proposer.room(), ALPHA);
}

// protocol 6.3
#[test]
fn new_voters_that_do_not_answer_are_asked_again() {
    let mut leader = leader_at_the_turn();
    leader.take(learned(3, &[Value::Noop]));
    let mut times = Vec::new();
    for at in (50..=400).step_by(50) {
        let out = leader.take_at(ms(at), ProposerInput::Wake);
        if !asked(&out).is_empty() {
            assert_eq!(asked(&out), [(4, 4), (5, 4)]);
            times.push(at);
        }
    }
    assert_eq!(times, [100, 200, 300, 400]);
    leader.take_at(ms(410), to_proposer(5, promise(id(1, 1), 3, [])));
    let later: Vec<_> =
        (450..=900).step_by(50).flat_map(|at| asked(&leader.take_at(ms(at), ProposerInput::Wake))).collect();
    assert_eq!(later, [], "it is won");
}

// protocol 1.7, 6.3
#[test]
fn what_the_new_voters_accepted_is_proposed_again_before_anything_new() {
    let mut leader = leader_at_the_turn();
    leader.take(learned(3, &[Value::Noop]));
    let out = leader.take(to_proposer(4, promise(id(1, 1), 1, [(5, id(0, 5), batch("old"))])));
    assert_eq!(proposed(&out), [(4, Value::Noop), (5, batch("old"))]);
    leader.take(learned(4, &[Value::Noop]));
    assert_eq!(proposed(&leader.take(propose("new"))), [(6, batch("new"))]);
}

// protocol 1.7
#[test]
fn a_promise_that_comes_late_raises_what_is_recovered() {
    let mut leader = leader(0);
    leader.take(propose("a"));
    let out = leader.take(to_proposer(3, promise(id(1, 1), 0, [(3, id(0, 3), batch("late"))])));
    assert_eq!(proposed(&out), [(2, Value::Noop), (3, batch("late"))]);
    assert_eq!(proposed(&leader.take(propose("b"))), [(4, batch("b"))]);
}

// protocol 1.7
#[test]
fn of_two_values_for_a_slot_the_one_of_the_higher_id_wins_also_when_it_comes_late() {
    for (first, second) in [(2, 1), (1, 2)] {
        let mut proposer = proposer(voters_with_alpha(5, 1), 0);
        proposer.take(ProposerInput::Promised { id: id(5, 2) });
        proposer.take(ProposerInput::Campaign);
        let entry = |number| [(2, id(number, 2), batch(&number.to_string()))];
        proposer.take(to_proposer(1, promise(id(6, 1), 0, [])));
        proposer.take(to_proposer(2, promise(id(6, 1), 0, entry(first))));
        proposer.take(to_proposer(3, promise(id(6, 1), 0, [])));
        proposer.take(to_proposer(4, promise(id(6, 1), 0, entry(second))));
        let out = proposer.take(learned(1, &[Value::Noop]));
        assert_eq!(proposed(&out), [(2, batch("2"))]);
    }
}

// protocol 1.5, 6.3
#[test]
fn a_leader_that_hears_late_that_more_is_chosen_learns_that_first() {
    let mut leader = leader(0);
    let out = leader.take(to_proposer(3, promise(id(1, 1), 2, [])));
    let behind = LearnerInput::Behind { peer: node(3), through: slot(2), chosen_through: slot(0) };
    assert!(out.contains(&Effect::Local(Local::Learner(behind))));
    assert_eq!(accepts(&leader.take(propose("a"))), []);
    leader.take(learned(1, &[batch("x"), batch("y")]));
    assert_eq!(leader.state(), ProposerState::Leading { id: id(1, 1) });
    assert_eq!(proposed(&leader.take(propose("a"))), [(3, batch("a"))]);
}

// ------------------------------------------------------------------ candidates

/// Proposer 1, which has learned through `chosen_through`, with the new membership chosen at slot 1.
fn candidate_through(chosen_through: u64) -> (Proposer, Vec<Effect>) {
    let mut briefing = briefing(old(), chosen_through, None);
    briefing.memberships.as_mut().unwrap().learn(slot(1), &new());
    let mut proposer = Proposer::new(node(1), Limits::default(), 1);
    proposer.take(ProposerInput::Briefing(briefing));
    let out = proposer.take(ProposerInput::Campaign);
    (proposer, out)
}

fn asks(effects: &[Effect]) -> Vec<u64> {
    let to = |effect: &Effect| match effect {
        Effect::Local(Local::Acceptor(AcceptorInput::Candidate { to, .. })) => Some(to.clone()),
        _ => None,
    };
    effects.iter().filter_map(to).flatten().map(|node| node.get()).collect()
}

// protocol 6.3
#[test]
fn a_candidate_asks_the_voters_in_force_and_those_of_a_membership_that_is_about_to_be() {
    assert_eq!(asks(&candidate_through(1).1), [1, 2, 3, 4, 5]);
    assert_eq!(asks(&candidate_through(3).1), [1, 4, 5]);
}

// protocol 1.6, 6.3
#[test]
fn a_candidate_wins_in_the_membership_in_force_and_waits_with_the_slots_of_the_next() {
    let (mut proposer, _) = candidate_through(1);
    proposer.take(to_proposer(1, promise(id(1, 1), 1, [])));
    proposer.take(to_proposer(4, promise(id(1, 1), 0, [])));
    assert_eq!(proposer.state(), ProposerState::Preparing { id: id(1, 1) }, "4 has no say at slot 2");
    let out = proposer.take(to_proposer(3, promise(id(1, 1), 1, [])));
    assert_eq!(proposer.state(), ProposerState::Leading { id: id(1, 1) });
    assert_eq!(proposed(&out), [(2, Value::Noop), (3, Value::Noop)], "so that the next comes into force");
    assert_eq!(receivers(&out, 3), [1, 2, 3]);
    proposer.take(learned(2, &[Value::Noop]));
    let out = proposer.take(propose("a"));
    assert_eq!(receivers(&out, 4), [1, 4, 5], "4 had promised at the campaign");
}

// protocol 1.6, 6.3: else nobody could lead while too few of the new voters are there.
#[test]
fn a_candidate_leads_without_the_voters_to_come_also_when_a_slot_of_theirs_was_reported() {
    let (mut proposer, _) = candidate_through(1);
    proposer.take(to_proposer(1, promise(id(1, 1), 1, [(5, id(0, 4), batch("theirs"))])));
    let out = proposer.take(to_proposer(3, promise(id(1, 1), 1, [])));
    assert_eq!(proposer.state(), ProposerState::Leading { id: id(1, 1) });
    assert_eq!(proposed(&out), [(2, Value::Noop), (3, Value::Noop)]);
    assert_eq!(proposed(&proposer.take(learned(2, &[Value::Noop, Value::Noop]))), []);
    let out = proposer.take(to_proposer(5, promise(id(1, 1), 3, [])));
    assert_eq!(proposed(&out), [(4, Value::Noop), (5, batch("theirs"))]);
}

// protocol 1.6
#[test]
fn promises_of_the_old_voters_alone_win_nothing_once_the_new_ones_are_in_force() {
    let (mut proposer, _) = candidate_through(3);
    for voter in 1..=3 {
        proposer.take(to_proposer(voter, promise(id(1, 1), 3, [])));
    }
    assert_eq!(proposer.state(), ProposerState::Preparing { id: id(1, 1) });
    proposer.take(to_proposer(5, promise(id(1, 1), 3, [])));
    assert_eq!(proposer.state(), ProposerState::Leading { id: id(1, 1) });
}

// protocol 6.4
#[test]
fn only_a_voter_of_the_membership_that_governs_the_next_slot_campaigns() {
    let without = voters_of(&[2, 3], ALPHA);
    for (chosen_through, campaigns) in [(1, true), (2, true), (3, false)] {
        let mut briefing = briefing(old(), chosen_through, None);
        briefing.memberships.as_mut().unwrap().learn(slot(1), &without);
        let mut proposer = Proposer::new(node(1), Limits::default(), 1);
        proposer.take(ProposerInput::Briefing(briefing));
        let out = proposer.take(ProposerInput::Campaign);
        assert_eq!(!asks(&out).is_empty(), campaigns, "with slot {chosen_through} learned");
    }
}

// protocol 2.4, 6.1
#[test]
fn a_candidate_gives_up_by_the_refusals_of_those_who_count_for_the_next_slot() {
    let (mut proposer, _) = candidate_through(1);
    for new in [4, 5] {
        proposer.take(to_proposer(new, nack(id(1, 1), id(7, 4))));
    }
    assert_eq!(proposer.state(), ProposerState::Preparing { id: id(1, 1) });
    for old in [2, 3] {
        proposer.take(to_proposer(old, nack(id(1, 1), id(7, 4))));
    }
    assert_eq!(proposer.state(), ProposerState::Idle);
}

// ------------------------------------------------------------------ the window

// protocol 1.6, 6.2
#[test]
fn recovery_goes_no_further_than_alpha_above_what_is_learned_since_the_voters_there_are_not_known() {
    let mut proposer = proposer(old(), 0);
    proposer.take(ProposerInput::Campaign);
    proposer.take(to_proposer(1, promise(id(1, 1), 0, [])));
    let entries = [(1, id(0, 2), value(new())), (4, id(0, 2), batch("old"))];
    let out = proposer.take(to_proposer(2, promise(id(1, 1), 0, entries)));
    assert_eq!(proposed(&out), [(1, value(new())), (2, Value::Noop)]);
    let out = proposer.take(learned(1, &[value(new()), Value::Noop]));
    assert_eq!(proposed(&out), [(3, Value::Noop)], "4 belongs to others, who have not promised");
    let out = proposer.take(to_proposer(5, promise(id(1, 1), 0, [])));
    assert_eq!(proposed(&out), [(4, batch("old"))]);
    assert_eq!(receivers(&out, 4), [1, 4, 5]);
}

// protocol 1.6
#[test]
fn a_leader_that_hears_of_slots_above_its_own_by_a_base_gives_up() {
    let mut leader = leader(0);
    leader.take(propose("a"));
    leader.take(learned(1, &[batch("a")]));
    leader.take(ProposerInput::Briefing(briefing(voters(3), 1, Some(id(1, 1)))));
    assert_eq!(leader.state(), ProposerState::Leading { id: id(1, 1) }, "it has learned its own slot");
    leader.take(propose("b"));
    leader.take(ProposerInput::Briefing(briefing(voters(3), 2, Some(id(1, 1)))));
    assert_eq!(leader.state(), ProposerState::Idle, "nobody says what was chosen in its own slot");
}
