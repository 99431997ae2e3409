//! A simulated disk: what is flushed survives a crash, what is not may not; what is there may rot.
//!
//! It keeps the contract of [`crate::storage::Storage`]: groups are whole or absent, in order, one flush at a time. What a torn
//! or misdirected write looks like below that is for the journal to tell, and tested there.

use super::snapshots::Snapshots;
use crate::multi::{
    DiskId, Entry, Group, Incarnation, Interval, Jitter, Log, Record, Sequence, Slot, intervals,
};
use crate::paxos::{NodeId, ProposalId};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// How far above what it has learned a node accepts: a few slots more than α ever allows.
pub(super) const AHEAD_SLOTS_MAX: u64 = 80;

/// What is done to the log, in order, one at a time.
#[derive(Clone, Debug)]
enum Task {
    Write(Group),
    Trim { through: Slot, facts: Vec<Record> },
}

/// What was done.
#[derive(Debug)]
pub(super) enum Done {
    Written(Sequence),
    /// Entries through here are gone.
    Trimmed(Slot),
}

/// What a disk lost with its power.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lost {
    /// Something that was not flushed.
    pub(super) writes: bool,
    /// Of one write the end.
    pub(super) torn: bool,
}

/// All that one node has.
#[derive(Clone, Debug)]
pub(super) struct Disk {
    pub(super) id: DiskId,
    pub(super) incarnations: Vec<Incarnation>,
    pub(super) snapshots: Snapshots,
    /// The last durable write.
    pub(super) sequence: Sequence,
    /// It takes nothing more.
    pub(super) is_full: bool,
    /// A breakage: it says that a write is durable before it is.
    pub(super) lies: bool,
    facts: Vec<Record>,
    trimmed_through: Slot,
    durable: VecDeque<Group>,
    /// Groups whose header is damaged: nobody knows what they said.
    headless: BTreeSet<Sequence>,
    /// The newest entry of each slot.
    entries: BTreeMap<Slot, Entry>,
    rotten: BTreeSet<Slot>,
    /// The first one is under way.
    tasks: VecDeque<Task>,
}

fn entry_of(record: &Record) -> Option<(Slot, ProposalId)> {
    match record {
        Record::Accepted { slot, id, .. } => Some((*slot, *id)),
        Record::Chosen { slot, .. } => Some((*slot, ProposalId::new(0, NodeId::new(0)))),
        _ => None,
    }
}

/// The highest slot of which a group says something that a cut may forget.
fn highest(group: &Group) -> Option<Slot> {
    let slot_of = |record: &Record| match record {
        // What rotted in place still says of which slot it was.
        Record::Unknown { slots } => slots.last().map(|interval| interval.last),
        record => entry_of(record).map(|(slot, _)| slot),
    };
    group.records.iter().filter_map(slot_of).max()
}

impl Disk {
    pub(super) fn new(id: DiskId) -> Self {
        Self {
            id,
            incarnations: Vec::new(),
            snapshots: Snapshots::default(),
            sequence: Sequence(0),
            is_full: false,
            lies: false,
            facts: Vec::new(),
            trimmed_through: Slot::ZERO,
            durable: VecDeque::new(),
            headless: BTreeSet::new(),
            entries: BTreeMap::new(),
            rotten: BTreeSet::new(),
            tasks: VecDeque::new(),
        }
    }

    /// Raises the incarnation and folds what is durable.
    pub(super) fn open(&mut self, nonce: u64) -> (Sequence, Log) {
        let counter = self.incarnations.len() as u64 + 1;
        self.incarnations.push(Incarnation { counter, nonce });
        let log = self.fold();
        self.snapshots.open(log.base().and_then(|base| base.snapshot));
        (self.sequence, log)
    }

    /// How often the node was started.
    pub(super) fn starts(&self) -> u64 {
        self.incarnations.len() as u64
    }

