//! The handle: how an application talks to its node, from any thread and any executor.

use super::credits::Credit;
use super::watch::Subscription;
use super::{
    ChangeError, Config, Leadership, NotLeaderReason, ProposeError, ReadError, RecoverError, Recovery,
    SnapshotError, StateMachine, Status, StopCause, TransferError,
};
use crate::actors::{
    AdminError, HeartbeatMail, LearnerMail, Lines, Outcome, ProposerMail, ReadCall, UNKNOWN, Waiter,
    command_bytes_max,
};
use crate::codec;
use crate::multi::{
    AdminCall, AdminOutcome, Change, ElectionInput, Member, MemberKind, Membership, Request, SessionId, Slot,
    SnapshotId,
};
use crate::paxos::NodeId;
use crate::timer::Time;
use futures::channel::oneshot;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

/// A handle to a node: `Clone + Send + Sync`, plain futures, no runtime type.
pub struct Handle<S: StateMachine> {
    lines: Lines<S>,
    node: NodeId,
    /// Where peers reach it.
    address: Arc<str>,
    deadline: Duration,
    command_bytes_max: usize,
    trust_clocks: bool,
}

impl<S: StateMachine> Clone for Handle<S> {
    fn clone(&self) -> Self {
        Self { lines: self.lines.clone(), address: Arc::clone(&self.address), ..*self }
    }
}

impl<S: StateMachine> std::fmt::Debug for Handle<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handle").field("deadline", &self.deadline).finish_non_exhaustive()
    }
}

/// Where the outcome of a call is told.
type Asker<T> = oneshot::Sender<Result<T, ProposeError>>;

/// Changes of leadership, newest state first; a slow reader sees the newest only.
#[derive(Debug)]
pub struct LeadershipStream {
    changes: Subscription<Leadership>,
}

impl futures::Stream for LeadershipStream {
    type Item = Leadership;
    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Leadership>> {
        self.changes.poll_change(context)
    }
}

impl<S: StateMachine> Handle<S> {
    pub(crate) fn new(lines: Lines<S>, config: &Config) -> Self {
        let command_bytes_max = command_bytes_max(config.batch_bytes_max);
        let Config { propose_deadline: deadline, trust_clocks, .. } = *config;
        let (node, address) = (config.owner.node, Arc::from(config.address.as_str()));
        Self { lines, node, address, deadline, command_bytes_max, trust_clocks }
    }

    pub(super) fn node(&self) -> NodeId {
        self.node
    }

    pub(super) fn address(&self) -> &str {
        &self.address
    }

    pub(super) fn show_recovery(&self, stage: Recovery) {
        self.lines.shared.recovery.update(|_| Some(Some(stage)));
    }

    pub(super) fn tell(&self, mail: HeartbeatMail) -> Result<(), StopCause> {
        self.lines.heartbeat.send(mail).map_err(|_| self.cause())
    }

    /// The same handle with another deadline for its calls than `Config::propose_deadline`.
    pub fn with_deadline(&self, deadline: Duration) -> Self {
        Self { deadline, ..self.clone() }
    }

    /// How long a call may take.
    pub(crate) fn deadline(&self) -> Duration {
        self.deadline
    }

    /// Proposes `command`, and answers with the state machine's reply once it is chosen and applied by the leader. Waits for
    /// a credit if too many commands are under way.
    ///
    /// # Errors
    ///
    /// [`ProposeError`], within the deadline. Dropping the future does not take the command back.
    pub async fn propose(&self, command: S::Command) -> Result<S::Reply, ProposeError> {
        let command = self.encode(&command)?;
        self.request(Request::Plain, command).await
    }

    /// As [`Handle::propose`], but [`ProposeError::Busy`] where it would wait for a credit.
    ///
    /// # Errors
    ///
    /// [`ProposeError`].
    pub async fn try_propose(&self, command: S::Command) -> Result<S::Reply, ProposeError> {
        let command = self.encode(&command)?;
        match (self.lines.shared.credits.try_take(), self.lines.shared.stopped()) {
            (_, Some(cause)) => Err(ProposeError::Stopped { cause }),
            (Some(credit), None) => self.ask(Request::Plain, command, credit, Waiter::caller).await,
            (None, None) => Err(ProposeError::Busy),
        }
    }

