//! Locks, and what their tokens are for.

#![allow(clippy::unwrap_used)]

mod support;

use std::process::{Child, Command, Output, Stdio};
use support::{Answer, Running, eventually, exit_code, kv, nodes};
use tempfile::TempDir;

fn node() -> (Running, TempDir) {
    let dir = TempDir::new().unwrap();
    (nodes(1)[0].start(dir.path()).ready(), dir)
}

fn acquire(node: &Running, owner: &str, request: u64, ttl_ms: u64) -> Answer {
    let body = format!(r#"{{"owner":"{owner}","request":{request},"ttl_ms":{ttl_ms}}}"#);
    node.send("POST", "/locks/disk", &[], body.as_bytes())
}

fn acquired(node: &Running, owner: &str, request: u64, ttl_ms: u64) -> u64 {
    let answer = acquire(node, owner, request, ttl_ms);
    assert_eq!(answer.status, 200);
    answer.json()["token"].as_u64().unwrap()
}

fn under(node: &Running, method: &str, path: &str, token: u64) -> Answer {
    node.send(method, path, &[("Fencing-Token", &token.to_string())], b"")
}

#[track_caller]
fn refused(answer: &Answer, status: u16, error: &str) {
    assert_eq!((answer.status, answer.error().as_str()), (status, error));
}

#[test]
fn a_lock_has_one_holder_and_each_a_higher_token() {
    let (node, _dir) = node();
    refused(&node.ask("GET", "/locks/disk"), 404, "not_held");
    let first = acquired(&node, "a", 1, 60_000);
    assert_eq!(acquired(&node, "a", 1, 60_000), first, "the same request, sent again");
    refused(&acquire(&node, "b", 1, 60_000), 409, "held");
    let holder = node.ask("GET", "/locks/disk").json();
    assert_eq!((&holder["owner"], &holder["token"]), (&"a".into(), &first.into()));
    assert_eq!(under(&node, "PUT", "/locks/disk", first).status, 204);
    assert_eq!(node.ask("GET", "/locks/disk").json()["renewals"], 1);
    assert_eq!(under(&node, "DELETE", "/locks/disk", first).status, 204);
    let second = acquired(&node, "b", 1, 60_000);
    assert!(second > first);
    refused(&under(&node, "PUT", "/locks/disk", first), 410, "lock_lost");
    refused(&under(&node, "DELETE", "/locks/disk", first), 410, "lock_lost");
}

#[test]
fn a_silent_holder_loses_the_lock_and_its_late_write_is_refused() {
    let (node, _dir) = node();
    let slow = acquired(&node, "slow", 1, 200);
    assert_eq!(under(&node, "PUT", "/kv/a", slow).status, 201);
    eventually(|| acquire(&node, "next", 1, 60_000).status == 200);
    let next = acquired(&node, "next", 1, 60_000);
    refused(&under(&node, "PUT", "/kv/a", slow), 412, "fenced");
    refused(&under(&node, "DELETE", "/kv/a", slow), 412, "fenced");
    refused(&under(&node, "PUT", "/kv/never-seen", slow), 412, "fenced");
    assert_eq!(under(&node, "PUT", "/kv/a", next).status, 200);
}

#[test]
fn a_lock_outlives_the_process_that_granted_it_and_the_log_that_it_stands_in() {
    let (node, dir) = (nodes(1).remove(0), TempDir::new().unwrap());
    let running = node.start(dir.path()).ready();
    let token = acquired(&running, "a", 1, 60_000);
    assert_eq!(running.ask("POST", "/snapshot").status, 200);
    assert_eq!(running.terminate(), Some(0));
    let running = node.start(dir.path()).ready();
    assert_eq!(running.ask("GET", "/locks/disk").json()["token"], token);
    refused(&acquire(&running, "b", 1, 60_000), 409, "held");
}

#[test]
fn what_no_lock_allows_is_refused() {
    let (node, _dir) = node();
    let long = format!("/locks/{}", "x".repeat(257));
    for (answer, status, error) in [
        (acquire(&node, "a", 1, 0), 400, "bad_request"),
        (acquire(&node, &"x".repeat(257), 1, 1000), 400, "bad_request"),
        (node.ask("POST", "/locks/disk"), 400, "bad_request"),
        (node.ask("GET", "/locks/"), 400, "bad_request"),
        (node.ask("GET", &long), 400, "bad_request"),
        (node.ask("PUT", "/locks/disk"), 400, "bad_request"),
        (node.send("DELETE", "/locks/disk", &[("Fencing-Token", "x")], b""), 400, "bad_request"),
        (node.send("PUT", "/kv/a", &[("Fencing-Token", "x")], b""), 400, "bad_request"),
        (node.ask("PATCH", "/locks/disk"), 405, "method_not_allowed"),
    ] {
        refused(&answer, status, error);
    }
}

/// `kv` with `arguments`, which are to find `node`, run to its end.
fn run(node: &Running, arguments: &[&str]) -> Output {
    command(node, arguments).output().unwrap()
}

fn command(node: &Running, arguments: &[&str]) -> Command {
    let (verb, rest) = arguments.split_first().unwrap();
    let mut command = kv();
    command.arg(verb).arg(format!("--http=127.0.0.1:{}", node.http)).args(rest);
    command
}

#[test]
fn a_program_runs_under_the_lock_and_its_writes_carry_the_token() {
    let (node, _dir) = node();
    let put = format!("{} put --http 127.0.0.1:{} a mine", env!("CARGO_BIN_EXE_kv"), node.http);
    let script = format!("{put} && echo $KV_LOCK $KV_FENCE");
    let output = run(&node, &["lock", "disk", "--", "sh", "-c", &script]);
    assert!(output.status.success(), "{output:?}");
    let printed = String::from_utf8(output.stdout).unwrap();
    let (lock, token) = printed.lines().last().unwrap().split_once(' ').unwrap();
    assert_eq!(lock, "disk");
    assert_eq!(node.ask("GET", "/kv/a").body, b"mine");
    refused(&node.ask("GET", "/locks/disk"), 404, "not_held");

    // It was released: what comes too late with its token is refused.
    let late = command(&node, &["put", "a", "late"]).env("KV_FENCE", token).output().unwrap();
    assert_eq!(late.status.code(), Some(1));
    assert!(String::from_utf8(late.stderr).unwrap().contains("holds no lock"));
    assert_eq!(run(&node, &["lock", "disk", "--", "sh", "-c", "exit 7"]).status.code(), Some(7));
    assert_eq!(run(&node, &["lock", "disk", "--", "/no/such/program"]).status.code(), Some(2));
    refused(&node.ask("GET", "/locks/disk"), 404, "not_held");
}

/// `kv lock` of a program that takes long, once it has the lock.
fn hold(node: &Running) -> Child {
    let mut command = command(node, &["lock", "disk", "--ttl=1", "--owner=sleeper", "--", "sleep", "20"]);
    let child = command.stderr(Stdio::piped()).spawn().unwrap();
    eventually(|| node.ask("GET", "/locks/disk").status == 200);
    child
}

#[test]
fn a_holder_that_renews_keeps_the_lock_and_who_cannot_wait_is_told_whose_it_is() {
    let (node, _dir) = node();
    let mut holder = hold(&node);
    eventually(|| node.ask("GET", "/locks/disk").json()["renewals"].as_u64() >= Some(4));
    let output = run(&node, &["lock", "disk", "--wait=0", "--", "true"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("sleeper holds the lock"));
    holder.kill().unwrap();
    holder.wait().unwrap();
    // Nobody renews any more: who waits gets it when the time is over.
    assert!(run(&node, &["lock", "disk", "--", "true"]).status.success());
}

#[test]
fn a_program_whose_lock_is_lost_is_ended() {
    let (node, _dir) = node();
    let mut holder = hold(&node);
    let token = node.ask("GET", "/locks/disk").json()["token"].as_u64().unwrap();
    assert_eq!(under(&node, "DELETE", "/locks/disk", token).status, 204);
    assert_eq!(exit_code(&mut holder), Some(1));
    let stderr = String::from_utf8(holder.wait_with_output().unwrap().stderr).unwrap();
    assert!(stderr.contains("the lock is lost"), "{stderr}");
}
