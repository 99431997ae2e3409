//! Snapshots: where the log begins, how it is cut there, and how a node that is too far behind begins there too.

use crate::support::*;
use bytes::Bytes;
use std::collections::BTreeSet;
use std::time::Duration;
use synod::multi::*;

const CHUNK: usize = 4;

fn limits() -> Limits {
    Limits { snapshot_chunk_bytes: CHUNK, ..Limits::default() }
}

fn snapshot(through: u64, bytes: u64) -> SnapshotId {
    SnapshotId { through: slot(through), bytes, checksum: 7 }
}

fn base(snapshot: SnapshotId) -> Base {
    let memberships = Memberships::bootstrap(voters(3));
    Base { through: snapshot.through, memberships, disks: [].into(), snapshot: Some(snapshot) }
}

fn bare(through: u64) -> Base {
    Base { snapshot: None, ..base(snapshot(through, 0)) }
}

fn offer(from: u64, snapshot: SnapshotId) -> LearnerInput {
    to_learner(from, Message::Base { base: Box::new(base(snapshot)) })
}

fn part(from: u64, snapshot: SnapshotId, at: u64, bytes: &'static [u8]) -> LearnerInput {
    to_learner(from, Message::SnapshotChunk { snapshot, at, bytes: Bytes::from_static(bytes) })
}

fn fetch(snapshot: SnapshotId, at: u64) -> Message {
    Message::FetchSnapshot { snapshot, at, bytes_max: CHUNK as u32 }
}

fn ask(above: u64) -> Message {
    Message::AskBase { above: slot(above) }
}

fn catch_up(from: u64) -> Message {
    Message::CatchUp { from: slot(from), bytes_max: 1 << 20 }
}

fn held(bytes: u64) -> LearnerInput {
    LearnerInput::SnapshotHeld { bytes: Some(bytes) }
}

fn write(at: u64, bytes: &'static [u8]) -> SnapshotTask {
    SnapshotTask::Write { at, bytes: Bytes::from_static(bytes) }
}

fn replay(from: u64) -> Effect {
    Effect::Local(Local::Acceptor(AcceptorInput::Replay { from: slot(from) }))
}

fn install(base: Base) -> Effect {
    Effect::Local(Local::Acceptor(AcceptorInput::Install { base }))
}

fn begin(base: Base) -> Effect {
    Effect::Local(Local::Learner(LearnerInput::Begin { base }))
}

fn learned(first: u64, last: u64) -> LearnerInput {
    let values = (first..=last).map(|at| (slot(at), batch("x"))).collect();
    LearnerInput::Learned { values, chosen_through: slot(last), replay: false }
}

fn tasks(effects: &[Effect]) -> Vec<SnapshotTask> {
    let task = |effect: &Effect| match effect {
        Effect::Snapshot(task) => Some(task.clone()),
        _ => None,
    };
    effects.iter().filter_map(task).collect()
}

fn delivered(effects: &[Effect]) -> Vec<u64> {
    let at = |effect: &Effect| match effect {
        Effect::Deliver { slot, .. } => Some(slot.get()),
        _ => None,
    };
    effects.iter().filter_map(at).collect()
}

/// Learner 1 of three, connected with the others, which has applied through slot 2.
fn learner() -> Learner {
    let mut learner = Learner::new(node(1), limits(), 1);
    learner.take(LearnerInput::Briefing(briefing(voters(3), 2, None)));
    [2, 3].into_iter().for_each(|peer| drop(learner.take(LearnerInput::LinkUp { peer: node(peer) })));
    learner.take(learned(1, 2));
    learner
}

/// One that is fetching `snapshot` from node 2 and has asked for the byte `held` on.
fn fetching(snapshot: SnapshotId, already: u64) -> Learner {
    let mut learner = learner();
    learner.take(offer(2, snapshot));
    let out = learner.take(held(already));
    assert_eq!(sends(&out), [(2, fetch(snapshot, already))]);
    learner
}

/// Time-outs one after the other, from `from` on; what is sent at each.
fn time_outs(learner: &mut Learner, from: u64, count: u64) -> Vec<(u64, Message)> {
    let wake = |nth| sends(&learner.take_at(ms(from + 300 * nth), LearnerInput::Wake));
    (1..=count).flat_map(wake).collect()
}

// ------------------------------------------------------------------ cutting

// protocol 4.2
#[test]
fn the_log_is_cut_behind_a_snapshot_that_a_durable_base_names() {
    let mut acceptor = acceptor((1..=6).map(|at| chosen(at, batch("x"))));
    let taken = snapshot(4, 9);
    let out = acceptor.take(AcceptorInput::SnapshotTaken { snapshot: taken });
    assert!(
        matches!(&records(&out)[..], [Record::Based { base }] if base.snapshot == Some(taken)),
        "{out:?}"
    );
    let trims = |out: &[Effect]| out.iter().filter(|effect| matches!(effect, Effect::Trim { .. })).count();
    assert_eq!(trims(&out), 0, "the base is not durable yet");
    let base = acceptor.log().base().unwrap().clone();
    let out = acceptor.take(AcceptorInput::Persisted { sequence: Sequence(11) });
    let facts = acceptor.log().facts();
    assert_eq!(out, [begin(base), Effect::Trim { through: slot(4), facts }]);
    let out = acceptor.take(AcceptorInput::Persisted { sequence: Sequence(12) });
    assert_eq!(trims(&out), 0, "once is enough");
}

