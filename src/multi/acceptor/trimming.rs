//! Where the log begins: snapshots that were taken or installed, and the cutting of what is below (protocol 4.2, 4.3, 5).
//!
//! Invariants: T1 the log is cut no higher than a base that is durable, and a full node's base names a durable snapshot. T2 a
//! witness forgets only what enough full nodes hold. T3 nothing that stands beside the entries is lost by cutting: it is
//! restated.

use super::Acceptor;
use crate::multi::effect::{Effect, Event, LearnerInput, Local};
use crate::multi::membership::Membership;
use crate::multi::message::Message;
use crate::multi::record::{AbstainReason, Base, Record, Sequence, SnapshotId};
use crate::multi::slot::{Interval, Slot};
use crate::paxos::NodeId;

/// A witness cuts its log after so many slots, not after each.
const WITNESS_SLOTS_MIN: u64 = 1024;

/// What is under way between a snapshot and the cut.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Trimming {
    pub(super) witness: bool,
    /// The newest base whose record is being written, and whether a peer's snapshot was installed for it.
    basing: Option<(Sequence, Base, bool)>,
    /// The storage was asked to cut for the base that ends here; once for each.
    cut_for: Slot,
    /// It has not answered.
    cutting: bool,
    /// What stands beside the entries has to be said again.
    restate: bool,
}

impl Acceptor {
    /// A snapshot of the own state is durable: the log may begin there.
    pub(super) fn on_snapshot_taken(&mut self, snapshot: SnapshotId, out: &mut Vec<Effect>) {
        match self.base_at(snapshot.through, Some(snapshot)) {
            Some(base) => self.begin_at(base, false, out),
            None => self.tell_begin(out),
        }
    }

    /// The learner hears where the log begins, as soon as that is durable.
    pub(super) fn tell_begin(&self, out: &mut Vec<Effect>) {
        if let Some(base) = self.log.base().filter(|_| self.trimming.basing.is_none()) {
            out.push(Effect::Local(Local::Learner(LearnerInput::Begin { base: base.clone() })));
        }
    }

    /// What the log through `through` comes to, if that is learned and above the base, or replaces the snapshot there.
    fn base_at(&self, through: Slot, snapshot: Option<SnapshotId>) -> Option<Base> {
        let (base, memberships) = (self.log.base()?, self.log.memberships()?);
        let news = base.through < through || (base.through == through && base.snapshot != snapshot);
        let useful = news && through <= self.log.chosen_through();
        let memberships = memberships.as_of(through);
        useful.then(|| Base { through, memberships, disks: base.disks.clone(), snapshot })
    }

    /// A peer's base, whose snapshot the learner holds durably: what is learned jumps there, promise and the entries above
    /// stay (5.2).
    pub(super) fn on_install(&mut self, base: Base, out: &mut Vec<Effect>) {
        let known = self.log.base().map(|known| known.through);
        let disk_differs = base.disks.get(&self.node()).is_some_and(|disk| *disk != self.identity.disk);
        if disk_differs {
            self.abstain(AbstainReason::AlreadyFormed, out);
            return;
        }
        // A witness keeps what not enough full nodes are known to hold (4.3).
        let may_forget = !self.trimming.witness || base.through <= self.held_through;
        if known.is_some_and(|known| known > base.through) {
            self.tell_begin(out);
        } else if may_forget {
            self.begin_at(base, true, out);
        }
    }

    fn begin_at(&mut self, base: Base, installed: bool, out: &mut Vec<Effect>) {
        let introduced = !self.log.is_formed();
        self.formation = None;
        self.write(vec![Record::Based { base: base.clone() }], out);
        let installed = installed || self.trimming.basing.as_ref().is_some_and(|(.., waits)| *waits);
        self.trimming.basing = Some((self.sequence, base, installed));
        if introduced {
            out.push(Effect::Event(Event::Formed));
        }
    }

    /// The record of a base may have become durable: the learner begins there, and the log below is cut.
    pub(super) fn based(&mut self, out: &mut Vec<Effect>) {
        let Some((_, base, installed)) = self.trimming.basing.take_if(|(at, ..)| *at <= self.durable) else {
            return;
        };
        if installed && base.snapshot.is_some() {
            out.push(Effect::Event(Event::Installed { through: base.through }));
        }
        out.push(Effect::Local(Local::Learner(LearnerInput::Begin { base })));
        self.cut(out);
    }

    /// Asks the storage to forget what the base covers.
    pub(super) fn cut(&mut self, out: &mut Vec<Effect>) {
        let through = self.log.base().map_or(Slot::ZERO, |base| base.through);
        let useful = through > self.trimming.cut_for || self.trimming.restate;
        if useful && !self.trimming.cutting {
            (self.trimming.cutting, self.trimming.cut_for) = (true, through);
            self.trimming.restate = false;
            out.push(Effect::Trim { through, facts: self.log.facts() });
        }
    }

