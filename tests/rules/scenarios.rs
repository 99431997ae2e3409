//! Whole nodes together: the scenarios of Multi-Paxos.

use crate::support::*;
use synod::multi::*;

fn is_accept(message: &Message) -> bool {
    matches!(message, Message::Accept { values, .. } if !values.is_empty())
}

fn accept_at(message: &Message, at: u64) -> bool {
    matches!(message, Message::Accept { first, values, .. } if *first == slot(at) && !values.is_empty())
}

// scenario M1, protocol 1.7
#[test]
fn a_new_leader_keeps_what_was_accepted_fills_the_holes_and_puts_clients_batches_above() {
    let mut cluster = Cluster::external(3);
    cluster.campaign(1);
    cluster.settle();
    for text in ["one", "two", "three", "four", "five"] {
        cluster.propose(1, text);
    }
    cluster.lose(|_, to, message| is_accept(message) && to != 1 && !(to == 2 && accept_at(message, 3)));
    cluster.settle();
    cluster.crash(1);
    cluster.campaign(2);
    cluster.settle();
    cluster.propose(2, "mine");
    cluster.pass(500);
    let expected = [(1, Value::Noop), (2, Value::Noop), (3, batch("three")), (4, batch("mine"))];
    for number in [2, 3] {
        assert_eq!(cluster.delivered(number), expected, "at n{number}");
    }
}

// scenario M1: the old leader comes back with slots that nobody else accepted, and learns what was chosen there.
#[test]
fn the_old_leader_comes_back_and_agrees() {
    let mut cluster = Cluster::external(3);
    cluster.campaign(1);
    cluster.settle();
    cluster.propose(1, "one");
    cluster.propose(1, "two");
    cluster.lose(|_, to, message| is_accept(message) && to != 1);
    cluster.settle();
    cluster.crash(1);
    cluster.campaign(2);
    cluster.settle();
    cluster.propose(2, "other");
    cluster.pass(200);
    cluster.start(1, false);
    cluster.pass(1000);
    for number in 1..=3 {
        assert_eq!(cluster.delivered(number), [(1, batch("other"))], "at n{number}");
    }
}

