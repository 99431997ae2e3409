//! Locks and elections on whole nodes: who holds a lock, for how long, and under which token. On one paused clock.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use futures::future::join_all;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use synod::lock::{
    Election, FencingToken, Guard, HoldsLocks, Lock, LockCommand, LockError, LockRefusal, LockReply,
    LockTable, NAME_BYTES_MAX, TTL_MAX, keep_time,
};
use synod::multi::ProposerState;
use synod::timer::TokioTimer;
use synod::{
    ClusterId, Config, Handle, Host, Leadership, Membership, MemoryStorage, Node, NodeId, Position,
    ProposeError, RestoreError, Snapshot, SnapshotReader, StateMachine,
};
use synod_channel::ChannelHub;
use tokio::time::Instant;

const TTL: Duration = Duration::from_secs(2);

/// How much later than its time a lock may be freed: a look, a commit, and the waiter's own look.
const LATE: Duration = Duration::from_millis(150);

/// Runs `test` on one arbiter whose clock goes on whenever nothing else does.
fn simulate<T>(test: impl Future<Output = T>) -> T {
    let runtime =
        || tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    actix::System::with_tokio_rt(runtime).block_on(test)
}

async fn pause(duration: Duration) {
    tokio::time::sleep(duration).await;
}

/// Three nodes that keep a machine with locks, and the time of them.
struct Cluster<S: HoldsLocks> {
    nodes: BTreeMap<u64, Node<S>>,
}

impl Cluster<LockTable> {
    async fn start() -> Self {
        Self::of(1, LockTable::default).await
    }

    async fn tokens(&self) -> FencingToken {
        self.any().read(LockTable::last_token).await.unwrap()
    }
}

impl<S: HoldsLocks> Cluster<S> {
    async fn of(seed: u64, machine: fn() -> S) -> Self {
        let hub = ChannelHub::new();
        let membership = Membership::voters((1..=3).map(|node| (NodeId::new(node), ""))).unwrap();
        let mut nodes = BTreeMap::new();
        for node in 1..=3 {
            let config = Config::new(ClusterId::new("locks").unwrap(), NodeId::new(node));
            let node_started = Node::bootstrap(config, membership.clone())
                .transport(hub.transport(NodeId::new(node)))
                .storage(MemoryStorage::with_seed(node))
                .host(Host::ThisArbiter)
                .seed(seed * 31 + node)
                .state_machine(machine)
                .service(keep_time)
                .start()
                .await
                .unwrap();
            nodes.insert(node, node_started);
        }
        let cluster = Self { nodes };
        cluster.leader().await;
        cluster
    }

    fn handle(&self, node: u64) -> Handle<S> {
        self.nodes[&node].handle()
    }

    fn any(&self) -> Handle<S> {
        self.nodes.values().next().unwrap().handle()
    }

    /// The node that leads, once one does and the others follow it.
    async fn leader(&self) -> u64 {
        for _ in 0..1000 {
            let mut leads = Vec::new();
            let mut follow = 0;
            for (node, running) in &self.nodes {
                let status = running.handle().status().await.unwrap();
                if matches!(status.proposer, ProposerState::Leading { .. }) {
                    leads.push(*node);
                }
                follow += usize::from(status.leader.is_some());
            }
            if let [node] = leads[..]
                && follow == self.nodes.len()
            {
                return node;
            }
            pause(Duration::from_millis(10)).await;
        }
        panic!("nobody leads");
    }

    async fn followers(&self) -> Vec<u64> {
        let leader = self.leader().await;
        self.nodes.keys().copied().filter(|node| *node != leader).collect()
    }

    /// Drops a node and waits until it is gone.
    async fn kill(&mut self, node: u64) {
        let killed = self.nodes.remove(&node).unwrap();
        let handle = killed.handle();
        drop(killed);
        handle.stopped().await;
    }

    fn lock(&self, node: u64, owner: &str) -> Lock<S> {
        lock(&self.handle(node), owner)
    }
}

