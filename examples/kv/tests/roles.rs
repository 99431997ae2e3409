//! What a node can be besides a voter from the beginning: a witness, an observer, one in the place of a lost one, a survivor.

#![allow(clippy::unwrap_used)]

mod support;

use serde_json::Value;
use std::path::Path;
use std::process::{Output, Stdio};
use support::{Node, Running, eventually, exit_code, free_port, kv, nodes};
use tempfile::TempDir;

/// A node with this id that joins `others`, as `flags` say.
fn joining(id: u64, others: &[Node], flags: &[&'static str]) -> Node {
    let listen = free_port();
    let mut peers: Vec<_> = others.iter().map(|node| (node.id, node.listen)).collect();
    peers.push((id, listen));
    Node { id, cluster: "test", listen, http: free_port(), peers, flags: flags.to_vec() }
}

/// Starts all of them, each in a directory of its own.
fn start(nodes: &[Node]) -> (Vec<Running>, Vec<TempDir>) {
    let dirs: Vec<_> = nodes.iter().map(|_| TempDir::new().unwrap()).collect();
    let running: Vec<_> = nodes.iter().zip(&dirs).map(|(node, dir)| node.start(dir.path())).collect();
    (running.into_iter().map(Running::ready).collect(), dirs)
}

/// What kind of member `id` is, as `node` knows.
fn kind(node: &Running, id: u64) -> Option<String> {
    let members = node.ask("GET", "/members").json()["members"].as_array().cloned().unwrap();
    let member = members.into_iter().find(|member| member["id"] == id)?;
    member["kind"].as_str().map(str::to_owned)
}

fn put(node: &Running, key: &str) -> u16 {
    node.send("PUT", &format!("/kv/{key}"), &[], b"x").status
}

#[test]
fn an_observer_learns_and_makes_itself_a_member_that_does_not_vote() {
    let nodes = nodes(1);
    let (running, _dirs) = start(&nodes);
    assert_eq!(put(&running[0], "a"), 201);
    let dir = TempDir::new().unwrap();
    let observer = joining(2, &nodes, &["--observer"]);
    let joined = observer.start(dir.path()).ready();
    eventually(|| kind(&running[0], 2).as_deref() == Some("observer"));
    assert_eq!(joined.ask("GET", "/kv/a").body, b"x");
    assert_eq!(put(&joined, "b"), 201, "what it is asked for, it forwards");
    eventually(|| joined.ask("GET", "/status").json()["role"] == "observer");
    assert_eq!(joined.ask("GET", "/status").json()["votes"], false);

    // The flag that is left in its command does not take back what it was made later.
    let body = format!(r#"{{"change":"add","id":2,"address":"127.0.0.1:{}"}}"#, observer.listen);
    assert_eq!(running[0].send("POST", "/members", &[], body.as_bytes()).status, 200);
    assert_eq!(joined.terminate(), Some(0));
    let again = observer.start(dir.path()).ready();
    for turn in 0..50 {
        assert_eq!(put(&again, &format!("c/{turn}")), 201);
    }
    assert_eq!(kind(&running[0], 2).as_deref(), Some("voter"));
}

#[test]
fn two_nodes_and_a_witness_survive_the_loss_of_one() {
    let nodes = nodes(2);
    let (mut running, _dirs) = start(&nodes);
    let dir = TempDir::new().unwrap();
    let witness = joining(3, &nodes, &["--join", "--witness"]).start(dir.path()).ready();
    eventually(|| kind(&running[0], 3).as_deref() == Some("witness"));
    assert_eq!(put(&witness, "a"), 201);
    let get = witness.ask("GET", "/kv/a");
    assert_eq!((get.status, get.error().as_str()), (421, "witness"));
    eventually(|| witness.ask("GET", "/status").json()["role"] == "witness");
    assert_eq!(witness.ask("GET", "/status").json()["digest"], Value::Null);

    let leader = running[0].ask("GET", "/status").json()["leader"].as_u64().unwrap();
    drop(running.remove(leader as usize - 1));
    eventually(|| put(&running[0], "b") < 300);
    assert_eq!(running[0].ask("GET", "/kv/a").body, b"x");
}

#[test]
fn a_witness_of_the_beginning_is_named_to_all() {
    let mut nodes = nodes(3);
    for node in &mut nodes {
        let witness = node.peers.pop().unwrap();
        assert_eq!(witness.0, 3);
    }
    let witness: &'static str = format!("--peer=3=127.0.0.1:{},witness", nodes[2].listen).leak();
    nodes.iter_mut().for_each(|node| node.flags.push(witness));
    nodes[2].flags.push("--witness");
    let (running, _dirs) = start(&nodes);
    assert_eq!(kind(&running[0], 3).as_deref(), Some("witness"));
    assert_eq!(put(&running[2], "a"), 201);
}

#[test]
fn a_lost_node_is_recovered_under_a_new_id_by_one_command() {
    let nodes = nodes(3);
    let (mut running, _dirs) = start(&nodes);
    assert_eq!(put(&running[0], "a"), 201);
    drop(running.remove(2));
    for node in &running {
        // A node that has not applied the write yet has nothing to take a snapshot of.
        eventually(|| node.ask("POST", "/snapshot").status == 200);
    }
    let dir = TempDir::new().unwrap();
    let recovered = joining(4, &nodes, &["--lost=3"]);
    let started = recovered.start_with("recover", dir.path()).ready();
    eventually(|| kind(&running[0], 4).as_deref() == Some("voter") && kind(&running[0], 3).is_none());
    eventually(|| started.ask("GET", "/status").json()["votes"] == true);
    assert_eq!(started.ask("GET", "/kv/a").body, b"x");
    // The same command brings it back, with nothing left to recover.
    assert_eq!(started.terminate(), Some(0));
    let again = recovered.start_with("recover", dir.path()).ready();
    assert_eq!(put(&again, "b"), 201);

    // Its place is taken: nobody else gets it.
    let (late, dir) = (joining(5, &nodes, &["--lost=3"]), TempDir::new().unwrap());
    let mut late = late
        .command_with("recover", dir.path())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    assert_eq!(exit_code(&mut late), Some(2));
    let stderr = String::from_utf8(late.wait_with_output().unwrap().stderr).unwrap();
    assert!(stderr.contains("does not give it the place of node 3"), "{stderr}");
}

#[test]
fn a_removed_node_ends_well() {
    let nodes = nodes(3);
    let (mut running, _dirs) = start(&nodes);
    let leader = running[0].ask("GET", "/status").json()["leader"].as_u64().unwrap();
    let index = (0..3).find(|index| nodes[*index].id != leader).unwrap();
    let mut removed = running.remove(index);
    let body = format!(r#"{{"change":"remove","id":{}}}"#, nodes[index].id);
    assert_eq!(running[0].send("POST", "/members", &[], body.as_bytes()).status, 200);
    assert_eq!(exit_code(&mut removed.process), Some(0), "no service manager should start it again");
}

fn force(dir: &Path, flags: &[&str]) -> Output {
    kv().args(["force", "--id=1", "--cluster=test", "--data"]).arg(dir).args(flags).output().unwrap()
}

#[test]
fn a_survivor_of_a_lost_quorum_goes_on_alone_in_a_new_epoch_and_grows_again() {
    let nodes = nodes(3);
    let (mut running, dirs) = start(&nodes);
    assert_eq!(put(&running[0], "a"), 201);
    let chosen = running[0].ask("GET", "/status").json()["chosen"].as_u64();
    eventually(|| running[0].ask("GET", "/status").json()["applied"].as_u64() >= chosen);
    assert_eq!(force(dirs[0].path(), &["--accept-loss"]).status.code(), Some(2), "it is alive");
    running.drain(1..);
    assert_eq!(running.remove(0).terminate(), Some(0));

    assert_eq!(force(dirs[0].path(), &[]).status.code(), Some(2), "nobody has said that writes may be lost");
    let forced = force(dirs[0].path(), &["--accept-loss"]);
    let told = String::from_utf8(forced.stdout).unwrap();
    assert!(forced.status.success() && told.contains("epoch 1"), "{told}");
    let survivor = nodes[0].start(dirs[0].path()).ready();
    assert_eq!(survivor.ask("GET", "/kv/a").body, b"x");
    assert_eq!(put(&survivor, "b"), 201, "it needs nobody else");

    let dir = TempDir::new().unwrap();
    let joined = joining(4, &nodes[..1], &["--observer", "--epoch=1"]).start(dir.path()).ready();
    assert_eq!(joined.ask("GET", "/kv/b").body, b"x");
}
