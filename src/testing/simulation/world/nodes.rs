//! Nodes: how they start, step and have their effects carried out, as the shell does it.

use super::super::breakage::Breakage;
use super::super::disk::AHEAD_SLOTS_MAX;
use super::super::event::Event;
use super::super::violation::Violation;
use super::{Simulated, World};
use crate::election::{Election, Timing};
use crate::multi::node::Node;
use crate::multi::{
    Acceptor, AcceptorInput, ClusterId, Effect, Event as NodeEvent, Identity, Learner, Limits, Local, Log,
    Owner, Proposer, ProtocolRange, Role, Sequence, Slot, Time,
};
use crate::paxos::NodeId;
use std::time::Duration;

/// Small, so that everything takes several messages.
fn limits() -> Limits {
    Limits {
        change_patience: Duration::from_secs(2),
        cache_bytes_max: 2_000,
        catch_up_bytes_max: 1_000,
        frame_bytes_max: 2_000,
        snapshot_chunk_bytes: 100,
        ahead_slots_max: AHEAD_SLOTS_MAX,
        ..Limits::default()
    }
}

impl<S: Simulated> World<S> {
    /// What `node` shows in a handshake.
    pub(super) fn identity(&self, node: NodeId) -> Option<Identity> {
        let machine = self.machines.get(&node)?;
        let owner = Owner { cluster: ClusterId::new("simulated").ok()?, epoch: 0, node };
        let incarnations = machine.disk.incarnations.clone();
        let sequence = machine.disk.sequence;
        Some(Identity { owner, disk: machine.disk.id, incarnations, sequence, protocol: ProtocolRange::OURS })
    }

    pub(super) fn restart(&mut self, id: NodeId) {
        let nonce = self.random.draw();
        let seeds = [self.random.draw(), self.random.draw(), self.random.draw()];
        let (forgets_promise, forgets_votes) =
            (self.is_broken(Breakage::ForgottenPromise), self.is_broken(Breakage::ForgottenVotes));
        let lies = self.is_broken(Breakage::EarlyFlush);
        let state = self.new_state();
        let Some(machine) = self.machines.get_mut(&id) else { return };
        if machine.node.is_some() || machine.removed || machine.disk.is_full {
            return;
        }
        machine.disk.lies = lies;
        if forgets_promise || forgets_votes {
            machine.disk.forget(forgets_promise, forgets_votes);
        }
        let (sequence, log) = machine.disk.open(nonce);
        machine.life += 1;
        machine.state = state;
        if machine.disk.starts() > 1 {
            self.count("restart");
        }
        self.came_back(id, &log);
        let Some(identity) = self.identity(id) else { return };
        let bootstrap = self.membership.members().contains_key(&id).then(|| self.membership.clone());
        let [proposer, learner, election] = seeds;
        let timing = Timing::default();
        let election = match self.is_broken(Breakage::NoElection) {
            true => Election::external(id, timing, election),
            false => Election::heartbeat(id, timing, election),
        };
        let node = Node::new(
            Proposer::new(id, limits(), proposer),
            Acceptor::new(identity, bootstrap, sequence, log, limits()),
            Learner::new(id, limits(), learner),
            election,
        );
        if let Some(machine) = self.machines.get_mut(&id) {
            machine.node = Some(node);
        }
        self.with(id, |node, now, out| node.start(now, out));
        for peer in self.ids().into_iter().filter(|peer| *peer != id) {
            self.try_connect(id, peer);
            self.try_connect(peer, id);
        }
    }

    /// What it says it knows is held against what it said before.
    fn came_back(&mut self, id: NodeId, log: &Log) {
        let (promised, chosen_through) = (log.promised(), log.chosen_through());
        self.note(id, || format!("n{id} starts, promised {promised:?}, chosen through {chosen_through}"));
        let stale = self.machines.get(&id).is_some_and(|machine| machine.is_stale);
        if stale {
            self.checks.cursors.begin_anew(id);
            return;
        }
        let verdict = self.checks.cursors.restarted(id, promised);
        self.judge(verdict);
        if self.weather.rot.is_empty() {
            let verdict = self.checks.cursors.relearned(id, chosen_through);
            self.judge(verdict);
        }
    }

    /// Runs one step of a node and carries out what it asks for, unless power goes in between.
    pub(super) fn with(&mut self, id: NodeId, step: impl FnOnce(&mut Node, Time, &mut Vec<(Role, Effect)>)) {
        let now = self.now;
        let Some(machine) = self.machines.get_mut(&id) else { return };
        let life = machine.life;
        let now = machine.clock(now);
        // Nearly all that happens comes by here: the memory is used again.
        let mut effects = std::mem::take(&mut self.effects);
        if let Some(node) = &mut machine.node {
            step(node, now, &mut effects);
        }
        self.carry_out_all(id, life, &mut effects);
        effects.clear();
        self.effects = effects;
    }

    fn carry_out_all(&mut self, id: NodeId, life: u64, effects: &mut Vec<(Role, Effect)>) {
        let last = effects.len();
        for (nth, (role, effect)) in effects.drain(..).enumerate() {
            let Some(machine) = self.machines.get_mut(&id).filter(|machine| machine.life == life) else {
                return;
            };
            if let Some(left) = &mut machine.effects_left {
                *left = left.saturating_sub(1);
                if *left == 0 && nth > 0 && nth < last {
                    self.power_fails_within(id);
                    return;
                }
            }
            self.carry_out(id, role, effect);
        }
    }

