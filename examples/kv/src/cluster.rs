//! A cluster on this machine: each node a process of its own, with a directory of its own.

use crate::client::Client;
use crate::failure::Failure;
use crate::http::status::StatusBody;
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};
use std::{fs, io};
use tokio::process::{Child, Command};
use tokio::time::sleep;

/// What takes longer has hung.
pub(crate) const HANG: Duration = Duration::from_secs(60);
/// How often a state that is waited for is looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// The nodes; dropping them ends their processes.
pub(crate) struct Cluster {
    nodes: Vec<LocalNode>,
    client: Client,
}

struct LocalNode {
    id: usize,
    listen: SocketAddr,
    http: String,
    directory: PathBuf,
    /// None while it is down.
    process: Option<Child>,
}

impl Cluster {
    /// Starts `size` nodes with their directories in `directory`. Nodes that it holds already go on where they were.
    pub(crate) fn start(directory: &Path, size: usize, client: Client) -> Result<Self, Failure> {
        let addresses = free_addresses(2 * size).map_err(|error| failed("find free ports", &error))?;
        let nodes = (1..).zip(addresses.chunks(2)).map(|(id, addresses)| LocalNode {
            id,
            listen: addresses[0],
            http: addresses[1].to_string(),
            directory: directory.join(format!("node-{id}")),
            process: None,
        });
        let mut cluster = Self { nodes: nodes.collect(), client };
        for node in 0..size {
            cluster.spawn(node)?;
        }
        Ok(cluster)
    }

    /// Starts the process of `node`, new or again: the same command, whatever its directory holds.
    pub(crate) fn spawn(&mut self, node: usize) -> Result<(), Failure> {
        let peers: Vec<_> =
            self.nodes.iter().map(|node| format!("--peer={}={}", node.id, node.listen)).collect();
        let LocalNode { id, listen, http, directory, process } = &mut self.nodes[node];
        let spawned = fs::create_dir_all(&*directory)
            .and_then(|()| Ok((std::env::current_exe()?, File::create(log_file(directory))?)))
            .and_then(|(program, log)| {
                Command::new(program)
                    .args(["serve", "--cluster=local", "--bootstrap", &format!("--id={id}")])
                    .args([format!("--listen={listen}"), format!("--http={http}")])
                    .arg("--data")
                    .arg(directory.join("data"))
                    .args(peers)
                    .stdin(Stdio::null())
                    .stdout(Stdio::null())
                    .stderr(log)
                    .kill_on_drop(true)
                    .spawn()
            });
        *process = Some(spawned.map_err(|error| failed(&format!("start node {id}"), &error))?);
        Ok(())
    }

    /// Ends the process of `node` with SIGKILL: it has no time for a last word. Gives the time of the signal.
    pub(crate) async fn kill(&mut self, node: usize) -> Result<Instant, Failure> {
        let LocalNode { id, process, .. } = &mut self.nodes[node];
        let mut killed =
            process.take().ok_or_else(|| Failure::Failed(format!("node {id} is down already")))?;
        killed.start_kill().map_err(|error| failed("kill a node", &error))?;
        let at = Instant::now();
        killed.wait().await.map_err(|error| failed("wait for a killed node", &error))?;
        Ok(at)
    }

    /// Ends all processes and waits until they are gone.
    pub(crate) async fn stop(mut self) {
        for process in self.nodes.iter_mut().filter_map(|node| node.process.as_mut()) {
            // It may have ended by itself.
            let _ = process.kill().await;
        }
    }

    /// The HTTP addresses of all nodes.
    pub(crate) fn addresses(&self) -> Vec<String> {
        self.nodes.iter().map(|node| node.http.clone()).collect()
    }

    /// The id of `node`.
    pub(crate) fn id(&self, node: usize) -> usize {
        self.nodes[node].id
    }

    /// Waits until every node knows a leader.
    pub(crate) async fn ready(&mut self) -> Result<(), Failure> {
        for node in 0..self.nodes.len() {
            while self.client.health(&self.nodes[node].http).await.is_err() {
                self.look_after()?;
                sleep(LOOK_AGAIN).await;
            }
        }
        Ok(())
    }

