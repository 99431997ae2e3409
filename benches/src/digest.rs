//! The digest of a log: what a suite compares, so that it does not measure replicas that disagree.

/// How many commands a log holds, and a digest of all of them in their order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Digest {
    count: u64,
    hash: u64,
}

impl Digest {
    /// Takes the next command in.
    pub(crate) fn add(&mut self, command: &[u8]) {
        self.count += 1;
        let word = u64::from(crc32fast::hash(command));
        self.hash = (self.hash.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
    }

    /// How many commands were taken in.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// For a snapshot.
    pub(crate) fn to_bytes(self) -> [u8; 16] {
        (u128::from(self.count) << 64 | u128::from(self.hash)).to_be_bytes()
    }

    /// From a snapshot.
    pub(crate) fn from_bytes(bytes: [u8; 16]) -> Self {
        let both = u128::from_be_bytes(bytes);
        Self { count: (both >> 64) as u64, hash: both as u64 }
    }
}