    fn carry_out(&mut self, id: NodeId, role: Role, effect: Effect) {
        let now = self.now;
        let Some(machine) = self.machines.get_mut(&id) else { return };
        let (life, durable) = (machine.life, machine.disk.sequence);
        let waits = |after: Option<Sequence>| after.filter(|after| *after > durable && !machine.disk.lies);
        match effect {
            Effect::Persist { .. } | Effect::Trim { .. } if machine.disk.is_full => self.disk_is_full(id),
            Effect::Persist { sequence, records } => {
                // What a node says that nobody lets in is said to nobody.
                let verdict = if machine.is_stale { Ok(()) } else { self.checks.recorded(id, &records) };
                self.judge(verdict);
                let Some(machine) = self.machines.get_mut(&id) else { return };
                if machine.disk.write(sequence, records) {
                    self.begin_flush(id);
                }
                if self.is_broken(Breakage::EarlyFlush) {
                    let persisted = Local::Acceptor(AcceptorInput::Persisted { sequence });
                    self.with(id, |node, now, out| node.step(now, persisted, out));
                }
            }
            Effect::Trim { through, facts } => {
                if machine.disk.trim(through, facts) {
                    self.begin_flush(id);
                }
            }
            Effect::Send { to, message, after } => match waits(after) {
                Some(after) => machine.waiting.push((after, Effect::Send { to, message, after: None })),
                None => self.send(id, to, message),
            },
            Effect::Admission { ticket, verdict, after } => match waits(after) {
                Some(after) => {
                    machine.waiting.push((after, Effect::Admission { ticket, verdict, after: None }))
                }
                None => self.admitted(id, ticket, verdict),
            },
            Effect::Read { slots, .. } => {
                let delay = self.micros(50, 2_000);
                self.after(delay, Event::ReadBack { node: id, life, slots });
            }
            Effect::Deliver { slot, value } => self.delivered(id, slot, &value),
            Effect::Deadline(at) => {
                machine.deadlines.insert(role, at);
                let delay = at.since(machine.clock(now));
                self.after(delay, Event::Wake { node: id, role, at, life });
            }
            Effect::Answer { ticket, answer } => self.answered(id, ticket, &answer),
            Effect::Snapshot(task) => self.snapshot_task(id, task),
            Effect::Event(event) => self.said(id, event),
            // The node hands these on itself.
            Effect::Local(_) => {}
        }
    }

    /// A node says what befell it.
    fn said(&mut self, id: NodeId, event: NodeEvent) {
        self.note(id, || format!("n{id} says {event:?}"));
        match event {
            NodeEvent::Removed => {
                self.crash(id);
                if let Some(machine) = self.machines.get_mut(&id) {
                    machine.removed = true;
                }
            }
            NodeEvent::Abstains { .. } if self.machines.get(&id).is_some_and(|machine| machine.is_stale) => {
                self.fenced(id);
            }
            NodeEvent::Abstains { .. } | NodeEvent::FormationDiffers { .. } => {
                self.judge(Err(Violation::OutOfService { node: id, why: format!("{event:?}") }));
            }
            NodeEvent::Installed { .. } => self.count("snapshot_installed"),
            NodeEvent::SnapshotDamaged { .. } => self.count("snapshot_found_damaged"),
            NodeEvent::Acquired { .. } => self.count("leader_elected"),
            _ => {}
        }
    }

    pub(super) fn wake(&mut self, id: NodeId, role: Role, at: Time, life: u64) {
        let now = self.now;
        let Some(machine) = self.machines.get_mut(&id) else { return };
        if machine.life != life || machine.deadlines.get(&role) != Some(&at) {
            return;
        }
        let clock = machine.clock(now);
        if clock < at {
            // Its clock stands still, or did.
            let stands_until = machine.stall.map_or(now, |(_, until)| until);
            let delay = stands_until.since(now) + at.since(clock);
            self.after(delay.max(Duration::from_micros(1)), Event::Wake { node: id, role, at, life });
            return;
        }
        machine.deadlines.remove(&role);
        self.with(id, |node, now, out| node.wake(now, role, out));
    }

    pub(super) fn read_back(&mut self, id: NodeId, life: u64, slots: std::ops::Range<Slot>) {
        let Some(machine) = self.machines.get(&id).filter(|machine| machine.life == life) else { return };
        let entries = machine.disk.read(slots);
        let input = Local::Acceptor(AcceptorInput::ReadBack { entries });
        self.with(id, |node, now, out| node.step(now, input, out));
    }

    /// What waited for the write `sequence` is carried out.
    pub(super) fn released(&mut self, id: NodeId, sequence: Sequence) {
        let Some(machine) = self.machines.get_mut(&id) else { return };
        let life = machine.life;
        let waiting = std::mem::take(&mut machine.waiting);
        let (ready, waiting): (Vec<_>, Vec<_>) =
            waiting.into_iter().partition(|(after, _)| *after <= sequence);
        machine.waiting = waiting;
        for (_, effect) in ready {
            if self.machines.get(&id).is_some_and(|machine| machine.life == life) {
                self.carry_out(id, Role::Acceptor, effect);
            }
        }
    }
}
