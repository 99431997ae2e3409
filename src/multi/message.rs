//! Messages: all that nodes say to each other.
//!
//! Phase 1 is won once for every slot above a mark ([`Message::Prepare`] names it), phase 2 runs slot by slot, and what
//! is chosen travels as a watermark. Whom a message goes to inside a node is told by [`super::node::route`].

use super::change::{AdminCall, AdminOutcome};
use super::identity::DiskId;
use super::membership::Membership;
use super::record::{Base, Sequence, SnapshotId, Value};
use super::session::{Request, SessionId};
use super::slot::{Interval, Slot};
use crate::paxos::{NodeId, ProposalId};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::fmt;

/// One message from one node to another.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Message {
    /// Asks, before a proposal id is spent, whether the leader is really silent (8.1).
    PrePrepare {
        /// Comes back in the answer.
        nonce: u64,
    },
    /// Answers [`Message::PrePrepare`].
    PrePrepareAnswer {
        /// From the question.
        nonce: u64,
        /// The leader that is alive, or `None`: "no, I hear none either".
        leader: Option<ProposalId>,
    },
    /// Phase 1a for every slot from `from` on.
    #[doc(alias = "1a")]
    Prepare {
        /// The candidate's id, durably promised by itself.
        id: ProposalId,
        /// One above the candidate's `chosen_through`.
        from: Slot,
    },
    /// Phase 1b: one page of the promise.
    #[doc(alias = "1b")]
    Promise {
        /// The promised id.
        id: ProposalId,
        /// Every slot through this one is chosen; its value is to be fetched, not proposed (1.5).
        chosen_through: Slot,
        /// The accepted entries above.
        page: Page,
        /// The write on which it rests.
        sequence: Sequence,
    },
    /// Refuses `asked`, since `promised` is higher.
    #[doc(alias = "reject")]
    Nack {
        /// The id that was refused.
        asked: ProposalId,
        /// The id that stands in its way.
        promised: ProposalId,
    },
    /// Phase 2a for consecutive slots.
    #[doc(alias = "2a")]
    Accept {
        /// The leader's id.
        id: ProposalId,
        /// The slot of the first value.
        first: Slot,
        /// Values for `first` and the slots after it.
        values: Vec<Value>,
        /// The leader's watermark under `id` (3.2).
        watermark: Slot,
    },
    /// Phase 2b: exactly these slots are durable here under `id` (2.2).
    #[doc(alias = "2b")]
    Accepted {
        /// The id.
        id: ProposalId,
        /// Ascending, disjoint.
        slots: Vec<Interval>,
        /// The write on which it rests.
        sequence: Sequence,
    },
    /// "I lead under `id`, and every slot through `watermark` is chosen" (3.2).
    Heartbeat {
        /// The leader's id.
        id: ProposalId,
        /// The leader's watermark under `id`.
        watermark: Slot,
        /// A set of full nodes that meets every phase-1 quorum of the membership in force durably holds through this slot:
        /// a witness may forget what is below (4.3), and a removed node whose part ends below may go (6.5).
        held_through: Slot,
        /// Counts the pulses, so that an answer proves contact since it left.
        pulse: u64,
        /// Whether the leader asks for a lease (7.4).
        lease: bool,
    },
    /// "I follow `id`."
    HeartbeatAck {
        /// The leader's id.
        id: ProposalId,
        /// From the heartbeat.
        pulse: u64,
        /// How far the node has learned, durably.
        durable_through: Slot,
        /// It holds no state: nobody may take it for a node that does (4.3).
        witness: bool,
    },
    /// Asks whether the voter's promise is still `id` (7.2).
    Confirm {
        /// The leader's id.
        id: ProposalId,
        /// Comes back in the answer.
        nonce: u64,
    },
    /// "Yes, nobody else was promised anything since": answers [`Message::Confirm`].
    Confirmed {
        /// The leader's id.
        id: ProposalId,
        /// From the question.
        nonce: u64,
    },
    /// The leader under `id` wants the receiver to lead, at once and without a pre-prepare (8.5).
    #[doc(alias = "TimeoutNow")]
    TakeOver {
        /// The present leader's id.
        id: ProposalId,
    },
    /// Asks for chosen values from `from` on (4.1).
    CatchUp {
        /// The first slot wanted.
        from: Slot,
        /// About how many bytes of values to send at most.
        bytes_max: u32,
    },
    /// Chosen values, an interval without gaps: the answer to [`Message::CatchUp`], and to an `Accept` of a slot that is
    /// chosen already (2.2).
    Chosen {
        /// The slot of the first value.
        first: Slot,
        /// Values for `first` and the slots after it.
        values: Vec<Value>,
        /// How far the sender has learned.
        chosen_through: Slot,
    },
    /// "Begin here": the slots asked for are cut away (4.2), or the asker does not know the cluster's first membership yet.
    Base {
        /// Where the sender's log begins.
        base: Box<Base>,
    },
    /// Asks for a base at or above `above` whose snapshot the sender holds; one is taken if there is none (F10).
    AskBase {
        /// A base below is of no use.
        above: Slot,
    },
    /// Asks for a part of a snapshot.
    FetchSnapshot {
        /// Which.
        snapshot: SnapshotId,
        /// From this byte of its content on.
        at: u64,
        /// At most so many bytes.
        bytes_max: u32,
    },
    /// A part of a snapshot: answers [`Message::FetchSnapshot`]. Empty when the sender does not hold it any more.
    SnapshotChunk {
        /// Which.
        snapshot: SnapshotId,
        /// From this byte of its content on.
        at: u64,
        /// The content.
        bytes: Bytes,
    },
    /// "Let us form a cluster of these members, I am on this disk" (9.1).
    Form {
        /// The membership that the sender was started with.
        membership: Membership,
        /// The sender's disk.
        disk: DiskId,
        /// The disk by which the sender knows the receiver, if it has heard from it.
        yours: Option<DiskId>,
    },
    /// The sender's cluster has formed, with another disk for the receiver (9.1).
    AlreadyFormed {
        /// The disk that the sender knows.
        disk: DiskId,
    },
    /// A client's command, from a node that does not lead (12.2).
    Forward {
        /// Which of the sender's commands.
        origin: Origin,
        /// What the client asks for.
        request: Request,
        /// Encoded as the state machine wants it; empty where no command is asked for.
        command: Bytes,
    },
    /// Answers [`Message::Forward`].
    ForwardAnswer {
        /// From the command's [`Origin::serial`].
        serial: u64,
        /// What became of it.
        outcome: ForwardOutcome,
    },
    /// Asks the leader how far a read has to wait.
    ReadMark {
        /// Comes back in the answer.
        request: u64,
    },
    /// Answers [`Message::ReadMark`].
    ReadMarkAnswer {
        /// From the question.
        request: u64,
        /// The leader's id and the slot that must be applied, or `None`: the asked node does not lead.
        mark: Option<(ProposalId, Slot)>,
    },
    /// An operator's call, from a node that does not lead.
    Admin {
        /// Comes back in the answer.
        request: u64,
        /// What to do.
        call: AdminCall,
    },
    /// Answers [`Message::Admin`].
    AdminAnswer {
        /// From the question.
        request: u64,
        /// What became of it.
        outcome: AdminOutcome,
    },
}

