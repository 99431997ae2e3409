//! Seeds from real messages: every kind, with the values that are hardest to carry.

use bytes::Bytes;
use std::collections::BTreeMap;
use synod::codec;
use synod::multi::{
    AdminCall, AdminOutcome, Base, Change, ChangeRefusal, ClusterId, DiskId, ForwardOutcome, Identity,
    Incarnation, Interval, Member, MemberKind, Membership, Memberships, Message, Origin, Owner, Page,
    ProtocolRange, Refusal, Request, Sequence, SessionId, SessionStamp, Slot, SnapshotId, Value,
};
use synod::paxos::{NodeId, ProposalId};
use synod::transport::{Envelope, GroupId};

fn node(number: u64) -> NodeId {
    NodeId::new(number)
}

fn slot(number: u64) -> Slot {
    Slot::new(number)
}

fn id(number: u64, of: u64) -> ProposalId {
    ProposalId::new(number, node(of))
}

fn membership() -> Membership {
    Membership::voters([(node(1), "[::1]:7000"), (node(2), "zwei:7000"), (node(3), "")]).unwrap()
}

fn batch(bytes: &'static [u8]) -> Value {
    Value::Batch(Bytes::from_static(bytes))
}

fn values() -> Vec<Value> {
    vec![batch(b"\x00\xC1\xFFbatch"), Value::Noop, Value::Membership(membership())]
}

fn page() -> Page {
    Page {
        covers: Interval::new(Slot::FIRST, Slot::MAX),
        entries: vec![(slot(2), id(1, 2), batch(b"two")), (slot(9), id(1, 3), Value::Noop)],
        unknown: vec![Interval::new(slot(3), slot(8))],
    }
}

fn base() -> Base {
    let disks = (1..=3).map(|number| (node(number), DiskId(number << 40)));
    let snapshot = SnapshotId { through: slot(4096), bytes: 1 << 33, checksum: 0xDEAD_BEEF };
    let memberships = Memberships::bootstrap(membership());
    Base { through: slot(4096), memberships, disks: BTreeMap::from_iter(disks), snapshot: Some(snapshot) }
}

/// One of each kind, named for what the seed holds.
fn kinds() -> Vec<(&'static str, Message)> {
    let highest = id(ProposalId::NUMBER_MAX, u64::MAX);
    let session = SessionId { slot: Slot::MAX, index: u32::MAX };
    let stamp = SessionStamp { session, serial: u64::MAX, answered_through: 7 };
    let origin = Origin { node: node(2), incarnation: 4, serial: 5, answered_through: 4 };
    let snapshot = SnapshotId { through: slot(8), bytes: 70_000, checksum: 1 };
    let lagging = ChangeRefusal::Lagging { lagging: [node(4), node(5)].into_iter().collect() };
    let observer = Member { kind: MemberKind::Observer, address: "h:1".into() };
    vec![
        ("pre_prepare", Message::PrePrepare { nonce: u64::MAX }),
        ("pre_prepare_answer", Message::PrePrepareAnswer { nonce: 1, leader: Some(highest) }),
        ("pre_prepare_answer_no", Message::PrePrepareAnswer { nonce: 0, leader: None }),
        ("prepare", Message::Prepare { id: id(7, 2), from: slot(3) }),
        ("prepare_highest", Message::Prepare { id: highest, from: Slot::MAX }),
        (
            "promise",
            Message::Promise { id: id(1, 1), chosen_through: slot(1), page: page(), sequence: Sequence(9) },
        ),
        ("nack", Message::Nack { asked: id(1, 1), promised: id(2, 3) }),
        ("accept", Message::Accept { id: id(2, 2), first: slot(1), values: values(), watermark: Slot::ZERO }),
        (
            "accept_none",
            Message::Accept { id: id(2, 2), first: Slot::MAX, values: vec![], watermark: Slot::MAX },
        ),
        (
            "accepted",
            Message::Accepted {
                id: id(1, 1),
                slots: vec![Interval::new(slot(1), Slot::MAX)],
                sequence: Sequence(2),
            },
        ),
        (
            "heartbeat",
            Message::Heartbeat {
                id: id(2, 2),
                watermark: slot(3),
                held_through: slot(2),
                pulse: 70_000,
                lease: true,
            },
        ),
        (
            "heartbeat_ack",
            Message::HeartbeatAck { id: id(1, 1), pulse: 1, durable_through: slot(2), witness: true },
        ),
        ("confirm", Message::Confirm { id: id(2, 2), nonce: 300 }),
        ("confirmed", Message::Confirmed { id: id(1, 1), nonce: 300 }),
        ("take_over", Message::TakeOver { id: id(2, 2) }),
        ("catch_up", Message::CatchUp { from: slot(1), bytes_max: u32::MAX }),
        ("chosen", Message::Chosen { first: slot(1), values: values(), chosen_through: slot(3) }),
        ("base", Message::Base { base: Box::new(base()) }),
        ("ask_base", Message::AskBase { above: Slot::MAX }),
        ("fetch_snapshot", Message::FetchSnapshot { snapshot, at: u64::MAX, bytes_max: 1 }),
        ("snapshot_chunk", Message::SnapshotChunk { snapshot, at: 0, bytes: Bytes::from_static(b"a part") }),
        ("form", Message::Form { membership: membership(), disk: DiskId(2), yours: Some(DiskId(1)) }),
        ("already_formed", Message::AlreadyFormed { disk: DiskId(u64::MAX) }),
        (
            "forward",
            Message::Forward { origin, request: Request::Plain, command: Bytes::from_static(b"command") },
        ),
        (
            "forward_in_session",
            Message::Forward { origin, request: Request::InSession(stamp), command: Bytes::new() },
        ),
        (
            "forward_answer",
            Message::ForwardAnswer {
                serial: 4,
                outcome: ForwardOutcome::Applied(Bytes::from_static(b"reply")),
            },
        ),
        (
            "forward_answer_opened",
            Message::ForwardAnswer { serial: 4, outcome: ForwardOutcome::SessionOpened(session) },
        ),
        ("read_mark", Message::ReadMark { request: 1 }),
        ("read_mark_answer", Message::ReadMarkAnswer { request: 1, mark: Some((highest, Slot::MAX)) }),
        (
            "admin_change",
            Message::Admin {
                request: 1,
                call: AdminCall::Change(Change::Add { node: node(4), member: observer }),
            },
        ),
        ("admin_set", Message::Admin { request: 2, call: AdminCall::Change(Change::Set(membership())) }),
        ("admin_transfer", Message::Admin { request: 3, call: AdminCall::Transfer(None) }),
        ("admin_answer", Message::AdminAnswer { request: 2, outcome: AdminOutcome::Changed(membership()) }),
        (
            "admin_answer_refused",
            Message::AdminAnswer { request: 1, outcome: AdminOutcome::ChangeRefused(lagging) },
        ),
    ]
}

