//! Recovery: reads the journal from its first group to its last, and tells a torn write from damage (protocol 11.2 to 11.4).
//!
//! Every header was written after all before it was flushed. So what is wrong below a valid header is rot, and stays where
//! it is; only behind the last valid group can a write be torn, and only that is cut off.

use super::checkpoint::{Chain, Checkpoint, CheckpointFile};
use super::group::{self, ALIGNMENT, Header};
use super::index::Index;
use super::segment::{self, Segment};
use super::trim::Extent;
use super::{Damage, Found, Position, Replayed, Stamp};
use crate::multi::{Log, Record, Sequence, Slot};
use crate::storage::disk::{Access, Disk};
use crate::storage::{StorageError, record};
use std::collections::BTreeMap;
use std::path::Path;

/// The number of the first segment of a journal.
const FIRST_SEGMENT: u64 = 1;

/// The fold so far.
#[derive(Debug)]
pub(super) struct Replay {
    pub(super) log: Log,
    pub(super) written: Sequence,
    pub(super) sequence: u64,
    pub(super) previous_crc: u32,
    pub(super) facts: u64,
    pub(super) sealed: bool,
    /// Where the last group ends.
    pub(super) end: Position,
    damage: Vec<Damage>,
    epoch: u64,
    index: Index,
    /// What is known of each segment.
    pub(super) extents: BTreeMap<u64, Extent>,
    /// What the groups through here said of facts was restated by the checkpoint.
    restated: Chain,
    /// As the checkpoint restates them: once more behind damage, which may have hidden the newest of a fact.
    facts_restated: Vec<Record>,
    /// The last group, while it is open whether its damaged body was torn or has rotted.
    held: Option<Header>,
    /// Something stands behind the last group.
    rest: bool,
    /// What stands behind the last group was flushed once, and cannot be read: it is left there.
    pub(super) tail_in_doubt: bool,
    last_segment: u64,
    /// Segments are missing behind the last group.
    segments_missing: bool,
}

impl Replay {
    /// Folds the checkpoint and the journal behind it, up to `until` if that is known; all before it was flushed then.
    /// Changes nothing.
    pub(super) fn run(
        disk: &dyn Disk,
        dir: &Path,
        stamp: Stamp,
        checkpoint: &Checkpoint,
        index: Index,
        until: Option<Position>,
    ) -> Result<Self, StorageError> {
        let gone =
            |what: &str| StorageError::Corrupt { path: dir.to_path_buf(), offset: 0, what: what.to_owned() };
        let mut numbers = segment::list(disk, dir)?;
        numbers.retain(|number| *number >= checkpoint.first_segment);
        let (Some(first), Some(last)) = (numbers.first(), numbers.last()) else {
            return Err(gone("the journal is gone"));
        };
        if checkpoint.first_segment == 0 && *first > FIRST_SEGMENT {
            return Err(gone("the first segments are gone, and there is no checkpoint"));
        }
        let mut replay = Self::behind(checkpoint, index, *first, *last);
        let mut content = Vec::new();
        let mut expected = checkpoint.first_segment.max(FIRST_SEGMENT);
        for number in numbers {
            replay.segments_missing |= number != expected;
            expected = number.saturating_add(1);
            let segment = Segment::open(disk, dir, number, Access::Read)?;
            segment.read(0, segment.bytes, &mut content)?;
            if !segment.check(&content, stamp)? {
                replay.damage.push(Damage::SegmentHeader { segment: number });
            }
            replay.fold_segment(&segment, &content, stamp, until)?;
        }
        replay.finish(until.is_some());
        Ok(replay)
    }

    /// What the checkpoint says, before the first group.
    fn behind(checkpoint: &Checkpoint, index: Index, first: u64, last: u64) -> Self {
        let mut log = Log::default();
        checkpoint.facts.iter().for_each(|fact| log.apply(fact));
        if checkpoint.gone_through > Slot::ZERO {
            log.apply(&Record::Trimmed { through: checkpoint.gone_through });
        }
        if let Some(promised) = checkpoint.promised {
            log.raise_promise(promised);
        }
        index.trim(checkpoint);
        let Chain { sequence, previous_crc, facts } = checkpoint.start;
        Self {
            log,
            written: checkpoint.written,
            sequence,
            previous_crc,
            facts,
            sealed: true,
            end: Position { segment: first, offset: segment::HEADER_BYTES },
            damage: Vec::new(),
            epoch: 0,
            index,
            extents: BTreeMap::new(),
            restated: checkpoint.restated,
            facts_restated: checkpoint.facts.clone(),
            held: None,
            rest: false,
            tail_in_doubt: false,
            last_segment: last,
            segments_missing: false,
        }
    }

