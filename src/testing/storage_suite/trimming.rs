//! The cases of clause 11: what a cut forgets, and what it keeps.

use super::*;
use crate::multi::{Base, DiskId, Incarnation, Log, Memberships};
use futures::FutureExt;
use std::collections::BTreeMap;

cases! {
    "11.1" "a cut forgets nothing above the slot that it is told" a_cut_keeps_what_is_above;
    "11.2" "what is recovered is the fold of the facts and of the groups that were kept" a_cut_keeps_the_fold;
    "11.3" "a fact that is given with a cut survives" facts_survive;
    "11.4" "what a cut says never goes down" a_cut_never_goes_down;
    "11.5" "appends go on after a cut" appends_go_on;
    "11.6" "a cut whose future was dropped is seen whole or not at all" a_dropped_cut_is_whole;
    "11.7" "cut again and again, the fold stays" cuts_repeat;
    "11.8" "the measure of the log grows with entries and is right after a restart" the_log_is_measured;
    "11.9" "the measure of the log falls with a cut" a_cut_lowers_the_measure;
    "11.10" "after a failed append a cut is refused" a_cut_after_a_failure;
    "11.11" "no cut before open or after close" no_cut_while_closed;
}

/// Bytes of one entry's value.
const ENTRY_BYTES: usize = 1000;

fn text(slot: u64) -> String {
    format!("{slot:>width$}", width = ENTRY_BYTES)
}

fn base(through: u64) -> Result<Base, Unmet> {
    Ok(Base {
        through: Slot::new(through),
        memberships: Memberships::bootstrap(members(3)?),
        disks: BTreeMap::from([(NODE, DiskId(7))]),
        snapshot: None,
    })
}

/// Groups that fill slots 1 to 300, five in each, all chosen.
fn workload() -> Result<Vec<Group>, Unmet> {
    let formed = Record::Formed { membership: members(3)?, disks: BTreeMap::from([(NODE, DiskId(7))]) };
    let incarnation = Incarnation { counter: 2, nonce: 3 };
    let seen = Record::PeerSeen { node: NodeId::new(2), disk: DiskId(8), incarnation };
    let mut groups = vec![group(1, vec![formed, seen])];
    for nth in 0..60 {
        let mut records: Vec<Record> =
            (nth * 5 + 1..=nth * 5 + 5).map(|slot| accepted(slot, nth / 20 + 1, &text(slot))).collect();
        records.push(Record::Watermark { id: id(nth / 20 + 1), through: Slot::new(nth * 5 + 5) });
        groups.push(group(nth + 2, records));
    }
    Ok(groups)
}

fn fold<'a>(records: impl IntoIterator<Item = &'a Record>) -> Log {
    let mut log = Log::default();
    records.into_iter().for_each(|record| log.apply(record));
    log
}

/// What an acceptor states when it cuts below a base through `through`.
fn facts(groups: &[Group], through: u64) -> Result<Vec<Record>, Unmet> {
    let mut log = fold(groups.iter().flat_map(|group| &group.records));
    log.apply(&Record::Based { base: base(through)? });
    Ok(log.facts())
}

/// Whether `found` is what may be recovered when `groups` were cut at `through` with `facts`, and entries through `gone` are
/// gone.
fn is_cut(found: &Log, groups: &[Group], facts: &[Record], through: u64, gone: Slot) -> bool {
    let mut highest = Slot::ZERO;
    for first in 0..=groups.len() {
        let (dropped, kept) = groups.split_at(first);
        let slots =
            dropped.last().into_iter().flat_map(|group| &group.records).filter_map(|record| match record {
                Record::Accepted { slot, .. } => Some(*slot),
                _ => None,
            });
        highest = slots.max().unwrap_or(highest).max(highest);
        if highest > gone || gone > Slot::new(through) {
            return false;
        }
        let trimmed = (gone > Slot::ZERO).then_some(Record::Trimmed { through: gone });
        let kept = kept.iter().flat_map(|group| &group.records);
        if *found == fold(facts.iter().chain(&trimmed).chain(kept)) {
            return true;
        }
    }
    false
}

async fn fill(storage: &dyn Storage, groups: &[Group]) -> Verdict {
    for group in groups {
        storage.append(group.clone()).await?;
    }
    Ok(())
}

/// Whether every slot from `first` through `last` can be read.
async fn ensure_readable(storage: &dyn Storage, first: Slot, last: u64) -> Verdict {
    let mut next = first;
    while next.get() <= last {
        let page = storage.read(next..Slot::new(last).next(), 50_000).await?;
        ensure(!page.is_empty(), || format!("slot {next} cannot be read"))?;
        for (slot, found) in page {
            ensure_eq(&slot, &next, "the slot")?;
            ensure_eq(&found.value, &value(&text(slot.get())), "the value")?;
            next = next.next();
        }
    }
    Ok(())
}

