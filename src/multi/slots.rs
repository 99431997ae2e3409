//! A map by slot, whose keys lie side by side nearly always.
//!
//! What is open, accepted or learned is a window of the log that moves up: a slot is found by its distance from the first one,
//! without a search, and the window moves without an allocation. (Against `BTreeMap`s, and
//! with the buffers that a node keeps, a commit of one command costs 0.7 times the instructions.) What lies far away from the row, which damage alone brings about, is kept in a tree beside it.
//! Invariants: W1 the row begins and ends with a value. W2 no slot is in the row's reach and in the tree.

use super::slot::{Interval, Slot};
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::hash::{Hash, Hasher};

/// The row grows over so many slots without a value at most.
const GAP_MAX: u64 = 4096;

/// Values by slot.
#[derive(Clone)]
pub(super) struct Slots<T> {
    first: Slot,
    row: VecDeque<Option<T>>,
    far: BTreeMap<Slot, T>,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self { first: Slot::ZERO, row: VecDeque::new(), far: BTreeMap::new() }
    }
}

impl<T> Slots<T> {
    /// Where `slot` is, or would be, in the row.
    fn place(&self, slot: Slot) -> Option<usize> {
        usize::try_from(slot.get().checked_sub(self.first.get())?).ok()
    }

    /// The slot after the row.
    fn end(&self) -> Slot {
        self.first.plus(self.row.len() as u64)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.row.is_empty() && self.far.is_empty()
    }

    pub(super) fn get(&self, slot: Slot) -> Option<&T> {
        match self.place(slot).and_then(|place| self.row.get(place)) {
            Some(value) => value.as_ref(),
            None => self.far.get(&slot),
        }
    }

    pub(super) fn get_mut(&mut self, slot: Slot) -> Option<&mut T> {
        match self.place(slot).and_then(|place| self.row.get_mut(place)) {
            Some(value) => value.as_mut(),
            None => self.far.get_mut(&slot),
        }
    }

    /// Puts `value` at `slot`, and gives back what was there.
    pub(super) fn insert(&mut self, slot: Slot, value: T) -> Option<T> {
        if slot == Slot::MAX {
            // Nothing comes after it, so the row never reaches it.
            return self.far.insert(slot, value);
        }
        if self.row.is_empty() {
            self.first = slot;
        } else if slot < self.first {
            let gap = self.first.get() - slot.get();
            if gap > GAP_MAX {
                return self.far.insert(slot, value);
            }
            (0..gap).for_each(|_| self.row.push_front(None));
            self.first = slot;
        }
        let place = self.place(slot)?;
        if place as u64 > self.row.len() as u64 + GAP_MAX {
            return self.far.insert(slot, value);
        }
        while self.row.len() <= place {
            self.row.push_back(None);
        }
        let old = self.row.get_mut(place).and_then(|known| known.replace(value));
        if self.far.is_empty() { old } else { self.take_near_in(slot).or(old) }
    }

    /// The row was extended to `slot`: what the tree holds within its reach goes into it. Gives back what was at `slot`.
    fn take_near_in(&mut self, slot: Slot) -> Option<T> {
        let mut near = self.far.split_off(&self.first);
        let mut beyond = near.split_off(&self.end());
        self.far.append(&mut beyond);
        let old = near.remove(&slot);
        for (slot, value) in near {
            let place = self.place(slot);
            if let Some(known) = place.and_then(|place| self.row.get_mut(place)) {
                *known = Some(value);
            }
        }
        old
    }

    pub(super) fn remove(&mut self, slot: Slot) -> Option<T> {
        match self.place(slot).and_then(|place| self.row.get_mut(place)) {
            Some(value) => {
                let value = value.take();
                self.trim_row();
                value
            }
            None => self.far.remove(&slot),
        }
    }

    fn trim_row(&mut self) {
        while matches!(self.row.front(), Some(None)) {
            self.row.pop_front();
            self.first = self.first.next();
        }
        while matches!(self.row.back(), Some(None)) {
            self.row.pop_back();
        }
    }

    /// The lowest slot that holds a value.
    pub(super) fn first_slot(&self) -> Option<Slot> {
        let near = (!self.row.is_empty()).then_some(self.first);
        let far = self.far.first_key_value().map(|(slot, _)| *slot);
        near.into_iter().chain(far).min()
    }

    /// The highest slot that holds a value.
    pub(super) fn last_slot(&self) -> Option<Slot> {
        let near = (!self.row.is_empty()).then(|| self.end().minus(1));
        let far = self.far.last_key_value().map(|(slot, _)| *slot);
        near.into_iter().chain(far).max()
    }

    /// The part of `slots` that may hold a value: whoever names an interval does not bring about a long walk. Its last slot lies
    /// below its first where there is none.
    pub(super) fn part_of(&self, slots: Interval) -> Interval {
        let first = slots.first.max(self.first_slot().unwrap_or(Slot::MAX));
        Interval::new(first, slots.last.min(self.last_slot().unwrap_or(Slot::ZERO)))
    }

