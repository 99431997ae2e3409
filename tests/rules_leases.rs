//! Leases: what a voter grants, how a leader counts, and what ends it (protocol 7.4).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::time::Duration;
use support::*;
use synod::multi::*;

/// `count` voters who grant a second.
fn leased(count: u64) -> Membership {
    voters(count).with_lease(Duration::from_secs(1))
}

/// Whom `effects` tell to take over.
fn told(effects: &[Effect]) -> Vec<u64> {
    let take_over = |(to, message)| (message == Message::TakeOver { id: id(1, 1) }).then_some(to);
    sends(effects).into_iter().filter_map(take_over).collect()
}

// ------------------------------------------------------------------ transfer

// protocol 7.4, 8.5
#[test]
fn the_next_leader_is_told_when_no_voter_can_keep_a_lease_any_more_and_again_until_it_comes() {
    let mut leader = leader_of(leased(3), &[1, 2]);
    leader.take_at(ms(0), progress(2, 0));
    leader.take_at(ms(0), ProposerInput::Lease { until: ms(900), next: slot(1) });
    let out = leader.take_at(ms(10), transfer(7, Some(2)));
    assert!(
        out.contains(&Effect::Local(Local::Election(ElectionInput::Lease(false)))),
        "no more are asked for"
    );
    let mut times = Vec::new();
    for at in (50..=1300).step_by(50) {
        if told(&leader.take_at(ms(at), ProposerInput::Wake)) == [2] {
            times.push(at);
        }
    }
    assert_eq!(times, [1050, 1150, 1250], "a second after the last one may have been granted");
    let out = leader.take_at(ms(1310), ProposerInput::Promised { id: id(2, 2) });
    assert_eq!(outcomes(&out), [(7, AdminOutcome::Transferred(node(2)))]);
}

// protocol 7.4, 8.5: voters keep the lease that they granted last, and once refused whoever was sent to take over.
#[test]
fn the_lead_goes_where_it_is_sent_with_leases_too() {
    for lease in [200, 1000, 2500] {
        let leased = voters(3).with_lease(std::time::Duration::from_millis(lease));
        let mut cluster = Cluster::new(leased, true);
        cluster.pass(2000);
        let from = cluster.leader().unwrap();
        let to = (1..=3).find(|number| *number != from).unwrap();
        cluster.admin(from, 7, AdminCall::Transfer(Some(node(to))));
        cluster.pass(lease * 2 + 1000);
        assert_eq!(cluster.outcome(from, 7), Some(AdminOutcome::Transferred(node(to))), "{lease} ms");
        assert_eq!(cluster.leader(), Some(to));
    }
}
