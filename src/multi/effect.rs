//! Effects and inputs: all that a role wants done, and all that can happen to it.
//!
//! A role is a function: `step(now, input, &mut effects)`. It does nothing itself. "Send after this write" is data
//! ([`Effect::Send::after`]), so that a checker can look for it and a shell cannot forget it (protocol 1.2, 11.6).

use super::change::{AdminCall, AdminOutcome};
use super::identity::{Identity, Incarnation};
use super::membership::Memberships;
use super::message::Message;
use super::record::{AbstainReason, Base, Entry, Record, Sequence, SnapshotId, Value};
use super::slot::{Interval, Slot, Time};
use crate::paxos::{NodeId, ProposalId};
use bytes::Bytes;
use std::ops::Range;

/// The parts of a node, each of which may run as an actor of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// [`super::Proposer`].
    Proposer,
    /// [`super::Acceptor`].
    Acceptor,
    /// [`super::Learner`].
    Learner,
    /// [`crate::election::Election`].
    Election,
}

/// What a role wants done.
#[derive(Clone, Debug, PartialEq)]
#[must_use = "an effect that is not carried out loses a promise"]
pub enum Effect {
    /// Make `records` durable, after all earlier ones, then say [`AcceptorInput::Persisted`]. If that fails, send nothing
    /// that waits for it and stop. Only the acceptor asks for it.
    Persist {
        /// The number of this write.
        sequence: Sequence,
        /// All or nothing, in this order.
        records: Vec<Record>,
    },
    /// Send, once the write `after` is durable. Losing it is safe; sending it early is not. `to` may be this node itself:
    /// then it goes to the role that [`super::node::route`] names, by the same rule.
    Send {
        /// The receiver.
        to: NodeId,
        /// What to say.
        message: Message,
        /// The write that it rests on.
        after: Option<Sequence>,
    },
    /// Hand to another role of this node, in order.
    Local(Local),
    /// Read durable entries back, then say [`AcceptorInput::ReadBack`]. Only the acceptor asks for it, one read at a time.
    Read {
        /// Half-open.
        slots: Range<Slot>,
        /// Stop after about this many bytes, but give at least one entry.
        bytes_max: usize,
    },
    /// Forget the entries through `through`: no later than the base says, whose snapshot is durable (4.2). `facts` is all
    /// that the storage has to know beside entries from now on; folded before what it keeps, they lose nothing. In order with
    /// the writes: after those asked for before it, and before those asked for after it, which the facts do not know. Then say
    /// [`AcceptorInput::Trimmed`]. Only the acceptor asks for it, one at a time.
    Trim {
        /// The last slot that may go.
        through: Slot,
        /// Promise, base, peers and the like.
        facts: Vec<Record>,
    },
    /// Apply `value`, the next one in slot order. Only the learner asks for it.
    Deliver {
        /// Where it was chosen.
        slot: Slot,
        /// What was chosen.
        value: Value,
    },
    /// Something to do with snapshots, in order, one at a time. Only the learner asks for it.
    Snapshot(SnapshotTask),
    /// How a call ended that was asked for with a ticket. Only the proposer says so.
    Answer {
        /// From the input.
        ticket: u64,
        /// How it ended.
        answer: Answer,
    },
    /// Say `Wake` at this time, in place of whatever this role asked for before.
    Deadline(Time),
    /// Answer the handshake of `peer`, once the write `after` is durable (9.3).
    Admission {
        /// Which handshake: from [`AcceptorInput::Admit`].
        ticket: u64,
        /// The answer.
        verdict: Result<(), Refusal>,
        /// The write that it rests on.
        after: Option<Sequence>,
    },
    /// Something for the application and the operator to know.
    Event(Event),
}

