//! The command line.

use crate::client::{Answer, Client, ClientError, WriteOptions};
use crate::failure::{Failure, told};
use crate::http::members::is_address;
use crate::operator::{MemberCommand, Operator};
use crate::retry::Patient;
use crate::{bench, demo, force, lock, serve};
use bytes::Bytes;
use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand};
use hyper::StatusCode;
use std::fmt::Display;
use std::io::{Read, Write};
use std::str::FromStr;
use synod::{Member, MemberKind, NodeId};

/// A replicated key-value store over HTTP.
#[derive(Debug, Parser)]
#[command(name = "kv", version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a node.
    Serve(serve::Options),
    Recover(serve::RecoverOptions),
    /// Store a value; prints its version.
    Put {
        key: String,
        /// Read from the standard input if it is left out.
        value: Option<String>,
        /// Only if this is the present version.
        #[arg(long, value_name = "VERSION", conflicts_with = "if_absent")]
        if_match: Option<String>,
        /// Only if there is no such key.
        #[arg(long)]
        if_absent: bool,
        #[command(flatten)]
        fence: Fence,
        #[command(flatten)]
        nodes: Nodes,
    },
    /// Print a value.
    Get {
        key: String,
        /// What the node has applied will do: served without asking anybody, and perhaps out of date.
        #[arg(long)]
        stale: bool,
        #[command(flatten)]
        nodes: Nodes,
    },
    /// Forget a key.
    Delete {
        key: String,
        /// Only if this is the present version.
        #[arg(long, value_name = "VERSION")]
        if_match: Option<String>,
        #[command(flatten)]
        fence: Fence,
        #[command(flatten)]
        nodes: Nodes,
    },
    /// Print keys, versions and values as JSON.
    List {
        /// Only keys that begin with this.
        #[arg(long, default_value = "")]
        prefix: String,
        #[arg(long, default_value_t = 100)]
        limit: usize,
        #[command(flatten)]
        nodes: Nodes,
    },
    Lock(lock::Options),
    /// Print what a node knows of itself as JSON.
    Status {
        #[command(flatten)]
        at: At,
    },
    /// Look at the members of the cluster, or change them.
    #[command(subcommand)]
    Member(MemberCommand),
    /// Let a node take a snapshot, and cut its log below; prints the last slot that it covers.
    Snapshot {
        #[command(flatten)]
        operator: Operator,
    },
    /// Hand the lead over; prints who leads then.
    Transfer {
        /// The node that shall lead; whoever is nearest, if it is left out.
        id: Option<u64>,
        #[command(flatten)]
        operator: Operator,
    },
    Force(force::Options),
    /// Measure: clients that put, each waiting for its answer before it goes on.
    Bench(bench::Options),
    /// Start a cluster, load a table, kill the leader, and count what was lost.
    Demo(demo::Options),
}

/// The node that a call is for.
#[derive(Debug, Args)]
pub(crate) struct At {
    /// The node's HTTP address.
    #[arg(long = "http", value_name = "HOST:PORT", default_value = "127.0.0.1:8001")]
    pub(crate) node: String,
}

/// Where the service is.
#[derive(Debug, Args)]
pub(crate) struct Nodes {
    /// The HTTP address of any node; of several, the next is asked where one does not answer.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8001", value_delimiter = ',')]
    http: Vec<String>,
}

impl Nodes {
    /// A client that asks them until one answers.
    pub(crate) fn patient(self) -> Patient {
        Patient { client: Client::default(), nodes: self.http }
    }
}

/// Under which acquisition of a lock a write is made.
#[derive(Debug, Args)]
struct Fence {
    /// Only while the lock that came with this token is held still; `kv lock` sets it for what it runs.
    #[arg(long = "fence", value_name = "TOKEN", env = lock::TOKEN_VARIABLE)]
    token: Option<u64>,
}

/// A node's id, where the others reach it, and whether it is a witness: `ID=HOST:PORT` or `ID=HOST:PORT,witness`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Peer {
    pub(crate) id: NodeId,
    pub(crate) member: Member,
}

impl FromStr for Peer {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const FORM: &str = "a peer is ID=HOST:PORT or ID=HOST:PORT,witness, as in 1=127.0.0.1:7001";
        let (id, rest) = text.split_once('=').ok_or(FORM)?;
        let (address, kind) = match rest.split_once(',') {
            None => (rest, MemberKind::Voter),
            Some((address, "witness")) => (address, MemberKind::Witness),
            Some(_) => return Err(FORM),
        };
        if !is_address(address) {
            return Err(FORM);
        }
        let id = NodeId::new(id.parse().map_err(|_| FORM)?);
        Ok(Self { id, member: Member { kind, address: address.into() } })
    }
}

