//! The supervisor: runs the election, brings what arrives to its role, watches the roles, rebuilds them, ends the node.
//!
//! Heartbeats leave only while proposer, acceptor and learner answer (protocol 8.3).
//! Never does: assume that a role that has gone can be resumed.

use super::kind::{forbids_witness, warn_of_differences};
use super::pump::{Desk, Flow, Part, Pump, panic_as_asked};
use super::roster::{Roster, quiet};
use super::wires::{AcceptorMail, HeartbeatMail, LearnerMail, ProposerMail, Receiver, place};
use crate::election::Election;
use crate::multi::{AbstainReason, Briefing, Effect, ElectionInput, Event, ProposerState, Refusal, Role};
use crate::node::{Leadership, StateMachine, Status, StopCause};
use crate::storage::{Recovered, StorageError};
use crate::timer::Time;
use crate::transport::Arrival;
use actix::{Actor, AsyncContext, Context};
use futures::FutureExt;
use futures::channel::{mpsc, oneshot};
use futures::future::LocalBoxFuture;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context as Task, Poll};
use std::time::Duration;

/// A role that has let so many heartbeats pass without an answer is not well.
const PINGS_MAX: usize = 3;

/// While the node drains, it looks this often whether it is done.
const DRAIN_LOOK: Duration = Duration::from_millis(5);

pub(super) struct HeartbeatActor<S: StateMachine> {
    pub(super) election: Election,
    pub(super) desk: Desk<S>,
    pub(super) roster: Roster<S>,
    pub(super) arrivals: mpsc::UnboundedReceiver<Arrival>,
    pub(super) transport: actix_rt::task::JoinHandle<()>,
    pub(super) queue: Receiver<HeartbeatMail>,
    pub(super) admissions: BTreeMap<u64, oneshot::Sender<Result<(), Refusal>>>,
    pub(super) tickets: u64,
    pub(super) rebuilding: Option<LocalBoxFuture<'static, Result<Recovered, StorageError>>>,
    pub(super) pings: VecDeque<Time>,
    pub(super) next_ping: Time,
    /// Every role answers.
    pub(super) answers: bool,
    /// And the state is there.
    pub(super) healthy: bool,
    pub(super) disk_well: bool,
    pub(super) end: End,
}

/// How far the node has come to its end.
pub(super) enum End {
    /// Not yet.
    Open,
    /// What is under way is finished, until then at most.
    Draining(Time),
    /// The storage is being closed.
    Closing(LocalBoxFuture<'static, Result<(), StorageError>>),
}

impl<S: StateMachine> HeartbeatActor<S> {
    fn step(&mut self, input: ElectionInput) {
        self.election.step(self.desk.now, input, &mut self.desk.effects);
    }

    // ---------------------------------------------------------------- events

    fn event(&mut self, event: Event) {
        let node = self.desk.wires.me();
        match event {
            Event::Acquired { id } => {
                tracing::info!(%node, proposal = ?id, "leads");
                self.lead(Leadership::Acquired(id));
            }
            Event::Lost => {
                tracing::info!(%node, "leads no more");
                self.lead(Leadership::Lost);
            }
            Event::Changed { leader } => {
                tracing::info!(%node, proposal = ?leader, "follows");
                self.lead(Leadership::Changed(leader));
            }
            Event::Formed => tracing::info!(%node, "the cluster has formed"),
            Event::Abstains { reason } => {
                tracing::warn!(%node, %reason, "votes no more");
                if reason == AbstainReason::AlreadyFormed {
                    self.end(StopCause::Abstains(reason));
                }
            }
            Event::FormationDiffers { peer, outvoted } => {
                tracing::warn!(%node, from = %peer, "a member belongs to another cluster or membership");
                if outvoted {
                    self.end(StopCause::FormationDiffers { peer });
                }
            }
            Event::MembershipLearned { membership, in_force_above } => {
                let voters = membership.voting().count();
                tracing::info!(%node, voters, slot = %in_force_above, "the membership changes");
                let wires = &self.desk.wires;
                warn_of_differences(&wires.config, wires.shared.witness, &membership);
                if voters.is_multiple_of(2) {
                    tracing::warn!(%node, voters, "an even number of voters survives no more losses than one less");
                }
            }
            Event::Removed => self.end(StopCause::Removed),
            Event::Installed { through } => tracing::info!(%node, slot = %through, "installs a snapshot"),
            Event::SnapshotDamaged { snapshot } => {
                tracing::warn!(%node, slot = %snapshot.through, "finds its snapshot damaged, and replaces it");
            }
            Event::EntriesDamaged { slots } => {
                tracing::warn!(%node, ?slots, "finds damaged entries, and mends them");
            }
            Event::FactsDamaged => {
                tracing::warn!(%node, "finds its promises damaged on disk, and restates them")
            }
            Event::ProposalIdExhausted => tracing::error!(%node, "has no proposal id left"),
            // The proposer's shell deals with them.
            Event::BatchRefused { .. } | Event::BatchLost { .. } => {}
        }
    }

