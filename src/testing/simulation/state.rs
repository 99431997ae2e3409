//! The state of a simulated node: the state machine, the sessions of its clients, and a digest of all that came of it.

use super::simulated::Simulated;
use crate::codec;
use crate::multi::{Admission, Batch, Membership, SessionId, SessionStamp, Sessions, Slot, Tag, Value};
use bytes::Bytes;

/// Folds `bytes` into a digest (FNV-1a).
pub(super) fn mix(digest: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(digest, |digest, byte| (digest ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

/// Folds a word into a digest.
pub(super) fn mix_word(digest: u64, word: u64) -> u64 {
    let mixed = (digest ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ (mixed >> 29)
}

/// What came of a command that was chosen.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Outcome<R> {
    /// A session was opened.
    Opened(SessionId),
    /// It was applied.
    Applied(SessionStamp, R),
    /// It was applied before, with this reply.
    Known(SessionStamp, R),
    /// It was not applied, nor will it be.
    Refused,
}

/// A state machine, and what makes a repeated command apply once.
#[derive(Debug)]
pub(super) struct State<S> {
    pub(super) through: Slot,
    /// Two nodes that applied the same, with the same replies, have the same.
    pub(super) digest: u64,
    pub(super) sessions_max: u32,
    /// A breakage: what a session knows is applied again.
    pub(super) repeats: bool,
    sessions: Sessions,
    machine: S,
}

impl<S: Simulated> State<S> {
    pub(super) fn new(machine: S, sessions_max: u32) -> Self {
        let sessions = Sessions::default();
        Self { through: Slot::ZERO, digest: 0, sessions_max, repeats: false, sessions, machine }
    }

    pub(super) fn machine(&self) -> &S {
        &self.machine
    }

    /// Takes the next slot in; what came of its commands, in their order.
    pub(super) fn apply(&mut self, slot: Slot, value: &Value) -> Vec<Outcome<S::Reply>> {
        self.through = slot;
        let kind = match value {
            Value::Noop => 1,
            Value::Membership(_) => 2,
            Value::Batch(bytes) => 3 + bytes.len() as u64,
        };
        self.digest = mix_word(self.digest ^ slot.get(), kind);
        let Value::Batch(bytes) = value else { return Vec::new() };
        let Ok(batch) = Batch::read(bytes.clone()) else { return Vec::new() };
        let commands = batch.map_while(Result::ok).zip(0..);
        commands.map(|((tag, command), index)| self.take(SessionId { slot, index }, &tag, &command)).collect()
    }

    fn take(&mut self, at: SessionId, tag: &Tag, command: &[u8]) -> Outcome<S::Reply> {
        match tag {
            Tag::OpenSession(_) => {
                self.sessions.open(at, None, self.sessions_max);
                Outcome::Opened(at)
            }
            Tag::InSession(stamp) => self.apply_once(at.slot, *stamp, command),
            _ => Outcome::Refused,
        }
    }

    fn apply_once(&mut self, slot: Slot, stamp: SessionStamp, command: &[u8]) -> Outcome<S::Reply> {
        match self.sessions.admit(stamp, slot) {
            Admission::New => {}
            Admission::Known(_) if self.repeats => {}
            Admission::Known(reply) => {
                return codec::decode(&reply).map_or(Outcome::Refused, |reply| Outcome::Known(stamp, reply));
            }
            _ => return Outcome::Refused,
        }
        let Ok(command) = codec::decode::<S::Command>(command) else { return Outcome::Refused };
        let reply = self.machine.apply(&command);
        let encoded = codec::encode(&reply).map(Bytes::from).unwrap_or_default();
        self.digest = mix(self.digest, &encoded);
        self.sessions.record(stamp, encoded);
        Outcome::Applied(stamp, reply)
    }

    /// What a snapshot of it holds.
    pub(super) fn content(&self) -> Bytes {
        let whole = (self.through, self.digest, &self.sessions, self.machine.snapshot());
        codec::encode(&whole).map(Bytes::from).unwrap_or_default()
    }

    /// A breakage: as this one, but the state machine holds nothing.
    pub(super) fn emptied(&self, machine: S) -> Option<Self> {
        let (through, digest, repeats) = (self.through, self.digest, self.repeats);
        let sessions = self.sessions.clone();
        Some(Self { through, digest, sessions_max: self.sessions_max, repeats, sessions, machine })
    }

    /// The state that `content` holds, in place of this one, with `machine` new.
    pub(super) fn restored(&self, machine: S, content: &[u8]) -> Option<Self> {
        let (through, digest, sessions, snapshot): (Slot, u64, Sessions, Vec<u8>) =
            codec::decode(content).ok()?;
        let machine = machine.restore(&snapshot)?;
        Some(Self {
            through,
            digest,
            sessions_max: self.sessions_max,
            repeats: self.repeats,
            sessions,
            machine,
        })
    }
}

/// How many sessions a cluster remembers where the seed says nothing else.
pub(super) const SESSIONS_MAX: u32 = Membership::SESSIONS_MAX_DEFAULT;
