//! Formation and admission: who may vote at all, and whom a node lets in.

use crate::support::*;
use synod::multi::*;

/// Acceptor `number`, bootstrapped with three members and an empty log.
fn forming(number: u64) -> Acceptor {
    let bootstrap = Some(voters(3));
    Acceptor::new(identity(number), bootstrap, Sequence(0), Log::default(), Limits::default())
}

fn form(disk: u64, yours: Option<u64>) -> Message {
    Message::Form { membership: voters(3), disk: DiskId(disk), yours: yours.map(DiskId) }
}

fn admit(acceptor: &mut Acceptor, identity: Identity) -> (Vec<Record>, Result<(), Refusal>) {
    let out = acceptor.take(AcceptorInput::Admit { ticket: 5, identity });
    match out.last() {
        Some(Effect::Admission { ticket: 5, verdict, .. }) => (records(&out), verdict.clone()),
        other => panic!("{other:?}"),
    }
}

fn started(number: u64, counters: &[u64]) -> Identity {
    let incarnations =
        counters.iter().map(|counter| Incarnation { counter: *counter, nonce: counter * 10 }).collect();
    Identity { incarnations, ..identity(number) }
}

// ------------------------------------------------------------------ formation

// protocol 9.1
#[test]
fn a_bootstrap_asks_every_other_member_and_asks_again() {
    let mut acceptor = forming(1);
    let out = acceptor.take(AcceptorInput::Start);
    assert_eq!(sends(&out), [(2, form(1, None)), (3, form(1, None))]);
    assert_eq!(deadline(&out), Some(ms(200)));
    let again = acceptor.take_at(ms(200), AcceptorInput::Wake);
    assert_eq!(sends(&again), [(2, form(1, None)), (3, form(1, None))]);
}

// protocol 9.1
#[test]
fn the_cluster_forms_when_every_member_was_heard_and_it_is_written_before_anyone_hears_of_it() {
    let mut acceptor = forming(1);
    assert_eq!(records(&acceptor.take(to_acceptor(2, form(2, None)))), []);
    assert_eq!(acceptor.take(to_acceptor(2, prepare(id(1, 2), 1))), [], "no vote yet");
    let out = acceptor.take(to_acceptor(3, form(3, None)));
    assert_eq!(out[0], persist(1, [formed(voters(3))]));
    assert_eq!(out.last().unwrap(), &send_after(3, form(1, Some(3)), 1));
    assert_eq!(events(&out), [Event::Formed]);
    assert!(!acceptor.take(to_acceptor(2, prepare(id(1, 2), 1))).is_empty());
}

// protocol 9.1
#[test]
fn all_members_form_whatever_the_order_in_which_they_start() {
    for order in [[1, 2, 3], [3, 1, 2], [2, 3, 1]] {
        let mut acceptors: Vec<Acceptor> = (1..=3).map(forming).collect();
        let mut wire = Vec::new();
        for number in order {
            let out = acceptors[number as usize - 1].take(AcceptorInput::Start);
            wire.extend(sends(&out).into_iter().map(|(to, message)| (number, to, message)));
            while let Some((from, to, message)) = wire.pop() {
                let out = acceptors[to as usize - 1].take(to_acceptor(from, message));
                wire.extend(sends(&out).into_iter().map(|(next, message)| (to, next, message)));
            }
        }
        assert!(acceptors.iter().all(|acceptor| acceptor.log().is_formed()), "{order:?}");
    }
}

// protocol 9.1
#[test]
fn a_cluster_of_one_forms_by_itself() {
    let mut acceptor =
        Acceptor::new(identity(1), Some(voters(1)), Sequence(0), Log::default(), Limits::default());
    assert_eq!(events(&acceptor.take(AcceptorInput::Start)), [Event::Formed]);
}

