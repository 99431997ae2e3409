//! Carrying out: the one place that appends to the storage and sends to peers.
//!
//! Law: persist, then send (protocol 1.2). What a role wants done is data; here it happens, in order. A `Send` or an
//! `Admission` that rests on a write waits in [`Writes`] until the storage has said `Ok`; if it says anything else, what
//! waits is never sent.
//! Invariants: C1 at most one append or cut is under way, and all that arrives meanwhile is the next group. C2 what rests on
//! a write leaves in the order in which it was asked for. C3 a cut is made before any append that came later: what that says
//! beside entries is not among the cut's facts, and would be forgotten.

use super::wires::{HeartbeatMail, Wires};
use crate::multi::{Effect, Group, Message, Record, Refusal, Sequence, Slot, node};
use crate::node::StateMachine;
use crate::paxos::NodeId;
use crate::storage::{Storage, StorageError};
use crate::transport::{Envelope, GroupId, Held, SendOutcome};
use futures::FutureExt;
use futures::future::BoxFuture;
use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll};

/// The writes of an acceptor, and what waits for them.
#[derive(Default)]
pub(super) struct Writes {
    /// Every write through it is durable.
    durable: Sequence,
    /// The group to append next.
    next: Option<Group>,
    /// The messages whose records are in it: their bytes count against their connection until it is durable.
    next_held: Vec<Held>,
    /// The log is to be cut through here, with these facts in place of what goes.
    cut: Option<(Slot, Vec<Record>)>,
    waiting: VecDeque<(Sequence, Resting)>,
}

/// What rests on a write.
enum Resting {
    Send { to: NodeId, message: Message },
    Admission { ticket: u64, verdict: Result<(), Refusal> },
}

/// What has become durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// Every write through this one.
    Through(Sequence),
    /// A cut: the entries through this slot are gone.
    Cut(Slot),
}

/// An append or a cut under way. A dropped future would not undo it, so it is always waited for.
pub(super) struct Writing {
    done: BoxFuture<'static, Result<Written, StorageError>>,
    /// The messages that wait for it.
    held: Vec<Held>,
}

impl Writing {
    pub(super) fn poll(&mut self, task: &mut Context<'_>) -> Poll<Result<Written, StorageError>> {
        self.done.poll_unpin(task)
    }
}

/// Carries `effects` out, in order; what only the role itself can do (`Deadline`, `Deliver`, `Read`, `Event`) goes to `own`.
///
/// Only the acceptor has `writes`, and only it asks for what needs them.
pub(super) fn carry_out<S: StateMachine>(
    wires: &Wires<S>,
    mut writes: Option<&mut Writes>,
    effects: &mut Vec<Effect>,
    own: &mut Vec<Effect>,
) {
    for effect in effects.drain(..) {
        match (effect, writes.as_deref_mut()) {
            (Effect::Persist { sequence, records }, Some(writes)) => writes.persist(sequence, records),
            (Effect::Send { to, message, after: None }, _) => send(wires, to, message),
            (Effect::Send { to, message, after: Some(after) }, Some(writes)) => {
                writes.rest(wires, after, Resting::Send { to, message });
            }
            (Effect::Admission { ticket, verdict, after }, Some(writes)) => {
                let after = after.unwrap_or(writes.durable);
                writes.rest(wires, after, Resting::Admission { ticket, verdict });
            }
            (Effect::Trim { through, facts }, Some(writes)) => writes.cut = Some((through, facts)),
            (Effect::Local(local), _) => wires.pass(local, None),
            (
                Effect::Persist { .. } | Effect::Send { .. } | Effect::Admission { .. } | Effect::Trim { .. },
                None,
            ) => {
                debug_assert!(false, "only the acceptor writes");
            }
            (effect, _) => own.push(effect),
        }
    }
}

fn send<S: StateMachine>(wires: &Wires<S>, to: NodeId, message: Message) {
    if to == wires.me() {
        wires.pass(node::address(to, message), None);
        return;
    }
    let envelope = Envelope { group: GroupId::default(), message };
    if wires.transport.send(to, &envelope) == SendOutcome::Dropped {
        tracing::trace!(node = %wires.me(), %to, "drops a message");
    }
}

impl Writes {
    /// Continues behind what is durable.
    pub(super) fn after(durable: Sequence) -> Self {
        Self { durable, ..Self::default() }
    }