    /// The log as it would be after a restart.
    pub(super) fn fold(&self) -> Log {
        let mut log = Log::default();
        self.facts.iter().for_each(|record| log.apply(record));
        if self.trimmed_through > Slot::ZERO {
            log.apply(&Record::Trimmed { through: self.trimmed_through });
        }
        for group in &self.durable {
            group.records.iter().for_each(|record| log.apply(record));
            if self.headless.contains(&group.sequence) {
                log.lose_all_open(group.records.len() as u64, AHEAD_SLOTS_MAX);
            }
        }
        log
    }

    /// Takes records; true if a flush begins now.
    pub(super) fn write(&mut self, sequence: Sequence, records: Vec<Record>) -> bool {
        let under_way = self.tasks.len() == 1;
        match self.tasks.back_mut() {
            Some(Task::Write(group)) if !under_way => {
                group.sequence = sequence;
                group.records.extend(records);
            }
            _ => self.tasks.push_back(Task::Write(Group { sequence, records })),
        }
        self.tasks.len() == 1
    }

    /// Cuts the log once all that was written before is durable; true if that begins now.
    pub(super) fn trim(&mut self, through: Slot, facts: Vec<Record>) -> bool {
        self.tasks.push_back(Task::Trim { through, facts });
        self.tasks.len() == 1
    }

    /// What was under way has ended; with whether the next begins now.
    pub(super) fn done(&mut self, random: &mut Jitter) -> Option<(Done, bool)> {
        let done = match self.tasks.pop_front()? {
            Task::Write(group) => Done::Written(self.append(group)),
            Task::Trim { through, facts } => Done::Trimmed(self.cut(through, facts, random)),
        };
        Some((done, !self.tasks.is_empty()))
    }

    fn append(&mut self, group: Group) -> Sequence {
        self.snapshots.note_bases(&group.records);
        for record in &group.records {
            let Some((slot, id)) = entry_of(record) else { continue };
            if let Record::Accepted { value, .. } | Record::Chosen { value, .. } = record {
                self.rotten.remove(&slot);
                self.entries.insert(slot, Entry { id, value: value.clone() });
            }
        }
        self.sequence = group.sequence;
        self.durable.push_back(group);
        self.sequence
    }

    /// Forgets the oldest groups, as far as all entries in them may go, and now and then not all of these.
    fn cut(&mut self, through: Slot, facts: Vec<Record>, random: &mut Jitter) -> Slot {
        let lazy = random.draw().is_multiple_of(3);
        while let Some(group) = self.durable.front() {
            let last = highest(group).unwrap_or_default();
            if last > through || lazy && random.draw().is_multiple_of(8) {
                break;
            }
            self.trimmed_through = self.trimmed_through.max(last);
            self.headless.remove(&group.sequence);
            self.durable.pop_front();
        }
        let kept = self.trimmed_through.next();
        self.entries = self.entries.split_off(&kept);
        self.rotten = self.rotten.split_off(&kept.max(through.next()));
        self.snapshots.note_bases(&facts);
        self.facts = facts;
        self.trimmed_through
    }

    /// Power is cut: what was under way may have made it or not, in `tear` percent of all cases a first part of it has, and
    /// the rest is gone.
    pub(super) fn crash(&mut self, tear: u64, random: &mut Jitter) -> Lost {
        self.snapshots.crash(random);
        let mut lost = Lost { writes: self.tasks.len() > 1, torn: false };
        let (torn, done) = (random.draw() % 100 < tear, random.draw().is_multiple_of(2));
        if !self.tasks.is_empty() {
            if torn && self.tear(random) {
                lost = Lost { writes: true, torn: true };
            } else if done && !self.lies {
                self.done(random);
            } else {
                lost.writes = true;
            }
        }
        self.tasks.clear();
        lost
    }

    /// Of the write under way some records are there, the next is cut off, and a start cuts it away; false if it is one record
    /// or none.
    fn tear(&mut self, random: &mut Jitter) -> bool {
        let Some(Task::Write(group)) = self.tasks.front_mut() else { return false };
        let Some(fewer) = (group.records.len() as u64).checked_sub(1).filter(|fewer| *fewer > 0) else {
            return false;
        };
        group.records.truncate(usize::try_from(1 + random.draw() % fewer).unwrap_or_default());
        // It was never durable as a whole.
        group.sequence = self.sequence;
        self.done(random);
        true
    }

