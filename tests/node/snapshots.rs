//! Snapshots of whole nodes: taken while commits go on, installed where the log is cut, restored after a restart.

use crate::{Cluster, Ledger, config, entry, membership, pause, simulate};
use std::future::poll_fn;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;
use synod::multi::{Log, SessionStamp, Slot};
use synod::storage::{Start, Storage};
use synod::{
    Change, Config, Handle, Host, Member, MemberKind, MemoryStorage, Node, NodeId, Position, ReadError,
    RestoreError, Snapshot, SnapshotError, SnapshotReader, StateMachine, Status,
};
use synod_channel::ChannelHub;

/// A number with so many bytes to it that the log grows by them, and the state does not.
fn bulky(number: u64) -> crate::Entry {
    (number, vec![7; 1000])
}

/// Every twenty commands or so, the log is long enough for a snapshot.
fn often(config: &mut Config) {
    config.snapshot_log_bytes = 20_000;
    // So that what a peer lacks is not at hand in memory.
    config.cache_bytes_max = 0;
}

async fn propose(handle: &Handle<Ledger>, numbers: std::ops::RangeInclusive<u64>) {
    for number in numbers {
        handle.propose(bulky(number)).await.unwrap();
        // A command in some milliseconds: the log is looked at ten times a second.
        pause(Duration::from_millis(10)).await;
    }
}

impl Cluster {
    async fn status(&self, node: u64) -> Status {
        self.handle(node).status().await.unwrap()
    }

    /// What a node that is down has on its disk.
    pub(crate) async fn on_disk(&self, node: u64) -> (Log, MemoryStorage) {
        let storage = self.storages[&node].clone();
        let recovered = storage.open(config(node).owner, Start::Restart).await.unwrap();
        (recovered.log, storage)
    }
}

fn begins_at(status: &Status) -> u64 {
    status.log_begins_at.unwrap().get()
}

// protocol 4.2, 5.1, scenario M6
#[test]
fn a_snapshot_is_taken_while_commits_go_on_and_the_log_is_cut_behind_it() {
    simulate(async {
        let slow = |config: &mut Config| {
            often(config);
            config.snapshot_log_bytes = 100_000_000;
            // The state takes seconds to write.
            config.snapshot_bytes_per_second = 1_000;
        };
        let mut cluster = Cluster::tuned(1, slow).await;
        let handle = cluster.handle(1);
        propose(&handle, 1..=230).await;
        let taker = handle.clone();
        let taken = actix_rt::spawn(async move { taker.snapshot().await });
        let mut during = 0;
        for number in 231..=330 {
            handle.propose(bulky(number)).await.unwrap();
            pause(Duration::from_millis(10)).await;
            during += u32::from(!taken.is_finished());
        }
        assert_eq!(during, 100, "every one of them was committed before the snapshot was done");
        assert_eq!(begins_at(&cluster.status(1).await), 0, "and nothing was cut before it was");
        let taken = taken.await.unwrap().unwrap();
        let status = cluster.status(1).await;
        assert!(taken.through < status.applied_through, "it is of the state as it was");
        assert_eq!((status.snapshot, status.log_begins_at), (Some(taken), Some(taken.through)));
        cluster.kill(1).await;
        let (log, storage) = cluster.on_disk(1).await;
        assert_eq!(log.trimmed_through(), taken.through);
        let first = taken.through.next();
        assert_eq!(storage.read(first..first.next(), 1).await.unwrap().len(), 1, "the tail stays");
        drop(storage);
        cluster.restart(1).await;
        cluster.leader().await;
        assert_eq!(cluster.numbers(1).await, (1..=330).collect::<Vec<_>>());
    });
}

// protocol 4.2
#[test]
fn the_log_stays_short_however_many_commands_come() {
    simulate(async {
        let mut cluster = Cluster::tuned(3, often).await;
        let handle = cluster.handle(1);
        for round in 0..20 {
            propose(&handle, round * 50 + 1..=round * 50 + 50).await;
            for node in 1..=3 {
                let status = cluster.status(node).await;
                let length = status.applied_through.get() - begins_at(&status);
                assert!(round == 0 || length < 100, "round {round}: {length} slots at node {node}");
            }
        }
        for node in 1..=3 {
            assert_eq!(cluster.numbers(node).await.len(), 1000);
        }
        cluster.kill(2).await;
        let (_, storage) = cluster.on_disk(2).await;
        assert!(storage.log_bytes() < 60_000, "{} bytes", storage.log_bytes());
    });
}