// protocol 4.2
#[test]
fn a_snapshot_at_or_below_the_base_or_above_what_is_learned_cuts_nothing() {
    let first = Record::Based { base: base(snapshot(4, 9)) };
    let mut acceptor = acceptor((1..=6).map(|at| chosen(at, batch("x"))).chain([first]));
    for (through, bytes) in [(3, 8), (4, 9), (7, 8)] {
        let out = acceptor.take(AcceptorInput::SnapshotTaken { snapshot: snapshot(through, bytes) });
        assert_eq!(out, [begin(base(snapshot(4, 9)))], "the learner hears what stands");
    }
}

// protocol 4.2, fault F10
#[test]
fn a_snapshot_that_was_drawn_anew_takes_the_place_of_a_damaged_one() {
    let first = Record::Based { base: base(snapshot(4, 9)) };
    let mut acceptor = acceptor((1..=6).map(|at| chosen(at, batch("x"))).chain([first]));
    acceptor.take(AcceptorInput::SnapshotTaken { snapshot: snapshot(4, 8) });
    assert_eq!(acceptor.log().base().unwrap().snapshot, Some(snapshot(4, 8)));
    assert_eq!(acceptor.log().chosen_through(), slot(6));
}

// protocol 4.2
#[test]
fn whoever_asks_for_what_was_cut_is_told_where_the_log_begins() {
    let base = base(snapshot(4, 9));
    let mut acceptor = acceptor([Record::Based { base: base.clone() }, chosen(5, batch("x"))]);
    let out = acceptor.take(to_acceptor(3, catch_up(4)));
    assert_eq!(out, [send_after(3, Message::Base { base: Box::new(base) }, 10)]);
    let out = acceptor.take(to_acceptor(3, catch_up(5)));
    assert!(matches!(&sends(&out)[..], [(3, Message::Chosen { .. })]), "{out:?}");
}

// fault F10
#[test]
fn whoever_asks_for_a_higher_base_has_one_taken_and_then_gets_it() {
    let mut acceptor = acceptor((1..=6).map(|at| chosen(at, batch("x"))));
    let take = Effect::Local(Local::Learner(LearnerInput::TakeSnapshot));
    assert_eq!(acceptor.take(to_acceptor(3, ask(5))), [take]);
    acceptor.take(AcceptorInput::SnapshotTaken { snapshot: snapshot(6, 9) });
    let out = acceptor.take(to_acceptor(3, ask(5)));
    let base = acceptor.log().base().unwrap().clone();
    assert_eq!(out, [send_after(3, Message::Base { base: Box::new(base) }, 11)], "when it is durable");
}

fn heartbeat(held_through: u64) -> AcceptorInput {
    let (watermark, held_through) = (slot(0), slot(held_through));
    to_acceptor(2, Message::Heartbeat { id: id(9, 2), watermark, held_through, pulse: 1, lease: false })
}

// protocol 4.3
#[test]
fn a_witness_forgets_only_what_enough_full_nodes_are_said_to_hold() {
    let mut witness = acceptor((1..=2000).map(|at| chosen(at, batch("x")))).witness();
    assert_eq!(records(&witness.take(heartbeat(1000))), [], "not for so few slots");
    let out = witness.take(heartbeat(1500));
    let bases: Vec<Record> = records(&out);
    assert!(
        matches!(&bases[..], [Record::Based { base }] if base.through == slot(1500) && base.snapshot.is_none()),
        "{bases:?}"
    );
}

// protocol 4.3
#[test]
fn a_witness_takes_a_base_without_its_snapshot_and_only_where_enough_full_nodes_hold_what_is_below() {
    let mut learner = Learner::new(node(1), limits(), 1).witness();
    learner.take(LearnerInput::Briefing(briefing(voters(3), 0, None)));
    let out = learner.take(offer(2, snapshot(50, 9)));
    assert_eq!(out[0], install(bare(50)));
    assert_eq!(tasks(&out), []);
    let mut acceptor = acceptor([]).witness();
    assert_eq!(records(&acceptor.take(AcceptorInput::Install { base: bare(50) })), []);
    acceptor.take(heartbeat(49));
    assert_eq!(records(&acceptor.take(AcceptorInput::Install { base: bare(50) })), []);
    acceptor.take(heartbeat(50));
    let out = acceptor.take(AcceptorInput::Install { base: bare(50) });
    assert_eq!(records(&out), [Record::Based { base: bare(50) }]);
}

