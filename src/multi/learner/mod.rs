//! The learner: what is chosen reaches the state machine, in order and without gaps.
//!
//! In: what the acceptor knows to be chosen; chosen values and snapshots that peers send. Out: deliveries, one slot after the
//! other; requests for what is missing, and, on a node that has just joined, for where the log begins.
//! Invariants: N1 a slot is delivered once per life of the learner, after every slot below it was delivered, or was taken in
//! with a snapshot.
//! Knows nothing of: ids, quorums, leaders.

mod fetching;
mod installing;
mod serving;

use super::effect::{AcceptorInput, Briefing, Effect, LearnerInput, Local};
use super::jitter::Jitter;
use super::limits::Limits;
use super::membership::Memberships;
use super::message::Message;
use super::record::Value;
use super::slot::{Slot, Time};
use crate::paxos::NodeId;
use installing::Installing;
use serving::Serving;
use std::collections::{BTreeMap, BTreeSet};

/// Peers whose progress is remembered.
const KNOWN_MAX: usize = 512;

/// A node that hears of nothing new asks a peer once in so many time-outs.
const PROBE_TIMEOUTS: u32 = 4;

/// The learner of Multi-Paxos.
#[derive(Debug)]
pub struct Learner {
    me: NodeId,
    limits: Limits,
    jitter: Jitter,
    applied: Slot,
    /// How far the own log has learned.
    learned: Slot,
    /// The log has been asked for what is between `applied` and `learned`, and may be asked again then.
    replaying: Option<Time>,
    /// How far each peer is known, or said, to have learned.
    known: BTreeMap<NodeId, Slot>,
    links: BTreeSet<NodeId>,
    /// The own log knows the first membership; before that nothing can be learned.
    introduced: bool,
    /// As of what is applied, or newer where that was never learned here.
    memberships: Option<Memberships>,
    /// No state machine: nothing is delivered.
    witness: bool,
    request: Option<Request>,
    /// Who was asked and brought nothing: before the time is over only others are asked, if they are there and have more.
    in_vain: BTreeSet<NodeId>,
    /// Values were handed to the acceptor; the next request waits until it has them, but no longer than this.
    storing: Option<Time>,
    /// When to ask a peer how far it is, though nobody said that this node lags: there may be no leader to say so.
    probe: Time,
    installing: Installing,
    serving: Serving,
    armed: Option<Time>,
}

#[derive(Clone, Copy, Debug)]
struct Request {
    peer: NodeId,
    expires: Time,
}

impl Learner {
    /// A learner that has applied nothing. `seed` feeds its choice of peers.
    pub fn new(me: NodeId, limits: Limits, seed: u64) -> Self {
        Self {
            me,
            limits,
            jitter: Jitter::new(seed),
            applied: Slot::ZERO,
            learned: Slot::ZERO,
            replaying: None,
            known: BTreeMap::new(),
            links: BTreeSet::new(),
            introduced: false,
            memberships: None,
            witness: false,
            request: None,
            in_vain: BTreeSet::new(),
            storing: None,
            probe: Time::ZERO,
            installing: Installing::default(),
            serving: Serving::default(),
            armed: None,
        }
    }

    /// Belongs to a node without a state machine ([`super::Acceptor::witness`]): it fetches what the acceptor lacks, and
    /// neither delivers anything nor takes, fetches or gives snapshots.
    #[must_use]
    pub fn witness(mut self) -> Self {
        self.witness = true;
        self
    }

    /// The last slot that was delivered, or taken in with a snapshot; [`Slot::ZERO`] for ever on a witness.
    pub fn applied_through(&self) -> Slot {
        self.applied
    }

