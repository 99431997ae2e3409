//! A watch: one value that changes, and readers who see the newest.
//!
//! A slow reader costs nothing and misses what was overtaken; no runtime and no clock is needed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// The writer's side; readers [`Subscription`] by `Arc`.
#[derive(Debug)]
pub(crate) struct Watch<T> {
    state: Mutex<State<T>>,
}

#[derive(Debug)]
struct State<T> {
    value: T,
    version: u64,
    closed: bool,
    next_reader: u64,
    asleep: BTreeMap<u64, Waker>,
}

impl<T: Clone> Watch<T> {
    pub(crate) fn new(value: T) -> Arc<Self> {
        let state = State { value, version: 1, closed: false, next_reader: 0, asleep: BTreeMap::new() };
        Arc::new(Self { state: Mutex::new(state) })
    }

    pub(crate) fn get(&self) -> T {
        self.lock().value.clone()
    }

    /// Replaces the value by what `change` makes of it, and wakes the readers; `None` leaves it.
    pub(crate) fn update(&self, change: impl FnOnce(&T) -> Option<T>) {
        let asleep = {
            let mut state = self.lock();
            let Some(value) = change(&state.value) else { return };
            state.value = value;
            state.version += 1;
            std::mem::take(&mut state.asleep)
        };
        asleep.into_values().for_each(Waker::wake);
    }

    /// No change comes any more: streams end.
    pub(crate) fn close(&self) {
        let asleep = {
            let mut state = self.lock();
            state.closed = true;
            std::mem::take(&mut state.asleep)
        };
        asleep.into_values().for_each(Waker::wake);
    }

    /// A reader that sees the present value first.
    pub(crate) fn subscribe(self: &Arc<Self>) -> Subscription<T> {
        let mut state = self.lock();
        let reader = state.next_reader;
        state.next_reader += 1;
        Subscription { watch: Arc::clone(self), reader, seen: 0 }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A reader of a [`Watch`].
#[derive(Debug)]
pub(crate) struct Subscription<T: Clone> {
    watch: Arc<Watch<T>>,
    reader: u64,
    seen: u64,
}

impl<T: Clone> Subscription<T> {
    /// The newest value that this reader has not seen; `None` after the last one.
    pub(crate) fn poll_change(&mut self, context: &Context<'_>) -> Poll<Option<T>> {
        let mut state = self.watch.lock();
        if state.version > self.seen {
            self.seen = state.version;
            return Poll::Ready(Some(state.value.clone()));
        }
        if state.closed {
            return Poll::Ready(None);
        }
        state.asleep.insert(self.reader, context.waker().clone());
        Poll::Pending
    }
}

impl<T: Clone> Drop for Subscription<T> {
    fn drop(&mut self) {
        self.watch.lock().asleep.remove(&self.reader);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_reader_sees_the_newest_value_only() {
        let watch = Watch::new(1);
        let mut reader = watch.subscribe();
        let context = Context::from_waker(Waker::noop());
        assert_eq!(reader.poll_change(&context), Poll::Ready(Some(1)));
        assert_eq!(reader.poll_change(&context), Poll::Pending);
        watch.update(|_| Some(2));
        watch.update(|_| Some(3));
        assert_eq!(reader.poll_change(&context), Poll::Ready(Some(3)));
        assert_eq!(reader.poll_change(&context), Poll::Pending);
    }

    #[test]
    fn a_reader_sees_the_last_value_before_the_end() {
        let watch = Watch::new(1);
        let mut reader = watch.subscribe();
        watch.close();
        let context = Context::from_waker(Waker::noop());
        assert_eq!(reader.poll_change(&context), Poll::Ready(Some(1)));
        assert_eq!(reader.poll_change(&context), Poll::Ready(None));
    }
}
