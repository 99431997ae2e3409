//! The store: the state machine, and all that the cluster agrees on.
//!
//! In: [`Command`]s, in the order of the log. Out: [`Reply`]s.
//! Durable: nothing. A restarted node restores the newest snapshot and applies the log above it.
//! Invariants: `entries_digest` is the sum of the entries' hashes, so equal states have equal digests on all nodes.
//! A clone shares its entries with the original, so a snapshot of a million of them costs as little as one of none.
//! The locks are here too, so the store can tell whether a fenced write comes from who holds its lock still.
//! Knows nothing of: HTTP, nodes, leaders, time.

use crate::condition::{Condition, Version};
use bytes::Bytes;
use imbl::OrdMap;
use serde::{Deserialize, Serialize};
use std::ops::Bound;
use synod::lock::{FencingToken, HoldsLocks, LockCommand, LockReply, LockTable};
use synod::{Position, RestoreError, Snapshot, SnapshotReader, StateMachine};

/// A change that a client asks for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Command {
    /// Store `value` under `key`.
    Put { key: String, value: Bytes, terms: Terms },
    /// Forget `key`.
    Delete { key: String, terms: Terms },
    /// Take, keep or free a lock.
    Lock(LockCommand),
}

/// What has to hold for a write to be done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Terms {
    /// Of the present version.
    pub(crate) condition: Condition,
    /// The acquisition of this token holds its lock still.
    pub(crate) fence: Option<FencingToken>,
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Reply {
    /// The value is stored, as this version.
    Stored { version: Version, created: bool },
    /// The entry is gone.
    Deleted,
    /// There was no entry to delete.
    NotFound,
    /// The condition did not hold for what is there; nothing was changed.
    PreconditionFailed { current: Option<Version> },
    /// The token holds no lock any more; nothing was changed.
    Fenced { token: FencingToken },
    /// What became of a lock.
    Lock(LockReply),
}

/// A value and the write that stored it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(crate) value: Bytes,
    pub(crate) version: Version,
}

/// Keys and values, and who holds which lock.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Store {
    entries: OrdMap<String, Entry>,
    entries_digest: u64,
    locks: LockTable,
}

impl StateMachine for Store {
    type Command = Command;
    type Reply = Reply;

    fn apply(&mut self, at: Position, command: Command) -> Reply {
        match command {
            Command::Put { key, value, terms } => {
                self.put(key, Entry { value, version: Version(at) }, &terms)
            }
            Command::Delete { key, terms } => self.delete(&key, &terms),
            Command::Lock(command) => Reply::Lock(self.locks.apply(command)),
        }
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot::of(self.clone())
    }

    fn restore(&mut self, mut snapshot: SnapshotReader<'_>) -> Result<(), RestoreError> {
        let store: Self = snapshot.decode()?;
        let hashes = store.entries.iter().map(|(key, entry)| hash(key, entry));
        if hashes.fold(0, u64::wrapping_add) != store.entries_digest {
            return Err("the digest in the snapshot is not that of its entries".into());
        }
        *self = store;
        Ok(())
    }
}

impl Store {
    /// The entry under `key`.
    pub(crate) fn get(&self, key: &str) -> Option<&Entry> {
        self.entries.get(key)
    }

    /// The entries whose keys begin with `prefix`, in the order of their keys; from `after` on, without it.
    pub(crate) fn list(&self, prefix: &str, after: Option<&str>) -> impl Iterator<Item = (&String, &Entry)> {
        let from = match after {
            Some(after) if after >= prefix => Bound::Excluded(after.to_owned()),
            _ => Bound::Included(prefix.to_owned()),
        };
        self.entries.range((from, Bound::Unbounded)).take_while(move |(key, _)| key.starts_with(prefix))
    }

    /// A number that two stores share when they hold the same entries and locks, and practically only then.
    pub(crate) fn digest(&self) -> u64 {
        let locks = self.locks.held().map(|(name, holder)| {
            let numbers = [name.len() as u64, holder.token.get(), holder.renewal];
            fnv(&numbers, [name.as_bytes(), holder.owner.as_bytes()])
        });
        locks.fold(self.entries_digest.wrapping_add(self.locks.last_token().get()), u64::wrapping_add)
    }