async fn a_cut_keeps_what_is_above(place: &dyn StoragePlace) -> Verdict {
    ensure_able(place.trims())?;
    let storage = bootstrap(place).await?;
    let groups = workload()?;
    fill(&*storage, &groups).await?;
    let gone = storage.trim(Slot::new(150), facts(&groups, 150)?).await?;
    ensure(gone <= Slot::new(150), || format!("entries are gone through {gone}, where 150 was said"))?;
    ensure_readable(&*storage, gone.next(), 300).await?;
    let below = storage.read(Slot::FIRST..gone.next(), 1000).await?;
    ensure_eq(&below, &Vec::new(), "what is read of the slots that are gone")?;
    let (storage, recovered) = reopen(place, storage).await?;
    ensure_eq(&recovered.log.trimmed_through(), &gone, "what is gone, after a restart")?;
    ensure_readable(&*storage, gone.next(), 300).await
}

async fn a_cut_keeps_the_fold(place: &dyn StoragePlace) -> Verdict {
    ensure_able(place.trims())?;
    let storage = bootstrap(place).await?;
    let groups = workload()?;
    fill(&*storage, &groups).await?;
    let facts = facts(&groups, 200)?;
    let gone = storage.trim(Slot::new(200), facts.clone()).await?;
    let recovered = storage.recover().await?;
    let is_right = |log: &Log| is_cut(log, &groups, &facts, 200, gone);
    ensure(is_right(&recovered.log), || "the fold is another one".to_owned())?;
    ensure_eq(&recovered.sequence, &Sequence(61), "the sequence")?;
    let (_storage, recovered) = reopen(place, storage).await?;
    ensure(is_right(&recovered.log), || "the fold is another one after a restart".to_owned())?;
    ensure_eq(&recovered.sequence, &Sequence(61), "the sequence after a restart")
}

async fn facts_survive(place: &dyn StoragePlace) -> Verdict {
    ensure_able(place.trims())?;
    let storage = bootstrap(place).await?;
    let groups = workload()?;
    fill(&*storage, &groups).await?;
    let mut facts = facts(&groups, 300)?;
    facts.push(Record::Promised { id: id(99) });
    facts.push(Record::PeerSequence { node: NodeId::new(3), sequence: Sequence(77) });
    storage.trim(Slot::new(300), facts).await?;
    let (_storage, recovered) = reopen(place, storage).await?;
    let log = recovered.log;
    ensure_eq(&log.promised(), &Some(id(99)), "the promise")?;
    ensure_eq(&log.peer(NodeId::new(3)).sequence, &Sequence(77), "a peer's sequence")?;
    ensure_eq(&log.base().map(|base| base.through), &Some(Slot::new(300)), "the base")?;
    ensure_eq(&log.chosen_through(), &Slot::new(300), "what was chosen")?;
    ensure(log.peer(NodeId::new(2)).seen.is_some(), || "a peer's start is forgotten".to_owned())
}

async fn a_cut_never_goes_down(place: &dyn StoragePlace) -> Verdict {
    ensure_able(place.trims())?;
    let mut storage = bootstrap(place).await?;
    let groups = workload()?;
    fill(&*storage, &groups).await?;
    let mut known = Slot::ZERO;
    for through in [100, 20, 250, 250, 10] {
        let highest = facts(&groups, through.max(known.get()))?;
        let gone = storage.trim(Slot::new(through), highest).await?;
        ensure(gone >= known, || format!("first {known}, then {gone}"))?;
        known = gone;
        let (again, recovered) = reopen(place, storage).await?;
        storage = again;
        ensure_eq(&recovered.log.trimmed_through(), &known, "what is gone, after a restart")?;
    }
    Ok(())
}

async fn appends_go_on(place: &dyn StoragePlace) -> Verdict {
    ensure_able(place.trims())?;
    let storage = bootstrap(place).await?;
    let groups = workload()?;
    fill(&*storage, &groups).await?;
    let gone = storage.trim(Slot::new(300), facts(&groups, 300)?).await?;
    for slot in 301..=320 {
        storage.append(group(slot, vec![accepted(slot, 9, &text(slot))])).await?;
    }
    ensure_readable(&*storage, gone.next(), 320).await?;
    let (storage, recovered) = reopen(place, storage).await?;
    ensure_eq(&recovered.sequence, &Sequence(320), "the sequence")?;
    for slot in 301..=320 {
        ensure_eq(&recovered.log.entry(Slot::new(slot)), &Some(&entry(9, &text(slot))), "an entry")?;
    }
    ensure_readable(&*storage, gone.next(), 320).await
}

