//! Restoring: a state from a snapshot that is durable here, all or nothing (protocol 5.2).
//!
//! The state machine reads on a thread of its own, into a new one of the factory's; the arbiter reads the storage for it,
//! part by part, and checks the whole.
//! Never does: hand a state out before all of its snapshot was read and found right.

use super::aside::{Aside, Heard, Speaker};
use super::roster::Factory;
use super::state::{SnapshotHead, State};
use crate::multi::{Owner, SnapshotId};
use crate::node::{RestoreError, StateMachine};
use crate::storage::{Storage, StorageError};
use bytes::{Buf, Bytes};
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};

/// Why the state stays what it was.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotRestored {
    #[error("the snapshot cannot be read")]
    Storage(#[from] StorageError),
    #[error("its content fails its checksum")]
    Checksum,
    #[error("it is of another cluster, a later epoch or another slot: {0:?}")]
    Foreign(Box<SnapshotHead>),
    #[error("the state machine does not take it: {0}")]
    Refused(RestoreError),
    #[error("the state machine panicked: {0}")]
    Panicked(String),
    #[error("no thread can be started")]
    Thread(#[source] io::Error),
    #[error("the node stops")]
    Interrupted,
}

/// What the restoring thread says.
enum Asked<S> {
    /// The next part is wanted.
    More,
    Done(Result<(SnapshotHead, State<S>), RestoreError>),
}

/// Builds the state that `snapshot` holds.
pub(super) async fn restore<S: StateMachine>(
    storage: Arc<dyn Storage>,
    part_bytes: usize,
    snapshot: SnapshotId,
    owner: &Owner,
    factory: Arc<Factory<S>>,
) -> Result<State<S>, NotRestored> {
    let (parts, feed) = sync_channel(1);
    let mut restoring = Aside::start("synod-restore", move |speaker| {
        let mut feed = Feed { speaker, parts: feed, part: Bytes::new(), ended: false };
        let restored = State::restore((*factory)(), &mut feed);
        // Whoever does not hear it needs it no more.
        let _ = speaker.say(Asked::Done(restored));
    })
    .map_err(NotRestored::Thread)?;
    let mut content = Content { storage, part_bytes, snapshot, at: 0, checksum: crc32fast::Hasher::new() };
    loop {
        match restoring.next().await {
            Heard::Word(Asked::More) => {
                let part = content.next().await?;
                // A thread that has gone says why, or has said it.
                let _ = parts.try_send(part);
            }
            Heard::Word(Asked::Done(restored)) => {
                let (head, state) = restored.map_err(NotRestored::Refused)?;
                content.check().await?;
                // Forcing a membership begins a new epoch with the snapshots of the one before (10.2).
                let ours = head.cluster == owner.cluster && head.epoch <= owner.epoch;
                let right = ours && head.through == snapshot.through;
                return if right { Ok(state) } else { Err(NotRestored::Foreign(Box::new(head))) };
            }
            Heard::Panic(message) => return Err(NotRestored::Panicked(message)),
            Heard::End => return Err(NotRestored::Interrupted),
        }
    }
}

/// The content of a snapshot, as the storage has it.
struct Content {
    storage: Arc<dyn Storage>,
    part_bytes: usize,
    snapshot: SnapshotId,
    at: u64,
    checksum: crc32fast::Hasher,
}

impl Content {
    /// The next part; empty at the end.
    async fn next(&mut self) -> Result<Bytes, StorageError> {
        let part = self.storage.read_snapshot(self.snapshot, self.at, self.part_bytes).await?;
        self.at += part.len() as u64;
        self.checksum.update(&part);
        Ok(part)
    }

    /// Reads what is left, and checks the whole.
    async fn check(mut self) -> Result<(), NotRestored> {
        while self.at <= self.snapshot.bytes && !self.next().await?.is_empty() {}
        let right = self.at == self.snapshot.bytes && self.checksum.finalize() == self.snapshot.checksum;
        if right { Ok(()) } else { Err(NotRestored::Checksum) }
    }
}

/// What the state machine reads.
struct Feed<'a, S> {
    speaker: &'a Speaker<Asked<S>>,
    parts: Receiver<Bytes>,
    part: Bytes,
    ended: bool,
}

impl<S> Read for Feed<'_, S> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        if self.part.is_empty() && !self.ended && !bytes.is_empty() {
            let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
            self.speaker
                .say(Asked::More)
                .map_err(|unheard| io::Error::new(io::ErrorKind::BrokenPipe, unheard))?;
            self.part = self.parts.recv().map_err(gone)?;
            self.ended = self.part.is_empty();
        }
        let count = bytes.len().min(self.part.len());
        self.part.copy_to_slice(bytes.get_mut(..count).unwrap_or_default());
        Ok(count)
    }
}
