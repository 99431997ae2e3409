//! The node: started, served over HTTP, and stopped in good order.

use crate::cli::{Peer, say};
use crate::failure::{Failure, told};
use crate::http::{Service, routes};
use crate::store::Store;
use actix_web::{App, HttpServer, web};
use clap::Args;
use std::collections::BTreeMap;
use std::future::pending;
use std::io;
use std::net::TcpListener;
use std::path::PathBuf;
use std::time::Duration;
use synod::lock::keep_time;
use synod::storage::StorageError;
use synod::transport::TransportError;
use synod::{ClusterId, Config, FileStorage, Membership, Node, NodeId, StartError, StopCause};
use synod_tcp::Tcp;

/// How long requests under way may take to end when the node stops, in seconds.
const DRAIN_S: u64 = 2;
/// How long a connection of a client may be idle.
const KEEP_ALIVE: Duration = Duration::from_secs(75);

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// This node. An id is never reused: a machine that lost its disk comes back under a new one.
    #[arg(long)]
    id: u64,
    /// The cluster that it belongs to.
    #[arg(long, value_name = "NAME")]
    cluster: String,
    /// Where it keeps its promises; a directory of its own.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Where the other nodes reach it.
    #[arg(long, value_name = "HOST:PORT")]
    listen: String,
    /// Where clients reach it.
    #[arg(long, value_name = "HOST:PORT")]
    http: String,
    /// A member of the cluster; once for each, this node included.
    #[arg(long = "peer", value_name = "ID=HOST:PORT", required = true)]
    peers: Vec<Peer>,
    /// If the directory is empty: form a new cluster of the peers. Each of them is started with the same ones.
    #[arg(long, conflicts_with = "join")]
    bootstrap: bool,
    /// If the directory is empty: join a cluster that exists, as a node that it has not seen before.
    #[arg(long)]
    join: bool,
    /// Threads that serve HTTP.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u8).range(1..))]
    workers: u8,
}

/// Runs a node until it is told to stop, or cannot go on.
pub(crate) async fn serve(options: Options) -> Result<(), Failure> {
    let cluster = ClusterId::new(&options.cluster).map_err(|error| Failure::Refused(told(&error)))?;
    let config = Config::new(cluster.clone(), NodeId::new(options.id));
    let members = members(&options.peers)?;
    // The port first: a node that cannot be reached should not have promised anything.
    let listener = TcpListener::bind(&options.http).map_err(|error| cannot_listen(&options.http, &error))?;
    let address = listener.local_addr().map_err(|error| cannot_listen(&options.http, &error))?;

    let value_bytes_max = config.batch_bytes_max;
    let node = start(&options, config, members).await?;
    let handle = node.handle();
    let service = web::Data::new(Service { handle: handle.clone(), cluster, value_bytes_max });
    let server = HttpServer::new(move || App::new().app_data(service.clone()).configure(routes))
        .workers(options.workers.into())
        .keep_alive(KEEP_ALIVE)
        .shutdown_timeout(DRAIN_S)
        .disable_signals()
        .listen(listener)
        .map_err(|error| cannot_listen(&options.http, &error))?
        .run();
    let running = server.handle();
    actix_web::rt::spawn(server);
    say(format_args!("kv: node {} of {} serves http://{address}", options.id, options.cluster));

    let stopped = tokio::select! {
        cause = handle.stopped() => Some(cause),
        () = interrupted() => None,
    };
    // The requests under way first; they need the node.
    running.stop(true).await;
    match (stopped, node.shutdown().await) {
        (Some(cause), _) | (None, Err(cause)) => Err(cannot_go_on(&options, &cause)),
        (None, Ok(())) => Ok(()),
    }
}

