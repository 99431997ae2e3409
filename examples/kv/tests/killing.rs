//! Real processes that are killed and paused, again and again, while clients write and read.
//!
//! `SYNOD_KILL_CYCLES` says how often (100); `SYNOD_SEED` draws the same schedule again.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod stress;
mod support;

use std::thread::sleep;
use std::time::{Duration, Instant};
use stress::cluster::Cluster;
use stress::history::{Call, Histories, Input, Output};
use stress::load::Load;
use synod::multi::{Jitter, Time};

const CLIENTS: u64 = 6;
/// After this many cycles the clients take other keys.
const CYCLES_PER_ROUND: usize = 4;
/// With every node up, a write is acknowledged within this: some elections, on a machine that has other things to do.
const SERVES_WITHIN: Duration = Duration::from_secs(10);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// The schedule of one run, and what came of it.
struct Killer<'a> {
    cluster: Cluster,
    load: &'a Load,
    random: Jitter,
    leaders: usize,
    pauses: usize,
    /// From the kill of a leader until a write is acknowledged, where nothing else went wrong.
    gaps: Vec<Duration>,
}

impl Killer<'_> {
    fn below(&mut self, bound: u64) -> u64 {
        self.random.draw() % bound
    }

    /// The leader, every other time; else any node.
    fn victim(&mut self) -> (usize, bool) {
        let (any, leader) = (self.below(3) as usize, self.below(2) == 0);
        let leads = self.cluster.leader();
        let at = if leader { leads.unwrap_or(any) } else { any };
        (at, leads == Some(at))
    }

    fn kill(&mut self) {
        let (down, wait) = (self.below(150), self.below(4) > 0);
        let (at, leads) = self.victim();
        self.cluster.kill(at);
        self.leaders += usize::from(leads);
        if leads && wait {
            // The other two have to do it alone.
            self.gaps.push(self.load.serves_again(SERVES_WITHIN));
        }
        sleep(Duration::from_millis(down));
        self.cluster.start_node(at);
        if wait {
            self.load.serves_again(SERVES_WITHIN);
        }
    }

    /// Stops a node for a while; perhaps another one is killed meanwhile, or it itself.
    fn pause(&mut self) {
        // Short ones more often than long ones.
        let part = self.below(1000) as f64 / 1000.0;
        let (long, then) = (PAUSE_MAX.mul_f64(part * part), self.below(4));
        let (at, _) = self.victim();
        let begin = Instant::now();
        self.cluster.pause(at);
        self.pauses += 1;
        if then == 0 {
            let other = (at + 1) % 3;
            self.cluster.kill(other);
            self.cluster.start_node(other);
        }
        sleep(long.saturating_sub(begin.elapsed()));
        if then == 1 {
            self.cluster.kill(at);
            self.cluster.start_node(at);
        } else {
            self.cluster.resume(at);
        }
    }

    fn cycle(&mut self, number: usize) {
        if number.is_multiple_of(CYCLES_PER_ROUND) {
            self.load.next_round();
        }
        if self.below(5) == 0 {
            self.pause();
        }
        self.kill();
    }
}

fn cycles() -> usize {
    std::env::var("SYNOD_KILL_CYCLES").map_or(100, |cycles| cycles.parse().expect("a number of cycles"))
}

#[test]
fn no_acknowledged_write_is_lost_however_often_nodes_are_killed_and_paused() {
    // faults F17, F24 and F29
    let (seed, begin) = (stress::seed("killing"), Instant::now());
    let cluster = Cluster::start();
    let load = Load::new(cluster.addresses(), seed);
    let random = Jitter::new(seed);
    let mut killer = Killer { cluster, load: &load, random, leaders: 0, pauses: 0, gaps: vec![] };
    let (mut histories, ()) = load.during(CLIENTS, || {
        load.serves_again(SERVES_WITHIN);
        (0..cycles()).for_each(|number| killer.cycle(number));
        load.serves_again(SERVES_WITHIN);
    });
    let equal = killer.cluster.until_equal(SERVES_WITHIN);
    killer.cluster.all_alive();
    load.read_all(&mut histories);
    let ran = begin.elapsed();
    let judged = histories.judge().unwrap_or_else(|violation| panic!("{violation}"));

    killer.gaps.sort();
    let gaps = (killer.gaps.get(killer.gaps.len() / 2), killer.gaps.last());
    println!(
        "{} kills, {} of leaders, {} pauses, {ran:.1?}; {} acknowledged writes; served again after (median, longest) \
         {gaps:?}; equal after {equal:?}; {judged:?}, judged in {:?}",
        cycles(),
        killer.leaders,
        killer.pauses,
        load.acknowledged(),
        begin.elapsed() - ran,
    );
    assert!(load.acknowledged() > 10 * cycles() as u64, "hardly any load");
}

#[test]
fn the_judge_finds_a_stale_read_and_a_lost_write() {
    let call = |input, output, from: u64, to: u64| {
        let (called, returned) = (Time::from_nanos(from), Time::from_nanos(to));
        Call { client: 1, input, output: Some(output), called, returned }
    };
    let stored = |created| Output::Stored { created };
    let judge = |calls: &[Call]| {
        let mut histories = Histories::default();
        calls.iter().for_each(|call| histories.add("key".into(), call.clone()));
        histories.judge().is_ok()
    };
    let written = [call(Input::Put(1), stored(true), 0, 10), call(Input::Put(2), stored(false), 20, 30)];
    let then = |last| judge(&[&written[..], &[last]].concat());
    assert!(then(call(Input::Get, Output::Holds(Some(2)), 40, 50)));
    assert!(
        then(call(Input::Get, Output::Holds(Some(1)), 25, 50)),
        "it may have been served before the second"
    );
    assert!(!then(call(Input::Get, Output::Holds(Some(1)), 40, 50)), "a stale read");
    assert!(!then(call(Input::Get, Output::Holds(None), 40, 50)), "both writes are lost");
    assert!(!then(call(Input::PutIf(Some(1), 3), stored(false), 40, 50)), "a condition on what is gone");
    assert!(
        !then(call(Input::PutIf(Some(2), 3), Output::Refused, 40, 50)),
        "applied twice, the second time refused"
    );
}
