//! Slots: the places of the log, each decided by one instance of Paxos.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A place in the log. The first is [`Slot::FIRST`] (1); [`Slot::ZERO`] stands for "none yet" in marks such as
/// `chosen_through`.
#[doc(alias = "instance")]
#[doc(alias = "index")]
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Slot(u64);

impl Slot {
    /// Below every slot: nothing chosen, nothing applied.
    pub const ZERO: Self = Self(0);
    /// The first place of the log.
    pub const FIRST: Self = Self(1);
    /// Above every slot in use; the end of an open interval.
    pub const MAX: Self = Self(u64::MAX);

    /// The slot with this number.
    pub const fn new(slot: u64) -> Self {
        Self(slot)
    }

    /// The number of the slot.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The slot after this one.
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The slot `count` places further on.
    pub const fn plus(self, count: u64) -> Self {
        Self(self.0.saturating_add(count))
    }

    /// The slot `count` places back, or [`Slot::ZERO`].
    pub const fn minus(self, count: u64) -> Self {
        Self(self.0.saturating_sub(count))
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s{}", self.0)
    }
}

/// The slots from `first` to `last`, both included: how votes and pages name what they cover.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Interval {
    /// The first slot.
    pub first: Slot,
    /// The last slot; [`Slot::MAX`] leaves the interval open.
    pub last: Slot,
}

impl Interval {
    /// The slots from `first` to `last`, both included.
    pub const fn new(first: Slot, last: Slot) -> Self {
        Self { first, last }
    }

    /// Whether `slot` lies in it.
    pub fn contains(&self, slot: Slot) -> bool {
        self.first <= slot && slot <= self.last
    }
}

/// Names ascending `slots` by as few intervals as possible.
pub fn intervals(slots: impl IntoIterator<Item = Slot>) -> Vec<Interval> {
    let mut found = Vec::new();
    slots.into_iter().for_each(|slot| add_slot(&mut found, slot));
    found
}

/// Adds a slot that lies above all in `intervals`.
pub(super) fn add_slot(intervals: &mut Vec<Interval>, slot: Slot) {
    match intervals.last_mut() {
        Some(interval) if interval.last.next() == slot => interval.last = slot,
        _ => intervals.push(Interval::new(slot, slot)),
    }
}

/// A point in time, in nanoseconds since an origin that one node keeps while it runs. Never a wall clock.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(u64);

impl Time {
    /// The origin.
    pub const ZERO: Self = Self(0);

    /// `nanos` nanoseconds after the origin.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the origin.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// The time that has passed since `earlier`, or zero.
    pub const fn since(self, earlier: Self) -> std::time::Duration {
        std::time::Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl std::ops::Add<std::time::Duration> for Time {
    type Output = Self;
    fn add(self, duration: std::time::Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl fmt::Debug for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.6}s", self.0 as f64 / 1e9)
    }
}
