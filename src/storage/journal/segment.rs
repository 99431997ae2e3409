//! Segments: the files of the journal, full of zeros and flushed before the first group is written to them.
//!
//! A segment is prepared under a temporary name and gets its own when it is whole, so a segment under its own name was
//! complete once, and what is wrong with it is damage.
//!
//! ```text
//! segment := "SYNJRNL1", version u32, CRC u32 of the rest, number u64, cluster hash u64, node u64, disk u64, 0 to 64 bytes,
//!            group*, zeros
//! ```

use super::{Position, Stamp, io_error};
use crate::storage::StorageError;
use crate::storage::disk::{Access, Disk, DiskFile, read_full_at, write_all_at};
use bytes::Buf;
use std::path::{Path, PathBuf};

/// Where the first group of a segment starts.
pub(super) const HEADER_BYTES: usize = 64;
/// The longest segment that is read, in bytes.
const SEGMENT_BYTES_MAX: u64 = 1 << 30;
const MAGIC: &[u8; 8] = b"SYNJRNL1";
const VERSION: u32 = 1;
const TEMP_PREFIX: &str = ".journal-";
/// Zeros are written and flushed in pieces, so that an append beside it does not wait for all of them.
const PIECE_BYTES: usize = 4 << 20;

/// An open segment.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) number: u64,
    pub(super) path: PathBuf,
    pub(super) file: Box<dyn DiskFile>,
    pub(super) bytes: usize,
}

/// The name of segment `number`.
pub(super) fn path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("journal-{number:012}.log"))
}

