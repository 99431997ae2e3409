//! The weather: how bad a seed is. Everything is drawn anew for each, also as never.

use super::fault::{Fault, Faults};
use crate::multi::Jitter;
use std::time::Duration;

/// What befalls the machines for good; one of these in a run, for more is more than a majority survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Members come and go.
    Operated,
    /// Entries and snapshots are damaged.
    Rotting,
    /// Machines are lost with their disks, and replaced.
    Losing,
    /// Machines come back with old images of their disks, and are replaced.
    Restoring,
}

/// How much happens before everything heals: much is found in the first rounds, some only in the long run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Length {
    /// A few rounds, with faults in all of them.
    Short,
    /// Seconds.
    Long,
    /// Minutes, with pauses between everything.
    Slow,
}

impl Length {
    fn draw(random: &mut Jitter) -> Self {
        match random.draw() % 64 {
            0..54 => Self::Short,
            54..60 => Self::Long,
            _ => Self::Slow,
        }
    }

    fn safety(self, random: &mut Jitter) -> Duration {
        let millis = random.draw();
        match self {
            Self::Short => Duration::from_millis(250 + millis % 1_500),
            Self::Long => Duration::from_millis(1_000 + millis % 6_000),
            Self::Slow => Duration::from_millis(1_000 + millis % 6_000) * self.slowness(),
        }
    }

    fn slowness(self) -> u32 {
        if self == Self::Slow { 20 } else { 1 }
    }

    /// So many times as often as in a long run everything befalls a short one.
    fn density(self) -> u32 {
        if self == Self::Short { 4 } else { 1 }
    }
}

/// How bad this seed is.
#[derive(Clone, Debug)]
pub(super) struct Weather {
    /// How long faults happen.
    pub(super) safety: Duration,
    /// Times of the load and of the faults are longer by this factor.
    pub(super) slowness: u32,
    /// In percent of all messages.
    pub(super) lose: u64,
    pub(super) repeat: u64,
    pub(super) delay: u64,
    /// In a hundredth of a percent.
    pub(super) delay_long: u64,
    pub(super) corrupt: u64,
    pub(super) fail_flush: u64,
    /// In percent of the writes under way when power is lost.
    pub(super) tear: u64,
    pub(super) fail_snapshot: u64,
    pub(super) fill_every: Duration,
    pub(super) clients: u64,
    pub(super) think: Duration,
    pub(super) flush_max: Duration,
    pub(super) transfers: bool,
    pub(super) changes: bool,
    pub(super) rot: Vec<Fault>,
    /// How often each of these happens.
    pub(super) every: Vec<(Fault, Duration)>,
}

/// The faults that come now and then, with the shortest and the longest time between two of a kind, in milliseconds.
const NOW_AND_THEN: &[(Fault, u64, u64)] = &[
    (Fault::Crash, 150, 1_650),
    (Fault::CrashWithin, 200, 3_000),
    (Fault::Cut, 200, 2_500),
    (Fault::OneWayCut, 200, 2_500),
    (Fault::ChainCut, 1_000, 6_000),
    (Fault::Split, 1_000, 6_000),
    (Fault::RollingCut, 1_000, 6_000),
    (Fault::MajorityLoss, 1_500, 9_000),
    (Fault::Pause, 700, 4_000),
    (Fault::ClockStall, 500, 3_000),
    (Fault::SlowFlush, 1_000, 5_000),
    (Fault::FullDisk, 1_000, 5_000),
    (Fault::Snapshot, 50, 850),
];

impl Weather {
    /// Draws the weather of a seed. What is switched off is drawn all the same, so that the rest stays as it is.
    pub(super) fn draw(random: &mut Jitter, faults: &Faults) -> Self {
        let length = Length::draw(random);
        let slowness = length.slowness();
        let safety = length.safety(random);
        let mode = match random.draw() % 20 {
            0..8 => Mode::Operated,
            8..14 => Mode::Rotting,
            14..17 => Mode::Losing,
            _ => Mode::Restoring,
        };
        let mut share = |fault: Fault, max: u64| {
            let never = random.draw().is_multiple_of(4);
            let drawn = random.draw() % (max + 1);
            if never || !faults.has(fault) { 0 } else { drawn }
        };
        let (lose, repeat) = (share(Fault::Loss, 25), share(Fault::Repeat, 30));
        let (delay, delay_long) = (share(Fault::Delay, 20), share(Fault::LongDelay, 100));
        let (corrupt, fail_flush) = (share(Fault::Corruption, 60), share(Fault::FailedFlush, 40));
        let (fail_snapshot, tear) = (share(Fault::SnapshotWrite, 6), share(Fault::TornWrite, 100));
        let mut every = Vec::new();
        for (fault, shortest, longest) in NOW_AND_THEN {
            let never = random.draw() % 5 < 2;
            let between = Duration::from_millis(shortest + random.draw() % (longest - shortest));
            let between = between * slowness / length.density();
            if !never && faults.has(*fault) {
                every.push((*fault, between));
            }
        }
        let operate = Duration::from_millis(100 + random.draw() % 1_200) * slowness / length.density();
        let is_operated = !random.draw().is_multiple_of(4);
        let transfers = is_operated && faults.has(Fault::Transfer);
        let changes = is_operated && mode == Mode::Operated && faults.has(Fault::Membership);
        if transfers || changes {
            every.push((Fault::Membership, operate));
        }
        let rot = [Fault::Rot, Fault::SnapshotRot, Fault::Misdirected];
        let rot: Vec<_> =
            rot.into_iter().filter(|fault| mode == Mode::Rotting && faults.has(*fault)).collect();
        let mut once = |fault, when: bool, millis: u64| {
            let between =
                Duration::from_millis(millis + random.draw() % millis) * slowness / length.density();
            if when {
                every.push((fault, between));
            }
        };
        once(Fault::Rot, !rot.is_empty(), 150);
        once(Fault::Wipe, mode == Mode::Losing && faults.has(Fault::Wipe), 400);
        once(Fault::OldImage, mode == Mode::Restoring && faults.has(Fault::OldImage), 200);
        let slow_disks = random.draw().is_multiple_of(2);
        Self {
            safety,
            slowness,
            lose,
            repeat,
            delay,
            delay_long,
            corrupt,
            fail_flush,
            tear,
            fail_snapshot,
            fill_every: Duration::from_millis(3 + random.draw() % 40) * slowness,
            clients: 1 + random.draw() % 4,
            think: Duration::from_millis(1 + random.draw() % 25) * slowness,
            flush_max: Duration::from_micros(100 + random.draw() % if slow_disks { 20_000 } else { 2_000 }),
            transfers,
            changes,
            rot,
            every,
        }
    }

    /// How often `fault` happens, if it does.
    pub(super) fn between(&self, fault: Fault) -> Option<Duration> {
        self.every.iter().find(|(known, _)| *known == fault).map(|(_, between)| *between)
    }
}
