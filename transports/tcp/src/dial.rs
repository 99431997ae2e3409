//! Calling a peer, for as long as it has an address: connect, shake hands, carry, pause, again.
//!
//! Invariant: the pause doubles at each failure and starts over only after a connection that lasted or when the peer has
//! moved; a refusal makes it as long as it gets.

use crate::Shared;
use crate::connection::{Connection, End};
use crate::handshake::{self, HandshakeError};
use crate::peers::{Calling, Peer, Place};
use crate::stats::count;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;
use synod::multi::Refusal;
use synod::transport::Inbox;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

/// Keeps a connection to a peer for as long as it has an address, and then until the connection ends.
pub(crate) async fn keep_calling(shared: Arc<Shared>, calling: Calling, inbox: Inbox) {
    let peer = calling.peer();
    let mut place = peer.place();
    let mut pauses = Pauses::new(shared.config.retry_min, shared.config.retry_max);
    loop {
        let Some(address) = place.borrow_and_update().address.clone() else { return };
        let began = Instant::now();
        match meet(&shared, peer, &address, &mut place, &inbox).await {
            Ok(Some(connection)) => {
                tracing::debug!(node = %inbox.local().node(), to = %peer.node, %address, "calls a peer");
                let end = tokio::select! {
                    biased;
                    end = connection.carry() => end,
                    () = cut_off(place.clone()) => End::CutOff,
                };
                shared.ended(peer.node, &end);
                if began.elapsed() >= shared.config.retry_max {
                    pauses.start_over();
                }
            }
            Ok(None) => pauses.start_over(),
            Err(error) => {
                // It waited for this attempt, and would be stale at the next.
                peer.queue.clear();
                if failed(&shared, peer, &inbox, error) {
                    pauses.be_long();
                }
            }
        }
        pause(&mut pauses, &mut place).await;
    }
}

/// Connects to a peer and shakes hands; `None` if it moved or left before it was reached.
async fn meet(
    shared: &Shared,
    peer: &Peer,
    address: &str,
    place: &mut watch::Receiver<Place>,
    inbox: &Inbox,
) -> Result<Option<Connection>, HandshakeError> {
    let shake = async {
        let mut stream = tokio::select! {
            biased;
            _ = place.changed() => return Ok(None),
            stream = TcpStream::connect(address) => stream?,
        };
        // From here on it is a connection, of which either end may have been told that it stands.
        stream.set_nodelay(true)?;
        let admitted = handshake::call(&mut stream, peer.node, inbox).await?;
        Ok::<_, HandshakeError>(Some((stream, admitted)))
    };
    let met = timeout(shared.config.handshake_within, shake).await.map_err(|_| HandshakeError::Late)??;
    Ok(met.map(|(stream, inbox)| {
        let claim = Some(peer.queue.claim());
        Connection { stream, inbox, claim, config: Arc::clone(&shared.config) }
    }))
}

async fn cut_off(mut place: watch::Receiver<Place>) {
    // The task that waits holds the peer, and so the other end.
    let _ = place.wait_for(|place| place.cut_off).await;
}

/// Waits until the next attempt is due. If the peer has moved, what failed before says nothing of its new address; the pause
/// is short then, but there is one, since all members learn of it at the same time.
async fn pause(pauses: &mut Pauses, place: &mut watch::Receiver<Place>) {
    tokio::select! {
        () = sleep(pauses.next()) => {}
        _ = place.changed() => {
            pauses.start_over();
            sleep(pauses.next()).await;
        }
    }
}

/// Counts and tells what went wrong; true if there is no point in trying again soon.
fn failed(shared: &Shared, peer: &Peer, inbox: &Inbox, error: HandshakeError) -> bool {
    let node = inbox.local().node();
    match error {
        HandshakeError::WrongNode { expected, found } => {
            count(&shared.counters.wrong_node);
            tracing::warn!(%node, %expected, %found, "another node answers at a peer's address");
            true
        }
        HandshakeError::RefusedBy { peer, refusal } => {
            count(&shared.counters.refused_by_peer);
            let long = refusal != Refusal::Unavailable;
            tracing::warn!(%node, from = %peer, reason = %refusal, "a peer refuses this node");
            inbox.refused(peer, refusal);
            long
        }
        HandshakeError::Refuses(refusal) => {
            count(&shared.counters.refused);
            tracing::warn!(%node, from = %peer.node, reason = %refusal, "this node refuses a peer");
            refusal != Refusal::Unavailable
        }
        error @ (HandshakeError::NotOurs | HandshakeError::Frame(_)) => {
            count(&shared.counters.malformed);
            tracing::warn!(%node, to = %peer.node, %error, "a peer's address is no node's");
            true
        }
        error @ (HandshakeError::Io(_) | HandshakeError::Late) => {
            tracing::debug!(%node, to = %peer.node, %error, "cannot reach a peer");
            false
        }
    }
}

/// Growing, jittered pauses. The jitter needs no good randomness, only another one on each node.
#[derive(Debug)]
struct Pauses {
    min: Duration,
    max: Duration,
    next: Duration,
    random: u64,
}

impl Pauses {
    fn new(min: Duration, max: Duration) -> Self {
        // Std seeds each `RandomState` differently.
        Self { min, max, next: min, random: RandomState::new().hash_one(0) }
    }

    fn start_over(&mut self) {
        self.next = self.min;
    }

    fn be_long(&mut self) {
        self.next = self.max;
    }

    /// Between a half and the whole of the pause that is due.
    fn next(&mut self) -> Duration {
        // Knuth's MMIX generator; its upper bits are good enough.
        self.random =
            self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let half = self.next / 2;
        let jitter = half.mul_f64((self.random >> 32) as f64 / f64::from(u32::MAX));
        self.next = (self.next * 2).min(self.max);
        half + jitter
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_longest_and_start_over() {
        let ms = Duration::from_millis;
        let mut pauses = Pauses::new(ms(20), ms(1_000));
        for expected in [20, 40, 80, 160, 320, 640, 1_000, 1_000] {
            let pause = pauses.next();
            assert!(pause >= ms(expected) / 2 && pause <= ms(expected), "{pause:?} of {expected} ms");
        }
        pauses.start_over();
        assert!(pauses.next() <= ms(20));
        pauses.be_long();
        assert!(pauses.next() >= ms(500));
    }
}
