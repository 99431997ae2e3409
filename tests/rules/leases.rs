//! Leases: what a voter grants, how a leader counts, and what ends it (protocol 7.4).

use crate::support::*;
use std::time::Duration;
use synod::election::{Election, Timing};
use synod::multi::*;

/// `count` voters who grant a second.
fn leased(count: u64) -> Membership {
    voters(count).with_lease(Duration::from_secs(1))
}

/// Whom `effects` tell to take over.
fn told(effects: &[Effect]) -> Vec<u64> {
    let take_over = |(to, message)| (message == Message::TakeOver { id: id(1, 1) }).then_some(to);
    sends(effects).into_iter().filter_map(take_over).collect()
}

// ------------------------------------------------------------------ the voter

/// Acceptor 1 of three who grant a second, in its first life, which has formed at time zero.
fn voter() -> Acceptor {
    let mut acceptor =
        Acceptor::new(identity(1), Some(leased(3)), Sequence(0), Log::default(), Limits::default());
    acceptor.take(AcceptorInput::Start);
    for peer in [2, 3] {
        let form = Message::Form { membership: leased(3), disk: DiskId(peer), yours: Some(DiskId(1)) };
        acceptor.take(to_acceptor(peer, form));
    }
    assert!(acceptor.log().is_formed());
    acceptor
}

fn beat(under: (u64, u64), lease: bool) -> AcceptorInput {
    to_acceptor(under.1, heartbeat(id(under.0, under.1), 0, lease))
}

/// Whether the acceptor promises `under` to its owner now; a refusal has to say so, and to change nothing.
fn promises(acceptor: &mut Acceptor, at: u64, under: (u64, u64)) -> bool {
    let before = acceptor.log().clone();
    let out = acceptor.take_at(ms(at), to_acceptor(under.1, prepare(id(under.0, under.1), 1)));
    let sent = sends(&out);
    let [(to, message)] = &sent[..] else { panic!("{sent:?}") };
    assert_eq!(*to, under.1);
    if matches!(message, Message::Promise { .. }) {
        return true;
    }
    assert!(matches!(message, Message::Nack { asked, .. } if *asked == id(under.0, under.1)));
    assert_eq!(*acceptor.log(), before);
    false
}

// protocol 7.4
#[test]
fn a_voter_that_granted_a_lease_promises_nobody_else_anything_until_it_is_over() {
    let mut voter = voter();
    assert!(promises(&mut voter, 0, (1, 2)));
    voter.take_at(ms(100), beat((1, 2), true));
    voter.take_at(ms(400), beat((1, 2), true));
    assert!(!promises(&mut voter, 1399, (2, 3)));
    assert!(promises(&mut voter, 1400, (2, 3)));
}

// protocol 7.4
#[test]
fn a_voter_keeps_its_lease_against_its_own_proposer_too() {
    let mut voter = voter();
    voter.take_at(ms(0), beat((1, 2), true));
    let campaign =
        |at| (ms(at), AcceptorInput::Candidate { id: id(2, 1), to: vec![node(1), node(2), node(3)] });
    let (at, candidate) = campaign(999);
    assert_eq!(voter.take_at(at, candidate), [send(1, nack(id(2, 1), id(1, 2)))]);
    let (at, candidate) = campaign(1000);
    assert_eq!(records(&voter.take_at(at, candidate)), [Record::Promised { id: id(2, 1) }]);
}

// protocol 2.4, 7.4
#[test]
fn the_leader_itself_may_win_phase_1_anew_under_its_lease() {
    let mut voter = voter();
    voter.take_at(ms(0), beat((1, 2), true));
    assert!(promises(&mut voter, 10, (5, 2)));
}

// protocol 7.4
#[test]
fn a_heartbeat_that_asks_for_no_lease_or_comes_from_a_leader_of_the_past_grants_none() {
    let mut voter = voter();
    voter.take_at(ms(0), beat((1, 2), false));
    assert!(promises(&mut voter, 10, (2, 3)));
    voter.take_at(ms(20), beat((1, 2), true));
    assert!(promises(&mut voter, 30, (3, 3)));
}

