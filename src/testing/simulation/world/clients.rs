//! Clients: each has one call open at a time, in a session, and repeats it, also elsewhere, until it has an answer or gives up.

use super::super::breakage::Breakage;
use super::super::event::Event;
use super::super::machine::Ticket;
use super::super::state::Outcome;
use super::super::violation::Violation;
use super::{Simulated, World};
use crate::codec;
use crate::multi::{
    AdminOutcome, Answer, Batch, BatchBuilder, BatchId, Local, ProposerInput, SessionId, SessionStamp, Slot,
    Tag, Value,
};
use crate::paxos::NodeId;
use crate::testing::Operation;
use std::time::Duration;

/// What a client waits for.
#[derive(Debug)]
enum Call<C> {
    /// Its session.
    Opening,
    /// A read; where it stands in the history.
    Read(C, usize),
    /// A command of its session.
    Command(C, SessionStamp, usize),
}

/// One client.
#[derive(Debug)]
pub(super) struct Client<S: Simulated> {
    session: Option<SessionId>,
    serial: u64,
    call: Option<Call<S::Command>>,
    /// Counts the calls: an answer to an earlier one is not heard.
    calls: u64,
    attempts: u64,
    /// Counts what it did: a wait that was overtaken ends in nothing.
    turn: u64,
    /// Whom it asks.
    node: Option<NodeId>,
}

/// After so many attempts a client gives up, and does not know what came of its command.
const ATTEMPTS_MAX: u64 = 25;

impl<S: Simulated> Client<S> {
    pub(super) fn new() -> Self {
        Self { session: None, serial: 0, call: None, calls: 0, attempts: 0, turn: 0, node: None }
    }
}

impl<S: Simulated> World<S> {
    /// A client begins a call, or repeats the one that it has open.
    pub(super) fn client_acts(&mut self, nth: usize, turn: u64) {
        let now = self.now;
        let is_read = |command: &S::Command, world: &Self| {
            world.checks.clients.state().machine().read(command).is_some()
        };
        let Some(client) = self.clients.get(nth).filter(|client| client.turn == turn) else { return };
        if client.call.is_none() {
            let (session, serial) = (client.session, client.serial + 1);
            let call = match session {
                None => Call::Opening,
                Some(session) => {
                    let input = S::next_command(&mut self.random);
                    let place = self.history.len();
                    let client = nth as u64;
                    self.history.push(Operation {
                        client,
                        input: input.clone(),
                        output: None,
                        called: now,
                        returned: now,
                    });
                    let stamp = SessionStamp { session, serial, answered_through: serial - 1 };
                    if is_read(&input, self) {
                        Call::Read(input, place)
                    } else {
                        Call::Command(input, stamp, place)
                    }
                }
            };
            let Some(client) = self.clients.get_mut(nth) else { return };
            if matches!(call, Call::Command(..)) {
                client.serial += 1;
            }
            client.call = Some(call);
            client.calls += 1;
            client.attempts = 0;
        }
        self.attempt(nth);
    }

    fn attempt(&mut self, nth: usize) {
        let Some(client) = self.clients.get_mut(nth) else { return };
        client.attempts += 1;
        if client.attempts > ATTEMPTS_MAX {
            client.call = None;
            self.count("client_gave_up");
            self.rest(nth);
            return;
        }
        let (attempts, call) = (client.attempts, client.calls);
        let known = client.node.filter(|_| attempts == 1);
        if attempts == 2 {
            self.count("client_asked_again");
        }
        // A leader that it knows, later whoever says that he leads, now and then anybody.
        let leaders = if self.random.draw().is_multiple_of(8) { self.ids() } else { self.leaders() };
        let node = known.or_else(|| self.one_of(&leaders));
        if let Some(client) = self.clients.get_mut(nth) {
            client.node = node;
        }
        let wait = self.micros(10_000, 300_000);
        self.wait(nth, wait);
        if !node.is_some_and(|node| self.submit(nth, call, node)) {
            // Nobody took it: that is no attempt, and it may try again at once.
            let soon = self.micros(5_000, 40_000);
            self.wait(nth, soon);
            if let Some(client) = self.clients.get_mut(nth) {
                client.attempts -= 1;
                client.node = None;
            }
        }
    }

