//! The table of locks: the part that is replicated.
//!
//! In: [`LockCommand`], in the order of the log. Out: [`LockReply`].
//! State: who holds which name, and the counter of tokens.
//! Invariants: T1 tokens only grow, and none is given out twice. T2 a name has one holder at most. T3 no more than
//! `locks_max` names are held.
//! Knows nothing of: time. A time-out is a command like any other; see [`keep_time`](super::keep_time).

use crate::node::{Position, RestoreError, Snapshot, SnapshotReader, StateMachine};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// The longest name of a lock, in bytes.
pub const NAME_BYTES_MAX: usize = 256;

/// The longest name of an owner, in bytes.
pub const OWNER_BYTES_MAX: usize = 256;

/// The longest time that a holder may be silent: a week. Who wants a lock for longer renews it.
pub const TTL_MAX: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// How many names [`LockTable::default`] holds at most.
pub const LOCKS_MAX: usize = 4096;

/// The number of an acquisition: higher than that of every earlier one, of whatever lock of the table. Send it along with
/// all that is done under the lock, to a resource that refuses a lower one than it has seen.
#[doc(alias = "sequencer")]
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FencingToken(u64);

impl FencingToken {
    /// Below the token of every acquisition: what a resource has seen at the beginning.
    pub const ZERO: Self = Self(0);

    /// The token of this number, as a resource got it over a wire or read it from its disk.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// Its number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Debug for FencingToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "token {}", self.0)
    }
}

impl fmt::Display for FencingToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Who holds a lock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The name it gave itself.
    pub owner: String,
    /// Of its acquisition.
    pub token: FencingToken,
    /// How often it has renewed.
    pub renewal: u64,
    /// How long it may be silent.
    pub ttl: Duration,
}

/// A change of the table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LockCommand {
    /// Take `name`, if nobody holds it.
    Acquire {
        /// The lock.
        name: String,
        /// Who wants it.
        owner: String,
        /// Tells one request of `owner` from the next: a repeat of the request that got the lock gets the same token.
        request: u64,
        /// How long the holder may be silent; above zero, [`TTL_MAX`] at most.
        ttl: Duration,
    },
    /// The holder is alive: its time begins anew.
    Renew {
        /// The lock.
        name: String,
        /// Of the acquisition that is renewed.
        token: FencingToken,
    },
    /// The holder is done.
    Release {
        /// The lock.
        name: String,
        /// Of the acquisition that ends.
        token: FencingToken,
    },
    /// The holder has been silent for its time, as a leader measured it. Void if it has renewed or gone meanwhile.
    Expire {
        /// The lock.
        name: String,
        /// Of the acquisition that was silent.
        token: FencingToken,
        /// Its last renewal that the leader knew of.
        renewal: u64,
    },
}

/// What became of a [`LockCommand`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LockReply {
    /// The lock is held under this token.
    Acquired(FencingToken),
    /// Another request holds it.
    Held(Holder),
    /// The time of the holder begins anew.
    Renewed {
        /// Which renewal this was, from 1.
        renewal: u64,
    },
    /// The lock is free.
    Released,
    /// The lock is free.
    Expired,
    /// The token holds the lock no more, or has been renewed since: nothing has changed.
    Void,
    /// The command asks for what the table does not do: nothing has changed.
    Refused(LockRefusal),
}

/// Why a request is refused whoever makes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum LockRefusal {
    /// The name is longer than [`NAME_BYTES_MAX`].
    #[error("the name of the lock has {bytes} bytes, {NAME_BYTES_MAX} are allowed")]
    NameTooLong {
        /// Its length.
        bytes: usize,
    },
    /// The owner is longer than [`OWNER_BYTES_MAX`].
    #[error("the name of the owner has {bytes} bytes, {OWNER_BYTES_MAX} are allowed")]
    OwnerTooLong {
        /// Its length.
        bytes: usize,
    },
    /// The time is zero, or longer than [`TTL_MAX`].
    #[error("a time to live of {ttl:?} is not above zero and at most {TTL_MAX:?}")]
    TtlOutOfRange {
        /// The time.
        ttl: Duration,
    },
    /// As many names are held as the table holds.
    #[error("{locks_max} locks are held, which is all that the table holds")]
    Full {
        /// So many.
        locks_max: usize,
    },
    /// No higher token is left.
    #[error("the tokens of the table are used up")]
    TokensExhausted,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    holder: Holder,
    request: u64,
}

