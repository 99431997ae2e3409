//! The service of one node, by the conventions of HTTP.

#![allow(clippy::unwrap_used)]

mod support;

use support::{Running, nodes};
use tempfile::TempDir;

fn node() -> (Running, TempDir) {
    let dir = TempDir::new().unwrap();
    (nodes(1)[0].start(dir.path()).ready(), dir)
}

#[test]
fn a_value_is_given_back_as_it_was_put() {
    let (node, _dir) = node();
    let value: Vec<u8> = (0..=255).collect();
    let put = node.send("PUT", "/kv/a", &[], &value);
    assert_eq!(put.status, 201);
    let get = node.ask("GET", "/kv/a");
    assert_eq!((get.status, &get.body), (200, &value));
    assert_eq!(get.etag(), put.etag());
    assert_eq!(get.header("content-type"), Some("application/octet-stream"));
    let head = node.ask("HEAD", "/kv/a");
    assert_eq!((head.status, head.body.len(), head.etag()), (200, 0, put.etag()));
    let again = node.send("PUT", "/kv/a", &[], b"");
    assert_eq!(again.status, 200);
    assert_ne!(again.etag(), put.etag());
    assert_eq!(node.ask("GET", "/kv/a").body, b"");
}

#[test]
fn only_the_present_version_is_replaced() {
    let (node, _dir) = node();
    let first = node.send("PUT", "/kv/a", &[], b"1");
    let second = node.send("PUT", "/kv/a", &[("If-Match", first.etag())], b"2");
    assert_eq!(second.status, 200);
    let late = node.send("PUT", "/kv/a", &[("If-Match", first.etag())], b"3");
    assert_eq!((late.status, late.error().as_str()), (412, "precondition_failed"));
    assert_eq!(late.etag(), second.etag());
    let weak = format!("W/{}", second.etag());
    assert_eq!(node.send("PUT", "/kv/a", &[("If-Match", &weak)], b"3").status, 412);
    let list = format!("\"other\", {}", second.etag());
    assert_eq!(node.send("PUT", "/kv/a", &[("If-Match", &list)], b"3").status, 200);
    assert_eq!(node.send("PUT", "/kv/absent", &[("If-Match", "*")], b"3").status, 412);
    assert_eq!(node.send("PUT", "/kv/a", &[("If-Match", "7")], b"3").status, 400);
}

#[test]
fn a_key_is_created_only_once() {
    let (node, _dir) = node();
    let create = || node.send("PUT", "/kv/lock", &[("If-None-Match", "*")], b"mine");
    assert_eq!(create().status, 201);
    assert_eq!(create().status, 412);
    let tag = node.ask("GET", "/kv/lock").etag().to_owned();
    assert_eq!(node.send("GET", "/kv/lock", &[("If-None-Match", &tag)], b"").status, 304);
}

#[test]
fn a_deleted_key_is_gone() {
    let (node, _dir) = node();
    let put = node.send("PUT", "/kv/a", &[], b"1");
    assert_eq!(node.send("DELETE", "/kv/a", &[("If-Match", "\"0\"")], b"").status, 412);
    assert_eq!(node.send("DELETE", "/kv/a", &[("If-Match", put.etag())], b"").status, 204);
    let get = node.ask("GET", "/kv/a");
    assert_eq!((get.status, get.error().as_str()), (404, "no_such_key"));
    assert_eq!(node.ask("DELETE", "/kv/a").status, 404);
}

#[test]
fn a_key_may_be_any_text() {
    let (node, _dir) = node();
    for (path, key) in [("a/b//c", "a/b//c"), ("%20%2F%25%0A", " /%\n"), ("%CE%A9+", "Ω+"), ("%252F", "%2F")]
    {
        assert_eq!(node.send("PUT", &format!("/kv/{path}"), &[], key.as_bytes()).status, 201, "{path}");
        assert_eq!(node.ask("GET", &format!("/kv/{path}")).body, key.as_bytes());
    }
    let list = node.ask("GET", "/kv").json();
    for entry in list["entries"].as_array().unwrap() {
        assert_eq!(entry["key"], entry["value"]);
    }
}

#[test]
fn what_cannot_be_served_is_refused_in_json() {
    let (node, _dir) = node();
    let long = format!("/kv/{}", "k".repeat(1025));
    let large = vec![0; 600 << 10];
    for (answer, status, error) in [
        (node.ask("GET", "/kv/"), 400, "bad_request"),
        (node.ask("GET", "/kv/%FF"), 400, "bad_request"),
        (node.ask("GET", &long), 400, "bad_request"),
        (node.ask("GET", "/kv?limit=many"), 400, "bad_request"),
        (node.send("PUT", "/kv/a", &[], &large), 413, "too_large"),
        (node.send("PUT", "/kv/a", &[], &large[..512 << 10]), 413, "too_large"),
        (node.ask("GET", "/nowhere"), 404, "no_such_path"),
        (node.ask("POST", "/kv/a"), 405, "method_not_allowed"),
    ] {
        assert_eq!((answer.status, answer.error().as_str()), (status, error));
    }
    assert_eq!(node.ask("POST", "/kv").header("allow"), Some("GET"));
    assert_eq!(node.send("PUT", "/kv/a", &[], &large[..500 << 10]).status, 201);
}

#[test]
fn a_list_is_read_page_by_page() {
    let (node, _dir) = node();
    for key in ["a", "b%2F1", "b%2F2", "b%2F3", "c"] {
        node.send("PUT", &format!("/kv/{key}"), &[], b"x");
    }
    let page = node.ask("GET", "/kv?prefix=b%2F&limit=2").json();
    let keys: Vec<_> = page["entries"].as_array().unwrap().iter().map(|entry| &entry["key"]).collect();
    assert_eq!(keys, ["b/1", "b/2"]);
    assert_eq!(page["more"], true);
    let rest = node.ask("GET", "/kv?prefix=b/&limit=2&after=b/2").json();
    assert_eq!(rest["entries"][0]["key"], "b/3");
    assert_eq!(rest["entries"][0]["version"], node.ask("GET", "/kv/b/3").etag().trim_matches('"'));
    assert_eq!(rest["more"], false);
}

#[test]
fn a_node_says_what_it_knows_of_itself() {
    let (node, _dir) = node();
    node.send("PUT", "/kv/a", &[], b"1");
    let status = node.ask("GET", "/status").json();
    for (field, value) in [("role", "leader"), ("cluster", "test")] {
        assert_eq!(status[field], value);
    }
    assert_eq!((&status["id"], &status["leader"]), (&1.into(), &1.into()));
    assert_eq!(status["members"][0]["id"], 1);
    assert_eq!(status["chosen"], status["applied"]);
    assert!(status["proposal_id"].is_string());
    assert_eq!(status["digest"].as_str().map(str::len), Some(16));
}
