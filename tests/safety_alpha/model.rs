//! The cluster, its leaders and its acceptors (protocol 1.6, 1.7, 3.2, 3.3 and 6), as a model for stateright.

use crate::reads::Read;
use stateright::{Checker, HasDiscoveries, Model, Property};

pub const SLOTS_MAX: usize = 4;
const NODES: usize = 5;
const LEADERS_MAX: usize = 3;

/// A rule of the protocol that a mutant does without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// 1.6: learned through t − α − 1 before proposing at t. Without: through t − α − 2.
    LearnedBelow,
    /// 1.6: nothing is proposed at a slot that was learned. Without: the next slot is one not yet proposed at.
    NothingWhereLearned,
    /// 3.2: the watermark covers no slot that went to another value, and its leader falls silent.
    WatermarkOfOwnValues,
    /// 6.1: a change governs from s + α + 1 on. Without: from s + 1 on.
    GovernsAboveAlpha,
    /// 6.2: t ≤ chosen_through + α. Without: what 1.6 leaves of it, t ≤ chosen_through + α + 1.
    Window,
    /// 6.2: a change only above `recovery_through`.
    ChangeAboveRecovery,
    /// 6.2: a change only when none is pending.
    OneChangePending,
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

/// Sets of nodes and of ids are bits; node 0 is A.
type Bits = u8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Membership {
    voters: Bits,
    promises: u32,
    accepts: u32,
}

impl Membership {
    pub const fn majority(voters: Bits) -> Self {
        let needed = voters.count_ones() / 2 + 1;
        Self { voters, promises: needed, accepts: needed }
    }

    pub const fn flexible(voters: Bits, promises: u32, accepts: u32) -> Self {
        assert!(promises + accepts > voters.count_ones());
        Self { voters, promises, accepts }
    }

    fn has(&self, node: usize) -> bool {
        self.voters >> node & 1 == 1
    }

    pub fn is_promised_by(&self, nodes: Bits) -> bool {
        (self.voters & nodes).count_ones() >= self.promises
    }

    fn is_accepted_by(&self, nodes: Bits) -> bool {
        (self.voters & nodes).count_ones() >= self.accepts
    }

    /// Protocol 7.2: do these meet every phase-1 quorum, or every phase-2 quorum? `fewer` of them count as enough.
    pub fn is_confirmed_by(&self, nodes: Bits, fewer: u32) -> bool {
        let needed = self.voters.count_ones() + 1 - self.promises.max(self.accepts);
        (self.voters & nodes).count_ones() + fewer >= needed
    }
}

pub const ABC: Membership = Membership::majority(0b00111);
pub const D: Membership = Membership::majority(0b01000);
pub const ADE: Membership = Membership::majority(0b11001);
pub const DE_PROMISED_BY_TWO: Membership = Membership::flexible(0b11000, 2, 1);
pub const DE_PROMISED_BY_ONE: Membership = Membership::flexible(0b11000, 1, 2);

/// What one walk covers.
#[derive(Clone, Copy, Debug)]
pub struct Scope {
    pub slots: usize,
    pub alpha: usize,
    /// What each leader may change to, lowest id first: one leader for each entry.
    pub changes: &'static [Option<Membership>],
    /// One read may arrive.
    pub reads: bool,
    pub without: &'static [Rule],
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

#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Acceptor {
    /// The leader whose id it promised; at first the lowest.
    pub promised: u8,
    /// The leaders that heard its promise.
    pub heard: Bits,
    /// The leaders whose proposals it accepted, for each slot.
    pub accepted: [Bits; SLOTS_MAX],
    /// Since the read arrived, it was at some time true that it had promised the reader and nobody higher.
    pub confirms: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Leader {
    pub learned: Log,
    pub proposed: Log,
    /// The highest watermark that it sent.
    watermark: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    pub acceptors: [Acceptor; NODES],
    pub leaders: [Leader; LEADERS_MAX],
    /// History: what was ever counted as chosen.
    pub chosen: Log,
    /// History: a slot was counted as chosen with two values.
    two_values: bool,
    pub read: Option<Read>,
}

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
    pub fn keeps(&self, rule: Rule) -> bool {
        !self.without.contains(&rule)
    }

