//! A connection to the HTTP side of a node that is kept, and given up at the first thing that goes wrong.

use crate::support::Answer;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

pub(crate) struct Http {
    address: SocketAddr,
    stream: Option<BufReader<TcpStream>>,
}

impl Http {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self { address, stream: None }
    }

    /// Sends a request; an error if there is no whole answer in time: then the outcome is unknown.
    pub(crate) fn send(
        &mut self,
        (method, path): (&str, &str),
        headers: &[(&str, &str)],
        body: &[u8],
        patience: Duration,
    ) -> io::Result<Answer> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => {
                let stream = TcpStream::connect_timeout(&self.address, patience)?;
                stream.set_nodelay(true)?;
                BufReader::new(stream)
            }
        };
        stream.get_ref().set_read_timeout(Some(patience))?;
        let mut request =
            format!("{method} {path} HTTP/1.1\r\nHost: kv\r\nContent-Length: {}\r\n", body.len());
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        let request = [request.as_bytes(), b"\r\n", body].concat();
        stream.get_mut().write_all(&request)?;
        let answer = read(&mut stream)?;
        self.stream = Some(stream);
        Ok(answer)
    }

    /// The answer to a GET in JSON, if there is one.
    pub(crate) fn json(&mut self, path: &str, patience: Duration) -> Option<serde_json::Value> {
        let answer = self.send(("GET", path), &[], b"", patience).ok()?;
        (answer.status == 200).then(|| answer.json())
    }
}

fn read(stream: &mut BufReader<TcpStream>) -> io::Result<Answer> {
    let (mut bytes, mut length) = (Vec::new(), 0);
    while !bytes.ends_with(b"\r\n\r\n") {
        let begin = bytes.len();
        if stream.read_until(b'\n', &mut bytes)? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let line = String::from_utf8_lossy(&bytes[begin..]).to_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().map_err(|_| ErrorKind::InvalidData)?;
        }
    }
    let head = bytes.len();
    bytes.resize(head + length, 0);
    stream.read_exact(&mut bytes[head..])?;
    Ok(Answer::parse(&bytes))
}
