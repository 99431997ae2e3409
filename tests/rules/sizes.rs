//! What a message counts for where bytes are bounded: about what it takes encoded, and not many times as much.

use crate::support::*;
use bytes::Bytes;
use std::collections::BTreeMap;
use synod::codec;
use synod::multi::*;

/// As many voters, with the longest addresses.
fn addressed(count: u64) -> Membership {
    let address = "a".repeat(Membership::ADDRESS_BYTES_MAX);
    Membership::voters((1..=count).map(|number| (node(1000 + number), address.clone()))).unwrap()
}

fn judge(what: &str, message: &Message) {
    let (size, encoded) = (message.size(), codec::encode(message).unwrap().len());
    // Names of kinds, and what tells how long a thing is, may come to an eighth.
    assert!(size + size / 8 >= encoded, "{what} counts for {size} bytes and takes {encoded}");
    assert!(size <= 400 + 4 * encoded, "{what} counts for {size} bytes and takes {encoded} only");
}

// fault F27
#[test]
fn a_message_counts_for_what_it_takes_encoded_and_for_little_more() {
    let under = id(1 << 30, 1 << 20);
    for count in [1, 2, 9, 100] {
        let slots = || (0..count).map(|nth| interval((1 << 30) + 10 * nth, (1 << 30) + 10 * nth + 5));
        let bytes = Bytes::from(vec![b'x'; 100 * count as usize]);
        let values = || (0..count).map(|nth| batch(&"v".repeat(nth as usize)));
        let named = vec![Value::Membership(addressed(count)), Value::Noop];
        let entries = || slots().zip(values()).map(|(at, value)| (at.first.get(), under, value));
        let mut memberships = Memberships::bootstrap(addressed(count));
        memberships.learn(slot(1), &Membership::voters([(node(1), "")]).unwrap());
        assert_eq!(memberships.retired().len() as u64, count);
        let disks = BTreeMap::from_iter((1..=count).map(|number| (node(1000 + number), DiskId(u64::MAX))));
        let base = Box::new(Base { through: slot(9), memberships, disks, snapshot: None });
        let origin =
            Origin { node: node(u64::MAX), incarnation: 1 << 30, serial: 1 << 40, answered_through: 9 };
        let snapshot = SnapshotId { through: slot(1 << 40), bytes: 1 << 40, checksum: u32::MAX };
        let lagging = (1..=count).map(|number| node(u64::MAX - number)).collect();
        let (request, outcome) = (1 << 40, AdminOutcome::ChangeRefused(ChangeRefusal::Lagging { lagging }));
        let set = AdminCall::Change(Change::Set(addressed(count)));
        let added = Change::Add { node: node(9), member: addressed(1).members()[&node(1001)].clone() };
        let messages = [
            promise(under, 1 << 30, entries()),
            promise_page(under, 0, interval(1, u64::MAX), [], slots()),
            promise(under, 0, [(1, under, named[0].clone())]),
            accept(under, 1 << 30, &values().collect::<Vec<_>>(), 1 << 30),
            accept(under, 1 << 30, &named, 1 << 30),
            Message::Accepted { id: under, slots: slots().collect(), sequence: Sequence(1 << 40) },
            Message::Chosen { first: slot(1), values: values().collect(), chosen_through: slot(1 << 30) },
            Message::Chosen { first: slot(1), values: named, chosen_through: slot(1 << 30) },
            Message::Base { base },
            Message::SnapshotChunk { snapshot, at: 1 << 40, bytes: bytes.clone() },
            Message::Form {
                membership: addressed(count),
                disk: DiskId(u64::MAX),
                yours: Some(DiskId(1 << 40)),
            },
            Message::Forward { origin, request: Request::Plain, command: bytes.clone() },
            Message::ForwardAnswer { serial: 1 << 40, outcome: ForwardOutcome::Applied(bytes) },
            Message::Admin { request, call: set },
            Message::Admin { request, call: AdminCall::Change(added) },
            Message::Admin { request, call: AdminCall::Transfer(Some(node(9))) },
            Message::AdminAnswer { request, outcome: AdminOutcome::Changed(addressed(count)) },
            Message::AdminAnswer { request, outcome },
            Message::AdminAnswer { request, outcome: AdminOutcome::Unknown },
            nack(under, under),
        ];
        for (nth, message) in messages.iter().enumerate() {
            judge(&format!("message {nth} of {count}"), message);
        }
    }
}
