//! The application of the suite `durable`: a process that embeds a node and proposes to it.
//!
//! The bench starts itself three times as `synod-bench replica ID DIR PORT PORT PORT`, and asks over standard input, one JSON
//! object a line, answered by one. A replica whose standard input ends, ends.

use crate::process::{Error, free_ports};
use bytes::Bytes;
use futures::future::{join_all, try_join_all};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};
use synod::{
    ClusterId, Config, FileStorage, Handle, Host, Membership, Node, NodeId, Position, ProposeError,
    RestoreError, Snapshot, SnapshotReader, StateMachine,
};
use synod_tcp::Tcp;

const NAME: &str = "replica";

/// What a replica is asked.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum Ask {
    /// Who are you?
    Status,
    /// Propose for so many seconds.
    Load { load: Load, seconds: f64 },
}

/// How commands are proposed.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Load {
    /// Commands under way.
    pub(crate) outstanding: usize,
    /// Bytes in each.
    pub(crate) bytes: usize,
    /// The next ones only when all of the last are answered.
    pub(crate) lock_step: bool,
}

/// What a replica says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Told {
    leads: bool,
    /// Commands that it has applied.
    count: u64,
    /// Of them all, in their order.
    digest: u64,
}

/// What came of a load.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Done {
    answered: u64,
    seconds: f64,
    /// The median time of a round, in seconds; of a load in lock step only.
    round: Option<f64>,
}

/// The state: how many commands there were, and which.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Tally {
    count: u64,
    digest: u64,
}

impl StateMachine for Tally {
    type Command = Bytes;
    type Reply = u64;

    fn apply(&mut self, _at: Position, command: Bytes) -> u64 {
        self.count += 1;
        let mut number = [0; 8];
        for (to, from) in number.iter_mut().zip(&command) {
            *to = *from;
        }
        let mixed = self.digest ^ u64::from_le_bytes(number) ^ command.len() as u64;
        self.digest = mixed.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29);
        self.count
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot::of((self.count, self.digest))
    }

    fn restore(&mut self, mut snapshot: SnapshotReader<'_>) -> Result<(), RestoreError> {
        (self.count, self.digest) = snapshot.decode()?;
        Ok(())
    }
}

/// What a replica is started with.
#[derive(Debug)]
pub(crate) struct Options {
    id: NodeId,
    dir: PathBuf,
    ports: Vec<u16>,
}

/// Whether this process was started as a replica.
pub(crate) fn asked_for() -> Option<Options> {
    let mut words = std::env::args().skip(1);
    if words.next()? != NAME {
        return None;
    }
    let id = NodeId::new(words.next()?.parse().ok()?);
    let dir = words.next()?.into();
    Some(Options { id, dir, ports: words.filter_map(|port| port.parse().ok()).collect() })
}

/// Is a replica, until its standard input ends.
pub(crate) fn run(options: &Options) -> Result<(), Box<dyn std::error::Error>> {
    // The application and its node share a thread, as in a program with one arbiter.
    actix_rt::System::new().block_on(async {
        let addresses = || {
            let ports = options.ports.iter().map(|port| format!("127.0.0.1:{port}"));
            (1..).map(NodeId::new).zip(ports)
        };
        let (_, own) = addresses().find(|(id, _)| *id == options.id).ok_or("a replica needs a port")?;
        let config = Config::new(ClusterId::new("bench")?, options.id);
        let node = Node::bootstrap(config, Membership::voters(addresses())?)
            .transport(Tcp::insecure(own, addresses())?)
            .storage(FileStorage::at(&options.dir))
            .host(Host::ThisArbiter)
            .state_machine(Tally::default)
            .start()
            .await?;
        let handle = node.handle();
        let (lines, mut asked) = tokio::sync::mpsc::channel(1);
        std::thread::spawn(move || {
            std::io::stdin().lines().map_while(Result::ok).try_for_each(|line| lines.blocking_send(line))
        });
        while let Some(line) = asked.recv().await {
            let answer = match serde_json::from_str(&line)? {
                Ask::Status => serde_json::to_string(&tell(&handle).await?)?,
                Ask::Load { load, seconds } => {
                    serde_json::to_string(&propose(&handle, load, Duration::from_secs_f64(seconds)).await?)?
                }
            };
            println!("{answer}");
        }
        Ok(node.shutdown().await?)
    })
}

async fn tell(handle: &Handle<Tally>) -> Result<Told, Box<dyn std::error::Error>> {
    let status = handle.status().await?;
    let leads = status.leader.is_some_and(|leader| leader.node == status.node);
    let (count, digest) = handle.read_stale(|tally| (tally.count, tally.digest)).await?;
    Ok(Told { leads, count, digest })
}