// protocol 4.2, 5.2, scenario M6, fault F26
#[test]
fn a_node_that_comes_back_behind_the_cut_gets_the_snapshot_and_then_the_tail() {
    simulate(async {
        let mut cluster = Cluster::tuned(3, often).await;
        propose(&cluster.handle(1), 1..=5).await;
        let absent = cluster.follower().await;
        cluster.kill(absent).await;
        let other = cluster.leader().await;
        propose(&cluster.handle(other), 6..=120).await;
        assert!(begins_at(&cluster.status(other).await) > 60);
        cluster.restart(absent).await;
        assert_eq!(cluster.numbers(absent).await, (1..=120).collect::<Vec<_>>());
        let status = cluster.status(absent).await;
        assert!(begins_at(&status) > 60 && !status.restoring, "{status:?}");
        let applied = |ledger: &Ledger| ledger.applied.clone();
        let its = cluster.handle(absent).read(applied).await.unwrap();
        let theirs = cluster.handle(other).read(applied).await.unwrap();
        assert_eq!(its, theirs, "at the same positions");
    });
}

// protocol 10.1, 5.2
#[test]
fn a_machine_that_lost_its_disk_joins_under_a_new_id_where_the_log_is_cut() {
    simulate(async {
        let mut cluster = Cluster::tuned(3, often).await;
        propose(&cluster.handle(1), 1..=60).await;
        let lost = cluster.follower().await;
        cluster.kill(lost).await;
        let other = cluster.leader().await;
        propose(&cluster.handle(other), 61..=120).await;
        cluster.join(4).await;
        let member = Member { kind: MemberKind::Voter, address: String::new() };
        let handle = cluster.handle(other).with_deadline(Duration::from_secs(30));
        handle.change(Change::Add { node: NodeId::new(4), member }).await.unwrap();
        handle.change(Change::Remove { node: NodeId::new(lost) }).await.unwrap();
        propose(&cluster.handle(4), 121..=130).await;
        assert_eq!(cluster.numbers(4).await, (1..=130).collect::<Vec<_>>());
        let status = cluster.status(4).await;
        assert!(status.snapshot.is_some(), "{status:?}");
        assert!(status.membership.unwrap().members().contains_key(&NodeId::new(4)));
    });
}

// protocol 5.1, 12.4, scenario M7
#[test]
fn a_restart_restores_state_sessions_and_memberships() {
    simulate(async {
        let mut cluster = Cluster::start(1).await;
        cluster.add(2).await;
        let session = cluster.handle(1).open_session().await.unwrap();
        assert_eq!(session.propose(entry(1)).await.unwrap(), 1);
        let stamp = SessionStamp { session: session.id(), serial: 1, answered_through: 0 };
        let before = cluster.status(1).await.membership;
        for node in [1, 2] {
            let taken = cluster.handle(node).snapshot().await.unwrap();
            assert_eq!(cluster.status(node).await.log_begins_at, Some(taken.through));
        }
        for node in [1, 2] {
            cluster.kill(node).await;
        }
        let (log, storage) = cluster.on_disk(1).await;
        assert!(log.entry(Slot::FIRST).is_none() && log.trimmed_through() > Slot::FIRST, "it is cut");
        drop(storage);
        cluster.restart(1).await;
        cluster.restart(2).await;
        cluster.leader().await;
        assert_eq!(cluster.status(1).await.membership, before);
        for node in [1, 2] {
            let again = cluster.handle(node).propose_in_session(stamp, entry(1)).await.unwrap();
            assert_eq!(again, 1, "the reply that was kept");
            assert_eq!(cluster.numbers(node).await, [1], "applied once");
        }
    });
}

// protocol 11.6, scenario O4
#[test]
fn a_rebuilt_learner_begins_at_the_snapshot() {
    simulate(async {
        let cluster = Cluster::tuned(3, often).await;
        propose(&cluster.handle(1), 1..=100).await;
        for node in 1..=3 {
            cluster.handle(node).panic_role(synod::multi::Role::Learner);
        }
        pause(Duration::from_secs(1)).await;
        cluster.leader().await;
        for node in 1..=3 {
            assert_eq!(cluster.numbers(node).await, (1..=100).collect::<Vec<_>>());
            assert_eq!(cluster.status(node).await.rebuilt, 1);
        }
    });
}

#[test]
fn whoever_asks_while_a_snapshot_is_taken_gets_that_one() {
    simulate(async {
        let cluster = Cluster::tuned(1, |config| config.snapshot_bytes_per_second = 1_000).await;
        let handle = cluster.handle(1);
        propose(&handle, 1..=300).await;
        let hasty = handle.with_deadline(Duration::from_millis(100));
        let (first, second) = (handle.clone(), handle.clone());
        let first = actix_rt::spawn(async move { first.snapshot().await });
        let error = hasty.snapshot().await.unwrap_err();
        assert!(matches!(error, SnapshotError::Deadline), "{error:?}");
        propose(&handle, 301..=310).await;
        let second = second.snapshot().await.unwrap();
        assert_eq!(first.await.unwrap().unwrap(), second);
        let third = handle.snapshot().await.unwrap();
        assert!(third.through > second.through);
        assert_eq!(handle.snapshot().await.unwrap(), third, "nothing was applied since");
    });
}

