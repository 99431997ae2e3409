//! Building a node: bootstrap, join, restart or recover.

use super::recovery::recover;
use super::snapshot::{RestoreError, Snapshot, SnapshotReader};
use super::{Config, ConfigError, Handle, StartError, StateMachine, StopCause};
use crate::actors::{Factory, HeartbeatMail, Lines, Service, Setup, launch};
use crate::multi::{MemberKind, Membership};
use crate::paxos::NodeId;
use crate::storage::{Start, Storage};
use crate::timer::Timer;
use crate::transport::Transport;
use futures::FutureExt;
use futures::channel::oneshot;
use std::future::Future;
use std::sync::Arc;
use std::thread::JoinHandle;

/// Where a node's actors run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Host {
    /// On a thread and an actix system of its own. Works from any async runtime.
    #[default]
    OwnThread,
    /// On the arbiter that calls `start`.
    ThisArbiter,
}

/// A running node. Dropping it stops the node without draining.
pub struct Node<S: StateMachine> {
    handle: Handle<S>,
    /// With [`Host::OwnThread`].
    thread: Option<JoinHandle<()>>,
}

impl<S: StateMachine> std::fmt::Debug for Node<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node").field("thread", &self.thread).finish_non_exhaustive()
    }
}

impl Node<()> {
    /// A first member of a new cluster: every first member is started with the same membership, and the cluster forms when
    /// each has heard from every other one (protocol 9.1).
    pub fn bootstrap(config: Config, membership: Membership) -> Builder<()> {
        Builder::new(config, Start::Bootstrap(membership))
    }

    /// An observer of a cluster that exists: learns from any peer, votes only once a membership names it.
    pub fn join(config: Config) -> Builder<()> {
        Builder::new(config, Start::Join)
    }

    /// A node that was here before.
    pub fn restart(config: Config) -> Builder<()> {
        Builder::new(config, Start::Restart)
    }

    /// A machine that lost its disk, or can trust it no more: it joins under the new node id of `config`, and takes the place
    /// of `lost` in one change of the membership once it has caught up (protocol 9.2, 10.1). Short for [`Node::join`] with
    /// [`Builder::in_place_of`].
    ///
    /// There is no other way back: what the lost acceptor had promised is gone, and a quorum may rest on it, so its id never
    /// votes again.
    ///
    /// ```no_run
    /// # async fn example(config: synod::Config) -> Result<(), Box<dyn std::error::Error>> {
    /// # let hub = synod_channel::ChannelHub::new();
    /// use synod::{MemoryStorage, Node, NodeId};
    ///
    /// // Node 3 is lost. Its machine is node 4 from now on: `config` says so, and where node 4 is reached.
    /// let node = Node::recover(config, NodeId::new(3))
    ///     .transport(hub.transport(NodeId::new(4)))
    ///     .storage(MemoryStorage::default())
    ///     .start()
    ///     .await?;
    /// let membership = node.handle().recovered().await?;
    /// assert!(membership.votes(NodeId::new(4)) && !membership.votes(NodeId::new(3)));
    /// # Ok(())
    /// # }
    /// ```
    pub fn recover(config: Config, lost: NodeId) -> Builder<()> {
        Node::join(config).in_place_of(lost)
    }
}

impl StateMachine for () {
    type Command = ();
    type Reply = ();
    fn apply(&mut self, _at: super::Position, _command: ()) {}

    fn snapshot(&self) -> Snapshot {
        Snapshot::of(())
    }

    fn restore(&mut self, mut snapshot: SnapshotReader<'_>) -> Result<(), RestoreError> {
        snapshot.decode()
    }
}

impl<S: StateMachine> Node<S> {
    /// A handle for callers, cheap to clone, for any thread and executor.
    pub fn handle(&self) -> Handle<S> {
        self.handle.clone()
    }

    /// Stops taking commands, lets what is under way finish within `Config::shutdown_deadline`, closes the storage, stops.
    ///
    /// # Errors
    ///
    /// The cause, if the node had stopped before or its storage could not be closed in good order.
    pub async fn shutdown(mut self) -> Result<(), StopCause> {
        // A node that has stopped says so below.
        let _ = self.handle.tell(HeartbeatMail::Shutdown);
        let cause = self.handle.stopped().await;
        if let Some(thread) = self.thread.take() {
            // The node was its last work: this does not wait, but for what the thread itself takes to go.
            let _ = thread.join();
        }
        match cause {
            StopCause::Shutdown => Ok(()),
            cause => Err(cause),
        }
    }
}

impl<S: StateMachine> Drop for Node<S> {
    fn drop(&mut self) {
        // A node that has stopped needs no telling.
        let _ = self.handle.tell(HeartbeatMail::Stop(StopCause::Shutdown));
    }
}

