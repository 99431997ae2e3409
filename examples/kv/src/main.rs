//! The program; what it does stands in `lib.rs`.

use std::process::ExitCode;

fn main() -> ExitCode {
    kv::run()
}
