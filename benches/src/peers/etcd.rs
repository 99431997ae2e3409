//! `etcd`: three members on this machine, called over gRPC.
//!
//! gRPC is spoken here by hand, over `h2`: a put is two fields, so no compiler of protocol files is needed to build this. What
//! operators ask (who leads, the revision) goes through etcd's own gateway, in JSON.
//!
//! The program is looked for in `$SYNOD_ETCD`, then on the path.

use crate::load::ask_json;
use crate::process::{Caller, Error, Member, PATIENCE, Service, free_ports};
use bytes::{BufMut, Bytes, BytesMut};
use h2::client::SendRequest;
use http::Request;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;

/// As etcd's own guide to benchmarks has it: 1,000 clients on 100 connections.
const CALLERS_PER_CONNECTION: usize = 10;

/// Where etcd is; says loudly where it is not.
pub(crate) fn program() -> Option<PathBuf> {
    let named = std::env::var_os("SYNOD_ETCD").map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = named.into_iter().chain(std::env::split_paths(&path).map(|dir| dir.join("etcd")));
    let program = found.into_iter().find(|program| program.is_file());
    if program.is_none() {
        eprintln!(
            "SKIPPED: etcd is not on the path, nor is it named by SYNOD_ETCD; it is in Debian's package `etcd-server`."
        );
        eprintln!(
            "SKIPPED: no figure below stands beside etcd's, and no goal that is a ratio to it is judged."
        );
    }
    program
}

/// Three members.
#[derive(Debug)]
pub(crate) struct Etcd {
    members: Vec<Member>,
    clients: Vec<u16>,
    /// The ids that etcd gave them, once asked for.
    ids: Vec<String>,
}

/// How often a leader is heard, and how long it may be silent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TimeOuts {
    pub(crate) heartbeat: Duration,
    pub(crate) election: Duration,
}

impl Etcd {
    /// Starts them with their directories below `dir`, and their defaults where nothing else is said.
    pub(crate) async fn start(
        program: &Path,
        dir: &Path,
        time_outs: Option<TimeOuts>,
    ) -> Result<Self, Error> {
        let ports = free_ports(6)?;
        let (peers, clients) = ports.split_at(3);
        let cluster: Vec<String> =
            (1..).zip(peers).map(|(id, port)| format!("m{id}=http://127.0.0.1:{port}")).collect();
        let mut members = Vec::new();
        for (id, (peer, client)) in (1..).zip(peers.iter().zip(clients)) {
            let (peer, client) = (format!("http://127.0.0.1:{peer}"), format!("http://127.0.0.1:{client}"));
            let mut arguments = vec![
                format!("--name=m{id}"),
                format!("--data-dir={}", dir.join(format!("etcd-{id}")).display()),
                format!("--listen-peer-urls={peer}"),
                format!("--initial-advertise-peer-urls={peer}"),
                format!("--listen-client-urls={client}"),
                format!("--advertise-client-urls={client}"),
                format!("--initial-cluster={}", cluster.join(",")),
                "--initial-cluster-state=new".into(),
                "--logger=zap".into(),
                "--log-level=error".into(),
            ];
            if let Some(TimeOuts { heartbeat, election }) = time_outs {
                arguments.push(format!("--heartbeat-interval={}", heartbeat.as_millis()));
                arguments.push(format!("--election-timeout={}", election.as_millis()));
            }
            members.push(Member::start(program, arguments, dir.join(format!("etcd-{id}.log")))?);
        }
        let mut etcd = Self { members, clients: clients.to_vec(), ids: Vec::new() };
        crate::process::leader(&etcd).await?;
        for status in etcd.statuses().await? {
            etcd.ids.push(member_id(&status));
        }
        Ok(etcd)
    }

    /// What the members that run say of themselves, each of them.
    async fn statuses(&self) -> Result<Vec<Value>, Error> {
        let mut statuses = Vec::new();
        for (member, port) in self.members.iter().zip(&self.clients) {
            if member.runs() {
                statuses.push(ask_json(*port, "POST", "/v3/maintenance/status", b"{}").await?);
            }
        }
        Ok(statuses)
    }
}