    /// Waits until a node leads, and says which.
    pub(crate) async fn leader(&mut self) -> Result<usize, Failure> {
        loop {
            let statuses = self.statuses().await?;
            let leads =
                |status: &Option<StatusBody>| status.as_ref().is_some_and(|status| status.role == "leader");
            if let Some(leader) = statuses.iter().position(leads) {
                return Ok(leader);
            }
            sleep(LOOK_AGAIN).await;
        }
    }

    /// Waits until `node` has applied all that the leader has.
    pub(crate) async fn caught_up(&mut self, node: usize) -> Result<(), Failure> {
        loop {
            let leader = self.leader().await?;
            if let [Some(behind), Some(ahead)] = [self.status(node).await, self.status(leader).await]
                && behind.applied >= ahead.applied
            {
                return Ok(());
            }
            self.look_after()?;
            sleep(LOOK_AGAIN).await;
        }
    }

    /// Waits until all nodes have applied equally much, and gives the digests of what they hold then.
    pub(crate) async fn digests(&mut self) -> Result<Vec<String>, Failure> {
        loop {
            let statuses: Option<Vec<_>> = self.statuses().await?.into_iter().collect();
            if let Some(statuses) = statuses
                && statuses.windows(2).all(|pair| pair[0].applied == pair[1].applied)
            {
                return Ok(statuses.into_iter().map(|status| status.digest).collect());
            }
            sleep(LOOK_AGAIN).await;
        }
    }

    async fn statuses(&mut self) -> Result<Vec<Option<StatusBody>>, Failure> {
        self.look_after()?;
        let mut statuses = Vec::new();
        for node in 0..self.nodes.len() {
            statuses.push(self.status(node).await);
        }
        Ok(statuses)
    }

    async fn status(&self, node: usize) -> Option<StatusBody> {
        self.client.status(&self.nodes[node].http).await.ok()
    }

    /// A node that ended although nobody killed it would be waited for in vain.
    fn look_after(&mut self) -> Result<(), Failure> {
        for LocalNode { id, directory, process, .. } in &mut self.nodes {
            if let Some(Ok(Some(status))) = process.as_mut().map(Child::try_wait) {
                let log = fs::read_to_string(log_file(directory)).unwrap_or_default();
                let last = log.lines().last().unwrap_or_default();
                return Err(Failure::Failed(format!("node {id} ended by itself ({status}): {last}")));
            }
        }
        Ok(())
    }
}

/// Waits for `phase`, but not for ever.
pub(crate) async fn within<T>(
    what: &str,
    phase: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    tokio::time::timeout(HANG, phase).await.unwrap_or_else(|_| Err(hangs(what)))
}

pub(crate) fn hangs(what: &str) -> Failure {
    Failure::Failed(format!("{what} hangs: nothing for {} s", HANG.as_secs()))
}

/// A directory that is removed in the end.
pub(crate) fn temporary() -> Result<tempfile::TempDir, Failure> {
    tempfile::Builder::new()
        .prefix("kv-")
        .tempdir()
        .map_err(|error| failed("make a temporary directory", &error))
}

fn log_file(directory: &Path) -> PathBuf {
    directory.join("stderr.log")
}

fn failed(what: &str, error: &io::Error) -> Failure {
    Failure::Failed(format!("cannot {what}: {error}"))
}

/// Free ports on the loopback interface, below those that systems give to outgoing connections: the port of a node that
/// is down must not be taken by another one's call.
fn free_addresses(count: usize) -> io::Result<Vec<SocketAddr>> {
    let first = 20_000 + (std::process::id() % 1_000) as u16 * 10;
    let free = (first..32_000).filter_map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok());
    // Held until all are found, so that none is found twice.
    let held: Vec<_> = free.take(count).collect();
    held.iter().map(TcpListener::local_addr).collect()
}
