//! Checks groups that were written long ago, beside the journal that writes on.
//!
//! Only what was flushed is looked at. What is found damaged is reported by slot as long as it is the newest that is held
//! of the slot; it is left as it is (protocol 11, faults F8, F9 and F11).

use super::group::{ALIGNMENT, Header};
use super::index::Reader;
use super::segment::{self, Segment};
use super::{Position, Stamp};
use crate::multi::{Interval, intervals};
use crate::storage::StorageError;
use crate::storage::disk::Access;

/// The least that is read at once, in bytes.
const WINDOW_BYTES: usize = 64 << 10;
/// So many slots are looked at one by one; of more, all are reported.
const SLOTS_MAX: u64 = 1 << 16;

/// What a piece of the journal came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// How many bytes were checked.
    pub bytes: u64,
    /// Where to go on; `None` behind the last group.
    pub next: Option<Position>,
    /// The slots whose newest entry is damaged.
    pub slots: Vec<Interval>,
    /// A fact may be damaged that stands nowhere else.
    pub facts: bool,
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
    /// Checks the groups from `from` on, about `bytes_max` bytes of them, within one segment.
    ///
    /// # Errors
    ///
    /// [`StorageError::Io`] if the segment cannot be opened.
    pub fn check(&self, from: Position, bytes_max: usize) -> Result<Checked, StorageError> {
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
            Err(_) if self.index.written_from(number).is_none_or(|(first, ..)| first != number) => {
                return Ok(Checked { next: Some(from), ..Checked::default() });
            }
            segment => segment?,
        };
        let mut window = Window { segment, content: Vec::new(), start, end, last };
        let mut length = bytes_max.clamp(WINDOW_BYTES, end - start);
        loop {
            if window.segment.read(start, start + length, &mut window.content).is_err() {
                // What the disk cannot read is damaged; a window starts where a group may start.
                let to = super::aligned(start + length).min(end);
                return Ok(self.report_gap(&window, to, None));
            }
            let (checked, passed) = self.check_window(&window);
            if passed || length >= end - start {
                return Ok(checked);
            }
            // A group that is longer than the window, or a damaged header: the whole of the rest tells.
            length = length.saturating_mul(4).min(end - start);
        }
    }

    /// Checks the groups of a window, up to a header that is cut off or damaged. `false` if that is the first.
    fn check_window(&self, window: &Window) -> (Checked, bool) {
        let mut checked = Checked::default();
        let mut at = window.start;
        let whole = window.start + window.content.len() >= window.end;
        while at < window.end {
            let Some(header) = window.header(at, self.stamp) else {
                if at > window.start || !whole {
                    break;
                }
                let next = window.next_header(at + ALIGNMENT, self.stamp);
                let to = next.as_ref().map_or(window.end, |next| next.synced.offset);
                return (self.report_gap(window, to, next.as_ref()), true);
            };
            if header.body(&window.content, window.start).is_none() {
                let slots = self.unreadable(header.slots());
                checked.slots.extend(intervals(slots));
                checked.facts |= header.own_facts() > 0 && !self.index.is_restated(header.sequence);
            }
            at = header.end();
        }
        checked.bytes = (at - window.start) as u64;
        checked.next = Some(window.segment.at(at));
        (checked, at > window.start)
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
    fn header(&self, at: usize, stamp: Stamp) -> Option<Header> {
        let found = Header::read(&self.content, self.start, self.segment.at(at), stamp);
        found.map(|(header, _)| header).filter(|header| header.end() <= self.end)
    }

    fn next_header(&self, from: usize, stamp: Stamp) -> Option<Header> {
        (from..self.end).step_by(ALIGNMENT).find_map(|at| self.header(at, stamp))
    }
}

/// Merges what several pieces said of slots.
pub(crate) fn merge(slots: Vec<Interval>) -> Vec<Interval> {
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