    /// Takes one input.
    pub fn step(&mut self, now: Time, input: LearnerInput, out: &mut Vec<Effect>) {
        match input {
            LearnerInput::Start => self.replay(now, out),
            LearnerInput::Learned { values, chosen_through, replay } => {
                self.on_learned(now, values, chosen_through, replay, out);
            }
            LearnerInput::Behind { peer, through, chosen_through } => {
                self.learned = self.learned.max(chosen_through);
                self.knows(peer, through);
                self.fetch(now, out);
            }
            LearnerInput::Message { from, message } => self.on_message(now, from, message, out),
            LearnerInput::Briefing(briefing) => self.on_briefing(now, briefing, out),
            LearnerInput::Begin { base } => self.on_begin(now, base, out),
            LearnerInput::Unreadable { from } => self.on_unreadable(now, from, out),
            LearnerInput::TakeSnapshot => self.on_take_snapshot(now, out),
            LearnerInput::SnapshotDamaged { snapshot } => self.on_snapshot_damaged(now, snapshot, out),
            LearnerInput::SnapshotHeld { bytes } => self.on_snapshot_held(now, bytes, out),
            LearnerInput::SnapshotSealed { sealed } => self.on_snapshot_sealed(now, sealed, out),
            LearnerInput::Restored { snapshot, restored } => self.on_restored(now, snapshot, restored, out),
            LearnerInput::SnapshotRead { to, snapshot, at, bytes } => {
                self.on_snapshot_read(to, snapshot, at, bytes, out);
            }
            LearnerInput::LinkUp { peer } => {
                self.links.insert(peer);
                self.on_link_up_installing(now, peer, out);
                self.fetch(now, out);
            }
            LearnerInput::LinkDown { peer } => {
                self.links.remove(&peer);
                self.pass_over(now, peer);
                self.forget_request(peer);
                self.on_link_down_installing(now, peer, out);
                self.fetch(now, out);
            }
            LearnerInput::Wake => self.on_wake(now, out),
        }
        self.arm(out);
    }

    fn on_message(&mut self, now: Time, from: NodeId, message: Message, out: &mut Vec<Effect>) {
        match message {
            Message::Chosen { first, values, chosen_through } => {
                self.on_chosen(now, from, first, values, chosen_through, out);
            }
            Message::Base { base } => self.on_base(now, from, *base, out),
            Message::FetchSnapshot { snapshot, at, bytes_max } => {
                self.on_fetch_snapshot(from, snapshot, at, bytes_max, out);
            }
            Message::SnapshotChunk { snapshot, at, bytes } => {
                self.on_chunk(now, from, snapshot, at, bytes, out);
            }
            _ => {}
        }
    }

    fn on_briefing(&mut self, now: Time, briefing: Briefing, out: &mut Vec<Effect>) {
        self.introduced = briefing.memberships.is_some();
        // An acceptor that was built anew may have learned less than was delivered.
        if self.memberships.is_none() || briefing.chosen_through >= self.applied {
            self.memberships = briefing.memberships;
        }
        self.fetch(now, out);
    }

    /// What was not answered in time is asked again: an answer may be lost, also within the node, when a role of it is
    /// built anew.
    fn on_wake(&mut self, now: Time, out: &mut Vec<Effect>) {
        self.armed = None;
        if let Some(late) = self.request.take_if(|request| request.expires <= now) {
            self.in_vain.clear();
            if !self.links.contains(&late.peer) {
                self.pass_over(now, late.peer);
            }
            if self.installing.need.is_some() {
                // What could not be read may have been mended.
                self.replay(now, out);
            }
        }
        self.storing = self.storing.filter(|expires| *expires > now);
        if self.replaying.is_some_and(|expires| expires <= now) {
            self.replaying = None;
            self.replay(now, out);
        }
        self.on_wake_installing(now, out);
        self.fetch(now, out);
    }

    /// Delivers what is next, and asks the log for what it has beyond.
    fn on_learned(
        &mut self,
        now: Time,
        values: Vec<(Slot, Value)>,
        chosen_through: Slot,
        replay: bool,
        out: &mut Vec<Effect>,
    ) {
        self.storing = None;
        // An acceptor that was built anew may have learned less than it had before.
        self.learned = chosen_through;
        self.drop_needless_transfer();
        let before = self.applied;
        if !self.witness && !self.installing.is_under_way() {
            values.into_iter().for_each(|(slot, value)| self.deliver(slot, value, out));
        }
        // An answer that brings nothing is not asked for again at once.
        if replay && (self.applied > before || self.applied >= self.learned) {
            self.replaying = None;
        }
        if self.applied < self.learned {
            self.replay(now, out);
        }
        self.fetch(now, out);
    }

    fn deliver(&mut self, slot: Slot, value: Value, out: &mut Vec<Effect>) {
        if slot != self.applied.next() {
            return;
        }
        if let (Value::Membership(membership), Some(memberships)) = (&value, &mut self.memberships) {
            memberships.learn(slot, membership);
        }
        self.applied = slot;
        self.met_need();
        out.push(Effect::Deliver { slot, value });
    }

    fn replay(&mut self, now: Time, out: &mut Vec<Effect>) {
        if self.replaying.is_none() && !self.witness && !self.installing.is_under_way() {
            self.replaying = Some(now + self.limits.catch_up_timeout);
            let from = self.applied.next();
            out.push(Effect::Local(Local::Acceptor(AcceptorInput::Replay { from })));
        }
    }