fn lock<S: HoldsLocks>(handle: &Handle<S>, owner: &str) -> Lock<S> {
    let handle = handle.with_deadline(Duration::from_secs(60));
    Lock::new(handle, Arc::new(TokioTimer::default()), "disk", owner, TTL).unwrap()
}

fn hasty<S: HoldsLocks>(handle: &Handle<S>, owner: &str) -> Lock<S> {
    let handle = handle.with_deadline(Duration::from_secs(1));
    Lock::new(handle, Arc::new(TokioTimer::default()), "disk", owner, TTL).unwrap()
}

fn election(handle: &Handle<LockTable>, candidate: &str) -> Election<LockTable> {
    let handle = handle.with_deadline(Duration::from_secs(60));
    Election::new(handle, Arc::new(TokioTimer::default()), "scheduler", candidate, TTL).unwrap()
}

/// What a lock protects: it refuses a lower token than it has seen.
#[derive(Debug, Default)]
struct Resource {
    fence: FencingToken,
    written: Vec<&'static str>,
}

impl Resource {
    fn write(&mut self, token: FencingToken, text: &'static str) -> bool {
        let is_in_force = token >= self.fence;
        if is_in_force {
            self.fence = token;
            self.written.push(text);
        }
        is_in_force
    }
}

// ------------------------------------------------------------- one holder at a time

#[test]
fn two_clients_on_different_nodes_exclude_each_other() {
    simulate(async {
        let cluster = Cluster::start().await;
        let mut one = cluster.lock(1, "one");
        let mut two = cluster.lock(2, "two");
        let guard = one.try_acquire().await.unwrap();
        let error = two.try_acquire().await.unwrap_err();
        let LockError::Held { holder } = error else { panic!("{error:?}") };
        assert_eq!((holder.owner.as_str(), holder.token, holder.ttl), ("one", guard.token(), TTL));
        assert_eq!(two.holder().await.unwrap(), Some(holder));
        guard.release().await.unwrap();
        assert_eq!(one.holder().await.unwrap(), None);
        let next = two.try_acquire().await.unwrap();
        assert!(next.token() > guard.token());
    });
}

#[test]
fn of_many_that_wait_each_has_its_turn_alone_and_with_a_higher_token() {
    simulate(async {
        let cluster = Cluster::start().await;
        let inside = std::rc::Rc::new(std::cell::RefCell::new((false, Vec::new())));
        let workers = (0..12_u64).map(|worker| {
            let mut lock = cluster.lock(worker % 3 + 1, &format!("worker {worker}"));
            let inside = std::rc::Rc::clone(&inside);
            actix_rt::spawn(async move {
                let guard = lock.acquire().await.unwrap();
                assert!(!std::mem::replace(&mut inside.borrow_mut().0, true), "another is inside");
                pause(Duration::from_millis(300)).await;
                inside.borrow_mut().1.push(guard.token());
                inside.borrow_mut().0 = false;
                guard.release().await.unwrap();
            })
        });
        for worker in join_all(workers).await {
            worker.unwrap();
        }
        let tokens = &inside.borrow().1;
        assert_eq!(tokens.len(), 12);
        assert!(tokens.is_sorted_by(|one, next| one < next), "{tokens:?}");
    });
}

#[test]
fn who_waits_for_a_held_lock_hears_by_its_deadline_who_holds_it() {
    simulate(async {
        let cluster = Cluster::start().await;
        let guard = cluster.lock(1, "one").try_acquire().await.unwrap();
        let begun = Instant::now();
        let error = hasty(&cluster.handle(2), "two").acquire().await.unwrap_err();
        assert!(matches!(error, LockError::Held { holder } if holder.token == guard.token()));
        let waited = begun.elapsed();
        assert!((900..=1000).contains(&waited.as_millis()), "{waited:?}");
    });
}