// scenario M2, protocol 3.2
#[test]
fn nothing_is_applied_above_a_slot_that_is_open() {
    let mut cluster = Cluster::external(3);
    cluster.campaign(1);
    cluster.settle();
    for text in ["a", "b", "c", "d", "e", "f", "g"] {
        cluster.propose(1, text);
    }
    cluster.lose(|_, to, message| to != 1 && (accept_at(message, 5) || accept_at(message, 6)));
    cluster.settle();
    let slots = |cluster: &Cluster| cluster.delivered(1).iter().map(|(at, _)| *at).collect::<Vec<_>>();
    assert_eq!(slots(&cluster), [1, 2, 3, 4]);
    cluster.pass(1000);
    assert_eq!(slots(&cluster), [1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(cluster.delivered(2), cluster.delivered(1));
}

// scenario M3, protocol 2.4
#[test]
fn a_leader_that_was_overtaken_is_refused_and_stops() {
    let mut cluster = Cluster::external(3);
    cluster.campaign(1);
    cluster.settle();
    cluster.isolate(1, 2);
    cluster.isolate(1, 3);
    cluster.campaign(3);
    cluster.settle();
    assert!(cluster.leads(1) && cluster.leads(3), "the old one does not know yet");
    cluster.heal();
    cluster.propose(1, "late");
    cluster.settle();
    assert_eq!(cluster.state(1), ProposerState::Idle);
    assert_eq!(cluster.chosen_through(1), 0);
    assert_eq!(cluster.machines[&1].events.last(), Some(&Event::Changed { leader: None }));
}

// protocol 1.2, fault F1
#[test]
fn nothing_that_a_node_said_rests_on_a_write_that_a_power_cut_takes_away() {
    let mut cluster = Cluster::external(3);
    cluster.campaign(1);
    cluster.settle();
    cluster.hold(2);
    cluster.hold(3);
    cluster.propose(1, "a");
    cluster.settle();
    assert_eq!(cluster.delivered(1), [], "one durable vote is no quorum");
    cluster.crash(2);
    cluster.flush(3);
    cluster.settle();
    assert_eq!(cluster.delivered(1), [(1, batch("a"))]);
}

// protocol 1.2, fault F3
#[test]
fn a_node_that_crashes_between_its_flush_and_its_answer_answers_the_same_when_asked_again() {
    let mut cluster = Cluster::external(3);
    cluster.campaign(1);
    cluster.lose(|_, to, _| to != 2);
    while cluster.wire.iter().any(|(_, to, _)| *to == 2) {
        cluster.carry();
    }
    let is_promise = |from: u64, message: &Message| from == 2 && matches!(message, Message::Promise { .. });
    let said: Vec<_> =
        cluster.wire.iter().filter(|(from, _, message)| is_promise(*from, message)).cloned().collect();
    assert_eq!(said.len(), 1, "it is durable, and on its way");
    cluster.lose(|from, _, message| is_promise(from, message));
    cluster.crash(2);
    cluster.start(2, false);
    cluster.settle();
    let (_, _, Message::Promise { id: promised, .. }) = &said[0] else { unreachable!() };
    let prepare = Message::Prepare { id: *promised, from: Slot::FIRST };
    cluster.wire.push_back((1, 2, prepare));
    cluster.carry();
    let again: Vec<_> =
        cluster.wire.iter().filter(|(from, _, message)| is_promise(*from, message)).cloned().collect();
    assert_eq!(again, said);
}

// protocol 1.3, seed M03
#[test]
fn a_leader_that_restarts_leads_only_under_a_fresh_id() {
    let mut cluster = Cluster::external(3);
    cluster.campaign(1);
    cluster.settle();
    let ProposerState::Leading { id: first } = cluster.state(1) else { panic!() };
    cluster.crash(1);
    cluster.start(1, false);
    cluster.settle();
    assert_eq!(cluster.state(1), ProposerState::Idle);
    cluster.campaign(1);
    cluster.settle();
    assert!(matches!(cluster.state(1), ProposerState::Leading { id } if id > first));
}

// protocol 1.3
#[test]
fn a_candidate_sends_no_prepare_while_its_own_promise_is_under_way() {
    let mut cluster = Cluster::external(3);
    cluster.settle();
    cluster.hold(1);
    cluster.campaign(1);
    assert!(cluster.wire.is_empty());
    cluster.flush(1);
    cluster.settle();
    assert!(cluster.leads(1));
}

// protocol 1.5, 8.4: only the node that lags sees a quorum, and it has to learn before it may lead.
#[test]
fn a_candidate_that_lags_catches_up_within_its_campaign() {
    let mut cluster = Cluster::external(3);
    cluster.isolate(1, 3);
    cluster.isolate(2, 3);
    cluster.campaign(1);
    cluster.settle();
    for text in ["a", "b"] {
        cluster.propose(1, text);
        cluster.settle();
    }
    cluster.pass(100);
    cluster.crash(1);
    cluster.heal();
    cluster.campaign(3);
    cluster.pass(100);
    cluster.campaign(3);
    cluster.settle();
    assert!(cluster.leads(3));
    assert_eq!(cluster.delivered(3), [(1, batch("a")), (2, batch("b"))]);
}

// protocol 8.1, scenario L1
#[test]
fn nodes_that_start_at_different_times_have_a_leader_and_a_decision_within_four_windows() {
    for seed in 0..1000 {
        let mut cluster = Cluster::seeded(3, seed);
        for (number, millis) in [(2, seed % 700), (3, seed / 7 % 300)] {
            cluster.crash(number);
            cluster.pass(millis);
            cluster.start(number, true);
        }
        cluster.pass(900);
        let leader = cluster.leader().unwrap_or_else(|| panic!("seed {seed}: nobody leads, or two do"));
        cluster.propose(leader, "first");
        cluster.pass(300);
        assert_eq!(cluster.delivered(leader).last(), Some(&(1, batch("first"))), "seed {seed}");
    }
}

// protocol 8.5, scenario L2
#[test]
fn a_duel_of_three_candidates_ends_within_twenty_rounds() {
    for seed in 0..1000 {
        let mut cluster = Cluster::seeded(3, seed);
        (1..=3).for_each(|number| cluster.campaign(number));
        for _ in 0..100 {
            if cluster.leader().is_some() {
                break;
            }
            cluster.pass(50);
        }
        let leader = cluster.leader().unwrap_or_else(|| panic!("seed {seed}: nobody leads after 5 s"));
        let ProposerState::Leading { id } = cluster.state(leader) else { unreachable!() };
        assert!(id.number <= 20, "seed {seed}: {id}");
    }
}

// protocol 8.1, scenario L4
#[test]
fn a_leader_that_dies_is_replaced_within_five_windows() {
    let mut cluster = Cluster::heartbeat(3);
    cluster.pass(1000);
    let first = (1..=3).find(|number| cluster.leads(*number)).unwrap();
    cluster.crash(first);
    cluster.pass(1500);
    let second = (1..=3).find(|number| cluster.leads(*number)).unwrap();
    assert_ne!(first, second);
    cluster.propose(second, "after");
    cluster.pass(100);
    assert_eq!(cluster.delivered(second), [(1, batch("after"))]);
}

// protocol 8.1, fault F22
#[test]
fn a_node_that_hears_nothing_does_not_disturb_a_leader_that_the_others_hear() {
    let mut cluster = Cluster::heartbeat(3);
    cluster.pass(1000);
    let leader = (1..=3).find(|number| cluster.leads(*number)).unwrap();
    let state = cluster.state(leader);
    let deaf = (1..=3).find(|number| *number != leader).unwrap();
    cluster.cut.insert((leader, deaf));
    cluster.pass(60_000);
    assert_eq!(cluster.state(leader), state, "the same id after a minute");
}

// protocol 8.2, fault F23
#[test]
fn when_all_hear_only_one_node_that_one_comes_to_lead() {
    let mut cluster = Cluster::heartbeat(5);
    cluster.pass(1000);
    let leader = (1..=5).find(|number| cluster.leads(*number)).unwrap();
    let middle = (1..=5).find(|number| *number != leader).unwrap();
    for one in 1..=5 {
        for other in 1..=5 {
            if one < other && one != middle && other != middle {
                cluster.isolate(one, other);
            }
        }
    }
    cluster.pass(6000);
    assert!(cluster.leads(middle));
    assert!(!cluster.leads(leader));
    cluster.propose(middle, "through the middle");
    cluster.pass(500);
    assert_eq!(cluster.delivered(middle).last().unwrap().1, batch("through the middle"));
}

// protocol 8.1: the dead leader's connections stay open, and the nodes heard it last at different times.
#[test]
fn a_leader_that_hangs_with_open_connections_is_replaced() {
    let mut cluster = Cluster::heartbeat(5);
    cluster.pass(1000);
    let leader = (1..=5).find(|number| cluster.leads(*number)).unwrap();
    for peer in (1..=5).filter(|peer| *peer != leader) {
        cluster.cut.insert((leader, peer));
        cluster.cut.insert((peer, leader));
        cluster.pass(40);
    }
    cluster.pass(1500);
    assert!((1..=5).any(|number| number != leader && cluster.leads(number)));
}

// protocol 2.4
#[test]
fn a_leader_that_one_voter_refuses_goes_on_under_a_higher_id_and_nothing_is_lost() {
    let mut cluster = Cluster::external(3);
    cluster.campaign(1);
    cluster.settle();
    cluster.isolate(1, 3);
    cluster.isolate(2, 3);
    for _ in 0..3 {
        cluster.campaign(3);
    }
    cluster.settle();
    cluster.heal();
    cluster.propose(1, "a");
    cluster.pass(2000);
    assert!(cluster.leads(1));
    assert!(matches!(cluster.state(1), ProposerState::Leading { id } if id > crate::support::id(3, 3)));
    for number in 1..=3 {
        assert_eq!(cluster.delivered(number), [(1, batch("a"))], "at n{number}");
    }
}
