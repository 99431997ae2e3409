//! The queue of one peer: encoded frames that wait for its connection.
//!
//! In: envelopes, from any thread. Out: all that waits, as one run of bytes for one `write`.
//! Invariants: waiting and being written together stay within the bound; at most one writer holds the claim; without a
//! writer nothing waits, unless the queue lasts.
//! Knows nothing of: sockets, addresses.

use crate::frame::{self, HEADER_BYTES};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use synod::codec;
use synod::transport::Envelope;

/// Buffers above this are let go when there is nothing to send.
const KEEP_BYTES: usize = 1 << 20;

/// Why an envelope was not queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotQueued {
    /// The bound is reached.
    Full,
    /// It will never fit into a frame.
    TooLong,
    /// Nobody will come for it.
    Closed,
}

#[derive(Debug)]
pub(crate) struct Queue {
    state: Mutex<State>,
    bytes_max: usize,
    frame_bytes_max: usize,
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<u8>,
    /// Bytes that the writer took and has not written.
    taken: usize,
    /// The newest claim; an older writer finds itself superseded.
    claim: u64,
    /// Whether someone holds it.
    claimed: bool,
    /// Whether messages may wait until someone does.
    lasts: bool,
    /// Of the writer, while it sleeps.
    writer: Option<Waker>,
}

impl Queue {
    pub(crate) fn new(bytes_max: usize, frame_bytes_max: usize) -> Self {
        Self { state: Mutex::default(), bytes_max, frame_bytes_max }
    }

    /// Encodes `envelope` behind what waits, and wakes the writer if it sleeps.
    pub(crate) fn push(&self, envelope: &Envelope) -> Result<(), NotQueued> {
        let size = envelope.message.size();
        if size > self.frame_bytes_max {
            return Err(NotQueued::TooLong);
        }
        let writer = {
            let mut state = self.lock();
            if !state.claimed && !state.lasts {
                return Err(NotQueued::Closed);
            }
            if state.taken + state.waiting.len() + size > self.bytes_max {
                return Err(NotQueued::Full);
            }
            let start = state.waiting.len();
            let encoded = encode(&mut state.waiting, envelope, self.frame_bytes_max);
            // The size was an estimate: a list of slots has none.
            let full = state.taken + state.waiting.len() > self.bytes_max;
            if encoded.is_err() || full {
                state.waiting.truncate(start);
                return Err(encoded.err().unwrap_or(NotQueued::Full));
            }
            state.writer.take()
        };
        if let Some(writer) = writer {
            writer.wake();
        }
        Ok(())
    }

    /// Sets whether messages may wait while nobody holds the claim. If they may not, what waits is forgotten: at once,
    /// or when the claim ends.
    pub(crate) fn lasts(&self, lasts: bool) {
        let mut state = self.lock();
        state.lasts = lasts;
        if !lasts && !state.claimed {
            state.waiting = Vec::new();
        }
    }

    /// Forgets what waits, unless someone holds the claim.
    pub(crate) fn clear(&self) {
        let mut state = self.lock();
        if !state.claimed {
            state.waiting = Vec::new();
        }
    }

    /// Whether someone holds the claim.
    pub(crate) fn is_claimed(&self) -> bool {
        self.lock().claimed
    }

