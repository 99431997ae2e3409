//! What operators do to running nodes: grow, shrink and replace, hand the lead over; and a disk that does not keep up.

use crate::{Cluster, Ledger, entry, member, node, pause, simulate};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use synod::multi::{ChangeRefusal, ProposerState, TransferRefusal};
use synod::{
    Change, ChangeError, Member, MemberKind, Membership, MemoryStorage, ProposeError, ReadError, StopCause,
    TransferError,
};
use tracing::field::{Field, Visit};
use tracing::span;

fn voter() -> Member {
    member(MemberKind::Voter)
}

impl Cluster {
    pub(crate) async fn add(&mut self, id: u64) -> Membership {
        self.join(id).await;
        let handle = self.handle(1).with_deadline(Duration::from_secs(30));
        handle.change(Change::Add { node: node(id), member: voter() }).await.unwrap()
    }
}

// protocol 6.2
#[test]
fn a_cluster_of_one_is_a_full_cluster_and_grows_to_three() {
    simulate(async {
        let mut cluster = Cluster::start(1).await;
        for number in 1..=3 {
            cluster.handle(1).propose(entry(number)).await.unwrap();
        }
        cluster.add(2).await;
        let membership = cluster.add(3).await;
        assert_eq!(membership.voting().count(), 3);
        assert_eq!(membership.quorums(), (2, 2));
        cluster.handle(3).propose(entry(4)).await.unwrap();
        cluster.kill(1).await;
        cluster.leader().await;
        cluster.handle(2).propose(entry(5)).await.unwrap();
        assert_eq!(cluster.handle(3).read(Ledger::numbers).await.unwrap(), [1, 2, 3, 4, 5]);
    });
}

// protocol 6.5
#[test]
fn a_leader_that_is_removed_hands_over_and_stops() {
    simulate(async {
        let cluster = Cluster::start(3).await;
        let leader = cluster.leader().await;
        let other = cluster.follower().await;
        cluster.handle(other).propose(entry(1)).await.unwrap();
        let membership = cluster.handle(other).change(Change::Remove { node: node(leader) }).await.unwrap();
        assert!(!membership.members().contains_key(&node(leader)));
        assert!(matches!(cluster.handle(leader).stopped().await, StopCause::Removed));
        cluster.handle(other).with_deadline(Duration::from_secs(20)).propose(entry(2)).await.unwrap();
        assert_eq!(cluster.handle(other).read(Ledger::numbers).await.unwrap(), [1, 2]);
    });
}

// protocol 10.1, fault F30
#[test]
fn a_lost_node_is_replaced_by_a_new_one_in_one_change() {
    simulate(async {
        let mut cluster = Cluster::start(3).await;
        cluster.handle(1).propose(entry(1)).await.unwrap();
        cluster.kill(3).await;
        cluster.leader().await;
        cluster.join(4).await;
        let replace = Change::Replace { lost: node(3), node: node(4), address: String::new() };
        let handle = cluster.handle(1).with_deadline(Duration::from_secs(30));
        let membership = handle.change(replace.clone()).await.unwrap();
        assert_eq!(membership.members().keys().copied().collect::<Vec<_>>(), [node(1), node(2), node(4)]);
        assert_eq!(handle.change(replace).await.unwrap(), membership, "asked for again, it is done");
        assert_eq!(cluster.handle(4).read(Ledger::numbers).await.unwrap(), [1]);
        let back = handle.change(Change::Add { node: node(3), member: voter() }).await;
        assert!(matches!(back, Err(ChangeError::Refused(ChangeRefusal::Retired { .. }))), "{back:?}");
    });
}

#[test]
fn a_change_that_cannot_be_is_refused_with_its_reason() {
    simulate(async {
        let one = Cluster::start(1).await;
        let last = one.handle(1).change(Change::Remove { node: node(1) }).await;
        assert!(matches!(last, Err(ChangeError::Refused(ChangeRefusal::Impossible(_)))), "{last:?}");
        let stranger = one.handle(1).change(Change::Remove { node: node(9) }).await;
        assert!(
            matches!(stranger, Err(ChangeError::Refused(ChangeRefusal::NotAMember { .. }))),
            "{stranger:?}"
        );
    });
}

/// The numbers of voters that warnings were about.
#[derive(Clone, Default)]
struct Warnings(Arc<Mutex<Vec<u64>>>);

impl Visit for Warnings {
    fn record_u64(&mut self, field: &Field, value: u64) {
        if field.name() == "voters" {
            self.0.lock().unwrap().push(value);
        }
    }
    fn record_debug(&mut self, _: &Field, _: &dyn std::fmt::Debug) {}
}

impl tracing::Subscriber for Warnings {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() == tracing::Level::WARN
    }
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        event.record(&mut self.clone());
    }
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

// protocol 6.1
#[test]
fn an_even_number_of_voters_is_allowed_with_a_warning_and_an_odd_one_without() {
    let warnings = Warnings::default();
    let _here = crate::listen(warnings.clone());
    simulate(async {
        let cluster = Cluster::start(3).await;
        let leader = cluster.leader().await;
        let gone = cluster.follower().await;
        let handle = cluster.handle(leader);
        let two = handle.change(Change::Remove { node: node(gone) }).await.unwrap();
        assert_eq!((two.voting().count(), two.quorums()), (2, (2, 2)));
        let told = warnings.0.lock().unwrap().clone();
        assert!(!told.is_empty() && told.iter().all(|voters| *voters == 2), "{told:?}");
        let other = (1..=3).find(|id| *id != leader && *id != gone).unwrap();
        warnings.0.lock().unwrap().clear();
        let one = handle.change(Change::Remove { node: node(other) }).await.unwrap();
        assert_eq!(one.voting().count(), 1);
        assert_eq!(*warnings.0.lock().unwrap(), [0; 0]);
    });
}

