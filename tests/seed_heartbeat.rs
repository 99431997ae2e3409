//! The ancestor's cases of leadership, driven through the election and the proposer together: heartbeat mode for
//! `test_proposers.py` (P) and `test_functional.py` (F), external mode for `test_external.py` (X).
//!
//! Ticks became time-outs: a heartbeat of 50 ms for 2 ticks, a window of 300 ms (and its jitter) for 6. Where the ancestor
//! prepares, a quorum first answers the pre-prepare. Quorum is 3 of 5, and this node is 1 ("A").
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "rules/support.rs"]
mod support;

use std::collections::VecDeque;
use support::*;
use synod::election::{Election, Timing};
use synod::multi::*;
use synod::paxos::ProposalId;

/// An election and a proposer that hear each other; the rest of the node is the test.
struct Pair {
    now: Time,
    election: Election,
    proposer: Proposer,
    deadline: Option<Time>,
    nonce: u64,
}

impl Pair {
    fn heartbeat() -> Self {
        Self::new(Election::heartbeat(node(1), Timing::default(), 3))
    }

    fn external() -> Self {
        Self::new(Election::external(node(1), Timing::default(), 3))
    }

    fn new(election: Election) -> Self {
        let proposer = Proposer::new(node(1), Limits::default(), 3);
        let mut pair = Self { now: Time::ZERO, election, proposer, deadline: None, nonce: 0 };
        let briefing = briefing(voters(5), 0, None);
        pair.step(Local::Proposer(ProposerInput::Briefing(briefing.clone())));
        pair.step(Local::Election(ElectionInput::Briefing(briefing)));
        pair
    }

    /// Takes one input; what is left for the outside comes back.
    fn step(&mut self, input: Local) -> Vec<Effect> {
        let mut inputs = VecDeque::from([input]);
        let mut outside = Vec::new();
        while let Some(input) = inputs.pop_front() {
            let (effects, elects) = match input {
                Local::Proposer(input) => (self.proposer.take_at(self.now, input), false),
                Local::Election(input) => (self.election.take_at(self.now, input), true),
                other => {
                    outside.push(Effect::Local(other));
                    continue;
                }
            };
            for effect in effects {
                match effect {
                    Effect::Deadline(at) if elects => self.deadline = Some(at),
                    Effect::Local(Local::Acceptor(AcceptorInput::Candidate { id, .. })) => {
                        inputs.push_back(Local::Proposer(ProposerInput::Promised { id }));
                        inputs.push_back(Local::Election(ElectionInput::Promised { id }));
                        outside.push(effect);
                    }
                    Effect::Local(local) => inputs.push_back(local),
                    effect => outside.push(effect),
                }
            }
        }
        outside
    }

    fn proposer(&mut self, from: u64, message: Message) -> Vec<Effect> {
        self.step(Local::Proposer(to_proposer(from, message)))
    }

    /// A heartbeat under `id` that the own acceptor did not refuse.
    fn hear(&mut self, id: ProposalId) -> Vec<Effect> {
        let mut out = self.step(Local::Proposer(ProposerInput::Saw { id }));
        out.extend(self.step(Local::Election(ElectionInput::Heard { id })));
        out
    }

    /// Lets time pass; a quorum answers "no" to each question at once.
    fn pass(&mut self, millis: u64) -> Vec<Effect> {
        let end = self.now + std::time::Duration::from_millis(millis);
        let mut out = Vec::new();
        while let Some(at) = self.deadline.filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.deadline = None;
            let effects = self.step(Local::Election(ElectionInput::Wake));
            let asked =
                sends(&effects).iter().any(|(_, message)| matches!(message, Message::PrePrepare { .. }));
            out.extend(effects);
            if asked {
                self.nonce += 1;
                for voter in 2..=3 {
                    let answer = Message::PrePrepareAnswer { nonce: self.nonce, leader: None };
                    out.extend(self.step(Local::Election(to_election(voter, answer))));
                }
            }
        }
        self.now = end;
        out
    }

    fn promises(&mut self, id: ProposalId) -> Vec<Effect> {
        (1..=3).flat_map(|voter| self.proposer(voter, promise(id, 0, []))).collect()
    }

    fn propose(&mut self, text: &str) -> Vec<Effect> {
        self.step(Local::Proposer(propose(text)))
    }

    fn leads(&self) -> bool {
        matches!(self.proposer.state(), ProposerState::Leading { .. })
    }

    /// Leads under 1.1.
    fn gain(&mut self) {
        self.pass(450);
        self.promises(id(1, 1));
        assert!(self.leads());
    }
}

fn campaigns(out: &[Effect]) -> Vec<ProposalId> {
    let id = |effect: &Effect| match effect {
        Effect::Local(Local::Acceptor(AcceptorInput::Candidate { id, .. })) => Some(*id),
        _ => None,
    };
    out.iter().filter_map(id).collect()
}

