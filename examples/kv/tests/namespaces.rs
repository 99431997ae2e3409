//! Three nodes in network namespaces of their own, whose links are taken down: nothing is closed, nothing is told.
//!
//! Each node has two interfaces: one to the others, through a bridge, which is cut; and one to the clients, which is not,
//! so that a node that is cut off can be asked to lie. Needs the right to add namespaces; skipped, and said so, without it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod stress;
mod support;

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};
use stress::http::Http;
use stress::load::{ASIDE, Load};
use support::{Running, kv, spawn};
use tempfile::TempDir;

const CLIENTS: u64 = 4;
/// An election, on a machine that has other things to do.
const ELECTS_WITHIN: Duration = Duration::from_secs(5);
/// A lost SYN is sent again after 1, 2 and 4 s, and an address that nobody answered for is asked for again after 3 s.
const HEALS_WITHIN: Duration = Duration::from_secs(10);
const SOON: Duration = Duration::from_millis(500);

fn ip(arguments: &str) -> Result<(), String> {
    let output = Command::new("ip").args(arguments.split(' ')).output().map_err(|error| error.to_string())?;
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    output.status.success().then_some(()).ok_or_else(|| format!("ip {arguments}: {said}"))
}

/// The namespaces; gone when this is dropped, with all that is in them.
struct Network {
    added: Vec<String>,
}

impl Drop for Network {
    fn drop(&mut self) {
        for name in &self.added {
            if let Err(error) = ip(&format!("netns del {name}")) {
                println!("a namespace is left behind: {error}");
            }
        }
    }
}

impl Network {
    fn namespace(node: u64) -> String {
        format!("synod-{}-{node}", std::process::id())
    }

    /// Where clients reach a node: in the range that is set apart for measurements.
    fn http(node: u64) -> [u8; 4] {
        [198, 19, (std::process::id() % 250) as u8, node as u8 * 4 + 2]
    }

    fn add() -> Result<Self, String> {
        let mut network = Self { added: Vec::new() };
        let bridge = Self::namespace(0);
        for node in 0..=3 {
            let name = Self::namespace(node);
            ip(&format!("netns add {name}"))?;
            network.added.push(name);
        }
        ip(&format!("-n {bridge} link add bridge type bridge"))?;
        ip(&format!("-n {bridge} link set bridge up"))?;
        for node in 1..=3 {
            let name = Self::namespace(node);
            ip(&format!("-n {name} link set lo up"))?;
            ip(&format!("-n {name} link add peers type veth peer name port{node} netns {bridge}"))?;
            ip(&format!("-n {bridge} link set port{node} master bridge up"))?;
            ip(&format!("-n {name} address add 198.18.0.{node}/24 dev peers"))?;
            ip(&format!("-n {name} link set peers up"))?;
            // The other end is in this namespace, and goes with the one that is added here.
            let (outside, [a, b, c, d]) = (format!("syn{}n{node}", std::process::id()), Self::http(node));
            ip(&format!(
                "-n {name} link add clients type veth peer name {outside} netns {}",
                std::process::id()
            ))?;
            ip(&format!("-n {name} address add {a}.{b}.{c}.{d}/30 dev clients"))?;
            ip(&format!("-n {name} link set clients up"))?;
            ip(&format!("address add {a}.{b}.{c}.{}/30 dev {outside}", d - 1))?;
            ip(&format!("link set {outside} up"))?;
        }
        Ok(network)
    }

    fn cut(node: u64) {
        ip(&format!("-n {} link set peers down", Self::namespace(node))).unwrap();
    }

    fn join(node: u64) {
        ip(&format!("-n {} link set peers up", Self::namespace(node))).unwrap();
    }
}

/// Nodes, each in its namespace. Dropped before the network.
struct Nodes {
    _running: Vec<Running>,
}

impl Nodes {
    fn start(dir: &Path) -> Self {
        Self { _running: (1..=3).map(|id| Self::start_one(id, dir)).collect() }
    }

