//! Events: what will happen, in the order in which it will.

use super::fault::Fault;
use crate::multi::{Message, Role, Slot, Time};
use crate::paxos::NodeId;
use std::cmp::Reverse;
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

/// All that will happen. The events stand still, and only their times and places are put in order: an event is large.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    /// When, in which order of two at the same time, and in which place.
    order: BinaryHeap<Reverse<(Time, u64, usize)>>,
    events: Vec<Option<Event>>,
    free: Vec<usize>,
    count: u64,
}

impl Schedule {
    pub(super) fn push(&mut self, at: Time, event: Event) {
        self.count += 1;
        let place = self.free.pop().unwrap_or(self.events.len());
        match self.events.get_mut(place) {
            Some(free) => *free = Some(event),
            None => self.events.push(Some(event)),
        }
        self.order.push(Reverse((at, self.count, place)));
    }

    pub(super) fn pop(&mut self) -> Option<(Time, Event)> {
        let Reverse((at, _, place)) = self.order.pop()?;
        let event = self.events.get_mut(place)?.take()?;
        self.free.push(place);
        Some((at, event))
    }

    /// How many were ever put in.
    pub(super) fn count(&self) -> u64 {
        self.count
    }
}
