//! The state of a node: the state machine, and what makes a repeated command apply once.
//!
//! Both are functions of the log, so both stand in a snapshot (protocol 5.1).
//!
//! ```text
//! content of a snapshot := head, origins, sessions      each a MessagePack value
//!                          state                        as the state machine writes it
//! ```

use super::waiter::UNKNOWN;
use crate::codec;
use crate::multi::{
    Admission, ClusterId, Membership, Memberships, Origin, OriginTable, SessionId, SessionStamp, Sessions,
    Slot, Tag,
};
use crate::node::{Position, ProposeError, RestoreError, Snapshot, SnapshotReader, StateMachine};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::io::{self, Read};

/// What a snapshot says of itself (protocol 5.1).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(not(test), allow(dead_code, reason = "no storage keeps snapshots yet"))]
pub(crate) struct SnapshotHead {
    /// Of which cluster.
    pub(crate) cluster: ClusterId,
    /// In which epoch of it.
    pub(crate) epoch: u64,
    /// The last slot that was applied.
    pub(crate) through: Slot,
    /// The memberships that govern the slots above, and the ids that are retired.
    pub(crate) memberships: Memberships,
}

/// What came of a command that was chosen.
#[derive(Debug)]
pub(crate) enum Taken<R> {
    /// Applied.
    Applied(R),
    /// Applied in a session, which keeps the encoded reply.
    Kept(R, Bytes),
    /// Its session shows that it was applied before, with this encoded reply.
    Known(Bytes),
    /// A session was opened: now, or when the same wish came first.
    Opened(SessionId),
    /// Not applied.
    Refused(ProposeError),
    /// Taken in before: whoever waits for the first one answers.
    Repeated,
}

/// A state machine and the commands that it has taken in.
pub(crate) struct State<S> {
    /// In a box, since an actor may be moved and a user's type need not be `Unpin`.
    machine: Box<S>,
    origins: OriginTable,
    sessions: Sessions,
    /// As of the last slot that was applied, never newer: what is decided by them has to be decided alike on every node.
    memberships: Option<Memberships>,
}

impl<S: StateMachine> State<S> {
    /// The state before the first command. It takes nothing in before it knows the first memberships.
    pub(crate) fn new(machine: S, memberships: Option<Memberships>) -> Self {
        let (origins, sessions) = (OriginTable::default(), Sessions::default());
        Self { machine: Box::new(machine), origins, sessions, memberships }
    }

    pub(crate) fn machine(&self) -> &S {
        &self.machine
    }

    /// Whether it knows which membership governs the next slot.
    pub(crate) fn has_begun(&self) -> bool {
        self.memberships.is_some()
    }

    /// The memberships as of the last slot that was applied, for a state that knows none: the later ones come with the log.
    pub(crate) fn begin_with(&mut self, memberships: Memberships) {
        let _ = self.memberships.get_or_insert(memberships);
    }

    /// The next slot holds a membership. Whom it leaves out forwards nothing any more.
    pub(crate) fn learn(&mut self, slot: Slot, membership: &Membership) {
        if let Some(memberships) = &mut self.memberships {
            memberships.learn(slot, membership);
            memberships.forget_below(slot);
        }
        self.origins.keep_members(membership);
    }

    /// Takes in the next command of the log.
    pub(crate) fn take(&mut self, at: Position, tag: Tag, command: &[u8]) -> Taken<S::Reply> {
        match tag {
            Tag::Plain => self.apply(at, command),
            Tag::Forwarded(origin) if !self.is_of_a_member(origin) => Taken::Refused(UNKNOWN),
            Tag::Forwarded(origin) if !self.origins.admit(origin) => Taken::Repeated,
            Tag::Forwarded(_) => self.apply(at, command),
            Tag::InSession(stamp) => self.apply_once(at, stamp, command),
            Tag::OpenSession(origin) => self.open_session(at, origin),
        }
    }

    fn apply(&mut self, at: Position, command: &[u8]) -> Taken<S::Reply> {
        match codec::decode::<S::Command>(command) {
            Ok(command) => Taken::Applied(self.machine.apply(at, command)),
            Err(_) => Taken::Refused(ProposeError::Malformed),
        }
    }

    /// Applies a command unless its session knows it (protocol 12.3).
    fn apply_once(&mut self, at: Position, stamp: SessionStamp, command: &[u8]) -> Taken<S::Reply> {
        self.sessions.expire(self.sessions_max(at.slot));
        match self.sessions.admit(stamp, at.slot) {
            Admission::New => {}
            Admission::Known(reply) => return Taken::Known(reply),
            Admission::Expired => return Taken::Refused(ProposeError::SessionExpired),
            Admission::Answered => return Taken::Refused(ProposeError::SerialAnswered),
            Admission::TooFar => return Taken::Refused(ProposeError::SerialTooFar),
        }
        match self.apply(at, command) {
            Taken::Applied(reply) => {
                // A reply that has no encoding is kept as nothing, which decodes as none: applied once all the same.
                let encoded = codec::encode(&reply).map(Bytes::from).unwrap_or_default();
                self.sessions.record(stamp, encoded.clone());
                Taken::Kept(reply, encoded)
            }
            other => other,
        }
    }

