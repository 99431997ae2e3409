//! For fuzzers: what is decoded from outside, as pure functions of any bytes.
//!
//! Each decodes, and where it understands what it is given, encodes it again and asserts that the same is read back. None
//! panics otherwise, whatever the bytes are. A checksum would keep a fuzzer out: bytes are tried as they are and with the
//! checksum mended.

#[cfg(feature = "codec")]
mod wire;

#[cfg(feature = "file-storage")]
use crate::storage::{round_trip_of_any_group, round_trip_of_any_records, round_trip_of_any_snapshot};

#[cfg(feature = "codec")]
pub use wire::wire_message;

/// The journal's decoding: `bytes` as the records of a group, and as a group with its header.
///
/// # Panics
///
/// If what was decoded does not come back as it was: a bug.
#[cfg(feature = "file-storage")]
pub fn journal_record(bytes: &[u8]) {
    round_trip_of_any_records(bytes);
    round_trip_of_any_group(bytes);
}

/// The decoding of a snapshot file: `bytes` as its header and the blocks behind it.
///
/// # Panics
///
/// If what was decoded does not come back as it was: a bug.
#[cfg(feature = "file-storage")]
pub fn snapshot_header(bytes: &[u8]) {
    round_trip_of_any_snapshot(bytes);
}
