//! The election: when a node asks, campaigns, pulses and steps down.

use crate::support::*;
use std::time::Duration;
use synod::election::{Election, Timing};
use synod::multi::*;
use synod::paxos::ProposalId;

const CAMPAIGN: Effect = Effect::Local(Local::Proposer(ProposerInput::Campaign));
const STEP_DOWN: Effect = Effect::Local(Local::Proposer(ProposerInput::StepDown));

/// Election 1 of a cluster of `count`, briefed at time zero, with the deadline that it asked for.
fn election_of(count: u64, seed: u64) -> (Election, Time) {
    let mut election = Election::heartbeat(node(1), Timing::default(), seed);
    let out = election.take(ElectionInput::Briefing(briefing(voters(count), 0, None)));
    (election, deadline(&out).unwrap())
}

fn election() -> (Election, Time) {
    election_of(3, 7)
}

fn answer(from: u64, nonce: u64, leader: Option<ProposalId>) -> ElectionInput {
    to_election(from, Message::PrePrepareAnswer { nonce, leader })
}

fn ask(nonce: u64) -> Message {
    Message::PrePrepare { nonce }
}

fn state(state: ProposerState) -> ElectionInput {
    ElectionInput::Proposer(state)
}

fn after(at: Time, millis: u64) -> Time {
    at + Duration::from_millis(millis)
}

/// An election that leads under 5.1 since `at`.
fn leading(count: u64, at: Time) -> Election {
    let (mut election, _) = election_of(count, 7);
    election.take_at(at, state(ProposerState::Leading { id: id(5, 1) }));
    election
}

fn heartbeats(out: &[Effect]) -> Vec<(u64, u64)> {
    let beat = |(to, message)| match message {
        Message::Heartbeat { watermark, .. } => Some((to, watermark.get())),
        _ => None,
    };
    sends(out).into_iter().filter_map(beat).collect()
}

// ------------------------------------------------------------------ suspicion and pre-prepare

// protocol 8.1
#[test]
fn a_node_waits_a_window_and_up_to_half_of_it_more_before_it_asks() {
    let mut waits: Vec<Time> = (0..500).map(|seed| election_of(3, seed).1).collect();
    waits.sort();
    assert!(waits[0] >= ms(300) && *waits.last().unwrap() < ms(450));
    assert!(waits[0] < ms(305) && *waits.last().unwrap() > ms(445), "the whole half is used");
}

// protocol 8.1
#[test]
fn asking_spends_no_proposal_id() {
    let (mut election, suspect_at) = election();
    assert_eq!(election.take_at(ms(299), ElectionInput::Wake), [Effect::Deadline(suspect_at)]);
    let out = election.take_at(suspect_at, ElectionInput::Wake);
    let expected = [send(2, ask(1)), send(3, ask(1)), Effect::Deadline(after(suspect_at, 200))];
    assert_eq!(out, expected);
}

// protocol 8.1
#[test]
fn a_quorum_of_no_with_oneself_included_permits_one_campaign() {
    let (mut election, at) = election();
    election.take_at(at, ElectionInput::Wake);
    assert_eq!(election.take_at(at, answer(2, 1, None)), [CAMPAIGN]);
    assert_eq!(election.take_at(at, answer(3, 1, None)), []);
}

// protocol 8.1
#[test]
fn in_a_cluster_of_five_one_no_is_not_enough_and_a_repeat_of_it_is_not_either() {
    let (mut election, at) = election_of(5, 7);
    election.take_at(at, ElectionInput::Wake);
    assert_eq!(election.take_at(at, answer(2, 1, None)), []);
    assert_eq!(election.take_at(at, answer(2, 1, None)), []);
    assert_eq!(election.take_at(at, answer(9, 1, None)), [], "no member");
    assert_eq!(election.take_at(at, answer(3, 1, None)), [CAMPAIGN]);
}

// protocol 8.1
#[test]
fn an_answer_to_an_earlier_question_does_not_count() {
    let (mut election, at) = election();
    let out = election.take_at(at, ElectionInput::Wake);
    let over = deadline(&out).unwrap();
    let again = deadline(&election.take_at(over, ElectionInput::Wake)).unwrap();
    election.take_at(again, ElectionInput::Wake);
    assert_eq!(election.take_at(again, answer(2, 1, None)), []);
    assert_eq!(election.take_at(again, answer(2, 2, None)), [CAMPAIGN]);
}