    fn start_one(id: u64, dir: &Path) -> Running {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &Network::namespace(id)]).arg(kv().get_program());
        command.args(["serve", "--cluster", "test", "--bootstrap", "--id", &id.to_string()]);
        let [listen, http] = [format!("198.18.0.{id}:7000"), Self::address(id).to_string()];
        command.args(["--listen", &listen, "--http", &http]).arg("--data").arg(dir.join(id.to_string()));
        for peer in 1..=3 {
            command.arg(format!("--peer={peer}=198.18.0.{peer}:7000"));
        }
        let line = format!("kv: node {id} of test serves http://{http}\n");
        Running { http: 8000, process: spawn(command.stdin(Stdio::null()), &line) }
    }

    fn address(id: u64) -> SocketAddr {
        SocketAddr::from((Network::http(id), 8000))
    }

    fn status(id: u64) -> Option<serde_json::Value> {
        Http::new(Self::address(id)).json("/status", SOON)
    }

    /// Who leads, as `among` say.
    fn leader(among: &[u64]) -> Option<u64> {
        let mut answers = among.iter().filter_map(|id| Some((*id, Self::status(*id)?)));
        answers.find(|(_, status)| status["role"] == "leader").map(|(id, _)| id)
    }

    fn until(what: &str, within: Duration, mut holds: impl FnMut() -> bool) -> Duration {
        let begin = Instant::now();
        while !holds() {
            assert!(begin.elapsed() < within, "not within {within:?}: {what}");
            sleep(Duration::from_millis(10));
        }
        begin.elapsed()
    }

    /// Waits until all know one leader and have applied the same, to the same effect.
    fn until_equal() -> Duration {
        Self::until("all are equal", HEALS_WITHIN, || {
            let state = |id| {
                let status = Self::status(id)?;
                status["leader"].as_u64()?;
                Some(["applied", "digest", "leader"].map(|field| status[field].clone()))
            };
            let first = state(1);
            first.is_some() && (2..=3).all(|id| state(id) == first)
        })
    }
}

/// Asks a node that is cut off to write, for as long as `act` takes and at least once: it must never say that it did.
fn never_acknowledges<T>(id: u64, act: impl FnOnce() -> T) -> T {
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let asks = scope.spawn(|| {
            let mut http = Http::new(Nodes::address(id));
            for number in 0.. {
                let path = format!("/kv/{ASIDE}{id}.{number}");
                if let Ok(answer) = http.send(("PUT", &path), &[], b"0", SOON) {
                    assert!(
                        [429, 503, 504].contains(&answer.status),
                        "node {id} is cut off, and says {answer:?}"
                    );
                }
                if done.load(std::sync::atomic::Ordering::Relaxed) {
                    return;
                }
                sleep(Duration::from_millis(20));
            }
        });
        /// Also where `act` panics.
        struct Done<'a>(&'a std::sync::atomic::AtomicBool);
        impl Drop for Done<'_> {
            fn drop(&mut self) {
                self.0.store(true, std::sync::atomic::Ordering::Relaxed);
            }
        }
        let stop = Done(&done);
        let outcome = act();
        drop(stop);
        asks.join().expect("the one that is cut off never acknowledges");
        outcome
    })
}

#[test]
fn a_leader_that_is_cut_off_is_replaced_and_never_acknowledges_until_it_is_back() {
    // faults F18, F23 and F24, scenario N2
    let network = match Network::add() {
        Ok(network) => network,
        Err(reason) => return println!("SKIPPED: no network namespaces here: {reason}"),
    };
    let (seed, dir, begin) = (stress::seed("namespaces"), TempDir::new().unwrap(), Instant::now());
    let nodes = Nodes::start(dir.path());
    Nodes::until("a leader", ELECTS_WITHIN, || Nodes::leader(&[1, 2, 3]).is_some());
    let load = Load::new((1..=3).map(Nodes::address).collect(), seed);
    let (mut histories, ()) = load.during(CLIENTS, || {
        load.serves_again(ELECTS_WITHIN);
        for _ in 0..2 {
            load.next_round();
            let cut = Nodes::leader(&[1, 2, 3]).expect("a leader");
            let rest: Vec<u64> = (1..=3).filter(|id| *id != cut).collect();
            Network::cut(cut);
            let (elected, served) = never_acknowledges(cut, || {
                let elected = Nodes::until("another leads", ELECTS_WITHIN, || Nodes::leader(&rest).is_some());
                let served = elected + load.serves_again(ELECTS_WITHIN);
                sleep(Duration::from_millis(700));
                (elected, served)
            });
            let stepped_down = Nodes::status(cut).is_some_and(|status| status["role"] != "leader");
            assert!(stepped_down, "it leads nobody, and ought to know");
            Network::join(cut);
            let healed = Nodes::until("it is led again", HEALS_WITHIN, || {
                Nodes::status(cut).is_some_and(|status| rest.iter().any(|id| status["leader"] == *id))
            });
            println!("node {cut} cut off: another led after {elected:?}, served after {served:?}, healed in {healed:?}");
        }
        // Nobody hears anybody: nothing is promised, and nothing is needed to go on but the links.
        load.next_round();
        (1..=3).for_each(Network::cut);
        never_acknowledges(1, || never_acknowledges(2, || never_acknowledges(3, || sleep(SOON))));
        (1..=3).for_each(Network::join);
        println!("all cut off: served again after {:?}", load.serves_again(HEALS_WITHIN));
    });
    let equal = Nodes::until_equal();
    load.read_all(&mut histories);
    let judged = histories.judge().unwrap_or_else(|violation| panic!("{violation}"));
    println!("{:.1?}; equal after {equal:?}; {judged:?}", begin.elapsed());
    drop((nodes, network));
}
