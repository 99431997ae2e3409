//! Sessions: what makes a repeated command apply once.
//!
//! A client that wants to retry opens a session, by an entry of the log, and numbers its commands ([`SessionStamp`]). The
//! numbers stand in the log with the commands, and the [`Sessions`] table is folded from it: so every node, every later
//! leader and every snapshot knows which ones were applied, and with which reply (12.3). A command that a node forwards
//! for a client without a session carries an [`Origin`](super::Origin) in their place, in [`OriginTable`] (12.2).
//!
//! Invariants: S1 a serial of a session is applied at most once. S2 at most [`SessionStamp::OPEN_MAX`] replies are kept of
//! a session, and at most as many sessions as the membership says.

mod origins;
mod table;

pub use origins::OriginTable;
pub use table::{Admission, Sessions};

use super::slot::Slot;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Which session: the place of the log entry that opened it. Written as `slot.index`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SessionId {
    /// The slot.
    pub slot: Slot,
    /// The place in the slot's batch, from 0.
    pub index: u32,
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.slot, self.index)
    }
}

/// A text that is no session id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a session id is two numbers with a dot between them")]
pub struct SessionIdError;

impl FromStr for SessionId {
    type Err = SessionIdError;

    fn from_str(text: &str) -> Result<Self, SessionIdError> {
        let (slot, index) = text.split_once('.').ok_or(SessionIdError)?;
        let slot = slot.parse().map(Slot::new).map_err(|_| SessionIdError)?;
        Ok(Self { slot, index: index.parse().map_err(|_| SessionIdError)? })
    }
}

/// Which command of which session: the same stamp is the same command, however often it is proposed.
#[doc(alias = "idempotency key")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SessionStamp {
    /// The session.
    pub session: SessionId,
    /// Counts the commands of the session, from 1.
    pub serial: u64,
    /// The client has every answer through this serial, or wants none: none of these commands may be applied any more, and
    /// their replies are forgotten.
    pub answered_through: u64,
}

impl SessionStamp {
    /// How far a serial may be above `answered_through`: so many replies of a session are kept at most.
    pub const OPEN_MAX: u64 = 64;

    /// Whether so many serials lie above `answered_through` that the reply to this one is not kept.
    pub fn is_too_far(&self) -> bool {
        self.serial.saturating_sub(self.answered_through) > Self::OPEN_MAX
    }

    /// Whether the client has said itself that it has the answer.
    pub fn is_answered(&self) -> bool {
        self.serial <= self.answered_through
    }
}

/// What a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Request {
    /// Apply the command.
    Plain,
    /// Apply the command, unless the session shows that it was applied before: then answer as before.
    InSession(SessionStamp),
    /// Open a session; there is no command.
    OpenSession,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_id_is_read_back_from_its_text_and_from_no_other() {
        let id = SessionId { slot: Slot::new(120), index: 3 };
        assert_eq!(id.to_string().parse(), Ok(id));
        for text in ["", ".", "1", "1.", ".1", "1.2.3", "-1.2", "1.-2", "1.4294967296"] {
            assert_eq!(text.parse::<SessionId>(), Err(SessionIdError), "{text}");
        }
    }

    #[test]
    fn a_serial_is_open_within_the_bound_above_what_is_answered() {
        let session = SessionId { slot: Slot::FIRST, index: 0 };
        let stamp = |serial, answered_through| SessionStamp { session, serial, answered_through };
        assert!(!stamp(SessionStamp::OPEN_MAX, 0).is_too_far());
        assert!(stamp(SessionStamp::OPEN_MAX + 1, 0).is_too_far());
        assert!(stamp(u64::MAX, 0).is_too_far() && !stamp(0, u64::MAX).is_too_far());
        assert!(stamp(3, 3).is_answered() && !stamp(4, 3).is_answered());
    }
}