fn beats(out: &[Effect]) -> usize {
    let to_2 = |(to, message): &(u64, Message)| *to == 2 && matches!(message, Message::Heartbeat { .. });
    sends(out).into_iter().filter(|sent| to_2(sent)).count()
}

// ------------------------------------------------------------------ heartbeat mode

// seed P01, F01: K*, no campaign before the liveness window has passed, one after.
#[test]
fn a_silent_window_passes_before_the_first_attempt() {
    let mut pair = Pair::heartbeat();
    assert_eq!(campaigns(&pair.pass(299)), []);
    assert_eq!(campaigns(&pair.pass(151)), [id(1, 1)]);
}

// seed P02, F02: K*
#[test]
fn a_heartbeat_just_before_the_end_of_the_window_suppresses_the_attempt() {
    let mut pair = Pair::heartbeat();
    pair.pass(290);
    pair.hear(id(1, 2));
    assert_eq!(campaigns(&pair.pass(299)), []);
}

// seed P03, F03: K*
#[test]
fn three_promises_of_five_gain_leadership_and_the_value_goes_out() {
    let mut pair = Pair::heartbeat();
    assert_eq!(campaigns(&pair.pass(450)), [id(1, 1)]);
    pair.proposer(1, promise(id(1, 1), 0, []));
    let out = pair.proposer(2, promise(id(1, 1), 0, []));
    assert_eq!(events(&out), []);
    let out = pair.proposer(3, promise(id(1, 1), 0, []));
    assert_eq!(events(&out), [Event::Acquired { id: id(1, 1) }]);
    assert_eq!(proposed(&pair.propose("99")), [(1, batch("99"))]);
}

// seed F04: K*
#[test]
fn a_heartbeat_of_a_higher_id_during_the_acquisition_cancels_it() {
    let mut pair = Pair::heartbeat();
    pair.pass(450);
    pair.hear(id(5, 2));
    let out = pair.promises(id(1, 1));
    assert_eq!(events(&out), []);
    assert_eq!(pair.proposer.state(), ProposerState::Idle);
}

// seed P06, F06: K
#[test]
fn a_heartbeat_of_a_higher_id_ends_leadership() {
    let mut pair = Pair::heartbeat();
    pair.gain();
    let out = pair.hear(id(5, 2));
    assert_eq!(events(&out), [Event::Lost, Event::Changed { leader: Some(id(5, 2)) }]);
    assert!(!pair.leads());
    assert_eq!(pair.election.leader(), Some(id(5, 2)));
}

// seed P07, F07: K, and the leader's state goes with it (defect B3)
#[test]
fn the_third_distinct_nack_ends_leadership() {
    let mut pair = Pair::heartbeat();
    pair.gain();
    assert_eq!(events(&pair.proposer(2, nack(id(1, 1), id(5, 5)))), []);
    assert_eq!(events(&pair.proposer(2, nack(id(1, 1), id(5, 5)))), []);
    assert_eq!(events(&pair.proposer(3, nack(id(1, 1), id(5, 5)))), []);
    let out = pair.proposer(4, nack(id(1, 1), id(5, 5)));
    assert_eq!(events(&out), [Event::Lost, Event::Changed { leader: None }]);
    assert!(!pair.leads());
    assert_eq!(pair.election.leader(), None);
    assert_eq!(accepts(&pair.propose("late")), []);
}

// seed P08, F08: K*
#[test]
fn after_a_loss_and_silence_leadership_is_regained_under_a_higher_number() {
    let mut pair = Pair::heartbeat();
    pair.gain();
    pair.hear(id(5, 2));
    assert_eq!(campaigns(&pair.pass(450)), [id(6, 1)]);
    let out = pair.promises(id(6, 1));
    assert_eq!(events(&out), [Event::Acquired { id: id(6, 1) }]);
    assert_eq!(proposed(&pair.propose("again")), [(1, batch("again"))]);
}

// seed P09, F09: K
#[test]
fn a_heartbeat_of_an_old_leader_does_not_displace_the_new_one() {
    let mut pair = Pair::heartbeat();
    pair.hear(id(5, 2));
    pair.pass(200);
    assert_eq!(pair.hear(id(1, 3)), []);
    assert_eq!(pair.election.leader(), Some(id(5, 2)));
    assert_eq!(campaigns(&pair.pass(250)), [id(6, 1)], "nor does it count as a sign of life");
}

// seed P10, F10: K*
#[test]
fn a_leader_pulses_five_times_in_the_time_of_eight_ticks() {
    let mut pair = Pair::heartbeat();
    pair.pass(450);
    pair.promises(id(1, 1));
    assert_eq!(beats(&pair.pass(200)), 5);
    assert!(pair.leads());
}

