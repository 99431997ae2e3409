//! The snapshots on a simulated disk.

use crate::multi::{Jitter, Record, Slot, SnapshotId};
use bytes::Bytes;
use std::collections::BTreeSet;

fn id_of(through: Slot, content: &[u8]) -> SnapshotId {
    SnapshotId { through, bytes: content.len() as u64, checksum: crc32fast::hash(content) }
}

/// The snapshots on one disk.
#[derive(Clone, Debug, Default)]
pub(super) struct Snapshots {
    sealed: Vec<(SnapshotId, Bytes)>,
    writing: Option<(SnapshotId, Vec<u8>)>,
    /// The newest durable base names it.
    named: Option<SnapshotId>,
    rotten: BTreeSet<SnapshotId>,
}

impl Snapshots {
    /// What is held of the one that a peer has, from an earlier attempt.
    pub(super) fn begin(&mut self, expected: SnapshotId) -> u64 {
        let left = self.writing.take().filter(|(left, _)| *left == expected);
        self.writing.insert(left.unwrap_or((expected, Vec::new()))).1.len() as u64
    }

    pub(super) fn write(&mut self, at: u64, bytes: &[u8]) -> Option<u64> {
        let (_, content) = self.writing.as_mut().filter(|(_, content)| content.len() as u64 == at)?;
        content.extend_from_slice(bytes);
        Some(content.len() as u64)
    }

    /// It could not be written.
    pub(super) fn abandon(&mut self) {
        self.writing = None;
    }

    pub(super) fn seal(&mut self) -> bool {
        let Some((expected, content)) = self.writing.take() else { return false };
        let whole = id_of(expected.through, &content) == expected;
        if whole {
            self.keep(expected, content.into());
        }
        whole
    }

    /// One of the own state, whole.
    pub(super) fn take(&mut self, content: Bytes, through: Slot) -> SnapshotId {
        let id = id_of(through, &content);
        self.writing = None;
        self.keep(id, content);
        id
    }

    fn keep(&mut self, id: SnapshotId, content: Bytes) {
        self.rotten.remove(&id);
        self.sealed.retain(|(sealed, _)| *sealed != id);
        self.sealed.push((id, content));
        let surplus = self.sealed.len().saturating_sub(2);
        let named = self.named;
        let mut nth = 0;
        self.sealed.retain(|(sealed, _)| {
            nth += 1;
            nth > surplus || named == Some(*sealed)
        });
    }

    /// Empty if it is not held, or rotten.
    pub(super) fn read(&self, snapshot: SnapshotId, at: u64, bytes_max: usize) -> Bytes {
        let held =
            self.sealed.iter().find(|(sealed, _)| *sealed == snapshot && !self.rotten.contains(sealed));
        let Some((_, content)) = held else { return Bytes::new() };
        let start = usize::try_from(at).unwrap_or(usize::MAX).min(content.len());
        content.slice(start..start.saturating_add(bytes_max).min(content.len()))
    }

    pub(super) fn note_bases(&mut self, records: &[Record]) {
        for record in records {
            if let Record::Based { base } = record
                && self.named.is_none_or(|named| named.through <= base.through)
            {
                self.named = base.snapshot;
            }
        }
    }

    /// A node starts: what no base names goes.
    pub(super) fn open(&mut self, named: Option<SnapshotId>) {
        self.named = named;
        self.sealed.retain(|(sealed, _)| Some(*sealed) == named);
    }

    /// Of what was being written, some is left.
    pub(super) fn crash(&mut self, random: &mut Jitter) {
        if let Some((_, content)) = &mut self.writing
            && random.draw().is_multiple_of(2)
        {
            let left = random.draw() % (content.len() as u64 + 1);
            content.truncate(usize::try_from(left).unwrap_or_default());
        }
    }

    /// The last slot of the one that the base names.
    pub(super) fn through(&self) -> Option<Slot> {
        self.named.map(|named| named.through)
    }

    /// Damages the one that the base names.
    pub(super) fn rot(&mut self) -> bool {
        self.named.is_some_and(|named| self.rotten.insert(named))
    }

    /// Whether the one that the base names is damaged.
    pub(super) fn is_rotten(&self) -> bool {
        self.named.is_some_and(|named| self.rotten.contains(&named))
    }
}
