//! A replicated key-value store over HTTP: the canonical Synod service, a crate to copy.
//!
//! What a service of your own takes from here, in the order in which to read it:
//!
//! - `store.rs`: the state machine. Commands go in, replies come out, and every node does the same. Replace it by yours.
//! - `serve.rs`: the node. Restarts what its directory holds, bootstraps or joins where it holds nothing, runs until a
//!   signal or until it cannot go on.
//! - `http.rs`: the service. Proposes what changes the state, reads the rest, says how each call ended in HTTP's own words.
//!
//! The rest is comfort: `cli.rs` names the commands, `client.rs` calls the service, `retry.rs` calls it again where that is
//! harmless, `lock.rs` runs a program under a lock, `operator.rs` and `force.rs` are for who runs a cluster, `cluster.rs`
//! starts one on this machine, `bench.rs` measures it, `demo.rs` kills its leader and counts what was lost.

mod bench;
mod cli;
mod client;
mod cluster;
mod condition;
mod demo;
mod failure;
mod force;
mod http;
mod lock;
mod operator;
mod retry;
mod serve;
mod store;
mod table;

#[doc(hidden)]
pub use http::fuzzing::request as fuzz_request;

use crate::cli::Cli;
use crate::failure::Failure;
use std::io::IsTerminal;
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

/// Does what the command line says.
pub fn run() -> ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn")))
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
    let done = Cli::read().and_then(|cli| actix_web::rt::System::new().block_on(cli.run()));
    done.map_or_else(Failure::report, |()| ExitCode::SUCCESS)
}
