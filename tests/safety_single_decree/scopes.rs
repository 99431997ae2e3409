//! The clusters that are walked to the last state.

use crate::exhaustive::exhaust;
use crate::machine::Cluster;

#[test]
#[ignore]
fn probe() {
    for spec in std::env::var("SCOPES").unwrap().split(';') {
        let mut parts = spec.split('/');
        let campaigns: Vec<u8> = parts.next().unwrap().split(',').map(|n| n.parse().unwrap()).collect();
        let crashing: Vec<usize> = parts.next().unwrap().bytes().map(|n| usize::from(n - b'0')).collect();
        let crashes = parts.next().unwrap().parse().unwrap();
        let mut cluster = Cluster::new(&campaigns, &crashing, crashes);
        for option in parts {
            cluster = match option {
                "n" => cluster.without_nacks(),
                learner => cluster.with_learner(learner.parse().unwrap()),
            };
        }
        let walk = std::panic::AssertUnwindSafe(|| exhaust(spec, cluster, 0));
        let _ = std::panic::catch_unwind(walk);
    }
}
