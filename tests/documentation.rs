//! Promises about the shape of the code itself: which way imports point, and what the core may not touch.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::path::{Path, PathBuf};

fn sources(below: &str) -> Vec<(PathBuf, String)> {
    let mut files = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(below)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                files.push((path, text));
            }
        }
    }
    assert!(!files.is_empty(), "no sources in {below}");
    files
}

/// The lines of `text` that are code: not comments, and not the tests at its foot.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .take_while(|line| !line.contains("#[cfg(test)]"))
        .enumerate()
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
}

fn assert_absent(rooms: &[&str], words: &[&str]) {
    for room in rooms {
        for (path, text) in sources(room) {
            for (number, line) in code(&text) {
                for word in words {
                    assert!(
                        !line.contains(word),
                        "{}:{}: `{word}` has no place here",
                        path.display(),
                        number + 1
                    );
                }
            }
        }
    }
}

#[test]
fn the_core_holds_no_clock_randomness_thread_file_or_log() {
    let words = [
        "std::time::Instant",
        "SystemTime",
        "std::thread",
        "std::fs",
        "std::net",
        "std::io",
        "std::sync",
        "HashMap",
        "HashSet",
        "RandomState",
        "tracing",
        "println!",
        "eprintln!",
        "actix",
        "tokio",
        "async ",
    ];
    assert_absent(&["src/paxos", "src/multi", "src/election"], &words);
}

#[test]
fn imports_point_inward_only() {
    let outside = [
        "crate::storage",
        "crate::transport",
        "crate::timer",
        "crate::actors",
        "crate::node",
        "crate::codec",
    ];
    assert_absent(&["src/paxos", "src/multi", "src/election"], &outside);
    assert_absent(&["src/paxos"], &["crate::multi", "crate::election"]);
    assert_absent(&["src/storage"], &["crate::actors", "crate::node::", "actix"]);
}

#[test]
fn the_seams_name_no_actix_type() {
    for seam in ["src/transport.rs", "src/timer.rs", "src/storage/mod.rs"] {
        let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(seam)).unwrap();
        assert!(!code(&text).any(|(_, line)| line.contains("actix")), "{seam} names actix");
    }
}

#[test]
fn one_function_alone_appends_and_sends() {
    for (path, text) in sources("src/actors").into_iter().chain(sources("src/node")) {
        if path.ends_with("carry_out.rs") {
            continue;
        }
        for (number, line) in code(&text) {
            let does = line.contains("storage.append(") || line.contains("transport.send(");
            assert!(!does, "{}:{}: only carry_out.rs appends and sends", path.display(), number + 1);
        }
    }
}

#[test]
fn every_file_says_in_its_first_line_what_it_is_for() {
    for (path, text) in sources("src").into_iter().chain(sources("transports")) {
        assert!(text.starts_with("//! "), "{} does not say what it is for", path.display());
    }
}