// protocol 4.3
#[test]
fn a_witness_delivers_takes_and_gives_nothing() {
    let mut learner = Learner::new(node(1), limits(), 1).witness();
    learner.take(LearnerInput::Briefing(briefing(voters(3), 0, None)));
    let mut out = learner.take(LearnerInput::Start);
    out.extend(learner.take(learned(1, 3)));
    out.extend(learner.take(LearnerInput::TakeSnapshot));
    out.extend(learner.take(LearnerInput::Begin { base: bare(9) }));
    assert_eq!(out, [], "nothing is asked for again either");
    let wanted = snapshot(9, 9);
    let out = learner.take(to_learner(2, fetch(wanted, 0)));
    assert_eq!(sends(&out), [(2, Message::SnapshotChunk { snapshot: wanted, at: 0, bytes: Bytes::new() })]);
    let behind = LearnerInput::Behind { peer: node(2), through: slot(12), chosen_through: slot(9) };
    assert_eq!(sends(&learner.take(behind)), [(2, catch_up(10))], "it fetches what its acceptor lacks");
}

// ------------------------------------------------------------------ installing

// protocol 5.2, scenario M6
#[test]
fn a_snapshot_is_durable_then_the_base_then_the_state_and_then_the_log_goes_on() {
    let whole = snapshot(9, 6);
    let mut learner = learner();
    assert_eq!(tasks(&learner.take(offer(2, whole))), [SnapshotTask::Begin { snapshot: whole }]);
    assert_eq!(sends(&learner.take(held(0))), [(2, fetch(whole, 0))]);
    assert_eq!(tasks(&learner.take(part(2, whole, 0, b"abcd"))), [write(0, b"abcd")]);
    assert_eq!(sends(&learner.take(held(4))), [(2, fetch(whole, 4))]);
    assert_eq!(tasks(&learner.take(part(2, whole, 4, b"ef"))), [write(4, b"ef")]);
    assert_eq!(tasks(&learner.take(held(6))), [SnapshotTask::Seal { snapshot: whole }]);
    let out = learner.take(LearnerInput::SnapshotSealed { sealed: true });
    assert_eq!(out[0], install(base(whole)));
    assert_eq!(tasks(&out), []);
    let out = learner.take(LearnerInput::Begin { base: base(whole) });
    assert_eq!(tasks(&out), [SnapshotTask::Restore { snapshot: whole }]);
    assert_eq!(learner.applied_through(), slot(2));
    learner.take(LearnerInput::Restored { snapshot: whole, restored: true });
    assert_eq!(learner.applied_through(), slot(9));
    assert_eq!(delivered(&learner.take(learned(10, 11))), [10, 11]);
}

// protocol 5.2
#[test]
fn nothing_is_delivered_between_the_beginning_of_a_transfer_and_the_restored_state() {
    let whole = snapshot(9, 4);
    let mut learner = learner();
    let inputs = [
        offer(2, whole),
        held(0),
        part(2, whole, 0, b"abcd"),
        held(4),
        LearnerInput::SnapshotSealed { sealed: true },
        LearnerInput::Begin { base: base(whole) },
    ];
    for input in inputs {
        learner.take(input);
        assert_eq!(delivered(&learner.take(learned(3, 4))), []);
    }
    let out = learner.take(LearnerInput::Restored { snapshot: whole, restored: true });
    assert_eq!(delivered(&out), []);
    assert_eq!(learner.applied_through(), slot(9));
    assert_eq!(
        delivered(&learner.take(learned(3, 10))),
        [10],
        "what the snapshot holds is not applied again"
    );
}

// protocol 5.2, scenario M6
#[test]
fn installing_keeps_the_promise_and_every_accepted_entry_above() {
    let open = [3, 4, 5, 6].map(|at| accepted(at, id(7, 3), batch("x")));
    let mut acceptor = acceptor([Record::Promised { id: id(8, 2) }].into_iter().chain(open));
    acceptor.take(AcceptorInput::Install { base: base(snapshot(4, 9)) });
    let log = acceptor.log();
    assert_eq!((log.promised(), log.chosen_through()), (Some(id(8, 2)), slot(4)));
    let held: Vec<bool> = (3..=6).map(|at| log.entry(slot(at)).is_some()).collect();
    assert_eq!(held, [false, false, true, true]);
}

// 1.6, 6.3: a leader once proposed under the membership before the one that the base names, and two values were chosen.
#[test]
fn the_memberships_of_a_base_are_told_before_what_is_learned_above_it_and_a_leader_that_jumps_gives_up() {
    let above = [accepted(5, id(7, 3), batch("e")), Record::Watermark { id: id(7, 3), through: slot(5) }];
    let mut acceptor = acceptor(above);
    let out = acceptor.take(AcceptorInput::Install { base: base(snapshot(4, 9)) });
    let told: Vec<ProposerInput> = out
        .into_iter()
        .filter_map(|effect| match effect {
            Effect::Local(Local::Proposer(input)) => Some(input),
            _ => None,
        })
        .collect();
    assert!(matches!(&told[..], [ProposerInput::Briefing(_), ProposerInput::Learned { .. }, ..]), "{told:?}");
    let mut leader = leader(0);
    (1..=9).for_each(|_| drop(leader.take(propose("x"))));
    leader.take(told.into_iter().next().unwrap());
    assert_eq!(leader.state(), ProposerState::Idle);
}

