//! For fuzzers: what is decoded from outside, as pure functions of any bytes.
//!
//! Each decodes, and where it understands what it is given, encodes it again and asserts that the same is read back. None
//! panics otherwise, whatever the bytes are. A checksum would keep a fuzzer out: bytes are tried as they are and with the
//! checksum mended.

#[cfg(feature = "codec")]
mod wire;

#[cfg(feature = "codec")]
pub use wire::wire_message;
