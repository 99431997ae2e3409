//! Snapshots of a state machine, as it writes and reads them: a stream of bytes, drawn off the node's own thread.

use crate::codec;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::{self, Read, Write};

/// A copy of a state that writes its bytes later, on another thread, while the state machine goes on.
///
/// It has to be cheap to make, since the node does nothing else meanwhile: a clone of a small state, or of one that shares
/// its parts.
pub struct Snapshot(Box<WriteFn>);

type WriteFn = dyn FnOnce(&mut dyn Write) -> io::Result<()> + Send;

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Snapshot").finish_non_exhaustive()
    }
}

impl Snapshot {
    /// A snapshot that `write` writes. An error gives this snapshot up; the log is cut with a later one.
    pub fn new(write: impl FnOnce(&mut dyn Write) -> io::Result<()> + Send + 'static) -> Self {
        Self(Box::new(write))
    }

    /// A snapshot of `state` as MessagePack; [`SnapshotReader::decode`] reads it.
    pub fn of(state: impl Serialize + Send + 'static) -> Self {
        Self::new(move |out| codec::encode_to(out, &state).map_err(io::Error::other))
    }

    /// Writes it.
    pub(crate) fn write(self, out: &mut dyn Write) -> io::Result<()> {
        (self.0)(out)
    }
}

/// The bytes of a snapshot, in the order in which they were written.
pub struct SnapshotReader<'a>(&'a mut dyn Read);

impl std::fmt::Debug for SnapshotReader<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SnapshotReader").finish_non_exhaustive()
    }
}

impl<'a> SnapshotReader<'a> {
    /// Reads what `bytes` holds: the node does so, and tests of a state machine may.
    pub fn new(bytes: &'a mut dyn Read) -> Self {
        Self(bytes)
    }

    /// The state that [`Snapshot::of`] wrote.
    ///
    /// # Errors
    ///
    /// If the bytes are no such state.
    pub fn decode<T: DeserializeOwned>(&mut self) -> Result<T, RestoreError> {
        codec::decode_from(self.0).map_err(RestoreError::from)
    }
}

impl Read for SnapshotReader<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.0.read(bytes)
    }
}

/// Why a state machine cannot take a snapshot's state.
pub type RestoreError = Box<dyn std::error::Error + Send + Sync>;
