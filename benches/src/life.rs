//! The suite of a long life: what reads cost, what a restart costs, whether memory stays where it was, and what commits feel
//! of snapshots and of nodes that catch up.

use crate::cluster::{Counter, Error, Plan, closed_loop};
use crate::first::{resident_bytes, runtime};
use crate::report::{Goal, Report};
use std::cell::Cell;
use std::future::Future;
use std::path::Path;
use std::time::{Duration, Instant};
use synod::{Config, Handle, ProposeError};

const SUITE: &str = "life";
const MIB: usize = 1024 * 1024;

/// Runs all of it.
pub(crate) fn run(report: &Report, quick: bool) -> Result<(), Error> {
    let runs = if quick { 3 } else { 5 };
    reads(report, runs, if quick { 20_000 } else { 100_000 })?;
    restart(report, SUITE, runs, if quick { 200_000 } else { 1_000_000 })?;
    let state = if quick { 64 * MIB } else { 256 * MIB };
    during_snapshot(report, runs, state)?;
    catching_up(report, if quick { 1 } else { 3 }, state)?;
    memory(report, if quick { 2_000_000 } else { 20_000_000 })
}

/// Linearizable reads on the leader against writes, 64 clients each, in turn.
fn reads(report: &Report, runs: usize, count: u64) -> Result<(), Error> {
    let dir = tempfile::tempdir()?;
    let (mut writes, mut reads, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    runtime()?.block_on(async {
        let cluster = Plan::default().over_tcp(dir.path()).await?;
        let leader = cluster.leader().await?;
        for _ in 0..runs {
            let begin = Instant::now();
            closed_loop(&leader, 64, count).await?;
            let write = count as f64 / begin.elapsed().as_secs_f64();
            let begin = Instant::now();
            read_loop(&leader, 64, count).await?;
            let read = count as f64 / begin.elapsed().as_secs_f64();
            writes.push(write);
            reads.push(read);
            ratios.push(read / write);
        }
        cluster.check_equal().await?;
        cluster.stop().await
    })?;
    report.rate(SUITE, "writes, three replicas, TCP, files, 64 clients", &writes, "writes/s", Goal::None);
    report.rate(SUITE, "linearizable reads on the leader, 64 clients", &reads, "reads/s", Goal::None);
    report.rate(SUITE, "the ratio of these two", &ratios, "times", Goal::AtLeast(3.0));
    Ok(())
}

/// `clients` callers that each read one time after the other, until `count` are answered in all.
async fn read_loop(handle: &Handle<Counter>, clients: u64, count: u64) -> Result<(), Error> {
    let callers = (0..clients).map(|_| async move {
        for _ in 0..count / clients {
            handle.read(Counter::count).await?;
        }
        Ok::<_, Error>(())
    });
    futures::future::try_join_all(callers).await.map(drop)
}

/// From `start` to the first linearizable read, which sees every entry, with a snapshot and `count` entries behind it.
pub(crate) fn restart(report: &Report, suite: &'static str, runs: usize, count: u64) -> Result<(), Error> {
    let dir = tempfile::tempdir()?;
    // No snapshot of its own takes the entries away.
    let plan = Plan { size: 1, tune: |config| config.snapshot_log_bytes = 1 << 40, ..Plan::default() };
    let runtime = runtime()?;
    let total = runtime.block_on(async {
        let cluster = plan.clone().on_disk(dir.path()).await?;
        let only = cluster.leader().await?;
        closed_loop(&only, 64, 10_000).await?;
        only.snapshot().await?;
        closed_loop(&only, 64, count).await?;
        let total = only.read(Counter::count).await?;
        cluster.stop().await?;
        Ok::<_, Error>(total)
    })?;
    let mut milliseconds = Vec::new();
    for _ in 0..runs {
        let begin = Instant::now();
        runtime.block_on(async {
            let cluster = plan.clone().restart_alone(dir.path()).await?;
            let only = cluster.handles().next().ok_or("no node")?;
            within(Duration::from_secs(60), async || {
                // Until it leads again it refuses.
                Ok(only.read(Counter::count).await.is_ok_and(|count| count >= total))
            })
            .await?;
            milliseconds.push(begin.elapsed().as_secs_f64() * 1e3);
            cluster.stop().await
        })?;
    }
    let work = format!("restart with a snapshot and {count} entries, to a read");
    report.cost(suite, &work, &milliseconds, "ms", Goal::AtMost(1500.0));
    Ok(())
}

/// What a commit of four clients takes at the 99th percentile while the leader takes snapshots, against without, in turn.
fn during_snapshot(report: &Report, runs: usize, state: usize) -> Result<(), Error> {
    let dir = tempfile::tempdir()?;
    let mut beside = Beside::default();
    runtime()?.block_on(async {
        let cluster = Plan { ballast: state, ..Plan::default() }.over_tcp(dir.path()).await?;
        let leader = cluster.leader().await?.with_deadline(Duration::from_secs(120));
        for _ in 0..runs {
            let begin = Instant::now();
            let (with, taken) = latency_during(&leader, async { leader.snapshot().await }).await?;
            taken?;
            let took = begin.elapsed();
            let (without, ()) = latency_during(&leader, tokio::time::sleep(took)).await?;
            beside.add(without, with, state as f64 / took.as_secs_f64());
        }
        cluster.check_equal().await?;
        cluster.stop().await
    })?;
    let size = state / MIB;
    beside.report(report, SUITE, &format!("a snapshot of {size} MiB is taken"), "taking the snapshot");
    Ok(())
}

/// The same while a new node fetches the state.
fn catching_up(report: &Report, runs: usize, state: usize) -> Result<(), Error> {
    let beside = catch_up(runs, state, |_| {}, |_, _| Ok(()))?;
    let size = state / MIB;
    beside.report(report, SUITE, &format!("a new node fetches {size} MiB"), "catching up with all of it");
    Ok(())
}

/// What commits of four clients feel of a node that knows nothing and fetches a state of so many bytes. After each run
/// `also` hears the directory of the cluster and how many bytes a second came.
pub(crate) fn catch_up(
    runs: usize,
    state: usize,
    tune: fn(&mut Config),
    mut also: impl FnMut(&Path, f64) -> Result<(), Error>,
) -> Result<Beside, Error> {
    let mut beside = Beside::default();
    for _ in 0..runs {
        let dir = tempfile::tempdir()?;
        let rate = runtime()?.block_on(async {
            let mut cluster = Plan { ballast: state, tune, ..Plan::default() }.over_tcp(dir.path()).await?;
            let leader = cluster.leader().await?.with_deadline(Duration::from_secs(120));
            closed_loop(&leader, 64, 10_000).await?;
            for handle in cluster.handles() {
                handle.with_deadline(Duration::from_secs(120)).snapshot().await?;
            }
            let target = leader.status().await?.applied_through;
            let newcomer = cluster.join().await?;
            let begin = Instant::now();
            let arrived = within(Duration::from_secs(120), async || {
                Ok(newcomer.status().await?.applied_through >= target)
            });
            let (with, arrived) = latency_during(&leader, arrived).await?;
            arrived?;
            let took = begin.elapsed();
            let (without, ()) = latency_during(&leader, tokio::time::sleep(took)).await?;
            let rate = state as f64 / took.as_secs_f64();
            beside.add(without, with, rate);
            cluster.check_equal().await?;
            cluster.stop().await?;
            Ok::<_, Error>(rate)
        })?;
        also(dir.path(), rate)?;
    }
    Ok(beside)
}

/// What commits feel of something that goes on beside them, against the calm after it.
#[derive(Default)]
pub(crate) struct Beside {
    /// The 99th percentiles, in microseconds.
    calm: Vec<f64>,
    busy: Vec<f64>,
    ratios: Vec<f64>,
    /// How fast it went on, in MiB a second.
    rates: Vec<f64>,
}

impl Beside {
    fn add(&mut self, calm: Duration, busy: Duration, bytes_per_second: f64) {
        self.calm.push(calm.as_secs_f64() * 1e6);
        self.busy.push(busy.as_secs_f64() * 1e6);
        self.ratios.push(busy.as_secs_f64() / calm.as_secs_f64());
        self.rates.push(bytes_per_second / MIB as f64);
    }

    /// By how much the 99th percentile grew.
    pub(crate) fn ratios(&self) -> impl Iterator<Item = f64> {
        self.ratios.iter().copied()
    }

    pub(crate) fn report(&self, report: &Report, suite: &'static str, while_what: &str, rate_of: &str) {
        report.cost(suite, "p99 of a commit, four clients, TCP, files", &self.calm, "us", Goal::None);
        report.cost(suite, &format!("the same while {while_what}"), &self.busy, "us", Goal::None);
        report.cost(suite, "the ratio of these two", &self.ratios, "times", Goal::AtMost(2.0));
        report.rate(suite, rate_of, &self.rates, "MiB/s", Goal::None);
    }
}

/// Whether the memory of three nodes in one process grows with the entries, with the snapshots that the policy takes.
fn memory(report: &Report, count: u64) -> Result<(), Error> {
    const SAMPLES: u64 = 40;
    let dir = tempfile::tempdir()?;
    let mut samples = Vec::new();
    let held = runtime()?.block_on(async {
        let cluster = Plan::default().on_disk(dir.path()).await?;
        let leader = cluster.leader().await?;
        for _ in 0..SAMPLES {
            closed_loop(&leader, 1024, count / SAMPLES).await?;
            samples.push(resident_bytes()? as f64 / MIB as f64);
        }
        cluster.check_equal().await?;
        cluster.stop().await?;
        bytes_below(dir.path())
    })?;
    let (first, last) = (quarter(&samples, 0), quarter(&samples, 3));
    let work = format!("memory of 3 nodes, first quarter of {count} entries");
    report.cost(SUITE, &work, first, "MiB", Goal::None);
    report.cost(SUITE, "the same, last quarter", last, "MiB", Goal::None);
    report.cost(
        SUITE,
        "highest of the last by highest of the first",
        &[highest(last) / highest(first)],
        "times",
        Goal::AtMost(1.0),
    );
    report.cost(SUITE, "files of 3 nodes at the end", &[held as f64 / MIB as f64], "MiB", Goal::None);
    Ok(())
}

fn quarter(samples: &[f64], number: usize) -> &[f64] {
    let size = samples.len() / 4;
    samples.get(number * size..(number + 1) * size).unwrap_or_default()
}

fn highest(samples: &[f64]) -> f64 {
    samples.iter().copied().fold(0.0, f64::max)
}

fn bytes_below(dir: &Path) -> Result<u64, Error> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes += if metadata.is_dir() { bytes_below(&entry.path())? } else { metadata.len() };
    }
    Ok(bytes)
}

/// The 99th percentile of the commits of four clients while `work` goes on, and what came of it.
async fn latency_during<T>(
    handle: &Handle<Counter>,
    work: impl Future<Output = T>,
) -> Result<(Duration, T), Error> {
    let over = Cell::new(false);
    let over = &over;
    let clients = (0..4).map(|client| async move {
        let mut times = Vec::new();
        while !over.get() {
            let begin = Instant::now();
            handle.propose((client, 0)).await?;
            times.push(begin.elapsed());
        }
        Ok::<_, ProposeError>(times)
    });
    let work = async {
        let outcome = work.await;
        over.set(true);
        outcome
    };
    let (times, outcome) = futures::join!(futures::future::try_join_all(clients), work);
    let mut times = times?.concat();
    times.sort_unstable();
    let p99 = times.get(times.len() * 99 / 100).copied().ok_or("nothing was measured")?;
    Ok((p99, outcome))
}

/// Asks `holds` again and again, until it says yes.
async fn within(deadline: Duration, holds: impl AsyncFn() -> Result<bool, Error>) -> Result<(), Error> {
    let begin = Instant::now();
    while !holds().await? {
        if begin.elapsed() > deadline {
            return Err(format!("it did not come to hold within {deadline:?}").into());
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    Ok(())
}
