//! Sessions on whole nodes: a retry applies once, whoever leads and through whichever node it comes.

use crate::{Cluster, Ledger, config, entry, membership, pause, simulate};
use futures::future::join_all;
use std::sync::Arc;
use std::time::Duration;
use synod::multi::{Role, SessionId, SessionStamp};
use synod::timer::TokioTimer;
use synod::{Handle, Host, MemoryStorage, Node, NodeId, ProposeError, Slot};
use synod_memory::MemoryNetwork;

/// Three nodes on a network that can be cut, and who leads.
async fn on_a_network() -> (MemoryNetwork, Vec<Option<Node<Ledger>>>, usize) {
    let network = MemoryNetwork::new(7, Arc::new(TokioTimer::default()));
    let mut nodes = Vec::new();
    for member in 1..=3 {
        let builder = Node::bootstrap(config(member), membership(3))
            .transport(network.transport(NodeId::new(member)))
            .storage(MemoryStorage::with_seed(member))
            .host(Host::ThisArbiter)
            .seed(member);
        nodes.push(Some(builder.state_machine(Ledger::default).start().await.unwrap()));
    }
    let first = nodes[0].as_ref().unwrap().handle();
    first.propose(entry(1)).await.unwrap();
    let leader = first.status().await.unwrap().leader.unwrap().node;
    let leader = usize::try_from(leader.get()).unwrap() - 1;
    (network, nodes, leader)
}

/// Drops a node and waits until it is gone.
async fn kill(nodes: &mut [Option<Node<Ledger>>], place: usize) {
    let killed = nodes[place].take().unwrap();
    let handle = killed.handle();
    drop(killed);
    handle.stopped().await;
}

fn handle(nodes: &[Option<Node<Ledger>>], place: usize) -> Handle<Ledger> {
    nodes[place].as_ref().unwrap().handle()
}

fn is_unknown_and_safe(outcome: &Result<usize, ProposeError>) -> bool {
    matches!(outcome, Err(ProposeError::Unknown { retry_is_safe: true }))
}

// protocol 12.3, scenario M7
#[test]
fn when_the_leader_dies_before_it_answers_the_same_call_through_another_node_applies_once() {
    simulate(async {
        let (network, mut nodes, leader) = on_a_network().await;
        let others: Vec<usize> = (0..3).filter(|place| *place != leader).collect();
        let session = handle(&nodes, leader).open_session().await.unwrap();
        session.propose(entry(2)).await.unwrap();
        // The leader is heard, and hears nobody: the others take the command in, and it never knows.
        let id = |place: usize| NodeId::new(place as u64 + 1);
        for other in &others {
            network.cut_one_way(id(*other), id(leader));
        }
        let call = Arc::new(session.call(entry(3)).unwrap());
        let first = Arc::clone(&call);
        let first = actix_rt::spawn(async move { first.send().await });
        pause(Duration::from_millis(100)).await;
        assert!(!first.is_finished());
        kill(&mut nodes, leader).await;
        let outcome = first.await.unwrap();
        assert!(is_unknown_and_safe(&outcome), "{outcome:?}");

        let reply = call.send_through(&handle(&nodes, others[0])).await.unwrap();
        assert_eq!(reply, 3);
        for other in others {
            let numbers = handle(&nodes, other).read(Ledger::numbers).await.unwrap();
            assert_eq!(numbers, [1, 2, 3]);
        }
    });
}

