//! Faults that deserve a run of their own: clocks that jump and stall, a lost majority, a flood of calls, bad links.

use crate::clock::Clock;
use crate::machine::{Registers, Write};
use crate::world::pause;
use futures::future::join_all;
use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use synod::timer::TokioTimer;
use synod::{ClusterId, Config, Handle, Host, Membership, MemoryStorage, Node, NodeId, ProposeError};
use synod_memory::{Faults, MemoryNetwork};
use tokio::time::Instant;

struct Three {
    network: MemoryNetwork,
    clocks: Vec<Clock>,
    storages: Vec<MemoryStorage>,
    nodes: Vec<Option<Node<Registers>>>,
}

impl Three {
    /// Three nodes whose clocks are a year apart, once one of them leads.
    async fn start() -> Self {
        let network = MemoryNetwork::new(7, Arc::new(TokioTimer::default()));
        let year = Duration::from_secs(365 * 24 * 3600);
        let clocks = (0..3).map(|place| Clock::new(place * year, 1.0)).collect();
        let storages = (0..3).map(MemoryStorage::with_seed).collect();
        let mut three = Self { network, clocks, storages, nodes: vec![None, None, None] };
        for place in 0..3 {
            three.start_one(place, false).await;
        }
        while three.handle(0).propose(write(1)).await.is_err() {}
        three
    }

    async fn start_one(&mut self, place: usize, again: bool) {
        let id = id(place);
        let config = Config::new(ClusterId::new("scenarios").unwrap(), id);
        let members = (0..3).map(|member| (self::id(member), ""));
        let builder = if again {
            Node::restart(config)
        } else {
            Node::bootstrap(config, Membership::voters(members).unwrap())
        };
        let started = builder
            .state_machine(Registers::default)
            .transport(self.network.transport(id))
            .storage(self.storages[place].clone())
            .timer(self.clocks[place].clone())
            .host(Host::ThisArbiter)
            .seed(id.get())
            .start()
            .await;
        self.nodes[place] = Some(started.unwrap());
    }

    async fn kill(&mut self, place: usize) {
        let handle = self.handle(place);
        self.nodes[place] = None;
        handle.stopped().await;
    }

    fn handle(&self, place: usize) -> Handle<Registers> {
        self.nodes[place].as_ref().unwrap().handle()
    }

    /// The leader that a node follows.
    async fn followed_by(&self, place: usize) -> Option<synod::ProposalId> {
        self.handle(place).status().await.unwrap().leader
    }

    /// The place of the leader.
    async fn leader(&self) -> usize {
        loop {
            if let Some(leader) = self.followed_by(0).await {
                return leader.node.get() as usize - 1;
            }
            pause(Duration::from_millis(10)).await;
        }
    }
}

fn id(place: usize) -> NodeId {
    NodeId::new(place as u64 + 1)
}

fn write(value: u64) -> Write {
    Write { key: 0, value }
}

fn simulate<T>(test: impl Future<Output = T>) -> T {
    let runtime =
        || tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    actix::System::with_tokio_rt(runtime).block_on(test)
}

fn sources(directory: &Path, found: &mut Vec<(String, String)>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else {
            found.push((path.display().to_string(), std::fs::read_to_string(&path).unwrap()));
        }
    }
}

// fault F16, scenario L7: what is never asked cannot do harm by jumping.
#[test]
fn nothing_but_the_timer_asks_a_clock_and_nothing_asks_the_wall_clock() {
    let mut found = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
    assert!(found.len() > 50, "the sources were found");
    // Where chance is drawn for the id of a disk, with the time of day in it.
    found.retain(|(path, _)| !path.ends_with("storage/disk/real.rs"));
    for (path, text) in found {
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        for line in code {
            assert!(!line.contains("SystemTime"), "{path}: {line}");
            assert!(path.ends_with("/timer.rs") || !line.contains("Instant"), "{path}: {line}");
        }
    }
}

// fault F17, scenario M10
#[test]
fn a_leader_that_was_paused_for_half_a_minute_serves_no_stale_read_when_it_resumes() {
    simulate(async {
        let three = Three::start().await;
        let leader = three.leader().await;
        let (second, third) = ((leader + 1) % 3, (leader + 2) % 3);
        three.clocks[leader].stall(Duration::from_secs(30));
        three.network.partition(&[&[id(leader)], &[id(second), id(third)]]);
        pause(Duration::from_secs(5)).await;
        while three.handle(second).propose(write(2)).await.is_err() {}
        let reader = three.handle(leader);
        let early = actix_rt::spawn(async move { reader.read(|state| state.values[0]).await });
        pause(Duration::from_secs(25)).await;
        three.network.heal_all();
        let resumed = three.handle(leader).read(|state| state.values[0]).await;
        for read in [early.await.unwrap(), resumed] {
            assert!(matches!(read, Err(_) | Ok(Some(2))), "{read:?}");
        }
        pause(Duration::from_secs(2)).await;
        assert_eq!(three.handle(leader).read(|state| state.values[0]).await.unwrap(), Some(2));
    });
}

