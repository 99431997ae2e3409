//! Changes: what a leader proposes to change the membership, what it refuses, and how it goes when it is left out.

use crate::support::*;
use std::collections::BTreeSet;
use std::time::Duration;
use synod::multi::*;

const ALPHA: u64 = 2;

fn old() -> Membership {
    voters_with_alpha(3, ALPHA)
}

fn value(membership: Membership) -> Value {
    Value::Membership(membership)
}

fn add(number: u64) -> Change {
    Change::Add { node: node(number), member: member(MemberKind::Voter) }
}

fn remove(number: u64) -> Change {
    Change::Remove { node: node(number) }
}

fn refused(ticket: u64, refusal: ChangeRefusal) -> (u64, AdminOutcome) {
    (ticket, AdminOutcome::ChangeRefused(refusal))
}

/// 1, 2 and 3 vote, and 4 learns.
fn with_observer() -> Membership {
    let voter = MemberKind::Voter;
    members_of(&[(1, voter), (2, voter), (3, voter), (4, MemberKind::Observer)], ALPHA)
}

/// Learns at `leader` what it has proposed itself, from slot `first` on, and gathers what it does.
fn learn_own(leader: &mut Proposer, first: u64, mut out: Vec<Effect>) -> Vec<Effect> {
    let mut done = Vec::new();
    for at in first.. {
        let own = proposed(&out).into_iter().chain(proposed(&done)).find(|(slot, _)| *slot == at);
        let Some((_, value)) = own else { break };
        done.append(&mut out);
        out = leader.take(learned(at, &[value]));
    }
    done.append(&mut out);
    done
}

// ------------------------------------------------------------------ the way to a new membership

// protocol 6.2
#[test]
fn a_new_voter_learns_first_and_votes_once_it_is_near_while_writes_go_on() {
    let mut leader = leader_of(old(), &[1, 2]);
    leader.take(progress(2, 0));
    let out = leader.take(change(7, add(4)));
    assert_eq!(proposed(&out), [(1, value(with_observer())), (2, Value::Noop)]);
    assert_eq!(leader.room(), 0, "no-ops go first, so that it comes into force at once");
    let out = learn_own(&mut leader, 1, out);
    assert_eq!(proposed(&out).last(), Some(&(3, Value::Noop)));
    assert_eq!((outcomes(&out), leader.room()), (vec![], ALPHA), "4 has still to catch up");
    let out = leader.take(propose("a"));
    let out = learn_own(&mut leader, 4, out);
    assert_eq!(proposed(&out), [(4, batch("a"))]);

    let out = leader.take(progress(4, 4));
    let goal = voters_with_alpha(4, ALPHA);
    assert_eq!(proposed(&out)[0], (5, value(goal.clone())));
    let out = learn_own(&mut leader, 5, out);
    assert_eq!(proposed(&out).last(), Some(&(7, Value::Noop)));
    assert_eq!(outcomes(&out), [(7, AdminOutcome::Changed(goal))]);
    assert_eq!(leader.room(), 0, "two promises are no quorum of four (6.3)");
    leader.take(to_proposer(4, promise(id(1, 1), 7, [])));
    assert_eq!(leader.room(), ALPHA);
}

// protocol 6.2
#[test]
fn a_voter_that_lags_or_is_silent_is_waited_for_and_then_named() {
    let limits = Limits { near_slots: 2, ..Limits::default() };
    let fixture = || {
        let mut leader = leader_with(limits.clone(), with_observer(), &[1, 2]);
        for at in 1..=4 {
            leader.take(propose("a"));
            leader.take(learned(at, &[batch("a")]));
        }
        leader
    };
    let through = 4;
    let promotes =
        |out: &[Effect]| proposed(out).iter().any(|(_, value)| matches!(value, Value::Membership(_)));

    let mut leader = fixture();
    leader.take_at(ms(0), progress(2, through));
    assert!(!promotes(&leader.take_at(ms(0), change(7, add(4)))));
    assert!(!promotes(&leader.take_at(ms(0), progress(4, through - 3))), "three slots are not near");
    assert!(promotes(&leader.take_at(ms(0), progress(4, through - 2))));

    let mut leader = fixture();
    leader.take_at(ms(0), progress(4, through));
    leader.take_at(ms(600), progress(2, through));
    assert!(!promotes(&leader.take_at(ms(600), change(7, add(4)))), "4 was heard two windows ago");
    assert!(promotes(&leader.take_at(ms(601), progress(4, through))));

    let mut leader = fixture();
    leader.take_at(ms(0), change(7, add(4)));
    let silence = |leader: &mut Proposer, at: u64| {
        let others = [progress(2, through), progress(3, through)];
        others.into_iter().flat_map(|input| leader.take_at(ms(at), input)).collect::<Vec<_>>()
    };
    assert_eq!(outcomes(&silence(&mut leader, 59_999)), []);
    let lagging = BTreeSet::from([node(4)]);
    assert_eq!(outcomes(&silence(&mut leader, 60_000)), [refused(7, ChangeRefusal::Lagging { lagging })]);
    assert!(!promotes(&leader.take_at(ms(60_001), progress(4, through))), "nobody waits for it any more");
}