/// The numbers of the segments in `dir`, ascending.
pub(super) fn list(disk: &dyn Disk, dir: &Path) -> Result<Vec<u64>, StorageError> {
    let names = disk.list(dir).map_err(io_error("list", dir))?;
    let number = |name: &String| name.strip_prefix("journal-")?.strip_suffix(".log")?.parse().ok();
    let mut numbers: Vec<u64> = names.iter().filter_map(number).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// Removes what a crash left of segments in preparation.
pub(super) fn clean(disk: &dyn Disk, dir: &Path) -> Result<(), StorageError> {
    for name in disk.list(dir).map_err(io_error("list", dir))? {
        if name.starts_with(TEMP_PREFIX) && name.ends_with(".tmp") {
            let path = dir.join(name);
            disk.remove(&path).map_err(io_error("remove", &path))?;
        }
    }
    Ok(())
}

/// Removes the segments that a trim left out and a crash left there.
pub(super) fn remove_below(disk: &dyn Disk, dir: &Path, first: u64) -> Result<(), StorageError> {
    for number in list(disk, dir)?.into_iter().filter(|number| *number < first) {
        let path = path(dir, number);
        disk.remove(&path).map_err(io_error("remove", &path))?;
    }
    Ok(())
}

impl Segment {
    /// Makes segment `number`, zeros of `bytes` length, under a temporary name.
    pub(super) fn prepare(
        disk: &dyn Disk,
        dir: &Path,
        number: u64,
        bytes: usize,
        stamp: Stamp,
    ) -> Result<Self, StorageError> {
        let (path, file) = disk.create_temp(dir, TEMP_PREFIX).map_err(io_error("create", dir))?;
        let zeros = vec![0; bytes.min(PIECE_BYTES)];
        let mut at = 0;
        while at < bytes {
            let piece = zeros.len().min(bytes - at);
            let zeros = zeros.get(..piece).unwrap_or_default();
            write_all_at(file.as_ref(), zeros, at as u64).map_err(io_error("write", &path))?;
            at += piece;
            if at == bytes {
                write_all_at(file.as_ref(), &header(number, stamp), 0).map_err(io_error("write", &path))?;
            }
            file.sync_data().map_err(io_error("fsync", &path))?;
        }
        Ok(Self { number, path, file, bytes })
    }

    /// Gives a prepared segment its own name, durably.
    pub(super) fn publish(&mut self, disk: &dyn Disk, dir: &Path) -> Result<(), StorageError> {
        let path = path(dir, self.number);
        disk.rename(&self.path, &path).map_err(io_error("rename", &self.path))?;
        self.path = path;
        disk.sync_dir(dir).map_err(io_error("fsync", dir))
    }

    /// Opens segment `number`.
    pub(super) fn open(
        disk: &dyn Disk,
        dir: &Path,
        number: u64,
        access: Access,
    ) -> Result<Self, StorageError> {
        let path = path(dir, number);
        let file = disk.open(&path, access).map_err(io_error("open", &path))?;
        let length = file.length().map_err(io_error("stat", &path))?;
        let bytes = usize::try_from(length).ok().filter(|_| length <= SEGMENT_BYTES_MAX);
        let Some(bytes) = bytes else {
            let what = format!("a segment of {length} bytes, where {SEGMENT_BYTES_MAX} are allowed");
            return Err(StorageError::Corrupt { path, offset: 0, what });
        };
        Ok(Self { number, path, file, bytes })
    }

    /// Reads the bytes from `start` to `end` into `buffer`, in place of what it held.
    pub(super) fn read(&self, start: usize, end: usize, buffer: &mut Vec<u8>) -> Result<(), StorageError> {
        buffer.clear();
        buffer.resize(end.min(self.bytes).saturating_sub(start), 0);
        let count =
            read_full_at(self.file.as_ref(), buffer, start as u64).map_err(io_error("read", &self.path))?;
        buffer.truncate(count);
        Ok(())
    }

    /// Writes zeros from `start` to the end over whatever else stands there, and says whether there was anything.
    pub(super) fn zero(&self, start: usize, content: &[u8]) -> Result<bool, StorageError> {
        let tail = content.get(start..).unwrap_or_default();
        let Some(last) = tail.iter().rposition(|byte| *byte != 0) else { return Ok(false) };
        let zeros = vec![0; last + 1];
        write_all_at(self.file.as_ref(), &zeros, start as u64).map_err(io_error("write", &self.path))?;
        self.file.sync_data().map_err(io_error("fsync", &self.path))?;
        Ok(true)
    }

    /// Checks the segment's own header: `false` if it is damaged, which by itself loses nothing.
    pub(super) fn check(&self, content: &[u8], stamp: Stamp) -> Result<bool, StorageError> {
        let Some(bytes) = content.get(..HEADER_BYTES) else { return Ok(false) };
        let mut fields = bytes;
        let magic_matches = fields.get(..8) == Some(MAGIC.as_slice());
        fields.advance(8);
        let (version, crc) = (fields.get_u32_le(), fields.get_u32_le());
        if !magic_matches || checksum(bytes) != crc {
            return Ok(false);
        }
        if version != VERSION {
            return Err(StorageError::UnknownFormat {
                path: self.path.clone(),
                found: version,
                known: VERSION,
            });
        }
        let number = fields.get_u64_le();
        let found =
            Stamp { cluster: fields.get_u64_le(), node: fields.get_u64_le(), disk: fields.get_u64_le() };
        if found != stamp || number != self.number {
            let what = "the segment belongs to another disk or place".to_owned();
            return Err(StorageError::Corrupt { path: self.path.clone(), offset: 0, what });
        }
        Ok(true)
    }

    /// The place at `offset` in this segment.
    pub(super) fn at(&self, offset: usize) -> Position {
        Position { segment: self.number, offset }
    }
}

fn header(number: u64, stamp: Stamp) -> [u8; HEADER_BYTES] {
    let mut bytes = [0; HEADER_BYTES];
    bytes[..8].copy_from_slice(MAGIC);
    bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
    bytes[16..24].copy_from_slice(&number.to_le_bytes());
    bytes[24..32].copy_from_slice(&stamp.cluster.to_le_bytes());
    bytes[32..40].copy_from_slice(&stamp.node.to_le_bytes());
    bytes[40..48].copy_from_slice(&stamp.disk.to_le_bytes());
    let crc = checksum(&bytes);
    bytes[12..16].copy_from_slice(&crc.to_le_bytes());
    bytes
}

fn checksum(header: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(header.get(..12).unwrap_or_default());
    hasher.update(header.get(16..HEADER_BYTES).unwrap_or_default());
    hasher.finalize()
}
