//! What ties a group to its place: whose journal it is in, and where.

use crate::multi::{ClusterId, DiskId};
use crate::paxos::NodeId;

/// A place in the journal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The number of the segment, from 1.
    pub segment: u64,
    /// The byte in it.
    pub offset: usize,
}

/// Whose journal it is, as it stands in every header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// A hash of the name of the cluster.
    pub cluster: u64,
    /// The node.
    pub node: u64,
    /// The disk.
    pub disk: u64,
}

impl Stamp {
    /// The stamp of `node` of `cluster` on `disk`.
    pub fn new(cluster: &ClusterId, node: NodeId, disk: DiskId) -> Self {
        // FNV-1a: no secret, only unlikely to be the same for two names.
        let hash = cluster.as_str().bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        Self { cluster: hash, node: node.get(), disk: disk.0 }
    }

    pub(super) fn parts(self) -> (u64, u64, u64) {
        (self.cluster, self.node, self.disk)
    }
}
