//! `synod-guard`: counts the instructions of the hot paths, and fails when one has become more expensive.
//!
//! ```sh
//! cargo run --release -p synod-guard                  # compare with what stated.txt says
//! SYNOD_BLESS=1 cargo run --release -p synod-guard    # write stated.txt anew
//! ```
//!
//! Times are noise on a shared machine; the instructions that `valgrind --tool=callgrind` counts repeat. Each path does a
//! fixed piece of work on fixed inputs ([`paths`]), in a process of its own with an empty environment, and only
//! what runs inside the path's one function counts. The counts depend on the compiler and, where the C library or the
//! checksum picks code by processor, on that; a new toolchain is a reason to bless.

mod callgrind;
mod paths;
mod stated;

use callgrind::Counted;
use clap::Parser;
use paths::Path;
use stated::Stated;
use std::process::ExitCode;

type Error = Box<dyn std::error::Error>;

/// A path may cost so much more than is stated.
const TOLERANCE: f64 = 0.05;
/// Functions that are named for a path which costs more.
const FUNCTIONS_NAMED: usize = 8;

#[derive(Debug, Parser)]
#[command(about = "Counts the instructions of the hot paths, and fails when one has become more expensive")]
struct Cli {
    /// Fail where valgrind is not installed, instead of only saying so.
    #[arg(long)]
    require_valgrind: bool,
    /// Walk one path, to be counted.
    #[arg(long, hide = true)]
    walk: Option<Path>,
}

fn main() -> Result<ExitCode, Error> {
    let cli = Cli::parse();
    if let Some(path) = cli.walk {
        paths::walk(path)?;
        return Ok(ExitCode::SUCCESS);
    }
    if !callgrind::is_installed() {
        eprintln!("!! valgrind is not installed: NOTHING WAS COUNTED, a path may have become more expensive");
        return Ok(if cli.require_valgrind { ExitCode::FAILURE } else { ExitCode::SUCCESS });
    }
    let counted = callgrind::count_all()?;
    if std::env::var_os("SYNOD_BLESS").is_some() {
        stated::write(&counted)?;
        println!("{} is written anew", stated::file().display());
    }
    let stated = stated::read()?;
    let dearer = counted.iter().filter(|(path, counted)| !is_kept(**path, counted, &stated)).count();
    if dearer == 0 {
        println!("all {} paths cost what is stated, to {:.0} %", counted.len(), TOLERANCE * 100.0);
        return Ok(ExitCode::SUCCESS);
    }
    println!(
        "{dearer} of {} paths cost more than is stated; where that is meant: SYNOD_BLESS=1",
        counted.len()
    );
    Ok(ExitCode::FAILURE)
}

/// Prints what `path` costs, and whether that is at most what is stated, to the tolerance.
fn is_kept(path: Path, counted: &Counted, stated: &Stated) -> bool {
    let (now, unit) = (counted.instructions, path.unit());
    let Some(before) = stated.get(&path) else {
        println!("{:<14} {now:>8} instructions per {unit}: nothing is stated", path.name());
        return false;
    };
    let growth = now as f64 / before.instructions as f64 - 1.0;
    let percent = growth * 100.0;
    let stated = before.instructions;
    println!("{:<14} {now:>8} instructions per {unit}, stated {stated}: {percent:+.2} %", path.name());
    if growth < -TOLERANCE {
        println!("  it has become cheaper: SYNOD_BLESS=1 keeps it so");
    }
    if growth <= TOLERANCE {
        return true;
    }
    name_functions(counted, before);
    false
}

/// The functions whose own instructions became more, and those that hold most of them.
fn name_functions(counted: &Counted, before: &Counted) {
    // Functions that hold less are not stated.
    let earlier = |name: &str| before.functions.get(name).copied().unwrap_or(before.instructions / 100);
    let mut grown: Vec<(&String, u64, u64)> =
        counted.functions.iter().map(|(name, now)| (name, *now, now.saturating_sub(earlier(name)))).collect();
    grown.sort_by_key(|(_, now, more)| std::cmp::Reverse((*more, *now)));
    println!("  these became more:");
    for (name, now, more) in grown.iter().filter(|(_, _, more)| *more > 0).take(FUNCTIONS_NAMED) {
        println!("  {now:>8} ({more:+}) {name}");
    }
    grown.sort_by_key(|(_, now, _)| std::cmp::Reverse(*now));
    println!("  these hold most:");
    for (name, now, _) in grown.iter().take(FUNCTIONS_NAMED) {
        println!("  {now:>8} {name}");
    }
}
