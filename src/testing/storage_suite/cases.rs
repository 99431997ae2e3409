//! The cases of clauses 1 to 10.

use super::*;
use crate::multi::{AbstainReason, Base, DiskId, Incarnation, Log, Memberships};
use futures::FutureExt;
use std::collections::{BTreeMap, BTreeSet};

cases! {
    "1.1" "an append survives a power cut" an_append_survives;
    "1.2" "what open raised survives a power cut" an_opening_survives;
    "1.3" "every kind of record comes back" every_record_comes_back;
    "1.4" "many appends survive, the last one too" many_appends_survive;
    "1.5" "an empty value and a large one come back byte for byte" sizes_come_back;
    "2.1" "a group comes back with all its records" a_group_is_whole;
    "2.2" "a group whose future was dropped comes back whole or not at all" a_dropped_group_is_whole;
    "3.1" "the fold follows the order of the appends" the_order_is_kept;
    "3.2" "recover says what the fold of the appends says" recover_is_the_fold;
    "3.3" "recover says the same twice, and the same as a restart" recover_repeats;
    "3.4" "the newest sequence comes back" the_sequence_comes_back;
    "4.1" "a second open is refused, and the first goes on" a_second_open_is_refused;
    "4.2" "a read beside an append works" a_read_beside_an_append;
    "4.3" "closing frees the place" closing_frees;
    "4.4" "dropping frees the place" dropping_frees;
    "5.1" "after a failed append every later one is refused" a_failure_is_final;
    "5.2" "after a failed append what was durable is readable, and there after a restart" a_failure_loses_nothing;
    "6.1" "a dropped append disturbs none of its neighbours" a_dropped_append_disturbs_none;
    "7.1" "a restart of an empty place is refused, and leaves it empty" restart_needs_a_node;
    "7.2" "a bootstrap of a formed place is refused" bootstrap_needs_an_unformed_place;
    "7.3" "a join of a used place is refused" join_needs_an_empty_place;
    "7.4" "another node, cluster or epoch is refused, and nothing changes" another_owner_is_refused;
    "7.5" "a bootstrap is repeated with the same members only" bootstrap_repeats;
    "7.6" "a restart before the cluster formed knows its bootstrap" restart_knows_the_bootstrap;
    "7.7" "a join starts empty, without a bootstrap" join_starts_empty;
    "7.8" "a restart takes the epoch that the place holds" a_restart_takes_the_epoch;
    "8.1" "each open counts one more start, with a nonce of its own" each_open_counts;
    "8.2" "the disk id stays" the_disk_id_stays;
    "8.3" "a refused open counts nothing" a_refused_open_counts_nothing;
    "9.1" "nothing works before open or after close" nothing_works_while_closed;
    "9.2" "an abstention comes back" an_abstention_comes_back;
    "9.3" "a promise never comes back lower" a_promise_never_goes_down;
    "10.1" "a read gives the entries asked for, ascending" a_read_ascends;
    "10.2" "a read ends before a gap, and is empty in one" a_read_ends_before_a_gap;
    "10.3" "a read ends at its bytes, after at least one entry" a_read_is_bounded;
    "10.4" "a read gives the newest entry" a_read_gives_the_newest;
    "10.5" "a fetched entry has the id zero" a_fetched_entry_has_no_id;
    "10.6" "an empty range and an open one are fine" odd_ranges_are_fine;
    "10.7" "a read finds what was written before a restart" a_read_after_a_restart;
    "10.8" "paged reads give thousands of slots, learned ones too" pages_give_everything;
    "10.9" "the last entry of a slot in one group counts" the_last_in_a_group_counts;
}

async fn an_append_survives(place: &dyn StoragePlace) -> Verdict {
    let storage = bootstrap(place).await?;
    storage.append(group(1, vec![accepted(1, 5, "a")])).await?;
    let (_storage, recovered) = reopen(place, storage).await?;
    ensure_eq(&recovered.log.promised(), &Some(id(5)), "the promise")?;
    ensure_eq(&recovered.log.entry(Slot::FIRST), &Some(&entry(5, "a")), "the entry")
}

