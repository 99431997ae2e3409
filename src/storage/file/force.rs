//! Forcing a membership: an operator leaves one survivor of a cluster that has lost its quorum alone with what it holds
//! (protocol 10.2).
//!
//! It takes two writes. The first is one group of the journal: it decides what was open here, and makes this node the only
//! voter above that, so all of the force is there or nothing of it. The second says the new epoch in the identity. Between
//! them the journal is ahead, and whoever opens the directory enters the epoch that the journal says before anything is sent.
//! The other way round a crash would leave a node that shows the new epoch and counts by the old quorum.

use super::FileStorage;
use super::place::Place;
use crate::multi::{
    ClusterId, Group, Interval, Log, Member, MemberKind, Membership, MembershipError, Memberships, Owner,
    Record, Slot, Value, intervals, is_doubt,
};
use crate::paxos::NodeId;
use crate::storage::{Recovered, Start, StorageError};
use std::collections::BTreeMap;
use std::fmt;

/// What was done to a survivor, and what may be lost by it. Its `Display` tells an operator in words.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ForceReport {
    /// Whose directory it is, in the new epoch.
    pub owner: Owner,
    /// Before: every slot through this one was learned, and stays.
    pub chosen_through: Slot,
    /// Above it: what was accepted in these slots counts as chosen now. The others may have chosen something else.
    pub decided: Vec<Interval>,
    /// Above it: what was accepted in these slots is damaged and given up. An open interval: in any slot from there on.
    pub unknown: Vec<Interval>,
    /// Above it: nothing was accepted in these slots, between others; they are filled with no-ops.
    pub empty: Vec<Interval>,
    /// The last slot that is decided now: the log goes on behind it.
    pub decided_through: Slot,
    /// The last slot that a leader ever told this node to be chosen.
    pub heard_through: Slot,
}

