//! Requests of any bytes: the fuzzer's seeds in `fuzz/corpus/kv_http`, and mutations of them.

#[path = "../../../tests/fuzz_corpora/mutations.rs"]
mod mutations;

// scenario S8, fault F36
#[test]
fn a_request_of_any_bytes_is_refused_or_read_the_same_again() {
    mutations::replay("kv_http", 20_000, kv::fuzz_request);
}