// protocol 12.3, scenario M7
#[test]
fn when_the_node_asked_dies_after_the_command_was_applied_a_retry_elsewhere_gets_the_same_reply() {
    simulate(async {
        let (network, mut nodes, leader) = on_a_network().await;
        let asked = (leader + 1) % 3;
        let id = |place: usize| NodeId::new(place as u64 + 1);
        let session = handle(&nodes, asked).open_session().await.unwrap();
        // What it forwards arrives; the answer does not.
        network.cut_one_way(id(leader), id(asked));
        let call = Arc::new(session.call(entry(2)).unwrap());
        let first = Arc::clone(&call);
        let first = actix_rt::spawn(async move { first.send().await });
        pause(Duration::from_millis(100)).await;
        let numbers = handle(&nodes, leader).read_stale(Ledger::numbers).await.unwrap();
        assert_eq!(numbers, [1, 2], "applied, and the caller does not know");
        kill(&mut nodes, asked).await;
        let outcome = first.await.unwrap();
        assert!(is_unknown_and_safe(&outcome), "{outcome:?}");

        handle(&nodes, leader).propose(entry(3)).await.unwrap();
        // A client that was started anew knows no more than this.
        let resumed = handle(&nodes, leader).resume_session(session.id(), session.answered_through());
        let again = resumed.call(entry(2)).unwrap();
        assert_eq!(again.stamp(), call.stamp());
        assert_eq!(again.send().await.unwrap(), 2, "the reply of then");
        let third = 3 - leader - asked;
        for place in [leader, third] {
            let numbers = handle(&nodes, place).read(Ledger::numbers).await.unwrap();
            assert_eq!(numbers, [1, 2, 3]);
        }
    });
}

// protocol 12.3
#[test]
fn a_session_outlives_leaders_and_roles_that_are_built_anew() {
    simulate(async {
        let mut cluster = Cluster::start(3).await;
        let follower = cluster.follower().await;
        let session = cluster.handle(follower).open_session().await.unwrap();
        let call = session.call(entry(1)).unwrap();
        let stamp = call.stamp();
        assert_eq!(call.send().await.unwrap(), 1);

        let first = cluster.leader().await;
        cluster.kill(first).await;
        let second = cluster.leader().await;
        assert_eq!(cluster.handle(second).propose_in_session(stamp, entry(1)).await.unwrap(), 1);
        cluster.restart(first).await;
        // The learner applies the whole log again, and comes to the same table.
        cluster.handle(second).panic_role(Role::Learner);
        pause(Duration::from_secs(2)).await;
        for node in 1..=3 {
            let reply = cluster.handle(node).propose_in_session(stamp, entry(1)).await.unwrap();
            assert_eq!(reply, 1, "through node {node}");
            assert_eq!(cluster.numbers(node).await, [1]);
        }
    });
}

// protocol 12.4
#[test]
fn a_command_of_an_expired_session_is_refused_without_effect_on_the_leader_and_through_a_follower() {
    simulate(async {
        let mut cluster = Cluster::unformed(3, |_| {});
        for node in 1..=3 {
            let builder = Node::bootstrap(cluster.config(node), membership(3).with_sessions_max(2));
            cluster.run(node, builder.state_machine(Ledger::default)).await;
        }
        let (leader, follower) = (cluster.leader().await, cluster.follower().await);
        let handle = cluster.handle(leader);
        let oldest = handle.open_session().await.unwrap();
        let used = handle.open_session().await.unwrap();
        oldest.propose(entry(1)).await.unwrap();
        used.propose(entry(2)).await.unwrap();
        let newest = cluster.handle(follower).open_session().await.unwrap();
        for asked in [leader, follower] {
            let call = oldest.call(entry(3)).unwrap();
            let error = call.send_through(&cluster.handle(asked)).await.unwrap_err();
            assert!(matches!(error, ProposeError::SessionExpired), "{error:?}");
        }
        used.propose(entry(4)).await.unwrap();
        newest.propose(entry(5)).await.unwrap();
        let never = SessionStamp {
            session: SessionId { slot: Slot::new(1 << 40), index: 0 },
            serial: 1,
            answered_through: 0,
        };
        let error = handle.propose_in_session(never, entry(6)).await.unwrap_err();
        assert!(matches!(error, ProposeError::SessionExpired), "{error:?}");
        for node in 1..=3 {
            assert_eq!(cluster.numbers(node).await, [1, 2, 4, 5]);
        }
    });
}

// protocol 12.3
#[test]
fn what_the_client_has_the_answer_to_is_refused_by_every_node() {
    simulate(async {
        let cluster = Cluster::start(3).await;
        let session = cluster.handle(1).open_session().await.unwrap();
        let first = session.call(entry(1)).unwrap();
        let stamp = first.stamp();
        first.send().await.unwrap();
        session.propose(entry(2)).await.unwrap();
        assert_eq!(session.answered_through(), 2);
        for node in 1..=3 {
            let error = cluster.handle(node).propose_in_session(stamp, entry(1)).await.unwrap_err();
            assert!(matches!(error, ProposeError::SerialAnswered), "{error:?}");
        }
        let error = first.send().await.unwrap_err();
        assert!(matches!(error, ProposeError::SerialAnswered), "it was answered before: {error:?}");
        assert_eq!(cluster.numbers(3).await, [1, 2]);
    });
}

