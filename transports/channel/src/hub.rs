//! The hub: which nodes run, and the pipes between them.
//!
//! Invariants: one station per node, the newest; for each ordered pair of stations one pipe, closed when either leaves.

use crate::pipe::Pipe;
use futures::channel::mpsc;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use synod::multi::Identity;
use synod::paxos::NodeId;
use synod::transport::Inbox;

/// The pipes out of one node, by where they lead.
pub(crate) type Pipes = Arc<RwLock<BTreeMap<NodeId, Arc<Pipe>>>>;

/// A pipe that leads to this node: shake hands, then deliver what comes.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) pipe: Arc<Pipe>,
    pub(crate) from: Identity,
    /// Where the sender hears of a refusal.
    pub(crate) sender: Inbox,
}

/// Where the nodes of one process find each other. Cheap to clone; each clone is the same hub.
#[derive(Clone, Debug)]
pub struct ChannelHub {
    stations: Arc<Mutex<Stations>>,
    pub(crate) bytes_max: usize,
}

#[derive(Debug, Default)]
struct Stations {
    next: u64,
    running: BTreeMap<NodeId, Station>,
}

#[derive(Debug)]
struct Station {
    number: u64,
    inbox: Inbox,
    out: Pipes,
    incoming: mpsc::UnboundedSender<Incoming>,
}

impl Default for ChannelHub {
    fn default() -> Self {
        Self::new()
    }
}

impl ChannelHub {
    /// A hub without nodes, and with 16 MiB for what may wait between two of them.
    pub fn new() -> Self {
        Self::with_bytes_max(16 << 20)
    }

    /// A hub on which `bytes_max` bytes may wait from one node to another; beyond it `send` drops.
    pub fn with_bytes_max(bytes_max: usize) -> Self {
        Self { stations: Arc::default(), bytes_max }
    }

    /// Enters a node that runs, lays pipes between it and all others, and takes an older run of the same node off.
    pub(crate) fn enter(&self, inbox: Inbox, out: Pipes) -> (Entry, mpsc::UnboundedReceiver<Incoming>) {
        let node = inbox.local().node();
        let (incoming, receiver) = mpsc::unbounded();
        let mut stations = self.lock();
        let number = stations.next;
        stations.next += 1;
        stations.leave(node);
        let station = Station { number, inbox, out, incoming };
        for other in stations.running.values() {
            lay(&station, other, self.bytes_max);
            lay(other, &station, self.bytes_max);
        }
        stations.running.insert(node, station);
        (Entry { hub: self.clone(), node, number }, receiver)
    }

    fn lock(&self) -> MutexGuard<'_, Stations> {
        self.stations.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stations {
    fn leave(&mut self, node: NodeId) {
        let Some(station) = self.running.remove(&node) else { return };
        let mut closed: Vec<Arc<Pipe>> = Vec::new();
        closed.extend(std::mem::take(&mut *write(&station.out)).into_values());
        closed.extend(self.running.values().filter_map(|other| write(&other.out).remove(&node)));
        for pipe in closed {
            pipe.close();
        }
    }
}

fn lay(from: &Station, to: &Station, bytes_max: usize) {
    let pipe = Arc::new(Pipe::new(bytes_max));
    write(&from.out).insert(to.inbox.local().node(), Arc::clone(&pipe));
    let incoming = Incoming { pipe, from: from.inbox.local().clone(), sender: from.inbox.clone() };
    // A run that is being dropped needs no pipe; its entry goes next and closes it.
    let _ = to.incoming.unbounded_send(incoming);
}

fn write(pipes: &Pipes) -> std::sync::RwLockWriteGuard<'_, BTreeMap<NodeId, Arc<Pipe>>> {
    pipes.write().unwrap_or_else(PoisonError::into_inner)
}

/// A run's place on the hub; its drop closes every pipe to and from it.
#[derive(Debug)]
pub(crate) struct Entry {
    hub: ChannelHub,
    node: NodeId,
    number: u64,
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut stations = self.hub.lock();
        if stations.running.get(&self.node).is_some_and(|station| station.number == self.number) {
            stations.leave(self.node);
        }
    }
}
