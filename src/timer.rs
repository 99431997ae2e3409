//! The timer: the only clock of a node.
//!
//! # The contract
//!
//! 1. [`Timer::now`] never goes back and never blocks.
//! 2. [`Timer::sleep_until`] is over when `now` has reached `at`, not before; how much later is up to the system, and costs
//!    liveness only.
//! 3. A clock that stops in suspend is fine: no rule of safety looks at it.

use async_trait::async_trait;

pub use crate::multi::Time;

/// A monotonic clock. Tests drive it by hand.
#[async_trait]
pub trait Timer: Send + Sync + 'static {
    /// The time since an origin of the timer's own.
    fn now(&self) -> Time;

    /// Waits until `at`.
    async fn sleep_until(&self, at: Time);
}

#[cfg(feature = "actors")]
mod tokio_timer {
    use super::{Time, Timer, async_trait};
    use std::time::Duration;
    use tokio::time::Instant;

    /// Tokio's clock: real time, or virtual time in a paused runtime.
    #[derive(Debug)]
    pub struct TokioTimer {
        origin: Instant,
    }

    impl Default for TokioTimer {
        fn default() -> Self {
            Self { origin: Instant::now() }
        }
    }

    #[async_trait]
    impl Timer for TokioTimer {
        fn now(&self) -> Time {
            Time::ZERO + self.origin.elapsed()
        }

        async fn sleep_until(&self, at: Time) {
            tokio::time::sleep_until(self.origin + Duration::from_nanos(at.as_nanos())).await;
        }
    }
}

#[cfg(feature = "actors")]
pub use tokio_timer::TokioTimer;
