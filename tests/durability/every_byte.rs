//! A directory of 64 KiB: every byte of it flipped, its end zeroed, its segments exchanged, its files cut at every sector.

use super::mixed::{Step, Taker, content_of, fold_of, mixed};
use super::*;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use synod::storage::journal::Damage;

const DIRECTORY_BYTES: usize = 64 << 10;

/// What was written, what is true of it, and the files that hold it: an identity, a journal, a checkpoint, a snapshot.
struct Written {
    files: BTreeMap<PathBuf, Vec<u8>>,
    steps: Vec<Step>,
    /// What a start on the undamaged files finds.
    clean: Recovered,
    truth: Log,
    newest: BTreeMap<Slot, Value>,
}

impl Written {
    /// The same as it was when the newest write was `sequence`.
    fn until(&self, sequence: Sequence) -> Self {
        let is_later = |step: &Step| matches!(step, Step::Append(group) if group.sequence > sequence);
        let count = self.steps.iter().position(is_later).unwrap_or(self.steps.len());
        Self::of(self.files.clone(), self.steps[..count].to_vec(), self.clean.clone())
    }

    fn of(files: BTreeMap<PathBuf, Vec<u8>>, steps: Vec<Step>, clean: Recovered) -> Self {
        let mut newest = BTreeMap::new();
        for step in &steps {
            let Step::Append(group) = step else { continue };
            for record in &group.records {
                if let Record::Accepted { slot, value, .. } | Record::Chosen { slot, value } = record {
                    newest.insert(*slot, value.clone());
                }
            }
        }
        Self { files, truth: fold_of(&steps, steps.len()), steps, clean, newest }
    }
}

fn written() -> Written {
    let (disk, mut steps) = (SimulatedDisk::new(3), mixed(110));
    // What is left of the journal is long: it is cut once only.
    let last = steps.iter().rposition(|step| matches!(step, Step::Trim)).unwrap();
    let entry = |nth| Record::Accepted { slot: Slot::new(200 + nth), id: id(50), value: value(900, nth) };
    let more = (0..).map(|nth| group(1000 + nth, vec![entry(nth)]));
    steps.truncate(last + 1);
    let open = || Arc::new(disk.clone()) as Arc<dyn Disk>;
    let mut taker = Taker::new(&open);
    taker.open().unwrap();
    steps.iter().for_each(|step| taker.take(step).unwrap());
    let size = |disk: &SimulatedDisk| disk.files().values().map(Vec::len).sum::<usize>();
    for group in more.take(200) {
        if size(&disk) >= DIRECTORY_BYTES + (8 << 10) {
            break;
        }
        let step = Step::Append(group);
        taker.take(&step).unwrap();
        steps.push(step);
    }
    block_on(taker.storage.take().unwrap().close()).unwrap();
    // What no base names goes at a start.
    let storage = storage_on(&disk);
    restart(&storage).unwrap();
    block_on(storage.close()).unwrap();
    drop(storage);
    let files = disk.files();
    let has = |what: &str| files.keys().any(|path| path.to_string_lossy().contains(what));
    assert!(["journal-", "checkpoint", "identity", ".sealed"].into_iter().all(has), "{:?}", files.keys());
    assert!(size(&disk) >= DIRECTORY_BYTES);
    let clean = restart(&storage_on(&disk_of(&files))).unwrap();
    Written::of(files, steps, clean)
}

fn disk_of(files: &BTreeMap<PathBuf, Vec<u8>>) -> SimulatedDisk {
    let disk = SimulatedDisk::new(9);
    Disk::create_dir(&disk, Path::new(DIR)).unwrap();
    files.iter().for_each(|(path, content)| disk.put(path, content));
    disk
}

/// How a start on a damaged place ended. None of them takes for true what is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    /// The place was refused.
    Refused,
    /// It started and said what is damaged: slots unknown, an abstention, a snapshot that is no more.
    Noticed,
    /// Everything is as if nothing had happened.
    Whole,
}

/// Opens what is there and reads all of it: nothing that is said may differ from what was written.
fn judge(disk: &SimulatedDisk, written: &Written, what: &str) -> Outcome {
    judge_cut(disk, written, false, what)
}