/// What a learner wants done with snapshots.
#[derive(Clone, Debug, PartialEq)]
pub enum SnapshotTask {
    /// Draw one of the state as it is now, make it durable, then tell the acceptor [`AcceptorInput::SnapshotTaken`]; or, if
    /// that fails, say [`LearnerInput::SnapshotHeld`] with `None`.
    Take {
        /// Applied through here.
        through: Slot,
        /// To be part of it (5.1).
        memberships: Memberships,
    },
    /// Begin to write one that a peer holds, or go on where an earlier transfer of the same one ended; then say
    /// [`LearnerInput::SnapshotHeld`].
    Begin {
        /// Which.
        snapshot: SnapshotId,
    },
    /// Append to the one that was begun; then say [`LearnerInput::SnapshotHeld`].
    Write {
        /// At this byte of its content.
        at: u64,
        /// The content.
        bytes: Bytes,
    },
    /// Check the whole of it and make it durable; then say [`LearnerInput::SnapshotSealed`].
    Seal {
        /// Which.
        snapshot: SnapshotId,
    },
    /// Replace the state by that of a snapshot that is durable here; then say [`LearnerInput::Restored`].
    Restore {
        /// Which.
        snapshot: SnapshotId,
    },
    /// Read a part for a peer; then say [`LearnerInput::SnapshotRead`].
    Read {
        /// The peer.
        to: NodeId,
        /// Which.
        snapshot: SnapshotId,
        /// From this byte of its content on.
        at: u64,
        /// At most so many bytes.
        bytes_max: usize,
    },
}

/// How a call of the proposer ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// The read may be served from any state that was applied through this slot (7.2).
    Readable(Slot),
    /// The proposer leads no more: ask the next leader.
    NotLeading,
    /// The operator's call has ended.
    Admin(AdminOutcome),
}

/// An input for another role of the same node.
#[derive(Clone, Debug, PartialEq)]
pub enum Local {
    /// To the proposer.
    Proposer(ProposerInput),
    /// To the acceptor.
    Acceptor(AcceptorInput),
    /// To the learner.
    Learner(LearnerInput),
    /// To the election.
    Election(ElectionInput),
}

/// What can happen to a proposer.
#[derive(Clone, Debug, PartialEq)]
pub enum ProposerInput {
    /// `Promise`, `Nack`, `Accepted`.
    Message {
        /// The authenticated sender.
        from: NodeId,
        /// What it says.
        message: Message,
    },
    /// Propose a batch at the next free slot. Only while [`super::Proposer::room`] is above zero; otherwise
    /// [`Event::BatchRefused`].
    Propose {
        /// The encoded batch (see [`super::batch`]).
        batch: Bytes,
    },
    /// Win phase 1 under a new id.
    Campaign,
    /// Give up leading or campaigning.
    StepDown,
    /// Reads want to know how far they have to wait, with this node confirmed as leader (7.1, 7.2); each is answered by
    /// [`Effect::Answer`]. Those that come together share a round of confirmations.
    Read {
        /// Come back in the answers.
        tickets: Vec<u64>,
        /// Whether a lease is enough, in place of a round of confirmations (7.4).
        lease: bool,
    },
    /// No other leader can be elected before this time (7.4).
    Lease {
        /// By this node's clock.
        until: Time,
        /// Counted in the membership that governs this slot.
        next: Slot,
    },
    /// An operator's call; answered by [`Effect::Answer`].
    Admin {
        /// Comes back in the answer.
        ticket: u64,
        /// What to do.
        call: AdminCall,
    },
    /// `peer` answered a heartbeat of this leader.
    Progress {
        /// The peer.
        peer: NodeId,
        /// How far it has learned, durably.
        durable_through: Slot,
        /// It holds no state.
        witness: bool,
    },
    /// These consecutive slots were learned; all through the last of them are.
    Learned {
        /// Ascending, without gaps.
        values: Vec<(Slot, Value)>,
    },
    /// What the acceptor knows: at the start, and after each rebuilding of a role.
    Briefing(Briefing),
    /// The acceptor's promise went up to `id`.
    Promised {
        /// The new promise.
        id: ProposalId,
    },
    /// Another node leads, or led, under `id`: this node's next id has to be above (1.3).
    Saw {
        /// The id.
        id: ProposalId,
    },
    /// A connection to `peer` stands.
    LinkUp {
        /// The peer.
        peer: NodeId,
    },
    /// The last connection to `peer` is gone.
    LinkDown {
        /// The peer.
        peer: NodeId,
    },
    /// The deadline has come.
    Wake,
}