async fn an_opening_survives(place: &dyn StoragePlace) -> Verdict {
    let storage = place.storage();
    let first = storage.open(owner()?, Start::Bootstrap(members(3)?)).await?;
    let (_storage, second) = reopen(place, storage).await?;
    ensure_eq(&second.owner, &first.owner, "the owner")?;
    ensure_eq(&second.bootstrap, &Some(members(3)?), "the bootstrap")?;
    ensure(second.incarnations.starts_with(&first.incarnations), || "the first start is gone".to_owned())
}

async fn every_record_comes_back(place: &dyn StoragePlace) -> Verdict {
    let storage = bootstrap(place).await?;
    let records = vec![
        Record::Promised { id: id(3) },
        Record::Formed { membership: members(3)?, disks: BTreeMap::from([(NODE, DiskId(7))]) },
        Record::PeerSeen {
            node: NodeId::new(2),
            disk: DiskId(8),
            incarnation: Incarnation { counter: 4, nonce: 9 },
        },
        Record::PeerSequence { node: NodeId::new(2), sequence: Sequence(77) },
        accepted(1, 3, "batch"),
        Record::Accepted { slot: Slot::new(2), id: id(3), value: Value::Noop },
        Record::Accepted { slot: Slot::new(3), id: id(3), value: Value::Membership(members(5)?) },
        Record::Watermark { id: id(3), through: Slot::new(1) },
        Record::Chosen { slot: Slot::new(2), value: Value::Noop },
        Record::Abstains { reason: AbstainReason::StaleIncarnation },
        Record::Based {
            base: Base {
                through: Slot::new(1),
                memberships: Memberships::bootstrap(members(3)?),
                disks: BTreeMap::from([(NODE, DiskId(7))]),
                snapshot: None,
            },
        },
        Record::Forced { epoch: 1, memberships: Memberships::bootstrap(members(1)?) },
    ];
    let mut log = Log::default();
    records.iter().for_each(|record| log.apply(record));
    storage.append(group(1, records)).await?;
    let (_storage, recovered) = reopen(place, storage).await?;
    ensure_eq(&recovered.log, &log, "the fold")
}

async fn many_appends_survive(place: &dyn StoragePlace) -> Verdict {
    let storage = bootstrap(place).await?;
    for slot in 1..=200 {
        storage.append(group(slot, vec![accepted(slot, slot, &format!("value {slot}"))])).await?;
    }
    let (_storage, recovered) = reopen(place, storage).await?;
    for slot in 1..=200 {
        let expected = entry(slot, &format!("value {slot}"));
        ensure_eq(&recovered.log.entry(Slot::new(slot)), &Some(&expected), "an entry")?;
    }
    Ok(())
}

async fn sizes_come_back(place: &dyn StoragePlace) -> Verdict {
    let storage = bootstrap(place).await?;
    let large: Vec<u8> = (0..1_500_000_u32).map(|nth| (nth % 251) as u8).collect();
    let values = [Value::Batch(Bytes::new()), Value::Batch(large.into())];
    for (slot, value) in (1..).zip(&values) {
        let record = Record::Accepted { slot: Slot::new(slot), id: id(1), value: value.clone() };
        storage.append(group(slot, vec![record])).await?;
    }
    let (_storage, recovered) = reopen(place, storage).await?;
    for (slot, value) in (1..).zip(&values) {
        let found = recovered.log.entry(Slot::new(slot)).map(|entry| &entry.value);
        ensure(found == Some(value), || format!("slot {slot} came back changed"))?;
    }
    Ok(())
}

async fn a_group_is_whole(place: &dyn StoragePlace) -> Verdict {
    let storage = bootstrap(place).await?;
    storage.append(group(9, (1..=500).map(|slot| accepted(slot, 2, "x")).collect())).await?;
    let (_storage, recovered) = reopen(place, storage).await?;
    let missing = (1..=500).find(|slot| recovered.log.entry(Slot::new(*slot)).is_none());
    ensure_eq(&missing, &None, "a missing slot")
}

async fn a_dropped_group_is_whole(place: &dyn StoragePlace) -> Verdict {
    let storage = bootstrap(place).await?;
    storage.append(group(1, vec![accepted(1, 1, "before")])).await?;
    // Polled once, then dropped, finished or not.
    let _ = storage.append(group(2, vec![accepted(2, 2, "x"), accepted(3, 2, "y")])).now_or_never();
    let (_storage, recovered) = reopen(place, storage).await?;
    let held = |slot| recovered.log.entry(Slot::new(slot)).is_some();
    ensure(held(1), || "the group before is gone".to_owned())?;
    ensure_eq(&held(3), &held(2), "the second record beside the first")
}

