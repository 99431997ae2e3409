//! The async suite: what a library costs that answers each command to the task that awaits it.
//!
//! Three replicas on one thread, joined by channels, with storage in memory; clients beside them on the same thread, each of
//! which awaits one answer after the other. Every system has the same: a current-thread runtime of tokio with a set of local
//! tasks, made anew for each run. Each replica applies every command, which is to fold it into a digest; afterwards all must
//! have the same, of as many commands as were answered.

mod replicas;

use crate::cluster::Error;
use crate::core::Commands;
use crate::digest::Digest;
use crate::peers::{omnipaxos, openraft, raft};
use crate::report::{Better, Contender, Goal, Report, SYNOD, Work, in_turn};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

const SUITE: &str = "async";

const NOTES: &str = "\
One current-thread runtime of tokio for each run; replicas and clients are local tasks on it. Memory storage, unbounded channels.
omnipaxos, raft: a task for each replica takes up to 4096 inputs, then sends, applies and answers through tokio's oneshot.
omnipaxos: entries are arrays of 16 bytes, or Bytes of 1 KiB; batch_size is the number of clients. raft: entries are Bytes.
openraft: its own tasks; the network is a call of the other Raft, which goes through its channel; no snapshots.
synod: its defaults, with credits and a deadline for each call; commands are encoded, and decoded on each replica.";

/// Three replicas of a system.
pub(crate) trait Service: Sized + 'static {
    /// What a client holds.
    type Client: Client;

    /// Replicas that have a leader, for so many clients.
    async fn start(clients: usize) -> Result<Self, Error>;

    /// For a new client, at the leader.
    fn client(&self) -> Self::Client;

    /// What each replica has applied so far.
    async fn applied(&self) -> Result<Vec<Digest>, Error>;

    /// Ends all replicas.
    async fn stop(self) -> Result<(), Error>;
}

/// A caller of the leader.
pub(crate) trait Client: 'static {
    /// Has a command applied and waits for its answer: how many were applied through it.
    async fn call(&self, command: &[u8]) -> Result<u64, Error>;
}

/// A replica's state, where the system leaves it to us to keep one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Applied(Arc<Mutex<Digest>>);

impl Applied {
    /// Applies what was decided next.
    pub(crate) fn change<T>(&self, apply: impl FnOnce(&mut Digest) -> T) -> T {
        apply(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// How much is to be answered.
#[derive(Clone, Copy, Debug)]
struct Load {
    payload: usize,
    clients: usize,
    count: u64,
}

/// Runs all of it.
pub(crate) fn run(report: &Report, quick: bool) -> Result<(), Error> {
    let runs = if quick { 3 } else { 5 };
    for payload in [16, 1024] {
        for (clients, count, times) in [(1, 100_000, 1.0), (64, 500_000, 1.5), (1024, 500_000, 1.5)] {
            let load = Load { payload, clients, count: if quick { count / 5 } else { count } };
            let name = format!("async, {payload} B, {clients} clients");
            let goal = Goal::OfBestPeer(times);
            let work = Work { suite: SUITE, name: &name, unit: "commands/s", better: Better::Higher, goal };
            report.compare(work, &in_turn(runs, contenders(load))?);
        }
    }
    report.note(NOTES);
    Ok(())
}

fn contenders<'a>(load: Load) -> Vec<Contender<'a>> {
    let is_short = load.payload == 16;
    let ours = move || match is_short {
        true => answer::<replicas::Trio<replicas::Short>>(load),
        false => answer::<replicas::Trio<replicas::Long>>(load),
    };
    let omnipaxos = move || match is_short {
        true => answer::<omnipaxos::Tasks<[u8; 16]>>(load),
        false => answer::<omnipaxos::Tasks<bytes::Bytes>>(load),
    };
    vec![
        Contender { system: SYNOD, run: Box::new(ours) },
        Contender { system: "omnipaxos", run: Box::new(omnipaxos) },
        Contender { system: "raft", run: Box::new(move || answer::<raft::Tasks>(load)) },
        Contender { system: "openraft", run: Box::new(move || answer::<openraft::Rafts>(load)) },
    ]
}

/// Has `load` answered by new replicas: commands per second.
fn answer<S: Service>(load: Load) -> Result<f64, Error> {
    actix_rt::System::new().block_on(async {
        let service = S::start(load.clients).await?;
        let warmed = closed_loop(&service, load, load.count / 10).await?;
        let begin = Instant::now();
        let answered = closed_loop(&service, load, load.count).await?;
        let took = begin.elapsed();
        check(&service, warmed + answered).await?;
        service.stop().await?;
        Ok(answered as f64 / took.as_secs_f64())
    })
}

/// Clients that each await one answer after the other, until `count` commands are answered in all.
async fn closed_loop<S: Service>(service: &S, load: Load, count: u64) -> Result<u64, Error> {
    let clients = load.clients as u64;
    let tasks = (0..clients).map(|number| {
        let client = service.client();
        let share = count / clients + u64::from(number < count % clients);
        actix_rt::spawn(async move {
            let mut commands = Commands::of(load.payload);
            let mut answered = 0;
            for call in 0..share {
                client.call(commands.number(number << 40 | call)).await.map_err(|error| error.to_string())?;
                answered += 1;
            }
            Ok::<u64, String>(answered)
        })
    });
    let tasks: Vec<_> = tasks.collect();
    let mut answered = 0;
    for task in tasks {
        answered += task.await??;
    }
    Ok(answered)
}

/// Whether every replica comes to have applied the same commands, as many as were answered.
async fn check<S: Service>(service: &S, answered: u64) -> Result<(), Error> {
    let mut applied = Vec::new();
    for _ in 0..500 {
        applied = service.applied().await?;
        let first = applied.first().copied().unwrap_or_default();
        if first.count() == answered && applied.iter().all(|replica| *replica == first) {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Err(format!("{answered} commands were answered, but applied were {applied:?}").into())
}