// protocol 8.1
#[test]
fn a_node_alone_needs_nobody_elses_answer() {
    let (mut election, at) = election_of(1, 7);
    assert_eq!(election.take_at(at, ElectionInput::Wake), [CAMPAIGN]);
}

// protocol 8.1
#[test]
fn a_node_answers_with_the_leader_that_it_heard_within_the_window() {
    let (mut election, _) = election();
    let asked = |election: &mut Election, at| sends(&election.take_at(at, to_election(3, ask(9))));
    let answer = |leader| vec![(3, Message::PrePrepareAnswer { nonce: 9, leader })];
    assert_eq!(asked(&mut election, ms(0)), answer(None));
    election.take_at(ms(100), ElectionInput::Heard { id: id(2, 2) });
    assert_eq!(asked(&mut election, ms(399)), answer(Some(id(2, 2))));
    assert_eq!(asked(&mut election, ms(400)), answer(None));
}

// protocol 8.1
#[test]
fn a_leader_below_the_promise_or_with_a_closed_connection_is_not_vouched_for() {
    let nobody = vec![(3, Message::PrePrepareAnswer { nonce: 9, leader: None })];
    let (mut election, _) = election();
    election.take(ElectionInput::LinkUp { peer: node(2) });
    election.take(ElectionInput::Heard { id: id(2, 2) });
    election.take(ElectionInput::LinkDown { peer: node(2) });
    assert_eq!(sends(&election.take(to_election(3, ask(9)))), nobody);
    election.take(ElectionInput::LinkUp { peer: node(2) });
    assert_ne!(sends(&election.take(to_election(3, ask(9)))), nobody, "it has returned");
    election.take(ElectionInput::Promised { id: id(3, 3) });
    assert_eq!(sends(&election.take(to_election(3, ask(9)))), nobody);
}

// protocol 8.1: two nodes once kept a dead leader in office by telling each other of it.
#[test]
fn a_leader_known_by_hearsay_is_not_vouched_for() {
    let (mut election, at) = election();
    election.take(ElectionInput::LinkUp { peer: node(2) });
    election.take_at(at, ElectionInput::Wake);
    election.take_at(at, answer(3, 1, Some(id(2, 2))));
    let out = election.take_at(at, to_election(3, ask(4)));
    assert_eq!(sends(&out), [(3, Message::PrePrepareAnswer { nonce: 4, leader: None })]);
}

// protocol 8.1
#[test]
fn a_closed_connection_to_the_leader_is_suspicion_at_once_but_not_yet_a_reason() {
    let (mut election, _) = election();
    election.take(ElectionInput::LinkUp { peer: node(2) });
    election.take_at(ms(50), ElectionInput::Heard { id: id(2, 2) });
    let out = election.take_at(ms(60), ElectionInput::LinkDown { peer: node(2) });
    let at = deadline(&out).unwrap();
    assert!(at > ms(60) && at < ms(90));
    let out = election.take_at(at, ElectionInput::Wake);
    assert_eq!(sends(&out), [(2, ask(1)), (3, ask(1))]);
    assert!(!out.contains(&CAMPAIGN));
}

// protocol 8.1
#[test]
fn a_candidate_that_was_promised_gets_time_to_lead() {
    let (mut election, _) = election();
    let out = election.take_at(ms(100), ElectionInput::Promised { id: id(3, 3) });
    let at = deadline(&out).unwrap();
    assert!(at >= ms(100 + 450) && at < ms(100 + 600));
}

// protocol 8.4
#[test]
fn a_silent_leader_for_whom_nobody_vouches_is_forgotten() {
    let (mut election, _) = election();
    let out = election.take_at(ms(10), ElectionInput::Heard { id: id(5, 2) });
    let suspect_at = deadline(&out).unwrap();
    let until = deadline(&election.take_at(suspect_at, ElectionInput::Wake)).unwrap();
    assert_eq!(election.leader(), Some(id(5, 2)), "others may still hear it");
    let out = election.take_at(until, ElectionInput::Wake);
    assert_eq!(events(&out), [Event::Changed { leader: None }]);
}

// protocol 8.4
#[test]
fn a_yes_names_the_leader_starts_the_catch_up_and_ends_the_asking() {
    let (mut election, at) = election();
    election.take(ElectionInput::LinkUp { peer: node(2) });
    election.take_at(at, ElectionInput::Wake);
    let out = election.take_at(at, answer(3, 1, Some(id(2, 2))));
    let behind = LearnerInput::Behind { peer: node(3), through: Slot::MAX, chosen_through: slot(0) };
    assert!(out.contains(&Effect::Local(Local::Learner(behind))));
    assert_eq!(events(&out), [Event::Changed { leader: Some(id(2, 2)) }]);
    assert_eq!(election.leader(), Some(id(2, 2)));
    assert_eq!(election.take_at(at, answer(3, 1, None)), [], "no campaign any more");
    assert!(deadline(&out).unwrap() >= after(at, 300));
}

