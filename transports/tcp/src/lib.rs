//! Synod's transport over TCP, with tokio.
//!
//! ```no_run
//! use synod::paxos::NodeId;
//! use synod_tcp::Tcp;
//!
//! # fn main() -> Result<(), synod::transport::TransportError> {
//! let peers = [(NodeId::new(2), "10.0.0.2:7000"), (NodeId::new(3), "10.0.0.3:7000")];
//! let tcp = Tcp::insecure("10.0.0.1:7000", peers)?;
//! # Ok(())
//! # }
//! ```
//!
//! # Not secure
//!
//! Nothing is encrypted and nobody is authenticated: whoever reaches the port can claim to be any node. Hence the name of
//! the constructor; mutual TLS comes later under a name of its own. Until then: only on a network where every host is
//! trusted. What *is* kept from harm is this process: garbage, bombs, floods and dead peers cost a bounded amount of memory
//! and a connection, never more.
//!
//! # On the wire
//!
//! This node calls each peer whose address it knows and sends on that connection; the peer calls back to answer. A caller
//! whose address is not known (an observer that joins) is told so in the handshake and gets its answers on the
//! connection that it made. Each connection begins with a magic, both identities and both verdicts; then come frames of
//! length, CRC-32 and MessagePack. All that is queued for a peer goes out in one `write`.
//!
//! Whom it calls follows the membership ([`Transport::learn_addresses`]): a node that a book names at `host:port` is called
//! there, and one that a later book leaves out is called no more. It may still call; then it is answered as one
//! whose address is not known. No more than [`Config::peers_max`] nodes are called.
//!
//! A peer that vanishes without a word is noticed within [`Config::idle_after`] (3 s): silent connections carry a
//! ping each second, both ways. What was queued for a peer is lost when an attempt to reach it fails.
//!
//! # Running
//!
//! [`Transport::run`] needs a tokio runtime with I/O and time. All connections live inside its future, on whatever
//! task polls it: dropping it closes every socket at once, the listening one included.

mod accept;
mod address;
mod callers;
mod config;
mod connection;
mod dial;
mod frame;
#[doc(hidden)]
pub mod fuzzing;
mod handshake;
#[doc(hidden)]
pub mod measuring;
mod peers;
mod queue;
mod stats;

pub use config::Config;
pub use stats::TcpStats;

use crate::connection::End;
use crate::peers::{Peers, lock};
use crate::queue::NotQueued;
use crate::stats::{Counters, count};
use async_trait::async_trait;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use synod::paxos::NodeId;
use synod::transport::{Envelope, Inbox, SendOutcome, Transport, TransportError};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep_until};

/// How long no caller is taken after the system would give none (it has no descriptors left, say).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A transport over plain TCP. See the [crate's documentation](crate).
#[derive(Debug)]
pub struct Tcp {
    shared: Arc<Shared>,
    local_addr: SocketAddr,
    /// Until `run` takes it.
    listener: Mutex<Option<std::net::TcpListener>>,
}

/// What all connections share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: Arc<Config>,
    pub(crate) peers: Arc<Peers>,
    pub(crate) counters: Counters,
}

impl Shared {
    /// Counts and tells the end of a connection that stood.
    pub(crate) fn ended(&self, peer: NodeId, end: &End) {
        match end {
            End::Malformed(error) => {
                count(&self.counters.malformed);
                tracing::warn!(from = %peer, %error, "closes a connection: malformed bytes");
            }
            End::Vanished => {
                count(&self.counters.vanished);
                tracing::warn!(from = %peer, "closes a connection: the peer vanished");
            }
            End::Closed | End::Io(_) | End::NodeGone | End::NotCalled | End::CutOff => {
                tracing::debug!(from = %peer, reason = %end, "a connection ended");
            }
        }
    }
}

impl Tcp {
    /// Listens on `listen` at once and, while it runs, calls `peers`, each by its `host:port`; with the default [`Config`].
    ///
    /// Callers are kept waiting until [`Transport::run`]. A peer that is this node itself is skipped.
    ///
    /// # Errors
    ///
    /// [`TransportError::Listen`] if the address cannot be had: the port is in use, say.
    pub fn insecure<A: Into<String>>(
        listen: impl ToSocketAddrs,
        peers: impl IntoIterator<Item = (NodeId, A)>,
    ) -> Result<Self, TransportError> {
        Self::insecure_with(listen, peers, Config::default())
    }

