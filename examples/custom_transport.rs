//! A transport of your own: nodes on one machine, over Unix sockets.
//!
//! Copy this file and put your medium in place of the sockets. What a transport must do is written down in ten numbered
//! clauses at [`synod::transport`]; the comments below name them. `main` runs the public suite, whose cases have the
//! same numbers: `cargo run --example custom_transport`.
//!
//! Each node listens on a socket file, calls every peer that it knows, and sends only on the connections that it made itself:
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
use std::os::unix::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};
use synod::codec;
use synod::multi::{Identity, Refusal};
use synod::paxos::NodeId;
use synod::testing::{TransportHarness, TransportHarnessError, TransportReport, transport_suite};
use synod::timer::{Timer, TokioTimer};
use synod::transport::{Envelope, Inbox, PeerInbox, SendOutcome, Transport, TransportError};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};

/// Everything is bounded: what waits for a peer, a frame, a handshake, the number of callers and of peers.
const WAITING_BYTES_MAX: usize = 4 << 20;
const FRAME_BYTES_MAX: usize = 8 << 20;
const HELLO_BYTES_MAX: usize = 64 << 10;
const CALLERS_MAX: usize = 64;
const PEERS_MAX: usize = 64;
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(5);
const PAUSE_MIN: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// Carries envelopes between nodes, each of which listens on a socket file.
struct UnixTransport {
    node: NodeId,
    listens: PathBuf,
    peers: RwLock<BTreeMap<NodeId, Arc<Outgoing>>>,
    /// There may be a peer that nobody calls yet.
    uncalled: Notify,
    started: AtomicBool,
}

/// The way to one peer, and what waits for it as one run of frames.
struct Outgoing {
    peer: NodeId,
    /// Where it is called; nowhere any more, once a book has left it out.
    path: watch::Sender<Option<PathBuf>>,
    in_book: AtomicBool,
    called: AtomicBool,
    waiting: Mutex<Vec<u8>>,
    news: Notify,
}

impl UnixTransport {
    fn new(node: NodeId, listens: PathBuf, peers: impl IntoIterator<Item = (NodeId, PathBuf)>) -> Self {
        // Clause 3: nobody is known by the node's own name.
        let others = peers.into_iter().filter(|(peer, _)| *peer != node).take(PEERS_MAX);
        let peers = others.map(|(peer, path)| (peer, Arc::new(Outgoing::new(peer, path)))).collect();
        // The permit that the first look of `run` takes.
        let uncalled = Notify::new();
        uncalled.notify_one();
        Self { node, listens, peers: RwLock::new(peers), uncalled, started: AtomicBool::new(false) }
    }

    /// Whom nobody calls yet; whoever asks must.
    fn to_call(&self) -> Vec<Arc<Outgoing>> {
        let peers = self.peers.read().unwrap_or_else(PoisonError::into_inner);
        let uncalled = peers.values().filter(|outgoing| !outgoing.called.swap(true, Ordering::AcqRel));
        uncalled.map(Arc::clone).collect()
    }

    /// Where to call a peer. One that is called nowhere any more is forgotten, and what waits for it with it.
    fn path_or_forget(&self, outgoing: &Outgoing) -> Option<PathBuf> {
        // Under the lock, so that a book that brings it back finds it either called or forgotten.
        let mut peers = self.peers.write().unwrap_or_else(PoisonError::into_inner);
        let path = outgoing.path.borrow().clone();
        if path.is_none() {
            peers.remove(&outgoing.peer);
        }
        path
    }

    /// Clause 6: tries again after a pause that grows and is never the same on two nodes.
    async fn keep_calling(&self, outgoing: Arc<Outgoing>, inbox: &Inbox) {
        let mut moved = outgoing.path.subscribe();
        let mut pause = PAUSE_MIN;
        loop {
            moved.mark_unchanged();
            let Some(path) = self.path_or_forget(&outgoing) else { return };
            let began = Instant::now();
            // However it ended: what waits may be lost, and would be old when the peer is back.
            drop(call(&outgoing, &path, inbox).await);
            outgoing.waiting().clear();
            if began.elapsed() > PAUSE_MAX {
                pause = PAUSE_MIN;
            }
            let jitter = RandomState::new().hash_one(0) % 1_000;
            // Clause 10: a pause is cut short if the peer has moved or left, the connection before it is not.
            tokio::select! {
                () = sleep(pause.mul_f64(0.5 + jitter as f64 / 2_000.0)) => pause = (2 * pause).min(PAUSE_MAX),
                _ = moved.changed() => pause = PAUSE_MIN,
            }
        }
    }
}