    fn persist(&mut self, sequence: Sequence, mut records: Vec<Record>) {
        match &mut self.next {
            Some(group) => {
                group.sequence = sequence;
                group.records.append(&mut records);
            }
            None => self.next = Some(Group { sequence, records }),
        }
    }

    /// Whether `effect` is a write, or waits for one: until then its message counts against its connection, so that
    /// what waits for a slow disk is bounded.
    pub(super) fn would_wait(&self, effect: &Effect) -> bool {
        match effect {
            Effect::Persist { .. } => true,
            Effect::Send { after: Some(after), .. } => *after > self.durable,
            _ => false,
        }
    }

    /// Keeps a message's bytes until the newest write is durable: the group that is being filled, to which the message
    /// may just have added (`writes`), else the one under way.
    pub(super) fn hold<S: StateMachine>(&mut self, wires: &Wires<S>, held: Held, writes: bool) {
        if writes || self.next.is_some() {
            self.next_held.push(held);
        } else if let Some(writing) = wires.writing.borrow_mut().as_mut() {
            writing.held.push(held);
        }
    }

    fn rest<S: StateMachine>(&mut self, wires: &Wires<S>, after: Sequence, resting: Resting) {
        self.waiting.push_back((after, resting));
        self.release(wires);
    }

    fn release<S: StateMachine>(&mut self, wires: &Wires<S>) {
        while self.waiting.front().is_some_and(|(after, _)| *after <= self.durable) {
            match self.waiting.pop_front() {
                Some((_, Resting::Send { to, message })) => send(wires, to, message),
                Some((_, Resting::Admission { ticket, verdict })) => {
                    wires.tell(HeartbeatMail::Admission { ticket, verdict });
                }
                None => {}
            }
        }
    }

    /// Drives what is under way, begins what is next, and releases what rested on a finished append. Ready each time that
    /// something has become durable; pending when there is nothing to do but wait.
    pub(super) fn poll<S: StateMachine>(
        &mut self,
        wires: &Wires<S>,
        task: &mut Context<'_>,
    ) -> Poll<Result<Written, StorageError>> {
        let mut writing = wires.writing.borrow_mut();
        if writing.is_none() {
            let Some(begun) = self.begin(Arc::clone(&wires.storage)) else { return Poll::Pending };
            wires.board.writing_since.set(Some(wires.timer.now()));
            *writing = Some(begun);
        }
        let Some(running) = writing.as_mut() else { return Poll::Pending };
        let ended = futures::ready!(running.poll(task));
        *writing = None;
        wires.look_at_disk();
        wires.board.writing_since.set(None);
        drop(writing);
        let written = ended?;
        if let Written::Through(sequence) = written {
            self.durable = sequence;
            self.release(wires);
        }
        Poll::Ready(Ok(written))
    }

    /// Begins the next cut or append.
    fn begin(&mut self, storage: Arc<dyn Storage>) -> Option<Writing> {
        if let Some((through, facts)) = self.cut.take() {
            let done = async move { storage.trim(through, facts).await.map(Written::Cut) };
            return Some(Writing { done: done.boxed(), held: Vec::new() });
        }
        let group = self.next.take()?;
        let sequence = group.sequence;
        let done = async move { storage.append(group).await.map(|()| Written::Through(sequence)) };
        Some(Writing { done: done.boxed(), held: std::mem::take(&mut self.next_held) })
    }

    /// After a failed write: nothing that waits is ever sent.
    pub(super) fn abandon(&mut self) {
        *self = Self::after(self.durable);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::multi::{ClusterId, Owner};
    use crate::storage::{MemoryStorage, Start};
    use futures::executor::block_on;

    #[test]
    fn a_cut_goes_before_an_append_that_came_later() {
        let storage = Arc::new(MemoryStorage::with_seed(1));
        let owner = Owner { cluster: ClusterId::new("tests").unwrap(), epoch: 0, node: NodeId::new(1) };
        block_on(storage.open(owner, Start::Join)).unwrap();
        let mut writes = Writes { cut: Some((Slot::ZERO, Vec::new())), ..Writes::default() };
        writes.persist(Sequence(1), Vec::new());
        let written = |begun: Option<Writing>| block_on(begun.unwrap().done).unwrap();
        assert_eq!(written(writes.begin(storage.clone())), Written::Cut(Slot::ZERO));
        assert_eq!(written(writes.begin(storage.clone())), Written::Through(Sequence(1)));
        assert!(writes.begin(storage).is_none());
    }
}
