//! A node's transport: the memory transport, which is watched, and falls silent when the power goes.

use crate::trace::Trace;
use async_trait::async_trait;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use synod::NodeId;
use synod::transport::{Envelope, Inbox, SendOutcome, Transport, TransportError};
use synod_memory::MemoryTransport;

#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) from: NodeId,
    pub(crate) inner: Arc<MemoryTransport>,
    pub(crate) trace: Trace,
    pub(crate) powered: Arc<AtomicBool>,
}

#[async_trait]
impl Transport for Line {
    fn send(&self, to: NodeId, envelope: &Envelope) -> SendOutcome {
        if !self.powered.load(Ordering::Relaxed) {
            return SendOutcome::Dropped;
        }
        let outcome = self.inner.send(to, envelope);
        let message = &envelope.message;
        let sent = outcome == SendOutcome::Queued;
        self.trace.note((self.from.get(), to.get(), std::mem::discriminant(message), message.size(), sent));
        outcome
    }

    async fn run(self: Arc<Self>, inbox: Inbox) -> Result<(), TransportError> {
        Arc::clone(&self.inner).run(inbox).await
    }
}