/// Who holds which lock. A [`StateMachine`] by itself, for a node that is a lock service and nothing else; or a field of your
/// own one, which hands it the lock commands among its own ([`HoldsLocks`](super::HoldsLocks)).
///
/// Who waits for a lock is not in the table: a waiter that goes away leaves nothing behind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockTable {
    locks_max: usize,
    last_token: FencingToken,
    entries: BTreeMap<String, Entry>,
}

impl Default for LockTable {
    /// For [`LOCKS_MAX`] names.
    fn default() -> Self {
        Self::with_locks_max(LOCKS_MAX)
    }
}

impl LockTable {
    /// A table in which `locks_max` names can be held at a time. The limit is a part of the state: every node must be given
    /// the same one at the beginning, and it stays.
    pub fn with_locks_max(locks_max: usize) -> Self {
        Self { locks_max, last_token: FencingToken::ZERO, entries: BTreeMap::new() }
    }

    /// Carries out a command. The same commands in the same order give the same replies and the same table.
    pub fn apply(&mut self, command: LockCommand) -> LockReply {
        match command {
            LockCommand::Acquire { name, owner, request, ttl } => self.acquire(name, owner, request, ttl),
            LockCommand::Renew { name, token } => self.renew(&name, token),
            LockCommand::Release { name, token } => {
                self.end(&name, LockReply::Released, |holder| holder.token == token)
            }
            LockCommand::Expire { name, token, renewal } => self
                .end(&name, LockReply::Expired, |holder| holder.token == token && holder.renewal == renewal),
        }
    }

    /// Who holds `name`.
    pub fn holder(&self, name: &str) -> Option<&Holder> {
        self.entries.get(name).map(|entry| &entry.holder)
    }

    /// Every lock that is held, in the order of the names.
    pub fn held(&self) -> impl Iterator<Item = (&str, &Holder)> {
        self.entries.iter().map(|(name, entry)| (name.as_str(), &entry.holder))
    }

    /// How many names can be held at a time.
    pub fn locks_max(&self) -> usize {
        self.locks_max
    }

    /// The token of the newest acquisition of all; [`FencingToken::ZERO`] before the first one.
    pub fn last_token(&self) -> FencingToken {
        self.last_token
    }

    fn acquire(&mut self, name: String, owner: String, request: u64, ttl: Duration) -> LockReply {
        if let Err(refusal) = check(&name, &owner, ttl) {
            return LockReply::Refused(refusal);
        }
        if let Some(Entry { holder, request: granted }) = self.entries.get(&name) {
            let is_repeat = holder.owner == owner && *granted == request;
            return if is_repeat {
                LockReply::Acquired(holder.token)
            } else {
                LockReply::Held(holder.clone())
            };
        }
        if self.entries.len() >= self.locks_max {
            return LockReply::Refused(LockRefusal::Full { locks_max: self.locks_max });
        }
        let Some(token) = self.last_token.0.checked_add(1).map(FencingToken) else {
            return LockReply::Refused(LockRefusal::TokensExhausted);
        };
        self.last_token = token;
        let holder = Holder { owner, token, renewal: 0, ttl };
        self.entries.insert(name, Entry { holder, request });
        LockReply::Acquired(token)
    }

    fn renew(&mut self, name: &str, token: FencingToken) -> LockReply {
        let holder = self.entries.get_mut(name).map(|entry| &mut entry.holder);
        let Some(holder) = holder.filter(|holder| holder.token == token) else { return LockReply::Void };
        // A renewal that was the same as the one before would let an `Expire` of that one through.
        let Some(renewal) = holder.renewal.checked_add(1) else { return LockReply::Void };
        holder.renewal = renewal;
        LockReply::Renewed { renewal }
    }

    /// Frees `name`, if its holder is the one that is meant.
    fn end(&mut self, name: &str, ended: LockReply, is_meant: impl FnOnce(&Holder) -> bool) -> LockReply {
        if self.holder(name).is_some_and(is_meant) {
            self.entries.remove(name);
            ended
        } else {
            LockReply::Void
        }
    }
}

