//! The learner's shell: the state machine, and the callers who wait for its replies.
//!
//! Commands are applied in the order of the log; which of them are repeats, [`State`] decides on every node alike.
//! Never does: wait for a slow reader.

use super::keeping::Keeping;
use super::pump::{Desk, Flow, LastWords, Part, Pump, panic_as_asked};
use super::roster::Factory;
use super::snapshots::Snapshots;
use super::state::State;
use super::waiter::{ReadCall, UNKNOWN, Waiter};
use super::wires::{Fate, HeartbeatMail, LearnerMail, Receiver, Wires};
use crate::multi::{Batch, Briefing, Effect, Learner, LearnerInput, Role, Slot, Value};
use crate::node::{NotLeaderReason, Position, ProposeError, ReadError, StateMachine};
use crate::paxos::NodeId;
use crate::timer::Time;
use actix::{Actor, AsyncContext, Context};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Context as Task;
use std::time::Duration;

/// Expired callers are looked for this often at most.
pub(super) const EXPIRY: Duration = Duration::from_millis(20);

pub(super) struct LearnerActor<S: StateMachine> {
    pub(super) role: Learner,
    pub(super) state: State<S>,
    pub(super) desk: Desk<S>,
    /// The callers of this node's own batches, by serial.
    batches: BTreeMap<u64, Vec<Waiter<S>>>,
    /// The reads that wait for a slot, in its order.
    reads: BTreeMap<(Slot, u64), ReadCall<S>>,
    reads_seen: u64,
    /// When the first of those who wait may have waited long enough.
    expiry: Option<Time>,
    pub(super) snapshots: Snapshots<S>,
    pub(super) keeping: Keeping,
    queue: Receiver<LearnerMail<S>>,
    last_words: LastWords,
}

impl<S: StateMachine> LearnerActor<S> {
    pub(super) fn new(
        wires: Rc<Wires<S>>,
        queue: Receiver<LearnerMail<S>>,
        role: Learner,
        factory: Arc<Factory<S>>,
    ) -> Self {
        let last_words = LastWords::of(Role::Learner, &wires);
        wires.board.applied_through.set(Slot::ZERO);
        let state = State::new((*factory)(), wires.first_memberships.borrow().clone());
        let snapshots = Snapshots::new(Rc::clone(&wires), factory);
        Self {
            role,
            state,
            desk: Desk::new(wires),
            batches: BTreeMap::new(),
            reads: BTreeMap::new(),
            reads_seen: 0,
            expiry: None,
            snapshots,
            keeping: Keeping::default(),
            queue,
            last_words,
        }
    }

    pub(super) fn step(&mut self, input: LearnerInput) {
        self.role.step(self.desk.now, input, &mut self.desk.effects);
        if self.desk.effects.iter().any(|effect| matches!(effect, Effect::Deliver { .. })) {
            self.carry_out();
        }
    }

    pub(super) fn input(&mut self, input: LearnerInput) {
        if let LearnerInput::Briefing(Briefing { memberships: Some(memberships), .. }) = &input
            && !self.state.has_begun()
        {
            let through = self.role.applied_through();
            let memberships = memberships.as_of(through);
            self.state.begin_with(&memberships, through);
            *self.desk.wires.first_memberships.borrow_mut() = Some(memberships);
        }
        if let LearnerInput::Begin { base } = &input {
            self.keeping.begins_at(base.snapshot);
        }
        self.step(input);
    }

    pub(super) fn carry_out(&mut self) {
        let mut own = Vec::new();
        self.desk.carry_out(None, |effect| own.push(effect));
        for effect in own {
            match effect {
                Effect::Deliver { value: Value::Noop, .. } => {}
                Effect::Deliver { slot, value: Value::Batch(batch) } => self.apply_batch(slot, batch),
                Effect::Deliver { value: Value::Membership(membership), .. } => self.state.learn(&membership),
                Effect::Snapshot(task) => self.snapshot_task(task),
                Effect::Event(event) => self.desk.wires.tell(HeartbeatMail::Event(event)),
                _ => {}
            }
        }
    }

    /// Applies the commands of a batch, and answers those who wait for them here.
    fn apply_batch(&mut self, slot: Slot, batch: Bytes) {
        // A batch that does not follow the format is skipped by every node alike.
        let Ok(batch) = Batch::read(batch) else { return };
        let id = batch.id();
        let mine = id.node == self.desk.wires.me() && id.incarnation == self.desk.wires.incarnation();
        let mut waiters =
            if mine { self.batches.remove(&id.serial) } else { None }.unwrap_or_default().into_iter();
        for (index, command) in (0..).zip(batch.commands()) {
            let Ok((tag, command)) = command else { break };
            let taken = self.state.take(Position { slot, index }, tag, command);
            if let Some(mut waiter) = waiters.next() {
                waiter.settle(taken, &mut self.desk.effects);
            }
        }
    }