// protocol 5.2
#[test]
fn accepts_above_the_base_go_on_and_those_below_are_told_what_was_chosen() {
    let mut acceptor = acceptor([]);
    acceptor.take(AcceptorInput::Install { base: base(snapshot(4, 9)) });
    let values = [batch("d"), batch("e")];
    let out = acceptor.take(to_acceptor(2, accept(id(1, 2), 4, &values, 0)));
    let said: Vec<Message> = sends(&out).into_iter().map(|(_, message)| message).collect();
    let accepted = Message::Accepted { id: id(1, 2), slots: vec![interval(5, 5)], sequence: Sequence(12) };
    assert_eq!(said[0], accepted);
    assert!(matches!(said[1], Message::Base { .. }), "{said:?}");
}

// protocol 5.2
#[test]
fn the_learner_begins_when_the_record_of_the_base_is_durable_and_no_earlier() {
    let mut acceptor = acceptor([]);
    let out = acceptor.take(AcceptorInput::Install { base: base(snapshot(4, 9)) });
    assert!(!out.contains(&begin(base(snapshot(4, 9)))));
    assert_eq!(acceptor.take(AcceptorInput::Replay { from: slot(1) }), [], "also if it asks meanwhile");
    let out = acceptor.take(AcceptorInput::Persisted { sequence: Sequence(11) });
    assert!(out.contains(&begin(base(snapshot(4, 9)))), "{out:?}");
    assert_eq!(events(&out), [Event::Installed { through: slot(4) }]);
}

// protocol 5.2: the acceptor may have been built anew and have forgotten what it was told.
#[test]
fn an_install_that_is_not_answered_is_said_again_and_one_below_the_own_base_is_answered_with_that() {
    let whole = snapshot(9, 0);
    let mut learner = learner();
    learner.take(offer(2, whole));
    learner.take(held(0));
    learner.take(LearnerInput::SnapshotSealed { sealed: true });
    let out = learner.take_at(ms(300), LearnerInput::Wake);
    assert_eq!(out[0], install(base(whole)));
    let own = base(snapshot(20, 9));
    let mut acceptor = acceptor([Record::Based { base: own.clone() }]);
    assert_eq!(acceptor.take(AcceptorInput::Install { base: base(whole) }), [begin(own)]);
}

// protocol 5.2
#[test]
fn a_base_at_or_below_what_is_applied_or_learned_is_ignored() {
    let mut learner = learner();
    assert_eq!(tasks(&learner.take(offer(2, snapshot(2, 9)))), []);
    learner.take(LearnerInput::Learned { values: vec![], chosen_through: slot(9), replay: false });
    assert_eq!(tasks(&learner.take(offer(2, snapshot(9, 9)))), []);
    assert_eq!(tasks(&learner.take(LearnerInput::Begin { base: base(snapshot(2, 9)) })), []);
    assert_eq!(tasks(&learner.take(offer(2, snapshot(10, 9)))).len(), 1);
}

// protocol 5.1: a base names the slot of its snapshot.
#[test]
fn a_base_whose_snapshot_is_of_another_slot_is_ignored() {
    let mut learner = learner();
    let odd = Base { through: slot(20), ..base(snapshot(9, 9)) };
    assert_eq!(tasks(&learner.take(to_learner(2, Message::Base { base: Box::new(odd) }))), []);
}

// protocol 5.1: a witness has no state to give.
#[test]
fn a_full_node_does_not_begin_above_the_first_slot_without_a_state_but_asks_another_peer() {
    let mut learner = Learner::new(node(4), limits(), 1);
    learner.take(LearnerInput::Briefing(Briefing {
        memberships: None,
        chosen_through: slot(0),
        promised: None,
        votes: false,
    }));
    let out = learner.take(LearnerInput::LinkUp { peer: node(2) });
    assert_eq!(sends(&out), [(2, ask(0))]);
    let witness = to_learner(2, Message::Base { base: Box::new(bare(50)) });
    assert_eq!(learner.take(witness.clone()), [], "it is not asked again at once");
    learner.take(LearnerInput::LinkUp { peer: node(3) });
    learner.take(witness);
    let asked: BTreeSet<u64> = time_outs(&mut learner, 0, 12).into_iter().map(|(to, _)| to).collect();
    assert!(asked.contains(&3), "{asked:?}");
    assert_eq!(tasks(&learner.take(offer(3, snapshot(50, 9)))).len(), 1);
}

// ------------------------------------------------------------------ fetching

// protocol 5.1
#[test]
fn a_lost_part_is_asked_for_again_and_a_repeated_or_overtaken_one_is_written_once() {
    let whole = snapshot(9, 12);
    let mut learner = fetching(whole, 0);
    learner.take(LearnerInput::LinkDown { peer: node(3) });
    assert_eq!(time_outs(&mut learner, 0, 1), [(2, fetch(whole, 0))]);
    assert_eq!(tasks(&learner.take(part(2, whole, 0, b"abcd"))), [write(0, b"abcd")]);
    assert_eq!(tasks(&learner.take(part(2, whole, 0, b"abcd"))), [], "while it is written");
    learner.take(held(4));
    assert_eq!(tasks(&learner.take(part(2, whole, 0, b"abcd"))), [], "and after it");
    assert_eq!(tasks(&learner.take(part(2, whole, 8, b"ijkl"))), [], "a part ahead of its turn");
    assert_eq!(tasks(&learner.take(part(2, whole, 4, b"efgh"))), [write(4, b"efgh")]);
}

