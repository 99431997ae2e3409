//! Starts that are refused, and starts from anywhere.

use crate::{Cluster, Ledger, config, entry, membership, pause, simulate};
use std::sync::Arc;
use std::time::Duration;
use synod::storage::StorageError;
use synod::transport::{Envelope, Inbox, SendOutcome, Transport, TransportError};
use synod::{Host, Membership, MemoryStorage, Node, NodeId, StartError, StopCause};
use synod_channel::ChannelHub;

#[test]
fn a_bootstrap_whose_membership_does_not_name_the_node_is_refused() {
    simulate(async {
        let outcome = Node::bootstrap(config(4), membership(3))
            .transport(ChannelHub::new().transport(NodeId::new(4)))
            .storage(MemoryStorage::default())
            .host(Host::ThisArbiter)
            .start()
            .await;
        assert!(
            matches!(outcome, Err(StartError::NotAMember { node }) if node == NodeId::new(4)),
            "{outcome:?}"
        );
    });
}

#[test]
fn a_configuration_that_contradicts_itself_is_refused() {
    simulate(async {
        let mut config = config(1);
        config.credits = 0;
        let outcome = Node::bootstrap(config, membership(1)).host(Host::ThisArbiter).start().await;
        assert!(
            matches!(&outcome, Err(StartError::Config(error)) if error.field == "credits"),
            "{outcome:?}"
        );
    });
}

#[test]
fn a_node_without_a_transport_is_refused() {
    simulate(async {
        let builder = Node::bootstrap(config(1), membership(1)).storage(MemoryStorage::default());
        let outcome = builder.host(Host::ThisArbiter).start().await;
        assert!(
            matches!(&outcome, Err(StartError::Config(error)) if error.field == "transport"),
            "{outcome:?}"
        );
    });
}

#[test]
fn a_restart_of_what_was_never_there_is_refused() {
    for host in [Host::ThisArbiter, Host::OwnThread] {
        simulate(async {
            let outcome = Node::restart(config(1))
                .transport(ChannelHub::new().transport(NodeId::new(1)))
                .storage(MemoryStorage::default())
                .host(host)
                .start()
                .await;
            let empty = matches!(&outcome, Err(StartError::Storage(StorageError::Empty { .. })));
            assert!(empty, "{host:?}: {outcome:?}");
        });
    }
}

#[test]
fn a_bootstrap_of_a_formed_node_is_refused_and_the_node_is_unharmed() {
    simulate(async {
        let mut cluster = Cluster::start(3).await;
        let leader = cluster.leader().await;
        cluster.handle(leader).propose(entry(1)).await.unwrap();
        cluster.kill(1).await;
        let outcome = Node::bootstrap(config(1), membership(3))
            .transport(cluster.hub.transport(NodeId::new(1)))
            .storage(cluster.storages[&1].clone())
            .host(Host::ThisArbiter)
            .start()
            .await;
        assert!(matches!(&outcome, Err(StartError::Storage(StorageError::InUse { .. }))), "{outcome:?}");
        cluster.restart(1).await;
        cluster.leader().await;
        assert_eq!(cluster.numbers(1).await, [1]);
    });
}

#[test]
fn outside_of_an_actix_system_this_arbiter_is_refused() {
    let builder = Node::bootstrap(config(1), membership(1))
        .transport(ChannelHub::new().transport(NodeId::new(1)))
        .storage(MemoryStorage::default())
        .host(Host::ThisArbiter);
    let outcome = futures::executor::block_on(builder.start());
    assert!(matches!(outcome, Err(StartError::NoArbiter)), "{outcome:?}");
}

/// A transport that fails at once, or a moment later.
struct Broken {
    after: Duration,
}

#[async_trait::async_trait]
impl Transport for Broken {
    fn send(&self, _to: NodeId, _envelope: &Envelope) -> SendOutcome {
        SendOutcome::Dropped
    }

