//! The suite of growth: what becomes of the rate with more replicas, larger commands, a longer log and more clients; what an
//! entry costs in memory; how soon a node is back that was restarted, or that lost everything.

pub(crate) mod cluster;
pub(crate) mod growth;
mod limits;

use crate::cluster::Error;
use crate::first::runtime;
use crate::life;
use crate::report::{Goal, Report};
use cluster::Shape;

pub(crate) const SUITE: &str = "scale";
const MIB: usize = 1024 * 1024;

/// Runs all of it.
pub(crate) fn run(report: &Report, quick: bool) -> Result<(), Error> {
    memory(report, if quick { 1_000_000 } else { 4_000_000 })?;
    let runs = if quick { 3 } else { 5 };
    let count = if quick { 100_000 } else { 500_000 };
    replicas(report, runs, count)?;
    payload(report, runs, count)?;
    clients(report, runs, count)?;
    length(report, runs, if quick { 2_000_000 } else { 10_000_000 })?;
    life::restart(report, SUITE, runs, 1_000_000)?;
    catch_up(report, if quick { 1 } else { 3 }, if quick { 128 * MIB } else { 1024 * MIB })
}

/// Answered commands per second of a cluster on one arbiter: channels, memory.
fn rates(runs: usize, shape: &Shape, clients: u64, count: u64, bytes: usize) -> Result<Measured, Error> {
    actix_rt::System::new().block_on(async {
        let mut cluster = shape.start().await?;
        cluster.closed_loop(clients, count / 10, bytes).await?;
        let (messages, slots) = (cluster.messages(), cluster.slots().await?);
        let mut figures = Vec::new();
        for _ in 0..runs {
            figures.push(cluster.rate(clients, count, bytes).await?);
        }
        let (messages, slots) = (cluster.messages() - messages, cluster.slots().await? - slots);
        cluster.check_and_stop().await?;
        Ok(Measured { figures, messages_per_commit: messages as f64 / slots as f64 })
    })
}

struct Measured {
    figures: Vec<f64>,
    /// All messages between nodes by slots chosen: an `Accept` to each follower and its answer, and what else goes around.
    messages_per_commit: f64,
}

/// 1 to 7 replicas. The rate may fall as the messages per commit grow, and no faster.
fn replicas(report: &Report, runs: usize, count: u64) -> Result<(), Error> {
    let mut three: Option<Measured> = None;
    for replicas in [1, 2, 3, 5, 7] {
        // One figure of each size in turn would be fairer to a noisy machine; the whole takes seconds.
        let measured = rates(runs, &Shape::in_memory(replicas), 64, count, 16)?;
        let name = format!("rate by replicas: {replicas}");
        report.rate(SUITE, &name, &measured.figures, "commands/s", Goal::None);
        if replicas > 1 {
            let name = format!("messages per commit, {replicas} replicas");
            report.cost(SUITE, &name, &[measured.messages_per_commit], "messages", Goal::None);
        }
        match &three {
            None if replicas == 3 => three = Some(measured),
            Some(three) => {
                let more = measured.messages_per_commit / three.messages_per_commit;
                let kept = measured.figures.iter().zip(&three.figures).map(|(now, then)| now / then * more);
                let name = format!("{replicas} replicas by 3: rate, times messages per commit");
                report.rate(SUITE, &name, &kept.collect::<Vec<_>>(), "times", Goal::AtLeast(1.0));
            }
            None => {}
        }
    }
    Ok(())
}

/// Commands of 16 bytes to 64 KiB, three replicas.
fn payload(report: &Report, runs: usize, count: u64) -> Result<(), Error> {
    for bytes in [16, 256, 1024, 4096, 16_384, 65_536] {
        // About as long for each size.
        let count = (count * 256 / (256 + bytes as u64)).max(1000);
        let measured = rates(runs, &Shape::in_memory(3), 64, count, bytes)?;
        let name = format!("rate by payload in bytes: {bytes}");
        report.rate(SUITE, &name, &measured.figures, "commands/s", Goal::None);
        let volume: Vec<f64> = measured.figures.iter().map(|rate| rate * bytes as f64 / MIB as f64).collect();
        report.rate(SUITE, &format!("volume by payload in bytes: {bytes}"), &volume, "MiB/s", Goal::None);
    }
    Ok(())
}

