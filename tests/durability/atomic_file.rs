//! The atomically replaced file: the cases of the ancestor's durable object, and its defects.

use super::*;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use synod::storage::atomic_file::{AtomicFile, AtomicFileError};
use synod::storage::disk::{Fault, Operation, RealDisk, RecordedDisk, Unsynced};

type Text = AtomicFile<String>;

struct Room {
    directory: tempfile::TempDir,
}

impl Room {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("state")
    }

    fn open(&self) -> Result<Text, AtomicFileError> {
        Text::open(self.path())
    }

    /// A room whose file was saved these times.
    fn saved(values: &[&str]) -> Self {
        let room = Self::new();
        let mut file = room.open().unwrap();
        values.iter().for_each(|value| file.save(&(*value).to_owned()).unwrap());
        room
    }

    fn load(&self) -> Result<Option<String>, AtomicFileError> {
        self.open()?.load()
    }
}

// seed D01: K
#[test]
fn an_empty_file_is_truncated() {
    let room = Room::new();
    fs::write(room.path(), b"").unwrap();
    assert!(matches!(room.open(), Err(AtomicFileError::Truncated { found: 0, .. })));
}

// seed D02: K
#[test]
fn a_file_shorter_than_a_header_is_truncated() {
    let room = Room::saved(&["value"]);
    let bytes = fs::read(room.path()).unwrap();
    fs::write(room.path(), &bytes[..31]).unwrap();
    assert!(matches!(room.open(), Err(AtomicFileError::Truncated { found: 31, .. })));
}

// seed D03: K
#[test]
fn a_header_without_the_data_that_it_announces_is_truncated() {
    let room = Room::saved(&["data"]);
    let bytes = fs::read(room.path()).unwrap();
    fs::write(room.path(), &bytes[..36]).unwrap();
    assert!(matches!(room.open(), Err(AtomicFileError::Truncated { found: 36, expected: 41, .. })));
}

// seed D04: K
#[test]
fn a_wrong_digest_is_a_mismatch() {
    let room = Room::saved(&["value"]);
    let mut bytes = fs::read(room.path()).unwrap();
    bytes[32] ^= 1;
    fs::write(room.path(), &bytes).unwrap();
    assert!(matches!(room.open(), Err(AtomicFileError::ChecksumMismatch { .. })));
}

// seed D05: K; the serial is in the header
#[test]
fn a_well_formed_file_is_read() {
    let room = Room::saved(&["value"]);
    let file = room.open().unwrap();
    assert_eq!((file.serial(), file.load().unwrap().as_deref()), (1, Some("value")));
}

// seed D06: K
#[test]
fn opening_in_a_missing_directory_fails() {
    let room = Room::new();
    let opened = Text::open(room.directory.path().join("missing").join("state"));
    assert!(
        matches!(opened, Err(AtomicFileError::Io { source, .. }) if source.kind() == ErrorKind::NotFound)
    );
}

// seed D07: K; the serial is in the header
#[test]
fn nothing_saved_is_nothing_recovered() {
    let room = Room::new();
    drop(room.open().unwrap());
    let file = room.open().unwrap();
    assert_eq!((file.load().unwrap(), file.serial()), (None, 0));
}

// seed D08: K*, one file in place of two
#[test]
fn one_save_is_recovered() {
    assert_eq!(Room::saved(&["first"]).load().unwrap().as_deref(), Some("first"));
}

// seed D09: K*, one file in place of two
#[test]
fn the_second_save_is_recovered_and_a_leftover_temporary_file_removed() {
    let room = Room::saved(&["first", "second"]);
    let temp = room.directory.path().join(".state-crashed.tmp");
    fs::write(&temp, b"half a val").unwrap();
    assert_eq!(room.load().unwrap().as_deref(), Some("second"));
    assert!(!temp.exists());
}

// seed D10: K
#[test]
fn the_third_save_is_recovered() {
    assert_eq!(Room::saved(&["first", "second", "third"]).load().unwrap().as_deref(), Some("third"));
}

// seed D11: X, the seed falls back to the state before: a promise taken back
#[test]
fn a_damaged_newest_state_is_refused_and_never_replaced_by_an_older_one() {
    let room = Room::saved(&["initial", "second"]);
    let whole = fs::read(room.path()).unwrap();
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x20;
        fs::write(room.path(), &bytes).unwrap();
        assert!(room.open().is_err(), "byte {at}");
        assert_eq!(fs::read(room.path()).unwrap(), bytes, "left as it is");
    }
}

// seed D12: K*, the older file is a temporary one here
#[test]
fn a_damaged_temporary_file_changes_nothing() {
    let room = Room::saved(&["newest"]);
    let mut damaged = fs::read(room.path()).unwrap();
    damaged[33] ^= 1;
    fs::write(room.directory.path().join(".state-1.tmp"), damaged).unwrap();
    assert_eq!(room.load().unwrap().as_deref(), Some("newest"));
}

