//! Reads: how far one waits, and what proves that the leader still leads (protocol 7.1 to 7.3).

use crate::support::*;
use synod::multi::*;

const ALPHA: u64 = 2;

fn value(membership: Membership) -> Value {
    Value::Membership(membership)
}

/// 1, 4 and 5 instead of 1, 2 and 3.
fn new() -> Membership {
    voters_of(&[1, 4, 5], ALPHA)
}

fn read(ticket: u64) -> ProposerInput {
    ProposerInput::Read { tickets: vec![ticket], lease: false }
}

fn yes(from: u64, nonce: u64) -> ProposerInput {
    to_proposer(from, Message::Confirmed { id: id(1, 1), nonce })
}

fn readable(ticket: u64, mark: u64) -> (u64, Answer) {
    (ticket, Answer::Readable(slot(mark)))
}

/// Who is asked to confirm, and under which nonce.
fn asked(effects: &[Effect]) -> Vec<(u64, u64)> {
    let ask = |(to, message)| match message {
        Message::Confirm { id: under, nonce } => {
            assert_eq!(under, id(1, 1));
            Some((to, nonce))
        }
        _ => None,
    };
    sends(effects).into_iter().filter_map(ask).collect()
}

fn all_of(nonce: u64) -> Vec<(u64, u64)> {
    (1..=3).map(|voter| (voter, nonce)).collect()
}

// ------------------------------------------------------------------ the mark

// protocol 7.1
#[test]
fn a_read_waits_for_what_was_proposed_before_it_and_for_nothing_after() {
    let mut leader = leader(0);
    leader.take(propose("a"));
    let out = leader.take(read(7));
    assert_eq!((asked(&out), answers(&out)), (vec![], vec![]), "slot 1 is open");
    leader.take(propose("b"));
    let out = leader.take(learned(1, &[batch("a")]));
    assert_eq!(asked(&out), all_of(1));
    assert_eq!(answers(&leader.take(yes(1, 1))), []);
    assert_eq!(answers(&leader.take(yes(2, 1))), [readable(7, 1)]);
}

// protocol 7.2
#[test]
fn reads_that_arrive_together_share_the_first_round() {
    let mut leader = leader(0);
    let out = leader.take(ProposerInput::Read { tickets: vec![7, 8, 9], lease: false });
    assert_eq!(asked(&out), all_of(1), "one question to each");
    leader.take(yes(1, 1));
    assert_eq!(answers(&leader.take(yes(2, 1))), [readable(7, 0), readable(8, 0), readable(9, 0)]);
}

// protocol 7.1
#[test]
fn a_read_waits_for_all_that_may_have_been_chosen_under_an_earlier_leader() {
    let mut leader = candidate(0);
    leader.take(to_proposer(1, promise(id(1, 1), 0, [])));
    leader.take(to_proposer(2, promise(id(1, 1), 0, [(2, id(0, 2), batch("b"))])));
    leader.take(read(7));
    assert_eq!(asked(&leader.take(learned(1, &[Value::Noop]))), []);
    assert_eq!(asked(&leader.take(learned(2, &[batch("b")]))), all_of(1));
    leader.take(yes(3, 1));
    assert_eq!(answers(&leader.take(yes(1, 1))), [readable(7, 2)]);
}

// protocol 7.1: a promise that comes late brings a slot to light that nobody has proposed again yet.
#[test]
fn a_read_waits_for_what_is_to_be_recovered_beyond_the_window() {
    let mut leader = leader_of(voters_with_alpha(3, 1), &[1, 2]);
    leader.take(to_proposer(3, promise(id(1, 1), 0, [(3, id(0, 3), batch("c"))])));
    assert_eq!(leader.read_mark(), Some((id(1, 1), slot(3))));
    leader.take(read(7));
    for (at, value) in [(1, Value::Noop), (2, Value::Noop)] {
        assert_eq!(asked(&leader.take(learned(at, &[value]))), []);
    }
    assert_eq!(asked(&leader.take(learned(3, &[batch("c")]))), all_of(1));
}

