//! The state machine: what the chosen commands mean.

use crate::multi::Slot;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Where a command stands in the log: its slot, and its place in the slot's batch. The same on every node, and different
/// for every command, so it serves as a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct Position {
    /// The slot.
    pub slot: Slot,
    /// The place in the batch, from 0.
    pub index: u32,
}

/// An application's state, changed by commands in the order of the log.
///
/// 1. **Deterministic.** The same commands at the same positions give the same state and the same replies on every node
///    and after every restart: no clock, no randomness, no iteration over a randomly seeded map in what it keeps or answers.
/// 2. **Rebuilt.** The factory given to the node makes the state before the first command; a restarted node applies the
///    whole log to a new one.
/// 3. **Quick.** `apply` runs on the node's own thread; while it runs, the node does nothing else.
pub trait StateMachine: Send + 'static {
    /// What clients propose.
    type Command: Serialize + DeserializeOwned + Send + 'static;
    /// What they get back.
    type Reply: Serialize + DeserializeOwned + Send + 'static;

    /// Runs the command chosen at `at`.
    fn apply(&mut self, at: Position, command: Self::Command) -> Self::Reply;
}
