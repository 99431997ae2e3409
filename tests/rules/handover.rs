//! Handing over: a leader that is sent away, or left out by the membership, and nodes that are not needed any more.

use crate::support::*;
use synod::multi::*;
use synod::paxos::ProposalId;

const ALPHA: u64 = 2;

fn value(membership: Membership) -> Value {
    Value::Membership(membership)
}

fn refused(ticket: u64, refusal: TransferRefusal) -> (u64, AdminOutcome) {
    (ticket, AdminOutcome::TransferRefused(refusal))
}

/// Who is told to take over.
fn told(effects: &[Effect]) -> Vec<u64> {
    let take_over = |(to, message)| (message == Message::TakeOver { id: id(1, 1) }).then_some(to);
    sends(effects).into_iter().filter_map(take_over).collect()
}

fn held(effects: &[Effect]) -> Vec<u64> {
    let through = |effect: &Effect| match effect {
        Effect::Local(Local::Election(ElectionInput::Held { through })) => Some(through.get()),
        _ => None,
    };
    effects.iter().filter_map(through).collect()
}

fn lead_of(under: ProposalId) -> ProposerInput {
    ProposerInput::Promised { id: under }
}

/// Learns `count` batches that `leader` proposes itself, from slot `first` on.
fn fill(leader: &mut Proposer, first: u64, count: u64) {
    for at in first..first + count {
        leader.take(propose("a"));
        leader.take(learned(at, &[batch("a")]));
    }
}

// ------------------------------------------------------------------ how far a set holds

// protocol 6.5, 4.3
#[test]
fn what_is_held_is_what_a_set_holds_that_meets_every_phase_1_quorum() {
    let mut leader = leader_of(voters(5), &[1, 2, 3]);
    fill(&mut leader, 1, 9);
    assert_eq!(held(&leader.take(progress(1, 9))), []);
    assert_eq!(held(&leader.take(progress(2, 7))), []);
    assert_eq!(held(&leader.take(progress(3, 4))), [4], "three of five, as far as the third");
    assert_eq!(held(&leader.take(progress(4, 6))), [6]);
    assert_eq!(held(&leader.take(progress(4, 6))), [], "said once");
    assert_eq!(held(&leader.take(progress(4, 2))), [], "and never taken back");
}

// protocol 6.5
#[test]
fn held_slots_go_no_further_than_what_the_leader_has_learned() {
    let mut leader = leader_of(voters(3), &[1, 2]);
    fill(&mut leader, 1, 2);
    leader.take(progress(2, 9));
    assert_eq!(held(&leader.take(progress(3, 9))), [2], "above it another membership may be in force");
}

// protocol 4.3, 6.5
#[test]
fn witnesses_and_observers_hold_nothing_for_others() {
    let kinds = [MemberKind::Voter, MemberKind::Voter, MemberKind::Witness, MemberKind::Observer];
    let kinds: Vec<_> = (1..).zip(kinds).collect();
    let mut leader = leader_of(members_of(&kinds, ALPHA), &[1, 2]);
    fill(&mut leader, 1, 2);
    for (peer, expected) in [(1, vec![]), (3, vec![]), (4, vec![]), (9, vec![]), (2, vec![2])] {
        assert_eq!(held(&leader.take(progress(peer, 2))), expected, "after n{peer}");
    }
}

// protocol 6.5
#[test]
fn flexible_sizes_say_how_many_have_to_hold() {
    let members = voters(5).members().clone();
    let mut leader = leader_of(Membership::with_quorums(members, 64, 4, 2).unwrap(), &[1, 2, 3, 4]);
    fill(&mut leader, 1, 1);
    assert_eq!(held(&leader.take(progress(5, 1))), []);
    assert_eq!(held(&leader.take(progress(2, 1))), [1], "two meet every four of five");
}

// ------------------------------------------------------------------ a leader that is left out

/// Leads 1 to 4 and has removed itself: 2, 3 and 4 vote from slot 4 on, and slots 1 to 3 are learned.
fn left_out() -> (Proposer, Vec<Effect>) {
    let mut leader = leader_of(voters_with_alpha(4, ALPHA), &[1, 2, 3]);
    for peer in 2..=4 {
        leader.take(progress(peer, 0));
    }
    leader.take(change(7, Change::Remove { node: node(1) }));
    leader.take(learned(1, &[value(voters_of(&[2, 3, 4], ALPHA))]));
    let mut out = leader.take(learned(2, &[Value::Noop]));
    out.extend(leader.take(learned(3, &[Value::Noop])));
    (leader, out)
}

