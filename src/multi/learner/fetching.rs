//! Fetching: a peer's snapshot, part by part, from whoever holds it (protocol 5.1).
//!
//! Invariants: G1 one request is under way, or one task of the shell's. G2 what was fetched of a snapshot is gone on with from
//! whoever holds the same one, never from another. G3 a part counts only where it is the next one and the peer had offered
//! the snapshot.

use super::Learner;
use super::installing::Stage;
use crate::multi::effect::{Effect, SnapshotTask};
use crate::multi::message::Message;
use crate::multi::record::{Base, SnapshotId};
use crate::multi::slot::Time;
use crate::paxos::NodeId;
use bytes::Bytes;
use std::collections::BTreeSet;

/// A transfer that got nowhere so often in a row is replaced by a newer one that a peer offers.
const STALLS_TO_REPLACE: u32 = 3;
/// A transfer that got nowhere so often in a row is given up.
const STALLS_MAX: u32 = 8;

/// A snapshot on its way from a peer.
#[derive(Debug)]
pub(super) struct Transfer {
    pub(super) base: Base,
    snapshot: SnapshotId,
    /// Who offered it.
    sources: BTreeSet<NodeId>,
    /// Who was asked last for a part of it.
    last: NodeId,
    /// Bytes held.
    held: u64,
    pub(super) waits: Waits,
    /// How often in a row nothing came of asking.
    stalls: u32,
}

/// What a transfer waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waits {
    /// To begin, or to write a part.
    Held,
    /// To be checked as a whole.
    Sealed,
    /// For the next part.
    Part { from: NodeId, expires: Time },
    /// To hear where a peer's log begins, if there was one to ask.
    Base { from: Option<NodeId>, expires: Time },
}

impl Waits {
    /// When a peer is asked again, or another, if it is a peer that is waited for.
    pub(super) fn expires(self) -> Option<Time> {
        match self {
            Self::Part { expires, .. } | Self::Base { expires, .. } => Some(expires),
            Self::Held | Self::Sealed => None,
        }
    }

    /// Who was asked.
    fn asked(self) -> Option<NodeId> {
        match self {
            Self::Part { from, .. } => Some(from),
            Self::Base { from, .. } => from,
            Self::Held | Self::Sealed => None,
        }
    }

    fn for_peer(self) -> bool {
        matches!(self, Self::Part { .. } | Self::Base { .. })
    }
}

impl Learner {
    pub(super) fn begin_transfer(
        &mut self,
        base: Base,
        snapshot: SnapshotId,
        from: NodeId,
        out: &mut Vec<Effect>,
    ) {
        let sources = BTreeSet::from([from]);
        let transfer =
            Transfer { base, snapshot, sources, last: from, held: 0, waits: Waits::Held, stalls: 0 };
        self.installing.stage = Stage::Fetching(Box::new(transfer));
        out.push(Effect::Snapshot(SnapshotTask::Begin { snapshot }));
    }

    /// Another source of the same snapshot; or a newer one, which counts when the present one gets nowhere.
    pub(super) fn on_base_meanwhile(
        &mut self,
        now: Time,
        from: NodeId,
        base: Base,
        snapshot: SnapshotId,
        out: &mut Vec<Effect>,
    ) {
        let Stage::Fetching(transfer) = &mut self.installing.stage else { return };
        let same = transfer.snapshot == snapshot;
        if same {
            transfer.sources.insert(from);
        }
        if !transfer.waits.for_peer() {
            return;
        }
        let gets_nowhere = transfer.sources.is_empty() || transfer.stalls >= STALLS_TO_REPLACE;
        if !same && gets_nowhere && transfer.base.through <= base.through {
            self.begin_transfer(base, snapshot, from, out);
        } else if let Waits::Base { from: asked, .. } = transfer.waits
            && asked.is_none_or(|asked| asked == from)
        {
            self.fetch_part(now, same.then_some(from), out);
        }
    }

    /// The shell holds so much of the snapshot that is being fetched.
    pub(super) fn on_snapshot_held(&mut self, now: Time, bytes: Option<u64>, out: &mut Vec<Effect>) {
        if bytes.is_none() {
            self.serving.note_failure();
        }
        let Stage::Fetching(transfer) = &mut self.installing.stage else { return };
        if transfer.waits != Waits::Held {
            return;
        }
        match bytes {
            None => self.fail_transfer(now, out),
            Some(held) => {
                transfer.held = held;
                if held >= transfer.snapshot.bytes {
                    transfer.waits = Waits::Sealed;
                    out.push(Effect::Snapshot(SnapshotTask::Seal { snapshot: transfer.snapshot }));
                } else {
                    let last = transfer.last;
                    self.fetch_part(now, Some(last), out);
                }
            }
        }
    }

    pub(super) fn on_snapshot_sealed(&mut self, now: Time, sealed: bool, out: &mut Vec<Effect>) {
        let Stage::Fetching(transfer) = &self.installing.stage else { return };
        if transfer.waits != Waits::Sealed {
            return;
        }
        if sealed {
            let (base, snapshot) = (transfer.base.clone(), transfer.snapshot);
            self.installing.damaged = self.installing.damaged.filter(|damaged| *damaged != snapshot);
            self.install(now, base, out);
        } else {
            self.fail_transfer(now, out);
        }
    }

