//! The actors: one node's roles, each behind a queue, on one arbiter.
//!
//! ```text
//!   handles, any thread                 the node's arbiter                            peers
//!                        ┌──────────────────────────────────────────────┐
//!   propose, read ──────►│ ProposerActor ── Accept, Forward ────────────┼──┐
//!                        │   │  ▲ Learned, Briefing                     │  │
//!                        │   │  │                                       │  ▼
//!                        │   │ AcceptorActor ── Accepted, Promise ──────┼─► Transport
//!                        │   │  │   │ group          (after the append) │  ▲    │
//!                        │   │  │   └──► Storage::append, one at a time │  │    │
//!                        │   │  ▼ Learned                               │  │    │ Inbox
//!   replies      ◄───────┼─ LearnerActor ── CatchUp, ForwardAnswer ─────┼──┤    │
//!                        │   ▲ callers of a batch                       │  │    │
//!   leadership   ◄───────┼─ HeartbeatActor ── Heartbeat, PrePrepare ────┼──┘    │
//!   shutdown    ────────►│   ▲ starts, watches, rebuilds, stops         │       │
//!                        │   └──────────────── arrivals ────────────────┼───────┘
//!                        └──────────────────────────────────────────────┘
//! ```
//!
//! A role is [`crate::multi`]'s; what it wants done is data, and [`carry_out`] is the one place that does it. The queues are
//! kept by the supervisor ([`wires`]); a turn of an actor is bounded ([`pump`]); a role that panicked is built anew from
//! what is durable ([`roster`]). On a witness another actor is in the learner's place ([`witness`]). What an application has
//! running beside them is in [`services`].
//!
//! What takes long is never done on the arbiter: snapshots are drawn and restored on threads of their own ([`aside`]), at a
//! pace that leaves the disk to the commits ([`snapshots`]); the disk is checked for rot as slowly ([`scrub`]).

mod acceptor;
mod alarm;
mod arrivals;
mod aside;
mod calls;
mod carry_out;
mod clients;
mod drawing;
mod heartbeat;
mod keeping;
mod kind;
mod learner;
mod learner_snapshots;
mod pace;
mod proposer;
mod pump;
mod queue;
mod restoring;
mod roster;
mod scrub;
mod services;
mod snapshots;
mod state;
mod waiter;
mod wires;
mod witness;

pub(crate) use clients::command_bytes_max;
pub(crate) use roster::Factory;
pub(crate) use services::Service;
pub(crate) use waiter::{AdminError, Outcome, ReadCall, UNKNOWN, Waiter};
pub(crate) use wires::{AcceptorMail, HeartbeatMail, LearnerMail, ProposerMail};

use crate::multi::{Identity, Limits, MemberKind, Memberships, ProtocolRange};
use crate::node::shared::Shared;
use crate::node::{Config, Handle, StartError, StateMachine, StopCause};
use crate::paxos::NodeId;
use crate::storage::{Recovered, Start, Storage};
use crate::timer::{Timer, TokioTimer};
use crate::transport::{Arrival, Inbox, Transport, TransportError};
use actix::Actor;
use futures::FutureExt;
use futures::channel::mpsc;
use futures::future::BoxFuture;
use heartbeat::{End, HeartbeatActor};
use pump::Desk;
use queue::Sender;
use roster::{Roster, election};
use services::serve;
use std::collections::{BTreeMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use wires::{Board, Queue, Wires};

/// All that it takes to start a node.
pub(crate) struct Setup<S: StateMachine> {
    pub(crate) config: Config,
    pub(crate) start: Start,
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) timer: Option<Arc<dyn Timer>>,
    /// None for a witness.
    pub(crate) factory: Option<Factory<S>>,
    /// The node in whose place this one is started.
    pub(crate) lost: Option<NodeId>,
    /// Of all jitter; random if not given.
    pub(crate) seed: Option<u64>,
    /// What runs for as long as the node does.
    pub(crate) services: Vec<Service<S>>,
}

/// The lines into a node that runs.
pub(crate) struct Lines<S: StateMachine> {
    pub(crate) proposer: Sender<ProposerMail<S>>,
    #[cfg_attr(not(any(test, feature = "testing")), allow(dead_code))]
    pub(crate) acceptor: Sender<AcceptorMail>,
    pub(crate) learner: Sender<LearnerMail<S>>,
    pub(crate) heartbeat: Sender<HeartbeatMail>,
    pub(crate) shared: Arc<Shared>,
}

impl<S: StateMachine> Clone for Lines<S> {
    fn clone(&self) -> Self {
        Self {
            proposer: self.proposer.clone(),
            acceptor: self.acceptor.clone(),
            learner: self.learner.clone(),
            heartbeat: self.heartbeat.clone(),
            shared: Arc::clone(&self.shared),
        }
    }
}

