//! The cluster as the checker sees it: numbers of machines' states, and the letters that were ever sent.

use super::{Bits, Memory, Scope, Verdict};
use stateright::{Model, Property};
use std::sync::RwLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Machines that a cluster may have.
const MACHINES_MAX: usize = 5;

/// A cluster at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    machines: [u32; MACHINES_MAX],
    letters: Bits,
    /// What was ever chosen, as bits.
    chosen: u32,
    crashes: u8,
    wrong: bool,
}

/// One step of one machine: what it becomes, and what that adds to the world.
#[derive(Clone, Debug, PartialEq)]
pub struct Action {
    next: World,
    /// What the machine takes for chosen from now on.
    learned: u32,
}

/// A scope with all that was computed of it.
pub struct Cluster<S: Scope> {
    scope: S,
    memory: RwLock<Memory<S::Machine>>,
    first: World,
    count: usize,
    /// What was seen to happen, and what the checker was told of it.
    sights: AtomicU64,
    told: AtomicU64,
}

pub const CONFLICT: &str = "at most one value is chosen, and nothing is learned that is not";

impl<S: Scope> Cluster<S> {
    pub fn new(scope: S) -> Self {
        let places = scope.machines();
        let mut memory = Memory::new(&places);
        let mut machines = [0; MACHINES_MAX];
        let count = places.len();
        for (place, machine) in places.into_iter().enumerate() {
            machines[place] = memory.number(machine);
        }
        let first =
            World { machines, letters: Bits::default(), chosen: 0, crashes: scope.crashes(), wrong: false };
        let (sights, told) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { scope, memory: RwLock::new(memory), first, count, sights, told }
    }

    pub fn sizes(&self) -> (usize, usize) {
        self.memory.read().unwrap().sizes()
    }

    /// What of the scope's list was never seen.
    pub fn unseen(&self) -> Vec<&'static str> {
        let seen = self.sights.load(Ordering::Relaxed);
        let unseen = self.scope.expected() & !seen;
        let names = self.scope.sights().iter().enumerate();
        names.filter(|(bit, _)| unseen >> bit & 1 == 1).map(|(_, name)| *name).collect()
    }

    /// Runs the core where this world needs a step that was never computed.
    fn learn(&self, world: &World) {
        let is_known = |memory: &Memory<S::Machine>| {
            (0..self.count)
                .all(|place| memory.knows(world.machines[place], world.letters.and(memory.addressed(place))))
        };
        if is_known(&self.memory.read().unwrap()) {
            return;
        }
        let mut memory = self.memory.write().unwrap();
        for place in 0..self.count {
            let letters = world.letters.and(memory.addressed(place));
            memory.learn(world.machines[place], letters, |letter| self.scope.counts(letter));
        }
    }

    fn verdict(&self, votes: Bits) -> Verdict {
        if let Some(verdict) = self.memory.read().unwrap().verdict(votes) {
            return verdict;
        }
        let mut memory = self.memory.write().unwrap();
        memory.judge(votes, |letters| self.scope.judge(letters));
        memory.verdict(votes).unwrap()
    }

    fn sight(&self, sights: u64) {
        if sights & !self.sights.load(Ordering::Relaxed) != 0 {
            self.sights.fetch_or(sights, Ordering::Relaxed);
        }
    }

    /// Whether it was seen and the checker has not been told: it keeps the first run that shows a thing, so it is told once.
    fn is_news(&self, bit: usize) -> bool {
        let seen = self.sights.load(Ordering::Relaxed) >> bit & 1 == 1;
        let told = || self.told.load(Ordering::Relaxed) >> bit & 1 == 1;
        seen && !told() && self.told.fetch_or(1 << bit, Ordering::Relaxed) >> bit & 1 == 0
    }

    /// The step from one world to the next, in words.
    pub fn describe(&self, before: &World, after: &World) -> String {
        let memory = self.memory.read().unwrap();
        let changed = (0..self.count).filter(|place| before.machines[*place] != after.machines[*place]);
        let changed: Vec<_> = changed.map(|place| memory.machine(after.machines[place])).collect();
        let sent = after.letters.without(before.letters).iter().map(|bit| memory.letter(bit));
        format!("{changed:?} sends {:?}", sent.collect::<Vec<_>>())
    }
}

impl<S: Scope> Model for Cluster<S> {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![self.first.clone()]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        if world.wrong {
            return;
        }
        self.learn(world);
        let memory = self.memory.read().unwrap();
        let counted = memory.counted();
        let mut sights = 0;
        for place in 0..self.count {
            let letters = world.letters.and(memory.addressed(place));
            for step in memory.moves(world.machines[place], letters) {
                if step.crash && world.crashes == 0 {
                    continue;
                }
                sights |= step.sights;
                let mut next = world.clone();
                next.machines[place] = step.to;
                next.crashes -= u8::from(step.crash);
                next.letters = world.letters.or(step.sent);
                next.wrong = step.alarm;
                // Judged below, for that may need to remember more.
                if !step.sent.without(world.letters).and(counted).is_empty() {
                    next.chosen = UNJUDGED;
                }
                actions.push(Action { next, learned: step.learned });
            }
        }
        drop(memory);
        for Action { next, learned } in actions {
            if next.chosen == UNJUDGED {
                let verdict = self.verdict(next.letters.and(counted));
                (next.chosen, next.wrong) = (verdict.chosen, next.wrong | verdict.wrong);
                sights |= self.scope.sighted(verdict.chosen);
            }
            next.wrong |= *learned & !next.chosen != 0;
        }
        self.sight(sights);
    }

    fn next_state(&self, _: &World, action: Action) -> Option<World> {
        Some(action.next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![Property::always(CONFLICT, |_, world: &World| !world.wrong)];
        let news: [fn(&Self, &World) -> bool; 12] = [
            |cluster, _| cluster.is_news(0),
            |cluster, _| cluster.is_news(1),
            |cluster, _| cluster.is_news(2),
            |cluster, _| cluster.is_news(3),
            |cluster, _| cluster.is_news(4),
            |cluster, _| cluster.is_news(5),
            |cluster, _| cluster.is_news(6),
            |cluster, _| cluster.is_news(7),
            |cluster, _| cluster.is_news(8),
            |cluster, _| cluster.is_news(9),
            |cluster, _| cluster.is_news(10),
            |cluster, _| cluster.is_news(11),
        ];
        let names = self.scope.sights();
        assert!(names.len() <= news.len());
        let expected = names.iter().zip(news).enumerate();
        let expected = expected.filter(|(bit, _)| self.scope.expected() >> bit & 1 == 1);
        properties.extend(expected.map(|(_, (name, news))| Property::sometimes(name, news)));
        properties
    }
}

/// Stands for a set of chosen values that is yet to be computed.
const UNJUDGED: u32 = u32::MAX;
