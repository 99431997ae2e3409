//! Witnesses: nodes that vote and hold no state.

use crate::{Cluster, Ledger, config, entry, member, node, pause, simulate};
use std::collections::BTreeMap;
use std::time::Duration;
use synod::multi::{ChangeRefusal, ProposerState, Slot};
use synod::storage::{Start, Storage};
use synod::{
    Change, ChangeError, Config, Host, MemberKind, Membership, MemoryStorage, Node, ReadError, SnapshotError,
    StartError, StopCause,
};
use synod_channel::ChannelHub;

/// Nodes 1 and 2 hold the state, node 3 is a witness.
fn two_and_a_witness() -> Membership {
    let kinds = [(1, MemberKind::Voter), (2, MemberKind::Voter), (3, MemberKind::Witness)];
    let members = kinds.map(|(id, kind)| (node(id), member(kind)));
    Membership::new(BTreeMap::from(members), 64).unwrap()
}

impl Cluster {
    async fn with_a_witness(tune: fn(&mut Config)) -> Self {
        let mut cluster = Self::unformed(3, tune);
        for id in [1, 2] {
            let builder = Node::bootstrap(cluster.config(id), two_and_a_witness());
            cluster.run(id, builder.state_machine(Ledger::default)).await;
        }
        let builder = Node::bootstrap(cluster.config(3), two_and_a_witness());
        cluster.run(3, builder.witness()).await;
        cluster.leader().await;
        cluster
    }

    /// How far the log is cut, or may be, by what the storage holds.
    async fn base(&self, id: u64) -> Slot {
        let storage = self.storages[&id].clone();
        let recovered = storage.open(config(id).owner, Start::Restart).await.unwrap();
        storage.close().await.unwrap();
        recovered.log.base().unwrap().through
    }
}

// protocol 6.1, 4.3
#[test]
fn two_full_nodes_and_a_witness_go_on_after_the_loss_of_either_full_node() {
    for lost in [1, 2] {
        simulate(async move {
            let mut cluster = Cluster::with_a_witness(|_| {}).await;
            cluster.handle(1).propose(entry(1)).await.unwrap();
            cluster.kill(lost).await;
            let left = 3 - lost;
            assert_eq!(cluster.leader().await, left, "a witness never leads");
            cluster.handle(left).propose(entry(2)).await.unwrap();
            assert_eq!(cluster.numbers(left).await, [1, 2]);
            let status = cluster.handle(3).status().await.unwrap();
            assert_eq!((status.kind, status.applied_through), (Some(MemberKind::Witness), Slot::ZERO));
            assert!(status.chosen_through > Slot::ZERO);
        });
    }
}

// protocol 6.4
#[test]
fn a_witness_alone_does_not_even_campaign() {
    simulate(async {
        let mut cluster = Cluster::with_a_witness(|_| {}).await;
        let before = cluster.handle(3).status().await.unwrap().promised;
        cluster.kill(1).await;
        cluster.kill(2).await;
        pause(Duration::from_secs(60)).await;
        let status = cluster.handle(3).status().await.unwrap();
        assert_eq!(status.proposer, ProposerState::Idle);
        assert!(status.promised <= before.max(status.promised.filter(|id| id.node != node(3))));
    });
}

#[test]
fn what_is_proposed_through_a_witness_is_forwarded_and_what_needs_a_state_is_refused() {
    simulate(async {
        let cluster = Cluster::with_a_witness(|_| {}).await;
        let witness = cluster.handle(3);
        assert_eq!(witness.propose(entry(7)).await.unwrap(), 1);
        let session = witness.open_session().await.unwrap();
        assert_eq!(session.propose(entry(8)).await.unwrap(), 2);
        assert_eq!(cluster.numbers(1).await, [7, 8]);
        assert!(matches!(witness.read(Ledger::numbers).await, Err(ReadError::Witness)));
        assert!(matches!(witness.read_stale(Ledger::numbers).await, Err(ReadError::Witness)));
        assert!(matches!(witness.snapshot().await, Err(SnapshotError::Witness)));
    });
}

