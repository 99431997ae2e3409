//! Frames: how envelopes are cut out of a stream of bytes.
//!
//! A frame is a header of three big-endian `u32` and a payload: the payload's length, the payload's CRC-32, and the CRC-32 of
//! those two. TCP's own checksum misses one damaged segment in some ten thousand; the second CRC finds a damaged
//! length at once, instead of after as many bytes as it claims. A frame without a payload is a ping.
//!
//! Invariants: nothing is allocated on the word of a header, and nothing reaches the decoder that fails its CRC.
//! Knows nothing of: sockets, peers, time.

use bytes::{Buf, BytesMut};
use synod::codec::{self, CodecError};
use synod::transport::Envelope;

/// Bytes of a header.
pub(crate) const HEADER_BYTES: usize = 12;

/// What is read at a time, and all that a connection holds while it is silent.
pub(crate) const READ_BYTES: usize = 32 * 1024;

/// A reading buffer that grew above this is let go when it is empty.
const KEEP_BYTES: usize = 1 << 20;

/// Bytes that no correct peer sends.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("a frame header fails its checksum")]
    Header,
    #[error("a frame of {bytes} bytes is above the cap of {bytes_max}")]
    TooLong { bytes: usize, bytes_max: usize },
    #[error("a frame fails its checksum")]
    Checksum,
    #[error("a frame cannot be decoded")]
    Codec(#[from] CodecError),
    #[error("a proposal id is above the highest that is well formed")]
    ProposalId,
    #[error("a message came where only pings are due")]
    Unexpected,
}

/// The header of `payload`.
pub(crate) fn header(payload: &[u8]) -> [u8; HEADER_BYTES] {
    // Payloads are bounded by `Config::frame_bytes_max`, which fits.
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    let mut header = [0; HEADER_BYTES];
    header[..4].copy_from_slice(&length.to_be_bytes());
    header[4..8].copy_from_slice(&crc32fast::hash(payload).to_be_bytes());
    let check = crc32fast::hash(&header[..8]);
    header[8..].copy_from_slice(&check.to_be_bytes());
    header
}

/// A payload's length and checksum, from the header in front of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Header {
    pub(crate) length: usize,
    checksum: u32,
}

impl Header {
    /// Reads a header; refuses one that is damaged or claims more than `bytes_max`.
    pub(crate) fn read(bytes: &[u8; HEADER_BYTES], bytes_max: usize) -> Result<Self, FrameError> {
        let [length, checksum, check] =
            [0, 4, 8].map(|at| u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]));
        if crc32fast::hash(&bytes[..8]) != check {
            return Err(FrameError::Header);
        }
        let length = length as usize;
        if length > bytes_max {
            return Err(FrameError::TooLong { bytes: length, bytes_max });
        }
        Ok(Self { length, checksum })
    }

    /// Checks a payload against its header.
    pub(crate) fn check(self, payload: &[u8]) -> Result<(), FrameError> {
        if payload.len() == self.length && crc32fast::hash(payload) == self.checksum {
            return Ok(());
        }
        Err(FrameError::Checksum)
    }
}

/// One frame, taken apart.
#[derive(Debug)]
pub(crate) enum Frame {
    /// "I am still here."
    Ping,
    /// A message.
    Envelope(Envelope),
}

/// Cuts frames out of what was read.
#[derive(Debug)]
pub(crate) struct Frames {
    buffer: BytesMut,
    bytes_max: usize,
}

impl Frames {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { buffer: BytesMut::new(), bytes_max }
    }

    /// Where the next bytes go: always room for some, never for more than about twice what has arrived.
    pub(crate) fn room(&mut self) -> &mut BytesMut {
        if self.buffer.is_empty() && self.buffer.capacity() > KEEP_BYTES {
            self.buffer = BytesMut::new();
        }
        if self.buffer.capacity() - self.buffer.len() < READ_BYTES / 4 {
            self.buffer.reserve(READ_BYTES);
        }
        &mut self.buffer
    }

    /// The next whole frame, or `None` until more was read.
    pub(crate) fn next(&mut self) -> Result<Option<Frame>, FrameError> {
        let Some(bytes) = self.buffer.first_chunk::<HEADER_BYTES>() else {
            return Ok(None);
        };
        let header = Header::read(bytes, self.bytes_max)?;
        let Some(payload) = self.buffer.get(HEADER_BYTES..HEADER_BYTES + header.length) else {
            return Ok(None);
        };
        header.check(payload)?;
        let frame = if payload.is_empty() { Frame::Ping } else { Frame::Envelope(envelope(payload)?) };
        self.buffer.advance(HEADER_BYTES + header.length);
        Ok(Some(frame))
    }
}

