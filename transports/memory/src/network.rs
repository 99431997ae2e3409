//! The network: which nodes run, the links between them, and what is wrong with those.
//!
//! Invariants: one station per node, the newest; for each ordered pair of stations one link, closed when either leaves.

use crate::faults::{Faults, Random};
use crate::link::{Fate, Link};
use futures::channel::mpsc;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use synod::multi::Identity;
use synod::paxos::NodeId;
use synod::timer::{Time, Timer};
use synod::transport::{Envelope, Inbox, SendOutcome};

/// A network in memory whose faults are yours to set, at any time. Cheap to clone; each clone is the same network.
///
/// All that happens on it follows from its seed, the order of the calls and the timer: the same again gives the same again.
#[derive(Clone)]
pub struct MemoryNetwork {
    pub(crate) timer: Arc<dyn Timer>,
    state: Arc<Mutex<State>>,
    seed: u64,
    bytes_max: usize,
    pub(crate) silence_max: Duration,
}

impl fmt::Debug for MemoryNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryNetwork").field("seed", &self.seed).finish_non_exhaustive()
    }
}

/// What a network has done so far; a test of faults should see that there were some.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryStats {
    /// Messages that were sent over a link.
    pub sent: u64,
    /// Those that never arrive, by a cut or by chance.
    pub lost: u64,
    /// Those that arrive twice.
    pub repeated: u64,
    /// Those that others may overtake.
    pub overtaken: u64,
    /// Those that a link did not take: the bound was reached, or there was no link.
    pub dropped: u64,
    /// Those that were handed to a node.
    pub delivered: u64,
}

#[derive(Default)]
struct State {
    stations: BTreeMap<NodeId, Station>,
    links: BTreeMap<(NodeId, NodeId), Arc<Link>>,
    laid: u64,
    faults: Faults,
    faults_of: BTreeMap<(NodeId, NodeId), Faults>,
    cuts: BTreeMap<(NodeId, NodeId), Time>,
    stats: MemoryStats,
}

#[derive(Clone)]
struct Station {
    number: u64,
    inbox: Inbox,
    incoming: mpsc::UnboundedSender<Incoming>,
}

/// A link that leads to this node: shake hands, then deliver what comes.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) link: Arc<Link>,
    pub(crate) from: Identity,
    /// Where the sender hears of a refusal.
    pub(crate) sender: Inbox,
}

impl MemoryNetwork {
    /// A network without nodes and without faults, on which all random choices follow from `seed` and all time from
    /// `timer`. 16 MiB may be under way from one node to another; a cut ends a connection after 3 s.
    pub fn new(seed: u64, timer: Arc<dyn Timer>) -> Self {
        let (bytes_max, silence_max) = (16 << 20, Duration::from_secs(3));
        Self { timer, state: Arc::default(), seed, bytes_max, silence_max }
    }

    /// Lets `bytes` be under way from one node to another; beyond it `send` drops. Before any transport is made.
    #[must_use]
    pub fn with_bytes_max(self, bytes: usize) -> Self {
        Self { bytes_max: bytes, ..self }
    }

    /// Lets a cut end a connection after `silence`. Before any transport is made.
    #[must_use]
    pub fn with_silence_max(self, silence: Duration) -> Self {
        Self { silence_max: silence, ..self }
    }

    /// Sets the faults of every link that has none of its own, now and later.
    pub fn set_faults(&self, faults: Faults) {
        let mut state = self.lock();
        state.faults = faults;
        let State { links, faults_of, .. } = &*state;
        for (_, link) in links.iter().filter(|(pair, _)| !faults_of.contains_key(pair)) {
            link.set_faults(faults);
        }
    }

    /// Sets the faults on the way from one node to another.
    pub fn set_link_faults(&self, from: NodeId, to: NodeId, faults: Faults) {
        let mut state = self.lock();
        state.faults_of.insert((from, to), faults);
        if let Some(link) = state.links.get(&(from, to)) {
            link.set_faults(faults);
        }
    }

    /// Loses all that goes from `from` to `to`, what is under way included, until healed.
    pub fn cut_one_way(&self, from: NodeId, to: NodeId) {
        let now = self.timer.now();
        let mut state = self.lock();
        state.cuts.entry((from, to)).or_insert(now);
        if let Some(link) = state.links.get(&(from, to)) {
            link.set_cut(Some(now));
        }
    }

