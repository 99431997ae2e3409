//! The faults of the network in memory: that they happen, that they can be repeated, and that cuts cut.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use futures::StreamExt;
use futures::channel::mpsc::UnboundedReceiver;
use std::sync::Arc;
use std::time::Duration;
use synod::multi::{ClusterId, DiskId, Identity, Incarnation, Message, Owner, ProtocolRange, Sequence};
use synod::paxos::NodeId;
use synod::timer::TokioTimer;
use synod::transport::{Arrival, Envelope, GroupId, Inbox, SendOutcome, Transport};
use synod_memory::{Faults, MemoryNetwork, MemoryTransport};

const ONE: NodeId = NodeId::new(1);
const TWO: NodeId = NodeId::new(2);

fn identity(node: NodeId) -> Identity {
    Identity {
        owner: Owner { cluster: ClusterId::new("memory").unwrap(), epoch: 0, node },
        disk: DiskId(node.get()),
        incarnations: vec![Incarnation { counter: 1, nonce: 1 }],
        sequence: Sequence(0),
        protocol: ProtocolRange::OURS,
    }
}

struct Node {
    transport: Arc<MemoryTransport>,
    arrivals: UnboundedReceiver<Arrival>,
}

/// Two nodes that run; give up the tasks to end them.
fn two(network: &MemoryNetwork) -> [Node; 2] {
    [ONE, TWO].map(|node| {
        let transport = Arc::new(network.transport(node));
        let (inbox, arrivals) = Inbox::channel(identity(node), usize::MAX);
        tokio::spawn(Arc::clone(&transport).run(inbox));
        Node { transport, arrivals }
    })
}

impl Node {
    /// The next arrival that is no handshake; those it takes.
    async fn next(&mut self, within: Duration) -> Option<Arrival> {
        let next = async {
            loop {
                match self.arrivals.next().await.unwrap() {
                    Arrival::Connect { answer, .. } => answer.send(Ok(())).unwrap(),
                    other => return other,
                }
            }
        };
        tokio::time::timeout(within, next).await.ok()
    }

    async fn linked(&mut self) {
        let up = self.next(Duration::from_secs(1)).await;
        assert!(matches!(up, Some(Arrival::LinkUp { .. })), "{up:?}");
    }

    async fn numbers(&mut self, pause: Duration) -> Vec<u64> {
        let mut numbers = Vec::new();
        while let Some(arrival) = self.next(pause).await {
            if let Arrival::Message { envelope, .. } = arrival {
                let Message::PrePrepare { nonce } = envelope.message else { panic!("{envelope:?}") };
                numbers.push(nonce);
            }
        }
        numbers
    }

    fn send(&self, to: NodeId, number: u64) {
        let envelope = Envelope { group: GroupId(0), message: Message::PrePrepare { nonce: number } };
        assert_eq!(self.transport.send(to, &envelope), SendOutcome::Queued);
    }
}

async fn sent_through(seed: u64, faults: Faults) -> (Vec<u64>, MemoryNetwork) {
    let network = MemoryNetwork::new(seed, Arc::<TokioTimer>::default());
    network.set_faults(faults);
    let [mut one, mut two] = two(&network);
    one.linked().await;
    two.linked().await;
    for number in 0..1_000 {
        one.send(TWO, number);
    }
    (two.numbers(Duration::from_secs(120)).await, network)
}

fn rough() -> Faults {
    Faults {
        loss: 0.2,
        repeat: 0.3,
        reorder: 0.2,
        delay_min: Duration::from_millis(1),
        delay_max: Duration::from_millis(9),
        late_max: Duration::from_secs(60),
    }
}

#[tokio::test(start_paused = true)]
async fn a_seed_gives_the_same_faults_again_and_another_seed_others() {
    // scenario N6
    let (first, network) = sent_through(7, rough()).await;
    let (again, _) = sent_through(7, rough()).await;
    let (other, _) = sent_through(8, rough()).await;
    assert_eq!(first, again);
    assert_ne!(first, other);
    // faults F18, F19, F20
    let stats = network.stats();
    assert!((100..300).contains(&stats.lost), "{stats:?}");
    assert!((150..350).contains(&stats.repeated), "{stats:?}");
    assert!(first.windows(2).any(|pair| pair[0] > pair[1]), "something was overtaken");
    assert_eq!(first.len() as u64, stats.sent - stats.lost + stats.repeated);
}

#[tokio::test(start_paused = true)]
async fn delays_alone_keep_the_order() {
    let faults = Faults { repeat: 0.0, reorder: 0.0, loss: 0.0, ..rough() };
    let (numbers, _) = sent_through(3, faults).await;
    assert_eq!(numbers, (0..1_000).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_message_takes_the_time_that_was_set() {
    let network = MemoryNetwork::new(1, Arc::<TokioTimer>::default());
    let delay = Duration::from_secs(30);
    network.set_link_faults(ONE, TWO, Faults { delay_min: delay, delay_max: delay, ..Faults::default() });
    let [mut one, mut two] = two(&network);
    one.linked().await;
    two.linked().await;
    let began = tokio::time::Instant::now();
    one.send(TWO, 1);
    assert!(two.next(Duration::from_secs(60)).await.is_some());
    assert!(began.elapsed() >= delay, "{:?}", began.elapsed());
    let began = tokio::time::Instant::now();
    two.send(ONE, 1);
    assert!(one.next(Duration::from_secs(60)).await.is_some());
    assert!(began.elapsed() < delay, "the way back has no delay");
}

#[tokio::test(start_paused = true)]
async fn a_cut_one_way_leaves_the_other_way() {
    // scenario N4
    let network = MemoryNetwork::new(1, Arc::<TokioTimer>::default());
    let [mut one, mut two] = two(&network);
    one.linked().await;
    two.linked().await;
    one.send(TWO, 1);
    network.cut_one_way(ONE, TWO);
    one.send(TWO, 2);
    two.send(ONE, 3);
    let second = Duration::from_secs(1);
    assert_eq!(two.numbers(second).await, [] as [u64; 0], "what was under way is lost, too");
    assert_eq!(one.numbers(second).await, [3]);
    network.heal(ONE, TWO);
    one.send(TWO, 4);
    assert_eq!(two.numbers(second).await, [4], "a short cut does not end the connection");
}

#[tokio::test(start_paused = true)]
async fn a_long_cut_is_noticed_and_mended_after_healing() {
    // scenario N5
    let network = MemoryNetwork::new(1, Arc::<TokioTimer>::default());
    let [mut one, mut two] = two(&network);
    one.linked().await;
    two.linked().await;
    network.partition(&[&[ONE], &[TWO]]);
    for node in [&mut one, &mut two] {
        let down = node.next(Duration::from_secs(4)).await;
        assert!(matches!(down, Some(Arrival::LinkDown { .. })), "{down:?}");
        assert!(node.next(Duration::from_secs(60)).await.is_none(), "and stays down");
    }
    network.heal_all();
    one.linked().await;
    two.linked().await;
    one.send(TWO, 5);
    assert_eq!(two.numbers(Duration::from_secs(1)).await, [5]);
}
