//! The public transport suite against the network in memory. Scenario N7.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use async_trait::async_trait;
use std::sync::Arc;
use synod::paxos::NodeId;
use synod::testing::{TransportHarness, TransportHarnessError, transport_suite};
use synod::timer::{Timer, TokioTimer};
use synod::transport::Transport;
use synod_memory::MemoryNetwork;

struct Network {
    network: MemoryNetwork,
    timer: Arc<TokioTimer>,
}

#[async_trait]
impl TransportHarness for Network {
    async fn connect(&mut self, nodes: &[NodeId]) -> Result<Vec<Arc<dyn Transport>>, TransportHarnessError> {
        self.network = MemoryNetwork::new(1, self.timer());
        Ok(nodes.iter().map(|node| Arc::new(self.network.transport(*node)) as Arc<dyn Transport>).collect())
    }

    async fn restart(&mut self, node: NodeId) -> Result<Arc<dyn Transport>, TransportHarnessError> {
        Ok(Arc::new(self.network.transport(node)))
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
async fn memory_keeps_the_contract() {
    let timer = Arc::<TokioTimer>::default();
    let mut network = Network { network: MemoryNetwork::new(1, timer.clone()), timer };
    let report = transport_suite(&mut network).await;
    assert!(report.passed(), "{report}");
}
