//! Processes that are measured, and what is common to clusters of them.

use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// An error that goes from task to task.
pub(crate) type Error = Box<dyn std::error::Error + Send + Sync>;

/// The same for those who keep errors where they are.
pub(crate) fn plain(error: Error) -> Box<dyn std::error::Error> {
    error
}

/// How long anything may take that is waited for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// How often a state that is waited for is looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Something that takes a put and says when it is durable on a quorum.
pub(crate) trait Caller: Send + 'static {
    /// Puts `value` under `key`; `Ok` is the service's word that it is kept.
    fn put(&mut self, key: &str, value: &[u8]) -> impl Future<Output = Result<(), Error>> + Send;
}

/// A service of three processes on this machine, its data on one disk.
pub(crate) trait Service {
    type Caller: Caller;

    /// `count` callers of `node`, as many connections as suit the service.
    async fn callers(&self, node: usize, count: usize) -> Result<Vec<Self::Caller>, Error>;

    /// The node that leads, if every node that runs knows it.
    async fn find_leader(&self) -> Option<usize>;

    /// Checks that the service holds what it has answered for since it was started: `answered` puts.
    async fn check(&self, answered: u64) -> Result<(), Error>;

    /// The processes.
    fn nodes(&mut self) -> &mut [Member];
}

/// The node that leads, waited for.
pub(crate) async fn leader<S: Service>(service: &S) -> Result<usize, Error> {
    let begin = Instant::now();
    while begin.elapsed() < PATIENCE {
        if let Some(leader) = service.find_leader().await {
            return Ok(leader);
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    Err("no leader that all nodes know".into())
}

/// One process, which ends with its owner.
#[derive(Debug)]
pub(crate) struct Member {
    program: PathBuf,
    arguments: Vec<String>,
    log: PathBuf,
    child: Option<Child>,
}

impl Member {
    /// Starts `program` with `arguments`; what it says goes to `log`.
    pub(crate) fn start(program: &Path, arguments: Vec<String>, log: PathBuf) -> Result<Self, Error> {
        let mut member = Self { program: program.into(), arguments, log, child: None };
        member.restart()?;
        Ok(member)
    }

    /// Whether it is there.
    pub(crate) fn runs(&self) -> bool {
        self.child.is_some()
    }

    /// Starts it again, with the same words.
    pub(crate) fn restart(&mut self) -> Result<(), Error> {
        let log = File::options().create(true).append(true).open(&self.log)?;
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        self.child = Some(command.spawn()?);
        Ok(())
    }

    /// Ends it with SIGKILL, and says when.
    pub(crate) fn kill(&mut self) -> Result<Instant, Error> {
        let mut child = self.child.take().ok_or("it is down already")?;
        child.kill()?;
        let at = Instant::now();
        child.wait()?;
        Ok(at)
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        // One that is down already is what is wanted.
        let _ = self.kill();
    }
}

/// Free ports on the loopback interface, below those that systems give to outgoing connections: the port of a process that is
/// down must not be taken by another one's call.
pub(crate) fn free_ports(count: usize) -> std::io::Result<Vec<u16>> {
    let first = 20_000 + (std::process::id() % 1_000) as u16 * 10;
    let free = (first..32_000).filter_map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok());
    // Held until all are found, so that none is found twice.
    let held: Vec<TcpListener> = free.take(count).collect();
    held.iter().map(|listener| Ok(listener.local_addr()?.port())).collect()
}
