//! A forced membership (protocol 10.2): what it leaves, what it says may be lost, and a crash in the middle of it.

use super::*;
use std::path::Path;
use synod::multi::{AbstainReason, Interval, Log, Member, MemberKind};
use synod::storage::disk::{Fault, Unsynced};
use synod::storage::{ForceError, ForceReport};

const OTHER: ProposalId = ProposalId::new(40, NodeId::new(2));

fn force(disk: &SimulatedDisk) -> Result<ForceReport, ForceError> {
    storage_on(disk).force_membership(&owner().cluster, NODE)
}

fn slots(first: u64, last: u64) -> Interval {
    Interval::new(Slot::new(first), Slot::new(last))
}

/// A survivor that has learned 3 slots, accepted more in 4, 5, 6 and 8, and heard that 12 are chosen.
fn survivor() -> Vec<Group> {
    let entries =
        |from: u64, to: u64, number| (from..=to).map(|slot| accepted(slot, number)).collect::<Vec<_>>();
    let disks = BTreeMap::from([(NODE, DiskId(1))]);
    let records = [
        vec![Record::Formed { membership: members(), disks }],
        entries(1, 4, 1),
        vec![Record::Watermark { id: id(1), through: Slot::new(3) }],
        entries(5, 6, 7),
        vec![accepted(8, 7)],
        vec![Record::Watermark { id: OTHER, through: Slot::new(12) }],
        vec![Record::PeerSequence { node: NodeId::new(2), sequence: Sequence(5) }],
    ];
    (1..).zip(records).map(|(sequence, records)| group(sequence, records)).collect()
}

fn written(groups: &[Group]) -> SimulatedDisk {
    let disk = SimulatedDisk::new(3);
    let storage = storage_on(&disk);
    bootstrap(&storage).unwrap();
    groups.iter().for_each(|group| block_on(storage.append(group.clone())).unwrap());
    block_on(storage.close()).unwrap();
    disk
}

/// Checks that the node is alone in this epoch, can vote for every slot, and has decided all that it holds.
fn alone(recovered: &Recovered, epoch: u64, what: &str) {
    let log = &recovered.log;
    assert_eq!(recovered.owner, Owner { epoch, ..owner() }, "{what}");
    let governing = log.memberships().unwrap().governing(log.chosen_through().next()).unwrap();
    let member = Member { kind: MemberKind::Voter, address: "node-1:1".to_owned() };
    assert_eq!(*governing.members(), BTreeMap::from([(NODE, member)]), "{what}");
    assert_eq!((governing.quorums(), governing.alpha()), ((1, 1), members().alpha()), "{what}");
    assert_eq!(log.memberships().unwrap().coming(log.chosen_through().next()), None, "{what}");
    assert_eq!((log.abstains(), log.has_unknown()), (None, false), "{what}");
    let (entries, unknown) = log.accepted(Interval::new(log.chosen_through().next(), Slot::MAX));
    assert!(entries.is_empty() && unknown.is_empty(), "{what}: nothing of the old epoch is open");
}