#[test]
fn a_node_that_has_applied_nothing_has_nothing_to_take() {
    simulate(async {
        let mut cluster = Cluster::unformed(3, |_| {});
        cluster.bootstrap(1).await;
        let error = cluster.handle(1).snapshot().await.unwrap_err();
        assert!(matches!(error, SnapshotError::Empty), "{error:?}");
    });
}

// protocol 5.2
#[test]
fn a_node_without_its_state_yet_serves_no_read() {
    simulate(async {
        let mut cluster = Cluster::tuned(3, often).await;
        propose(&cluster.handle(1), 1..=60).await;
        let alone = Node::join(config(5)).transport(ChannelHub::new().transport(NodeId::new(5)));
        let alone = alone.storage(MemoryStorage::with_seed(5)).host(Host::ThisArbiter);
        let alone = alone.state_machine(Ledger::default).start().await.unwrap();
        let error = alone.handle().read_stale(Ledger::numbers).await.unwrap_err();
        assert!(matches!(error, ReadError::Deadline), "{error:?}");
        cluster.join(4).await;
        let handle = cluster.handle(4);
        assert!(
            !handle.read_stale(Ledger::numbers).await.unwrap().is_empty(),
            "it waits for the first state"
        );
    });
}

/// How long a new node takes to get the state of three, all configured by `tune`, and how many bytes that is.
async fn fetching(tune: fn(&mut Config)) -> (Duration, u64) {
    let mut cluster = Cluster::tuned(3, tune).await;
    propose(&cluster.handle(1), 1..=60).await;
    let mut bytes = 0;
    for node in 1..=3 {
        let handle = cluster.handle(node).with_deadline(Duration::from_secs(60));
        bytes = handle.snapshot().await.unwrap().bytes;
    }
    let begin = tokio::time::Instant::now();
    cluster.join(4).await;
    let handle = cluster.handle(4).with_deadline(Duration::from_secs(60));
    let numbers = handle.read_stale(Ledger::numbers).await.unwrap();
    assert_eq!(numbers, (1..=60).collect::<Vec<_>>());
    (begin.elapsed(), bytes)
}

// protocol 5.1
#[test]
fn a_snapshot_goes_to_a_peer_at_the_pace_of_transfers_however_slowly_it_is_drawn() {
    simulate(async {
        let slowly_drawn = |config: &mut Config| {
            often(config);
            config.snapshot_bytes_per_second = 500;
        };
        let slowly_sent = |config: &mut Config| {
            often(config);
            config.transfer_bytes_per_second = 500;
        };
        let (fast, _) = fetching(slowly_drawn).await;
        let (slow, bytes) = fetching(slowly_sent).await;
        let paced = Duration::from_millis(bytes * 2);
        assert!(fast < paced / 4, "{fast:?}, where {paced:?} would be the pace of drawing");
        // What is spent first is paid for later.
        assert!(slow > paced * 3 / 4, "{slow:?}, where {paced:?} is the pace");
    });
}

// ---------------------------------------------------------------- state machines that fail

/// How a state machine fails, from now on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Mood {
    #[default]
    Well,
    SnapshotPanics,
    WritingFails,
    WritingPanics,
    RestoreFails,
    RestorePanics,
    /// It takes until somebody says go.
    RestoreWaits,
}

#[derive(Clone, Default)]
struct Moody {
    ledger: Ledger,
    mood: Arc<Mutex<Mood>>,
    go: Arc<Mutex<Option<Sender<()>>>>,
}

impl Moody {
    fn mood(&self) -> Mood {
        *self.mood.lock().unwrap()
    }

    fn set(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    async fn start(&self, storage: &MemoryStorage, builder: synod::Builder<()>) -> Node<Self> {
        let made = self.clone();
        let factory = move || Self { ledger: Ledger::default(), ..made.clone() };
        let builder = builder.transport(ChannelHub::new().transport(NodeId::new(1))).storage(storage.clone());
        builder.host(Host::ThisArbiter).seed(1).state_machine(factory).start().await.unwrap()
    }
}

impl StateMachine for Moody {
    type Command = u64;
    type Reply = usize;

    fn apply(&mut self, at: Position, number: u64) -> usize {
        self.ledger.apply(at, entry(number))
    }

    fn snapshot(&self) -> Snapshot {
        let (mood, ledger) = (self.mood(), self.ledger.clone());
        assert_ne!(mood, Mood::SnapshotPanics);
        Snapshot::new(move |out| {
            assert_ne!(mood, Mood::WritingPanics);
            out.write_all(b"some of it")?;
            if mood == Mood::WritingFails {
                return Err(std::io::ErrorKind::Other.into());
            }
            out.write_all(&synod::codec::encode(&ledger).unwrap())
        })
    }

