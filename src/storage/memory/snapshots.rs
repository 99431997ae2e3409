//! The snapshots of a memory storage: the one that is being written, and those that are sealed.

use super::place::damaged;
use crate::multi::{Record, Slot, SnapshotId};
use crate::storage::StorageError;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::path::PathBuf;

/// What is held of snapshots.
#[derive(Default)]
pub(super) struct Snapshots {
    /// Oldest first.
    sealed: Vec<(SnapshotId, Bytes)>,
    writing: Option<Writing>,
    /// The newest base names it.
    named: Option<SnapshotId>,
    damaged: BTreeSet<SnapshotId>,
    writes: u64,
    faults: BTreeMap<u64, io::ErrorKind>,
}

struct Writing {
    through: Slot,
    expected: Option<SnapshotId>,
    content: Vec<u8>,
}

/// Without the contents, which are the application's.
impl fmt::Debug for Snapshots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshots")
            .field("sealed", &self.sealed.iter().map(|(id, _)| id).collect::<Vec<_>>())
            .field("writing", &self.writing.as_ref().map(|writing| writing.through))
            .field("named", &self.named)
            .field("damaged", &self.damaged)
            .finish_non_exhaustive()
    }
}

impl Snapshots {
    /// Goes on with what a crash left of `expected`.
    pub(super) fn begin(&mut self, through: Slot, expected: Option<SnapshotId>) -> u64 {
        let left = self.writing.take().filter(|left| expected.is_some() && left.expected == expected);
        let writing = left.unwrap_or(Writing { through, expected, content: Vec::new() });
        self.writing.insert(writing).content.len() as u64
    }

    pub(super) fn write(&mut self, at: u64, bytes: &[u8]) -> Result<(), StorageError> {
        let writing = self.writing.as_mut().filter(|writing| writing.content.len() as u64 == at);
        let Some(writing) = writing else { return Err(StorageError::NoSnapshot) };
        let number = self.writes;
        self.writes += 1;
        if let Some(kind) = self.faults.remove(&number) {
            self.writing = None;
            let path = PathBuf::from("memory");
            return Err(StorageError::Io { op: "write a snapshot", path, source: kind.into() });
        }
        writing.content.extend_from_slice(bytes);
        Ok(())
    }

    pub(super) fn seal(&mut self) -> Result<SnapshotId, StorageError> {
        let writing = self.writing.take().ok_or(StorageError::NoSnapshot)?;
        let (bytes, checksum) = (writing.content.len() as u64, crc32fast::hash(&writing.content));
        let id = SnapshotId { through: writing.through, bytes, checksum };
        if writing.expected.is_some_and(|expected| expected != id) {
            return Err(damaged("the snapshot is not the one that was expected".to_owned()));
        }
        self.damaged.remove(&id);
        self.sealed.retain(|(sealed, _)| *sealed != id);
        self.sealed.push((id, writing.content.into()));
        let newest = self.sealed.len().saturating_sub(2);
        let mut nth = 0;
        self.sealed.retain(|(sealed, _)| {
            nth += 1;
            nth > newest || self.named == Some(*sealed)
        });
        Ok(id)
    }

    pub(super) fn read(
        &self,
        snapshot: SnapshotId,
        at: u64,
        bytes_max: usize,
    ) -> Result<Bytes, StorageError> {
        let content = self.sealed.iter().find(|(sealed, _)| *sealed == snapshot).map(|(_, content)| content);
        let content = content.ok_or(StorageError::NoSnapshot)?;
        if self.damaged.contains(&snapshot) {
            return Err(damaged("the snapshot fails its checksum".to_owned()));
        }
        let start = usize::try_from(at).unwrap_or(usize::MAX).min(content.len());
        Ok(content.slice(start..start.saturating_add(bytes_max).min(content.len())))
    }

    /// The newest base names a snapshot that has to stay.
    pub(super) fn note_bases(&mut self, records: &[Record]) {
        for record in records {
            if let Record::Based { base } = record
                && let Some(named) = base.snapshot
                && self.named.is_none_or(|known| known.through <= named.through)
            {
                self.named = Some(named);
            }
        }
    }

    /// At an opening: a sealed one that no base names is of no use.
    pub(super) fn forget_unnamed(&mut self, named: Option<SnapshotId>) {
        self.named = named;
        self.sealed.retain(|(sealed, _)| Some(*sealed) == named);
        if self.writing.as_ref().is_some_and(|writing| writing.expected.is_none()) {
            self.writing = None;
        }
    }

    pub(super) fn fail_write(&mut self, later: u64, kind: io::ErrorKind) {
        self.faults.insert(self.writes.saturating_add(later), kind);
    }

    pub(super) fn corrupt(&mut self, snapshot: SnapshotId) -> bool {
        let held = self.sealed.iter().any(|(sealed, _)| *sealed == snapshot);
        if held {
            self.damaged.insert(snapshot);
        }
        held
    }

    pub(super) fn damaged(&self) -> Vec<SnapshotId> {
        let held = self.sealed.iter().map(|(sealed, _)| *sealed);
        held.filter(|sealed| self.damaged.contains(sealed)).collect()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.sealed.iter().map(|(id, _)| id.bytes).sum()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    // scenario S9
    #[test]
    fn what_a_memory_shows_of_its_snapshots_is_not_what_they_hold() {
        let mut snapshots = Snapshots::default();
        for through in [1, 2] {
            snapshots.begin(Slot::new(through), None);
            snapshots.write(0, b"secret").unwrap();
            if through == 1 {
                snapshots.seal().unwrap();
            }
        }
        let shown = format!("{snapshots:?}");
        assert!(shown.contains("s1") && shown.contains("s2"), "{shown}");
        assert!(!shown.contains("secret") && !shown.contains("115, 101"), "{shown}");
    }
}
