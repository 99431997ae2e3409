//! The demo tells its story to the end.

#![allow(clippy::unwrap_used)]

mod support;

use support::kv;

#[test]
fn a_killed_leader_costs_no_acknowledged_write() {
    let output = kv().args(["demo", "--json"]).output().unwrap();
    let story = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{story}{}", String::from_utf8_lossy(&output.stderr));
    let report: serde_json::Value = serde_json::from_str(story.lines().last().unwrap()).unwrap();
    assert_eq!(report["nodes"], 3);
    assert!(report["rows"].as_u64().unwrap() >= 5000);
    assert_eq!(report["acknowledged"], report["rows"]);
    assert_eq!(report["lost"], 0);
    assert_eq!(report["digests_equal"], true);
    for figure in ["failover_ms", "caught_up_ms", "writes_per_s"] {
        assert!(report[figure].is_number(), "{figure}");
    }
}