    /// Values from a peer: asked for, or in answer to an `Accept` that came too late.
    fn on_chosen(
        &mut self,
        now: Time,
        from: NodeId,
        first: Slot,
        values: Vec<Value>,
        chosen_through: Slot,
        out: &mut Vec<Effect>,
    ) {
        let end = first.plus(values.len() as u64);
        let useful = first <= self.learned.next() && end > self.learned.next();
        self.known.insert(from, chosen_through);
        self.bound_known();
        if useful {
            self.forget_request(from);
            self.in_vain.clear();
        } else if self.request.is_some_and(|request| request.peer == from) {
            self.in_vain.insert(from);
        }
        if useful {
            self.storing = Some(now + self.limits.catch_up_timeout);
            out.push(Effect::Local(Local::Acceptor(AcceptorInput::Store { first, values })));
        } else {
            self.fetch(now, out);
        }
    }

    /// `peer` has learned through `through`, as somebody said.
    fn knows(&mut self, peer: NodeId, through: Slot) {
        let known = self.known.entry(peer).or_default();
        let has_more_now = *known <= self.learned && self.learned < through;
        *known = (*known).max(through);
        if has_more_now && self.in_vain.remove(&peer) {
            self.forget_request(peer);
        }
        self.bound_known();
    }

    /// Whether `peer` is known to have what is missing here.
    fn is_ahead(&self, peer: NodeId) -> bool {
        peer != self.me && self.known.get(&peer).is_some_and(|through| *through > self.learned)
    }

    /// `peer` is not there; others may have what it had.
    fn pass_over(&mut self, now: Time, peer: NodeId) {
        self.known.remove(&peer);
        self.probe = now;
    }

    fn bound_known(&mut self) {
        while self.known.len() > KNOWN_MAX {
            self.known.pop_first();
        }
    }

    /// Asks a peer that has more for the next chunk, if nothing is on its way; and any peer now and then.
    fn fetch(&mut self, now: Time, out: &mut Vec<Effect>) {
        let waits = self.request.is_some_and(|request| !self.in_vain.contains(&request.peer));
        if waits || self.storing.is_some() || self.installing.is_replacing_log() {
            return;
        }
        let need = self.installing.need.filter(|_| !self.installing.is_under_way());
        let ahead = |peer: &NodeId| need.is_none() && self.is_ahead(*peer);
        let fresh = |peer: &NodeId| !self.in_vain.contains(peer);
        let mut peers: Vec<NodeId> = self.links.iter().copied().filter(ahead).filter(fresh).collect();
        if peers.is_empty() {
            if self.request.is_some() {
                return;
            }
            peers = self.known.keys().copied().filter(ahead).collect();
            // Whoever said so may be gone, and others may have it too.
            if !peers.is_empty() || self.probe <= now || !self.introduced || need.is_some() {
                peers.extend(&self.links);
            }
        }
        if peers.iter().any(|peer| !self.installing.avoids(now, *peer)) {
            peers.retain(|peer| !self.installing.avoids(now, *peer));
        }
        let Some(peer) = self.one_of(&peers) else { return };
        let expires = now + self.limits.catch_up_timeout;
        self.request = Some(Request { peer, expires });
        self.probe = now + self.limits.catch_up_timeout * PROBE_TIMEOUTS;
        let bytes_max = u32::try_from(self.limits.catch_up_bytes_max).unwrap_or(u32::MAX);
        let message = match need {
            Some(above) => Message::AskBase { above },
            None if !self.introduced => Message::AskBase { above: Slot::ZERO },
            None => Message::CatchUp { from: self.learned.next(), bytes_max },
        };
        out.push(Effect::Send { to: peer, message, after: None });
    }

    /// Asks to be woken when the first of the answers that are waited for is overdue.
    fn arm(&mut self, out: &mut Vec<Effect>) {
        let request = self.request.map(|request| request.expires);
        let waits = self.request.is_some() || self.storing.is_some() || self.installing.is_replacing_log();
        let probe = (!waits && !self.links.is_empty()).then_some(self.probe);
        let installing = self.installing.due();
        let due = [request, self.storing, self.replaying, probe, installing].into_iter().flatten().min();
        if let Some(due) = due.filter(|due| self.armed.is_none_or(|armed| *due < armed)) {
            self.armed = Some(due);
            out.push(Effect::Deadline(due));
        }
    }

    fn one_of(&mut self, peers: &[NodeId]) -> Option<NodeId> {
        let count = peers.len().max(1) as u64;
        let nth = usize::try_from(self.jitter.draw() % count).unwrap_or(0);
        peers.get(nth).copied()
    }

    fn forget_request(&mut self, peer: NodeId) {
        if self.request.is_some_and(|request| request.peer == peer) {
            self.request = None;
        }
    }
}