/// Why no membership was forced. The memberships are as they were then, but for the last case.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ForceError {
    /// The directory holds no formed cluster: there is nothing to go on with.
    #[error("the cluster of this directory has never formed")]
    NotFormed,
    /// It is a witness, which holds no state: another node has to survive.
    #[error("a witness holds no state, so nothing can go on from it")]
    Witness,
    /// A membership left this node out, so it has not learned what came after that.
    #[error("the node is not a member of its cluster any more")]
    NotAMember,
    /// It would be no membership.
    #[error("the node cannot be the only member")]
    Membership(#[from] MembershipError),
    /// The directory is open ([`StorageError::Locked`]), empty, another's or damaged; or a write failed, and a restart finds
    /// either the old membership or the forced one, whole.
    #[error("the directory cannot be used")]
    Storage(#[from] StorageError),
}

impl FileStorage {
    /// Leaves `node` alone with what this directory holds: as the single voter, under its old address, of a new epoch,
    /// which no other node of the cluster can talk to. For a cluster whose quorum is lost for ever, on one survivor only; all
    /// other nodes are wiped then and added anew. What the report says may be lost is lost. A second call is a new force.
    ///
    /// Works on a directory that no process has open, on the thread that calls.
    ///
    /// # Errors
    ///
    /// [`ForceError`]; [`StorageError::Locked`] in it if the node runs.
    pub fn force_membership(&self, cluster: &ClusterId, node: NodeId) -> Result<ForceReport, ForceError> {
        let owner = Owner { cluster: cluster.clone(), epoch: 0, node };
        // A start like any other: the owner is checked, a torn tail is cut off, damage is noted.
        let (mut place, found) = Place::open(&self.settings, owner, Start::Restart)?;
        let Recovered { owner, log, sequence, .. } = found;
        let memberships = log.memberships().ok_or(ForceError::NotFormed)?;
        let alone = alone(memberships, node)?;
        let owner = Owner { epoch: owner.epoch.saturating_add(1), ..owner };
        let (mut records, report) = decide(owner, &log, memberships);
        let memberships = memberships.alone_from(report.decided_through.next(), alone);
        records.push(Record::Forced { epoch: report.owner.epoch, memberships });
        place.append(&Group { sequence: sequence.next(), records })?;
        place.seal()?;
        place.enter_epoch(&self.settings, report.owner.epoch)?;
        Ok(report)
    }
}

/// The membership of `node` alone, under the constants of the cluster.
fn alone(memberships: &Memberships, node: NodeId) -> Result<Membership, ForceError> {
    let newest = memberships.newest().ok_or(ForceError::NotFormed)?;
    let member = newest.members().get(&node).ok_or(ForceError::NotAMember)?;
    if member.kind == MemberKind::Witness {
        return Err(ForceError::Witness);
    }
    let member = Member { kind: MemberKind::Voter, address: member.address.clone() };
    Ok(newest.with_members(BTreeMap::from([(node, member)]))?)
}

/// Decides what is open: what was accepted, else a no-op, through the last slot that holds anything. So no entry of the old
/// epoch is open in the new one, least of all a membership.
fn decide(owner: Owner, log: &Log, memberships: &Memberships) -> (Vec<Record>, ForceReport) {
    let (first, last) = (log.chosen_through().next(), last_held(log, memberships));
    let (mut decided, mut unknown, mut empty) = (Vec::new(), Vec::new(), Vec::new());
    let mut records = Vec::new();
    let mut after = log.clone();
    // What was learned above a hole is learned as soon as the hole is filled.
    while after.chosen_through() < last {
        let slot = after.chosen_through().next();
        let entry = log.entry(slot);
        match entry {
            Some(_) => decided.push(slot),
            None if log.is_unknown(slot) => unknown.push(slot),
            None => empty.push(slot),
        }
        let value = entry.map_or(Value::Noop, |entry| entry.value.clone());
        let record = Record::Chosen { slot, value };
        after.apply(&record);
        records.push(record);
    }
    let mut unknown = intervals(unknown);
    let (_, all_unknown) = log.accepted(Interval::new(first, Slot::MAX));
    unknown.extend(
        all_unknown
            .last()
            .filter(|open| is_doubt(open) && open.last > last)
            .map(|open| Interval { first: open.first.max(last.next()), ..*open }),
    );
    let heard = |record: &Record| match record {
        Record::Watermark { through, .. } => Some(*through),
        _ => None,
    };
    let report = ForceReport {
        owner,
        chosen_through: log.chosen_through(),
        decided: intervals(decided),
        unknown,
        empty: intervals(empty),
        decided_through: after.chosen_through(),
        heard_through: log.facts().iter().filter_map(heard).max().unwrap_or_default(),
    };
    (records, report)
}

/// The last slot that is known to have held anything.
fn last_held(log: &Log, memberships: &Memberships) -> Slot {
    let open = Interval::new(log.chosen_through().next(), Slot::MAX);
    let (entries, unknown) = log.accepted(open);
    let accepted = entries.last().map(|(slot, _)| *slot);
    // Without what is unknown, what was learned above a hole is all that is told beside the entries.
    let mut known = log.clone();
    known.apply(&Record::Forced { epoch: 0, memberships: memberships.clone() });
    let (_, learned) = known.accepted(open);
    let others = unknown.into_iter().chain(learned).filter(|interval| !is_doubt(interval));
    let last = others.map(|interval| interval.last).max();
    accepted.max(last).unwrap_or(log.chosen_through())
}

impl ForceReport {
    /// The slots behind the log's end that were surely chosen elsewhere: their values are lost.
    pub fn lost(&self) -> Option<Interval> {
        let lost = Interval::new(self.decided_through.next(), self.heard_through);
        (lost.first <= lost.last).then_some(lost)
    }
}

impl fmt::Display for ForceReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Owner { cluster, epoch, node } = &self.owner;
        writeln!(f, "Node {node} of cluster {cluster} is alone now, in epoch {epoch}.")?;
        writeln!(f, "Every slot through {} was learned here: nothing of that is lost.", self.chosen_through)?;
        let about = [
            (
                &self.decided,
                "was accepted here and counts as chosen now; the others may have chosen another value",
            ),
            (&self.unknown, "was damaged here and is given up; a chosen value may be lost"),
            (&self.empty, "was empty here and is a no-op now; a chosen value may be lost"),
        ];
        for (slots, what) in about.into_iter().filter(|(slots, _)| !slots.is_empty()) {
            for interval in slots {
                writeln!(f, "{} {what}.", Words(*interval))?;
            }
        }
        if let Some(lost) = self.lost() {
            writeln!(f, "{} was chosen by the others, as this node had heard: that is lost.", Words(lost))?;
        }
        writeln!(f, "Whatever else the others chose above slot {} is lost too.", self.chosen_through)?;
        write!(f, "Wipe every other node of the cluster, and add it anew under another id.")
    }
}

/// An interval, for an operator.
struct Words(Interval);

impl fmt::Display for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Interval { first, last: Slot::MAX } => write!(f, "Any slot from {first} on"),
            Interval { first, last } if first == last => write!(f, "Slot {first}"),
            Interval { first, last } => write!(f, "Each slot from {first} to {last}"),
        }
    }
}
