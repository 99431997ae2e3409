//! What one walk covers: who votes, who leads, what each leader may change, and which rule is left out.
//!
//! Quorums are the product's: [`Voters`] asks `synod::multi::Membership` about every set of nodes once, and keeps the
//! answers as bits. Which membership governs a slot is computed here, for speed; a test holds it to
//! `synod::multi::Memberships` for every log. Leaves out: witnesses, observers, flexible sizes.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use synod::multi::{Member, MemberKind, Membership};
use synod::paxos::NodeId;

pub const SLOTS_MAX: usize = 4;
pub const NODES: usize = 5;
pub const LEADERS_MAX: usize = 2;

/// A rule of the protocol that a mutant does without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Without {
    /// 1.6: learned through t − α − 1 before proposing at t. Without: through t − α − 2.
    /// The window of 6.2, which is narrower still, has to go with it, or else it would hide the mutant.
    LearnedBelow,
    /// 1.6, last sentence: nothing is proposed at a slot that was learned.
    NothingWhereLearned,
    /// 3.2: the watermark covers no slot that went to another value, and its leader falls silent.
    WatermarkOfOwnValues,
    /// 6.3: phase 1 in the new membership. Without: a leader of the first membership goes on.
    PhaseOneInNewMembership,
    /// 7.1: the mark is at or above `recovery_through`.
    MarkAboveRecovery,
    /// 7.1: phase 1 was won before the mark was taken. Without: it may be won afterwards.
    MarkTakenAnew,
    /// 7.1, 7.2: the membership of mark + 1. Without: that of the mark.
    MembershipAboveMark,
    /// 7.2: enough voters confirm. Without: one fewer.
    EnoughConfirm,
    /// 7.2: the confirming round starts after the read arrived. Without: at any time.
    RoundAfterArrival,
}

/// Sets of nodes and of leaders are bits; node 0 is A.
pub type Bits = u8;

/// For each set of nodes, one bit.
type Table = u32;

/// A membership, with what the product says of every set of nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Voters {
    pub bits: Bits,
    promised: Table,
    accepted: Table,
    confirmed: Table,
}

impl Voters {
    /// Majorities of the named nodes, such as `"ADE"`.
    pub fn named(names: &str) -> Self {
        let bits = names.bytes().map(|name| 1 << (name - b'A')).sum();
        let membership = membership(names, 1);
        let ask = |says: &dyn Fn(&BTreeSet<NodeId>) -> bool| -> Table {
            let nodes = |set: u32| (0..NODES).filter(move |node| set >> node & 1 == 1).map(node_id);
            (0..1 << NODES).map(|set| u32::from(says(&nodes(set).collect())) << set).sum()
        };
        Self {
            bits,
            promised: ask(&|nodes| membership.is_phase1_quorum(nodes)),
            accepted: ask(&|nodes| membership.is_phase2_quorum(nodes)),
            confirmed: ask(&|nodes| {
                membership.meets_every_phase1_quorum(nodes) || membership.meets_every_phase2_quorum(nodes)
            }),
        }
    }

    pub fn has(&self, node: usize) -> bool {
        self.bits >> node & 1 == 1
    }

    pub fn is_promised_by(&self, nodes: Bits) -> bool {
        self.promised >> nodes & 1 == 1
    }

    pub fn is_accepted_by(&self, nodes: Bits) -> bool {
        self.accepted >> nodes & 1 == 1
    }

    /// Do these meet every phase-1 quorum, or every phase-2 quorum (7.2)?
    pub fn is_confirmed_by(&self, nodes: Bits) -> bool {
        self.confirmed >> nodes & 1 == 1
    }

    /// Would these and any one more voter?
    pub fn is_nearly_confirmed_by(&self, nodes: Bits) -> bool {
        (0..NODES).filter(|node| self.has(*node)).any(|node| self.is_confirmed_by(nodes | 1 << node))
    }
}

fn node_id(node: usize) -> NodeId {
    NodeId::new(node as u64 + 1)
}

/// The product's membership of the named voters.
pub fn membership(names: &str, alpha: usize) -> Membership {
    let voter = |name: u8| {
        (node_id(usize::from(name - b'A')), Member { kind: MemberKind::Voter, address: String::new() })
    };
    Membership::new(names.bytes().map(voter).collect::<BTreeMap<_, _>>(), alpha as u64).unwrap()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Value {
    /// What the leader of that index proposes of its own.
    Batch(u8),
    /// The change of the leader of that index.
    Change(u8),
}

/// A value, or nothing yet, for each slot; index 0 is slot 1.
pub type Log = [Option<Value>; SLOTS_MAX];

/// The slot through which a log has no gap.
pub fn through(log: &Log) -> usize {
    log.iter().take_while(|entry| entry.is_some()).count()
}

/// The highest slot in use.
pub fn highest(log: &Log) -> usize {
    log.iter().rposition(Option::is_some).map_or(0, |index| index + 1)
}

/// What one walk covers.
#[derive(Clone, Copy, Debug)]
pub struct Scope {
    pub slots: usize,
    pub alpha: usize,
    pub first: Voters,
    /// What each leader may change to, the one with the lowest id first.
    pub changes: [Option<Voters>; LEADERS_MAX],
    /// One read may arrive.
    pub reads: bool,
    pub without: Option<Without>,
}

impl Scope {
    /// Two leaders; `sitting` and `challenging` are the changes that they may propose, empty for none.
    pub fn new(slots: usize, alpha: usize, first: &str, sitting: &str, challenging: &str) -> Self {
        let change = |names: &str| (!names.is_empty()).then(|| Voters::named(names));
        let changes = [change(sitting), change(challenging)];
        Self { slots, alpha, first: Voters::named(first), changes, reads: false, without: None }
    }

    pub fn with_a_read(self) -> Self {
        Self { reads: true, ..self }
    }

    pub fn without(self, rule: Without) -> Self {
        Self { without: Some(rule), ..self }
    }

    pub fn keeps(&self, rule: Without) -> bool {
        self.without != Some(rule)
    }

    pub fn leaders(&self) -> Range<usize> {
        0..LEADERS_MAX
    }

    /// The membership that governs a slot, for one who knows the log below it (6.1): an index for [`Scope::membership`].
    pub fn governing(&self, log: &Log, slot: usize) -> usize {
        let changes = log[..slot.saturating_sub(self.alpha + 1)].iter().rev();
        let change = changes.flatten().find_map(|value| match value {
            Value::Change(leader) => Some(*leader as usize + 1),
            Value::Batch(_) => None,
        });
        change.unwrap_or(0)
    }

    /// The first membership is 0, that of leader i is i + 1.
    pub fn membership(&self, index: usize) -> Voters {
        index.checked_sub(1).and_then(|leader| self.changes[leader]).unwrap_or(self.first)
    }

    pub fn membership_at(&self, log: &Log, slot: usize) -> Voters {
        self.membership(self.governing(log, slot))
    }

    /// The highest slot at which one may propose who has learned through this one (6.2; 1.6 alone would allow one more).
    pub fn window(&self, through: usize) -> usize {
        let ahead = if self.keeps(Without::LearnedBelow) { self.alpha } else { self.alpha + 2 };
        self.slots.min(through + ahead)
    }

    /// How the memberships that a node is in are told apart from those of another.
    pub fn memberships_of(&self, node: usize) -> (bool, [bool; LEADERS_MAX]) {
        (self.first.has(node), self.changes.map(|change| change.is_some_and(|voters| voters.has(node))))
    }
}
