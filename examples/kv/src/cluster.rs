//! A cluster on this machine: each node a process of its own, with a directory of its own.

use crate::client::Client;
use crate::failure::Failure;
use crate::http::status::StatusBody;
use std::collections::BTreeMap;
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

/// The nodes by their ids; dropping them ends their processes.
pub(crate) struct Cluster {
    nodes: BTreeMap<u64, LocalNode>,
    /// Of nodes to come: two each.
    addresses: std::vec::IntoIter<SocketAddr>,
    directory: PathBuf,
    client: Client,
}

struct LocalNode {
    listen: SocketAddr,
    http: String,
    directory: PathBuf,
    /// What it is told to do if its directory is empty.
    origin: Vec<String>,
    /// None while it is down.
    process: Option<Child>,
}

impl Cluster {
    /// Starts `size` nodes with their directories in `directory`. Nodes that it holds already go on where they were. There is
    /// room for `more` nodes to join later.
    pub(crate) fn start(directory: &Path, size: usize, more: usize, client: Client) -> Result<Self, Failure> {
        let addresses =
            free_addresses(2 * (size + more)).map_err(|error| failed("find free ports", &error))?;
        let addresses = addresses.into_iter();
        let mut cluster = Self { nodes: BTreeMap::new(), addresses, directory: directory.into(), client };
        let ids: Vec<_> = (0..size).map(|_| cluster.node()).collect::<Result<_, _>>()?;
        let peers = cluster.peers();
        for id in ids {
            cluster.entry(id)?.origin = [vec!["serve".into(), "--bootstrap".into()], peers.clone()].concat();
            cluster.spawn(id)?;
        }
        Ok(cluster)
    }

    /// Starts one more node, which joins the others as `how` says.
    pub(crate) fn join(&mut self, how: &[&str]) -> Result<u64, Failure> {
        let id = self.node()?;
        let how = how.iter().map(|word| (*word).to_owned()).collect();
        self.entry(id)?.origin = [how, self.peers()].concat();
        self.spawn(id)?;
        Ok(id)
    }

    /// A node that was not here before; it does not run yet.
    fn node(&mut self) -> Result<u64, Failure> {
        let id = self.nodes.last_key_value().map_or(1, |(last, _)| last + 1);
        let (Some(listen), Some(http)) = (self.addresses.next(), self.addresses.next()) else {
            return Err(Failure::Failed("there is no port left for another node".into()));
        };
        let directory = self.directory.join(format!("node-{id}"));
        let node = LocalNode { listen, http: http.to_string(), directory, origin: Vec::new(), process: None };
        self.nodes.insert(id, node);
        Ok(id)
    }

    fn peers(&self) -> Vec<String> {
        self.nodes.iter().map(|(id, node)| format!("--peer={id}={}", node.listen)).collect()
    }

    fn entry(&mut self, node: u64) -> Result<&mut LocalNode, Failure> {
        self.nodes.get_mut(&node).ok_or_else(|| Failure::Failed(format!("there is no node {node}")))
    }

    /// Starts the process of `node`, new or again: the same command, whatever its directory holds.
    pub(crate) fn spawn(&mut self, node: u64) -> Result<(), Failure> {
        let LocalNode { listen, http, directory, origin, process } = self.entry(node)?;
        let spawned = fs::create_dir_all(&*directory)
            .and_then(|()| Ok((std::env::current_exe()?, File::create(log_file(directory))?)))
            .and_then(|(program, log)| {
                Command::new(program)
                    .args(origin)
                    .args(["--cluster=local", &format!("--id={node}")])
                    .args([format!("--listen={listen}"), format!("--http={http}")])
                    .arg("--data")
                    .arg(directory.join("data"))
                    .stdin(Stdio::null())
                    .stdout(Stdio::null())
                    .stderr(log)
                    .kill_on_drop(true)
                    .spawn()
            });
        *process = Some(spawned.map_err(|error| failed(&format!("start node {node}"), &error))?);
        Ok(())
    }

    /// Ends the process of `node` with SIGKILL: it has no time for a last word. Gives the time of the signal.
    pub(crate) async fn kill(&mut self, node: u64) -> Result<Instant, Failure> {
        let mut killed = self.running(node)?;
        killed.start_kill().map_err(|error| failed("kill a node", &error))?;
        let at = Instant::now();
        killed.wait().await.map_err(|error| failed("wait for a killed node", &error))?;
        Ok(at)
    }

