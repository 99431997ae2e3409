//! Synod's replicas in the loop of the core suite: `synod::multi::node::Node`, which is what simulator and models drive too.
//!
//! A write is durable as soon as it is in the vector that stands for the storage. What is proposed in one turn goes into one
//! batch, as long as that is no larger than the shell's largest.

use super::{Load, Replicas};
use crate::cluster::Error;
use crate::digest::Digest;
use std::collections::VecDeque;
use std::time::Duration;
use synod::election::{Election, Timing};
use synod::multi::node::Node;
use synod::multi::{
    Acceptor, AcceptorInput, Batch, BatchBuilder, BatchId, ClusterId, DiskId, Effect, Identity, Incarnation,
    Learner, Limits, Local, Log, Membership, Message, Owner, Proposer, ProposerInput, ProposerState,
    ProtocolRange, Record, Role, Sequence, Slot, Tag, Time, Value,
};
use synod::paxos::NodeId;

const LEADER: NodeId = NodeId::new(1);
/// As the shell's `batch_bytes_max`.
const BATCH_BYTES_MAX: usize = 512 << 10;

/// Three nodes.
pub(crate) struct Trio {
    machines: Vec<Machine>,
    wire: Vec<Sent>,
    /// What is being carried: empty between sweeps, kept for its room.
    carried: Vec<Sent>,
    now: Time,
    batch: BatchBuilder,
    batches: u64,
    /// Filled, and waiting for the window of slots.
    full: VecDeque<bytes::Bytes>,
    /// How many commands each batch holds that the leader has not delivered yet, and how many commands it has.
    undecided: VecDeque<u64>,
    decided: u64,
}

struct Machine {
    id: NodeId,
    node: Node,
    /// The storage.
    records: Vec<Record>,
    deadlines: Vec<(Role, Time)>,
    /// What the roles want, and what the node says to itself: empty between inputs, kept for their room.
    effects: Vec<(Role, Effect)>,
    own: Vec<Message>,
}

struct Sent {
    from: NodeId,
    to: NodeId,
    message: Message,
}

impl Replicas for Trio {
    fn lead(_load: &Load) -> Result<Self, Error> {
        let ids = [1, 2, 3].map(NodeId::new);
        let membership = Membership::voters(ids.map(|id| (id, "")))?;
        let machines = ids.map(|id| Machine::new(id, &membership)).into_iter().collect::<Result<_, _>>()?;
        let (wire, carried, full) = (Vec::new(), Vec::new(), VecDeque::new());
        let (now, batch) = (Time::ZERO, new_batch(0, 0));
        let undecided = VecDeque::new();
        let mut trio = Self { machines, wire, carried, now, batch, batches: 0, full, undecided, decided: 0 };
        for at in 0..trio.machines.len() {
            trio.drive(at, |node, now, out| node.start(now, out));
        }
        trio.drive(0, |node, now, out| {
            node.step(now, Local::Proposer(ProposerInput::Campaign), out);
        });
        while !trio.wire.is_empty() {
            trio.sweep();
        }
        let state = trio.machines.first().map(|leader| leader.node.proposer.state());
        if !matches!(state, Some(ProposerState::Leading { .. })) {
            return Err(format!("the first node does not lead: {state:?}").into());
        }
        Ok(trio)
    }

    fn propose(&mut self, command: &[u8]) -> Result<(), Error> {
        let cost = BatchBuilder::cost(command.len(), &Tag::Plain);
        if self.batch.commands() > 0 && self.batch.size() + cost > BATCH_BYTES_MAX {
            self.close_batch();
        }
        self.batch.push(&Tag::Plain, command);
        Ok(())
    }

    fn carry(&mut self) -> Result<u64, Error> {
        if self.batch.commands() > 0 {
            self.close_batch();
        }
        while self.machines.first().is_some_and(|leader| leader.node.proposer.room() > 0)
            && let Some(batch) = self.full.pop_front()
        {
            self.drive(0, |node, now, out| {
                node.step(now, Local::Proposer(ProposerInput::Propose { batch }), out);
            });
        }
        self.sweep();
        Ok(self.decided)
    }

    /// Lets time pass, so that a heartbeat tells the followers what was decided last.
    fn logs(&mut self) -> Result<Vec<Digest>, Error> {
        self.now = self.now + Duration::from_millis(10);
        for at in 0..self.machines.len() {
            let now = self.now;
            let Some(machine) = self.machines.get_mut(at) else { continue };
            let due: Vec<Role> =
                machine.deadlines.extract_if(.., |(_, at)| *at <= now).map(|(role, _)| role).collect();
            due.into_iter().for_each(|role| self.drive(at, |node, now, out| node.wake(now, role, out)));
        }
        while !self.wire.is_empty() {
            self.sweep();
        }
        self.machines.iter().map(Machine::digest).collect()
    }
}

