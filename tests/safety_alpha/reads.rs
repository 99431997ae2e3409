//! A read shows every write that was acknowledged before it arrived (protocol 7.1 to 7.3).

use crate::model::*;
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
        let acknowledged = world.leaders.iter().map(|leader| through(&leader.learned)).max().unwrap_or(0) as u8;
        let read = Read { reader: reader as u8, acknowledged, mark: 0, won: 0 };
        world.read = Some(self.mark(world, &read));
        for acceptor in &mut world.acceptors {
            acceptor.confirms = acceptor.promised == reader as u8;
        }
    }

    /// The read with the mark that would be taken now.
    pub fn mark(&self, world: &World, read: &Read) -> Read {
        let reader = usize::from(read.reader);
        let recovered = if self.keeps(Rule::MarkAboveRecovery) { world.recovery_through(reader) } else { 0 };
        let mark = highest(&world.leaders[reader].proposed).max(recovered) as u8;
        let heard = world.heard_by(reader);
        let won = (0..=self.changes.len()).filter(|index| self.membership(*index).is_promised_by(heard));
        Read { mark, won: won.map(|index| 1 << index).sum(), ..read.clone() }
    }

    /// Nothing that may still happen makes this read a wrong one: marks only rise, and so do promises.
    pub fn is_settled(&self, world: &World, read: &Read) -> bool {
        let reader = usize::from(read.reader);
        let may_confirm = self.confirming(world, reader) | world.may_promise(reader);
        let is_confirmable = |index| self.is_confirmed(self.membership(index), may_confirm);
        read.mark >= read.acknowledged
            || self.is_silent(&world.leaders[reader])
            || !(0..=self.changes.len()).any(is_confirmable)
    }

    fn confirming(&self, world: &World, reader: usize) -> u8 {
        if self.keeps(Rule::RoundAfterArrival) { world.confirming() } else { world.ever_promised(reader) }
    }

    fn is_confirmed(&self, membership: Membership, confirming: u8) -> bool {
        membership.is_confirmed_by(confirming, u32::from(!self.keeps(Rule::EnoughConfirm)))
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
        let slot = if self.keeps(Rule::MembershipAboveMark) { mark + 1 } else { mark.max(1) };
        let governing = self.governing(&leader.learned, slot);
        let won = if self.keeps(Rule::MarkTakenAnew) { read.won } else { self.mark(world, read).won };
        let is_confirmed = self.is_confirmed(self.membership(governing), self.confirming(world, reader));
        won >> governing & 1 == 1 && is_confirmed
    }
}

pub fn properties() -> Vec<Property<Scope>> {
    vec![
        Property::always("a read shows what was acknowledged before it", |scope: &Scope, world: &World| {
            !scope.is_served(world) || world.read.as_ref().is_some_and(|read| read.mark >= read.acknowledged)
        }),
        Property::sometimes("a read is served after a leader change", |scope: &Scope, world: &World| {
            scope.is_served(world) && world.read.as_ref().is_some_and(|read| read.reader > 0 && read.acknowledged > 0)
        }),
    ]
}