    /// Cuts both ways.
    pub fn cut(&self, a: NodeId, b: NodeId) {
        self.cut_one_way(a, b);
        self.cut_one_way(b, a);
    }

    /// Cuts every node of one group from every node of another.
    pub fn partition(&self, groups: &[&[NodeId]]) {
        for (at, group) in groups.iter().enumerate() {
            for other in &groups[at + 1..] {
                for (a, b) in group.iter().flat_map(|a| other.iter().map(move |b| (*a, *b))) {
                    self.cut(a, b);
                }
            }
        }
    }

    /// Mends both ways between two nodes.
    pub fn heal(&self, a: NodeId, b: NodeId) {
        let mut state = self.lock();
        for pair in [(a, b), (b, a)] {
            state.cuts.remove(&pair);
            if let Some(link) = state.links.get(&pair) {
                link.set_cut(None);
            }
        }
    }

    /// Mends every cut. Faults stay as they are set.
    pub fn heal_all(&self) {
        let mut state = self.lock();
        state.cuts.clear();
        for link in state.links.values() {
            link.set_cut(None);
        }
    }

    /// What it has done so far.
    pub fn stats(&self) -> MemoryStats {
        self.lock().stats
    }

    pub(crate) fn count_delivery(&self) {
        self.lock().stats.delivered += 1;
    }

    pub(crate) fn send(&self, from: NodeId, number: u64, to: NodeId, envelope: &Envelope) -> SendOutcome {
        let now = self.timer.now();
        let mut state = self.lock();
        let present = state.stations.get(&from).is_some_and(|station| station.number == number);
        let link = state.links.get(&(from, to)).filter(|_| present);
        let Some(Fate { copies, late }) = link.and_then(|link| link.push(envelope, now)) else {
            state.stats.dropped += 1;
            return SendOutcome::Dropped;
        };
        state.stats.sent += 1;
        state.stats.overtaken += late;
        state.stats.lost += u64::from(copies == 0);
        state.stats.repeated += u64::from(copies == 2);
        SendOutcome::Queued
    }

    /// Enters a node that runs, lays links between it and all others, and takes an older run of the same node off.
    pub(crate) fn enter(&self, inbox: Inbox) -> (Entry, mpsc::UnboundedReceiver<Incoming>) {
        let node = inbox.local().node();
        let (incoming, receiver) = mpsc::unbounded();
        let mut state = self.lock();
        state.leave(node);
        state.laid += 1;
        let station = Station { number: state.laid, inbox, incoming };
        let others: Vec<Station> = state.stations.values().cloned().collect();
        for other in &others {
            self.lay(&mut state, &station, other);
            self.lay(&mut state, other, &station);
        }
        let number = station.number;
        state.stations.insert(node, station);
        (Entry { network: self.clone(), node, number }, receiver)
    }

    fn lay(&self, state: &mut State, from: &Station, to: &Station) {
        let pair = (from.inbox.local().node(), to.inbox.local().node());
        let faults = state.faults_of.get(&pair).copied().unwrap_or(state.faults);
        let random = Random::of_link(self.seed, pair.0, pair.1, from.number.max(to.number));
        let cut_since = state.cuts.get(&pair).copied();
        let link = Arc::new(Link::new(random, faults, cut_since, self.bytes_max));
        state.links.insert(pair, Arc::clone(&link));
        let incoming = Incoming { link, from: from.inbox.local().clone(), sender: from.inbox.clone() };
        // A run that is being dropped needs no link; its entry goes next and closes it.
        let _ = to.incoming.unbounded_send(incoming);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn leave(&mut self, node: NodeId) {
        self.stations.remove(&node);
        self.links.retain(|(from, to), link| {
            let stays = *from != node && *to != node;
            if !stays {
                link.close();
            }
            stays
        });
    }
}

/// A run's place on the network; its drop closes every link to and from it.
#[derive(Debug)]
pub(crate) struct Entry {
    network: MemoryNetwork,
    node: NodeId,
    pub(crate) number: u64,
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut state = self.network.lock();
        if state.stations.get(&self.node).is_some_and(|station| station.number == self.number) {
            state.leave(self.node);
        }
    }
}
