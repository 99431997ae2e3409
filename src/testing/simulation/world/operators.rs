//! Operators: changes of the membership, handing the lead over, and machines that have to be replaced.

use super::super::event::Event;
use super::super::fault::Fault;
use super::super::machine::{Machine, Ticket};
use super::{JOINERS_MAX, Simulated, World};
use crate::multi::{AdminCall, Change, Local, Member, MemberKind, ProposerInput, Slot};
use crate::paxos::NodeId;
use std::time::Duration;

/// How long an operator waits before he tries again to replace a machine.
const MEND: Duration = Duration::from_millis(200);

impl<S: Simulated> World<S> {
    pub(super) fn leaders(&self) -> Vec<NodeId> {
        self.machines.iter().filter(|(_, machine)| machine.leads()).map(|(id, _)| *id).collect()
    }

    /// Asks the proposer of `id` for something, whose answer is told apart by a ticket.
    pub(super) fn ask(&mut self, id: NodeId, kind: Ticket, input: impl FnOnce(u64) -> ProposerInput) {
        let Some(machine) = self.machines.get_mut(&id) else { return };
        machine.next_ticket += 1;
        let ticket = machine.next_ticket;
        machine.tickets.insert(ticket, kind);
        let input = Local::Proposer(input(ticket));
        self.with(id, |node, now, out| node.step(now, input, out));
    }

    /// An operator adds, removes or replaces a node, or hands the lead over, at every node that says it leads.
    pub(super) fn operate(&mut self) {
        let members = self.checks.agreement.newest_members();
        for id in self.leaders() {
            let Some(victim) = self.one_of(&members) else { return };
            let what = self.random.draw() % 4;
            if what == 0 || !self.weather.changes {
                if self.weather.transfers {
                    self.count(Fault::Transfer.name());
                    let call = AdminCall::Transfer(None);
                    self.ask(id, Ticket::Transfer, |ticket| ProposerInput::Admin { ticket, call });
                }
                continue;
            }
            let change = match what {
                1 if members.len() > 2 => Change::Remove { node: victim },
                2 if self.may_join() => {
                    Change::Replace { lost: victim, node: self.join(), address: String::new() }
                }
                _ if self.may_join() && members.len() < 6 => {
                    let member = Member { kind: MemberKind::Voter, address: String::new() };
                    Change::Add { node: self.join(), member }
                }
                _ if members.len() > 3 => Change::Remove { node: victim },
                _ => continue,
            };
            self.change(id, change);
        }
    }

    fn change(&mut self, id: NodeId, change: Change) {
        self.count(Fault::Membership.name());
        self.note(id, || format!("an operator asks n{id} for {change:?}"));
        let call = AdminCall::Change(change);
        self.ask(id, Ticket::Change, |ticket| ProposerInput::Admin { ticket, call });
    }

    fn may_join(&self) -> bool {
        self.machines.len() < self.membership.members().len() + JOINERS_MAX
    }

    /// A new node joins, under an id that no other had.
    fn join(&mut self) -> NodeId {
        let id = NodeId::new(self.machines.len() as u64 + 1);
        let machine = Machine::new(id, self.new_state());
        self.machines.insert(id, machine);
        self.restart(id);
        id
    }

    /// Whether all others hold what `victim` held, and nobody else is missing: then it may be lost.
    fn may_lose(&self, victim: NodeId) -> bool {
        let members = self.checks.agreement.newest_members();
        let Some(from) = self.checks.agreement.newest_in_force() else { return false };
        let others_hold = members.iter().filter(|id| **id != victim).all(|id| {
            self.machines.get(id).is_some_and(|machine| {
                let log = machine.disk.fold();
                log.is_formed() && (from == Slot::FIRST || log.chosen_through() >= from)
            })
        });
        self.lost.is_none() && others_hold && self.may_join() && members.len() > 2
    }

    /// A machine is lost with its disk, and comes back empty under another id (protocol 10.1); the next one only after it was
    /// replaced and all others hold what it held.
    pub(super) fn wipe_one(&mut self) {
        let members = self.checks.agreement.newest_members();
        let Some(victim) = self.one_of(&members).filter(|victim| self.may_lose(*victim)) else { return };
        self.count(Fault::Wipe.name());
        self.note(victim, || format!("n{victim} is lost with its disk"));
        self.give_up(victim);
    }

    fn give_up(&mut self, victim: NodeId) {
        self.crash(victim);
        if let Some(machine) = self.machines.get_mut(&victim) {
            machine.removed = true;
        }
        let new = self.join();
        self.lost = Some((victim, new));
        self.after(MEND, Event::Replace);
    }

    /// An operator has the new machine replace the lost one, as often as it takes.
    pub(super) fn replace_lost(&mut self) {
        let Some((lost, node)) = self.lost else { return };
        let members = self.checks.agreement.newest_members();
        if members.contains(&node) && !members.contains(&lost) {
            self.lost = None;
            self.has_applied = true;
            self.count("machine_replaced");
            return;
        }
        for id in self.leaders() {
            self.change(id, Change::Replace { lost, node, address: String::new() });
        }
        self.after(MEND, Event::Replace);
    }

    /// A node is started from an old image of its disk, of before its last start, which all others remember (9.3); or an image
    /// is drawn for later.
    pub(super) fn restore_old_image(&mut self) {
        let members = self.checks.agreement.newest_members();
        let Some(victim) = self.one_of(&members) else { return };
        let known = |id: &NodeId| {
            let theirs = self.machines.get(&victim).map(|machine| &machine.disk);
            let newest = theirs.and_then(|disk| Some((disk.id, *disk.incarnations.last()?)));
            self.machines.get(id).is_some_and(|machine| machine.disk.fold().peer(victim).seen == newest)
        };
        let others: Vec<_> =
            self.machines.iter().filter(|(id, other)| **id != victim && !other.removed).collect();
        let all_know = others.iter().all(|(id, _)| known(id));
        let usable = all_know && self.may_lose(victim);
        let Some(machine) = self.machines.get_mut(&victim).filter(|machine| !machine.removed) else { return };
        match machine.image.take() {
            Some(image) if usable && image.starts() < machine.disk.starts() => {
                self.crash(victim);
                if let Some(machine) = self.machines.get_mut(&victim) {
                    machine.disk = *image;
                    machine.disk.crash(0, &mut self.random);
                    machine.is_stale = true;
                }
                self.count(Fault::OldImage.name());
                self.note(victim, || format!("n{victim} starts from an old image of its disk"));
                self.restart(victim);
                // The next one only after this one was refused and replaced.
                self.lost = Some((victim, victim));
            }
            Some(image) => machine.image = Some(image),
            None => machine.image = Some(Box::new(machine.disk.clone())),
        }
    }

    /// A node on an old image was refused and votes no more: it is replaced.
    pub(super) fn fenced(&mut self, id: NodeId) {
        self.count("stale_node_fenced");
        self.give_up(id);
    }
}
