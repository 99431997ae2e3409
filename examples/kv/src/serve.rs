//! The node: started, served over HTTP, and stopped in good order.

mod part;

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
use synod::{
    ClusterId, Config, FileStorage, Member, MemberKind, Membership, Node, NodeId, StartError, StopCause,
};
use synod_tcp::Tcp;

/// How long requests under way may take to end when the node stops, in seconds.
const DRAIN_S: u64 = 2;
/// How long a connection of a client may be idle.
const KEEP_ALIVE: Duration = Duration::from_secs(75);

/// `kv serve`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    place: Place,
    /// If the directory is empty: form a new cluster of the peers. Each of them is started with the same ones.
    #[arg(long, conflicts_with = "join")]
    bootstrap: bool,
    /// If the directory is empty: join a cluster that exists, as a node that it has not seen before. It learns, and votes once
    /// `kv member add` says so.
    #[arg(long)]
    join: bool,
    /// It joins to learn only, and sees to it that it is a member as which it does so.
    #[arg(long, conflicts_with_all = ["witness", "bootstrap"])]
    observer: bool,
}

/// Run a node in the place of one that is lost with its disk.
///
/// A machine that lost its disk, or can trust it no more, comes back as a new node: what the old one had promised is
/// forgotten, and others may rely on it, so its id never votes again. The new node learns what was chosen, and then takes
/// the lost one's place in one step. The same command restarts it later, as `kv serve` does.
#[derive(Debug, Args)]
pub(crate) struct RecoverOptions {
    /// The id of the node that is lost.
    #[arg(long, value_name = "ID")]
    lost: u64,
    #[command(flatten)]
    place: Place,
}

/// Who a node is, and where.
#[derive(Debug, Args)]
struct Place {
    /// This node. An id is never reused: a machine that lost its disk comes back under a new one.
    #[arg(long)]
    id: u64,
    /// The cluster that it belongs to.
    #[arg(long, value_name = "NAME")]
    cluster: String,
    /// The epoch of the cluster: 0, until `kv force` has said another. What a used directory says counts more.
    #[arg(long, value_name = "N", default_value_t = 0)]
    epoch: u64,
    /// Where it keeps its promises; a directory of its own.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Where the other nodes reach it.
    #[arg(long, value_name = "HOST:PORT")]
    listen: String,
    /// Where clients reach it.
    #[arg(long, value_name = "HOST:PORT")]
    http: String,
    /// A member of the cluster; once for each, this node included. A witness is one on all of them.
    #[arg(long = "peer", value_name = "ID=HOST:PORT[,witness]", required = true)]
    peers: Vec<Peer>,
    /// It keeps the log and votes, but holds no state and never leads; from its first start on, and ever after.
    #[arg(long)]
    witness: bool,
    /// Threads that serve HTTP.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u8).range(1..))]
    workers: u8,
}

/// What a node does whose directory is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Empty {
    Refuse,
    Bootstrap,
    /// Joins, and is made a member of this kind by itself, if of any.
    Join(Option<MemberKind>),
    /// Joins, and takes the place of this node.
    Recover(NodeId),
}

/// Runs a node until it is told to stop, or cannot go on.
pub(crate) async fn serve(options: Options) -> Result<(), Failure> {
    let Options { place, bootstrap, join, observer } = options;
    let kind = place.witness.then_some(MemberKind::Witness).or(observer.then_some(MemberKind::Observer));
    let empty = match (bootstrap, join || observer) {
        (true, _) => Empty::Bootstrap,
        (_, true) => Empty::Join(kind),
        (false, false) => Empty::Refuse,
    };
    run(place, empty).await
}

/// The same for a node in the place of one that is lost.
pub(crate) async fn recover(options: RecoverOptions) -> Result<(), Failure> {
    run(options.place, Empty::Recover(NodeId::new(options.lost))).await
}

async fn run(place: Place, empty: Empty) -> Result<(), Failure> {
    let cluster = ClusterId::new(&place.cluster).map_err(|error| Failure::Refused(told(&error)))?;
    let peers = peers(&place.peers)?;
    let id = NodeId::new(place.id);
    let address = peers.get(&id).map_or(&place.listen, |member| &member.address);
    let mut config = Config::new(cluster.clone(), id).address(address);
    config.owner.epoch = place.epoch;
    // The port first: a node that cannot be reached should not have promised anything.
    let listener = TcpListener::bind(&place.http).map_err(|error| cannot_listen(&place.http, &error))?;
    let address = listener.local_addr().map_err(|error| cannot_listen(&place.http, &error))?;

    let value_bytes_max = config.batch_bytes_max;
    let node = start(&place, empty, config, peers).await?;
    let handle = node.handle();
    let service = web::Data::new(Service { handle: handle.clone(), cluster, value_bytes_max });
    let server = HttpServer::new(move || App::new().app_data(service.clone()).configure(routes))
        .workers(place.workers.into())
        .keep_alive(KEEP_ALIVE)
        .shutdown_timeout(DRAIN_S)
        .disable_signals()
        .listen(listener)
        .map_err(|error| cannot_listen(&place.http, &error))?
        .run();
    let running = server.handle();
    actix_web::rt::spawn(server);
    say(format_args!("kv: node {id} of {} serves http://{address}", place.cluster));

    let stopped = tokio::select! {
        cause = handle.stopped() => Err(cannot_go_on(&place, &cause)),
        failure = part::take(&handle, empty) => Err(failure),
        () = interrupted() => Ok(()),
    };
    // The requests under way first; they need the node.
    running.stop(true).await;
    match (stopped, node.shutdown().await) {
        (_, Err(StopCause::Removed)) => {
            say(format_args!("kv: node {id} was removed from the cluster, and is over"));
            Ok(())
        }
        (Err(failure), _) => Err(failure),
        (Ok(()), Err(cause)) => Err(cannot_go_on(&place, &cause)),
        (Ok(()), Ok(())) => Ok(()),
    }
}

