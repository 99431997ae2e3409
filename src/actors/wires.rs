//! The wires: the queue of each role, and what the roles of one node share.
//!
//! A queue outlives the role that reads it: the supervisor keeps both ends, so a rebuilt role finds what waited.

use super::carry_out::Writing;
use super::keeping::SnapshotReply;
use super::queue::{Mails, Sender, queue};
use super::waiter::{AdminError, ReadCall, Waiter};
use crate::multi::{
    AbstainReason, AcceptorInput, AdminCall, AdminOutcome, ElectionInput, Event, Identity, LearnerInput,
    Limits, Local, Membership, Memberships, ProposerInput, ProposerState, Refusal, Request, Role, Slot,
    SnapshotId,
};
use crate::node::shared::Shared;
use crate::node::{Config, StateMachine, Status, StopCause};
use crate::paxos::{NodeId, ProposalId};
use crate::storage::Storage;
use crate::timer::{Time, Timer};
use crate::transport::{Held, Transport};
use futures::channel::oneshot;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

/// What reaches the proposer.
pub(crate) enum ProposerMail<S: StateMachine> {
    Input(ProposerInput, Option<Held>),
    /// A client's command, or its wish for a session.
    Call {
        request: Request,
        command: Vec<u8>,
        patience: Duration,
        waiter: Waiter<S>,
    },
    /// A client's read at the leader's mark.
    Read(ReadCall<S>),
    /// The same, where a lease is enough.
    LeaseRead(ReadCall<S>),
    /// An operator's call.
    Admin {
        call: AdminCall,
        patience: Duration,
        reply: oneshot::Sender<Result<AdminOutcome, AdminError>>,
    },
    /// Somebody waits for a credit.
    CreditWanted,
    /// Another leader is known, or none.
    LeaderChanged,
    /// Show that you answer.
    Ping,
    /// Panic, for a test of what is rebuilt.
    #[cfg_attr(not(any(test, feature = "testing")), allow(dead_code))]
    Panic,
}

/// What reaches the acceptor.
pub(crate) enum AcceptorMail {
    Input(AcceptorInput, Option<Held>),
    Ping,
    /// Panic, for a test of what is rebuilt.
    #[cfg_attr(not(any(test, feature = "testing")), allow(dead_code))]
    Panic,
}

/// What reaches the learner.
pub(crate) enum LearnerMail<S: StateMachine> {
    Input(LearnerInput, Option<Held>),
    /// The callers of a batch that is about to be proposed, in its order.
    Batch {
        serial: u64,
        waiters: Vec<Waiter<S>>,
    },
    /// A batch will not come: why its callers wait in vain.
    BatchOver {
        serial: u64,
        fate: Fate,
    },
    /// Serve a read once `at` is applied; `leader` has learned through it, or will.
    Read {
        at: Slot,
        leader: Option<NodeId>,
        call: ReadCall<S>,
    },
    /// An operator wants a snapshot.
    Snapshot {
        patience: Duration,
        reply: SnapshotReply,
    },
    /// The snapshot where the log begins is damaged.
    SnapshotDamaged(SnapshotId),
    Ping,
    /// Panic, for a test of what is rebuilt.
    #[cfg_attr(not(any(test, feature = "testing")), allow(dead_code))]
    Panic,
}

/// Why a batch will not come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It was in no `Accept`.
    Refused,
    /// Its slot went to another value.
    Lost,
}

/// What reaches the election and the supervisor.
pub(crate) enum HeartbeatMail {
    Input(ElectionInput, Option<Held>),
    Event(Event),
    Admission {
        ticket: u64,
        verdict: Result<(), Refusal>,
    },
    /// A role's last words: how it went, if by a panic.
    Died {
        role: Role,
        panicked: Option<String>,
    },
    Status(oneshot::Sender<Status>),
    /// Drain, then stop.
    Shutdown,
    /// Stop now.
    Stop(StopCause),
    /// Panic, for a test of what is rebuilt.
    #[cfg_attr(not(any(test, feature = "testing")), allow(dead_code))]
    Panic,
}

/// Both ends of a queue.
pub(super) struct Queue<T> {
    pub(super) sender: Sender<T>,
    pub(super) receiver: Receiver<T>,
}

/// The reading end: one role at a time, and the next one after it.
pub(super) type Receiver<T> = Rc<RefCell<Mails<T>>>;

impl<T> Queue<T> {
    pub(super) fn new() -> Self {
        let (sender, receiver) = queue();
        Self { sender, receiver: Rc::new(RefCell::new(receiver)) }
    }
}

/// What every role of a node can reach.
pub(super) struct Wires<S: StateMachine> {
    pub(super) identity: Identity,
    pub(super) config: Config,
    pub(super) limits: Limits,
    pub(super) timer: Arc<dyn Timer>,
    pub(super) transport: Arc<dyn Transport>,
    pub(super) storage: Arc<dyn Storage>,
    pub(super) proposer: Sender<ProposerMail<S>>,
    pub(super) acceptor: Sender<AcceptorMail>,
    pub(super) learner: Sender<LearnerMail<S>>,
    pub(super) heartbeat: Sender<HeartbeatMail>,
    pub(super) shared: Arc<Shared>,
    pub(super) board: Board,
    /// The append under way. It outlives the acceptor: nobody may recover before it has ended (11.6).
    pub(super) writing: RefCell<Option<Writing>>,
    /// As of the first slot, for a learner that is built anew and applies the log from there.
    pub(super) first_memberships: RefCell<Option<Memberships>>,
    /// Forwarded commands of other nodes under way here.
    pub(super) forwarded: Arc<AtomicUsize>,
}

