//! Answering callers: each has until the deadline to show itself, and then a place of its own.

use crate::Shared;
use crate::callers::Caller;
use crate::connection::{Connection, End};
use crate::handshake::{self, HandshakeError};
use crate::stats::count;
use futures::future::{AbortHandle, Abortable};
use std::net::SocketAddr;
use std::sync::Arc;
use synod::paxos::NodeId;
use synod::transport::Inbox;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Serves one caller until its connection ends, or a newer one takes its place.
pub(crate) async fn answer(shared: Arc<Shared>, stream: TcpStream, address: SocketAddr, inbox: Inbox) {
    let (ends, registration) = AbortHandle::new_pair();
    let (caller, crowded) = Caller::enter(&shared.peers, ends);
    if crowded {
        count(&shared.counters.crowded_out);
        tracing::warn!(node = %inbox.local().node(), "too many callers at a time: the oldest is pushed out");
    }
    let served = Abortable::new(serve(&shared, stream, caller, &inbox), registration);
    match served.await {
        Ok(Ok((peer, end))) => shared.ended(peer, &end),
        Ok(Err(error)) => failed(&shared, address, &inbox, error),
        // Superseded or pushed out.
        Err(_) => {}
    }
}

async fn serve(
    shared: &Shared,
    mut stream: TcpStream,
    mut caller: Caller,
    inbox: &Inbox,
) -> Result<(NodeId, End), HandshakeError> {
    stream.set_nodelay(true)?;
    let shake = async {
        let hello = handshake::meet(&mut stream).await?;
        let peer = hello.identity.node();
        let answers_here = !shared.peers.has_address(peer);
        let admitted = handshake::admit(&mut stream, hello.identity, answers_here, &caller, inbox).await?;
        Ok::<_, HandshakeError>((peer, answers_here, admitted))
    };
    let (peer, answers_here, admitted) =
        timeout(shared.config.handshake_within, shake).await.map_err(|_| HandshakeError::Late)??;
    caller.stands(peer);
    if !answers_here && !shared.peers.has_address(peer) {
        // It lost its address meanwhile, and was told that it would be called: let it call again.
        return Ok((peer, End::NotCalled));
    }
    let claim = if answers_here { caller.claim(peer) } else { None };
    tracing::debug!(node = %inbox.local().node(), from = %peer, answers_here, "takes a peer's call");
    let connection = Connection { stream, inbox: Some(admitted), claim, config: Arc::clone(&shared.config) };
    let end = connection.carry().await;
    drop(caller);
    Ok((peer, end))
}

fn failed(shared: &Shared, address: SocketAddr, inbox: &Inbox, error: HandshakeError) {
    let node = inbox.local().node();
    match error {
        HandshakeError::Refuses(refusal) => {
            count(&shared.counters.refused);
            tracing::warn!(%node, %address, reason = %refusal, "this node refuses a caller");
        }
        HandshakeError::RefusedBy { peer, refusal } => {
            count(&shared.counters.refused_by_peer);
            tracing::warn!(%node, from = %peer, reason = %refusal, "a caller refuses this node");
            inbox.refused(peer, refusal);
        }
        error @ (HandshakeError::NotOurs | HandshakeError::Frame(_)) => {
            count(&shared.counters.malformed);
            tracing::warn!(%node, %address, %error, "a caller is no node");
        }
        error @ (HandshakeError::Io(_) | HandshakeError::Late | HandshakeError::WrongNode { .. }) => {
            count(&shared.counters.unfinished);
            tracing::debug!(%node, %address, %error, "a caller did not finish its handshake");
        }
    }
}