    pub(super) fn encode(&self, command: &S::Command) -> Result<Vec<u8>, ProposeError> {
        let bytes = codec::encode(command).map_err(|_| ProposeError::Malformed)?;
        if bytes.len() > self.command_bytes_max {
            return Err(ProposeError::TooLarge { bytes: bytes.len(), bytes_max: self.command_bytes_max });
        }
        Ok(bytes)
    }

    /// Hands an encoded command over, once there is a credit for it.
    pub(super) async fn request(&self, request: Request, command: Vec<u8>) -> Outcome<S> {
        let credit = self.credit().await?;
        self.ask(request, command, credit, Waiter::caller).await
    }

    /// Has a session opened.
    pub(super) async fn request_session(&self) -> Result<SessionId, ProposeError> {
        let credit = self.credit().await?;
        self.ask(Request::OpenSession, Vec::new(), credit, Waiter::opener).await
    }

    async fn credit(&self) -> Result<Credit, ProposeError> {
        match self.lines.shared.credits.try_take() {
            Some(credit) => Ok(credit),
            None => self.wait_for_credit().await.map_err(|cause| match cause {
                Some(cause) => ProposeError::Stopped { cause },
                None => ProposeError::Busy,
            }),
        }
    }

    async fn ask<T>(
        &self,
        request: Request,
        command: Vec<u8>,
        credit: Credit,
        waiter: impl FnOnce(Asker<T>, Credit) -> Waiter<S>,
    ) -> Result<T, ProposeError> {
        let (reply, outcome) = oneshot::channel();
        let waiter = waiter(reply, credit);
        let mail = ProposerMail::Call { request, command, patience: self.deadline, waiter };
        if self.lines.proposer.send(mail).is_err() {
            return Err(ProposeError::Stopped { cause: self.cause() });
        }
        // A waiter that goes without a word was never handed over, or its role has panicked.
        outcome.await.unwrap_or_else(|_| match self.lines.shared.stopped() {
            Some(cause) => Err(ProposeError::Stopped { cause }),
            None => Err(UNKNOWN),
        })
    }

    /// A credit; `None` if none came in time, or why the node gives none any more.
    async fn wait_for_credit(&self) -> Result<Credit, Option<StopCause>> {
        let place = self.lines.shared.credits.wait(self.deadline);
        let asked = self.lines.proposer.send(ProposerMail::CreditWanted);
        if asked.is_err() {
            return Err(Some(self.cause()));
        }
        place.await.map_err(|_| self.lines.shared.stopped())
    }

