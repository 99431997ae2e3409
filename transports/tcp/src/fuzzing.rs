//! For fuzzers: what arrives on a connection, as a pure function of any bytes.

use crate::frame::{self, Frame, Frames, READ_BYTES};
use crate::handshake::Hello;
use synod::codec;
use synod::multi::Refusal;

/// The longest frame that is taken: small enough that a fuzzer reaches beyond it.
const FRAME_BYTES_MAX: usize = 64 * 1024;

/// The cutting of frames: `bytes` as what was read from a connection, whole and in pieces, and as the payload of a frame
/// whose checksums are right; and as the parts of a handshake.
///
/// # Panics
///
/// If a frame that was understood does not come back as it was, if the pieces make a difference, or if more is kept than
/// was read: a bug.
pub fn frame(bytes: &[u8]) {
    let whole = cut(bytes, bytes.len().max(1), FRAME_BYTES_MAX);
    assert_eq!(whole, cut(bytes, 7, FRAME_BYTES_MAX), "the pieces in which bytes come make a difference");
    let framed = [&frame::header(bytes), bytes].concat();
    // An encoding may be longer than what it was decoded from, for names may be written as numbers.
    for envelope in whole.into_iter().chain(cut(&framed, framed.len(), FRAME_BYTES_MAX)).flatten() {
        let again = [&frame::header(&envelope), envelope.as_slice()].concat();
        assert_eq!(cut(&again, again.len(), usize::MAX), [Some(envelope)]);
    }
    if let Ok(hello) = codec::decode::<Hello>(bytes) {
        let again = codec::encode(&hello).ok().and_then(|bytes| codec::decode::<Hello>(&bytes).ok());
        assert_eq!(
            again.map(|again| (again.identity, again.answers_here)),
            Some((hello.identity, hello.answers_here))
        );
    }
    if let Ok(verdict) = codec::decode::<Result<(), Refusal>>(bytes) {
        let again = codec::encode(&verdict).ok().and_then(|bytes| codec::decode(&bytes).ok());
        assert_eq!(again, Some(verdict));
    }
}

/// What comes out when so many bytes are read at a time: each envelope encoded anew, `None` for a ping, until the first error.
fn cut(bytes: &[u8], piece: usize, bytes_max: usize) -> Vec<Option<Vec<u8>>> {
    let mut frames = Frames::new(bytes_max);
    let mut found = Vec::new();
    let mut read = 0;
    for piece in bytes.chunks(piece) {
        let room = frames.room();
        room.extend_from_slice(piece);
        read += piece.len();
        let kept = room.capacity();
        assert!(kept <= 2 * (read + READ_BYTES), "{kept} bytes are kept of {read} that were read");
        loop {
            match frames.next() {
                Ok(Some(Frame::Ping)) => found.push(None),
                Ok(Some(Frame::Envelope(envelope))) => found.push(codec::encode(&envelope).ok()),
                Ok(None) => break,
                Err(_) => return found,
            }
        }
    }
    found
}