    /// A witness that is named a voter has no state to be one with: it stops before it is taken for one.
    fn look_at_kind(&mut self, briefing: &Briefing) {
        let wires = &self.desk.wires;
        let Some(memberships) = briefing.memberships.as_ref().filter(|_| wires.shared.witness) else {
            return;
        };
        if let Some(named) = forbids_witness(wires.me(), memberships, briefing.chosen_through) {
            self.end(StopCause::OtherKind { named });
        }
    }

    fn lead(&self, leadership: Leadership) {
        self.desk.wires.shared.leadership.update(|_| Some(leadership));
    }

    fn show_leader(&self) {
        let wires = &self.desk.wires;
        let leader = self.election.leader();
        if wires.board.leader.replace(leader) != leader {
            // The proposer's queue is closed only when the node is over.
            let _ = wires.proposer.send(ProposerMail::LeaderChanged);
        }
    }

    fn status(&self) -> Status {
        let (node, board) = (self.desk.wires.me(), &self.desk.wires.board);
        Status {
            node,
            proposer: board.proposer.get().unwrap_or(ProposerState::Idle),
            leader: self.election.leader(),
            promised: board.promised.get(),
            chosen_through: board.chosen_through.get(),
            applied_through: board.applied_through.get(),
            log_begins_at: board.log_begins_at.get(),
            snapshot: board.snapshot.get(),
            restoring: board.is_restoring(),
            kind: board
                .membership
                .borrow()
                .as_ref()
                .and_then(|all| all.members().get(&node).map(|one| one.kind)),
            membership: board.membership.borrow().clone(),
            recovery: self.desk.wires.shared.recovery.get(),
            abstains: board.abstains.get(),
            rebuilt: board.rebuilt.get(),
            forged: board.forged.get(),
        }
    }

    // ---------------------------------------------------------------- supervision

    /// Asks every role whether it answers, and tells the election when one does not.
    fn watch_roles(&mut self) {
        let now = self.desk.now;
        if self.next_ping > now || !matches!(self.end, End::Open) {
            return;
        }
        let wires = &self.desk.wires;
        self.next_ping = now + wires.config.heartbeat;
        let patience = self.pings.front().copied().filter(|_| self.pings.len() >= PINGS_MAX);
        let answers = patience.is_none_or(|asked| wires.board.answered.iter().all(|at| at.get() >= asked));
        let restoring = wires.board.is_restoring();
        if answers != self.answers {
            self.answers = answers;
            tracing::warn!(node = %wires.me(), well = answers, "the health of the roles changes");
        }
        // Without a state a leader could answer nobody.
        let healthy = answers && !restoring;
        // The queues are closed only when the node is over.
        let _ = wires.proposer.send(ProposerMail::Ping);
        let _ = wires.acceptor.send(AcceptorMail::Ping);
        let _ = wires.learner.send(LearnerMail::Ping);
        self.pings.push_back(now);
        if self.pings.len() > PINGS_MAX {
            self.pings.pop_front();
        }
        let disk_well = wires.look_at_disk();
        if disk_well != self.disk_well {
            self.disk_well = disk_well;
            tracing::warn!(node = %wires.me(), well = disk_well, "the health of the disk changes");
            self.step(ElectionInput::DiskWell(disk_well));
        }
        if healthy != self.healthy {
            self.healthy = healthy;
            tracing::debug!(node = %self.desk.wires.me(), healthy, restoring, "may lead, or may not");
            self.step(ElectionInput::Healthy(healthy));
        }
    }

    fn died(&mut self, role: Role, panicked: Option<String>) {
        if self.desk.wires.board.over.get() {
            return;
        }
        let node = self.desk.wires.me();
        let message = panicked.unwrap_or_else(|| "it stopped without a word".to_owned());
        tracing::error!(%node, role = name(role), message, "a role is gone");
        if !self.roster.spend(self.desk.now) {
            self.end(StopCause::RolePanicked { role: name(role), message });
            return;
        }
        self.desk.wires.board.answered[place(role)].set(self.desk.now);
        match role {
            Role::Proposer => {
                self.step(ElectionInput::Proposer(ProposerState::Idle));
                self.roster.start_proposer();
            }
            Role::Acceptor => {
                // Who waits for an answer of the old one asks again.
                self.admissions.clear();
                self.rebuilding = Some(self.roster.recover());
            }
            Role::Learner => self.roster.restart_learner(),
            Role::Election => {}
        }
    }

    fn poll_rebuilding(&mut self, task: &mut Task<'_>) {
        let Some(rebuilding) = &mut self.rebuilding else { return };
        let Poll::Ready(recovered) = rebuilding.poll_unpin(task) else { return };
        self.rebuilding = None;
        match recovered {
            Ok(recovered) => self.roster.restart_acceptor(recovered),
            Err(error) => self.end(StopCause::Storage(Arc::new(error))),
        }
    }

    // ---------------------------------------------------------------- the end