    /// The values from `first` to `last`, both included, ascending.
    pub(super) fn range(&self, first: Slot, last: Slot) -> impl Iterator<Item = (Slot, &T)> + '_ {
        let (begin, end) = self.reach(first, last);
        let row_first = self.first;
        let slots = (begin as u64..).map(move |place| row_first.plus(place));
        let near = slots.zip(self.row.range(begin..end));
        let near = near.filter_map(|(slot, value)| value.as_ref().map(|value| (slot, value)));
        let in_far = (first <= last).then(|| self.far.range(first..=last)).into_iter().flatten();
        let (mut near, mut far) = (near.peekable(), in_far.map(|(slot, value)| (*slot, value)).peekable());
        std::iter::from_fn(move || match (near.peek(), far.peek()) {
            (Some((here, _)), Some((there, _))) if there < here => far.next(),
            (Some(_), _) => near.next(),
            (None, _) => far.next(),
        })
    }

    /// The places of the row that lie from `first` to `last`, both included: half-open.
    fn reach(&self, first: Slot, last: Slot) -> (usize, usize) {
        let place = |slot: Slot| self.place(slot).unwrap_or(0).min(self.row.len());
        let begin = place(first);
        let end = if last < self.first { 0 } else { place(last.next()) };
        // Nothing comes after the last slot of all.
        let end = if last == Slot::MAX { self.row.len() } else { end };
        (begin, end.max(begin))
    }

    /// All values, ascending.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Slot, &T)> + '_ {
        self.range(Slot::ZERO, Slot::MAX)
    }

    /// All values, to be changed; in no promised order.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (Slot, &mut T)> + '_ {
        let first = self.first;
        let near = (0..).map(move |place| first.plus(place)).zip(&mut self.row);
        let near = near.filter_map(|(slot, value)| value.as_mut().map(|value| (slot, value)));
        near.chain(self.far.iter_mut().map(|(slot, value)| (*slot, value)))
    }

    /// Takes all values out, ascending.
    pub(super) fn into_values(self) -> impl Iterator<Item = (Slot, T)> {
        let Self { first, row, mut far } = self;
        let above = far.split_off(&first);
        let slots = (0..).map(move |place| first.plus(place));
        let row = slots.zip(row).filter_map(|(slot, value)| value.map(|value| (slot, value)));
        far.into_iter().chain(row).chain(above)
    }
}

impl<T: PartialEq> PartialEq for Slots<T> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl<T: Eq> Eq for Slots<T> {}

impl<T: Hash> Hash for Slots<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.iter().for_each(|entry| entry.hash(state));
        state.write_u8(0xff);
    }
}

impl<T: fmt::Debug> fmt::Debug for Slots<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::multi::Jitter;

    fn slot(number: u64) -> Slot {
        Slot::new(number)
    }

    /// What both hold, by all ways to look at it.
    fn assert_same(slots: &mut Slots<u64>, tree: &mut BTreeMap<Slot, u64>, first: Slot, last: Slot) {
        assert_eq!(
            slots.iter().collect::<Vec<_>>(),
            tree.iter().map(|(at, value)| (*at, value)).collect::<Vec<_>>()
        );
        assert_eq!((slots.is_empty(), slots.first_slot()), (tree.is_empty(), tree.keys().next().copied()));
        assert_eq!(slots.last_slot(), tree.keys().next_back().copied());
        let part: Vec<(Slot, u64)> = slots.range(first, last).map(|(at, value)| (at, *value)).collect();
        let expected: Vec<(Slot, u64)> = if first <= last {
            tree.range(first..=last).map(|(at, value)| (*at, *value)).collect()
        } else {
            Vec::new()
        };
        assert_eq!(part, expected);
        let mut changed: Vec<Slot> = slots.iter_mut().map(|(at, _)| at).collect();
        changed.sort_unstable();
        assert_eq!(changed, tree.keys().copied().collect::<Vec<_>>());
        assert_eq!(slots.get(first), tree.get(&first));
        assert_eq!(slots.get_mut(last), tree.get_mut(&last));
        let again = slots.clone().into_values().collect::<BTreeMap<_, _>>();
        assert_eq!(&again, tree);
    }

    #[test]
    fn it_holds_what_a_tree_holds_near_and_far() {
        for seed in 0..40 {
            let mut random = Jitter::new(seed);
            let mut draw = |count: u64| random.draw() % count;
            let (mut slots, mut tree) = (Slots::default(), BTreeMap::new());
            for step in 0..200 {
                let at = match draw(12) {
                    0 => slot(draw(u64::MAX)),
                    1 => slot(20_000 + draw(3)),
                    2 => Slot::MAX,
                    3 => slot(4100 + draw(10)),
                    _ => slot(draw(12)),
                };
                if draw(3) == 0 {
                    assert_eq!(slots.remove(at), tree.remove(&at), "seed {seed}");
                } else {
                    assert_eq!(slots.insert(at, step), tree.insert(at, step), "seed {seed}");
                }
                let (first, last) =
                    (slot(draw(15)), if draw(3) == 0 { Slot::MAX } else { slot(draw(30_000)) });
                assert_same(&mut slots, &mut tree, first, last);
            }
        }
    }

    #[test]
    fn two_that_hold_the_same_are_equal_however_they_came_to_it() {
        let mut moved = Slots::default();
        assert!((1..=9).all(|at| moved.insert(slot(at), at).is_none()));
        assert!((1..=8).all(|at| moved.remove(slot(at)) == Some(at)));
        let mut fresh = Slots::default();
        fresh.insert(slot(9), 9);
        assert_eq!(moved, fresh);
    }

    #[test]
    fn a_slot_far_away_takes_no_room_for_those_between() {
        let mut slots = Slots::default();
        slots.insert(slot(1), 1);
        slots.insert(slot(u64::MAX - 1), 2);
        assert!(slots.row.len() == 1 && slots.get(slot(u64::MAX - 1)) == Some(&2));
    }
}