// protocol 10.2, issue 3 point 11
#[test]
fn a_survivor_is_alone_in_a_new_epoch_and_says_what_may_be_lost() {
    let disk = written(&survivor());
    let report = force(&disk).unwrap();
    assert_eq!(report.owner, Owner { epoch: 1, ..owner() });
    assert_eq!((report.chosen_through, report.decided_through), (Slot::new(3), Slot::new(8)));
    assert_eq!(report.decided, [slots(4, 6), slots(8, 8)]);
    assert_eq!((&report.empty, &report.unknown), (&vec![slots(7, 7)], &vec![]));
    assert_eq!((report.heard_through, report.lost()), (Slot::new(12), Some(slots(9, 12))));
    let words = report.to_string();
    for line in [
        "Node 1 of cluster durability is alone now, in epoch 1.",
        "Every slot through 3 was learned here: nothing of that is lost.",
        "Each slot from 4 to 6 was accepted here and counts as chosen now; the others may have chosen another value.",
        "Slot 7 was empty here and is a no-op now; a chosen value may be lost.",
        "Each slot from 9 to 12 was chosen by the others, as this node had heard: that is lost.",
        "Whatever else the others chose above slot 3 is lost too.",
        "Wipe every other node of the cluster, and add it anew under another id.",
    ] {
        assert!(words.lines().any(|found| found == line), "{line:?} is not said in:\n{words}");
    }
    for start in 1..=3 {
        let storage = storage_on(&disk);
        let recovered = restart(&storage).unwrap();
        alone(&recovered, 1, &format!("start {start}"));
        let log = &recovered.log;
        assert_eq!((log.chosen_through(), log.promised()), (Slot::new(8), Some(id(7))));
        let retired: Vec<u64> = log.memberships().unwrap().retired().keys().map(|node| node.get()).collect();
        assert_eq!(retired, [2, 3]);
        let read = block_on(storage.read(Slot::FIRST..Slot::MAX, 10_000)).unwrap();
        let values: Vec<Value> = read.into_iter().map(|(_, entry)| entry.value).collect();
        let accepted = |slot: u64, number| value(20, slot * 1000 + number);
        assert_eq!(
            values[3..],
            [accepted(4, 1), accepted(5, 7), accepted(6, 7), Value::Noop, accepted(8, 7)]
        );
    }
}

#[test]
fn a_second_call_forces_anew() {
    let disk = written(&survivor());
    force(&disk).unwrap();
    let report = force(&disk).unwrap();
    assert_eq!((report.owner.epoch, report.chosen_through, report.decided.len()), (2, Slot::new(8), 0));
    alone(&restart(&storage_on(&disk)).unwrap(), 2, "twice");
}

// protocol 11.4, 11.5: what was damaged is given up, and does not keep the node from voting.
#[test]
fn a_survivor_with_a_damaged_journal_gives_up_what_is_unknown_and_votes_again() {
    let segment = Path::new(DIR).join("journal-000000000001.log");
    let groups = survivor();
    let starts = {
        let content = written(&groups).files()[&segment].clone();
        (64..content.len()).step_by(64).filter(|at| content[*at..].starts_with(b"SYNg")).collect::<Vec<_>>()
    };
    // The bodies of the entries 5 and 6, and of 8.
    let disk = written(&groups);
    for nth in [3, 4] {
        disk.flip(&segment, starts[nth] + 150, 1);
    }
    let report = force(&disk).unwrap();
    assert_eq!((&report.decided, &report.unknown), (&vec![slots(4, 4)], &vec![slots(5, 6), slots(8, 8)]));
    assert!(
        report.to_string().contains("Each slot from 5 to 6 was damaged here and is given up"),
        "{report}"
    );
    alone(&restart(&storage_on(&disk)).unwrap(), 1, "bodies");

    // The newest groups, with what was promised in them.
    let disk = written(&groups);
    disk.flip(&segment, starts[4] + 150, 1);
    disk.edit(&segment, |content| {
        for start in &starts[5..] {
            content[start + 20] ^= 1;
        }
    });
    let abstaining = restart(&storage_on(&disk)).unwrap().log;
    assert_eq!(abstaining.abstains(), Some(AbstainReason::PromiseInDoubt));
    let report = force(&disk).unwrap();
    let doubted = report.unknown.last().unwrap().last;
    assert!(
        doubted > Slot::new(8).plus(Log::AHEAD_SLOTS_MAX),
        "any slot to {doubted} may have held something"
    );
    let given_up = format!("Each slot from 4 to {doubted} was damaged here and is given up");
    assert!(report.to_string().contains(&given_up), "{report}");
    for _ in 0..2 {
        alone(&restart(&storage_on(&disk)).unwrap(), 1, "headers");
    }
}

