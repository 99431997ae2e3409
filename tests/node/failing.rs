//! Nodes, disks and roles that fail.

use crate::{Cluster, Ledger, entry, pause, simulate};
use futures::future::join_all;
use std::io::ErrorKind;
use std::time::Duration;
use synod::multi::Role;
use synod::storage::StorageError;
use synod::{ProposeError, StopCause};

#[test]
fn when_the_leader_is_gone_another_one_takes_over_with_all_that_was_answered() {
    simulate(async {
        let mut cluster = Cluster::start(3).await;
        let leader = cluster.leader().await;
        for number in 1..=5 {
            cluster.handle(leader).propose(entry(number)).await.unwrap();
        }
        cluster.kill(leader).await;
        let next = cluster.leader().await;
        cluster.handle(next).propose(entry(6)).await.unwrap();
        assert_eq!(cluster.numbers(next).await, [1, 2, 3, 4, 5, 6]);
    });
}

#[test]
fn a_call_outlives_a_change_of_the_leader_if_it_was_not_sent_yet() {
    simulate(async {
        let mut cluster = Cluster::start(3).await;
        let (leader, follower) = (cluster.leader().await, cluster.follower().await);
        cluster.kill(leader).await;
        pause(Duration::from_millis(10)).await;
        assert_eq!(cluster.handle(follower).propose(entry(1)).await.unwrap(), 1);
    });
}

// scenario D12
#[test]
fn a_restarted_node_is_given_every_command_again_in_the_same_place() {
    simulate(async {
        let mut cluster = Cluster::start(3).await;
        let leader = cluster.leader().await;
        for number in 1..=5 {
            cluster.handle(leader).propose(entry(number)).await.unwrap();
        }
        let before = cluster.handle(leader).read_stale(|ledger| ledger.applied.clone()).await.unwrap();
        for node in 1..=3 {
            cluster.kill(node).await;
        }
        for node in 1..=3 {
            cluster.restart(node).await;
        }
        cluster.leader().await;
        for node in 1..=3 {
            let handle = cluster.handle(node);
            let again = handle.read(|ledger| ledger.applied.clone()).await.unwrap();
            assert_eq!(again, before);
        }
        assert_eq!(cluster.handle(1).propose(entry(6)).await.unwrap(), 6);
    });
}

#[test]
fn a_node_that_was_away_catches_up() {
    simulate(async {
        let mut cluster = Cluster::start(3).await;
        let follower = cluster.follower().await;
        cluster.kill(follower).await;
        let leader = cluster.handle(cluster.leader().await);
        for number in 1..=200 {
            leader.propose(entry(number)).await.unwrap();
        }
        cluster.restart(follower).await;
        cluster.leader().await;
        assert_eq!(cluster.numbers(follower).await, (1..=200).collect::<Vec<_>>());
    });
}

// fault F13, scenario D4
#[test]
fn a_failed_flush_stops_the_node_and_nothing_is_answered() {
    simulate(async {
        let mut cluster = Cluster::start(1).await;
        let handle = cluster.handle(1);
        handle.propose(entry(1)).await.unwrap();
        // Only once: a second try would succeed, and must not be made.
        cluster.storages[&1].fail_next_append(ErrorKind::Other);
        let error = handle.propose(entry(2)).await.unwrap_err();
        assert!(matches!(error, ProposeError::Unknown { retry_is_safe: false }), "{error:?}");
        let cause = handle.stopped().await;
        let StopCause::Storage(source) = cause else { panic!("{cause:?}") };
        assert!(matches!(*source, StorageError::Io { .. }), "the first error is told: {source:?}");
        let error = handle.propose(entry(3)).await.unwrap_err();
        assert!(matches!(error, ProposeError::Stopped { cause: StopCause::Storage(_) }), "{error:?}");
        cluster.nodes.remove(&1);
        cluster.restart(1).await;
        cluster.leader().await;
        let numbers = cluster.numbers(1).await;
        assert_eq!(numbers, [1], "what the disk refused is not there");
    });
}

#[test]
fn a_follower_whose_disk_fails_stops_alone() {
    simulate(async {
        let cluster = Cluster::start(3).await;
        let (leader, follower) = (cluster.leader().await, cluster.follower().await);
        cluster.storages[&follower].fail_next_append(ErrorKind::StorageFull);
        for number in 1..=5 {
            cluster.handle(leader).propose(entry(number)).await.unwrap();
        }
        let cause = cluster.handle(follower).stopped().await;
        assert!(matches!(cause, StopCause::Storage(_)), "{cause:?}");
        assert_eq!(cluster.handle(leader).propose(entry(6)).await.unwrap(), 6);
    });
}

// protocol 1.2, fault F25, scenario O3
#[test]
fn while_a_flush_takes_long_nothing_is_answered_and_nobody_else_is_elected() {
    simulate(async {
        let cluster = Cluster::start(3).await;
        let leader = cluster.leader().await;
        let before = cluster.handle(leader).status().await.unwrap();
        for storage in cluster.storages.values() {
            storage.hold_flushes();
        }
        let caller = cluster.handle(leader);
        let call = actix_rt::spawn(async move { caller.propose(entry(1)).await });
        pause(Duration::from_secs(1)).await;
        assert!(!call.is_finished(), "answered before it was durable");
        assert!(cluster.storages.values().all(|storage| storage.held() <= 1), "one append at a time");
        let during = cluster.handle(leader).status().await.unwrap();
        assert_eq!(during.leader, before.leader);
        for storage in cluster.storages.values() {
            storage.release();
        }
        assert_eq!(call.await.unwrap().unwrap(), 1);
    });
}