/// Accepted entries of an interval of slots, complete (1.4).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Page {
    /// The slots that the page covers; the last page is open: it ends at [`Slot::MAX`].
    pub covers: Interval,
    /// What was accepted in them, ascending. A slot in neither list has accepted nothing.
    pub entries: Vec<(Slot, ProposalId, Value)>,
    /// Slots whose record is damaged: this promise counts for no quorum of them (11.5).
    pub unknown: Vec<Interval>,
}

impl Page {
    /// Whether the page says one thing about each slot that it covers, and nothing about any other.
    pub fn is_well_formed(&self) -> bool {
        let Interval { first, last } = self.covers;
        let slots = self.entries.iter().map(|(slot, ..)| Interval::new(*slot, *slot));
        let inside = slots
            .chain(self.unknown.iter().copied())
            .all(|part| first <= part.first && part.first <= part.last && part.last <= last);
        let ascending = self.entries.is_sorted_by(|(a, ..), (b, ..)| a < b)
            && self.unknown.is_sorted_by(|a, b| a.last < b.first);
        first <= last && inside && ascending
    }
}

/// Which command of which start of which node: makes a forwarded command apply once (12.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Origin {
    /// The node that the client asked.
    pub node: NodeId,
    /// The count of that node's starts.
    pub incarnation: u64,
    /// Counts the commands of that start, from 1.
    pub serial: u64,
    /// Every serial through this one is answered; none of them may be applied any more.
    pub answered_through: u64,
}

