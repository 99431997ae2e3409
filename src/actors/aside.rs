//! Aside: what takes long runs on a thread of its own, and says something to the arbiter now and then.
//!
//! A state machine writes and reads snapshots for as long as it likes; the arbiter has heartbeats to send meanwhile.
//! Invariants: A1 at most [`LINE`] things said wait to be heard, so a thread never runs far ahead. A2 when either side goes,
//! the other one hears it: the thread when it speaks next, the arbiter at once.

use super::pump::said;
use actix_rt::task::spawn_blocking;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

/// How much may be said that nobody has heard yet.
const LINE: usize = 1;

/// The arbiter's side of a thread.
pub(super) struct Aside<T> {
    /// Not here while somebody waits at it.
    line: Option<Receiver<Said<T>>>,
    /// Wakes who waits, when nobody wants to hear more.
    hang_up: SyncSender<Said<T>>,
}

/// What comes over the line.
enum Said<T> {
    Word(T),
    /// The last: the thread has ended, by a panic if it says so.
    End(Option<String>),
}

/// The thread's side.
pub(super) struct Speaker<T>(SyncSender<Said<T>>);

/// Nobody hears what is said any more.
#[derive(Debug, thiserror::Error)]
#[error("nobody wants it any more")]
pub(super) struct Unheard;

impl<T> Speaker<T> {
    /// Says `word`, once there is room on the line.
    pub(super) fn say(&self, word: T) -> Result<(), Unheard> {
        self.0.send(Said::Word(word)).map_err(|_| Unheard)
    }
}

/// What the thread says next.
#[derive(Debug)]
pub(super) enum Heard<T> {
    Word(T),
    /// It has ended.
    End,
    /// It has panicked, with these words.
    Panic(String),
}

impl<T: Send + 'static> Aside<T> {
    /// Starts a thread that does `work`.
    pub(super) fn start(
        name: &str,
        work: impl FnOnce(&Speaker<T>) + Send + 'static,
    ) -> Result<Self, io::Error> {
        let (sender, line) = sync_channel(LINE);
        let speaker = Speaker(sender.clone());
        thread::Builder::new().name(name.to_owned()).spawn(move || {
            let panicked = catch_unwind(AssertUnwindSafe(|| work(&speaker))).err();
            let end = Said::End(panicked.map(|panic| said(panic.as_ref())));
            // Whoever has hung up knows that it is over.
            let _ = speaker.0.send(end);
        })?;
        Ok(Self { line: Some(line), hang_up: sender })
    }

    /// Waits for what the thread says next.
    pub(super) async fn next(&mut self) -> Heard<T> {
        let Some(line) = self.line.take() else { return Heard::End };
        // Virtual time stands still while a blocking task is under way: so a test does not depend on how fast a thread is.
        let heard = spawn_blocking(move || {
            let heard = line.recv();
            (line, heard)
        });
        match heard.await {
            Ok((line, Ok(Said::Word(word)))) => {
                self.line = Some(line);
                Heard::Word(word)
            }
            Ok((_, Ok(Said::End(Some(message))))) => Heard::Panic(message),
            Ok((_, Ok(Said::End(None)) | Err(_))) | Err(_) => Heard::End,
        }
    }
}

impl<T> Drop for Aside<T> {
    fn drop(&mut self) {
        // When the line is full, who waits at it is about to wake.
        let _ = self.hang_up.try_send(Said::End(None));
    }
}
