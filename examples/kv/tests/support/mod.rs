//! Nodes as processes, and an HTTP client of a few lines.

#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A free port below those of outgoing connections, and another one at every call.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 12_000 + (std::process::id() % 250) as u16 * 30;
    loop {
        let port = first + NEXT.fetch_add(1, Ordering::Relaxed);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

pub(crate) fn kv() -> Command {
    Command::new(env!("CARGO_BIN_EXE_kv"))
}

/// What `kv serve`, or another way to run a node, is told.
#[derive(Clone)]
pub(crate) struct Node {
    pub(crate) id: u64,
    pub(crate) cluster: &'static str,
    pub(crate) listen: u16,
    pub(crate) http: u16,
    pub(crate) peers: Vec<(u64, u16)>,
    pub(crate) flags: Vec<&'static str>,
}

/// A cluster of `size` nodes that are not started yet.
pub(crate) fn nodes(size: u64) -> Vec<Node> {
    let peers: Vec<_> = (1..=size).map(|id| (id, free_port())).collect();
    let node = |&(id, listen)| Node {
        id,
        cluster: "test",
        listen,
        http: free_port(),
        peers: peers.clone(),
        flags: vec!["--bootstrap"],
    };
    peers.iter().map(node).collect()
}

impl Node {
    /// `kv serve` in `dir`.
    pub(crate) fn command(&self, dir: &Path) -> Command {
        self.command_with("serve", dir)
    }

    /// The same with another command that runs a node.
    pub(crate) fn command_with(&self, verb: &str, dir: &Path) -> Command {
        let mut command = kv();
        command.args([verb, "--id", &self.id.to_string(), "--cluster", self.cluster]);
        command.args(["--listen", &format!("127.0.0.1:{}", self.listen)]);
        command.args(["--http", &format!("127.0.0.1:{}", self.http)]);
        command.arg("--data").arg(dir);
        for (id, port) in &self.peers {
            command.arg(format!("--peer={id}=127.0.0.1:{port}"));
        }
        command.args(&self.flags).stdin(Stdio::null());
        command
    }

    /// Starts it, and waits for its line.
    pub(crate) fn start(&self, dir: &Path) -> Running {
        self.start_with("serve", dir)
    }

    pub(crate) fn start_with(&self, verb: &str, dir: &Path) -> Running {
        self.run(&mut self.command_with(verb, dir))
    }

    /// Starts what [`Node::command`] made, perhaps with a change, and waits for its line.
    pub(crate) fn run(&self, command: &mut Command) -> Running {
        let line =
            format!("kv: node {} of {} serves http://127.0.0.1:{}\n", self.id, self.cluster, self.http);
        Running { http: self.http, process: spawn(command, &line) }
    }
}

/// Starts a process, and waits for its line.
pub(crate) fn spawn(command: &mut Command, expected: &str) -> Child {
    let mut process = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, expected);
    process
}

/// A node that runs until this is dropped.
pub(crate) struct Running {
    pub(crate) http: u16,
    pub(crate) process: Child,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Running {
    pub(crate) fn ask(&self, method: &str, path: &str) -> Answer {
        self.send(method, path, &[], b"")
    }

    pub(crate) fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut stream = TcpStream::connect(("127.0.0.1", self.http)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: kv\r\nConnection: close\r\n");
        head.push_str(&format!("Content-Length: {}\r\n", body.len()));
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        stream.write_all(format!("{head}\r\n").as_bytes()).unwrap();
        // A body that is too large need not be read to its end.
        let _ = stream.write_all(body);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        Answer::parse(&answer)
    }

    /// Waits until a leader is known here.
    pub(crate) fn ready(self) -> Self {
        eventually(|| self.ask("GET", "/health").status == 200);
        self
    }

    /// Ends it as a service manager does.
    pub(crate) fn terminate(mut self) -> Option<i32> {
        let kill = Command::new("kill").arg(self.process.id().to_string()).status().unwrap();
        assert!(kill.success());
        exit_code(&mut self.process)
    }
}

/// Waits for a process that is about to end; one that does not is not left behind.
pub(crate) fn exit_code(process: &mut Child) -> Option<i32> {
    let begin = Instant::now();
    while begin.elapsed() < PATIENCE {
        if let Some(status) = process.try_wait().unwrap() {
            return status.code();
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    process.kill().unwrap();
    panic!("it does not end");
}

pub(crate) fn eventually(mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < PATIENCE, "it does not come true");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn parse(bytes: &[u8]) -> Self {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").expect("the head of an answer");
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Self { status, head, body: bytes[end + 4..].to_vec() }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.into_iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    pub(crate) fn etag(&self) -> &str {
        self.header("etag").expect("an ETag")
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }

    pub(crate) fn error(&self) -> String {
        assert!(self.json()["message"].is_string());
        self.json()["error"].as_str().expect("an error").into()
    }
}
