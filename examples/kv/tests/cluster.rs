//! Three nodes: any of them serves, one may be missing, two may not.

#![allow(clippy::unwrap_used)]

mod support;

use std::net::TcpStream;
use std::process::Stdio;
use support::{eventually, exit_code, kv, nodes};
use tempfile::TempDir;

#[test]
fn any_node_takes_any_request_while_a_majority_runs() {
    let nodes = nodes(3);
    let dirs: Vec<_> = nodes.iter().map(|_| TempDir::new().unwrap()).collect();
    let mut running: Vec<_> = nodes.iter().zip(&dirs).map(|(node, dir)| node.start(dir.path())).collect();
    running = running.into_iter().map(|node| node.ready()).collect();
    for (turn, node) in running.iter().enumerate() {
        assert_eq!(node.send("PUT", &format!("/kv/{turn}"), &[], b"x").status, 201);
    }
    for node in &running {
        assert_eq!(node.ask("GET", "/kv").json()["entries"].as_array().unwrap().len(), 3);
    }

    // One less: the others go on, under a new leader where the old one is gone.
    drop(running.remove(0));
    eventually(|| running[0].send("PUT", "/kv/3", &[], b"x").status < 300);

    // Its command, --bootstrap and all, brings it back with what it had.
    let back = nodes[0].start(dirs[0].path()).ready();
    eventually(|| {
        back.ask("GET", "/kv").json()["entries"].as_array().is_some_and(|entries| entries.len() == 4)
    });

    // On an empty directory it is not the node that it was.
    drop(back);
    let empty = TempDir::new().unwrap();
    let mut lost =
        nodes[0].command(empty.path()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    assert_eq!(exit_code(&mut lost), Some(2));
    let stderr = String::from_utf8(lost.wait_with_output().unwrap().stderr).unwrap();
    assert!(stderr.lines().last().unwrap().contains("a new --id"), "{stderr}");

    // Two less: nobody can promise anything.
    drop(running.remove(0));
    let put = running[0].send("PUT", "/kv/4", &[], b"x");
    assert!([503, 504].contains(&put.status), "{put:?}");
    eventually(|| running[0].ask("GET", "/health").status == 503);
    let put = running[0].send("PUT", "/kv/4", &[], b"x");
    assert_eq!((put.status, put.error().as_str()), (503, "no_leader"));
    assert!(put.header("retry-after").is_some());
}

#[test]
fn the_commands_of_the_client_do_what_they_say() {
    let dir = TempDir::new().unwrap();
    let node = nodes(1)[0].start(dir.path()).ready();
    let run = |args: &[&str]| {
        let output = kv().args(args).arg(format!("--http=127.0.0.1:{}", node.http)).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (code, version) = run(&["put", "a key/Ω", "a value"]);
    assert_eq!(code, Some(0));
    assert_eq!(run(&["get", "a key/Ω"]), (Some(0), "a value".into()));
    assert_eq!(run(&["put", "a key/Ω", "x", "--if-absent"]).0, Some(1));
    assert_eq!(run(&["delete", "a key/Ω", "--if-match", version.trim()]).0, Some(0));
    assert_eq!(run(&["get", "a key/Ω"]), (Some(1), String::new()));
    assert!(run(&["list"]).1.contains("\"entries\":[]"));
    assert!(run(&["status"]).1.contains("\"role\": \"leader\""));
    assert_eq!(node.terminate(), Some(0));
}

#[test]
fn garbage_on_its_port_does_not_disturb_a_node() {
    use std::io::Write;
    let (dir, node) = (TempDir::new().unwrap(), nodes(1).remove(0));
    let running = node.start(dir.path()).ready();
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xff; 64], &[0; 64]] {
        let mut stream = TcpStream::connect(("127.0.0.1", node.listen)).unwrap();
        let _ = stream.write_all(garbage);
    }
    assert_eq!(running.send("PUT", "/kv/a", &[], b"1").status, 201);
}