    /// What stands beside the entries is damaged where it was written: a cut states it anew (F7).
    pub(super) fn on_facts_damaged(&mut self, out: &mut Vec<Effect>) {
        out.push(Effect::Event(Event::FactsDamaged));
        self.trimming.restate = true;
        self.cut(out);
    }

    pub(super) fn on_trimmed(&mut self, through: Slot, out: &mut Vec<Effect>) {
        self.trimming.cutting = false;
        self.log.apply(&Record::Trimmed { through });
        self.cut(out);
    }

    /// A leader says how far a set durably holds that no later leader can miss: a witness may forget that (4.3), and a node
    /// that was removed may go (6.5).
    pub(super) fn on_held(&mut self, held_through: Slot, out: &mut Vec<Effect>) {
        self.held_through = self.held_through.max(held_through);
        let through = self.held_through.min(self.log.chosen_through());
        if self.trimming.witness && self.trimming.basing.is_none() {
            let known = self.log.base().map_or(Slot::MAX, |base| base.through);
            if known.plus(WITNESS_SLOTS_MIN) <= through
                && let Some(base) = self.base_at(through, None)
            {
                self.begin_at(base, false, out);
            }
        }
        let Some(memberships) = self.log.memberships() else { return };
        let left_out = memberships.retired().contains_key(&self.node());
        let in_force = memberships.coming(self.log.chosen_through().next()).is_none();
        let governs_from = memberships.first_slots().last().unwrap_or_default();
        if left_out && in_force && governs_from <= self.held_through.next() && !self.removed {
            self.removed = true;
            out.push(Effect::Event(Event::Removed));
        }
    }

    /// What is written of these slots is damaged. What memory holds of them is written anew; the rest goes with a snapshot,
    /// behind which it is cut away (F8, F11).
    pub(super) fn on_damaged(&mut self, slots: Vec<Interval>, out: &mut Vec<Effect>) {
        let mut records = Vec::new();
        let mut lost = false;
        for Interval { first, last } in &slots {
            let mut slot = (*first).max(self.log.trimmed_through().next());
            let end = (*last).min(self.log.chosen_through().plus(self.limits.ahead_slots_max));
            while slot <= end {
                let chosen = slot <= self.log.chosen_through();
                match self.log.entry(slot).cloned() {
                    Some(entry) if chosen => records.push(Record::Chosen { slot, value: entry.value }),
                    Some(entry) => records.push(Record::Accepted { slot, id: entry.id, value: entry.value }),
                    None => lost |= chosen,
                }
                slot = slot.next();
            }
        }
        out.push(Effect::Event(Event::EntriesDamaged { slots }));
        if !records.is_empty() {
            self.write(records, out);
        }
        if lost {
            out.push(Effect::Local(Local::Learner(LearnerInput::TakeSnapshot)));
        }
    }

    /// A peer asks where to begin; if it needs a snapshot that this node has not, one is taken, and the peer asks again.
    pub(super) fn on_ask_base(&self, from: NodeId, above: Slot, out: &mut Vec<Effect>) {
        let fits = |base: &Base| above == Slot::ZERO || (base.through >= above && base.snapshot.is_some());
        if self.log.base().is_some_and(fits) {
            self.send_base(from, out);
        } else if self.log.is_formed() && !self.trimming.witness {
            out.push(Effect::Local(Local::Learner(LearnerInput::TakeSnapshot)));
        }
    }

    /// Says where the log begins to a peer that asks for what is cut away, or that knows no membership yet.
    pub(super) fn send_base(&self, to: NodeId, out: &mut Vec<Effect>) {
        if let Some(base) = self.log.base() {
            let message = Message::Base { base: Box::new(base.clone()) };
            out.push(self.answer(to, message));
        }
    }

    /// Slots from `first` on were learned: those who count by memberships hear of new ones, and when one comes into force.
    pub(super) fn tell_changes(&self, first: Slot, changes: Vec<(Slot, Membership)>, out: &mut Vec<Effect>) {
        let next = self.log.chosen_through().next();
        let starts = |start: Slot| first < start && start <= next;
        let memberships = self.log.memberships();
        let in_force = memberships.is_some_and(|memberships| memberships.first_slots().any(starts));
        if in_force || !changes.is_empty() {
            self.brief(out);
        }
        for (slot, membership) in changes {
            let in_force_above = slot.plus(membership.alpha());
            out.push(Effect::Event(Event::MembershipLearned { membership, in_force_above }));
        }
    }
}