/// The same where `is_cut` says that the newest writes may be gone.
fn judge_cut(disk: &SimulatedDisk, written: &Written, is_cut: bool, what: &str) -> Outcome {
    let opened = catch_unwind(AssertUnwindSafe(|| {
        let storage = storage_on(disk);
        restart(&storage).map(|recovered| (storage, recovered))
    }));
    let (storage, recovered) = match opened.unwrap_or_else(|_| panic!("{what}: a panic")) {
        Err(StorageError::Corrupt { .. } | StorageError::UnknownFormat { .. }) => return Outcome::Refused,
        opened => opened.unwrap_or_else(|error| panic!("{what}: {error:?}")),
    };
    // The newest writes are gone with all that spoke of them: an earlier state, and its number says so to the peers
    // (protocol 9.4).
    let earlier = is_cut.then(|| written.until(recovered.sequence));
    let is_earlier = earlier.as_ref().is_some_and(|earlier| earlier.steps.len() < written.steps.len());
    let written = earlier.as_ref().unwrap_or(written);
    let (log, truth) = (&recovered.log, &written.truth);
    let mut noticed = is_earlier || !storage.damage().is_empty();
    let abstains = log.abstains().is_some();
    assert!(!abstains || storage.damage().contains(&Damage::InDoubt), "{what}: abstains for no reason");
    assert!(abstains || log.promised() >= truth.promised(), "{what}: the promise went down"); // fault F7
    assert!(abstains || log.base() == truth.base(), "{what}: the base went down");
    assert!(log.chosen_through() <= truth.chosen_through(), "{what}: more is chosen than was");
    // What it knows of itself and of others is what it was, or it votes no more.
    let clean = &written.clean;
    let is_itself = (&recovered.owner, recovered.disk) == (&clean.owner, clean.disk);
    assert!(is_itself && recovered.bootstrap == clean.bootstrap, "{what}: it is another node");
    assert!(abstains || is_earlier || recovered.sequence == clean.sequence, "{what}: a write is gone");
    assert!(abstains || log.memberships() == truth.memberships(), "{what}: others vote");
    for peer in (1..=9).map(NodeId::new) {
        let (memory, known) = (log.peer(peer), truth.peer(peer));
        assert!(abstains || memory == known, "{what}: {peer} is remembered as {memory:?}, was {known:?}");
        assert!(
            abstains || log.formed_disk(peer) == truth.formed_disk(peer),
            "{what}: another disk of {peer}"
        );
    }
    for (slot, value) in written.newest.range(log.chosen_through().next()..) {
        // Of what may still be chosen the id counts as much as the value.
        let was = truth.entry(*slot).map(|entry| entry.id);
        let kept = log.entry(*slot).is_some_and(|entry| {
            entry.value == *value
                && (was.is_none() || *slot <= truth.chosen_through() || Some(entry.id) == was)
        });
        // fault F9: never "nothing accepted".
        assert!(abstains || kept || log.is_unknown(*slot), "{what}: {slot} says something else");
    }
    let mut next = Slot::FIRST;
    while next <= Slot::new(500) {
        match block_on(storage.read(next..Slot::new(501), 1 << 20)) {
            Ok(page) => {
                for (slot, entry) in &page {
                    let is_older = log.is_unknown(*slot) || abstains;
                    assert!(
                        is_older || written.newest.get(slot) == Some(&entry.value),
                        "{what}: {slot} reads another"
                    );
                }
                next = page.last().map_or(next, |(slot, _)| *slot).next();
                if page.is_empty() {
                    let later = written.newest.range(next..).next();
                    next = later.map_or(Slot::new(501), |(slot, _)| *slot);
                }
            }
            Err(StorageError::Corrupt { .. }) => {
                noticed = true;
                next = next.next();
            }
            Err(error) => panic!("{what}: {error:?}"),
        }
    }
    let snapshot = truth.base().unwrap().snapshot.unwrap();
    match snapshots::read(&storage, snapshot) {
        Ok(content) => {
            assert!(content == content_of(snapshot.through), "{what}: the snapshot reads other bytes")
        }
        // fault F10
        Err(StorageError::Corrupt { .. } | StorageError::UnknownFormat { .. } | StorageError::NoSnapshot) => {
            noticed = true
        }
        Err(error) => panic!("{what}: {error:?}"),
    }
    if noticed || log.has_unknown() || abstains {
        return Outcome::Noticed;
    }
    // Nothing is missed, so nothing may be missing.
    let found = (&recovered.incarnations, recovered.sequence, log);
    assert!(
        found == (&clean.incarnations, clean.sequence, &clean.log),
        "{what}: unnoticed, and not as it was"
    );
    Outcome::Whole
}