/// Restarts the node that the directory holds, or makes a new one if that is asked for.
async fn start(
    options: &Options,
    config: Config,
    members: BTreeMap<NodeId, String>,
) -> Result<Node<Store>, Failure> {
    let refuse = |error| cannot_start(options, &error);
    let membership = Membership::voters(members.clone()).map_err(|error| Failure::Refused(told(&error)))?;
    let mut builder = Node::restart(config.clone());
    loop {
        let tcp = Tcp::insecure(&options.listen, members.clone()).map_err(|error| refuse(error.into()))?;
        let started = builder
            .transport(tcp)
            .storage(FileStorage::at(&options.data))
            .state_machine(Store::default)
            .service(keep_time)
            .start();
        builder = match started.await {
            Err(StartError::Storage(StorageError::Empty { .. })) if options.bootstrap => {
                Node::bootstrap(config.clone(), membership.clone())
            }
            Err(StartError::Storage(StorageError::Empty { .. })) if options.join => {
                Node::join(config.clone())
            }
            started => return started.map_err(refuse),
        };
    }
}

fn members(peers: &[Peer]) -> Result<BTreeMap<NodeId, String>, Failure> {
    let mut members = BTreeMap::new();
    for Peer { id, address } in peers {
        if members.insert(*id, address.clone()).is_some() {
            return Err(Failure::Refused(format!(
                "--peer names node {id} twice; give each node one address"
            )));
        }
    }
    Ok(members)
}

/// Resolves when the process is asked to end.
pub(crate) async fn interrupted() {
    tokio::select! {
        Ok(()) = tokio::signal::ctrl_c() => {}
        () = terminated() => {}
    }
}

#[cfg(unix)]
async fn terminated() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => _ = terminate.recv().await,
        Err(_) => pending().await,
    }
}

#[cfg(not(unix))]
async fn terminated() {
    pending().await
}

fn cannot_listen(address: &str, error: &io::Error) -> Failure {
    Failure::Refused(format!(
        "cannot listen on {address}: {error}; choose another address, or end what holds it"
    ))
}

fn cannot_start(options: &Options, error: &StartError) -> Failure {
    let Options { id, data, .. } = options;
    let data = data.display();
    let advice = match error {
        StartError::Storage(StorageError::Empty { .. }) => format!(
            "to form a new cluster, add --bootstrap; to join one, --join; if node {id} lost its disk, join under a new --id"
        ),
        StartError::Storage(error) => advice(error, options),
        StartError::NotAMember { .. } => format!("add --peer {id}=HOST:PORT, on every first member"),
        StartError::Transport(TransportError::Listen { .. }) => {
            format!("choose another address than --listen {}, or end what holds it", options.listen)
        }
        StartError::Stopped(cause) => return cannot_go_on(options, cause),
        _ => format!("nothing in {data} was changed"),
    };
    Failure::Refused(format!("{}; {advice}", told(error)))
}

/// A node that stopped by itself. What only an operator can put right is refused, like a wrong option.
fn cannot_go_on(options: &Options, cause: &StopCause) -> Failure {
    let id = options.id;
    let text = format!("node {id} stopped: {}", told(cause));
    match cause {
        StopCause::Storage(error) => Failure::Refused(format!("{text}; {}", advice(error, options))),
        StopCause::FormationDiffers { .. } => Failure::Refused(format!(
            "{text}; give every first member the same --cluster and --peer list, and start anew on an empty directory"
        )),
        StopCause::Abstains(_) => Failure::Refused(format!(
            "{text}; replace it: a node with an empty directory, --join and a new --id"
        )),
        _ => Failure::Failed(format!(
            "{text}; start it again: what it promised is kept in {}",
            options.data.display()
        )),
    }
}

/// What to do about a storage that refuses or fails.
fn advice(error: &StorageError, options: &Options) -> String {
    let data = options.data.display();
    match error {
        StorageError::Locked { .. } => "end that process, or give this one a --data of its own".into(),
        StorageError::WrongOwner { .. } => {
            "give it the --id and --cluster that it belongs to, or another --data".into()
        }
        StorageError::UnknownFormat { .. } => "use the version of kv that wrote it".into(),
        StorageError::Corrupt { .. } => {
            "keep it for examination, and replace the node: an empty directory, --join and a new --id".into()
        }
        StorageError::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
            format!("make room on the disk of {data} and start it again; what was acknowledged is kept")
        }
        _ => format!("see to {data} and start it again; what was acknowledged is kept"),
    }
}
