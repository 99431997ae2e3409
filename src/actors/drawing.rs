//! Drawing: a snapshot of the own state, from the bytes of the state machine to what is durable (protocol 5.1).
//!
//! The bytes are drawn on a thread of their own, part by part, no faster than they are written; commits go on meanwhile.
//! Never does: seal a snapshot that was not drawn to its end.

use super::aside::{Aside, Heard, Speaker};
use super::pace::Pace;
use crate::multi::{Slot, SnapshotId};
use crate::node::{Snapshot, SnapshotError};
use crate::storage::Storage;
use bytes::Bytes;
use std::io::{self, Write};
use std::sync::Arc;

/// What the drawing thread says.
#[derive(Debug)]
enum Drawn {
    Part(Bytes),
    /// That was all.
    Whole,
    Failed(io::Error),
}

/// Draws `snapshot`, which was applied through `through`, and makes it durable.
pub(super) async fn take(
    storage: Arc<dyn Storage>,
    pace: &Pace,
    part_bytes: usize,
    through: Slot,
    snapshot: Snapshot,
) -> Result<SnapshotId, SnapshotError> {
    storage.begin_snapshot(through, None).await.map_err(SnapshotError::failed)?;
    let drawn = match draw(snapshot, part_bytes) {
        Ok(drawing) => write(&*storage, pace, drawing).await,
        Err(error) => Err(SnapshotError::failed(error)),
    };
    if let Err(error) = drawn {
        // Beginning anew gives back the space of what was written.
        let _ = storage.begin_snapshot(through, None).await;
        return Err(error);
    }
    storage.seal_snapshot().await.map_err(SnapshotError::failed)
}

async fn write(storage: &dyn Storage, pace: &Pace, mut drawing: Aside<Drawn>) -> Result<(), SnapshotError> {
    let mut at = 0;
    loop {
        match drawing.next().await {
            Heard::Word(Drawn::Part(part)) => {
                let bytes = part.len() as u64;
                pace.spend(bytes).await;
                storage.write_snapshot(at, part).await.map_err(SnapshotError::failed)?;
                at += bytes;
            }
            Heard::Word(Drawn::Whole) => return Ok(()),
            Heard::Word(Drawn::Failed(error)) => return Err(SnapshotError::failed(error)),
            Heard::Panic(message) => return Err(SnapshotError::Panicked { message }),
            Heard::End => return Err(SnapshotError::Interrupted),
        }
    }
}

/// Lets a thread of its own draw the bytes.
fn draw(snapshot: Snapshot, part_bytes: usize) -> io::Result<Aside<Drawn>> {
    Aside::start("synod-draw", move |speaker| {
        let mut parts = Parts { speaker, part: Vec::with_capacity(part_bytes), part_bytes };
        let drawn = snapshot.write(&mut parts).and_then(|()| parts.say());
        // Whoever does not hear it has given the snapshot up.
        let _ = speaker.say(drawn.map_or_else(Drawn::Failed, |()| Drawn::Whole));
    })
}

/// Cuts what is written into parts.
struct Parts<'a> {
    speaker: &'a Speaker<Drawn>,
    part: Vec<u8>,
    part_bytes: usize,
}

impl Parts<'_> {
    fn say(&mut self) -> io::Result<()> {
        if self.part.is_empty() {
            return Ok(());
        }
        let part = std::mem::replace(&mut self.part, Vec::with_capacity(self.part_bytes));
        self.speaker
            .say(Drawn::Part(part.into()))
            .map_err(|gone| io::Error::new(io::ErrorKind::BrokenPipe, gone))
    }
}

impl Write for Parts<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.part.len() >= self.part_bytes {
            self.say()?;
        }
        let (now, _) = bytes.split_at(bytes.len().min(self.part_bytes - self.part.len()));
        self.part.extend_from_slice(now);
        Ok(now.len())
    }

    /// Parts leave when they are full.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
