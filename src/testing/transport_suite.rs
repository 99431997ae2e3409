//! The conformance suite for a transport: does it keep the [contract](crate::transport)?
//!
//! Write a [`TransportHarness`] that makes your transports, call [`transport_suite`], and assert on the [`TransportReport`]:
//!
//! ```ignore
//! let report = transport_suite(&mut harness).await;
//! assert!(report.passed(), "{report}");
//! ```
//!
//! The suite needs no runtime of its own and spawns no task: it polls the transports that it runs, the inboxes and the
//! clock side by side, on the task that calls it; only a queue is filled from a thread, in case that `send` blocks. Give it the runtime that your transport needs.
//! Clause 8 (suspicious) is about the bytes of your medium, which only you can send: test it beside the suite.

mod cases;
mod world;

use crate::multi::{
    ClusterId, DiskId, Identity, Incarnation, Owner, ProtocolRange, Refusal, Sequence, Slot, Value,
};
use crate::paxos::{NodeId, ProposalId};
use crate::timer::Timer;
use crate::transport::{Envelope, GroupId, Transport};
use async_trait::async_trait;
use bytes::Bytes;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::multi::Message;

/// Makes the transports under test.
#[async_trait]
pub trait TransportHarness: Send {
    /// Makes one transport for each of `nodes`, all of which can reach each other. Each call makes a world of its own.
    async fn connect(&mut self, nodes: &[NodeId]) -> Result<Vec<Arc<dyn Transport>>, TransportHarnessError>;

    /// Makes the transport of `node` anew, in the newest world and where the others look for it. The old one's `run` has
    /// been dropped.
    async fn restart(&mut self, node: NodeId) -> Result<Arc<dyn Transport>, TransportHarnessError>;

    /// Where the other nodes of the newest world know `node` to be, in the notation of the transport (clause 10). Empty, as
    /// by default, if they know it otherwise.
    fn address(&self, _node: NodeId) -> String {
        String::new()
    }

    /// The clock that the transports live by.
    fn timer(&self) -> Arc<dyn Timer>;

    /// The bound on what waits for one peer, in bytes; the suite sends about twice as much.
    fn peer_bytes_max(&self) -> usize;

    /// How long one thing may take until the suite gives up on it: more than the stated time of clause 6.
    fn patience(&self) -> Duration {
        Duration::from_secs(20)
    }

    /// Whether a refused peer is told why (clause 4: "where the medium allows").
    fn tells_refusals(&self) -> bool {
        true
    }
}

/// What a harness may fail with.
pub type TransportHarnessError = Box<dyn std::error::Error + Send + Sync>;

/// A case that the transport did not pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransportFailure {
    /// The clause of the contract that it breaks.
    pub clause: u8,
    /// The case.
    pub case: &'static str,
    /// What was seen.
    pub reason: String,
}

impl fmt::Display for TransportFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "clause {}: {}: {}", self.clause, self.case, self.reason)
    }
}

/// What came out of a suite.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TransportReport {
    /// How many cases ran.
    pub cases: usize,
    /// Those that failed.
    pub failures: Vec<TransportFailure>,
}

impl TransportReport {
    /// Whether every case passed.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.cases > 0 && self.failures.is_empty()
    }
}

impl fmt::Display for TransportReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} cases passed", self.cases - self.failures.len(), self.cases)?;
        self.failures.iter().try_for_each(|failure| write!(f, "\n{failure}"))
    }
}

/// Runs every case against transports of `harness`, one after the other, each in a world of its own.
pub async fn transport_suite(harness: &mut dyn TransportHarness) -> TransportReport {
    let mut report = TransportReport::default();
    for case in cases::ALL {
        report.cases += 1;
        if let Err(reason) = cases::run(*case, harness).await {
            report.failures.push(TransportFailure { clause: case.clause(), case: case.name(), reason });
        }
    }
    report
}

/// The identity of `node` in the cluster of the suite, at its `start`th start.
fn identity(node: NodeId, start: u64) -> Identity {
    // "suite" is a well-formed name; a suite does not panic all the same.
    let cluster = ClusterId::new("suite").unwrap_or_else(|error| unreachable!("{error}"));
    let incarnations = (1..=start).map(|counter| Incarnation { counter, nonce: 1000 * node.get() + counter });
    Identity {
        owner: Owner { cluster, epoch: 0, node },
        disk: DiskId(7 * node.get()),
        incarnations: incarnations.collect(),
        sequence: Sequence(start * 11),
        protocol: ProtocolRange::OURS,
    }
}

fn envelope(message: Message) -> Envelope {
    Envelope { group: GroupId(0), message }
}

/// A small message that carries a number.
fn numbered(number: u64) -> Envelope {
    envelope(Message::PrePrepare { nonce: number })
}

/// A message of about `bytes` bytes.
fn bulk(number: u64, bytes: usize) -> Envelope {
    let id = ProposalId::new(number, NodeId::new(1));
    let values = vec![Value::Noop, Value::Batch(Bytes::from(vec![number as u8; bytes]))];
    envelope(Message::Accept { id, first: Slot::new(number + 1), values, watermark: Slot::new(number) })
}

/// How a node of the suite answers handshakes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    /// Takes every peer.
    Welcomes,
    /// Refuses every peer.
    Refuses,
    /// Does not answer.
    Hesitates,
}

const REFUSAL: Refusal = Refusal::StaleIncarnation { known: Incarnation { counter: 77, nonce: 7 } };