    fn fail_transfer(&mut self, now: Time, out: &mut Vec<Effect>) {
        if let Stage::Fetching(transfer) = &self.installing.stage {
            let last = transfer.last;
            self.installing.set_back(now, self.limits.catch_up_timeout, last);
            self.go_on(now, out);
        }
    }

    /// A part of the snapshot, of which only the next one is of use.
    pub(super) fn on_chunk(
        &mut self,
        now: Time,
        from: NodeId,
        snapshot: SnapshotId,
        at: u64,
        bytes: Bytes,
        out: &mut Vec<Effect>,
    ) {
        let Stage::Fetching(transfer) = &mut self.installing.stage else { return };
        let asked = transfer.waits.for_peer() && transfer.sources.contains(&from);
        if !asked || (transfer.snapshot, transfer.held) != (snapshot, at) {
            return;
        }
        if bytes.is_empty() {
            transfer.sources.remove(&from);
            if transfer.waits.asked() == Some(from) {
                self.stalled(now, out);
            }
            return;
        }
        let left = snapshot.bytes.saturating_sub(at);
        if bytes.len() <= self.limits.snapshot_chunk_bytes && bytes.len() as u64 <= left {
            transfer.stalls = 0;
            transfer.last = from;
            transfer.waits = Waits::Held;
            out.push(Effect::Snapshot(SnapshotTask::Write { at, bytes }));
        }
    }

    /// Nothing came of asking: someone else is asked, for the same snapshot or, in turn, for another.
    pub(super) fn stalled(&mut self, now: Time, out: &mut Vec<Effect>) {
        let Stage::Fetching(transfer) = &mut self.installing.stage else { return };
        transfer.stalls += 1;
        let others = self.links.iter().any(|peer| *peer != self.me && !transfer.sources.contains(peer));
        if transfer.stalls > STALLS_MAX {
            self.fail_transfer(now, out);
        } else if transfer.stalls % 2 == 1 && others {
            self.ask_another(now, out);
        } else {
            self.fetch_part(now, None, out);
        }
    }

    /// Asks a peer that has not offered the snapshot whether it holds it, or a newer one.
    fn ask_another(&mut self, now: Time, out: &mut Vec<Effect>) {
        let Stage::Fetching(transfer) = &self.installing.stage else { return };
        let others = self.links.iter().filter(|peer| **peer != self.me && !transfer.sources.contains(*peer));
        let others: Vec<NodeId> = others.copied().collect();
        let other = self.one_of(&others);
        self.ask_for_base(now, other, out);
    }

    fn ask_for_base(&mut self, now: Time, peer: Option<NodeId>, out: &mut Vec<Effect>) {
        let expires = now + self.limits.catch_up_timeout;
        let Stage::Fetching(transfer) = &mut self.installing.stage else { return };
        transfer.waits = Waits::Base { from: peer, expires };
        let above = transfer.base.through;
        out.extend(peer.map(|to| Effect::Send { to, message: Message::AskBase { above }, after: None }));
    }

    /// Asks for the next part: `preferred`, or a source that is there and was not asked last, or any; where there is none,
    /// asks for one.
    fn fetch_part(&mut self, now: Time, preferred: Option<NodeId>, out: &mut Vec<Effect>) {
        let Stage::Fetching(transfer) = &self.installing.stage else { return };
        let (snapshot, at, last) = (transfer.snapshot, transfer.held, transfer.last);
        let preferred = preferred.filter(|peer| transfer.sources.contains(peer));
        let mut sources: Vec<NodeId> = transfer.sources.iter().copied().collect();
        if sources.iter().any(|peer| self.links.contains(peer)) {
            sources.retain(|peer| self.links.contains(peer));
        }
        if sources.iter().any(|peer| *peer != last) {
            sources.retain(|peer| *peer != last);
        }
        let Some(to) = preferred.or_else(|| self.one_of(&sources)) else {
            self.ask_another(now, out);
            return;
        };
        let expires = now + self.limits.catch_up_timeout;
        if let Stage::Fetching(transfer) = &mut self.installing.stage {
            transfer.last = to;
            transfer.waits = Waits::Part { from: to, expires };
        }
        let bytes_max = u32::try_from(self.limits.snapshot_chunk_bytes).unwrap_or(u32::MAX);
        out.push(Effect::Send {
            to,
            message: Message::FetchSnapshot { snapshot, at, bytes_max },
            after: None,
        });
    }

    /// The log learned as far as the snapshot would bring it, before all of that was fetched.
    pub(super) fn drop_needless_transfer(&mut self) {
        if let Stage::Fetching(transfer) = &self.installing.stage
            && transfer.waits.for_peer()
            && self.installing.need.is_none()
            && transfer.base.through <= self.learned
        {
            self.installing.stage = Stage::Idle;
        }
    }

    /// A peer came: a transfer that has nobody to ask asks it.
    pub(super) fn on_link_up_installing(&mut self, now: Time, peer: NodeId, out: &mut Vec<Effect>) {
        if let Stage::Fetching(transfer) = &self.installing.stage
            && matches!(transfer.waits, Waits::Base { from: None, .. })
        {
            self.ask_for_base(now, Some(peer), out);
        }
    }

    /// A peer went: others may hold what it was sending.
    pub(super) fn on_link_down_installing(&mut self, now: Time, peer: NodeId, out: &mut Vec<Effect>) {
        if let Stage::Fetching(transfer) = &mut self.installing.stage {
            transfer.sources.remove(&peer);
            if transfer.waits.asked() == Some(peer) {
                self.stalled(now, out);
            }
        }
    }
}
