//! The state that the simulated nodes keep, and the snapshots of it on their disks.

use bytes::Bytes;
use std::collections::BTreeSet;
use synod::multi::{Jitter, Record, Slot, SnapshotId, Value};

/// A digest of all that was applied, in order: two nodes that applied the same have the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct State {
    pub through: Slot,
    pub digest: u64,
}

fn mix(digest: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(digest, |digest, byte| (digest ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

impl State {
    pub fn apply(&mut self, slot: Slot, value: &Value) {
        self.through = slot;
        self.digest = mix(self.digest ^ slot.get(), b"slot");
        self.digest = match value {
            Value::Batch(bytes) => mix(self.digest, bytes),
            Value::Noop => mix(self.digest, b"noop"),
            Value::Membership(membership) => mix(self.digest, format!("{membership:?}").as_bytes()),
        };
    }

    /// Some hundred bytes, so that it takes several messages.
    pub fn content(self) -> Bytes {
        let mut content = Vec::from(self.through.get().to_le_bytes());
        content.extend(self.digest.to_le_bytes());
        let padding = usize::try_from(self.digest % 700).unwrap();
        content.extend((0..padding).map(|at| u8::try_from(at % 251).unwrap()));
        content.into()
    }

    pub fn read(content: &[u8]) -> Self {
        let word = |at: usize| u64::from_le_bytes(content[at..at + 8].try_into().unwrap());
        Self { through: Slot::new(word(0)), digest: word(8) }
    }
}

pub fn id_of(through: Slot, content: &[u8]) -> SnapshotId {
    let checksum = u32::try_from(mix(0x811c_9dc5, content) >> 32).unwrap();
    SnapshotId { through, bytes: content.len() as u64, checksum }
}

/// The snapshots on one disk.
#[derive(Debug, Default)]
pub struct Snapshots {
    sealed: Vec<(SnapshotId, Bytes)>,
    writing: Option<(SnapshotId, Vec<u8>)>,
    /// The newest durable base names it.
    named: Option<SnapshotId>,
    rotten: BTreeSet<SnapshotId>,
}

impl Snapshots {
    /// What is held of the one that a peer has, from an earlier attempt.
    pub fn begin(&mut self, expected: SnapshotId) -> u64 {
        let left = self.writing.take().filter(|(left, _)| *left == expected);
        self.writing.insert(left.unwrap_or((expected, Vec::new()))).1.len() as u64
    }

    pub fn write(&mut self, at: u64, bytes: &[u8]) -> Option<u64> {
        let (_, content) = self.writing.as_mut().filter(|(_, content)| content.len() as u64 == at)?;
        content.extend_from_slice(bytes);
        Some(content.len() as u64)
    }

    /// It could not be written.
    pub fn abandon(&mut self) {
        self.writing = None;
    }

    pub fn seal(&mut self) -> bool {
        let Some((expected, content)) = self.writing.take() else { return false };
        id_of(expected.through, &content) == expected && self.keep(content.into(), expected.through)
    }

    /// One of the own state, whole.
    pub fn take(&mut self, content: Bytes, through: Slot) -> SnapshotId {
        let id = id_of(through, &content);
        self.writing = None;
        self.keep(content, through);
        id
    }

    fn keep(&mut self, content: Bytes, through: Slot) -> bool {
        let id = id_of(through, &content);
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
        true
    }

    /// Empty if it is not held, or rotten.
    pub fn read(&self, snapshot: SnapshotId, at: u64, bytes_max: usize) -> Bytes {
        let held =
            self.sealed.iter().find(|(sealed, _)| *sealed == snapshot && !self.rotten.contains(sealed));
        let Some((_, content)) = held else { return Bytes::new() };
        let start = usize::try_from(at).unwrap().min(content.len());
        content.slice(start..start.saturating_add(bytes_max).min(content.len()))
    }

    pub fn note_bases(&mut self, records: &[Record]) {
        for record in records {
            if let Record::Based { base } = record
                && self.named.is_none_or(|named| named.through <= base.through)
            {
                self.named = base.snapshot;
            }
        }
    }

    /// A node starts: what no base names goes.
    pub fn open(&mut self, named: Option<SnapshotId>) {
        self.named = named;
        self.sealed.retain(|(sealed, _)| Some(*sealed) == named);
    }

    /// Of what was being written, some is left.
    pub fn crash(&mut self, random: &mut Jitter) {
        if let Some((_, content)) = &mut self.writing
            && random.draw().is_multiple_of(2)
        {
            let left = usize::try_from(random.draw() % (content.len() as u64 + 1)).unwrap();
            content.truncate(left);
        }
    }

    /// The last slot of the one that the base names.
    pub fn through(&self) -> Option<Slot> {
        self.named.map(|named| named.through)
    }

    /// Damages the one that the base names.
    pub fn rot(&mut self) -> bool {
        self.named.is_some_and(|named| self.rotten.insert(named))
    }

    /// Whether the one that the base names is damaged.
    pub fn is_rotten(&self) -> bool {
        self.named.is_some_and(|named| self.rotten.contains(&named))
    }
}