// protocol 8.1
#[test]
fn a_yes_for_a_leader_that_was_overtaken_is_ignored() {
    let (mut election, _) = election();
    let out = election.take(ElectionInput::Promised { id: id(4, 3) });
    let at = deadline(&out).unwrap();
    election.take_at(at, ElectionInput::Wake);
    assert_eq!(election.take_at(at, answer(3, 1, Some(id(2, 2)))), []);
    assert_eq!(election.take_at(at, answer(2, 1, None)), [CAMPAIGN]);
}

// protocol 8.3
#[test]
fn a_node_whose_roles_do_not_answer_does_not_ask() {
    let (mut election, at) = election();
    election.take(ElectionInput::Healthy(false));
    let out = election.take_at(at, ElectionInput::Wake);
    assert_eq!(sends(&out), []);
    assert!(deadline(&out).unwrap() > at, "it tries again later");
}

// protocol 6.4
#[test]
fn only_a_voter_asks() {
    let mut members = voters(2).members().clone();
    members.insert(node(1), Member { kind: MemberKind::Observer, address: String::new() });
    let mut election = Election::heartbeat(node(1), Timing::default(), 7);
    let briefing = briefing(Membership::new(members, 64).unwrap(), 0, None);
    assert_eq!(election.take(ElectionInput::Briefing(briefing)), []);
    for at in (0..3000).step_by(100) {
        assert_eq!(sends(&election.take_at(ms(at), ElectionInput::Wake)), []);
    }
}

// protocol 6.4
#[test]
fn a_node_asks_from_when_the_membership_that_names_it_is_in_force_until_another_leaves_it_out() {
    let asks = |memberships: &Memberships, chosen_through| {
        let mut election = Election::heartbeat(node(1), Timing::default(), 7);
        let mut briefing = briefing(voters(3), chosen_through, None);
        briefing.memberships = Some(memberships.clone());
        election.take(ElectionInput::Briefing(briefing));
        (0..3000).step_by(100).any(|at| !sends(&election.take_at(ms(at), ElectionInput::Wake)).is_empty())
    };
    let mut memberships = Memberships::bootstrap(voters_of(&[2, 3], 4));
    memberships.learn(slot(2), &voters_of(&[1, 2, 3], 4));
    memberships.learn(slot(9), &voters_of(&[2, 3], 4));
    let asked: Vec<bool> = [5, 6, 12, 13].map(|through| asks(&memberships, through)).into();
    assert_eq!(asked, [false, true, true, false]);
}

// ------------------------------------------------------------------ campaigns

// protocol 8.5
#[test]
fn the_pause_after_a_failed_campaign_grows_and_is_jittered() {
    for seed in 0..50 {
        let (mut election, mut at) = election_of(3, seed);
        for failures in 1..9u32 {
            election.take_at(at, ElectionInput::Wake);
            election.take_at(at, answer(2, u64::from(failures), None));
            election.take_at(at, state(ProposerState::Preparing { id: id(u64::from(failures), 1) }));
            let out = election.take_at(at, state(ProposerState::Idle));
            let pause = (50 << failures).min(2000);
            let next = deadline(&out).unwrap();
            let waited = next.since(at);
            assert!(waited >= Duration::from_millis(pause / 2) && waited < Duration::from_millis(pause));
            at = next;
        }
    }
}

// protocol 8.5
#[test]
fn a_heard_leader_ends_the_back_off() {
    let (mut election, at) = election();
    for number in 1..=6 {
        election.take_at(at, state(ProposerState::Preparing { id: id(number, 1) }));
        election.take_at(at, state(ProposerState::Idle));
    }
    election.take_at(at, ElectionInput::Heard { id: id(7, 2) });
    election.take_at(at, state(ProposerState::Preparing { id: id(8, 1) }));
    let out = election.take_at(at, state(ProposerState::Idle));
    assert!(deadline(&out).unwrap() < after(at, 100));
}

