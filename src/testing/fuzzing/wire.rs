//! What a peer sends: decoded, encoded again, and taken in by a node.

use crate::codec;
use crate::election::{Election, Timing};
use crate::multi::node::{self, Node};
use crate::multi::{
    Acceptor, AcceptorInput, ClusterId, DiskId, Effect, ElectionInput, Identity, Incarnation, Learner,
    Limits, Local, Log, Membership, Owner, Proposer, ProposerInput, ProtocolRange, Record, Role, Sequence,
    Time,
};
use crate::paxos::NodeId;
use crate::transport::Envelope;
use std::collections::BTreeMap;
use std::fmt::Write;

/// How many bytes the encoding of a message may have for each byte that it was decoded from: where a name is expected, its
/// number will do.
const BYTES_PER_BYTE: usize = 16;

/// The decoding of messages: `bytes` as an envelope. One that is well formed is then taken in, as coming from a peer, by a
/// node that leads and by one whose cluster has not formed.
///
/// # Panics
///
/// If what was decoded does not come back as it was, is larger than its bytes allow, or breaks the node: a bug.
pub fn wire_message(bytes: &[u8]) {
    let Ok(envelope) = codec::decode::<Envelope>(bytes) else { return };
    let encoded = codec::encode(&envelope).unwrap_or_default();
    let bytes_max = 128 + BYTES_PER_BYTE * bytes.len();
    assert!(encoded.len() <= bytes_max, "{} bytes became {}", bytes.len(), encoded.len());
    let again = codec::decode::<Envelope>(&encoded).ok();
    assert_eq!(again.as_ref(), Some(&envelope), "it does not come back as it was");
    let mut text = String::new();
    assert!(write!(text, "{envelope:?}").is_ok());
    if !node::is_well_formed(&envelope.message) {
        return;
    }
    let from = envelope.message.speaker().unwrap_or(NodeId::new(2));
    for formed in [true, false] {
        let (mut receiver, mut out) = (receiver(formed), Vec::new());
        receiver.receive(Time::ZERO, from, envelope.message.clone(), &mut out);
        // What it asked for comes to pass: writes are durable, and the deadlines come.
        let durable = out.iter().filter_map(|(_, effect)| match effect {
            Effect::Persist { sequence, .. } => Some(*sequence),
            _ => None,
        });
        if let Some(sequence) = durable.max() {
            let input = AcceptorInput::Persisted { sequence };
            receiver.step(Time::ZERO, Local::Acceptor(input), &mut out);
        }
        let later = Time::ZERO + Limits::default().campaign_timeout;
        for role in [Role::Proposer, Role::Acceptor, Role::Learner, Role::Election] {
            receiver.wake(later, role, &mut out);
        }
    }
}

/// Node 1 of three: the leader, or one that was bootstrapped and has not met the others.
fn receiver(formed: bool) -> Node {
    let me = NodeId::new(1);
    let membership = Membership::voters((1..=3).map(|node| (NodeId::new(node), "")));
    let membership = membership.unwrap_or_else(|error| unreachable!("three voters: {error}"));
    let mut log = Log::default();
    if formed {
        let disks = (1..=3).map(|node| (NodeId::new(node), DiskId(node)));
        log.apply(&Record::Formed { membership: membership.clone(), disks: BTreeMap::from_iter(disks) });
    }
    let cluster = ClusterId::new("fuzz").unwrap_or_else(|error| unreachable!("a well-formed name: {error}"));
    let identity = Identity {
        owner: Owner { cluster, epoch: 0, node: me },
        disk: DiskId(1),
        incarnations: vec![Incarnation { counter: 1, nonce: 1 }],
        sequence: Sequence(0),
        protocol: ProtocolRange::OURS,
    };
    let mut node = Node::new(
        Proposer::new(me, Limits::default(), 1),
        Acceptor::new(identity, Some(membership), Sequence(0), log, Limits::default()),
        Learner::new(me, Limits::default(), 1),
        Election::heartbeat(me, Timing::default(), 1),
    );
    let mut out = Vec::new();
    node.start(Time::ZERO, &mut out);
    for peer in [2, 3] {
        node.link(Time::ZERO, NodeId::new(peer), true, &mut out);
    }
    node.step(Time::ZERO, Local::Proposer(ProposerInput::Campaign), &mut out);
    // Its own promise is durable, and a second voter's is the same.
    let promises: Vec<_> = out
        .iter()
        .filter_map(|(_, effect)| match effect {
            Effect::Send { to, message, after: Some(_) } if *to == me => Some(message.clone()),
            _ => None,
        })
        .collect();
    for promise in promises {
        for voter in [me, NodeId::new(2)] {
            node.receive(Time::ZERO, voter, promise.clone(), &mut out);
        }
    }
    node.step(Time::ZERO, Local::Election(ElectionInput::Wake), &mut out);
    node
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::multi::ProposerState;

    #[test]
    fn the_node_that_takes_messages_in_leads_where_it_can() {
        assert!(matches!(receiver(true).proposer.state(), ProposerState::Leading { .. }));
        assert_eq!(receiver(false).proposer.state(), ProposerState::Idle);
    }
}