/// A node about to be started.
pub struct Builder<S: StateMachine> {
    config: Config,
    start: Start,
    transport: Option<Arc<dyn Transport>>,
    storage: Option<Arc<dyn Storage>>,
    timer: Option<Arc<dyn Timer>>,
    host: Host,
    seed: Option<u64>,
    /// None on a witness.
    factory: Option<Factory<S>>,
    /// `state_machine` was called.
    has_machine: bool,
    lost: Option<NodeId>,
    services: Vec<Service<S>>,
    /// A service was given before the state machine that it is for.
    service_too_early: bool,
}

/// How many services a node can have.
const SERVICES_MAX: usize = 16;

impl<S: StateMachine> std::fmt::Debug for Builder<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Builder")
            .field("config", &self.config)
            .field("start", &self.start)
            .field("host", &self.host)
            .finish_non_exhaustive()
    }
}

impl Builder<()> {
    fn new(config: Config, start: Start) -> Self {
        Self {
            config,
            start,
            transport: None,
            storage: None,
            timer: None,
            host: Host::default(),
            seed: None,
            factory: Some(Box::new(|| ())),
            has_machine: false,
            lost: None,
            services: Vec::new(),
            service_too_early: false,
        }
    }
}

impl<S: StateMachine> Builder<S> {
    /// How messages travel.
    pub fn transport(mut self, transport: impl Transport) -> Self {
        self.transport = Some(Arc::new(transport));
        self
    }

    /// Where promises are kept.
    pub fn storage(mut self, storage: impl Storage) -> Self {
        self.storage = Some(Arc::new(storage));
        self
    }

    /// The clock; tokio's by default.
    pub fn timer(mut self, timer: impl Timer) -> Self {
        self.timer = Some(Arc::new(timer));
        self
    }

    /// Where the actors run.
    pub fn host(mut self, host: Host) -> Self {
        self.host = host;
        self
    }

    /// Feeds the jitter of all time-outs; random by default. For tests that shall run alike each time.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// A factory of the state machine: also used when the learner is rebuilt.
    pub fn state_machine<T: StateMachine>(
        self,
        factory: impl Fn() -> T + Send + Sync + 'static,
    ) -> Builder<T> {
        let is_witness = self.factory.is_none();
        let factory: Factory<T> = Box::new(factory);
        Builder { has_machine: true, ..self.of((!is_witness).then_some(factory)) }
    }

