//! Running callgrind, and reading what it wrote.

use crate::Error;
use crate::paths::Path;
use std::collections::BTreeMap;
use std::process::{Command, Stdio};

/// What one path costs, per unit of its work.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counted {
    pub(crate) instructions: u64,
    /// Of which each function spends so many itself.
    pub(crate) functions: BTreeMap<String, u64>,
}

/// Whether there is a valgrind to run.
pub(crate) fn is_installed() -> bool {
    let mut version = Command::new("valgrind");
    version.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
    version.status().is_ok_and(|status| status.success())
}

/// Counts every path, each in a process of its own.
pub(crate) fn count_all() -> Result<BTreeMap<Path, Counted>, Error> {
    let dir = tempfile::tempdir()?;
    Path::ALL.iter().map(|path| Ok((*path, count(*path, dir.path())?))).collect()
}

fn count(path: Path, dir: &std::path::Path) -> Result<Counted, Error> {
    let file = dir.join(path.name());
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--compress-strings=no", "--compress-pos=no"])
        .arg(format!("--toggle-collect={}", path.function()))
        .arg(format!("--callgrind-out-file={}", file.display()))
        .arg(std::env::current_exe()?)
        .args(["--walk", path.name()])
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .output()?;
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr);
        return Err(format!("the path {} cannot be walked: {why}", path.name()).into());
    }
    let counted = read(&std::fs::read_to_string(&file)?, path.units())?;
    if counted.instructions == 0 {
        return Err(format!("nothing was counted in {}", path.function()).into());
    }
    Ok(counted)
}

/// Adds up the own instructions of each function, and divides by `units`.
///
/// The format: `fn=NAME` begins a function; a line of two numbers is a line of its source and the instructions spent there; one
/// that follows `calls=` is what the callee spent, and belongs to that.
fn read(text: &str, units: u64) -> Result<Counted, Error> {
    let mut own: BTreeMap<&str, u64> = BTreeMap::new();
    let (mut function, mut is_callee) = ("", false);
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("fn=") {
            function = name;
        } else if line.starts_with("calls=") {
            is_callee = true;
        } else if line.starts_with(|first: char| first.is_ascii_digit()) {
            let cost = line.split_whitespace().nth(1).ok_or("a line of costs has none")?.parse::<u64>()?;
            if !std::mem::take(&mut is_callee) {
                *own.entry(function).or_default() += cost;
            }
        }
    }
    let functions = own.iter().map(|(name, cost)| ((*name).to_owned(), cost / units));
    Ok(Counted {
        instructions: own.values().sum::<u64>() / units,
        functions: functions.filter(|(_, cost)| *cost > 0).collect(),
    })
}
