//! The snapshot file: a header, then the content in blocks that have a checksum each.
//!
//! ```text
//! snapshot-000000000100.partial                   while it is written
//! snapshot-000000000100-1048576-9ae0daaf.sealed   through, bytes and CRC-32 of the content
//!
//! file   := header, block*                                                                       little-endian
//! header := "SYNSNAP1", version u32, CRC-32 u32 of what follows, cluster hash u64, node u64, disk u64, epoch u64,
//!           nonce u64, through u64, known u32, checksum u32, bytes u64
//! block  := CRC-32 u32 of nonce, its number u64 and content; content: 64 KiB, less in the last one
//! ```
//!
//! `known` is 0 while nobody can say which snapshot it will be, 1 if it was expected, and 2 once it has turned out. The nonce
//! is drawn for each file, so that what the disk held there before is not taken for a block of it.

use crate::multi::{Slot, SnapshotId};
use crate::storage::StorageError;
use crate::storage::disk::{Access, Disk, DiskFile, read_full_at};
use crate::storage::journal::{Stamp, io_error};
use bytes::Buf;
use std::io;
use std::path::{Path, PathBuf};

/// How much content a block has, in bytes.
pub(super) const BLOCK_BYTES: usize = 64 << 10;
/// The checksum in front of a block, in bytes.
pub(super) const CRC_BYTES: usize = 4;
/// How long the header is, in bytes.
pub(super) const HEADER_BYTES: usize = 80;
/// What a file is called for a moment, before it gets the name of a partial one.
pub(super) const TEMP_PREFIX: &str = ".snapshot-";

const MAGIC: &[u8; 8] = b"SYNSNAP1";
const VERSION: u32 = 1;
/// Where the part of the header starts that its checksum covers.
const CHECKED_AT: usize = 16;

/// The file of a snapshot through `through` that is being written.
pub(super) fn partial_path(dir: &Path, through: Slot) -> PathBuf {
    dir.join(format!("snapshot-{:012}.partial", through.get()))
}

/// The file of a sealed snapshot.
pub(super) fn sealed_path(dir: &Path, id: SnapshotId) -> PathBuf {
    let SnapshotId { through, bytes, checksum } = id;
    dir.join(format!("snapshot-{:012}-{bytes}-{checksum:08x}.sealed", through.get()))
}

/// The snapshot whose file would be called so.
pub(super) fn sealed_name(name: &str) -> Option<SnapshotId> {
    let mut parts = name.strip_prefix("snapshot-")?.strip_suffix(".sealed")?.split('-');
    let through = Slot::new(parts.next()?.parse().ok()?);
    let bytes = parts.next()?.parse().ok()?;
    let checksum = u32::from_str_radix(parts.next()?, 16).ok()?;
    parts.next().is_none().then_some(SnapshotId { through, bytes, checksum })
}

/// Through which slot the partial snapshot is whose file is called so.
pub(super) fn partial_name(name: &str) -> Option<Slot> {
    let through = name.strip_prefix("snapshot-")?.strip_suffix(".partial")?;
    through.parse().ok().map(Slot::new)
}

/// Whose snapshots they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::storage::file) struct Whose {
    pub(in crate::storage::file) stamp: Stamp,
    pub(in crate::storage::file) epoch: u64,
}

/// What the header of a snapshot file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) whose: Whose,
    pub(super) nonce: u64,
    pub(super) through: Slot,
    /// Which snapshot it is, or is to become.
    pub(super) known: Option<SnapshotId>,
    /// It was known from the beginning.
    pub(super) is_expected: bool,
}

impl Header {
    /// Whether `node` may have written it: in this epoch, or in an earlier one of the same cluster.
    pub(super) fn is_of(&self, node: Whose) -> bool {
        self.whose.stamp == node.stamp && self.whose.epoch <= node.epoch
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let state = if self.is_expected { 1_u32 } else { 2 };
        let (known, bytes, checksum) = self.known.map_or((0, 0, 0), |id| (state, id.bytes, id.checksum));
        let mut checked = Vec::with_capacity(HEADER_BYTES - CHECKED_AT);
        let Stamp { cluster, node, disk } = self.whose.stamp;
        for word in [cluster, node, disk, self.whose.epoch, self.nonce, self.through.get()] {
            checked.extend_from_slice(&word.to_le_bytes());
        }
        checked.extend_from_slice(&known.to_le_bytes());
        checked.extend_from_slice(&checksum.to_le_bytes());
        checked.extend_from_slice(&bytes.to_le_bytes());
        let mut header = MAGIC.to_vec();
        header.extend_from_slice(&VERSION.to_le_bytes());
        header.extend_from_slice(&crc32fast::hash(&checked).to_le_bytes());
        header.append(&mut checked);
        header
    }

