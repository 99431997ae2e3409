//! A simulated disk: what is flushed survives a crash, what is not may not; what is there may rot.

use crate::snapshots::Snapshots;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use synod::multi::{DiskId, Entry, Group, Incarnation, Interval, Jitter, Log, Record, Sequence, Slot};
use synod::paxos::{NodeId, ProposalId};

/// What is done to the log, in order, one at a time.
#[derive(Debug)]
enum Task {
    Write(Group),
    Trim { through: Slot, facts: Vec<Record> },
}

/// What was done.
#[derive(Debug)]
pub enum Done {
    Written(Sequence),
    /// Entries through here are gone.
    Trimmed(Slot),
}

/// All that one node has.
#[derive(Debug)]
pub struct Disk {
    pub id: DiskId,
    pub incarnations: Vec<Incarnation>,
    pub snapshots: Snapshots,
    /// The last durable write.
    pub sequence: Sequence,
    facts: Vec<Record>,
    trimmed_through: Slot,
    durable: VecDeque<Group>,
    /// The newest entry of each slot.
    entries: BTreeMap<Slot, Entry>,
    rotten: BTreeSet<Slot>,
    /// The first one is under way.
    tasks: VecDeque<Task>,
}

fn entry_of(record: &Record) -> Option<(Slot, Entry)> {
    match record {
        Record::Accepted { slot, id, value } => Some((*slot, Entry { id: *id, value: value.clone() })),
        Record::Chosen { slot, value } => {
            let id = ProposalId::new(0, NodeId::new(0));
            Some((*slot, Entry { id, value: value.clone() }))
        }
        _ => None,
    }
}

impl Disk {
    pub fn new(id: DiskId) -> Self {
        Self {
            id,
            incarnations: Vec::new(),
            snapshots: Snapshots::default(),
            sequence: Sequence(0),
            facts: Vec::new(),
            trimmed_through: Slot::ZERO,
            durable: VecDeque::new(),
            entries: BTreeMap::new(),
            rotten: BTreeSet::new(),
            tasks: VecDeque::new(),
        }
    }

    /// Raises the incarnation and folds what is durable.
    pub fn open(&mut self, nonce: u64) -> (Sequence, Log) {
        let counter = self.incarnations.len() as u64 + 1;
        self.incarnations.push(Incarnation { counter, nonce });
        let log = self.fold();
        self.snapshots.open(log.base().and_then(|base| base.snapshot));
        (self.sequence, log)
    }

    /// The log as it would be after a restart.
    pub fn fold(&self) -> Log {
        let mut log = Log::default();
        self.facts.iter().for_each(|record| log.apply(record));
        if self.trimmed_through > Slot::ZERO {
            log.apply(&Record::Trimmed { through: self.trimmed_through });
        }
        self.durable.iter().flat_map(|group| &group.records).for_each(|record| log.apply(record));
        log
    }

    /// Takes records; true if a flush begins now.
    pub fn write(&mut self, sequence: Sequence, records: Vec<Record>) -> bool {
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
    pub fn trim(&mut self, through: Slot, facts: Vec<Record>) -> bool {
        self.tasks.push_back(Task::Trim { through, facts });
        self.tasks.len() == 1
    }

    /// What was under way has ended; true if the next begins now.
    pub fn done(&mut self, random: &mut Jitter) -> (Done, bool) {
        let task = self.tasks.pop_front().expect("something was under way");
        let done = match task {
            Task::Write(group) => Done::Written(self.append(group)),
            Task::Trim { through, facts } => Done::Trimmed(self.cut(through, facts, random)),
        };
        (done, !self.tasks.is_empty())
    }

    fn append(&mut self, group: Group) -> Sequence {
        self.snapshots.note_bases(&group.records);
        for (slot, entry) in group.records.iter().filter_map(entry_of) {
            self.rotten.remove(&slot);
            self.entries.insert(slot, entry);
        }
        self.sequence = group.sequence;
        self.durable.push_back(group);
        self.sequence
    }

    /// Forgets the oldest groups, as far as all entries in them may go, and now and then not all of these.
    fn cut(&mut self, through: Slot, facts: Vec<Record>, random: &mut Jitter) -> Slot {
        let slot_of = |record: &Record| match record {
            // What rotted in place still says of which slot it was.
            Record::Unknown { slots } => slots.last().map(|interval| interval.last),
            record => entry_of(record).map(|(slot, _)| slot),
        };
        let highest = |group: &Group| group.records.iter().filter_map(slot_of).max();
        let lazy = random.draw().is_multiple_of(3);
        while let Some(group) = self.durable.front() {
            let last = highest(group).unwrap_or_default();
            if last > through || lazy && random.draw().is_multiple_of(8) {
                break;
            }
            self.trimmed_through = self.trimmed_through.max(last);
            self.durable.pop_front();
        }
        let kept = self.trimmed_through.next();
        self.entries = self.entries.split_off(&kept);
        self.rotten = self.rotten.split_off(&kept.max(through.next()));
        self.snapshots.note_bases(&facts);
        self.facts = facts;
        self.trimmed_through
    }

    /// Power is cut: what was under way may have made it or not, the rest is gone. Returns whether anything was lost.
    pub fn crash(&mut self, random: &mut Jitter) -> bool {
        self.snapshots.crash(random);
        let mut lost = self.tasks.len() > 1;
        if !self.tasks.is_empty() {
            if random.draw().is_multiple_of(2) {
                self.done(random);
            } else {
                lost = true;
            }
        }
        self.tasks.clear();
        lost
    }

    /// The entries of `slots` up to a few, ending before the first that is missing or rotten.
    pub fn read(&self, slots: std::ops::Range<Slot>) -> Vec<(Slot, Entry)> {
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
    pub fn entries_above(&self, slot: Slot) -> usize {
        self.entries.range(slot.next()..).count()
    }

    /// Damages what is written of one slot: after a restart what was accepted there is unknown.
    pub fn rot(&mut self, random: &mut Jitter) -> Option<Slot> {
        let slots: Vec<Slot> = self.entries.keys().copied().collect();
        // The newest half, where it hurts.
        let slots = &slots[slots.len() / 2..];
        let slot = *slots.get(usize::try_from(random.draw()).unwrap() % slots.len().max(1))?;
        self.rotten.insert(slot);
        for group in &mut self.durable {
            let records = std::mem::take(&mut group.records);
            for record in records {
                if entry_of(&record).is_none_or(|(at, _)| at != slot) {
                    group.records.push(record);
                    continue;
                }
                // The header, with what was promised, is intact (protocol 11.4).
                if let Record::Accepted { id, .. } = record {
                    group.records.push(Record::Promised { id });
                }
                group.records.push(Record::Unknown { slots: vec![Interval::new(slot, slot)] });
            }
        }
        Some(slot)
    }

    /// What a scrub finds.
    pub fn rotten(&self) -> Vec<Interval> {
        synod::multi::intervals(self.rotten.iter().copied())
    }
}
