//! Sessions: what makes a repeat apply once, as a function of the log.

use crate::support::*;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use synod::codec;
use synod::multi::*;

/// How many seeds are tried; `SYNOD_SEED` names one instead.
const SEEDS: u64 = 200;

fn seeds() -> Vec<u64> {
    match std::env::var("SYNOD_SEED") {
        Ok(seed) => vec![seed.parse().unwrap()],
        Err(_) => (0..SEEDS).collect(),
    }
}

fn origin(by: u64, incarnation: u64, serial: u64) -> Origin {
    Origin { node: node(by), incarnation, serial, answered_through: 0 }
}

fn session(at: u64) -> SessionId {
    SessionId { slot: slot(at), index: 0 }
}

fn stamp(session: SessionId, serial: u64, answered_through: u64) -> SessionStamp {
    SessionStamp { session, serial, answered_through }
}

fn again<T: serde::Serialize + serde::de::DeserializeOwned>(value: &T) -> T {
    codec::decode(&codec::encode(value).unwrap()).unwrap()
}

fn tags(value: &Value) -> Vec<Tag> {
    let Value::Batch(bytes) = value else { panic!("{value:?}") };
    Batch::read(bytes.clone()).unwrap().map(|command| command.unwrap().0).collect()
}

// protocol 12.2
#[test]
fn a_forwarded_command_carries_its_nodes_own_session_into_the_log_and_one_in_a_session_carries_that() {
    let own = stamp(session(3), 1, 0);
    let mut builder = BatchBuilder::new(BatchId { node: node(2), incarnation: 1, serial: 1 });
    for (request, by) in [
        (Request::Plain, None),
        (Request::Plain, Some(origin(1, 1, 4))),
        (Request::InSession(own), Some(origin(1, 1, 5))),
        (Request::OpenSession, Some(origin(1, 1, 6))),
    ] {
        builder.push(&Tag::new(request, by), b"");
    }
    let chosen = Value::Batch(builder.finish());
    let expected = [
        Tag::Plain,
        Tag::Forwarded(origin(1, 1, 4)),
        Tag::InSession(own),
        Tag::OpenSession(Some(origin(1, 1, 6))),
    ];
    assert_eq!(tags(&chosen), expected);
}

// protocol 12.2
#[test]
fn a_repeat_by_the_transport_is_not_applied_also_after_a_snapshot_and_a_later_start_counts_anew() {
    let mut table = OriginTable::default();
    assert!(table.admit(origin(1, 1, 1)) && table.admit(origin(2, 1, 1)));
    let mut table = again(&table);
    assert!(!table.admit(origin(1, 1, 1)) && !table.admit(origin(2, 1, 1)));
    assert!(table.admit(origin(1, 2, 1)));
    assert!(!table.admit(origin(1, 1, 2)), "of an earlier start");
}

// protocol 12.3
#[test]
fn known_is_answered_as_before_answered_is_refused_and_new_is_applied() {
    let mut table = Sessions::default();
    table.open(session(1), None, 9);
    let reply = Bytes::from_static(b"reply");
    assert_eq!(table.admit(stamp(session(1), 1, 0), slot(2)), Admission::New);
    table.record(stamp(session(1), 1, 0), reply.clone());
    assert_eq!(table.admit(stamp(session(1), 1, 0), slot(3)), Admission::Known(reply));
    assert_eq!(table.admit(stamp(session(1), 2, 1), slot(4)), Admission::New);
    assert_eq!(table.admit(stamp(session(1), 1, 0), slot(5)), Admission::Answered);
    assert_eq!(table.admit(stamp(session(9), 1, 0), slot(6)), Admission::Expired, "never opened");
}

/// One entry of a log of sessions.
#[derive(Clone, Copy, Debug)]
enum Entry {
    Open,
    Command(SessionStamp),
}