fn envelope(payload: &[u8]) -> Result<Envelope, FrameError> {
    let envelope: Envelope = codec::decode(payload)?;
    if envelope.message.ids().any(|id| !id.is_well_formed()) {
        return Err(FrameError::ProposalId);
    }
    Ok(envelope)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;
    use synod::multi::{Message, Slot};
    use synod::paxos::{NodeId, ProposalId};
    use synod::transport::GroupId;

    fn sample() -> Envelope {
        let id = ProposalId::new(3, NodeId::new(1));
        Envelope { group: GroupId(0), message: Message::Prepare { id, from: Slot::new(9) } }
    }

    fn framed(payload: &[u8]) -> Vec<u8> {
        [&header(payload), payload].concat()
    }

    fn frames(bytes: &[u8]) -> Frames {
        let mut frames = Frames::new(1 << 20);
        frames.room().extend_from_slice(bytes);
        frames
    }

    #[test]
    fn frames_come_whole_whatever_the_pieces() {
        let bytes = [framed(&codec::encode(&sample()).unwrap()), framed(&[])].concat();
        for cut in 0..bytes.len() {
            let mut frames = frames(&bytes[..cut]);
            let mut found = Vec::new();
            while let Some(frame) = frames.next().unwrap() {
                found.push(frame);
            }
            frames.room().extend_from_slice(&bytes[cut..]);
            while let Some(frame) = frames.next().unwrap() {
                found.push(frame);
            }
            let [Frame::Envelope(envelope), Frame::Ping] = found.as_slice() else { panic!("{found:?}") };
            assert_eq!(*envelope, sample());
        }
    }

    #[test]
    fn no_single_damaged_byte_gets_through() {
        // fault F21
        let bytes = framed(&codec::encode(&sample()).unwrap());
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut damaged = bytes.clone();
                damaged[at] ^= 1 << bit;
                assert!(frames(&damaged).next().is_err(), "byte {at}, bit {bit}");
            }
        }
    }

    #[test]
    fn a_length_bomb_is_refused_before_anything_is_allocated() {
        // fault F35, scenario S2
        let mut bomb = [0xFF; HEADER_BYTES];
        let check = crc32fast::hash(&bomb[..8]);
        bomb[8..].copy_from_slice(&check.to_be_bytes());
        let mut frames = frames(&bomb);
        assert!(matches!(frames.next(), Err(FrameError::TooLong { bytes: 0xFFFF_FFFF, .. })));
        assert!(frames.buffer.capacity() < 64 * 1024);
    }

    #[test]
    fn a_header_within_the_cap_reserves_nothing_for_what_it_claims() {
        // fault F35
        let claimed = header(&vec![0; 1 << 20]);
        let mut frames = frames(&claimed);
        assert!(matches!(frames.next(), Ok(None)));
        frames.room();
        assert!(frames.buffer.capacity() < 64 * 1024, "{}", frames.buffer.capacity());
    }

    #[test]
    fn a_depth_bomb_is_a_typed_error() {
        // scenario S3
        assert!(matches!(frames(&framed(&[0x91; 200_000])).next(), Err(FrameError::Codec(_))));
    }

    #[test]
    fn trailing_bytes_are_refused() {
        // scenario S4
        let mut payload = codec::encode(&sample()).unwrap();
        payload.push(0xC0);
        let error = frames(&framed(&payload)).next().unwrap_err();
        assert!(matches!(error, FrameError::Codec(CodecError::LeftOver { count: 1 })), "{error}");
    }

    #[test]
    fn a_proposal_id_above_the_highest_is_refused() {
        let id = ProposalId::new(ProposalId::NUMBER_MAX + 1, NodeId::new(1));
        let envelope = Envelope { group: GroupId(0), message: Message::Prepare { id, from: Slot::FIRST } };
        let bytes = framed(&codec::encode(&envelope).unwrap());
        assert!(matches!(frames(&bytes).next(), Err(FrameError::ProposalId)));
    }

    #[test]
    fn a_buffer_that_grew_is_let_go_when_it_is_empty() {
        let mut frames = Frames::new(8 << 20);
        frames.room().extend_from_slice(&framed(&vec![0xC0; 4 << 20]));
        assert!(frames.next().is_err(), "not an envelope");
        frames.buffer.clear();
        frames.room();
        assert!(frames.buffer.capacity() <= KEEP_BYTES);
    }
}
