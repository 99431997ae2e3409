//! The demo: a cluster of processes loses its leader in the middle of a load, and nothing else.
//!
//! `long.rs` tells the longer story of a cluster's life, `load.rs` writes meanwhile.

mod load;
mod long;

use crate::cli::say;
use crate::client::{Client, ClientError, WriteOptions};
use crate::cluster::{self, Cluster, HANG, hangs, within};
use crate::failure::Failure;
use crate::serve::interrupted;
use crate::table::{self, Table};
use bytes::Bytes;
use clap::Args;
use futures::{StreamExt, TryStreamExt, pin_mut, stream};
use hyper::StatusCode;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::time::{sleep, timeout};

/// Requests under way at a time.
const CLIENTS: usize = 16;
/// How long a client waits for a node. A node itself waits longer for an answer of a leader that may be gone.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long a client waits before it turns to another node.
const PAUSE: Duration = Duration::from_millis(20);

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// What to load: a key, a tab and a value in each line. Without it, the names of Unicode characters.
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Nodes to start; fewer than three cannot spare one.
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = clap::value_parser!(u8).range(3..=9))]
    nodes: u8,
    /// The whole life of a cluster: it grows, loses nodes, cuts its log, changes its leader, shrinks and restarts.
    #[arg(long, conflicts_with = "nodes")]
    long: bool,
    /// Keep the nodes' directories here.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// End with one JSON object.
    #[arg(long)]
    json: bool,
}

/// The story in figures.
#[derive(Clone, Debug, Serialize)]
struct Report {
    nodes: usize,
    rows: usize,
    acknowledged: usize,
    /// Acknowledged, and not to be read back.
    lost: usize,
    digests_equal: bool,
    /// From SIGKILL for the leader to the first acknowledgement of a write that was sent after it.
    failover_ms: u64,
    /// From the restart of the dead node until it had applied all that the leader had.
    caught_up_ms: u64,
    writes_per_s: f64,
}

/// Tells the story. Fails if a write is lost, digests differ, or anything hangs.
pub(crate) async fn demo(options: Options) -> Result<(), Failure> {
    let table = table::read(options.input.as_deref())?;
    let temporary;
    let directory = match &options.dir {
        Some(directory) => directory,
        None => {
            temporary = cluster::temporary()?;
            temporary.path()
        }
    };
    let (report, json) = tokio::select! {
        told = tell(&options, &table, directory) => told?,
        () = interrupted() => return Err(Failure::Failed("the demo was interrupted".into())),
    };
    if options.json {
        say(json);
    }
    match report {
        Report { lost: 1.., .. } => {
            Err(Failure::Failed(format!("{} acknowledged writes are lost", report.lost)))
        }
        Report { digests_equal: false, .. } => Err(Failure::Failed("the state machines differ".into())),
        _ => Ok(()),
    }
}

/// The story in figures, and in JSON.
async fn tell(
    options: &Options,
    table: &Table,
    directory: &Path,
) -> Result<(Report, serde_json::Value), Failure> {
    if options.long {
        let long = long::story(table, directory).await?;
        Ok((long.report.clone(), serde_json::json!(long)))
    } else {
        let report = story(options, table, directory).await?;
        Ok((report.clone(), serde_json::json!(report)))
    }
}

async fn story(options: &Options, table: &Table, directory: &Path) -> Result<Report, Failure> {
    let nodes = options.nodes;
    let client = Client::default();
    let mut cluster = Cluster::start(directory, nodes.into(), 0, client.clone())?;
    within("the start of the nodes", cluster.ready()).await?;
    say(format_args!(
        "{nodes} nodes run, each a process of its own with its own directory below {}.",
        directory.display()
    ));

    let bar = if options.json { ProgressBar::hidden() } else { progress_bar(table.len()) };
    let load = load(&mut cluster, &client, table, &bar).await?;
    bar.finish_and_clear();
    let Loaded { acknowledged, victim, failover, writes_per_s } = load;
    say(format_args!(
        "All {acknowledged} rows are acknowledged: {writes_per_s:.0} writes/s, the failover included."
    ));

    let restarted = Instant::now();
    cluster.spawn(victim)?;
    within("catching up", cluster.caught_up(victim)).await?;
    let caught_up = restarted.elapsed();
    say(format_args!(
        "Node {victim} is started again on its directory; it caught up within {} ms.",
        caught_up.as_millis()
    ));

    let digests = within("the comparison of digests", cluster.digests()).await?;
    let digests_equal = digests.windows(2).all(|pair| pair[0] == pair[1]);
    say(compared(&digests, digests_equal));

    let lost = count_lost(&cluster.addresses(), &client, table).await?;
    say(format_args!("Read back: of {acknowledged} acknowledged writes, {lost} are lost."));
    cluster.stop().await;
    Ok(Report {
        nodes: nodes.into(),
        rows: table.len(),
        acknowledged,
        lost,
        digests_equal,
        failover_ms: failover.as_millis() as u64,
        caught_up_ms: caught_up.as_millis() as u64,
        writes_per_s,
    })
}