async fn the_order_is_kept(place: &dyn StoragePlace) -> Verdict {
    let storage = bootstrap(place).await?;
    storage.append(group(1, vec![accepted(1, 1, "old")])).await?;
    storage.append(group(2, vec![accepted(1, 2, "newer"), accepted(1, 3, "newest")])).await?;
    let (_storage, recovered) = reopen(place, storage).await?;
    ensure_eq(&recovered.log.entry(Slot::FIRST), &Some(&entry(3, "newest")), "the entry")
}

async fn recover_is_the_fold(place: &dyn StoragePlace) -> Verdict {
    let storage = bootstrap(place).await?;
    let mut log = Log::default();
    for slot in 1..=40 {
        let mut records = vec![accepted(slot, slot / 7 + 1, "v")];
        if slot % 5 == 0 {
            records.push(Record::Watermark { id: id(slot / 7 + 1), through: Slot::new(slot) });
            records.push(Record::Chosen { slot: Slot::new(slot - 2), value: value("fetched") });
        }
        records.iter().for_each(|record| log.apply(record));
        storage.append(group(slot, records)).await?;
        ensure_eq(&storage.recover().await?.log, &log, "the fold")?;
    }
    Ok(())
}

async fn recover_repeats(place: &dyn StoragePlace) -> Verdict {
    let storage = bootstrap(place).await?;
    storage.append(group(4, vec![accepted(1, 5, "a"), Record::Promised { id: id(9) }])).await?;
    let first = storage.recover().await?;
    let second = storage.recover().await?;
    ensure_eq(&second.log, &first.log, "the second time")?;
    ensure_eq(&second.incarnations, &first.incarnations, "the starts the second time")?;
    let (_storage, third) = reopen(place, storage).await?;
    ensure_eq(&third.log, &first.log, "after a restart")?;
    ensure_eq(&third.sequence, &first.sequence, "the sequence after a restart")
}

async fn the_sequence_comes_back(place: &dyn StoragePlace) -> Verdict {
    let storage = place.storage();
    let fresh = storage.open(owner()?, Start::Join).await?;
    ensure_eq(&fresh.sequence, &Sequence(0), "the sequence of a new place")?;
    storage.append(group(3, vec![accepted(1, 1, "a")])).await?;
    storage.append(group(17, vec![accepted(2, 1, "b")])).await?;
    ensure_eq(&storage.recover().await?.sequence, &Sequence(17), "the sequence while open")?;
    let (_storage, recovered) = reopen(place, storage).await?;
    ensure_eq(&recovered.sequence, &Sequence(17), "the sequence after a restart")
}

async fn a_second_open_is_refused(place: &dyn StoragePlace) -> Verdict {
    let storage = bootstrap(place).await?;
    let second = place.storage();
    let refused = |error: &StorageError| matches!(error, StorageError::Locked { .. });
    ensure_refused(second.open(owner()?, Start::Restart).await, refused, "a second open")?;
    drop(second);
    ensure_refused(
        storage.open(owner()?, Start::Restart).await,
        refused,
        "a second open of the same storage",
    )?;
    storage.append(group(1, vec![accepted(1, 1, "a")])).await?;
    ensure_eq(&storage.recover().await?.incarnations.len(), &1, "starts")
}

async fn a_read_beside_an_append(place: &dyn StoragePlace) -> Verdict {
    let storage = bootstrap(place).await?;
    storage.append(group(1, vec![accepted(1, 1, "a")])).await?;
    for slot in 2..30 {
        let append = storage.append(group(slot, vec![accepted(slot, 1, "b")]));
        let read = storage.read(Slot::FIRST..Slot::new(2), 1000);
        let (appended, found) = futures::join!(append, read);
        appended?;
        ensure_eq(&found?, &vec![(Slot::FIRST, entry(1, "a"))], "the read")?;
    }
    Ok(())
}

