//! Snapshots: drawn, written, read for peers and restored, one thing at a time on each disk.

use super::super::breakage::Breakage;
use super::super::event::Event;
use super::super::fault::Fault;
use super::{Simulated, World};
use crate::multi::{AcceptorInput, LearnerInput, Local, Slot, SnapshotId, SnapshotTask};
use crate::paxos::NodeId;
use bytes::Bytes;

/// Entries above the last snapshot at which a node takes another.
const ENTRIES_MAX: u64 = 150;

impl<S: Simulated> World<S> {
    /// The node's disk is asked for something.
    pub(super) fn snapshot_task(&mut self, id: NodeId, task: SnapshotTask) {
        let Some(machine) = self.machines.get_mut(&id) else { return };
        let content = matches!(task, SnapshotTask::Take { .. }).then(|| machine.state.content());
        machine.tasks.push_back((task, content));
        if machine.tasks.len() == 1 {
            self.begin_task(id);
        }
    }

    fn begin_task(&mut self, id: NodeId) {
        let life = self.machines.get(&id).map_or(0, |machine| machine.life);
        let delay = self.micros(100, 8_000);
        self.after(delay, Event::SnapshotTask { node: id, life });
    }

    pub(super) fn end_task(&mut self, id: NodeId, life: u64) {
        let Some(machine) = self.machines.get_mut(&id).filter(|machine| machine.life == life) else { return };
        let Some((task, content)) = machine.tasks.pop_front() else { return };
        if !machine.tasks.is_empty() {
            self.begin_task(id);
        }
        self.note(id, || format!("n{id} has done {task:?}"));
        let Some(input) = self.carry_out_task(id, task, content) else { return };
        let crashes = self.weather.between(Fault::Crash).is_some() && self.percent(3);
        if crashes {
            self.crash_for(id, 100_000);
            return;
        }
        self.with(id, |node, now, out| node.step(now, input, out));
    }

    fn carry_out_task(&mut self, id: NodeId, task: SnapshotTask, content: Option<Bytes>) -> Option<Local> {
        let (fails, spoils) =
            (self.percent(self.weather.fail_snapshot), self.percent(self.weather.fail_snapshot));
        let disk = &mut self.machines.get_mut(&id)?.disk.snapshots;
        let input = match task {
            SnapshotTask::Take { .. } | SnapshotTask::Begin { .. } | SnapshotTask::Write { .. } if fails => {
                disk.abandon();
                self.count(Fault::SnapshotWrite.name());
                LearnerInput::SnapshotHeld { bytes: None }
            }
            SnapshotTask::Take { through, .. } => {
                let snapshot = disk.take(content?, through);
                self.count("snapshot_taken");
                let verdict = self.checks.clients.drew(id, snapshot);
                self.judge(verdict);
                return Some(Local::Acceptor(AcceptorInput::SnapshotTaken { snapshot }));
            }
            SnapshotTask::Begin { snapshot } => {
                let held = disk.begin(snapshot);
                if held > 0 {
                    self.count("snapshot_resumed");
                }
                LearnerInput::SnapshotHeld { bytes: Some(held) }
            }
            SnapshotTask::Write { at, bytes } => {
                let mut bytes = bytes.to_vec();
                if let Some(first) = bytes.first_mut().filter(|_| spoils) {
                    *first ^= 1;
                }
                let held = disk.write(at, &bytes);
                if spoils {
                    self.count("snapshot_part_spoiled");
                }
                LearnerInput::SnapshotHeld { bytes: held }
            }
            SnapshotTask::Seal { .. } => LearnerInput::SnapshotSealed { sealed: disk.seal() },
            SnapshotTask::Restore { snapshot } => {
                LearnerInput::Restored { snapshot, restored: self.restore(id, snapshot) }
            }
            SnapshotTask::Read { to, snapshot, at, bytes_max } => {
                let bytes = disk.read(snapshot, at, bytes_max);
                LearnerInput::SnapshotRead { to, snapshot, at, bytes }
            }
        };
        Some(Local::Learner(input))
    }

    fn restore(&mut self, id: NodeId, snapshot: SnapshotId) -> bool {
        let broken = self.is_broken(Breakage::UnrestoredState);
        let new = self.new;
        let Some(machine) = self.machines.get_mut(&id) else { return false };
        let content = machine.disk.snapshots.read(snapshot, 0, usize::MAX);
        let Some(mut state) = machine.state.restored(new(), &content) else { return false };
        if broken && let Some(unchanged) = state.emptied(new()) {
            state = unchanged;
        }
        let verdict = self.checks.restored(id, snapshot, &state);
        machine.state = state;
        self.has_applied = true;
        self.judge(verdict);
        self.count("snapshot_restored");
        self.serve_reads(id);
        true
    }

    /// An operator asks some node for a snapshot.
    pub(super) fn snapshot_one(&mut self) {
        let id = self.pick();
        self.count(Fault::Snapshot.name());
        self.take_snapshot(id);
    }

    pub(super) fn take_snapshot(&mut self, id: NodeId) {
        if self.machines.get(&id).is_some_and(super::Machine::is_awake) {
            let input = Local::Learner(LearnerInput::TakeSnapshot);
            self.with(id, |node, now, out| node.step(now, input, out));
        }
    }

    /// A log that has grown long is cut.
    pub(super) fn bound_log(&mut self, id: NodeId) {
        let Some(machine) = self.machines.get(&id) else { return };
        let base = machine.node.as_ref().and_then(|node| node.acceptor.log().base());
        let through = base.map_or(Slot::MAX, |base| base.through);
        if machine.disk.entries_above(through) >= ENTRIES_MAX {
            self.take_snapshot(id);
        }
    }
}