    fn reach(&self) -> usize {
        if self.keeps(Rule::GovernsAboveAlpha) { self.alpha } else { 0 }
    }

    /// The membership that governs a slot, for one who knows the log below it: an index into `memberships`.
    pub fn governing(&self, log: &Log, slot: usize) -> usize {
        let changes = log[..slot.saturating_sub(self.reach() + 1)].iter().rev();
        let change = changes.flatten().find_map(|value| match value {
            Value::Change(leader) => Some(*leader as usize + 1),
            Value::Batch(_) => None,
        });
        change.unwrap_or(0)
    }

    /// The first membership is 0, that of leader i is i + 1.
    pub fn membership(&self, index: usize) -> Membership {
        index.checked_sub(1).and_then(|leader| self.changes[leader]).unwrap_or(ABC)
    }

    fn membership_at(&self, log: &Log, slot: usize) -> Membership {
        self.membership(self.governing(log, slot))
    }

    fn leaders(&self) -> std::ops::Range<usize> {
        0..self.changes.len()
    }

    /// The highest slot at which one may propose who has learned through this one.
    fn window(&self, through: usize) -> usize {
        let ahead = match self.without.first() {
            Some(Rule::LearnedBelow) => self.alpha + 2,
            Some(Rule::Window) => self.alpha + 1,
            Some(Rule::GovernsAboveAlpha) | None | Some(_) => self.alpha,
        };
        self.slots.min(through + ahead)
    }

    /// Protocol 3.2: learned another value than it proposed.
    pub fn is_silent(&self, leader: &Leader) -> bool {
        let mut entries = leader.learned.iter().zip(&leader.proposed);
        let differs = entries.any(|(learned, proposed)| {
            learned.is_some() && proposed.is_some() && learned != proposed
        });
        self.keeps(Rule::WatermarkOfOwnValues) && differs
    }

