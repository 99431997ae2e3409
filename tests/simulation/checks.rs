//! The checkers: agreement, promises, acknowledged writes, judged from the history.

use crate::snapshots::State;
use std::collections::{BTreeMap, BTreeSet};
use synod::multi::{BatchId, Membership, Memberships, Message, Slot, Value};
use synod::paxos::{NodeId, ProposalId};

#[derive(Debug)]
pub struct Checks {
    /// Folded from what is chosen, in slot order, through `folded`.
    memberships: Memberships,
    folded: Slot,
    /// What applying every slot through each one that is folded gives.
    states: Vec<State>,
    /// The highest slot of which a client was told.
    pub acknowledged_through: Slot,
    proposed: BTreeMap<(Slot, ProposalId), Value>,
    votes: BTreeMap<(Slot, ProposalId), BTreeSet<NodeId>>,
    pub chosen: BTreeMap<Slot, Value>,
    promised: BTreeMap<NodeId, ProposalId>,
    /// What each node has applied since its last start.
    applied: BTreeMap<NodeId, Slot>,
    pub acknowledged: BTreeSet<BatchId>,
}

impl Checks {
    pub fn new(membership: &Membership) -> Self {
        Self {
            memberships: Memberships::bootstrap(membership.clone()),
            folded: Slot::ZERO,
            states: vec![State::default()],
            acknowledged_through: Slot::ZERO,
            proposed: BTreeMap::new(),
            votes: BTreeMap::new(),
            chosen: BTreeMap::new(),
            promised: BTreeMap::new(),
            applied: BTreeMap::new(),
            acknowledged: BTreeSet::new(),
        }
    }

    /// The voters of the newest membership that is chosen.
    pub fn newest_members(&self) -> Vec<NodeId> {
        self.memberships.newest().unwrap().voting().collect()
    }

    /// Folds what is chosen without a gap.
    fn fold(&mut self) {
        while let Some(value) = self.chosen.get(&self.folded.next()) {
            self.folded = self.folded.next();
            let mut state = *self.states.last().unwrap();
            state.apply(self.folded, value);
            self.states.push(state);
            if let Value::Membership(membership) = value {
                self.memberships.learn(self.folded, membership);
            }
        }
    }

    /// A message leaves `from`.
    pub fn sent(&mut self, from: NodeId, message: &Message) {
        match message {
            Message::Accept { id, first, values, .. } => {
                assert_eq!(id.node, from, "n{from} proposes under another node's id {id}");
                let mut slot = *first;
                for value in values {
                    let alpha = self.memberships.newest().unwrap().alpha();
                    assert!(
                        slot <= self.folded.plus(alpha),
                        "n{from} proposes at {slot}, {} is chosen (protocol 1.6)",
                        self.folded
                    );
                    let known = self.proposed.entry((slot, *id)).or_insert_with(|| value.clone());
                    assert_eq!(known, value, "two values under {id} at slot {slot} (protocol 2.1)");
                    slot = slot.next();
                }
            }
            Message::Promise { id, .. } => self.promised(from, *id),
            Message::Accepted { id, slots, .. } => {
                self.promised(from, *id);
                for interval in slots {
                    let mut slot = interval.first;
                    while slot <= interval.last {
                        self.voted(from, slot, *id);
                        slot = slot.next();
                    }
                }
            }
            _ => {}
        }
    }

    fn promised(&mut self, node: NodeId, id: ProposalId) {
        let known = self.promised.entry(node).or_insert(id);
        assert!(
            *known <= id,
            "node {node} answers under {id} after it answered under {known} (protocol 1.1)"
        );
        *known = id;
    }

    fn voted(&mut self, node: NodeId, slot: Slot, id: ProposalId) {
        let governing = self.memberships.governing(slot).unwrap();
        let votes = self.votes.entry((slot, id)).or_default();
        votes.insert(node);
        if governing.is_phase2_quorum(votes) {
            let value = self.proposed.get(&(slot, id)).expect("what is accepted was proposed");
            let known = self.chosen.entry(slot).or_insert_with(|| value.clone());
            assert_eq!(known, value, "two values are chosen at slot {slot}");
            self.fold();
        }
    }

    /// `node` comes back: what it promised is what it said it promised.
    pub fn restarted(&mut self, node: NodeId, promised: Option<ProposalId>) {
        let said = self.promised.get(&node).copied();
        assert!(promised >= said, "node {node} said {said:?} and comes back with {promised:?}");
        self.applied.remove(&node);
    }

    /// `node` applies `value`.
    pub fn applied(&mut self, node: NodeId, slot: Slot, value: &Value) {
        let last = self.applied.insert(node, slot).unwrap_or_default();
        assert_eq!(slot, last.next(), "node {node} applies {slot} after {last}");
        let chosen = self.chosen.get(&slot);
        assert_eq!(chosen, Some(value), "node {node} applies at slot {slot} what is not chosen there");
    }

    /// `node` takes the state after `through` in place of its own.
    pub fn restored(&mut self, node: NodeId, through: Slot, state: State) {
        let last = self.applied.insert(node, through).unwrap_or_default();
        assert!(
            last < through,
            "node {node} goes back from {last} to a snapshot at {through} (protocol 5.2)"
        );
        let expected = self.states.get(usize::try_from(through.get()).unwrap());
        assert_eq!(expected, Some(&state), "node {node} restores another state at {through} (protocol 5.1)");
    }

    /// The first slot that the newest chosen membership governs, if it is in force.
    pub fn newest_in_force(&self) -> Option<Slot> {
        let next = self.folded.next();
        self.memberships.coming(next).is_none().then(|| self.memberships.governs_from(next))
    }

    pub fn applied_through(&self, node: NodeId) -> Slot {
        self.applied.get(&node).copied().unwrap_or_default()
    }

    /// Every acknowledged batch stands in the log, and none stands there twice.
    pub fn finish(&self) {
        let mut seen = BTreeSet::new();
        for value in self.chosen.values() {
            if let Value::Batch(bytes) = value {
                let id = synod::multi::Batch::read(bytes.clone()).expect("a batch").id();
                assert!(seen.insert(id), "batch {id:?} is chosen twice (protocol 2.5)");
            }
        }
        let lost: Vec<_> = self.acknowledged.difference(&seen).collect();
        assert!(lost.is_empty(), "acknowledged and not chosen: {lost:?}");
    }
}