    /// Ends the process of `node` as a service manager does, with SIGTERM.
    pub(crate) async fn terminate(&mut self, node: u64) -> Result<(), Failure> {
        let mut process = self.running(node)?;
        let id = process.id().map(|id| id.to_string()).unwrap_or_default();
        let told = Command::new("kill").arg(id).status().await;
        if !told.is_ok_and(|status| status.success()) {
            process.start_kill().map_err(|error| failed("end a node", &error))?;
        }
        process.wait().await.map_err(|error| failed("wait for a node", &error))?;
        Ok(())
    }

    fn running(&mut self, node: u64) -> Result<Child, Failure> {
        let process = self.entry(node)?.process.take();
        process.ok_or_else(|| Failure::Failed(format!("node {node} is down already")))
    }

    /// Forgets `node`, with all that it has kept. If it runs still, it is waited for: it has to end by itself.
    pub(crate) async fn forget(&mut self, node: u64) -> Result<(), Failure> {
        if let Ok(mut process) = self.running(node) {
            process.wait().await.map_err(|error| failed("wait for a node", &error))?;
        }
        let wiped = fs::remove_dir_all(&self.entry(node)?.directory);
        wiped.map_err(|error| failed("remove the directory of a node", &error))?;
        self.nodes.remove(&node);
        Ok(())
    }

    /// Ends all processes and waits until they are gone.
    pub(crate) async fn stop(mut self) {
        for process in self.nodes.values_mut().filter_map(|node| node.process.as_mut()) {
            // It may have ended by itself.
            let _ = process.kill().await;
        }
    }

    /// The ids of all nodes.
    pub(crate) fn ids(&self) -> Vec<u64> {
        self.nodes.keys().copied().collect()
    }

    /// The HTTP addresses of all nodes.
    pub(crate) fn addresses(&self) -> Vec<String> {
        self.nodes.values().map(|node| node.http.clone()).collect()
    }

    /// The HTTP address of `node`.
    pub(crate) fn http(&self, node: u64) -> &str {
        self.nodes.get(&node).map_or("", |node| &node.http)
    }

    /// Where the other nodes reach `node`.
    pub(crate) fn listen(&self, node: u64) -> String {
        self.nodes.get(&node).map(|node| node.listen.to_string()).unwrap_or_default()
    }

    /// Waits until every node knows a leader.
    pub(crate) async fn ready(&mut self) -> Result<(), Failure> {
        for node in self.ids() {
            while self.client.health(self.http(node)).await.is_err() {
                self.look_after()?;
                sleep(LOOK_AGAIN).await;
            }
        }
        Ok(())
    }

    /// Waits until a node leads, and says which.
    pub(crate) async fn leader(&mut self) -> Result<u64, Failure> {
        loop {
            let statuses = self.statuses().await?;
            if let Some(leader) = statuses.into_iter().flatten().find(|status| status.role == "leader") {
                return Ok(leader.id);
            }
            sleep(LOOK_AGAIN).await;
        }
    }

    /// Waits until `node` has applied all that the leader has by now.
    pub(crate) async fn caught_up(&mut self, node: u64) -> Result<(), Failure> {
        let mut mark = None;
        loop {
            if mark.is_none() {
                let leader = self.leader().await?;
                mark = self.status(leader).await.map(|ahead| ahead.applied);
            }
            if let (Some(mark), Some(behind)) = (mark, self.status(node).await)
                && behind.applied >= mark
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
                return Ok(statuses.into_iter().filter_map(|status| status.digest).collect());
            }
            sleep(LOOK_AGAIN).await;
        }
    }

    async fn statuses(&mut self) -> Result<Vec<Option<StatusBody>>, Failure> {
        self.look_after()?;
        let mut statuses = Vec::new();
        for node in self.ids() {
            statuses.push(self.status(node).await);
        }
        Ok(statuses)
    }

    async fn status(&self, node: u64) -> Option<StatusBody> {
        self.client.status(self.http(node)).await.ok()
    }

    /// A node that ended although nobody killed it would be waited for in vain.
    fn look_after(&mut self) -> Result<(), Failure> {
        for (id, LocalNode { directory, process, .. }) in &mut self.nodes {
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