async fn closing_frees(place: &dyn StoragePlace) -> Verdict {
    let storage = bootstrap(place).await?;
    storage.append(group(1, vec![accepted(1, 1, "a")])).await?;
    storage.close().await?;
    let again = place.storage();
    let recovered = again.open(owner()?, Start::Restart).await?;
    ensure_eq(&recovered.log.entry(Slot::FIRST), &Some(&entry(1, "a")), "the entry")
}

async fn dropping_frees(place: &dyn StoragePlace) -> Verdict {
    for _ in 0..3 {
        let storage = place.storage();
        storage.open(owner()?, Start::Bootstrap(members(3)?)).await?;
        drop(storage);
    }
    Ok(())
}

async fn a_failure_is_final(place: &dyn StoragePlace) -> Verdict {
    let storage = bootstrap(place).await?;
    storage.append(group(1, vec![accepted(1, 1, "a")])).await?;
    if !place.fail_next_append() {
        return Err(Unmet::Skipped);
    }
    let failed = storage.append(group(2, vec![accepted(2, 1, "b")])).await;
    ensure(failed.is_err(), || "the append did not fail".to_owned())?;
    let poisoned = |error: &StorageError| matches!(error, StorageError::Poisoned);
    for sequence in 3..6 {
        let later = storage.append(group(sequence, vec![accepted(3, 1, "c")])).await;
        ensure_refused(later, poisoned, "an append after the failure")?;
    }
    Ok(())
}

async fn a_failure_loses_nothing(place: &dyn StoragePlace) -> Verdict {
    let storage = bootstrap(place).await?;
    storage.append(group(1, vec![accepted(1, 1, "a")])).await?;
    if !place.fail_next_append() {
        return Err(Unmet::Skipped);
    }
    let failed = storage.append(group(2, vec![accepted(2, 1, "b")])).await;
    ensure(failed.is_err(), || "the append did not fail".to_owned())?;
    let expected = vec![(Slot::FIRST, entry(1, "a"))];
    ensure_eq(&storage.read(Slot::FIRST..Slot::new(2), 1000).await?, &expected, "the read")?;
    let (storage, recovered) = reopen(place, storage).await?;
    ensure_eq(&recovered.log.entry(Slot::FIRST), &Some(&entry(1, "a")), "the entry")?;
    Ok(storage.append(group(3, vec![accepted(2, 1, "b")])).await?)
}

async fn a_dropped_append_disturbs_none(place: &dyn StoragePlace) -> Verdict {
    let storage = bootstrap(place).await?;
    storage.append(group(1, vec![accepted(1, 1, "a")])).await?;
    let _ = storage.append(group(2, vec![accepted(2, 1, "b")])).now_or_never();
    storage.append(group(3, vec![accepted(3, 1, "c")])).await?;
    let (_storage, recovered) = reopen(place, storage).await?;
    // What comes after the dropped one is durable, so the dropped one was written as well (clause 2).
    for (slot, text) in [(1, "a"), (2, "b"), (3, "c")] {
        ensure_eq(&recovered.log.entry(Slot::new(slot)), &Some(&entry(1, text)), "the entry")?;
    }
    Ok(())
}

async fn restart_needs_a_node(place: &dyn StoragePlace) -> Verdict {
    let storage = place.storage();
    let refused = |error: &StorageError| matches!(error, StorageError::Empty { .. });
    ensure_refused(storage.open(owner()?, Start::Restart).await, refused, "a restart")?;
    drop(storage);
    let storage = place.storage();
    ensure_refused(storage.open(owner()?, Start::Restart).await, refused, "a second restart")?;
    drop(storage);
    bootstrap(place).await.map(drop)
}

async fn bootstrap_needs_an_unformed_place(place: &dyn StoragePlace) -> Verdict {
    let storage = bootstrap(place).await?;
    let formed = Record::Formed { membership: members(3)?, disks: BTreeMap::from([(NODE, DiskId(7))]) };
    storage.append(group(1, vec![formed])).await?;
    drop(storage);
    let again = place.storage();
    let refused = |error: &StorageError| matches!(error, StorageError::InUse { .. });
    ensure_refused(again.open(owner()?, Start::Bootstrap(members(3)?)).await, refused, "a bootstrap")
}

async fn join_needs_an_empty_place(place: &dyn StoragePlace) -> Verdict {
    drop(bootstrap(place).await?);
    let again = place.storage();
    let refused = |error: &StorageError| matches!(error, StorageError::InUse { .. });
    ensure_refused(again.open(owner()?, Start::Join).await, refused, "a join")
}