/// What can happen to an acceptor.
#[derive(Clone, Debug, PartialEq)]
pub enum AcceptorInput {
    /// `Prepare`, `Accept`, `Heartbeat`, `CatchUp`, `AskBase`, `Form`, `AlreadyFormed`.
    Message {
        /// The authenticated sender.
        from: NodeId,
        /// What it says.
        message: Message,
    },
    /// Every write through `sequence` is durable.
    Persisted {
        /// The newest durable write.
        sequence: Sequence,
    },
    /// The answer to [`Effect::Read`]: ascending, without gaps from the first slot asked for; empty if that one is not
    /// held.
    ReadBack {
        /// The entries.
        entries: Vec<(Slot, Entry)>,
    },
    /// Consecutive chosen values that the learner fetched: write them (4.1).
    Store {
        /// The slot of the first.
        first: Slot,
        /// The values.
        values: Vec<Value>,
    },
    /// Brief the proposer and the election: said once at the start, and again after another role was rebuilt.
    Start,
    /// The learner wants the next learned values from `from` on; answered by [`LearnerInput::Learned`], up to a chunk.
    Replay {
        /// From this slot on.
        from: Slot,
    },
    /// A peer shows itself: answer with [`Effect::Admission`].
    Admit {
        /// Comes back in the answer.
        ticket: u64,
        /// The peer.
        identity: Identity,
    },
    /// The sequences that peers' votes showed lately (9.4).
    Votes {
        /// The highest by peer.
        sequences: Vec<(NodeId, Sequence)>,
    },
    /// A peer refused this node's handshake: it knows a later start of this node, or belongs to another cluster.
    Refused {
        /// The peer.
        peer: NodeId,
        /// Why.
        refusal: Refusal,
    },
    /// A snapshot of the own state is durable: note it, say [`LearnerInput::Begin`], and cut the log below (5.2, 4.2).
    SnapshotTaken {
        /// Which.
        snapshot: SnapshotId,
    },
    /// The learner holds the snapshot of a peer's base durably, or the base needs none: begin the log there (5.2), then say
    /// [`LearnerInput::Begin`].
    Install {
        /// Where the log begins.
        base: Base,
    },
    /// The storage holds no entry through here any more.
    Trimmed {
        /// The last slot that is gone.
        through: Slot,
    },
    /// What the storage holds of these slots is damaged: write it anew (F8, F11).
    Damaged {
        /// The slots.
        slots: Vec<Interval>,
    },
    /// What the storage holds beside entries is damaged: restate it, by [`Effect::Trim`] (F7).
    FactsDamaged,
    /// The proposer is about to campaign under `id`: promise it durably, then send `Prepare` to every other node of
    /// `to` (1.3).
    Candidate {
        /// The candidate's id.
        id: ProposalId,
        /// The nodes to ask, this one included.
        to: Vec<NodeId>,
    },
    /// The deadline has come.
    Wake,
}

