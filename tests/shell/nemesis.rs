//! What goes wrong, and when.

use crate::plan::Act;
use crate::random::Random;
use crate::world::{World, pause};
use std::rc::Rc;
use std::time::Duration;
use synod::multi::Role;
use synod::{Change, MemberKind, NodeId};
use tokio::time::Instant;

/// How many machines there are at most.
const MACHINES_MAX: u64 = 7;

/// Does harm for as long as the plan says.
pub(crate) async fn harm(world: Rc<World>) {
    let mut random = Random::of(world.seed, "nemesis", 0);
    let until = Instant::now() + world.plan.noise;
    loop {
        pause(random.up_to_ms(world.plan.pause_ms)).await;
        if Instant::now() >= until {
            return;
        }
        if let Some(act) = world.plan.draw(&mut random) {
            commit(&world, act, &mut random);
        }
    }
}

fn commit(world: &Rc<World>, act: Act, random: &mut Random) {
    let duration = random.up_to_ms(world.plan.broken_ms);
    let all = world.all();
    let Some(node) = random.pick(&all).copied() else { return };
    let Some(machine) = world.machine(node) else { return };
    if !matches!(act, Act::Grow | Act::Shrink) {
        world.trace.count(&format!("{act:?}"));
    }
    match act {
        Act::Crash => world.crash(node, duration),
        Act::Blackout => {
            for node in all {
                world.crash(node, random.up_to_ms(world.plan.broken_ms));
            }
        }
        Act::Shutdown => {
            if let Some(node) = world.take(node, duration) {
                // It says why in any case, and the world hears it.
                actix_rt::spawn(async move { drop(node.shutdown().await) });
            }
        }
        Act::Split => split(world, duration, random),
        Act::OneWay => {
            if let Some(other) = random.pick(&all).copied().filter(|other| *other != node) {
                world.network.cut_one_way(NodeId::new(node), NodeId::new(other));
                heal_later(world, duration);
            }
        }
        Act::Panic => {
            let roles = [Role::Proposer, Role::Acceptor, Role::Learner];
            if let (Some(handle), Some(role)) = (world.handle(node), random.pick(&roles)) {
                handle.panic_role(*role);
            }
        }
        Act::PanicSupervisor => {
            if let Some(handle) = world.handle(node) {
                handle.panic_role(Role::Election);
            }
        }
        Act::FailingDisk => machine.disk.fail_next(),
        Act::FullDisk => machine.disk.fill(duration),
        Act::SlowDisk => machine.disk.slow_down(2 * duration, 20 + random.below(3000)),
        Act::Stall => machine.clock.stall(duration),
        Act::Transfer => transfer(world, node, random.happens(0.5)),
        Act::Grow => grow(world),
        Act::Shrink => shrink(world, node),
    }
}

fn split(world: &Rc<World>, duration: Duration, random: &mut Random) {
    let (mut one, mut other) = (Vec::new(), Vec::new());
    for node in world.all() {
        if random.happens(0.4) { one.push(NodeId::new(node)) } else { other.push(NodeId::new(node)) }
    }
    world.network.partition(&[&one, &other]);
    heal_later(world, 2 * duration);
}

fn heal_later(world: &Rc<World>, duration: Duration) {
    let world = Rc::clone(world);
    actix_rt::spawn(async move {
        pause(duration).await;
        world.network.heal_all();
    });
}

fn transfer(world: &Rc<World>, to: u64, anyone: bool) {
    let world = Rc::clone(world);
    actix_rt::spawn(async move {
        for node in world.up() {
            let Some(handle) = world.handle(node) else { continue };
            let to = (!anyone).then_some(NodeId::new(to));
            if handle.with_deadline(Duration::from_secs(1)).transfer(to).await.is_ok() {
                return world.trace.count("transfer done");
            }
        }
    });
}

fn grow(world: &Rc<World>) {
    if world.ever() >= MACHINES_MAX {
        return;
    }
    let node = world.ever() + 1;
    world.add(node);
    world.trace.count("Grow");
    let world = Rc::clone(world);
    actix_rt::spawn(async move {
        for _ in 0..20 {
            pause(Duration::from_millis(300)).await;
            let Some(handle) = world.handle(node) else { continue };
            let joined = handle.with_deadline(Duration::from_secs(2)).join_as(MemberKind::Voter).await;
            if joined.is_ok_and(|membership| membership.votes(NodeId::new(node))) {
                return world.trace.count("grown");
            }
        }
    });
}

/// Removes `node`, if three others are left to vote.
fn shrink(world: &Rc<World>, node: u64) {
    let world = Rc::clone(world);
    world.trace.count("Shrink");
    actix_rt::spawn(async move {
        for other in world.up() {
            let Some(handle) = world.handle(other) else { continue };
            let Ok(status) = handle.status().await else { continue };
            let Some(membership) = status.membership else { continue };
            let voters = membership.voting().count();
            if voters <= 3 && membership.votes(NodeId::new(node)) {
                return;
            }
            let remove = Change::Remove { node: NodeId::new(node) };
            if handle.with_deadline(Duration::from_secs(2)).change(remove).await.is_ok() {
                return world.trace.count("shrunk");
            }
        }
    });
}
