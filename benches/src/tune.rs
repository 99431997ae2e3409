//! What the knobs of `Config` do: each one's default against another setting, in turn, with a load that feels it.

use crate::cluster::Error;
use crate::first::runtime;
use crate::life;
use crate::report::{Better, Contender, Goal, Report, Series, Work, in_turn};
use crate::scale::cluster::Shape;
use std::cell::{Cell, RefCell};
use std::path::Path;
use synod::Config;

const SUITE: &str = "tune";

/// A value of a knob, and what sets it.
type Setting = (&'static str, fn(&mut Config));

/// A knob, its default (the first setting) and others, and the load that feels it.
struct Knob {
    name: &'static str,
    settings: &'static [Setting],
    clients: u64,
    bytes: usize,
    /// Commands of a run.
    count: u64,
    /// One message of so many is lost; 0 for none.
    loses_one_of: u64,
}

const KNOBS: &[Knob] = &[
    Knob {
        name: "open_slots_max, 256 clients, 16 B",
        settings: &[("64", |_| {}), ("8", |c| c.open_slots_max = 8), ("1", |c| c.open_slots_max = 1)],
        clients: 256,
        bytes: 16,
        count: 60_000,
        loses_one_of: 0,
    },
    Knob {
        name: "batch_commands_max, 1024 clients, 16 B",
        settings: &[
            ("4096", |_| {}),
            ("64", |c| c.batch_commands_max = 64),
            ("1", |c| c.batch_commands_max = 1),
        ],
        clients: 1024,
        bytes: 16,
        count: 60_000,
        loses_one_of: 0,
    },
    Knob {
        name: "batch_bytes_max, 256 clients, 4 KiB",
        settings: &[("512 KiB", |_| {}), ("16 KiB", |c| c.batch_bytes_max = 16 << 10)],
        clients: 256,
        bytes: 4096,
        count: 20_000,
        loses_one_of: 0,
    },
    Knob {
        name: "unacknowledged_bytes_max, 256 clients, 16 KiB",
        settings: &[("4 MiB", |_| {}), ("512 KiB", |c| c.unacknowledged_bytes_max = 512 << 10)],
        clients: 256,
        bytes: 16_384,
        count: 8_000,
        loses_one_of: 0,
    },
    Knob {
        name: "credits, 1024 clients, 16 B",
        settings: &[("8192", |_| {}), ("64", |c| c.credits = 64)],
        clients: 1024,
        bytes: 16,
        count: 100_000,
        loses_one_of: 0,
    },
    Knob {
        name: "resend, 1 client, 16 B, 1 % of messages lost",
        settings: &[("100 ms", |_| {}), ("20 ms", |c| c.resend = std::time::Duration::from_millis(20))],
        clients: 1,
        bytes: 16,
        count: 2_000,
        loses_one_of: 100,
    },
    Knob {
        name: "snapshot_log_bytes, 1024 clients, 1 KiB",
        settings: &[("64 MiB", |_| {}), ("4 MiB", |c| c.snapshot_log_bytes = 4 << 20)],
        clients: 1024,
        bytes: 1024,
        count: 60_000,
        loses_one_of: 0,
    },
    Knob {
        name: "scrub_bytes_per_second, 64 clients, 1 KiB",
        settings: &[
            ("1 MiB", |_| {}),
            ("0", |c| c.scrub_bytes_per_second = 0),
            ("256 MiB", |c| c.scrub_bytes_per_second = 256 << 20),
        ],
        clients: 64,
        bytes: 1024,
        count: 20_000,
        loses_one_of: 0,
    },
    Knob {
        name: "cache_bytes_max, 1024 clients, 16 B",
        settings: &[("16 MiB", |_| {}), ("64 KiB", |c| c.cache_bytes_max = 64 << 10)],
        clients: 1024,
        bytes: 16,
        count: 200_000,
        loses_one_of: 0,
    },
];

/// Measures each knob.
pub(crate) fn run(report: &Report, quick: bool) -> Result<(), Error> {
    let runs = if quick { 3 } else { 5 };
    let dir = tempfile::tempdir()?;
    let started = Cell::new(0_u64);
    for knob in KNOBS {
        let contenders = knob.settings.iter().map(|(system, tune)| Contender {
            system,
            run: Box::new(|| {
                started.set(started.get() + 1);
                rate(knob, *tune, &dir.path().join(started.get().to_string()))
            }),
        });
        let series = in_turn(runs, contenders.collect())?;
        let name = format!("three replicas, files, {}", knob.name);
        let work =
            Work { suite: SUITE, name: &name, unit: "commands/s", better: Better::Higher, goal: Goal::None };
        report.compare(work, &series);
    }
    reads(report, runs, dir.path())?;
    transfer(report, runs)
}

/// Reads that rest on leases, against those that a round of messages confirms.
fn reads(report: &Report, runs: usize, dir: &Path) -> Result<(), Error> {
    const CLIENTS: u64 = 16;
    const COUNT: u64 = 40_000;
    let shape = Shape { tune: |c| c.trust_clocks = true, ..Shape::on_disk(&dir.join("reads")) };
    let runtime = runtime()?;
    let started = runtime.block_on(shape.start())?;
    let (runtime, cluster) = (&runtime, &started);
    let contenders = [("read", false), ("read_lease", true)].map(|(system, lease)| Contender {
        system,
        run: Box::new(move || runtime.block_on(cluster.read_rate(CLIENTS, COUNT, lease))),
    });
    let series = in_turn(runs, contenders.into())?;
    let name = "trust_clocks: reads on the leader, 16 clients";
    let work = Work { suite: SUITE, name, unit: "reads/s", better: Better::Higher, goal: Goal::None };
    report.compare(work, &series);
    runtime.block_on(started.check_and_stop())
}

/// How fast a new node gets a state, and what commits feel of it, by `transfer_bytes_per_second`.
fn transfer(report: &Report, runs: usize) -> Result<(), Error> {
    const STATE: usize = 64 << 20;
    let settings: [Setting; 4] = [
        ("128 MiB", |_| {}),
        ("1 GiB", |c| c.transfer_bytes_per_second = 1 << 30),
        ("256 MiB", |c| c.transfer_bytes_per_second = 256 << 20),
        ("32 MiB", |c| c.transfer_bytes_per_second = 32 << 20),
    ];
    let felt = RefCell::new(vec![Vec::new(); settings.len()]);
    let contenders = settings.into_iter().enumerate().map(|(number, (system, tune))| {
        let felt = &felt;
        let run = move || {
            let mut rate = 0.0;
            let beside = life::catch_up(1, STATE, tune, |_, measured| {
                rate = measured / f64::from(1 << 20);
                Ok(())
            })?;
            felt.borrow_mut()[number].extend(beside.ratios());
            Ok(rate)
        };
        Contender { system, run: Box::new(run) }
    });
    let fetched = in_turn(runs, contenders.collect())?;
    let felt = settings.iter().zip(felt.into_inner());
    let felt: Vec<Series> = felt.map(|((system, _), figures)| Series { system, figures }).collect();
    let work = |name, unit, better| Work { suite: SUITE, name, unit, better, goal: Goal::None };
    let name = "transfer_bytes_per_second, 64 MiB to a new node, TCP, files";
    report.compare(work(name, "MiB/s", Better::Higher), &fetched);
    report.compare(work("the same: p99 of commits meanwhile by calm", "times", Better::Lower), &felt);
    Ok(())
}

/// Answered commands per second of a new cluster with files in `dir`.
fn rate(knob: &Knob, tune: fn(&mut Config), dir: &Path) -> Result<f64, Error> {
    let shape = Shape { tune, loses_one_of: knob.loses_one_of, ..Shape::on_disk(dir) };
    let rate = runtime()?.block_on(async {
        let mut cluster = shape.start().await?;
        cluster.closed_loop(knob.clients, knob.count / 10, knob.bytes).await?;
        let rate = cluster.rate(knob.clients, knob.count, knob.bytes).await?;
        cluster.check_and_stop().await?;
        Ok::<_, Error>(rate)
    })?;
    std::fs::remove_dir_all(dir)?;
    Ok(rate)
}
