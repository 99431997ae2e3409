//! The disk: every call to the system that the file storage makes.
//!
//! [`RealDisk`] calls the system. [`RecordedDisk`] writes down what passes through it, so that a test can check the order.
//! [`SimulatedDisk`] lives in memory, loses what was not flushed when its power is cut, and fails where it is told to.
//! Offsets and lengths are bytes.
//! Knows nothing of: formats, records, threads.

mod real;
mod recorded;
mod simulated;

pub use real::RealDisk;
pub use recorded::{Operation, RecordedDisk};
pub use simulated::{Fault, SimulatedDisk, Unsynced};

use std::io;
use std::path::{Path, PathBuf};

/// A file system, as far as a storage needs one. Nothing is durable before it is flushed: the content of a file by its
/// own flush, its name by the flush of its directory.
pub trait Disk: Send + Sync + std::fmt::Debug + 'static {
    /// Makes `dir` and the directories above it, readable by the owner only. Fine if it exists.
    ///
    /// # Errors
    ///
    /// As the system says.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;

    /// The names of the files in `dir`, ascending.
    ///
    /// # Errors
    ///
    /// As the system says; [`io::ErrorKind::NotFound`] if there is no such directory.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;

    /// Opens `path`.
    ///
    /// # Errors
    ///
    /// As the system says; [`io::ErrorKind::NotFound`] if there is no such file.
    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn DiskFile>>;

    /// Makes a file of a name that no other has, readable by the owner only: `prefix`, something, `.tmp`.
    ///
    /// # Errors
    ///
    /// As the system says.
    fn create_temp(&self, dir: &Path, prefix: &str) -> io::Result<(PathBuf, Box<dyn DiskFile>)>;

    /// Gives the file `from` the name `to`, in place of the file that had it.
    ///
    /// # Errors
    ///
    /// As the system says.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes `path`.
    ///
    /// # Errors
    ///
    /// As the system says.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in `dir` durable.
    ///
    /// # Errors
    ///
    /// As the system says.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Locks `path`, which is made if need be, against every other process and every other lock in this one; `None` if
    /// another holds it. The lock ends with the value, or with the process.
    ///
    /// # Errors
    ///
    /// As the system says.
    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn DiskLock>>>;

    /// A number that nobody can guess, for the ids of disks and starts.
    fn random(&self) -> u64;
}

/// What a file is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// To be read.
    Read,
    /// To be read and written.
    Write,
}

/// An open file. Positions are given with each call, so that several threads may use it.
pub trait DiskFile: Send + Sync + std::fmt::Debug {
    /// How long it is.
    ///
    /// # Errors
    ///
    /// As the system says.
    fn length(&self) -> io::Result<u64>;

    /// Reads at `offset`; may read less than asked for, 0 at the end.
    ///
    /// # Errors
    ///
    /// As the system says.
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes at `offset`; may write less than asked for.
    ///
    /// # Errors
    ///
    /// As the system says.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize>;

    /// Makes the content durable, and its length.
    ///
    /// # Errors
    ///
    /// As the system says. After an error nobody knows what is durable, and a second call that succeeds proves nothing.
    fn sync_data(&self) -> io::Result<()>;
}

/// Held while a place is locked.
pub trait DiskLock: Send + Sync + std::fmt::Debug {}

/// How often a call that was interrupted is repeated before that counts as an error.
const INTERRUPTIONS_MAX: usize = 1000;

/// Writes all of `bytes` at `offset`: goes on after a short or an interrupted write.
///
/// # Errors
///
/// As the system says; [`io::ErrorKind::WriteZero`] if it writes nothing.
pub fn write_all_at(file: &dyn DiskFile, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    let mut interruptions = 0;
    while !bytes.is_empty() {
        match file.write_at(bytes, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => {
                bytes = bytes.get(count..).unwrap_or_default();
                offset += count as u64;
            }
            Err(error) if is_passing(&error) && interruptions < INTERRUPTIONS_MAX => interruptions += 1,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Reads at `offset` until `bytes` is full or the file ends, and says how much it read.
///
/// # Errors
///
/// As the system says.
pub fn read_full_at(file: &dyn DiskFile, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    let mut interruptions = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, offset + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if is_passing(&error) && interruptions < INTERRUPTIONS_MAX => interruptions += 1,
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock)
}
