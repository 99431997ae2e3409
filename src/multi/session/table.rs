//! The table of sessions: which serials were applied, and with which replies (12.3, 12.4).
//!
//! Invariants: T1 a serial is new at most once. T2 which session expires follows from the log alone. T3 `by_use` names the
//! sessions of `by_id`, and no others.

use super::{SessionId, SessionStamp};
use crate::multi::message::Origin;
use crate::multi::slot::Slot;
use crate::paxos::NodeId;
use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::{BTreeMap, BTreeSet};

/// The sessions that are remembered: a fold of the log, and part of a snapshot (5.1).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sessions {
    by_id: BTreeMap<SessionId, Session>,
    /// The one that was used longest ago first.
    by_use: BTreeSet<(Slot, SessionId)>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Session {
    /// The last slot with a command of it.
    used: Slot,
    /// Who forwarded the wish for it: node, incarnation and serial.
    opener: Option<(NodeId, u64, u64)>,
    answered_through: u64,
    /// To the serials above `answered_through` that were applied.
    replies: BTreeMap<u64, Bytes>,
}

/// What becomes of a command with a stamp.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Apply it, and say [`Sessions::record`].
    New,
    /// It was applied before, with this reply.
    Known(Bytes),
    /// The session has expired, or never was.
    Expired,
    /// The client has said that it has the answer, or wants none.
    Answered,
    /// Its reply could not be kept: more than [`SessionStamp::OPEN_MAX`] serials above what is answered.
    TooFar,
}

impl Sessions {
    /// Opens the session whose entry stands at `id`, by the wish that `origin` forwarded, if any. Beyond `sessions_max`,
    /// which must come from the log, the one that was used longest ago expires.
    pub fn open(&mut self, id: SessionId, origin: Option<Origin>, sessions_max: u32) {
        let opener = origin.map(opener);
        let session = Session { used: id.slot, opener, answered_through: 0, replies: BTreeMap::new() };
        if let Some(old) = self.by_id.insert(id, session) {
            self.by_use.remove(&(old.used, id));
        }
        self.by_use.insert((id.slot, id));
        self.expire(sessions_max);
    }

    /// Lets those go that were used longest ago, down to `sessions_max`. Of those used in the same slot, the oldest goes first.
    pub fn expire(&mut self, sessions_max: u32) {
        let sessions_max = usize::try_from(sessions_max).unwrap_or(usize::MAX);
        while self.by_id.len() > sessions_max
            && let Some((_, id)) = self.by_use.pop_first()
        {
            self.by_id.remove(&id);
        }
    }

    /// What becomes of the command of `stamp` that was chosen in `slot`; asked in log order. Whatever that is, the session
    /// counts as used, and what the client says to be answered is forgotten.
    pub fn admit(&mut self, stamp: SessionStamp, slot: Slot) -> Admission {
        let Some(session) = self.by_id.get_mut(&stamp.session) else { return Admission::Expired };
        if session.used != slot {
            self.by_use.remove(&(session.used, stamp.session));
            self.by_use.insert((slot, stamp.session));
            session.used = slot;
        }
        if stamp.answered_through > session.answered_through {
            session.answered_through = stamp.answered_through;
            session.replies = session.replies.split_off(&stamp.answered_through.saturating_add(1));
        }
        let stamp = SessionStamp { answered_through: session.answered_through, ..stamp };
        match session.replies.get(&stamp.serial) {
            _ if stamp.is_answered() => Admission::Answered,
            _ if stamp.is_too_far() => Admission::TooFar,
            Some(reply) => Admission::Known(reply.clone()),
            None => Admission::New,
        }
    }

    /// The command of `stamp`, which was [`Admission::New`], was applied: keeps the encoded reply for whoever asks again.
    pub fn record(&mut self, stamp: SessionStamp, reply: Bytes) {
        if let Some(session) = self.by_id.get_mut(&stamp.session) {
            session.replies.insert(stamp.serial, reply);
        }
    }

    /// The session that was opened by the wish that `origin` forwarded: for a wish that comes again.
    pub fn opened_by(&self, origin: Origin) -> Option<SessionId> {
        let opener = Some(opener(origin));
        self.by_id.iter().find(|(_, session)| session.opener == opener).map(|(id, _)| *id)
    }

    /// How many are remembered.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }
}

fn opener(origin: Origin) -> (NodeId, u64, u64) {
    (origin.node, origin.incarnation, origin.serial)
}

impl Serialize for Sessions {
    fn serialize<W: Serializer>(&self, to: W) -> Result<W::Ok, W::Error> {
        self.by_id.serialize(to)
    }
}

impl<'de> Deserialize<'de> for Sessions {
    fn deserialize<R: Deserializer<'de>>(from: R) -> Result<Self, R::Error> {
        let by_id = BTreeMap::<SessionId, Session>::deserialize(from)?;
        let by_use = by_id.iter().map(|(id, session)| (session.used, *id)).collect();
        Ok(Self { by_id, by_use })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(slot: u64) -> SessionId {
        SessionId { slot: Slot::new(slot), index: 0 }
    }

