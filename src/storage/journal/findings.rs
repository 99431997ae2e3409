//! What is found when a journal is opened.

use super::Position;
use crate::multi::{Log, Sequence};

/// What was found wrong at a restart, and what follows from it (protocol 11).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Damage {
    /// The last write was not whole: it was never acknowledged, and is cut off.
    TornTail(Position),
    /// A group's body is damaged: its slots are unknown.
    Body(Position),
    /// A group's header is damaged, or whole groups are gone: every open slot is unknown.
    Header(Position),
    /// A segment's own header is damaged; nothing is lost by it.
    SegmentHeader {
        /// Which segment.
        segment: u64,
    },
    /// What was promised, or met, cannot be proven any more: the node abstains.
    InDoubt,
}

/// What a restart found.
#[derive(Clone, Debug)]
pub struct Replayed {
    /// The fold of all groups.
    pub log: Log,
    /// The newest write.
    pub written: Sequence,
    /// The epoch of the newest forced membership, or 0.
    pub epoch: u64,
    /// What was damaged.
    pub damage: Vec<Damage>,
}

/// What stands in a directory, before it is known whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Segments that nothing was written to.
    Unused,
    /// Segments with something in them.
    Used,
}
