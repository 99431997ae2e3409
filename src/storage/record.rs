//! Records as bytes on disk.
//!
//! ```text
//! record := group u32, kind u8, length u32, content          little-endian
//! Promised  := number u64, node u64
//! Accepted  := slot u64, number u64, node u64, value
//! Chosen    := slot u64, value
//! Watermark := number u64, node u64, through u64
//! value     := 0 | 1, batch | 2, membership as MessagePack
//! others    := the whole record as MessagePack
//! ```
//!
//! The group says which log a record belongs to, so that many logs can share a journal; it is 0 until there are several.

use crate::codec;
use crate::multi::{Membership, Record, Slot, Value};
use crate::paxos::{NodeId, ProposalId};
use crate::transport::GroupId;
use bytes::{Buf, Bytes};

/// What a record is about, as its number on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Kind {
    Promised = 1,
    Accepted = 2,
    Chosen = 3,
    Watermark = 4,
    Formed = 5,
    PeerSeen = 6,
    PeerSequence = 7,
    Abstains = 8,
    Based = 9,
    Trimmed = 10,
    Unknown = 11,
    Forced = 12,
}

impl Kind {
    pub(crate) fn of(record: &Record) -> Self {
        match record {
            Record::Promised { .. } => Self::Promised,
            Record::Accepted { .. } => Self::Accepted,
            Record::Chosen { .. } => Self::Chosen,
            Record::Watermark { .. } => Self::Watermark,
            Record::Formed { .. } => Self::Formed,
            Record::PeerSeen { .. } => Self::PeerSeen,
            Record::PeerSequence { .. } => Self::PeerSequence,
            Record::Abstains { .. } => Self::Abstains,
            Record::Based { .. } => Self::Based,
            Record::Trimmed { .. } => Self::Trimmed,
            Record::Unknown { .. } => Self::Unknown,
            Record::Forced { .. } => Self::Forced,
        }
    }

    pub(crate) fn from_number(number: u8) -> Option<Self> {
        let kinds = [
            Self::Promised,
            Self::Accepted,
            Self::Chosen,
            Self::Watermark,
            Self::Formed,
            Self::PeerSeen,
            Self::PeerSequence,
            Self::Abstains,
            Self::Based,
            Self::Trimmed,
            Self::Unknown,
            Self::Forced,
        ];
        kinds.into_iter().find(|kind| *kind as u8 == number)
    }

    /// Whether the record says something about one slot.
    pub(crate) fn has_slot(self) -> bool {
        matches!(self, Self::Accepted | Self::Chosen)
    }

    /// Whether the record is a fact that nothing in later groups makes up for.
    pub(crate) fn is_fact(self) -> bool {
        matches!(self, Self::Formed | Self::PeerSeen | Self::Abstains | Self::Based | Self::Forced)
    }
}

/// The slot that `record` says something about.
pub(crate) fn slot_of(record: &Record) -> Option<Slot> {
    match record {
        Record::Accepted { slot, .. } | Record::Chosen { slot, .. } => Some(*slot),
        _ => None,
    }
}

/// The id that `record` raises the promise to.
pub(crate) fn promise_of(record: &Record) -> Option<ProposalId> {
    match record {
        Record::Promised { id } | Record::Accepted { id, .. } => Some(*id),
        _ => None,
    }
}

/// Bytes that are no record, though their checksum is right: another program wrote them.
#[derive(Debug, thiserror::Error)]
#[error("a record cannot be encoded or decoded")]
pub(crate) struct MalformedRecord;

const PREFIX_BYTES: usize = 9;