// protocol 6.2
#[test]
fn a_membership_whose_quorums_do_not_answer_is_not_proposed() {
    let mut leader = leader_of(old(), &[1, 2]);
    leader.take(progress(3, 0));
    let out = leader.take(change(7, remove(3)));
    assert_eq!(proposed(&out), [], "of 1 and 2 both are needed, and 2 is silent");
    let out = leader.take(progress(2, 0));
    assert_eq!(proposed(&out)[0], (1, value(voters_of(&[1, 2], ALPHA))));
}

// protocol 6.2
#[test]
fn any_set_follows_any_set_in_one_change_after_its_new_voters_have_caught_up() {
    let mut leader = leader_of(old(), &[1, 2]);
    let goal = Membership::with_quorums(voters_of(&[1, 4, 5, 6], 2).members().clone(), 2, 3, 2).unwrap();
    let out = leader.take(change(7, Change::Set(goal.clone())));
    let Some((1, Value::Membership(first))) = proposed(&out).first().cloned() else { panic!("{out:?}") };
    assert_eq!(first.voting().collect::<Vec<_>>(), old().voting().collect::<Vec<_>>());
    assert_eq!(first.members().len(), 6);
    learn_own(&mut leader, 1, out);
    leader.take(progress(4, 3));
    leader.take(progress(5, 3));
    let out = leader.take(progress(6, 3));
    assert_eq!(proposed(&out)[0], (4, value(goal)));
}

// protocol 6.2
#[test]
fn a_new_leader_fills_up_to_where_its_predecessors_membership_comes_into_force() {
    let mut briefing = briefing(old(), 2, None);
    briefing.memberships.as_mut().unwrap().learn(slot(1), &voters_of(&[1, 2], ALPHA));
    let mut leader = Proposer::new(node(1), Limits::default(), 1);
    leader.take(ProposerInput::Briefing(briefing));
    leader.take(ProposerInput::Campaign);
    leader.take(to_proposer(1, promise(id(1, 1), 2, [])));
    let out = leader.take(to_proposer(2, promise(id(1, 1), 2, [])));
    assert_eq!(proposed(&out), [(3, Value::Noop)]);
    assert_eq!(proposed(&leader.take(propose("a"))), [(4, batch("a"))]);
}

// ------------------------------------------------------------------ one at a time

// protocol 6.2, scenario M8
#[test]
fn a_change_is_refused_while_another_one_waits_is_proposed_or_is_not_in_force() {
    let is_refused = |leader: &mut Proposer, stage: &str| {
        let out = leader.take(change(8, remove(3)));
        assert_eq!(outcomes(&out), [refused(8, ChangeRefusal::InProgress)], "{stage}");
        assert_eq!(proposed(&out), [], "{stage}");
    };
    let mut leader = leader_of(with_observer(), &[1, 2]);
    leader.take(change(7, add(4)));
    is_refused(&mut leader, "it waits for 4");
    leader.take(progress(2, 0));
    let out = leader.take(progress(4, 0));
    assert_eq!(proposed(&out).len(), 2);
    is_refused(&mut leader, "it is proposed");
    leader.take(learned(1, &[value(voters_with_alpha(4, ALPHA))]));
    is_refused(&mut leader, "it is chosen");
    let out = leader.take(learned(2, &[Value::Noop, Value::Noop]));
    assert_eq!(outcomes(&out).len(), 1, "it is in force");
    leader.take(to_proposer(4, promise(id(1, 1), 3, [])));
    leader.take(progress(2, 3));
    assert_eq!(proposed(&leader.take(change(9, remove(3)))).len(), 2);
}

// protocol 6.2
#[test]
fn a_change_is_refused_while_a_membership_of_an_earlier_leader_is_open_or_not_in_force() {
    let mut leader = proposer(old(), 0);
    leader.take(ProposerInput::Campaign);
    leader.take(to_proposer(1, promise(id(1, 1), 0, [])));
    let found = [(1, id(0, 2), value(voters_of(&[1, 2], ALPHA)))];
    leader.take(to_proposer(2, promise(id(1, 1), 0, found)));
    leader.take(progress(2, 0));
    let in_progress = |ticket| [refused(ticket, ChangeRefusal::InProgress)];
    assert_eq!(outcomes(&leader.take(change(7, remove(3)))), in_progress(7));
    leader.take(learned(1, &[value(voters_of(&[1, 2], ALPHA))]));
    assert_eq!(outcomes(&leader.take(change(8, remove(3)))), in_progress(8));
    leader.take(learned(2, &[Value::Noop, Value::Noop]));
    let gone = ChangeRefusal::Retired { node: node(3) };
    assert_eq!(outcomes(&leader.take(change(9, add(3)))), [refused(9, gone)], "now it is looked at");
}

