//! The scrub: checks what was written long ago, beside the journal that writes on.
//!
//! Only what was flushed is looked at, segment by segment, the checkpoint first. What is damaged is reported by slot as long
//! as it is the newest that is held of the slot, and left as it is (protocol 11, faults F7 to F9 and F11).

use super::checkpoint::CheckpointFile;
use super::group::{ALIGNMENT, Header, aligned};
use super::reader::Reader;
use super::segment::{self, Segment};
use super::{Position, Stamp};
use crate::multi::{Interval, intervals};
use crate::storage::disk::Access;
use crate::storage::{Scrubbed, StorageError};
use std::sync::Arc;

/// The least that is read at once, in bytes.
const WINDOW_BYTES_MIN: usize = 4 << 10;
/// The most that is read at once, in bytes, but for a longer group.
const WINDOW_BYTES_MAX: usize = 1 << 20;
/// So many slots are looked at one by one; of more, all are reported.
const SLOTS_MAX: u64 = 1 << 16;

/// What a piece of the journal came to.
#[derive(Debug, Default)]
struct Checked {
    bytes: u64,
    /// Where to go on; `None` behind the last group.
    next: Option<Position>,
    slots: Vec<Interval>,
    facts: bool,
}

/// A part of a segment, in memory.
struct Window {
    segment: Segment,
    content: Vec<u8>,
    start: usize,
    /// Behind the last group of the segment.
    end: usize,
    /// The sequence of that group.
    last: u64,
}

impl Reader {
    /// Checks the next `bytes_max` bytes, about, of checkpoint and journal; see
    /// [`Storage::scrub`](crate::storage::Storage::scrub).
    ///
    /// # Errors
    ///
    /// [`StorageError::Io`] if a segment cannot be opened.
    pub fn scrub(&self, bytes_max: usize) -> Result<Scrubbed, StorageError> {
        let mut at = self.index.scrubbed();
        let mut found = Scrubbed {
            facts: at == Position::default() && self.checkpoint_is_damaged(),
            ..Scrubbed::default()
        };
        let mut left = bytes_max;
        loop {
            let checked = self.check(at, left)?;
            found.bytes += checked.bytes;
            found.slots.extend(checked.slots);
            found.facts |= checked.facts;
            left = left.saturating_sub(usize::try_from(checked.bytes).unwrap_or(usize::MAX));
            at = checked.next.unwrap_or_default();
            if left == 0 || checked.next.is_none() {
                break;
            }
        }
        self.index.set_scrubbed(at);
        found.slots = merge(found.slots);
        Ok(found)
    }

    /// Whether the checkpoint is not what was written, or is gone.
    fn checkpoint_is_damaged(&self) -> bool {
        let file = CheckpointFile::open(Arc::clone(&self.disk), &self.dir, self.stamp);
        let found = file.and_then(|file| file.load());
        found.map_or(true, |checkpoint| checkpoint.first_segment == 0 && self.index.is_cut())
    }

    /// Checks the groups from `from` on, about `bytes_max` bytes of them, within one segment.
    fn check(&self, from: Position, bytes_max: usize) -> Result<Checked, StorageError> {
        let Some((number, end, last)) = self.index.written_from(from.segment) else {
            return Ok(Checked::default());
        };
        let start = if number == from.segment { from.offset } else { 0 }.max(segment::HEADER_BYTES);
        if start >= end {
            let next = self.index.written_from(number.saturating_add(1));
            let next = next.map(|(segment, ..)| Position { segment, offset: segment::HEADER_BYTES });
            return Ok(Checked { next, ..Checked::default() });
        }
        let segment = match Segment::open(self.disk.as_ref(), &self.dir, number, Access::Read) {
            // A trim removed it since the index was asked.
            Err(_) if self.index.is_gone(number) => {
                return Ok(Checked { next: Some(from), ..Checked::default() });
            }
            segment => segment?,
        };
        let mut window = Window { segment, content: Vec::new(), start, end, last };
        let mut length = bytes_max.clamp(WINDOW_BYTES_MIN, WINDOW_BYTES_MAX).min(end - start);
        loop {
            if window.segment.read(start, start + length, &mut window.content).is_err() {
                // What the disk cannot read is damaged. A later group may begin at each multiple of the alignment.
                return Ok(self.report_gap(&window, aligned(start + length).min(end), None));
            }
            if let Some(checked) = self.check_window(&window, length >= end - start) {
                return Ok(checked);
            }
            // A group that is longer than the window, or a damaged header: more of what follows tells.
            length = length.saturating_mul(4).min(end - start);
        }
    }

    /// Checks the groups of a window, up to a header that is damaged or a group that is cut off. `None` if more has to be
    /// read to know which; `is_whole`: nothing is left to read.
    fn check_window(&self, window: &Window, is_whole: bool) -> Option<Checked> {
        let mut checked = Checked::default();
        let mut at = window.start;
        while let Some(header) = window.header(at, self.stamp) {
            if header.body(&window.content, window.start).is_none() {
                checked.slots.extend(intervals(self.unreadable(header.slots())));
                checked.facts |= header.own_facts() > 0 && !self.index.is_restated(header.sequence);
            }
            at = header.end();
        }
        if at == window.start {
            let next = window.next_header(at + ALIGNMENT, self.stamp);
            let to = next.as_ref().map(|next| next.synced.offset).or(is_whole.then_some(window.end))?;
            return Some(self.report_gap(window, to, next.as_ref()));
        }
        checked.bytes = (at - window.start) as u64;
        checked.next = Some(window.segment.at(at));
        Some(checked)
    }

    /// Nothing between the start of the window and `to` can be read: the slots that the index has there, if no later group
    /// speaks of them, and facts, if they were not restated since.
    fn report_gap(&self, window: &Window, to: usize, next: Option<&Header>) -> Checked {
        let last = next.map_or(window.last, |next| next.sequence.saturating_sub(1));
        let mut slots = Vec::new();
        for (first, last) in self.index.slots_between(window.segment.number, window.start, to) {
            let count = last.get().saturating_sub(first.get());
            if count < SLOTS_MAX {
                let all = (0..=count).map(|nth| first.plus(nth));
                slots.extend(intervals(self.unreadable(all)));
            } else {
                slots.push(Interval::new(first, last));
            }
        }
        Checked {
            bytes: (to - window.start) as u64,
            next: Some(window.segment.at(to)),
            slots,
            facts: !self.index.is_restated(last),
        }
    }
}

impl Window {
    /// The intact header at `at`, with its whole body in the window.
    fn header(&self, at: usize, stamp: Stamp) -> Option<Header> {
        let found = Header::read(&self.content, self.start, self.segment.at(at), stamp);
        found.map(|(header, _)| header).filter(|header| header.end() <= self.end)
    }

    fn next_header(&self, from: usize, stamp: Stamp) -> Option<Header> {
        (from..self.end).step_by(ALIGNMENT).find_map(|at| self.header(at, stamp))
    }
}

/// Merges what several pieces said of slots.
fn merge(slots: Vec<Interval>) -> Vec<Interval> {
    let mut sorted = slots;
    sorted.sort_unstable();
    let mut merged: Vec<Interval> = Vec::new();
    for interval in sorted {
        match merged.last_mut() {
            Some(last) if interval.first <= last.last.next() => last.last = last.last.max(interval.last),
            _ => merged.push(interval),
        }
    }
    merged
}