/// What became of a forwarded command.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ForwardOutcome {
    /// Applied; the encoded reply.
    Applied(Bytes),
    /// It may still be chosen, or not.
    Unknown,
    /// The node does not lead; perhaps this one does.
    NotLeader(Option<NodeId>),
    /// The leader is full.
    Busy,
    /// The command is larger than a batch.
    TooLarge,
    /// The state machine could not decode it.
    Malformed,
    /// A session was opened.
    SessionOpened(SessionId),
    /// The session has expired, or never was; nothing was applied (12.3).
    SessionExpired,
    /// The client had said that it has the answer; nothing was applied.
    SerialAnswered,
    /// The serial is too far above what is answered; nothing was applied.
    SerialTooFar,
}

impl fmt::Debug for ForwardOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Applied(reply) => write!(f, "applied, reply of {} bytes", reply.len()),
            Self::Unknown => write!(f, "unknown"),
            Self::NotLeader(hint) => write!(f, "not leader, hint {hint:?}"),
            Self::Busy => write!(f, "busy"),
            Self::TooLarge => write!(f, "too large"),
            Self::Malformed => write!(f, "malformed"),
            Self::SessionOpened(session) => write!(f, "session {session} opened"),
            Self::SessionExpired => write!(f, "session expired"),
            Self::SerialAnswered => write!(f, "serial answered"),
            Self::SerialTooFar => write!(f, "serial too far"),
        }
    }
}

impl Message {
    /// The bytes of values that it carries, about: what byte bounds count.
    pub fn size(&self) -> usize {
        64 + match self {
            Self::Promise { page, .. } => {
                let entries: usize = page.entries.iter().map(|(_, _, value)| value.size() + 24).sum();
                entries + page.unknown.len() * size_of::<Interval>()
            }
            Self::Accepted { slots, .. } => slots.len() * size_of::<Interval>(),
            Self::Accept { values, .. } | Self::Chosen { values, .. } => values.iter().map(Value::size).sum(),
            Self::Forward { command, .. } => command.len() + size_of::<(Origin, Request)>(),
            Self::ForwardAnswer { outcome: ForwardOutcome::Applied(reply), .. } => reply.len(),
            Self::Form { membership, .. } => Value::Membership(membership.clone()).size(),
            Self::Base { base } => base.memberships.size(),
            Self::SnapshotChunk { bytes, .. } => bytes.len(),
            Self::Admin { call, .. } => call.size(),
            Self::AdminAnswer { outcome, .. } => outcome.size(),
            _ => 0,
        }
    }

    /// Whether every membership in it is coherent (6.1).
    pub fn carries_sound_memberships(&self) -> bool {
        let sound = |value: &Value| match value {
            Value::Membership(membership) => membership.check().is_ok(),
            _ => true,
        };
        match self {
            Self::Accept { values, .. } | Self::Chosen { values, .. } => values.iter().all(sound),
            Self::Promise { page, .. } => page.entries.iter().all(|(_, _, value)| sound(value)),
            Self::Form { membership, .. } => membership.check().is_ok(),
            Self::Base { base } => base.memberships.is_well_formed(),
            _ => true,
        }
    }

    /// The node in whose name it is said, if it names one: whose id a candidate or leader uses, or whose client asked.
    /// A correct node says these only in its own name.
    pub fn speaker(&self) -> Option<NodeId> {
        match self {
            Self::Prepare { id, .. }
            | Self::Accept { id, .. }
            | Self::Heartbeat { id, .. }
            | Self::Confirm { id, .. }
            | Self::TakeOver { id } => Some(id.node),
            Self::Forward { origin, .. } => Some(origin.node),
            _ => None,
        }
    }

    /// The proposal ids that it names, for the check that they are well formed (1.3).
    pub fn ids(&self) -> impl Iterator<Item = ProposalId> + '_ {
        let direct = match self {
            Self::Prepare { id, .. }
            | Self::Promise { id, .. }
            | Self::Accept { id, .. }
            | Self::Accepted { id, .. }
            | Self::Heartbeat { id, .. }
            | Self::HeartbeatAck { id, .. }
            | Self::Confirm { id, .. }
            | Self::Confirmed { id, .. }
            | Self::TakeOver { id }
            | Self::ReadMarkAnswer { mark: Some((id, _)), .. } => [Some(*id), None],
            Self::Nack { asked, promised } => [Some(*asked), Some(*promised)],
            Self::PrePrepareAnswer { leader, .. } => [*leader, None],
            _ => [None, None],
        };
        let reported = if let Self::Promise { page, .. } = self { page.entries.as_slice() } else { &[] };
        direct.into_iter().flatten().chain(reported.iter().map(|(_, id, _)| *id))
    }
}
