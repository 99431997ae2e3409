//! Events: what will happen, in the order in which it will.

use super::fault::Fault;
use crate::multi::{Message, Role, Slot, Time};
use crate::paxos::NodeId;
use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::ops::Range;

/// Something that will happen. What concerns one start of a node names it by `life`.
#[derive(Debug)]
pub(super) enum Event {
    Arrive {
        from: NodeId,
        to: NodeId,
        message: Message,
        number: u64,
    },
    LinkDown {
        from: NodeId,
        to: NodeId,
    },
    Connect {
        from: NodeId,
        to: NodeId,
    },
    Refused {
        node: NodeId,
        by: NodeId,
        refusal: crate::multi::Refusal,
        life: u64,
    },
    Wake {
        node: NodeId,
        role: Role,
        at: Time,
        life: u64,
    },
    Flushed {
        node: NodeId,
        life: u64,
    },
    ReadBack {
        node: NodeId,
        life: u64,
        slots: Range<Slot>,
    },
    SnapshotTask {
        node: NodeId,
        life: u64,
    },
    Scrub {
        node: NodeId,
    },
    Replace,
    Fill,
    /// A client begins, or has waited long enough; only if it has not acted since.
    Client {
        client: usize,
        turn: u64,
    },
    /// A fault that comes now and then.
    Fault(Fault),
    Restart {
        node: NodeId,
    },
    Resume {
        node: NodeId,
    },
    Space {
        node: NodeId,
    },
    Isolate {
        node: NodeId,
    },
    Heal {
        a: NodeId,
        b: NodeId,
    },
    EndOfFaults,
}

impl Event {
    /// The node that has to run for it to happen; while that one is paused, it waits.
    pub(super) fn node(&self) -> Option<NodeId> {
        match self {
            Self::Arrive { to, .. } | Self::LinkDown { to, .. } | Self::Connect { to, .. } => Some(*to),
            Self::Refused { node, .. }
            | Self::Wake { node, .. }
            | Self::Flushed { node, .. }
            | Self::ReadBack { node, .. }
            | Self::SnapshotTask { node, .. } => Some(*node),
            _ => None,
        }
    }
}

/// An event with its time; the number keeps the order of two at the same time.
#[derive(Debug)]
struct Scheduled(Time, u64, Event);

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        (self.0, self.1) == (other.0, other.1)
    }
}
impl Eq for Scheduled {}
impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.0, self.1).cmp(&(other.0, other.1))
    }
}

/// All that will happen.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    events: BinaryHeap<Reverse<Scheduled>>,
    count: u64,
}

impl Schedule {
    pub(super) fn push(&mut self, at: Time, event: Event) {
        self.count += 1;
        self.events.push(Reverse(Scheduled(at, self.count, event)));
    }

    pub(super) fn pop(&mut self) -> Option<(Time, Event)> {
        self.events.pop().map(|Reverse(Scheduled(at, _, event))| (at, event))
    }

    /// How many were ever put in.
    pub(super) fn count(&self) -> u64 {
        self.count
    }
}