/// Leads under 1.1 with slots 1 and 2 learned and slot 3 proposed; from slot 4 on 1, 4 and 5 vote, who have not promised.
fn leader_at_the_turn() -> Proposer {
    let mut proposer = proposer(voters_with_alpha(3, ALPHA), 0);
    proposer.take(ProposerInput::Campaign);
    proposer.take(to_proposer(1, promise(id(1, 1), 0, [])));
    proposer.take(to_proposer(2, promise(id(1, 1), 0, [(1, id(0, 2), value(new()))])));
    proposer.take(learned(1, &[value(new()), Value::Noop]));
    proposer
}

// protocol 7.1, 6.3
#[test]
fn a_mark_is_taken_anew_after_phase_1_in_the_membership_that_governs_the_slot_above_it() {
    let mut leader = leader_at_the_turn();
    leader.take(read(7));
    let out = leader.take(learned(3, &[Value::Noop]));
    assert_eq!(asked(&out), [], "slot 3 is learned, but others may already have chosen slots above it");
    let out = leader.take(to_proposer(4, promise(id(1, 1), 1, [(5, id(0, 5), batch("theirs"))])));
    assert_eq!(asked(&out), [], "as they had");
    leader.take(learned(4, &[Value::Noop]));
    let out = leader.take(learned(5, &[batch("theirs")]));
    assert_eq!(asked(&out), [(1, 1), (4, 1), (5, 1)]);
    leader.take(yes(2, 1));
    leader.take(yes(3, 1));
    leader.take(yes(5, 1));
    assert_eq!(answers(&leader.take(yes(1, 1))), [readable(7, 5)]);
}

// protocol 7.2
#[test]
fn a_read_is_confirmed_by_those_who_judge_the_slot_above_its_mark() {
    let mut leader = leader_at_the_turn();
    leader.take(to_proposer(4, promise(id(1, 1), 1, [])));
    leader.take(read(7));
    let out = leader.take(learned(3, &[Value::Noop]));
    assert_eq!(asked(&out), [(1, 1), (4, 1), (5, 1)], "slot 4 is theirs");
    for old in [2, 3] {
        assert_eq!(answers(&leader.take(yes(old, 1))), []);
    }
    leader.take(yes(4, 1));
    assert_eq!(answers(&leader.take(yes(5, 1))), [readable(7, 3)]);
}

// protocol 7.1
#[test]
fn a_mark_taken_while_phase_1_is_won_stays_valid() {
    let mut leader = leader_at_the_turn();
    leader.take(learned(3, &[Value::Noop]));
    leader.take(to_proposer(4, promise(id(1, 1), 1, [])));
    leader.take(propose("a"));
    leader.take(read(7));
    leader.take(to_proposer(5, promise(id(1, 1), 1, [(5, id(0, 5), batch("later"))])));
    let out = leader.take(learned(4, &[batch("a")]));
    assert_eq!(asked(&out), [(1, 1), (4, 1), (5, 1)], "whatever the late promise brought");
}

// protocol 7.1, 1.6
#[test]
fn a_mark_above_which_nobody_knows_yet_who_votes_is_taken_anew() {
    let mut leader = proposer(voters_with_alpha(3, ALPHA), 0);
    leader.take(ProposerInput::Campaign);
    leader.take(to_proposer(1, promise(id(1, 1), 0, [])));
    let entries = [(2, id(0, 2), value(new())), (4, id(0, 2), batch("d"))];
    leader.take(to_proposer(2, promise(id(1, 1), 0, entries)));
    leader.take(read(7));
    let values = [Value::Noop, value(new()), Value::Noop, batch("d")];
    for (at, value) in (1..).zip(values) {
        assert_eq!(asked(&leader.take(learned(at, &[value]))), [], "slot 5 belongs to 1, 4 and 5");
    }
    let out = leader.take(to_proposer(5, promise(id(1, 1), 4, [])));
    assert_eq!(asked(&out), [(1, 1), (4, 1), (5, 1)]);
}

// ------------------------------------------------------------------ the confirmation

