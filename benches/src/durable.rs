//! The suite `durable`: three processes over TCP, their journals on one disk.
//!
//! `kv` over HTTP stands against `etcd` over gRPC, and so does an application that embeds a node and proposes to it. All
//! callers call the leader, which answers when a majority has flushed. What the disk allows is measured in the same run: as
//! many files as there are replicas, all flushing at once.

pub(crate) mod replica;

use crate::first::runtime;
use crate::flush::median_of_flushes;
use crate::kv::{self, Kv};
use crate::load::closed_loop;
use crate::peers::etcd::{self, Etcd};
use crate::process::{Error, Service, leader, plain};
use crate::report::{Better, Contender, Goal, Report, SYNOD, Series, Work, in_turn};
use replica::{Load, Replicas};
use std::cell::{Cell, RefCell};
use std::path::Path;
use std::time::Duration;
use tokio::runtime::Runtime;

const SUITE: &str = "durable";
const ETCD: &str = "etcd";
/// What stands under the table.
const NOTES: &str = "\
Same for all: three processes on this machine, loopback, one disk, defaults; every caller calls the leader and waits for its \
answer, which comes when a majority has flushed. kv: a connection of HTTP/1.1 for each caller; etcd: gRPC, a connection for \
ten callers. Both write 100 keys for each caller. Library: the callers are tasks in the leader's process, so no request \
crosses a socket, and the state is a count and a digest. Flushes: three files, each preallocated, 256 bytes at a time; a \
commit needs two of three journals, so it may pass by the slowest flush, which the bound counts.";

/// How often, and for how long at a time.
#[derive(Clone, Copy, Debug)]
struct Pace {
    runs: usize,
    time: Duration,
    flushes: usize,
}

/// Runs all of it.
pub(crate) fn run(report: &Report, quick: bool) -> Result<(), Box<dyn std::error::Error>> {
    let pace = match quick {
        true => Pace { runs: 3, time: Duration::from_millis(600), flushes: 1_000 },
        false => Pace { runs: 5, time: Duration::from_secs(3), flushes: 5_000 },
    };
    let dir = tempfile::tempdir()?;
    against_etcd(report, pace, dir.path()).map_err(plain)?;
    against_the_disk(report, pace, dir.path()).map_err(plain)?;
    eprintln!("{NOTES}");
    Ok(())
}

/// A service under load, and how many puts it has answered.
struct Loaded<'a, S> {
    service: S,
    leader: usize,
    answered: Cell<u64>,
    runtime: &'a Runtime,
}

impl<'a, S: Service> Loaded<'a, S> {
    fn new(service: S, runtime: &'a Runtime) -> Result<Self, Error> {
        let leader = runtime.block_on(leader(&service))?;
        Ok(Self { service, leader, answered: Cell::new(0), runtime })
    }

    fn load(&self, clients: usize, bytes: usize, time: Duration) -> Result<f64, Error> {
        let answered = self.runtime.block_on(async {
            let callers = self.service.callers(self.leader, clients).await?;
            closed_loop(callers, bytes, time).await
        })?;
        self.answered.set(self.answered.get() + answered.count);
        Ok(answered.rate)
    }

    fn check(&self) -> Result<(), Error> {
        self.runtime.block_on(self.service.check(self.answered.get()))
    }
}

/// Puts and commands per second, all systems in turn.
fn against_etcd(report: &Report, pace: Pace, dir: &Path) -> Result<(), Error> {
    let runtime = runtime()?;
    let kv = Loaded::new(runtime.block_on(Kv::start(&kv::program()?, dir))?, &runtime)?;
    let etcd = match etcd::program() {
        Some(program) => Some(Loaded::new(runtime.block_on(Etcd::start(&program, dir, None))?, &runtime)?),
        None => None,
    };
    let replicas = RefCell::new(Replicas::start(dir)?);
    for bytes in [16, 1024] {
        for (clients, through_kv, embedded) in
            [(1, 2.0, None), (64, 3.0, Some(10.0)), (1024, 3.0, Some(40.0))]
        {
            let load = Load { outstanding: clients, bytes, lock_step: false };
            let mut contenders = vec![Contender {
                system: "kv",
                run: Box::new(|| kv.load(clients, bytes, pace.time).map_err(plain)),
            }];
            contenders.push(Contender {
                system: "library",
                run: Box::new(|| replicas.borrow_mut().load(load, pace.time).map_err(plain)),
            });
            if let Some(etcd) = &etcd {
                let run = Box::new(|| etcd.load(clients, bytes, pace.time).map_err(plain));
                contenders.push(Contender { system: ETCD, run });
            }
            let mut series = in_turn(pace.runs, contenders).map_err(|error| error.to_string())?;
            let peer = series.split_off(2);
            let goals = [Goal::OfBestPeer(through_kv), embedded.map_or(Goal::None, Goal::OfBestPeer)];
            for (ours, goal) in series.into_iter().zip(goals) {
                let way = if ours.system == "kv" { "kv over HTTP" } else { "library" };
                let name = format!("{way}, {}, {clients} clients", size(bytes));
                let work =
                    Work { suite: SUITE, name: &name, unit: "commands/s", better: Better::Higher, goal };
                let ours = Series { system: SYNOD, figures: ours.figures };
                report.compare(work, &[vec![ours], peer.clone()].concat());
            }
        }
    }
    kv.check()?;
    if let Some(etcd) = etcd {
        etcd.check()?;
    }
    replicas.borrow_mut().check()
}

fn size(bytes: usize) -> String {
    if bytes < 1024 { format!("{bytes} B") } else { format!("{} KiB", bytes / 1024) }
}

/// What share of the flushes that the disk allows becomes commits.
///
/// Medians of both: a few flushes that wait for another program's make a mean several times the median, and a share of means
/// has come out above 1, which no share of a bound can be.
fn against_the_disk(report: &Report, pace: Pace, dir: &Path) -> Result<(), Error> {
    let dir = tempfile::tempdir_in(dir)?;
    let mut replicas = Replicas::start(dir.path())?;
    for (outstanding, what, least) in
        [(1, "one outstanding", 80.0), (64, "64 outstanding in lock step", 60.0)]
    {
        let (mut flushes, mut rounds, mut shares) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..pace.runs {
            let flush = median_of_flushes(dir.path(), 3, pace.flushes)?;
            let round = replicas.rounds(outstanding, 16, pace.time)?;
            flushes.push(flush.as_secs_f64() * 1e6);
            rounds.push(round.as_secs_f64() * 1e6);
            shares.push(100.0 * flush.as_secs_f64() / round.as_secs_f64());
        }
        report.cost(SUITE, "a flush while three files flush at once", &flushes, "us", Goal::None);
        report.cost(SUITE, &format!("a round of commits, {what}"), &rounds, "us", Goal::None);
        report.rate(SUITE, "share of the flush bound", &shares, "%", Goal::AtLeast(least));
    }
    replicas.check()
}
