//! Outages that pass: crashes, cuts, pauses, clocks that stand still, disks that are slow or full.

use super::super::event::Event;
use super::super::fault::Fault;
use super::{Simulated, World};
use crate::paxos::NodeId;
use std::time::Duration;

impl<S: Simulated> World<S> {
    /// One of the faults that come now and then, about `every` so often.
    pub(super) fn outage(&mut self, fault: Fault, every: Duration) {
        let id = self.pick();
        let spread = u64::try_from(every.as_micros()).unwrap_or(u64::MAX / 2);
        match fault {
            Fault::Crash if self.crash(id) => {
                self.count(Fault::Crash.name());
                let back = self.micros(1_000, spread * 2);
                self.after(back, Event::Restart { node: id });
            }
            Fault::CrashWithin => {
                let left = 1 + self.random.draw() % 40;
                if let Some(machine) = self.machines.get_mut(&id) {
                    machine.effects_left = Some(left);
                }
            }
            Fault::Pause => self.pause(id),
            Fault::ClockStall => self.stall(id),
            Fault::SlowFlush => {
                let lasts = self.micros(100_000, 2_000_000);
                if let Some(machine) = self.machines.get_mut(&id) {
                    machine.slow_until = self.now + lasts;
                }
            }
            Fault::FullDisk => {
                if let Some(machine) = self.machines.get_mut(&id) {
                    machine.disk.is_full = true;
                }
                let lasts = self.micros(10_000, 1_000_000);
                self.after(lasts, Event::Space { node: id });
            }
            Fault::Cut | Fault::OneWayCut => self.cut_one(fault),
            Fault::ChainCut | Fault::Split => self.partition(fault),
            Fault::RollingCut => self.roll(),
            Fault::MajorityLoss => self.lose_majority(),
            _ => {}
        }
    }

    /// Power fails at one machine; false if it was off.
    pub(super) fn crash(&mut self, id: NodeId) -> bool {
        let Some(machine) = self.machines.get_mut(&id) else { return false };
        let tear = if self.faulty { self.weather.tear } else { 0 };
        let Some(lost) = machine.stop(tear, &mut self.random) else { return false };
        if lost.writes {
            self.count("unflushed_writes_lost");
        }
        if lost.torn {
            self.count(Fault::TornWrite.name());
        }
        self.note(id, || format!("n{id} stops"));
        for peer in self.ids() {
            self.link_down(id, peer);
            self.links.remove(&(peer, id));
        }
        true
    }

    /// Power fails, and is back after up to `micros`.
    pub(super) fn crash_for(&mut self, id: NodeId, micros: u64) {
        if self.crash(id) {
            let back = self.micros(1_000, micros);
            self.after(back, Event::Restart { node: id });
        }
    }

    /// Power fails between two effects of one step.
    pub(super) fn power_fails_within(&mut self, id: NodeId) {
        self.count(Fault::CrashWithin.name());
        self.crash_for(id, 500_000);
    }

    fn pause(&mut self, id: NodeId) {
        let lasts = self.micros(300_000, 29_700_000);
        let Some(machine) = self.machines.get_mut(&id).filter(|machine| machine.is_awake()) else { return };
        machine.paused = Some(Vec::new());
        self.count(Fault::Pause.name());
        self.note(id, || format!("n{id} does nothing for {lasts:?}"));
        // Most runs are shorter: it goes on at the healing at the latest.
        self.after(lasts, Event::Resume { node: id });
    }

    pub(super) fn resume(&mut self, id: NodeId) {
        let held = self.machines.get_mut(&id).and_then(|machine| machine.paused.take());
        let Some(held) = held else { return };
        self.note(id, || format!("n{id} goes on"));
        held.into_iter().for_each(|event| self.handle(event));
    }

    fn stall(&mut self, id: NodeId) {
        let lasts = self.micros(10_000, 2_000_000);
        let now = self.now;
        let Some(machine) = self.machines.get_mut(&id).filter(|machine| machine.stall.is_none()) else {
            return;
        };
        machine.stall = Some((now, now + lasts));
        self.count(Fault::ClockStall.name());
        self.note(id, || format!("the clock of n{id} stands still for {lasts:?}"));
    }

    fn cut_one(&mut self, fault: Fault) {
        let (a, b) = (self.pick(), self.pick());
        if a == b {
            return;
        }
        self.count(fault.name());
        self.note(a, || format!("{fault}: n{a} to n{b}"));
        let lasts = self.micros(20_000, 2_000_000) * self.weather.slowness;
        self.cut(a, b, lasts);
        if fault == Fault::Cut {
            self.cut(b, a, lasts);
        }
    }

    /// A chain, or two groups, in an order that is drawn.
    fn partition(&mut self, fault: Fault) {
        let mut order: Vec<(u64, NodeId)> = Vec::new();
        for id in self.ids() {
            order.push((self.random.draw(), id));
        }
        if order.len() < 3 {
            return;
        }
        order.sort_unstable();
        self.count(fault.name());
        let lasts = self.micros(100_000, 3_000_000) * self.weather.slowness;
        let group = 1 + self.random.draw() % (order.len() as u64 - 1);
        for (a_at, (_, a)) in (0..).zip(&order) {
            for (b_at, (_, b)) in (0..).zip(&order) {
                let apart = match fault {
                    Fault::ChainCut => u64::abs_diff(a_at, b_at) > 1,
                    _ => (a_at < group) != (b_at < group),
                };
                if apart {
                    self.cut(*a, *b, lasts);
                }
            }
        }
    }

    /// One node after the other is cut off.
    fn roll(&mut self) {
        self.count(Fault::RollingCut.name());
        let step = self.micros(100_000, 700_000);
        for (nth, node) in (0..).zip(self.ids()) {
            self.after(step * nth, Event::Isolate { node });
        }
    }

    pub(super) fn isolate(&mut self, node: NodeId) {
        if !self.faulty {
            return;
        }
        let lasts = self.micros(50_000, 600_000);
        for peer in self.ids().into_iter().filter(|peer| *peer != node) {
            self.cut(node, peer, lasts);
            self.cut(peer, node, lasts);
        }
    }

    fn lose_majority(&mut self) {
        let members = self.checks.agreement.newest_members();
        let quorum = members.len() / 2 + 1;
        let first = usize::try_from(self.random.draw() % members.len().max(1) as u64).unwrap_or_default();
        self.count(Fault::MajorityLoss.name());
        for id in members.into_iter().cycle().skip(first).take(quorum) {
            self.crash_for(id, 1_500_000);
        }
    }

    /// Everything heals.
    pub(super) fn end_faults(&mut self) {
        self.faulty = false;
        self.note(NodeId::new(0), || "the faults end".into());
        self.weather.flush_max = self.weather.flush_max.min(Duration::from_millis(10));
        for (a, b) in std::mem::take(&mut self.cut) {
            self.try_connect(a, b);
        }
        for id in self.ids() {
            if let Some(machine) = self.machines.get_mut(&id) {
                machine.disk.is_full = false;
                machine.effects_left = None;
                machine.stall = machine.stall.map(|(from, until)| (from, until.min(self.now)));
            }
            self.resume(id);
            self.restart(id);
        }
    }
}
