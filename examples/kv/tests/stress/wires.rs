//! Wires between nodes that can be as bad as real ones: a proxy in front of each node, on loopback.
//!
//! Every node reaches every other one through the proxy in front of it, which learns from the handshake who calls. What
//! loss is to TCP: bytes that come late, in stalls, or not at all and no end told, and connections that are reset.
//! A direction that has swallowed bytes stays dead until its connection ends: there are no holes in a stream.

use crate::support::{Node, nodes};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use synod::codec;
use synod::multi::{Identity, Jitter};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

/// What is kept of what a node sent to another.
const RECORD_BYTES_MAX: usize = 64 << 10;

/// What happens to bytes on their way; each chance is in ten thousand chunks as they are read.
#[derive(Clone, Copy, Default)]
pub(crate) struct Weather {
    /// Up to this long, each chunk is kept.
    pub(crate) delay: Duration,
    pub(crate) stalls: u64,
    /// Up to this long, a stall lasts.
    pub(crate) stall: Duration,
    pub(crate) resets: u64,
    /// One bit is turned.
    pub(crate) damages: u64,
}

/// How often what happened.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) chunks: AtomicU64,
    pub(crate) stalls: AtomicU64,
    pub(crate) resets: AtomicU64,
    pub(crate) damages: AtomicU64,
}

#[derive(Default)]
struct State {
    weather: Weather,
    /// From whom to whom nothing comes through.
    cut: BTreeSet<(u64, u64)>,
    /// Calls to these are taken, and nobody ever answers.
    mute: BTreeSet<u64>,
    /// What a connection from one node to another carried: of all, the one that carried most.
    recorded: BTreeMap<(u64, u64), Vec<u8>>,
    /// How long it took until a node gave up a connection whose other end had vanished.
    noticed: Vec<Duration>,
}

pub(crate) struct Wires {
    state: Mutex<State>,
    pub(crate) counts: Counts,
    seed: u64,
    connections: AtomicU64,
}

