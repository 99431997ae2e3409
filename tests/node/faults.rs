//! Whole nodes over a network that loses, repeats, delays and reorders, and is cut: what callers were told stays true.

use crate::{Ledger, config, entry, membership, pause, simulate};
use futures::future::join_all;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use synod::timer::TokioTimer;
use synod::{Host, MemoryStorage, Node, NodeId, ProposeError};
use synod_memory::{Faults, MemoryNetwork};

/// How many seeds are tried; `SYNOD_SEED` names one instead.
const SEEDS: u64 = 40;

fn seeds() -> Vec<u64> {
    match std::env::var("SYNOD_SEED") {
        Ok(seed) => vec![seed.parse().unwrap()],
        Err(_) => (0..SEEDS).collect(),
    }
}

// protocol 12.1, 12.2
#[test]
fn what_a_caller_was_told_is_true_and_nothing_is_applied_twice() {
    let (mut answered, mut unanswered) = (0, 0);
    for seed in seeds() {
        println!("SYNOD_SEED={seed}");
        let (ok, failed) = simulate(one_run(seed));
        answered += ok;
        unanswered += failed;
    }
    assert!(
        answered > unanswered,
        "{answered} answered, {unanswered} not: the network was too bad to say anything"
    );
}

async fn one_run(seed: u64) -> (usize, usize) {
    let network = MemoryNetwork::new(seed, Arc::new(TokioTimer::default()));
    let members = [1, 2, 3].map(NodeId::new);
    let mut nodes = Vec::new();
    for member in members {
        let builder = Node::bootstrap(config(member.get()), membership(3))
            .transport(network.transport(member))
            .storage(MemoryStorage::with_seed(member.get()))
            .host(Host::ThisArbiter)
            .seed(seed * 31 + member.get());
        nodes.push(builder.state_machine(Ledger::default).start().await.unwrap());
    }
    network.set_faults(Faults {
        loss: 0.03,
        repeat: 0.3,
        reorder: 0.3,
        delay_max: Duration::from_millis(10),
        ..Faults::default()
    });
    let mut calls = Vec::new();
    for number in 0..150_u64 {
        let node = (number % 3) as usize;
        let handle = nodes[node].handle().with_deadline(Duration::from_secs(4));
        calls.push(actix_rt::spawn(async move { (number, handle.propose(entry(number)).await) }));
        pause(Duration::from_millis(20)).await;
        match number {
            60 => network.partition(&[&members[..1], &members[1..]]),
            90 => network.heal_all(),
            110 => network.partition(&[&members[..2], &members[2..]]),
            130 => network.heal_all(),
            _ => {}
        }
    }
    let outcomes = join_all(calls).await;
    network.set_faults(Faults::default());
    pause(Duration::from_secs(10)).await;

    let mut ledgers = Vec::new();
    for node in &nodes {
        ledgers.push(node.handle().read(|ledger| ledger.applied.clone()).await.unwrap());
    }
    assert!(ledgers.iter().all(|ledger| *ledger == ledgers[0]), "the nodes differ: {ledgers:?}");
    let numbers: Vec<u64> = ledgers[0].iter().map(|(_, number)| *number).collect();
    assert_eq!(numbers.iter().collect::<BTreeSet<_>>().len(), numbers.len(), "applied twice: {numbers:?}");
    let mut answered = 0;
    for outcome in &outcomes {
        match outcome.as_ref().unwrap() {
            (number, Ok(place)) => {
                answered += 1;
                assert_eq!(numbers[*place - 1], *number, "the reply belongs to the call");
            }
            (number, Err(ProposeError::NotLeader { .. } | ProposeError::Busy)) => {
                assert!(!numbers.contains(number), "{number} was said to be nowhere");
            }
            (_, Err(ProposeError::Unknown { .. })) => {}
            (number, Err(error)) => panic!("{number}: {error:?}"),
        }
    }
    (answered, outcomes.len() - answered)
}
