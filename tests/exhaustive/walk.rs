//! Walking a scope: the whole of it, or until it breaks.

use super::Scope;
use super::world::{CONFLICT, Cluster};
use stateright::{Checker, HasDiscoveries, Model};
use std::time::{Duration, Instant};

/// No walk may take longer, on however slow a machine: a bound, not a measure.
const PATIENCE: Duration = Duration::from_secs(300);

/// Walks the whole of a scope, and fails where it had to stop before; the pinned count tells when the model, or the
/// protocol, has become another one.
pub fn exhaust<S: Scope>(name: &str, scope: S, states: usize) {
    let began = Instant::now();
    let cluster = Cluster::new(scope);
    let checker = cluster.checker().threads(2).timeout(PATIENCE).spawn_dfs().join();
    let took = began.elapsed();
    let (machines, letters) = checker.model().sizes();
    let unique = checker.unique_state_count();
    println!(
        "{name}: {unique} states in {:.1} s, {} generated, depth {}, {machines} states of machines, {letters} letters",
        took.as_secs_f64(),
        checker.state_count(),
        checker.max_depth(),
    );
    // After a time-out the checker calls itself done, too.
    assert!(took < PATIENCE, "not exhausted in {PATIENCE:?}");
    assert!(checker.is_done());
    assert_eq!(checker.model().unseen(), Vec::<&str>::new(), "these never happened");
    checker.assert_properties();
    assert_eq!(unique, states);
}

/// Walks a scope that leaves a rule out until it breaks, and prints the shortest way there.
pub fn find<S: Scope>(scope: S) {
    let wanted = HasDiscoveries::AnyOf([CONFLICT].into());
    let walk = Cluster::new(scope).checker().threads(2).finish_when(wanted).timeout(PATIENCE).spawn_bfs();
    let checker = walk.join();
    let path = checker.discovery(CONFLICT).expect("a rule was left out, and nothing broke");
    let worlds = path.into_states();
    println!("{} steps, {} states searched", worlds.len() - 1, checker.unique_state_count());
    for pair in worlds.windows(2) {
        println!("  {}", checker.model().describe(&pair[0], &pair[1]));
    }
}
