//! A node's clock: with an origin of its own, faster or slower than others, and stalled on request.

use async_trait::async_trait;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use synod::timer::{Time, Timer};
use tokio::time::Instant;

/// Over tokio's clock, which is virtual here. Clones are the same clock.
#[derive(Clone, Debug)]
pub(crate) struct Clock {
    begun: Instant,
    origin: Duration,
    rate: f64,
    stall: Arc<Mutex<Stall>>,
}

#[derive(Debug, Default)]
struct Stall {
    /// It stands still from here, until then.
    present: Option<(Instant, Instant)>,
    /// What it has missed so far.
    missed: Duration,
}

impl Clock {
    /// One that shows `origin` now and runs `rate` times as fast as others.
    pub(crate) fn new(origin: Duration, rate: f64) -> Self {
        Self { begun: Instant::now(), origin, rate, stall: Arc::default() }
    }

    /// Stands still for so long. No effect while it does so already.
    pub(crate) fn stall(&self, duration: Duration) {
        self.look();
        let mut stall = self.stall.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        stall.present.get_or_insert((now, now + duration));
    }

    /// How long it has run, and from when on it runs.
    fn look(&self) -> (Duration, Instant) {
        let mut stall = self.stall.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let (stands_at, runs_from) = match stall.present {
            Some((from, until)) if until > now => (from, until),
            Some((from, until)) => {
                stall.missed += until - from;
                stall.present = None;
                (now, now)
            }
            None => (now, now),
        };
        ((stands_at - self.begun).saturating_sub(stall.missed), runs_from)
    }
}

#[async_trait]
impl Timer for Clock {
    fn now(&self) -> Time {
        Time::ZERO + self.origin + self.look().0.mul_f64(self.rate)
    }

    async fn sleep_until(&self, at: Time) {
        loop {
            let now = self.now();
            if now >= at {
                return;
            }
            let left = Duration::from_nanos(at.as_nanos() - now.as_nanos()).div_f64(self.rate);
            tokio::time::sleep_until(self.look().1 + left + Duration::from_nanos(1)).await;
        }
    }
}
