//! A transport of your own: nodes on one machine, over Unix sockets.
//!
//! Copy this file and put your medium in place of the sockets. What a transport must do is written down in nine numbered
//! clauses at [`synod::transport`]; the comments below name them. `main` runs the public suite, whose cases have the
//! same numbers: `cargo run --example custom_transport`.
//!
//! Each node listens on a socket file, calls every peer, and sends only on the connections that it made itself:
//!
//! ```text
//! caller                              called
//!   Identity ------------------------->
//!            <------------------------- Identity, Result<(), Refusal>   from Inbox::connect
//!   Envelope, Envelope, ... ---------->                                 to PeerInbox::deliver
//! ```

use async_trait::async_trait;
use futures::future::{self, BoxFuture, Either};
use futures::stream::{FuturesUnordered, StreamExt};
use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use synod::codec;
use synod::multi::{Identity, Refusal};
use synod::paxos::NodeId;
use synod::testing::{TransportHarness, TransportHarnessError, TransportReport, transport_suite};
use synod::timer::{Timer, TokioTimer};
use synod::transport::{Envelope, Inbox, PeerInbox, SendOutcome, Transport, TransportError};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

/// Everything is bounded: what waits for a peer, a frame, a handshake, the number of callers.
const WAITING_BYTES_MAX: usize = 4 << 20;
const FRAME_BYTES_MAX: usize = 8 << 20;
const HELLO_BYTES_MAX: usize = 64 << 10;
const CALLERS_MAX: usize = 64;
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(5);
const PAUSE_MIN: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// Carries envelopes between the nodes whose sockets lie in one directory.
struct UnixTransport {
    listens: PathBuf,
    peers: BTreeMap<NodeId, Arc<Outgoing>>,
    started: AtomicBool,
}

/// What waits for one peer, as one run of frames.
struct Outgoing {
    peer: NodeId,
    path: PathBuf,
    waiting: Mutex<Vec<u8>>,
    news: Notify,
}

impl UnixTransport {
    fn new(directory: &Path, node: NodeId, peers: impl IntoIterator<Item = NodeId>) -> Self {
        let path = |node: NodeId| directory.join(format!("{node}.socket"));
        let outgoing = |peer| {
            let (path, waiting) = (path(peer), Mutex::default());
            (peer, Arc::new(Outgoing { peer, path, waiting, news: Notify::new() }))
        };
        // Clause 3: nobody is known by the node's own name.
        let peers = peers.into_iter().filter(|peer| *peer != node).map(outgoing).collect();
        Self { listens: path(node), peers, started: AtomicBool::new(false) }
    }
}

#[async_trait]
impl Transport for UnixTransport {
    /// Clauses 1 and 3: queue or drop. Encode here, once, so that a task has only bytes to write.
    fn send(&self, to: NodeId, envelope: &Envelope) -> SendOutcome {
        let Some(outgoing) = self.peers.get(&to) else { return SendOutcome::Dropped };
        let mut waiting = outgoing.waiting();
        let start = waiting.len();
        if start + envelope.message.size() > WAITING_BYTES_MAX {
            return SendOutcome::Dropped;
        }
        if append_frame(&mut waiting, envelope).is_err() || waiting.len() > WAITING_BYTES_MAX {
            waiting.truncate(start);
            return SendOutcome::Dropped;
        }
        drop(waiting);
        outgoing.news.notify_one();
        SendOutcome::Queued
    }