// protocol 6.2
#[test]
fn a_leader_that_still_recovers_takes_no_change() {
    let mut leader = proposer(voters_with_alpha(3, 1), 0);
    leader.take(ProposerInput::Campaign);
    leader.take(to_proposer(1, promise(id(1, 1), 0, [])));
    leader.take(to_proposer(2, promise(id(1, 1), 0, [(3, id(0, 2), batch("c"))])));
    leader.take(progress(2, 0));
    let out = leader.take(change(7, remove(3)));
    assert_eq!(outcomes(&out), [(7, AdminOutcome::NotLeader(None))]);
    assert_eq!(proposed(&out), []);
}

// protocol 1.7, 6.2
#[test]
fn a_membership_goes_above_what_a_late_promise_brought_to_light() {
    let mut leader = leader_of(old(), &[1, 2]);
    leader.take(change(7, remove(3)));
    let late = promise(id(1, 1), 0, [(4, id(0, 3), batch("late"))]);
    let mut out = leader.take(to_proposer(3, late));
    out.extend(leader.take(progress(2, 0)));
    let out = learn_own(&mut leader, 1, out);
    let values: Vec<Value> = proposed(&out).into_iter().take(5).map(|(_, value)| value).collect();
    let membership = value(voters_of(&[1, 2], ALPHA));
    assert_eq!(values, [Value::Noop, Value::Noop, Value::Noop, batch("late"), membership]);
}

// protocol 6.2
#[test]
fn the_next_step_of_a_change_waits_until_the_one_before_is_in_force() {
    let mut leader = leader_of(old(), &[1, 2]);
    leader.take(progress(2, 0));
    leader.take(progress(4, 0));
    leader.take(change(7, add(4)));
    leader.take(learned(1, &[value(with_observer())]));
    let out = leader.take(learned(2, &[Value::Noop]));
    assert_eq!(proposed(&out), [], "4 learns from slot 4 on, and slot 3 is open");
    let out = leader.take(learned(3, &[Value::Noop]));
    assert_eq!(proposed(&out)[0], (4, value(voters_with_alpha(4, ALPHA))));
}

// protocol 6.2
#[test]
fn nobody_knows_how_a_change_goes_on_under_the_next_leader() {
    let mut leader = leader_of(old(), &[1, 2]);
    leader.take(change(7, add(4)));
    assert_eq!(outcomes(&leader.take(ProposerInput::StepDown)), [(7, AdminOutcome::Unknown)]);
    assert_eq!(outcomes(&leader.take(change(8, add(4)))), [(8, AdminOutcome::NotLeader(None))]);
}

// ------------------------------------------------------------------ what is refused

// protocol 6.5
#[test]
fn an_id_that_was_a_member_once_is_refused_in_every_kind_of_change() {
    let mut briefing = briefing(old(), 9, None);
    briefing.memberships.as_mut().unwrap().learn(slot(1), &voters_of(&[1, 2], ALPHA));
    let mut leader = Proposer::new(node(1), Limits::default(), 1);
    leader.take(ProposerInput::Briefing(briefing));
    leader.take(ProposerInput::Campaign);
    leader.take(to_proposer(1, promise(id(1, 1), 9, [])));
    leader.take(to_proposer(2, promise(id(1, 1), 9, [])));
    let observer = Change::Add { node: node(3), member: member(MemberKind::Observer) };
    let replace = Change::Replace { lost: node(2), node: node(3), address: String::new() };
    let set = Change::Set(old());
    for (ticket, wanted) in (1..).zip([add(3), observer, replace, set]) {
        let out = leader.take(change(ticket, wanted));
        assert_eq!(outcomes(&out), [refused(ticket, ChangeRefusal::Retired { node: node(3) })]);
        assert_eq!(proposed(&out), []);
    }
}

// protocol 5.1, 6.5
#[test]
fn retired_ids_stay_retired_behind_a_snapshot() {
    let mut memberships = Memberships::bootstrap(old());
    memberships.learn(slot(1), &voters_of(&[1, 2], ALPHA));
    memberships.learn(slot(9), &voters_of(&[1, 2, 4], ALPHA));
    let cut = memberships.as_of(slot(50));
    assert_eq!(cut.governing(slot(5)), None, "nothing else is left of that time");
    assert!(cut.retired().contains_key(&node(3)));
}

