//! MessagePack, bounded: how envelopes, identities, records and commands become bytes.
//!
//! Decoding takes exactly the bytes it is given, nests at most [`DEPTH_MAX`] deep and never panics; how long an input may
//! be is for the caller to bound, before it allocates.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// How deep a value may nest. (The library's own default overflows the stack in debug builds.)
pub const DEPTH_MAX: usize = 32;

/// A value that cannot be encoded or decoded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CodecError {
    /// The value has no MessagePack form.
    #[error("a value cannot be encoded")]
    Encode(#[source] rmp_serde::encode::Error),
    /// The bytes are no such value.
    #[error("bytes cannot be decoded")]
    Decode(#[source] rmp_serde::decode::Error),
    /// Bytes are left over after the value.
    #[error("{count} bytes are left over after the value")]
    LeftOver {
        /// How many.
        count: usize,
    },
}

/// Encodes `value` as MessagePack, structs as arrays.
///
/// # Errors
///
/// [`CodecError::Encode`] if it has no such form.
pub fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, CodecError> {
    let mut bytes = Vec::with_capacity(128);
    encode_into(&mut bytes, value)?;
    Ok(bytes)
}

/// Encodes `value` behind what `bytes` holds already.
///
/// # Errors
///
/// [`CodecError::Encode`] if it has no such form; `bytes` may then hold a part of it.
pub fn encode_into<T: Serialize + ?Sized>(bytes: &mut Vec<u8>, value: &T) -> Result<(), CodecError> {
    rmp_serde::encode::write(bytes, value).map_err(CodecError::Encode)
}

/// Encodes `value` into `out`, which may be a file or a connection.
///
/// # Errors
///
/// [`CodecError::Encode`] if it has no such form, or `out` fails.
pub fn encode_to<T: Serialize + ?Sized>(
    mut out: &mut dyn std::io::Write,
    value: &T,
) -> Result<(), CodecError> {
    rmp_serde::encode::write(&mut out, value).map_err(CodecError::Encode)
}

/// Decodes one value from `from`, and reads no further than its end.
///
/// # Errors
///
/// [`CodecError::Decode`] if the bytes are no such value, nest too deep, or `from` fails.
pub fn decode_from<T: DeserializeOwned>(from: &mut dyn std::io::Read) -> Result<T, CodecError> {
    let mut decoder = rmp_serde::Deserializer::new(from);
    decoder.set_max_depth(DEPTH_MAX);
    T::deserialize(&mut decoder).map_err(CodecError::Decode)
}

/// Decodes exactly one value from `bytes`.
///
/// # Errors
///
/// [`CodecError`] if the bytes are no such value, nest too deep, or go on after it.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    // Reading the slice itself, not a stream of it, spares an allocation for each value: 0.6 times the instructions for a small
    // one.
    let mut decoder = rmp_serde::Deserializer::from_read_ref(bytes);
    decoder.set_max_depth(DEPTH_MAX);
    let value = T::deserialize(&mut decoder).map_err(CodecError::Decode)?;
    // This decoder does not say how much it has read; but only at the end is there no marker to be read.
    match bool::deserialize(&mut decoder) {
        Err(rmp_serde::decode::Error::InvalidMarkerRead(_)) => Ok(value),
        _ => Err(CodecError::LeftOver { count: left_over::<T>(bytes) }),
    }
}

/// How many bytes are left over behind a value.
fn left_over<T: DeserializeOwned>(mut bytes: &[u8]) -> usize {
    let mut decoder = rmp_serde::Deserializer::new(&mut bytes);
    decoder.set_max_depth(DEPTH_MAX);
    // It was decoded before.
    let _ = T::deserialize(&mut decoder);
    bytes.len()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_left_over_behind_a_value_is_noticed_and_counted() {
        let value = ("text".to_owned(), 7u64, Some(vec![1u8, 2]));
        let encoded = encode(&value).unwrap();
        assert_eq!(decode::<(String, u64, Option<Vec<u8>>)>(&encoded).unwrap(), value);
        // Each marker, among them those of values that are not whole.
        for marker in 0..=u8::MAX {
            for rest in [vec![marker], vec![marker, 0x91], vec![marker, 0, 0, 0, 1]] {
                let longer = [encoded.as_slice(), &rest].concat();
                let decoded = decode::<(String, u64, Option<Vec<u8>>)>(&longer);
                let count = rest.len();
                assert!(
                    matches!(decoded, Err(CodecError::LeftOver { count: found }) if found == count),
                    "{rest:02x?}: {decoded:?}"
                );
            }
        }
    }
}