    /// Makes the caller the only writer.
    pub(crate) fn claim(self: &Arc<Self>) -> Claim {
        let (number, earlier) = {
            let mut state = self.lock();
            state.claim += 1;
            state.claimed = true;
            state.taken = 0;
            (state.claim, state.writer.take())
        };
        if let Some(earlier) = earlier {
            earlier.wake();
        }
        Claim { queue: Arc::clone(self), number }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Encodes `envelope` as a frame behind what `bytes` holds.
pub(crate) fn encode(
    bytes: &mut Vec<u8>,
    envelope: &Envelope,
    frame_bytes_max: usize,
) -> Result<(), NotQueued> {
    let start = bytes.len();
    bytes.extend_from_slice(&[0; HEADER_BYTES]);
    codec::encode_into(bytes, envelope).map_err(|_| NotQueued::TooLong)?;
    let (header, payload) = bytes[start..].split_at_mut(HEADER_BYTES);
    if payload.len() > frame_bytes_max {
        return Err(NotQueued::TooLong);
    }
    header.copy_from_slice(&frame::header(payload));
    Ok(())
}

/// The right to write what is queued; a later claim ends it.
#[derive(Debug)]
pub(crate) struct Claim {
    queue: Arc<Queue>,
    number: u64,
}

impl Claim {
    /// Waits until something is queued and swaps it with `bytes`, which must be empty; false if superseded.
    pub(crate) async fn take(&self, bytes: &mut Vec<u8>) -> bool {
        std::future::poll_fn(|context| {
            let mut state = self.queue.lock();
            if state.claim != self.number {
                return Poll::Ready(false);
            }
            if state.waiting.is_empty() {
                for buffer in [&mut state.waiting, &mut *bytes] {
                    if buffer.capacity() > KEEP_BYTES {
                        *buffer = Vec::new();
                    }
                }
                state.writer = Some(context.waker().clone());
                return Poll::Pending;
            }
            std::mem::swap(&mut state.waiting, bytes);
            state.taken = bytes.len();
            Poll::Ready(true)
        })
        .await
    }

    /// Gives room for `bytes` that have been written.
    pub(crate) fn written(&self, bytes: usize) {
        let mut state = self.queue.lock();
        if state.claim == self.number {
            state.taken = state.taken.saturating_sub(bytes);
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut state = self.queue.lock();
        if state.claim == self.number {
            // What it took and did not write is lost.
            state.taken = 0;
            state.writer = None;
            state.claimed = false;
            if !state.lasts {
                state.waiting = Vec::new();
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use futures::FutureExt;
    use synod::multi::{Message, Slot, Value};
    use synod::paxos::{NodeId, ProposalId};
    use synod::transport::GroupId;

    fn envelope(bytes: usize) -> Envelope {
        let id = ProposalId::new(1, NodeId::new(1));
        let values = vec![Value::Batch(Bytes::from(vec![7; bytes]))];
        Envelope {
            group: GroupId(0),
            message: Message::Accept { id, first: Slot::FIRST, values, watermark: Slot::ZERO },
        }
    }

    #[test]
    fn what_is_being_written_counts_against_the_bound() {
        let queue = Arc::new(Queue::new(10_000, 8_000));
        let claim = queue.claim();
        queue.push(&envelope(6_000)).unwrap();
        let mut bytes = Vec::new();
        assert_eq!(claim.take(&mut bytes).now_or_never(), Some(true));
        assert_eq!(queue.push(&envelope(6_000)), Err(NotQueued::Full));
        claim.written(bytes.len());
        assert_eq!(queue.push(&envelope(6_000)), Ok(()));
    }

    #[test]
    fn a_message_above_the_frame_cap_leaves_no_trace() {
        let queue = Arc::new(Queue::new(10_000, 1_000));
        queue.lasts(true);
        let slots =
            (0..200).map(|slot| synod::multi::Interval::new(Slot::new(2 * slot), Slot::new(2 * slot)));
        let long = Message::Accepted {
            id: ProposalId::new(1, NodeId::new(1)),
            slots: slots.collect(),
            sequence: synod::multi::Sequence(1),
        };
        let long = Envelope { group: GroupId(0), message: long };
        assert_eq!(queue.push(&envelope(2_000)), Err(NotQueued::TooLong));
        assert_eq!(queue.push(&long), Err(NotQueued::TooLong), "its size is no estimate of its length");
        let mut bytes = Vec::new();
        assert_eq!(queue.claim().take(&mut bytes).now_or_never(), None, "nothing waits");
    }

    #[test]
    fn a_later_claim_ends_the_earlier() {
        let queue = Arc::new(Queue::new(10_000, 1_000));
        let earlier = queue.claim();
        let later = queue.claim();
        queue.push(&envelope(10)).unwrap();
        let mut bytes = Vec::new();
        assert_eq!(earlier.take(&mut bytes).now_or_never(), Some(false));
        assert_eq!(later.take(&mut bytes).now_or_never(), Some(true));
    }

    #[test]
    fn without_a_writer_messages_wait_only_where_one_will_come() {
        let queue = Arc::new(Queue::new(10_000, 1_000));
        assert_eq!(queue.push(&envelope(10)), Err(NotQueued::Closed), "nobody will come");
        queue.lasts(true);
        assert_eq!(queue.push(&envelope(10)), Ok(()));
        queue.lasts(false);
        queue.lasts(true);
        let mut bytes = Vec::new();
        assert_eq!(queue.claim().take(&mut bytes).now_or_never(), None, "what waited is forgotten");
    }

    #[test]
    fn what_waits_for_a_writer_that_stands_stays_until_it_ends() {
        let queue = Arc::new(Queue::new(10_000, 1_000));
        let claim = queue.claim();
        queue.push(&envelope(10)).unwrap();
        queue.clear();
        queue.lasts(false);
        let mut bytes = Vec::new();
        assert_eq!(claim.take(&mut bytes).now_or_never(), Some(true));
        queue.push(&envelope(10)).unwrap();
        drop(claim);
        assert_eq!(queue.push(&envelope(10)), Err(NotQueued::Closed));
        bytes.clear();
        assert_eq!(queue.claim().take(&mut bytes).now_or_never(), None, "what waited is forgotten");
    }
}