    fn decode(bytes: &[u8], path: &Path) -> Result<Self, StorageError> {
        let damaged = |what: &str| damaged(path, 0, what);
        let (mut start, mut checked) =
            bytes.split_at_checked(CHECKED_AT).ok_or_else(|| damaged("it ends in its header"))?;
        if !start.starts_with(MAGIC) {
            return Err(damaged("it is no snapshot"));
        }
        start.advance(MAGIC.len());
        let (version, crc) = (start.get_u32_le(), start.get_u32_le());
        if version != VERSION {
            let path = path.to_path_buf();
            return Err(StorageError::UnknownFormat { path, found: version, known: VERSION });
        }
        if checked.len() != HEADER_BYTES - CHECKED_AT || crc32fast::hash(checked) != crc {
            return Err(damaged("its header fails its checksum"));
        }
        let mut word = || checked.get_u64_le();
        let stamp = Stamp { cluster: word(), node: word(), disk: word() };
        let whose = Whose { stamp, epoch: word() };
        let (nonce, through) = (word(), Slot::new(word()));
        let (known, checksum, bytes) = (checked.get_u32_le(), checked.get_u32_le(), checked.get_u64_le());
        let (is_expected, known) =
            (known == 1, (known != 0).then_some(SnapshotId { through, bytes, checksum }));
        Ok(Self { whose, nonce, through, known, is_expected })
    }

    /// The checksum of block `number`.
    pub(super) fn block_crc(&self, number: u64, content: &[u8]) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&self.nonce.to_le_bytes());
        hasher.update(&number.to_le_bytes());
        hasher.update(content);
        hasher.finalize()
    }
}

/// How many blocks hold `bytes` of content.
pub(super) fn blocks_of(bytes: u64) -> u64 {
    bytes.div_ceil(BLOCK_BYTES as u64)
}

/// Where block `number` starts in the file.
pub(super) fn offset_of(number: u64) -> u64 {
    HEADER_BYTES as u64 + number.saturating_mul((CRC_BYTES + BLOCK_BYTES) as u64)
}

pub(super) fn damaged(path: &Path, offset: u64, what: &str) -> StorageError {
    StorageError::Corrupt { path: path.to_path_buf(), offset, what: what.to_owned() }
}

/// A snapshot file that is there already, open.
#[derive(Debug)]
pub(super) struct SnapshotFile {
    path: PathBuf,
    pub(super) file: Box<dyn DiskFile>,
    pub(super) header: Header,
}

impl SnapshotFile {
    /// Opens the file at `path`, and checks its header.
    pub(super) fn open(disk: &dyn Disk, path: PathBuf, access: Access) -> Result<Self, StorageError> {
        let file = disk.open(&path, access).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => damaged(&path, 0, "it is gone"),
            _ => io_error("open", &path)(error),
        })?;
        let mut bytes = [0; HEADER_BYTES];
        let count = read_full_at(file.as_ref(), &mut bytes, 0).map_err(io_error("read", &path))?;
        let header = Header::decode(bytes.get(..count).unwrap_or_default(), &path)?;
        Ok(Self { path, file, header })
    }

    /// Reads block `number` of a content of `bytes` into `block`, in place of what it held, and checks it.
    pub(super) fn read_block(
        &self,
        number: u64,
        bytes: u64,
        block: &mut Vec<u8>,
    ) -> Result<(), StorageError> {
        let left = bytes.saturating_sub(number.saturating_mul(BLOCK_BYTES as u64));
        let length = usize::try_from(left).map_or(BLOCK_BYTES, |left| left.min(BLOCK_BYTES));
        let offset = offset_of(number);
        block.clear();
        block.resize(CRC_BYTES + length, 0);
        let count = read_full_at(self.file.as_ref(), block, offset).map_err(io_error("read", &self.path))?;
        if count < block.len() {
            return Err(damaged(&self.path, offset, "it ends in a block"));
        }
        let crc = block.as_slice().get_u32_le();
        block.drain(..CRC_BYTES);
        if self.header.block_crc(number, block) == crc {
            Ok(())
        } else {
            Err(damaged(&self.path, offset, "a block fails its checksum"))
        }
    }
}