/// A log in which clients open sessions, and call, repeat and give up calls in no good order.
fn any_log(seed: u64) -> Vec<Entry> {
    let mut jitter = Jitter::new(seed);
    let mut opened: Vec<u64> = Vec::new();
    (1..=400)
        .map(|at| {
            if opened.is_empty() || jitter.draw().is_multiple_of(20) {
                opened.push(at);
                return Entry::Open;
            }
            let which = usize::try_from(jitter.draw()).unwrap() % opened.len();
            let serial = 1 + jitter.draw() % 12;
            let answered_through = serial.saturating_sub(1 + jitter.draw() % 12);
            Entry::Command(stamp(session(opened[which]), serial, answered_through))
        })
        .collect()
}

fn take(table: &mut Sessions, at: u64, entry: Entry, sessions_max: u32) -> Option<Admission> {
    match entry {
        Entry::Open => {
            table.open(session(at), None, sessions_max);
            None
        }
        Entry::Command(stamp) => {
            let admission = table.admit(stamp, slot(at));
            if admission == Admission::New {
                table.record(stamp, Bytes::copy_from_slice(&at.to_le_bytes()));
            }
            Some(admission)
        }
    }
}

// protocol 12.3
#[test]
fn no_serial_is_applied_twice_whatever_clients_send() {
    let mut known = 0;
    for seed in seeds() {
        println!("SYNOD_SEED={seed}");
        let mut table = Sessions::default();
        let mut applied = BTreeMap::new();
        for (at, entry) in (1..).zip(any_log(seed)) {
            let Entry::Command(stamp) = entry else {
                take(&mut table, at, entry, 5);
                continue;
            };
            let key = (stamp.session, stamp.serial);
            match take(&mut table, at, entry, 5).unwrap() {
                Admission::New => assert_eq!(applied.insert(key, at), None, "{stamp:?} applied twice"),
                Admission::Known(reply) => {
                    known += 1;
                    assert_eq!(applied[&key].to_le_bytes(), reply[..], "the reply is that of the first");
                }
                Admission::Expired | Admission::Answered => {}
                Admission::TooFar => panic!("no serial was far: {stamp:?}"),
            }
        }
    }
    assert!(known > 0, "nothing was repeated");
}

// protocol 12.4
#[test]
fn the_session_that_was_used_longest_ago_expires_and_the_log_alone_says_which() {
    for seed in seeds() {
        println!("SYNOD_SEED={seed}");
        let log = any_log(seed);
        let mut table = Sessions::default();
        // By when each was used last: what rule 12.4 says, in as many words.
        let mut used: BTreeMap<SessionId, u64> = BTreeMap::new();
        let mut gone: BTreeSet<SessionId> = BTreeSet::new();
        for (at, entry) in (1..).zip(log) {
            let sessions_max = if at < 200 { 5 } else { 3 };
            let admission = take(&mut table, at, entry, sessions_max);
            match entry {
                Entry::Open => {
                    used.insert(session(at), at);
                    while used.len() > sessions_max as usize {
                        let (oldest, _) = used.iter().min_by_key(|(id, at)| (**at, **id)).unwrap();
                        let oldest = *oldest;
                        used.remove(&oldest);
                        gone.insert(oldest);
                    }
                }
                Entry::Command(stamp) => {
                    let expired = gone.contains(&stamp.session);
                    assert_eq!(admission == Some(Admission::Expired), expired, "at {at}: {stamp:?}");
                    used.entry(stamp.session).and_modify(|last| *last = at);
                }
            }
            assert_eq!(table.len(), used.len());
        }
    }
}

// protocol 12.4, 5.1
#[test]
fn a_node_that_took_a_snapshot_in_goes_on_like_one_that_applied_the_whole_log() {
    for seed in seeds() {
        println!("SYNOD_SEED={seed}");
        let cut = 1 + seed % 400;
        let (mut whole, mut installed) = (Sessions::default(), Sessions::default());
        for (at, entry) in (1..).zip(any_log(seed)) {
            let expected = take(&mut whole, at, entry, 5);
            if at == cut {
                installed = again(&whole);
            } else if at > cut {
                assert_eq!(take(&mut installed, at, entry, 5), expected, "at {at}, snapshot at {cut}");
            }
        }
        assert_eq!(installed, whole);
    }
}
