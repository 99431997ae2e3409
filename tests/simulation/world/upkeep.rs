//! Upkeep: the nodes' snapshots, what rots on their disks, and machines that are lost for good.

use super::{Event, Mode, Ticket, World};
use crate::snapshots::State;
use bytes::Bytes;
use std::time::Duration;
use synod::multi::{
    AcceptorInput, AdminCall, Change, LearnerInput, Local, ProposerInput, Slot, SnapshotTask,
};
use synod::paxos::NodeId;

/// Entries above the last snapshot at which a node takes another.
const ENTRIES_MAX: usize = 150;
const SCRUB: Duration = Duration::from_millis(150);
const MEND: Duration = Duration::from_millis(200);

impl World {
    // ------------------------------------------------------------ snapshots

    /// The node's disk is asked for something; one thing at a time.
    pub(super) fn snapshot_task(&mut self, id: NodeId, task: SnapshotTask) {
        let machine = self.machines.get_mut(&id).unwrap();
        if let SnapshotTask::Take { through, .. } = &task {
            assert_eq!(machine.state.through, *through, "n{id} takes a snapshot of another state");
        }
        machine.tasks.push_back((task, machine.state));
        if machine.tasks.len() == 1 {
            self.begin_task(id);
        }
    }

    fn begin_task(&mut self, id: NodeId) {
        let life = self.machines[&id].life;
        let delay = self.micros(100, 8_000);
        self.after(delay, Event::SnapshotTask { node: id, life });
    }

    pub(super) fn end_task(&mut self, id: NodeId, life: u64) {
        let machine = self.machines.get_mut(&id).unwrap();
        if machine.life != life || machine.node.is_none() {
            return;
        }
        let Some((task, state)) = machine.tasks.pop_front() else { return };
        if !machine.tasks.is_empty() {
            self.begin_task(id);
        }
        self.note(|| format!("{id:?} {task:?}"));
        let input = self.carry_out_task(id, task, state);
        if self.percent(3) {
            self.crash(id);
            let back = self.micros(1_000, 100_000);
            self.after(back, Event::Restart { node: id });
            return;
        }
        self.with(id, |node, now, out| node.step(now, input, out));
    }

    fn carry_out_task(&mut self, id: NodeId, task: SnapshotTask, state: State) -> Local {
        let fails = self.percent(4);
        let spoils = self.percent(4);
        let machine = self.machines.get_mut(&id).unwrap();
        let disk = &mut machine.disk.snapshots;
        let input = match task {
            SnapshotTask::Take { .. } | SnapshotTask::Begin { .. } | SnapshotTask::Write { .. } if fails => {
                disk.abandon();
                self.faults.failed_snapshots += 1;
                LearnerInput::SnapshotHeld { bytes: None }
            }
            SnapshotTask::Take { through, .. } => {
                let snapshot = disk.take(state.content(), through);
                self.faults.snapshots += 1;
                return Local::Acceptor(AcceptorInput::SnapshotTaken { snapshot });
            }
            SnapshotTask::Begin { snapshot } => {
                let held = disk.begin(snapshot);
                self.faults.resumed += u64::from(held > 0);
                LearnerInput::SnapshotHeld { bytes: Some(held) }
            }
            SnapshotTask::Write { at, bytes } => {
                let mut bytes = bytes.to_vec();
                if spoils {
                    bytes[0] ^= 1;
                    self.faults.spoiled += 1;
                }
                LearnerInput::SnapshotHeld { bytes: disk.write(at, &bytes) }
            }
            SnapshotTask::Seal { .. } => LearnerInput::SnapshotSealed { sealed: disk.seal() },
            SnapshotTask::Restore { snapshot } => {
                let content = disk.read(snapshot, 0, usize::MAX);
                let restored = !content.is_empty();
                if restored {
                    let state = State::read(&content);
                    machine.state = state;
                    self.checks.restored(id, snapshot.through, state);
                    self.faults.restores += 1;
                }
                LearnerInput::Restored { snapshot, restored }
            }
            SnapshotTask::Read { to, snapshot, at, bytes_max } => {
                let bytes: Bytes = disk.read(snapshot, at, bytes_max);
                LearnerInput::SnapshotRead { to, snapshot, at, bytes }
            }
        };
        Local::Learner(input)
    }

    /// An operator asks some node for a snapshot.
    pub(super) fn snapshot_one(&mut self) {
        let id = self.pick();
        self.take_snapshot(id);
        let every = u64::try_from(self.weather.snapshot_every.unwrap().as_micros()).unwrap();
        let next = self.micros(5_000, every * 2);
        self.after(next, Event::Snapshot);
    }

    fn take_snapshot(&mut self, id: NodeId) {
        let input = Local::Learner(LearnerInput::TakeSnapshot);
        self.with(id, |node, now, out| node.step(now, input, out));
    }

