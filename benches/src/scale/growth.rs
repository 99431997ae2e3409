//! By how much a process grows with the entries of its replicas: measured in a process that does nothing else, for memory
//! that was given back before would be used again.
//!
//! The bench starts itself as `synod-bench growth files|memory COUNT`; it prints bytes by entry and replica.

use super::cluster::Shape;
use crate::cluster::Error;
use crate::first::{resident_bytes, runtime};
use std::process::Command;

const NAME: &str = "growth";
/// Bytes of a command.
pub(super) const PAYLOAD: usize = 16;
const BATCH: usize = 64;
/// As many clients as keep the batches full.
const CLIENTS: u64 = 1024;

/// Where the entries are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Files,
    Memory,
}

/// What a process of this kind was asked to measure.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Growth {
    place: Place,
    count: u64,
}

/// What this process was started for, if it is to measure its growth.
pub(crate) fn asked_for() -> Option<Growth> {
    let mut words = std::env::args().skip(1);
    if words.next()? != NAME {
        return None;
    }
    let place = if words.next()? == "files" { Place::Files } else { Place::Memory };
    Some(Growth { place, count: words.next()?.parse().ok()? })
}

/// Has another process measure it: bytes by entry and replica, payload included where that is in memory.
pub(super) fn of(place: Place, count: u64) -> Result<f64, Error> {
    let word = if place == Place::Files { "files" } else { "memory" };
    let output = Command::new(std::env::current_exe()?).args([NAME, word, &count.to_string()]).output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    said.trim()
        .parse()
        .map_err(|_| format!("no growth: {said}{}", String::from_utf8_lossy(&output.stderr)).into())
}

/// Measures it here, and prints it.
pub(crate) fn run(growth: Growth) -> Result<(), Error> {
    let dir = tempfile::tempdir()?;
    let tune: fn(&mut synod::Config) = |config| {
        config.batch_commands_max = BATCH;
        config.snapshot_log_bytes = u64::MAX;
    };
    let grown = match growth.place {
        Place::Files => {
            let shape = Shape { tune, ..Shape::on_disk(dir.path()) };
            runtime()?.block_on(grow(&shape, growth.count))?
        }
        Place::Memory => {
            // Replicas in one process would share each batch.
            let shape = Shape { tune, ..Shape::in_memory(1) };
            actix_rt::System::new().block_on(grow(&shape, growth.count))?
        }
    };
    println!("{grown}");
    Ok(())
}

async fn grow(shape: &Shape, count: u64) -> Result<f64, Error> {
    // The caches of decided entries, 16 MiB each, are full after that.
    const WARM: u64 = 1_500_000;
    let mut cluster = shape.start().await?;
    cluster.closed_loop(CLIENTS, WARM, PAYLOAD).await?;
    let (before, slots) = (resident_bytes()?, cluster.slots().await?);
    cluster.closed_loop(CLIENTS, count, PAYLOAD).await?;
    let (after, slots) = (resident_bytes()?, cluster.slots().await? - slots);
    let batch = count as f64 / slots as f64;
    if !(BATCH as f64 * 0.75..=BATCH as f64).contains(&batch) {
        return Err(format!("the batches held {batch:.1} commands on average").into());
    }
    cluster.check_and_stop().await?;
    Ok(after.saturating_sub(before) as f64 / (count * shape.replicas) as f64)
}
