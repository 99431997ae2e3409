//! Nodes whose wires to each other are bad: late, stalled, reset, damaged, half open, cut one way, and replayed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod stress;
mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::sleep;
use std::time::{Duration, Instant};
use stress::cluster::Cluster;
use stress::history::Histories;
use stress::http::Http;
use stress::load::{ASIDE, Load};
use stress::wires::{Weather, Wires};
use support::Answer;
use synod::codec;
use synod::multi::{Identity, Refusal};

const CLIENTS: u64 = 3;
/// A dead connection is noticed after 3 s of silence; then come an election and a machine with other things to do.
const SERVES_WITHIN: Duration = Duration::from_secs(8);
/// A handshake that came to a halt on a bad wire is given up after 5 s.
const EQUAL_WITHIN: Duration = Duration::from_secs(15);
const TRY: Duration = Duration::from_secs(1);

/// Three nodes on wires, and clients that reach each of them directly.
fn on_wires(seed: u64) -> (Arc<Wires>, Cluster, Load) {
    let (wires, nodes) = Wires::between_nodes(seed);
    let cluster = Cluster::of(nodes);
    let load = Load::new(cluster.addresses(), seed);
    (wires, cluster, load)
}

/// After all is well again: all nodes live and are equal, and what clients saw has an order that explains it.
fn judge(cluster: &mut Cluster, load: &Load, mut histories: Histories) {
    let equal = cluster.until_equal(EQUAL_WITHIN);
    cluster.all_alive();
    load.read_all(&mut histories);
    let judged = histories.judge().unwrap_or_else(|violation| panic!("{violation}"));
    println!("equal after {equal:?}; {judged:?}");
}

/// The longest wait for a write while `long` passes.
fn longest_pause(load: &Load, long: Duration) -> Duration {
    let (begin, mut longest) = (Instant::now(), Duration::ZERO);
    while begin.elapsed() < long {
        longest = longest.max(load.serves_again(SERVES_WITHIN));
        sleep(Duration::from_millis(10));
    }
    longest
}

fn others(of: u64) -> [u64; 2] {
    [of % 3 + 1, (of + 1) % 3 + 1]
}

fn leader(cluster: &Cluster) -> u64 {
    let begin = Instant::now();
    loop {
        if let Some(at) = cluster.leader() {
            return cluster.nodes[at].id;
        }
        assert!(begin.elapsed() < SERVES_WITHIN, "nobody leads");
    }
}

#[test]
fn a_cluster_on_lossy_wires_keeps_serving() {
    // faults F18, F20 and F21, scenarios N1 and L6: late, stalled, reset and damaged bytes
    let (wires, mut cluster, load) = on_wires(stress::seed("lossy"));
    let ms = Duration::from_millis;
    let weather = Weather { delay: ms(8), stalls: 100, stall: ms(400), resets: 60, damages: 60 };
    let (histories, longest) = load.during(CLIENTS, || {
        load.serves_again(SERVES_WITHIN);
        wires.weather(weather);
        let mut longest = longest_pause(&load, Duration::from_secs(4));
        support::eventually(|| {
            longest = longest.max(longest_pause(&load, TRY / 10));
            let counts = [&wires.counts.stalls, &wires.counts.resets, &wires.counts.damages];
            counts.iter().all(|count| count.load(Relaxed) > 0)
        });
        wires.heal();
        load.serves_again(SERVES_WITHIN);
        longest
    });
    println!("{:?}; the longest pause was {longest:?}", wires.counts);
    judge(&mut cluster, &load, histories);
}

#[test]
fn a_leader_that_hears_but_is_not_heard_is_replaced() {
    // fault F22, scenario N4
    let (wires, mut cluster, load) = on_wires(stress::seed("lossy"));
    let (histories, ()) = load.during(CLIENTS, || {
        load.serves_again(SERVES_WITHIN);
        let old = leader(&cluster);
        others(old).into_iter().for_each(|other| wires.cut(old, other));
        println!("cut one way: the longest pause was {:?}", longest_pause(&load, Duration::from_secs(4)));
        wires.heal();
        load.serves_again(SERVES_WITHIN);
    });
    judge(&mut cluster, &load, histories);
}

#[test]
fn a_half_open_node_that_takes_calls_and_never_answers_does_not_keep_the_others_from_serving() {
    // fault F37
    let (wires, mut cluster, load) = on_wires(stress::seed("lossy"));
    let (histories, ()) = load.during(CLIENTS, || {
        load.serves_again(SERVES_WITHIN);
        let mute = others(leader(&cluster))[0];
        wires.mute(mute);
        // Its present connections have to end first.
        wires.weather(Weather { resets: 10_000, ..Weather::default() });
        sleep(Duration::from_millis(300));
        wires.weather(Weather::default());
        println!("one half open: the longest pause was {:?}", longest_pause(&load, Duration::from_secs(2)));
        wires.heal();
        load.serves_again(SERVES_WITHIN);
    });
    judge(&mut cluster, &load, histories);
}

fn create(node: SocketAddr, once: &str) -> Option<Answer> {
    let headers = [("Idempotency-Key", once), ("If-None-Match", "*")];
    Http::new(node).send(("PUT", &format!("/kv/{ASIDE}once")), &headers, b"1", TRY).ok()
}

