//! A register that can be written once, by three nodes in one process: Paxos with every message explained.
//!
//! Run it: `cargo run --example register`. Then read `src/paxos/mod.rs`, which tells why it works.
//!
//! Each of the three nodes is proposer, acceptor and learner. Node 1 wants to write "blue", node 3 wants to write "red",
//! and both begin at the same moment:
//!
//! * Act 1, the duel. Both win phase 1, but node 3 asked under the higher id, so the acceptors refuse what node 1 then
//!   proposes. Node 1 gives up. "red" is chosen. The network loses what would have told node 1.
//! * Act 2, the second proposer. Node 1 tries again, under a higher id. It could overrule everybody now, and yet it
//!   cannot undo anything: the promises report "red", so "red" is what it must propose.
//!
//! A node never sends anything itself. It returns a `Step`: what to write to disk, then what to send. The `Cluster` below
//! carries the steps out, with a map for the disks and a queue for the network. Nothing is random: each run prints the same.

use std::collections::{BTreeMap, VecDeque};
use synod::paxos::{
    Durable, Event, Message, Node, NodeId, Output, ProposalIdExhausted, Quorum, QuorumError, Step, To,
};

type Colour = &'static str;

/// A message under way.
struct Letter {
    from: NodeId,
    to: NodeId,
    message: Message<Colour>,
}

struct Cluster {
    nodes: BTreeMap<NodeId, Node<Colour>>,
    /// What each application wants written.
    wishes: BTreeMap<NodeId, Colour>,
    /// The newest write of each node. After a crash it would be rebuilt from here, by `Node::recover`.
    disks: BTreeMap<NodeId, Durable<Colour>>,
    network: VecDeque<Letter>,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let [one, two, three] = [1, 2, 3].map(NodeId::new);
    let mut cluster = Cluster::new([one, two, three])?;

    println!("Act 1: nodes {one} and {three} want different values at the same moment.\n");
    cluster.wish(one, "blue");
    cluster.wish(three, "red");
    cluster.prepare(one)?;
    cluster.prepare(three)?;
    cluster.deliver_all(|letter| {
        letter.to == one && letter.from != one && matches!(letter.message, Message::Accepted { .. })
    });

    println!("\nAct 2: node {one} has not heard of it and tries again.\n");
    cluster.prepare(one)?;
    cluster.deliver_all(|_| false);

    let learned: Vec<_> = cluster.nodes.values().map(|node| node.learner().chosen()).collect();
    let [Some((_, first)), ..] = learned[..] else { return Err("nothing was chosen".into()) };
    if learned.iter().any(|chosen| chosen.map(|(_, value)| value) != Some(first)) {
        return Err(format!("the nodes disagree: {learned:?}").into());
    }
    println!("\nevery node learned: {first}");
    Ok(())
}

impl Cluster {
    fn new(ids: [NodeId; 3]) -> Result<Self, QuorumError> {
        let quorum = Quorum::majority(ids)?;
        let nodes = ids.map(|id| (id, Node::new(id, quorum.clone())));
        Ok(Self {
            nodes: BTreeMap::from(nodes),
            wishes: BTreeMap::new(),
            disks: BTreeMap::new(),
            network: VecDeque::new(),
        })
    }

    /// Tells a node what its application wants.
    fn wish(&mut self, id: NodeId, colour: Colour) {
        self.wishes.insert(id, colour);
        if let Some(step) = self.nodes.get_mut(&id).map(|node| node.propose(colour)) {
            self.carry_out(id, step);
        }
    }

    /// Has a node begin phase 1. In a service an election says when.
    fn prepare(&mut self, id: NodeId) -> Result<(), ProposalIdExhausted> {
        if let Some(step) = self.nodes.get_mut(&id).map(Node::prepare) {
            self.carry_out(id, step?);
        }
        Ok(())
    }

    /// Delivers in the order of sending, but for the letters that get lost, until all is quiet.
    fn deliver_all(&mut self, is_lost: impl Fn(&Letter) -> bool) {
        while let Some(letter) = self.network.pop_front() {
            if is_lost(&letter) {
                println!("  lost     {} → {}: {}", letter.from, letter.to, name(&letter.message));
                continue;
            }
            println!(
                "{} → {}  {:22} {}",
                letter.from,
                letter.to,
                name(&letter.message),
                self.reason(&letter)
            );
            let Letter { from, to, message } = letter;
            if let Some(step) = self.nodes.get_mut(&to).map(|node| node.on_message(from, message)) {
                self.carry_out(to, step);
            }
        }
    }

    /// The whole contract of a step: write, and only then send.
    fn carry_out(&mut self, id: NodeId, step: Step<Durable<Colour>, Output<Colour>>) {
        if let Some(durable) = step.write {
            self.disks.insert(id, durable); // a real program waits here until the disk says so
        }
        match step.send.message {
            Some((To::All, message)) => {
                let letter = |to| Letter { from: id, to, message: message.clone() };
                self.network.extend(self.nodes.keys().copied().map(letter));
            }
            Some((To::One(to), message)) => self.network.push_back(Letter { from: id, to, message }),
            None => {}
        }
        match step.send.event {
            Some(Event::Leading(proposal)) => {
                println!("  node {id} has a quorum of promises: it leads under {proposal}")
            }
            Some(Event::GaveUp(gave_up)) => {
                println!("  node {id} gives up {}: a quorum for it is out of reach", gave_up.id);
            }
            Some(Event::Chosen { id: proposal, value }) => {
                println!(
                    "  node {id} learns: a quorum accepted {value} under {proposal}, so {value} is chosen"
                );
            }
            Some(Event::SafetyViolation(violation)) => println!("  node {id} falls silent: {violation}"),
            None => {}
        }
    }

    /// Why the sender sent it.
    fn reason(&self, Letter { from, message, .. }: &Letter) -> String {
        match message {
            Message::Prepare { id } => format!("will you refuse all below {id}? what did you accept?"),
            Message::Promise { id, accepted: None } => {
                format!("I refuse all below {id}, and have accepted nothing")
            }
            Message::Promise { id, accepted: Some((accepted, value)) } => {
                format!("I refuse all below {id}, and have accepted {value} under {accepted}")
            }
            Message::Accept { value, .. } if self.wishes.get(from) == Some(value) => {
                format!("no promise reports a value, so I propose mine: {value}")
            }
            Message::Accept { value, .. } => {
                format!("a promise reports {value}: it may be chosen, so I must propose it")
            }
            Message::Accepted { value, .. } => format!("I promised nothing higher, so I accepted {value}"),
            Message::Nack { promised, .. } => format!("I promised {promised}, which is higher"),
        }
    }
}

fn name(message: &Message<Colour>) -> String {
    match message {
        Message::Prepare { id } => format!("Prepare {id}"),
        Message::Promise { id, .. } => format!("Promise {id}"),
        Message::Accept { id, value } => format!("Accept {id} {value}"),
        Message::Accepted { id, value } => format!("Accepted {id} {value}"),
        Message::Nack { id, .. } => format!("Nack {id}"),
    }
}