// protocol 8.1
#[test]
fn a_question_that_a_quorum_does_not_answer_is_asked_again_after_a_pause() {
    let (mut election, at) = election();
    let over = deadline(&election.take_at(at, ElectionInput::Wake)).unwrap();
    let again = deadline(&election.take_at(over, ElectionInput::Wake)).unwrap();
    let out = election.take_at(again, ElectionInput::Wake);
    assert_eq!(sends(&out), [(2, ask(2)), (3, ask(2))]);
}

// A proposer that was built anew during its campaign once left the election waiting for the end of it for ever.
#[test]
fn an_election_whose_proposer_was_built_anew_asks_again() {
    let (mut election, at) = election();
    election.take_at(at, ElectionInput::Wake);
    election.take_at(at, answer(2, 1, None));
    let mut rebuilt = proposer(voters(3), 0);
    let told = rebuilt.take(ProposerInput::Briefing(briefing(voters(3), 0, None)));
    let Effect::Local(Local::Election(idle)) = told[0].clone() else { panic!("{told:?}") };
    let next = deadline(&election.take_at(at, idle)).unwrap();
    assert_eq!(sends(&election.take_at(next, ElectionInput::Wake)).len(), 2);
}

// ------------------------------------------------------------------ the pulse

// protocol 8.2
#[test]
fn a_new_leader_speaks_at_once_and_to_every_voter() {
    let mut election = leading(3, ms(0));
    let out = election.take(ElectionInput::Wake);
    assert_eq!(heartbeats(&out), [(2, 0), (3, 0)]);
    assert_eq!(deadline(&out), Some(ms(50)));
}

// protocol 3.2
#[test]
fn a_heartbeat_carries_the_watermark_of_its_own_id_only() {
    let mut election = leading(3, ms(0));
    election.take(ElectionInput::Watermark { through: slot(7) });
    assert_eq!(heartbeats(&election.take_at(ms(0), ElectionInput::Wake)), [(2, 7), (3, 7)]);
    election.take_at(ms(10), state(ProposerState::Leading { id: id(8, 1) }));
    assert_eq!(heartbeats(&election.take_at(ms(60), ElectionInput::Wake)), [(2, 0), (3, 0)]);
}

// protocol 8.2
#[test]
fn observers_hear_the_pulse_while_they_are_connected() {
    let mut election = leading(3, ms(0));
    election.take(ElectionInput::LinkUp { peer: node(9) });
    assert_eq!(heartbeats(&election.take(ElectionInput::Wake)), [(2, 0), (3, 0), (9, 0)]);
}

/// Wakes `election` every 50 ms; `answers` say which peers answer when.
fn lead_on(election: &mut Election, from: u64, to: u64, answers: impl Fn(u64) -> Vec<u64>) -> Option<u64> {
    for at in (from..=to).step_by(50) {
        if election.take_at(ms(at), ElectionInput::Wake).contains(&STEP_DOWN) {
            return Some(at);
        }
        for peer in answers(at) {
            let ack =
                Message::HeartbeatAck { id: id(5, 1), pulse: 1, durable_through: slot(0), witness: false };
            election.take_at(ms(at), to_election(peer, ack));
        }
    }
    None
}

// protocol 8.2
#[test]
fn a_leader_without_a_quorums_answer_for_two_windows_steps_down_and_falls_silent() {
    let mut election = leading(3, ms(0));
    assert_eq!(lead_on(&mut election, 0, 5000, |at| if at <= 1000 { vec![2] } else { vec![] }), Some(1600));
    assert_eq!(election.take_at(ms(1650), ElectionInput::Wake), []);
    assert_eq!(election.leader(), None);
}

// protocol 8.2
#[test]
fn a_leader_keeps_leading_while_a_quorum_answers_whoever_it_is() {
    let mut election = leading(5, ms(0));
    let two_of_four = |at: u64| if at.is_multiple_of(200) { vec![2, 3] } else { vec![4, 5] };
    assert_eq!(lead_on(&mut election, 0, 20_000, two_of_four), None);
    assert_eq!(
        lead_on(&mut election, 20_050, 30_000, |_| vec![2]),
        Some(20_600),
        "two of five are no quorum"
    );
}

// protocol 8.2
#[test]
fn an_answer_under_another_id_is_no_contact() {
    let mut election = leading(3, ms(0));
    for at in (0..600).step_by(50) {
        let ack = Message::HeartbeatAck { id: id(4, 1), pulse: 1, durable_through: slot(0), witness: false };
        election.take_at(ms(at), to_election(2, ack));
        election.take_at(ms(at), ElectionInput::Wake);
    }
    assert!(election.take_at(ms(600), ElectionInput::Wake).contains(&STEP_DOWN));
}