#[test]
fn a_waiting_client_writes_nothing_to_the_log_while_the_lock_is_held() {
    simulate(async {
        let cluster = Cluster::start().await;
        let guard = cluster.lock(1, "one").try_acquire().await.unwrap();
        let mut two = cluster.lock(2, "two");
        let waiting = actix_rt::spawn(async move { two.acquire().await });
        pause(Duration::from_millis(200)).await;
        let before = cluster.any().status().await.unwrap().chosen_through;
        pause(Duration::from_millis(1500)).await;
        assert_eq!(cluster.any().status().await.unwrap().chosen_through, before);
        guard.release().await.unwrap();
        waiting.await.unwrap().unwrap().release().await.unwrap();
    });
}

// ------------------------------------------------------------- the time of a holder

// protocol 12.5
#[test]
fn a_silent_holder_loses_the_lock_after_its_time_and_the_next_token_is_higher() {
    simulate(async {
        let cluster = Cluster::start().await;
        let begun = Instant::now();
        let silent = cluster.lock(1, "silent").acquire().await.unwrap();
        let next = cluster.lock(2, "next").acquire().await.unwrap();
        let waited = begun.elapsed();
        assert!(waited >= TTL && waited <= TTL + LATE, "{waited:?}");
        assert!(next.token() > silent.token());
        for error in [silent.renew().await.unwrap_err(), silent.release().await.unwrap_err()] {
            assert!(matches!(error, LockError::Lost { token } if token == silent.token()), "{error:?}");
        }
        next.renew().await.expect("what the old holder tried has changed nothing");
    });
}

// protocol 12.5
#[test]
fn a_holder_that_renews_keeps_the_lock_and_loses_it_a_whole_time_after_the_last_renewal() {
    simulate(async {
        let cluster = Cluster::start().await;
        let guard = cluster.lock(1, "busy").acquire().await.unwrap();
        let mut last = Instant::now();
        for _ in 0..10 {
            pause(TTL * 3 / 4).await;
            last = Instant::now();
            guard.renew().await.unwrap();
        }
        cluster.lock(2, "next").acquire().await.unwrap().release().await.unwrap();
        let silent = last.elapsed();
        assert!(silent >= TTL && silent <= TTL + LATE, "{silent:?}");
    });
}

// protocol 12.5
#[test]
fn a_new_leader_starts_the_time_afresh() {
    simulate(async {
        let mut cluster = Cluster::start().await;
        let (leader, followers) = (cluster.leader().await, cluster.followers().await);
        let guard = cluster.lock(followers[0], "silent").acquire().await.unwrap();
        pause(TTL * 3 / 4).await;
        let acquired: Vec<_> =
            followers.iter().map(|node| actix_rt::spawn(leads(cluster.handle(*node)))).collect();
        cluster.kill(leader).await;
        let next = cluster.lock(followers[1], "next").acquire().await.unwrap();
        let taken = Instant::now();
        let (led, ..) = futures::future::select_all(acquired).await;
        let since = taken - led.unwrap();
        assert!(since >= TTL && since <= TTL + LATE, "{since:?} after the new leader led");
        assert!(next.token() > guard.token());
    });
}

/// When the node of `handle` began to lead.
async fn leads(handle: Handle<LockTable>) -> Instant {
    use futures::StreamExt;
    let mut changes = handle.leadership();
    while let Some(change) = changes.next().await {
        if matches!(change, Leadership::Acquired(_)) {
            return Instant::now();
        }
    }
    std::future::pending().await
}

// protocol 12.5
#[test]
fn a_leader_that_comes_back_does_not_count_what_it_counted_before() {
    simulate(async {
        let cluster = Cluster::start().await;
        let first = cluster.leader().await;
        let guard = cluster.lock(first, "silent").acquire().await.unwrap();
        pause(TTL * 3 / 4).await;
        cluster.handle(first).step_down().await.unwrap();
        pause(Duration::from_millis(1)).await;
        let again = actix_rt::spawn(leads(cluster.handle(first)));
        // No two leaders count the same silence: each has less than the whole time.
        while !again.is_finished() {
            let leader = cluster.leader().await;
            if leader != first {
                cluster.handle(leader).step_down().await.unwrap();
                pause(Duration::from_millis(1)).await;
            }
        }
        let again = again.await.unwrap();
        let next = cluster.lock(first, "next").acquire().await.unwrap();
        let since = Instant::now() - again;
        assert!(since >= TTL && since <= TTL + LATE, "{since:?} after it led again");
        assert!(next.token() > guard.token());
    });
}

