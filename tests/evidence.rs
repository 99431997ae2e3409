//! The table in `tests/README.md`: every fault and every scenario, with the tests that name it.
//!
//! A test names what it proves in a comment above it or in it: `// protocol 1.2, faults F1 to F3, scenario D9`. This test gathers
//! these comments and compares them with the table, so that no row is without a test and none tells of a test that has gone.
//! `SYNOD_BLESS=1 cargo test --test evidence` writes the last column anew.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// What the fault model and the scenarios count to, by letter.
const IDS: [(char, u32); 8] =
    [('F', 41), ('A', 10), ('M', 10), ('D', 13), ('L', 7), ('N', 7), ('S', 9), ('O', 6)];
/// Where tests are.
const ROOMS: [&str; 4] = ["tests", "src", "transports", "examples"];

/// A test, by its place and its name.
type Test = (String, String);

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn sources(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
            sources(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

fn as_id(word: &str) -> Option<(char, u32)> {
    let (letter, number) = word.split_at_checked(1)?;
    let letter = letter.chars().next().filter(char::is_ascii_uppercase)?;
    Some((letter, number.parse().ok()?))
}

/// The ids that a comment names after the word "fault" or "scenario".
fn named(comment: &str) -> Vec<(char, u32)> {
    let mut ids = Vec::new();
    let (mut listening, mut range) = (false, None);
    for word in comment.split([' ', ',', '.', ';', ':', '(', ')']).filter(|word| !word.is_empty()) {
        match (word, as_id(word)) {
            ("fault" | "faults" | "scenario" | "scenarios", _) => listening = true,
            ("and", _) => {}
            ("to", _) => range = ids.last().copied().filter(|_| listening),
            (_, Some((letter, number))) if listening => {
                let first = range.take().map_or(number, |(_, from)| from + 1);
                ids.extend((first..=number).map(|number| (letter, number)));
            }
            _ => (listening, range) = (false, None),
        }
    }
    ids
}

fn function(line: &str) -> Option<&str> {
    let line = line.trim_start();
    let line = line.strip_prefix("async ").unwrap_or(line);
    line.strip_prefix("fn ")?.split(['(', '<']).next()
}

fn note(evidence: &mut BTreeMap<(char, u32), Vec<Test>>, id: (char, u32), test: &Test) {
    let tests = evidence.entry(id).or_default();
    if !tests.contains(test) {
        tests.push(test.clone());
    }
}

/// The tests that name each id, right above them or in them.
fn evidence() -> BTreeMap<(char, u32), Vec<Test>> {
    let mut files = Vec::new();
    ROOMS.iter().for_each(|room| sources(&root().join(room), &mut files));
    files.sort();
    let mut evidence: BTreeMap<_, Vec<Test>> = BTreeMap::new();
    for file in files {
        let place = file.strip_prefix(root()).unwrap().display().to_string();
        let text = std::fs::read_to_string(&file).unwrap();
        let (mut ids, mut is_test) = (Vec::new(), false);
        // The test that one is in, and how its last line looks.
        let mut inside: Option<(Test, String)> = None;
        for line in text.lines() {
            let code = line.trim_start();
            let comment = code.strip_prefix("// ").map(named).unwrap_or_default();
            if let Some((test, end)) = &inside {
                comment.into_iter().for_each(|id| note(&mut evidence, id, test));
                if line == end {
                    inside = None;
                }
            } else if code.starts_with("//") {
                ids.extend(comment);
            } else if code.starts_with("#[") {
                is_test |= code.contains("test]") || code.contains("test(");
            } else {
                if let Some(name) = function(code).filter(|_| is_test) {
                    let test = (place.clone(), name.to_owned());
                    ids.iter().for_each(|id| note(&mut evidence, *id, &test));
                    let indentation = &line[..line.len() - code.len()];
                    inside = Some((test, format!("{indentation}}}")));
                }
                (ids, is_test) = (Vec::new(), false);
            }
        }
    }
    evidence
}

/// The tests as the last column has them: what each asserts is its name.
fn cell(tests: &[Test]) -> String {
    let mut cell = String::new();
    for (place, name) in tests {
        let gap = if cell.is_empty() { "" } else { "<br>" };
        write!(cell, "{gap}{} (`{place}`)", name.replace('_', " ")).unwrap();
    }
    cell
}

#[test]
fn every_fault_and_scenario_stands_in_the_table_with_the_tests_that_name_it() {
    let path = root().join("tests/README.md");
    let table = std::fs::read_to_string(&path).unwrap();
    let evidence = evidence();
    let mut missing: Vec<(char, u32)> =
        IDS.iter().flat_map(|(letter, count)| (1..=*count).map(|number| (*letter, number))).collect();
    let mut without = Vec::new();
    let mut renewed = String::new();
    for line in table.lines() {
        let columns: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        match (columns.first().and_then(|id| as_id(id)), columns.as_slice()) {
            (Some(id), [name, what, tests]) => {
                missing.retain(|missing| *missing != id);
                let found = evidence.get(&id).map(|tests| cell(tests));
                if found.is_none() && !tests.starts_with("not promised") {
                    without.push((*name).to_owned());
                }
                let tests = found.unwrap_or_else(|| (*tests).to_owned());
                writeln!(renewed, "| {name} | {what} | {tests} |").unwrap();
            }
            _ => writeln!(renewed, "{line}").unwrap(),
        }
    }
    assert!(missing.is_empty(), "no row in the table: {missing:?}");
    if std::env::var_os("SYNOD_BLESS").is_some() {
        std::fs::write(&path, &renewed).unwrap();
    } else {
        assert!(renewed == table, "the table is out of date: SYNOD_BLESS=1 cargo test --test evidence");
    }
    assert!(without.is_empty(), "no test names {without:?}");
}

#[test]
fn a_comment_names_lists_and_ranges_and_nothing_of_the_ancestor() {
    let ids = named("protocol 1.2, faults F1 to F3 and F9, scenario D6, defect B18");
    assert_eq!(ids, [('F', 1), ('F', 2), ('F', 3), ('F', 9), ('D', 6)]);
    assert_eq!(named("seed F05: the fault is elsewhere, see A1"), []);
}