// seed P11: X, a fresh id instead of the same one; seed F11: K*
#[test]
fn a_campaign_without_a_quorum_is_followed_by_one_under_a_fresh_id_which_wins_with_its_own_promises() {
    let mut pair = Pair::heartbeat();
    pair.pass(450);
    pair.proposer(2, promise(id(1, 1), 0, []));
    let mut out = Vec::new();
    for _ in 0..30 {
        out.extend(pair.pass(50));
        out.extend(pair.step(Local::Proposer(ProposerInput::Wake)));
    }
    assert_eq!(campaigns(&out)[0], id(2, 1));
    let ProposerState::Preparing { id: current } = pair.proposer.state() else { panic!() };
    for voter in 3..=5 {
        pair.proposer(voter, promise(id(1, 1), 0, []));
    }
    assert!(!pair.leads(), "promises for the old id do not count");
    pair.promises(current);
    assert!(pair.leads());
}

// ------------------------------------------------------------------ external mode

// seed X01: X, nobody leads without phase 1 (defect B2)
#[test]
fn no_node_is_a_leader_from_the_start() {
    let mut pair = Pair::external();
    assert!(!pair.leads());
    assert_eq!(pair.election.leader(), None);
    assert_eq!(beats(&pair.pass(1000)), 0);
    assert_eq!(accepts(&pair.propose("mine")), []);
}

fn told_to_campaign(pair: &mut Pair) -> Vec<ProposalId> {
    campaigns(&pair.step(Local::Election(ElectionInput::Campaign)))
}

// seed X02: K
#[test]
fn the_application_makes_a_leader() {
    let mut pair = Pair::external();
    assert_eq!(told_to_campaign(&mut pair), [id(1, 1)]);
    assert_eq!(events(&pair.promises(id(1, 1))), [Event::Acquired { id: id(1, 1) }]);
    assert_eq!(pair.election.leader(), Some(id(1, 1)));
    assert_eq!(proposed(&pair.propose("foo")), [(1, batch("foo"))]);
}

// seed X03: K
#[test]
fn after_a_nack_the_next_campaign_is_above_the_id_that_it_named() {
    let mut pair = Pair::external();
    told_to_campaign(&mut pair);
    pair.proposer(2, nack(id(1, 1), id(2, 3)));
    assert_eq!(told_to_campaign(&mut pair), [id(3, 1)]);
}

// seed X04: K, and the leader's state goes with it (defect B3)
#[test]
fn a_proclamation_of_a_higher_leader_ends_leadership() {
    let mut pair = Pair::external();
    told_to_campaign(&mut pair);
    pair.promises(id(1, 1));
    let out = pair.hear(id(5, 2));
    assert_eq!(events(&out), [Event::Lost, Event::Changed { leader: Some(id(5, 2)) }]);
    assert!(!pair.leads());
}

// seed X05: K
#[test]
fn the_third_nack_ends_an_external_leadership_too() {
    let mut pair = Pair::external();
    told_to_campaign(&mut pair);
    pair.promises(id(1, 1));
    let out: Vec<Effect> = (2..=4).flat_map(|voter| pair.proposer(voter, nack(id(1, 1), id(5, 5)))).collect();
    assert_eq!(events(&out), [Event::Lost, Event::Changed { leader: None }]);
    assert!(!pair.leads());
}

// seed X06: K
#[test]
fn the_application_regains_leadership_under_a_higher_number() {
    let mut pair = Pair::external();
    told_to_campaign(&mut pair);
    pair.promises(id(1, 1));
    pair.hear(id(5, 2));
    assert_eq!(told_to_campaign(&mut pair), [id(6, 1)]);
    assert_eq!(events(&pair.promises(id(6, 1))), [Event::Acquired { id: id(6, 1) }]);
}

// seed X07: K
#[test]
fn a_proclamation_of_an_old_leader_is_ignored() {
    let mut pair = Pair::external();
    pair.hear(id(5, 2));
    assert_eq!(pair.hear(id(1, 3)), []);
    assert_eq!(pair.election.leader(), Some(id(5, 2)));
}

// seed X08: K
#[test]
fn a_second_campaign_wins_with_its_own_promises_only() {
    let mut pair = Pair::external();
    told_to_campaign(&mut pair);
    pair.proposer(1, promise(id(1, 1), 0, []));
    pair.proposer(2, promise(id(1, 1), 0, []));
    assert_eq!(told_to_campaign(&mut pair), [id(2, 1)]);
    pair.proposer(3, promise(id(1, 1), 0, []));
    assert!(!pair.leads());
    pair.promises(id(2, 1));
    assert!(pair.leads());
}
