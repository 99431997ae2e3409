//! The suite `failover`: from the leader's death by SIGKILL to the first write that another node acknowledges.
//!
//! From the kill on, each survivor gets a new put every few milliseconds, on a connection that stood before, whether or not
//! the earlier ones are answered: a put that went to the dead leader may wait long for its time-out. The first that is
//! answered ends the watch.

use crate::first::runtime;
use crate::kv::{self, Kv};
use crate::peers::etcd::{self, Etcd, TimeOuts};
use crate::process::{Caller, Error, PATIENCE, Service, leader, plain};
use crate::report::{Better, Goal, Report, SYNOD, Series, Work};
use std::time::{Duration, Instant};
use synod::{ClusterId, Config, NodeId};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep};

const SUITE: &str = "failover";
/// How often a survivor is asked.
const EVERY: Duration = Duration::from_millis(5);
/// Between a restart and the next kill: longer than the time-outs of both.
const CALM: Duration = Duration::from_millis(1500);
/// Puts before a kill, so that nobody meets the first of anything.
const BEFORE: usize = 20;

/// What stands under the table.
const NOTES: &str = "\
Same for all: three processes on this machine, one disk; a put every 5 ms to each survivor from the kill on, the first answer \
counts. kv is told by the closed connection that its leader is gone; etcd waits for its election time-out, so with equal \
time-outs it is the detection that differs, not the clock.";

/// Runs all of it.
pub(crate) fn run(report: &Report, quick: bool) -> Result<(), Box<dyn std::error::Error>> {
    let kills = if quick { 3 } else { 20 };
    let defaults = Config::new(ClusterId::new("bench")?, NodeId::new(1));
    let equal = TimeOuts { heartbeat: defaults.heartbeat, election: defaults.liveness_window };
    let runtime = runtime()?;
    for (what, time_outs) in [("defaults of each", None), ("time-outs as kv's defaults", Some(equal))] {
        let dir = tempfile::tempdir()?;
        let measured = runtime.block_on(async {
            let mut kv = Kv::start(&kv::program()?, dir.path()).await?;
            let mut etcd = match etcd::program() {
                Some(program) => Some(Etcd::start(&program, dir.path(), time_outs).await?),
                None => None,
            };
            let (mut ours, mut theirs) = (Vec::new(), Vec::new());
            for _ in 0..kills {
                ours.push(kill(&mut kv).await?);
                if let Some(etcd) = &mut etcd {
                    theirs.push(kill(etcd).await?);
                }
            }
            kv.check(0).await?;
            Ok::<_, Error>((ours, theirs))
        });
        let (ours, theirs) = measured.map_err(plain)?;
        let name = format!("SIGKILL to the next write, {what}");
        let goal = if time_outs.is_none() { Goal::AtMost(150.0) } else { Goal::None };
        let work = Work { suite: SUITE, name: &name, unit: "ms", better: Better::Lower, goal };
        let longest = ours.iter().copied().fold(0.0, f64::max);
        let mut series = vec![Series { system: SYNOD, figures: ours }];
        if !theirs.is_empty() {
            series.push(Series { system: "etcd", figures: theirs });
        }
        report.compare(work, &series);
        if time_outs.is_none() {
            report.cost(
                SUITE,
                &format!("the longest of these {kills}"),
                &[longest],
                "ms",
                Goal::AtMost(400.0),
            );
        }
    }
    eprintln!("{NOTES}");
    Ok(())
}

/// Kills the leader, and says after how many milliseconds another node answered a write; then makes the cluster whole again.
async fn kill<S: Service>(service: &mut S) -> Result<f64, Error> {
    let leading = leader(service).await?;
    for mut caller in service.callers(leading, 1).await? {
        for number in 0..BEFORE {
            caller.put(&format!("before-{number}"), b"x").await?;
        }
    }
    sleep(CALM).await;
    // More than are needed within any time-out here.
    let count = (Duration::from_secs(3).as_millis() / EVERY.as_millis()) as usize;
    let mut survivors = Vec::new();
    for node in (0..service.nodes().len()).filter(|node| *node != leading) {
        survivors.push(service.callers(node, count).await?.into_iter());
    }
    let killed = service.nodes()[leading].kill()?;
    let answered = tokio::time::timeout(PATIENCE, first_answer(survivors)).await??;
    service.nodes()[leading].restart()?;
    leader(service).await?;
    Ok(answered.duration_since(killed).as_secs_f64() * 1e3)
}

/// When the first of the puts was answered.
async fn first_answer<C: Caller>(mut survivors: Vec<impl Iterator<Item = C>>) -> Result<Instant, Error> {
    let mut puts: JoinSet<Option<Instant>> = JoinSet::new();
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {
                for mut caller in survivors.iter_mut().filter_map(Iterator::next) {
                    // A refusal says that there is no leader yet.
                    puts.spawn(async move { caller.put("after", b"x").await.ok().map(|()| Instant::now()) });
                }
            }
            Some(put) = puts.join_next() => {
                if let Some(answered) = put? {
                    return Ok(answered);
                }
            }
        }
    }
}
