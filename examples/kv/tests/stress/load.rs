//! Clients that write and read, go on when nodes do not, and remember everything.
//!
//! A write is sent with its place in a session until an answer says what became of it, so it happens once; one
//! that a client gives up on is remembered as one of unknown outcome.

use super::history::{Call, Histories, Input, Output};
use super::http::Http;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::sleep;
use std::time::{Duration, Instant};
use synod::multi::{Jitter, Time};

/// So long one node is waited for: longer than an election.
const TRY: Duration = Duration::from_millis(700);
/// So long a write is made again.
const PATIENCE: Duration = Duration::from_secs(8);
/// Keys that the clients share at a time.
const KEYS: u64 = 4;

/// How keys begin that are none of the clients' own.
pub(crate) const ASIDE: &str = "aside.";

/// What all clients share.
pub(crate) struct Load {
    nodes: Vec<SocketAddr>,
    seed: u64,
    begin: Instant,
    stopped: AtomicBool,
    /// In each round there are other keys, so that no history grows too long to be judged.
    round: AtomicU64,
    acknowledged: AtomicU64,
    /// When the newest acknowledged write was called, in nanoseconds since `begin`.
    newest: AtomicU64,
}

impl Load {
    pub(crate) fn new(nodes: Vec<SocketAddr>, seed: u64) -> Self {
        let (stopped, round) = (AtomicBool::new(false), AtomicU64::new(0));
        let (acknowledged, newest) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { nodes, seed, begin: Instant::now(), stopped, round, acknowledged, newest }
    }

    pub(crate) fn now(&self) -> Time {
        Time::ZERO + self.begin.elapsed()
    }

    pub(crate) fn next_round(&self) {
        self.round.fetch_add(1, Relaxed);
    }

    pub(crate) fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Relaxed)
    }

    /// Waits until a write that was called from now on is acknowledged; how long that took.
    pub(crate) fn serves_again(&self, within: Duration) -> Duration {
        let (since, begin) = (self.now().as_nanos(), Instant::now());
        while self.newest.load(Relaxed) < since {
            assert!(begin.elapsed() < within, "no write is acknowledged for {within:?}");
            sleep(Duration::from_millis(2));
        }
        begin.elapsed()
    }

    /// Runs `act` while `clients` clients are at work; gives what they did, and what `act` gives.
    pub(crate) fn during<T>(&self, clients: u64, act: impl FnOnce() -> T) -> (Histories, T) {
        /// They stop also where `act` panics.
        struct Stop<'a>(&'a AtomicBool);
        impl Drop for Stop<'_> {
            fn drop(&mut self) {
                self.0.store(true, Relaxed);
            }
        }
        std::thread::scope(|scope| {
            let clients: Vec<_> =
                (1..=clients).map(|id| scope.spawn(move || Client::new(self, id).run())).collect();
            let stop = Stop(&self.stopped);
            let done = act();
            drop(stop);
            let mut histories = Histories::default();
            for client in clients {
                for (key, call) in client.join().expect("a client ends well") {
                    histories.add(key, call);
                }
            }
            (histories, done)
        })
    }

    /// Reads every key at every node, as one more client: what was acknowledged is there, or no order explains it.
    pub(crate) fn read_all(&self, histories: &mut Histories) {
        for node in &self.nodes {
            let called = self.now();
            let entries = self.list(&mut Http::new(*node));
            let returned = self.now();
            for key in entries.keys().filter(|key| !key.starts_with(ASIDE)) {
                assert!(histories.keys().any(|known| known == key), "nobody wrote {key}");
            }
            for key in histories.keys().cloned().collect::<Vec<_>>() {
                let output = Some(Output::Holds(entries.get(&key).copied()));
                histories.add(key, Call { client: 0, input: Input::Get, output, called, returned });
            }
        }
    }

    fn list(&self, http: &mut Http) -> BTreeMap<String, u64> {
        let (mut entries, begin) = (BTreeMap::new(), Instant::now());
        loop {
            let after = entries.last_key_value().map(|(key, _): (&String, _)| format!("&after={key}"));
            let path = format!("/kv?limit=1000{}", after.unwrap_or_default());
            assert!(begin.elapsed() < PATIENCE, "a node cannot be read from: {path}");
            let Some(page) = http.json(&path, TRY) else { continue };
            for entry in page["entries"].as_array().unwrap() {
                let value = entry["value"].as_str().unwrap().parse().unwrap();
                entries.insert(entry["key"].as_str().unwrap().to_owned(), value);
            }
            if page["more"] == false {
                return entries;
            }
        }
    }
}

struct Client<'a> {
    load: &'a Load,
    id: u64,
    random: Jitter,
    nodes: Vec<Http>,
    /// The node that answered last.
    at: usize,
    session: String,
    serial: u64,
    /// By key: the version and the value that it saw last.
    seen: BTreeMap<String, (String, u64)>,
    calls: Vec<(String, Call)>,
}

impl<'a> Client<'a> {
    fn new(load: &'a Load, id: u64) -> Self {
        let nodes: Vec<_> = load.nodes.iter().map(|address| Http::new(*address)).collect();
        let random = Jitter::new(load.seed.wrapping_add(id));
        let (session, seen) = (String::new(), BTreeMap::new());
        Self {
            load,
            id,
            random,
            at: id as usize % nodes.len(),
            nodes,
            session,
            serial: 0,
            seen,
            calls: vec![],
        }
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.random.draw() % bound
    }

