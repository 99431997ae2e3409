//! The public transport suite against channels. Scenario N7.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use async_trait::async_trait;
use std::sync::Arc;
use synod::paxos::NodeId;
use synod::testing::{TransportHarness, TransportHarnessError, transport_suite};
use synod::timer::{Timer, TokioTimer};
use synod::transport::Transport;
use synod_channel::ChannelHub;

#[derive(Default)]
struct Hub {
    hub: ChannelHub,
    timer: Arc<TokioTimer>,
}

#[async_trait]
impl TransportHarness for Hub {
    async fn connect(&mut self, nodes: &[NodeId]) -> Result<Vec<Arc<dyn Transport>>, TransportHarnessError> {
        self.hub = ChannelHub::new();
        Ok(nodes.iter().map(|node| Arc::new(self.hub.transport(*node)) as Arc<dyn Transport>).collect())
    }

    async fn restart(&mut self, node: NodeId) -> Result<Arc<dyn Transport>, TransportHarnessError> {
        Ok(Arc::new(self.hub.transport(node)))
    }

    fn timer(&self) -> Arc<dyn Timer> {
        Arc::clone(&self.timer) as Arc<dyn Timer>
    }

    fn peer_bytes_max(&self) -> usize {
        16 << 20
    }
}

// scenario N7
#[tokio::test(start_paused = true)]
async fn channels_keep_the_contract() {
    let report = transport_suite(&mut Hub::default()).await;
    assert!(report.passed(), "{report}");
}