    fn fold_segment(
        &mut self,
        segment: &Segment,
        content: &[u8],
        stamp: Stamp,
        until: Option<Position>,
    ) -> Result<(), StorageError> {
        let extent = Extent { start: self.chain(), last_slot: Slot::ZERO };
        self.extents.insert(segment.number, extent);
        let mut at = segment::HEADER_BYTES;
        while let Some((header, crc)) = self.next_header(segment, content, at, stamp, until) {
            at = header.end();
            self.take(header, crc, segment, content)?;
        }
        self.rest |= content.get(at..).is_some_and(|rest| rest.iter().any(|byte| *byte != 0));
        Ok(())
    }

    /// The first valid header at or behind `at` that has not been passed already.
    fn next_header(
        &self,
        segment: &Segment,
        content: &[u8],
        at: usize,
        stamp: Stamp,
        until: Option<Position>,
    ) -> Option<(Header, u32)> {
        let places = (at..content.len()).step_by(ALIGNMENT).map(|offset| segment.at(offset));
        let places = places.take_while(|place| until.is_none_or(|until| *place < until));
        let mut headers = places.filter_map(|place| Header::read(content, 0, place, stamp));
        headers.find(|(header, _)| header.sequence > self.sequence)
    }

    fn chain(&self) -> Chain {
        Chain { sequence: self.sequence, previous_crc: self.previous_crc, facts: self.facts }
    }

    /// Notes which slots the segment of `header` speaks of, and, for its first group, what that one follows.
    fn note_extent(&mut self, header: &Header) {
        let extent = self.extents.entry(header.synced.segment).or_default();
        extent.last_slot = extent.last_slot.max(header.last_slot());
        if header.synced.offset == segment::HEADER_BYTES {
            extent.start = Chain {
                sequence: header.sequence.saturating_sub(1),
                previous_crc: header.previous_crc,
                facts: header.facts.saturating_sub(header.own_facts()),
            };
        }
    }

    /// Folds the group of `header`, which proves that all before it was flushed.
    fn take(
        &mut self,
        header: Header,
        crc: u32,
        segment: &Segment,
        content: &[u8],
    ) -> Result<(), StorageError> {
        if let Some(held) = self.held.take() {
            self.lose_group(&held);
        }
        self.segments_missing = false;
        if header.sequence != self.sequence + 1 || header.previous_crc != self.previous_crc {
            self.damage.push(Damage::Header(self.end));
            self.lose_all_open(group::records_max(self.bytes_before(&header, segment)));
        }
        let is_restated = header.sequence <= self.restated.sequence;
        let known = if self.sequence < self.restated.sequence { self.restated.facts } else { self.facts };
        if !is_restated {
            self.restate_behind_damage();
        }
        if !is_restated && header.facts != known.saturating_add(header.own_facts()) {
            self.doubt();
        }
        self.note_extent(&header);
        self.end = segment.at(header.end());
        self.sequence = header.sequence;
        self.previous_crc = crc;
        self.facts = header.facts;
        self.sealed = header.is_seal();
        self.rest = false;
        let Some(mut body) = header.body(content, 0) else {
            self.held = Some(header);
            return Ok(());
        };
        while !body.is_empty() {
            let (_, record) = record::decode(&mut body).map_err(|_| StorageError::Corrupt {
                path: segment.path.clone(),
                offset: header.synced.offset as u64,
                what: "a record of an intact group cannot be decoded".to_owned(),
            })?;
            self.fold(record, is_restated);
        }
        self.index.add(&header);
        self.believe(&header);
        Ok(())
    }

    /// Folds one record. One that forced a membership before the checkpoint still voids what came before it; but who votes
    /// since then stands in the checkpoint, with the changes that were made behind it.
    fn fold(&mut self, record: Record, is_restated: bool) {
        let Record::Forced { epoch, memberships } = record else { return self.log.apply(&record) };
        let since = self.log.base().filter(|_| is_restated).map(|base| base.memberships.clone());
        self.log.apply(&Record::Forced { epoch, memberships: since.unwrap_or(memberships) });
        // Nobody of the old epoch is promised anything any more.
        self.epoch = self.epoch.max(epoch);
        self.damage.retain(|damage| *damage != Damage::InDoubt);
    }

    /// All groups that the checkpoint restates are passed: where one of them is damaged, an older one may have had the last
    /// word on a fact.
    fn restate_behind_damage(&mut self) {
        let facts = std::mem::take(&mut self.facts_restated);
        if !self.damage.is_empty() {
            facts.iter().for_each(|fact| self.log.apply(fact));
        }
    }

    /// What a header proves by itself.
    fn believe(&mut self, header: &Header) {
        self.written = self.written.max(header.written);
        if let Some(promised) = header.promised {
            self.log.raise_promise(promised);
        }
    }

