//! Three processes with files of their own, to be killed, paused and brought back.

use super::http::Http;
use crate::support::{Node, Running, nodes};
use std::fs::{File, OpenOptions};
use std::io::Read;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// What is answered by a node that is well is answered sooner.
const SOON: Duration = Duration::from_millis(500);

pub(crate) struct Cluster {
    pub(crate) nodes: Vec<Node>,
    running: Vec<Option<Running>>,
    dir: TempDir,
}

impl Cluster {
    /// Starts three nodes; they are ready when this returns.
    pub(crate) fn start() -> Self {
        Self::of(nodes(3))
    }

    pub(crate) fn of(nodes: Vec<Node>) -> Self {
        let mut cluster = Self { running: Vec::new(), dir: TempDir::new().unwrap(), nodes };
        cluster.running.resize_with(cluster.nodes.len(), || None);
        (0..cluster.nodes.len()).for_each(|at| cluster.start_node(at));
        cluster.running = cluster.running.drain(..).map(|node| node.map(Running::ready)).collect();
        cluster
    }

    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        self.nodes.iter().map(|node| SocketAddr::from(([127, 0, 0, 1], node.http))).collect()
    }

    fn log(&self, at: usize) -> PathBuf {
        self.dir.path().join(format!("{at}.log"))
    }

    /// Starts a node, for the first time or again.
    pub(crate) fn start_node(&mut self, at: usize) {
        let log = OpenOptions::new().create(true).append(true).open(self.log(at)).unwrap();
        let mut command = self.nodes[at].command(&self.dir.path().join(at.to_string()));
        self.running[at] = Some(self.nodes[at].run(command.stderr(Stdio::from(log))));
    }

    /// Kills a node as nothing can be refused: it has no time for a last word.
    pub(crate) fn kill(&mut self, at: usize) {
        let mut node = self.running[at].take().expect("it runs");
        assert!(node.process.try_wait().unwrap().is_none(), "node {} ended by itself", self.nodes[at].id);
        node.process.kill().unwrap();
        node.process.wait().unwrap();
    }

    /// Stops a node where it is; it goes on with [`Cluster::resume`], as if no time had passed.
    pub(crate) fn pause(&self, at: usize) {
        self.signal(at, "-STOP");
    }

    pub(crate) fn resume(&self, at: usize) {
        self.signal(at, "-CONT");
    }

    fn signal(&self, at: usize, signal: &str) {
        // It is a child that nobody has waited for: its id is nobody else's.
        let process = &self.running[at].as_ref().expect("it runs").process;
        let sent = Command::new("kill").args([signal, &process.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// The node that leads, as those say that answer.
    pub(crate) fn leader(&self) -> Option<usize> {
        let status = |address| Http::new(address).json("/status", SOON);
        let mut answers = self.addresses().into_iter().filter_map(status);
        let leads = answers.find(|status| status["role"] == "leader")?;
        self.nodes.iter().position(|node| Some(node.id) == leads["id"].as_u64())
    }

    /// Waits until all nodes have applied the same, and to the same effect.
    pub(crate) fn until_equal(&self, within: Duration) -> Duration {
        let begin = Instant::now();
        loop {
            let mut seen = Vec::new();
            for address in self.addresses() {
                seen.push(Http::new(address).json("/status", SOON).map(|status| {
                    (status["applied"].clone(), status["digest"].clone(), status["chosen"].clone())
                }));
            }
            if seen.iter().all(|state| state.is_some() && *state == seen[0]) {
                return begin.elapsed();
            }
            assert!(begin.elapsed() < within, "the nodes differ after {within:?}: {seen:#?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// No node ended but those that were killed.
    pub(crate) fn all_alive(&mut self) {
        for (node, running) in self.nodes.iter().zip(&mut self.running) {
            let ended = running.as_mut().expect("it runs").process.try_wait().unwrap();
            assert!(ended.is_none(), "node {} ended by itself: {ended:?}", node.id);
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        for at in 0..self.nodes.len() {
            let mut log = String::new();
            let _ = File::open(self.log(at)).and_then(|mut file| file.read_to_string(&mut log));
            let last: Vec<_> = log.lines().rev().take(20).collect();
            println!("the last words of node {}:", self.nodes[at].id);
            last.iter().rev().for_each(|line| println!("  {line}"));
        }
    }
}
