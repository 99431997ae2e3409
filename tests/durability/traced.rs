//! The order of the system calls as the kernel saw them: this program runs itself under `strace`.

use super::outcomes::{Call, check_order};
use super::*;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

const PLACE: &str = "SYNOD_TRACED_PLACE";
const REPLY: &str = "REPLIED";

/// What is traced: it does nothing unless the test below runs it.
#[test]
fn the_program_that_is_traced() {
    let Ok(place) = std::env::var(PLACE) else { return };
    let storage = FileStorage::at(Path::new(&place).join("node")).segment_bytes(4 << 10).inline();
    bootstrap(&storage).unwrap();
    let mut log = Log::default();
    for written in workload(40) {
        written.records.iter().for_each(|record| log.apply(record));
        let sequence = written.sequence.0;
        block_on(storage.append(written)).unwrap();
        eprintln!("{REPLY}");
        if sequence % 10 == 0 {
            let content = snapshots::content(sequence, 3000);
            snapshots::write(&storage, sequence, &content, false).unwrap();
            eprintln!("{REPLY}");
            block_on(storage.trim(Slot::ZERO, log.facts())).unwrap();
            eprintln!("{REPLY}");
        }
    }
    block_on(storage.close()).unwrap();
}

/// The lines of a trace, those that were interrupted put together where they ended.
fn lines(trace: &str) -> Vec<String> {
    let mut begun: BTreeMap<&str, &str> = BTreeMap::new();
    let mut lines = Vec::new();
    for line in trace.lines() {
        let Some((process, call)) = line.split_once(' ') else { continue };
        let call = call.trim_start();
        if let Some(start) = call.strip_suffix("<unfinished ...>") {
            begun.insert(process, start);
        } else if let Some((_, rest)) =
            call.strip_prefix("<... ").and_then(|rest| rest.split_once("resumed>"))
        {
            lines.push(format!("{}{rest}", begun.remove(process).unwrap_or_default()));
        } else {
            lines.push(call.to_owned());
        }
    }
    lines
}

/// What `line` did in `dir`, if it succeeded.
fn call_of(line: &str, dir: &Path) -> Option<Call> {
    let (name, rest) = line.split_once('(')?;
    if line.contains(" = -1 ") {
        return None;
    }
    let file = || {
        Some(PathBuf::from(rest.split_once('<')?.1.split_once('>')?.0)).filter(|file| file.starts_with(dir))
    };
    match name {
        "write" if rest.contains(REPLY) => Some(Call::Reply),
        "write" | "pwrite64" => file().map(Call::Write),
        "fsync" | "fdatasync" => {
            file().map(|file| if file == dir { Call::FlushDir(file) } else { Call::Flush(file) })
        }
        "rename" | "renameat" | "renameat2" => {
            let mut quoted = rest.split('"').skip(1).step_by(2).map(PathBuf::from);
            let (from, to) = (quoted.next()?, quoted.next()?);
            to.starts_with(dir).then_some(Call::Rename(from, to))
        }
        _ => None,
    }
}

// scenario D6, once for real
#[test]
fn under_strace_a_reply_follows_the_flush_and_a_rename_stands_between_two() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().canonicalize().unwrap();
    let trace = path.join("trace");
    let traced = Command::new("strace")
        .args(["-f", "-y", "-o"])
        .arg(&trace)
        .args(["-e", "trace=fdatasync,fsync,rename,renameat,renameat2,openat,pwrite64,write"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "traced::the_program_that_is_traced", "--nocapture"])
        .env(PLACE, &path)
        .output();
    let output = match traced {
        Ok(output) => output,
        Err(error) => return eprintln!("SKIPPED: no strace ({error})"),
    };
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() && said.to_lowercase().contains("ptrace") {
        return eprintln!("SKIPPED: no strace, the system permits no ptrace ({said})");
    }
    assert!(output.status.success(), "{said}");
    let trace = std::fs::read_to_string(&trace).unwrap();
    let dir = path.join("node");
    let calls: Vec<Call> = lines(&trace).iter().filter_map(|line| call_of(line, &dir)).collect();
    let count = |kind: fn(&Call) -> bool| calls.iter().filter(|call| kind(call)).count();
    let (renames, replies) = check_order(&calls);
    assert_eq!(replies, 48);
    assert!(renames >= 10, "identity, segments, checkpoints and snapshots: {renames}");
    assert!(count(|call| matches!(call, Call::Write(_))) >= 48, "{trace}");
    assert!(count(|call| matches!(call, Call::Flush(_))) >= 48, "a flush for each append");
    assert!(count(|call| matches!(call, Call::FlushDir(_))) >= 10);
}