// protocol 4.3
#[test]
fn a_witness_forgets_what_both_full_nodes_hold_and_no_more() {
    simulate(async {
        let mut cluster =
            Cluster::with_a_witness(|config| config.propose_deadline = Duration::from_secs(60)).await;
        for number in 1..=1500 {
            cluster.handle(1).propose(entry(number)).await.unwrap();
        }
        pause(Duration::from_secs(1)).await;
        cluster.kill(2).await;
        cluster.leader().await;
        for number in 1501..=4000 {
            cluster.handle(1).propose(entry(number)).await.unwrap();
        }
        pause(Duration::from_secs(1)).await;
        let chosen = cluster.handle(3).status().await.unwrap().chosen_through;
        cluster.kill(3).await;
        let base = cluster.base(3).await;
        assert!(base >= Slot::new(1024), "it forgets: {base}");
        assert!(base <= Slot::new(1600), "node 2 does not hold what came later: {base}");
        // Node 2 comes back and fetches all that it missed, from whoever has it.
        let builder = Node::restart(cluster.config(3));
        cluster.run(3, builder.witness()).await;
        cluster.restart(2).await;
        cluster.leader().await;
        assert_eq!(cluster.numbers(2).await, (1..=4000).collect::<Vec<_>>());
        assert!(cluster.handle(3).status().await.unwrap().chosen_through >= chosen);
    });
}

// A witness that lags behind what is cut everywhere begins where the others do.
#[test]
fn a_witness_joins_a_cluster_that_runs_and_counts_from_then_on() {
    simulate(async {
        let mut cluster = Cluster::start(2).await;
        for number in 1..=50 {
            cluster.handle(1).propose(entry(number)).await.unwrap();
        }
        cluster.storages.insert(3, MemoryStorage::with_seed(3));
        let builder = Node::join(cluster.config(3).address("there"));
        cluster.run(3, builder.witness()).await;
        let handle = cluster.handle(3).with_deadline(Duration::from_secs(30));
        let membership = handle.join_as(MemberKind::Witness).await.unwrap();
        assert_eq!(membership.members()[&node(3)].kind, MemberKind::Witness);
        assert_eq!(membership.members()[&node(3)].address, "there");
        assert_eq!(membership.quorums(), (2, 2));
        // Until both old voters know that the new membership is in force, they need each other (6.5).
        pause(Duration::from_secs(1)).await;
        cluster.kill(2).await;
        cluster.leader().await;
        cluster.handle(3).propose(entry(51)).await.unwrap();
        assert_eq!(cluster.numbers(1).await, (1..=51).collect::<Vec<_>>());
    });
}

#[test]
fn a_witness_whose_learner_panics_is_built_anew_and_goes_on() {
    simulate(async {
        let mut cluster = Cluster::with_a_witness(|_| {}).await;
        cluster.handle(1).propose(entry(1)).await.unwrap();
        cluster.handle(3).panic_role(synod::multi::Role::Learner);
        cluster.handle(3).panic_role(synod::multi::Role::Acceptor);
        pause(Duration::from_secs(1)).await;
        cluster.kill(2).await;
        cluster.leader().await;
        cluster.handle(1).propose(entry(2)).await.unwrap();
        assert_eq!(cluster.handle(3).status().await.unwrap().rebuilt, 2);
    });
}

// ---------------------------------------------------------------- another kind than the membership says

#[test]
fn a_witness_with_a_state_machine_is_refused_in_either_order() {
    simulate(async {
        let before = Node::join(config(1)).state_machine(Ledger::default).witness::<Ledger>();
        let after = Node::join(config(1)).witness::<Ledger>().state_machine(Ledger::default);
        for builder in [before, after] {
            let outcome = builder.host(Host::ThisArbiter).start().await;
            assert!(
                matches!(&outcome, Err(StartError::Config(error)) if error.field == "state_machine"),
                "{outcome:?}"
            );
        }
    });
}

