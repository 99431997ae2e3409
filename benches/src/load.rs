//! The load: a closed loop of callers, each waiting for its answer before it puts again; and the HTTP that it speaks.
//!
//! The callers share the machine with what they call, so they do as little as they can: one buffer, one write, one read.

use crate::process::{Caller, Error};
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// How many keys each caller writes, over and over.
const KEYS: usize = 100;

/// What came of a load.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answered {
    pub(crate) count: u64,
    pub(crate) rate: f64,
}

/// Lets `callers` put values of `bytes` for `time`.
pub(crate) async fn closed_loop<C: Caller>(
    callers: Vec<C>,
    bytes: usize,
    time: Duration,
) -> Result<Answered, Error> {
    let value: Arc<[u8]> = vec![b'x'; bytes].into();
    let begin = Instant::now();
    let mut tasks = JoinSet::new();
    for (number, mut caller) in callers.into_iter().enumerate() {
        let value = Arc::clone(&value);
        tasks.spawn(async move {
            let mut count = 0;
            for turn in (0..KEYS).cycle() {
                if begin.elapsed() >= time {
                    break;
                }
                caller.put(&format!("b-{number:04}-{turn:02}"), &value).await?;
                count += 1;
            }
            Ok::<u64, Error>(count)
        });
    }
    let mut count = 0;
    while let Some(task) = tasks.join_next().await {
        count += task??;
    }
    Ok(Answered { count, rate: count as f64 / begin.elapsed().as_secs_f64() })
}

/// A connection that speaks HTTP/1.1, one request at a time.
#[derive(Debug)]
pub(crate) struct Http {
    stream: TcpStream,
    bytes: Vec<u8>,
}

impl Http {
    pub(crate) async fn connect(port: u16) -> Result<Self, Error> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, bytes: Vec::with_capacity(2048) })
    }

    /// Asks, and gives the body of an answer that says that it went well.
    pub(crate) async fn ask(&mut self, method: &str, path: &str, body: &[u8]) -> Result<&[u8], Error> {
        self.bytes.clear();
        let length = body.len();
        write!(
            self.bytes,
            "{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: {length}\r\n\r\n"
        )?;
        self.bytes.extend_from_slice(body);
        self.stream.write_all(&self.bytes).await?;
        self.bytes.clear();
        let (head, length) = loop {
            self.read().await?;
            if let Some(head) = self.bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                break (head + 4, content_length(&self.bytes[..head])?);
            }
        };
        while self.bytes.len() < head + length {
            self.read().await?;
        }
        if self.bytes.get(9) != Some(&b'2') {
            return Err(format!("{method} {path}: {}", String::from_utf8_lossy(&self.bytes)).into());
        }
        Ok(&self.bytes[head..head + length])
    }

    async fn read(&mut self) -> Result<(), Error> {
        match self.stream.read_buf(&mut self.bytes).await? {
            0 => Err("the connection was closed".into()),
            _ => Ok(()),
        }
    }
}

/// One request on a connection of its own, and its answer in JSON.
pub(crate) async fn ask_json(
    port: u16,
    method: &str,
    path: &str,
    body: &[u8],
) -> Result<serde_json::Value, Error> {
    let asked = async {
        let mut http = Http::connect(port).await?;
        Ok(serde_json::from_slice(http.ask(method, path, body).await?)?)
    };
    tokio::time::timeout(Duration::from_secs(1), asked).await?
}

fn content_length(head: &[u8]) -> Result<usize, Error> {
    let head = std::str::from_utf8(head)?;
    let mut fields = head.split("\r\n").filter_map(|line| line.split_once(':'));
    let length = fields.find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    Ok(length.map_or(Ok(0), |(_, value)| value.trim().parse())?)
}