    fn put(&mut self, key: String, entry: Entry, terms: &Terms) -> Reply {
        let created = match self.check(&key, terms) {
            Ok(current) => current.is_none(),
            Err(refusal) => return refusal,
        };
        let version = entry.version;
        self.entries_digest = self.entries_digest.wrapping_add(hash(&key, &entry));
        if let Some(old) = self.entries.insert(key.clone(), entry) {
            self.entries_digest = self.entries_digest.wrapping_sub(hash(&key, &old));
        }
        Reply::Stored { version, created }
    }

    fn delete(&mut self, key: &str, terms: &Terms) -> Reply {
        if let Err(refusal) = self.check(key, terms) {
            return refusal;
        }
        let Some(old) = self.entries.remove(key) else { return Reply::NotFound };
        self.entries_digest = self.entries_digest.wrapping_sub(hash(key, &old));
        Reply::Deleted
    }

    /// Whether a write to `key` may be done: the version that it finds, or the reply that says no.
    fn check(&self, key: &str, terms: &Terms) -> Result<Option<Version>, Reply> {
        if let Some(token) = terms.fence
            && !self.locks.held().any(|(_, holder)| holder.token == token)
        {
            return Err(Reply::Fenced { token });
        }
        let current = self.version(key);
        if terms.condition.holds(current) { Ok(current) } else { Err(Reply::PreconditionFailed { current }) }
    }

    fn version(&self, key: &str) -> Option<Version> {
        self.entries.get(key).map(|entry| entry.version)
    }
}

impl HoldsLocks for Store {
    fn locks(&self) -> &LockTable {
        &self.locks
    }

    fn lock_command(command: LockCommand) -> Command {
        Command::Lock(command)
    }

    fn lock_reply(reply: Reply) -> Option<LockReply> {
        match reply {
            Reply::Lock(reply) => Some(reply),
            _ => None,
        }
    }
}

fn hash(key: &str, Entry { value, version: Version(at) }: &Entry) -> u64 {
    let numbers = [key.len() as u64, value.len() as u64, at.slot.get(), at.index.into()];
    fnv(&numbers, [key.as_bytes(), value])
}