    /// Asks `id`; false if it takes no call now.
    fn submit(&mut self, nth: usize, call: u64, id: NodeId) -> bool {
        let Some(client) = self.clients.get(nth) else { return false };
        let doubled = self.random.draw().is_multiple_of(16);
        match &client.call {
            Some(Call::Read(..)) if self.is_broken(Breakage::StaleRead) => {
                let awake = self.machines.get_mut(&id).filter(|machine| machine.is_awake());
                let Some(machine) = awake else { return false };
                machine.reads.push((Slot::ZERO, nth, call));
                self.serve_reads(id);
                true
            }
            Some(Call::Read(..)) if self.machines.get(&id).is_some_and(super::Machine::leads) => {
                let kind = Ticket::Client { client: nth, call };
                self.ask(id, kind, |ticket| ProposerInput::Read { tickets: vec![ticket], lease: false });
                true
            }
            Some(Call::Opening) => {
                self.propose(id, &[(Tag::OpenSession(None), Vec::new())], Some((nth, call)))
            }
            Some(Call::Command(command, stamp, _)) => {
                let command = (Tag::InSession(*stamp), codec::encode(command).unwrap_or_default());
                let twice = [command.clone(), command];
                let commands = if doubled { &twice[..] } else { &twice[..1] };
                self.propose(id, commands, Some((nth, call)))
            }
            _ => false,
        }
    }

    /// Fills a batch and has `id` propose it, if it leads and has room; false if not.
    fn propose(&mut self, id: NodeId, commands: &[(Tag, Vec<u8>)], caller: Option<(usize, u64)>) -> bool {
        let early = self.is_broken(Breakage::EarlyAnswer);
        let Some(machine) = self.machines.get_mut(&id).filter(|machine| machine.is_awake()) else {
            return false;
        };
        if machine.node.as_ref().is_none_or(|node| node.proposer.room() == 0) {
            return false;
        }
        machine.batches += 1;
        let batch = BatchId { node: id, incarnation: machine.disk.starts(), serial: machine.batches };
        let mut builder = BatchBuilder::new(batch);
        commands.iter().for_each(|(tag, command)| builder.push(tag, command));
        machine.calls.insert(batch.serial, caller.into_iter().collect());
        if early {
            self.checks.clients.acknowledged(batch, Slot::ZERO);
        }
        let input = Local::Proposer(ProposerInput::Propose { batch: builder.finish() });
        self.with(id, |node, now, out| node.step(now, input, out));
        true
    }

    /// Batches without a command, so that the log grows, and reads of nobody in particular.
    pub(super) fn fill(&mut self) {
        for id in self.ids() {
            self.propose(id, &[], None);
        }
        let acknowledged = self.checks.clients.acknowledged_through();
        for id in self.leaders() {
            self.ask(id, Ticket::Read(acknowledged), |ticket| ProposerInput::Read {
                tickets: vec![ticket],
                lease: false,
            });
        }
        self.after(self.weather.fill_every, Event::Fill);
    }

    /// A node applies the next slot.
    pub(super) fn delivered(&mut self, id: NodeId, slot: Slot, value: &Value) {
        let misses = self.is_broken(Breakage::MissedCommand) && id == NodeId::new(2) && slot.get() % 64 == 63;
        let Some(machine) = self.machines.get_mut(&id) else { return };
        let outcomes = machine.state.apply(slot, if misses { &Value::Noop } else { value });
        let (digest, starts) = (machine.state.digest, machine.disk.starts());
        self.has_applied = true;
        let verdict = self.checks.applied(id, slot, value, digest);
        self.judge(verdict);
        if let Value::Batch(bytes) = value
            && let Ok(batch) = Batch::read(bytes.clone())
            && batch.id().node == id
            && batch.id().incarnation == starts
        {
            let batch = batch.id();
            self.checks.clients.acknowledged(batch, slot);
            let callers = self.machines.get_mut(&id).and_then(|machine| machine.calls.remove(&batch.serial));
            for (client, call) in callers.into_iter().flatten() {
                // The answer is lost like any message.
                if !self.percent(self.weather.lose) {
                    outcomes.iter().for_each(|outcome| self.hear(id, client, call, outcome));
                }
            }
        }
        self.serve_reads(id);
    }