// protocol 6.5
#[test]
fn a_leader_that_is_left_out_answers_proposes_nothing_more_and_stays_until_others_hold_what_it_led() {
    let (mut leader, out) = left_out();
    let changed = AdminOutcome::Changed(voters_of(&[2, 3, 4], ALPHA));
    assert_eq!(outcomes(&out), [(7, changed)]);
    leader.take(to_proposer(4, promise(id(1, 1), 3, [])));
    assert_eq!(leader.room(), 0);
    assert_eq!(accepts(&leader.take(propose("a"))), []);
    assert_eq!(told(&leader.take(progress(1, 3))), [], "it has no say any more");
    assert_eq!(told(&leader.take(progress(2, 3))), []);
    assert_eq!(told(&leader.take(progress(3, 2))), [], "3 lacks slot 3");
    let out = leader.take(progress(3, 3));
    assert_eq!((held(&out), told(&out)), (vec![3], vec![3]));
    assert_eq!(leader.state(), ProposerState::Leading { id: id(1, 1) }, "until another one comes to lead");
}

// protocol 6.5
#[test]
fn a_leader_that_is_left_out_steps_down_for_its_successor_and_asks_again_if_none_comes() {
    let (mut leader, _) = left_out();
    leader.take(progress(2, 3));
    assert_eq!(told(&leader.take(progress(3, 3))).len(), 1);
    leader.take_at(ms(250), progress(2, 3));
    let again: Vec<u64> =
        (300..=350).step_by(50).flat_map(|at| told(&leader.take_at(ms(at), ProposerInput::Wake))).collect();
    assert_eq!(again.len(), 1, "one window later");
    leader.take_at(ms(360), lead_of(id(2, again[0])));
    assert_eq!(leader.state(), ProposerState::Idle);
}

// protocol 6.5
#[test]
fn a_leader_that_may_only_learn_from_now_on_hands_over_too() {
    let mut leader = leader_of(voters_with_alpha(3, ALPHA), &[1, 2]);
    leader.take(progress(2, 0));
    leader.take(progress(3, 0));
    let observer = member(MemberKind::Observer);
    leader.take(change(7, Change::Add { node: node(1), member: observer }));
    let (voter, observer) = (MemberKind::Voter, MemberKind::Observer);
    let membership = members_of(&[(1, observer), (2, voter), (3, voter)], ALPHA);
    leader.take(learned(1, &[value(membership)]));
    leader.take(learned(2, &[Value::Noop, Value::Noop]));
    assert_eq!(told(&leader.take(progress(3, 3))), [3]);
}

// ------------------------------------------------------------------ a node that is not needed any more

/// Acceptor 1, which a membership at slot 1 leaves out from slot 4 on, with slots through `chosen_through` learned.
fn removed(chosen_through: u64) -> Acceptor {
    let noops = (2..=chosen_through).map(|at| chosen(at, Value::Noop));
    let records = [chosen(1, value(voters_of(&[2, 3], ALPHA)))].into_iter().chain(noops);
    let log = log(voters_with_alpha(3, ALPHA), records);
    Acceptor::new(identity(1), None, Sequence(10), log, Limits::default())
}

// protocol 6.5
#[test]
fn a_removed_node_may_go_when_its_part_is_held_and_not_before() {
    let mut acceptor = removed(3);
    let hear = |acceptor: &mut Acceptor, held| {
        events(&acceptor.take(to_acceptor(2, heartbeat(id(1, 2), held, false))))
    };
    assert_eq!(hear(&mut acceptor, 2), []);
    assert_eq!(hear(&mut acceptor, 3), [Event::Removed]);
    assert_eq!(hear(&mut acceptor, 4), [], "said once");
}

// protocol 6.5
#[test]
fn a_node_that_is_left_out_stays_while_the_old_membership_is_in_force_for_it() {
    let mut acceptor = removed(2);
    let beat = || to_acceptor(2, heartbeat(id(1, 2), 9, false));
    assert_eq!(events(&acceptor.take(beat())), []);
    acceptor.take(AcceptorInput::Store { first: slot(3), values: vec![Value::Noop] });
    assert_eq!(events(&acceptor.take(beat())), [Event::Removed]);
}

// protocol 6.5
#[test]
fn a_leader_that_was_overtaken_sends_nobody_away() {
    let mut acceptor = removed(3);
    acceptor.take(to_acceptor(3, prepare(id(5, 3), 4)));
    assert_eq!(events(&acceptor.take(to_acceptor(2, heartbeat(id(1, 2), 9, false)))), []);
}

// protocol 6.5
#[test]
fn a_member_and_a_node_that_was_never_one_are_not_sent_away() {
    let member = acceptor([chosen(1, Value::Noop)]);
    let log = log(voters_of(&[2, 3], 64), []);
    let joining = Acceptor::new(identity(1), None, Sequence(10), log, Limits::default());
    for mut acceptor in [member, joining] {
        assert_eq!(events(&acceptor.take(to_acceptor(2, heartbeat(id(1, 2), 99, false)))), []);
    }
}

