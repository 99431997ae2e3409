//! A cluster of processes under load, while something is done to it, and the judgement of what its clients saw.

#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub(crate) mod cluster;
pub(crate) mod history;
pub(crate) mod http;
pub(crate) mod load;
pub(crate) mod wires;

/// The seed of this run: `SYNOD_SEED`, or another one each time. Printed at once, so that a failure has it.
pub(crate) fn seed(test: &str) -> u64 {
    let named = std::env::var("SYNOD_SEED").ok().map(|seed| seed.parse().expect("SYNOD_SEED is a number"));
    let seed = named.unwrap_or_else(|| {
        let since = std::time::UNIX_EPOCH.elapsed().unwrap();
        u64::from(since.subsec_nanos()) ^ since.as_secs()
    });
    println!("again with: SYNOD_SEED={seed} cargo test --package kv --test {test} -- --nocapture");
    seed
}
