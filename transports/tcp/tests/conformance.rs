//! The public transport suite against TCP on loopback. Scenario N7.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use async_trait::async_trait;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use synod::paxos::NodeId;
use synod::testing::{TransportHarness, TransportHarnessError, transport_suite};
use synod::timer::{Timer, TokioTimer};
use synod::transport::Transport;
use synod_tcp::Tcp;

const LOOPBACK: &str = "127.0.0.1:0";

struct Loopback {
    timer: Arc<TokioTimer>,
    addresses: BTreeMap<NodeId, SocketAddr>,
}

impl Loopback {
    fn new() -> Self {
        Self { timer: Arc::default(), addresses: BTreeMap::new() }
    }
}

#[async_trait]
impl TransportHarness for Loopback {
    async fn connect(&mut self, nodes: &[NodeId]) -> Result<Vec<Arc<dyn Transport>>, TransportHarnessError> {
        self.addresses.clear();
        let mut made = Vec::new();
        for node in nodes {
            let tcp = Tcp::insecure(LOOPBACK, Vec::<(NodeId, String)>::new())?;
            self.addresses.insert(*node, tcp.local_addr());
            made.push(tcp);
        }
        for tcp in &made {
            for (node, address) in &self.addresses {
                tcp.add_peer(*node, address.to_string());
            }
        }
        Ok(made.into_iter().map(|tcp| Arc::new(tcp) as Arc<dyn Transport>).collect())
    }

    async fn restart(&mut self, node: NodeId) -> Result<Arc<dyn Transport>, TransportHarnessError> {
        let peers = self.addresses.iter().map(|(node, address)| (*node, address.to_string()));
        Ok(Arc::new(Tcp::insecure(self.addresses[&node], peers)?))
    }

    fn address(&self, node: NodeId) -> String {
        self.addresses[&node].to_string()
    }

    fn timer(&self) -> Arc<dyn Timer> {
        Arc::clone(&self.timer) as Arc<dyn Timer>
    }

    fn peer_bytes_max(&self) -> usize {
        16 << 20
    }
}

/// As observers do it: only the first node has no address of the others, who call it.
struct OneIsCalled(Loopback);

#[async_trait]
impl TransportHarness for OneIsCalled {
    async fn connect(&mut self, nodes: &[NodeId]) -> Result<Vec<Arc<dyn Transport>>, TransportHarnessError> {
        self.0.addresses.clear();
        let mut made: Vec<Arc<dyn Transport>> = Vec::new();
        for node in nodes {
            let peers: Vec<_> = self.0.addresses.iter().map(|(node, at)| (*node, at.to_string())).collect();
            let tcp = Tcp::insecure(LOOPBACK, peers)?;
            self.0.addresses.insert(*node, tcp.local_addr());
            made.push(Arc::new(tcp));
        }
        Ok(made)
    }

    async fn restart(&mut self, node: NodeId) -> Result<Arc<dyn Transport>, TransportHarnessError> {
        let before = self.0.addresses.range(..node).map(|(node, address)| (*node, address.to_string()));
        Ok(Arc::new(Tcp::insecure(self.0.addresses[&node], before)?))
    }

    fn timer(&self) -> Arc<dyn Timer> {
        self.0.timer()
    }

    fn peer_bytes_max(&self) -> usize {
        self.0.peer_bytes_max()
    }
}

// scenario N7
#[tokio::test]
async fn tcp_keeps_the_contract() {
    let report = transport_suite(&mut Loopback::new()).await;
    assert!(report.passed(), "{report}");
}

// scenario N7
#[tokio::test]
async fn tcp_keeps_the_contract_when_each_pair_shares_one_connection() {
    let report = transport_suite(&mut OneIsCalled(Loopback::new())).await;
    assert!(report.passed(), "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tcp_keeps_the_contract_on_a_runtime_of_several_threads() {
    let report = transport_suite(&mut Loopback::new()).await;
    assert!(report.passed(), "{report}");
}
