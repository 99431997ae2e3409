//! Recovery: a machine that lost its disk comes back in its old node's place, under a new id.

use crate::{Cluster, Entry, Ledger, config, entry, member, membership, node, pause, simulate};
use std::collections::BTreeSet;
use std::time::Duration;
use synod::multi::{AbstainReason, ChangeRefusal};
use synod::storage::StorageError;
use synod::{
    Builder, Change, Handle, Host, MemberKind, MemoryStorage, Node, NodeId, RecoverError, Recovery,
    StartError, StopCause,
};

impl Cluster {
    /// Starts `id` on an empty place, in the place of `lost`.
    async fn recover(&mut self, id: u64, lost: u64) {
        self.storages.insert(id, MemoryStorage::with_seed(id + 100));
        let builder = Node::recover(self.config(id), node(lost)).state_machine(Ledger::default);
        self.run(id, builder).await;
    }

    /// The disk of `id` is gone: another one is in its place.
    async fn wipe(&mut self, id: u64) {
        self.kill(id).await;
        self.storages.insert(id, MemoryStorage::with_seed(id + 1000));
    }

    async fn members(&self, id: u64) -> Vec<NodeId> {
        let membership = self.handle(id).status().await.unwrap().membership.unwrap();
        membership.voting().collect()
    }
}

/// Proposes one number after the other until told otherwise, and says which were acknowledged.
async fn write(handle: Handle<Ledger>, mut enough: futures::channel::oneshot::Receiver<()>) -> Vec<u64> {
    let mut acknowledged = Vec::new();
    for number in 1.. {
        if !matches!(enough.try_recv(), Ok(None)) {
            break;
        }
        let entry: Entry = (number, Vec::new());
        if handle.propose(entry).await.is_ok() {
            acknowledged.push(number);
        }
        pause(Duration::from_millis(5)).await;
    }
    acknowledged
}

// protocol 9.1, 9.2, 10.1, fault F30, scenario D9
#[test]
fn a_wiped_machine_comes_back_under_a_new_id_in_one_change_while_writes_go_on() {
    simulate(async {
        let mut cluster = Cluster::start(3).await;
        let (enough, told) = futures::channel::oneshot::channel();
        let writer = actix_rt::spawn(write(cluster.handle(1), told));
        pause(Duration::from_secs(1)).await;
        cluster.wipe(3).await;

        let restarted = Node::restart(cluster.config(3)).state_machine(Ledger::default);
        let outcome = cluster.try_run(3, restarted).await;
        assert!(matches!(&outcome, Err(StartError::Storage(StorageError::Empty { .. }))), "{outcome:?}");
        cluster.bootstrap(3).await;
        let cause = cluster.handle(3).stopped().await;
        assert!(matches!(cause, StopCause::Abstains(AbstainReason::AlreadyFormed)), "{cause:?}");
        cluster.nodes.remove(&3);

        cluster.recover(4, 3).await;
        let mut seen = BTreeSet::new();
        let recovered = cluster.handle(4);
        let mut recovered = Box::pin(recovered.recovered());
        let membership = loop {
            seen.insert(cluster.members(1).await);
            if let std::task::Poll::Ready(outcome) = futures::poll!(&mut recovered) {
                break outcome.unwrap();
            }
            pause(Duration::from_millis(1)).await;
        };
        seen.insert(cluster.members(1).await);
        let (before, after) = ([1, 2, 3].map(node).to_vec(), [1, 2, 4].map(node).to_vec());
        assert_eq!(membership.voting().collect::<Vec<_>>(), after);
        assert_eq!(seen, BTreeSet::from([before, after]), "there is no step between");
        let status = cluster.handle(4).status().await.unwrap();
        assert_eq!(status.kind, Some(MemberKind::Voter));
        assert_eq!(status.recovery, Some(Recovery::Done { membership }));

        pause(Duration::from_secs(1)).await;
        enough.send(()).unwrap();
        let acknowledged = writer.await.unwrap();
        assert!(acknowledged.len() > 300, "writes went on: {}", acknowledged.len());
        cluster.kill(2).await;
        cluster.leader().await;
        let history = cluster.numbers(4).await;
        assert_eq!(history, cluster.numbers(1).await, "the whole history, and node 4 counts");
        let applied: BTreeSet<u64> = history.into_iter().collect();
        assert!(acknowledged.iter().all(|number| applied.contains(number)));
    });
}

