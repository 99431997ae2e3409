//! Credits: how many calls may be under way at a node.
//!
//! A call holds one [`Credit`] until it is answered. Who finds none waits in line; the node, which has the clock, sends
//! those away whose patience is over ([`Credits::expire`]).
//! Invariants: free credits and held ones are always `total`; nobody waits while a credit is free.

use crate::timer::Time;
use futures::channel::oneshot;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The credits of a node, shared by its handles and its actors.
#[derive(Debug)]
pub(crate) struct Credits {
    total: usize,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    free: usize,
    closed: bool,
    waiting: VecDeque<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    patience: Duration,
    /// Set when the node first looks at it.
    expires: Option<Time>,
    turn: oneshot::Sender<Credit>,
}

/// Leave for one call; its drop gives it to the next in line.
#[derive(Debug)]
pub(crate) struct Credit {
    credits: Option<Arc<Credits>>,
}

impl Credits {
    pub(crate) fn new(total: usize) -> Arc<Self> {
        let state = State { free: total, closed: false, waiting: VecDeque::new() };
        Arc::new(Self { total, state: Mutex::new(state) })
    }

    /// A credit, if one is free.
    pub(crate) fn try_take(self: &Arc<Self>) -> Option<Credit> {
        let mut state = self.lock();
        if state.free == 0 || state.closed {
            return None;
        }
        state.free -= 1;
        Some(Credit { credits: Some(Arc::clone(self)) })
    }

    /// A place in the line; it is cancelled when the patience is over or the node stops.
    pub(crate) fn wait(self: &Arc<Self>, patience: Duration) -> oneshot::Receiver<Credit> {
        let (turn, place) = oneshot::channel();
        let mut state = self.lock();
        if state.closed {
            return place;
        }
        if state.free > 0 {
            state.free -= 1;
            drop(state);
            // A receiver that was just made takes it.
            let _ = turn.send(Credit { credits: Some(Arc::clone(self)) });
        } else {
            state.waiting.push_back(Waiting { patience, expires: None, turn });
        }
        place
    }

    /// How many calls are under way.
    pub(crate) fn in_use(&self) -> usize {
        self.total - self.lock().free
    }

    /// Sends those away who waited long enough; whether anyone still waits.
    pub(crate) fn expire(&self, now: Time) -> bool {
        let mut state = self.lock();
        state.waiting.retain_mut(|waiting| {
            let expires = *waiting.expires.get_or_insert(now + waiting.patience);
            expires > now && !waiting.turn.is_canceled()
        });
        !state.waiting.is_empty()
    }

    /// The node is gone: nobody gets a credit any more.
    pub(crate) fn close(&self) {
        let waiting = {
            let mut state = self.lock();
            state.closed = true;
            std::mem::take(&mut state.waiting)
        };
        drop(waiting);
    }

    fn give_back(self: Arc<Self>) {
        loop {
            let next = {
                let mut state = self.lock();
                match state.waiting.pop_front() {
                    Some(waiting) => waiting.turn,
                    None => {
                        state.free += 1;
                        return;
                    }
                }
            };
            match next.send(Credit { credits: Some(Arc::clone(&self)) }) {
                Ok(()) => return,
                // That caller has gone; the credit goes to the next without being given back first.
                Err(mut unwanted) => unwanted.credits = None,
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Credit {
    fn drop(&mut self) {
        if let Some(credits) = self.credits.take() {
            credits.give_back();
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(1);

    #[test]
    fn a_credit_given_back_goes_to_who_waited_first() {
        let credits = Credits::new(1);
        let held = credits.try_take().unwrap();
        let mut first = credits.wait(PATIENCE);
        let mut second = credits.wait(PATIENCE);
        drop(held);
        let held = first.try_recv().unwrap().unwrap();
        assert!(second.try_recv().unwrap().is_none());
        assert!(credits.try_take().is_none());
        drop(held);
        assert!(second.try_recv().unwrap().is_some());
        assert_eq!(credits.in_use(), 0);
    }

    #[test]
    fn a_caller_that_has_gone_is_passed_over() {
        let credits = Credits::new(1);
        let held = credits.try_take().unwrap();
        drop(credits.wait(PATIENCE));
        drop(held);
        assert_eq!(credits.in_use(), 0);
    }

    #[test]
    fn a_caller_that_dies_with_a_credit_on_the_way_gives_it_back() {
        let credits = Credits::new(1);
        let held = credits.try_take().unwrap();
        let place = credits.wait(PATIENCE);
        drop(held);
        assert_eq!(credits.in_use(), 1);
        drop(place);
        assert_eq!(credits.in_use(), 0);
    }

    #[test]
    fn patience_counts_from_when_the_node_first_looks() {
        let credits = Credits::new(1);
        let _held = credits.try_take().unwrap();
        let mut place = credits.wait(PATIENCE);
        let start = Time::from_nanos(5);
        assert!(credits.expire(start));
        assert!(credits.expire(start + PATIENCE / 2));
        assert!(place.try_recv().is_ok());
        assert!(!credits.expire(start + PATIENCE));
        assert!(place.try_recv().is_err());
    }

    #[test]
    fn closing_sends_everybody_away() {
        let credits = Credits::new(1);
        let held = credits.try_take().unwrap();
        let mut place = credits.wait(PATIENCE);
        credits.close();
        assert!(place.try_recv().is_err());
        drop(held);
        assert!(credits.try_take().is_none());
        assert!(credits.wait(PATIENCE).try_recv().is_err());
    }
}