/// How many seeds are tried; `SYNOD_SEED` names one instead.
fn seeds() -> Vec<u64> {
    match std::env::var("SYNOD_SEED") {
        Ok(seed) => vec![seed.parse().unwrap()],
        Err(_) => (0..20).collect(),
    }
}

// protocol 12.5
#[test]
fn whatever_becomes_of_the_leaders_no_lock_is_taken_before_its_time() {
    for seed in seeds() {
        println!("SYNOD_SEED={seed}");
        simulate(async move {
            let mut cluster = Cluster::of(seed, LockTable::default).await;
            let holder = cluster.followers().await[0];
            let guard = cluster.lock(holder, "holder").acquire().await.unwrap();
            let next = cluster.lock(holder, "next");
            let next = actix_rt::spawn(async move {
                let mut next = next;
                let guard = next.acquire().await.unwrap();
                (guard.token(), Instant::now())
            });
            let mut numbers = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
            let mut last = Instant::now();
            for step in 0..6 {
                numbers = numbers.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(1);
                pause(Duration::from_millis(200 + (numbers >> 33) % 1200)).await;
                let leader = cluster.leader().await;
                match (numbers >> 60) % 3 {
                    0 => cluster.handle(leader).step_down().await.unwrap(),
                    1 if step > 3 && leader != holder && cluster.nodes.len() == 3 => {
                        cluster.kill(leader).await;
                    }
                    _ => {}
                }
                let asked = Instant::now();
                match guard.renew().await {
                    Ok(()) => last = asked,
                    Err(LockError::Lost { .. }) => break,
                    // The leader went away with it: it may count, or not.
                    Err(LockError::Propose(ProposeError::Unknown { .. })) => {}
                    Err(error) => panic!("{error:?}"),
                }
            }
            let (token, taken) = next.await.unwrap();
            assert!(taken - last >= TTL, "{:?} after a renewal", taken - last);
            assert!(token > guard.token());
        });
    }
}

#[test]
fn without_a_leader_no_lock_is_taken_and_calls_end_by_their_deadline() {
    simulate(async {
        let mut cluster = Cluster::start().await;
        let (leader, followers) = (cluster.leader().await, cluster.followers().await);
        let guard = cluster.lock(followers[0], "holder").acquire().await.unwrap();
        // Until the other copies show the acquisition too.
        pause(Duration::from_millis(200)).await;
        cluster.kill(leader).await;
        cluster.kill(followers[1]).await;
        pause(TTL * 3).await;
        let handle = cluster.handle(followers[0]);
        let begun = Instant::now();
        let error = hasty(&handle, "next").acquire().await.unwrap_err();
        assert!(matches!(error, LockError::Propose(ProposeError::NotLeader { .. })), "{error:?}");
        let error = hasty(&handle, "next").try_acquire().await.unwrap_err();
        assert!(matches!(error, LockError::Propose(ProposeError::NotLeader { .. })), "{error:?}");
        let error = hasty(&handle, "next").holder().await.unwrap_err();
        assert!(matches!(error, LockError::Read(_)), "{error:?}");
        assert!(begun.elapsed() <= Duration::from_millis(3200), "{:?}", begun.elapsed());
        let owner = handle.read_stale(|table| table.holder("disk").map(|holder| holder.owner.clone())).await;
        assert_eq!(owner.unwrap().as_deref(), Some("holder"));
        assert_eq!(guard.name(), "disk");
    });
}

// ------------------------------------------------------------- outcomes

