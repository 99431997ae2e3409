//! What a node cannot start with: exit code 2, and one line that says what to do.

#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use std::path::Path;
use std::process::{Command, Stdio};
use support::{Node, exit_code, kv, nodes};
use tempfile::TempDir;

#[track_caller]
fn refused(command: &mut Command, reason: &str, advice: &str) {
    let mut process = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let code = exit_code(&mut process);
    let stderr = String::from_utf8(process.wait_with_output().unwrap().stderr).unwrap();
    assert_eq!(code, Some(2), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    for part in ["kv: ", reason, advice] {
        assert!(stderr.contains(part), "{part:?} is not in {stderr:?}");
    }
}

/// A node that ran in the directory, and the directory.
fn used() -> (Node, TempDir) {
    let (dir, node) = (TempDir::new().unwrap(), nodes(1).remove(0));
    let running = node.start(dir.path()).ready();
    assert_eq!(running.send("PUT", "/kv/a", &[], b"1").status, 201);
    assert_eq!(running.terminate(), Some(0));
    (node, dir)
}

#[track_caller]
fn nothing_is_lost(node: &Node, dir: &Path) {
    assert_eq!(node.start(dir).ready().ask("GET", "/kv/a").body, b"1");
}

#[test]
fn an_empty_directory_is_not_taken_for_a_node() {
    let dir = TempDir::new().unwrap();
    let node = Node { flags: vec![], ..nodes(1).remove(0) };
    refused(&mut node.command(dir.path()), "holds no node", "--bootstrap");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "it is as empty as before");
}

#[test]
fn another_clusters_or_nodes_directory_is_left_alone() {
    let (node, dir) = used();
    let stranger = Node { cluster: "other", ..node.clone() };
    refused(&mut stranger.command(dir.path()), "of cluster test", "--cluster");
    let stranger = Node { id: 2, peers: vec![(2, node.listen)], ..node.clone() };
    refused(&mut stranger.command(dir.path()), "belongs to node 1", "--id");
    nothing_is_lost(&node, dir.path());
}

#[test]
fn a_used_directory_is_restarted_whatever_flag_is_left_in_the_command() {
    let (node, dir) = used();
    nothing_is_lost(&Node { flags: vec!["--join"], ..node.clone() }, dir.path());
    nothing_is_lost(&Node { flags: vec![], ..node.clone() }, dir.path());
    nothing_is_lost(&node, dir.path());
}

#[test]
fn a_second_process_on_a_directory_ends_and_the_first_goes_on() {
    let (dir, nodes) = (TempDir::new().unwrap(), nodes(2));
    let first = Node { peers: vec![nodes[0].peers[0]], ..nodes[0].clone() };
    let second = Node { listen: nodes[1].listen, http: nodes[1].http, ..first.clone() };
    let running = first.start(dir.path()).ready();
    refused(&mut second.command(dir.path()), "in use by another process", "--data");
    assert_eq!(running.send("PUT", "/kv/a", &[], b"1").status, 201);
}

#[test]
fn a_port_in_use_is_named() {
    let (dir, other) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let nodes = nodes(2);
    let first = Node { peers: vec![nodes[0].peers[0]], ..nodes[0].clone() };
    let second = Node { peers: vec![nodes[1].peers[1]], ..nodes[1].clone() };
    let _running = first.start(dir.path());
    let same_http = Node { http: first.http, ..second.clone() };
    refused(&mut same_http.command(other.path()), &format!("127.0.0.1:{}", first.http), "another address");
    let same_listen = Node { listen: first.listen, ..second };
    refused(
        &mut same_listen.command(other.path()),
        &format!("127.0.0.1:{}", first.listen),
        "another address",
    );
}

#[test]
fn a_membership_names_each_node_once_and_this_one_among_them() {
    let dir = TempDir::new().unwrap();
    let node = nodes(2).remove(0);
    let stranger = Node { id: 3, ..node.clone() };
    refused(&mut stranger.command(dir.path()), "node 3", "--peer 3=HOST:PORT");
    let twice = Node { peers: vec![(1, 7001), (1, 7002)], ..node };
    refused(&mut twice.command(dir.path()), "node 1 twice", "one address");
}

#[test]
fn a_directory_that_is_none_is_refused() {
    let file = tempfile::NamedTempFile::new().unwrap();
    refused(&mut nodes(1)[0].command(file.path()), &file.path().display().to_string(), "see to");
}

#[test]
fn an_option_that_makes_no_sense_is_one_line_too() {
    refused(kv().arg("serve"), "--cluster", "kv --help");
    refused(kv().args(["demo", "--nodes", "2"]), "3..=9", "kv --help");
    refused(kv().args(["demo", "--input", "/nowhere"]), "/nowhere", "No such file");
    let node = nodes(1).remove(0);
    refused(node.command(Path::new("unused")).arg("--peer=here"), "ID=HOST:PORT", "kv --help");
    refused(node.command(Path::new("unused")).arg("--join"), "--bootstrap", "kv --help");
}