// fault F24
#[test]
fn without_a_majority_writes_end_in_time_and_the_cluster_goes_on_by_itself_when_it_is_back() {
    simulate(async {
        let mut three = Three::start().await;
        let left = three.leader().await;
        let gone = [(left + 1) % 3, (left + 2) % 3];
        for place in gone {
            three.kill(place).await;
        }
        let handle = three.handle(left).with_deadline(Duration::from_secs(1));
        for value in 10..15 {
            let called = Instant::now();
            let error = handle.propose(write(value)).await.unwrap_err();
            assert!(
                matches!(error, ProposeError::Unknown { .. } | ProposeError::NotLeader { .. }),
                "{error:?}"
            );
            assert!(called.elapsed() < Duration::from_millis(1100), "{:?}", called.elapsed());
        }
        assert!(handle.read(|state| state.values[0]).await.is_err());
        assert_eq!(handle.read_stale(|state| state.applied.clone()).await.unwrap(), [1]);
        for place in gone {
            three.start_one(place, true).await;
        }
        pause(Duration::from_secs(5)).await;
        three.handle(gone[0]).propose(write(20)).await.unwrap();
        let mut states = Vec::new();
        for place in 0..3 {
            states.push(three.handle(place).read(Registers::clone).await.unwrap());
        }
        assert!(states.iter().all(|state| *state == states[0]), "{states:?}");
    });
}

// fault F27, scenario O1
#[test]
fn of_a_hundred_thousand_calls_at_once_what_is_too_much_is_refused_and_nobody_else_is_elected() {
    simulate(async {
        let three = Three::start().await;
        let leader = three.leader().await;
        let before = three.followed_by(leader).await;
        let handle = three.handle(leader);
        let calls = (0..100_000).map(|number| {
            let handle = handle.clone();
            async move { handle.try_propose(write(100 + number)).await }
        });
        let (mut done, mut busy) = (0, 0);
        for outcome in join_all(calls).await {
            match outcome {
                Ok(_) => done += 1,
                Err(ProposeError::Busy) => busy += 1,
                Err(error) => panic!("{error:?}"),
            }
        }
        let credits = Config::new(ClusterId::new("scenarios").unwrap(), id(0)).credits;
        assert!(done > 0 && done <= credits, "{done} were under way at once");
        assert_eq!(done + busy, 100_000);
        pause(Duration::from_secs(2)).await;
        for place in 0..3 {
            assert_eq!(three.followed_by(place).await, before, "no change of the leader");
        }
    });
}

// scenario L6, fault F18
#[test]
fn with_a_third_of_all_messages_lost_there_is_progress_in_every_ten_seconds() {
    simulate(async {
        let three = Three::start().await;
        three.network.set_faults(Faults {
            loss: 0.3,
            delay_max: Duration::from_millis(5),
            ..Faults::default()
        });
        let handle = three.handle(0).with_deadline(Duration::from_secs(2));
        for window in 0..6 {
            let (begun, mut done) = (Instant::now(), 0);
            while begun.elapsed() < Duration::from_secs(10) {
                done += u64::from(handle.propose(write(1000 + window)).await.is_ok());
                pause(Duration::from_millis(20)).await;
            }
            assert!(done > 0, "nothing in window {window}");
        }
    });
}

// scenario N4, fault F22
#[test]
fn a_link_that_works_one_way_for_a_minute_changes_the_leader_once_at_most() {
    for towards_leader in [true, false] {
        simulate(async {
            let three = Three::start().await;
            let leader = three.leader().await;
            let (deaf, third) = ((leader + 1) % 3, (leader + 2) % 3);
            let (from, to) = if towards_leader { (deaf, leader) } else { (leader, deaf) };
            let mut leaders = std::collections::BTreeSet::from_iter(three.followed_by(third).await);
            three.network.cut_one_way(id(from), id(to));
            for _ in 0..600 {
                pause(Duration::from_millis(100)).await;
                leaders.extend(three.followed_by(third).await);
            }
            assert!(leaders.len() <= 2, "{leaders:?}");
            three.handle(third).propose(write(2)).await.unwrap();
        });
    }
}