/// 1 to 4096 clients, three replicas.
fn clients(report: &Report, runs: usize, count: u64) -> Result<(), Error> {
    for clients in [1, 4, 16, 64, 256, 1024, 4096] {
        let count = if clients < 16 { count / 5 } else { count };
        let measured = rates(runs, &Shape::in_memory(3), clients, count, 16)?;
        report.rate(
            SUITE,
            &format!("rate by clients: {clients}"),
            &measured.figures,
            "commands/s",
            Goal::None,
        );
    }
    Ok(())
}

/// A log of `length` entries that nothing cuts, against one that has just begun, in turn.
fn length(report: &Report, runs: usize, length: u64) -> Result<(), Error> {
    const CLIENTS: u64 = 1024;
    const STEPS: u64 = 4;
    const SHARE: u64 = 400_000;
    let dir = tempfile::tempdir()?;
    let shape = |name: &str| Shape {
        tune: |config| config.snapshot_log_bytes = u64::MAX,
        ..Shape::on_disk(&dir.path().join(name))
    };
    let (mut new, mut old, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    runtime()?.block_on(async {
        let mut long = shape("long").start().await?;
        for step in 1..=STEPS {
            let rate = long.rate(CLIENTS, length / STEPS, 16).await?;
            let name = format!("rate by entries in the log: {}", length / STEPS * step);
            report.rate(SUITE, &name, &[rate], "commands/s", Goal::None);
        }
        for run in 0..runs {
            let mut short = shape(&run.to_string()).start().await?;
            let (mut of_short, mut of_long) = (0.0, 0.0);
            let mut both = [(&mut short, &mut of_short), (&mut long, &mut of_long)];
            if run % 2 == 1 {
                both.reverse();
            }
            for (cluster, rate) in both {
                // What a pause has cooled down does not count.
                cluster.closed_loop(CLIENTS, SHARE / 10, 16).await?;
                *rate = cluster.rate(CLIENTS, SHARE, 16).await?;
            }
            new.push(of_short);
            old.push(of_long);
            ratios.push(of_long / of_short);
            short.check_and_stop().await?;
        }
        long.check_and_stop().await
    })?;
    report.rate(SUITE, "rate with an empty log, files, 1024 clients", &new, "commands/s", Goal::None);
    report.rate(SUITE, &format!("rate with {length} entries in it"), &old, "commands/s", Goal::None);
    report.rate(SUITE, "the ratio of these two", &ratios, "times", Goal::AtLeast(0.95));
    Ok(())
}

/// What a node keeps of an entry beside its payload of 16 bytes, in batches of 64.
fn memory(report: &Report, count: u64) -> Result<(), Error> {
    // What is in files is not in memory: all that the process grows by, once its caches are full, is kept beside the payload.
    let kept = growth::of(growth::Place::Files, count)?;
    let name = "memory by entry, batches of 64, files: all of it";
    report.cost(SUITE, name, &[kept], "bytes", Goal::AtMost(8.0));
    let kept = growth::of(growth::Place::Memory, count)? - growth::PAYLOAD as f64;
    let name = "memory by entry, batches of 64, memory storage: beside 16 B";
    report.cost(SUITE, name, &[kept], "bytes", Goal::None);
    Ok(())
}

/// A node that lost everything comes back under a new id (protocol 10.1): it knows nothing and fetches the state.
fn catch_up(report: &Report, runs: usize, state: usize) -> Result<(), Error> {
    let (mut shares, mut disks, mut loopbacks) = (Vec::new(), Vec::new(), Vec::new());
    let beside = life::catch_up(
        runs,
        state,
        |_| {},
        |dir, rate| {
            let (disk, loopback) = (limits::disk(dir, state)?, limits::loopback(state)?);
            shares.push(rate / disk.min(loopback));
            disks.push(disk / MIB as f64);
            loopbacks.push(loopback / MIB as f64);
            Ok(())
        },
    )?;
    let size = state / MIB;
    report.rate(SUITE, &format!("the disk: one file of {size} MiB, flushed"), &disks, "MiB/s", Goal::None);
    report.rate(SUITE, &format!("loopback: {size} MiB over one connection"), &loopbacks, "MiB/s", Goal::None);
    beside.report(report, SUITE, &format!("a node that lost everything fetches {size} MiB"), "catching up");
    report.rate(SUITE, "catching up by the lower of the two limits", &shares, "times", Goal::AtLeast(0.5));
    Ok(())
}