// protocol 7.4: a leader that did not know that it was overtaken once took the lease of its successor over.
#[test]
fn whoever_is_granted_a_lease_is_promised_its_id_before_it_may_count_on_it() {
    let mut voter = voter();
    assert!(promises(&mut voter, 0, (1, 2)));
    let out = voter.take_at(ms(0), beat((2, 3), true));
    assert_eq!(records(&out), [Record::Promised { id: id(2, 3) }], "3 was elected without this voter");
    let waits = |out: &[Effect]| {
        let is_ack =
            |effect: &&Effect| matches!(effect, Effect::Send { message: Message::HeartbeatAck { .. }, .. });
        let Some(Effect::Send { after, .. }) = out.iter().find(is_ack) else { panic!("{out:?}") };
        after.is_some()
    };
    assert!(waits(&out) && waits(&voter.take_at(ms(1), beat((2, 3), true))));
    let newest = Sequence(u64::MAX);
    voter.take_at(ms(2), AcceptorInput::Persisted { sequence: newest });
    assert!(!waits(&voter.take_at(ms(3), beat((2, 3), true))));
    assert_eq!(sends(&voter.take_at(ms(10), beat((1, 2), true))), [(2, nack(id(1, 2), id(2, 3)))]);
    assert!(!promises(&mut voter, 20, (3, 2)));
}

// protocol 7.4
#[test]
fn without_leases_nobody_waits_for_one() {
    let mut acceptor = acceptor([Record::Promised { id: id(1, 2) }]);
    acceptor.take_at(ms(0), beat((1, 2), true));
    assert!(promises(&mut acceptor, 0, (2, 3)));
}

// protocol 7.4: a voter that never promised anything may have granted a lease as well.
#[test]
fn a_voter_that_starts_again_promises_nobody_anything_for_the_length_of_a_lease() {
    for history in [vec![], vec![Record::Promised { id: id(1, 2) }]] {
        let log = log(leased(3), history);
        let mut voter = Acceptor::new(identity(1), None, Sequence(10), log, Limits::default());
        voter.take_at(ms(5000), AcceptorInput::Start);
        assert!(!promises(&mut voter, 5999, (2, 3)), "it does not know to whom it granted one");
        assert!(!promises(&mut voter, 5999, (3, 2)));
        assert!(promises(&mut voter, 6000, (2, 3)));
    }
}

// ------------------------------------------------------------------ the leader's count

fn election() -> Election {
    let mut election = Election::external(node(1), Timing::default(), 7);
    election.take(ElectionInput::Briefing(briefing(leased(3), 0, None)));
    election.take(ElectionInput::Proposer(ProposerState::Leading { id: id(5, 1) }));
    election
}

fn ack(from: u64, pulse: u64) -> ElectionInput {
    to_election(from, Message::HeartbeatAck { id: id(5, 1), pulse, durable_through: slot(0), witness: false })
}

/// Until when `effects` say that a lease runs, in milliseconds.
fn leased_until(effects: &[Effect]) -> Option<Time> {
    let lease = |effect: &Effect| match effect {
        Effect::Local(Local::Proposer(ProposerInput::Lease { until, next })) => {
            assert_eq!(*next, slot(1));
            Some(*until)
        }
        _ => None,
    };
    effects.iter().filter_map(lease).next_back()
}

// protocol 7.4
#[test]
fn a_lease_counts_from_when_the_heartbeat_left_and_ends_a_tenth_early() {
    let mut election = election();
    let out = election.take_at(ms(0), ElectionInput::Wake);
    let asks = |message: &Message| matches!(message, Message::Heartbeat { lease: true, .. });
    assert!(sends(&out).iter().all(|(_, message)| asks(message)));
    assert_eq!(leased_until(&election.take_at(ms(40), ack(2, 1))), None, "one of three");
    assert_eq!(leased_until(&election.take_at(ms(40), ack(9, 1))), None, "no voter");
    assert_eq!(leased_until(&election.take_at(ms(45), ack(1, 1))), Some(ms(900)));
}