/// Opens the storage and starts a node on this thread's arbiter.
pub(crate) async fn launch<S: StateMachine>(setup: Setup<S>) -> Result<Lines<S>, StartError> {
    let Setup { config, start, transport, storage, timer, factory, lost, seed, services } = setup;
    let recovered = storage.open(config.owner.clone(), start).await?;
    for damage in storage.damage() {
        tracing::warn!(node = %config.owner.node, %damage, "finds damage in its storage");
    }
    if let Some(reason) = recovered.log.abstains() {
        tracing::warn!(node = %config.owner.node, %reason, "votes no more");
    }
    let witness = factory.is_none();
    if let Some(error) = refuse_kind(&config, witness, &recovered) {
        // The refusal is the one to tell.
        let _ = storage.close().await;
        return Err(error);
    }
    let identity = identity(&recovered);
    let (inbox, arrivals) = Inbox::channel(identity.clone(), config.inbox_bytes_max);
    let mut running = Arc::clone(&transport).run(inbox);
    if let Some(error) = fails_at_once(&mut running).await {
        // The transport's error is the one to tell.
        let _ = storage.close().await;
        return Err(error.into());
    }
    let seed = seed.unwrap_or_else(|| RandomState::new().hash_one(config.owner.node));
    let (proposer, acceptor, learner, heartbeat) = (Queue::new(), Queue::new(), Queue::new(), Queue::new());
    let shared = Shared::new(config.credits, witness, lost);
    let wires = Rc::new(Wires {
        limits: limits(&config),
        identity,
        config,
        timer: timer.unwrap_or_else(|| Arc::new(TokioTimer::default())),
        transport,
        storage,
        proposer: proposer.sender.clone(),
        acceptor: acceptor.sender.clone(),
        learner: learner.sender.clone(),
        heartbeat: heartbeat.sender.clone(),
        shared: Arc::clone(&shared),
        board: Board::default(),
        writing: Default::default(),
        first_memberships: Default::default(),
        forwarded: Arc::default(),
    });
    let roster = Roster {
        wires: Rc::clone(&wires),
        factory: factory.map(Arc::new),
        seed,
        proposer: proposer.receiver,
        acceptor: acceptor.receiver,
        learner: learner.receiver,
        rebuilt: VecDeque::new(),
    };
    roster.start(recovered);
    let transport = actix_rt::spawn(carry(running, heartbeat.sender.clone()));
    supervisor(Rc::clone(&wires), roster, arrivals, transport, &heartbeat).start();
    let lines = Lines {
        proposer: proposer.sender,
        acceptor: acceptor.sender,
        learner: learner.sender,
        heartbeat: heartbeat.sender,
        shared,
    };
    scrub::start(Rc::clone(&wires));
    serve(wires.me(), services, &Handle::new(lines.clone(), &wires.config), &wires.timer);
    Ok(lines)
}

/// Whether a node that was started as this kind is known by another one to the membership that it holds.
fn refuse_kind(config: &Config, witness: bool, recovered: &Recovered) -> Option<StartError> {
    let node = config.owner.node;
    if witness {
        let named = kind::forbids_restart(node, recovered)?;
        return Some(StartError::OtherKind { node, named, started: MemberKind::Witness });
    }
    if let Some(membership) = recovered.log.memberships().and_then(Memberships::newest) {
        kind::warn_of_differences(config, witness, membership);
    }
    None
}

fn supervisor<S: StateMachine>(
    wires: Rc<Wires<S>>,
    roster: Roster<S>,
    arrivals: mpsc::UnboundedReceiver<Arrival>,
    transport: actix_rt::task::JoinHandle<()>,
    queue: &Queue<HeartbeatMail>,
) -> HeartbeatActor<S> {
    let now = wires.timer.now();
    HeartbeatActor {
        election: election(&wires.config, roster.seed),
        desk: Desk::new(wires),
        roster,
        arrivals,
        transport,
        queue: Rc::clone(&queue.receiver),
        admissions: BTreeMap::new(),
        tickets: 0,
        rebuilding: None,
        pings: VecDeque::new(),
        next_ping: now,
        answers: true,
        healthy: true,
        disk_well: true,
        end: End::Open,
    }
}

type Running = BoxFuture<'static, Result<(), TransportError>>;

/// A transport that cannot even begin fails the start.
async fn fails_at_once(running: &mut Running) -> Option<TransportError> {
    let first = std::future::poll_fn(|task| Poll::Ready(running.poll_unpin(task))).await;
    match first {
        Poll::Ready(Err(error)) => Some(error),
        Poll::Ready(Ok(())) => Some(ended()),
        Poll::Pending => None,
    }
}

async fn carry(running: Running, supervisor: Sender<HeartbeatMail>) {
    let error = running.await.err().unwrap_or_else(ended);
    // A supervisor that has gone has stopped the node.
    let _ = supervisor.send(HeartbeatMail::Stop(StopCause::Transport(Arc::new(error))));
}

fn ended() -> TransportError {
    TransportError::Other {
        what: "the transport has ended".to_owned(),
        source: "it runs until dropped".into(),
    }
}

fn identity(recovered: &Recovered) -> Identity {
    Identity {
        owner: recovered.owner.clone(),
        disk: recovered.disk,
        incarnations: recovered.incarnations.clone(),
        sequence: recovered.sequence,
        protocol: ProtocolRange::OURS,
    }
}

fn limits(config: &Config) -> Limits {
    Limits {
        campaign_timeout: config.campaign_timeout,
        resend: config.resend,
        resend_max: config.resend_max,
        catch_up_timeout: config.catch_up_timeout,
        form_retry: config.form_retry,
        open_slots_max: config.open_slots_max,
        unacknowledged_bytes_max: config.unacknowledged_bytes_max,
        frame_bytes_max: config.frame_bytes_max,
        catch_up_bytes_max: config.catch_up_bytes_max,
        cache_bytes_max: config.cache_bytes_max,
        ahead_bytes_max: config.ahead_bytes_max,
        ahead_slots_max: config.ahead_slots_max,
        near_slots: config.near_slots,
        change_patience: config.change_patience,
        transfer_patience: config.liveness_window,
        snapshot_chunk_bytes: config.snapshot_chunk_bytes,
        open_slot_age_max: config.open_slot_age_max,
    }
}
