//! A lock with a fencing token: why a holder that was only slow does no harm.
//!
//! ```text
//! cargo run --example lock
//! ```
//!
//! Three nodes in one process keep a [`LockTable`], and nothing else, in their log. Two workers want to write the same report.
//! Ada gets the lock, and then falls asleep for longer than she may be silent, as a process does that the garbage collector or
//! the scheduler stops. The lock goes to Bob. When Ada wakes up she does not know that she has lost it, and writes on. What
//! stops her is neither the lock service nor her clock, but the [`Report`]: it refuses a lower token than it has seen.
//!
//! To build your own on this:
//!
//! 1. [`start_nodes`]: a node whose state machine is the table, with [`keep_time`] as a service. In production each of your servers
//!    starts *one* node, with a transport between machines such as `synod-tcp` and a `FileStorage`. If you have a state machine
//!    already, put a table into it: see `synod::lock::HoldsLocks`.
//! 2. [`Report`]: what the lock protects keeps the highest token along with its data.
//! 3. [`Lock`]: acquire, send `guard.token()` along with each write, renew, release.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;
use synod::lock::{FencingToken, Guard, Lock, LockError, LockTable, NAME_BYTES_MAX, keep_time};
use synod::timer::TokioTimer;
use synod::{ClusterId, Config, Handle, Membership, MemoryStorage, Node, NodeId, Timer};
use synod_channel::ChannelHub;

/// How long a holder may be silent. Short, so that the example is quick; ten seconds to a minute is usual.
const TTL: Duration = Duration::from_millis(500);

// ------------------------------------------------------------- 1. the nodes

async fn start_nodes() -> Result<Vec<Node<LockTable>>, Box<dyn Error>> {
    let hub = ChannelHub::new();
    let members = [1, 2, 3].map(NodeId::new);
    let membership = Membership::voters(members.map(|member| (member, "")))?;
    let mut nodes = Vec::new();
    for member in members {
        let config = Config::new(ClusterId::new("locks")?, member);
        let node = Node::bootstrap(config, membership.clone())
            .transport(hub.transport(member))
            .storage(MemoryStorage::with_seed(member.get()))
            .state_machine(LockTable::default)
            .service(keep_time)
            .start()
            .await?;
        nodes.push(node);
    }
    Ok(nodes)
}

// ------------------------------------------------------------- 2. what the lock protects

/// A file on a file server, say. It asks nobody: the token tells it enough.
#[derive(Default)]
struct Report {
    lines: Vec<String>,
    /// The highest token that was seen. Has to be stored together with the data, in one atomic step.
    fence: FencingToken,
}

#[derive(Debug, thiserror::Error)]
#[error("token {token} was overtaken by {fence}")]
struct Overtaken {
    token: FencingToken,
    fence: FencingToken,
}

impl Report {
    fn write(&mut self, token: FencingToken, line: &str) -> Result<(), Overtaken> {
        if token < self.fence {
            return Err(Overtaken { token, fence: self.fence });
        }
        self.fence = token;
        self.lines.push(line.to_owned());
        Ok(())
    }
}

// ------------------------------------------------------------- 3. the workers

/// The lock on the report, as `worker` sees it through its node.
fn lock(handle: Handle<LockTable>, worker: &str) -> Result<Lock<LockTable>, Box<dyn Error>> {
    Ok(Lock::new(handle, Arc::new(TokioTimer::default()), "report", worker, TTL)?)
}

fn write(report: &mut Report, worker: &str, guard: &Guard<LockTable>, line: &str) {
    match report.write(guard.token(), line) {
        Ok(()) => println!("  {worker} writes \"{line}\" under token {}", guard.token()),
        Err(error) => println!("  {worker} writes \"{line}\": refused, {error}"),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let nodes = start_nodes().await?;
    let timer = TokioTimer::default();
    let mut report = Report::default();
    // Any node will do: one that does not lead forwards.
    let mut ada = lock(nodes[0].handle(), "Ada")?;
    let mut bob = lock(nodes[1].handle(), "Bob")?;

    println!("One at a time:");
    let adas = ada.acquire().await?;
    println!("  Ada holds the lock, under token {}", adas.token());
    write(&mut report, "Ada", &adas, "chapter 1, by Ada");
    match bob.try_acquire().await {
        Err(LockError::Held { holder }) => println!("  Bob is told that {} holds it", holder.owner),
        other => return Err(format!("Ada holds the lock, but Bob was told {other:?}").into()),
    }

    println!("\nWho renews keeps it:");
    for _ in 0..3 {
        timer.sleep_until(timer.now() + TTL / 2).await;
        adas.renew().await?;
    }
    println!("  Ada has held it for {:?}, though she may be silent for {TTL:?} only", TTL / 2 * 3);

    println!("\nAda falls asleep, and Bob waits for the lock:");
    let asleep = timer.now();
    let bobs = bob.acquire().await?;
    println!("  Bob holds it {} ms later, under token {}", ms(&timer, asleep), bobs.token());
    write(&mut report, "Bob", &bobs, "chapter 2, by Bob");

    println!("\nAda wakes up and believes that she holds it still:");
    write(&mut report, "Ada", &adas, "chapter 2, by Ada");
    match adas.renew().await {
        Err(LockError::Lost { .. }) => println!("  Ada asks, and hears that she has lost it"),
        other => return Err(format!("Bob holds the lock, but Ada was told {other:?}").into()),
    }

    println!("\nBob is done and says so:");
    bobs.release().await?;
    let freed = timer.now();
    let adas = ada.acquire().await?;
    println!("  Ada holds it {} ms later, under token {}", ms(&timer, freed), adas.token());
    write(&mut report, "Ada", &adas, "chapter 3, by Ada");
    adas.release().await?;

    println!("\nA request that no table grants is refused before it is proposed:");
    let timer = Arc::new(TokioTimer::default());
    match Lock::new(nodes[2].handle(), timer, "x".repeat(NAME_BYTES_MAX + 1), "Eve", TTL) {
        Err(refusal) => println!("  {refusal}"),
        Ok(lock) => return Err(format!("{lock:?} has too long a name").into()),
    }

    if report.lines != ["chapter 1, by Ada", "chapter 2, by Bob", "chapter 3, by Ada"] {
        return Err(format!("the report was spoilt: {:?}", report.lines).into());
    }
    for node in nodes {
        node.shutdown().await?;
    }
    println!("\nlock: the report has its three chapters, each by who held the lock");
    Ok(())
}

fn ms(timer: &TokioTimer, since: synod::timer::Time) -> u128 {
    timer.now().since(since).as_millis()
}