    /// Makes it a witness: it votes, and so keeps what is chosen from being lost, but holds no state, never leads, and forgets
    /// the log that enough full nodes hold (protocol 4.3). Two full nodes and a witness survive the loss of any one.
    ///
    /// `T` is the state machine of the other nodes. None is made here; the type says what can be proposed through this node's
    /// handle, which is forwarded to the leader like a command of any other member. Reads are refused, with
    /// [`ReadError::Witness`](super::ReadError::Witness). The membership has to name the node
    /// [`MemberKind::Witness`](crate::MemberKind::Witness), from the bootstrap on or by
    /// [`Handle::join_as`]; where it names it a voter, the node does not start ([`StartError::OtherKind`]), or stops
    /// ([`StopCause::OtherKind`]). A restarted witness is told so again.
    ///
    /// ```no_run
    /// # async fn example(config: synod::Config) -> Result<(), Box<dyn std::error::Error>> {
    /// # let hub = synod_channel::ChannelHub::new();
    /// use synod::{MemberKind, MemoryStorage, Node, NodeId};
    ///
    /// let node = Node::join(config)
    ///     .witness::<()>()
    ///     .transport(hub.transport(NodeId::new(3)))
    ///     .storage(MemoryStorage::default())
    ///     .start()
    ///     .await?;
    /// node.handle().join_as(MemberKind::Witness).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn witness<T: StateMachine>(self) -> Builder<T> {
        self.of(None)
    }

    /// The same node with another state machine, or none.
    fn of<T: StateMachine>(self, factory: Option<Factory<T>>) -> Builder<T> {
        Builder {
            config: self.config,
            start: self.start,
            transport: self.transport,
            storage: self.storage,
            timer: self.timer,
            host: self.host,
            seed: self.seed,
            factory,
            has_machine: self.has_machine,
            lost: self.lost,
            services: Vec::new(),
            service_too_early: self.service_too_early || !self.services.is_empty(),
        }
    }

    /// Has the node ask for the place of `lost` once it runs, and go on asking until it has it or is refused for good: see
    /// [`Node::recover`] and [`Handle::recovered`]. For a node that joins, or restarts after it was stopped half-way; what is
    /// done already is not done again.
    pub fn in_place_of(mut self, lost: NodeId) -> Self {
        self.lost = Some(lost);
        self
    }

    /// Something that shall run for as long as the node does, such as the lock service's [`keep_time`](crate::lock::keep_time).
    /// It is begun on the node's arbiter once the node has started, and dropped when the node is over; there it must not
    /// block. One that panics is gone, and the node goes on. To be given after [`Builder::state_machine`], up to 16 times.
    pub fn service<F: Future<Output = ()> + 'static>(
        mut self,
        service: impl FnOnce(Handle<S>, Arc<dyn Timer>) -> F + Send + 'static,
    ) -> Self {
        self.services.push(Box::new(|handle, timer| service(handle, timer).boxed_local()));
        self
    }

    /// Opens the storage and starts the node.
    ///
    /// # Errors
    ///
    /// [`StartError`]; nothing runs then, and no file was changed by a refusal.
    pub async fn start(self) -> Result<Node<S>, StartError> {
        let host = self.host;
        let setup = self.setup()?;
        let config = setup.config.clone();
        let (started, outcome) = oneshot::channel();
        let thread = match host {
            Host::ThisArbiter => {
                actix_rt::Arbiter::try_current().ok_or(StartError::NoArbiter)?;
                actix_rt::spawn(async move {
                    // A starter that has gone drops the lines; then nobody wants the node.
                    if let Err(Ok(lines)) = started.send(launch(setup).await) {
                        give_up(&lines);
                    }
                });
                None
            }
            Host::OwnThread => Some(spawn(setup, started)?),
        };
        let lines = outcome.await.unwrap_or(Err(StartError::Stopped(StopCause::Gone)))?;
        Ok(Node { handle: Handle::new(lines, &config), thread })
    }

    /// Checks what can be checked before anything is touched.
    fn setup(self) -> Result<Setup<S>, StartError> {
        self.config.check()?;
        self.check_part()?;
        if self.service_too_early {
            let problem = "must be given after `state_machine` or `witness`";
            return Err(ConfigError { field: "service", problem }.into());
        }
        if self.services.len() > SERVICES_MAX {
            return Err(ConfigError { field: "service", problem: "may be given at most 16 times" }.into());
        }
        let missing = |field| ConfigError { field, problem: "must be given to the builder" };
        let mut services = self.services;
        if let Some(lost) = self.lost {
            let patience = self.config.change_patience;
            services.push(Box::new(move |handle, timer| {
                recover(handle.with_deadline(patience), timer, lost).boxed_local()
            }));
        }
        Ok(Setup {
            config: self.config,
            start: self.start,
            transport: self.transport.ok_or(missing("transport"))?,
            storage: self.storage.ok_or(missing("storage"))?,
            timer: self.timer,
            factory: self.factory,
            lost: self.lost,
            seed: self.seed,
            services,
        })
    }

    /// Whether what the node shall be fits the membership, and itself.
    fn check_part(&self) -> Result<(), StartError> {
        let (node, is_witness) = (self.config.owner.node, self.factory.is_none());
        let started = if is_witness { MemberKind::Witness } else { MemberKind::Voter };
        if is_witness && self.has_machine {
            let problem = "must not be given to a witness, which applies nothing";
            return Err(ConfigError { field: "state_machine", problem }.into());
        }
        if self.lost == Some(node) {
            return Err(StartError::SameId { node });
        }
        let Start::Bootstrap(membership) = &self.start else { return Ok(()) };
        if self.lost.is_some() {
            let problem = "is for a node that joins or restarts";
            return Err(ConfigError { field: "in_place_of", problem }.into());
        }
        match membership.members().get(&node).map(|member| member.kind) {
            None => Err(StartError::NotAMember { node }),
            Some(named) if is_witness != (named == MemberKind::Witness) => {
                Err(StartError::OtherKind { node, named, started })
            }
            Some(_) => Ok(()),
        }
    }
}

type Started<S> = oneshot::Sender<Result<Lines<S>, StartError>>;

/// Starts a node on a thread and an actix system of its own, which end with the node.
fn spawn<S: StateMachine>(setup: Setup<S>, started: Started<S>) -> Result<JoinHandle<()>, StartError> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(StartError::Thread)?;
    let name = format!("synod-{}", setup.config.owner.node);
    let run = move || {
        let system = actix::System::with_tokio_rt(move || runtime);
        system.block_on(async move {
            let lines = match launch(setup).await {
                Ok(lines) => lines,
                // A starter that has gone need not hear it.
                Err(error) => return drop(started.send(Err(error))),
            };
            let life = Arc::clone(&lines.shared);
            if let Err(Ok(lines)) = started.send(Ok(lines)) {
                give_up(&lines);
            }
            life.over().await;
        });
    };
    std::thread::Builder::new().name(name).spawn(run).map_err(StartError::Thread)
}

/// Whoever started the node does not want it any more.
fn give_up<S: StateMachine>(lines: &Lines<S>) {
    // It may have stopped by itself.
    let _ = lines.heartbeat.send(HeartbeatMail::Stop(StopCause::Shutdown));
}
