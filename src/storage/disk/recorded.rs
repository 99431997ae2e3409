//! A disk that writes down what is asked of it, for checks of the order.

use super::{Access, Disk, DiskFile, DiskLock};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// One call that changes something, or makes it durable, and that succeeded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A directory was made.
    CreateDir(PathBuf),
    /// A temporary file was made.
    CreateTemp(PathBuf),
    /// Bytes were written.
    Write {
        /// To which file, by the name it was opened by.
        path: PathBuf,
        /// Where.
        offset: u64,
        /// How many.
        bytes: usize,
    },
    /// A file was flushed.
    SyncData(PathBuf),
    /// A file got another name.
    Rename {
        /// The old one.
        from: PathBuf,
        /// The new one.
        to: PathBuf,
    },
    /// A file was removed.
    Remove(PathBuf),
    /// A directory was flushed.
    SyncDir(PathBuf),
    /// A file was locked.
    Lock(PathBuf),
}

/// Passes everything on to another disk and keeps a list of it. Clones share the list.
#[derive(Clone, Debug)]
pub struct RecordedDisk {
    disk: Arc<dyn Disk>,
    journal: Journal,
}

#[derive(Clone, Debug, Default)]
struct Journal(Arc<Mutex<Vec<Operation>>>);

impl Journal {
    fn push(&self, operation: Operation) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(operation);
    }
}

#[derive(Debug)]
struct RecordedFile {
    file: Box<dyn DiskFile>,
    path: PathBuf,
    journal: Journal,
}

impl RecordedDisk {
    /// Records what is asked of `disk`.
    pub fn new(disk: Arc<dyn Disk>) -> Self {
        Self { disk, journal: Journal::default() }
    }

    /// Takes what was recorded since the last time.
    pub fn take(&self) -> Vec<Operation> {
        std::mem::take(&mut *self.journal.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn record(&self, file: Box<dyn DiskFile>, path: &Path) -> Box<dyn DiskFile> {
        Box::new(RecordedFile { file, path: path.to_path_buf(), journal: self.journal.clone() })
    }
}

impl Disk for RecordedDisk {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.create_dir(dir)?;
        self.journal.push(Operation::CreateDir(dir.to_path_buf()));
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.disk.list(dir)
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn DiskFile>> {
        Ok(self.record(self.disk.open(path, access)?, path))
    }

    fn create_temp(&self, dir: &Path, prefix: &str) -> io::Result<(PathBuf, Box<dyn DiskFile>)> {
        let (path, file) = self.disk.create_temp(dir, prefix)?;
        self.journal.push(Operation::CreateTemp(path.clone()));
        let file = self.record(file, &path);
        Ok((path, file))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)?;
        self.journal.push(Operation::Rename { from: from.to_path_buf(), to: to.to_path_buf() });
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)?;
        self.journal.push(Operation::Remove(path.to_path_buf()));
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.sync_dir(dir)?;
        self.journal.push(Operation::SyncDir(dir.to_path_buf()));
        Ok(())
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn DiskLock>>> {
        let lock = self.disk.lock(path)?;
        if lock.is_some() {
            self.journal.push(Operation::Lock(path.to_path_buf()));
        }
        Ok(lock)
    }

    fn random(&self) -> u64 {
        self.disk.random()
    }
}

impl DiskFile for RecordedFile {
    fn length(&self) -> io::Result<u64> {
        self.file.length()
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(bytes, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let count = self.file.write_at(bytes, offset)?;
        self.journal.push(Operation::Write { path: self.path.clone(), offset, bytes: count });
        Ok(count)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()?;
        self.journal.push(Operation::SyncData(self.path.clone()));
        Ok(())
    }
}
