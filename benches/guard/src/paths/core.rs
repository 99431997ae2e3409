//! The core of three nodes in one thread, one commit after the other: writes are durable and messages there at once.

use crate::Error;
use bytes::Bytes;
use std::collections::VecDeque;
use std::time::Duration;
use synod::election::{Election, Timing};
use synod::multi::node::{Node, address};
use synod::multi::{
    Acceptor, AcceptorInput, BatchBuilder, BatchId, ClusterId, DiskId, Effect, Identity, Incarnation,
    Learner, Limits, Local, Log, Membership, Message, Owner, Proposer, ProposerInput, ProtocolRange, Record,
    Role, Sequence, Tag, Time, Value,
};
use synod::paxos::NodeId;

/// How many commits count.
pub(crate) const COMMITS: u64 = 1000;
const LEADER: NodeId = NodeId::new(1);
/// Between two commits.
const COMMIT_TIME: Duration = Duration::from_micros(100);

/// Elects a leader and commits [`COMMITS`] batches of one command of 16 bytes.
pub(crate) fn commit() -> Result<(), Error> {
    let mut cluster = Cluster::new()?;
    cluster.begin();
    for serial in 0..COMMITS {
        let mut builder = BatchBuilder::new(BatchId { node: LEADER, incarnation: 1, serial });
        builder.push(&Tag::Plain, &[7; 16]);
        cluster.commit(builder.finish());
    }
    // A follower hears of the last commit with the next one.
    let delivered = cluster.machines.iter().map(|machine| machine.delivered);
    if delivered.min() == Some(COMMITS - 1) { Ok(()) } else { Err("commits got lost".into()) }
}

struct Machine {
    me: NodeId,
    node: Node,
    delivered: u64,
}

struct Cluster {
    now: Time,
    machines: Vec<Machine>,
    /// From, to, what.
    wire: VecDeque<(NodeId, NodeId, Message)>,
    /// What the nodes told themselves and the storage told them.
    inputs: VecDeque<(NodeId, Local)>,
}

impl Cluster {
    fn new() -> Result<Self, Error> {
        let ids = [1, 2, 3].map(NodeId::new);
        let membership = Membership::voters(ids.map(|id| (id, "")))?;
        let disks = ids.into_iter().map(|id| (id, DiskId(id.get()))).collect();
        let formed = Record::Formed { membership, disks };
        let machines = ids.into_iter().map(|id| machine(id, &formed)).collect::<Result<Vec<_>, Error>>()?;
        Ok(Self { now: Time::ZERO, machines, wire: VecDeque::new(), inputs: VecDeque::new() })
    }

    /// Until the first node leads. Nothing of this counts.
    fn begin(&mut self) {
        let mut out = Vec::new();
        let ids: Vec<NodeId> = self.machines.iter().map(|machine| machine.me).collect();
        for id in &ids {
            for machine in self.machines.iter_mut().filter(|machine| machine.me == *id) {
                machine.node.start(self.now, &mut out);
                for peer in ids.iter().filter(|peer| *peer != id) {
                    machine.node.link(self.now, *peer, true, &mut out);
                }
            }
            self.take(*id, &mut out);
        }
        self.inputs.push_back((LEADER, Local::Proposer(ProposerInput::Campaign)));
        self.settle(|node, now, input, out| node.step(now, input, out));
    }

    fn commit(&mut self, batch: Bytes) {
        self.now = self.now + COMMIT_TIME;
        self.inputs.push_back((LEADER, Local::Proposer(ProposerInput::Propose { batch })));
        self.settle(|node, now, input, out| {
            if node.acceptor.node() == LEADER {
                counted_leader_step(node, now, input, out);
            } else {
                counted_follower_step(node, now, input, out);
            }
        });
    }

    /// Until nothing is left to say.
    fn settle(&mut self, step: fn(&mut Node, Time, Local, &mut Vec<(Role, Effect)>)) {
        let mut out = Vec::new();
        loop {
            let next = self.inputs.pop_front().or_else(|| {
                let (from, to, message) = self.wire.pop_front()?;
                Some((to, address(from, message)))
            });
            let Some((to, input)) = next else { return };
            for machine in self.machines.iter_mut().filter(|machine| machine.me == to) {
                step(&mut machine.node, self.now, input.clone(), &mut out);
            }
            self.take(to, &mut out);
        }
    }

    /// Does what `me` wants done.
    fn take(&mut self, me: NodeId, out: &mut Vec<(Role, Effect)>) {
        for (_, effect) in out.drain(..) {
            match effect {
                // Behind the group's own end, which stands before it in the queue.
                Effect::Send { to, message, .. } => self.wire.push_back((me, to, message)),
                Effect::Persist { sequence, .. } => {
                    self.inputs.push_back((me, Local::Acceptor(AcceptorInput::Persisted { sequence })));
                }
                Effect::Deliver { value: Value::Batch(_), .. } => {
                    let machine = self.machines.iter_mut().find(|machine| machine.me == me);
                    machine.into_iter().for_each(|machine| machine.delivered += 1);
                }
                _ => {}
            }
        }
    }
}

fn machine(me: NodeId, formed: &Record) -> Result<Machine, Error> {
    let limits = Limits::default();
    let mut log = Log::default();
    log.set_cache(limits.cache_bytes_max);
    log.apply(formed);
    let identity = Identity {
        owner: Owner { cluster: ClusterId::new("guard")?, epoch: 0, node: me },
        disk: DiskId(me.get()),
        incarnations: vec![Incarnation { counter: 1, nonce: me.get() }],
        sequence: Sequence(0),
        protocol: ProtocolRange::OURS,
    };
    let node = Node::new(
        Proposer::new(me, limits.clone(), me.get()),
        Acceptor::new(identity, None, Sequence(1), log, limits.clone()),
        Learner::new(me, limits, me.get()),
        Election::external(me, Timing::default(), me.get()),
    );
    Ok(Machine { me, node, delivered: 0 })
}

// Two functions of the same code would become one, and callgrind could not tell the leader's steps from the others': hence
// what each says of itself.
#[inline(never)]
fn counted_leader_step(node: &mut Node, now: Time, input: Local, out: &mut Vec<(Role, Effect)>) {
    std::hint::black_box("leader");
    node.step(now, input, out);
}

#[inline(never)]
fn counted_follower_step(node: &mut Node, now: Time, input: Local, out: &mut Vec<(Role, Effect)>) {
    std::hint::black_box("follower");
    node.step(now, input, out);
}
