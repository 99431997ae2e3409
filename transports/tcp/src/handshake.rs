//! The handshake: both ends show themselves, both judge, both say why not.
//!
//! ```text
//! caller                                 called
//!   magic, Hello ------------------------>           the first byte that is no magic ends it
//!                <------------------------ magic, Hello
//!   Verdict      ------------------------>           a caller that met the wrong node hangs up instead
//!                <------------------------ Verdict   after `Inbox::connect`
//! ```
//!
//! The called node asks its inbox, since the caller will deliver. The caller asks its own only if the called node will
//! answer on this same connection, because it knows no address of the caller ([`Hello::answers_here`]).
//! Invariant: at most [`HELLO_BYTES_MAX`] are held for a peer that has not been admitted.

use crate::callers::Caller;
use crate::frame::{self, FrameError, HEADER_BYTES, Header};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use synod::codec;
use synod::multi::{Identity, Refusal};
use synod::paxos::NodeId;
use synod::transport::{Inbox, PeerInbox};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How every connection begins; the last byte is the version of this handshake.
pub(crate) const MAGIC: [u8; 8] = *b"synod\0\0\x01";

/// The longest frame of a handshake. An identity of [`Identity::INCARNATIONS_MAX`] starts takes 20 KiB.
const HELLO_BYTES_MAX: usize = 64 * 1024;

/// What each end shows.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Hello {
    /// Who it is.
    pub(crate) identity: Identity,
    /// From the called node: it has no address of the caller and sends to it on this connection.
    pub(crate) answers_here: bool,
}

/// What each end thinks of the other.
type Verdict = Result<(), Refusal>;

/// Why a handshake came to nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandshakeError {
    #[error("the connection failed")]
    Io(#[from] std::io::Error),
    #[error("the handshake took too long")]
    Late,
    #[error("the peer does not speak this protocol")]
    NotOurs,
    #[error("a part of the handshake is malformed")]
    Frame(#[from] FrameError),
    #[error("node {found} answered in place of node {expected}")]
    WrongNode { expected: NodeId, found: NodeId },
    #[error("this node refuses the peer")]
    Refuses(#[source] Refusal),
    #[error("the peer refuses this node")]
    RefusedBy { peer: NodeId, refusal: Refusal },
}

/// Shakes hands with whoever answers the call to `expected`. Gives the inbox of what the peer will send on this connection,
/// if it will.
pub(crate) async fn call(
    stream: &mut TcpStream,
    expected: NodeId,
    inbox: &Inbox,
) -> Result<Option<PeerInbox>, HandshakeError> {
    let hello = Hello { identity: inbox.local().clone(), answers_here: false };
    show(stream, &hello).await?;
    let hello = look(stream).await?;
    let found = hello.identity.node();
    if found != expected {
        return Err(HandshakeError::WrongNode { expected, found });
    }
    let judged = match known_to_be_foreign(inbox.local(), &hello.identity) {
        Some(refusal) => Err(refusal),
        None if hello.answers_here => inbox.connect(hello.identity).await.map(Some),
        None => Ok(None),
    };
    say(stream, &judged.as_ref().map(|_| ()).map_err(Clone::clone)).await?;
    let admitted = judged.map_err(HandshakeError::Refuses)?;
    hear::<Verdict>(stream)
        .await?
        .map_err(|refusal| HandshakeError::RefusedBy { peer: expected, refusal })?;
    Ok(admitted)
}

/// Reads what a caller shows.
pub(crate) async fn meet(stream: &mut TcpStream) -> Result<Hello, HandshakeError> {
    look(stream).await
}

/// Goes on after [`meet`]: shows this node, hears the caller's verdict, gives its own.
pub(crate) async fn admit(
    stream: &mut TcpStream,
    identity: Identity,
    answers_here: bool,
    caller: &Caller,
    inbox: &Inbox,
) -> Result<PeerInbox, HandshakeError> {
    let peer = identity.node();
    let foreign = known_to_be_foreign(inbox.local(), &identity);
    show(stream, &Hello { identity: inbox.local().clone(), answers_here }).await?;
    if let Err(refusal) = hear::<Verdict>(stream).await? {
        // What a node of another cluster says of this one is no news of it.
        let refusal = foreign.unwrap_or(refusal);
        return Err(HandshakeError::RefusedBy { peer, refusal });
    }
    // Only now is it no longer the caller's turn; from here on the inbox bounds how many there are.
    caller.shown();
    let judged = if caller.full(peer) { Err(Refusal::Unavailable) } else { inbox.connect(identity).await };
    say(stream, &judged.as_ref().map(|_| ()).map_err(Clone::clone)).await?;
    if judged.is_err() {
        // So that the answer arrives before the end does.
        stream.shutdown().await?;
    }
    judged.map_err(HandshakeError::Refuses)
}

fn known_to_be_foreign(local: &Identity, peer: &Identity) -> Option<Refusal> {
    if local.owner.cluster != peer.owner.cluster || local.owner.epoch != peer.owner.epoch {
        return Some(Refusal::WrongCluster);
    }
    local.protocol.common(peer.protocol).is_none().then_some(Refusal::NoCommonProtocol)
}

async fn show(stream: &mut TcpStream, hello: &Hello) -> Result<(), HandshakeError> {
    stream.write_all(&MAGIC).await?;
    say(stream, hello).await
}

async fn look(stream: &mut TcpStream) -> Result<Hello, HandshakeError> {
    // Byte by byte: a stranger's first wrong byte is enough.
    for expected in MAGIC {
        if stream.read_u8().await? != expected {
            return Err(HandshakeError::NotOurs);
        }
    }
    let hello: Hello = hear(stream).await?;
    if hello.identity.incarnations.len() > Identity::INCARNATIONS_MAX {
        return Err(HandshakeError::NotOurs);
    }
    Ok(hello)
}

async fn say<T: Serialize>(stream: &mut TcpStream, value: &T) -> Result<(), HandshakeError> {
    let payload = codec::encode(value).map_err(FrameError::Codec)?;
    stream.write_all(&[&frame::header(&payload), payload.as_slice()].concat()).await?;
    Ok(())
}

async fn hear<T: DeserializeOwned>(stream: &mut TcpStream) -> Result<T, HandshakeError> {
    let mut bytes = [0; HEADER_BYTES];
    stream.read_exact(&mut bytes).await?;
    let header = Header::read(&bytes, HELLO_BYTES_MAX)?;
    // Grows as bytes arrive.
    let mut payload = Vec::new();
    stream.take(header.length as u64).read_to_end(&mut payload).await?;
    header.check(&payload)?;
    Ok(codec::decode(&payload).map_err(FrameError::Codec)?)
}