    /// What a leader may propose now, and where. Leaders use their slots in order.
    fn proposals(&self, world: &World, index: usize) -> Option<(usize, Vec<Value>)> {
        let leader = &world.leaders[index];
        let is_free = |slot: &usize| {
            let learned = leader.learned[slot - 1].is_some() && self.keeps(Rule::NothingWhereLearned);
            leader.proposed[slot - 1].is_none() && !learned
        };
        let slot = (1..=self.window(through(&leader.learned))).find(is_free)?;
        let governing = self.governing(&leader.learned, slot);
        let asked = if self.keeps(Rule::PhaseOneInNewMembership) { governing } else { 0 };
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
        let last_change = last_change.into_iter().rposition(|(one, other)| is_change(one) || is_change(other));
        let pending = last_change.is_some_and(|at| through(&leader.learned) <= at + self.alpha);
        let known = leader.proposed.iter().chain(&leader.learned).flatten();
        let again = known.into_iter().any(|value| *value == Value::Change(index as u8));
        let governs_a_slot = slot + self.reach() < self.slots;
        let in_recovery = slot <= world.recovery_through(index);
        governs_a_slot
            && !again
            && !(pending && self.keeps(Rule::OneChangePending))
            && !(in_recovery && self.keeps(Rule::ChangeAboveRecovery))
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
            if through(&log) + 1 + self.reach() >= slot {
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
        let memberships = |node: usize| {
            let has = |(bit, membership): (usize, &Option<Membership>)| {
                usize::from(membership.is_some_and(|it| it.has(node))) << bit
            };
            self.changes.iter().enumerate().map(has).sum::<usize>() * 2 + usize::from(ABC.has(node))
        };
        let mut start = 0;
        for end in 1..=NODES {
            if end == NODES || memberships(end) != memberships(start) {
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

impl World {
    fn nodes(&self, is_in: impl Fn(&Acceptor) -> bool) -> Bits {
        let bits = self.acceptors.iter().enumerate().map(|(node, acceptor)| Bits::from(is_in(acceptor)) << node);
        bits.sum()
    }

    pub fn heard_by(&self, leader: usize) -> Bits {
        self.nodes(|acceptor| acceptor.heard >> leader & 1 == 1)
    }

    fn voters(&self, leader: usize, slot: usize) -> Bits {
        self.nodes(|acceptor| acceptor.accepted[slot - 1] >> leader & 1 == 1)
    }

    pub fn confirming(&self) -> Bits {
        self.nodes(|acceptor| acceptor.confirms)
    }

    /// Who has promised nobody higher than this leader.
    pub fn may_promise(&self, leader: usize) -> Bits {
        self.nodes(|acceptor| usize::from(acceptor.promised) <= leader)
    }

    /// Who ever promised this leader, whenever that was.
    pub fn ever_promised(&self, leader: usize) -> Bits {
        let voted = |acceptor: &Acceptor| acceptor.accepted.iter().any(|ids| ids >> leader & 1 == 1);
        self.nodes(|acceptor| acceptor.heard >> leader & 1 == 1 || voted(acceptor))
    }

    /// The ids below the leader's own that its promises report at a slot.
    fn reported_ids(&self, leader: usize, slot: usize) -> Bits {
        let below = (1 << leader) - 1;
        let heard = self.acceptors.iter().filter(|acceptor| acceptor.heard >> leader & 1 == 1);
        heard.fold(0, |ids, acceptor| ids | acceptor.accepted[slot - 1] & below)
    }

    /// The value of the highest id that the promises report.
    fn reported(&self, leader: usize, slot: usize) -> Option<Value> {
        let highest = self.reported_ids(leader, slot).checked_ilog2()?;
        self.leaders[highest as usize].proposed[slot - 1]
    }

    pub fn recovery_through(&self, leader: usize) -> usize {
        (1..=SLOTS_MAX).rev().find(|slot| self.reported_ids(leader, *slot) != 0).unwrap_or(0)
    }

    fn raise(&mut self, node: usize, leader: usize) {
        let acceptor = &mut self.acceptors[node];
        acceptor.promised = acceptor.promised.max(leader as u8);
        let reader = self.read.as_ref().map(|read| read.reader);
        acceptor.confirms |= reader == Some(acceptor.promised);
    }

    /// Protocol 3.3: the slots at which a watermark tells an acceptor that its entry is chosen, and those entries.
    fn told_by_watermarks(&self) -> impl Iterator<Item = (usize, Value)> + '_ {
        self.acceptors.iter().flat_map(move |acceptor| {
            acceptor.accepted.iter().enumerate().filter_map(move |(index, ids)| {
                let leader = &self.leaders[ids.checked_ilog2()? as usize];
                let covered = leader.watermark as usize > index;
                Some((index + 1, leader.proposed[index].filter(|_| covered)?))
            })
        })
    }

    /// A value is chosen above s + α, where s is the slot of a change.
    pub fn is_governed_anew(&self, scope: &Scope) -> bool {
        (1..=scope.slots).any(|slot| self.chosen[slot - 1].is_some() && scope.governing(&self.chosen, slot) != 0)
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
            let asked = slots.clone().fold(0, |voters, slot| voters | self.membership_at(&leader.learned, slot).voters);
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
                    leader.learned.iter().zip(&world.chosen).all(|(learned, chosen)| learned.is_none() || learned == chosen)
                };
                scope.leaders().all(|index| is_chosen(&world.leaders[index]))
            }),
        ];
        properties.extend(if self.reads { crate::reads::properties() } else { crate::membership::properties() });
        properties
    }
}

/// Walks the whole of a scope. There is no bound on time or depth here, so to have joined is to have exhausted.
pub fn exhaust(scope: Scope, states: usize) {
    let checker = scope.checker().threads(2).spawn_dfs().join();
    checker.assert_properties();
    assert!(checker.is_done());
    assert_eq!(checker.unique_state_count(), states);
}

/// Walks a scope without one of the rules, until this property fails.
pub fn find(scope: Scope, property: &'static str) {
    let wanted = HasDiscoveries::AnyOf([property].into());
    let checker = scope.checker().threads(2).finish_when(wanted).spawn_dfs().join();
    checker.assert_any_discovery(property);
}