    /// [`Tcp::insecure`] with limits of your own.
    ///
    /// # Errors
    ///
    /// As [`Tcp::insecure`].
    pub fn insecure_with<A: Into<String>>(
        listen: impl ToSocketAddrs,
        peers: impl IntoIterator<Item = (NodeId, A)>,
        config: Config,
    ) -> Result<Self, TransportError> {
        let addresses: Vec<SocketAddr> =
            listen.to_socket_addrs().map_err(|source| cannot_listen(&[], source))?.collect();
        let bound = std::net::TcpListener::bind(addresses.as_slice()).and_then(|listener| {
            listener.set_nonblocking(true)?;
            let local_addr = listener.local_addr()?;
            Ok((listener, local_addr))
        });
        let (listener, local_addr) = bound.map_err(|source| cannot_listen(&addresses, source))?;
        let config = Arc::new(config);
        let peers_known = Arc::new(Peers::new(Arc::clone(&config)));
        let tcp = Self {
            shared: Arc::new(Shared { config, peers: peers_known, counters: Counters::default() }),
            local_addr,
            listener: Mutex::new(Some(listener)),
        };
        for (node, address) in peers {
            tcp.add_peer(node, address);
        }
        Ok(tcp)
    }

    /// Where it listens: with the real port if it was asked for port 0.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Calls `node` at `address` from now on; of a node that is known already, changes the address for the next call. So does
    /// a later book ([`Transport::learn_addresses`]) that names it. Beyond [`Config::peers_max`] it is not called.
    pub fn add_peer(&self, node: NodeId, address: impl Into<String>) {
        if !self.shared.peers.set_address(node, &address.into()) {
            tracing::warn!(to = %node, peers_max = self.shared.config.peers_max, "too many peers: one is not called");
        }
    }

    /// What went wrong so far.
    pub fn stats(&self) -> TcpStats {
        self.shared.counters.snapshot()
    }
}

fn cannot_listen(addresses: &[SocketAddr], source: io::Error) -> TransportError {
    let address = addresses.iter().map(SocketAddr::to_string).collect::<Vec<_>>().join(", ");
    TransportError::Listen { address, source }
}

#[async_trait]
impl Transport for Tcp {
    fn send(&self, to: NodeId, envelope: &Envelope) -> SendOutcome {
        match self.shared.peers.push(to, envelope) {
            Some(Ok(())) => return SendOutcome::Queued,
            Some(Err(NotQueued::TooLong)) => {
                tracing::warn!(%to, bytes = envelope.message.size(), "drops a message: longer than a frame");
            }
            Some(Err(NotQueued::Full | NotQueued::Closed)) | None => {}
        }
        count(&self.shared.counters.dropped);
        SendOutcome::Dropped
    }

    fn learn_addresses(&self, book: &BTreeMap<NodeId, String>) {
        self.shared.peers.learn(book);
    }

    async fn run(self: Arc<Self>, inbox: Inbox) -> Result<(), TransportError> {
        let listener = lock(&self.listener).take().ok_or(TransportError::RunsAlready)?;
        tokio::runtime::Handle::try_current().map_err(|source| TransportError::Other {
            what: "TCP needs a tokio runtime".to_owned(),
            source: Box::new(source),
        })?;
        let listener =
            TcpListener::from_std(listener).map_err(|source| cannot_listen(&[self.local_addr], source))?;
        let local = inbox.local().node();
        self.shared.peers.set_local(local);
        tracing::debug!(node = %local, address = %self.local_addr, "listens");
        let mut connections: FuturesUnordered<BoxFuture<'static, ()>> = FuturesUnordered::new();
        let mut pause_until = Instant::now();
        loop {
            tokio::select! {
                biased;
                Some(()) = connections.next() => {}
                to_call = self.shared.peers.to_call() => {
                    for calling in to_call {
                        let shared = Arc::clone(&self.shared);
                        connections.push(Box::pin(dial::keep_calling(shared, calling, inbox.clone())));
                    }
                }
                accepted = accept(&listener, pause_until) => match accepted {
                    Ok((stream, address)) => {
                        let shared = Arc::clone(&self.shared);
                        connections.push(Box::pin(accept::answer(shared, stream, address, inbox.clone())));
                    }
                    Err(error) => {
                        tracing::warn!(node = %local, %error, "cannot take a caller");
                        pause_until = Instant::now() + ACCEPT_PAUSE;
                    }
                },
            }
        }
    }
}

async fn accept(listener: &TcpListener, pause_until: Instant) -> io::Result<(TcpStream, SocketAddr)> {
    if pause_until > Instant::now() {
        sleep_until(pause_until).await;
    }
    listener.accept().await
}