/// Writes `record` behind what `bytes` holds.
pub(crate) fn encode(bytes: &mut Vec<u8>, group: GroupId, record: &Record) -> Result<(), MalformedRecord> {
    let start = bytes.len();
    bytes.extend_from_slice(&group.0.to_le_bytes());
    bytes.push(Kind::of(record) as u8);
    bytes.extend_from_slice(&[0; 4]);
    match record {
        Record::Promised { id } => put_id(bytes, *id),
        Record::Accepted { slot, id, value } => {
            bytes.extend_from_slice(&slot.get().to_le_bytes());
            put_id(bytes, *id);
            put_value(bytes, value)?;
        }
        Record::Chosen { slot, value } => {
            bytes.extend_from_slice(&slot.get().to_le_bytes());
            put_value(bytes, value)?;
        }
        Record::Watermark { id, through } => {
            put_id(bytes, *id);
            bytes.extend_from_slice(&through.get().to_le_bytes());
        }
        Record::Formed { .. }
        | Record::PeerSeen { .. }
        | Record::PeerSequence { .. }
        | Record::Abstains { .. }
        | Record::Based { .. }
        | Record::Trimmed { .. }
        | Record::Unknown { .. }
        | Record::Forced { .. } => {
            codec::encode_into(bytes, record).map_err(|_| MalformedRecord)?;
        }
    }
    let length = u32::try_from(bytes.len() - start - PREFIX_BYTES).map_err(|_| MalformedRecord)?;
    let at = start + PREFIX_BYTES - 4;
    bytes[at..at + 4].copy_from_slice(&length.to_le_bytes());
    Ok(())
}

fn put_id(bytes: &mut Vec<u8>, id: ProposalId) {
    bytes.extend_from_slice(&id.number.to_le_bytes());
    bytes.extend_from_slice(&id.node.get().to_le_bytes());
}

fn put_value(bytes: &mut Vec<u8>, value: &Value) -> Result<(), MalformedRecord> {
    match value {
        Value::Noop => bytes.push(0),
        Value::Batch(batch) => {
            bytes.push(1);
            bytes.extend_from_slice(batch);
        }
        Value::Membership(membership) => {
            bytes.push(2);
            codec::encode_into(bytes, membership).map_err(|_| MalformedRecord)?;
        }
    }
    Ok(())
}

/// Takes the next record off the front of `bytes`. Copies the batch, so that it does not keep the whole group in memory.
pub(crate) fn decode(bytes: &mut &[u8]) -> Result<(GroupId, Record), MalformedRecord> {
    let group = GroupId(bytes.try_get_u32_le().map_err(|_| MalformedRecord)?);
    let kind = bytes.try_get_u8().ok().and_then(Kind::from_number).ok_or(MalformedRecord)?;
    let length = bytes.try_get_u32_le().map_err(|_| MalformedRecord)? as usize;
    let (mut content, rest) = bytes.split_at_checked(length).ok_or(MalformedRecord)?;
    *bytes = rest;
    let record = match kind {
        Kind::Promised => Record::Promised { id: take_id(&mut content)? },
        Kind::Accepted => Record::Accepted {
            slot: take_slot(&mut content)?,
            id: take_id(&mut content)?,
            value: take_value(&mut content)?,
        },
        Kind::Chosen => Record::Chosen { slot: take_slot(&mut content)?, value: take_value(&mut content)? },
        Kind::Watermark => {
            Record::Watermark { id: take_id(&mut content)?, through: take_slot(&mut content)? }
        }
        Kind::Formed
        | Kind::PeerSeen
        | Kind::PeerSequence
        | Kind::Abstains
        | Kind::Based
        | Kind::Trimmed
        | Kind::Unknown
        | Kind::Forced => {
            let record: Record = codec::decode(std::mem::take(&mut content)).map_err(|_| MalformedRecord)?;
            let sound = match &record {
                Record::Formed { membership, .. } => membership.check().is_ok(),
                Record::Based { base } => base.memberships.is_well_formed(),
                Record::Forced { memberships, .. } => memberships.is_well_formed(),
                _ => true,
            };
            if !sound {
                return Err(MalformedRecord);
            }
            record
        }
    };
    if !content.is_empty() || Kind::of(&record) != kind {
        return Err(MalformedRecord);
    }
    Ok((group, record))
}

fn take_u64(bytes: &mut &[u8]) -> Result<u64, MalformedRecord> {
    bytes.try_get_u64_le().map_err(|_| MalformedRecord)
}

fn take_slot(bytes: &mut &[u8]) -> Result<Slot, MalformedRecord> {
    take_u64(bytes).map(Slot::new)
}

fn take_id(bytes: &mut &[u8]) -> Result<ProposalId, MalformedRecord> {
    Ok(ProposalId::new(take_u64(bytes)?, NodeId::new(take_u64(bytes)?)))
}