// protocol 6.5, 9.3
#[test]
fn the_lost_node_never_returns_whatever_image_of_it_is_started() {
    simulate(async {
        let mut cluster = Cluster::start(3).await;
        cluster.handle(1).propose(entry(1)).await.unwrap();
        cluster.kill(3).await;
        cluster.recover(4, 3).await;
        cluster.handle(4).recovered().await.unwrap();
        // The newest image: it learns that it was removed.
        cluster.restart(3).await;
        assert!(matches!(cluster.handle(3).stopped().await, StopCause::Removed));
        cluster.nodes.remove(&3);
        // Another disk under the old id: nobody takes it for the old one.
        cluster.storages.insert(3, MemoryStorage::with_seed(333));
        let builder = Node::join(cluster.config(3)).state_machine(Ledger::default);
        cluster.run(3, builder).await;
        let cause = cluster.handle(3).stopped().await;
        assert!(matches!(cause, StopCause::Abstains(AbstainReason::AlreadyFormed)), "{cause:?}");
        cluster.nodes.remove(&3);
        let back = Change::Add { node: node(3), member: member(MemberKind::Voter) };
        let back = cluster.handle(1).change(back).await;
        assert!(format!("{back:?}").contains("Retired"), "{back:?}");
        cluster.handle(4).propose(entry(2)).await.unwrap();
        assert_eq!(cluster.numbers(1).await, [1, 2]);
    });
}

// protocol 6.2
#[test]
fn it_waits_for_a_change_that_is_under_way_and_shows_why() {
    simulate(async {
        let mut cluster = Cluster::tuned(3, |config| config.change_patience = Duration::from_secs(10)).await;
        cluster.kill(3).await;
        cluster.leader().await;
        // Node 9 never comes, so this change ends when its patience does.
        let absent = Change::Add { node: node(9), member: member(MemberKind::Voter) };
        let handle = cluster.handle(1).with_deadline(Duration::from_secs(12));
        let change = actix_rt::spawn(async move { handle.change(absent).await });
        pause(Duration::from_secs(1)).await;
        cluster.recover(4, 3).await;
        pause(Duration::from_secs(3)).await;
        let status = cluster.handle(4).status().await.unwrap();
        let waits = Recovery::UnderWay { lost: node(3), waits_for: Some(ChangeRefusal::InProgress) };
        assert_eq!(status.recovery, Some(waits));
        let membership = cluster.handle(4).recovered().await.unwrap();
        assert!(membership.votes(node(4)) && !membership.votes(node(3)));
        assert!(change.await.unwrap().is_err());
    });
}

#[test]
fn one_that_was_stopped_half_way_goes_on_after_a_restart_and_one_that_is_done_is_done() {
    simulate(async {
        let mut cluster = Cluster::start(3).await;
        cluster.handle(1).propose(entry(1)).await.unwrap();
        cluster.kill(3).await;
        cluster.recover(4, 3).await;
        cluster.kill(4).await;
        for _ in 0..2 {
            let builder = Node::restart(cluster.config(4)).in_place_of(node(3));
            cluster.run(4, builder.state_machine(Ledger::default)).await;
            let membership = cluster.handle(4).recovered().await.unwrap();
            assert_eq!(membership.voting().collect::<Vec<_>>(), [1, 2, 4].map(node));
            cluster.kill(4).await;
        }
    });
}

#[test]
fn a_lost_witness_and_a_lost_observer_are_replaced_by_their_like() {
    simulate(async {
        let mut cluster = Cluster::start(2).await;
        let mut members = membership(2).members().clone();
        members.insert(node(3), member(MemberKind::Witness));
        members.insert(node(4), member(MemberKind::Observer));
        for id in [3, 4] {
            cluster.storages.insert(id, MemoryStorage::with_seed(id));
        }
        let builder = Node::join(cluster.config(3));
        cluster.run(3, builder.witness()).await;
        cluster.join(4).await;
        let goal = membership(2).with_members(members).unwrap();
        cluster.handle(1).with_deadline(Duration::from_secs(30)).change(Change::Set(goal)).await.unwrap();
        cluster.wipe(3).await;
        cluster.wipe(4).await;
        cluster.storages.insert(5, MemoryStorage::with_seed(5));
        let builder = Node::recover(cluster.config(5).address("five"), node(3));
        cluster.run(5, builder.witness()).await;
        let membership = cluster.handle(5).recovered().await.unwrap();
        assert_eq!(membership.members()[&node(5)].kind, MemberKind::Witness);
        assert_eq!(membership.members()[&node(5)].address, "five");
        cluster.recover(6, 4).await;
        let membership = cluster.handle(6).recovered().await.unwrap();
        assert_eq!(membership.members()[&node(6)].kind, MemberKind::Observer);
        assert_eq!(membership.members().len(), 4);
        // Asked for again, as after an answer that was lost, it is done.
        cluster.kill(6).await;
        let builder = Node::restart(cluster.config(6)).in_place_of(node(4));
        cluster.run(6, builder.state_machine(Ledger::default)).await;
        assert_eq!(cluster.handle(6).recovered().await.unwrap(), membership);
    });
}