    /// Clause 9: every connection lives in this future, so its drop ends them all.
    async fn run(self: Arc<Self>, inbox: Inbox) -> Result<(), TransportError> {
        if self.started.swap(true, Ordering::AcqRel) {
            return Err(TransportError::RunsAlready);
        }
        // A socket file outlives its process; if there is none, so much the better.
        let _ = std::fs::remove_file(&self.listens);
        let listener = UnixListener::bind(&self.listens).map_err(|source| TransportError::Listen {
            address: self.listens.display().to_string(),
            source,
        })?;
        let calls: FuturesUnordered<_> =
            self.peers.values().map(|outgoing| keep_calling(Arc::clone(outgoing), &inbox)).collect();
        let mut calls = calls.fuse();
        let mut callers: FuturesUnordered<BoxFuture<'_, ()>> = FuturesUnordered::new();
        loop {
            tokio::select! {
                biased;
                Some(()) = calls.next() => {}
                Some(()) = callers.next() => {}
                Ok((stream, _)) = listener.accept(), if callers.len() < CALLERS_MAX => {
                    // Trouble with one caller ends its connection and nothing else.
                    let inbox = &inbox;
                    callers.push(Box::pin(async move { drop(serve(stream, inbox).await) }));
                }
                () = sleep(PAUSE_MAX) => {}
            }
        }
    }
}

/// Clause 6: tries again for ever, after a pause that grows and is never the same on two nodes.
async fn keep_calling(outgoing: Arc<Outgoing>, inbox: &Inbox) {
    let mut pause = PAUSE_MIN;
    loop {
        let began = Instant::now();
        // However it ended: what waits may be lost, and would be old when the peer is back.
        drop(call(&outgoing, inbox).await);
        outgoing.waiting().clear();
        if began.elapsed() > PAUSE_MAX {
            pause = PAUSE_MIN;
        }
        let jitter = RandomState::new().hash_one(0) % 1_000;
        sleep(pause.mul_f64(0.5 + jitter as f64 / 2_000.0)).await;
        pause = (2 * pause).min(PAUSE_MAX);
    }
}

async fn call(outgoing: &Outgoing, inbox: &Inbox) -> io::Result<()> {
    let shake = async {
        let mut stream = UnixStream::connect(&outgoing.path).await?;
        say(&mut stream, inbox.local()).await?;
        let (identity, verdict) =
            hear::<(Identity, Result<(), Refusal>)>(&mut stream, HELLO_BYTES_MAX).await?;
        Ok::<_, io::Error>((stream, identity, verdict))
    };
    let (stream, identity, verdict) = timeout(HANDSHAKE_WITHIN, shake).await??;
    // Clause 4: the caller checks, too, before it says a word; and tells its node why it was refused.
    if identity.node() != outgoing.peer {
        return Err(malformed("another node answers at the peer's address"));
    }
    if let Err(refusal) = verdict {
        inbox.refused(outgoing.peer, refusal);
        return Ok(());
    }
    // The peer sends nothing on this connection, but its end is noticed by reading.
    let (mut read, mut write) = stream.into_split();
    let mut byte = [0; 1];
    let end = pin!(read.read(&mut byte));
    let writing = pin!(async {
        loop {
            // Clause 2: one writer, in order; all that waits goes out at once.
            let bytes = std::mem::take(&mut *outgoing.waiting());
            if bytes.is_empty() {
                outgoing.news.notified().await;
            } else if let Err(error) = write.write_all(&bytes).await {
                return error;
            }
        }
    });
    match future::select(end, writing).await {
        Either::Left((end, _)) => end.map(|_| ()),
        Either::Right((error, _)) => Err(error),
    }
}

async fn serve(stream: UnixStream, inbox: &Inbox) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    // A caller that does not come to the point is closed.
    let mut peer_inbox: PeerInbox = timeout(HANDSHAKE_WITHIN, admit(&mut stream, inbox)).await??;
    // Clause 5: this inbox belongs to this connection; there is no sender's name in a message to be believed.
    // Clause 6: the kernel tells when the other process is gone. Over a real network, add pings and a read timeout.
    loop {
        let envelope: Envelope = hear(&mut stream, FRAME_BYTES_MAX).await?;
        if envelope.message.ids().any(|id| !id.is_well_formed()) {
            return Err(malformed("a proposal id above the highest"));
        }
        // Clause 7: while this waits, nothing more is read from this connection.
        peer_inbox.deliver(envelope).await.map_err(io::Error::other)?;
    }
}