// protocol 8.1, 8.2
#[test]
fn a_leader_says_yes_only_while_it_has_a_quorums_contact() {
    let mut election = leading(3, ms(0));
    let answer = |leader| vec![(3, Message::PrePrepareAnswer { nonce: 1, leader })];
    assert_eq!(sends(&election.take_at(ms(599), to_election(3, ask(1)))), answer(Some(id(5, 1))));
    assert_eq!(sends(&election.take_at(ms(600), to_election(3, ask(1)))), answer(None));
}

// protocol 8.3
#[test]
fn a_leader_that_is_stalled_or_not_well_sends_no_heartbeat() {
    for (bad, good) in [
        (ElectionInput::Stalled(true), ElectionInput::Stalled(false)),
        (ElectionInput::Healthy(false), ElectionInput::Healthy(true)),
    ] {
        let mut election = leading(3, ms(0));
        election.take(bad);
        let out = election.take_at(ms(0), ElectionInput::Wake);
        assert_eq!((heartbeats(&out), deadline(&out)), (vec![], Some(ms(50))));
        election.take(good);
        assert_eq!(heartbeats(&election.take_at(ms(50), ElectionInput::Wake)).len(), 2);
    }
}

// protocol 2.4, 8.2
#[test]
fn a_leader_that_wins_phase_1_anew_stays_the_leader_meanwhile() {
    let mut election = leading(3, ms(0));
    let out = election.take_at(ms(10), state(ProposerState::Preparing { id: id(9, 1) }));
    assert_eq!(events(&out), []);
    let out = election.take_at(ms(20), state(ProposerState::Leading { id: id(9, 1) }));
    assert_eq!(events(&out), [Event::Acquired { id: id(9, 1) }]);
}

// ------------------------------------------------------------------ events

#[test]
fn the_application_hears_of_leadership_acquired_lost_and_changed() {
    let (mut election, _) = election();
    let out = election.take(state(ProposerState::Leading { id: id(1, 1) }));
    assert_eq!(events(&out), [Event::Acquired { id: id(1, 1) }]);
    assert_eq!(events(&election.take(state(ProposerState::Leading { id: id(1, 1) }))), []);
    let out = election.take(ElectionInput::Heard { id: id(2, 2) });
    assert_eq!(events(&out), [Event::Lost, Event::Changed { leader: Some(id(2, 2)) }]);
    assert!(out.contains(&STEP_DOWN));
    assert_eq!(events(&election.take(ElectionInput::Heard { id: id(2, 2) })), []);
    let out = election.take(ElectionInput::Promised { id: id(3, 3) });
    assert_eq!(events(&out), [Event::Changed { leader: None }]);
    let out = election.take(ElectionInput::Heard { id: id(3, 3) });
    assert_eq!(events(&out), [Event::Changed { leader: Some(id(3, 3)) }]);
}

// ------------------------------------------------------------------ transfer, priority, disk

fn take_over(under: (u64, u64)) -> ElectionInput {
    to_election(under.1, Message::TakeOver { id: id(under.0, under.1) })
}

// protocol 8.5
#[test]
fn a_node_that_is_sent_for_campaigns_without_asking_whatever_its_election_and_whoever_leads() {
    for mut election in [election().0, external()] {
        election.take(ElectionInput::Promised { id: id(2, 2) });
        election.take(ElectionInput::Heard { id: id(2, 2) });
        let out = election.take_at(ms(10), take_over((2, 2)));
        assert_eq!((out.contains(&CAMPAIGN), sends(&out)), (true, vec![]));
    }
}

// protocol 8.5
#[test]
fn a_leader_of_the_past_sends_nobody() {
    let (mut election, _) = election();
    election.take(ElectionInput::Promised { id: id(3, 3) });
    assert!(!election.take(take_over((2, 2))).contains(&CAMPAIGN));
}

