//! The roster: how the roles are built, at the start and again after a panic.
//!
//! A role is never gone on with after a panic: a new one is made from what is durable, and reads the queue of the old one.
//! Invariant: R1 nobody recovers from the storage before the append under way has ended (protocol 11.6).

use super::acceptor::AcceptorActor;
use super::learner::LearnerActor;
use super::proposer::ProposerActor;
use super::wires::{AcceptorMail, LearnerMail, ProposerMail, Receiver, Wires};
use super::witness::WitnessActor;
use crate::election::{Election, Timing};
use crate::multi::{Acceptor, AcceptorInput, Learner, LearnerInput, Local, Proposer, ProposerInput};
use crate::node::{Config, ElectionKind, StateMachine};
use crate::paxos::NodeId;
use crate::storage::{Recovered, StorageError};
use crate::timer::Time;
use actix::Actor;
use futures::FutureExt;
use futures::future::LocalBoxFuture;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// Rebuildings are counted over this time.
const BUDGET_PERIOD: Duration = Duration::from_secs(60);

/// Makes the state before the first command.
pub(crate) type Factory<S> = Box<dyn Fn() -> S + Send + Sync>;

pub(super) struct Roster<S: StateMachine> {
    pub(super) wires: Rc<Wires<S>>,
    /// None on a witness.
    pub(super) factory: Option<Arc<Factory<S>>>,
    pub(super) seed: u64,
    pub(super) proposer: Receiver<ProposerMail<S>>,
    pub(super) acceptor: Receiver<AcceptorMail>,
    pub(super) learner: Receiver<LearnerMail<S>>,
    pub(super) rebuilt: VecDeque<Time>,
}

impl<S: StateMachine> Roster<S> {
    /// Starts the three roles.
    pub(super) fn start(&self, recovered: Recovered) {
        self.start_acceptor(recovered);
        self.start_proposer();
        self.start_learner();
    }

    /// Whether one more role may be rebuilt.
    pub(super) fn spend(&mut self, now: Time) -> bool {
        while self.rebuilt.front().is_some_and(|at| now.since(*at) >= BUDGET_PERIOD) {
            self.rebuilt.pop_front();
        }
        let board = &self.wires.board;
        if self.rebuilt.len() >= self.wires.config.restart_budget as usize {
            return false;
        }
        self.rebuilt.push_back(now);
        board.rebuilt.set(board.rebuilt.get() + 1);
        true
    }

    /// A new proposer, which begins with nothing and is briefed by the acceptor.
    pub(super) fn start_proposer(&self) {
        let wires = &self.wires;
        let role = Proposer::new(wires.me(), wires.limits.clone(), self.next_seed(1));
        ProposerActor::new(Rc::clone(wires), Rc::clone(&self.proposer), role).start();
        for peer in self.peers() {
            wires.pass(Local::Proposer(ProposerInput::LinkUp { peer }), None);
        }
        wires.pass(Local::Acceptor(AcceptorInput::Start), None);
    }

    /// A new learner with a new state machine, to which the newest snapshot and the log above it are applied again; on a
    /// witness, with none.
    pub(super) fn start_learner(&self) {
        let wires = &self.wires;
        let role = Learner::new(wires.me(), wires.limits.clone(), self.next_seed(2));
        let (shared, queue) = (Rc::clone(wires), Rc::clone(&self.learner));
        match &self.factory {
            Some(factory) => drop(LearnerActor::new(shared, queue, role, Arc::clone(factory)).start()),
            None => drop(WitnessActor::new(shared, queue, role).start()),
        }
        for peer in self.peers() {
            wires.pass(Local::Learner(LearnerInput::LinkUp { peer }), None);
        }
        wires.pass(Local::Learner(LearnerInput::Start), None);
    }

    /// What a new acceptor is built from, once the running append has ended.
    pub(super) fn recover(&self) -> LocalBoxFuture<'static, Result<Recovered, StorageError>> {
        let wires = Rc::clone(&self.wires);
        async move {
            quiet(&wires).await?;
            wires.storage.recover().await
        }
        .boxed_local()
    }

    /// A new acceptor. What the old one owed the other roles is lost with it, so they ask and begin anew.
    pub(super) fn restart_acceptor(&self, recovered: Recovered) {
        self.start_acceptor(recovered);
        let wires = &self.wires;
        wires.pass(Local::Proposer(ProposerInput::StepDown), None);
        wires.pass(Local::Acceptor(AcceptorInput::Start), None);
        let chosen_through = wires.board.chosen_through.get();
        let learned = LearnerInput::Learned { values: Vec::new(), chosen_through, replay: true };
        wires.pass(Local::Learner(learned), None);
        wires.pass(Local::Learner(LearnerInput::Start), None);
    }

    fn start_acceptor(&self, recovered: Recovered) {
        let wires = &self.wires;
        let Recovered { bootstrap, sequence, log, .. } = recovered;
        let role = Acceptor::new(wires.identity.clone(), bootstrap, sequence, log, wires.limits.clone());
        let role = if self.factory.is_some() { role } else { role.witness() };
        AcceptorActor::new(Rc::clone(wires), Rc::clone(&self.acceptor), role, sequence).start();
    }

    fn peers(&self) -> Vec<NodeId> {
        self.wires.board.links.borrow().keys().copied().collect()
    }

    fn next_seed(&self, role: u64) -> u64 {
        let rebuilt = u64::from(self.wires.board.rebuilt.get());
        self.seed.wrapping_add(role).wrapping_add(rebuilt.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }
}

/// Waits until the append under way has ended.
pub(super) async fn quiet<S: StateMachine>(wires: &Wires<S>) -> Result<(), StorageError> {
    std::future::poll_fn(|task| {
        let mut writing = wires.writing.borrow_mut();
        let Some(running) = writing.as_mut() else { return std::task::Poll::Ready(Ok(())) };
        let ended = futures::ready!(running.poll(task));
        *writing = None;
        std::task::Poll::Ready(ended.map(drop))
    })
    .await
}

/// The election that the configuration asks for.
pub(super) fn election(config: &Config, seed: u64) -> Election {
    let timing = Timing {
        heartbeat: config.heartbeat,
        liveness_window: config.liveness_window,
        campaign_pause_max: config.campaign_pause_max,
        priority: config.priority,
    };
    match config.election {
        ElectionKind::Heartbeat => Election::heartbeat(config.owner.node, timing, seed),
        ElectionKind::External => Election::external(config.owner.node, timing, seed),
    }
}