// protocol 9.1, fault F32
#[test]
fn a_member_started_with_another_membership_is_reported_and_does_not_count() {
    let mut acceptor = forming(1);
    acceptor.take(to_acceptor(2, form(2, None)));
    let others = Message::Form { membership: voters(5), disk: DiskId(3), yours: None };
    let out = acceptor.take(to_acceptor(3, others));
    assert_eq!(out, [Effect::Event(Event::FormationDiffers { peer: node(3), outvoted: false })]);
    let alpha = Message::Form { membership: voters_with_alpha(3, 1), disk: DiskId(3), yours: None };
    assert_eq!(
        events(&acceptor.take(to_acceptor(3, alpha))),
        [Event::FormationDiffers { peer: node(3), outvoted: false }]
    );
}

// protocol 9.1, fault F32
#[test]
fn a_member_from_which_most_others_differ_is_the_one_that_stops() {
    let mut acceptor = forming(1);
    let refusal = Refusal::WrongCluster;
    let once = acceptor.take(AcceptorInput::Refused { peer: node(2), refusal: refusal.clone() });
    let repeated = acceptor.take(AcceptorInput::Refused { peer: node(2), refusal: refusal.clone() });
    let others = acceptor.take(AcceptorInput::Refused { peer: node(3), refusal });
    assert_eq!(events(&once), [Event::FormationDiffers { peer: node(2), outvoted: false }]);
    assert_eq!(events(&repeated), [Event::FormationDiffers { peer: node(2), outvoted: false }]);
    assert_eq!(events(&others), [Event::FormationDiffers { peer: node(3), outvoted: true }]);
}

// protocol 9.1
#[test]
fn a_formed_node_tells_a_member_on_another_disk_that_it_has_formed() {
    let mut acceptor = acceptor([]);
    let out = acceptor.take(to_acceptor(2, form(99, None)));
    assert_eq!(sends(&out), [(2, Message::AlreadyFormed { disk: DiskId(2) })]);
    let out = acceptor.take(to_acceptor(2, form(2, None)));
    assert_eq!(sends(&out), [(2, form(1, Some(2)))], "the member itself gets its answer");
    assert_eq!(acceptor.take(to_acceptor(2, form(2, Some(1)))), [], "and then there is silence");
    assert_eq!(acceptor.take(to_acceptor(9, form(9, None))), []);
}

// protocol 9.1, 9.2, fault F30
#[test]
fn a_wiped_member_that_bootstraps_again_never_votes() {
    let mut wiped = forming(2);
    let reason = AbstainReason::AlreadyFormed;
    let out = wiped.take(to_acceptor(1, Message::AlreadyFormed { disk: DiskId(77) }));
    assert_eq!(records(&out), [Record::Abstains { reason }]);
    assert_eq!(events(&out), [Event::Abstains { reason }]);
    let own_disk = forming(2).take(to_acceptor(1, Message::AlreadyFormed { disk: DiskId(2) }));
    assert_eq!(own_disk, [], "its own disk is no news");
}

// protocol 9.1
#[test]
fn a_bootstrap_flag_left_in_place_changes_nothing_after_formation() {
    let log = log(voters(3), []);
    let mut acceptor = Acceptor::new(identity(1), Some(voters(5)), Sequence(10), log, Limits::default());
    let out = acceptor.take(AcceptorInput::Start);
    assert_eq!(sends(&out), []);
    assert_eq!(acceptor.log().memberships().unwrap().newest(), Some(&voters(3)));
}

// protocol 9.1
#[test]
fn a_disk_heard_before_may_be_replaced_until_the_cluster_has_formed() {
    let mut acceptor = forming(1);
    acceptor.take(to_acceptor(2, form(2, None)));
    acceptor.take(to_acceptor(2, form(22, None)));
    acceptor.take(to_acceptor(3, form(3, None)));
    assert_eq!(acceptor.log().formed_disk(node(2)), Some(DiskId(22)));
}

// ------------------------------------------------------------------ admission