fn member_id(status: &Value) -> String {
    status["header"]["member_id"].as_str().unwrap_or_default().to_owned()
}

impl Service for Etcd {
    type Caller = Stub;

    async fn callers(&self, node: usize, count: usize) -> Result<Vec<Stub>, Error> {
        let mut callers = Vec::with_capacity(count);
        let mut stub = None;
        for number in 0..count {
            let caller = match stub.take().filter(|_| number % CALLERS_PER_CONNECTION != 0) {
                Some(stub) => stub,
                None => Stub::connect(self.clients[node]).await?,
            };
            callers.push(caller.clone());
            stub = Some(caller);
        }
        Ok(callers)
    }

    async fn find_leader(&self) -> Option<usize> {
        let statuses = self.statuses().await.ok()?;
        let leader = statuses.first()?["leader"].as_str()?;
        if statuses.iter().any(|status| status["leader"].as_str() != Some(leader)) {
            return None;
        }
        if self.ids.is_empty() {
            return statuses.iter().position(|status| member_id(status) == leader);
        }
        self.ids.iter().position(|id| id == leader).filter(|place| self.members[*place].runs())
    }

    async fn check(&self, answered: u64) -> Result<(), Error> {
        let begin = Instant::now();
        while begin.elapsed() < PATIENCE {
            let revision = |status: &Value| status["header"]["revision"].as_str()?.parse().ok();
            let revisions: Vec<Option<u64>> = self.statuses().await?.iter().map(revision).collect();
            // A new store is at revision 1, and each put is one more.
            if revisions.iter().all(|revision| *revision > Some(answered)) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Err(format!("the members of etcd do not come to hold {answered} puts").into())
    }

    fn nodes(&mut self) -> &mut [Member] {
        &mut self.members
    }
}

/// A caller's side of a connection, which it shares with others.
#[derive(Clone, Debug)]
pub(crate) struct Stub {
    requests: SendRequest<Bytes>,
    uri: http::Uri,
}

impl Stub {
    async fn connect(port: u16) -> Result<Self, Error> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.set_nodelay(true)?;
        let (requests, connection) = h2::client::handshake(stream).await?;
        tokio::spawn(connection);
        let uri = format!("http://127.0.0.1:{port}/etcdserverpb.KV/Put").parse()?;
        Ok(Self { requests, uri })
    }
}

impl Caller for Stub {
    async fn put(&mut self, key: &str, value: &[u8]) -> Result<(), Error> {
        let mut requests = self.requests.clone().ready().await?;
        let request = Request::post(self.uri.clone())
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())?;
        let (answer, mut stream) = requests.send_request(request, false)?;
        stream.send_data(put_request(key.as_bytes(), value), true)?;
        let (head, mut body) = answer.await?.into_parts();
        while let Some(data) = body.data().await {
            let length = data?.len();
            body.flow_control().release_capacity(length)?;
        }
        // An answer without a body has its status in front.
        let trailers = body.trailers().await?.unwrap_or(head.headers);
        match trailers.get("grpc-status").map(|status| status.as_bytes()) {
            Some(b"0") => Ok(()),
            _ => Err(format!("etcd refuses a put: {trailers:?}").into()),
        }
    }
}

/// `PutRequest { bytes key = 1; bytes value = 2; }`, behind gRPC's flag and length.
fn put_request(key: &[u8], value: &[u8]) -> Bytes {
    let mut message = BytesMut::with_capacity(key.len() + value.len() + 16);
    message.put_u8(0);
    message.put_u32(0);
    for (field, bytes) in [(1, key), (2, value)] {
        message.put_u8(field << 3 | 2);
        let mut length = bytes.len();
        while length >= 0x80 {
            message.put_u8(length as u8 | 0x80);
            length >>= 7;
        }
        message.put_u8(length as u8);
        message.put_slice(bytes);
    }
    let length = (message.len() - 5) as u32;
    message[1..5].copy_from_slice(&length.to_be_bytes());
    message.freeze()
}
