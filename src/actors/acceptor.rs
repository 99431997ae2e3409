//! The acceptor's shell: its writes, its reads, and nothing answered before the write has returned.
//!
//! Never does: answer before the append returns; try again after an append has failed.

use super::carry_out::{Writes, Written};
use super::pump::{Desk, Flow, LastWords, Part, Pump, panic_as_asked};
use super::wires::{AcceptorMail, HeartbeatMail, Receiver, Wires};
use crate::multi::{Acceptor, AcceptorInput, Effect, Entry, Interval, Memberships, Role, Sequence, Slot};
use crate::node::{StateMachine, StopCause};
use crate::paxos::NodeId;
use crate::storage::StorageError;
use crate::transport::Held;
use actix::{Actor, AsyncContext, Context};
use futures::FutureExt;
use futures::future::BoxFuture;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context as Task, Poll};

/// Writes that may end at once, one after the other, before others have their turn.
const WRITES_PER_TURN: usize = 16;

/// Entries that are being read back.
struct Reading {
    slots: Range<Slot>,
    bytes_max: usize,
    entries: BoxFuture<'static, Result<Vec<(Slot, Entry)>, StorageError>>,
}

pub(super) struct AcceptorActor<S: StateMachine> {
    role: Acceptor,
    desk: Desk<S>,
    writes: Writes,
    reading: Option<Reading>,
    /// From which slot on the membership governs that the board shows: no two that are learned begin at the same slot.
    shown: Cell<Option<Slot>>,
    /// The storage has failed: this role does nothing more.
    failed: bool,
    queue: Receiver<AcceptorMail>,
    last_words: LastWords,
}

impl<S: StateMachine> AcceptorActor<S> {
    pub(super) fn new(
        wires: Rc<Wires<S>>,
        queue: Receiver<AcceptorMail>,
        role: Acceptor,
        durable: Sequence,
    ) -> Self {
        let last_words = LastWords::of(Role::Acceptor, &wires);
        let desk = Desk::new(wires);
        let actor = Self {
            role,
            desk,
            writes: Writes::after(durable),
            reading: None,
            shown: Cell::new(None),
            failed: false,
            queue,
            last_words,
        };
        actor.show();
        actor
    }

    fn step(&mut self, input: AcceptorInput, held: Option<Held>) {
        let before = self.desk.effects.len();
        self.role.step(self.desk.now, input, &mut self.desk.effects);
        let Some(held) = held else { return };
        if self.desk.effects[before..].iter().any(|effect| self.writes.would_wait(effect)) {
            let writes = self.desk.effects.iter().any(|effect| matches!(effect, Effect::Persist { .. }));
            self.writes.hold(&self.desk.wires, held, writes);
        }
    }

    /// Carries out what the role wants done, and all that follows from writes and reads that are done at once.
    fn carry_out(&mut self, task: &mut Task<'_>) {
        for _ in 0..WRITES_PER_TURN {
            let mut read = None;
            let wires = Rc::clone(&self.desk.wires);
            self.desk.carry_out(Some(&mut self.writes), |effect| match effect {
                Effect::Read { slots, bytes_max } => read = Some((slots, bytes_max)),
                Effect::Event(event) => wires.tell(HeartbeatMail::Event(event)),
                _ => {}
            });
            if let Some((slots, bytes_max)) = read {
                self.read(slots, bytes_max);
            }
            let written = self.poll_write(task);
            let read = self.poll_read(task);
            if self.failed || (!written && !read) {
                return;
            }
        }
        task.waker().wake_by_ref();
    }

    fn poll_write(&mut self, task: &mut Task<'_>) -> bool {
        match self.writes.poll(&self.desk.wires, task) {
            Poll::Ready(Ok(written)) => {
                let input = match written {
                    Written::Through(sequence) => AcceptorInput::Persisted { sequence },
                    Written::Cut(through) => AcceptorInput::Trimmed { through },
                };
                self.step(input, None);
                true
            }
            Poll::Ready(Err(error)) => {
                self.fail(error);
                false
            }
            Poll::Pending => false,
        }
    }