/// Whether a request is one that a table may grant.
pub(super) fn check(name: &str, owner: &str, ttl: Duration) -> Result<(), LockRefusal> {
    if name.len() > NAME_BYTES_MAX {
        return Err(LockRefusal::NameTooLong { bytes: name.len() });
    }
    if owner.len() > OWNER_BYTES_MAX {
        return Err(LockRefusal::OwnerTooLong { bytes: owner.len() });
    }
    if ttl.is_zero() || ttl > TTL_MAX {
        return Err(LockRefusal::TtlOutOfRange { ttl });
    }
    Ok(())
}

impl StateMachine for LockTable {
    type Command = LockCommand;
    type Reply = LockReply;

    fn apply(&mut self, _at: Position, command: LockCommand) -> LockReply {
        self.apply(command)
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot::of(self.clone())
    }

    fn restore(&mut self, mut snapshot: SnapshotReader<'_>) -> Result<(), RestoreError> {
        *self = snapshot.decode()?;
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::codec;

    const TTL: Duration = Duration::from_secs(10);

    fn acquire(table: &mut LockTable, name: &str, owner: &str, request: u64) -> LockReply {
        let (name, owner) = (name.to_owned(), owner.to_owned());
        table.apply(LockCommand::Acquire { name, owner, request, ttl: TTL })
    }

    fn acquired(table: &mut LockTable, name: &str, owner: &str, request: u64) -> FencingToken {
        match acquire(table, name, owner, request) {
            LockReply::Acquired(token) => token,
            reply => panic!("{reply:?}"),
        }
    }

    fn renew(table: &mut LockTable, name: &str, token: FencingToken) -> LockReply {
        table.apply(LockCommand::Renew { name: name.to_owned(), token })
    }

    fn release(table: &mut LockTable, name: &str, token: FencingToken) -> LockReply {
        table.apply(LockCommand::Release { name: name.to_owned(), token })
    }

    fn expire(table: &mut LockTable, name: &str, token: FencingToken, renewal: u64) -> LockReply {
        table.apply(LockCommand::Expire { name: name.to_owned(), token, renewal })
    }

    #[test]
    fn a_held_lock_is_refused_with_its_holder_also_to_another_request_of_the_same_owner() {
        let mut table = LockTable::default();
        let token = acquired(&mut table, "disk", "a", 1);
        let holder = Holder { owner: "a".to_owned(), token, renewal: 0, ttl: TTL };
        assert_eq!(acquire(&mut table, "disk", "b", 1), LockReply::Held(holder.clone()));
        assert_eq!(acquire(&mut table, "disk", "a", 2), LockReply::Held(holder));
        assert_eq!(table.last_token(), token, "a refusal uses no token up");
    }

    // protocol 12.5
    #[test]
    fn every_acquisition_has_a_higher_token_than_all_before_it() {
        let mut table = LockTable::default();
        let mut last = FencingToken::ZERO;
        for request in 0..100 {
            let name = ["disk", "tape", "drum"][request as usize % 3];
            let token = acquired(&mut table, name, "a", request);
            assert!(token > last, "{token} after {last}");
            last = token;
            let ended = if request % 2 == 0 {
                release(&mut table, name, token)
            } else {
                expire(&mut table, name, token, 0)
            };
            assert_ne!(ended, LockReply::Void);
        }
    }

    // protocol 12.5
    #[test]
    fn a_repeat_of_the_request_that_got_the_lock_gets_the_same_token_and_no_more_time() {
        let mut table = LockTable::default();
        let token = acquired(&mut table, "disk", "a", 1);
        renew(&mut table, "disk", token);
        let before = table.clone();
        assert_eq!(acquire(&mut table, "disk", "a", 1), LockReply::Acquired(token));
        assert_eq!(table, before);
    }

    // protocol 12.5
    #[test]
    fn an_expire_is_void_once_the_holder_has_renewed() {
        let mut table = LockTable::default();
        let token = acquired(&mut table, "disk", "a", 1);
        assert_eq!(renew(&mut table, "disk", token), LockReply::Renewed { renewal: 1 });
        assert_eq!(expire(&mut table, "disk", token, 0), LockReply::Void);
        assert_eq!(table.holder("disk").unwrap().token, token);
        assert_eq!(expire(&mut table, "disk", token, 1), LockReply::Expired);
        assert_eq!(table.holder("disk"), None);
    }

    // protocol 12.5
    #[test]
    fn an_expire_is_void_once_another_holds_the_lock() {
        let mut table = LockTable::default();
        let first = acquired(&mut table, "disk", "a", 1);
        release(&mut table, "disk", first);
        let second = acquired(&mut table, "disk", "b", 1);
        assert_eq!(expire(&mut table, "disk", first, 0), LockReply::Void);
        assert_eq!(table.holder("disk").unwrap().token, second);
    }

    #[test]
    fn an_old_token_neither_renews_nor_releases() {
        let mut table = LockTable::default();
        let first = acquired(&mut table, "disk", "a", 1);
        expire(&mut table, "disk", first, 0);
        let second = acquired(&mut table, "disk", "b", 1);
        let before = table.clone();
        assert_eq!(renew(&mut table, "disk", first), LockReply::Void);
        assert_eq!(release(&mut table, "disk", first), LockReply::Void);
        assert_eq!(release(&mut table, "tape", second), LockReply::Void, "not held at all");
        assert_eq!(table, before);
    }

    #[test]
    fn what_is_too_long_or_out_of_range_is_refused_and_changes_nothing() {
        let mut table = LockTable::default();
        let fits = "x".repeat(NAME_BYTES_MAX);
        acquired(&mut table, &fits, &fits, 1);
        let before = table.clone();
        let long = "x".repeat(NAME_BYTES_MAX + 1);
        let name = LockRefusal::NameTooLong { bytes: 257 };
        assert_eq!(acquire(&mut table, &long, "a", 1), LockReply::Refused(name));
        let owner = LockRefusal::OwnerTooLong { bytes: 257 };
        assert_eq!(acquire(&mut table, "disk", &long, 1), LockReply::Refused(owner));
        for ttl in [Duration::ZERO, TTL_MAX + Duration::from_nanos(1)] {
            let (name, owner) = ("disk".to_owned(), "a".to_owned());
            let reply = table.apply(LockCommand::Acquire { name, owner, request: 1, ttl });
            assert_eq!(reply, LockReply::Refused(LockRefusal::TtlOutOfRange { ttl }));
        }
        assert_eq!(table, before);
    }

    #[test]
    fn a_full_table_refuses_a_further_name_until_one_is_free() {
        let mut table = LockTable::with_locks_max(2);
        let disk = acquired(&mut table, "disk", "a", 1);
        acquired(&mut table, "tape", "a", 2);
        let full = LockReply::Refused(LockRefusal::Full { locks_max: 2 });
        assert_eq!(acquire(&mut table, "drum", "b", 1), full);
        assert!(matches!(acquire(&mut table, "tape", "b", 1), LockReply::Held(_)), "it has a place");
        release(&mut table, "disk", disk);
        acquired(&mut table, "drum", "b", 1);
    }

    #[test]
    fn tokens_and_renewals_end_rather_than_begin_anew() {
        let mut table = LockTable { last_token: FencingToken(u64::MAX - 1), ..LockTable::default() };
        let last = acquired(&mut table, "disk", "a", 1);
        assert_eq!(acquire(&mut table, "tape", "a", 2), LockReply::Refused(LockRefusal::TokensExhausted));
        table.entries.get_mut("disk").unwrap().holder.renewal = u64::MAX;
        assert_eq!(renew(&mut table, "disk", last), LockReply::Void);
    }

    #[test]
    fn a_table_read_back_from_its_bytes_goes_on_alike() {
        let mut table = LockTable::with_locks_max(2);
        acquired(&mut table, "disk", "a", 1);
        acquired(&mut table, "tape", "b", 1);
        let mut again: LockTable = codec::decode(&codec::encode(&table).unwrap()).unwrap();
        assert_eq!(again, table);
        for name in ["disk", "tape", "drum"] {
            assert_eq!(acquire(&mut again, name, "a", 1), acquire(&mut table, name, "a", 1));
        }
    }
}