/// FNV-1a: unlike the standard library's hashers, the same in every build.
fn fnv(numbers: &[u64], texts: [&[u8]; 2]) -> u64 {
    let bytes = numbers
        .iter()
        .flat_map(|number| number.to_le_bytes())
        .chain(texts.into_iter().flat_map(|text| text.iter().copied()));
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::condition::Tags;
    use std::time::Duration;
    use synod::Slot;

    fn at(slot: u64) -> Position {
        Position { slot: Slot::new(slot), index: 0 }
    }

    fn put(key: &str, value: &'static str) -> Command {
        Command::Put { key: key.into(), value: value.into(), terms: Terms::default() }
    }

    fn delete(key: &str) -> Command {
        Command::Delete { key: key.into(), terms: Terms::default() }
    }

    fn only_if(version: u64) -> Terms {
        let if_match = Some(Tags::Versions(vec![Version(at(version))]));
        Terms { condition: Condition { if_match, if_none_match: None }, fence: None }
    }

    fn under(token: FencingToken) -> Terms {
        Terms { condition: Condition::default(), fence: Some(token) }
    }

    fn acquired(store: &mut Store, name: &str) -> FencingToken {
        let (name, owner, ttl) = (name.into(), "a".into(), Duration::from_secs(1));
        let acquire = LockCommand::Acquire { name, owner, request: 1, ttl };
        match store.apply(at(1), Command::Lock(acquire)) {
            Reply::Lock(LockReply::Acquired(token)) => token,
            reply => panic!("{reply:?}"),
        }
    }

    fn release(store: &mut Store, name: &str, token: FencingToken) {
        let release = LockCommand::Release { name: name.into(), token };
        assert_eq!(store.apply(at(1), Command::Lock(release)), Reply::Lock(LockReply::Released));
    }

    #[test]
    fn a_put_tells_a_new_key_from_a_known_one() {
        let mut store = Store::default();
        assert_eq!(
            store.apply(at(1), put("a", "1")),
            Reply::Stored { version: Version(at(1)), created: true }
        );
        assert_eq!(
            store.apply(at(2), put("a", "2")),
            Reply::Stored { version: Version(at(2)), created: false }
        );
        assert_eq!(store.get("a"), Some(&Entry { value: "2".into(), version: Version(at(2)) }));
    }

    #[test]
    fn a_put_on_an_old_version_changes_nothing() {
        let mut store = Store::default();
        store.apply(at(1), put("a", "1"));
        store.apply(at(2), put("a", "2"));
        let digest = store.digest();
        let late = Command::Put { key: "a".into(), value: "3".into(), terms: only_if(1) };
        assert_eq!(store.apply(at(3), late), Reply::PreconditionFailed { current: Some(Version(at(2))) });
        assert_eq!(store.get("a").map(|entry| &entry.value[..]), Some(&b"2"[..]));
        assert_eq!(store.digest(), digest);
    }

    #[test]
    fn of_two_creations_the_first_in_the_log_wins() {
        let mut store = Store::default();
        let create = |value: &'static str| Command::Put {
            key: "lock".into(),
            value: value.into(),
            terms: Terms {
                condition: Condition { if_match: None, if_none_match: Some(Tags::Any) },
                fence: None,
            },
        };
        assert_eq!(
            store.apply(at(1), create("mine")),
            Reply::Stored { version: Version(at(1)), created: true }
        );
        assert_eq!(
            store.apply(at(2), create("theirs")),
            Reply::PreconditionFailed { current: Some(Version(at(1))) }
        );
    }

    #[test]
    fn a_delete_says_whether_there_was_something() {
        let mut store = Store::default();
        store.apply(at(1), put("a", "1"));
        let late = Command::Delete { key: "a".into(), terms: only_if(9) };
        assert_eq!(store.apply(at(2), late), Reply::PreconditionFailed { current: Some(Version(at(1))) });
        assert_eq!(store.apply(at(3), delete("a")), Reply::Deleted);
        assert_eq!(store.apply(at(4), delete("a")), Reply::NotFound);
    }

    #[test]
    fn a_write_under_a_token_is_done_only_while_its_acquisition_lasts() {
        let mut store = Store::default();
        let first = acquired(&mut store, "disk");
        let write = |token| Command::Put { key: "a".into(), value: "1".into(), terms: under(token) };
        assert!(matches!(store.apply(at(2), write(first)), Reply::Stored { .. }));
        release(&mut store, "disk", first);
        assert_eq!(store.apply(at(3), write(first)), Reply::Fenced { token: first });
        let second = acquired(&mut store, "disk");
        assert_eq!(store.apply(at(4), write(first)), Reply::Fenced { token: first });
        let delete = Command::Delete { key: "a".into(), terms: under(first) };
        assert_eq!(store.apply(at(5), delete), Reply::Fenced { token: first });
        assert!(matches!(store.apply(at(6), write(second)), Reply::Stored { .. }));
    }

    #[test]
    fn a_token_of_another_lock_is_as_good() {
        let mut store = Store::default();
        let (disk, tape) = (acquired(&mut store, "disk"), acquired(&mut store, "tape"));
        release(&mut store, "tape", tape);
        assert!(store.check("a", &under(disk)).is_ok());
        assert_eq!(store.check("a", &under(tape)), Err(Reply::Fenced { token: tape }));
    }

    #[test]
    fn the_digest_tells_who_holds_which_lock() {
        let (mut one, mut other) = (Store::default(), Store::default());
        let token = acquired(&mut one, "disk");
        acquired(&mut other, "tape");
        assert_ne!(one.digest(), other.digest());
        release(&mut one, "disk", token);
        assert_ne!(one.digest(), Store::default().digest(), "a token was used up");
    }

    #[test]
    fn a_list_keeps_to_its_prefix_and_goes_on_after_a_key() {
        let mut store = Store::default();
        for (slot, key) in (1..).zip(["a", "b/1", "b/2", "b/3", "c"]) {
            store.apply(at(slot), put(key, "x"));
        }
        let keys = |prefix, after| store.list(prefix, after).map(|(key, _)| key.as_str()).collect::<Vec<_>>();
        assert_eq!(keys("b/", None), ["b/1", "b/2", "b/3"]);
        assert_eq!(keys("b/", Some("b/1")), ["b/2", "b/3"]);
        assert_eq!(keys("b/", Some("a")), ["b/1", "b/2", "b/3"]);
        assert_eq!(keys("b/", Some("c")), [""; 0]);
    }

    #[test]
    fn the_digest_tells_states_and_not_histories() {
        let (mut one, mut other) = (Store::default(), Store::default());
        one.apply(at(1), put("a", "1"));
        one.apply(at(2), put("b", "2"));
        one.apply(at(3), put("gone", "3"));
        one.apply(at(4), delete("gone"));
        other.apply(at(2), put("b", "2"));
        other.apply(at(1), put("a", "1"));
        assert_eq!(one.digest(), other.digest());
        other.apply(at(5), put("a", "1"));
        assert_ne!(one.digest(), other.digest(), "the same value, stored later, is another version");
    }

    #[test]
    fn an_empty_store_has_the_digest_zero_again() {
        let mut store = Store::default();
        store.apply(at(1), put("a", "1"));
        store.apply(at(2), put("a", "2"));
        assert_ne!(store.digest(), 0);
        store.apply(at(3), delete("a"));
        assert_eq!(store.digest(), 0);
    }

    fn filled(entries: u64) -> Store {
        let mut store = Store::default();
        acquired(&mut store, "disk");
        for slot in 1..=entries {
            store.apply(at(slot), put(&format!("key/{}", slot % 700), "some value"));
        }
        store
    }

    /// What a snapshot of `store` holds.
    fn bytes(store: &Store) -> Vec<u8> {
        synod::codec::encode(store).unwrap()
    }

    fn restored(bytes: &[u8]) -> Result<Store, RestoreError> {
        let mut store = Store::default();
        store.restore(SnapshotReader::new(&mut &bytes[..]))?;
        Ok(store)
    }

    #[test]
    fn a_restored_store_is_the_one_that_was_written_and_goes_on_like_it() {
        let mut store = filled(1000);
        let mut copy = restored(&bytes(&store)).unwrap();
        assert_eq!(copy.digest(), store.digest());
        for slot in 1001..1100 {
            let command = if slot % 3 == 0 { delete("key/5") } else { put("key/5", "newer") };
            assert_eq!(copy.apply(at(slot), command.clone()), store.apply(at(slot), command));
        }
        assert_eq!(bytes(&copy), bytes(&store));
    }

    #[test]
    fn equal_stores_are_written_as_equal_bytes_whatever_their_history() {
        let mut one = filled(1000);
        one.apply(at(2000), put("gone", "x"));
        one.apply(at(2001), delete("gone"));
        let other = restored(&bytes(&filled(1000))).unwrap();
        assert_eq!(bytes(&one), bytes(&other));
    }

    #[test]
    fn a_clone_shares_the_entries_and_stays_as_it_was() {
        let mut store = filled(1000);
        let before = bytes(&store);
        let clone = store.clone();
        assert!(clone.entries.ptr_eq(&store.entries));
        store.apply(at(2000), put("key/5", "newer"));
        store.apply(at(2001), delete("key/6"));
        assert_eq!(bytes(&clone), before);
        assert_ne!(clone.digest(), store.digest());
    }

    #[test]
    fn a_snapshot_that_is_none_or_contradicts_itself_leaves_the_store_alone() {
        let store = filled(10);
        let contradiction = Store { entries_digest: store.entries_digest.wrapping_add(1), ..store.clone() };
        let cut = bytes(&store);
        for wrong in [&bytes(&contradiction)[..], &cut[..cut.len() - 1], b"", b"no store"] {
            let mut present = store.clone();
            assert!(present.restore(SnapshotReader::new(&mut &wrong[..])).is_err());
            assert_eq!(bytes(&present), cut);
        }
    }
}
