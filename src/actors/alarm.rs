//! The alarm: the one timer of a role.

use crate::timer::{Time, Timer};
use futures::FutureExt;
use futures::future::BoxFuture;
use std::sync::Arc;
use std::task::Context;

/// Wakes its task at the time set last, with at most one sleep pending.
pub(super) struct Alarm {
    timer: Arc<dyn Timer>,
    sleep: Option<(Time, BoxFuture<'static, ()>)>,
}

impl Alarm {
    pub(super) fn new(timer: Arc<dyn Timer>) -> Self {
        Self { timer, sleep: None }
    }

    /// Makes sure that the task is woken at `at`, or earlier. A sleep that ends too early is cheaper than a new one.
    pub(super) fn set(&mut self, at: Time, task: &mut Context<'_>) {
        if self.sleep.as_ref().is_none_or(|(until, _)| *until > at) {
            self.sleep_until(at);
        }
        while let Some((until, sleep)) = &mut self.sleep {
            if sleep.poll_unpin(task).is_pending() {
                return;
            }
            let reached = *until >= at;
            self.sleep = None;
            if reached {
                task.waker().wake_by_ref();
                return;
            }
            self.sleep_until(at);
        }
    }

    fn sleep_until(&mut self, at: Time) {
        let timer = Arc::clone(&self.timer);
        self.sleep = Some((at, async move { timer.sleep_until(at).await }.boxed()));
    }
}
