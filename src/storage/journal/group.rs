//! A group on disk: its header, with a checksum of its own, and its body.
//!
//! ```text
//! header := magic u32, CRC u32 of what follows in the header, header bytes u32, body bytes u32, body CRC u32,
//!           CRC of the header before it u32, cluster hash u64, node u64, disk u64, journal sequence u64, write sequence u64,
//!           synced segment u64, synced offset u64, promised number u64, promised node u64, facts u64, flags u32, 0 u32,
//!           run*
//! run    := log u32, kind u32, first u64, count u64                       little-endian
//! ```
//!
//! Every group is flushed before the next is written, so "synced length before it" is the place of the header itself: a
//! header that was written elsewhere, or left over from another disk, does not check. The runs say which slots the body
//! speaks of, so that they are known when the body is damaged. `facts` counts the records, ever, that no later one makes
//! up for. Headers stand at multiples of 64 bytes, where they are found again behind damage.

use super::{Position, Stamp};
use crate::multi::{Record, Sequence, Slot};
use crate::paxos::{NodeId, ProposalId};
use crate::storage::record::{Kind, slot_of};
use crate::transport::GroupId;
use bytes::Buf;

/// Where groups start, in bytes.
pub(super) const ALIGNMENT: usize = 64;
/// A header without runs.
pub(super) const FIXED_BYTES: usize = 112;
const RUN_BYTES: usize = 24;
const MAGIC: u32 = u32::from_le_bytes(*b"SYNg");
/// Where the checksummed part of the header begins.
const CHECKED_FROM: usize = 8;
const PROMISED: u32 = 1;
/// No record is shorter.
const RECORD_BYTES_MIN: usize = 9;

/// How many records so many bytes of groups can hold.
pub(super) fn records_max(bytes: u64) -> u64 {
    bytes / RECORD_BYTES_MIN as u64
}

/// What a header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// The journal's own count of groups, from 1, seals included.
    pub(super) sequence: u64,
    /// The newest write that the group or one before it holds.
    pub(super) written: Sequence,
    pub(super) previous_crc: u32,
    /// All before this place was flushed when the group was written; it is the group's own place.
    pub(super) synced: Position,
    pub(super) promised: Option<ProposalId>,
    /// Facts in all groups, this one included.
    pub(super) facts: u64,
    pub(super) runs: Vec<Run>,
    pub(super) body_bytes: usize,
    pub(super) body_crc: u32,
}

/// Records of one kind, at one slot after the other where they have one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) log: GroupId,
    pub(super) kind: Kind,
    pub(super) first: Slot,
    pub(super) count: u64,
}

/// Sums up which slots and kinds `records` are about.
pub(super) fn runs(records: &[Record]) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for record in records {
        let (kind, slot) = (Kind::of(record), slot_of(record).unwrap_or_default());
        match runs.last_mut() {
            Some(run) if run.kind == kind && (!kind.has_slot() || run.first.plus(run.count) == slot) => {
                run.count += 1
            }
            _ => runs.push(Run { log: GroupId::default(), kind, first: slot, count: 1 }),
        }
    }
    runs
}