// ---------------------------------------------------------------- refusals

#[test]
fn a_lost_node_cannot_come_back_under_its_own_id() {
    simulate(async {
        let builder = Node::recover(config(3), node(3)).state_machine(Ledger::default);
        let outcome = builder.host(Host::ThisArbiter).start().await;
        assert!(
            matches!(&outcome, Err(StartError::SameId { node: said }) if *said == node(3)),
            "{outcome:?}"
        );
    });
}

#[test]
fn a_bootstrap_takes_nobodys_place() {
    simulate(async {
        let builder: Builder<()> = Node::bootstrap(config(1), membership(1)).in_place_of(node(3));
        let outcome = builder.host(Host::ThisArbiter).start().await;
        assert!(
            matches!(&outcome, Err(StartError::Config(error)) if error.field == "in_place_of"),
            "{outcome:?}"
        );
    });
}

#[test]
fn what_the_cluster_refuses_for_good_is_told_and_the_node_goes_on_as_it_is() {
    simulate(async {
        let mut cluster = Cluster::start(3).await;
        cluster.handle(1).propose(entry(1)).await.unwrap();
        cluster.recover(4, 9).await;
        let refused = cluster.handle(4).recovered().await;
        let stranger = ChangeRefusal::NotAMember { node: node(9) };
        assert!(matches!(&refused, Err(RecoverError::Refused(said)) if *said == stranger), "{refused:?}");
        let status = cluster.handle(4).status().await.unwrap();
        assert_eq!((status.kind, status.recovery), (None, Some(Recovery::Refused(stranger))));
        assert_eq!(cluster.numbers(4).await, [1]);
        // A voter that is told to take another one's place, and keeps its own.
        cluster.kill(2).await;
        let builder = Node::restart(cluster.config(2)).in_place_of(node(3));
        cluster.run(2, builder.state_machine(Ledger::default)).await;
        let refused = cluster.handle(2).recovered().await;
        let votes = ChangeRefusal::VotesAlready { node: node(2) };
        assert!(matches!(&refused, Err(RecoverError::Refused(said)) if *said == votes), "{refused:?}");
        assert_eq!(cluster.members(1).await, [1, 2, 3].map(node));
    });
}

#[test]
fn a_retired_id_takes_nobodys_place() {
    simulate(async {
        let mut cluster = Cluster::start(3).await;
        // Node 4 was a member once, without ever having been there.
        let observer = Change::Add { node: node(4), member: member(MemberKind::Observer) };
        let handle = cluster.handle(1).with_deadline(Duration::from_secs(30));
        handle.change(observer).await.unwrap();
        handle.change(Change::Remove { node: node(4) }).await.unwrap();
        cluster.kill(3).await;
        cluster.leader().await;
        cluster.recover(4, 3).await;
        let refused = cluster.handle(4).recovered().await;
        let retired = ChangeRefusal::Retired { node: node(4) };
        let stopped = matches!(&refused, Err(RecoverError::Stopped { cause: StopCause::Removed }));
        let said = matches!(&refused, Err(RecoverError::Refused(said)) if *said == retired);
        assert!(said || stopped, "{refused:?}");
        assert_eq!(cluster.members(1).await, [1, 2, 3].map(node));
    });
}

// protocol 9.3
#[test]
fn an_id_that_is_in_use_takes_nobodys_place() {
    simulate(async {
        let mut cluster = Cluster::start(3).await;
        cluster.kill(3).await;
        cluster.leader().await;
        cluster.kill(2).await;
        // Node 2 is well; a machine with another disk is started under its id by mistake.
        let storage = cluster.storages[&2].clone();
        cluster.recover(2, 3).await;
        let refused = cluster.handle(2).recovered().await;
        assert!(
            matches!(
                &refused,
                Err(RecoverError::Stopped { cause: StopCause::Abstains(AbstainReason::AlreadyFormed) })
            ),
            "{refused:?}"
        );
        cluster.nodes.remove(&2);
        cluster.storages.insert(2, storage);
        cluster.restart(2).await;
        cluster.leader().await;
        cluster.handle(2).propose(entry(1)).await.unwrap();
    });
}

#[test]
fn a_node_that_is_not_recovering_says_so() {
    simulate(async {
        let cluster = Cluster::start(1).await;
        let refused = cluster.handle(1).recovered().await;
        assert!(matches!(refused, Err(RecoverError::NotRecovering)), "{refused:?}");
        assert_eq!(cluster.handle(1).status().await.unwrap().recovery, None);
    });
}