fn take_value(bytes: &mut &[u8]) -> Result<Value, MalformedRecord> {
    let tag = bytes.try_get_u8().map_err(|_| MalformedRecord)?;
    let content = std::mem::take(bytes);
    match tag {
        0 if content.is_empty() => Ok(Value::Noop),
        1 => Ok(Value::Batch(Bytes::copy_from_slice(content))),
        2 => {
            let membership: Membership = codec::decode(content).map_err(|_| MalformedRecord)?;
            membership.check().map_err(|_| MalformedRecord)?;
            Ok(Value::Membership(membership))
        }
        _ => Err(MalformedRecord),
    }
}

/// Reads any bytes as records, as a fuzzer needs it, and checks that each that is understood is written and read again as
/// the same.
#[cfg(feature = "testing")]
pub(crate) fn round_trip_of_any_records(mut bytes: &[u8]) {
    while !bytes.is_empty() {
        let before = bytes;
        let Ok((group, record)) = decode(&mut bytes) else { return };
        let read = before.len() - bytes.len();
        let mut again = Vec::new();
        assert!(encode(&mut again, group, &record).is_ok(), "what was decoded can be encoded");
        let fixed = matches!(Kind::of(&record), Kind::Promised | Kind::Watermark)
            || matches!(
                record,
                Record::Accepted { value: Value::Noop | Value::Batch(_), .. }
                    | Record::Chosen { value: Value::Noop | Value::Batch(_), .. }
            );
        // MessagePack has several forms for one number; the rest has one.
        assert!(!fixed || before.get(..read) == Some(again.as_slice()), "a record has one form");
        let mut rest = again.as_slice();
        let decoded = decode(&mut rest).ok();
        assert!(rest.is_empty() && decoded == Some((group, record)), "a record comes back as it was");
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::multi::{
        AbstainReason, Base, DiskId, Incarnation, Interval, Memberships, Sequence, SnapshotId,
    };
    use std::collections::BTreeMap;

    fn records() -> Vec<Record> {
        let node = NodeId::new(3);
        let id = ProposalId::new(7, node);
        let membership = Membership::voters([(node, "a:1")]).unwrap();
        let slot = Slot::new(9);
        let memberships = Memberships::bootstrap(membership.clone());
        let disks = BTreeMap::from([(node, DiskId(4))]);
        let snapshot = Some(SnapshotId { through: slot, bytes: 8, checksum: 3 });
        vec![
            Record::Forced { epoch: 2, memberships: memberships.clone() },
            Record::Based { base: Base { through: slot, memberships, disks, snapshot } },
            Record::Trimmed { through: slot },
            Record::Unknown { slots: vec![Interval::new(slot, Slot::MAX)] },
            Record::Promised { id },
            Record::Accepted { slot, id, value: Value::Noop },
            Record::Accepted { slot, id, value: Value::Batch(Bytes::from_static(b"batch")) },
            Record::Accepted { slot, id, value: Value::Membership(membership.clone()) },
            Record::Chosen { slot, value: Value::Batch(Bytes::new()) },
            Record::Watermark { id, through: slot },
            Record::Formed { membership, disks: BTreeMap::from([(node, DiskId(4))]) },
            Record::PeerSeen { node, disk: DiskId(4), incarnation: Incarnation { counter: 1, nonce: 2 } },
            Record::PeerSequence { node, sequence: Sequence(5) },
            Record::Abstains { reason: AbstainReason::StaleIncarnation },
        ]
    }

    #[test]
    fn every_record_comes_back_as_it_was() {
        let mut bytes = Vec::new();
        for record in records() {
            encode(&mut bytes, GroupId(2), &record).unwrap();
        }
        let mut rest = bytes.as_slice();
        for record in records() {
            assert_eq!(decode(&mut rest).unwrap(), (GroupId(2), record));
        }
        assert!(rest.is_empty());
    }

    #[test]
    fn no_changed_or_cut_byte_makes_decoding_panic() {
        for record in records() {
            let mut bytes = Vec::new();
            encode(&mut bytes, GroupId(0), &record).unwrap();
            for at in 0..bytes.len() {
                let _ = decode(&mut &bytes[..at]).unwrap_err();
                for mask in [1, 0x80, 0xff] {
                    bytes[at] ^= mask;
                    let _ = decode(&mut bytes.as_slice());
                    bytes[at] ^= mask;
                }
            }
        }
    }
}