// ------------------------------------------------------------------ transfer

/// Leads 1, 2 and 3; all are near, 3 nearest.
fn near() -> Proposer {
    let mut leader = leader_of(voters(3), &[1, 2]);
    fill(&mut leader, 1, 3);
    leader.take(progress(2, 2));
    leader.take(progress(3, 3));
    leader
}

// protocol 8.5
#[test]
fn a_transfer_admits_nothing_new_and_waits_until_nothing_is_open() {
    let mut leader = near();
    leader.take(propose("open"));
    let out = leader.take(transfer(7, Some(2)));
    assert_eq!((told(&out), leader.room()), (vec![], 0));
    assert_eq!(events(&leader.take(propose("new"))), [Event::BatchRefused { batch: "new".into() }]);
    assert_eq!(told(&leader.take(learned(4, &[batch("open")]))), [2]);
    let out = leader.take(lead_of(id(2, 2)));
    assert_eq!(outcomes(&out), [(7, AdminOutcome::Transferred(node(2)))]);
    assert_eq!(leader.state(), ProposerState::Idle);
}

// protocol 8.5
#[test]
fn without_a_target_the_lead_goes_to_the_voter_that_is_nearest() {
    assert_eq!(told(&near().take(transfer(7, None))), [3]);
}

// protocol 8.5
#[test]
fn a_transfer_to_the_leader_itself_is_done() {
    let mut leader = near();
    let out = leader.take(transfer(7, Some(1)));
    assert_eq!(outcomes(&out), [(7, AdminOutcome::Transferred(node(1)))]);
    assert!(leader.room() > 0);
}

// protocol 8.5
#[test]
fn a_leader_whose_successor_does_not_come_admits_again_after_a_window() {
    let mut leader = near();
    leader.take_at(ms(0), transfer(7, Some(2)));
    let out: Vec<_> =
        (50..300).step_by(50).flat_map(|at| leader.take_at(ms(at), ProposerInput::Wake)).collect();
    assert_eq!((outcomes(&out), leader.room()), (vec![], 0));
    let out = leader.take_at(ms(300), ProposerInput::Wake);
    assert_eq!(outcomes(&out), [refused(7, TransferRefusal::TimedOut)]);
    assert!(leader.room() > 0);
}

// protocol 8.5
#[test]
fn another_candidate_than_the_one_that_was_sent_for_does_not_end_the_lead() {
    let mut leader = near();
    leader.take(transfer(7, Some(2)));
    assert_eq!(outcomes(&leader.take(lead_of(id(2, 3)))), []);
    assert_eq!(leader.state(), ProposerState::Leading { id: id(1, 1) });
    let out = leader.take(to_proposer(3, nack(id(1, 1), id(3, 2))));
    assert_eq!(outcomes(&out), [(7, AdminOutcome::Transferred(node(2)))], "a refusal tells it as well");
}

// protocol 8.5
#[test]
fn a_transfer_to_a_node_that_lags_is_silent_or_does_not_vote_is_refused_with_its_reason() {
    let limits = Limits { near_slots: 2, ..Limits::default() };
    let (voter, witness, observer) = (MemberKind::Voter, MemberKind::Witness, MemberKind::Observer);
    let kinds = [(1, voter), (2, voter), (3, voter), (4, witness), (5, observer)];
    let mut leader = leader_with(limits, members_of(&kinds, 64), &[1, 2, 3]);
    fill(&mut leader, 1, 8);
    for (peer, through) in [(2, 5), (4, 8), (5, 8)] {
        leader.take_at(ms(0), progress(peer, through));
    }
    let refusals = [
        (2, TransferRefusal::Lags { node: node(2), slots: 3 }),
        (3, TransferRefusal::Lags { node: node(3), slots: 8 }),
        (4, TransferRefusal::NotAVoter { node: node(4) }),
        (5, TransferRefusal::NotAVoter { node: node(5) }),
        (9, TransferRefusal::NotAVoter { node: node(9) }),
    ];
    for (to, refusal) in refusals {
        assert_eq!(outcomes(&leader.take(transfer(to, Some(to)))), [refused(to, refusal)]);
    }
    assert_eq!(outcomes(&leader.take(transfer(7, None))), [refused(7, TransferRefusal::Nobody)]);
    leader.take_at(ms(0), progress(2, 6));
    assert_eq!(told(&leader.take_at(ms(599), transfer(8, Some(2)))), [2], "two slots are near");
    leader.take_at(ms(900), ProposerInput::Wake);
    let lags = TransferRefusal::Lags { node: node(2), slots: 2 };
    assert_eq!(
        outcomes(&leader.take_at(ms(901), transfer(9, Some(2)))),
        [refused(9, lags)],
        "heard long ago"
    );
}