/// Reads any bytes as a snapshot file whose header has the right checksum, as a fuzzer needs it, and checks that a header
/// that is understood is written and read again as the same. Its blocks are read too.
#[cfg(feature = "testing")]
pub(crate) fn round_trip_of_any_snapshot(bytes: &[u8]) {
    let path = Path::new("snapshot");
    let _ = Header::decode(bytes.get(..HEADER_BYTES).unwrap_or(bytes), path);
    let mut bytes = bytes.to_vec();
    let Some((start, checked)) =
        bytes.get_mut(..HEADER_BYTES).and_then(|all| all.split_at_mut_checked(CHECKED_AT))
    else {
        return;
    };
    start[..MAGIC.len()].copy_from_slice(MAGIC);
    start[MAGIC.len()..][..4].copy_from_slice(&VERSION.to_le_bytes());
    start[MAGIC.len() + 4..].copy_from_slice(&crc32fast::hash(checked).to_le_bytes());
    let disk = crate::storage::disk::SimulatedDisk::default();
    disk.put(path, &bytes);
    let Ok(found) = SnapshotFile::open(&disk, path.to_path_buf(), Access::Read) else { return };
    let again = Header::decode(&found.header.encode(), path).ok();
    assert_eq!(again, Some(found.header), "a header comes back as it was");
    let content = found.header.known.map_or(u64::MAX, |id| id.bytes);
    let mut block = Vec::new();
    for number in 0..blocks_of(bytes.len() as u64) {
        let is_read = found.read_block(number, content, &mut block).is_ok();
        let at = usize::try_from(offset_of(number)).ok().and_then(|at| bytes.get(at..)?.get(..CRC_BYTES));
        let crc = found.header.block_crc(number, &block).to_le_bytes();
        assert!(!is_read || at == Some(crc.as_slice()), "a block that is read has its checksum");
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const ID: SnapshotId = SnapshotId { through: Slot::new(100), bytes: 1 << 40, checksum: 0x9a_e0da };

    fn whose(node: u64, epoch: u64) -> Whose {
        Whose { stamp: Stamp { cluster: 1, node, disk: 3 }, epoch }
    }

    fn header(known: Option<SnapshotId>) -> Header {
        Header { whose: whose(4, 2), nonce: 77, through: ID.through, known, is_expected: false }
    }

    #[test]
    fn a_name_says_which_snapshot_it_is() {
        let dir = Path::new("/data");
        for id in [ID, SnapshotId { through: Slot::MAX, bytes: u64::MAX, checksum: u32::MAX }] {
            let path = sealed_path(dir, id);
            assert_eq!(sealed_name(path.file_name().unwrap().to_str().unwrap()), Some(id));
        }
        let path = partial_path(dir, ID.through);
        assert_eq!(partial_name(path.file_name().unwrap().to_str().unwrap()), Some(ID.through));
        for other in
            ["snapshot-1-2.sealed", "snapshot-1-2-x.sealed", "snapshot-1-2-3-4.sealed", "journal-1.log"]
        {
            assert_eq!(sealed_name(other), None, "{other}");
        }
    }

    #[test]
    fn a_header_comes_back_and_any_other_is_refused() {
        let path = Path::new("snapshot");
        let expected = Header { is_expected: true, ..header(Some(ID)) };
        for header in [header(Some(ID)), header(None), expected] {
            let bytes = header.encode();
            assert_eq!(bytes.len(), HEADER_BYTES);
            assert_eq!(Header::decode(&bytes, path).unwrap(), header);
            for at in 0..bytes.len() {
                let mut bytes = bytes.clone();
                bytes[at] ^= 0x10;
                assert!(Header::decode(&bytes, path).is_err(), "byte {at}");
                assert!(Header::decode(&bytes[..at], path).is_err(), "{at} bytes");
            }
        }
    }

    #[test]
    fn a_snapshot_of_an_earlier_epoch_is_ours_and_one_of_a_later_is_not() {
        let header = header(None);
        assert!(header.is_of(whose(4, 2)) && header.is_of(whose(4, 3)));
        assert!(!header.is_of(whose(4, 1)) && !header.is_of(whose(5, 2)));
    }
}
