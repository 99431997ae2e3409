//! The atomically replaced file: one small value that is whole at any moment, old or new, whatever fails.
//!
//! A save writes a temporary file in the same directory, flushes it, gives it the name, and flushes the directory. What
//! a crash leaves behind of that is removed at the next open. There is one file and no fallback: a file that fails its
//! checksum was damaged after it was durable, and the state before it is no longer true.
//! Knows nothing of: what the value means.
//!
//! ```text
//! file := "SYNATOM1", version u32, 0 u32, serial u64, length u64, CRC-32 u32 of all but itself, value   little-endian
//! ```
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use synod::storage::atomic_file::AtomicFile;
//!
//! let directory = tempfile::tempdir()?;
//! let path = directory.path().join("promised");
//! let mut file = AtomicFile::<u64>::open(&path)?;
//! assert_eq!(file.load()?, None);
//! file.save(&7)?;
//! drop(file);
//! assert_eq!(AtomicFile::<u64>::open(&path)?.load()?, Some(7));
//! # Ok(())
//! # }
//! ```

use super::StorageError;
use super::disk::{Access, Disk, DiskLock, RealDisk, read_full_at, write_all_at};
use crate::codec::{self, CodecError};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const MAGIC: &[u8; 8] = b"SYNATOM1";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 36;
/// Where the CRC stands in the header.
const CRC_AT: usize = 32;

/// A file that holds one value, or none yet.
#[derive(Debug)]
pub struct AtomicFile<T> {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    directory: PathBuf,
    name: String,
    serial: u64,
    poisoned: bool,
    _lock: Option<Box<dyn DiskLock>>,
    value: PhantomData<fn() -> T>,
}

