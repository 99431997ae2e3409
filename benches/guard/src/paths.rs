//! The hot paths: what each does, and the one function of each whose instructions count.

mod core;

use crate::Error;
use bytes::Bytes;
use clap::ValueEnum;
use synod::multi::{
    Batch, BatchBuilder, BatchId, ClusterId, DiskId, Group, Message, Record, Sequence, Slot, Tag, Value,
};
use synod::paxos::{NodeId, ProposalId};
use synod::storage::disk::RealDisk;
use synod::storage::journal::{Journal, SEGMENT_BYTES_DEFAULT, Stamp};
use synod::transport::{Envelope, GroupId};
use synod_tcp::measuring::{Incoming, encode};

/// A hot path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Path {
    /// All that the leader's core does for a commit of one batch.
    LeaderStep,
    /// All that a follower's core does for it.
    FollowerStep,
    /// Filling a batch with 64 commands of 16 bytes, and reading it back.
    Batch,
    /// Appending one accepted batch of 64 to the journal, without what the system does.
    JournalAppend,
    /// Encoding an `Accept` of one batch of 64 as a frame.
    FrameEncode,
    /// Cutting it out of what arrived, and decoding it.
    FrameDecode,
}

/// Commands of a batch.
const COMMANDS: usize = 64;
/// What every node takes as the longest frame.
const FRAME_BYTES_MAX: usize = 4 << 20;
const ID: ProposalId = ProposalId::new(1, NodeId::new(1));

impl Path {
    pub(crate) const ALL: [Self; 6] = [
        Self::LeaderStep,
        Self::FollowerStep,
        Self::Batch,
        Self::JournalAppend,
        Self::FrameEncode,
        Self::FrameDecode,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::LeaderStep => "leader-step",
            Self::FollowerStep => "follower-step",
            Self::Batch => "batch",
            Self::JournalAppend => "journal-append",
            Self::FrameEncode => "frame-encode",
            Self::FrameDecode => "frame-decode",
        }
    }

    /// What its instructions are divided by.
    pub(crate) fn unit(self) -> &'static str {
        match self {
            Self::LeaderStep | Self::FollowerStep => "commit",
            Self::Batch => "batch of 64",
            Self::JournalAppend => "group",
            Self::FrameEncode | Self::FrameDecode => "frame",
        }
    }

    /// How many of them a walk counts.
    pub(crate) fn units(self) -> u64 {
        match self {
            Self::LeaderStep => core::COMMITS,
            // There are two.
            Self::FollowerStep => core::COMMITS * 2,
            Self::Batch | Self::FrameEncode | Self::FrameDecode => 1000,
            // Few enough for one segment: preparing the next one is not on the hot path.
            Self::JournalAppend => 500,
        }
    }

    /// The function between whose entry and return instructions count, in callgrind's notation.
    pub(crate) fn function(self) -> &'static str {
        match self {
            Self::LeaderStep => "*::counted_leader_step",
            Self::FollowerStep => "*::counted_follower_step",
            Self::Batch => "*::counted_batch",
            Self::JournalAppend => "*::counted_append",
            Self::FrameEncode => "*::counted_encode",
            Self::FrameDecode => "*::counted_decode",
        }
    }
}

/// Does the work of `path`, some of it before anything counts.
pub(crate) fn walk(path: Path) -> Result<(), Error> {
    match path {
        Path::LeaderStep | Path::FollowerStep => core::commit(),
        Path::Batch => {
            // Nothing to warm up but the allocator.
            let commands: Vec<[u8; 16]> = (0..COMMANDS).map(|number| [number as u8; 16]).collect();
            let held = (0..path.units()).map(|serial| counted_batch(serial, &commands)).sum::<usize>();
            if held == COMMANDS * path.units() as usize {
                Ok(())
            } else {
                Err("a batch lost a command".into())
            }
        }
        Path::JournalAppend => append(path.units()),
        Path::FrameEncode | Path::FrameDecode => frames(path.units()),
    }
}

fn batch_of_64() -> Bytes {
    let mut batch = BatchBuilder::new(BatchId { node: NodeId::new(1), incarnation: 1, serial: 1 });
    (0..COMMANDS).for_each(|number| batch.push(&Tag::Plain, &[number as u8; 16]));
    batch.finish()
}

#[inline(never)]
fn counted_batch(serial: u64, commands: &[[u8; 16]]) -> usize {
    let mut builder = BatchBuilder::new(BatchId { node: NodeId::new(1), incarnation: 1, serial });
    commands.iter().for_each(|command| builder.push(&Tag::Plain, command));
    let read = Batch::read(builder.finish());
    read.map_or(0, |batch| {
        batch.filter(|command| matches!(command, Ok((_, bytes)) if bytes.len() == 16)).count()
    })
}

fn append(groups: u64) -> Result<(), Error> {
    let dir = tempfile::tempdir()?;
    let stamp = Stamp::new(&ClusterId::new("guard")?, NodeId::new(1), DiskId(1));
    Journal::create(&RealDisk, dir.path(), stamp, SEGMENT_BYTES_DEFAULT)?;
    let (mut journal, _) =
        Journal::open(std::sync::Arc::new(RealDisk), dir.path(), stamp, SEGMENT_BYTES_DEFAULT)?;
    let value = Value::Batch(batch_of_64());
    for number in 1..=groups {
        let record = Record::Accepted { slot: Slot::new(number), id: ID, value: value.clone() };
        counted_append(&mut journal, &Group { sequence: Sequence(number), records: vec![record] })?;
    }
    Ok(())
}

#[inline(never)]
fn counted_append(journal: &mut Journal, group: &Group) -> Result<(), synod::storage::StorageError> {
    journal.append(group)
}

fn frames(count: u64) -> Result<(), Error> {
    let message = Message::Accept {
        id: ID,
        first: Slot::new(1000),
        values: vec![Value::Batch(batch_of_64())],
        watermark: Slot::new(999),
    };
    let envelope = Envelope { group: GroupId::default(), message };
    let (mut bytes, mut incoming, mut decoded) = (Vec::new(), Incoming::new(FRAME_BYTES_MAX), 0);
    for _ in 0..count {
        bytes.clear();
        let fits = counted_encode(&mut bytes, &envelope);
        let sound = counted_decode(&mut incoming, &bytes, &mut decoded);
        if !fits || !sound {
            return Err("a frame does not come back".into());
        }
    }
    if decoded == count { Ok(()) } else { Err("a frame got lost".into()) }
}

#[inline(never)]
fn counted_encode(bytes: &mut Vec<u8>, envelope: &Envelope) -> bool {
    encode(bytes, envelope, FRAME_BYTES_MAX)
}

#[inline(never)]
fn counted_decode(incoming: &mut Incoming, bytes: &[u8], decoded: &mut u64) -> bool {
    incoming.read(bytes, |envelope| {
        *decoded += u64::from(matches!(envelope.message, Message::Accept { .. }));
    })
}