// protocol 7.4
#[test]
fn a_lease_is_as_old_as_the_oldest_grant_that_it_needs() {
    let mut election = election();
    for at in [0, 50, 100] {
        election.take_at(ms(at), ElectionInput::Wake);
    }
    election.take_at(ms(110), ack(1, 3));
    assert_eq!(leased_until(&election.take_at(ms(110), ack(2, 1))), Some(ms(900)));
    assert_eq!(leased_until(&election.take_at(ms(111), ack(3, 2))), Some(ms(950)));
    assert_eq!(leased_until(&election.take_at(ms(112), ack(3, 99))), Some(ms(950)), "that one never left");
    assert_eq!(leased_until(&election.take_at(ms(113), ack(3, 1))), Some(ms(950)), "an old answer");
}

// protocol 7.4: once, an answer to a heartbeat that had asked for none counted when leases were asked for again.
#[test]
fn a_heartbeat_that_asked_for_no_lease_is_no_grant() {
    let mut election = election();
    election.take(ElectionInput::Lease(false));
    let out = election.take_at(ms(0), ElectionInput::Wake);
    let asks_not = |message: &Message| matches!(message, Message::Heartbeat { lease: false, .. });
    assert!(sends(&out).iter().all(|(_, message)| asks_not(message)));
    election.take_at(ms(1), ack(1, 1));
    assert_eq!(leased_until(&election.take_at(ms(1), ack(2, 1))), None, "the lead is being handed over");
    election.take(ElectionInput::Lease(true));
    election.take_at(ms(10), ack(1, 1));
    assert_eq!(leased_until(&election.take_at(ms(10), ack(3, 1))), None);
    election.take_at(ms(50), ElectionInput::Wake);
    election.take_at(ms(60), ack(1, 2));
    assert_eq!(leased_until(&election.take_at(ms(60), ack(3, 2))), Some(ms(950)));
}

// ------------------------------------------------------------------ reads under a lease

fn leased_read(ticket: u64) -> ProposerInput {
    ProposerInput::Read { tickets: vec![ticket], lease: true }
}

fn grant(until: u64, next: u64) -> ProposerInput {
    ProposerInput::Lease { until: ms(until), next: slot(next) }
}

fn readable(ticket: u64, mark: u64) -> (u64, Answer) {
    (ticket, Answer::Readable(slot(mark)))
}

/// Leads three who grant leases, and has one until 900 ms.
fn leader_with_lease() -> Proposer {
    let mut leader = leader_of(leased(3), &[1, 2]);
    leader.take(grant(900, 1));
    leader
}

// protocol 7.4
#[test]
fn a_read_under_a_lease_asks_nobody_and_one_without_or_after_it_does() {
    let mut leader = leader_with_lease();
    let out = leader.take_at(ms(899), leased_read(1));
    assert_eq!((answers(&out), sends(&out)), (vec![readable(1, 0)], vec![]));
    for (at, input) in [(899, ProposerInput::Read { tickets: vec![2], lease: false }), (900, leased_read(3))]
    {
        let mut leader = leader_with_lease();
        let out = leader.take_at(ms(at), input);
        assert_eq!((answers(&out), sends(&out).len()), (vec![], 3));
    }
}

// protocol 7.1, 7.4
#[test]
fn a_read_under_a_lease_waits_for_its_mark_like_any_other() {
    let mut leader = leader_with_lease();
    leader.take(propose("a"));
    assert_eq!(answers(&leader.take(leased_read(1))), []);
    assert_eq!(answers(&leader.take_at(ms(10), learned(1, &[batch("a")]))), [readable(1, 1)]);
    leader.take(propose("b"));
    leader.take(leased_read(2));
    let out = leader.take_at(ms(900), learned(2, &[batch("b")]));
    assert_eq!((answers(&out), sends(&out).len()), (vec![], 3), "the lease is over by then");
}

