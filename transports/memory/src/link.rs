//! A link: what is under way from one run of a node to one run of another.
//!
//! In: envelopes, from any thread; cuts and heals. Out: envelopes when they are due.
//! Invariants: all that is under way stays within the bound; without [`Faults::reorder`] and [`Faults::repeat`] what comes
//! out is in the order in which it went in.

use crate::faults::{Faults, Random};
use futures::future::{self, Either};
use futures::task::AtomicWaker;
use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;
use synod::timer::{Time, Timer};
use synod::transport::Envelope;

#[derive(Debug)]
pub(crate) struct Link {
    state: Mutex<State>,
    receiver: AtomicWaker,
    bytes_max: usize,
}

#[derive(Debug)]
struct State {
    random: Random,
    faults: Faults,
    under_way: BTreeMap<(Time, u64), Envelope>,
    /// Counts what went in, so that no two entries are equal.
    entered: u64,
    /// When the last message that keeps its order is due.
    due: Time,
    bytes: usize,
    cut_since: Option<Time>,
    closed: bool,
    /// Counts what the receiver must look at.
    changes: u64,
}

/// What came over a link.
#[derive(Debug)]
pub(crate) enum Came {
    /// A message that is due.
    Envelope(Envelope),
    /// Nothing for so long that the connection is given up.
    Silence,
    /// The link is gone.
    Closed,
}

/// What became of a message that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fate {
    pub(crate) copies: u64,
    pub(crate) late: u64,
}

impl Link {
    pub(crate) fn new(random: Random, faults: Faults, cut_since: Option<Time>, bytes_max: usize) -> Self {
        let state = State {
            random,
            faults,
            under_way: BTreeMap::new(),
            entered: 0,
            due: Time::ZERO,
            bytes: 0,
            cut_since,
            closed: false,
            changes: 0,
        };
        Self { state: Mutex::new(state), receiver: AtomicWaker::new(), bytes_max }
    }

    /// Sends `envelope` at `now`; `None` if the bound is reached or the link is gone.
    pub(crate) fn push(&self, envelope: &Envelope, now: Time) -> Option<Fate> {
        let size = envelope.message.size();
        let mut state = self.lock();
        if state.closed || state.bytes + size > self.bytes_max {
            return None;
        }
        // Every draw is made each time, so that one fault more or less does not shift all that follow.
        let Faults { loss, repeat, reorder, delay_min, delay_max, late_max } = state.faults;
        let lost = state.random.happens(loss);
        let repeated = state.random.happens(repeat);
        let overtaken = state.random.happens(reorder);
        let delay = state.random.between(delay_min, delay_max);
        let [late, later] = [(); 2].map(|()| state.random.between(Duration::ZERO, late_max));
        if lost || state.cut_since.is_some() {
            return Some(Fate { copies: 0, late: 0 });
        }
        let mut due = now + delay;
        if overtaken {
            due = due + late;
        } else {
            due = due.max(state.due);
            state.due = due;
        }
        let mut news = state.enter(due, envelope, size);
        let repeated = repeated && state.bytes + size <= self.bytes_max;
        if repeated {
            news |= state.enter(due + later, envelope, size);
        }
        drop(state);
        if news {
            self.receiver.wake();
        }
        Some(Fate { copies: 1 + u64::from(repeated), late: u64::from(overtaken) })
    }

    pub(crate) fn set_faults(&self, faults: Faults) {
        self.lock().faults = faults;
    }

    /// Loses everything from `since` on, or nothing any more.
    pub(crate) fn set_cut(&self, since: Option<Time>) {
        self.change(|state| {
            if state.cut_since.is_none() || since.is_none() {
                state.cut_since = since;
            }
            if since.is_some() {
                state.under_way.clear();
                state.bytes = 0;
            }
        });
    }

    pub(crate) fn close(&self) {
        self.change(|state| {
            state.closed = true;
            state.under_way.clear();
        });
    }

    /// Waits while the link is cut; false if it is gone.
    pub(crate) async fn until_whole(&self) -> bool {
        future::poll_fn(|context| {
            self.receiver.register(context.waker());
            let state = self.lock();
            match (state.closed, state.cut_since) {
                (true, _) => Poll::Ready(false),
                (false, None) => Poll::Ready(true),
                (false, Some(_)) => Poll::Pending,
            }
        })
        .await
    }

    /// Waits for what comes next. A cut is noticed after `silence_max`.
    pub(crate) async fn next(&self, timer: &dyn Timer, silence_max: Duration) -> Came {
        loop {
            let (changes, wait_until) = {
                let mut state = self.lock();
                if state.closed {
                    return Came::Closed;
                }
                let now = timer.now();
                let silence = state.cut_since.map(|since| since + silence_max);
                if silence.is_some_and(|silence| silence <= now) {
                    return Came::Silence;
                }
                let first = state.under_way.first_entry().map(|first| first.key().0);
                if first.is_some_and(|due| due <= now)
                    && let Some((_, envelope)) = state.under_way.pop_first()
                {
                    state.bytes -= envelope.message.size();
                    return Came::Envelope(envelope);
                }
                (state.changes, first.into_iter().chain(silence).min())
            };
            let change = pin!(self.changed(changes));
            match wait_until {
                None => change.await,
                Some(at) => match future::select(change, timer.sleep_until(at)).await {
                    Either::Left(_) | Either::Right(_) => {}
                },
            }
        }
    }

    async fn changed(&self, changes: u64) {
        future::poll_fn(|context| {
            self.receiver.register(context.waker());
            if self.lock().changes == changes { Poll::Pending } else { Poll::Ready(()) }
        })
        .await;
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        {
            let mut state = self.lock();
            change(&mut state);
            state.changes += 1;
        }
        self.receiver.wake();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Puts a copy under way; true if it is due before all others.
    fn enter(&mut self, due: Time, envelope: &Envelope, size: usize) -> bool {
        self.entered += 1;
        self.bytes += size;
        self.under_way.insert((due, self.entered), envelope.clone());
        let first = self.under_way.first_key_value().is_some_and(|(key, _)| key.1 == self.entered);
        if first {
            self.changes += 1;
        }
        first
    }
}
