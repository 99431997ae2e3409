//! The limits of a TCP transport, with defaults that suit three nodes on a LAN.

use std::time::Duration;

/// Every bound and every time of a [`Tcp`](crate::Tcp); start from [`Config::default`] and change what you need.
///
/// ```
/// use std::time::Duration;
/// let config = synod_tcp::Config::default().frame_bytes_max(1 << 20).idle_after(Duration::from_secs(1));
/// ```
#[derive(Clone, Debug)]
pub struct Config {
    pub(crate) frame_bytes_max: usize,
    pub(crate) peer_bytes_max: usize,
    pub(crate) handshake_within: Duration,
    pub(crate) ping_after: Duration,
    pub(crate) idle_after: Duration,
    pub(crate) retry_min: Duration,
    pub(crate) retry_max: Duration,
    pub(crate) peers_max: usize,
    pub(crate) inbound_max: usize,
    pub(crate) handshakes_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            frame_bytes_max: 8 << 20,
            peer_bytes_max: 16 << 20,
            handshake_within: Duration::from_secs(5),
            ping_after: Duration::from_secs(1),
            idle_after: Duration::from_secs(3),
            retry_min: Duration::from_millis(20),
            retry_max: Duration::from_secs(1),
            peers_max: 1024,
            inbound_max: 64,
            handshakes_max: 32,
        }
    }
}

impl Config {
    /// The longest frame, in bytes, that is sent or taken. Must exceed the largest batch of the node; the same on every
    /// node. Default 8 MiB.
    #[must_use]
    pub fn frame_bytes_max(mut self, bytes: usize) -> Self {
        // The length of a frame travels as 32 bits.
        self.frame_bytes_max = bytes.min(u32::MAX as usize);
        self
    }

    /// What may wait for one peer, in encoded bytes, what is being written included; beyond it `send` drops.
    /// Default 16 MiB.
    #[must_use]
    pub fn peer_bytes_max(mut self, bytes: usize) -> Self {
        self.peer_bytes_max = bytes;
        self
    }

    /// A connection that has not shaken hands by then is closed, whoever called. Default 5 s.
    #[must_use]
    pub fn handshake_within(mut self, deadline: Duration) -> Self {
        self.handshake_within = deadline;
        self
    }

    /// A connection on which nothing was written for this long gets a ping. Default 1 s.
    #[must_use]
    pub fn ping_after(mut self, pause: Duration) -> Self {
        self.ping_after = pause.max(Duration::from_millis(1));
        self
    }

    /// A connection on which nothing was read for this long is given up: its peer has vanished. Should be three times the
    /// peers' [`Config::ping_after`], so that a lost segment is no alarm. Default 3 s.
    #[must_use]
    pub fn idle_after(mut self, pause: Duration) -> Self {
        self.idle_after = pause.max(Duration::from_millis(1));
        self
    }

    /// The pause before a connection is tried again: from `min`, doubled at each failure, to `max`; of each, a random half
    /// to whole is waited. Default 20 ms to 1 s.
    #[must_use]
    pub fn retry(mut self, min: Duration, max: Duration) -> Self {
        self.retry_min = min.max(Duration::from_millis(1));
        self.retry_max = max.max(self.retry_min);
        self
    }

    /// How many nodes may have an address; one more is not called, and a warning logged. A node that the newest book leaves
    /// out and that is still connected counts, too, but makes way for one that comes. This node itself, if a book names it,
    /// counts until it runs. Default 1024.
    #[must_use]
    pub fn peers_max(mut self, nodes: usize) -> Self {
        self.peers_max = nodes;
        self
    }

    /// How many nodes without a known address may be connected at a time. A node with a known address always has a place
    /// of its own. Default 64.
    #[must_use]
    pub fn inbound_max(mut self, connections: usize) -> Self {
        self.inbound_max = connections;
        self
    }

    /// How many callers may be connected that have not yet shown themselves; one more pushes out the oldest of them.
    /// Default 32.
    #[must_use]
    pub fn handshakes_max(mut self, connections: usize) -> Self {
        self.handshakes_max = connections.max(1);
        self
    }
}