/// The next multiple of the alignment, at or above `offset`.
pub(super) fn aligned(offset: usize) -> usize {
    offset.saturating_add(ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT
}

impl Header {
    /// How long a header with so many runs is.
    pub(super) fn bytes(runs: usize) -> usize {
        FIXED_BYTES + runs * RUN_BYTES
    }

    /// Writes itself over the front of `target`, and says its checksum.
    pub(super) fn write(&self, target: &mut [u8], stamp: Stamp) -> u32 {
        let header_bytes = Self::bytes(self.runs.len());
        let mut bytes = Vec::with_capacity(header_bytes);
        bytes.extend_from_slice(&MAGIC.to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        // A group is bounded far below 4 GiB before it comes here.
        for word in [header_bytes as u32, self.body_bytes as u32, self.body_crc, self.previous_crc] {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        let promised = self.promised.unwrap_or(ProposalId::new(0, NodeId::new(0)));
        let words = [
            stamp.cluster,
            stamp.node,
            stamp.disk,
            self.sequence,
            self.written.0,
            self.synced.segment,
            self.synced.offset as u64,
            promised.number,
            promised.node.get(),
            self.facts,
            u64::from(if self.promised.is_some() { PROMISED } else { 0 }),
        ];
        for word in words {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        for run in &self.runs {
            bytes.extend_from_slice(&run.log.0.to_le_bytes());
            bytes.extend_from_slice(&u32::from(run.kind as u8).to_le_bytes());
            bytes.extend_from_slice(&run.first.get().to_le_bytes());
            bytes.extend_from_slice(&run.count.to_le_bytes());
        }
        let crc = crc32fast::hash(&bytes[CHECKED_FROM..]);
        bytes[4..8].copy_from_slice(&crc.to_le_bytes());
        target[..header_bytes].copy_from_slice(&bytes);
        crc
    }

    /// The header at `position` and its checksum, if there is one; `segment` is the whole content of the segment from
    /// `base` on.
    pub(super) fn read(segment: &[u8], base: usize, position: Position, stamp: Stamp) -> Option<(Self, u32)> {
        let rest = segment.get(position.offset.checked_sub(base)?..)?;
        let mut fields = rest.get(..FIXED_BYTES)?;
        if fields.get_u32_le() != MAGIC {
            return None;
        }
        let crc = fields.get_u32_le();
        let header_bytes = fields.get_u32_le() as usize;
        let body_bytes = fields.get_u32_le() as usize;
        let checked = rest.get(CHECKED_FROM..header_bytes)?;
        let fits = header_bytes >= FIXED_BYTES && (header_bytes - FIXED_BYTES).is_multiple_of(RUN_BYTES);
        if !fits || crc32fast::hash(checked) != crc || rest.len() - header_bytes < body_bytes {
            return None;
        }
        let (body_crc, previous_crc) = (fields.get_u32_le(), fields.get_u32_le());
        let found =
            Stamp { cluster: fields.get_u64_le(), node: fields.get_u64_le(), disk: fields.get_u64_le() };
        let (sequence, written) = (fields.get_u64_le(), Sequence(fields.get_u64_le()));
        let synced =
            Position { segment: fields.get_u64_le(), offset: usize::try_from(fields.get_u64_le()).ok()? };
        if found != stamp || synced != position {
            return None;
        }
        let promised = ProposalId::new(fields.get_u64_le(), NodeId::new(fields.get_u64_le()));
        let (facts, flags) = (fields.get_u64_le(), fields.get_u32_le());
        let runs = read_runs(rest.get(FIXED_BYTES..header_bytes)?, body_bytes)?;
        let promised = (flags & PROMISED != 0).then_some(promised);
        let header =
            Self { sequence, written, previous_crc, synced, promised, facts, runs, body_bytes, body_crc };
        Some((header, crc))
    }

    /// Whether this group only says that the one before it was flushed.
    pub(super) fn is_seal(&self) -> bool {
        self.runs.is_empty()
    }

    /// The body behind the header, if it is the one that was written.
    pub(super) fn body<'a>(&self, segment: &'a [u8], base: usize) -> Option<&'a [u8]> {
        let start = self.synced.offset.checked_sub(base)? + Self::bytes(self.runs.len());
        let body = segment.get(start..start.checked_add(self.body_bytes)?)?;
        (crc32fast::hash(body) == self.body_crc).then_some(body)
    }

    /// Where the next group may start.
    pub(super) fn end(&self) -> usize {
        aligned(self.synced.offset + Self::bytes(self.runs.len()) + self.body_bytes)
    }

    /// The slots that the body says something about.
    pub(super) fn slots(&self) -> impl Iterator<Item = Slot> + '_ {
        let runs = self.runs.iter().filter(|run| run.kind.has_slot());
        runs.flat_map(|run| (0..run.count).map(|nth| run.first.plus(nth)))
    }

    /// The lowest slot that the body says something about, if any.
    pub(super) fn first_slot(&self) -> Option<Slot> {
        self.runs.iter().filter(|run| run.kind.has_slot()).map(|run| run.first).min()
    }

    /// The highest slot that the body says something about, or zero.
    pub(super) fn last_slot(&self) -> Slot {
        let runs = self.runs.iter().filter(|run| run.kind.has_slot());
        runs.map(|run| run.first.plus(run.count.saturating_sub(1))).max().unwrap_or_default()
    }

    /// How many facts the body holds.
    pub(super) fn own_facts(&self) -> u64 {
        self.runs.iter().filter(|run| run.kind.is_fact()).map(|run| run.count).sum()
    }
}

fn read_runs(mut bytes: &[u8], body_bytes: usize) -> Option<Vec<Run>> {
    let mut runs = Vec::with_capacity(bytes.len() / RUN_BYTES);
    let mut records_left = (body_bytes / RECORD_BYTES_MIN) as u64;
    while !bytes.is_empty() {
        let log = GroupId(bytes.try_get_u32_le().ok()?);
        let kind = Kind::from_number(u8::try_from(bytes.try_get_u32_le().ok()?).ok()?)?;
        let (first, count) = (Slot::new(bytes.try_get_u64_le().ok()?), bytes.try_get_u64_le().ok()?);
        records_left = records_left.checked_sub(count)?;
        runs.push(Run { log, kind, first, count });
    }
    Some(runs)
}

/// Reads any bytes as a group whose checksum is right and whose place is the one it names, as a fuzzer needs it, and
/// checks that what is understood is written and read again as the same.
#[cfg(feature = "testing")]
pub(crate) fn round_trip_of_any_group(bytes: &[u8]) {
    let mut segment = bytes.to_vec();
    let Some(mut fields) = bytes.get(24..FIXED_BYTES) else { return };
    let stamp = Stamp { cluster: fields.get_u64_le(), node: fields.get_u64_le(), disk: fields.get_u64_le() };
    fields.advance(16);
    // No segment is longer, and a place is one that the journal came to.
    let position =
        Position { segment: fields.get_u64_le(), offset: (fields.get_u64_le() as usize) % (1 << 30) };
    segment[..4].copy_from_slice(&MAGIC.to_le_bytes());
    segment[72..80].copy_from_slice(&(position.offset as u64).to_le_bytes());
    let header_bytes = u32::from_le_bytes([segment[8], segment[9], segment[10], segment[11]]) as usize;
    if let Some(checked) = segment.get(CHECKED_FROM..header_bytes) {
        let crc = crc32fast::hash(checked);
        segment[4..8].copy_from_slice(&crc.to_le_bytes());
    }
    let Some((header, _)) = Header::read(&segment, position.offset, position, stamp) else { return };
    assert!(
        header.slots().count() as u64 <= header.body_bytes as u64,
        "no more slots than the body has room for"
    );
    assert!(header.end() >= position.offset + Header::bytes(header.runs.len()) + header.body_bytes);
    assert!(header.first_slot().is_none_or(|first| first <= header.last_slot()));
    let mut again = segment.clone();
    let crc = header.write(&mut again, stamp);
    assert_eq!(Header::read(&again, position.offset, position, stamp), Some((header.clone(), crc)));
    if let Some(body) = header.body(&segment, position.offset) {
        crate::storage::record::round_trip_of_any_records(body);
    }
}