    fn hear(&mut self, id: NodeId, nth: usize, number: u64, outcome: &Outcome<S::Reply>) {
        let known = self.clients.get_mut(nth).filter(|client| client.calls == number);
        let Some((client, call)) = known.and_then(|client| client.call.take().map(|call| (client, call)))
        else {
            return;
        };
        match (call, outcome) {
            (Call::Opening, Outcome::Opened(session)) => {
                client.session = Some(*session);
                client.serial = 0;
            }
            (
                Call::Command(_, stamp, place),
                Outcome::Applied(heard, reply) | Outcome::Known(heard, reply),
            ) if *heard == stamp => {
                if matches!(outcome, Outcome::Known(..)) {
                    self.count("command_repeated");
                }
                self.answer(place, reply.clone());
                let verdict = self.checks.clients.replied(id, stamp, reply);
                self.judge(verdict);
            }
            (Call::Command(..), Outcome::Refused) => {
                client.session = None;
                self.count("session_expired");
            }
            (call, _) => {
                client.call = Some(call);
                return;
            }
        }
        self.rest(nth);
    }

    fn answer(&mut self, place: usize, reply: S::Reply) {
        let now = self.now;
        if let Some(operation) = self.history.get_mut(place) {
            operation.output = Some(reply);
            operation.returned = now;
        }
    }

    fn rest(&mut self, nth: usize) {
        let rest = self.spread(self.weather.think);
        self.wait(nth, rest);
    }

    fn wait(&mut self, nth: usize, delay: Duration) {
        let Some(client) = self.clients.get_mut(nth) else { return };
        client.turn += 1;
        let turn = client.turn;
        self.after(delay, Event::Client { client: nth, turn });
    }

    /// A call that had a ticket has ended.
    pub(super) fn answered(&mut self, id: NodeId, ticket: u64, answer: &Answer) {
        let Some(machine) = self.machines.get_mut(&id) else { return };
        match (machine.tickets.remove(&ticket), answer) {
            (Some(Ticket::Read(acknowledged)), Answer::Readable(mark)) => {
                let mark = *mark;
                if mark < acknowledged {
                    self.judge(Err(Violation::StaleRead { node: id, mark, acknowledged }));
                }
            }
            (Some(Ticket::Client { client, call }), Answer::Readable(mark)) => {
                machine.reads.push((*mark, client, call));
                self.serve_reads(id);
            }
            (Some(Ticket::Change), Answer::Admin(AdminOutcome::Changed(_))) => {
                self.count("membership_changed")
            }
            (Some(Ticket::Transfer), Answer::Admin(AdminOutcome::Transferred(_))) => {
                self.count("lead_handed_over")
            }
            _ => {}
        }
    }

    /// Reads that waited for what is applied now are answered.
    pub(super) fn serve_reads(&mut self, id: NodeId) {
        let Some(machine) = self.machines.get_mut(&id).filter(|machine| !machine.reads.is_empty()) else {
            return;
        };
        let through = machine.state.through;
        let (ready, waiting) =
            std::mem::take(&mut machine.reads).into_iter().partition(|(mark, ..)| *mark <= through);
        machine.reads = waiting;
        let ready: Vec<(Slot, usize, u64)> = ready;
        for (_, nth, number) in ready {
            let Some(machine) = self.machines.get(&id) else { return };
            let Some(client) = self.clients.get_mut(nth).filter(|client| client.calls == number) else {
                continue;
            };
            let Some(Call::Read(command, place)) = &client.call else { continue };
            let (place, reply) = (*place, machine.state.machine().read(command));
            client.call = None;
            if let Some(reply) = reply {
                self.answer(place, reply);
            }
            self.count("read_served");
            self.rest(nth);
        }
    }
}
