//! Building a node: bootstrap, join or restart.

use super::{Config, Handle, StartError, StateMachine};
use crate::multi::Membership;
use crate::storage::{Start, Storage};
use crate::timer::Timer;
use crate::transport::Transport;
use std::sync::Arc;

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
#[derive(Debug)]
pub struct Node<S: StateMachine> {
    handle: Handle<S>,
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
}

impl StateMachine for () {
    type Command = ();
    type Reply = ();
    fn apply(&mut self, _at: super::Position, _command: ()) {}
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
    pub async fn shutdown(self) -> Result<(), super::StopCause> {
        todo!()
    }
}

/// A node about to be started.
pub struct Builder<S> {
    config: Config,
    start: Start,
    transport: Option<Arc<dyn Transport>>,
    storage: Option<Arc<dyn Storage>>,
    timer: Option<Arc<dyn Timer>>,
    host: Host,
    factory: Option<Box<dyn Fn() -> S + Send + Sync>>,
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
            factory: None,
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

    /// A factory of the state machine: also used when the learner is rebuilt.
    pub fn state_machine<T: StateMachine>(
        self,
        factory: impl Fn() -> T + Send + Sync + 'static,
    ) -> Builder<T> {
        Builder {
            config: self.config,
            start: self.start,
            transport: self.transport,
            storage: self.storage,
            timer: self.timer,
            host: self.host,
            factory: Some(Box::new(factory)),
        }
    }

    /// Opens the storage and starts the node.
    ///
    /// # Errors
    ///
    /// [`StartError`]; nothing runs then, and no file was changed by a refusal.
    pub async fn start(self) -> Result<Node<S>, StartError> {
        todo!()
    }
}