#[async_trait]
impl Transport for UnixTransport {
    /// Clauses 1 and 3: queue or drop. Encode here, once, so that a task has only bytes to write.
    fn send(&self, to: NodeId, envelope: &Envelope) -> SendOutcome {
        let peers = self.peers.read().unwrap_or_else(PoisonError::into_inner);
        let Some(outgoing) = peers.get(&to) else { return SendOutcome::Dropped };
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

    /// Clause 10: whom the book names is called where it says; whom it leaves out is not called again.
    fn learn_addresses(&self, book: &BTreeMap<NodeId, String>) {
        let mut peers = self.peers.write().unwrap_or_else(PoisonError::into_inner);
        for outgoing in peers.values().filter(|outgoing| !book.contains_key(&outgoing.peer)) {
            if outgoing.in_book.swap(false, Ordering::AcqRel) {
                outgoing.path.send_replace(None);
            }
        }
        for (node, address) in book.iter().filter(|(node, _)| **node != self.node) {
            if let Some(outgoing) = peers.get(node) {
                outgoing.in_book.store(true, Ordering::Release);
            }
            let Some(path) = parse(address) else { continue };
            if !peers.contains_key(node) && peers.len() >= PEERS_MAX {
                continue;
            }
            let outgoing = peers.entry(*node).or_insert_with(|| Arc::new(Outgoing::new(*node, path.clone())));
            outgoing.in_book.store(true, Ordering::Release);
            outgoing.path.send_if_modified(|known| known.replace(path.clone()) != Some(path));
        }
        self.uncalled.notify_one();
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
        let mut calls = FuturesUnordered::new();
        let mut callers: FuturesUnordered<BoxFuture<'_, ()>> = FuturesUnordered::new();
        loop {
            tokio::select! {
                biased;
                Some(()) = calls.next() => {}
                Some(()) = callers.next() => {}
                () = self.uncalled.notified() => {
                    calls.extend(self.to_call().into_iter().map(|outgoing| self.keep_calling(outgoing, &inbox)));
                }
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

async fn call(outgoing: &Outgoing, path: &Path, inbox: &Inbox) -> io::Result<()> {
    let shake = async {
        let mut stream = UnixStream::connect(path).await?;
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
    fn new(peer: NodeId, path: PathBuf) -> Self {
        let (path, _) = watch::channel(Some(path));
        let (in_book, called) = (AtomicBool::new(false), AtomicBool::new(false));
        Self { peer, path, in_book, called, waiting: Mutex::default(), news: Notify::new() }
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<u8>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An address in the notation of this transport: the absolute path of a socket file.
fn parse(address: &str) -> Option<PathBuf> {
    let path = PathBuf::from(address);
    (path.is_absolute() && SocketAddr::from_pathname(&path).is_ok()).then_some(path)
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
    fn path(&self, node: NodeId) -> PathBuf {
        self.directory.path().join(format!("{}/{node}.socket", self.worlds))
    }

    /// Some peers are given from the start, as for the first contact; a book names all.
    fn transport(&self, node: NodeId) -> Arc<dyn Transport> {
        let before = self.nodes.iter().filter(|peer| **peer < node);
        let transport =
            UnixTransport::new(node, self.path(node), before.map(|peer| (*peer, self.path(*peer))));
        transport.learn_addresses(&self.nodes.iter().map(|peer| (*peer, self.address(*peer))).collect());
        Arc::new(transport)
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

    fn address(&self, node: NodeId) -> String {
        self.path(node).display().to_string()
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