    /// A log that has grown long is cut.
    pub(super) fn bound_log(&mut self, id: NodeId) {
        let machine = &self.machines[&id];
        let base = |node: &synod::multi::node::Node| node.acceptor.log().base().map(|base| base.through);
        let through = machine.node.as_ref().and_then(base).unwrap_or(Slot::MAX);
        if machine.disk.entries_above(through) >= ENTRIES_MAX {
            self.take_snapshot(id);
        }
    }

    // ------------------------------------------------------------ rot

    /// Something rots on one disk; never on two at the same time, which no majority survives.
    pub(super) fn rot_one(&mut self) {
        if !self.faulty {
            return;
        }
        let next = self.micros(20_000, 500_000);
        self.after(next, Event::Rot);
        let id = self.pick();
        let sick = |machine: &super::Machine| {
            machine.disk.snapshots.is_rotten()
                || !machine.disk.rotten().is_empty()
                || machine.node.as_ref().is_some_and(|node| node.acceptor.log().has_unknown())
        };
        if self.machines.values().any(sick) {
            return;
        }
        let others = self.machines.iter().filter(|(other, _)| **other != id);
        let held = others.map(|(_, machine)| machine.disk.fold().chosen_through()).max();
        let machine = self.machines.get_mut(&id).unwrap();
        if self.random.draw() % 5 < 3 {
            // What only this node has learned is lost with its only snapshot.
            if machine.disk.snapshots.through() <= held && machine.disk.snapshots.rot() {
                self.faults.rotten_snapshots += 1;
                self.note(|| format!("the snapshot of {id:?} rots"));
            }
        } else if let Some(slot) = machine.disk.rot(&mut self.random) {
            self.faults.rotten_entries += 1;
            self.note(|| format!("what {id:?} holds of {slot:?} rots"));
        }
        if self.random.draw().is_multiple_of(2) {
            self.crash(id);
            let back = self.micros(1_000, 100_000);
            self.after(back, Event::Restart { node: id });
        }
        self.after(SCRUB, Event::Scrub { node: id });
    }

    /// The node looks for what is rotten, until nothing is.
    pub(super) fn scrub(&mut self, id: NodeId) {
        let disk = &self.machines[&id].disk;
        let (slots, snapshot) = (disk.rotten(), disk.snapshots.is_rotten());
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
        if snapshot || !slots.is_empty() {
            self.after(SCRUB, Event::Scrub { node: id });
        }
    }

    /// What is neither in memory nor in the state, and perhaps nobody else has learned: a start finds it unknown, and has it
    /// decided by those who accepted it.
    fn is_beyond_repair(&self, id: NodeId, slot: Slot) -> bool {
        let machine = &self.machines[&id];
        machine.node.as_ref().is_some_and(|node| {
            let log = node.acceptor.log();
            machine.state.through < slot && slot <= log.chosen_through() && log.entry(slot).is_none()
        })
    }

    // ------------------------------------------------------------ lost machines

    /// A machine is lost with its disk, and comes back empty under another id (protocol 10.1); the next one only after it was
    /// replaced and all others hold what it held.
    pub(super) fn wipe_one(&mut self) {
        if !self.faulty {
            return;
        }
        let next = self.micros(100_000, 1_000_000);
        self.after(next, Event::Wipe);
        let members = self.checks.newest_members();
        let victim = members[usize::try_from(self.random.draw() >> 1).unwrap() % members.len()];
        let Some(from) = self.checks.newest_in_force() else { return };
        let others_hold = members.iter().filter(|id| **id != victim).all(|id| {
            let log = self.machines[id].disk.fold();
            log.is_formed() && (from == Slot::FIRST || log.chosen_through() >= from)
        });
        if self.lost.is_some() || !others_hold || !self.may_join() {
            return;
        }
        self.note(|| format!("{victim:?} is lost with its disk"));
        self.crash(victim);
        self.machines.get_mut(&victim).unwrap().removed = true;
        self.faults.wiped += 1;
        let new = self.join();
        self.lost = Some((victim, new));
        self.after(MEND, Event::Replace);
    }

    /// An operator has the new machine replace the lost one, as often as it takes.
    pub(super) fn replace_lost(&mut self) {
        let Some((lost, node)) = self.lost else { return };
        let members = self.checks.newest_members();
        if members.contains(&node) && !members.contains(&lost) {
            self.lost = None;
            self.faults.replaced += 1;
            return;
        }
        for id in self.leaders() {
            let change = Change::Replace { lost, node, address: String::new() };
            self.ticket(id, Ticket::Change, |ticket| ProposerInput::Admin {
                ticket,
                call: AdminCall::Change(change.clone()),
            });
        }
        self.after(MEND, Event::Replace);
    }

    pub(super) fn begin_upkeep(&mut self) {
        if let Some(every) = self.weather.snapshot_every {
            self.after(every, Event::Snapshot);
        }
        match self.weather.mode {
            Mode::Operated => {}
            Mode::Rotting => self.after(Duration::from_millis(300), Event::Rot),
            Mode::Losing => self.after(Duration::from_millis(300), Event::Wipe),
        }
    }
}
