//! The state machine: what the chosen commands mean.

use super::snapshot::{RestoreError, Snapshot, SnapshotReader};
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
/// 2. **Rebuilt.** The factory given to the node makes the state before the first command. A restarted node restores the
///    newest snapshot into a new one and applies the log above it; what a snapshot holds is all that is left of the log
///    below.
/// 3. **Quick.** `apply` runs on the node's own thread; while it runs, the node does nothing else.
pub trait StateMachine: Send + 'static {
    /// What clients propose.
    type Command: Serialize + DeserializeOwned + Send + 'static;
    /// What they get back.
    type Reply: Serialize + DeserializeOwned + Send + 'static;

    /// Runs the command chosen at `at`.
    fn apply(&mut self, at: Position, command: Self::Command) -> Self::Reply;

    /// The state as it is now, to be written later on another thread while commands go on: make it cheaply. For a state that
    /// can be cloned and serialized, `Snapshot::of(self.clone())`.
    fn snapshot(&self) -> Snapshot;

    /// Takes the state that [`StateMachine::snapshot`] wrote, on this node or another. Called on another thread, on a state
    /// that the factory has just made and that takes the place of the present one only if this succeeds.
    ///
    /// # Errors
    ///
    /// If the bytes are no such state; the node then keeps the state that it had, and asks a peer.
    fn restore(&mut self, snapshot: SnapshotReader<'_>) -> Result<(), RestoreError>;
}