    fn read(&mut self, slots: Range<Slot>, bytes_max: usize) {
        let (storage, asked) = (Arc::clone(&self.desk.wires.storage), slots.clone());
        let entries = async move { storage.read(asked, bytes_max).await }.boxed();
        self.reading = Some(Reading { slots, bytes_max, entries });
    }

    fn poll_read(&mut self, task: &mut Task<'_>) -> bool {
        let Some(reading) = &mut self.reading else { return false };
        match reading.entries.poll_unpin(task) {
            Poll::Ready(Ok(entries)) => {
                self.reading = None;
                self.step(AcceptorInput::ReadBack { entries }, None);
                true
            }
            Poll::Ready(Err(error @ StorageError::Corrupt { .. })) => {
                self.read_damaged(&error);
                true
            }
            Poll::Ready(Err(error)) => {
                self.fail(error);
                false
            }
            Poll::Pending => false,
        }
    }

    /// Something there is damaged, which is mended from memory or from peers (F8, F11). What stands before it is read, in
    /// ever smaller pieces, until the damaged slot is the first.
    fn read_damaged(&mut self, error: &StorageError) {
        let Some(Reading { slots, bytes_max, .. }) = self.reading.take() else { return };
        if bytes_max > 1 {
            self.read(slots, bytes_max / 2);
            return;
        }
        tracing::warn!(node = %self.desk.wires.me(), slot = %slots.start, %error, "reads a damaged entry");
        self.step(AcceptorInput::Damaged { slots: vec![Interval::new(slots.start, slots.start)] }, None);
        self.step(AcceptorInput::ReadBack { entries: Vec::new() }, None);
    }

    /// A promise can be kept no more: nothing that waits is sent, and the node stops.
    fn fail(&mut self, error: StorageError) {
        tracing::error!(node = %self.desk.wires.me(), %error, "stops voting: its storage failed");
        self.failed = true;
        self.reading = None;
        self.desk.effects.clear();
        self.writes.abandon();
        self.desk.wires.tell(HeartbeatMail::Stop(StopCause::Storage(Arc::new(error))));
    }

    fn show(&self) {
        let log = self.role.log();
        let board = &self.desk.wires.board;
        board.promised.set(log.promised());
        board.chosen_through.set(log.chosen_through());
        board.abstains.set(log.abstains());
        board.log_begins_at.set(log.base().map(|base| base.through));
        board.snapshot.set(log.base().and_then(|base| base.snapshot));
        let newest_from = log.memberships().and_then(Memberships::newest_from);
        if self.shown.replace(newest_from) == newest_from {
            return;
        }
        let newest = log.memberships().and_then(Memberships::newest);
        if board.membership.borrow().as_ref() != newest {
            *board.membership.borrow_mut() = newest.cloned();
            if let Some(memberships) = log.memberships() {
                self.desk.wires.transport.learn_addresses(&address_book(memberships));
            }
        }
    }
}

/// Where the members are, by the newest membership that names each: one that is left out is called until its part is done.
fn address_book(memberships: &Memberships) -> BTreeMap<NodeId, String> {
    let all = memberships.governing_any(Slot::FIRST, Slot::MAX);
    let members = all.flat_map(|membership| membership.members());
    members.map(|(node, member)| (*node, member.address.clone())).collect()
}

impl<S: StateMachine> Part for AcceptorActor<S> {
    type Mail = AcceptorMail;

    fn begin(&mut self) {
        if self.desk.begin() && !self.failed {
            self.step(AcceptorInput::Wake, None);
        }
    }

    fn receive(&mut self, mail: AcceptorMail) {
        if self.failed {
            return;
        }
        match mail {
            AcceptorMail::Input(input, held) => self.step(input, held),
            AcceptorMail::Ping => self.desk.wires.pong(Role::Acceptor),
            AcceptorMail::Panic => panic_as_asked(),
        }
    }

    fn finish(&mut self, task: &mut Task<'_>) -> Flow {
        if !self.failed && !self.desk.wires.board.over.get() {
            self.carry_out(task);
            self.show();
            self.desk.sleep(None, task);
        }
        self.desk.flow()
    }

    fn panicked(&mut self, message: String) {
        self.last_words.panicked = Some(message);
    }
}

impl<S: StateMachine> Actor for AcceptorActor<S> {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        context.spawn(Pump::<Self>::new(Rc::clone(&self.queue)));
    }
}
