//! The state of a node: the state machine, and what makes a repeated command apply once.
//!
//! Both are functions of the log, so both stand in a snapshot (protocol 5.1).
//!
//! ```text
//! content of a snapshot := head, standing, origins, sessions      each a MessagePack value
//!                          state                                  as the state machine writes it
//! ```

use super::waiter::UNKNOWN;
use crate::codec;
use crate::multi::{
    Admission, ClusterId, Membership, Memberships, Origin, OriginTable, SessionId, SessionStamp, Sessions,
    Slot, Tag,
};
use crate::node::{Position, ProposeError, RestoreError, Snapshot, SnapshotReader, StateMachine};
use crate::paxos::NodeId;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::io::{self, Read};

/// What a snapshot says of itself (protocol 5.1).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    standing: Option<Standing>,
}

/// What is taken in by the memberships, as of the last slot that was applied, never newer: it is decided alike on every node,
/// and again when the log is applied again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Standing {
    /// How many sessions are remembered: a constant of the cluster, which every membership carries (protocol 12.4).
    sessions_max: u32,
    /// Who forwards commands. `None` after a forced membership (10.2), for a log that begins before it and does not say who
    /// its first members were.
    members: Option<BTreeSet<NodeId>>,
}

impl Standing {
    /// As of `through`.
    fn of(memberships: &Memberships, through: Slot) -> Option<Self> {
        let newest = memberships.newest()?;
        let known = memberships.governing(through.next()).is_some();
        Some(Self { sessions_max: newest.sessions_max(), members: known.then(|| members(newest)) })
    }
}

fn members(membership: &Membership) -> BTreeSet<NodeId> {
    membership.members().keys().copied().collect()
}

impl<S: StateMachine> State<S> {
    /// The state before the first command. It takes nothing in before it knows the first memberships.
    pub(crate) fn new(machine: S, memberships: Option<Memberships>) -> Self {
        let (origins, sessions) = (OriginTable::default(), Sessions::default());
        let standing = memberships.and_then(|memberships| Standing::of(&memberships, Slot::ZERO));
        Self { machine: Box::new(machine), origins, sessions, standing }
    }

    pub(crate) fn machine(&self) -> &S {
        &self.machine
    }

    /// Whether it knows which membership governs the next slot.
    pub(crate) fn has_begun(&self) -> bool {
        self.standing.is_some()
    }

    /// The memberships as of the last slot that was applied, for a state that knows none: the later ones come with the log.
    pub(crate) fn begin_with(&mut self, memberships: &Memberships, through: Slot) {
        if self.standing.is_none() {
            self.standing = Standing::of(memberships, through);
        }
    }

