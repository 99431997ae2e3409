//! Counters: what went wrong on the wire since the transport was made.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What went wrong so far; every count only grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TcpStats {
    /// Handshakes that this node refused.
    pub refused: u64,
    /// Handshakes in which the peer refused this node.
    pub refused_by_peer: u64,
    /// Calls answered by another node than the one expected at that address.
    pub wrong_node: u64,
    /// Handshakes that were cut off by the deadline or by the caller.
    pub unfinished: u64,
    /// Callers pushed out before they had shown themselves, because too many came.
    pub crowded_out: u64,
    /// Messages that `send` did not queue.
    pub dropped: u64,
    /// Connections ended because of bytes that no correct peer sends.
    pub malformed: u64,
    /// Connections ended because nothing was heard for too long.
    pub vanished: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) refused: AtomicU64,
    pub(crate) refused_by_peer: AtomicU64,
    pub(crate) wrong_node: AtomicU64,
    pub(crate) unfinished: AtomicU64,
    pub(crate) crowded_out: AtomicU64,
    pub(crate) dropped: AtomicU64,
    pub(crate) malformed: AtomicU64,
    pub(crate) vanished: AtomicU64,
}

impl Counters {
    pub(crate) fn snapshot(&self) -> TcpStats {
        TcpStats {
            refused: self.refused.load(Relaxed),
            refused_by_peer: self.refused_by_peer.load(Relaxed),
            wrong_node: self.wrong_node.load(Relaxed),
            unfinished: self.unfinished.load(Relaxed),
            crowded_out: self.crowded_out.load(Relaxed),
            dropped: self.dropped.load(Relaxed),
            malformed: self.malformed.load(Relaxed),
            vanished: self.vanished.load(Relaxed),
        }
    }
}

pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Relaxed);
}
