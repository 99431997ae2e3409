//! `kv lock`: a program run while a lock is held, which knows the token that proves it.

use crate::cli::Nodes;
use crate::client::ClientError;
use crate::failure::{Failure, told};
use crate::http::locks::AcquireBody;
use crate::retry::Patient;
use crate::serve::interrupted;
use clap::Args;
use std::hash::{BuildHasher, RandomState};
use std::process::ExitStatus;
use std::time::{Duration, Instant};
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

/// Where a program that is run under a lock finds the token.
pub(crate) const TOKEN_VARIABLE: &str = "KV_FENCE";
/// Who waits for a lock looks this often whether it is free, at what one node has applied.
const LOOK: Duration = Duration::from_millis(50);
/// How long the program may take to end when `kv lock` is told to.
const DRAIN: Duration = Duration::from_secs(2);

/// Run a program under a lock.
///
/// The lock is renewed until COMMAND ends; the exit code is that of COMMAND.
///
/// A lock like this one is not safe by itself. Who holds it may be stopped for longer than the time to live (by the
/// scheduler, a slow disk, the network); then the lock goes to somebody else, and the first one wakes up and writes, believing
/// that it holds it still. No lock can prevent that. So each acquisition has a fencing token, a number higher than all
/// before, and whatever is written under the lock has to refuse an old one. This store does: COMMAND finds the token in
/// KV_FENCE, where `kv put` and `kv delete` look for it, and their writes are refused once the lock is lost. Anything else that
/// COMMAND writes to has to keep the highest token that it has seen, and refuse a lower one.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The lock; each name is one.
    name: String,
    /// The program to run, and its arguments.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
    /// How long the holder may be silent before the lock goes to another one, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=604_800))]
    ttl: u64,
    /// How long to wait for the lock, in seconds; without it, for as long as it takes.
    #[arg(long, value_name = "SECONDS")]
    wait: Option<u64>,
    /// What others are told of who holds it.
    #[arg(long, value_name = "NAME", default_value_t = format!("process {}", std::process::id()))]
    owner: String,
    #[command(flatten)]
    nodes: Nodes,
}

/// Runs the program under the lock.
pub(crate) async fn lock(options: Options) -> Result<(), Failure> {
    let Options { name, command, ttl, wait, owner, nodes } = options;
    let wish = AcquireBody { owner, request: a_request(), ttl_ms: ttl * 1000 };
    let lock = Lock { nodes: nodes.patient(), name, wish };
    let token = tokio::select! {
        token = lock.acquire(wait.map(Duration::from_secs)) => token?,
        () = interrupted() => return Err(Failure::Failed("interrupted; the lock was not taken".into())),
    };
    let ended = match spawn(&command, &lock.name, token) {
        Ok(child) => lock.keep_while(child, token).await,
        Err(failure) => Err(failure),
    };
    let released = lock.release(token).await;
    // What the program came to matters more than what the lock did afterwards.
    exit(ended?)?;
    released
}

/// A lock, as one process sees it.
struct Lock {
    nodes: Patient,
    name: String,
    wish: AcquireBody,
}

impl Lock {
    /// Waits for the lock; gives its token.
    async fn acquire(&self, patience: Option<Duration>) -> Result<u64, ClientError> {
        let begin = Instant::now();
        loop {
            // The same request, however often it is sent: it is granted once.
            let asked =
                self.nodes.call(async |client, node| client.acquire(node, &self.name, &self.wish).await);
            match asked.await {
                Err(error)
                    if error.is("held") && patience.is_none_or(|patience| begin.elapsed() < patience) => {}
                outcome => return outcome,
            }
            self.until_free(begin, patience).await?;
        }
    }

    /// Waits until nobody seems to hold the lock, without another command in the log.
    async fn until_free(&self, begin: Instant, patience: Option<Duration>) -> Result<(), ClientError> {
        while patience.is_none_or(|patience| begin.elapsed() < patience) {
            sleep(LOOK).await;
            match self.nodes.call(async |client, node| client.holder(node, &self.name).await).await {
                Ok(_) => {}
                Err(error) if error.is("not_held") => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Renews the lock until the program has ended; ends it if the lock is lost.
    async fn keep_while(&self, mut child: Child, token: u64) -> Result<ExitStatus, Failure> {
        let ended = tokio::select! {
            ended = child.wait() => return ended.map_err(|error| cannot("wait for the command", &error)),
            lost = self.renew(token) => {
                let reason = told(&lost);
                Failure::Failed(format!("the command was ended, since the lock is lost: {reason}"))
            }
            () = interrupted() => {
                // A terminal has told the program too.
                if let Ok(Ok(status)) = timeout(DRAIN, child.wait()).await {
                    return Ok(status);
                }
                Failure::Failed("interrupted; the command was ended".into())
            }
        };
        child.kill().await.map_err(|error| cannot("end the command", &error))?;
        Err(ended)
    }

    /// Says that the holder is alive, again and again; says why it holds the lock no more.
    async fn renew(&self, token: u64) -> ClientError {
        loop {
            sleep(Duration::from_millis(self.wish.ttl_ms / 3)).await;
            match self.nodes.call(async |client, node| client.renew(node, &self.name, token).await).await {
                Err(error) if !error.may_pass() => return error,
                // Whether it is lost, nobody can say who does not answer. The token protects what is written meanwhile.
                _ => {}
            }
        }
    }

    /// Frees the lock.
    async fn release(&self, token: u64) -> Result<(), Failure> {
        let mut tries = 0;
        let released = self.nodes.call(async |client, node| {
            tries += 1;
            client.release(node, &self.name, token).await
        });
        match released.await {
            // An earlier try may have freed it, though its answer was lost.
            Err(error) if error.is("lock_lost") && tries > 1 => Ok(()),
            Err(error) if error.is("lock_lost") => Err(Failure::Failed(format!(
                "{}: the command may not have been alone at its end",
                told(&error)
            ))),
            outcome => outcome.map(|_| ()).map_err(Failure::from),
        }
    }
}

fn spawn(command: &[String], name: &str, token: u64) -> Result<Child, Failure> {
    let (program, arguments) =
        command.split_first().ok_or_else(|| Failure::Refused("no command is given".into()))?;
    Command::new(program)
        .args(arguments)
        .env("KV_LOCK", name)
        .env(TOKEN_VARIABLE, token.to_string())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| Failure::Refused(format!("cannot run {program}: {error}")))
}

/// Ends as the program did.
fn exit(status: ExitStatus) -> Result<(), Failure> {
    match status.code() {
        Some(0) => Ok(()),
        Some(code) => Err(Failure::Ended(u8::try_from(code).unwrap_or(1))),
        None => Err(Failure::Failed(format!("the command was ended: {status}"))),
    }
}

/// A number that no other request of the same owner has, but by a chance of one in 2^64.
fn a_request() -> u64 {
    RandomState::new().hash_one(std::process::id())
}

fn cannot(what: &str, error: &std::io::Error) -> Failure {
    Failure::Failed(format!("cannot {what}: {error}"))
}