async fn another_owner_is_refused(place: &dyn StoragePlace) -> Verdict {
    let storage = bootstrap(place).await?;
    storage.append(group(1, vec![accepted(1, 1, "a")])).await?;
    let before = storage.recover().await?;
    drop(storage);
    let refused = |error: &StorageError| matches!(error, StorageError::WrongOwner { .. });
    let others =
        [owner_of("suite", 0, NodeId::new(2))?, owner_of("other", 0, NODE)?, owner_of("suite", 1, NODE)?];
    for other in others {
        for start in [Start::Restart, Start::Join, Start::Bootstrap(members(3)?)] {
            if start.fits(&other, &before.owner) {
                continue;
            }
            let storage = place.storage();
            ensure_refused(storage.open(other.clone(), start).await, refused, "another owner")?;
        }
    }
    let storage = place.storage();
    let after = storage.open(owner()?, Start::Restart).await?;
    ensure_eq(&after.log, &before.log, "the log")?;
    ensure_eq(&after.incarnations.len(), &2, "starts")
}

async fn a_restart_takes_the_epoch(place: &dyn StoragePlace) -> Verdict {
    let storage = place.storage();
    storage.open(owner_of("suite", 3, NODE)?, Start::Join).await?;
    drop(storage);
    for asked in [0, 3, 4] {
        let storage = place.storage();
        let recovered = storage.open(owner_of("suite", asked, NODE)?, Start::Restart).await?;
        ensure_eq(&recovered.owner.epoch, &3, "the epoch")?;
    }
    Ok(())
}

async fn bootstrap_repeats(place: &dyn StoragePlace) -> Verdict {
    let storage = bootstrap(place).await?;
    let disk = storage.recover().await?.disk;
    drop(storage);
    let storage = place.storage();
    let again = storage.open(owner()?, Start::Bootstrap(members(3)?)).await?;
    ensure_eq(&again.disk, &disk, "the disk id")?;
    drop(storage);
    let storage = place.storage();
    let refused = |error: &StorageError| matches!(error, StorageError::InUse { .. });
    let other = storage.open(owner()?, Start::Bootstrap(members(5)?)).await;
    ensure_refused(other, refused, "a bootstrap with other members")
}

async fn restart_knows_the_bootstrap(place: &dyn StoragePlace) -> Verdict {
    let storage = bootstrap(place).await?;
    let (_storage, recovered) = reopen(place, storage).await?;
    ensure_eq(&recovered.bootstrap, &Some(members(3)?), "the bootstrap")?;
    ensure(!recovered.log.is_formed(), || "the cluster has formed by itself".to_owned())
}

async fn join_starts_empty(place: &dyn StoragePlace) -> Verdict {
    let storage = place.storage();
    let recovered = storage.open(owner()?, Start::Join).await?;
    ensure_eq(&recovered.bootstrap, &None, "the bootstrap")?;
    ensure_eq(&recovered.log, &Log::default(), "the log")?;
    let (_storage, recovered) = reopen(place, storage).await?;
    ensure_eq(&recovered.bootstrap, &None, "the bootstrap after a restart")
}

async fn each_open_counts(place: &dyn StoragePlace) -> Verdict {
    let mut storage = bootstrap(place).await?;
    let mut known = storage.recover().await?.incarnations;
    for counter in 2..=6 {
        let (again, recovered) = reopen(place, storage).await?;
        storage = again;
        let last = recovered.incarnations.last().map(|last| last.counter);
        ensure_eq(&last, &Some(counter), "the counter")?;
        ensure(recovered.incarnations.starts_with(&known), || "an earlier start is gone".to_owned())?;
        ensure_eq(&recovered.incarnations.len(), &(known.len() + 1), "starts")?;
        known = recovered.incarnations;
    }
    let nonces: BTreeSet<u64> = known.iter().map(|incarnation| incarnation.nonce).collect();
    ensure_eq(&nonces.len(), &known.len(), "different nonces")
}

async fn the_disk_id_stays(place: &dyn StoragePlace) -> Verdict {
    let storage = bootstrap(place).await?;
    let disk = storage.recover().await?.disk;
    let (storage, recovered) = reopen(place, storage).await?;
    ensure_eq(&recovered.disk, &disk, "the disk id after one restart")?;
    let (_storage, recovered) = reopen(place, storage).await?;
    ensure_eq(&recovered.disk, &disk, "the disk id after two")
}