    fn drain(&mut self) {
        if matches!(self.end, End::Open) {
            self.desk.wires.shared.drain();
            self.end = End::Draining(self.desk.now + self.desk.wires.config.shutdown_deadline);
        }
    }

    fn look_drained(&mut self) {
        let End::Draining(until) = self.end else { return };
        let wires = &self.desk.wires;
        let done = wires.shared.credits.in_use() == 0 && wires.forwarded.load(Ordering::Relaxed) == 0;
        if done || until <= self.desk.now {
            self.step(ElectionInput::StepDown);
            self.end(StopCause::Shutdown);
        }
    }

    /// Stops the roles and the transport, then closes the storage.
    fn end(&mut self, cause: StopCause) {
        if matches!(self.end, End::Closing(_)) {
            return;
        }
        let wires = Rc::clone(&self.desk.wires);
        let in_doubt = matches!(cause, StopCause::Storage(_));
        wires.shared.ending(cause);
        wires.board.over.set(true);
        self.transport.abort();
        self.rebuilding = None;
        // Wakes the roles, which see that the node is over.
        wires.proposer.close();
        wires.acceptor.close();
        wires.learner.close();
        let closing = async move {
            quiet(&wires).await?;
            // A storage that has failed is not touched again.
            if in_doubt { Ok(()) } else { wires.storage.close().await }
        };
        self.end = End::Closing(closing.boxed_local());
    }

    fn poll_end(&mut self, task: &mut Task<'_>) -> Flow {
        let End::Closing(closing) = &mut self.end else { return Flow::Continue };
        let Poll::Ready(closed) = closing.poll_unpin(task) else { return Flow::Continue };
        let cause = closed.err().map_or(StopCause::Gone, |error| StopCause::Storage(Arc::new(error)));
        self.desk.wires.shared.ended(cause);
        Flow::Stop
    }

    fn next_look(&self) -> Option<Time> {
        match self.end {
            End::Open => Some(self.next_ping),
            End::Draining(_) => Some(self.desk.now + DRAIN_LOOK),
            End::Closing(_) => None,
        }
    }
}

fn name(role: Role) -> &'static str {
    match role {
        Role::Proposer => "proposer",
        Role::Acceptor => "acceptor",
        Role::Learner => "learner",
        Role::Election => "heartbeat",
    }
}

impl<S: StateMachine> Part for HeartbeatActor<S> {
    type Mail = HeartbeatMail;

    fn begin(&mut self) {
        if self.desk.begin() {
            self.step(ElectionInput::Wake);
        }
    }

    fn receive(&mut self, mail: HeartbeatMail) {
        match mail {
            HeartbeatMail::Input(input, held) => {
                if let ElectionInput::Briefing(briefing) = &input {
                    self.look_at_kind(briefing);
                }
                self.step(input);
                drop(held);
            }
            HeartbeatMail::Event(event) => self.event(event),
            HeartbeatMail::Admission { ticket, verdict } => {
                if let Some(answer) = self.admissions.remove(&ticket) {
                    // A transport that has given the connection up need not hear it.
                    let _ = answer.send(verdict);
                }
            }
            HeartbeatMail::Died { role, panicked } => self.died(role, panicked),
            HeartbeatMail::Status(asker) => drop(asker.send(self.status())),
            HeartbeatMail::Shutdown => self.drain(),
            HeartbeatMail::Stop(cause) => self.end(cause),
            HeartbeatMail::Panic => panic_as_asked(),
        }
    }

    fn finish(&mut self, task: &mut Task<'_>) -> Flow {
        self.take_arrivals(task);
        self.watch_roles();
        self.look_drained();
        self.poll_rebuilding(task);
        if matches!(self.end, End::Closing(_)) {
            // It may take a while, if an append hangs; a node that is over says nothing meanwhile (8.2).
            self.desk.effects.retain(|effect| matches!(effect, Effect::Event(_)));
        }
        let mut events = Vec::new();
        self.desk.carry_out(None, |effect| {
            if let Effect::Event(event) = effect {
                events.push(event);
            }
        });
        events.into_iter().for_each(|event| self.event(event));
        self.show_leader();
        self.desk.sleep(self.next_look(), task);
        self.poll_end(task)
    }

    /// Nobody rebuilds the supervisor: the node is over.
    fn panicked(&mut self, message: String) {
        let wires = &self.desk.wires;
        wires.board.over.set(true);
        wires.proposer.close();
        wires.acceptor.close();
        wires.learner.close();
        wires.shared.ended(StopCause::RolePanicked { role: name(Role::Election), message });
    }
}

impl<S: StateMachine> Actor for HeartbeatActor<S> {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        context.spawn(Pump::<Self>::new(Rc::clone(&self.queue)));
    }
}

impl<S: StateMachine> Drop for HeartbeatActor<S> {
    /// However it goes, nobody waits for this node any more.
    fn drop(&mut self) {
        self.transport.abort();
        self.desk.wires.board.over.set(true);
        self.desk.wires.shared.ended(StopCause::Gone);
    }
}