fn encoded(message: Message) -> Vec<u8> {
    codec::encode(&Envelope { group: GroupId(0), message }).unwrap()
}

/// The seeds of `wire_message`.
pub(crate) fn messages() -> Vec<(String, Vec<u8>)> {
    kinds().into_iter().map(|(name, message)| (name.to_owned(), encoded(message))).collect()
}

/// A frame, written by hand so that a change of the format is noticed here.
pub(crate) fn frame(payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes().to_vec();
    frame.extend(crc32fast::hash(payload).to_be_bytes());
    frame.extend(crc32fast::hash(&frame).to_be_bytes());
    frame.extend(payload);
    frame
}

fn identity() -> Identity {
    Identity {
        owner: Owner { cluster: ClusterId::new("fuzz").unwrap(), epoch: 1, node: node(2) },
        disk: DiskId(2),
        incarnations: (1..=3).map(|counter| Incarnation { counter, nonce: counter << 50 }).collect(),
        sequence: Sequence(77),
        protocol: ProtocolRange::OURS,
    }
}

/// The seeds of `frame`.
pub(crate) fn frames() -> Vec<(String, Vec<u8>)> {
    let prepare = encoded(Message::Prepare { id: id(7, 2), from: slot(3) });
    let accept =
        encoded(Message::Accept { id: id(2, 2), first: slot(1), values: values(), watermark: Slot::ZERO });
    let malformed = encoded(Message::Prepare { id: id(u64::MAX, 2), from: slot(3) });
    let mut damaged = frame(&accept);
    *damaged.last_mut().unwrap() ^= 1;
    // scenario S2: it claims 4 GiB, and its checksum is right.
    let mut bomb = vec![0xFF; 8];
    bomb.extend(crc32fast::hash(&bomb).to_be_bytes());
    let verdict: Result<(), Refusal> =
        Err(Refusal::StaleIncarnation { known: Incarnation { counter: 3, nonce: 1 } });
    let seeds: [(&str, Vec<u8>); 14] = [
        ("ping", frame(&[])),
        ("message", frame(&prepare)),
        ("values", frame(&accept)),
        ("two_messages_and_a_ping", [frame(&prepare), frame(&accept), frame(&[])].concat()),
        ("payload_alone", accept.clone()),
        ("bytes_behind_the_message", frame(&[prepare.as_slice(), &[0xC0]].concat())),
        ("id_above_the_highest", frame(&malformed)),
        ("damaged", damaged),
        ("cut_short", frame(&accept)[..20].to_vec()),
        ("header_of_ones", vec![0xFF; 12]),
        ("length_bomb", bomb),
        ("http", b"GET / HTTP/1.1\r\nHost: synod\r\n\r\n".to_vec()),
        ("hello", codec::encode(&(identity(), true)).unwrap()),
        ("verdict", codec::encode(&verdict).unwrap()),
    ];
    seeds.into_iter().map(|(name, bytes)| (name.to_owned(), bytes)).collect()
}