async fn a_refused_open_counts_nothing(place: &dyn StoragePlace) -> Verdict {
    drop(bootstrap(place).await?);
    for _ in 0..3 {
        let storage = place.storage();
        let joined = storage.open(owner()?, Start::Join).await;
        ensure(joined.is_err(), || "a join of a used place was not refused".to_owned())?;
    }
    let storage = place.storage();
    let recovered = storage.open(owner()?, Start::Restart).await?;
    ensure_eq(&recovered.incarnations.last().map(|last| last.counter), &Some(2), "the counter")
}

async fn nothing_works_while_closed(place: &dyn StoragePlace) -> Verdict {
    let storage = place.storage();
    for when in ["before open", "after close"] {
        ensure_refused(
            storage.append(group(1, vec![accepted(1, 1, "a")])).await,
            is_not_open,
            &format!("append {when}"),
        )?;
        ensure_refused(storage.recover().await, is_not_open, &format!("recover {when}"))?;
        let read = storage.read(Slot::FIRST..Slot::MAX, 1000).await;
        ensure_refused(read, is_not_open, &format!("read {when}"))?;
        if when == "before open" {
            storage.open(owner()?, Start::Bootstrap(members(3)?)).await?;
            storage.close().await?;
        }
    }
    Ok(())
}

async fn an_abstention_comes_back(place: &dyn StoragePlace) -> Verdict {
    let storage = bootstrap(place).await?;
    let reason = AbstainReason::SafetyViolation;
    storage.append(group(1, vec![Record::Abstains { reason }])).await?;
    let (_storage, recovered) = reopen(place, storage).await?;
    ensure_eq(&recovered.log.abstains(), &Some(reason), "the abstention")
}

async fn a_promise_never_goes_down(place: &dyn StoragePlace) -> Verdict {
    let mut storage = bootstrap(place).await?;
    for (sequence, number) in (1..).zip([4, 9, 9, 12]) {
        storage.append(group(sequence, vec![Record::Promised { id: id(number) }])).await?;
        let (again, recovered) = reopen(place, storage).await?;
        storage = again;
        ensure_eq(&recovered.log.promised(), &Some(id(number)), "the promise")?;
    }
    Ok(())
}

async fn a_read_ascends(place: &dyn StoragePlace) -> Verdict {
    let storage = bootstrap(place).await?;
    storage.append(group(1, vec![accepted(3, 1, "c"), accepted(1, 1, "a")])).await?;
    storage.append(group(2, vec![accepted(2, 1, "b"), accepted(4, 1, "d")])).await?;
    let found = storage.read(Slot::new(2)..Slot::new(4), 1000).await?;
    let expected = vec![(Slot::new(2), entry(1, "b")), (Slot::new(3), entry(1, "c"))];
    ensure_eq(&found, &expected, "the read")
}

async fn a_read_ends_before_a_gap(place: &dyn StoragePlace) -> Verdict {
    let storage = bootstrap(place).await?;
    storage.append(group(1, vec![accepted(1, 1, "a"), accepted(2, 1, "b"), accepted(4, 1, "d")])).await?;
    let found = storage.read(Slot::FIRST..Slot::new(9), 1000).await?;
    ensure_eq(&found, &vec![(Slot::new(1), entry(1, "a")), (Slot::new(2), entry(1, "b"))], "the read")?;
    ensure_eq(&storage.read(Slot::new(3)..Slot::new(9), 1000).await?, &Vec::new(), "a read from the gap")?;
    let found = storage.read(Slot::new(4)..Slot::new(9), 1000).await?;
    ensure_eq(&found, &vec![(Slot::new(4), entry(1, "d"))], "a read behind the gap")
}

async fn a_read_is_bounded(place: &dyn StoragePlace) -> Verdict {
    let storage = bootstrap(place).await?;
    let text = "x".repeat(1000);
    for slot in 1..=20 {
        storage.append(group(slot, vec![accepted(slot, 1, &text)])).await?;
    }
    let found = storage.read(Slot::FIRST..Slot::new(21), 5000).await?.len();
    ensure((1..=6).contains(&found), || format!("{found} entries of 1000 bytes where 5000 were asked for"))?;
    let found = storage.read(Slot::FIRST..Slot::new(21), 0).await?.len();
    ensure_eq(&found, &1, "entries where 0 bytes were asked for")
}

