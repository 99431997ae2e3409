//! A pipe: what one node has sent to another and the other has not taken yet.
//!
//! In: envelopes, from any thread. Out: all that waits, at once.
//! Invariants: what waits or was taken and not delivered stays within the bound; after `close` nothing goes in.

use futures::task::AtomicWaker;
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use synod::transport::Envelope;

#[derive(Debug)]
pub(crate) struct Pipe {
    state: Mutex<State>,
    /// Of the receiver, while it sleeps: a receiver that is awake costs the sender no wake.
    receiver: AtomicWaker,
    bytes_max: usize,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Envelope>,
    bytes: usize,
    closed: bool,
}

impl Pipe {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { state: Mutex::default(), receiver: AtomicWaker::new(), bytes_max }
    }

    /// Puts `envelope` behind what waits; false if the bound is reached or the pipe closed.
    pub(crate) fn push(&self, envelope: &Envelope) -> bool {
        let size = envelope.message.size();
        let first = {
            let mut state = self.lock();
            if state.closed || state.bytes + size > self.bytes_max {
                return false;
            }
            state.bytes += size;
            state.waiting.push_back(envelope.clone());
            state.waiting.len() == 1
        };
        if first {
            self.receiver.wake();
        }
        true
    }

    /// Waits until there is something and swaps it with `taken`, which must be empty; false once closed.
    pub(crate) async fn take(&self, taken: &mut VecDeque<Envelope>) -> bool {
        std::future::poll_fn(|context| {
            self.receiver.register(context.waker());
            let mut state = self.lock();
            if state.closed {
                return Poll::Ready(false);
            }
            if state.waiting.is_empty() {
                return Poll::Pending;
            }
            std::mem::swap(&mut state.waiting, taken);
            Poll::Ready(true)
        })
        .await
    }

    /// Gives room for a message of `bytes` that was delivered.
    pub(crate) fn delivered(&self, bytes: usize) {
        self.lock().bytes -= bytes;
    }

    /// Ends the pipe from either side; what waits is lost.
    pub(crate) fn close(&self) {
        {
            let mut state = self.lock();
            state.closed = true;
            state.waiting = VecDeque::new();
        }
        self.receiver.wake();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