/// What can happen to a learner.
#[derive(Clone, Debug, PartialEq)]
pub enum LearnerInput {
    /// Ask the acceptor for everything above what is applied: said once, at the start.
    Start,
    /// What the acceptor knows: at the start, after formation, and after each rebuilding of a role.
    Briefing(Briefing),
    /// The own log begins at `base`, durably: if that is above what is applied here, go on from its snapshot.
    Begin {
        /// Where.
        base: Base,
    },
    /// The own log cannot be read from here on: only a peer's snapshot helps (F8).
    Unreadable {
        /// The first slot that is missing.
        from: Slot,
    },
    /// Take a snapshot of what is applied now.
    TakeSnapshot,
    /// The own snapshot, where the log begins, is damaged: take another one in its place (F10).
    SnapshotDamaged {
        /// Which.
        snapshot: SnapshotId,
    },
    /// So many bytes of the snapshot that is being written are held; `None` if it cannot be written.
    SnapshotHeld {
        /// How many, from its beginning.
        bytes: Option<u64>,
    },
    /// Whether the snapshot is whole and durable.
    SnapshotSealed {
        /// Whether.
        sealed: bool,
    },
    /// The state is that of the snapshot now; or, if `false`, what it was, since the snapshot cannot be read or restored.
    Restored {
        /// Which.
        snapshot: SnapshotId,
        /// Whether.
        restored: bool,
    },
    /// A part of a snapshot for a peer; empty if it is not held.
    SnapshotRead {
        /// The peer.
        to: NodeId,
        /// Which.
        snapshot: SnapshotId,
        /// From this byte of its content on.
        at: u64,
        /// The content.
        bytes: Bytes,
    },
    /// `Chosen`, `Base`, `FetchSnapshot`, `SnapshotChunk`.
    Message {
        /// The authenticated sender.
        from: NodeId,
        /// What it says.
        message: Message,
    },
    /// These consecutive slots are chosen, and written or being written here.
    Learned {
        /// Ascending, without gaps.
        values: Vec<(Slot, Value)>,
        /// How far the log has learned; if that is beyond `values`, the rest has to be asked for.
        chosen_through: Slot,
        /// Whether this answers [`AcceptorInput::Replay`].
        replay: bool,
    },
    /// `peer` has learned through `through`; this node's log reaches only to `chosen_through`.
    Behind {
        /// Who to ask first.
        peer: NodeId,
        /// How far it has learned.
        through: Slot,
        /// How far this node has.
        chosen_through: Slot,
    },
    /// A connection to `peer` stands.
    LinkUp {
        /// The peer.
        peer: NodeId,
    },
    /// The last connection to `peer` is gone.
    LinkDown {
        /// The peer.
        peer: NodeId,
    },
    /// The deadline has come.
    Wake,
}

/// What can happen to an election.
#[derive(Clone, Debug, PartialEq)]
pub enum ElectionInput {
    /// `PrePrepare`, `PrePrepareAnswer`, `HeartbeatAck`.
    Message {
        /// The authenticated sender.
        from: NodeId,
        /// What it says.
        message: Message,
    },
    /// The own acceptor follows `id`, whose leader has just been heard.
    Heard {
        /// The leader's id.
        id: ProposalId,
    },
    /// The own acceptor promised `id`: leaders below it count no more.
    Promised {
        /// The promise.
        id: ProposalId,
    },
    /// The own proposer changed its state.
    Proposer(ProposerState),
    /// How far this node has learned, as the leader's watermark says it.
    Watermark {
        /// The slot.
        through: Slot,
    },
    /// How far a set durably holds that no later leader can miss (see [`Message::Heartbeat`]).
    Held {
        /// The slot.
        through: Slot,
    },
    /// Whether this leader may go on asking for leases: not while it hands over (7.4).
    Lease(bool),
    /// The application wants this node to lead (for [`crate::election::Election::external`]).
    Campaign,
    /// The application wants this node not to lead.
    StepDown,
    /// What the acceptor knows: at the start, after formation, and after each rebuilding of a role.
    Briefing(Briefing),
    /// Whether the own proposer's oldest open slot is older than its limit; no heartbeat leaves while it is so (8.3).
    Stalled(bool),
    /// Whether every role of this node answers; heartbeats leave only while it is so (8.3).
    Healthy(bool),
    /// Whether the disk keeps up; a leader whose disk does not steps down, and is not elected before it does again.
    DiskWell(bool),
    /// A connection to `peer` stands.
    LinkUp {
        /// The peer.
        peer: NodeId,
    },
    /// The last connection to `peer` is gone.
    LinkDown {
        /// The peer.
        peer: NodeId,
    },
    /// The deadline has come.
    Wake,
}

