//! Seeds from a folder, and what a fuzzer without feedback makes of them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, unreachable_pub, dead_code)]

use std::path::{Path, PathBuf};
use synod::multi::Jitter;

/// Where the seeds of `target` are stored.
pub fn folder(target: &str) -> PathBuf {
    // From the root of the repository, and from the crate of an example.
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = root.ancestors().find(|folder| folder.join("fuzz").is_dir()).unwrap();
    root.join("fuzz/corpus").join(target)
}

/// The seeds of `target`, by name.
pub fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let entries = std::fs::read_dir(folder(target)).unwrap().map(|entry| entry.unwrap());
    let mut seeds: Vec<_> = entries
        .map(|entry| (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap()))
        .collect();
    seeds.sort();
    seeds
}

/// Runs `target` on every seed, on every beginning of it, and on `count` mutations; says which input broke it.
pub fn replay(name: &str, count: u64, target: fn(&[u8])) {
    let seeds = corpus(name);
    assert!(seeds.len() >= 12, "{name} has only {} seeds", seeds.len());
    let run = |bytes: &[u8], what: &str| {
        let broken = std::panic::catch_unwind(|| target(bytes)).is_err();
        assert!(!broken, "{name} breaks on {what}: {bytes:02x?}");
    };
    for (seed, bytes) in &seeds {
        run(bytes, seed);
        (0..bytes.len())
            .for_each(|length| run(&bytes[..length], &format!("the first {length} bytes of {seed}")));
    }
    let from = std::env::var("SYNOD_SEED").ok().map(|seed| seed.parse().expect("SYNOD_SEED is a number"));
    for number in from.map_or(0..count, |seed| seed..seed + 1) {
        let bytes = mutated(&seeds, number);
        run(&bytes, &format!("mutation {number} (SYNOD_SEED={number} runs it alone)"));
    }
}

/// A seed with one to eight changes.
fn mutated(seeds: &[(String, Vec<u8>)], number: u64) -> Vec<u8> {
    let mut random = Jitter::new(number.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0xF0);
    let mut below = |count: usize| usize::try_from(random.draw() % count.max(1) as u64).unwrap();
    let mut bytes = seeds[below(seeds.len())].1.clone();
    for _ in 0..=below(8) {
        let at = below(bytes.len());
        match below(7) {
            0 if !bytes.is_empty() => bytes[at] ^= 1 << below(8),
            1 if !bytes.is_empty() => bytes[at] = [0, 1, 0x7F, 0x80, 0xC0, 0xCF, 0xD9, 0xDD, 0xFF][below(9)],
            2 => bytes.truncate(at),
            3 => bytes.insert(at, below(256) as u8),
            4 if !bytes.is_empty() => drop(bytes.remove(at)),
            5 => {
                let other = &seeds[below(seeds.len())].1;
                let from = below(other.len());
                let part: Vec<u8> = other[from..].iter().take(1 + below(64)).copied().collect();
                bytes.splice(at..at, part);
            }
            _ => {
                // The highest number, in place of whatever stood there.
                let end = bytes.len().min(at + 1);
                bytes.splice(at..end, [[0xCF].as_slice(), &[0xFF; 8]].concat());
            }
        }
    }
    bytes
}