    /// The entries of `slots` up to a few, ending before the first that is missing or rotten.
    pub(super) fn read(&self, slots: std::ops::Range<Slot>) -> Vec<(Slot, Entry)> {
        let mut found = Vec::new();
        let mut next = slots.start;
        while next < slots.end && found.len() < 7 && !self.rotten.contains(&next) {
            let Some(entry) = self.entries.get(&next) else { break };
            found.push((next, entry.clone()));
            next = next.next();
        }
        found
    }

    /// About how many entries the log holds that no snapshot covers.
    pub(super) fn entries_above(&self, slot: Slot) -> u64 {
        self.entries.keys().next_back().map_or(0, |last| last.get().saturating_sub(slot.get()))
    }

    /// Damages what is written of one slot of the newest half, where it hurts: after a restart what was accepted there is
    /// unknown.
    pub(super) fn rot(&mut self, random: &mut Jitter) -> Option<Slot> {
        let count = self.entries.len();
        let newest = count - count / 2;
        let nth = usize::try_from(random.draw() % newest.max(1) as u64).unwrap_or_default();
        let slot = *self.entries.keys().rev().nth(nth)?;
        self.damage(&BTreeSet::from([slot]));
        Some(slot)
    }

    /// A later write lands on a group that is not the last: all that it said of slots is unknown, and it may have said
    /// something of any open one (protocol 11.4).
    pub(super) fn misdirect(&mut self, random: &mut Jitter) -> Option<Sequence> {
        let others = self.durable.len().checked_sub(1)?;
        let back = usize::try_from(random.draw() % 12).unwrap_or_default();
        let hit = self.durable.get(others.checked_sub(back + 1)?)?;
        let slots: BTreeSet<Slot> = hit.records.iter().filter_map(entry_of).map(|(slot, _)| slot).collect();
        let sequence = hit.sequence;
        self.headless.insert(sequence);
        self.damage(&slots);
        Some(sequence)
    }

    fn damage(&mut self, slots: &BTreeSet<Slot>) {
        self.rotten.extend(slots.iter().filter(|slot| self.entries.contains_key(slot)));
        for group in &mut self.durable {
            if !group.records.iter().filter_map(entry_of).any(|(slot, _)| slots.contains(&slot)) {
                continue;
            }
            for record in std::mem::take(&mut group.records) {
                let Some((slot, _)) = entry_of(&record).filter(|(slot, _)| slots.contains(slot)) else {
                    group.records.push(record);
                    continue;
                };
                // The header, with what was promised, is intact, or that of a later group (protocol 11.4).
                if let Record::Accepted { id, .. } = record {
                    group.records.push(Record::Promised { id });
                }
                group.records.push(Record::Unknown { slots: vec![Interval::new(slot, slot)] });
            }
        }
    }

    /// What a scrub finds.
    pub(super) fn rotten(&self) -> Vec<Interval> {
        intervals(self.rotten.iter().copied())
    }

    /// Whether anything is damaged that nobody has mended. A group whose header is damaged is mended by nobody, only cut away:
    /// until then every start finds the slots above the base in doubt.
    pub(super) fn is_sick(&self) -> bool {
        !self.rotten.is_empty() || !self.headless.is_empty() || self.snapshots.is_rotten()
    }

    /// A breakage: what was promised, or accepted and not learned, is gone.
    pub(super) fn forget(&mut self, promises: bool, votes: bool) {
        let learned = self.fold().chosen_through();
        let gone = |record: &Record| match record {
            Record::Promised { .. } => promises,
            Record::Accepted { slot, .. } => votes && *slot > learned,
            _ => false,
        };
        self.facts.retain(|record| !gone(record));
        for group in &mut self.durable {
            for record in &mut group.records {
                // The promise that a vote implies stays, unless promises go.
                if let (Record::Accepted { id, .. }, true, false) = (&*record, gone(record), promises) {
                    *record = Record::Promised { id: *id };
                }
            }
            group.records.retain(|record| !gone(record));
        }
    }
}
