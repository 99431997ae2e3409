//! The fuzzers' corpora, replayed: each seed as it is, cut short, and changed by a few thousand seeded mutations.
//!
//! `fuzz/` holds the targets for `cargo fuzz`, which call the same functions. The seeds are made here from real messages;
//! `SYNOD_BLESS=1 cargo test --test fuzz_corpora` writes them anew. Since they are compared with what is stored, they also tell
//! when the encoding of a message has changed: a node of the version before would not understand it (fault F34).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod files;
mod mutations;
mod seeds;

use mutations::{corpus, replay};
use std::collections::BTreeMap;
use synod::codec::{self, CodecError};
use synod::testing::fuzzing;
use synod::transport::Envelope;

/// Compares the stored seeds with those made here.
fn check(target: &str, made: &[(String, Vec<u8>)]) {
    let folder = mutations::folder(target);
    if std::env::var_os("SYNOD_BLESS").is_some() {
        std::fs::create_dir_all(&folder).unwrap();
        made.iter().for_each(|(name, bytes)| std::fs::write(folder.join(name), bytes).unwrap());
    }
    let stored: BTreeMap<String, Vec<u8>> = corpus(target).into_iter().collect();
    for (name, bytes) in made {
        let same = stored.get(name).is_some_and(|stored| stored == bytes);
        assert!(same, "{target}/{name} is encoded otherwise than it was: SYNOD_BLESS=1 if that is meant");
    }
    assert_eq!(stored.len(), made.len(), "{target} holds seeds that are not made here");
}

// scenario S8, fault F34
#[test]
fn the_encoding_of_every_kind_of_message_is_the_one_that_is_stored() {
    check("wire_message", &seeds::messages());
    check("frame", &seeds::frames());
}

/// Stores the seeds that are missing.
fn store(target: &str, made: Vec<(String, Vec<u8>)>) {
    let folder = mutations::folder(target);
    if std::env::var_os("SYNOD_BLESS").is_some() && !folder.exists() {
        std::fs::create_dir_all(&folder).unwrap();
        made.iter().for_each(|(name, bytes)| std::fs::write(folder.join(name), bytes).unwrap());
    }
    let stored = corpus(target).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    assert!(made.iter().all(|(name, _)| stored.contains(name)), "{target} lacks a seed that is made here");
}

// scenario S8, faults F5, F11 and F12
#[test]
fn a_journal_of_any_bytes_is_refused_or_comes_back_as_it_was() {
    store("journal_record", files::journal());
    replay("journal_record", 40_000, fuzzing::journal_record);
}

// scenario S8, fault F10
#[test]
fn a_snapshot_of_any_bytes_is_refused_or_comes_back_as_it_was() {
    store("snapshot_header", files::snapshots());
    replay("snapshot_header", 5_000, fuzzing::snapshot_header);
}

// scenario S8, faults F35 and F36
#[test]
fn a_message_of_any_bytes_is_refused_or_comes_back_as_it_was_and_breaks_no_node() {
    replay("wire_message", 40_000, fuzzing::wire_message);
}

// scenario S8, faults F35 and F36
#[test]
fn a_frame_of_any_bytes_is_refused_or_comes_back_as_it_was() {
    replay("frame", 40_000, synod_tcp::fuzzing::frame);
}

// scenario S3, fault F35
#[test]
fn a_depth_bomb_is_refused_on_the_stack_of_a_small_thread() {
    let bomb = || {
        for opening in [0x91, 0x81, 0xDC] {
            let bytes = vec![opening; 200_000];
            assert!(matches!(codec::decode::<Envelope>(&bytes), Err(CodecError::Decode(_))));
            fuzzing::wire_message(&bytes);
            synod_tcp::fuzzing::frame(&bytes);
        }
    };
    std::thread::Builder::new().stack_size(2 << 20).spawn(bomb).unwrap().join().unwrap();
}

// scenario S4
#[test]
fn no_message_is_accepted_with_bytes_behind_it_or_without_its_last() {
    for (name, bytes) in seeds::messages() {
        assert!(codec::decode::<Envelope>(&bytes).is_ok(), "{name}");
        let longer = [bytes.as_slice(), &[0xC0]].concat();
        let refused = codec::decode::<Envelope>(&longer);
        assert!(matches!(refused, Err(CodecError::LeftOver { count: 1 })), "{name}");
        for length in 0..bytes.len() {
            assert!(codec::decode::<Envelope>(&bytes[..length]).is_err(), "{name}, {length} bytes");
        }
    }
}

// scenario S2, fault F35
#[test]
fn what_a_length_claims_is_not_allocated() {
    // Lists, names, byte strings and maps of 4 GiB, in each place of each message.
    for (name, bytes) in seeds::messages() {
        for at in 0..bytes.len() {
            for claim in [
                [0xDD, 0xFF, 0xFF, 0xFF, 0xFF],
                [0xDB, 0xFF, 0xFF, 0xFF, 0xFF],
                [0xC6, 0xFF, 0xFF, 0xFF, 0xFF],
                [0xDF, 0xFF, 0xFF, 0xFF, 0xFF],
            ] {
                let bomb = [&bytes[..at], &claim, &bytes[at..]].concat();
                assert!(codec::decode::<Envelope>(&bomb).is_err(), "{name} at {at}");
            }
        }
    }
    if let Ok(status) = std::fs::read_to_string("/proc/self/status") {
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        let kibibytes: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
        assert!(kibibytes < 512 << 10, "{kibibytes} KiB were in use");
    }
}
