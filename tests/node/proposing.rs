//! Proposing and reading, on the leader and through a follower.

use crate::{Cluster, Entry, Ledger, config, entry, membership, pause, simulate};
use futures::StreamExt;
use futures::future::join_all;
use std::time::Duration;
use synod::{
    ElectionKind, Host, Leadership, MemoryStorage, Node, NodeId, NotLeaderReason, ProposeError, ReadError,
};
use synod_channel::ChannelHub;

#[test]
fn a_command_is_applied_on_every_node_in_the_same_place() {
    simulate(async {
        let cluster = Cluster::start(3).await;
        let leader = cluster.handle(cluster.leader().await);
        for number in 1..=10 {
            assert_eq!(leader.propose(entry(number)).await.unwrap(), number as usize);
        }
        let mut states = Vec::new();
        for node in 1..=3 {
            let handle = cluster.handle(node);
            states.push(handle.read(|ledger| ledger.applied.clone()).await.unwrap());
        }
        assert_eq!(
            states[0].iter().map(|(_, number)| *number).collect::<Vec<_>>(),
            (1..=10).collect::<Vec<_>>()
        );
        assert!(states.iter().all(|state| *state == states[0]), "{states:?}");
    });
}

#[test]
fn callers_at_once_share_batches_and_each_hears_its_own_reply() {
    simulate(async {
        let cluster = Cluster::start(3).await;
        let leader = cluster.handle(cluster.leader().await);
        let replies = join_all((1..=500).map(|number| leader.propose(entry(number)))).await;
        let replies: Vec<usize> = replies.into_iter().map(Result::unwrap).collect();
        assert_eq!(replies, (1..=500).collect::<Vec<_>>(), "in the order of the calls");
        let status = leader.status().await.unwrap();
        assert!(status.applied_through.get() < 100, "500 commands took {} slots", status.applied_through);
    });
}

#[test]
fn a_follower_forwards_to_the_leader_and_answers_with_its_reply() {
    simulate(async {
        let cluster = Cluster::start(3).await;
        let follower = cluster.handle(cluster.follower().await);
        let replies = join_all((1..=50).map(|number| follower.propose(entry(number)))).await;
        let replies: Vec<usize> = replies.into_iter().map(Result::unwrap).collect();
        assert_eq!(replies, (1..=50).collect::<Vec<_>>());
        for node in 1..=3 {
            assert_eq!(cluster.numbers(node).await, (1..=50).collect::<Vec<_>>());
        }
    });
}

// protocol 7.3
#[test]
fn a_read_through_a_follower_sees_every_command_answered_before_it() {
    simulate(async {
        let cluster = Cluster::start(3).await;
        let leader = cluster.handle(cluster.leader().await);
        let follower = cluster.handle(cluster.follower().await);
        for number in 1..=20 {
            leader.propose(entry(number)).await.unwrap();
            let seen = follower.read(|ledger| ledger.applied.len() as u64).await.unwrap();
            assert_eq!(seen, number);
        }
    });
}

#[test]
fn without_forwarding_a_follower_names_the_leader() {
    simulate(async {
        let cluster = Cluster::tuned(3, |config| config.forward = false).await;
        let leader = cluster.leader().await;
        let follower = cluster.handle(cluster.follower().await);
        let error = follower.propose(entry(1)).await.unwrap_err();
        let ProposeError::NotLeader { hint, reason } = error else { panic!("{error:?}") };
        assert_eq!((hint, reason), (Some(NodeId::new(leader)), NotLeaderReason::ForwardingOff));
    });
}

#[test]
fn without_a_quorum_a_proposed_command_is_unknown_and_a_waiting_one_was_never_sent() {
    simulate(async {
        let mut cluster = Cluster::start(3).await;
        let leader = cluster.leader().await;
        let others: Vec<u64> = (1..=3).filter(|node| *node != leader).collect();
        for node in others {
            cluster.kill(node).await;
        }
        let handle = cluster.handle(leader).with_deadline(Duration::from_secs(2));
        let error = handle.propose(entry(1)).await.unwrap_err();
        assert!(matches!(error, ProposeError::Unknown { retry_is_safe: false }), "{error:?}");
        // By now it has stepped down for want of a quorum.
        let error = handle.propose(entry(2)).await.unwrap_err();
        let ProposeError::NotLeader { reason, .. } = error else { panic!("{error:?}") };
        assert_eq!(reason, NotLeaderReason::NoLeader);
        let error = handle.read(|_| ()).await.unwrap_err();
        assert!(matches!(error, ReadError::NoLeader { .. }), "{error:?}");
        handle.read_stale(|_| ()).await.expect("a stale read asks nobody");
    });
}

#[test]
fn before_the_cluster_has_formed_a_command_waits_and_then_hears_so() {
    simulate(async {
        let mut cluster = Cluster::unformed(3, |_| {});
        cluster.bootstrap(1).await;
        let handle = cluster.handle(1).with_deadline(Duration::from_secs(1));
        let error = handle.propose(entry(1)).await.unwrap_err();
        assert!(
            matches!(error, ProposeError::NotLeader { reason: NotLeaderReason::Forming, .. }),
            "{error:?}"
        );
        // One that is patient is proposed when it has.
        let waiting = cluster.handle(1).with_deadline(Duration::from_secs(60));
        let waiting = actix_rt::spawn(async move { waiting.propose(entry(2)).await });
        cluster.bootstrap(2).await;
        cluster.bootstrap(3).await;
        assert_eq!(waiting.await.unwrap().unwrap(), 1);
    });
}

