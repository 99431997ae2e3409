//! Witnesses: what a node without a state says of itself, and what a leader makes of it.

use crate::support::*;
use synod::multi::*;

fn progress(peer: u64, durable_through: u64, witness: bool) -> ProposerInput {
    ProposerInput::Progress { peer: node(peer), durable_through: slot(durable_through), witness }
}

fn held(effects: &[Effect]) -> Vec<Slot> {
    let held = effects.iter().filter_map(|effect| match effect {
        Effect::Local(Local::Election(ElectionInput::Held { through })) => Some(*through),
        _ => None,
    });
    held.collect()
}

// protocol 4.3
#[test]
fn a_witness_says_with_every_heartbeat_that_it_holds_no_state() {
    for is_witness in [false, true] {
        let acceptor = acceptor([]);
        let mut acceptor = if is_witness { acceptor.witness() } else { acceptor };
        let heartbeat = Message::Heartbeat {
            id: id(5, 2),
            watermark: slot(0),
            held_through: slot(0),
            pulse: 1,
            lease: false,
        };
        let out = acceptor.take(to_acceptor(2, heartbeat));
        let said = sends(&out).into_iter().find_map(|(_, message)| match message {
            Message::HeartbeatAck { witness, .. } => Some(witness),
            _ => None,
        });
        assert_eq!(said, Some(is_witness));
    }
}

// protocol 4.3
#[test]
fn a_voter_that_holds_no_state_is_not_counted_among_those_that_do() {
    let mut proposer = leader(3);
    assert_eq!(held(&proposer.take(progress(1, 3, false))), []);
    assert_eq!(held(&proposer.take(progress(2, 3, true))), [], "one full node is no set that none can miss");
    assert_eq!(held(&proposer.take(progress(3, 3, false))), [slot(3)]);
}
