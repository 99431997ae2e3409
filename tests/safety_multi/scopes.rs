//! The clusters that are walked to the last state.

use crate::exhaustive::exhaust;
use crate::machine::Part;
use crate::scope::{Cluster, members};

/// "members/alpha/crashes/campaigns:batches:change,...".
#[test]
#[ignore]
fn probe() {
    for spec in std::env::var("SCOPES").unwrap().split(';') {
        let fields: Vec<&str> = spec.split('/').collect();
        let alpha = fields[1].parse().unwrap();
        let parts = fields[3].split(',').map(|part| {
            let part: Vec<&str> = part.split(':').collect();
            Part {
                campaigns: part[0].parse().unwrap(),
                batches: part[1].parse().unwrap(),
                change: part.get(2).filter(|n| !n.is_empty()).map(|names| members(names, alpha)),
                crashes: part.get(3).is_some_and(|o| o.contains('c')),
                hears_nacks: part.get(3).is_some_and(|o| o.contains('n')),
            }
        });
        let cluster = Cluster::new(members(fields[0], alpha), parts.collect(), fields[2].parse().unwrap());
        let walk = std::panic::AssertUnwindSafe(|| exhaust(spec, cluster, 0));
        let _ = std::panic::catch_unwind(walk);
    }
}
