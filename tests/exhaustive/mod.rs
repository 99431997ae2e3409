//! How a cluster of real cores is walked through every interleaving, fast enough for tens of millions of states.
//!
//! A [`Machine`] is one node: the product's own roles, its disk, and what waits for a flush. It is a pure function of what it
//! was and what comes, so each of its states is computed once, kept in a [`Memory`], and is a number from then on; the
//! [`World`] that the checker hashes is a handful of numbers. The core is run for every pair of a state that a machine can be
//! in and an input that can come to it, and for no pair twice.
//!
//! # What can happen
//!
//! - **Letters.** What was sent stays sent: a letter may arrive at once, later, again, after any other, or never.
//! - **The flush is a step of its own.** Between a write and its flush the machine takes other inputs; its letters wait.
//! - **A crash** forgets all but what was flushed. That a write which was not flushed survives is covered: flush, lose the
//!   letters, crash.
//! - **One flush takes all that waits.** A flush of the first few writes is one that came before the others were asked for.

#![allow(dead_code, unreachable_pub)]

mod memory;
mod walk;
mod world;

use memory::{Bits, Memory};
pub use walk::{exhaust, find};

use std::fmt::Debug;
use std::hash::Hash;

/// One node with its disk.
pub trait Machine: Clone + Debug + Eq + Hash + Send + Sync + 'static {
    type Letter: Clone + Debug + Eq + Hash + Send + Sync;
    /// What can happen to it that is no letter.
    type Act: Clone + Debug + Send + Sync;

    fn acts(&self) -> Vec<Self::Act>;

    /// Whether this is one of the crashes that the scope has only so many of.
    fn is_crash(act: &Self::Act) -> bool;

    fn act(&mut self, act: &Self::Act, out: &mut Out<Self::Letter>);

    fn is_for(&self, letter: &Self::Letter) -> bool;

    fn receive(&mut self, letter: &Self::Letter, out: &mut Out<Self::Letter>);
}

/// What comes of a step.
#[derive(Clone, Debug)]
pub struct Out<L> {
    pub sent: Vec<L>,
    /// Values that the machine now takes for chosen: bits, to be compared with what is chosen.
    pub learned: u32,
    /// Things worth knowing that they can happen: bits.
    pub sights: u64,
    /// The core itself says that something is wrong.
    pub alarm: bool,
}

impl<L> Default for Out<L> {
    fn default() -> Self {
        Self { sent: Vec::new(), learned: 0, sights: 0, alarm: false }
    }
}

/// What the history of letters says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// The values that were ever chosen, as bits.
    pub chosen: u32,
    /// Two values where there can be only one.
    pub wrong: bool,
}

/// A cluster to walk.
pub trait Scope: Send + Sync + 'static {
    type Machine: Machine;

    /// What the sights are called, the first bit first.
    fn sights(&self) -> &'static [&'static str];

    /// Those that have to be seen in a walk of this scope, as bits.
    fn expected(&self) -> u64;

    fn machines(&self) -> Vec<Self::Machine>;

    /// How many crashes there may be in a run.
    fn crashes(&self) -> u8;

    /// Whether the letter is a vote or a proposal, so that the history has to be judged anew.
    fn counts(&self, letter: &<Self::Machine as Machine>::Letter) -> bool;

    /// *Chosen*, from all votes and proposals that were ever sent, never from the present state of any machine.
    fn judge(&self, letters: &[&<Self::Machine as Machine>::Letter]) -> Verdict;

    /// Sights that follow from what is chosen.
    fn sighted(&self, chosen: u32) -> u64;
}