// protocol 8.5, 6.4
#[test]
fn a_node_that_may_not_lead_leads_already_or_is_not_well_does_not_follow_when_sent_for() {
    let mut witness = Election::heartbeat(node(1), Timing::default(), 7);
    let kinds = [(1, MemberKind::Witness), (2, MemberKind::Voter), (3, MemberKind::Voter)];
    witness.take(ElectionInput::Briefing(briefing(members_of(&kinds, 64), 0, None)));
    let (mut sick, _) = election();
    sick.take(ElectionInput::DiskWell(false));
    let (mut hung, _) = election();
    hung.take(ElectionInput::Healthy(false));
    let (mut abstains, _) = election();
    let briefing = Briefing { votes: false, ..briefing(voters(3), 0, None) };
    abstains.take(ElectionInput::Briefing(briefing));
    for mut election in [witness, sick, hung, abstains, leading(3, ms(0))] {
        assert!(!election.take(take_over((9, 2))).contains(&CAMPAIGN));
    }
}

// protocol 8.1
#[test]
fn priority_delays_a_campaign_by_heartbeats_and_never_prevents_it() {
    let waits = |priority, gone: bool| {
        let mut election = Election::heartbeat(node(1), Timing { priority, ..Timing::default() }, 7);
        let mut out = election.take(ElectionInput::Briefing(briefing(voters(3), 0, None)));
        if gone {
            election.take(ElectionInput::LinkUp { peer: node(2) });
            election.take(ElectionInput::Heard { id: id(2, 2) });
            out = election.take(ElectionInput::LinkDown { peer: node(2) });
        }
        let at = deadline(&out).unwrap();
        election.take_at(at, ElectionInput::Wake);
        election.take_at(at, answer(2, 1, None));
        (at, election.take_at(at, answer(3, 1, None)))
    };
    for gone in [false, true] {
        let (first, _) = waits(0, gone);
        assert_eq!(waits(4, gone).0.since(first), Duration::from_millis(200));
    }
    let mut election = Election::heartbeat(node(1), Timing { priority: 100, ..Timing::default() }, 7);
    let at = deadline(&election.take(ElectionInput::Briefing(briefing(voters(3), 0, None)))).unwrap();
    election.take_at(at, ElectionInput::Wake);
    assert_eq!(election.take_at(at, answer(2, 1, None)), [CAMPAIGN]);
}

// protocol 8.3, fault F25
#[test]
fn a_leader_with_a_sick_disk_steps_down_and_asks_for_no_vote_before_it_is_well() {
    let mut election = leading(3, ms(0));
    let out = election.take_at(ms(10), ElectionInput::DiskWell(false));
    assert!(out.contains(&STEP_DOWN));
    assert_eq!(events(&out), [Event::Lost, Event::Changed { leader: None }]);
    election.take_at(ms(10), state(ProposerState::Idle));
    for at in (50..3000).step_by(50) {
        assert_eq!(sends(&election.take_at(ms(at), ElectionInput::Wake)), []);
    }
    election.take_at(ms(3000), ElectionInput::DiskWell(true));
    let asks = (3000..4000)
        .step_by(50)
        .find(|at| !sends(&election.take_at(ms(*at), ElectionInput::Wake)).is_empty());
    assert!(asks.is_some());
}

// ------------------------------------------------------------------ external mode

fn external() -> Election {
    let mut election = Election::external(node(1), Timing::default(), 7);
    election.take(ElectionInput::Briefing(briefing(voters(3), 0, None)));
    election
}

#[test]
fn an_external_election_campaigns_when_told_and_never_by_itself() {
    let mut election = external();
    for at in (0..5000).step_by(50) {
        assert_eq!(election.take_at(ms(at), ElectionInput::Wake), []);
    }
    assert_eq!(election.take(ElectionInput::Campaign), [CAMPAIGN]);
}

#[test]
fn an_external_election_that_leads_is_not_told_to_campaign_again_and_steps_down_when_told() {
    let mut election = external();
    election.take(state(ProposerState::Leading { id: id(1, 1) }));
    assert_eq!(sends(&election.take(ElectionInput::Campaign)), []);
    let out = election.take(ElectionInput::StepDown);
    assert!(out.contains(&STEP_DOWN));
    assert_eq!(events(&out), [Event::Lost, Event::Changed { leader: None }]);
}

// protocol 8.2
#[test]
fn an_external_leader_pulses_and_steps_down_without_contact_like_any_other() {
    let mut election = external();
    election.take(state(ProposerState::Leading { id: id(1, 1) }));
    assert_eq!(heartbeats(&election.take(ElectionInput::Wake)).len(), 2);
    assert!(election.take_at(ms(600), ElectionInput::Wake).contains(&STEP_DOWN));
}

#[test]
fn a_heartbeat_election_takes_no_orders_to_campaign() {
    let (mut election, _) = election();
    assert!(!election.take(ElectionInput::Campaign).contains(&CAMPAIGN));
}
