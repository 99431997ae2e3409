//! What the machine allows to whoever moves a state: a file written and flushed, bytes over one loopback connection.

use crate::cluster::Error;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::Instant;

/// What is written at a time.
const PART: usize = 256 * 1024;

/// Bytes a second into one new file in `dir`, and flushed.
pub(super) fn disk(dir: &Path, bytes: usize) -> Result<f64, Error> {
    let path = dir.join("limit");
    let part = part();
    let begin = Instant::now();
    let mut file = File::create(&path)?;
    for _ in 0..bytes / PART {
        file.write_all(&part)?;
    }
    file.sync_all()?;
    let took = begin.elapsed();
    std::fs::remove_file(&path)?;
    Ok(bytes as f64 / took.as_secs_f64())
}

/// Bytes a second from one thread to another, over TCP.
pub(super) fn loopback(bytes: usize) -> Result<f64, Error> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let address = listener.local_addr()?;
    let begin = Instant::now();
    let received = std::thread::scope(|scope| {
        let receiver = scope.spawn(move || {
            let (mut connection, _) = listener.accept()?;
            let (mut room, mut received) = (vec![0; PART], 0);
            loop {
                match connection.read(&mut room)? {
                    0 => return Ok::<usize, std::io::Error>(received),
                    count => received += count,
                }
            }
        });
        let mut connection = TcpStream::connect(address)?;
        let part = part();
        for _ in 0..bytes / PART {
            connection.write_all(&part)?;
        }
        drop(connection);
        receiver.join().unwrap_or_else(|_| Err(std::io::Error::other("the receiving thread panicked")))
    })?;
    if received == bytes / PART * PART {
        Ok(received as f64 / begin.elapsed().as_secs_f64())
    } else {
        Err("loopback lost bytes".into())
    }
}

/// Nothing that a file system could leave out.
fn part() -> Vec<u8> {
    (0..PART).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}