    /// Ends the fold: judges what stands behind the last group.
    fn finish(&mut self, all_flushed: bool) {
        // A segment is begun after the last group of the one before it was sealed.
        let seal_is_missing = self.end.segment < self.last_segment && !self.sealed;
        // The checkpoint was written when the groups through there were durable.
        let cut_short = self.sequence < self.restated.sequence;
        let is_missing = seal_is_missing || cut_short || self.segments_missing;
        self.judge_end(is_missing, all_flushed);
        self.restate_behind_damage();
    }

    /// `is_missing`: a group was flushed behind the last one that was found.
    fn judge_end(&mut self, is_missing: bool, all_flushed: bool) {
        let Some(held) = self.held.take() else {
            if is_missing && !all_flushed {
                self.lose_header_in_doubt();
            } else if self.rest && !all_flushed {
                self.damage.push(Damage::TornTail(self.end));
            }
            return;
        };
        let followed = self.rest || is_missing;
        if all_flushed || followed || held.sequence == self.restated.sequence {
            self.lose_group(&held);
            if followed && !all_flushed {
                self.lose_header_in_doubt();
            }
        } else {
            self.damage.push(Damage::TornTail(held.synced));
            self.end = held.synced;
            self.sequence = held.sequence - 1;
            self.previous_crc = held.previous_crc;
            self.facts = self.facts.saturating_sub(held.own_facts());
        }
    }

    /// A good header with a bad body (11.4): its slots are unknown.
    fn lose_group(&mut self, header: &Header) {
        self.damage.push(Damage::Body(header.synced));
        self.index.reach(header);
        for run in header.runs.iter().filter(|run| run.kind.has_slot()) {
            for nth in 0..run.count {
                self.log.lose(run.first.plus(nth));
            }
            self.index.lose(run.first, run.first.plus(run.count.saturating_sub(1)));
        }
        if header.own_facts() > 0 && header.sequence > self.restated.sequence {
            self.doubt();
        }
        self.believe(header);
    }

    /// How many bytes are lost between the last group and that of `header`, at most.
    fn bytes_before(&self, header: &Header, segment: &Segment) -> u64 {
        let segments = header.synced.segment.saturating_sub(self.end.segment);
        let end = segments.saturating_mul(segment.bytes as u64).saturating_add(header.synced.offset as u64);
        end.saturating_sub(self.end.offset as u64)
    }

    /// Bad headers (11.4), with at most so many records behind them: every open slot is unknown.
    fn lose_all_open(&mut self, records_max: u64) {
        self.log.lose_all_open(records_max, Log::AHEAD_SLOTS_MAX);
        self.index.lose(self.log.chosen_through().next(), Slot::MAX);
    }

    /// A group was written behind the last one that is left, and no later header says what was promised in it.
    fn lose_header_in_doubt(&mut self) {
        self.damage.push(Damage::Header(self.end));
        self.tail_in_doubt = true;
        self.lose_all_open(u64::MAX);
        self.doubt();
    }

    fn doubt(&mut self) {
        if !self.damage.contains(&Damage::InDoubt) {
            self.damage.push(Damage::InDoubt);
        }
    }

    /// Zeroes what stands behind the last group, durably (11.3), and opens the last segment. Rot is not touched.
    pub(super) fn cut(&self, disk: &dyn Disk, dir: &Path) -> Result<Segment, StorageError> {
        if self.tail_in_doubt {
            return Segment::open(disk, dir, self.last_segment, Access::Write);
        }
        let mut content = Vec::new();
        let mut last = Segment::open(disk, dir, self.end.segment, Access::Write)?;
        for number in segment::list(disk, dir)?.into_iter().filter(|number| *number >= self.end.segment) {
            let segment = Segment::open(disk, dir, number, Access::Write)?;
            segment.read(0, segment.bytes, &mut content)?;
            let start = if number == self.end.segment { self.end.offset } else { segment::HEADER_BYTES };
            segment.zero(start, &content)?;
            last = segment;
        }
        Ok(last)
    }

    pub(super) fn into_replayed(self) -> Replayed {
        Replayed { log: self.log, written: self.written, epoch: self.epoch, damage: self.damage }
    }
}

/// Whether there are segments in `dir`, and whether anything stands in them.
pub(super) fn look(disk: &dyn Disk, dir: &Path) -> Result<Option<Found>, StorageError> {
    if CheckpointFile::exists(disk, dir)? {
        return Ok(Some(Found::Used));
    }
    let mut found = None;
    let mut content = Vec::new();
    for number in segment::list(disk, dir)? {
        let segment = Segment::open(disk, dir, number, Access::Read)?;
        segment.read(0, segment.bytes, &mut content)?;
        let used =
            content.get(segment::HEADER_BYTES..).is_some_and(|rest| rest.iter().any(|byte| *byte != 0));
        found = Some(if used || found == Some(Found::Used) { Found::Used } else { Found::Unused });
    }
    Ok(found)
}