// protocol 5.1
#[test]
fn parts_of_another_snapshot_of_a_stranger_or_of_the_wrong_size_are_dropped() {
    let whole = snapshot(9, 6);
    let mut learner = fetching(whole, 4);
    let wrong = [
        part(2, snapshot(10, 6), 4, b"ef"),
        part(2, SnapshotId { checksum: 8, ..whole }, 4, b"ef"),
        part(3, whole, 4, b"ef"),
        part(2, whole, 4, b"efg"),
        part(2, whole, 4, b"efghi"),
    ];
    for input in wrong {
        assert_eq!(learner.take(input.clone()), [], "{input:?}");
    }
    assert_eq!(tasks(&learner.take(part(2, whole, 4, b"ef"))), [write(4, b"ef")]);
    let mut idle = self::learner();
    assert_eq!(idle.take(part(2, whole, 0, b"abcd")), [], "nobody asked for it");
}

// protocol 5.1
#[test]
fn a_transfer_goes_on_at_the_same_byte_with_a_peer_that_holds_the_same_snapshot() {
    let whole = snapshot(9, 12);
    let mut learner = fetching(whole, 0);
    learner.take(part(2, whole, 0, b"abcd"));
    learner.take(held(4));
    let out = learner.take(LearnerInput::LinkDown { peer: node(2) });
    assert_eq!(sends(&out), [(3, ask(9))], "whoever held it is gone: another is asked what it has");
    assert_eq!(sends(&learner.take(offer(3, whole))), [(3, fetch(whole, 4))]);
    assert_eq!(tasks(&learner.take(part(3, whole, 4, b"efgh"))), [write(4, b"efgh")]);
}

// protocol 5.1
#[test]
fn a_transfer_begun_before_goes_on_with_what_is_held() {
    let whole = snapshot(9, 12);
    let mut learner = learner();
    learner.take(offer(2, whole));
    assert_eq!(sends(&learner.take(held(8))), [(2, fetch(whole, 8))]);
}

// protocol 5.1
#[test]
fn the_only_peer_that_vanishes_is_asked_again_when_it_is_back() {
    let whole = snapshot(9, 12);
    let mut learner = fetching(whole, 4);
    learner.take(LearnerInput::LinkDown { peer: node(3) });
    assert_eq!(sends(&learner.take(LearnerInput::LinkDown { peer: node(2) })), []);
    assert_eq!(sends(&learner.take(LearnerInput::LinkUp { peer: node(2) })), [(2, ask(9))]);
    assert_eq!(sends(&learner.take(offer(2, whole))), [(2, fetch(whole, 4))]);
}

// The last peer that offered it once went while a part was being written, and nobody was asked ever after.
#[test]
fn a_peer_that_vanishes_while_its_part_is_written_is_replaced_too() {
    let whole = snapshot(9, 12);
    let mut learner = fetching(whole, 0);
    learner.take(part(2, whole, 0, b"abcd"));
    learner.take(LearnerInput::LinkDown { peer: node(2) });
    assert_eq!(sends(&learner.take(held(4))), [(3, ask(9))]);
}

// protocol 5.1
#[test]
fn a_peer_that_holds_the_snapshot_no_more_is_not_asked_for_it_again() {
    let whole = snapshot(9, 12);
    let mut learner = fetching(whole, 4);
    learner.take(offer(3, whole));
    assert_eq!(sends(&learner.take(part(2, whole, 4, b""))), [(2, ask(9))], "it may have a newer one");
    assert_eq!(time_outs(&mut learner, 0, 1), [(3, fetch(whole, 4))]);
}

// protocol 5.1
#[test]
fn a_newer_snapshot_takes_the_place_of_a_transfer_only_when_that_gets_nowhere() {
    let (whole, newer) = (snapshot(9, 12), snapshot(11, 5));
    let mut learner = fetching(whole, 4);
    assert_eq!(tasks(&learner.take(offer(3, newer))), []);
    assert_eq!(tasks(&learner.take(part(2, whole, 4, b"efgh"))), [write(4, b"efgh")]);
    learner.take(held(8));
    let sent = time_outs(&mut learner, 0, 3);
    assert_eq!(sent, [(3, ask(9)), (2, fetch(whole, 8)), (3, ask(9))]);
    let older = snapshot(8, 5);
    assert_eq!(tasks(&learner.take(offer(3, older))), []);
    assert_eq!(tasks(&learner.take(offer(3, newer))), [SnapshotTask::Begin { snapshot: newer }]);
}

// protocol 5.1
#[test]
fn a_transfer_of_which_nothing_comes_is_given_up_and_the_log_goes_on() {
    let mut learner = fetching(snapshot(9, 12), 4);
    learner.take(LearnerInput::Learned { values: vec![], chosen_through: slot(3), replay: false });
    time_outs(&mut learner, 0, 8);
    let out = learner.take_at(ms(2700), LearnerInput::Wake);
    assert!(out.contains(&replay(3)), "{out:?}");
    assert_eq!(delivered(&learner.take(learned(3, 3))), [3]);
}

// protocol 5.2
#[test]
fn a_transfer_is_dropped_when_the_log_got_there_by_itself() {
    let mut learner = fetching(snapshot(9, 12), 4);
    let out = learner.take(learned(3, 9));
    assert_eq!(delivered(&out), [3, 4, 5, 6, 7, 8, 9]);
}

