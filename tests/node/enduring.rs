//! Faults that last: a majority that is gone, a machine that is suspended, a network that loses a third, a follower whose disk
//! hangs, more calls than a node takes. The cluster sits them out, and says so to whoever asks.

use crate::{Cluster, Ledger, config, entry, membership, pause, simulate};
use futures::future::join_all;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use synod::multi::ProposerState;
use synod::timer::{Time, Timer, TokioTimer};
use synod::{Handle, Host, MemoryStorage, Node, NodeId, ProposeError};
use synod_memory::{Faults, MemoryNetwork};
use tokio::time::Instant;

/// A clock with an origin of its own, which can be stopped: what a suspended machine has.
#[derive(Clone)]
struct Clock {
    timer: Arc<TokioTimer>,
    ahead: Duration,
    /// The time at which it was stopped; zero while it runs.
    stopped_at: Arc<AtomicU64>,
    /// How long it stood, all in all.
    stood: Arc<AtomicU64>,
}

impl Clock {
    fn ahead_by(ahead: Duration) -> Self {
        Self { timer: Arc::default(), ahead, stopped_at: Arc::default(), stood: Arc::default() }
    }

    fn stop(&self) {
        self.stopped_at.store(self.timer.now().as_nanos().max(1), Ordering::Relaxed);
    }

    fn resume(&self) {
        let stood = self.timer.now().as_nanos() - self.stopped_at.swap(0, Ordering::Relaxed);
        self.stood.fetch_add(stood, Ordering::Relaxed);
    }
}

#[async_trait::async_trait]
impl Timer for Clock {
    fn now(&self) -> Time {
        let stopped_at = self.stopped_at.load(Ordering::Relaxed);
        let now = if stopped_at > 0 { stopped_at } else { self.timer.now().as_nanos() };
        let run = now - self.stood.load(Ordering::Relaxed);
        Time::ZERO + self.ahead + Duration::from_nanos(run)
    }

    async fn sleep_until(&self, at: Time) {
        while self.now() < at {
            pause(at.since(self.now()).min(Duration::from_millis(10))).await;
        }
    }
}

/// Three nodes on a network with faults, each with a clock of its own, hours apart.
struct Network {
    network: MemoryNetwork,
    clocks: Vec<Clock>,
    nodes: Vec<Node<Ledger>>,
}

const MEMBERS: [NodeId; 3] = [NodeId::new(1), NodeId::new(2), NodeId::new(3)];

impl Network {
    async fn start(seed: u64) -> Self {
        let network = MemoryNetwork::new(seed, Arc::new(TokioTimer::default()));
        let (mut clocks, mut nodes) = (Vec::new(), Vec::new());
        for (hours, member) in [(0, 1), (1, 2), (2, 3)] {
            let clock = Clock::ahead_by(Duration::from_secs(hours * 3600));
            let builder = Node::bootstrap(config(member), membership(3))
                .transport(network.transport(NodeId::new(member)))
                .storage(MemoryStorage::with_seed(member))
                .timer(clock.clone())
                .host(Host::ThisArbiter)
                .seed(seed * 31 + member);
            nodes.push(builder.state_machine(Ledger::default).start().await.unwrap());
            clocks.push(clock);
        }
        Self { network, clocks, nodes }
    }

    fn handle(&self, place: usize) -> Handle<Ledger> {
        self.nodes[place].handle()
    }

    /// The places of those who say that they lead.
    async fn leaders(&self) -> Vec<usize> {
        let statuses = join_all(self.nodes.iter().map(|node| async { node.handle().status().await })).await;
        let leads = |place: &usize| {
            matches!(statuses[*place].as_ref().unwrap().proposer, ProposerState::Leading { .. })
        };
        (0..self.nodes.len()).filter(leads).collect()
    }

    async fn leader(&self) -> usize {
        for _ in 0..1000 {
            if let [leader] = self.leaders().await[..] {
                return leader;
            }
            pause(Duration::from_millis(10)).await;
        }
        panic!("nobody leads");
    }

    fn isolate(&self, place: usize) {
        for other in MEMBERS.into_iter().filter(|other| *other != MEMBERS[place]) {
            self.network.cut(MEMBERS[place], other);
        }
    }
}

// fault F24
#[test]
fn without_a_majority_calls_end_within_their_deadline_and_with_it_they_go_on_unaided() {
    simulate(async {
        let network = Network::start(1).await;
        let leader = network.leader().await;
        network.handle(leader).propose(entry(1)).await.unwrap();
        network.network.partition(&[&MEMBERS[..1], &MEMBERS[1..2], &MEMBERS[2..]]);
        for place in 0..3 {
            let handle = network.handle(place).with_deadline(Duration::from_millis(700));
            let (begin, number) = (Instant::now(), 10 + place as u64);
            let written = handle.propose(entry(number)).await;
            let outcome = written.expect_err("nobody has a majority");
            let is_typed = matches!(
                outcome,
                ProposeError::Unknown { .. } | ProposeError::NotLeader { .. } | ProposeError::Busy
            );
            assert!(is_typed, "{outcome:?}");
            assert!(handle.read(Ledger::numbers).await.is_err());
            assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
        }
        pause(Duration::from_secs(10)).await;
        assert_eq!(network.leaders().await, [], "who has no quorum steps down");
        network.network.heal_all();
        network.handle(0).with_deadline(Duration::from_secs(5)).propose(entry(2)).await.unwrap();
        let mut states = Vec::new();
        for place in 0..3 {
            states.push(network.handle(place).read(Ledger::numbers).await.unwrap());
        }
        assert!(states.iter().all(|numbers| *numbers == states[0]), "{states:?}");
        assert!(states[0].starts_with(&[1]) && states[0].ends_with(&[2]), "{states:?}");
    });
}

