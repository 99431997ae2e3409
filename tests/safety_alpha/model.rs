//! What may happen next (protocol 1.6, 1.7, 3.2, 3.3 and 6), what must hold, and how a scope is walked.
//!
//! One action is one step of one role: its write and what it sends are one, which is sound because an answer whose write
//! was lost is an answer that was never given. Leaves out: nacks, catch-up and time, which only help progress.

use crate::scope::*;
use crate::world::*;
use stateright::{Checker, HasDiscoveries, Model, Property};
use std::time::Duration;

#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// A leader hears the promise of an acceptor.
    Hear(usize, usize),
    Propose(usize, usize, Value),
    /// An acceptor accepts what a leader proposed at a slot.
    Accept(usize, usize, usize),
    /// A leader learns its next slot, and sends its watermark.
    Learn(usize, Value),
    Read(usize),
    /// The reader takes its mark anew.
    Mark,
}

impl Scope {
    /// Protocol 3.2: learned another value than it proposed.
    pub fn is_silent(&self, leader: &Leader) -> bool {
        let mut entries = leader.learned.iter().zip(&leader.proposed);
        let differs =
            entries.any(|(learned, proposed)| learned.is_some() && proposed.is_some() && learned != proposed);
        self.keeps(Without::WatermarkOfOwnValues) && differs
    }

    /// What a leader may propose now, and where. Leaders use their slots in order.
    fn proposals(&self, world: &World, index: usize) -> Option<(usize, Vec<Value>)> {
        let leader = &world.leaders[index];
        let is_free = |slot: &usize| {
            let learned = leader.learned[slot - 1].is_some() && self.keeps(Without::NothingWhereLearned);
            leader.proposed[slot - 1].is_none() && !learned
        };
        let slot = (1..=self.window(through(&leader.learned))).find(is_free)?;
        let governing = self.governing(&leader.learned, slot);
        let asked = if self.keeps(Without::PhaseOneInNewMembership) { governing } else { 0 };
        if !self.membership(asked).is_promised_by(world.heard_by(index)) {
            return None;
        }
        if let Some(value) = world.reported(index, slot) {
            return Some((slot, vec![value]));
        }
        let mut values = vec![Value::Batch(index as u8)];
        if self.changes[index].is_some() && self.may_change(world, index, slot) {
            values.push(Value::Change(index as u8));
        }
        Some((slot, values))
    }

    fn may_change(&self, world: &World, index: usize, slot: usize) -> bool {
        let leader = &world.leaders[index];
        let is_change = |entry: &Option<Value>| matches!(entry, Some(Value::Change(_)));
        let last_change = leader.learned.iter().zip(&leader.proposed);
        let last_change =
            last_change.into_iter().rposition(|(one, other)| is_change(one) || is_change(other));
        let pending = last_change.is_some_and(|at| through(&leader.learned) <= at + self.alpha);
        let known = leader.proposed.iter().chain(&leader.learned).flatten();
        let again = known.into_iter().any(|value| *value == Value::Change(index as u8));
        let governs_a_slot = slot + self.alpha < self.slots;
        let in_recovery = slot <= world.recovery_through(index);
        governs_a_slot && !again && !pending && !in_recovery
    }

    /// The value that a leader, by what it knows, counts as chosen at a slot.
    fn counted<'a>(&'a self, world: &'a World, log: &Log, slot: usize) -> impl Iterator<Item = Value> + 'a {
        let membership = self.membership_at(log, slot);
        let is_chosen = move |index: &usize| membership.is_accepted_by(world.voters(*index, slot));
        self.leaders().filter(is_chosen).filter_map(move |index| world.leaders[index].proposed[slot - 1])
    }

    /// Enters into the history what somebody could count now: each leader by what it learned, and an observer who
    /// learns all that is chosen.
    fn judge(&self, world: &mut World) {
        for index in self.leaders() {
            let log = world.leaders[index].learned;
            self.judge_by(world, &log, self.window(through(&log)));
        }
        for slot in 1..=self.slots {
            let log = world.chosen;
            if through(&log) + 1 + self.alpha >= slot {
                self.judge_by(world, &log, slot);
            }
        }
    }

    fn judge_by(&self, world: &mut World, log: &Log, last: usize) {
        for slot in 1..=last {
            let membership = self.membership_at(log, slot);
            for index in self.leaders() {
                let is_chosen = membership.is_accepted_by(world.voters(index, slot));
                if let Some(value) = world.leaders[index].proposed[slot - 1].filter(|_| is_chosen) {
                    world.two_values |= *world.chosen[slot - 1].get_or_insert(value) != value;
                }
            }
        }
    }

    /// Sorts the acceptors that are in the same memberships.
    fn sort(&self, world: &mut World) {
        let mut start = 0;
        for end in 1..=NODES {
            if end == NODES || self.memberships_of(end) != self.memberships_of(start) {
                world.acceptors[start..end].sort_unstable();
                start = end;
            }
        }
    }