#[test]
fn peers_that_vanish_without_a_word_are_noticed_and_what_is_sent_again_counts_once() {
    // scenario N5, fault F37; fault F19
    let (wires, mut cluster, load) = on_wires(stress::seed("lossy"));
    let nodes = cluster.addresses();
    let (histories, ()) = load.during(CLIENTS, || {
        load.serves_again(SERVES_WITHIN);
        let old = leader(&cluster);
        let opened = Http::new(nodes[0]).send(("POST", "/sessions"), &[], b"", TRY).unwrap();
        let once = format!("\"{}/1\"", opened.json()["session"].as_str().unwrap());
        for other in others(old) {
            wires.cut(old, other);
            wires.cut(other, old);
        }
        let first = create(nodes[old as usize - 1], &once);
        assert!(first.is_none_or(|answer| answer.status >= 500), "it cannot know");
        println!(
            "the leader vanished: the longest pause was {:?}",
            longest_pause(&load, Duration::from_secs(4))
        );
        let noticed = wires.noticed();
        // Silence of 3 s ends a connection, and the last ping may have gone up to a second before.
        let (min, max) = (noticed.iter().min().unwrap(), noticed.iter().max().unwrap());
        println!("{} ends of connections gave up after {min:?} to {max:?}", noticed.len());
        assert!(noticed.len() >= 4, "both ways with both others, from either end: {noticed:?}");
        assert!(*max < Duration::from_millis(4_500), "{noticed:?}");
        wires.heal();
        load.serves_again(SERVES_WITHIN);

        let mut versions = Vec::new();
        for node in nodes.iter().chain(&nodes) {
            support::eventually(|| match create(*node, &once) {
                Some(answer) if answer.status == 201 => {
                    versions.push(answer.etag().to_owned());
                    true
                }
                Some(answer) if answer.status < 500 => panic!("not the same creation: {answer:?}"),
                _ => false,
            });
        }
        assert!(
            versions.iter().all(|version| *version == versions[0]),
            "created more than once: {versions:?}"
        );
    });
    judge(&mut cluster, &load, histories);
}

/// Plays what a node once sent to whoever listens at `port`, and gives the verdict of the handshake.
fn replay(record: &[u8], port: u16) -> Result<(), Refusal> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(SERVES_WITHIN)).unwrap();
    // It is closed while this writes, as it should be.
    let _ = stream.write_all(record);
    let mut frame = |behind: usize| {
        let mut header = vec![0; behind + 12];
        stream.read_exact(&mut header).unwrap();
        let length = header[behind..behind + 4].try_into().map(u32::from_be_bytes).unwrap();
        let mut payload = vec![0; length as usize];
        stream.read_exact(&mut payload).unwrap();
        payload
    };
    let (_, _): (Identity, bool) = codec::decode(&frame(8)).unwrap();
    codec::decode(&frame(0)).unwrap()
}

#[test]
fn recorded_frames_are_refused_by_another_cluster_and_after_a_restart_and_harmless_before() {
    // fault F39; fault F19: what comes again, late, changes nothing
    let (wires, mut cluster, load) = on_wires(stress::seed("lossy"));
    let mut foreign = support::nodes(1).remove(0);
    foreign.cluster = "another";
    let dir = tempfile::TempDir::new().unwrap();
    let another = foreign.start(dir.path()).ready();
    let (histories, ()) = load.during(CLIENTS, || {
        load.serves_again(SERVES_WITHIN);
        // A follower says more to its leader than to anybody else.
        let to = leader(&cluster);
        let (from, port) = (others(to)[0], cluster.nodes[to as usize - 1].listen);
        support::eventually(|| wires.recorded(from, to).len() > 1_000);
        let record = wires.recorded(from, to);
        let before = another.ask("GET", "/status").json();
        assert_eq!(replay(&record, foreign.listen), Err(Refusal::WrongCluster));
        let after = another.ask("GET", "/status").json();
        assert_eq!((&before["applied"], &before["proposal_id"]), (&after["applied"], &after["proposal_id"]));

        // While the node lives, plain TCP cannot tell: Paxos has to bear it, and does.
        assert_eq!(replay(&record, port), Ok(()));
        load.serves_again(SERVES_WITHIN);

        cluster.kill(from as usize - 1);
        cluster.start_node(from as usize - 1);
        load.serves_again(SERVES_WITHIN);
        support::eventually(|| all_name_one_leader(&cluster));
        let verdict = replay(&record, port);
        assert!(matches!(verdict, Err(Refusal::StaleIncarnation { .. })), "{verdict:?}");
        load.serves_again(SERVES_WITHIN);
    });
    judge(&mut cluster, &load, histories);
}

/// Whether all nodes name one leader: then they have all shaken hands anew.
fn all_name_one_leader(cluster: &Cluster) -> bool {
    let leads = |node| Http::new(node).json("/status", TRY).and_then(|status| status["leader"].as_u64());
    let all: Vec<_> = cluster.addresses().into_iter().map(leads).collect();
    all[0].is_some() && all.iter().all(|leader| *leader == all[0])
}