// fault F28
#[test]
fn a_role_that_panics_is_built_anew_and_the_node_goes_on() {
    for role in [Role::Proposer, Role::Acceptor, Role::Learner] {
        simulate(async {
            let cluster = Cluster::start(3).await;
            for node in 1..=3 {
                cluster.handle(node).propose(entry(node)).await.unwrap();
            }
            for node in 1..=3 {
                cluster.handle(node).panic_role(role);
                pause(Duration::from_secs(2)).await;
                let handle = cluster.handle(node);
                handle.propose(entry(10 + node)).await.unwrap_or_else(|error| panic!("{role:?}: {error:?}"));
                assert_eq!(handle.status().await.unwrap().rebuilt, 1, "{role:?}");
            }
            for node in 1..=3 {
                assert_eq!(cluster.numbers(node).await, [1, 2, 3, 11, 12, 13], "{role:?}");
            }
        });
    }
}

// protocol 11.6, scenario O4
#[test]
fn an_acceptor_is_rebuilt_only_after_its_append_has_ended_and_without_its_sends() {
    simulate(async {
        let cluster = Cluster::start(1).await;
        let handle = cluster.handle(1);
        cluster.storages[&1].hold_flushes();
        let (first, second) = (handle.clone(), handle.clone());
        let first = actix_rt::spawn(async move { first.propose(entry(1)).await });
        pause(Duration::from_millis(1)).await;
        assert_eq!(cluster.storages[&1].held(), 1);
        let second = actix_rt::spawn(async move { second.propose(entry(2)).await });
        pause(Duration::from_millis(1)).await;
        handle.panic_role(Role::Acceptor);
        pause(Duration::from_millis(100)).await;
        assert_eq!(cluster.storages[&1].held(), 1, "nothing is written or recovered meanwhile");
        cluster.storages[&1].release();
        cluster.leader().await;
        let third = handle.propose(entry(3)).await.unwrap();
        let numbers = cluster.numbers(1).await;
        assert_eq!(numbers.len(), third);
        assert_eq!((numbers.first(), numbers.last()), (Some(&1), Some(&3)), "the append was durable");
        // Whoever was told that a command is applied finds it.
        for (number, call) in [(1, first), (2, second)] {
            match call.await.unwrap() {
                Ok(place) => assert_eq!(numbers[place - 1], number),
                Err(error) => assert!(matches!(error, ProposeError::Unknown { .. }), "{error:?}"),
            }
        }
    });
}

#[test]
fn those_who_wait_for_a_role_that_panics_hear_that_the_outcome_is_unknown() {
    simulate(async {
        let cluster = Cluster::start(1).await;
        let handle = cluster.handle(1);
        cluster.storages[&1].hold_flushes();
        let (caller, reader) = (handle.clone(), handle.clone());
        let call = actix_rt::spawn(async move { caller.propose(entry(1)).await });
        pause(Duration::from_millis(1)).await;
        let read = actix_rt::spawn(async move { reader.read(Ledger::numbers).await });
        pause(Duration::from_millis(1)).await;
        handle.panic_role(Role::Learner);
        let error = call.await.unwrap().unwrap_err();
        assert!(matches!(error, ProposeError::Unknown { retry_is_safe: false }), "{error:?}");
        cluster.storages[&1].release();
        assert_eq!(
            read.await.unwrap().unwrap(),
            [1],
            "a read that was not served yet is served by the new learner"
        );
        pause(Duration::from_secs(1)).await;
        assert_eq!(cluster.numbers(1).await, [1], "it was chosen after all");
    });
}

#[test]
fn a_role_that_panics_too_often_stops_the_node() {
    simulate(async {
        let cluster = Cluster::start(3).await;
        let handle = cluster.handle(1);
        for _ in 0..4 {
            handle.panic_role(Role::Learner);
            pause(Duration::from_millis(100)).await;
        }
        let cause = handle.stopped().await;
        let StopCause::RolePanicked { role, message } = cause else { panic!("{cause:?}") };
        assert_eq!((role, message.as_str()), ("learner", "asked to"));
    });
}

#[test]
fn panics_are_forgiven_after_a_minute() {
    simulate(async {
        let cluster = Cluster::start(3).await;
        let handle = cluster.handle(1);
        for _ in 0..6 {
            handle.panic_role(Role::Learner);
            pause(Duration::from_secs(30)).await;
        }
        assert_eq!(handle.status().await.unwrap().rebuilt, 6);
    });
}

#[test]
fn calls_at_a_node_whose_supervisor_panics_end_too() {
    simulate(async {
        let cluster = Cluster::start(1).await;
        let handle = cluster.handle(1);
        cluster.storages[&1].hold_flushes();
        let callers: Vec<_> = (0..10).map(|_| handle.clone()).collect();
        let calls = callers
            .into_iter()
            .map(|caller| actix_rt::spawn(async move { caller.propose(entry(1)).await.unwrap_err() }));
        let calls: Vec<_> = calls.collect();
        pause(Duration::from_millis(1)).await;
        handle.panic_role(Role::Election);
        let cause = handle.stopped().await;
        assert!(matches!(cause, StopCause::RolePanicked { role: "heartbeat", .. }), "{cause:?}");
        for error in join_all(calls).await {
            assert!(matches!(error, Ok(ProposeError::Unknown { .. })), "they were handed over: {error:?}");
        }
    });
}
