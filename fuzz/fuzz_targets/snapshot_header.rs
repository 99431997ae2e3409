#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| synod::testing::fuzzing::snapshot_header(bytes));