// protocol 6.1
#[test]
fn the_last_voter_stays() {
    let alone = members_of(&[(1, MemberKind::Voter), (2, MemberKind::Witness)], ALPHA);
    let mut leader = leader_of(alone, &[1, 2]);
    leader.take(progress(2, 0));
    let out = leader.take(change(7, remove(1)));
    let reason = MembershipError::NoVoter.to_string();
    assert_eq!(outcomes(&out), [refused(7, ChangeRefusal::Impossible(reason))]);
    assert_eq!(proposed(&out), []);
}

/// What is a membership by its shape only: quorums of these sizes.
fn unsound(phase1: usize, phase2: usize) -> Membership {
    let (members, constants) = (old().members().clone(), (1000u32, 0u64));
    let parts = (members, ALPHA, phase1, phase2, constants.0, constants.1);
    synod::codec::decode(&synod::codec::encode(&parts).unwrap()).unwrap()
}

// protocol 6.1
#[test]
fn sizes_of_quorums_that_need_not_meet_are_refused_however_they_arrive() {
    let members = old().members().clone();
    let error = MembershipError::QuorumsDoNotMeet { phase1: 2, phase2: 1, voters: 3 };
    assert_eq!(Membership::with_quorums(members, ALPHA, 2, 1), Err(error.clone()));
    let mut leader = leader_of(old(), &[1, 2]);
    leader.take(progress(2, 0));
    let out = leader.take(change(7, Change::Set(unsound(2, 1))));
    assert_eq!(outcomes(&out), [refused(7, ChangeRefusal::Impossible(error.to_string()))]);
    assert_eq!(proposed(&out), []);
    for impossible in [(0, 3), (3, 0), (4, 3), (1, 4)] {
        let set = Change::Set(unsound(impossible.0, impossible.1));
        let out = leader.take(change(8, set));
        assert!(matches!(
            outcomes(&out)[..],
            [(8, AdminOutcome::ChangeRefused(ChangeRefusal::Impossible(_)))]
        ));
    }
    let accept = accept(id(1, 2), 1, &[value(unsound(2, 1))], 0);
    assert!(!node::is_well_formed(&accept), "a peer's word for it is dropped");
}

// protocol 0 (α), 7.4, 12.4
#[test]
fn the_constants_of_the_cluster_cannot_be_changed() {
    let mut leader = leader_of(old(), &[1, 2]);
    leader.take(progress(2, 0));
    for other in
        [voters_with_alpha(3, 9), old().with_lease(Duration::from_secs(1)), old().with_sessions_max(7)]
    {
        let out = leader.take(change(7, Change::Set(other)));
        assert_eq!(outcomes(&out), [refused(7, ChangeRefusal::OtherConstants)]);
    }
}

// protocol 6.1
#[test]
fn an_even_number_of_voters_is_allowed() {
    let mut leader = leader_of(old(), &[1, 2]);
    leader.take(progress(2, 0));
    let out = leader.take(change(7, remove(3)));
    let two = voters_of(&[1, 2], ALPHA);
    assert_eq!(proposed(&out)[0], (1, value(two.clone())));
    assert_eq!(two.quorums(), (2, 2));
}

// ------------------------------------------------------------------ who is answered

// protocol 6.4
#[test]
fn an_acceptor_answers_whoever_is_of_the_cluster_whatever_the_membership() {
    let others = voters_of(&[2, 3], 64);
    for (me_left_out, from) in [(false, 9), (true, 2), (true, 9)] {
        let membership = if me_left_out { others.clone() } else { voters(3) };
        let log = log(voters(3), [chosen(1, value(membership))]);
        let mut acceptor = Acceptor::new(identity(1), None, Sequence(10), log, Limits::default());
        let promised = sends(&acceptor.take(to_acceptor(from, prepare(id(3, from), 2))));
        assert!(matches!(promised[..], [(to, Message::Promise { .. })] if to == from));
        let voted = sends(&acceptor.take(to_acceptor(from, accept(id(3, from), 2, &[batch("a")], 0))));
        assert_eq!(
            voted,
            [(
                from,
                Message::Accepted { id: id(3, from), slots: vec![interval(2, 2)], sequence: Sequence(12) }
            )]
        );
        let told = sends(&acceptor.take(to_acceptor(from, Message::CatchUp { from: slot(1), bytes_max: 9 })));
        assert!(matches!(told[..], [(to, Message::Chosen { .. })] if to == from));
    }
}

// protocol 6.4
#[test]
fn a_handshake_asks_for_cluster_and_identity_and_not_for_membership() {
    let mut acceptor = acceptor([chosen(1, value(voters_of(&[1, 2], 64)))]);
    for peer in [3, 9] {
        let out = acceptor.take(AcceptorInput::Admit { ticket: peer, identity: identity(peer) });
        assert!(out.iter().any(|effect| matches!(effect, Effect::Admission { verdict: Ok(()), .. })));
    }
}
