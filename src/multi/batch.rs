//! Batches: several commands as one opaque value.
//!
//! ```text
//! batch   := node u64, incarnation u64, serial u64, command*         little-endian
//! command := length u32, kind u8, [origin: 4 x u64], [stamp: slot u64, index u32, 2 x u64], bytes
//! kind    := 0 plain, 1 with origin, 2 with stamp, 4 opens a session, 5 opens a session, with origin
//! ```
//!
//! The head makes every batch different from every other, so that a node finds the callers who wait for one
//! ([`BatchId`]), and "byte for byte the same value" (2.1) means the same proposal.

use super::message::Origin;
use super::session::{Request, SessionId, SessionStamp};
use super::slot::Slot;
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

/// What a batch says of a command, beside its bytes: what makes it apply once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tag {
    /// A client of the node that filled the batch, without a session: no other batch holds the command.
    Plain,
    /// A client of another node, without a session (12.2).
    Forwarded(Origin),
    /// A client's session, wherever the client asked (12.3).
    InSession(SessionStamp),
    /// No command: opens a session, which another node may have asked for.
    OpenSession(Option<Origin>),
}

impl Tag {
    /// For what a client asks; `origin` is set if another node forwards it.
    pub fn new(request: Request, origin: Option<Origin>) -> Self {
        match (request, origin) {
            (Request::Plain, None) => Self::Plain,
            (Request::Plain, Some(origin)) => Self::Forwarded(origin),
            (Request::InSession(stamp), _) => Self::InSession(stamp),
            (Request::OpenSession, origin) => Self::OpenSession(origin),
        }
    }

    fn kind(&self) -> u8 {
        match self {
            Self::Plain => 0,
            Self::Forwarded(_) => ORIGIN,
            Self::InSession(_) => STAMP,
            Self::OpenSession(None) => OPENS,
            Self::OpenSession(Some(_)) => OPENS | ORIGIN,
        }
    }

    fn size(&self) -> usize {
        match self {
            Self::Plain | Self::OpenSession(None) => 0,
            Self::Forwarded(_) | Self::OpenSession(Some(_)) => ORIGIN_BYTES,
            Self::InSession(_) => STAMP_BYTES,
        }
    }

    fn write(&self, bytes: &mut BytesMut) {
        match self {
            Self::Plain | Self::OpenSession(None) => {}
            Self::Forwarded(origin) | Self::OpenSession(Some(origin)) => {
                bytes.put_u64_le(origin.node.get());
                bytes.put_u64_le(origin.incarnation);
                bytes.put_u64_le(origin.serial);
                bytes.put_u64_le(origin.answered_through);
            }
            Self::InSession(stamp) => {
                bytes.put_u64_le(stamp.session.slot.get());
                bytes.put_u32_le(stamp.session.index);
                bytes.put_u64_le(stamp.serial);
                bytes.put_u64_le(stamp.answered_through);
            }
        }
    }

    fn read(kind: u8, rest: &mut impl Buf) -> Result<Self, MalformedBatch> {
        const OPENS_FOR_ANOTHER: u8 = OPENS | ORIGIN;
        match kind {
            0 => Ok(Self::Plain),
            OPENS => Ok(Self::OpenSession(None)),
            ORIGIN if rest.remaining() >= ORIGIN_BYTES => Ok(Self::Forwarded(read_origin(rest))),
            OPENS_FOR_ANOTHER if rest.remaining() >= ORIGIN_BYTES => {
                Ok(Self::OpenSession(Some(read_origin(rest))))
            }
            STAMP if rest.remaining() >= STAMP_BYTES => {
                let session = SessionId { slot: Slot::new(rest.get_u64_le()), index: rest.get_u32_le() };
                let (serial, answered_through) = (rest.get_u64_le(), rest.get_u64_le());
                Ok(Self::InSession(SessionStamp { session, serial, answered_through }))
            }
            _ => Err(MalformedBatch),
        }
    }
}

fn read_origin(rest: &mut impl Buf) -> Origin {
    Origin {
        node: NodeId::new(rest.get_u64_le()),
        incarnation: rest.get_u64_le(),
        serial: rest.get_u64_le(),
        answered_through: rest.get_u64_le(),
    }
}

/// A batch being filled.
#[derive(Debug)]
pub struct BatchBuilder {
    bytes: BytesMut,
    commands: usize,
}

const HEAD_BYTES: usize = 24;
/// Before the tag: a length and a kind.
const COMMAND_HEAD_BYTES: usize = 5;
const ORIGIN_BYTES: usize = 32;
const STAMP_BYTES: usize = 28;
const ORIGIN: u8 = 1;
const STAMP: u8 = 2;
const OPENS: u8 = 4;

impl BatchBuilder {
    /// An empty batch.
    pub fn new(id: BatchId) -> Self {
        Self::with_room(id, 0)
    }

    /// An empty batch that has room for `bytes` of commands, as [`BatchBuilder::cost`] counts them, before it grows.
    pub fn with_room(id: BatchId, bytes: usize) -> Self {
        let mut bytes = BytesMut::with_capacity(HEAD_BYTES + bytes);
        bytes.put_u64_le(id.node.get());
        bytes.put_u64_le(id.incarnation);
        bytes.put_u64_le(id.serial);
        Self { bytes, commands: 0 }
    }

