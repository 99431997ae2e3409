//! `test_multi.py`: instance after instance of single-decree Paxos, as the ancestor strings them together.

use super::*;
use std::collections::BTreeMap;

/// Node A through instances 1, 2, 3 and on: a `Node` each, none of which is ever thrown away. What it has chosen so far is
/// on its disk beside them.
struct Sequence {
    instances: BTreeMap<u64, Driven>,
    chosen: Vec<Text>,
}

impl Sequence {
    fn new() -> Self {
        Self { instances: BTreeMap::new(), chosen: Vec::new() }
    }

    /// The lowest instance without a chosen value.
    fn current(&self) -> u64 {
        self.chosen.len() as u64 + 1
    }

    fn at(&mut self, instance: u64) -> &mut Driven {
        self.instances.entry(instance).or_insert_with(|| Driven::new(A, three()))
    }

    fn now(&mut self) -> &mut Driven {
        self.at(self.current())
    }

    fn receive(&mut self, instance: u64, from: NodeId, message: Message<Text>) {
        self.at(instance).receive(from, message);
        let chosen = self.at(instance).events();
        if instance == self.current() {
            self.chosen.extend(chosen.into_iter().filter_map(|event| match event {
                Event::Chosen { value, .. } => Some(value),
                _ => None,
            }));
        }
    }

    fn restart(&mut self) {
        self.instances.values_mut().for_each(Driven::restart);
    }

    /// Has the current instance choose `value`.
    fn choose(&mut self, value: Text) {
        let instance = self.current();
        self.now().propose(value);
        let id = self.now().win();
        for from in [A, B, C] {
            self.receive(instance, from, accepted(id, value));
        }
    }
}

// seed M01
#[test]
fn the_third_accepted_ends_an_instance_and_not_an_earlier_one() {
    let mut sequence = Sequence::new();
    sequence.now().propose("foo");
    let id = sequence.now().prepare();
    for from in [A, B, C] {
        assert!(!sequence.now().is_leading());
        sequence.receive(1, from, promise(id));
    }
    assert!(sequence.now().is_leading());
    assert_eq!(sequence.now().sent().pop(), Some((To::All, accept(id, "foo"))));
    for from in [A, B] {
        sequence.receive(1, from, accepted(id, "foo"));
        assert_eq!(sequence.current(), 1);
    }
    sequence.receive(1, C, accepted(id, "foo"));
    assert_eq!((sequence.current(), &sequence.chosen[..]), (2, &["foo"][..]));
}

// seed M02: old messages do not touch the new instance; unlike the ancestor, the old instance still answers
#[test]
fn a_message_for_an_old_instance_is_answered_there_and_changes_nothing_here() {
    let mut sequence = Sequence::new();
    let old = id(1, A);
    sequence.receive(1, A, accept(old, "foo"));
    sequence.choose("foo");
    sequence.now().propose("bar");
    let new = sequence.now().prepare();
    sequence.now().forget();
    for from in [A, B, C] {
        sequence.receive(1, from, promise(old));
        sequence.receive(1, from, accepted(old, "foo"));
    }
    assert!(!sequence.now().is_leading());
    assert_eq!(sequence.current(), 2);

    sequence.at(1).forget();
    sequence.receive(1, E, Message::Prepare { id: id(9, E) });
    assert_eq!(sequence.at(1).sent(), to_one(E, promise_with(id(9, E), old, "foo")), "a laggard catches up");

    for from in [A, B, C] {
        sequence.receive(2, from, promise(new));
    }
    for from in [A, B, C] {
        sequence.receive(2, from, accepted(new, "bar"));
    }
    assert_eq!((sequence.current(), &sequence.chosen[..]), (3, &["foo", "bar"][..]));
}

// seed M03, changed in one point: the ancestor still leads after a restart, under the same id and without its value
// (defect B4); here phase 1 is run again under a fresh id
#[test]
fn a_restart_keeps_what_is_chosen_and_no_leadership() {
    let mut sequence = Sequence::new();
    sequence.now().propose("foo");
    let first = sequence.now().prepare();
    sequence.restart();

    let second = sequence.now().win();
    assert!(second > first, "the id used before the restart is not used again");
    sequence.restart();
    assert!(!sequence.now().is_leading());

    sequence.choose("foo");
    sequence.restart();
    assert_eq!((sequence.current(), &sequence.chosen[..]), (2, &["foo"][..]));
}

// defect B6
#[test]
fn moving_through_the_instances_wipes_no_acceptor() {
    let mut sequence = Sequence::new();
    sequence.receive(1, C, Message::Prepare { id: id(9, C) });
    sequence.choose("foo");
    sequence.choose("bar");
    sequence.restart();
    sequence.at(1).forget();
    sequence.receive(1, B, Message::Prepare { id: id(1, B) });
    assert_eq!(sequence.at(1).sent(), to_one(B, nack(id(1, B), id(9, C))));
}