    fn open_session(&mut self, at: Position, origin: Option<Origin>) -> Taken<S::Reply> {
        if let Some(origin) = origin {
            if !self.is_of_a_member(origin) {
                return Taken::Refused(UNKNOWN);
            }
            if !self.origins.admit(origin) {
                return self.sessions.opened_by(origin).map_or(Taken::Repeated, Taken::Opened);
            }
        }
        let session = SessionId { slot: at.slot, index: at.index };
        self.sessions.open(session, origin, self.sessions_max(at.slot));
        Taken::Opened(session)
    }

    /// Only members forward: so the table of origins has an end, and a node that was removed, and is forgotten in it, can
    /// not bring a command back.
    fn is_of_a_member(&self, origin: Origin) -> bool {
        let newest = self.memberships.as_ref().and_then(Memberships::newest);
        newest.is_some_and(|membership| membership.members().contains_key(&origin.node))
    }

    /// How many sessions are remembered, by the membership that governs `slot` (protocol 12.4).
    fn sessions_max(&self, slot: Slot) -> u32 {
        let governing = self.memberships.as_ref().and_then(|memberships| memberships.governing(slot));
        governing.map_or(Membership::SESSIONS_MAX_DEFAULT, Membership::sessions_max)
    }

    /// The state as it is now, to be written later.
    #[cfg_attr(not(test), allow(dead_code, reason = "no storage keeps snapshots yet"))]
    pub(crate) fn snapshot(&self, head: SnapshotHead) -> Snapshot {
        let (origins, sessions) = (self.origins.clone(), self.sessions.clone());
        let machine = self.machine.snapshot();
        Snapshot::new(move |out| {
            codec::encode_to(out, &head).map_err(io::Error::other)?;
            codec::encode_to(out, &origins).map_err(io::Error::other)?;
            codec::encode_to(out, &sessions).map_err(io::Error::other)?;
            machine.write(out)
        })
    }

    /// Reads a snapshot into `machine`, which the factory has just made.
    #[cfg_attr(not(test), allow(dead_code, reason = "no storage keeps snapshots yet"))]
    pub(crate) fn restore(mut machine: S, from: &mut dyn Read) -> Result<(SnapshotHead, Self), RestoreError> {
        let head: SnapshotHead = codec::decode_from(from)?;
        let origins = codec::decode_from(from)?;
        let sessions = codec::decode_from(from)?;
        machine.restore(SnapshotReader::new(from))?;
        let memberships = Some(head.memberships.clone());
        Ok((head, Self { machine: Box::new(machine), origins, sessions, memberships }))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::multi::ClusterId;
    use crate::paxos::NodeId;

    /// Counts what it applies.
    #[derive(Debug, PartialEq)]
    struct Count(u64);

    impl StateMachine for Count {
        type Command = u64;
        type Reply = u64;

        fn apply(&mut self, _at: Position, command: u64) -> u64 {
            self.0 += command;
            self.0
        }

        fn snapshot(&self) -> Snapshot {
            Snapshot::of(self.0)
        }

        fn restore(&mut self, mut snapshot: SnapshotReader<'_>) -> Result<(), RestoreError> {
            self.0 = snapshot.decode()?;
            Ok(())
        }
    }

    fn at(slot: u64) -> Position {
        Position { slot: Slot::new(slot), index: 0 }
    }

    // protocol 5.1 and 12.4, scenario M7
    #[test]
    fn a_restored_state_answers_a_repeat_from_before_its_snapshot_and_applies_it_no_second_time() {
        let memberships = Memberships::bootstrap(Membership::voters([(NodeId::new(1), "")]).unwrap());
        let mut state = State::new(Count(0), Some(memberships.clone()));
        assert!(matches!(state.take(at(1), Tag::OpenSession(None), &[]), Taken::Opened(_)));
        let session = SessionId { slot: Slot::FIRST, index: 0 };
        let stamp = SessionStamp { session, serial: 1, answered_through: 0 };
        let five = codec::encode(&5_u64).unwrap();
        assert!(matches!(state.take(at(2), Tag::InSession(stamp), &five), Taken::Kept(5, _)));

        let cluster = ClusterId::new("state").unwrap();
        let head = SnapshotHead { cluster, epoch: 0, through: Slot::new(2), memberships };
        let mut bytes = Vec::new();
        state.snapshot(head.clone()).write(&mut bytes).unwrap();
        let (found, mut restored) = State::restore(Count(0), &mut bytes.as_slice()).unwrap();
        assert_eq!((found, restored.machine()), (head, &Count(5)));
        let repeat = restored.take(at(3), Tag::InSession(stamp), &five);
        assert!(matches!(repeat, Taken::Known(reply) if codec::decode::<u64>(&reply).unwrap() == 5));
        assert_eq!(restored.machine(), &Count(5));
    }

    #[test]
    fn a_snapshot_that_ends_early_is_refused() {
        let state = State::new(Count(7), None);
        let memberships = Memberships::bootstrap(Membership::voters([(NodeId::new(1), "")]).unwrap());
        let cluster = ClusterId::new("state").unwrap();
        let head = SnapshotHead { cluster, epoch: 0, through: Slot::ZERO, memberships };
        let mut bytes = Vec::new();
        state.snapshot(head).write(&mut bytes).unwrap();
        for length in 0..bytes.len() {
            assert!(State::restore(Count(0), &mut &bytes[..length]).is_err(), "{length} bytes");
        }
    }
}
