//! The store: the state machine, and all that the cluster agrees on.
//!
//! In: [`Command`]s, in the order of the log. Out: [`Reply`]s.
//! Durable: nothing. A restarted node restores the newest snapshot and applies the log above it.
//! Invariants: `digest` is the sum of the entries' hashes, so equal states have equal digests on all nodes.
//! A clone shares its entries with the original, so a snapshot of a million of them costs as little as one of none.
//! Knows nothing of: HTTP, nodes, leaders, time.

use crate::condition::{Condition, Version};
use bytes::Bytes;
use imbl::OrdMap;
use serde::{Deserialize, Serialize};
use std::ops::Bound;
use synod::{Position, RestoreError, Snapshot, SnapshotReader, StateMachine};

/// A change that a client asks for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Command {
    /// Store `value` under `key`.
    Put { key: String, value: Bytes, condition: Condition },
    /// Forget `key`.
    Delete { key: String, condition: Condition },
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
}

/// A value and the write that stored it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(crate) value: Bytes,
    pub(crate) version: Version,
}

/// Keys and values.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Store {
    entries: OrdMap<String, Entry>,
    digest: u64,
}

impl StateMachine for Store {
    type Command = Command;
    type Reply = Reply;

    fn apply(&mut self, at: Position, command: Command) -> Reply {
        match command {
            Command::Put { key, value, condition } => {
                self.put(key, Entry { value, version: Version(at) }, &condition)
            }
            Command::Delete { key, condition } => self.delete(&key, &condition),
        }
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot::of(self.clone())
    }

    fn restore(&mut self, mut snapshot: SnapshotReader<'_>) -> Result<(), RestoreError> {
        let store: Self = snapshot.decode()?;
        let hashes = store.entries.iter().map(|(key, entry)| hash(key, entry));
        if hashes.fold(0, u64::wrapping_add) != store.digest {
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

    /// A number that two stores share when they hold the same entries, and practically only then.
    pub(crate) fn digest(&self) -> u64 {
        self.digest
    }

    fn put(&mut self, key: String, entry: Entry, condition: &Condition) -> Reply {
        let current = self.version(&key);
        if !condition.holds(current) {
            return Reply::PreconditionFailed { current };
        }
        let version = entry.version;
        self.digest = self.digest.wrapping_add(hash(&key, &entry));
        if let Some(old) = self.entries.insert(key.clone(), entry) {
            self.digest = self.digest.wrapping_sub(hash(&key, &old));
        }
        Reply::Stored { version, created: current.is_none() }
    }

    fn delete(&mut self, key: &str, condition: &Condition) -> Reply {
        let current = self.version(key);
        if !condition.holds(current) {
            return Reply::PreconditionFailed { current };
        }
        let Some(old) = self.entries.remove(key) else { return Reply::NotFound };
        self.digest = self.digest.wrapping_sub(hash(key, &old));
        Reply::Deleted
    }

    fn version(&self, key: &str) -> Option<Version> {
        self.entries.get(key).map(|entry| entry.version)
    }
}

/// FNV-1a over the entry: unlike the standard library's hashers, the same in every build.
fn hash(key: &str, Entry { value, version: Version(at) }: &Entry) -> u64 {
    let lengths = [key.len() as u64, value.len() as u64, at.slot.get(), at.index.into()];
    let bytes = lengths
        .iter()
        .flat_map(|number| number.to_le_bytes())
        .chain(key.bytes())
        .chain(value.iter().copied());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::condition::Tags;
    use synod::Slot;

    fn at(slot: u64) -> Position {
        Position { slot: Slot::new(slot), index: 0 }
    }

    fn put(key: &str, value: &'static str) -> Command {
        Command::Put { key: key.into(), value: value.into(), condition: Condition::default() }
    }

    fn delete(key: &str) -> Command {
        Command::Delete { key: key.into(), condition: Condition::default() }
    }

    fn only_if(version: u64) -> Condition {
        Condition { if_match: Some(Tags::Versions(vec![Version(at(version))])), if_none_match: None }
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
        let late = Command::Put { key: "a".into(), value: "3".into(), condition: only_if(1) };
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
            condition: Condition { if_match: None, if_none_match: Some(Tags::Any) },
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
        let late = Command::Delete { key: "a".into(), condition: only_if(9) };
        assert_eq!(store.apply(at(2), late), Reply::PreconditionFailed { current: Some(Version(at(1))) });
        assert_eq!(store.apply(at(3), delete("a")), Reply::Deleted);
        assert_eq!(store.apply(at(4), delete("a")), Reply::NotFound);
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
        let contradiction = Store { digest: store.digest().wrapping_add(1), ..store.clone() };
        let cut = bytes(&store);
        for wrong in [&bytes(&contradiction)[..], &cut[..cut.len() - 1], b"", b"no store"] {
            let mut present = store.clone();
            assert!(present.restore(SnapshotReader::new(&mut &wrong[..])).is_err());
            assert_eq!(bytes(&present), cut);
        }
    }
}