#[test]
fn a_bootstrap_as_another_kind_than_the_membership_says_is_refused() {
    simulate(async {
        let start = |id, witness| {
            let builder = Node::bootstrap(config(id), two_and_a_witness());
            let builder = if witness { builder.witness() } else { builder };
            let builder = builder.transport(ChannelHub::new().transport(node(id)));
            builder.storage(MemoryStorage::default()).host(Host::ThisArbiter).start()
        };
        for (id, witness, named) in [(1, true, MemberKind::Voter), (3, false, MemberKind::Witness)] {
            let outcome = start(id, witness).await;
            assert!(
                matches!(&outcome, Err(StartError::OtherKind { named: said, .. }) if *said == named),
                "{outcome:?}"
            );
        }
    });
}

// protocol 4.3
#[test]
fn a_voter_that_is_restarted_as_a_witness_is_refused_and_unharmed() {
    simulate(async {
        let mut cluster = Cluster::start(3).await;
        cluster.handle(1).propose(entry(1)).await.unwrap();
        cluster.kill(3).await;
        let outcome = cluster.try_run(3, Node::restart(cluster.config(3)).witness::<Ledger>()).await;
        let other = |named, started| (named, started) == (MemberKind::Voter, MemberKind::Witness);
        assert!(
            matches!(&outcome, Err(StartError::OtherKind { named, started, .. }) if other(*named, *started)),
            "{outcome:?}"
        );
        cluster.restart(3).await;
        cluster.leader().await;
        assert_eq!(cluster.numbers(3).await, [1]);
    });
}

#[test]
fn a_witness_that_is_restarted_as_a_full_node_applies_and_never_leads() {
    simulate(async {
        let mut cluster = Cluster::with_a_witness(|_| {}).await;
        cluster.handle(1).propose(entry(1)).await.unwrap();
        cluster.kill(3).await;
        cluster.restart(3).await;
        cluster.leader().await;
        assert_eq!(cluster.numbers(3).await, [1]);
        cluster.kill(1).await;
        assert_eq!(cluster.leader().await, 2);
        cluster.kill(2).await;
        pause(Duration::from_secs(10)).await;
        assert_eq!(cluster.handle(3).status().await.unwrap().proposer, ProposerState::Idle);
    });
}

// protocol 4.3: it would be taken for a node that holds the state, and other witnesses would forget what only it had.
#[test]
fn a_node_without_a_state_is_not_made_a_voter() {
    simulate(async {
        let mut cluster = Cluster::with_a_witness(|_| {}).await;
        let handle = cluster.handle(1).with_deadline(Duration::from_secs(30));
        let voter = || member(MemberKind::Voter);
        let promoted = handle.change(Change::Add { node: node(3), member: voter() }).await;
        let is_refused = |outcome: &Result<_, _>, id| matches!(outcome, Err(ChangeError::Refused(ChangeRefusal::Stateless { node: said })) if *said == node(id));
        assert!(is_refused(&promoted, 3), "{promoted:?}");
        cluster.storages.insert(4, MemoryStorage::with_seed(4));
        let builder = Node::join(cluster.config(4));
        cluster.run(4, builder.witness()).await;
        pause(Duration::from_secs(1)).await;
        let added = handle.change(Change::Add { node: node(4), member: voter() }).await;
        assert!(is_refused(&added, 4), "{added:?}");
        let status = cluster.handle(4).status().await.unwrap();
        assert_ne!(status.kind, Some(MemberKind::Voter));
    });
}

// Made a voter while it was away, as what it had been.
#[test]
fn a_witness_that_learns_that_it_is_named_a_voter_stops() {
    simulate(async {
        let mut cluster = Cluster::start(3).await;
        cluster.join(4).await;
        let patient = |cluster: &Cluster, id| cluster.handle(id).with_deadline(Duration::from_secs(30));
        patient(&cluster, 4).join_as(MemberKind::Observer).await.unwrap();
        // Long enough for the leader to have heard how near it is.
        pause(Duration::from_millis(100)).await;
        cluster.kill(4).await;
        let voter = Change::Add { node: node(4), member: member(MemberKind::Voter) };
        patient(&cluster, 1).change(voter).await.unwrap();
        let builder = Node::restart(cluster.config(4));
        cluster.run(4, builder.witness()).await;
        let cause = cluster.handle(4).stopped().await;
        assert!(matches!(cause, StopCause::OtherKind { named: MemberKind::Voter }), "{cause:?}");
    });
}
