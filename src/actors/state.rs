//! The state of a node: the state machine, and what makes a repeated command apply once.
//!
//! Both are functions of the log, so both stand in a snapshot (protocol 5.1).
//!
//! ```text
//! content of a snapshot := head, repeats        each a MessagePack value
//!                          state                as the state machine writes it
//! ```

use crate::codec;
use crate::multi::{ClusterId, Memberships, Origin, OriginTable, Slot};
use crate::node::{Position, RestoreError, Snapshot, SnapshotReader, StateMachine};
use serde::{Deserialize, Serialize};
use std::io::{self, Read};

/// What a snapshot says of itself (protocol 5.1).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SnapshotHead {
    /// Of which cluster.
    pub(crate) cluster: ClusterId,
    /// In which epoch of it.
    pub(crate) epoch: u64,
    /// The last slot that was applied.
    pub(crate) through: Slot,
    /// The memberships that govern the slots above, and the ids that are retired.
    pub(crate) memberships: Memberships,
}

/// A state machine and the commands that it has taken in.
pub(crate) struct State<S> {
    /// In a box, since an actor may be moved and a user's type need not be `Unpin`.
    machine: Box<S>,
    repeats: OriginTable,
}

impl<S: StateMachine> State<S> {
    /// The state before the first command.
    pub(crate) fn new(machine: S) -> Self {
        Self { machine: Box::new(machine), repeats: OriginTable::default() }
    }

    pub(crate) fn machine(&self) -> &S {
        &self.machine
    }

    /// Whether the command of `origin` is new; asked once for each, in log order.
    pub(crate) fn admits(&mut self, origin: Option<Origin>) -> bool {
        origin.is_none_or(|origin| self.repeats.admit(origin))
    }

    pub(crate) fn apply(&mut self, at: Position, command: S::Command) -> S::Reply {
        self.machine.apply(at, command)
    }

    /// The state as it is now, to be written later.
    pub(crate) fn snapshot(&self, head: SnapshotHead) -> Snapshot {
        let (repeats, machine) = (self.repeats.clone(), self.machine.snapshot());
        Snapshot::new(move |out| {
            codec::encode_to(out, &head).map_err(io::Error::other)?;
            codec::encode_to(out, &repeats).map_err(io::Error::other)?;
            machine.write(out)
        })
    }

    /// Reads a snapshot into `machine`, which the factory has just made.
    pub(crate) fn restore(mut machine: S, from: &mut dyn Read) -> Result<(SnapshotHead, Self), RestoreError> {
        let head: SnapshotHead = codec::decode_from(from)?;
        let repeats = codec::decode_from(from)?;
        machine.restore(SnapshotReader::new(from))?;
        Ok((head, Self { machine: Box::new(machine), repeats }))
    }
}