async fn a_read_gives_the_newest(place: &dyn StoragePlace) -> Verdict {
    let storage = bootstrap(place).await?;
    for round in 1..=30 {
        storage
            .append(group(
                round,
                vec![accepted(1, round, &format!("round {round}")), accepted(2, round, "b")],
            ))
            .await?;
    }
    let found = storage.read(Slot::FIRST..Slot::new(2), 1000).await?;
    ensure_eq(&found, &vec![(Slot::FIRST, entry(30, "round 30"))], "the read")
}

async fn a_fetched_entry_has_no_id(place: &dyn StoragePlace) -> Verdict {
    let storage = bootstrap(place).await?;
    storage.append(group(1, vec![Record::Chosen { slot: Slot::FIRST, value: value("a") }])).await?;
    let found = storage.read(Slot::FIRST..Slot::new(2), 1000).await?;
    let fetched = Entry { id: ProposalId::new(0, NodeId::new(0)), value: value("a") };
    ensure_eq(&found, &vec![(Slot::FIRST, fetched)], "the read")
}

async fn odd_ranges_are_fine(place: &dyn StoragePlace) -> Verdict {
    let storage = bootstrap(place).await?;
    let none = Vec::new();
    ensure_eq(&storage.read(Slot::FIRST..Slot::MAX, 1000).await?, &none, "a read of an empty log")?;
    storage.append(group(1, vec![accepted(1, 1, "a")])).await?;
    ensure_eq(&storage.read(Slot::new(1)..Slot::new(1), 1000).await?, &none, "an empty range")?;
    ensure_eq(&storage.read(Slot::new(9)..Slot::new(2), 1000).await?, &none, "a range backwards")?;
    let found = storage.read(Slot::FIRST..Slot::MAX, usize::MAX).await?;
    ensure_eq(&found, &vec![(Slot::FIRST, entry(1, "a"))], "an open range")
}

async fn a_read_after_a_restart(place: &dyn StoragePlace) -> Verdict {
    let storage = bootstrap(place).await?;
    for slot in 1..=50 {
        storage.append(group(slot, vec![accepted(slot, 1, &format!("{slot}"))])).await?;
    }
    let (storage, _) = reopen(place, storage).await?;
    storage.append(group(51, vec![accepted(7, 2, "again")])).await?;
    let found = storage.read(Slot::new(6)..Slot::new(9), 1000).await?;
    let expected =
        vec![(Slot::new(6), entry(1, "6")), (Slot::new(7), entry(2, "again")), (Slot::new(8), entry(1, "8"))];
    ensure_eq(&found, &expected, "the read")
}

async fn pages_give_everything(place: &dyn StoragePlace) -> Verdict {
    const SLOTS: u64 = 5000;
    let storage = bootstrap(place).await?;
    for first in (1..SLOTS).step_by(250) {
        let mut records: Vec<Record> =
            (first..first + 250).map(|slot| accepted(slot, 1, &format!("value {slot}"))).collect();
        records.push(Record::Watermark { id: id(1), through: Slot::new(first + 249) });
        storage.append(group(first, records)).await?;
    }
    let (storage, _) = reopen(place, storage).await?;
    let mut next = 1;
    while next <= SLOTS {
        let page = storage.read(Slot::new(next)..Slot::MAX, 10_000).await?;
        ensure(!page.is_empty(), || format!("slot {next} is held and was not given"))?;
        for found in page {
            ensure_eq(&found, &(Slot::new(next), entry(1, &format!("value {next}"))), "an entry")?;
            next += 1;
        }
    }
    Ok(())
}

async fn the_last_in_a_group_counts(place: &dyn StoragePlace) -> Verdict {
    let storage = bootstrap(place).await?;
    storage.append(group(1, vec![accepted(1, 1, "a"), accepted(1, 2, "b")])).await?;
    let found = storage.read(Slot::FIRST..Slot::new(2), 1000).await?;
    ensure_eq(&found, &vec![(Slot::FIRST, entry(2, "b"))], "the read")
}
