//! The core suite: what the algorithm costs, without a network, a disk or a thread beside it.
//!
//! Three replicas in one loop. Each turn the leader is given as many commands as the window has room for, then every message
//! that is under way is carried once, by hand, unserialized. A command counts when the leader has it as decided. Afterwards,
//! off the clock, all three logs must hold every command in the order in which it was proposed.

mod replicas;

use crate::cluster::Error;
use crate::digest::Digest;
use crate::peers::{omnipaxos, raft};
use crate::report::{Better, Contender, Goal, Report, SYNOD, Work, in_turn};
use std::time::Instant;

const SUITE: &str = "core";
const NOTES: &str = "\
One thread, one loop; each turn carries every message that is under way once, by hand and unserialized. Memory storage.
omnipaxos: entries are arrays of 16 bytes, or Bytes of 1 KiB; what a turn proposes is one batch (batch_size is the window).
raft: entries are Bytes; what a turn proposes is one MsgPropose. It is the slower of the two peers, so the ratios are to omnipaxos.
synod: what a turn proposes is copied into one batch of Bytes, of at most 512 KiB; its log holds batches, theirs commands.";
/// So many turns without progress mean that there will be none.
const IDLE_TURNS_MAX: u32 = 1000;

/// Three replicas of a system, the first of which leads, as the loop sees them.
pub(crate) trait Replicas: Sized {
    /// Replicas that have a leader and hold nothing.
    fn lead(load: &Load) -> Result<Self, Error>;

    /// Gives the leader a command; it copies what it keeps.
    fn propose(&mut self, command: &[u8]) -> Result<(), Error>;

    /// Carries every message that is under way once. How many commands the leader has as decided.
    fn carry(&mut self) -> Result<u64, Error>;

    /// What each replica holds as decided; called until all hold the same, so it carries on where that takes it.
    fn logs(&mut self) -> Result<Vec<Digest>, Error>;
}

/// How much is to be decided.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    /// Bytes of a command.
    pub(crate) payload: usize,
    /// Commands that are proposed and not decided.
    pub(crate) window: u64,
    /// Commands.
    pub(crate) count: u64,
}

/// Runs all of it.
pub(crate) fn run(report: &Report, quick: bool) -> Result<(), Error> {
    let runs = if quick { 3 } else { 7 };
    for payload in [16, 1024] {
        for window in [1, 64, 1024, 16_384] {
            let count = match (payload, window) {
                (16, 1) => 200_000,
                (16, _) => 2_000_000,
                (_, 1) => 100_000,
                _ => 200_000,
            };
            let load = Load { payload, window, count: if quick { count / 4 } else { count } };
            let name = format!("core, {payload} B, {window} outstanding");
            let promised = payload == 16 && (window == 1 || window == 1024);
            let goal = if promised { Goal::OfBestPeer(1.2) } else { Goal::None };
            let work = Work { suite: SUITE, name: &name, unit: "commands/s", better: Better::Higher, goal };
            report.compare(work, &in_turn(runs, contenders(load))?);
        }
    }
    report.note(NOTES);
    Ok(())
}

fn contenders<'a>(load: Load) -> Vec<Contender<'a>> {
    let peer = move || match load.payload {
        16 => decide::<omnipaxos::Trio<[u8; 16]>>(&load),
        _ => decide::<omnipaxos::Trio<bytes::Bytes>>(&load),
    };
    vec![
        Contender { system: SYNOD, run: Box::new(move || decide::<replicas::Trio>(&load)) },
        Contender { system: "omnipaxos", run: Box::new(peer) },
        Contender { system: "raft", run: Box::new(move || decide::<raft::Trio>(&load)) },
    ]
}

/// Has `load` decided by new replicas: commands per second.
fn decide<R: Replicas>(load: &Load) -> Result<f64, Error> {
    let mut replicas = R::lead(load)?;
    let mut commands = Commands::of(load.payload);
    let mut expected = Digest::default();
    let (mut proposed, mut decided, mut idle) = (0, 0, 0);
    let begin = Instant::now();
    while decided < load.count {
        while proposed < load.count.min(decided + load.window) {
            replicas.propose(commands.number(proposed))?;
            proposed += 1;
        }
        let before = std::mem::replace(&mut decided, replicas.carry()?);
        idle = if decided > before { 0 } else { idle + 1 };
        if idle > IDLE_TURNS_MAX {
            return Err(format!("no progress after {decided} of {} commands", load.count).into());
        }
    }
    let took = begin.elapsed();
    (0..load.count).for_each(|number| expected.add(commands.number(number)));
    for _ in 0..IDLE_TURNS_MAX {
        if replicas.logs()?.iter().all(|log| *log == expected) && decided == load.count {
            return Ok(load.count as f64 / took.as_secs_f64());
        }
    }
    Err(format!("the logs are {:?} instead of {expected:?}, {decided} counted", replicas.logs()?).into())
}

/// Commands that differ by their number, without an allocation for each.
#[derive(Debug)]
pub(crate) struct Commands(Vec<u8>);

impl Commands {
    pub(crate) fn of(payload: usize) -> Self {
        Self(vec![0x5a; payload.max(8)])
    }

    pub(crate) fn number(&mut self, number: u64) -> &[u8] {
        self.0[..8].copy_from_slice(&number.to_le_bytes());
        &self.0
    }
}
