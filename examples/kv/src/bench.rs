//! A closed loop: clients that put, each waiting for its answer before it puts again.

use crate::cli::say;
use crate::client::{Client, ClientError, WriteOptions};
use crate::cluster::{self, Cluster, within};
use crate::failure::Failure;
use bytes::Bytes;
use clap::Args;
use futures::future::join_all;
use serde::Serialize;
use std::fmt;
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// How many keys each client writes, over and over.
const KEYS: usize = 1000;
/// How long a client waits after an error.
const PAUSE: Duration = Duration::from_millis(50);

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The HTTP addresses of the nodes; the clients are spread over them. Without any, a cluster is started for the time.
    #[arg(long, value_name = "HOST:PORT", value_delimiter = ',')]
    http: Vec<String>,
    /// Nodes to start, where no address is given.
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = clap::value_parser!(u8).range(1..))]
    nodes: u8,
    #[arg(long, default_value_t = 64, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    clients: u16,
    /// Bytes in a value.
    #[arg(long, default_value_t = 100, value_name = "BYTES")]
    value_size: usize,
    #[arg(long, default_value_t = 10, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// What was measured.
#[derive(Debug, Serialize)]
struct Figures {
    clients: u16,
    value_size: usize,
    seconds: f64,
    operations: usize,
    errors: usize,
    operations_per_s: f64,
    p50_ms: f64,
    p99_ms: f64,
    p999_ms: f64,
}

/// Measures, and prints the figures.
pub(crate) async fn bench(options: Options) -> Result<(), Failure> {
    let client = Client::default();
    if !options.http.is_empty() {
        return measure(&options, &client, &options.http).await;
    }
    let directory = cluster::temporary()?;
    let mut cluster = Cluster::start(directory.path(), options.nodes.into(), 0, client.clone())?;
    within("the start of the nodes", cluster.ready()).await?;
    let measured = measure(&options, &client, &cluster.addresses()).await;
    cluster.stop().await;
    measured
}

async fn measure(options: &Options, client: &Client, nodes: &[String]) -> Result<(), Failure> {
    let begin = Instant::now();
    let end = begin + Duration::from_secs(options.seconds);
    let value = Bytes::from(vec![b'x'; options.value_size]);
    let clients = (0..options.clients).zip(nodes.iter().cycle());
    let outcomes = join_all(clients.map(|(number, node)| put_until(end, client, node, number, &value))).await;
    let seconds = begin.elapsed().as_secs_f64();

    let mut latencies: Vec<_> = outcomes.iter().flat_map(|outcome| &outcome.latencies).copied().collect();
    latencies.sort_unstable();
    let errors = outcomes.iter().map(|outcome| outcome.errors).sum();
    if let (true, Some(error)) =
        (latencies.is_empty(), outcomes.into_iter().find_map(|outcome| outcome.last_error))
    {
        return Err(error.into());
    }
    let figures = Figures {
        clients: options.clients,
        value_size: options.value_size,
        seconds,
        operations: latencies.len(),
        errors,
        operations_per_s: latencies.len() as f64 / seconds,
        p50_ms: quantile_ms(&latencies, 0.5),
        p99_ms: quantile_ms(&latencies, 0.99),
        p999_ms: quantile_ms(&latencies, 0.999),
    };
    say(if options.json { serde_json::json!(figures).to_string() } else { figures.to_string() });
    Ok(())
}

#[derive(Default)]
struct Outcome {
    latencies: Vec<Duration>,
    errors: usize,
    last_error: Option<ClientError>,
}

/// One client: puts to `node` until `end`, one value at a time.
async fn put_until(end: Instant, client: &Client, node: &str, number: u16, value: &Bytes) -> Outcome {
    let mut outcome = Outcome::default();
    for turn in (0..KEYS).cycle() {
        let sent = Instant::now();
        if sent >= end {
            break;
        }
        match client
            .put(node, &format!("bench/{number}/{turn}"), value.clone(), &WriteOptions::default())
            .await
        {
            Ok(_) => outcome.latencies.push(sent.elapsed()),
            Err(error) => {
                outcome.errors += 1;
                outcome.last_error = Some(error);
                sleep(PAUSE).await;
            }
        }
    }
    outcome
}

/// The latency that the share `quantile` of all operations did not exceed.
fn quantile_ms(sorted: &[Duration], quantile: f64) -> f64 {
    let rank = (quantile * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).map_or(0.0, |latency| latency.as_secs_f64() * 1e3)
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            clients,
            value_size,
            seconds,
            operations,
            errors,
            operations_per_s,
            p50_ms,
            p99_ms,
            p999_ms,
        } = self;
        writeln!(f, "{clients} clients put values of {value_size} bytes for {seconds:.1} s")?;
        writeln!(f, "{operations} operations, {errors} errors: {operations_per_s:.0} operations/s")?;
        write!(f, "p50 {p50_ms:.2} ms, p99 {p99_ms:.2} ms, p99.9 {p999_ms:.2} ms")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_a_latency_that_was_measured() {
        let latencies: Vec<_> = (1..=1000).map(Duration::from_millis).collect();
        assert_eq!(
            [0.5, 0.99, 0.999, 1.0].map(|q| quantile_ms(&latencies, q)),
            [500.0, 990.0, 999.0, 1000.0]
        );
        assert_eq!(quantile_ms(&latencies[..1], 0.5), 1.0);
        assert_eq!(quantile_ms(&[], 0.5), 0.0);
    }
}
