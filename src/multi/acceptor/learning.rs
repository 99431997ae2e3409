//! What the acceptor has learned: taken from watermarks and from peers, and given to whoever lags (protocol 3, 4).
//!
//! Invariants: R1 one read of the storage at a time. R2 a read asks for nothing that is not durable yet: before it is, the
//! storage may still hold what was only accepted there.

use super::{Acceptor, READS_MAX, Read};
use crate::multi::effect::{Effect, LearnerInput, Local};
use crate::multi::message::Message;
use crate::multi::record::{AbstainReason, Entry, Record, Value};
use crate::multi::slot::Slot;
use crate::paxos::{NodeId, ProposalId};

impl Acceptor {
    /// Entries accepted under exactly `id` are chosen through `watermark` (3.3); what is missing has to be fetched.
    pub(super) fn on_watermark(
        &mut self,
        from: NodeId,
        id: ProposalId,
        watermark: Slot,
        out: &mut Vec<Effect>,
    ) {
        if watermark > self.log.chosen_through() && !self.is_frozen() {
            if self.log.watermark() < Some((id, watermark)) {
                let record = Record::Watermark { id, through: watermark };
                self.fold_unwritten(record, out);
            }
            self.tell_behind(from, watermark, out);
        }
    }

    pub(super) fn tell_behind(&self, peer: NodeId, through: Slot, out: &mut Vec<Effect>) {
        let chosen_through = self.log.chosen_through();
        if chosen_through < through && peer != self.node() {
            let behind = LearnerInput::Behind { peer, through, chosen_through };
            out.push(Effect::Local(Local::Learner(behind)));
        }
    }

    /// Values that the learner fetched: written before `chosen_through` covers them (4.1).
    pub(super) fn on_store(&mut self, first: Slot, values: Vec<Value>, out: &mut Vec<Effect>) {
        // Without the first membership nobody could tell which one governs what.
        if !self.log.is_formed() || self.is_frozen() {
            return;
        }
        let mut records = Vec::with_capacity(values.len());
        let mut next = self.log.chosen_through().next();
        let mut slot = first;
        for value in values {
            if slot < next {
                if self.log.entry(slot).is_some_and(|entry| entry.value != value) {
                    self.abstain(AbstainReason::SafetyViolation, out);
                    return;
                }
            } else if slot == next {
                records.push(Record::Chosen { slot, value });
                next = next.next();
            } else {
                break;
            }
            slot = slot.next();
        }
        if records.is_empty() {
            let chosen_through = self.log.chosen_through();
            let learned = LearnerInput::Learned { values: Vec::new(), chosen_through, replay: false };
            out.push(Effect::Local(Local::Learner(learned)));
        } else {
            self.write(records, out);
        }
    }

    pub(super) fn on_catch_up(&mut self, to: NodeId, from: Slot, bytes_max: usize, out: &mut Vec<Effect>) {
        let bytes_max = bytes_max.min(self.limits.catch_up_bytes_max);
        self.read(from, bytes_max, Some(to), out);
    }

    /// The own learner wants what is next. A snapshot is quicker than the entries below it, and may be all that is left.
    pub(super) fn on_replay(&mut self, from: Slot, out: &mut Vec<Effect>) {
        if let Some(base) = self.log.base()
            && from <= base.through
            && (base.snapshot.is_some() || from <= self.log.trimmed_through())
        {
            self.tell_begin(out);
            return;
        }
        self.read(from, self.limits.catch_up_bytes_max, None, out);
    }

    /// Answers from memory, or queues a read of durable entries; one runs at a time.
    pub(super) fn read(&mut self, from: Slot, bytes_max: usize, to: Option<NodeId>, out: &mut Vec<Effect>) {
        let through = self.log.chosen_through();
        let gone = self.log.trimmed_through();
        if from <= gone
            && let Some(to) = to
        {
            self.send_base(to, out);
            return;
        }
        let read = Read { from, bytes_max, to, through, after: self.sequence };
        if from > through || self.log.entry(from).is_some() {
            self.answer_read(read, Vec::new(), out);
            return;
        }
        let own = read.to.is_none();
        let waits = self.reads.iter().any(|known| (known.to, known.from) == (read.to, read.from));
        if !waits && (own || self.reads.len() < READS_MAX) {
            self.reads.push_back(read);
            self.ask_storage(out);
        }
    }

    pub(super) fn ask_storage(&mut self, out: &mut Vec<Effect>) {
        if let Some(read) = self.reads.front().filter(|read| !self.reading && read.after <= self.durable) {
            let slots = read.from..read.through.next();
            out.push(Effect::Read { slots, bytes_max: read.bytes_max });
            self.reading = true;
        }
    }

    pub(super) fn on_read_back(&mut self, entries: Vec<(Slot, Entry)>, out: &mut Vec<Effect>) {
        if !std::mem::take(&mut self.reading) {
            return;
        }
        if let Some(read) = self.reads.pop_front() {
            self.answer_read(read, entries, out);
        }
        self.ask_storage(out);
    }

    /// Answers with `entries` and, behind them, what memory holds.
    pub(super) fn answer_read(&self, read: Read, entries: Vec<(Slot, Entry)>, out: &mut Vec<Effect>) {
        let chosen_through = self.log.chosen_through();
        let mut values: Vec<(Slot, Value)> = Vec::new();
        let mut bytes = 0;
        let mut next = read.from;
        for (slot, entry) in entries {
            if slot != next || slot > chosen_through {
                break;
            }
            bytes += entry.value.size();
            values.push((slot, entry.value));
            next = slot.next();
        }
        while next <= chosen_through {
            let Some(entry) = self.log.entry(next) else { break };
            bytes += entry.value.size();
            if !values.is_empty() && bytes > read.bytes_max {
                break;
            }
            values.push((next, entry.value.clone()));
            next = next.next();
        }
        match read.to {
            None if values.is_empty() && read.from <= read.through => {
                out.push(Effect::Local(Local::Learner(LearnerInput::Unreadable { from: read.from })));
            }
            None => {
                let learned = LearnerInput::Learned { values, chosen_through, replay: true };
                out.push(Effect::Local(Local::Learner(learned)));
            }
            Some(to) => {
                let values = values.into_iter().map(|(_, value)| value).collect();
                let message = Message::Chosen { first: read.from, values, chosen_through };
                out.push(Effect::Send { to, message, after: None });
            }
        }
    }
}
