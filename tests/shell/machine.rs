//! The state machine: some registers, and every write that was ever applied, in order.

use serde::{Deserialize, Serialize};
use synod::{Position, RestoreError, Snapshot, SnapshotReader, StateMachine};

pub(crate) const KEYS: u64 = 3;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Registers {
    pub(crate) values: [Option<u64>; KEYS as usize],
    pub(crate) applied: Vec<u64>,
}

/// No two have the same value.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Write {
    pub(crate) key: usize,
    pub(crate) value: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Written {
    /// How many writes were applied, this one included.
    pub(crate) place: usize,
    /// What the register held before.
    pub(crate) before: Option<u64>,
}

impl StateMachine for Registers {
    type Command = Write;
    type Reply = Written;

    fn apply(&mut self, _: Position, write: Write) -> Written {
        self.applied.push(write.value);
        let before = self.values.get_mut(write.key).and_then(|held| held.replace(write.value));
        Written { place: self.applied.len(), before }
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot::of(self.clone())
    }

    fn restore(&mut self, mut snapshot: SnapshotReader<'_>) -> Result<(), RestoreError> {
        *self = snapshot.decode()?;
        Ok(())
    }
}