    async fn run(self: Arc<Self>, _inbox: Inbox) -> Result<(), TransportError> {
        if !self.after.is_zero() {
            tokio::time::sleep(self.after).await;
        }
        Err(TransportError::RunsAlready)
    }
}

#[test]
fn a_transport_that_cannot_begin_fails_the_start_and_leaves_the_storage_closed() {
    simulate(async {
        let storage = MemoryStorage::default();
        let outcome = Node::bootstrap(config(1), membership(1))
            .transport(Broken { after: Duration::ZERO })
            .storage(storage.clone())
            .host(Host::ThisArbiter)
            .start()
            .await;
        assert!(matches!(&outcome, Err(StartError::Transport(TransportError::RunsAlready))), "{outcome:?}");
        let again = Node::bootstrap(config(1), membership(1))
            .transport(ChannelHub::new().transport(NodeId::new(1)))
            .storage(storage)
            .host(Host::ThisArbiter)
            .start()
            .await;
        again.expect("the place is free again");
    });
}

#[test]
fn a_transport_that_ends_stops_the_node() {
    simulate(async {
        let node = Node::bootstrap(config(1), membership(1))
            .transport(Broken { after: Duration::from_secs(1) })
            .storage(MemoryStorage::default())
            .host(Host::ThisArbiter)
            .start()
            .await
            .unwrap();
        let cause = node.handle().stopped().await;
        assert!(matches!(cause, StopCause::Transport(_)), "{cause:?}");
        assert!(matches!(node.shutdown().await, Err(StopCause::Transport(_))));
    });
}

#[test]
fn nodes_that_were_started_with_different_memberships_do_not_go_on() {
    simulate(async {
        let mut cluster = Cluster::unformed(3, |_| {});
        cluster.bootstrap(1).await;
        cluster.bootstrap(2).await;
        let other = Membership::voters([1, 2, 3, 4].map(|node| (NodeId::new(node), ""))).unwrap();
        let builder = Node::bootstrap(config(3), other);
        cluster.run(3, builder.state_machine(Ledger::default)).await;
        // Whoever hears of it first stops first.
        let handles = [1, 2, 3].map(|node| cluster.handle(node));
        let stopped = handles.iter().map(|handle| Box::pin(handle.stopped()));
        let (cause, ..) = futures::future::select_all(stopped).await;
        assert!(matches!(cause, StopCause::FormationDiffers { .. }), "{cause:?}");
    });
}

#[test]
fn a_node_starts_from_a_tokio_task_on_a_thread_of_its_own() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let reply = runtime.block_on(async {
        let start = Node::bootstrap(config(1), membership(1))
            .transport(ChannelHub::new().transport(NodeId::new(1)))
            .storage(MemoryStorage::default())
            .state_machine(Ledger::default)
            .start();
        // The future is `Send`: it may run wherever the runtime likes.
        let node = tokio::spawn(start).await.unwrap().unwrap();
        let reply = node.handle().propose(entry(1)).await.unwrap();
        node.shutdown().await.unwrap();
        reply
    });
    assert_eq!(reply, 1);
}

#[test]
fn a_starter_that_goes_away_leaves_no_node_behind() {
    simulate(async {
        let hub = ChannelHub::new();
        let storage = MemoryStorage::default();
        let mut start = Box::pin(
            Node::bootstrap(config(1), membership(1))
                .transport(hub.transport(NodeId::new(1)))
                .storage(storage.clone())
                .host(Host::ThisArbiter)
                .start(),
        );
        assert!(futures::poll!(&mut start).is_pending());
        drop(start);
        pause(Duration::from_secs(1)).await;
        let again = Node::bootstrap(config(1), membership(1))
            .transport(hub.transport(NodeId::new(1)))
            .storage(storage)
            .host(Host::ThisArbiter)
            .start()
            .await;
        assert!(
            !matches!(&again, Err(StartError::Storage(StorageError::Locked { .. }))),
            "the place is free again: {again:?}"
        );
    });
}