impl Cli {
    /// Reads the program's arguments; shows help where help is asked for.
    pub(crate) fn read() -> Result<Self, Failure> {
        Self::try_parse().map_err(|error| match error.kind() {
            ErrorKind::DisplayHelp
            | ErrorKind::DisplayVersion
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => error.exit(),
            _ => {
                let text = error.render().to_string();
                let reason = text.split("\n\n").next().unwrap_or_default().trim_start_matches("error: ");
                let reason: Vec<_> = reason.split_whitespace().collect();
                Failure::Refused(format!("{}; see kv --help", reason.join(" ")))
            }
        })
    }

    /// Does what was asked for.
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let client = Client::default();
        match self.command {
            Command::Serve(options) => return serve::serve(options).await,
            Command::Recover(options) => return serve::recover(options).await,
            Command::Bench(options) => return bench::bench(options).await,
            Command::Demo(options) => return demo::demo(options).await,
            Command::Put { key, value, if_match, if_absent, fence, nodes } => {
                let value = Bytes::from(value.map_or_else(standard_input, |value| Ok(value.into_bytes()))?);
                let options = WriteOptions { if_match, if_absent, fence: fence.token, idempotency_key: None };
                let answer = write(nodes.patient(), options, async |client, node, options| {
                    client.put(node, &key, value.clone(), options).await
                });
                say(answer.await?.version.unwrap_or_default());
            }
            Command::Get { key, stale, nodes } => {
                let get = async |client: &Client, node: &str| client.get(node, &key, stale).await;
                let answer = nodes.patient().call(get).await?;
                // Bytes as they are: a value need not be text. A reader that went away needs none.
                let _ = std::io::stdout().write_all(&answer.body);
            }
            Command::Delete { key, if_match, fence, nodes } => {
                let options = WriteOptions { if_match, fence: fence.token, ..WriteOptions::default() };
                let delete = async |client: &Client, node: &str, options: &WriteOptions| {
                    client.delete(node, &key, options).await
                };
                write(nodes.patient(), options, delete).await?;
            }
            Command::List { prefix, limit, nodes } => {
                let list = async |client: &Client, node: &str| client.list(node, &prefix, None, limit).await;
                let answer = nodes.patient().call(list).await?;
                say(String::from_utf8_lossy(&answer.body));
            }
            Command::Force(options) => force::force(&options)?,
            Command::Lock(options) => lock::lock(options).await?,
            Command::Status { at } => {
                let answer = client.status(&at.node).await?;
                say(serde_json::to_string_pretty(&answer).map_err(|error| Failure::Failed(told(&error)))?);
            }
            Command::Member(command) => command.run(&client).await?,
            Command::Snapshot { operator } => operator.snapshot(&client).await?,
            Command::Transfer { id, operator } => operator.transfer(&client, id).await?,
        }
        Ok(())
    }
}

/// Makes a write until a node answers; whichever of the tries is applied, it is the only one.
async fn write(
    patient: Patient,
    mut options: WriteOptions,
    write: impl AsyncFn(&Client, &str, &WriteOptions) -> Result<Answer, ClientError>,
) -> Result<Answer, ClientError> {
    options.idempotency_key = Some(patient.open_session().await?.next_key());
    patient.call(async |client, node| write(client, node, &options).await).await
}

/// Prints a line. A reader that went away needs none.
pub(crate) fn say(line: impl Display) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

fn standard_input() -> Result<Vec<u8>, Failure> {
    let mut value = Vec::new();
    let read = std::io::stdin().lock().read_to_end(&mut value);
    read.map_err(|error| Failure::Failed(format!("cannot read the value from the standard input: {error}")))?;
    Ok(value)
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let text = told(&error);
        match error {
            // Absent, changed or taken meanwhile: an answer like any other, and none that calls for another request.
            ClientError::Refused {
                status:
                    StatusCode::NOT_FOUND
                    | StatusCode::PRECONDITION_FAILED
                    | StatusCode::CONFLICT
                    | StatusCode::GONE,
                ..
            } => Self::Failed(text),
            ClientError::Refused { status, .. } if status.is_client_error() => Self::Refused(text),
            _ => Self::Failed(text),
        }
    }
}