// protocol 3.3, 11.4: what was learned above a damaged slot is kept, though a hole is below it.
#[test]
fn what_was_learned_above_a_lost_slot_stays_learned() {
    let chosen = |slot: u64| Record::Chosen { slot: Slot::new(slot), value: value(20, slot) };
    let mut groups = survivor();
    groups.truncate(3);
    groups.extend((4..=9).map(|slot| group(slot, vec![chosen(slot)])));
    let disk = written(&groups);
    let segment = Path::new(DIR).join("journal-000000000001.log");
    let content = disk.files()[&segment].clone();
    let fifth =
        (64..content.len()).step_by(64).filter(|at| content[*at..].starts_with(b"SYNg")).nth(4).unwrap();
    disk.flip(&segment, fifth + 150, 1);
    let report = force(&disk).unwrap();
    assert_eq!((report.chosen_through, report.decided_through), (Slot::new(4), Slot::new(9)));
    assert_eq!((&report.unknown, report.decided.len()), (&vec![slots(5, 5)], 0));
    let storage = storage_on(&disk);
    alone(&restart(&storage).unwrap(), 1, "a hole");
    let read = block_on(storage.read(Slot::new(5)..Slot::MAX, 10_000)).unwrap();
    assert_eq!(read[0].1.value, Value::Noop);
    assert_eq!(read[1].1.value, value(20, 6));
}

// A membership that was under way brings nobody back.
#[test]
fn an_open_membership_change_of_the_old_epoch_never_comes_into_force() {
    let five = Membership::voters((1..=5).map(|node| (NodeId::new(node), "x"))).unwrap();
    let mut groups = survivor();
    let change = Record::Accepted { slot: Slot::new(9), id: id(7), value: Value::Membership(five) };
    groups.push(group(8, vec![change]));
    let disk = written(&groups);
    assert_eq!(force(&disk).unwrap().decided_through, Slot::new(9));
    let storage = storage_on(&disk);
    let mut log = restart(&storage).unwrap().log;
    alone(&log_of(&log), 1, "before a cut");
    // protocol 5: also not from the facts, behind which the entry still stands.
    log.apply(&trim::base_at(&log));
    block_on(storage.trim(Slot::new(5), log.facts())).unwrap();
    drop(storage);
    alone(&restart(&storage_on(&disk)).unwrap(), 1, "after a cut");
}

fn log_of(log: &Log) -> Recovered {
    Recovered {
        owner: Owner { epoch: 1, ..owner() },
        disk: DiskId(1),
        incarnations: Vec::new(),
        bootstrap: None,
        sequence: Sequence::default(),
        log: log.clone(),
    }
}

// protocol 6.1, 10.2: the record of the force stays in the journal behind a cut; what was changed since then holds.
#[test]
fn a_member_that_was_added_after_the_force_stays_when_the_log_is_cut() {
    let disk = written(&survivor());
    force(&disk).unwrap();
    let storage = storage_on(&disk);
    let mut log = restart(&storage).unwrap().log;
    let mut members = log.memberships().unwrap().newest().unwrap().members().clone();
    members.insert(NodeId::new(7), Member { kind: MemberKind::Voter, address: "node-7:1".to_owned() });
    let two = log.memberships().unwrap().newest().unwrap().with_members(members).unwrap();
    let records = vec![
        Record::Accepted { slot: Slot::new(9), id: id(50), value: Value::Membership(two.clone()) },
        Record::Watermark { id: id(50), through: Slot::new(9) },
    ];
    records.iter().for_each(|record| log.apply(record));
    let based = trim::base_at(&log);
    log.apply(&based);
    block_on(storage.append(group(20, records))).unwrap();
    block_on(storage.append(group(21, vec![based]))).unwrap();
    block_on(storage.trim(Slot::new(9), log.facts())).unwrap();
    for recovered in [block_on(storage.recover()).unwrap(), {
        drop(storage);
        restart(&storage_on(&disk)).unwrap()
    }] {
        let memberships = recovered.log.memberships().unwrap();
        assert_eq!(memberships.newest(), Some(&two), "a node that counts alone by an older membership");
        assert_eq!(memberships, log.memberships().unwrap());
        assert_eq!(recovered.owner.epoch, 1);
    }
}