impl Trio {
    fn close_batch(&mut self) {
        self.batches += 1;
        self.undecided.push_back(self.batch.commands() as u64);
        let room = self.batch.size();
        let batch = std::mem::replace(&mut self.batch, new_batch(self.batches, room));
        self.full.push_back(batch.finish());
    }

    /// Carries every message that is under way now.
    fn sweep(&mut self) {
        let mut carried = std::mem::take(&mut self.carried);
        std::mem::swap(&mut carried, &mut self.wire);
        for Sent { from, to, message } in carried.drain(..) {
            let at = usize::try_from(to.get()).unwrap_or(0).saturating_sub(1);
            self.drive(at, |node, now, out| node.receive(now, from, message, out));
        }
        self.carried = carried;
    }

    fn drive(&mut self, at: usize, act: impl FnOnce(&mut Node, Time, &mut Vec<(Role, Effect)>)) {
        if let Some(machine) = self.machines.get_mut(at) {
            act(&mut machine.node, self.now, &mut machine.effects);
            for _ in 0..machine.carry_out(self.now, &mut self.wire) {
                self.decided += self.undecided.pop_front().unwrap_or(0);
            }
        }
    }
}

impl Machine {
    fn new(id: NodeId, membership: &Membership) -> Result<Self, Error> {
        let disks = membership.members().keys().map(|member| (*member, DiskId(member.get()))).collect();
        let formed = Record::Formed { membership: membership.clone(), disks };
        let mut log = Log::default();
        log.apply(&formed);
        let identity = Identity {
            owner: Owner { cluster: ClusterId::new("bench")?, epoch: 0, node: id },
            disk: DiskId(id.get()),
            incarnations: vec![Incarnation { counter: 1, nonce: id.get() }],
            sequence: Sequence(0),
            protocol: ProtocolRange::OURS,
        };
        let limits = Limits::default();
        let node = Node::new(
            Proposer::new(id, limits.clone(), id.get()),
            Acceptor::new(identity, None, Sequence(1), log, limits.clone()),
            Learner::new(id, limits, id.get()),
            Election::external(id, Timing::default(), id.get()),
        );
        let (records, deadlines) = (vec![formed], Vec::new());
        Ok(Self { id, node, records, deadlines, effects: Vec::new(), own: Vec::new() })
    }

    /// Does what the roles want, until they want nothing more. How many batches the leader has as decided because of it.
    fn carry_out(&mut self, now: Time, wire: &mut Vec<Sent>) -> u64 {
        let mut decided = 0;
        let mut written = None;
        while !self.effects.is_empty() {
            for (role, effect) in self.effects.drain(..) {
                match effect {
                    Effect::Persist { sequence, records } => {
                        self.records.extend(records);
                        written = Some(sequence);
                    }
                    Effect::Send { to, message, .. } if to == self.id => self.own.push(message),
                    Effect::Send { to, message, .. } => wire.push(Sent { from: self.id, to, message }),
                    Effect::Deliver { value: Value::Batch(_), .. } if self.id == LEADER => decided += 1,
                    Effect::Deadline(at) => {
                        self.deadlines.retain(|(known, _)| *known != role);
                        self.deadlines.push((role, at));
                    }
                    _ => {}
                }
            }
            if let Some(sequence) = written.take() {
                let persisted = AcceptorInput::Persisted { sequence };
                self.node.step(now, Local::Acceptor(persisted), &mut self.effects);
            }
            for message in self.own.drain(..) {
                self.node.receive(now, self.id, message, &mut self.effects);
            }
        }
        decided
    }

    /// What the storage holds, as far as it was delivered.
    fn digest(&self) -> Result<Digest, Error> {
        let mut digest = Digest::default();
        let mut next = Slot::FIRST;
        for record in &self.records {
            let Record::Accepted { slot, value, .. } = record else { continue };
            if *slot != next || *slot > self.node.learner.applied_through() {
                continue;
            }
            next = next.next();
            if let Value::Batch(batch) = value {
                for command in Batch::read(batch.clone())? {
                    digest.add(&command?.1);
                }
            }
        }
        Ok(digest)
    }
}

/// With room for about as much as the one before.
fn new_batch(serial: u64, room: usize) -> BatchBuilder {
    BatchBuilder::with_room(BatchId { node: LEADER, incarnation: 1, serial }, room)
}
