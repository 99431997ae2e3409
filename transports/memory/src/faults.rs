//! Faults: how often and how badly a link misbehaves, drawn from a seed.

use std::time::Duration;
use synod::paxos::NodeId;

/// What a link does to messages; the default does nothing to them. Probabilities are from 0.0 to 1.0.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Faults {
    /// How many messages are lost without a word.
    pub loss: f64,
    /// How many messages come a second time, up to [`Faults::late_max`] after the first.
    pub repeat: f64,
    /// How many messages may be overtaken: they come up to [`Faults::late_max`] late. All others keep their order.
    /// This breaks clause 2 of the contract, on purpose: Paxos needs no order.
    pub reorder: f64,
    /// The shortest time that a message travels.
    pub delay_min: Duration,
    /// The longest time that a message travels, unless it is late.
    pub delay_max: Duration,
    /// How much later than that repeated and overtaken messages may come.
    pub late_max: Duration,
}

/// SplitMix64: small, and the same on every machine.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    /// One for the `number`th link of a pair: what happens on one link never shifts the draws of another.
    pub(crate) fn of_link(seed: u64, from: NodeId, to: NodeId, number: u64) -> Self {
        let mut random = Self(seed);
        for part in [from.get(), to.get(), number] {
            random.0 ^= random.next().wrapping_add(part);
        }
        random
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// From 0.0 to below 1.0.
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Whether something of this probability happens. Draws once, whatever the probability.
    pub(crate) fn happens(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// Between the two. Draws once.
    pub(crate) fn between(&mut self, min: Duration, max: Duration) -> Duration {
        min + max.saturating_sub(min).mul_f64(self.unit())
    }
}