// protocol 6.2, 8.5
#[test]
fn a_transfer_and_a_change_are_refused_while_another_one_is_under_way() {
    let mut leader = near();
    leader.take(transfer(7, Some(2)));
    let out = leader.take(transfer(8, Some(3)));
    assert_eq!(outcomes(&out), [refused(8, TransferRefusal::InProgress)]);
    let out = leader.take(change(9, Change::Remove { node: node(3) }));
    assert_eq!(outcomes(&out), [(9, AdminOutcome::ChangeRefused(ChangeRefusal::InProgress))]);
    let mut leader = near();
    let four = Change::Add { node: node(4), member: member(MemberKind::Voter) };
    leader.take(change(7, four));
    let out = leader.take(transfer(8, Some(3)));
    assert_eq!(outcomes(&out), [refused(8, TransferRefusal::InProgress)]);
}

// protocol 8.5
#[test]
fn a_leader_that_steps_down_meanwhile_does_not_know_who_leads_next() {
    let mut leader = near();
    leader.take(transfer(7, Some(2)));
    assert_eq!(outcomes(&leader.take(ProposerInput::StepDown)), [(7, AdminOutcome::Unknown)]);
}

// ------------------------------------------------------------------ whole clusters

impl Cluster {
    /// Makes `number` a voter, and fails unless that is in force within ten seconds.
    fn grow(&mut self, number: u64) {
        self.join(number, true);
        let leader = self.leader().unwrap();
        let four = Change::Add { node: node(number), member: member(MemberKind::Voter) };
        self.admin(leader, number, AdminCall::Change(four));
        self.pass(10_000);
        assert!(matches!(self.outcome(leader, number), Some(AdminOutcome::Changed(_))));
    }
}

// protocol 6.2, 6.3
#[test]
fn a_cluster_of_one_grows_to_three_and_then_survives_a_loss() {
    let mut cluster = Cluster::new(voters_with_alpha(1, 4), true);
    cluster.pass(1000);
    cluster.propose(1, "a");
    cluster.grow(2);
    cluster.grow(3);
    let memberships = cluster.node(3).acceptor.log().memberships().cloned().unwrap();
    assert_eq!(memberships.newest(), Some(&voters_with_alpha(3, 4)));
    cluster.propose(1, "b");
    cluster.pass(1000);
    cluster.crash(1);
    cluster.pass(5000);
    let leader = cluster.leader().unwrap();
    cluster.propose(leader, "c");
    cluster.pass(1000);
    let texts = |cluster: &Cluster, number| -> Vec<Value> {
        let values = cluster.delivered(number).into_iter().map(|(_, value)| value);
        values.filter(|value| matches!(value, Value::Batch(_))).collect()
    };
    for number in [2, 3] {
        assert_eq!(texts(&cluster, number), [batch("a"), batch("b"), batch("c")], "at n{number}");
    }
}

// protocol 6.5
#[test]
fn a_leader_that_is_removed_hands_over_and_is_told_that_it_may_go() {
    let mut cluster = Cluster::new(voters_with_alpha(3, 4), true);
    cluster.pass(2000);
    let leader = cluster.leader().unwrap();
    cluster.admin(leader, 7, AdminCall::Change(Change::Remove { node: node(leader) }));
    cluster.pass(2000);
    assert!(matches!(cluster.outcome(leader, 7), Some(AdminOutcome::Changed(_))));
    let next = cluster.leader().unwrap();
    assert_ne!(next, leader);
    assert!(cluster.machines[&leader].events.contains(&Event::Removed));
    let other = (1..=3).find(|number| *number != leader && *number != next).unwrap();
    assert!(!cluster.machines[&other].events.contains(&Event::Removed));
    cluster.crash(leader);
    cluster.propose(next, "a");
    cluster.pass(1000);
    assert_eq!(cluster.delivered(other).last().unwrap().1, batch("a"));
}

// protocol 8.5: without a pre-prepare, and long before anybody would miss the leader.
#[test]
fn the_lead_goes_to_the_node_it_is_sent_to_at_once() {
    let mut cluster = Cluster::new(voters(3), true);
    cluster.pass(2000);
    let leader = cluster.leader().unwrap();
    for to in (1..=3).filter(|number| *number != leader) {
        let from = cluster.leader().unwrap();
        cluster.admin(from, to, AdminCall::Transfer(Some(node(to))));
        cluster.pass(100);
        assert_eq!(cluster.outcome(from, to), Some(AdminOutcome::Transferred(node(to))));
        assert_eq!(cluster.leader(), Some(to));
        cluster.pass(100);
    }
}
