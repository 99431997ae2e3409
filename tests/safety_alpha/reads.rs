//! A read shows every write that was acknowledged before it arrived (protocol 7.1 to 7.3).
//!
//! A write counts as acknowledged once any leader has learned it. A read that has its mark high enough, or that can never be
//! confirmed, cannot go wrong any more, so its run ends there. Leaves out: leases, followers, and a second read in a round.

use crate::model::{exhaust, find};
use crate::scope::*;
use crate::world::World;
use stateright::Property;

/// The one read of a run.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Read {
    /// The leader that serves it.
    pub reader: u8,
    /// What was acknowledged before it arrived: every slot that any leader had learned.
    acknowledged: u8,
    mark: u8,
    /// The memberships in which the reader had won phase 1 when it took the mark, as bits.
    won: u8,
}

impl Scope {
    /// Only a leader reads: one that has won phase 1 for its next slot.
    pub fn may_read(&self, world: &World, reader: usize) -> bool {
        let learned = &world.leaders[reader].learned;
        self.membership(self.governing(learned, through(learned) + 1)).is_promised_by(world.heard_by(reader))
    }

    /// The read arrives, and its first mark is taken at once: the lowest that there can be.
    pub fn arrive(&self, world: &mut World, reader: usize) {
        let acknowledged =
            world.leaders.iter().map(|leader| through(&leader.learned)).max().unwrap_or(0) as u8;
        let read = Read { reader: reader as u8, acknowledged, mark: 0, won: 0 };
        world.read = Some(self.mark(world, &read));
        for acceptor in &mut world.acceptors {
            acceptor.confirms = acceptor.promised == reader as u8;
        }
    }

    /// The read with the mark that would be taken now.
    pub fn mark(&self, world: &World, read: &Read) -> Read {
        let reader = usize::from(read.reader);
        let recovered =
            if self.keeps(Without::MarkAboveRecovery) { world.recovery_through(reader) } else { 0 };
        let mark = highest(&world.leaders[reader].proposed).max(recovered) as u8;
        let heard = world.heard_by(reader);
        let won = (0..=LEADERS_MAX).filter(|index| self.membership(*index).is_promised_by(heard));
        Read { mark, won: won.map(|index| 1 << index).sum(), ..read.clone() }
    }

    /// Nothing that may still happen makes this read a wrong one: marks only rise, and so do promises.
    pub fn is_settled(&self, world: &World, read: &Read) -> bool {
        let reader = usize::from(read.reader);
        let may_confirm = self.confirming(world, reader) | world.may_promise(reader);
        let is_confirmable = |index| self.is_confirmed(self.membership(index), may_confirm);
        read.mark >= read.acknowledged
            || self.is_silent(&world.leaders[reader])
            || !(0..=LEADERS_MAX).any(is_confirmable)
    }

    fn confirming(&self, world: &World, reader: usize) -> u8 {
        if self.keeps(Without::RoundAfterArrival) { world.confirming() } else { world.ever_promised(reader) }
    }

    fn is_confirmed(&self, membership: Voters, confirming: u8) -> bool {
        if self.keeps(Without::EnoughConfirm) {
            membership.is_confirmed_by(confirming)
        } else {
            membership.is_nearly_confirmed_by(confirming)
        }
    }

    /// May the read be served now, from the state at its mark?
    fn is_served(&self, world: &World) -> bool {
        let Some(read) = &world.read else { return false };
        let reader = usize::from(read.reader);
        let leader = &world.leaders[reader];
        let mark = usize::from(read.mark);
        if self.is_silent(leader) || through(&leader.learned) < mark {
            return false;
        }
        let slot = if self.keeps(Without::MembershipAboveMark) { mark + 1 } else { mark.max(1) };
        let governing = self.governing(&leader.learned, slot);
        let won = if self.keeps(Without::MarkTakenAnew) { read.won } else { self.mark(world, read).won };
        let is_confirmed = self.is_confirmed(self.membership(governing), self.confirming(world, reader));
        won >> governing & 1 == 1 && is_confirmed
    }
}

const WRONG: &str = "a read shows what was acknowledged before it";

pub fn properties() -> Vec<Property<Scope>> {
    vec![
        Property::always(WRONG, |scope: &Scope, world: &World| {
            !scope.is_served(world) || world.read.as_ref().is_some_and(|read| read.mark >= read.acknowledged)
        }),
        Property::sometimes(
            "the challenger serves a read of what was acknowledged",
            |scope, world: &World| {
                scope.is_served(world)
                    && world.read.as_ref().is_some_and(|read| read.reader > 0 && read.acknowledged > 0)
            },
        ),
        Property::sometimes("a read is served under the new membership", |scope: &Scope, world: &World| {
            let mark = world.read.as_ref().map_or(0, |read| usize::from(read.mark));
            scope.is_served(world) && scope.governing(&world.chosen, mark + 1) != 0
        }),
    ]
}

// protocol 7.1, 7.2, 7.3
#[test]
fn in_every_run_with_a_change_by_the_sitting_leader_a_read_sees_what_was_acknowledged() {
    exhaust(Scope::new(3, 1, "ABC", "D", "").with_a_read(), 1_179_810);
}

#[test]
fn in_every_run_with_a_change_by_the_challenger_a_read_sees_what_was_acknowledged() {
    exhaust(Scope::new(3, 1, "ABC", "", "D").with_a_read(), 986_308);
}

#[test]
fn in_every_run_of_one_voter_that_becomes_three_a_read_sees_what_was_acknowledged() {
    exhaust(Scope::new(3, 1, "A", "ABC", "").with_a_read(), 20_167);
}

#[test]
fn in_every_run_of_one_voter_that_becomes_three_with_two_slots_open_a_read_sees_what_was_acknowledged() {
    exhaust(Scope::new(4, 2, "A", "ABC", "").with_a_read(), 174_248);
}

fn a_change_and_a_read() -> Scope {
    Scope::new(3, 1, "ABC", "D", "").with_a_read()
}

// protocol 7.1
#[test]
fn a_mark_below_what_has_to_be_recovered_hides_a_write() {
    find(a_change_and_a_read().without(Without::MarkAboveRecovery), WRONG);
}

// protocol 7.1
#[test]
fn a_mark_not_taken_anew_after_phase_1_hides_a_write() {
    find(a_change_and_a_read().without(Without::MarkTakenAnew), WRONG);
}

// protocol 7.1, 7.2
#[test]
fn the_membership_of_the_mark_instead_of_the_slot_above_hides_a_write() {
    find(a_change_and_a_read().without(Without::MembershipAboveMark), WRONG);
}

// protocol 7.2
#[test]
fn a_confirmation_by_one_voter_too_few_hides_a_write() {
    find(a_change_and_a_read().without(Without::EnoughConfirm), WRONG);
}

// protocol 7.2
#[test]
fn a_round_that_began_before_the_read_arrived_hides_a_write() {
    find(a_change_and_a_read().without(Without::RoundAfterArrival), WRONG);
}
