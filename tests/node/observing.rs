//! Observers: members that learn and apply, and count in no quorum.

use crate::{Cluster, Ledger, entry, member, node, pause, simulate};
use std::collections::BTreeMap;
use std::time::Duration;
use synod::multi::ProposerState;
use synod::{MemberKind, Membership, Node, ReadError};

impl Cluster {
    /// Voters and one observer more, which joined.
    async fn with_an_observer(voters: u64) -> Self {
        let mut cluster = Self::start(voters).await;
        let observer = voters + 1;
        cluster.join(observer).await;
        let handle = cluster.handle(observer).with_deadline(Duration::from_secs(30));
        let membership = handle.join_as(MemberKind::Observer).await.unwrap();
        assert_eq!(membership.members()[&node(observer)].kind, MemberKind::Observer);
        assert_eq!(membership.voting().count(), usize::try_from(voters).unwrap());
        cluster
    }
}

#[test]
fn an_observer_applies_serves_reads_and_forwards_what_is_proposed() {
    simulate(async {
        let cluster = Cluster::with_an_observer(3).await;
        let observer = cluster.handle(4);
        assert_eq!(observer.propose(entry(1)).await.unwrap(), 1);
        cluster.handle(1).propose(entry(2)).await.unwrap();
        assert_eq!(observer.read(Ledger::numbers).await.unwrap(), [1, 2], "with the leader's mark (7.3)");
        assert_eq!(observer.read_stale(Ledger::numbers).await.unwrap(), [1, 2]);
        let status = observer.status().await.unwrap();
        assert_eq!(status.kind, Some(MemberKind::Observer));
        assert_eq!(status.applied_through, status.chosen_through);
        assert_eq!(cluster.handle(1).status().await.unwrap().kind, Some(MemberKind::Voter));
    });
}

// protocol 6.4
#[test]
fn an_observer_counts_in_no_quorum_and_never_campaigns() {
    simulate(async {
        let mut cluster = Cluster::with_an_observer(2).await;
        cluster.handle(3).propose(entry(1)).await.unwrap();
        assert_eq!(cluster.numbers(3).await, [1]);
        cluster.kill(2).await;
        pause(Duration::from_secs(10)).await;
        let left = cluster.handle(1).with_deadline(Duration::from_secs(1));
        assert!(left.propose(entry(2)).await.is_err(), "one voter of two is no quorum, observer or not");
        cluster.kill(1).await;
        pause(Duration::from_secs(60)).await;
        let observer = cluster.handle(3).with_deadline(Duration::from_secs(1));
        let status = observer.status().await.unwrap();
        assert_eq!((status.proposer, status.leader), (ProposerState::Idle, None));
        assert_ne!(status.promised.map(|id| id.node), Some(node(3)));
        assert_eq!(observer.read_stale(Ledger::numbers).await.unwrap(), [1]);
        assert!(matches!(observer.read(Ledger::numbers).await, Err(ReadError::NoLeader { .. })));
    });
}

#[test]
fn an_observer_catches_up_after_a_restart_and_stays_one() {
    simulate(async {
        let mut cluster = Cluster::with_an_observer(3).await;
        cluster.kill(4).await;
        for number in 1..=200 {
            cluster.handle(1).propose(entry(number)).await.unwrap();
        }
        cluster.restart(4).await;
        cluster.leader().await;
        assert_eq!(cluster.numbers(4).await, (1..=200).collect::<Vec<_>>());
        assert_eq!(cluster.handle(4).status().await.unwrap().kind, Some(MemberKind::Observer));
    });
}

#[test]
fn an_observer_may_be_a_first_member() {
    simulate(async {
        let kinds = [(1, MemberKind::Voter), (2, MemberKind::Observer)];
        let members = BTreeMap::from(kinds.map(|(id, kind)| (node(id), member(kind))));
        let membership = Membership::new(members, 64).unwrap();
        let mut cluster = Cluster::unformed(2, |_| {});
        for id in [1, 2] {
            let builder = Node::bootstrap(cluster.config(id), membership.clone());
            cluster.run(id, builder.state_machine(Ledger::default)).await;
        }
        assert_eq!(cluster.leader().await, 1);
        cluster.handle(2).propose(entry(1)).await.unwrap();
        assert_eq!(cluster.numbers(2).await, [1]);
    });
}

#[test]
fn an_observer_is_promoted_when_it_shall_be() {
    simulate(async {
        let mut cluster = Cluster::with_an_observer(2).await;
        let handle = cluster.handle(3).with_deadline(Duration::from_secs(30));
        let membership = handle.join_as(MemberKind::Voter).await.unwrap();
        assert!(membership.votes(node(3)));
        cluster.kill(1).await;
        cluster.leader().await;
        cluster.handle(3).propose(entry(1)).await.unwrap();
        assert_eq!(cluster.numbers(2).await, [1]);
    });
}
