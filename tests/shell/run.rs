//! One run: first everything may go wrong, then nothing does, and the cluster has to serve.

use crate::Mutant;
use crate::checks::check;
use crate::client::{Client, History};
use crate::machine::{Registers, Write};
use crate::nemesis::harm;
use crate::plan::Plan;
use crate::world::{World, pause};
use futures::future::join_all;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;
use synod::NodeId;
use tokio::time::Instant;

/// How long it may take until a healthy cluster serves.
const PATIENCE: Duration = Duration::from_secs(60);

/// Writes that a healthy cluster must serve.
const WRITES: u64 = 10;

/// What a run came to.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    pub(crate) deliveries: u64,
    pub(crate) hash: u64,
    pub(crate) simulated: Duration,
    pub(crate) counts: BTreeMap<String, u64>,
    pub(crate) verdict: Result<(), String>,
}

/// Runs `seed` on an actix system of its own, whose clock goes on whenever nothing else does.
pub(crate) fn run(seed: u64, mutant: Mutant) -> Outcome {
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime")
    };
    actix::System::with_tokio_rt(runtime).block_on(live_through(seed, mutant))
}

async fn live_through(seed: u64, mutant: Mutant) -> Outcome {
    let begun = Instant::now();
    let world = World::new(seed, Plan::of(seed), mutant);
    let clients = (1..=world.plan.clients).map(|number| Client::new(&world, number, begun).run());
    let clients: Vec<_> = clients.map(actix_rt::spawn).collect();
    harm(Rc::clone(&world)).await;
    world.heal();
    let mut histories = Vec::new();
    for client in join_all(clients).await {
        match client {
            Ok(history) => histories.push(history),
            Err(error) => world.trace.wrong(format!("a client has gone: {error}")),
        }
    }
    let verdict = match tokio::time::timeout(PATIENCE, serve(&world)).await {
        Ok(states) => judge(&world, &states, &histories),
        Err(_) => Err(format!("the healed cluster does not serve: {}", describe(&world).await)),
    };
    let stats = world.network.stats();
    let mut counts = world.trace.counts();
    counts.insert("lost".to_owned(), stats.lost);
    counts.insert("repeated".to_owned(), stats.repeated);
    counts.insert("overtaken".to_owned(), stats.overtaken);
    let (deliveries, hash) = (stats.delivered, world.trace.hash());
    Outcome { deliveries, hash, simulated: begun.elapsed(), counts, verdict }
}

fn judge(world: &World, states: &BTreeMap<u64, Registers>, histories: &[History]) -> Result<(), String> {
    world.trace.note(format!("{states:?}"));
    match world.trace.first_wrong() {
        Some(wrong) => Err(wrong),
        None => check(states, histories, &world.trace),
    }
}

/// Writes what a healthy cluster must serve, and reads what every member holds then.
async fn serve(world: &Rc<World>) -> BTreeMap<u64, Registers> {
    let mut served = 0;
    while served < WRITES {
        pause(Duration::from_millis(20)).await;
        for node in world.up() {
            let Some(handle) = world.handle(node) else { continue };
            // Each attempt is a write of its own.
            let value = u64::MAX - world.trace.hash() % (1 << 60);
            let write = Write { key: 0, value };
            served += u64::from(handle.with_deadline(Duration::from_secs(2)).propose(write).await.is_ok());
        }
    }
    loop {
        if let Some(states) = read_all(world).await {
            return states;
        }
        pause(Duration::from_millis(100)).await;
    }
}

/// What every member holds, once all of them answer.
async fn read_all(world: &Rc<World>) -> Option<BTreeMap<u64, Registers>> {
    let up = world.up();
    let handle = world.handle(*up.first()?)?;
    let membership = handle.status().await.ok()?.membership?;
    let mut states = BTreeMap::new();
    for member in membership.members().keys().map(|node: &NodeId| node.get()) {
        let state = world.handle(member)?.read(Registers::clone).await.ok()?;
        states.insert(member, state);
    }
    Some(states)
}

async fn describe(world: &World) -> String {
    let mut described = Vec::new();
    for node in world.all() {
        let status = match world.handle(node) {
            Some(handle) => format!("{:?}", handle.status().await),
            None => "down".to_owned(),
        };
        described.push(format!("node {node}: {status}"));
    }
    described.extend(world.trace.first_wrong());
    described.join("\n")
}