/// What the acceptor tells the other roles of what is durable.
#[derive(Clone, Debug, PartialEq)]
pub struct Briefing {
    /// The memberships, once the cluster has formed.
    pub memberships: Option<Memberships>,
    /// Every slot through this one is learned.
    pub chosen_through: Slot,
    /// The highest promised id.
    pub promised: Option<ProposalId>,
    /// Whether this node may vote and lead.
    pub votes: bool,
}

/// What a proposer is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProposerState {
    /// Nothing: another node may lead.
    Idle,
    /// Phase 1 under way. A page of a promise that arrives repeats it (8.5).
    Preparing {
        /// Under this id.
        id: ProposalId,
    },
    /// Phase 1 won.
    Leading {
        /// Under this id.
        id: ProposalId,
    },
}

/// Why a handshake is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub enum Refusal {
    /// The peer belongs to another cluster or another epoch of it.
    #[error("the peer belongs to another cluster or epoch")]
    WrongCluster,
    /// The peer claims this node's own id.
    #[error("the peer claims this node's own id")]
    OwnId,
    /// No protocol version is spoken by both.
    #[error("no protocol version in common")]
    NoCommonProtocol,
    /// A later start of the peer is remembered than its disk knows of: an old image or a copy (9.3).
    #[error("a later start of the peer is remembered: {known:?}")]
    StaleIncarnation {
        /// The start that is remembered.
        known: Incarnation,
    },
    /// The peer's votes went further than its journal does: an old image (9.4).
    #[error("the peer's journal ends at {shown:?}, but its votes went to {known:?}")]
    StaleJournal {
        /// The highest sequence that its votes showed.
        known: Sequence,
        /// Where its journal ends.
        shown: Sequence,
    },
    /// The peer is on another disk than the one known for it (9.1, 9.2).
    #[error("the peer's node id is known on another disk")]
    OtherDisk,
    /// The node is stopping, or its queue for handshakes is full.
    #[error("the node does not take connections now")]
    Unavailable,
}

/// What the application and the operator may want to know.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// This node leads, under `id`.
    Acquired {
        /// The id.
        id: ProposalId,
    },
    /// This node leads no more.
    Lost,
    /// Another node leads, or none is known.
    Changed {
        /// The leader's id.
        leader: Option<ProposalId>,
    },
    /// The cluster has formed; this node may vote.
    Formed,
    /// This node votes no more.
    Abstains {
        /// Why.
        reason: AbstainReason,
    },
    /// Another initial member was started with another membership, or belongs to another cluster (F32).
    FormationDiffers {
        /// The member.
        peer: NodeId,
        /// Whether more than half of the other members differ: then this node is the one to put right, and stops.
        outvoted: bool,
    },
    /// A batch was not proposed at all: there was no room, or this node does not lead. Its callers may hear `NotLeader`.
    BatchRefused {
        /// The batch.
        batch: Bytes,
    },
    /// The slot of a proposed batch went to another value, and the batch is given up here.
    BatchLost {
        /// The batch.
        batch: Bytes,
    },
    /// A membership was learned; it comes into force above `in_force_above`.
    MembershipLearned {
        /// The membership.
        membership: super::membership::Membership,
        /// The last slot that an earlier one governs.
        in_force_above: Slot,
    },
    /// The membership leaves this node out, and its part is done: it may stop (6.5).
    Removed,
    /// A snapshot was installed in place of the log through `through`.
    Installed {
        /// The last slot that it covers.
        through: Slot,
    },
    /// The own snapshot is damaged; another one is taken, or one of a peer fetched (F10).
    SnapshotDamaged {
        /// Which.
        snapshot: SnapshotId,
    },
    /// Entries are damaged where they were written; they are mended (F8, F11).
    EntriesDamaged {
        /// Where.
        slots: Vec<Interval>,
    },
    /// What stands beside the entries is damaged where it was written; it is restated (F7).
    FactsDamaged,
    /// Every number is used up.
    ProposalIdExhausted,
}