    fn run(mut self) -> Vec<(String, Call)> {
        while !self.load.stopped.load(Relaxed) {
            if self.session.is_empty() {
                self.open_session();
                continue;
            }
            let round = self.load.round.load(Relaxed);
            let key = format!("{round}.{}", self.below(KEYS));
            let value = self.id * 1_000_000_000 + self.serial + 1;
            match self.below(100) {
                0..40 => self.get(&key),
                40..60 => self.write(&key, Input::Put(value), None),
                60..80 => match self.seen.get(&key).cloned() {
                    Some((version, seen)) => {
                        self.write(&key, Input::PutIf(Some(seen), value), Some(("If-Match", version)));
                    }
                    None => self.create(&key, value),
                },
                80..85 => self.write(&key, Input::Delete, None),
                // Nobody else ever touches it: it is there at the end, or was lost.
                _ => self.create(&format!("{round}.own.{}.{}", self.id, self.serial), value),
            }
            // The nodes have the same two cores.
            sleep(Duration::from_micros(500 + self.random.draw() % 3_000));
        }
        self.calls
    }

    fn create(&mut self, key: &str, value: u64) {
        self.write(key, Input::PutIf(None, value), Some(("If-None-Match", "*".into())));
    }

    fn open_session(&mut self) {
        match self.nodes[self.at].send(("POST", "/sessions"), &[], b"", TRY) {
            Ok(answer) if answer.status == 201 => {
                self.session = answer.json()["session"].as_str().unwrap().into();
            }
            _ => self.go_on_to_the_next_node(),
        }
    }

    fn go_on_to_the_next_node(&mut self) {
        self.at = (self.at + 1) % self.nodes.len();
        sleep(Duration::from_micros(1_000 + self.random.draw() % 20_000));
    }

    /// A read that is not answered did nothing, and is not remembered.
    fn get(&mut self, key: &str) {
        if self.below(8) == 0 {
            self.at = self.below(self.nodes.len() as u64) as usize;
        }
        let called = self.load.now();
        let answer = self.nodes[self.at].send(("GET", &format!("/kv/{key}")), &[], b"", TRY);
        let holds = match answer {
            Ok(answer) if answer.status == 200 => {
                let value = std::str::from_utf8(&answer.body).unwrap().parse().unwrap();
                self.seen.insert(key.into(), (answer.etag().into(), value));
                Some(value)
            }
            Ok(answer) if answer.status == 404 => None,
            Ok(answer) if [429, 503, 504].contains(&answer.status) => return self.go_on_to_the_next_node(),
            Ok(answer) => panic!("a read of {key} is answered {answer:?}"),
            Err(_) => return self.go_on_to_the_next_node(),
        };
        self.remember(key, Input::Get, Some(Output::Holds(holds)), called);
    }

    fn write(&mut self, key: &str, input: Input, condition: Option<(&str, String)>) {
        self.serial += 1;
        let once = format!("\"{}/{}\"; answered={}", self.session, self.serial, self.serial - 1);
        let mut headers = vec![("Idempotency-Key", once.as_str())];
        headers.extend(condition.as_ref().map(|(name, version)| (*name, version.as_str())));
        let (method, body) = match input {
            Input::Put(value) | Input::PutIf(_, value) => ("PUT", value.to_string()),
            Input::Get | Input::Delete => ("DELETE", String::new()),
        };
        let (called, begin) = (self.load.now(), Instant::now());
        // Some do not insist.
        let patience = if self.below(8) == 0 { Duration::ZERO } else { PATIENCE };
        loop {
            let path = format!("/kv/{key}");
            let answer = self.nodes[self.at].send((method, &path), &headers, body.as_bytes(), TRY);
            if let Some(output) = answer.ok().and_then(|answer| self.outcome(key, input, &answer)) {
                self.load.acknowledged.fetch_add(1, Relaxed);
                self.load.newest.fetch_max(called.as_nanos(), Relaxed);
                return self.remember(key, input, Some(output), called);
            }
            if begin.elapsed() >= patience {
                return self.remember(key, input, None, called);
            }
            self.go_on_to_the_next_node();
        }
    }

    /// What an answer says about a write; nothing, if it has to be made again to know.
    fn outcome(&mut self, key: &str, input: Input, answer: &crate::support::Answer) -> Option<Output> {
        match (answer.status, input) {
            (status @ (200 | 201), Input::Put(value) | Input::PutIf(_, value)) => {
                self.seen.insert(key.into(), (answer.etag().into(), value));
                Some(Output::Stored { created: status == 201 })
            }
            (412, Input::PutIf(..)) => {
                self.seen.remove(key);
                Some(Output::Refused)
            }
            (204, Input::Delete) => Some(Output::Deleted),
            (404, Input::Delete) => Some(Output::Absent),
            (429 | 503 | 504, _) => None,
            _ => panic!("{input:?} of {key} is answered {answer:?}"),
        }
    }

    fn remember(&mut self, key: &str, input: Input, output: Option<Output>, called: Time) {
        let returned = self.load.now();
        self.calls.push((key.into(), Call { client: self.id, input, output, called, returned }));
    }
}
