//! The checkers: what the cluster promises, judged from the history of messages and from what clients were told, never from
//! what the nodes believe.

mod agreement;
mod clients;
mod cursors;
pub(super) mod registers;

pub(super) use agreement::Agreement;
pub(super) use clients::Clients;
pub(super) use cursors::Cursors;

use super::simulated::Simulated;
use super::state::State;
use super::violation::Violation;
use crate::multi::{Membership, Message, Record, Slot, SnapshotId, Value};
use crate::paxos::NodeId;

/// All checkers, each in its own file.
pub(super) struct Checks<S: Simulated> {
    pub(super) agreement: Agreement,
    pub(super) cursors: Cursors,
    pub(super) clients: Clients<S>,
}

impl<S: Simulated> Checks<S> {
    pub(super) fn new(membership: &Membership, state: State<S>) -> Self {
        Self {
            agreement: Agreement::new(membership),
            cursors: Cursors::default(),
            clients: Clients::new(state),
        }
    }

    /// A message leaves `from`.
    pub(super) fn sent(&mut self, from: NodeId, message: &Message) -> Result<(), Violation> {
        match message {
            Message::Accept { id, first, values, .. } => self.agreement.proposed(from, *id, *first, values),
            Message::Promise { id, .. } => self.cursors.promised(from, *id),
            Message::Accepted { id, slots, .. } => {
                self.cursors.promised(from, *id)?;
                for interval in slots {
                    let mut slot = interval.first;
                    while slot <= interval.last {
                        if self.agreement.voted(from, slot, *id)? {
                            self.fold()?;
                        }
                        slot = slot.next();
                    }
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// `node` writes `records` to its disk. What it accepted under an id of its own it proposed, also where nobody but itself
    /// is told; what it accepted under another's somebody proposed, with this very value.
    pub(super) fn recorded(&mut self, node: NodeId, records: &[Record]) -> Result<(), Violation> {
        for record in records {
            let Record::Accepted { slot, id, value } = record else { continue };
            if id.node == node {
                self.agreement.proposed(node, *id, *slot, std::slice::from_ref(value))?;
            } else {
                self.agreement.accepted(node, *slot, *id, value)?;
            }
        }
        Ok(())
    }

    /// Applies what is chosen without a gap.
    fn fold(&mut self) -> Result<(), Violation> {
        while let Some((slot, value)) = self.agreement.fold_next()? {
            self.clients.chosen(slot, &value)?;
        }
        Ok(())
    }

    /// `node` has applied `value`, and is then at `digest`.
    pub(super) fn applied(
        &mut self,
        node: NodeId,
        slot: Slot,
        value: &Value,
        digest: u64,
    ) -> Result<(), Violation> {
        self.cursors.applied(node, slot)?;
        if self.agreement.chosen(slot) != Some(value) {
            return Err(Violation::NotChosen { node, slot });
        }
        self.clients.has_state(node, slot, digest)
    }

    /// `node` takes the state after `through` in place of its own.
    pub(super) fn restored(
        &mut self,
        node: NodeId,
        snapshot: SnapshotId,
        state: &State<S>,
    ) -> Result<(), Violation> {
        self.cursors.restored(node, snapshot.through)?;
        self.clients.has_state(node, snapshot.through, state.digest)?;
        // What was restored has to come out again as it went in.
        let content = state.content();
        let same = state.through == snapshot.through && crc32fast::hash(&content) == snapshot.checksum;
        if same { Ok(()) } else { Err(Violation::StateDiffers { node, slot: snapshot.through }) }
    }

    /// What can only be said at the end.
    pub(super) fn finish(&mut self) -> Result<(), Violation> {
        self.fold()?;
        self.clients.finish(&self.agreement)
    }
}
