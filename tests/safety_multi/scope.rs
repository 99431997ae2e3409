//! Which clusters are walked, and how *chosen* is judged.

use crate::exhaustive::{Scope, Verdict};
use crate::machine::*;
use std::collections::{BTreeMap, BTreeSet};
use synod::multi::{Member, MemberKind, Membership, Memberships, Message, Slot, Value};
use synod::paxos::{NodeId, ProposalId};

/// A cluster to walk.
#[derive(Clone, Debug)]
pub struct Cluster {
    first: Membership,
    parts: Vec<Part>,
    crashes: u8,
    without: Option<Without>,
}

/// Voters in capitals, observers in small letters, such as `"ABc"`; node A is 1.
pub fn members(names: &str, alpha: u64) -> Membership {
    let member = |name: char| {
        let node = NodeId::new(u64::from(u32::from(name.to_ascii_uppercase()) - u32::from('A')) + 1);
        let kind = if name.is_uppercase() { MemberKind::Voter } else { MemberKind::Observer };
        (node, Member { kind, address: String::new() })
    };
    Membership::new(names.chars().map(member).collect(), alpha).unwrap()
}

impl Cluster {
    pub fn new(first: Membership, parts: Vec<Part>, crashes: u8) -> Self {
        Self { first, parts, crashes, without: None }
    }

    pub fn without(self, rule: Without) -> Self {
        Self { without: Some(rule), ..self }
    }

    fn changes(&self) -> bool {
        self.parts.iter().any(|part| part.change.is_some())
    }
}

const FIRST_SLOT: u64 = 1 << 6;
const SECOND_SLOT: u64 = 1 << 7;
const NOOP: u64 = 1 << 8;
const GOVERNED_ANEW: u64 = 1 << 9;

const SIGHTS: [&str; 10] = [
    "a crash loses an unflushed promise",
    "a crash loses an unflushed vote",
    "a node leads",
    "a node that crashed leads again",
    "a node fetches what was chosen",
    "a membership is learned",
    "a batch is chosen in slot 1",
    "a batch is chosen in slot 2",
    "a no-op is chosen",
    "a batch is chosen where the new membership governs",
];

impl Scope for Cluster {
    type Machine = Host;

    fn sights(&self) -> &'static [&'static str] {
        &SIGHTS
    }

    fn expected(&self) -> u64 {
        let crash = if self.crashes > 0 { LOST_PROMISE | LOST_VOTE } else { 0 };
        let change = if self.changes() { CHANGE_LEARNED | NOOP | GOVERNED_ANEW } else { 0 };
        let batches: u8 = self.parts.iter().map(|part| part.batches).sum();
        let second = if batches > 1 && !self.changes() { SECOND_SLOT } else { 0 };
        LED | FIRST_SLOT | crash | change | second
    }

    fn machines(&self) -> Vec<Host> {
        let node = |index: usize| NodeId::new(index as u64 + 1);
        let parts = self.parts.iter().enumerate();
        parts.map(|(index, part)| Host::new(node(index), &self.first, part.clone(), self.without)).collect()
    }

    fn crashes(&self) -> u8 {
        self.crashes
    }

    fn counts(&self, letter: &Letter) -> bool {
        match &letter.message {
            Message::Accept { values, .. } => !values.is_empty(),
            Message::Accepted { .. } => true,
            _ => false,
        }
    }

    /// Slot by slot, for who governs a slot follows from what is chosen α and more below it (6.1).
    fn judge(&self, letters: &[&Letter]) -> Verdict {
        let mut verdict = Verdict::default();
        let mut values = BTreeMap::new();
        let mut votes = BTreeMap::<_, BTreeSet<NodeId>>::new();
        for letter in letters {
            match &letter.message {
                Message::Accept { id, first, values: proposed, .. } => {
                    for (nth, value) in proposed.iter().enumerate() {
                        let known = values.entry((first.plus(nth as u64), *id)).or_insert(value);
                        verdict.wrong |= *known != value;
                    }
                }
                Message::Accepted { id, slots, .. } => {
                    for interval in slots {
                        for slot in interval.first.get()..=interval.last.get() {
                            votes.entry((Slot::new(slot), *id)).or_default().insert(letter.from);
                        }
                    }
                }
                _ => {}
            }
        }
        let mut memberships = Memberships::bootstrap(self.first.clone());
        let mut through = Slot::ZERO;
        let last = votes.keys().map(|(slot, _)| *slot).max().unwrap_or_default();
        let mut slot = Slot::FIRST;
        while slot <= last && slot <= through.plus(self.first.alpha()).next() {
            let Some(governing) = memberships.governing(slot).cloned() else { break };
            let at_slot = votes
                .range((slot, ProposalId::new(0, NodeId::new(0)))..)
                .take_while(|((at, _), _)| *at == slot);
            let mut chosen: Option<&Value> = None;
            for (key, voters) in at_slot {
                if let Some(value) = values.get(key).filter(|_| governing.is_phase2_quorum(voters)) {
                    verdict.wrong |= chosen.is_some_and(|chosen| chosen != *value);
                    verdict.chosen |= bit(slot, value);
                    chosen = Some(value);
                }
            }
            if let Some(chosen) = chosen {
                if let Value::Membership(membership) = chosen {
                    memberships.learn(slot, membership);
                }
                if through.next() == slot {
                    through = slot;
                }
            }
            slot = slot.next();
        }
        verdict
    }

    fn sighted(&self, chosen: u32) -> u64 {
        let at = |slot: u32| chosen >> ((slot - 1) * VALUES) & ((1 << VALUES) - 1);
        let slots = 1..=30 / VALUES;
        let batch = |slot: u32| at(slot) >> 2 != 0;
        let noop = slots.clone().any(|slot| at(slot) & 1 != 0);
        let changed = slots.clone().find(|slot| at(*slot) >> 1 & 1 == 1);
        let alpha = u32::try_from(self.first.alpha()).unwrap();
        let anew =
            changed.is_some_and(|changed| slots.clone().any(|slot| slot > changed + alpha && batch(slot)));
        let sight = |seen, sight| if seen { sight } else { 0 };
        sight(batch(1), FIRST_SLOT)
            | sight(batch(2), SECOND_SLOT)
            | sight(noop, NOOP)
            | sight(anew, GOVERNED_ANEW)
    }
}