// protocol 9.3
#[test]
fn a_peers_newest_start_is_written_before_it_is_let_in() {
    let mut acceptor = acceptor([]);
    let out = acceptor.take(AcceptorInput::Admit { ticket: 5, identity: started(2, &[1, 2]) });
    let incarnation = Incarnation { counter: 2, nonce: 20 };
    let expected = [
        persist(11, [Record::PeerSeen { node: node(2), disk: DiskId(2), incarnation }]),
        Effect::Admission { ticket: 5, verdict: Ok(()), after: Some(Sequence(11)) },
    ];
    assert_eq!(out, expected);
    let again = acceptor.take(AcceptorInput::Admit { ticket: 6, identity: started(2, &[1, 2]) });
    assert_eq!(again, [Effect::Admission { ticket: 6, verdict: Ok(()), after: Some(Sequence(11)) }]);
}

// protocol 9.3, faults F31 and F39: a handshake that was recorded shows the history of its time
#[test]
fn an_old_image_of_a_peers_disk_is_refused() {
    let mut acceptor = acceptor([]);
    admit(&mut acceptor, started(2, &[1, 2])).1.unwrap();
    let (written, verdict) = admit(&mut acceptor, started(2, &[1]));
    assert_eq!(verdict, Err(Refusal::StaleIncarnation { known: Incarnation { counter: 2, nonce: 20 } }));
    assert_eq!(written, []);
    let mut copy = started(2, &[1, 2]);
    copy.incarnations[1].nonce = 21;
    assert!(admit(&mut acceptor, copy).1.is_err(), "a copied disk started as often, with another nonce");
    assert_eq!(admit(&mut acceptor, started(2, &[1, 2, 3])).1, Ok(()));
}

// protocol 9.4
#[test]
fn a_peer_whose_journal_ends_below_its_votes_is_refused() {
    let mut acceptor = acceptor([]);
    admit(&mut acceptor, started(2, &[1])).1.unwrap();
    acceptor.take(AcceptorInput::Votes { sequences: vec![(node(2), Sequence(50))] });
    let at = |sequence| Identity { sequence: Sequence(sequence), ..started(2, &[1, 2]) };
    let refusal = Refusal::StaleJournal { known: Sequence(50), shown: Sequence(49) };
    assert_eq!(admit(&mut acceptor, at(49)).1, Err(refusal));
    assert_eq!(admit(&mut acceptor, started(2, &[1])).1, Ok(()), "the start that voted may connect again");
    assert_eq!(admit(&mut acceptor, at(50)).1, Ok(()));
}

// protocol 9.4
#[test]
fn the_highest_sequence_is_saved_with_the_next_write_and_never_goes_down() {
    let mut acceptor = acceptor([]);
    let votes = |sequence| AcceptorInput::Votes { sequences: vec![(node(2), Sequence(sequence))] };
    assert_eq!(acceptor.take(votes(5)), []);
    assert_eq!(acceptor.take(votes(9)), []);
    assert_eq!(acceptor.take(votes(7)), []);
    let out = acceptor.take(to_acceptor(2, prepare(id(1, 2), 1)));
    let sequence = Record::PeerSequence { node: node(2), sequence: Sequence(9) };
    assert_eq!(records(&out), [sequence, Record::Promised { id: id(1, 2) }]);
}

// protocol 9.2
#[test]
fn a_known_node_on_another_disk_is_refused() {
    let mut acceptor = acceptor([]);
    let mut other = started(2, &[1]);
    other.disk = DiskId(99);
    assert_eq!(admit(&mut acceptor, other).1, Err(Refusal::OtherDisk));
    let mut observer = started(9, &[1]);
    assert_eq!(admit(&mut acceptor, observer.clone()).1, Ok(()));
    observer.disk = DiskId(99);
    assert_eq!(admit(&mut acceptor, observer).1, Err(Refusal::OtherDisk));
}

