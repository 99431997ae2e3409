//! The pace: how fast something large is written, sent or checked, so that commits are not slowed down by it.

use crate::timer::{Time, Timer};
use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

/// So many parts a second at least: a slow pace makes for smaller parts, not for longer pauses.
const PARTS_PER_SECOND: u64 = 20;

/// What a timer that wakes late has cost may be made up for: a fast pace has pauses shorter than timers can keep.
const MADE_UP_MAX: Duration = Duration::from_millis(5);

/// So many bytes a second, on average since something was last to be done.
pub(super) struct Pace {
    timer: Arc<dyn Timer>,
    bytes_per_second: u64,
    /// What was spent so far is paid for then.
    paid_at: Cell<Time>,
}

impl Pace {
    pub(super) fn new(timer: Arc<dyn Timer>, bytes_per_second: u64) -> Self {
        Self { timer, bytes_per_second: bytes_per_second.max(1), paid_at: Cell::new(Time::ZERO) }
    }

    /// The part to do at once, of `bytes_max` at most.
    pub(super) fn part(&self, bytes_max: usize) -> usize {
        let part = usize::try_from(self.bytes_per_second / PARTS_PER_SECOND).unwrap_or(usize::MAX);
        part.clamp(1, bytes_max.max(1))
    }

    /// Waits until what was spent before is paid for, then spends `bytes`.
    pub(super) async fn spend(&self, bytes: u64) {
        let paid_at = self.paid_at.get();
        if paid_at > self.timer.now() {
            self.timer.sleep_until(paid_at).await;
        }
        let now = self.timer.now();
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(self.bytes_per_second);
        let cost = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        let made_up_from = Time::from_nanos(now.since(Time::ZERO + MADE_UP_MAX).as_nanos() as u64);
        self.paid_at.set(paid_at.max(made_up_from) + cost);
    }
}