    /// Appends a command.
    pub fn push(&mut self, tag: &Tag, command: &[u8]) {
        let length = u32::try_from(command.len()).unwrap_or(u32::MAX);
        self.bytes.put_u32_le(length);
        self.bytes.put_u8(tag.kind());
        tag.write(&mut self.bytes);
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
    pub fn cost(length: usize, tag: &Tag) -> usize {
        COMMAND_HEAD_BYTES + tag.size() + length
    }

    /// The bytes that a command of `length` bytes takes at most, whatever its tag.
    pub fn cost_max(length: usize) -> usize {
        COMMAND_HEAD_BYTES + ORIGIN_BYTES.max(STAMP_BYTES) + length
    }

    /// The value to propose. It is kept for a while, so it takes hardly more memory than it needs.
    pub fn finish(self) -> Bytes {
        if self.bytes.capacity() / 2 > self.bytes.len() {
            return Bytes::copy_from_slice(&self.bytes);
        }
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

    /// Its commands, borrowed.
    pub fn commands(&self) -> Commands<'_> {
        Commands { rest: &self.rest }
    }
}

/// The commands of a batch, borrowed from it: for who looks at each once, so that nobody counts who holds them.
#[derive(Clone, Debug)]
pub struct Commands<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Commands<'a> {
    type Item = Result<(Tag, &'a [u8]), MalformedBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let head = read_head(&mut self.rest);
        let length = head.as_ref().map_or(self.rest.len(), |(_, length)| *length);
        let (command, rest) = self.rest.split_at(length);
        self.rest = rest;
        Some(head.map(|(tag, _)| (tag, command)))
    }
}

impl Iterator for Batch {
    type Item = Result<(Tag, Bytes), MalformedBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let head = read_head(&mut self.rest);
        if head.is_err() {
            self.rest.clear();
        }
        Some(head.map(|(tag, length)| (tag, self.rest.split_to(length))))
    }
}

/// What stands before the bytes of a command, and how many these are.
fn read_head(rest: &mut impl Buf) -> Result<(Tag, usize), MalformedBatch> {
    if rest.remaining() < COMMAND_HEAD_BYTES {
        return Err(MalformedBatch);
    }
    let length = rest.get_u32_le() as usize;
    let kind = rest.get_u8();
    let tag = Tag::read(kind, rest)?;
    if rest.remaining() < length { Err(MalformedBatch) } else { Ok((tag, length)) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const ID: BatchId = BatchId { node: NodeId::new(3), incarnation: 2, serial: 9 };
    const ORIGIN: Origin = Origin { node: NodeId::new(1), incarnation: 4, serial: 8, answered_through: 7 };
    const SESSION: SessionId = SessionId { slot: Slot::new(5), index: 6 };
    const STAMP: SessionStamp = SessionStamp { session: SESSION, serial: 8, answered_through: 7 };
    const TAGS: [Tag; 5] = [
        Tag::Plain,
        Tag::Forwarded(ORIGIN),
        Tag::InSession(STAMP),
        Tag::OpenSession(None),
        Tag::OpenSession(Some(ORIGIN)),
    ];

    #[test]
    fn borrowed_or_shared_the_commands_are_the_same_wherever_the_batch_ends() {
        let mut builder = BatchBuilder::new(ID);
        for (tag, command) in TAGS.iter().zip(["one", "", "three", "", "5"]) {
            builder.push(tag, command.as_bytes());
        }
        let whole = builder.finish();
        for end in HEAD_BYTES..=whole.len() {
            let batch = Batch::read(whole.slice(..end)).unwrap();
            let borrowed: Vec<_> =
                batch.commands().map(|next| next.map(|(tag, at)| (tag, at.to_vec()))).collect();
            let shared: Vec<_> = batch.map(|next| next.map(|(tag, at)| (tag, at.to_vec()))).collect();
            assert_eq!(borrowed, shared, "cut after {end} bytes");
        }
    }

    #[test]
    fn a_batch_gives_back_its_commands_in_order() {
        let mut builder = BatchBuilder::new(ID);
        let commands: Vec<(Tag, Bytes)> =
            TAGS.into_iter().zip(["one".into(), "".into(), "three".into(), "".into(), "5".into()]).collect();
        for (tag, command) in &commands {
            let before = builder.size();
            builder.push(tag, command);
            assert_eq!(builder.size() - before, BatchBuilder::cost(command.len(), tag));
            assert!(builder.size() - before <= BatchBuilder::cost_max(command.len()));
        }
        let batch = Batch::read(builder.finish()).unwrap();
        assert_eq!(batch.id(), ID);
        assert_eq!(batch.map(Result::unwrap).collect::<Vec<_>>(), commands);
    }

    #[test]
    fn a_batch_cut_anywhere_ends_in_an_error_or_between_two_commands() {
        let mut builder = BatchBuilder::new(ID);
        let mut ends = vec![HEAD_BYTES];
        for tag in &TAGS {
            builder.push(tag, b"one");
            ends.push(builder.size());
        }
        let whole = builder.finish();
        for cut in 0..whole.len() {
            let part = whole.slice(..cut);
            match Batch::read(part) {
                Err(MalformedBatch) => assert!(cut < HEAD_BYTES),
                Ok(batch) => {
                    let clean = ends.contains(&cut);
                    assert_eq!(batch.last().is_none_or(|command| command.is_ok()), clean, "cut at {cut}");
                }
            }
        }
    }

    #[test]
    fn a_command_of_an_unknown_kind_ends_the_batch_in_an_error() {
        for kind in [3, 6, 7, 8, 255] {
            let mut bytes = BytesMut::from(&BatchBuilder::new(ID).finish()[..]);
            bytes.put_u32_le(0);
            bytes.put_u8(kind);
            bytes.put_bytes(0, 99);
            let mut batch = Batch::read(bytes.freeze()).unwrap();
            assert_eq!((batch.next(), batch.next()), (Some(Err(MalformedBatch)), None), "kind {kind}");
        }
    }
}