    pub(super) fn expect(&mut self, expires: Time) {
        let at = expires + EXPIRY;
        self.expiry = Some(self.expiry.map_or(at, |expiry| expiry.min(at)));
    }

    /// Answers those who have waited long enough.
    fn expire(&mut self) {
        let now = self.desk.now;
        if self.expiry.is_none_or(|expiry| expiry > now) {
            return;
        }
        self.expiry = None;
        let mut next: Option<Time> = None;
        let mut expect = |expires: Time| next = Some(next.map_or(expires, |next| next.min(expires)));
        let out = &mut self.desk.effects;
        self.batches.retain(|_, waiters| {
            let mut waits = false;
            for waiter in waiters {
                if !waiter.expire(now, out) {
                    waits = true;
                    expect(waiter.expires);
                }
            }
            waits
        });
        let over = self.reads.iter().filter(|(_, call)| call.expires <= now).map(|(key, _)| *key);
        for key in over.collect::<Vec<_>>() {
            if let Some(call) = self.reads.remove(&key) {
                call.serve(Err(ReadError::Deadline));
            }
        }
        self.reads.values().for_each(|call| expect(call.expires));
        self.keeping.expire(now).into_iter().for_each(expect);
        if let Some(next) = next {
            self.expect(next);
        }
    }

    fn read(&mut self, at: Slot, leader: Option<NodeId>, call: ReadCall<S>) {
        if at <= self.role.applied_through() && self.has_state() {
            call.serve(Ok(self.state.machine()));
            return;
        }
        self.expect(call.expires);
        self.reads_seen += 1;
        self.reads.insert((at, self.reads_seen), call);
        if let Some(peer) = leader.filter(|_| at > self.role.applied_through()) {
            let chosen_through = self.desk.wires.board.chosen_through.get();
            self.step(LearnerInput::Behind { peer, through: at, chosen_through });
        }
    }

    fn serve_reads(&mut self) {
        if !self.has_state() {
            return;
        }
        let applied = self.role.applied_through();
        while let Some(entry) = self.reads.first_entry().filter(|entry| entry.key().0 <= applied) {
            entry.remove().serve(Ok(self.state.machine()));
        }
    }

    fn batch_over(&mut self, serial: u64, fate: Fate) {
        let hint = self.desk.wires.board.leader.get().map(|leader| leader.node);
        for mut waiter in self.batches.remove(&serial).unwrap_or_default() {
            let error = match fate {
                Fate::Refused => ProposeError::NotLeader { hint, reason: NotLeaderReason::NoLeader },
                Fate::Lost => UNKNOWN,
            };
            waiter.fail(error, &mut self.desk.effects);
        }
    }
}

impl<S: StateMachine> Part for LearnerActor<S> {
    type Mail = LearnerMail<S>;

    fn begin(&mut self) {
        if self.desk.begin() {
            self.step(LearnerInput::Wake);
        }
    }

    fn receive(&mut self, mail: LearnerMail<S>) {
        match mail {
            LearnerMail::Input(input, held) => {
                self.input(input);
                drop(held);
            }
            LearnerMail::Batch { serial, waiters } => {
                if let Some(first) = waiters.iter().map(|waiter| waiter.expires).min() {
                    self.expect(first);
                }
                self.batches.insert(serial, waiters);
            }
            LearnerMail::BatchOver { serial, fate } => self.batch_over(serial, fate),
            LearnerMail::Read { at, leader, mut call } => {
                if call.expires == Time::ZERO {
                    call.expires = self.desk.now + call.patience;
                }
                self.read(at, leader, call);
            }
            LearnerMail::Snapshot { patience, reply } => self.snapshot_wanted(patience, reply),
            LearnerMail::SnapshotDamaged(snapshot) => self.input(LearnerInput::SnapshotDamaged { snapshot }),
            LearnerMail::Ping => self.desk.wires.pong(Role::Learner),
            LearnerMail::Panic => panic_as_asked(),
        }
    }

    fn finish(&mut self, task: &mut Task<'_>) -> Flow {
        self.expire();
        self.look_at_log();
        self.carry_out();
        self.go_on_with_snapshots(task);
        self.desk.wires.board.applied_through.set(self.role.applied_through());
        self.serve_reads();
        self.desk.sleep(self.expiry, task);
        self.desk.flow()
    }

    fn panicked(&mut self, message: String) {
        self.last_words.panicked = Some(message);
    }
}

impl<S: StateMachine> Actor for LearnerActor<S> {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        context.spawn(Pump::<Self>::new(Rc::clone(&self.queue)));
    }
}