async fn admit(stream: &mut BufReader<UnixStream>, inbox: &Inbox) -> io::Result<PeerInbox> {
    let caller: Identity = hear(stream, HELLO_BYTES_MAX).await?;
    let admitted = inbox.connect(caller).await;
    let verdict = admitted.as_ref().map(|_| ()).map_err(Clone::clone);
    say(stream, &(inbox.local(), verdict)).await?;
    admitted.map_err(io::Error::other)
}

impl Outgoing {
    fn waiting(&self) -> MutexGuard<'_, Vec<u8>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn append_frame<T: serde::Serialize>(bytes: &mut Vec<u8>, value: &T) -> io::Result<()> {
    let start = bytes.len();
    bytes.extend_from_slice(&[0; 4]);
    codec::encode_into(bytes, value).map_err(io::Error::other)?;
    let length = bytes.len() - start - 4;
    let header = u32::try_from(length).ok().filter(|_| length <= FRAME_BYTES_MAX);
    let header = header.ok_or_else(|| malformed("longer than a frame"))?;
    bytes[start..start + 4].copy_from_slice(&header.to_be_bytes());
    Ok(())
}

async fn say<T: serde::Serialize>(stream: &mut (impl AsyncWrite + Unpin), value: &T) -> io::Result<()> {
    let mut bytes = Vec::new();
    append_frame(&mut bytes, value)?;
    stream.write_all(&bytes).await
}

/// Clause 8: the length is checked before anything is allocated, and the buffer grows only as bytes arrive.
async fn hear<T: serde::de::DeserializeOwned>(
    stream: &mut (impl AsyncRead + Unpin),
    bytes_max: usize,
) -> io::Result<T> {
    let length = stream.read_u32().await? as usize;
    if length > bytes_max {
        return Err(malformed("longer than a frame"));
    }
    let mut payload = Vec::new();
    stream.take(length as u64).read_to_end(&mut payload).await?;
    codec::decode(&payload).map_err(io::Error::other)
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Makes transports for the suite.
struct Sockets {
    directory: tempfile::TempDir,
    worlds: u32,
    nodes: Vec<NodeId>,
    timer: Arc<TokioTimer>,
}

impl Sockets {
    fn transport(&self, node: NodeId) -> Arc<dyn Transport> {
        let directory = self.directory.path().join(self.worlds.to_string());
        Arc::new(UnixTransport::new(&directory, node, self.nodes.iter().copied()))
    }
}

#[async_trait]
impl TransportHarness for Sockets {
    async fn connect(&mut self, nodes: &[NodeId]) -> Result<Vec<Arc<dyn Transport>>, TransportHarnessError> {
        self.worlds += 1;
        self.nodes = nodes.to_vec();
        std::fs::create_dir(self.directory.path().join(self.worlds.to_string()))?;
        Ok(nodes.iter().map(|node| self.transport(*node)).collect())
    }

    async fn restart(&mut self, node: NodeId) -> Result<Arc<dyn Transport>, TransportHarnessError> {
        Ok(self.transport(node))
    }

    fn timer(&self) -> Arc<dyn Timer> {
        Arc::clone(&self.timer) as Arc<dyn Timer>
    }

    fn peer_bytes_max(&self) -> usize {
        WAITING_BYTES_MAX
    }
}

/// Runs the public suite against this transport.
pub async fn conformance() -> io::Result<TransportReport> {
    let directory = tempfile::tempdir()?;
    let mut sockets = Sockets { directory, worlds: 0, nodes: Vec::new(), timer: Arc::default() };
    Ok(transport_suite(&mut sockets).await)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    let report = conformance().await?;
    println!("custom_transport: {report}");
    if report.passed() { Ok(()) } else { Err(io::Error::other("the transport breaks the contract")) }
}
