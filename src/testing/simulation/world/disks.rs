//! Disks: flushes that are slow, fail or find no space, and what rots.

use super::super::disk::Done;
use super::super::event::Event;
use super::super::fault::Fault;
use super::{Simulated, World};
use crate::multi::{AcceptorInput, Local, Slot};
use crate::paxos::NodeId;
use std::time::Duration;

const SCRUB: Duration = Duration::from_millis(150);

impl<S: Simulated> World<S> {
    pub(super) fn begin_flush(&mut self, id: NodeId) {
        let max = u64::try_from(self.weather.flush_max.as_micros()).unwrap_or(u64::MAX);
        let mut delay = self.micros(50, max);
        let Some(machine) = self.machines.get(&id) else { return };
        let (life, slow) = (machine.life, machine.slow_until > self.now && self.faulty);
        if slow {
            self.count(Fault::SlowFlush.name());
            delay += self.micros(50_000, 1_450_000);
        }
        self.after(delay, Event::Flushed { node: id, life });
    }

    pub(super) fn flushed(&mut self, id: NodeId, life: u64) {
        let fails = self.seldom(self.weather.fail_flush);
        let Some(machine) = self.machines.get_mut(&id).filter(|machine| machine.life == life) else { return };
        if machine.node.is_none() {
            return;
        }
        if fails {
            // No retry and no further word: the node stops, and a restart reads what is there (F13).
            self.count(Fault::FailedFlush.name());
            self.crash_for(id, 200_000);
            return;
        }
        let Some((done, next)) = machine.disk.done(&mut self.random) else { return };
        if next {
            self.begin_flush(id);
        }
        match done {
            Done::Written(sequence) => {
                self.released(id, sequence);
                let alive = self.machines.get(&id).is_some_and(|machine| machine.life == life);
                if alive {
                    let persisted = Local::Acceptor(AcceptorInput::Persisted { sequence });
                    self.with(id, |node, now, out| node.step(now, persisted, out));
                    self.bound_log(id);
                }
            }
            Done::Trimmed(through) => {
                self.count("log_cut");
                let trimmed = Local::Acceptor(AcceptorInput::Trimmed { through });
                self.with(id, |node, now, out| node.step(now, trimmed, out));
            }
        }
    }

    /// An append was refused: the node stops, and comes back when there is space (F14).
    pub(super) fn disk_is_full(&mut self, id: NodeId) {
        self.count(Fault::FullDisk.name());
        self.note(id, || format!("the disk of n{id} is full"));
        self.crash(id);
    }

    pub(super) fn space(&mut self, id: NodeId) {
        if let Some(machine) = self.machines.get_mut(&id) {
            machine.disk.is_full = false;
        }
        self.restart(id);
    }

    /// Something is damaged on one disk; never on two at the same time, which no majority survives, and never where every
    /// quorum needs that disk.
    pub(super) fn damage_one(&mut self) {
        let id = self.pick();
        if self.checks.agreement.newest_members().len() < 3 {
            return;
        }
        let sick = |machine: &super::Machine<S>| {
            let unknown = machine.node.as_ref().is_some_and(|node| node.acceptor.log().has_unknown());
            unknown || machine.disk.is_sick() || machine.disk.fold().has_unknown()
        };
        let kinds = self.weather.rot.clone();
        let Some(kind) = self.one_of(&kinds).filter(|_| !self.machines.values().any(sick)) else { return };
        let others = self.machines.iter().filter(|(other, _)| **other != id);
        let held = others.map(|(_, machine)| machine.disk.fold().chosen_through()).max();
        let Some(machine) = self.machines.get_mut(&id) else { return };
        let what = match kind {
            // What only this node has learned is lost with its only snapshot.
            Fault::SnapshotRot => {
                let rotten = machine.disk.snapshots.through() <= held && machine.disk.snapshots.rot();
                rotten.then(|| "its snapshot".to_owned())
            }
            Fault::Misdirected => {
                machine.disk.misdirect(&mut self.random).map(|sequence| format!("write {}", sequence.0))
            }
            _ => machine.disk.rot(&mut self.random).map(|slot| format!("slot {slot}")),
        };
        let Some(what) = what else { return };
        self.count(kind.name());
        self.note(id, || format!("on the disk of n{id} {what} is damaged"));
        if self.random.draw().is_multiple_of(2) {
            self.crash_for(id, 100_000);
        }
        self.after(SCRUB, Event::Scrub { node: id });
    }

    /// The node looks for what is damaged, until nothing is.
    pub(super) fn scrub(&mut self, id: NodeId) {
        let Some(machine) = self.machines.get(&id) else { return };
        let (slots, snapshot) = (machine.disk.rotten(), machine.disk.snapshots.is_rotten());
        if !snapshot && slots.is_empty() {
            return;
        }
        self.after(SCRUB, Event::Scrub { node: id });
        if self.machines.get(&id).is_some_and(|machine| machine.paused.is_some()) {
            return;
        }
        if snapshot {
            self.take_snapshot(id);
        }
        if !slots.is_empty() {
            let input = Local::Acceptor(AcceptorInput::Damaged { slots: slots.clone() });
            self.with(id, |node, now, out| node.step(now, input, out));
        }
        if slots.iter().any(|interval| self.is_beyond_repair(id, interval.first)) {
            self.crash(id);
            self.after(SCRUB, Event::Restart { node: id });
        }
    }

    /// What is neither in memory nor in the state, and perhaps nobody else has learned: a start finds it unknown, and has it
    /// decided by those who accepted it.
    fn is_beyond_repair(&self, id: NodeId, slot: Slot) -> bool {
        self.machines.get(&id).is_some_and(|machine| {
            machine.node.as_ref().is_some_and(|node| {
                let log = node.acceptor.log();
                machine.state.through < slot && slot <= log.chosen_through() && log.entry(slot).is_none()
            })
        })
    }
}
