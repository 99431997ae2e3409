//! Writes that are sent again: applied once, also through another node and under another leader.

#![allow(clippy::unwrap_used)]

mod support;

use support::{Answer, Running, eventually, nodes};
use tempfile::TempDir;

fn open(node: &Running) -> String {
    let answer = node.ask("POST", "/sessions");
    assert_eq!(answer.status, 201);
    answer.json()["session"].as_str().unwrap().into()
}

fn create(node: &Running, path: &str, key: &str) -> Answer {
    node.send("PUT", path, &[("Idempotency-Key", key), ("If-None-Match", "*")], b"x")
}

#[track_caller]
fn refused(answer: &Answer, status: u16, error: &str) {
    assert_eq!((answer.status, answer.error().as_str()), (status, error));
}

#[test]
fn a_write_that_comes_again_is_applied_once_and_answered_alike() {
    let dir = TempDir::new().unwrap();
    let node = nodes(1)[0].start(dir.path()).ready();
    let session = open(&node);
    let key = format!("\"{session}/1\"");
    let first = create(&node, "/kv/a", &key);
    assert_eq!(first.status, 201);
    let again = create(&node, "/kv/a", &key);
    assert_eq!((again.status, again.etag()), (201, first.etag()), "not 412: it is the same creation");
    refused(&create(&node, "/kv/a", &format!("\"{session}/2\"")), 412, "precondition_failed");

    let delete = || node.send("DELETE", "/kv/a", &[("Idempotency-Key", &format!("\"{session}/3\""))], b"");
    assert_eq!(delete().status, 204);
    assert_eq!(delete().status, 204, "not 404: it is the same deletion");
    assert_eq!(node.ask("GET", "/kv/a").status, 404);
    refused(&create(&node, "/kv/a", &format!("\"{session}/3\"")), 422, "key_reused");
}

#[test]
fn a_retry_under_the_next_leader_is_applied_once() {
    let nodes = nodes(3);
    let dirs: Vec<_> = nodes.iter().map(|_| TempDir::new().unwrap()).collect();
    let mut running: Vec<_> = nodes.iter().zip(&dirs).map(|(node, dir)| node.start(dir.path())).collect();
    running = running.into_iter().map(Running::ready).collect();
    let key = format!("\"{}/1\"", open(&running[0]));
    let first = create(&running[1], "/kv/a", &key);
    assert_eq!(first.status, 201);

    let leader = running[1].ask("GET", "/status").json()["leader"].as_u64().unwrap();
    drop(running.remove(leader as usize - 1));
    for node in &running {
        eventually(|| create(node, "/kv/a", &key).status == 201);
        assert_eq!(create(node, "/kv/a", &key).etag(), first.etag());
    }
    assert_eq!(running[0].ask("GET", "/kv/a").etag(), first.etag());
}

#[test]
fn a_session_outlives_the_process_that_opened_it_and_the_log_that_it_stands_in() {
    let (node, dir) = (nodes(1).remove(0), TempDir::new().unwrap());
    let running = node.start(dir.path()).ready();
    let key = format!("\"{}/1\"", open(&running));
    let first = create(&running, "/kv/a", &key);
    let snapshot = running.ask("POST", "/snapshot");
    assert_eq!(snapshot.status, 200);
    assert!(snapshot.json()["slot"].as_u64() >= first.etag().trim_matches('"').parse().ok());
    assert_eq!(running.terminate(), Some(0));
    let again = create(&node.start(dir.path()).ready(), "/kv/a", &key);
    assert_eq!((again.status, again.etag()), (201, first.etag()));
}

#[test]
fn of_more_than_a_thousand_sessions_the_one_used_longest_ago_expires() {
    let dir = TempDir::new().unwrap();
    let node = nodes(1)[0].start(dir.path()).ready();
    let (unused, used) = (open(&node), open(&node));
    for _ in 2..1000 {
        open(&node);
    }
    assert_eq!(create(&node, "/kv/used", &format!("\"{used}/1\"")).status, 201);
    open(&node);
    refused(&create(&node, "/kv/unused", &format!("\"{unused}/1\"")), 410, "session_expired");
    assert_eq!(node.ask("GET", "/kv/unused").status, 404, "nothing was applied");
    assert_eq!(create(&node, "/kv/used", &format!("\"{used}/1\"")).status, 201);
}

#[test]
fn a_key_beyond_what_a_session_keeps_is_refused_by_name() {
    let dir = TempDir::new().unwrap();
    let node = nodes(1)[0].start(dir.path()).ready();
    let session = open(&node);
    refused(&create(&node, "/kv/a", &format!("\"{session}/65\"")), 409, "serial_too_far");
    assert_eq!(create(&node, "/kv/a", &format!("\"{session}/65\"; answered=1")).status, 201);
    refused(&create(&node, "/kv/b", &format!("\"{session}/1\"")), 409, "serial_answered");
    refused(&create(&node, "/kv/b", "\"999999.0/1\""), 410, "session_expired");
    for malformed in ["", "7", "\"7\"", "\"1f0c6f1e-9d2b-4c8e-a8f5\"", &format!("\"{session}/0\"")] {
        refused(&create(&node, "/kv/b", malformed), 400, "bad_request");
    }
    assert_eq!(node.ask("GET", "/kv/b").status, 404, "nothing of that was applied");
}
