//! For measuring: the two paths of a frame, as the connections walk them, without a socket.

use crate::frame::{Frame, Frames};
use crate::queue;
use synod::transport::Envelope;

/// Encodes `envelope` as a frame behind what `bytes` holds; whether it fits `frame_bytes_max`.
pub fn encode(bytes: &mut Vec<u8>, envelope: &Envelope, frame_bytes_max: usize) -> bool {
    queue::encode(bytes, envelope, frame_bytes_max).is_ok()
}

/// What arrives on one connection.
#[derive(Debug)]
pub struct Incoming(Frames);

impl Incoming {
    /// Nothing has arrived yet.
    pub fn new(frame_bytes_max: usize) -> Self {
        Self(Frames::new(frame_bytes_max))
    }

    /// `bytes` have arrived: all envelopes that are whole now go to `take`. False if a correct peer sends no such bytes.
    pub fn read(&mut self, bytes: &[u8], mut take: impl FnMut(Envelope)) -> bool {
        self.0.room().extend_from_slice(bytes);
        loop {
            match self.0.next() {
                Ok(Some(Frame::Envelope(envelope))) => take(envelope),
                Ok(Some(Frame::Ping)) => {}
                Ok(None) => return true,
                Err(_) => return false,
            }
        }
    }
}