// protocol 6.3, 7.4
#[test]
fn a_lease_of_one_membership_serves_no_read_whose_mark_another_one_judges() {
    let two = voters_of(&[1, 2], 1).with_lease(Duration::from_secs(1));
    let mut leader = leader_of(leased(3).with_alpha(1).unwrap(), &[1, 2]);
    leader.take(progress(2, 0));
    leader.take(change(7, Change::Remove { node: node(3) }));
    leader.take(grant(900, 1));
    leader.take(learned(1, &[Value::Membership(two)]));
    leader.take(learned(2, &[Value::Noop]));
    let out = leader.take(leased_read(1));
    assert_eq!((answers(&out), sends(&out).len()), (vec![], 2), "2 and 3 might have elected another");
    leader.take(grant(950, 3));
    assert_eq!(answers(&leader.take(leased_read(2))), [readable(2, 2)]);
}

// protocol 7.4, 8.5
#[test]
fn a_transfer_ends_the_lease_before_the_successor_is_told() {
    let mut leader = leader_with_lease();
    leader.take(progress(2, 0));
    leader.take_at(ms(0), transfer(7, Some(2)));
    leader.take_at(ms(10), grant(5000, 1));
    let out = leader.take_at(ms(950), leased_read(1));
    assert_eq!(sends(&out).len(), 3, "none is taken while the lead is handed over");
    assert_eq!(told(&leader.take_at(ms(1000), ProposerInput::Wake)), [2]);
}

// protocol 7.4, 8.2
#[test]
fn stepping_down_ends_the_lease() {
    let mut leader = leader_with_lease();
    leader.take(ProposerInput::StepDown);
    assert_eq!(answers(&leader.take(leased_read(1))), [(1, Answer::NotLeading)]);
    leader.take(ProposerInput::Campaign);
    for voter in 1..=2 {
        leader.take(to_proposer(voter, promise(id(2, 1), 0, [])));
    }
    assert_eq!(answers(&leader.take(leased_read(2))), [], "the next lead begins without one");
}

// ------------------------------------------------------------------ transfer

// protocol 7.4, 8.5
#[test]
fn the_next_leader_is_told_when_no_voter_can_keep_a_lease_any_more_and_again_until_it_comes() {
    let mut leader = leader_of(leased(3), &[1, 2]);
    leader.take_at(ms(0), progress(2, 0));
    leader.take_at(ms(0), ProposerInput::Lease { until: ms(900), next: slot(1) });
    let out = leader.take_at(ms(10), transfer(7, Some(2)));
    assert!(
        out.contains(&Effect::Local(Local::Election(ElectionInput::Lease(false)))),
        "no more are asked for"
    );
    let mut times = Vec::new();
    for at in (50..=1300).step_by(50) {
        if told(&leader.take_at(ms(at), ProposerInput::Wake)) == [2] {
            times.push(at);
        }
    }
    assert_eq!(times, [1050, 1150, 1250], "a second after the last one may have been granted");
    let out = leader.take_at(ms(1310), ProposerInput::Promised { id: id(2, 2) });
    assert_eq!(outcomes(&out), [(7, AdminOutcome::Transferred(node(2)))]);
}

// protocol 7.4, 8.5: voters keep the lease that they granted last, and once refused whoever was sent to take over.
#[test]
fn the_lead_goes_where_it_is_sent_with_leases_too() {
    for lease in [200, 1000, 2500] {
        let leased = voters(3).with_lease(std::time::Duration::from_millis(lease));
        let mut cluster = Cluster::new(leased, true);
        cluster.pass(lease * 2 + 3000);
        let from = cluster.leader().unwrap();
        let to = (1..=3).find(|number| *number != from).unwrap();
        cluster.admin(from, 7, AdminCall::Transfer(Some(node(to))));
        cluster.pass(lease * 2 + 1000);
        assert_eq!(cluster.outcome(from, 7), Some(AdminOutcome::Transferred(node(to))), "{lease} ms");
        assert_eq!(cluster.leader(), Some(to));
    }
}