fn compared(digests: &[String], equal: bool) -> String {
    if equal {
        format!("The {} state machines are equal: their digest is {}.", digests.len(), digests[0])
    } else {
        format!("The state machines DIFFER: their digests are {}.", digests.join(", "))
    }
}

/// How the load went.
struct Loaded {
    acknowledged: usize,
    /// The node that led at half of the load.
    victim: u64,
    failover: Duration,
    writes_per_s: f64,
}

/// Stores all rows; kills the leader when half of them are acknowledged.
async fn load(
    cluster: &mut Cluster,
    client: &Client,
    table: &Table,
    bar: &ProgressBar,
) -> Result<Loaded, Failure> {
    let nodes = cluster.addresses();
    // Even of a short table, some rows are sent only after the kill.
    let clients = CLIENTS.min(table.len() / 4).max(1);
    let begin = Instant::now();
    let writes = stream::iter(table.iter().enumerate())
        .map(|(turn, (key, value))| put_until_acknowledged(client, &nodes, turn, key, value))
        .buffer_unordered(clients);
    pin_mut!(writes);

    let mut acknowledged = 0;
    let mut killed: Option<(u64, Instant)> = None;
    let mut failover = None;
    while let Some(sent) = timeout(HANG, writes.try_next()).await.map_err(|_| hangs("the load"))?? {
        acknowledged += 1;
        bar.inc(1);
        if let (Some((_, at)), None) = (killed, failover) {
            failover = (sent > at).then(|| at.elapsed());
        }
        if killed.is_none() && acknowledged >= table.len() / 2 {
            let leader = within("the search for the leader", cluster.leader()).await?;
            killed = Some((leader, cluster.kill(leader).await?));
            bar.suspend(|| {
                say(format_args!("After {acknowledged} writes, SIGKILL for node {leader}, the leader."))
            });
        }
    }
    let writes_per_s = acknowledged as f64 / begin.elapsed().as_secs_f64();
    let (Some((victim, _)), Some(failover)) = (killed, failover) else {
        return Err(Failure::Failed("no write was sent after the leader was gone; load more rows".into()));
    };
    let leader = within("the search for the leader", cluster.leader()).await?;
    say(format_args!(
        "The first write sent after that was acknowledged {} ms later; node {leader} leads now.",
        failover.as_millis(),
    ));
    Ok(Loaded { acknowledged, victim, failover, writes_per_s })
}

/// Puts until a node says that it is done; gives the time at which that request was sent.
async fn put_until_acknowledged(
    client: &Client,
    nodes: &[String],
    mut turn: usize,
    key: &str,
    value: &Bytes,
) -> Result<Instant, ClientError> {
    let options = WriteOptions::default();
    loop {
        let sent = Instant::now();
        let put = client.put(&nodes[turn % nodes.len()], key, value.clone(), &options);
        match timeout(PATIENCE, put).await {
            Ok(Ok(_)) => return Ok(sent),
            Ok(Err(error)) if !error.may_pass() => return Err(error),
            // It may be stored or not. The same put again makes no difference.
            _ => sleep(PAUSE).await,
        }
        turn += 1;
    }
}

/// How many rows cannot be read back as they were acknowledged.
async fn count_lost(nodes: &[String], client: &Client, table: &Table) -> Result<usize, Failure> {
    let reads = stream::iter(table.iter().enumerate())
        .map(|(turn, (key, value))| async move {
            let found = get_until_answered(client, nodes, turn, key).await?;
            Ok::<_, ClientError>(found.as_ref() == Some(value))
        })
        .buffer_unordered(CLIENTS);
    pin_mut!(reads);
    let mut lost = 0;
    while let Some(kept) = timeout(HANG, reads.try_next()).await.map_err(|_| hangs("reading back"))?? {
        lost += usize::from(!kept);
    }
    Ok(lost)
}

async fn get_until_answered(
    client: &Client,
    nodes: &[String],
    mut turn: usize,
    key: &str,
) -> Result<Option<Bytes>, ClientError> {
    loop {
        match client.get(&nodes[turn % nodes.len()], key, false).await {
            Ok(answer) => return Ok(Some(answer.body)),
            Err(ClientError::Refused { status: StatusCode::NOT_FOUND, .. }) => return Ok(None),
            Err(error) if error.may_pass() => sleep(PAUSE).await,
            Err(error) => return Err(error),
        }
        turn += 1;
    }
}

/// Shown on a terminal only.
fn progress_bar(rows: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} rows, {elapsed}");
    ProgressBar::new(rows as u64).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