// protocol 9.3
#[test]
fn a_node_that_is_refused_as_stale_writes_it_down_and_votes_no_more() {
    let refusals = [
        (
            Refusal::StaleIncarnation { known: Incarnation { counter: 9, nonce: 9 } },
            AbstainReason::StaleIncarnation,
        ),
        (Refusal::StaleJournal { known: Sequence(9), shown: Sequence(8) }, AbstainReason::StaleIncarnation),
        (Refusal::OtherDisk, AbstainReason::AlreadyFormed),
    ];
    for (refusal, reason) in refusals {
        let mut acceptor = acceptor([]);
        let out = acceptor.take(AcceptorInput::Refused { peer: node(2), refusal });
        assert_eq!(records(&out), [Record::Abstains { reason }]);
        assert_eq!(acceptor.take(to_acceptor(2, prepare(id(1, 2), 1))), []);
        assert_eq!(sends(&acceptor.take(to_acceptor(2, accept(id(1, 2), 1, &[batch("a")], 0)))), []);
    }
}

// protocol 9.3
#[test]
fn a_refusal_for_another_reason_does_not_cost_the_vote() {
    for refusal in [Refusal::WrongCluster, Refusal::Unavailable, Refusal::NoCommonProtocol, Refusal::OwnId] {
        let mut acceptor = acceptor([]);
        assert_eq!(acceptor.take(AcceptorInput::Refused { peer: node(2), refusal }), []);
    }
}

// protocol 9.3
#[test]
fn an_identity_without_a_start_or_with_too_many_is_refused_without_a_panic() {
    let mut acceptor = acceptor([]);
    assert!(admit(&mut acceptor, started(2, &[])).1.is_err());
    let many: Vec<u64> = (0..2000).collect();
    assert!(admit(&mut acceptor, started(2, &many)).1.is_err());
}

// Law 4: strangers were counted anew at each start, so that their number was not bounded.
#[test]
fn strangers_are_bounded_over_all_starts_and_never_shut_a_member_out() {
    let mut acceptor = acceptor([]);
    let mut written = Vec::new();
    for stranger in 0..256 {
        let (records, verdict) = admit(&mut acceptor, started(1000 + stranger, &[1]));
        assert_eq!(verdict, Ok(()));
        written.extend(records);
    }
    let mut restarted = crate::support::acceptor(written);
    for stranger in 256..300 {
        let (_, verdict) = admit(&mut restarted, started(1000 + stranger, &[1]));
        let expected = if stranger < 259 { Ok(()) } else { Err(Refusal::Unavailable) };
        assert_eq!(verdict, expected, "three places are the members'");
    }
    assert_eq!(admit(&mut restarted, started(2, &[1])).1, Ok(()));
}

// protocol 6.1
#[test]
fn a_membership_whose_quorums_could_miss_each_other_is_refused() {
    let members = || voters(4).members().clone();
    assert!(Membership::with_quorums(members(), 64, 2, 2).is_err());
    assert!(Membership::with_quorums(members(), 64, 3, 2).is_ok());
    assert!(Membership::with_quorums(members(), 64, 5, 1).is_err());
    assert!(Membership::with_quorums(members(), 64, 4, 0).is_err());
    assert!(Membership::with_quorums(members(), 0, 3, 3).is_err());
}

// protocol 6.1, scenario A8
#[test]
fn any_two_majorities_meet() {
    use std::collections::BTreeSet;
    for count in [1, 2, 3, 4, 5, 7] {
        let membership = voters(count);
        let sets: Vec<BTreeSet<_>> = (0..1u32 << count)
            .map(|bits| (1..=count).filter(|n| bits >> (n - 1) & 1 == 1).map(node).collect())
            .filter(|set| membership.is_phase2_quorum(set))
            .collect();
        assert!(sets.iter().all(|set| set.len() as u64 > count / 2 && membership.is_phase1_quorum(set)));
        assert!(sets.iter().all(|one| sets.iter().all(|other| !one.is_disjoint(other))));
    }
}