// protocol 12.1, 12.5
#[test]
fn after_a_call_without_an_answer_the_next_one_gets_the_same_acquisition() {
    simulate(async {
        let cluster = Cluster::start().await;
        let mut lock = cluster.lock(cluster.followers().await[0], "one");
        {
            let mut lost = std::pin::pin!(lock.try_acquire());
            assert!(futures::poll!(lost.as_mut()).is_pending(), "it is under way, and then dropped");
        }
        pause(Duration::from_millis(100)).await;
        let holder = lock.holder().await.unwrap().expect("the command was chosen all the same");
        let guard = lock.acquire().await.unwrap();
        assert_eq!(guard.token(), holder.token);
        assert_eq!(cluster.tokens().await, guard.token(), "no other token was used up");
        let error = lock.try_acquire().await.unwrap_err();
        assert!(matches!(error, LockError::Held { .. }), "once granted, the request is over: {error:?}");
    });
}

#[test]
fn bad_requests_are_refused_before_anything_is_proposed() {
    simulate(async {
        let cluster = Cluster::start().await;
        let timer = || Arc::new(TokioTimer::default());
        let long = "x".repeat(NAME_BYTES_MAX + 1);
        let refused = Lock::new(cluster.any(), timer(), long.clone(), "one", TTL).unwrap_err();
        assert_eq!(refused, LockRefusal::NameTooLong { bytes: 257 });
        let refused = Lock::new(cluster.any(), timer(), "disk", long.clone(), TTL).unwrap_err();
        assert_eq!(refused, LockRefusal::OwnerTooLong { bytes: 257 });
        let refused = Lock::new(cluster.any(), timer(), "disk", "one", TTL_MAX * 2).unwrap_err();
        assert_eq!(refused, LockRefusal::TtlOutOfRange { ttl: TTL_MAX * 2 });
        let refused = Election::new(cluster.any(), timer(), long, "one", TTL).unwrap_err();
        assert_eq!(refused, LockRefusal::NameTooLong { bytes: 257 });
    });
}

#[test]
fn a_full_table_is_said_at_once() {
    simulate(async {
        let cluster = Cluster::of(1, || LockTable::with_locks_max(1)).await;
        let held: Guard<LockTable> = cluster.lock(1, "one").acquire().await.unwrap();
        let timer = Arc::new(TokioTimer::default());
        let mut other = Lock::new(cluster.any(), timer, "tape", "two", TTL).unwrap();
        let begun = Instant::now();
        let error = other.acquire().await.unwrap_err();
        assert!(matches!(error, LockError::Refused(LockRefusal::Full { locks_max: 1 })), "{error:?}");
        assert!(begun.elapsed() < LATE);
        held.release().await.unwrap();
        other.acquire().await.unwrap().release().await.unwrap();
    });
}

#[test]
fn a_fenced_resource_refuses_the_holder_that_was_overtaken() {
    simulate(async {
        let cluster = Cluster::start().await;
        let mut resource = Resource::default();
        let slow = cluster.lock(1, "slow").acquire().await.unwrap();
        assert!(resource.write(slow.token(), "slow begins"));
        let next = cluster.lock(2, "next").acquire().await.unwrap();
        assert!(resource.write(next.token(), "next"));
        assert!(!resource.write(slow.token(), "slow goes on"));
        assert!(resource.write(next.token(), "next goes on"));
        assert_eq!(resource.written, ["slow begins", "next", "next goes on"]);
    });
}

// ------------------------------------------------------------- elections

#[test]
fn an_office_has_one_holder_at_a_time_and_its_terms_increase() {
    simulate(async {
        let cluster = Cluster::start().await;
        let mut candidates: Vec<_> =
            (1..=3).map(|node| election(&cluster.handle(node), &format!("candidate {node}"))).collect();
        let observer = election(&cluster.handle(3), "observer");
        assert_eq!(observer.leader().await.unwrap(), None);
        let mut last = None;
        for round in 0..6 {
            let candidate = &mut candidates[round % 3];
            let office = candidate.campaign().await.unwrap();
            assert!(Some(office.term()) > last);
            let holder = observer.observe(last).await.unwrap().expect("somebody is in office");
            assert_eq!(holder.token, office.term());
            assert_eq!(holder.owner, format!("candidate {}", round % 3 + 1));
            assert_eq!(observer.leader().await.unwrap(), Some(holder));
            if round % 2 == 0 {
                office.stay().await.unwrap();
                office.resign().await.unwrap();
                assert_eq!(observer.observe(Some(office.term())).await.unwrap(), None);
                last = None.max(Some(office.term()));
                assert!(matches!(office.stay().await.unwrap_err(), LockError::Lost { .. }));
            } else {
                last = Some(office.term());
            }
        }
    });
}