// fault F4: all of it or nothing, at any call; never the new epoch with the old quorum.
#[test]
fn a_crash_at_any_call_leaves_the_old_membership_or_the_forced_one() {
    let groups = survivor();
    let before = written(&groups);
    let whole = before.copy();
    force(&whole).unwrap();
    let (mut old, mut forced) = (0, 0);
    for operation in before.operations()..whole.operations() {
        for fault in
            [Fault::PowerOff, Fault::PowerOffAfter, Fault::Torn(64), Fault::Error(std::io::ErrorKind::Other)]
        {
            for unsynced in [Unsynced::Lost, Unsynced::Kept, Unsynced::Some(operation)] {
                let disk = before.copy();
                disk.fault_at(operation, fault);
                let result = force(&disk);
                disk.power_cut(unsynced);
                let what = format!("{fault:?} at call {operation}, {unsynced:?}");
                let recovered =
                    restart(&storage_on(&disk)).unwrap_or_else(|error| panic!("{what}: {error:?}"));
                if recovered.owner.epoch == 0 {
                    assert!(result.is_err(), "{what}");
                    assert_eq!(recovered.log, fold(&groups, groups.len()), "{what}");
                    old += 1;
                } else {
                    alone(&recovered, 1, &what);
                    forced += 1;
                }
                // An operator who saw an error calls again.
                disk.power_cut(Unsynced::Lost);
                let again = force(&disk).unwrap();
                assert_eq!(again.owner.epoch, recovered.owner.epoch + 1, "{what}");
                alone(&restart(&storage_on(&disk)).unwrap(), again.owner.epoch, &what);
            }
        }
    }
    assert!(old > 20 && forced > 20, "{old} old and {forced} forced");
}

// issue 3, bad input
#[test]
fn a_live_node_is_not_forced() {
    let directory = tempfile::tempdir().unwrap();
    let storage = FileStorage::at(directory.path());
    bootstrap(&storage).unwrap();
    survivor().into_iter().for_each(|group| block_on(storage.append(group)).unwrap());
    let other = FileStorage::at(directory.path());
    for storage in [&storage, &other] {
        let refused = storage.force_membership(&owner().cluster, NODE);
        assert!(matches!(refused, Err(ForceError::Storage(StorageError::Locked { .. }))), "{refused:?}");
    }
    block_on(storage.append(group(20, vec![accepted(20, 9)]))).unwrap();
    block_on(storage.close()).unwrap();
    assert_eq!(other.force_membership(&owner().cluster, NODE).unwrap().decided_through, Slot::new(20));
    // A node that is started as it always was takes the epoch that it finds.
    alone(&restart(&storage).unwrap(), 1, "a real disk");
    let refused = block_on(other.open(owner(), Start::Restart));
    assert!(matches!(refused, Err(StorageError::Locked { .. })));
}

#[test]
fn a_directory_that_nothing_can_go_on_from_is_refused() {
    let refused = |disk: &SimulatedDisk| force(disk).unwrap_err();
    assert!(matches!(refused(&SimulatedDisk::new(3)), ForceError::Storage(StorageError::Empty { .. })));
    assert!(matches!(refused(&written(&[])), ForceError::NotFormed));
    let disk = written(&survivor());
    let storage = storage_on(&disk);
    for (cluster, node) in [("other", NODE), ("durability", NodeId::new(2))] {
        let found = storage.force_membership(&ClusterId::new(cluster).unwrap(), node);
        assert!(matches!(found, Err(ForceError::Storage(StorageError::WrongOwner { .. }))), "{found:?}");
    }
    let with = |kind: Option<MemberKind>| {
        let mut members = members().members().clone();
        members.remove(&NODE);
        members.extend(kind.map(|kind| (NODE, Member { kind, address: String::new() })));
        let membership = Membership::new(members, 64).unwrap();
        written(&[group(1, vec![Record::Formed { membership, disks: BTreeMap::new() }])])
    };
    assert!(matches!(refused(&with(Some(MemberKind::Witness))), ForceError::Witness));
    assert!(matches!(refused(&with(None)), ForceError::NotAMember));
    assert!(force(&with(Some(MemberKind::Observer))).is_ok(), "an observer holds the state");
}