    fn learn(&self, leader: &mut Leader, value: Value) {
        let next = through(&leader.learned);
        leader.learned[next] = Some(value);
        if !self.is_silent(leader) {
            leader.watermark = next as u8 + 1;
        }
    }
}

impl Model for Scope {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        let promised = Acceptor { heard: 1, ..Acceptor::default() };
        vec![World {
            acceptors: std::array::from_fn(|_| promised.clone()),
            leaders: Default::default(),
            chosen: Log::default(),
            two_values: false,
            read: None,
        }]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        if world.read.as_ref().is_some_and(|read| self.is_settled(world, read)) {
            return;
        }
        for index in self.leaders() {
            let leader = &world.leaders[index];
            let learned = through(&leader.learned);
            let slots = 1..=self.window(learned);
            let asked =
                slots.clone().fold(0, |voters, slot| voters | self.membership_at(&leader.learned, slot).bits);
            for slot in slots.filter(|slot| leader.proposed[slot - 1].is_some()) {
                let membership = self.membership_at(&leader.learned, slot);
                let may_accept = |node: &usize| {
                    let acceptor = &world.acceptors[*node];
                    membership.has(*node)
                        && usize::from(acceptor.promised) <= index
                        && acceptor.accepted[slot - 1] >> index & 1 == 0
                };
                actions.extend((0..NODES).filter(may_accept).map(|node| Action::Accept(index, slot, node)));
            }
            if self.is_silent(leader) {
                continue;
            }
            let unheard = !world.heard_by(index) & asked;
            let unheard = (0..NODES).filter(|node| unheard >> node & 1 == 1);
            actions.extend(unheard.map(|node| Action::Hear(index, node)));
            if let Some((slot, values)) = self.proposals(world, index) {
                actions.extend(values.into_iter().map(|value| Action::Propose(index, slot, value)));
            }
            if learned < self.slots {
                let value = self.counted(world, &leader.learned, learned + 1).next();
                actions.extend(value.map(|value| Action::Learn(index, value)));
            }
            if self.reads && world.read.is_none() && self.may_read(world, index) {
                actions.push(Action::Read(index));
            }
        }
        if world.read.as_ref().is_some_and(|read| self.mark(world, read) != *read) {
            actions.push(Action::Mark);
        }
    }

    fn next_state(&self, before: &World, action: Action) -> Option<World> {
        let mut world = before.clone();
        let may_choose = matches!(action, Action::Accept(..) | Action::Learn(..));
        match action {
            Action::Hear(leader, node) => {
                world.acceptors[node].heard |= 1 << leader;
                world.raise(node, leader);
            }
            Action::Propose(leader, slot, value) => world.leaders[leader].proposed[slot - 1] = Some(value),
            Action::Accept(leader, slot, node) => {
                world.acceptors[node].accepted[slot - 1] |= 1 << leader;
                world.raise(node, leader);
            }
            Action::Learn(leader, value) => self.learn(&mut world.leaders[leader], value),
            Action::Read(leader) => self.arrive(&mut world, leader),
            Action::Mark => world.read = before.read.as_ref().map(|read| self.mark(before, read)),
        }
        if may_choose {
            self.judge(&mut world);
        }
        self.sort(&mut world);
        Some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::always("at most one value is chosen for a slot", |_, world: &World| !world.two_values),
            Property::always("what a watermark tells is chosen", |_, world: &World| {
                world.told_by_watermarks().all(|(slot, value)| world.chosen[slot - 1] == Some(value))
            }),
            Property::always("what is learned is chosen", |scope: &Self, world: &World| {
                let is_chosen = |leader: &Leader| {
                    leader
                        .learned
                        .iter()
                        .zip(&world.chosen)
                        .all(|(learned, chosen)| learned.is_none() || learned == chosen)
                };
                scope.leaders().all(|index| is_chosen(&world.leaders[index]))
            }),
        ];
        properties.extend(if self.reads {
            crate::reads::properties()
        } else {
            crate::membership::properties()
        });
        properties
    }
}

/// Walks the whole of a scope. There is no bound on time or depth here, so to have joined is to have exhausted; the pinned
/// count tells when the model has become another one.
pub fn exhaust(scope: Scope, states: usize) {
    let checker = scope.checker().threads(2).spawn_dfs().join();
    println!("{} states, depth {}", checker.unique_state_count(), checker.max_depth());
    checker.assert_properties();
    assert!(checker.is_done());
    assert_eq!(checker.unique_state_count(), states);
}

/// Walks a scope without one of the rules, until this property fails; prints how many steps it took to break it.
pub fn find(scope: Scope, property: &'static str) {
    assert!(scope.without.is_some(), "a mutant leaves a rule out");
    let wanted = HasDiscoveries::AnyOf([property].into());
    let walk = scope.checker().threads(2).finish_when(wanted).timeout(Duration::from_secs(30)).spawn_dfs();
    let counterexample = walk.join().discovery(property).unwrap_or_else(|| panic!("not caught: {property}"));
    let steps = counterexample.into_actions();
    println!("without {:?}: {} steps: {steps:?}", scope.without, steps.len());
}