#[test]
fn beyond_the_credits_try_propose_is_busy_and_propose_waits_its_turn() {
    simulate(async {
        let cluster = Cluster::tuned(1, |config| config.credits = 2).await;
        let handle = cluster.handle(1);
        cluster.storages[&1].hold_flushes();
        let (first, second) = (handle.clone(), handle.clone());
        let first = actix_rt::spawn(async move { first.propose(entry(1)).await });
        let second = actix_rt::spawn(async move { second.propose(entry(2)).await });
        pause(Duration::from_millis(1)).await;
        let error = handle.try_propose(entry(3)).await.unwrap_err();
        assert!(matches!(error, ProposeError::Busy), "{error:?}");
        let hasty = handle.with_deadline(Duration::from_millis(100));
        let error = hasty.propose(entry(4)).await.unwrap_err();
        assert!(matches!(error, ProposeError::Busy), "{error:?}");
        let third = handle.clone();
        let third = actix_rt::spawn(async move { third.propose(entry(5)).await });
        pause(Duration::from_millis(1)).await;
        cluster.storages[&1].release();
        assert_eq!(first.await.unwrap().unwrap(), 1);
        assert_eq!(second.await.unwrap().unwrap(), 2);
        assert_eq!(third.await.unwrap().unwrap(), 3);
        assert_eq!(cluster.numbers(1).await, [1, 2, 5], "what was refused was never proposed");
    });
}

#[test]
fn a_hundred_thousand_calls_at_once_are_refused_or_answered() {
    simulate(async {
        let cluster = Cluster::start(3).await;
        let leader = cluster.handle(cluster.leader().await);
        let calls = (0..100_000).map(|number| leader.try_propose(entry(number)));
        let outcomes = join_all(calls).await;
        let answered = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
        let busy = outcomes.iter().filter(|outcome| matches!(outcome, Err(ProposeError::Busy))).count();
        assert_eq!(answered + busy, 100_000);
        assert!(answered >= 8192 && busy > 0, "{answered} answered, {busy} refused");
        assert_eq!(cluster.numbers(1).await.len(), answered);
    });
}

#[test]
fn a_command_that_fits_no_batch_is_too_large_and_the_largest_one_that_fits_is_not() {
    simulate(async {
        let cluster = Cluster::tuned(3, |config| config.batch_bytes_max = 2000).await;
        let follower = cluster.handle(cluster.follower().await);
        let error = follower.propose((1, vec![1; 2000])).await.unwrap_err();
        let ProposeError::TooLarge { bytes, bytes_max } = error else { panic!("{error:?}") };
        let overhead = bytes - 2000;
        let largest: Entry = (1, vec![1; bytes_max - overhead]);
        follower.propose(largest).await.expect("it fits, also when forwarded");
        let error = follower.propose((1, vec![1; bytes_max - overhead + 1])).await.unwrap_err();
        assert!(matches!(error, ProposeError::TooLarge { .. }), "{error:?}");
    });
}

// scenario O5
#[test]
fn a_slow_subscriber_sees_the_newest_leadership_and_holds_up_nobody() {
    simulate(async {
        let mut cluster = Cluster::start(3).await;
        let leader = cluster.leader().await;
        let mut slow = cluster.handle(leader).leadership();
        let dropped = cluster.handle(leader).leadership();
        drop(dropped);
        cluster.handle(leader).propose(entry(1)).await.unwrap();
        cluster.handle(leader).step_down().await.unwrap();
        pause(Duration::from_secs(3)).await;
        let leader = cluster.leader().await;
        cluster.handle(leader).propose(entry(2)).await.unwrap();
        let newest = slow.next().await.unwrap();
        assert!(!matches!(newest, Leadership::Lost), "a newer one is known: {newest:?}");
        for node in 1..=3 {
            cluster.kill(node).await;
        }
        while slow.next().await.is_some() {}
    });
}

#[test]
fn with_external_election_nobody_leads_until_told_to() {
    simulate(async {
        let mut cluster = Cluster::unformed(3, |config| config.election = ElectionKind::External);
        for node in 1..=3 {
            cluster.bootstrap(node).await;
        }
        pause(Duration::from_secs(10)).await;
        assert_eq!(cluster.handle(2).status().await.unwrap().leader, None);
        cluster.handle(2).campaign().await.unwrap();
        assert_eq!(cluster.leader().await, 2);
        cluster.handle(2).propose(entry(1)).await.unwrap();
    });
}

#[test]
fn a_handle_works_from_a_plain_thread_without_a_runtime() {
    let hub = ChannelHub::new();
    let nodes: Vec<Node<Ledger>> = (1..=3)
        .map(|node| {
            let builder = Node::bootstrap(config(node), membership(3))
                .transport(hub.transport(NodeId::new(node)))
                .storage(MemoryStorage::default())
                .host(Host::OwnThread)
                .state_machine(Ledger::default);
            futures::executor::block_on(builder.start()).unwrap()
        })
        .collect();
    let handle = nodes[0].handle();
    let caller = std::thread::spawn(move || {
        futures::executor::block_on(async {
            handle.propose(entry(7)).await.unwrap();
            handle.read(Ledger::numbers).await.unwrap()
        })
    });
    assert_eq!(caller.join().unwrap(), [7]);
    for node in nodes {
        futures::executor::block_on(node.shutdown()).unwrap();
    }
}