// seed D13: K*, the one file damaged is unrecoverable
#[test]
fn damage_is_unrecoverable() {
    let room = Room::saved(&["first", "second"]);
    let mut bytes = fs::read(room.path()).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(room.path(), bytes).unwrap();
    assert!(matches!(room.open(), Err(AtomicFileError::ChecksumMismatch { .. })));
    assert!(matches!(room.open(), Err(AtomicFileError::ChecksumMismatch { .. })));
}

// defect B7
#[test]
fn two_failed_saves_leave_the_only_good_copy() {
    for failing in 0..4 {
        let disk = SimulatedDisk::new(1);
        disk.create_dir(Path::new(DIR)).unwrap();
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        let path = Path::new(DIR).join("state");
        let mut file = Text::open_on(Arc::clone(&shared), &path).unwrap();
        file.save(&"good".to_owned()).unwrap();
        disk.fault_at(disk.operations() + failing, Fault::Error(ErrorKind::Other));
        assert!(matches!(file.save(&"lost".to_owned()), Err(AtomicFileError::Io { .. })));
        assert!(matches!(file.save(&"lost".to_owned()), Err(AtomicFileError::Poisoned { .. })));
        disk.power_cut(Unsynced::Lost);
        assert_eq!(Text::open_on(shared, &path).unwrap().load().unwrap().as_deref(), Some("good"));
    }
}

// fault F4, defect B18
#[test]
fn a_crash_at_any_call_leaves_the_old_value_or_the_new_one_whole() {
    for operation in 0..5 {
        for fault in [Fault::PowerOff, Fault::PowerOffAfter, Fault::Torn(20), Fault::Short(7)] {
            for unsynced in [Unsynced::Lost, Unsynced::Kept, Unsynced::Some(operation), Unsynced::Some(99)] {
                let disk = SimulatedDisk::new(1);
                disk.create_dir(Path::new(DIR)).unwrap();
                let shared: Arc<dyn Disk> = Arc::new(disk.clone());
                let path = Path::new(DIR).join("state");
                let mut file = Text::open_on(Arc::clone(&shared), &path).unwrap();
                file.save(&"old".to_owned()).unwrap();
                disk.fault_at(disk.operations() + operation, fault);
                let saved = file.save(&"new".to_owned());
                disk.power_cut(unsynced);
                let file = Text::open_on(shared, &path).unwrap();
                file.clean().unwrap();
                let found = file.load().unwrap().unwrap();
                assert!(
                    found == "new" || (found == "old" && saved.is_err()),
                    "{fault:?} at {operation}: {found}"
                );
                assert_eq!(disk.files().len(), 1, "temporary files are removed");
            }
        }
    }
}

// scenario D6
#[test]
fn the_file_is_flushed_before_the_rename_and_the_directory_after_it() {
    let room = Room::new();
    let recorded = RecordedDisk::new(Arc::new(RealDisk));
    let mut file = Text::open_on(Arc::new(recorded.clone()), room.path()).unwrap();
    file.save(&"value".to_owned()).unwrap();
    let operations = recorded.take();
    let [
        Operation::CreateTemp(created),
        Operation::Write { path: written, offset: 0, .. },
        Operation::SyncData(flushed),
        Operation::Rename { from, to },
        Operation::SyncDir(directory),
    ] = operations.as_slice()
    else {
        panic!("{operations:?}")
    };
    assert!(created == written && written == flushed && flushed == from);
    assert_eq!((to, directory.as_path()), (&room.path(), room.directory.path()));
}

// defect B9
#[test]
fn a_file_is_open_once_at_a_time() {
    let room = Room::saved(&["promise 9"]);
    let first = room.open().unwrap();
    assert!(matches!(room.open(), Err(AtomicFileError::Locked { .. })));
    drop(first);
    assert_eq!(room.load().unwrap().as_deref(), Some("promise 9"));
}

#[test]
fn a_file_of_any_length_allocates_no_more_than_is_allowed() {
    let room = Room::new();
    fs::File::create(room.path()).unwrap().set_len(1 << 40).unwrap();
    assert!(matches!(room.open(), Err(AtomicFileError::Oversize { .. })));
    let room = Room::saved(&["value"]);
    let mut file = room.open().unwrap();
    let refused = file.save(&"x".repeat(17 << 20));
    assert!(matches!(refused, Err(AtomicFileError::Oversize { .. })));
    file.save(&"what fits is still saved".to_owned()).unwrap();
}

#[cfg(unix)]
#[test]
fn only_the_owner_can_read_it() {
    use std::os::unix::fs::PermissionsExt;
    let room = Room::saved(&["value"]);
    assert_eq!(fs::metadata(room.path()).unwrap().permissions().mode() & 0o777, 0o600);
}
