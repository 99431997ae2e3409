//! A simulated disk: what is flushed survives a crash, what is not may not.

use synod::multi::{DiskId, Group, Incarnation, Jitter, Log, Record, Sequence};

/// The groups of one node.
#[derive(Debug)]
pub struct Disk {
    pub id: DiskId,
    pub incarnations: Vec<Incarnation>,
    durable: Vec<Group>,
    /// Being flushed now.
    flushing: Option<Group>,
    /// Asked for meanwhile: the next group.
    waiting: Option<Group>,
}

impl Disk {
    pub fn new(id: DiskId) -> Self {
        Self { id, incarnations: Vec::new(), durable: Vec::new(), flushing: None, waiting: None }
    }

    /// Raises the incarnation and folds what is durable.
    pub fn open(&mut self, nonce: u64) -> (Sequence, Log) {
        let counter = self.incarnations.len() as u64 + 1;
        self.incarnations.push(Incarnation { counter, nonce });
        let mut log = Log::default();
        self.durable.iter().flat_map(|group| &group.records).for_each(|record| log.apply(record));
        (self.durable.last().map_or(Sequence(0), |group| group.sequence), log)
    }

    /// Takes records; true if a flush begins now.
    pub fn write(&mut self, sequence: Sequence, records: Vec<Record>) -> bool {
        if self.flushing.is_none() {
            self.flushing = Some(Group { sequence, records });
            return true;
        }
        match &mut self.waiting {
            Some(group) => {
                group.sequence = sequence;
                group.records.extend(records);
            }
            None => self.waiting = Some(Group { sequence, records }),
        }
        false
    }

    /// The flush has ended; true if the next one begins now.
    pub fn flushed(&mut self) -> (Sequence, bool) {
        let group = self.flushing.take().expect("a flush was under way");
        let sequence = group.sequence;
        self.durable.push(group);
        self.flushing = self.waiting.take();
        (sequence, self.flushing.is_some())
    }

    /// Power is cut: the group that was being flushed may have made it or not, the rest is gone. Returns whether
    /// anything was lost.
    pub fn crash(&mut self, random: &mut Jitter) -> bool {
        let waiting = self.waiting.take().is_some();
        match self.flushing.take() {
            Some(group) if random.draw().is_multiple_of(2) => {
                self.durable.push(group);
                waiting
            }
            Some(_) => true,
            None => waiting,
        }
    }

    pub fn groups(&self) -> &[Group] {
        &self.durable
    }
}
