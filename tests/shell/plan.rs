//! What a seed draws: how large the cluster is, what goes wrong and how often. Each probability is zero in half of all seeds.

use crate::random::Random;
use std::time::Duration;
use synod_memory::Faults;

/// What is done to the cluster from outside, now and then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Act {
    /// The power of one node goes.
    Crash,
    /// The power of all goes at once.
    Blackout,
    /// A node is shut down in good order.
    Shutdown,
    /// The nodes fall into two groups.
    Split,
    /// One node is heard by one other no more, or hears it no more.
    OneWay,
    /// A role panics.
    Panic,
    /// The supervisor of a node panics, which ends the node.
    PanicSupervisor,
    /// An append fails.
    FailingDisk,
    /// No append fits for a while.
    FullDisk,
    /// Appends take up to seconds for a while.
    SlowDisk,
    /// A node's clock stands still for a while.
    Stall,
    /// The lead is handed over.
    Transfer,
    /// A node joins and is made a voter.
    Grow,
    /// A member is removed.
    Shrink,
}

impl Act {
    pub(crate) const ALL: [Self; 14] = [
        Self::Crash,
        Self::Blackout,
        Self::Shutdown,
        Self::Split,
        Self::OneWay,
        Self::Panic,
        Self::PanicSupervisor,
        Self::FailingDisk,
        Self::FullDisk,
        Self::SlowDisk,
        Self::Stall,
        Self::Transfer,
        Self::Grow,
        Self::Shrink,
    ];
}

/// What one seed does.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) nodes: u64,
    pub(crate) clients: u64,
    /// For how long there are faults.
    pub(crate) noise: Duration,
    /// The longest pause between two faults, in milliseconds.
    pub(crate) pause_ms: u64,
    /// How long something that is broken stays so at most, in milliseconds.
    pub(crate) broken_ms: u64,
    /// Each with its weight.
    pub(crate) acts: Vec<(Act, u64)>,
    pub(crate) network: Faults,
    /// The longest that an append takes on a healthy disk, in milliseconds.
    pub(crate) append_ms: u64,
    /// How often an append under way becomes durable although the power went.
    pub(crate) landed: f64,
    /// The longest pause of a client between two calls, in milliseconds.
    pub(crate) think_ms: u64,
    pub(crate) reads: f64,
    pub(crate) in_session: f64,
    /// How often a client gives a call up before its deadline.
    pub(crate) impatient: f64,
    /// By how much clocks may run faster or slower than others.
    pub(crate) drift: f64,
}

impl Plan {
    pub(crate) fn of(seed: u64) -> Self {
        let mut random = Random::of(seed, "plan", 0);
        let acts = Act::ALL.map(|act| {
            let (off, weight) = (random.happens(0.5), 1 + random.below(4));
            (act, if off { 0 } else { weight })
        });
        let far = random.happens(0.1);
        let network = Faults {
            loss: random.swarm(0.15),
            repeat: random.swarm(0.5),
            reorder: random.swarm(0.5),
            delay_min: Duration::ZERO,
            delay_max: random.up_to_ms(if far { 80 } else { 8 }),
            late_max: random.up_to_ms(500),
        };
        Self {
            nodes: if random.happens(0.2) { 5 } else { 3 },
            clients: 2 + random.below(3),
            noise: Duration::from_secs(3) + random.up_to_ms(4000),
            pause_ms: 100 + random.below(1500),
            broken_ms: 50 + random.below(1500),
            acts: acts.into_iter().filter(|(_, weight)| *weight > 0).collect(),
            network,
            append_ms: random.below(8),
            landed: random.unit(),
            think_ms: 10 + random.below(60),
            reads: random.swarm(0.6),
            in_session: random.swarm(1.0),
            impatient: random.swarm(0.1),
            drift: random.swarm(0.05),
        }
    }

    pub(crate) fn draw(&self, random: &mut Random) -> Option<Act> {
        let total: u64 = self.acts.iter().map(|(_, weight)| weight).sum();
        let mut at = random.below(total.max(1));
        for (act, weight) in &self.acts {
            if at < *weight {
                return Some(*act);
            }
            at -= weight;
        }
        None
    }
}
