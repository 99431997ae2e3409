//! A connection after its handshake: reads and delivers, writes what is queued, watches for silence.
//!
//! Both halves run in one future, side by side; the first to end ends both. A half that has nothing to carry still pings
//! and still expects pings, so each end notices within [`Config::idle_after`] that the other has vanished.
//! Invariant: dropping the future closes the socket and drops the [`PeerInbox`].

use crate::config::Config;
use crate::frame::{self, Frame, FrameError, Frames};
use crate::queue::Claim;
use futures::future::{self, Either};
use std::pin::pin;
use std::sync::Arc;
use synod::transport::PeerInbox;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::time::{Instant, sleep_until};

/// After as many bytes without a pause, a reader lets the others go on.
const TURN_BYTES: usize = 256 * 1024;

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum End {
    #[error("the peer closed it")]
    Closed,
    #[error("it failed")]
    Io(#[from] std::io::Error),
    #[error("the peer vanished")]
    Vanished,
    #[error("the peer sent bytes that are malformed")]
    Malformed(#[from] FrameError),
    #[error("the node takes no more messages")]
    NodeGone,
    #[error("the peer is called no more and should call again")]
    NotCalled,
    #[error("the peer left, and its place was needed")]
    CutOff,
}

/// A connection and what it carries: messages in if there is an inbox, messages out if there is a claim.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) stream: TcpStream,
    pub(crate) inbox: Option<PeerInbox>,
    pub(crate) claim: Option<Claim>,
    pub(crate) config: Arc<Config>,
}

impl Connection {
    /// Carries messages until the connection ends.
    pub(crate) async fn carry(self) -> End {
        let Self { mut stream, inbox, claim, config } = self;
        let (reader, writer) = stream.split();
        let read = pin!(read(reader, inbox, &config));
        let write = pin!(write(writer, claim, &config));
        match future::select(read, write).await {
            Either::Left((ended, _)) | Either::Right((ended, _)) => ended.err().unwrap_or(End::Closed),
        }
    }
}

async fn read(mut stream: ReadHalf<'_>, mut inbox: Option<PeerInbox>, config: &Config) -> Result<(), End> {
    let mut frames = Frames::new(config.frame_bytes_max);
    let mut turn = 0;
    let mut heard = Instant::now();
    let mut silence = pin!(sleep_until(heard + config.idle_after));
    loop {
        let count = tokio::select! {
            biased;
            count = stream.read_buf(frames.room()) => count?,
            () = silence.as_mut() => {
                // The timer is set again only here, not at each read.
                if heard.elapsed() >= config.idle_after {
                    return Err(End::Vanished);
                }
                silence.as_mut().reset(heard + config.idle_after);
                continue;
            }
        };
        if count == 0 {
            return Ok(());
        }
        while let Some(frame) = frames.next()? {
            match (frame, &mut inbox) {
                (Frame::Ping, _) => {}
                (Frame::Envelope(envelope), Some(inbox)) => {
                    inbox.deliver(envelope).await.map_err(|_| End::NodeGone)?;
                }
                (Frame::Envelope(_), None) => return Err(FrameError::Unexpected.into()),
            }
        }
        // After delivery, which may have waited: that time was this node's silence, not the peer's.
        heard = Instant::now();
        turn += count;
        if turn >= TURN_BYTES {
            turn = 0;
            tokio::task::yield_now().await;
        }
    }
}

async fn write(mut stream: WriteHalf<'_>, mut claim: Option<Claim>, config: &Config) -> Result<(), End> {
    let mut bytes = Vec::new();
    let mut spoke = Instant::now();
    let mut pause = pin!(sleep_until(spoke + config.ping_after));
    loop {
        bytes.clear();
        tokio::select! {
            biased;
            stands = next(&claim, &mut bytes) => {
                if !stands {
                    // Another connection sends to this peer now; this one may still deliver.
                    claim = None;
                    continue;
                }
            }
            () = pause.as_mut() => {
                if spoke.elapsed() < config.ping_after {
                    pause.as_mut().reset(spoke + config.ping_after);
                    continue;
                }
                pause.as_mut().reset(Instant::now() + config.ping_after);
                bytes.extend_from_slice(&frame::header(&[]));
            }
        }
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let count = stream.write(rest).await?;
            if count == 0 {
                return Ok(());
            }
            rest = rest.get(count..).unwrap_or_default();
            if let Some(claim) = &claim {
                claim.written(count);
            }
        }
        spoke = Instant::now();
    }
}

async fn next(claim: &Option<Claim>, bytes: &mut Vec<u8>) -> bool {
    match claim {
        Some(claim) => claim.take(bytes).await,
        None => future::pending().await,
    }
}
