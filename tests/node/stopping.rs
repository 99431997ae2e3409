//! Nodes that are shut down or dropped.

use crate::{Cluster, config, entry, membership, pause, simulate};
use futures::future::join_all;
use std::time::Duration;
use synod::{Host, MemoryStorage, Node, NodeId, ProposeError, ReadError, StopCause};
use synod_channel::ChannelHub;

// scenario O6
#[test]
fn shutdown_under_load_answers_what_is_under_way_and_keeps_it() {
    simulate(async {
        let mut cluster = Cluster::start(3).await;
        let leader = cluster.leader().await;
        let handle = cluster.handle(leader);
        let calls: Vec<_> = (1..=1000)
            .map(|number| {
                let handle = handle.clone();
                actix_rt::spawn(async move { (number, handle.propose(entry(number)).await) })
            })
            .collect();
        pause(Duration::from_nanos(1)).await;
        let begun = tokio::time::Instant::now();
        cluster.nodes.remove(&leader).unwrap().shutdown().await.unwrap();
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
        let mut answered = Vec::new();
        for outcome in join_all(calls).await {
            match outcome.unwrap() {
                (number, Ok(_)) => answered.push(number),
                (_, Err(ProposeError::Stopped { cause: StopCause::Shutdown })) => {}
                (number, Err(error)) => panic!("{number}: {error:?}"),
            }
        }
        assert!(!answered.is_empty());
        cluster.restart(leader).await;
        cluster.leader().await;
        let numbers = cluster.numbers(leader).await;
        assert!(answered.iter().all(|number| numbers.contains(number)), "{numbers:?}");
    });
}

#[test]
fn what_cannot_be_finished_before_the_shutdown_deadline_is_unknown() {
    simulate(async {
        let mut cluster = Cluster::start(1).await;
        let handle = cluster.handle(1);
        cluster.storages[&1].hold_flushes();
        let call = actix_rt::spawn(async move { handle.propose(entry(1)).await });
        pause(Duration::from_millis(1)).await;
        let storage = cluster.storages[&1].clone();
        // The append ends after the deadline has passed, and the storage is closed after it.
        let release = actix_rt::spawn(async move {
            pause(Duration::from_secs(3)).await;
            storage.release();
        });
        cluster.nodes.remove(&1).unwrap().shutdown().await.unwrap();
        release.await.unwrap();
        let error = call.await.unwrap().unwrap_err();
        assert!(matches!(error, ProposeError::Unknown { retry_is_safe: false }), "{error:?}");
    });
}

#[test]
fn after_the_end_every_call_says_why() {
    simulate(async {
        let mut cluster = Cluster::start(3).await;
        let handle = cluster.handle(1);
        cluster.nodes.remove(&1).unwrap().shutdown().await.unwrap();
        let shut = |cause: &StopCause| matches!(cause, StopCause::Shutdown);
        assert!(
            matches!(handle.propose(entry(1)).await, Err(ProposeError::Stopped { cause }) if shut(&cause))
        );
        assert!(
            matches!(handle.try_propose(entry(1)).await, Err(ProposeError::Stopped { cause }) if shut(&cause))
        );
        assert!(matches!(handle.read_stale(|_| ()).await, Err(ReadError::Stopped { cause }) if shut(&cause)));
        assert!(matches!(handle.read(|_| ()).await, Err(ReadError::Stopped { cause }) if shut(&cause)));
        assert!(matches!(handle.status().await, Err(cause) if shut(&cause)));
        assert!(matches!(handle.campaign().await, Err(cause) if shut(&cause)));
        assert!(shut(&handle.stopped().await));
    });
}

#[test]
fn a_leader_that_is_shut_down_steps_down_and_another_takes_over() {
    simulate(async {
        let mut cluster = Cluster::start(3).await;
        let leader = cluster.leader().await;
        cluster.nodes.remove(&leader).unwrap().shutdown().await.unwrap();
        let next = cluster.leader().await;
        assert_ne!(next, leader);
        assert_eq!(cluster.handle(next).propose(entry(1)).await.unwrap(), 1);
    });
}

// protocol 8.2
#[test]
fn a_leader_that_is_dropped_while_its_append_hangs_falls_silent() {
    simulate(async {
        let mut cluster = Cluster::start(3).await;
        let leader = cluster.leader().await;
        cluster.storages[&leader].hold_flushes();
        let caller = cluster.handle(leader);
        let call = actix_rt::spawn(async move { caller.propose(entry(1)).await });
        pause(Duration::from_millis(1)).await;
        drop(cluster.nodes.remove(&leader));
        let next = cluster.leader().await;
        assert_ne!(next, leader);
        cluster.handle(next).propose(entry(2)).await.unwrap();
        cluster.storages[&leader].release();
        let _ = call.await.unwrap();
    });
}

#[test]
fn a_node_on_a_thread_of_its_own_that_is_dropped_stops_without_blocking() {
    let hub = ChannelHub::new();
    let builder = Node::bootstrap(config(1), membership(1))
        .transport(hub.transport(NodeId::new(1)))
        .storage(MemoryStorage::default())
        .host(Host::OwnThread);
    let node = futures::executor::block_on(builder.start()).unwrap();
    let handle = node.handle();
    drop(node);
    let cause = futures::executor::block_on(handle.stopped());
    assert!(matches!(cause, StopCause::Shutdown), "{cause:?}");
}

#[test]
fn a_system_that_ends_ends_its_nodes() {
    let handle = simulate(async {
        let cluster = Cluster::start(1).await;
        let handle = cluster.handle(1);
        cluster.storages[&1].hold_flushes();
        let caller = handle.clone();
        let call = actix_rt::spawn(async move { caller.propose(entry(1)).await });
        pause(Duration::from_millis(1)).await;
        // Neither the node nor the call is waited for: the system goes with both.
        std::mem::forget(cluster.nodes);
        drop(call);
        handle
    });
    let cause = futures::executor::block_on(handle.stopped());
    assert!(matches!(cause, StopCause::Gone), "{cause:?}");
    let outcome = futures::executor::block_on(handle.propose(entry(2)));
    assert!(matches!(outcome, Err(ProposeError::Stopped { cause: StopCause::Gone })), "{outcome:?}");
}
