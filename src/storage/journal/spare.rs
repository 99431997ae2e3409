//! The next segment, prepared ahead, so that no append waits for the zeros of a whole one.

use super::Stamp;
use super::segment::Segment;
use crate::storage::StorageError;
use crate::storage::disk::Disk;
use std::path::PathBuf;
use std::sync::Arc;

/// A segment to prepare ahead, on another thread.
#[derive(Debug)]
pub struct SpareOrder {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) dir: PathBuf,
    pub(super) number: u64,
    pub(super) bytes: usize,
    pub(super) stamp: Stamp,
}

/// A segment that was prepared ahead.
#[derive(Debug)]
pub struct Spare(pub(super) Segment);

impl SpareOrder {
    /// Prepares it: writes zeros and flushes them.
    ///
    /// # Errors
    ///
    /// [`StorageError::Io`] as the system says; the journal does without then.
    pub fn make(&self) -> Result<Spare, StorageError> {
        Segment::prepare(self.disk.as_ref(), &self.dir, self.number, self.bytes, self.stamp).map(Spare)
    }
}