    /// Reads what this node has applied: possibly stale, served without asking anybody.
    ///
    /// # Errors
    ///
    /// [`ReadError`].
    pub async fn read_stale<R: Send + 'static>(
        &self,
        read: impl FnOnce(&S) -> R + Send + 'static,
    ) -> Result<R, ReadError> {
        self.read_by(read, |call| {
            let mail = LearnerMail::Read { at: Slot::ZERO, leader: None, call };
            self.lines.learner.send(mail).is_ok()
        })
        .await
    }

    /// Reads a state that holds every write that was acknowledged, anywhere, before this call (linearizable): the leader says
    /// how far that is and is confirmed by a quorum (protocol 7.2), in one round for all reads that wait; then this node
    /// applies as far and reads.
    ///
    /// # Errors
    ///
    /// [`ReadError`], within the deadline.
    pub async fn read<R: Send + 'static>(
        &self,
        read: impl FnOnce(&S) -> R + Send + 'static,
    ) -> Result<R, ReadError> {
        self.read_by(read, |call| self.lines.proposer.send(ProposerMail::Read(call)).is_ok()).await
    }

    /// As [`Handle::read`], but where the leader holds a lease (protocol 7.4) it asks nobody. Right only as long as the clocks
    /// of all voters run at about the same speed, also while a machine is suspended: `Config::trust_clocks` says so.
    ///
    /// # Errors
    ///
    /// [`ReadError`], within the deadline; [`ReadError::NoLease`] where leases are off.
    pub async fn read_lease<R: Send + 'static>(
        &self,
        read: impl FnOnce(&S) -> R + Send + 'static,
    ) -> Result<R, ReadError> {
        if !self.trust_clocks {
            return Err(ReadError::NoLease);
        }
        self.read_by(read, |call| self.lines.proposer.send(ProposerMail::LeaseRead(call)).is_ok()).await
    }

    async fn read_by<R: Send + 'static>(
        &self,
        read: impl FnOnce(&S) -> R + Send + 'static,
        send: impl FnOnce(ReadCall<S>) -> bool,
    ) -> Result<R, ReadError> {
        if self.lines.shared.witness {
            return Err(ReadError::Witness);
        }
        let credit = match self.lines.shared.credits.try_take() {
            Some(credit) => credit,
            None => self.wait_for_credit().await.map_err(|cause| match cause {
                Some(cause) => ReadError::Stopped { cause },
                None => ReadError::Busy,
            })?,
        };
        let (reply, outcome) = oneshot::channel();
        let read = Box::new(move |state: Result<&S, ReadError>| {
            // A caller that has gone need not hear it.
            let _ = reply.send(state.map(read));
        });
        let call = ReadCall { read, patience: self.deadline, expires: Time::ZERO, _credit: credit };
        if !send(call) {
            return Err(ReadError::Stopped { cause: self.cause() });
        }
        outcome.await.unwrap_or_else(|_| match self.lines.shared.stopped() {
            Some(cause) => Err(ReadError::Stopped { cause }),
            None => Err(ReadError::Interrupted),
        })
    }

    /// Changes the membership, and answers with the one that is in force then (protocol 6.2). New voters catch up first, which
    /// may take longer than a deadline: asked for again, the change goes on from where it is.
    ///
    /// # Errors
    ///
    /// [`ChangeError`], within the deadline.
    pub async fn change(&self, change: Change) -> Result<Membership, ChangeError> {
        match self.admin(AdminCall::Change(change)).await? {
            AdminOutcome::Changed(membership) => Ok(membership),
            AdminOutcome::ChangeRefused(refusal) => Err(refusal.into()),
            AdminOutcome::NotLeader(hint) => {
                Err(ChangeError::NotLeader { hint, reason: NotLeaderReason::NoLeader })
            }
            _ => Err(ChangeError::Unknown),
        }
    }

    /// Asks for this node to be a member of this kind, at the address that its configuration names: how a node that was started
    /// by [`Node::join`](super::Node::join) comes to count. As [`Handle::change`] with [`Change::Add`].
    ///
    /// # Errors
    ///
    /// [`ChangeError`], within the deadline.
    pub async fn join_as(&self, kind: MemberKind) -> Result<Membership, ChangeError> {
        let member = Member { kind, address: self.address().to_owned() };
        self.change(Change::Add { node: self.node, member }).await
    }

    /// Resolves when a node that was started by [`Node::recover`](super::Node::recover) has the lost node's place, with the
    /// membership in force. [`Status::recovery`] shows how far it is.
    ///
    /// # Errors
    ///
    /// [`RecoverError`], when it never will.
    pub async fn recovered(&self) -> Result<Membership, RecoverError> {
        let mut changes = self.lines.shared.recovery.subscribe();
        loop {
            match std::future::poll_fn(|context| changes.poll_change(context)).await {
                Some(Some(Recovery::Done { membership })) => return Ok(membership),
                Some(Some(Recovery::Refused(refusal))) => return Err(refusal.into()),
                Some(Some(Recovery::UnderWay { .. })) => {}
                Some(None) => return Err(RecoverError::NotRecovering),
                None => return Err(RecoverError::Stopped { cause: self.cause() }),
            }
        }
    }

    /// Hands the lead over to `to`, or to the voter that is nearest, and answers with who leads then (protocol 8.5).
    ///
    /// # Errors
    ///
    /// [`TransferError`], within the deadline.
    pub async fn transfer(&self, to: Option<NodeId>) -> Result<NodeId, TransferError> {
        match self.admin(AdminCall::Transfer(to)).await? {
            AdminOutcome::Transferred(leader) => Ok(leader),
            AdminOutcome::TransferRefused(refusal) => Err(refusal.into()),
            AdminOutcome::NotLeader(hint) => {
                Err(TransferError::NotLeader { hint, reason: NotLeaderReason::NoLeader })
            }
            _ => Err(TransferError::Unknown),
        }
    }

    /// Lets the leader do what an operator asks for.
    async fn admin(&self, call: AdminCall) -> Result<AdminOutcome, AdminError> {
        let (reply, outcome) = oneshot::channel();
        let mail = ProposerMail::Admin { call, patience: self.deadline, reply };
        if self.lines.shared.is_draining() || self.lines.proposer.send(mail).is_err() {
            return Err(AdminError::Stopped(self.cause()));
        }
        match outcome.await {
            Ok(outcome) => outcome,
            // The role that knew is gone.
            Err(_) => Ok(AdminOutcome::Unknown),
        }
    }

    /// Takes a snapshot of what this node has applied, and cuts its log below (protocol 5). Answers with what was taken, or
    /// with the last one where nothing was applied since. It is written beside the commits; whoever asks while one is being
    /// taken gets that one.
    ///
    /// # Errors
    ///
    /// [`SnapshotError`], within the deadline; after [`SnapshotError::Deadline`] the taking goes on.
    pub async fn snapshot(&self) -> Result<SnapshotId, SnapshotError> {
        let (reply, outcome) = oneshot::channel();
        let mail = LearnerMail::Snapshot { patience: self.deadline, reply };
        if self.lines.learner.send(mail).is_err() {
            return Err(SnapshotError::Stopped { cause: self.cause() });
        }
        outcome.await.unwrap_or_else(|_| match self.lines.shared.stopped() {
            Some(cause) => Err(SnapshotError::Stopped { cause }),
            None => Err(SnapshotError::Interrupted),
        })
    }

    /// What the node knows of itself.
    ///
    /// # Errors
    ///
    /// The cause, if it has stopped.
    pub async fn status(&self) -> Result<Status, StopCause> {
        let (asker, status) = oneshot::channel();
        self.tell(HeartbeatMail::Status(asker))?;
        status.await.map_err(|_| self.cause())
    }

    /// The present leadership, then every change of it.
    pub fn leadership(&self) -> LeadershipStream {
        LeadershipStream { changes: self.lines.shared.leadership.subscribe() }
    }

    /// Campaign now (for [`super::ElectionKind::External`]; harmless otherwise).
    ///
    /// # Errors
    ///
    /// The cause, if the node has stopped.
    pub async fn campaign(&self) -> Result<(), StopCause> {
        self.tell(HeartbeatMail::Input(ElectionInput::Campaign, None))
    }

    /// Lead no more, until the application or the election says otherwise.
    ///
    /// # Errors
    ///
    /// The cause, if the node has stopped.
    pub async fn step_down(&self) -> Result<(), StopCause> {
        self.tell(HeartbeatMail::Input(ElectionInput::StepDown, None))
    }

    /// Resolves when the node has stopped, with the cause.
    pub async fn stopped(&self) -> StopCause {
        self.lines.shared.over().await
    }

    fn cause(&self) -> StopCause {
        self.lines.shared.stopped().unwrap_or(StopCause::Gone)
    }

    /// Makes a role panic at its next turn: for tests of what is rebuilt.
    #[cfg(any(test, feature = "testing"))]
    #[doc(hidden)]
    pub fn panic_role(&self, role: crate::multi::Role) {
        use crate::actors::AcceptorMail;
        use crate::multi::Role;
        let lines = &self.lines;
        // A node that is over has nothing left to panic.
        let _ = match role {
            Role::Proposer => lines.proposer.send(ProposerMail::Panic).is_ok(),
            Role::Acceptor => lines.acceptor.send(AcceptorMail::Panic).is_ok(),
            Role::Learner => lines.learner.send(LearnerMail::Panic).is_ok(),
            Role::Election => lines.heartbeat.send(HeartbeatMail::Panic).is_ok(),
        };
    }
}