#[test]
fn without_a_leader_reads_changes_and_transfers_say_so() {
    simulate(async {
        let mut cluster = Cluster::start(3).await;
        let last = cluster.leader().await;
        for other in (1..=3).filter(|id| *id != last) {
            cluster.kill(other).await;
        }
        pause(Duration::from_secs(3)).await;
        let handle = cluster.handle(last).with_deadline(Duration::from_millis(500));
        let read = handle.read(Ledger::numbers).await;
        assert!(matches!(read, Err(ReadError::NoLeader { .. })), "{read:?}");
        let change = handle.change(Change::Add { node: node(4), member: voter() }).await;
        assert!(matches!(change, Err(ChangeError::NotLeader { .. })), "{change:?}");
        let transfer = handle.transfer(None).await;
        assert!(matches!(transfer, Err(TransferError::NotLeader { .. })), "{transfer:?}");
    });
}

// protocol 7.4
#[test]
fn a_read_under_a_lease_is_refused_where_the_cluster_has_none() {
    simulate(async {
        let cluster = Cluster::start(1).await;
        let read = cluster.handle(1).read_lease(Ledger::numbers).await;
        assert!(matches!(read, Err(ReadError::NoLease)), "{read:?}");
    });
}

// protocol 6.2
#[test]
fn a_second_change_is_refused_while_one_is_under_way() {
    simulate(async {
        let mut cluster = Cluster::start(3).await;
        cluster.leader().await;
        cluster.storages.insert(4, MemoryStorage::with_seed(4));
        let handle = cluster.handle(1).with_deadline(Duration::from_secs(5));
        let absent = handle.clone();
        let first =
            actix_rt::spawn(
                async move { absent.change(Change::Add { node: node(4), member: voter() }).await },
            );
        pause(Duration::from_secs(1)).await;
        let second = handle.change(Change::Remove { node: node(3) }).await;
        assert!(matches!(second, Err(ChangeError::Refused(ChangeRefusal::InProgress))), "{second:?}");
        assert!(matches!(first.await.unwrap(), Err(ChangeError::Unknown)), "node 4 never came");
    });
}

// protocol 8.5
#[test]
fn the_lead_goes_where_it_is_sent_and_writes_go_on() {
    simulate(async {
        let cluster = Cluster::start(3).await;
        let leader = cluster.leader().await;
        let target = cluster.follower().await;
        cluster.handle(1).propose(entry(1)).await.unwrap();
        assert_eq!(cluster.handle(1).transfer(Some(node(target))).await.unwrap(), node(target));
        cluster.handle(leader).propose(entry(2)).await.unwrap();
        assert_eq!(cluster.leader().await, target);
        assert_eq!(cluster.numbers(leader).await, [1, 2]);
    });
}

#[test]
fn a_transfer_to_a_node_that_lags_or_does_not_vote_is_refused_and_the_leader_stays() {
    simulate(async {
        let mut cluster = Cluster::start(3).await;
        let leader = cluster.leader().await;
        let gone = cluster.follower().await;
        cluster.kill(gone).await;
        pause(Duration::from_secs(2)).await;
        let lags = cluster.handle(leader).transfer(Some(node(gone))).await;
        assert!(matches!(lags, Err(TransferError::Refused(TransferRefusal::Lags { .. }))), "{lags:?}");
        let stranger = cluster.handle(leader).transfer(Some(node(9))).await;
        assert!(
            matches!(stranger, Err(TransferError::Refused(TransferRefusal::NotAVoter { .. }))),
            "{stranger:?}"
        );
        assert_eq!(cluster.leader().await, leader);
    });
}

// protocol 7.2, scenario M10
#[test]
fn a_leader_that_is_cut_off_serves_no_linearizable_read() {
    simulate(async {
        let mut cluster = Cluster::start(3).await;
        let leader = cluster.leader().await;
        cluster.handle(leader).propose(entry(1)).await.unwrap();
        for other in (1..=3).filter(|id| *id != leader) {
            cluster.kill(other).await;
        }
        let handle = cluster.handle(leader).with_deadline(Duration::from_millis(200));
        assert!(handle.read(Ledger::numbers).await.is_err());
        assert_eq!(handle.read_stale(Ledger::numbers).await.unwrap(), [1]);
    });
}

// protocol 8.3, fault F25
#[test]
fn a_leader_whose_disk_stalls_hands_the_lead_over_and_is_not_elected_before_it_is_well() {
    simulate(async {
        let cluster = Cluster::start(3).await;
        let leader = cluster.leader().await;
        cluster.storages[&leader].hold_flushes();
        let _ = cluster.handle(leader).with_deadline(Duration::from_millis(10)).propose(entry(1)).await;
        pause(Duration::from_secs(4)).await;
        let status = cluster.handle(leader).status().await.unwrap();
        assert_eq!(status.proposer, ProposerState::Idle);
        assert_ne!(status.leader.unwrap().node, node(leader));
        cluster.storages[&leader].release();
        let other = (1..=3).find(|id| *id != leader).unwrap();
        match cluster.handle(other).propose(entry(2)).await {
            Ok(_) | Err(ProposeError::Unknown { .. }) => {}
            Err(error) => unreachable!("{error}"),
        }
    });
}