impl Wires {
    /// Three nodes that are not started yet, and the wires between them. The threads end with the process.
    pub(crate) fn between_nodes(seed: u64) -> (Arc<Self>, Vec<Node>) {
        let (state, counts) = (Mutex::default(), Counts::default());
        let wires = Arc::new(Self { state, counts, seed, connections: AtomicU64::new(0) });
        let mut nodes = nodes(3);
        let mut listeners = Vec::new();
        for node in &nodes {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            listener.set_nonblocking(true).unwrap();
            listeners.push((node.id, node.listen, listener));
        }
        let ports: Vec<_> =
            listeners.iter().map(|(id, _, proxy)| (*id, proxy.local_addr().unwrap().port())).collect();
        nodes.iter_mut().for_each(|node| node.peers.clone_from(&ports));
        let shared = Arc::clone(&wires);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let proxies = listeners.into_iter().map(|(id, port, listener)| {
                    let listener = TcpListener::from_std(listener).unwrap();
                    Arc::clone(&shared).stand_before(id, port, listener)
                });
                futures::future::join_all(proxies).await
            })
        });
        (wires, nodes)
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.lock().unwrap())
    }

    pub(crate) fn weather(&self, weather: Weather) {
        self.change(|state| state.weather = weather);
    }

    /// Nothing comes through from `from` to `to` any more.
    pub(crate) fn cut(&self, from: u64, to: u64) {
        self.change(|state| state.cut.insert((from, to)));
    }

    /// Calls to `to` are taken from now on, and never answered.
    pub(crate) fn mute(&self, to: u64) {
        self.change(|state| state.mute.insert(to));
    }

    pub(crate) fn heal(&self) {
        self.change(|state| {
            state.cut.clear();
            state.mute.clear();
            state.weather = Weather::default();
        });
    }

    pub(crate) fn recorded(&self, from: u64, to: u64) -> Vec<u8> {
        self.change(|state| state.recorded.get(&(from, to)).cloned().unwrap_or_default())
    }

    pub(crate) fn noticed(&self) -> Vec<Duration> {
        self.change(|state| state.noticed.clone())
    }

    async fn stand_before(self: Arc<Self>, to: u64, port: u16, listener: TcpListener) {
        while let Ok((near, _)) = listener.accept().await {
            let shared = Arc::clone(&self);
            tokio::spawn(async move {
                // A connection that fails is what this is all about.
                let _ = shared.carry(near, to, port).await;
            });
        }
    }

    async fn carry(self: Arc<Self>, mut near: TcpStream, to: u64, port: u16) -> io::Result<()> {
        let hello = hello(&mut near).await?;
        let caller: Result<(Identity, bool), _> = codec::decode(&hello[20..]);
        let from = caller.map_err(|_| io::ErrorKind::InvalidData)?.0.node().get();
        if self.change(|state| state.mute.contains(&to)) {
            let mut sink = [0; 4096];
            while near.read(&mut sink).await? > 0 {}
            return Ok(());
        }
        let mut far = TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], port))).await?;
        near.set_nodelay(true)?;
        far.set_nodelay(true)?;
        if !self.change(|state| state.cut.contains(&(from, to))) {
            far.write_all(&hello).await?;
        }
        let ((near_read, near_write), (far_read, far_write)) = (near.into_split(), far.into_split());
        let there = self.pump((from, to), near_read, &far_write, Some(hello));
        let back = self.pump((to, from), far_read, &near_write, None);
        let (there, back) = (std::pin::pin!(there), std::pin::pin!(back));
        match futures::future::select(there, back).await {
            // One end gave up a dead wire: the other has to notice by itself.
            futures::future::Either::Left((Ok(End::Noticed), back)) => _ = back.await?,
            futures::future::Either::Right((Ok(End::Noticed), there)) => _ = there.await?,
            futures::future::Either::Left((Ok(End::Reset), _))
            | futures::future::Either::Right((Ok(End::Reset), _)) => {
                near_write.as_ref().set_zero_linger()?;
                far_write.as_ref().set_zero_linger()?;
            }
            _ => {}
        }
        Ok(())
    }

    async fn pump(
        &self,
        link: (u64, u64),
        mut read: OwnedReadHalf,
        write: &OwnedWriteHalf,
        mut record: Option<Vec<u8>>,
    ) -> io::Result<End> {
        let number = self.connections.fetch_add(1, Relaxed);
        let mut random = Jitter::new(self.seed ^ number.wrapping_mul(0x9e37_79b9));
        let (mut bytes, mut dead) = ([0; 16 * 1024], None);
        loop {
            let count = match read.read(&mut bytes).await {
                Ok(count @ 1..) => count,
                _ if dead.is_some() => {
                    let since: Instant = dead.unwrap_or_else(Instant::now);
                    self.change(|state| state.noticed.push(since.elapsed()));
                    return Ok(End::Noticed);
                }
                ended => return ended.map(|_| End::Closed),
            };
            let chunk = &mut bytes[..count];
            let (cut, weather) = self.change(|state| (state.cut.contains(&link), state.weather));
            if cut || dead.is_some() {
                dead.get_or_insert_with(Instant::now);
                continue;
            }
            self.counts.chunks.fetch_add(1, Relaxed);
            let mut happens = |chance, counter: &AtomicU64| {
                let happens = random.draw() % 10_000 < chance;
                counter.fetch_add(u64::from(happens), Relaxed);
                happens
            };
            if happens(weather.resets, &self.counts.resets) {
                return Ok(End::Reset);
            }
            if happens(weather.damages, &self.counts.damages) {
                let at = random.draw() as usize % count;
                chunk[at] ^= 1 << (random.draw() % 8);
            } else if happens(weather.stalls, &self.counts.stalls) {
                tokio::time::sleep(random.between(Duration::ZERO, weather.stall)).await;
            }
            if !weather.delay.is_zero() {
                tokio::time::sleep(random.between(Duration::ZERO, weather.delay)).await;
            }
            if let Some(record) = &mut record {
                self.keep(link, record, chunk);
            }
            write_all(write, chunk).await?;
        }
    }

    fn keep(&self, link: (u64, u64), record: &mut Vec<u8>, chunk: &[u8]) {
        let room = RECORD_BYTES_MAX.saturating_sub(record.len());
        record.extend_from_slice(&chunk[..chunk.len().min(room)]);
        self.change(|state| {
            let kept = state.recorded.entry(link).or_default();
            if kept.len() < record.len() {
                kept.clone_from(record);
            }
        });
    }
}

/// How one direction of a connection ended.
enum End {
    Closed,
    Reset,
    Noticed,
}

async fn write_all(write: &OwnedWriteHalf, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        write.writable().await?;
        match write.try_write(bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// What a caller begins with: a magic of 8 bytes, and a frame with its identity behind a header of 12.
async fn hello(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; 20];
    stream.read_exact(&mut bytes).await?;
    let length = u32::from_be_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]) as usize;
    bytes.resize(20 + length.min(64 << 10), 0);
    stream.read_exact(&mut bytes[20..]).await?;
    Ok(bytes)
}