    fn stamp(session: SessionId, serial: u64, answered_through: u64) -> SessionStamp {
        SessionStamp { session, serial, answered_through }
    }

    /// A table with sessions opened at `slots`, and room for `sessions_max`.
    fn table(slots: impl IntoIterator<Item = u64>, sessions_max: u32) -> Sessions {
        let mut table = Sessions::default();
        slots.into_iter().for_each(|slot| table.open(session(slot), None, sessions_max));
        table
    }

    fn apply(table: &mut Sessions, stamp: SessionStamp, slot: u64) {
        assert_eq!(table.admit(stamp, Slot::new(slot)), Admission::New);
        table.record(stamp, Bytes::from(format!("reply {}", stamp.serial)));
    }

    // protocol 12.3
    #[test]
    fn a_serial_is_applied_once_and_a_repeat_gets_the_same_reply() {
        let mut table = table([1], 9);
        let (first, second) = (stamp(session(1), 1, 0), stamp(session(1), 2, 0));
        apply(&mut table, second, 2);
        apply(&mut table, first, 3);
        assert_eq!(table.admit(second, Slot::new(4)), Admission::Known("reply 2".into()));
        assert_eq!(table.admit(first, Slot::new(4)), Admission::Known("reply 1".into()));
    }

    // protocol 12.3
    #[test]
    fn what_the_client_has_the_answer_to_is_refused_and_its_reply_forgotten() {
        let mut table = table([1], 9);
        (1..=3).for_each(|serial| apply(&mut table, stamp(session(1), serial, 0), 2));
        apply(&mut table, stamp(session(1), 4, 2), 3);
        let known = &table.by_id[&session(1)].replies;
        assert_eq!(known.keys().copied().collect::<Vec<_>>(), [3, 4]);
        for answered in [stamp(session(1), 1, 0), stamp(session(1), 2, 0), stamp(session(1), 0, 0)] {
            assert_eq!(table.admit(answered, Slot::new(4)), Admission::Answered);
        }
        assert_eq!(table.admit(stamp(session(1), 9, 9), Slot::new(4)), Admission::Answered);
        assert!(matches!(table.admit(stamp(session(1), u64::MAX, u64::MAX), Slot::MAX), Admission::Answered));
    }

    // protocol 12.3
    #[test]
    fn a_session_keeps_no_more_replies_than_may_be_open() {
        let mut table = table([1], 9);
        let last = SessionStamp::OPEN_MAX;
        for serial in (1..=last).rev() {
            apply(&mut table, stamp(session(1), serial, 0), 2);
        }
        assert_eq!(table.admit(stamp(session(1), last + 1, 0), Slot::new(3)), Admission::TooFar);
        assert_eq!(table.by_id[&session(1)].replies.len() as u64, last);
        apply(&mut table, stamp(session(1), last + 1, 1), 3);
        assert_eq!(table.by_id[&session(1)].replies.len() as u64, last);
    }

    // protocol 12.4
    #[test]
    fn beyond_the_count_the_session_that_was_used_longest_ago_expires() {
        let mut table = table([1, 2, 3], 3);
        apply(&mut table, stamp(session(1), 1, 0), 4);
        table.open(session(5), None, 3);
        assert_eq!(table.admit(stamp(session(2), 1, 0), Slot::new(6)), Admission::Expired);
        assert_eq!(table.admit(stamp(session(1), 1, 0), Slot::new(6)), Admission::Known("reply 1".into()));
        table.open(session(7), None, 3);
        assert_eq!(table.admit(stamp(session(3), 1, 0), Slot::new(8)), Admission::Expired);
        table.open(session(9), None, 1);
        assert_eq!(table.by_id.keys().copied().collect::<Vec<_>>(), [session(9)], "the count may shrink");
        assert_eq!(table.by_use.len(), 1);
    }

    // protocol 12.4
    #[test]
    fn of_sessions_used_in_the_same_slot_the_oldest_expires() {
        let mut table = table([1, 2, 3], 3);
        for number in [3, 1, 2] {
            apply(&mut table, stamp(session(number), 1, 0), 4);
        }
        table.expire(2);
        assert_eq!(table.by_id.keys().copied().collect::<Vec<_>>(), [session(2), session(3)]);
    }

    // protocol 12.3
    #[test]
    fn an_expired_session_is_not_brought_back_by_its_commands() {
        let mut table = table([1], 9);
        assert_eq!(table.admit(stamp(session(2), 1, 0), Slot::new(3)), Admission::Expired);
        table.record(stamp(session(2), 1, 0), Bytes::new());
        assert_eq!((table.len(), table.by_use.len()), (1, 1));
    }

    #[test]
    fn a_wish_that_comes_again_finds_the_session_that_it_opened() {
        let origin =
            |serial| Origin { node: NodeId::new(1), incarnation: 4, serial, answered_through: serial - 1 };
        let mut table = table([1], 9);
        table.open(session(2), Some(origin(7)), 9);
        let again = Origin { answered_through: 0, ..origin(7) };
        assert_eq!(table.opened_by(again), Some(session(2)));
        assert_eq!(table.opened_by(origin(8)), None);
    }
}