// protocol 7.2
#[test]
fn a_round_that_began_before_a_read_arrived_does_not_serve_it() {
    let mut leader = leader(0);
    assert_eq!(asked(&leader.take(read(7))), all_of(1));
    leader.take(yes(1, 1));
    assert_eq!(asked(&leader.take(read(8))), [], "it takes the next one");
    let out = leader.take(yes(2, 1));
    assert_eq!((answers(&out), asked(&out)), (vec![readable(7, 0)], all_of(2)));
    for late in [1, 2, 3] {
        assert_eq!(leader.take(yes(late, 1)), [], "an answer to the first round");
    }
    leader.take(yes(2, 2));
    assert_eq!(answers(&leader.take(yes(3, 2))), [readable(8, 0)]);
}

// protocol 7.2
#[test]
fn all_reads_that_wait_share_a_round() {
    let mut leader = leader(0);
    leader.take(read(1));
    for ticket in 2..=9 {
        assert_eq!(leader.take(read(ticket)), []);
    }
    leader.take(yes(1, 1));
    assert_eq!(asked(&leader.take(yes(2, 1))), all_of(2));
    leader.take(yes(1, 2));
    let expected: Vec<_> = (2..=9).map(|ticket| readable(ticket, 0)).collect();
    assert_eq!(answers(&leader.take(yes(3, 2))), expected);
}

// protocol 7.2
#[test]
fn only_voters_count_and_each_once_under_the_id_and_the_nonce() {
    let mut leader = leader(0);
    leader.take(read(7));
    let other_id = to_proposer(3, Message::Confirmed { id: id(1, 2), nonce: 1 });
    for input in [yes(2, 1), yes(2, 1), yes(9, 1), yes(3, 2), yes(3, 0), other_id] {
        assert_eq!(leader.take(input.clone()), [], "{input:?}");
    }
    assert_eq!(answers(&leader.take(yes(3, 1))), [readable(7, 0)]);
}

// protocol 7.2
#[test]
fn a_set_that_meets_every_phase_1_or_every_phase_2_quorum_is_enough() {
    for (phase1, phase2) in [(3, 3), (4, 2), (2, 4), (5, 1)] {
        let members = voters(5).members().clone();
        let membership = Membership::with_quorums(members, 64, phase1, phase2).unwrap();
        let mut leader = leader_of(membership, &(1..=phase1 as u64).collect::<Vec<_>>());
        leader.take(read(7));
        let counted = (1..=5).position(|voter| !answers(&leader.take(yes(voter, 1))).is_empty());
        let needed = 5 - phase1.max(phase2) + 1;
        assert_eq!(counted, Some(needed - 1), "quorums of {phase1} and {phase2}");
    }
}

// protocol 7.2, 2.3
#[test]
fn who_does_not_confirm_is_asked_again_under_the_same_nonce() {
    let mut leader = leader_of(voters(5), &[1, 2, 3]);
    leader.take_at(ms(0), read(7));
    leader.take_at(ms(1), yes(1, 1));
    leader.take_at(ms(1), yes(4, 1));
    assert_eq!(asked(&leader.take_at(ms(50), ProposerInput::Wake)), []);
    assert_eq!(asked(&leader.take_at(ms(100), ProposerInput::Wake)), [(2, 1), (3, 1), (5, 1)]);
    assert_eq!(asked(&leader.take_at(ms(150), ProposerInput::Wake)), []);
    assert_eq!(answers(&leader.take_at(ms(160), yes(2, 1))), [readable(7, 0)]);
}

// protocol 7.2
#[test]
fn when_the_lead_ends_every_read_that_waits_is_sent_on() {
    let mut leader = leader(0);
    leader.take(read(1));
    leader.take(read(2));
    leader.take(propose("a"));
    leader.take(read(3));
    let mut left = answers(&leader.take(ProposerInput::StepDown));
    left.sort_by_key(|(ticket, _)| *ticket);
    assert_eq!(left, (1..=3).map(|ticket| (ticket, Answer::NotLeading)).collect::<Vec<_>>());
    assert_eq!(answers(&leader.take(read(4))), [(4, Answer::NotLeading)]);
}