/// Restarts the node that the directory holds, or makes a new one if that is asked for.
async fn start(
    place: &Place,
    empty: Empty,
    config: Config,
    peers: BTreeMap<NodeId, Member>,
) -> Result<Node<Store>, Failure> {
    let refuse = |error| cannot_start(place, &error);
    let addresses: BTreeMap<_, _> = peers.iter().map(|(id, member)| (*id, member.address.clone())).collect();
    let membership = Membership::new(peers, Membership::ALPHA_DEFAULT);
    let membership = membership.map_err(|error| Failure::Refused(told(&error)))?;
    let mut builder = Node::restart(config.clone());
    loop {
        let tcp = Tcp::insecure(&place.listen, addresses.clone()).map_err(|error| refuse(error.into()))?;
        let mut with_state = if place.witness {
            builder.witness::<Store>()
        } else {
            builder.state_machine(Store::default).service(keep_time)
        };
        if let Empty::Recover(lost) = empty {
            with_state = with_state.in_place_of(lost);
        }
        let started = with_state.transport(tcp).storage(FileStorage::at(&place.data)).start().await;
        builder = match (started, empty) {
            (Err(StartError::Storage(StorageError::Empty { .. })), Empty::Bootstrap) => {
                Node::bootstrap(config.clone(), membership.clone())
            }
            (Err(StartError::Storage(StorageError::Empty { .. })), Empty::Join(_) | Empty::Recover(_)) => {
                Node::join(config.clone())
            }
            (started, _) => return started.map_err(refuse),
        };
    }
}

fn peers(peers: &[Peer]) -> Result<BTreeMap<NodeId, Member>, Failure> {
    let mut members = BTreeMap::new();
    for Peer { id, member } in peers {
        if members.insert(*id, member.clone()).is_some() {
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

fn cannot_start(place: &Place, error: &StartError) -> Failure {
    let Place { id, data, .. } = place;
    let data = data.display();
    let advice = match error {
        StartError::Storage(StorageError::Empty { .. }) => format!(
            "to form a new cluster, add --bootstrap; to join one, --join; if node {id} lost its disk, kv recover --lost {id} and a new --id"
        ),
        StartError::Storage(error) => advice(error, place),
        StartError::OtherKind { named: MemberKind::Witness, .. } => "add --witness".into(),
        StartError::OtherKind { .. } => {
            format!("leave --witness out, or name it --peer {id}=HOST:PORT,witness on every first member")
        }
        StartError::SameId { .. } => "give it a new --id".into(),
        StartError::NotAMember { .. } => format!("add --peer {id}=HOST:PORT, on every first member"),
        StartError::Transport(TransportError::Listen { .. }) => {
            format!("choose another address than --listen {}, or end what holds it", place.listen)
        }
        StartError::Stopped(cause) => return cannot_go_on(place, cause),
        _ => format!("nothing in {data} was changed"),
    };
    Failure::Refused(format!("{}; {advice}", told(error)))
}

/// A node that stopped by itself. What only an operator can put right is refused, like a wrong option.
fn cannot_go_on(place: &Place, cause: &StopCause) -> Failure {
    let id = place.id;
    let text = format!("node {id} stopped: {}", told(cause));
    match cause {
        StopCause::Storage(error) => Failure::Refused(format!("{text}; {}", advice(error, place))),
        StopCause::FormationDiffers { .. } => Failure::Refused(format!(
            "{text}; give every first member the same --cluster and --peer list, and start anew on an empty directory"
        )),
        StopCause::OtherKind { .. } => Failure::Refused(format!(
            "{text}; remove it, and add a new node with an empty directory and a new --id"
        )),
        StopCause::Abstains(_) => Failure::Refused(format!(
            "{text}; replace it: kv recover --lost {id}, with an empty directory and a new --id"
        )),
        _ => Failure::Failed(format!(
            "{text}; start it again: what it promised is kept in {}",
            place.data.display()
        )),
    }
}

/// What to do about a storage that refuses or fails.
fn advice(error: &StorageError, place: &Place) -> String {
    let data = place.data.display();
    match error {
        StorageError::Locked { .. } => "end that process, or give this one a --data of its own".into(),
        StorageError::WrongOwner { .. } => {
            "give it the --id and --cluster that it belongs to, or another --data".into()
        }
        StorageError::UnknownFormat { .. } => "use the version of kv that wrote it".into(),
        StorageError::Corrupt { .. } => {
            format!(
                "keep it for examination, and replace the node: kv recover --lost {}, with an empty directory and a new --id",
                place.id
            )
        }
        StorageError::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
            format!("make room on the disk of {data} and start it again; what was acknowledged is kept")
        }
        _ => format!("see to {data} and start it again; what was acknowledged is kept"),
    }
}
