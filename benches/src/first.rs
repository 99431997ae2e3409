//! The first suite: is it fast enough to be taken seriously?

use crate::cluster::{Error, Plan, closed_loop};
use crate::flush::median_of_flushes;
use crate::process::plain;
use crate::report::{Goal, Report};
use std::process::Command;
use std::time::Instant;

const SUITE: &str = "first";

/// Runs all of it.
pub(crate) fn run(report: &Report, quick: bool) -> Result<(), Error> {
    let runs = if quick { 3 } else { 5 };
    in_memory(report, runs, if quick { 200_000 } else { 1_000_000 })?;
    latency(report, runs, if quick { 300 } else { 2_000 })?;
    memory(report, if quick { 200_000 } else { 1_000_000 })?;
    through_kv(report, runs, if quick { 2 } else { 5 })
}

/// Three replicas on one arbiter, channels, memory storage: answered commands per second.
fn in_memory(report: &Report, runs: usize, count: u64) -> Result<(), Error> {
    for clients in [1, 64, 1024] {
        let count = if clients == 1 { count / 10 } else { count };
        let figures = actix_rt::System::new().block_on(async {
            let cluster = Plan::default().in_memory().await?;
            let leader = cluster.leader().await?;
            let mut figures = Vec::new();
            for _ in 0..runs {
                let begin = Instant::now();
                closed_loop(&leader, clients, count).await?;
                figures.push(count as f64 / begin.elapsed().as_secs_f64());
            }
            cluster.stop().await?;
            Ok::<_, Error>(figures)
        })?;
        let goal = if clients == 64 { Goal::AtLeast(400_000.0) } else { Goal::None };
        let work = format!("one arbiter, channels, memory, 16 B, {clients} outstanding");
        report.rate(SUITE, &work, &figures, "commands/s", goal);
    }
    Ok(())
}

/// One client, three replicas over TCP with files: the time of a commit against that of a flush, in turn.
fn latency(report: &Report, runs: usize, count: usize) -> Result<(), Error> {
    let dir = tempfile::tempdir()?;
    let (mut commits, mut flushes, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    runtime()?.block_on(async {
        let cluster = Plan::default().over_tcp(dir.path()).await?;
        let leader = cluster.leader().await?;
        for _ in 0..runs {
            let flush = median_of_flushes(dir.path(), 3, count)?;
            let mut times = Vec::with_capacity(count);
            for number in 0..count as u64 {
                let begin = Instant::now();
                leader.propose((0, number)).await?;
                times.push(begin.elapsed());
            }
            times.sort_unstable();
            let commit = times[times.len() / 2];
            commits.push(commit.as_secs_f64() * 1e6);
            flushes.push(flush.as_secs_f64() * 1e6);
            ratios.push(commit.as_secs_f64() / flush.as_secs_f64());
        }
        cluster.stop().await
    })?;
    report.cost(SUITE, "one fdatasync while three files flush at once", &flushes, "us", Goal::None);
    report.cost(SUITE, "commit of one client, three replicas, TCP, files", &commits, "us", Goal::None);
    report.cost(SUITE, "the ratio of these two", &ratios, "times", Goal::AtMost(3.0));
    Ok(())
}

/// What `count` committed entries add to the memory of three replicas in one process.
fn memory(report: &Report, count: u64) -> Result<(), Error> {
    let dir = tempfile::tempdir()?;
    let grown = runtime()?.block_on(async {
        let cluster = Plan::default().on_disk(dir.path()).await?;
        let leader = cluster.leader().await?;
        closed_loop(&leader, 64, 1_000).await?;
        let before = resident_bytes()?;
        closed_loop(&leader, 64, count).await?;
        let after = resident_bytes()?;
        cluster.stop().await?;
        Ok::<_, Error>(after.saturating_sub(before))
    })?;
    let work = format!("memory that {count} entries of 16 B add to all 3 replicas");
    report.cost(SUITE, &work, &[grown as f64 / 1024.0 / 1024.0], "MiB", Goal::AtMost(450.0));
    Ok(())
}

/// Three processes over TCP with files, `kv bench` against them over HTTP.
fn through_kv(report: &Report, runs: usize, seconds: u64) -> Result<(), Error> {
    let kv = crate::kv::program().map_err(plain)?;
    for clients in [1, 64] {
        let mut puts = Vec::new();
        for _ in 0..runs {
            let mut command = Command::new(&kv);
            command.args(["bench", "--json", "--nodes", "3", "--value-size", "16"]);
            command.args(["--clients", &clients.to_string(), "--seconds", &seconds.to_string()]);
            let output = command.output()?;
            let text = String::from_utf8_lossy(&output.stdout);
            let line = text.lines().last().unwrap_or_default();
            let result: serde_json::Value = serde_json::from_str(line).map_err(|error| {
                format!("kv bench: {error}: {text}{}", String::from_utf8_lossy(&output.stderr))
            })?;
            puts.push(result["operations_per_s"].as_f64().ok_or("kv bench names no operations_per_s")?);
        }
        let goal = if clients == 64 { Goal::AtLeast(15_000.0) } else { Goal::None };
        report.rate(
            SUITE,
            &format!("three kv processes, TCP, files, HTTP, {clients} clients"),
            &puts,
            "puts/s",
            goal,
        );
    }
    Ok(())
}

pub(crate) fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

/// What this process holds in memory now.
pub(crate) fn resident_bytes() -> Result<u64, Error> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).ok_or("no VmRSS line")?;
    let kib: u64 = line.split_whitespace().nth(1).ok_or("no figure")?.parse()?;
    Ok(kib * 1024)
}