#[test]
fn an_observer_hears_who_follows_on_a_leader_that_fell_silent() {
    simulate(async {
        let cluster = Cluster::start().await;
        let observer = election(&cluster.handle(3), "observer");
        let silent = election(&cluster.handle(1), "silent").campaign().await.unwrap();
        let next = election(&cluster.handle(2), "next");
        let next = actix_rt::spawn(async move {
            let mut next = next;
            next.campaign().await
        });
        let mut known = Some(silent.term());
        let holder = loop {
            match observer.observe(known).await.unwrap() {
                Some(holder) => break holder,
                None => known = None,
            }
        };
        let office = next.await.unwrap().unwrap();
        assert_eq!((holder.owner.as_str(), holder.token), ("next", office.term()));
        assert!(office.term() > silent.term());
    });
}

#[test]
fn an_observer_of_an_office_that_does_not_change_hears_so_by_its_deadline() {
    simulate(async {
        let cluster = Cluster::start().await;
        let office = election(&cluster.handle(1), "one").campaign().await.unwrap();
        let handle = cluster.handle(2).with_deadline(Duration::from_secs(1));
        let timer = Arc::new(TokioTimer::default());
        let observer = Election::new(handle, timer, "scheduler", "observer", TTL).unwrap();
        pause(Duration::from_millis(100)).await;
        let begun = Instant::now();
        let holder = observer.observe(Some(office.term())).await.unwrap().unwrap();
        assert_eq!(holder.token, office.term());
        assert!((900..=1000).contains(&begun.elapsed().as_millis()), "{:?}", begun.elapsed());
    });
}

// ------------------------------------------------------------- in a machine of one's own

/// An application with a state of its own, and locks among it.
#[derive(Clone, Default, Serialize, Deserialize)]
struct Counter {
    count: u64,
    locks: LockTable,
}

#[derive(Serialize, Deserialize)]
enum Command {
    Add(u64),
    Lock(LockCommand),
}

#[derive(Debug, Serialize, Deserialize)]
enum Reply {
    Count(u64),
    Lock(LockReply),
}

impl StateMachine for Counter {
    type Command = Command;
    type Reply = Reply;

    fn apply(&mut self, _at: Position, command: Command) -> Reply {
        match command {
            Command::Add(number) => {
                self.count += number;
                Reply::Count(self.count)
            }
            Command::Lock(command) => Reply::Lock(self.locks.apply(command)),
        }
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot::of(self.clone())
    }

    fn restore(&mut self, mut snapshot: SnapshotReader<'_>) -> Result<(), RestoreError> {
        *self = snapshot.decode()?;
        Ok(())
    }
}

impl HoldsLocks for Counter {
    fn locks(&self) -> &LockTable {
        &self.locks
    }

    fn lock_command(command: LockCommand) -> Command {
        Command::Lock(command)
    }

    fn lock_reply(reply: Reply) -> Option<LockReply> {
        match reply {
            Reply::Lock(reply) => Some(reply),
            Reply::Count(_) => None,
        }
    }
}

#[test]
fn locks_live_in_an_application_s_own_machine_with_their_time_kept() {
    simulate(async {
        let cluster = Cluster::of(1, Counter::default).await;
        let first = cluster.lock(1, "one").acquire().await.unwrap();
        let reply = cluster.handle(2).propose(Command::Add(5)).await.unwrap();
        assert!(matches!(reply, Reply::Count(5)), "{reply:?}");
        let begun = Instant::now();
        let next = cluster.lock(3, "two").acquire().await.unwrap();
        assert!(begun.elapsed() <= TTL + LATE, "{:?}", begun.elapsed());
        assert!(next.token() > first.token());
    });
}
