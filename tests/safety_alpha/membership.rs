//! At most one value is chosen for a slot, whatever membership governs it (protocol 6 with 1.6, 1.7 and 3.2).

use crate::model::*;
use stateright::Property;

/// What has to happen in some run, or else the walk showed nothing.
pub fn properties() -> Vec<Property<Scope>> {
    vec![
        Property::sometimes("a value is chosen under the new membership", |scope: &Scope, world: &World| {
            world.is_governed_anew(scope)
        }),
    ]
}

const SCOPE: Scope = Scope { slots: 3, alpha: 1, changes: &[Some(D), None], reads: false, without: &[] };

#[test]
fn probe() {
    let slots: usize = std::env::var("SLOTS").unwrap().parse().unwrap();
    let alpha: usize = std::env::var("ALPHA").unwrap().parse().unwrap();
    let changes: &'static [Option<Membership>] = match std::env::var("CHANGES").unwrap().as_str() {
        "D," => &[Some(D), None],
        ",D" => &[None, Some(D)],
        "D,D" => &[Some(D), Some(D)],
        "D,,"=> &[Some(D), None, None],
        "ADE,"=> &[Some(ADE), None],
        ",ADE"=> &[None, Some(ADE)],
        "D,ADE"=> &[Some(D), Some(ADE)],
        "ADE,D"=> &[Some(ADE), Some(D)],
        "DE21,"=> &[Some(DE_PROMISED_BY_TWO), None],
        "DE12,"=> &[Some(DE_PROMISED_BY_ONE), None],
        _ => panic!(),
    };
    let without: &'static [Rule] = match std::env::var("WITHOUT").unwrap_or_default().as_str() {
        "" => &[],
        "learned_below" => &[Rule::LearnedBelow],
        "window" => &[Rule::Window],
        "where" => &[Rule::NothingWhereLearned],
        "own" => &[Rule::WatermarkOfOwnValues],
        "alpha" => &[Rule::GovernsAboveAlpha],
        "alphahole" => &[Rule::GovernsAboveAlpha, Rule::ChangeAboveRecovery],
        "recovery" => &[Rule::ChangeAboveRecovery],
        "pending" => &[Rule::OneChangePending],
        "both" => &[Rule::ChangeAboveRecovery,Rule::OneChangePending],
        "63" => &[Rule::PhaseOneInNewMembership],
        "mark_recovery" => &[Rule::MarkAboveRecovery],
        "anew" => &[Rule::MarkTakenAnew],
        "mark1" => &[Rule::MembershipAboveMark],
        "enough" => &[Rule::EnoughConfirm],
        "round" => &[Rule::RoundAfterArrival],
        _ => panic!(),
    };
    use stateright::*;
    let scope = Scope { slots, alpha, changes, reads: std::env::var("READS").is_ok(), without };
    let start = std::time::Instant::now();
    let checker = scope.checker().threads(2).finish_when(HasDiscoveries::AnyFailures).timeout(std::time::Duration::from_secs(100)).spawn_dfs().join();
    println!("unique {} total {} depth {} {:?} ", checker.unique_state_count(), checker.state_count(), checker.max_depth(), start.elapsed());
    for (name, path) in checker.discoveries() {
        println!("{name}: {:?}", path.into_actions());
    }
    let _ = SCOPE;
}
