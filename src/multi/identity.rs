//! Identity: which cluster, which node, which disk, which start of it (protocol 9).
//!
//! A node shows its [`Identity`] in every handshake. Whoever it shows it to remembers, durably, the newest start that
//! it saw of each voter, and refuses one whose history does not contain it: an older image of a disk, or a copy.

use super::record::Sequence;
use crate::paxos::NodeId;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The name of a cluster: 1 to 64 printable ASCII characters without spaces.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ClusterId(String);

/// A name that no cluster can have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a cluster id is 1 to {max} printable ASCII characters without spaces, not {name:?}", max = ClusterId::BYTES_MAX)]
pub struct ClusterIdError {
    /// What was given.
    pub name: String,
}

impl ClusterId {
    /// The longest name, in bytes.
    pub const BYTES_MAX: usize = 64;

    /// Names a cluster.
    ///
    /// # Errors
    ///
    /// [`ClusterIdError`] if the name is empty, too long, or has characters other than printable ASCII.
    pub fn new(name: impl Into<String>) -> Result<Self, ClusterIdError> {
        let name = name.into();
        let printable = name.bytes().all(|byte| byte.is_ascii_graphic());
        if name.is_empty() || name.len() > Self::BYTES_MAX || !printable {
            return Err(ClusterIdError { name });
        }
        Ok(Self(name))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ClusterId {
    type Error = ClusterIdError;
    fn try_from(name: String) -> Result<Self, ClusterIdError> {
        Self::new(name)
    }
}

impl From<ClusterId> for String {
    fn from(cluster: ClusterId) -> Self {
        cluster.0
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

/// A data directory, by a random number drawn when it was made.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DiskId(pub u64);

impl fmt::Debug for DiskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "disk-{:016x}", self.0)
    }
}

/// One start of a node: counted, and told apart from a start of a copied disk by a random nonce.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Incarnation {
    /// How often the node has been started, this time included.
    pub counter: u64,
    /// Drawn at this start.
    pub nonce: u64,
}

/// Whose disk it is: checked at every start before anything is touched.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Owner {
    /// The cluster.
    pub cluster: ClusterId,
    /// 0, and one more after each forced membership.
    pub epoch: u64,
    /// The node.
    pub node: NodeId,
}

/// What a node shows in a handshake.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Identity {
    /// The cluster, its epoch and the node.
    pub owner: Owner,
    /// The data directory.
    pub disk: DiskId,
    /// The starts of this disk, oldest first, the present one last; at most [`Identity::INCARNATIONS_MAX`] of them.
    pub incarnations: Vec<Incarnation>,
    /// Where its journal ended when it was started.
    pub sequence: Sequence,
    /// The protocol versions that it speaks.
    pub protocol: ProtocolRange,
}

impl Identity {
    /// How many starts are kept and shown. A node that a peer has not seen for longer than this many starts is refused
    /// as stale by that peer.
    pub const INCARNATIONS_MAX: usize = 1024;

    /// The node.
    pub fn node(&self) -> NodeId {
        self.owner.node
    }

    /// The present start.
    pub fn incarnation(&self) -> Option<Incarnation> {
        self.incarnations.last().copied()
    }
}

/// The protocol versions that a node speaks, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ProtocolRange {
    /// The oldest.
    pub oldest: u16,
    /// The newest.
    pub newest: u16,
}

impl ProtocolRange {
    /// What this version of Synod speaks.
    pub const OURS: Self = Self { oldest: 1, newest: 1 };

    /// The newest version that both speak.
    pub fn common(self, other: Self) -> Option<u16> {
        let version = self.newest.min(other.newest);
        (version >= self.oldest && version >= other.oldest).then_some(version)
    }
}