// protocol 5.1, fault F10
#[test]
fn a_snapshot_that_fails_its_checksum_is_fetched_again_later_and_from_another_peer() {
    let whole = snapshot(9, 4);
    let mut learner = fetching(whole, 0);
    learner.take(part(2, whole, 0, b"abcd"));
    learner.take(held(4));
    let out = learner.take(LearnerInput::SnapshotSealed { sealed: false });
    assert!(!out.iter().any(|effect| matches!(effect, Effect::Local(_))), "nothing is installed: {out:?}");
    assert_eq!(tasks(&learner.take_at(ms(200), offer(3, whole))), [], "not at once");
    assert_eq!(tasks(&learner.take_at(ms(400), offer(2, whole))), [], "not from the same");
    assert_eq!(tasks(&learner.take_at(ms(400), offer(3, whole))).len(), 1);
}

// protocol 5.1
#[test]
fn the_pause_after_each_failure_in_a_row_is_longer_and_ends_with_a_success() {
    let whole = snapshot(9, 4);
    let mut learner = learner();
    let mut now = Time::ZERO;
    let mut pauses = Vec::new();
    for _ in 0..4 {
        assert_eq!(tasks(&learner.take_at(now, offer(2, whole))).len(), 1);
        learner.take_at(now, LearnerInput::SnapshotHeld { bytes: None });
        let failed = now;
        while tasks(&learner.take_at(now, offer(3, whole))).is_empty() {
            now = now + Duration::from_millis(100);
        }
        learner.take_at(now, LearnerInput::SnapshotHeld { bytes: None });
        pauses.push(now.since(failed).as_millis());
        now = now + Duration::from_secs(600);
    }
    assert_eq!(pauses, [300, 1200, 4800, 19200]);
}

// ------------------------------------------------------------------ restarting

// protocol 5.2
#[test]
fn a_restart_begins_with_the_own_snapshot_and_goes_on_above_it() {
    let own = snapshot(4, 9);
    let based = Record::Based { base: base(own) };
    let mut acceptor = acceptor((1..=6).map(|at| chosen(at, batch("x"))).chain([based]));
    assert_eq!(acceptor.take(AcceptorInput::Replay { from: slot(1) }), [begin(base(own))]);
    let mut learner = Learner::new(node(1), limits(), 1);
    assert_eq!(learner.take(LearnerInput::Start)[0], replay(1));
    let out = learner.take(LearnerInput::Begin { base: base(own) });
    assert_eq!(tasks(&out), [SnapshotTask::Restore { snapshot: own }]);
    learner.take(LearnerInput::Learned { values: vec![], chosen_through: slot(6), replay: false });
    let out = learner.take(LearnerInput::Restored { snapshot: own, restored: true });
    assert!(out.contains(&replay(5)), "{out:?}");
}

/// Learner 1, whose own snapshot at slot 4 turned out to be damaged.
fn with_damaged_snapshot(own: SnapshotId) -> (Learner, Vec<Effect>) {
    let mut learner = Learner::new(node(1), limits(), 1);
    learner.take(LearnerInput::Briefing(briefing(voters(3), 6, None)));
    learner.take(LearnerInput::Start);
    learner.take(LearnerInput::Begin { base: base(own) });
    let out = learner.take(LearnerInput::Restored { snapshot: own, restored: false });
    (learner, out)
}

// fault F10
#[test]
fn a_node_whose_own_snapshot_is_damaged_takes_a_peers_and_delivers_nothing_before() {
    let (own, theirs) = (snapshot(4, 9), snapshot(4, 4));
    let (mut learner, out) = with_damaged_snapshot(own);
    assert_eq!(events(&out), [Event::SnapshotDamaged { snapshot: own }]);
    assert_eq!(sends(&learner.take(LearnerInput::LinkUp { peer: node(2) })), [(2, ask(4))]);
    assert_eq!(delivered(&learner.take(learned(5, 6))), [], "not onto an empty state");
    assert_eq!(tasks(&learner.take(LearnerInput::Begin { base: base(own) })), [], "nor is it tried again");
    assert_eq!(tasks(&learner.take(offer(2, snapshot(3, 9)))), [], "one below leaves a hole");
    assert_eq!(tasks(&learner.take(offer(2, theirs))), [SnapshotTask::Begin { snapshot: theirs }]);
    learner.take(held(0));
    learner.take(part(2, theirs, 0, b"abcd"));
    learner.take(held(4));
    learner.take(LearnerInput::SnapshotSealed { sealed: true });
    learner.take(LearnerInput::Begin { base: base(theirs) });
    let out = learner.take(LearnerInput::Restored { snapshot: theirs, restored: true });
    assert!(out.contains(&replay(5)), "{out:?}");
    assert!(sends(&out).iter().all(|(_, message)| *message == catch_up(7)), "no base is needed: {out:?}");
    assert_eq!(delivered(&learner.take(learned(5, 6))), [5, 6]);
}