/// Where the zeros begin that fill a file up, and everything between groups that is zero.
fn is_padding(content: &[u8], offset: usize) -> bool {
    content[offset] == 0
}

// scenario D7, faults F5 to F12
#[test]
fn every_byte_of_a_directory_of_64_kib_is_detected_or_stands_in_zeros() {
    let written = written();
    let places: Vec<(&PathBuf, usize)> = written
        .files
        .iter()
        .flat_map(|(path, content)| (0..content.len()).map(move |at| (path, at)))
        .collect();
    assert!(judge(&disk_of(&written.files), &written, "nothing flipped") == Outcome::Whole);
    let counts = std::thread::scope(|scope| {
        let halves = [0, 1].map(|half| {
            let (written, places) = (&written, &places);
            scope.spawn(move || {
                let mut counts = BTreeMap::new();
                for (path, at) in places.iter().skip(half).step_by(2) {
                    let disk = disk_of(&written.files);
                    disk.flip(path, *at, if at % 4 < 2 { 0x01 } else { 0x80 });
                    let what = format!("{} flipped at {at}", path.display());
                    let outcome = judge(&disk, written, &what);
                    // Bytes that nobody wrote anything to. They hold nothing, so nothing can be taken for true.
                    let harmless = is_padding(&written.files[*path], *at);
                    assert!(outcome != Outcome::Whole || harmless, "{what}: undetected");
                    *counts.entry(outcome).or_insert(0_usize) += 1;
                }
                counts
            })
        });
        let [mut first, second] = halves.map(|half| half.join().unwrap());
        second.into_iter().for_each(|(outcome, count)| *first.entry(outcome).or_insert(0) += count);
        first
    });
    println!("{} bytes flipped: {counts:?}", places.len());
    assert!(places.len() >= DIRECTORY_BYTES && counts.values().sum::<usize>() == places.len());
}

// scenario D8, faults F5, F11: the last records are zeros, of any length.
#[test]
fn zeros_in_place_of_the_last_records_are_never_taken_for_an_earlier_state() {
    let written = written();
    let is_segment = |path: &&PathBuf| path.to_string_lossy().contains("journal-");
    let used = |path: &&PathBuf| written.files[*path][64..].iter().any(|byte| *byte != 0);
    let last = written.files.keys().filter(is_segment).rfind(used).unwrap();
    let end = written.files[last].iter().rposition(|byte| *byte != 0).unwrap() + 1;
    for from in (64..end).rev().step_by(16) {
        let disk = disk_of(&written.files);
        disk.edit(last, |content| content[from..].fill(0));
        judge_cut(&disk, &written, true, &format!("zeros from {from} on"));
    }
}

// fault F12: whole segments where another belongs.
#[test]
fn segments_that_are_exchanged_are_refused_or_noticed() {
    let written = written();
    let segments: Vec<&PathBuf> =
        written.files.keys().filter(|path| path.to_string_lossy().contains("journal-")).collect();
    assert!(segments.len() >= 4);
    for (nth, one) in segments.iter().enumerate() {
        for other in &segments[nth + 1..] {
            let disk = disk_of(&written.files);
            disk.put(one, &written.files[*other]);
            disk.put(other, &written.files[*one]);
            let what = format!("{} and {} exchanged", one.display(), other.display());
            assert!(judge(&disk, &written, &what) != Outcome::Whole, "{what}");
        }
    }
}

// scenario D7: a file that ends too early.
#[test]
fn a_file_that_ends_at_any_sector_is_refused_or_noticed_or_lost_only_zeros() {
    let written = written();
    let mut cuts = 0;
    for (path, content) in &written.files {
        for length in (0..content.len()).step_by(512) {
            let disk = disk_of(&written.files);
            disk.edit(path, |content| content.truncate(length));
            let what = format!("{} cut at {length}", path.display());
            let outcome = judge_cut(&disk, &written, true, &what);
            let only_zeros = content[length..].iter().all(|byte| *byte == 0);
            assert!(outcome != Outcome::Whole || only_zeros, "{what}: undetected");
            cuts += 1;
        }
    }
    assert!(cuts >= 128, "{cuts}");
}