/// Why an atomically replaced file cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AtomicFileError {
    /// A call to the system failed.
    #[error("{op} of {path} failed", path = path.display())]
    Io {
        /// Which call.
        op: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is shorter than its header says, or than a header.
    #[error("{path} is truncated: {found} bytes where {expected} are expected", path = path.display())]
    Truncated {
        /// Which file.
        path: PathBuf,
        /// How long it is.
        found: u64,
        /// How long it should be, at least.
        expected: u64,
    },
    /// The file is longer than its header says.
    #[error("{path} is {found} bytes long where {expected} are expected", path = path.display())]
    TooLong {
        /// Which file.
        path: PathBuf,
        /// How long it is.
        found: u64,
        /// How long it should be.
        expected: u64,
    },
    /// The file is longer than any such file may be; nothing was allocated for it.
    #[error("{path} holds {bytes} bytes, and at most {bytes_max} are allowed", path = path.display())]
    Oversize {
        /// Which file.
        path: PathBuf,
        /// How long it is, or would be.
        bytes: u64,
        /// How long it may be.
        bytes_max: u64,
    },
    /// The content is not what was written.
    #[error("{path} fails its checksum", path = path.display())]
    ChecksumMismatch {
        /// Which file.
        path: PathBuf,
    },
    /// It is no such file at all.
    #[error("{path} is no atomically replaced file", path = path.display())]
    NotOurs {
        /// Which file.
        path: PathBuf,
    },
    /// The format is of another, unknown version.
    #[error("{path} has format version {found}, this program reads version {VERSION}", path = path.display())]
    UnknownFormat {
        /// Which file.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// The value cannot be encoded, or the bytes are no such value.
    #[error("the value of {path} cannot be encoded or decoded", path = path.display())]
    Value {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: CodecError,
    },
    /// Another one has it open.
    #[error("{path} is in use", path = path.display())]
    Locked {
        /// Which file.
        path: PathBuf,
    },
    /// An earlier write failed: nothing more is written.
    #[error("an earlier write of {path} failed, so nothing more is written", path = path.display())]
    Poisoned {
        /// Which file.
        path: PathBuf,
    },
}

impl From<AtomicFileError> for StorageError {
    fn from(error: AtomicFileError) -> Self {
        let what = error.to_string();
        match error {
            AtomicFileError::Io { op, path, source } => Self::Io { op, path, source },
            AtomicFileError::UnknownFormat { path, found } => {
                Self::UnknownFormat { path, found, known: VERSION }
            }
            AtomicFileError::Locked { path } => Self::Locked { place: path.display().to_string() },
            AtomicFileError::Poisoned { .. } => Self::Poisoned,
            AtomicFileError::Truncated { path, .. }
            | AtomicFileError::TooLong { path, .. }
            | AtomicFileError::Oversize { path, .. }
            | AtomicFileError::ChecksumMismatch { path }
            | AtomicFileError::NotOurs { path }
            | AtomicFileError::Value { path, .. } => Self::Corrupt { path, offset: 0, what },
        }
    }
}

impl<T: Serialize + DeserializeOwned> AtomicFile<T> {
    /// The longest file, header included.
    pub const BYTES_MAX: u64 = 16 << 20;

    /// Opens the file at `path`, which need not exist yet, though its directory must. Checks what is there, removes
    /// temporary files that a crash left, and locks a file beside it (`path` with `.lock` behind it) while open.
    ///
    /// # Errors
    ///
    /// [`AtomicFileError`] if the directory cannot be read, the file is damaged, or another has it open.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, AtomicFileError> {
        let path = path.into();
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        let mut lock_path = path.clone().into_os_string();
        lock_path.push(".lock");
        let lock = disk.lock(Path::new(&lock_path)).map_err(io_error("lock", Path::new(&lock_path)))?;
        let lock = lock.ok_or_else(|| AtomicFileError::Locked { path: path.clone() })?;
        let mut file = Self::open_on(disk, path)?;
        file._lock = Some(lock);
        file.clean()?;
        Ok(file)
    }

    /// Opens a file on `disk` in a directory that its caller has locked; removes nothing.
    ///
    /// # Errors
    ///
    /// As [`AtomicFile::open`].
    pub fn open_on(disk: Arc<dyn Disk>, path: impl Into<PathBuf>) -> Result<Self, AtomicFileError> {
        let path = path.into();
        let directory = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
            _ => PathBuf::from("."),
        };
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let value = PhantomData;
        let mut file = Self { disk, path, directory, name, serial: 0, poisoned: false, _lock: None, value };
        file.disk.list(&file.directory).map_err(io_error("list", &file.directory))?;
        if let Some((serial, _)) = file.read()? {
            file.serial = serial;
        }
        Ok(file)
    }

    /// Removes the temporary files that a crash left behind.
    ///
    /// # Errors
    ///
    /// [`AtomicFileError::Io`] as the system says.
    pub fn clean(&self) -> Result<(), AtomicFileError> {
        let prefix = self.temp_prefix();
        for name in self.disk.list(&self.directory).map_err(io_error("list", &self.directory))? {
            if name.starts_with(&prefix) && name.ends_with(".tmp") {
                let path = self.directory.join(name);
                self.disk.remove(&path).map_err(io_error("remove", &path))?;
            }
        }
        Ok(())
    }

    /// The value saved last, if any.
    ///
    /// # Errors
    ///
    /// [`AtomicFileError`] if it cannot be read or is damaged. There is no fallback.
    pub fn load(&self) -> Result<Option<T>, AtomicFileError> {
        let Some((_, bytes)) = self.read()? else { return Ok(None) };
        let value = codec::decode(bytes.get(HEADER_BYTES..).unwrap_or_default());
        value.map(Some).map_err(|source| AtomicFileError::Value { path: self.path.clone(), source })
    }

    /// Replaces the value. `Ok` means that it survives power loss; after an error either value may be found at the next
    /// open, and nothing more is written until then.
    ///
    /// # Errors
    ///
    /// [`AtomicFileError::Value`] and [`AtomicFileError::Oversize`] change nothing; any other error is final.
    pub fn save(&mut self, value: &T) -> Result<(), AtomicFileError> {
        if self.poisoned {
            return Err(AtomicFileError::Poisoned { path: self.path.clone() });
        }
        let bytes = self.encode(value)?;
        let saved = self.replace(&bytes);
        match saved {
            Ok(()) => self.serial += 1,
            Err(_) => self.poisoned = true,
        }
        saved
    }

    /// How many values were saved here, ever.
    pub fn serial(&self) -> u64 {
        self.serial
    }

    fn encode(&self, value: &T) -> Result<Vec<u8>, AtomicFileError> {
        let mut bytes = vec![0; HEADER_BYTES];
        codec::encode_into(&mut bytes, value)
            .map_err(|source| AtomicFileError::Value { path: self.path.clone(), source })?;
        self.check_size(bytes.len() as u64)?;
        let length = (bytes.len() - HEADER_BYTES) as u64;
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.serial.saturating_add(1).to_le_bytes());
        bytes[24..32].copy_from_slice(&length.to_le_bytes());
        let crc = checksum(&bytes);
        bytes[CRC_AT..HEADER_BYTES].copy_from_slice(&crc.to_le_bytes());
        Ok(bytes)
    }

    fn replace(&self, bytes: &[u8]) -> Result<(), AtomicFileError> {
        let (temp, file) = self
            .disk
            .create_temp(&self.directory, &self.temp_prefix())
            .map_err(io_error("create", &self.path))?;
        let written = write_all_at(file.as_ref(), bytes, 0)
            .map_err(io_error("write", &temp))
            .and_then(|()| file.sync_data().map_err(io_error("fsync", &temp)))
            .and_then(|()| self.disk.rename(&temp, &self.path).map_err(io_error("rename", &temp)));
        if written.is_err() {
            // Only tidiness: the next open removes it as well.
            let _ = self.disk.remove(&temp);
        }
        written?;
        self.disk.sync_dir(&self.directory).map_err(io_error("fsync", &self.directory))
    }

    /// The serial and the whole file, checked.
    fn read(&self) -> Result<Option<(u64, Vec<u8>)>, AtomicFileError> {
        let file = match self.disk.open(&self.path, Access::Read) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io_error("open", &self.path)(error)),
        };
        let found = file.length().map_err(io_error("stat", &self.path))?;
        self.check_size(found)?;
        let truncated = |expected| AtomicFileError::Truncated { path: self.path.clone(), found, expected };
        if found < HEADER_BYTES as u64 {
            return Err(truncated(HEADER_BYTES as u64));
        }
        let mut bytes = vec![0; usize::try_from(found).unwrap_or_default()];
        let count = read_full_at(file.as_ref(), &mut bytes, 0).map_err(io_error("read", &self.path))?;
        let path = self.path.clone();
        if count < bytes.len() {
            return Err(AtomicFileError::Truncated { path, found: count as u64, expected: found });
        }
        if bytes[..8] != *MAGIC {
            return Err(AtomicFileError::NotOurs { path });
        }
        let expected = (HEADER_BYTES as u64).saturating_add(u64_at(&bytes, 24));
        if found < expected {
            return Err(truncated(expected));
        }
        if found > expected {
            return Err(AtomicFileError::TooLong { path, found, expected });
        }
        if checksum(&bytes) != u32_at(&bytes, CRC_AT) {
            return Err(AtomicFileError::ChecksumMismatch { path });
        }
        match u32_at(&bytes, 8) {
            VERSION => Ok(Some((u64_at(&bytes, 16), bytes))),
            version => Err(AtomicFileError::UnknownFormat { path, found: version }),
        }
    }

    fn check_size(&self, bytes: u64) -> Result<(), AtomicFileError> {
        if bytes > Self::BYTES_MAX {
            return Err(AtomicFileError::Oversize {
                path: self.path.clone(),
                bytes,
                bytes_max: Self::BYTES_MAX,
            });
        }
        Ok(())
    }

    fn temp_prefix(&self) -> String {
        format!(".{}-", self.name)
    }
}

fn checksum(bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(bytes.get(..CRC_AT).unwrap_or_default());
    hasher.update(bytes.get(HEADER_BYTES..).unwrap_or_default());
    hasher.finalize()
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |chunk| u32::from_le_bytes(*chunk))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |chunk| u64::from_le_bytes(*chunk))
}

fn io_error(op: &'static str, path: &Path) -> impl FnOnce(io::Error) -> AtomicFileError {
    let path = path.to_path_buf();
    move |source| AtomicFileError::Io { op, path, source }
}