// fault F10
#[test]
fn the_same_snapshot_of_a_peer_mends_the_own_one() {
    let own = snapshot(4, 4);
    let (mut learner, _) = with_damaged_snapshot(own);
    let mut acceptor = acceptor([Record::Based { base: base(own) }]);
    learner.take(LearnerInput::LinkUp { peer: node(2) });
    learner.take(offer(2, own));
    learner.take(held(4));
    let out = learner.take(LearnerInput::SnapshotSealed { sealed: true });
    assert_eq!(out[0], install(base(own)));
    let out = acceptor.take(AcceptorInput::Install { base: base(own) });
    assert_eq!(records(&out).len(), 1, "a base at the same slot is taken: {out:?}");
    let out = learner.take(LearnerInput::Begin { base: base(own) });
    assert_eq!(tasks(&out), [SnapshotTask::Restore { snapshot: own }]);
}

// fault F8
#[test]
fn a_log_that_cannot_be_read_on_is_replaced_by_a_peers_snapshot_there_or_above() {
    let mut learner = learner();
    learner.take(LearnerInput::Learned { values: vec![], chosen_through: slot(6), replay: false });
    let asked = |out: &[Effect]| sends(out).into_iter().map(|(_, message)| message).collect::<Vec<_>>();
    learner.take_at(ms(300), LearnerInput::Wake);
    assert_eq!(
        learner.take_at(ms(300), LearnerInput::Unreadable { from: slot(9) }),
        [],
        "not where it stands"
    );
    learner.take_at(ms(600), LearnerInput::Unreadable { from: slot(3) });
    let out = learner.take_at(ms(900), LearnerInput::Wake);
    assert_eq!(asked(&out), [ask(3)]);
    assert_eq!(tasks(&learner.take_at(ms(900), offer(2, snapshot(2, 9)))), []);
    assert_eq!(tasks(&learner.take_at(ms(900), offer(2, snapshot(5, 9)))).len(), 1);
}

// fault F8: it may have been written anew meanwhile.
#[test]
fn a_log_that_could_not_be_read_is_tried_again() {
    let mut learner = learner();
    learner.take(LearnerInput::Learned { values: vec![], chosen_through: slot(6), replay: false });
    learner.take(LearnerInput::Unreadable { from: slot(3) });
    let out: Vec<Effect> =
        (1..=2).flat_map(|nth| learner.take_at(ms(300 * nth), LearnerInput::Wake)).collect();
    assert!(out.contains(&replay(3)), "{out:?}");
    assert_eq!(delivered(&learner.take_at(ms(600), learned(3, 6))), [3, 4, 5, 6]);
    let out: Vec<Effect> =
        (3..=9).flat_map(|nth| learner.take_at(ms(300 * nth), LearnerInput::Wake)).collect();
    assert!(sends(&out).iter().all(|(_, message)| *message == catch_up(7)), "{out:?}");
}

// ------------------------------------------------------------------ taking and giving

fn take(through: u64, membership: Membership) -> SnapshotTask {
    SnapshotTask::Take { through: slot(through), memberships: Memberships::bootstrap(membership) }
}

// protocol 5.1
#[test]
fn a_snapshot_is_of_what_is_applied_one_at_a_time_and_not_where_nothing_was_applied_since() {
    let mut learner = learner();
    assert_eq!(tasks(&learner.take(LearnerInput::TakeSnapshot)), [take(2, voters(3))]);
    learner.take(learned(3, 4));
    assert_eq!(tasks(&learner.take(LearnerInput::TakeSnapshot)), [], "one is being taken");
    learner.take(LearnerInput::Begin { base: base(snapshot(2, 9)) });
    assert_eq!(tasks(&learner.take(LearnerInput::TakeSnapshot)), [take(4, voters(3))]);
    learner.take(LearnerInput::Begin { base: base(snapshot(4, 9)) });
    assert_eq!(tasks(&learner.take(LearnerInput::TakeSnapshot)), [], "nothing was applied since");
}

// protocol 5.1
#[test]
fn a_snapshot_that_could_not_be_written_is_taken_again_when_it_is_asked_for_again() {
    let mut learner = learner();
    learner.take(LearnerInput::TakeSnapshot);
    learner.take(LearnerInput::SnapshotHeld { bytes: None });
    assert_eq!(tasks(&learner.take(LearnerInput::TakeSnapshot)), [take(2, voters(3))]);
    assert_eq!(tasks(&learner.take_at(ms(59_999), LearnerInput::TakeSnapshot)), []);
    assert_eq!(tasks(&learner.take_at(ms(60_000), LearnerInput::TakeSnapshot)).len(), 1, "or was forgotten");
}

// protocol 5.1
#[test]
fn a_snapshot_knows_the_memberships_as_of_its_slot_and_none_above() {
    let mut learner = Learner::new(node(1), limits(), 1);
    let (old, new) = (voters_with_alpha(3, 4), voters_with_alpha(4, 4));
    let mut ahead = Memberships::bootstrap(old.clone());
    ahead.learn(slot(3), &new);
    learner.take(LearnerInput::Briefing(Briefing {
        memberships: Some(ahead.clone()),
        chosen_through: slot(3),
        promised: None,
        votes: true,
    }));
    learner.take(learned(1, 2));
    assert_eq!(tasks(&learner.take(LearnerInput::TakeSnapshot)), [take(2, old)]);
    learner.take(LearnerInput::SnapshotHeld { bytes: None });
    let values = vec![(slot(3), Value::Membership(new))];
    learner.take(LearnerInput::Learned { values, chosen_through: slot(3), replay: false });
    let memberships = ahead.as_of(slot(3));
    let expected = SnapshotTask::Take { through: slot(3), memberships };
    assert_eq!(tasks(&learner.take(LearnerInput::TakeSnapshot)), [expected]);
}

