//! A machine: a disk, and the node that runs on it while it runs.

use super::disk::{Disk, Lost};
use super::event::Event;
use super::state::State;
use crate::multi::node::Node;
use crate::multi::{DiskId, Effect, ProposerState, Role, Sequence, Slot, SnapshotTask, Time};
use crate::paxos::NodeId;
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// What a ticket was given for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ticket {
    /// A read, which must not miss what was acknowledged through this slot when it arrived.
    Read(Slot),
    /// A client's read, by the number of its call.
    Client {
        client: usize,
        call: u64,
    },
    Change,
    Transfer,
}

/// One machine of the cluster.
pub(super) struct Machine<S> {
    pub(super) disk: Disk,
    pub(super) node: Option<Node>,
    /// Counts the starts and the crashes.
    pub(super) life: u64,
    /// Sends and admissions that wait for a write.
    pub(super) waiting: Vec<(Sequence, Effect)>,
    pub(super) deadlines: BTreeMap<Role, Time>,
    /// Handshakes, by who shows himself.
    pub(super) handshakes: BTreeMap<u64, NodeId>,
    pub(super) batches: u64,
    /// It was left out by a membership and has been told that it may go, or is lost.
    pub(super) removed: bool,
    pub(super) tickets: BTreeMap<u64, Ticket>,
    pub(super) next_ticket: u64,
    pub(super) state: State<S>,
    /// What the disk is asked for beside the log, the first under way; with the state when it was asked for.
    pub(super) tasks: VecDeque<(SnapshotTask, Option<Bytes>)>,
    /// Clients whose commands are in a batch of this start, by its serial and in their order.
    pub(super) calls: BTreeMap<u64, Vec<(usize, u64)>>,
    /// Clients' reads that wait until this slot is applied.
    pub(super) reads: Vec<(Slot, usize, u64)>,
    /// What happened to it while it did nothing; `None` while it runs.
    pub(super) paused: Option<Vec<Event>>,
    /// Its clock is behind by so much.
    pub(super) behind: Duration,
    /// Its clock stands still, from the first time to the second.
    pub(super) stall: Option<(Time, Time)>,
    pub(super) slow_until: Time,
    /// It loses power after so many more effects.
    pub(super) effects_left: Option<u64>,
    /// How its disk was once.
    pub(super) image: Option<Box<Disk>>,
    /// It runs on an old image of its disk.
    pub(super) is_stale: bool,
}

impl<S> Machine<S> {
    pub(super) fn new(id: NodeId, state: State<S>) -> Self {
        Self {
            disk: Disk::new(DiskId(id.get() * 1000)),
            node: None,
            life: 0,
            waiting: Vec::new(),
            deadlines: BTreeMap::new(),
            handshakes: BTreeMap::new(),
            batches: 0,
            removed: false,
            tickets: BTreeMap::new(),
            next_ticket: 0,
            state,
            tasks: VecDeque::new(),
            calls: BTreeMap::new(),
            reads: Vec::new(),
            paused: None,
            behind: Duration::ZERO,
            stall: None,
            slow_until: Time::ZERO,
            effects_left: None,
            image: None,
            is_stale: false,
        }
    }

    /// It runs, and is not paused.
    pub(super) fn is_awake(&self) -> bool {
        self.node.is_some() && self.paused.is_none()
    }

    pub(super) fn leads(&self) -> bool {
        let leading = |node: &Node| matches!(node.proposer.state(), ProposerState::Leading { .. });
        self.is_awake() && self.node.as_ref().is_some_and(leading)
    }

    /// The time by its own clock.
    pub(super) fn clock(&mut self, now: Time) -> Time {
        if let Some((from, to)) = self.stall {
            if now < to {
                return earlier(from, self.behind);
            }
            self.behind += to.since(from);
            self.stall = None;
        }
        earlier(now, self.behind)
    }

    /// Power is gone: all that was in memory is. Returns what the disk lost, or `None` if it did not run.
    pub(super) fn stop(&mut self, tear: u64, random: &mut crate::multi::Jitter) -> Option<Lost> {
        self.node.take()?;
        self.life += 1;
        self.waiting.clear();
        self.deadlines.clear();
        self.handshakes.clear();
        self.tickets.clear();
        self.tasks.clear();
        self.calls.clear();
        self.reads.clear();
        self.paused = None;
        self.effects_left = None;
        // What a clock lost in a stall it keeps: a start is no earlier by it than the last.
        Some(self.disk.crash(tear, random))
    }
}

fn earlier(time: Time, by: Duration) -> Time {
    Time::from_nanos(time.as_nanos().saturating_sub(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX)))
}