async fn propose(handle: &Handle<Tally>, load: Load, time: Duration) -> Result<Done, ProposeError> {
    let begin = Instant::now();
    let (mut answered, mut rounds) = (0, Vec::new());
    if load.lock_step {
        while begin.elapsed() < time {
            let began = Instant::now();
            let round =
                (0..load.outstanding).map(|number| handle.propose(command(number, answered, load.bytes)));
            answered += try_join_all(round).await?.len() as u64;
            rounds.push(began.elapsed());
        }
    } else {
        let clients = (0..load.outstanding).map(|client| {
            let handle = handle.clone();
            actix_rt::spawn(async move {
                let mut count = 0;
                while begin.elapsed() < time {
                    handle.propose(command(client, count, load.bytes)).await?;
                    count += 1;
                }
                Ok::<u64, ProposeError>(count)
            })
        });
        for client in join_all(clients).await {
            // A client that panicked has been told of.
            answered += client.unwrap_or(Ok(0))?;
        }
    }
    rounds.sort_unstable();
    let round = rounds.get(rounds.len() / 2).map(Duration::as_secs_f64);
    Ok(Done { answered, seconds: begin.elapsed().as_secs_f64(), round })
}

fn command(client: usize, turn: u64, bytes: usize) -> Bytes {
    let mut command = vec![b'x'; bytes];
    let number = ((client as u64) << 40 | turn).to_le_bytes();
    for (to, from) in command.iter_mut().zip(number) {
        *to = from;
    }
    command.into()
}

/// Three replicas, as the bench holds them.
#[derive(Debug)]
pub(crate) struct Replicas {
    nodes: Vec<Replica>,
    /// Commands, by the leaders' word.
    answered: u64,
}

#[derive(Debug)]
struct Replica {
    child: Child,
    /// Gone when it shall end.
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Replicas {
    /// Starts them with their directories below `dir`.
    pub(crate) fn start(dir: &Path) -> Result<Self, Error> {
        let ports = free_ports(3)?;
        let mut replicas = Vec::new();
        for id in 1..=3 {
            let mut command = Command::new(std::env::current_exe()?);
            command.args([NAME, &id.to_string()]).arg(dir.join(format!("replica-{id}")));
            command.args(ports.iter().map(ToString::to_string));
            let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
            let (input, output) = (child.stdin.take(), child.stdout.take());
            let output = BufReader::new(output.ok_or("a replica has no standard output")?);
            replicas.push(Replica { child, input, output });
        }
        Ok(Self { nodes: replicas, answered: 0 })
    }

    /// Lets the leader propose for `time`: commands answered per second.
    pub(crate) fn load(&mut self, load: Load, time: Duration) -> Result<f64, Error> {
        let done = self.propose(load, time)?;
        Ok(done.answered as f64 / done.seconds)
    }

    /// Lets the leader propose in lock step for `time`: the median time of a round.
    pub(crate) fn rounds(
        &mut self,
        outstanding: usize,
        bytes: usize,
        time: Duration,
    ) -> Result<Duration, Error> {
        let done = self.propose(Load { outstanding, bytes, lock_step: true }, time)?;
        Ok(Duration::from_secs_f64(done.round.ok_or("there was no round")?))
    }

    fn propose(&mut self, load: Load, time: Duration) -> Result<Done, Error> {
        let done: Done = self.leader()?.ask(Ask::Load { load, seconds: time.as_secs_f64() })?;
        self.answered += done.answered;
        Ok(done)
    }

    fn leader(&mut self) -> Result<&mut Replica, Error> {
        for _ in 0..1000 {
            for place in 0..self.nodes.len() {
                let told: Told = self.nodes[place].ask(Ask::Status)?;
                if told.leads {
                    return Ok(&mut self.nodes[place]);
                }
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Err("no replica leads within ten seconds".into())
    }

    /// Checks that all of them come to hold the same: what was answered, each once.
    pub(crate) fn check(&mut self) -> Result<(), Error> {
        for _ in 0..1000 {
            let told: Vec<Told> =
                self.nodes.iter_mut().map(|one| one.ask(Ask::Status)).collect::<Result<_, _>>()?;
            if told.windows(2).all(|pair| pair[0].count == pair[1].count) {
                let equal = told.windows(2).all(|pair| pair[0].digest == pair[1].digest);
                let (held, answered) = (told.first().map_or(0, |told| told.count), self.answered);
                return match (equal, held == answered) {
                    (true, true) => Ok(()),
                    (false, _) => Err("the replicas differ".into()),
                    _ => {
                        Err(format!("the replicas hold {held} commands, and {answered} were answered").into())
                    }
                };
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Err("the replicas do not come to have applied the same".into())
    }
}

impl Replica {
    fn ask<T: DeserializeOwned>(&mut self, ask: Ask) -> Result<T, Error> {
        let input = self.input.as_mut().ok_or("the replica was told to end")?;
        writeln!(input, "{}", serde_json::to_string(&ask)?)?;
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        Ok(serde_json::from_str(&line)?)
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        drop(self.input.take());
        // It may have ended by itself; waited for, so that its files are no longer written to.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
