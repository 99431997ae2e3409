//! `kv`, the canonical service: three processes over TCP with files, called over HTTP.

use crate::load::{Http, ask_json};
use crate::process::{Caller, Error, Member, PATIENCE, Service, free_ports, leader};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// Builds it, and says where it is: beside this program.
pub(crate) fn program() -> Result<PathBuf, Error> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let built = Command::new(cargo).args(["build", "--release", "--quiet", "--package", "kv"]).status()?;
    if !built.success() {
        return Err("kv cannot be built".into());
    }
    Ok(std::env::current_exe()?.with_file_name("kv"))
}

/// Three nodes.
#[derive(Debug)]
pub(crate) struct Kv {
    members: Vec<Member>,
    http: Vec<u16>,
}

impl Kv {
    /// Starts them with their defaults, their directories below `dir`, and waits until they serve: until then their ports are
    /// still free for others.
    pub(crate) async fn start(program: &Path, dir: &Path) -> Result<Self, Error> {
        let ports = free_ports(6)?;
        let (listen, http) = ports.split_at(3);
        let peers: Vec<String> =
            (1..).zip(listen).map(|(id, port)| format!("--peer={id}=127.0.0.1:{port}")).collect();
        let mut members = Vec::new();
        for (id, (listen, http)) in (1..).zip(listen.iter().zip(http)) {
            let mut arguments = vec!["serve".into(), "--bootstrap".into(), "--cluster=bench".into()];
            arguments.extend_from_slice(&peers);
            arguments
                .extend([format!("--id={id}"), format!("--data={}", dir.join(format!("kv-{id}")).display())]);
            arguments.extend([format!("--listen=127.0.0.1:{listen}"), format!("--http=127.0.0.1:{http}")]);
            members.push(Member::start(program, arguments, dir.join(format!("kv-{id}.log")))?);
        }
        let kv = Self { members, http: http.to_vec() };
        leader(&kv).await?;
        Ok(kv)
    }

    /// What the nodes that run say of themselves, each of them.
    async fn statuses(&self) -> Result<Vec<Value>, Error> {
        let mut statuses = Vec::new();
        for (member, port) in self.members.iter().zip(&self.http) {
            if member.runs() {
                statuses.push(ask_json(*port, "GET", "/status", b"").await?);
            }
        }
        Ok(statuses)
    }
}

impl Caller for Http {
    async fn put(&mut self, key: &str, value: &[u8]) -> Result<(), Error> {
        self.ask("PUT", &format!("/kv/{key}"), value).await.map(drop)
    }
}

impl Service for Kv {
    type Caller = Http;

    async fn callers(&self, node: usize, count: usize) -> Result<Vec<Http>, Error> {
        let mut callers = Vec::with_capacity(count);
        for _ in 0..count {
            callers.push(Http::connect(self.http[node]).await?);
        }
        Ok(callers)
    }

    async fn find_leader(&self) -> Option<usize> {
        let statuses = self.statuses().await.ok()?;
        let leader = statuses.first()?["leader"].as_u64()?;
        let leads = |status: &Value| status["id"].as_u64() == Some(leader) && status["role"] == "leader";
        let agreed = statuses.iter().all(|status| status["leader"].as_u64() == Some(leader));
        (agreed && statuses.iter().any(leads)).then_some(leader as usize - 1)
    }

    async fn check(&self, _answered: u64) -> Result<(), Error> {
        let begin = Instant::now();
        while begin.elapsed() < PATIENCE {
            let statuses = self.statuses().await?;
            if statuses.windows(2).all(|pair| pair[0]["applied"] == pair[1]["applied"]) {
                let equal = statuses.windows(2).all(|pair| pair[0]["digest"] == pair[1]["digest"]);
                return if equal { Ok(()) } else { Err("the replicas of kv differ".into()) };
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Err("the replicas of kv do not come to have applied the same".into())
    }

    fn nodes(&mut self) -> &mut [Member] {
        &mut self.members
    }
}
