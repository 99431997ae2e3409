//! What a storage promises: an acknowledged write is there after any crash, and damage is never taken for truth.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "durability/suite.rs"]
mod suite;