    /// The next slot holds a membership. Whom it leaves out forwards nothing any more.
    pub(crate) fn learn(&mut self, membership: &Membership) {
        if let Some(standing) = &mut self.standing {
            standing.members = Some(members(membership));
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
        self.sessions.expire(self.sessions_max());
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
        self.sessions.open(session, origin, self.sessions_max());
        Taken::Opened(session)
    }

    /// Only members forward: so the table of origins has an end, and a node that was removed, and is forgotten in it, can
    /// not bring a command back.
    fn is_of_a_member(&self, origin: Origin) -> bool {
        let standing = self.standing.as_ref();
        standing.is_some_and(|standing| {
            standing.members.as_ref().is_none_or(|members| members.contains(&origin.node))
        })
    }

    fn sessions_max(&self) -> u32 {
        let standing = self.standing.as_ref();
        standing.map_or(Membership::SESSIONS_MAX_DEFAULT, |standing| standing.sessions_max)
    }

    /// The state as it is now, to be written later.
    pub(crate) fn snapshot(&self, head: SnapshotHead) -> Snapshot {
        let (standing, origins, sessions) =
            (self.standing.clone(), self.origins.clone(), self.sessions.clone());
        let machine = self.machine.snapshot();
        Snapshot::new(move |out| {
            codec::encode_to(out, &head).map_err(io::Error::other)?;
            codec::encode_to(out, &standing).map_err(io::Error::other)?;
            codec::encode_to(out, &origins).map_err(io::Error::other)?;
            codec::encode_to(out, &sessions).map_err(io::Error::other)?;
            machine.write(out)
        })
    }

    /// Reads a snapshot into `machine`, which the factory has just made.
    pub(crate) fn restore(mut machine: S, from: &mut dyn Read) -> Result<(SnapshotHead, Self), RestoreError> {
        let head: SnapshotHead = codec::decode_from(from)?;
        let standing = codec::decode_from(from)?;
        let origins = codec::decode_from(from)?;
        let sessions = codec::decode_from(from)?;
        machine.restore(SnapshotReader::new(from))?;
        Ok((head, Self { machine: Box::new(machine), origins, sessions, standing }))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    /// The numbers that were added; the reply is how many.
    #[derive(Clone, Default)]
    struct Numbers(Vec<u64>);

    impl StateMachine for Numbers {
        type Command = u64;
        type Reply = usize;

        fn apply(&mut self, _: Position, number: u64) -> usize {
            self.0.push(number);
            self.0.len()
        }

        fn snapshot(&self) -> Snapshot {
            Snapshot::of(self.0.clone())
        }

        fn restore(&mut self, mut snapshot: SnapshotReader<'_>) -> Result<(), RestoreError> {
            self.0 = snapshot.decode()?;
            Ok(())
        }
    }

    fn voters(nodes: u64, sessions_max: u32) -> Membership {
        let membership = Membership::voters((1..=nodes).map(|node| (NodeId::new(node), ""))).unwrap();
        membership.with_alpha(4).unwrap().with_sessions_max(sessions_max)
    }

    fn state(sessions_max: u32) -> State<Numbers> {
        State::new(Numbers::default(), Some(Memberships::bootstrap(voters(3, sessions_max))))
    }

    fn at(slot: u64) -> Position {
        Position { slot: Slot::new(slot), index: 0 }
    }

    fn open(state: &mut State<Numbers>, slot: u64) -> SessionId {
        match state.take(at(slot), Tag::OpenSession(None), b"") {
            Taken::Opened(session) => session,
            other => panic!("{other:?}"),
        }
    }

    fn origin(node: u64, serial: u64) -> Origin {
        Origin { node: NodeId::new(node), incarnation: 1, serial, answered_through: 0 }
    }

    fn stamped(session: SessionId, serial: u64) -> Tag {
        Tag::InSession(SessionStamp { session, serial, answered_through: 0 })
    }

    fn add(state: &mut State<Numbers>, slot: u64, tag: Tag, number: u64) -> Taken<usize> {
        state.take(at(slot), tag, &codec::encode(&number).unwrap())
    }

    fn written(state: &State<Numbers>, through: u64) -> (SnapshotHead, Vec<u8>) {
        let through = Slot::new(through);
        let memberships = Memberships::bootstrap(voters(3, 9));
        let cluster = ClusterId::new("tests").unwrap();
        let head = SnapshotHead { cluster, epoch: 0, through, memberships };
        let mut bytes = Vec::new();
        state.snapshot(head.clone()).write(&mut bytes).unwrap();
        (head, bytes)
    }

    fn restored(state: &State<Numbers>, through: u64) -> State<Numbers> {
        let (head, bytes) = written(state, through);
        let (read, state) = State::restore(Numbers::default(), &mut bytes.as_slice()).unwrap();
        assert_eq!(read, head);
        state
    }

    fn is_expired(taken: &Taken<usize>) -> bool {
        matches!(taken, Taken::Refused(ProposeError::SessionExpired))
    }

    // protocol 5.1, 12.3, 12.4, scenario M7
    #[test]
    fn a_snapshot_keeps_what_was_applied_and_with_which_reply() {
        let mut before = state(9);
        let session = open(&mut before, 1);
        add(&mut before, 2, Tag::Plain, 70);
        let Taken::Kept(reply, encoded) = add(&mut before, 3, stamped(session, 1), 71) else { panic!() };
        assert_eq!((reply, codec::decode::<usize>(&encoded).unwrap()), (2, 2));
        add(&mut before, 4, Tag::Forwarded(origin(2, 1)), 72);
        let opened = before.take(at(5), Tag::OpenSession(Some(origin(2, 2))), b"");
        assert!(matches!(opened, Taken::Opened(session) if session.slot == Slot::new(5)));

        let mut after = restored(&before, 5);
        assert!(
            matches!(add(&mut after, 6, stamped(session, 1), 71), Taken::Known(reply) if reply == encoded)
        );
        assert!(matches!(add(&mut after, 7, Tag::Forwarded(origin(2, 1)), 72), Taken::Repeated));
        let again = after.take(at(8), Tag::OpenSession(Some(origin(2, 2))), b"");
        assert!(matches!(again, Taken::Opened(session) if session.slot == Slot::new(5)), "{again:?}");
        assert_eq!(after.machine().0, [70, 71, 72]);
        assert!(matches!(add(&mut after, 9, stamped(session, 2), 73), Taken::Kept(4, _)));
    }

    #[test]
    fn a_snapshot_that_ends_early_is_refused() {
        let mut state = state(9);
        open(&mut state, 1);
        add(&mut state, 2, Tag::Plain, 70);
        let bytes = written(&state, 2).1;
        for length in 0..bytes.len() {
            assert!(State::restore(Numbers::default(), &mut &bytes[..length]).is_err(), "{length} bytes");
        }
    }

    // protocol 12.4
    #[test]
    fn a_snapshot_says_how_many_sessions_are_remembered() {
        let mut live = state(2);
        let (first, second) = (open(&mut live, 1), open(&mut live, 2));
        assert!(matches!(add(&mut live, 3, stamped(first, 1), 70), Taken::Kept(1, _)));
        let mut after = restored(&live, 3);
        for state in [&mut live, &mut after] {
            open(state, 4);
            let expired = add(state, 5, stamped(second, 1), 71);
            assert!(is_expired(&expired), "{expired:?}");
            assert!(matches!(add(state, 5, stamped(first, 1), 70), Taken::Known(_)));
            assert_eq!(state.machine().0, [70], "without effect");
        }
        assert_eq!((&live.sessions, &live.origins), (&after.sessions, &after.origins));
    }

    // protocol 12.2, 6.5
    #[test]
    fn a_command_of_a_node_that_was_removed_does_not_come_back_when_its_origins_are_forgotten() {
        let mut state = state(9);
        assert!(matches!(add(&mut state, 1, Tag::Forwarded(origin(3, 1)), 70), Taken::Applied(1)));
        state.learn(&voters(2, 9));
        assert_eq!(state.origins, OriginTable::default());
        for (slot, tag) in [(3, Tag::Forwarded(origin(3, 1))), (4, Tag::OpenSession(Some(origin(3, 2))))] {
            let taken = add(&mut state, slot, tag, 70);
            assert!(matches!(taken, Taken::Refused(ProposeError::Unknown { .. })), "{taken:?}");
        }
        assert_eq!(state.machine().0, [70]);
        assert!(state.sessions.is_empty() && state.origins == OriginTable::default());
    }

    // protocol 12.3
    #[test]
    fn a_command_that_cannot_be_decoded_leaves_its_serial_to_one_that_can() {
        let mut state = state(9);
        let session = open(&mut state, 1);
        let taken = state.take(at(2), stamped(session, 1), b"\xC1");
        assert!(matches!(taken, Taken::Refused(ProposeError::Malformed)), "{taken:?}");
        assert!(matches!(add(&mut state, 3, stamped(session, 1), 70), Taken::Kept(1, _)));
    }

    #[test]
    fn a_state_begins_with_the_first_memberships_that_it_hears_of() {
        let mut state: State<Numbers> = State::new(Numbers::default(), None);
        assert!(!state.has_begun());
        state.begin_with(&Memberships::bootstrap(voters(3, 7)), Slot::ZERO);
        state.begin_with(&Memberships::bootstrap(voters(3, 8)), Slot::ZERO);
        assert_eq!(state.sessions_max(), 7);
    }

    // protocol 10.2, 12.2: whoever applies a log from before a force takes in what was taken in before it.
    #[test]
    fn a_log_that_is_older_than_a_forced_membership_is_applied_as_it_was_before() {
        let log = |state: &mut State<Numbers>| {
            add(state, 1, Tag::Forwarded(origin(3, 1)), 70);
            state.learn(&voters(2, 9));
            add(state, 3, Tag::Forwarded(origin(3, 2)), 71);
            add(state, 4, Tag::Forwarded(origin(2, 1)), 72);
        };
        let mut before = state(9);
        log(&mut before);
        let forced = Memberships::bootstrap(voters(3, 9)).alone_from(Slot::new(5), voters(1, 9));
        let mut after = State::new(Numbers::default(), Some(forced.as_of(Slot::ZERO)));
        log(&mut after);
        assert_eq!(before.machine().0, [70, 72]);
        assert_eq!((&after.machine().0, &after.origins), (&before.machine().0, &before.origins));
        assert_eq!((after.sessions_max(), after.standing), (9, before.standing));
    }
}
