//! `synod-bench`: Synod measured, beside what the machine allows.
//!
//! ```sh
//! cargo run --release -p synod-bench -- first          # a table
//! cargo run --release -p synod-bench -- first --json   # one JSON object a line
//! cargo run --release -p synod-bench -- life           # what a long life costs
//! cargo run --release -p synod-bench -- core --svg .   # a plot, too
//! ```
//!
//! Each figure is taken several times; median, minimum and maximum are printed. A figure is compared only with one of the
//! same run: machines differ, and one machine differs from itself ten minutes later.

mod asynchronous;
mod cluster;
mod core;
mod digest;
mod durable;
mod failover;
mod first;
mod flush;
mod kv;
mod life;
mod load;
mod peers;
mod plot;
mod process;
mod report;
mod scale;
mod tune;

use clap::{Parser, Subcommand};
use std::path::PathBuf;

#[derive(Debug, Parser)]
#[command(about = "Synod measured, beside what the machine allows")]
struct Cli {
    #[command(subcommand)]
    suite: Suite,
    /// One JSON object a line instead of a table.
    #[arg(long, global = true)]
    json: bool,
    /// Fewer and shorter runs.
    #[arg(long, global = true)]
    quick: bool,
    /// Draw what was measured into this directory too.
    #[arg(long, global = true, value_name = "DIR")]
    svg: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, Subcommand)]
enum Suite {
    /// Commands per second in one process, puts per second through `kv`, latency of a commit against a flush, memory.
    First,
    /// What the algorithm costs: three replicas in one loop, against `omnipaxos` and `raft`.
    Core,
    /// Three replicas, channels, an answer for each command, against `omnipaxos`, `raft` and `openraft`.
    Async,
    /// Three processes over TCP on one disk, against `etcd`, and against what the disk allows.
    Durable,
    /// From the leader's death to the first write elsewhere, against `etcd`.
    Failover,
    /// What a log costs that lives for years: reads, restarts, memory, snapshots and catch-up under load.
    Life,
    /// More replicas, larger commands, a longer log, more clients; memory by entry, restart, catch-up.
    Scale,
    /// What the knobs of a node's configuration do: the default of each against other settings.
    Tune,
}

impl Suite {
    fn name(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Core => "core",
            Self::Async => "async",
            Self::Durable => "durable",
            Self::Failover => "failover",
            Self::Life => "life",
            Self::Scale => "scale",
            Self::Tune => "tune",
        }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    if let Some(options) = durable::replica::asked_for() {
        return durable::replica::run(&options);
    }
    if let Some(growth) = scale::growth::asked_for() {
        return scale::growth::run(growth);
    }
    let cli = Cli::parse();
    let report = report::Report::new(cli.json);
    match cli.suite {
        Suite::First => first::run(&report, cli.quick)?,
        Suite::Core => core::run(&report, cli.quick)?,
        Suite::Async => asynchronous::run(&report, cli.quick)?,
        Suite::Durable => durable::run(&report, cli.quick)?,
        Suite::Failover => failover::run(&report, cli.quick)?,
        Suite::Life => life::run(&report, cli.quick)?,
        Suite::Scale => scale::run(&report, cli.quick)?,
        Suite::Tune => tune::run(&report, cli.quick)?,
    }
    report.end(cli.suite.name());
    if let Some(dir) = cli.svg {
        match plot::draw(cli.suite.name(), &report.rows(), &dir)? {
            Some(file) => eprintln!("drawn: {}", file.display()),
            None => eprintln!("nothing to draw: this suite has neither peers nor a work that grows"),
        }
    }
    Ok(())
}
