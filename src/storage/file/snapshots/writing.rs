//! The snapshot that is being written: takes content, writes it block by block, and knows what it comes to.

use super::format::{
    BLOCK_BYTES, CRC_BYTES, Header, SnapshotFile, TEMP_PREFIX, blocks_of, damaged, offset_of, partial_path,
};
use crate::multi::SnapshotId;
use crate::storage::StorageError;
use crate::storage::disk::{Access, Disk, DiskFile, write_all_at};
use crate::storage::journal::io_error;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Flushed after so much, so that the flush at its end is a short one, and no append waits behind a long one.
const FLUSH_BYTES: usize = 1 << 20;

/// A partial snapshot file, open.
#[derive(Debug)]
pub(super) struct Writing {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    path: PathBuf,
    file: Box<dyn DiskFile>,
    header: Header,
    /// Written so far.
    blocks: u64,
    /// The next block: room for its checksum, then content.
    block: Vec<u8>,
    /// Of all the content so far.
    checksum: crc32fast::Hasher,
    unflushed: usize,
    /// Its name is durable.
    is_named: bool,
}

impl Writing {
    /// Makes the file of a snapshot, in place of any other through the same slot.
    pub(super) fn create(disk: Arc<dyn Disk>, dir: &Path, header: Header) -> Result<Self, StorageError> {
        let path = partial_path(dir, header.through);
        let (temp, _) = disk.create_temp(dir, TEMP_PREFIX).map_err(io_error("create", dir))?;
        if let Err(error) = disk.rename(&temp, &path) {
            // Only tidiness: the next open removes it as well.
            let _ = disk.remove(&temp);
            return Err(io_error("rename", &temp)(error));
        }
        let begun = disk.open(&path, Access::Write).map_err(io_error("open", &path)).and_then(|file| {
            write_all_at(file.as_ref(), &header.encode(), 0).map_err(io_error("write", &path))?;
            Ok(file)
        });
        match begun {
            Ok(file) => Ok(Self::over(disk, dir, path, file, header)),
            Err(error) => {
                let _ = disk.remove(&path);
                Err(error)
            }
        }
    }

    /// Opens what is left of an earlier attempt at the same snapshot: its whole blocks, as far as they are well.
    pub(super) fn resume(disk: Arc<dyn Disk>, dir: &Path, expected: Header) -> Option<Self> {
        let path = partial_path(dir, expected.through);
        let left = SnapshotFile::open(disk.as_ref(), path.clone(), Access::Write).ok()?;
        let id = left.header.known.filter(|id| expected.known == Some(*id))?;
        if !left.header.is_expected || !left.header.is_of(expected.whose) {
            return None;
        }
        let mut checksum = crc32fast::Hasher::new();
        let mut content = Vec::new();
        let whole = id.bytes / BLOCK_BYTES as u64;
        let mut blocks = 0;
        while blocks < whole && left.read_block(blocks, id.bytes, &mut content).is_ok() {
            checksum.update(&content);
            blocks += 1;
        }
        let header = left.header;
        Some(Self { blocks, checksum, ..Self::over(disk, dir, path, left.file, header) })
    }

    fn over(disk: Arc<dyn Disk>, dir: &Path, path: PathBuf, file: Box<dyn DiskFile>, header: Header) -> Self {
        Self {
            disk,
            dir: dir.to_path_buf(),
            path,
            file,
            header,
            blocks: 0,
            block: vec![0; CRC_BYTES],
            checksum: crc32fast::Hasher::new(),
            unflushed: 0,
            is_named: false,
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn expected(&self) -> Option<SnapshotId> {
        self.header.known
    }

    /// How many bytes of content it has.
    pub(super) fn held(&self) -> u64 {
        self.blocks * BLOCK_BYTES as u64 + (self.block.len() - CRC_BYTES) as u64
    }

    pub(super) fn write(&mut self, mut bytes: &[u8]) -> Result<(), StorageError> {
        let room = self.header.known.map_or(u64::MAX, |id| id.bytes.saturating_sub(self.held()));
        if bytes.len() as u64 > room {
            return Err(damaged(&self.path, offset_of(self.blocks), "it is longer than the expected one"));
        }
        while !bytes.is_empty() {
            let room = BLOCK_BYTES + CRC_BYTES - self.block.len();
            let (taken, later) = bytes.split_at(room.min(bytes.len()));
            self.checksum.update(taken);
            self.block.extend_from_slice(taken);
            bytes = later;
            if self.block.len() == BLOCK_BYTES + CRC_BYTES {
                self.write_block()?;
                self.blocks += 1;
                self.block.truncate(CRC_BYTES);
            }
        }
        if self.unflushed >= FLUSH_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    /// Makes the content durable under the name of a partial one, and says which snapshot it is.
    pub(super) fn seal(&mut self) -> Result<SnapshotId, StorageError> {
        let (bytes, checksum) = (self.held(), self.checksum.clone().finalize());
        let id = SnapshotId { through: self.header.through, bytes, checksum };
        match self.header.known {
            Some(expected) if expected != id => {
                return Err(damaged(&self.path, 0, "it is not the one that was expected"));
            }
            Some(_) => {}
            None => {
                self.header.known = Some(id);
                let header = self.header.encode();
                write_all_at(self.file.as_ref(), &header, 0).map_err(io_error("write", &self.path))?;
            }
        }
        if self.blocks < blocks_of(bytes) {
            self.write_block()?;
        }
        self.file.sync_data().map_err(io_error("fsync", &self.path))?;
        Ok(id)
    }

    fn write_block(&mut self) -> Result<(), StorageError> {
        if let Some((crc, content)) = self.block.split_first_chunk_mut::<CRC_BYTES>() {
            *crc = self.header.block_crc(self.blocks, content).to_le_bytes();
        }
        write_all_at(self.file.as_ref(), &self.block, offset_of(self.blocks))
            .map_err(io_error("write", &self.path))?;
        self.unflushed += self.block.len();
        Ok(())
    }

    fn flush(&mut self) -> Result<(), StorageError> {
        self.file.sync_data().map_err(io_error("fsync", &self.path))?;
        self.unflushed = 0;
        if !self.is_named {
            self.disk.sync_dir(&self.dir).map_err(io_error("fsync", &self.dir))?;
            self.is_named = true;
        }
        Ok(())
    }
}
