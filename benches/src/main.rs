//! `synod-bench`: Synod measured, beside what the machine allows.
//!
//! ```sh
//! cargo run --release -p synod-bench -- first          # a table
//! cargo run --release -p synod-bench -- first --json   # one JSON object a line
//! cargo run --release -p synod-bench -- life           # what a long life costs
//! ```
//!
//! Each figure is taken several times; median, minimum and maximum are printed. A figure is compared only with one of the
//! same run: machines differ, and one machine differs from itself ten minutes later.

mod cluster;
mod first;
mod flush;
mod life;
mod report;
mod scale;

use clap::{Parser, Subcommand};

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
}

#[derive(Clone, Copy, Debug, Subcommand)]
enum Suite {
    /// Commands per second in one process, puts per second through `kv`, latency of a commit against a flush, memory.
    First,
    /// What a log costs that lives for years: reads, restarts, memory, snapshots and catch-up under load.
    Life,
    /// More replicas, larger commands, a longer log, more clients; memory by entry, restart, catch-up.
    Scale,
}

impl Suite {
    fn name(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Life => "life",
            Self::Scale => "scale",
        }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let cli = Cli::parse();
    let report = report::Report::new(cli.json);
    match cli.suite {
        Suite::First => first::run(&report, cli.quick)?,
        Suite::Life => life::run(&report, cli.quick)?,
        Suite::Scale => scale::run(&report, cli.quick)?,
    }
    report.end(cli.suite.name());
    Ok(())
}