/// What the roles show each other, and the status shows to all. Nothing of the protocol rests on it.
#[derive(Default)]
pub(super) struct Board {
    pub(super) leader: Cell<Option<ProposalId>>,
    pub(super) proposer: Cell<Option<ProposerState>>,
    pub(super) promised: Cell<Option<ProposalId>>,
    pub(super) chosen_through: Cell<Slot>,
    pub(super) applied_through: Cell<Slot>,
    pub(super) membership: RefCell<Option<Membership>>,
    pub(super) abstains: Cell<Option<AbstainReason>>,
    /// Where the log begins, once the cluster has formed, and the snapshot of what is below.
    pub(super) log_begins_at: Cell<Option<Slot>>,
    pub(super) snapshot: Cell<Option<SnapshotId>>,
    pub(super) rebuilt: Cell<u32>,
    /// Messages dropped because they named another sender than the peer that brought them.
    pub(super) forged: Cell<u64>,
    /// Connections by peer.
    pub(super) links: RefCell<BTreeMap<NodeId, u32>>,
    /// When each role last answered, by [`place`].
    pub(super) answered: [Cell<Time>; 3],
    /// The serial of the newest batch: never given twice, also by a rebuilt proposer.
    pub(super) batch: Cell<u64>,
    /// The newest number of a question to another node.
    number: Cell<u64>,
    /// When the append under way began.
    pub(super) writing_since: Cell<Option<Time>>,
    /// When an append was last seen to take longer than the disk may.
    pub(super) stalled_at: Cell<Option<Time>>,
    /// The node is over: every role stops.
    pub(super) over: Cell<bool>,
}

/// Each start of a node has 2^40 numbers of its own: more than it asks questions while an answer is under way.
const NUMBERS_BITS: u32 = 40;

impl Board {
    /// The log begins at a snapshot that is not restored yet: there is no state to serve anybody from.
    pub(super) fn is_restoring(&self) -> bool {
        self.snapshot.get().is_some_and(|snapshot| self.applied_through.get() < snapshot.through)
    }
}

/// The place of a role that is watched.
pub(super) const fn place(role: Role) -> usize {
    match role {
        Role::Proposer => 0,
        Role::Acceptor => 1,
        Role::Learner | Role::Election => 2,
    }
}

impl<S: StateMachine> Wires<S> {
    pub(super) fn me(&self) -> NodeId {
        self.identity.node()
    }

    /// The count of this start.
    pub(super) fn incarnation(&self) -> u64 {
        self.identity.incarnation().map_or(0, |incarnation| incarnation.counter)
    }

    /// A number for a question to another node: a forwarded command, a read, an operator's call. It is never given twice, by a
    /// rebuilt role no more than after a restart, so an answer that comes late is not taken for that to another question.
    pub(super) fn next_number(&self) -> u64 {
        let first = self.incarnation().wrapping_shl(NUMBERS_BITS);
        let number = self.board.number.get().max(first) + 1;
        self.board.number.set(number);
        number
    }

    /// Puts an input into the queue of its role. A queue is closed only when the node is over.
    pub(super) fn pass(&self, input: Local, held: Option<Held>) {
        let _ = match input {
            Local::Proposer(input) => self.proposer.send(ProposerMail::Input(input, held)).is_ok(),
            Local::Acceptor(input) => self.acceptor.send(AcceptorMail::Input(input, held)).is_ok(),
            Local::Learner(input) => self.learner.send(LearnerMail::Input(input, held)).is_ok(),
            Local::Election(input) => self.heartbeat.send(HeartbeatMail::Input(input, held)).is_ok(),
        };
    }

    /// Tells the supervisor.
    pub(super) fn tell(&self, mail: HeartbeatMail) {
        // It is gone only when the node is.
        let _ = self.heartbeat.send(mail);
    }

    /// Notes whether the append under way takes longer than the disk may, and says whether the disk is well: that is, whether
    /// none did for ten times as long.
    pub(super) fn look_at_disk(&self) -> bool {
        let (now, board, stall) = (self.timer.now(), &self.board, self.config.disk_stall);
        if board.writing_since.get().is_some_and(|since| now.since(since) > stall) {
            board.stalled_at.set(Some(now));
        }
        board.stalled_at.get().is_none_or(|at| now.since(at) > stall * 10)
    }

    /// The role answers.
    pub(super) fn pong(&self, role: Role) {
        self.board.answered[place(role)].set(self.timer.now());
    }

    /// The leader to ask, if it is another node to which a connection stands.
    pub(super) fn other_leader(&self) -> Option<NodeId> {
        let leader = self.board.leader.get()?.node;
        (leader != self.me() && self.board.links.borrow().contains_key(&leader)).then_some(leader)
    }
}