    fn restore(&mut self, mut snapshot: SnapshotReader<'_>) -> Result<(), RestoreError> {
        let mood = self.mood();
        assert_ne!(mood, Mood::RestorePanics);
        if mood == Mood::RestoreFails {
            return Err("not today".into());
        }
        if mood == Mood::RestoreWaits {
            let (go, gate) = channel();
            *self.go.lock().unwrap() = Some(go);
            gate.recv()?;
        }
        let mut some = [0; 10];
        std::io::Read::read_exact(&mut snapshot, &mut some)?;
        self.ledger = snapshot.decode()?;
        Ok(())
    }
}

#[test]
fn a_state_machine_that_cannot_write_itself_costs_its_snapshot_and_nothing_else() {
    simulate(async {
        let (storage, moody) = (MemoryStorage::with_seed(1), Moody::default());
        let node = moody.start(&storage, Node::bootstrap(config(1), membership(1))).await;
        let handle = node.handle();
        handle.propose(1).await.unwrap();
        for mood in [Mood::SnapshotPanics, Mood::WritingFails, Mood::WritingPanics] {
            moody.set(mood);
            let error = handle.snapshot().await.unwrap_err();
            match mood {
                Mood::WritingFails => assert!(matches!(error, SnapshotError::Failed(_)), "{error:?}"),
                _ => assert!(matches!(error, SnapshotError::Panicked { .. }), "{mood:?}: {error:?}"),
            }
            handle.propose(2).await.unwrap();
        }
        moody.set(Mood::Well);
        let taken = handle.snapshot().await.unwrap();
        let status = handle.status().await.unwrap();
        assert_eq!((status.snapshot, status.rebuilt), (Some(taken), 0));
        let numbers = handle.read(|moody| moody.ledger.numbers()).await.unwrap();
        assert_eq!(numbers, [1, 2, 2, 2]);
    });
}

// protocol 5.2
#[test]
fn a_node_whose_state_cannot_be_restored_answers_nobody_and_does_not_lead() {
    simulate(async {
        for mood in [Mood::RestoreFails, Mood::RestorePanics] {
            let (storage, moody) = (MemoryStorage::with_seed(1), Moody::default());
            let node = moody.start(&storage, Node::bootstrap(config(1), membership(1))).await;
            node.handle().propose(1).await.unwrap();
            node.handle().snapshot().await.unwrap();
            node.handle().propose(2).await.unwrap();
            node.shutdown().await.unwrap();
            moody.set(mood);
            let node = moody.start(&storage, Node::restart(config(1))).await;
            let handle = node.handle();
            let error = handle.read_stale(|moody| moody.ledger.numbers()).await.unwrap_err();
            assert!(matches!(error, ReadError::Deadline), "{mood:?}: {error:?}");
            assert!(handle.read(|moody| moody.ledger.numbers()).await.is_err());
            let status = handle.status().await.unwrap();
            assert!(status.restoring && status.rebuilt == 0, "{status:?}");
            assert_eq!(status.proposer, synod::multi::ProposerState::Idle);
            node.shutdown().await.unwrap();
            moody.set(Mood::Well);
            let node = moody.start(&storage, Node::restart(config(1))).await;
            let numbers = node.handle().read(|moody| moody.ledger.numbers()).await.unwrap();
            assert_eq!(numbers, [1, 2]);
        }
    });
}

// protocol 5.2
#[test]
fn while_the_state_is_restored_reads_wait_and_the_node_goes_on() {
    simulate(async {
        let (storage, moody) = (MemoryStorage::with_seed(1), Moody::default());
        let node = moody.start(&storage, Node::bootstrap(config(1), membership(1))).await;
        node.handle().propose(1).await.unwrap();
        node.handle().snapshot().await.unwrap();
        node.shutdown().await.unwrap();
        moody.set(Mood::RestoreWaits);
        let node = moody.start(&storage, Node::restart(config(1))).await;
        let handle = node.handle();
        let reader = handle.clone();
        let read = actix_rt::spawn(async move { reader.read_stale(|moody| moody.ledger.numbers()).await });
        while moody.go.lock().unwrap().is_none() {
            yield_once().await;
        }
        for _ in 0..100 {
            yield_once().await;
        }
        let status = handle.status().await.unwrap();
        assert!(status.restoring && !read.is_finished(), "{status:?}");
        moody.go.lock().unwrap().take().unwrap().send(()).unwrap();
        assert_eq!(read.await.unwrap().unwrap(), [1]);
        assert!(!handle.status().await.unwrap().restoring);
    });
}

/// Lets the others have a turn, at the same time of the clock.
async fn yield_once() {
    let mut yielded = false;
    poll_fn(|task| {
        task.waker().wake_by_ref();
        if std::mem::replace(&mut yielded, true) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}