// protocol 7.2
#[test]
fn an_answer_to_the_round_of_an_earlier_lead_confirms_nothing() {
    let mut leader = leader(0);
    leader.take(read(1));
    leader.take(ProposerInput::StepDown);
    leader.take(ProposerInput::Campaign);
    for voter in 1..=2 {
        leader.take(to_proposer(voter, promise(id(2, 1), 0, [])));
    }
    leader.take(read(2));
    for voter in 1..=3 {
        assert_eq!(leader.take(yes(voter, 1)), []);
    }
}

// ------------------------------------------------------------------ the voter

fn ask(under: (u64, u64)) -> AcceptorInput {
    to_acceptor(under.1, Message::Confirm { id: id(under.0, under.1), nonce: 9 })
}

// protocol 7.2
#[test]
fn a_voter_says_yes_to_the_one_it_promised_last_and_to_nobody_else() {
    let mut acceptor = acceptor([Record::Promised { id: id(3, 2) }]);
    let confirmed = Message::Confirmed { id: id(3, 2), nonce: 9 };
    assert_eq!(acceptor.take(ask((3, 2))), [send_after(2, confirmed, 10)]);
    assert_eq!(sends(&acceptor.take(ask((2, 2)))), [(2, nack(id(2, 2), id(3, 2)))]);
    assert_eq!(acceptor.take(ask((4, 2))), [], "not promised yet, so no yes");
}

// protocol 7.2
#[test]
fn a_promise_that_is_not_durable_yet_already_ends_the_yes() {
    let mut acceptor = acceptor([Record::Promised { id: id(3, 2) }]);
    acceptor.take(to_acceptor(3, prepare(id(4, 3), 1)));
    assert_eq!(acceptor.take(ask((3, 2))), [send_after(2, nack(id(3, 2), id(4, 3)), 11)]);
}

// protocol 1.2, 7.2
#[test]
fn a_yes_waits_for_the_promise_that_it_rests_on() {
    let mut acceptor = acceptor([]);
    acceptor.take(to_acceptor(2, accept(id(3, 2), 1, &[batch("a")], 0)));
    let confirmed = Message::Confirmed { id: id(3, 2), nonce: 9 };
    assert_eq!(acceptor.take(ask((3, 2))), [send_after(2, confirmed, 11)]);
}

// protocol 7.2, 9.2
#[test]
fn a_node_that_votes_no_more_confirms_nobody() {
    let reason = AbstainReason::PromiseInDoubt;
    let mut acceptor = acceptor([Record::Promised { id: id(3, 2) }, Record::Abstains { reason }]);
    assert_eq!(acceptor.take(ask((3, 2))), []);
}

// ------------------------------------------------------------------ whole clusters

// protocol 7.2, scenario M10
#[test]
fn a_leader_that_was_overtaken_without_knowing_it_serves_no_read() {
    let mut cluster = Cluster::external(3);
    cluster.campaign(1);
    cluster.settle();
    cluster.isolate(1, 2);
    cluster.isolate(1, 3);
    cluster.campaign(2);
    cluster.settle();
    cluster.propose(2, "unseen");
    cluster.settle();
    cluster.input(1, Local::Proposer(read(7)));
    cluster.pass(200);
    assert!(cluster.leads(1) && cluster.machines[&1].answers.is_empty());
    cluster.heal();
    cluster.pass(1000);
    assert_eq!(cluster.machines[&1].answers, [(7, Answer::NotLeading)]);
}

// protocol 7.1, 7.2
#[test]
fn a_read_after_a_write_sees_it_whoever_leads() {
    let mut cluster = Cluster::external(3);
    for (ticket, leader) in [(1, 1), (2, 3), (3, 2)] {
        cluster.campaign(leader);
        cluster.settle();
        cluster.propose(leader, "a");
        cluster.settle();
        let written = cluster.chosen_through(leader);
        cluster.input(leader, Local::Proposer(read(ticket)));
        cluster.settle();
        let answers = &cluster.machines[&leader].answers;
        let Some((_, Answer::Readable(mark))) = answers.last() else { panic!("{answers:?}") };
        assert!(mark.get() >= written);
    }
}
