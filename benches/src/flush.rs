//! What the disk allows: `fdatasync` of a small write into a preallocated, zero-filled file, several files at once.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::time::{Duration, Instant};

/// The median time of one flush while `files` files in `dir` flush at once, each `count` times.
pub(crate) fn median_of_flushes(dir: &Path, files: usize, count: usize) -> std::io::Result<Duration> {
    let times = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..files)
            .map(|number| scope.spawn(move || flush_often(&dir.join(format!("flush-{number}")), count)))
            .collect();
        let mut times = Vec::new();
        for thread in threads {
            match thread.join() {
                Ok(result) => times.extend(result?),
                Err(_) => return Err(std::io::Error::other("a flushing thread panicked")),
            }
        }
        Ok(times)
    });
    let mut times: Vec<Duration> = times?;
    times.sort_unstable();
    Ok(times[times.len() / 2])
}

fn flush_often(path: &Path, count: usize) -> std::io::Result<Vec<Duration>> {
    const RECORD: [u8; 256] = [7; 256];
    let mut file = File::create(path)?;
    file.write_all(&vec![0; RECORD.len() * count])?;
    file.sync_all()?;
    file.seek(SeekFrom::Start(0))?;
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let begin = Instant::now();
        file.write_all(&RECORD)?;
        file.sync_data()?;
        times.push(begin.elapsed());
    }
    drop(file);
    std::fs::remove_file(path)?;
    Ok(times)
}