// protocol 12.3
#[test]
fn calls_under_way_at_once_are_bounded_and_each_hears_its_own_reply() {
    simulate(async {
        let cluster = Cluster::start(3).await;
        let follower = cluster.handle(cluster.follower().await);
        let session = follower.open_session().await.unwrap();
        let calls: Vec<_> =
            (1..=SessionStamp::OPEN_MAX).map(|number| session.call(entry(number)).unwrap()).collect();
        let error = session.call(entry(99)).unwrap_err();
        assert!(matches!(error, ProposeError::SerialTooFar), "{error:?}");
        // Twice each: a repeat is answered, and with the reply of the first.
        let both = calls.iter().map(|call| async { (call.send().await, call.send().await) });
        for (number, (reply, again)) in (1..).zip(join_all(both).await) {
            assert_eq!(reply.unwrap(), number);
            let error = again.unwrap_err();
            assert!(matches!(error, ProposeError::SerialAnswered), "{error:?}");
        }
        assert_eq!(session.answered_through(), SessionStamp::OPEN_MAX);
        let call = session.call(entry(99)).unwrap();
        let replies = join_all([call.send(), call.send(), call.send()]).await;
        let replies: Vec<usize> = replies.into_iter().map(Result::unwrap).collect();
        assert_eq!(replies, [65, 65, 65], "one entry applied, three answers");
        let stamp = SessionStamp { serial: 200, ..call.stamp() };
        let error = follower.propose_in_session(stamp, entry(100)).await.unwrap_err();
        assert!(matches!(error, ProposeError::SerialTooFar), "{error:?}");
    });
}

// protocol 12.1
#[test]
fn a_retry_is_safe_only_under_the_same_serial_and_a_call_that_was_given_up_is_not_applied() {
    simulate(async {
        // No leader steps down for its disk here.
        let cluster = Cluster::tuned(1, |config| config.disk_stall = Duration::from_secs(60)).await;
        let handle = cluster.handle(1).with_deadline(Duration::from_secs(1));
        let session = handle.open_session().await.unwrap();
        cluster.storages[&1].hold_flushes();
        let call = session.call(entry(1)).unwrap();
        let outcome = call.send().await;
        assert!(is_unknown_and_safe(&outcome), "{outcome:?}");
        let outcome = session.propose(entry(2)).await;
        assert!(matches!(outcome, Err(ProposeError::Unknown { retry_is_safe: false })), "{outcome:?}");
        assert_eq!(session.answered_through(), 0, "the first one is still open");
        cluster.storages[&1].release();
        assert_eq!(call.send().await.unwrap(), 1);

        let given_up = session.call(entry(3)).unwrap();
        let stamp = given_up.stamp();
        drop(given_up);
        session.propose(entry(4)).await.unwrap();
        let error = handle.propose_in_session(stamp, entry(3)).await.unwrap_err();
        assert!(matches!(error, ProposeError::SerialAnswered), "{error:?}");
        assert_eq!(cluster.numbers(1).await, [1, 2, 4]);
    });
}

#[test]
fn a_session_is_shared_by_its_clones_and_named_by_its_place_in_the_log() {
    simulate(async {
        let cluster = Cluster::start(1).await;
        let (first, second) = (
            cluster.handle(1).open_session().await.unwrap(),
            cluster.handle(1).open_session().await.unwrap(),
        );
        assert!(first.id() < second.id());
        let clone = first.clone();
        assert_eq!(clone.id(), first.id());
        let (one, two) = (first.call(entry(1)).unwrap(), clone.call(entry(2)).unwrap());
        assert_eq!((one.stamp().serial, two.stamp().serial), (1, 2));
        assert_eq!(first.id().to_string().parse(), Ok(first.id()));
    });
}