async fn a_dropped_cut_is_whole(place: &dyn StoragePlace) -> Verdict {
    ensure_able(place.trims())?;
    let storage = bootstrap(place).await?;
    let groups = workload()?;
    fill(&*storage, &groups).await?;
    let facts = facts(&groups, 200)?;
    // Polled once, then dropped, finished or not.
    let _ = storage.trim(Slot::new(200), facts.clone()).now_or_never();
    let (storage, recovered) = reopen(place, storage).await?;
    let log = recovered.log;
    let untouched = log == fold(groups.iter().flat_map(|group| &group.records));
    let gone = log.trimmed_through();
    ensure(untouched || is_cut(&log, &groups, &facts, 200, gone), || "half a cut is seen".to_owned())?;
    ensure_readable(&*storage, gone.next(), 300).await
}

async fn cuts_repeat(place: &dyn StoragePlace) -> Verdict {
    ensure_able(place.trims())?;
    let mut storage = bootstrap(place).await?;
    let (mut appended, mut sequence) = (Vec::new(), 0);
    for round in 0..6 {
        for slot in round * 60 + 1..=round * 60 + 60 {
            sequence += 1;
            let watermark = Record::Watermark { id: id(round + 1), through: Slot::new(slot) };
            let group = group(sequence, vec![accepted(slot, round + 1, &text(slot)), watermark]);
            storage.append(group.clone()).await?;
            appended.push(group);
        }
        let through = round * 60 + 40;
        let facts = facts(&appended, through)?;
        let gone = storage.trim(Slot::new(through), facts.clone()).await?;
        let (again, recovered) = reopen(place, storage).await?;
        storage = again;
        let is_right = is_cut(&recovered.log, &appended, &facts, through, gone);
        ensure(is_right, || format!("the fold is another one after cut {}", round + 1))?;
        ensure_readable(&*storage, gone.next(), round * 60 + 60).await?;
    }
    Ok(())
}

/// What [`workload`] holds, in bytes.
const WORKLOAD_BYTES: u64 = 300 * ENTRY_BYTES as u64;

async fn the_log_is_measured(place: &dyn StoragePlace) -> Verdict {
    ensure_able(place.trims())?;
    let storage = bootstrap(place).await?;
    let empty = storage.log_bytes();
    let is_right = |bytes: u64| (WORKLOAD_BYTES / 2..WORKLOAD_BYTES * 4).contains(&bytes);
    ensure(empty < WORKLOAD_BYTES / 4, || format!("an empty log takes {empty} bytes"))?;
    fill(&*storage, &workload()?).await?;
    let full = storage.log_bytes();
    ensure(is_right(full), || format!("{WORKLOAD_BYTES} bytes are measured as {full}"))?;
    let (storage, _) = reopen(place, storage).await?;
    let again = storage.log_bytes();
    ensure(is_right(again), || format!("{WORKLOAD_BYTES} bytes are measured as {again} after a restart"))
}

async fn a_cut_lowers_the_measure(place: &dyn StoragePlace) -> Verdict {
    ensure_able(place.trims())?;
    let storage = bootstrap(place).await?;
    let groups = workload()?;
    fill(&*storage, &groups).await?;
    let full = storage.log_bytes();
    let gone = storage.trim(Slot::new(300), facts(&groups, 300)?).await?;
    let left = storage.log_bytes();
    let expected_max = full.saturating_sub(gone.get() * ENTRY_BYTES as u64 / 2);
    ensure(left <= expected_max, || {
        format!("{left} of {full} bytes are left, and entries are gone through {gone}")
    })
}

async fn a_cut_after_a_failure(place: &dyn StoragePlace) -> Verdict {
    ensure_able(place.trims())?;
    let storage = bootstrap(place).await?;
    storage.append(group(1, vec![accepted(1, 1, "a")])).await?;
    ensure_able(place.fail_next_append())?;
    let failed = storage.append(group(2, vec![accepted(2, 1, "b")])).await;
    ensure(failed.is_err(), || "the append did not fail".to_owned())?;
    let poisoned = |error: &StorageError| matches!(error, StorageError::Poisoned);
    let facts = vec![Record::Promised { id: id(1) }];
    ensure_refused(storage.trim(Slot::FIRST, facts).await, poisoned, "a cut after the failure")
}

async fn no_cut_while_closed(place: &dyn StoragePlace) -> Verdict {
    ensure_able(place.trims())?;
    let storage = place.storage();
    ensure_refused(storage.trim(Slot::FIRST, Vec::new()).await, is_not_open, "a cut before open")?;
    storage.open(owner()?, Start::Bootstrap(members(3)?)).await?;
    storage.close().await?;
    ensure_refused(storage.trim(Slot::FIRST, Vec::new()).await, is_not_open, "a cut after close")
}