// protocol 7.2, fault F17, scenario M10
#[test]
fn a_leader_that_was_suspended_for_half_a_minute_serves_nothing_old_and_steps_down() {
    simulate(async {
        let network = Network::start(2).await;
        let old = network.leader().await;
        network.handle(old).propose(entry(1)).await.unwrap();
        // Suspended: neither its clock goes on nor does anything come or go.
        network.isolate(old);
        network.clocks[old].stop();
        pause(Duration::from_secs(2)).await;
        let other = (old + 1) % 3;
        network.handle(other).with_deadline(Duration::from_secs(10)).propose(entry(2)).await.unwrap();
        pause(Duration::from_secs(28)).await;
        assert!(network.leaders().await.contains(&old), "it knows nothing of the time that went by");
        network.clocks[old].resume();
        let hasty = network.handle(old).with_deadline(Duration::from_millis(100));
        assert!(hasty.read(Ledger::numbers).await.is_err(), "still cut off: it cannot be confirmed");
        network.network.heal_all();
        let seen = network.handle(old).with_deadline(Duration::from_secs(5)).read(Ledger::numbers).await;
        assert_eq!(seen.unwrap(), [1, 2]);
        pause(Duration::from_secs(2)).await;
        assert_ne!(network.leader().await, old);
    });
}

// fault F16, scenario L7: each node's clock has another origin, hours apart; no time of one is compared with another's.
#[test]
fn clocks_that_are_hours_apart_change_nothing() {
    simulate(async {
        let network = Network::start(3).await;
        let leader = network.leader().await;
        for number in 0..100 {
            network.handle(number as usize % 3).propose(entry(number)).await.unwrap();
            pause(Duration::from_millis(100)).await;
            assert_eq!(network.leaders().await, [leader]);
        }
    });
}

// scenario L6
#[test]
fn with_a_third_of_all_messages_lost_something_is_written_in_every_ten_seconds() {
    simulate(async {
        let network = Network::start(4).await;
        network.leader().await;
        network.network.set_faults(Faults { loss: 0.3, ..Faults::default() });
        let mut number = 0;
        for window in 0..12 {
            let (begin, mut written) = (Instant::now(), 0);
            while begin.elapsed() < Duration::from_secs(10) {
                number += 1;
                let handle = network.handle(number as usize % 3).with_deadline(Duration::from_secs(2));
                written += usize::from(handle.propose(entry(number)).await.is_ok());
            }
            assert!(written > 0, "nothing was written in window {window}");
        }
    });
}

// fault F27, scenario O1
#[test]
fn under_a_hundred_thousand_calls_the_excess_is_refused_at_once_and_the_leader_stays() {
    simulate(async {
        let cluster = Cluster::tuned(3, |config| config.credits = 4096).await;
        let leader = cluster.leader().await;
        let handle = cluster.handle(leader);
        let before = handle.status().await.unwrap().leader;
        let mut refused = 0;
        let begin = Instant::now();
        let calls = (0..100_000).map(|number| handle.try_propose(entry(number)));
        for outcome in join_all(calls).await {
            match outcome {
                Ok(_) => {}
                Err(ProposeError::Busy) => refused += 1,
                Err(error) => panic!("{error:?}"),
            }
        }
        assert!(refused > 50_000, "{refused} refused: the queue takes more than its limit");
        assert!(begin.elapsed() < Duration::from_millis(300), "{:?}", begin.elapsed());
        pause(Duration::from_secs(3)).await;
        assert_eq!(handle.status().await.unwrap().leader, before, "heartbeats went on");
        assert_eq!(cluster.numbers(leader).await.len(), 100_000 - refused);
    });
}

// fault F26, scenario O2
#[test]
fn a_follower_whose_disk_hangs_costs_the_others_nothing() {
    simulate(async {
        let cluster = Cluster::start(3).await;
        let (leader, follower) = (cluster.leader().await, cluster.follower().await);
        let handle = cluster.handle(leader);
        let mut times = Vec::new();
        for stuck in [false, true] {
            if stuck {
                cluster.storages[&follower].hold_flushes();
            }
            let mut waited = Vec::new();
            for number in 0..500 {
                let begin = Instant::now();
                handle.propose((number, vec![7; 10_000])).await.unwrap();
                waited.push(begin.elapsed());
                pause(Duration::from_millis(2)).await;
            }
            waited.sort_unstable();
            times.push(waited[waited.len() * 99 / 100]);
        }
        assert!(times[1] <= times[0] * 6 / 5 + Duration::from_millis(1), "{times:?}");
        cluster.storages[&follower].release();
        assert_eq!(cluster.numbers(follower).await.len(), 1000, "it catches up");
    });
}