// 5.1: the briefing that names a membership may come after the delivery of its slot.
#[test]
fn a_snapshot_knows_a_membership_that_was_delivered_and_not_yet_told_of() {
    let mut learner = Learner::new(node(1), limits(), 1);
    let (old, new) = (voters_with_alpha(3, 4), voters_with_alpha(4, 4));
    learner.take(LearnerInput::Briefing(briefing(old.clone(), 0, None)));
    let values = vec![(slot(1), Value::Membership(new.clone()))];
    learner.take(LearnerInput::Learned { values, chosen_through: slot(1), replay: false });
    let mut memberships = Memberships::bootstrap(old);
    memberships.learn(slot(1), &new);
    let expected = SnapshotTask::Take { through: slot(1), memberships };
    assert_eq!(tasks(&learner.take(LearnerInput::TakeSnapshot)), [expected]);
}

// 5.1: an acceptor that was built anew may know less than was delivered.
#[test]
fn a_snapshot_knows_a_membership_that_was_delivered_and_that_a_rebuilt_acceptor_has_forgotten() {
    let mut learner = Learner::new(node(1), limits(), 1);
    let (old, new) = (voters_with_alpha(3, 4), voters_with_alpha(4, 4));
    learner.take(LearnerInput::Briefing(briefing(old.clone(), 0, None)));
    let values = vec![(slot(1), Value::Membership(new.clone()))];
    learner.take(LearnerInput::Learned { values, chosen_through: slot(1), replay: false });
    learner.take(LearnerInput::Briefing(briefing(old.clone(), 0, None)));
    let mut memberships = Memberships::bootstrap(old);
    memberships.learn(slot(1), &new);
    let expected = SnapshotTask::Take { through: slot(1), memberships };
    assert_eq!(tasks(&learner.take(LearnerInput::TakeSnapshot)), [expected]);
}

// protocol 5.2
#[test]
fn no_snapshot_is_taken_while_one_is_installed() {
    let mut learner = fetching(snapshot(9, 12), 0);
    assert_eq!(tasks(&learner.take(LearnerInput::TakeSnapshot)), []);
}

// protocol 5.1
#[test]
fn a_peer_is_given_the_part_that_it_asks_for_and_no_more_than_a_chunk() {
    let held = snapshot(9, 12);
    let mut learner = learner();
    let out =
        learner.take(to_learner(2, Message::FetchSnapshot { snapshot: held, at: 4, bytes_max: u32::MAX }));
    let read = SnapshotTask::Read { to: node(2), snapshot: held, at: 4, bytes_max: CHUNK };
    assert_eq!(tasks(&out), [read]);
    let bytes = Bytes::from_static(b"efgh");
    let read = LearnerInput::SnapshotRead { to: node(2), snapshot: held, at: 4, bytes: bytes.clone() };
    let chunk = Message::SnapshotChunk { snapshot: held, at: 4, bytes };
    assert_eq!(sends(&learner.take(read.clone())), [(2, chunk)]);
    assert_eq!(sends(&learner.take(read)), [], "it was asked for once");
}

#[test]
fn reads_for_peers_are_one_for_each_and_few_altogether() {
    let held = snapshot(9, 12);
    let mut learner = learner();
    assert_eq!(tasks(&learner.take(to_learner(2, fetch(held, 0)))).len(), 1);
    assert_eq!(tasks(&learner.take(to_learner(2, fetch(held, 4)))), []);
    let reads = (3..100).map(|peer| tasks(&learner.take(to_learner(peer, fetch(held, 0)))).len());
    assert_eq!(reads.sum::<usize>(), 7);
    let bytes = Bytes::from_static(b"abcd");
    learner.take(LearnerInput::SnapshotRead { to: node(2), snapshot: held, at: 0, bytes });
    assert_eq!(tasks(&learner.take(to_learner(2, fetch(held, 4)))).len(), 1);
    assert_eq!(tasks(&learner.take(to_learner(2, fetch(held, 12)))), [], "there is nothing there");
}

// protocol 3.2, 5.1
#[test]
fn a_watermark_that_nothing_above_the_base_rests_on_is_forgotten_unless_it_is_the_newest() {
    let watermark = |number, through| Record::Watermark { id: id(number, 2), through: slot(through) };
    let written = [watermark(1, 4), watermark(2, 5), watermark(3, 6)];
    let kept = |through| {
        let cut = Record::Based { base: bare(through) };
        let facts = log(voters(3), written.iter().cloned().chain([cut])).facts();
        facts.into_iter().filter(|fact| matches!(fact, Record::Watermark { .. })).collect::<Vec<_>>()
    };
    assert_eq!(kept(3), written);
    assert_eq!(kept(5), written[2..]);
    assert_eq!(kept(6), written[2..]);
}
