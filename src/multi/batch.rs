//! Batches: several commands as one opaque value.
//!
//! ```text
//! batch   := node u64, incarnation u64, serial u64, command*         little-endian
//! command := length u32, flag u8 (0 plain, 1 with origin), [origin: 4 x u64], bytes
//! ```
//!
//! The head makes every batch different from every other, so that a node finds the callers who wait for one
//! ([`BatchId`]), and "byte for byte the same value" (2.1) means the same proposal.

use super::message::Origin;
use crate::paxos::NodeId;
use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Which batch of which start of which node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BatchId {
    /// The node that filled it.
    pub node: NodeId,
    /// The count of that node's starts.
    pub incarnation: u64,
    /// Counts the batches of that start.
    pub serial: u64,
}

/// A batch being filled.
#[derive(Debug)]
pub struct BatchBuilder {
    bytes: BytesMut,
    commands: usize,
}

const HEAD_BYTES: usize = 24;
const ORIGIN_BYTES: usize = 32;

impl BatchBuilder {
    /// An empty batch.
    pub fn new(id: BatchId) -> Self {
        let mut bytes = BytesMut::with_capacity(256);
        bytes.put_u64_le(id.node.get());
        bytes.put_u64_le(id.incarnation);
        bytes.put_u64_le(id.serial);
        Self { bytes, commands: 0 }
    }

    /// Appends a command; `origin` is set for one that another node forwarded.
    pub fn push(&mut self, origin: Option<Origin>, command: &[u8]) {
        let length = u32::try_from(command.len()).unwrap_or(u32::MAX);
        self.bytes.put_u32_le(length);
        self.bytes.put_u8(u8::from(origin.is_some()));
        if let Some(origin) = origin {
            self.bytes.put_u64_le(origin.node.get());
            self.bytes.put_u64_le(origin.incarnation);
            self.bytes.put_u64_le(origin.serial);
            self.bytes.put_u64_le(origin.answered_through);
        }
        self.bytes.extend_from_slice(&command[..length as usize]);
        self.commands += 1;
    }

    /// How many commands it holds.
    pub fn commands(&self) -> usize {
        self.commands
    }

    /// How many bytes it has.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// The bytes that one more command of `length` bytes would take.
    pub fn cost(length: usize, forwarded: bool) -> usize {
        5 + length + if forwarded { ORIGIN_BYTES } else { 0 }
    }

    /// The value to propose.
    pub fn finish(self) -> Bytes {
        self.bytes.freeze()
    }
}

/// A batch read back: its id, and its commands as slices of it, without a copy.
#[derive(Clone, Debug)]
pub struct Batch {
    id: BatchId,
    rest: Bytes,
}

/// A batch that does not follow the format: the rest of it is skipped, by every node alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a batch ends in the middle of a command")]
pub struct MalformedBatch;

impl Batch {
    /// Reads the head of a batch.
    ///
    /// # Errors
    ///
    /// [`MalformedBatch`] if it is shorter than a head.
    pub fn read(mut bytes: Bytes) -> Result<Self, MalformedBatch> {
        if bytes.len() < HEAD_BYTES {
            return Err(MalformedBatch);
        }
        let node = NodeId::new(bytes.get_u64_le());
        let id = BatchId { node, incarnation: bytes.get_u64_le(), serial: bytes.get_u64_le() };
        Ok(Self { id, rest: bytes })
    }

    /// Which batch it is.
    pub fn id(&self) -> BatchId {
        self.id
    }
}

impl Iterator for Batch {
    type Item = Result<(Option<Origin>, Bytes), MalformedBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let command = read_command(&mut self.rest);
        if command.is_err() {
            self.rest.clear();
        }
        Some(command)
    }
}

fn read_command(rest: &mut Bytes) -> Result<(Option<Origin>, Bytes), MalformedBatch> {
    if rest.len() < 5 {
        return Err(MalformedBatch);
    }
    let length = rest.get_u32_le() as usize;
    let origin = match rest.get_u8() {
        0 => None,
        1 if rest.len() >= ORIGIN_BYTES => Some(Origin {
            node: NodeId::new(rest.get_u64_le()),
            incarnation: rest.get_u64_le(),
            serial: rest.get_u64_le(),
            answered_through: rest.get_u64_le(),
        }),
        _ => return Err(MalformedBatch),
    };
    if rest.len() < length {
        return Err(MalformedBatch);
    }
    Ok((origin, rest.split_to(length)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const ID: BatchId = BatchId { node: NodeId::new(3), incarnation: 2, serial: 9 };
    const ORIGIN: Origin = Origin { node: NodeId::new(1), incarnation: 4, serial: 8, answered_through: 7 };

    #[test]
    fn a_batch_gives_back_its_commands_in_order() {
        let mut builder = BatchBuilder::new(ID);
        builder.push(None, b"one");
        builder.push(Some(ORIGIN), b"");
        builder.push(None, b"three");
        let batch = Batch::read(builder.finish()).unwrap();
        assert_eq!(batch.id(), ID);
        let commands: Vec<_> = batch.map(Result::unwrap).collect();
        let expected: Vec<(Option<Origin>, Bytes)> =
            vec![(None, "one".into()), (Some(ORIGIN), "".into()), (None, "three".into())];
        assert_eq!(commands, expected);
    }

    #[test]
    fn a_batch_cut_anywhere_ends_in_an_error_or_between_two_commands() {
        let mut builder = BatchBuilder::new(ID);
        builder.push(None, b"one");
        let first_end = builder.size();
        builder.push(Some(ORIGIN), b"two");
        let whole = builder.finish();
        for cut in 0..whole.len() {
            let part = whole.slice(..cut);
            match Batch::read(part) {
                Err(MalformedBatch) => assert!(cut < HEAD_BYTES),
                Ok(batch) => {
                    let clean = cut == HEAD_BYTES || cut == first_end;
                    assert_eq!(batch.last().is_none_or(|command| command.is_ok()), clean, "cut at {cut}");
                }
            }
        }
    }
}
