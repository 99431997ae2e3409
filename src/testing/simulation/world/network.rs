//! The network: loses, repeats, delays, reorders and cuts off; and connections with their handshakes.

use super::super::event::Event;
use super::super::fault::Fault;
use super::super::violation::Violation;
use super::{Simulated, World};
use crate::multi::{AcceptorInput, Local, Message, Refusal};
use crate::paxos::NodeId;
use std::time::Duration;

impl<S: Simulated> World<S> {
    pub(super) fn send(&mut self, from: NodeId, to: NodeId, message: Message) {
        let leaves = to == from || self.links.contains(&(from, to));
        // What a node says that nobody lets in is said to nobody.
        if leaves || !self.machines.get(&from).is_some_and(|machine| machine.is_stale) {
            let verdict = self.checks.sent(from, &message);
            self.judge(verdict);
        }
        self.story.tell_message(self.now, from, to, &message);
        if to == from {
            self.with(from, |node, now, out| node.receive(now, from, message, out));
            return;
        }
        if !leaves {
            return;
        }
        if self.percent(self.weather.lose) {
            self.count(Fault::Loss.name());
            return;
        }
        if self.seldom(self.weather.corrupt) {
            // The receiver finds it and closes the connection; the sender calls again.
            self.count(Fault::Corruption.name());
            self.link_down(from, to);
            self.try_connect(from, to);
            return;
        }
        if self.percent(self.weather.repeat) {
            self.count(Fault::Repeat.name());
            self.travel(from, to, message.clone());
        }
        self.travel(from, to, message);
    }

    fn travel(&mut self, from: NodeId, to: NodeId, message: Message) {
        let mut delay = self.micros(50, 1_000);
        if self.percent(self.weather.delay) {
            self.count(Fault::Delay.name());
            delay += self.micros(0, 300_000);
        }
        if self.seldom(self.weather.delay_long) {
            self.count(Fault::LongDelay.name());
            delay += self.micros(300_000, 120_000_000);
        }
        let number = self.schedule.count();
        self.after(delay, Event::Arrive { from, to, message, number });
    }

    pub(super) fn arrive(&mut self, from: NodeId, to: NodeId, message: Message, number: u64) {
        let runs = self.machines.get(&to).is_some_and(|machine| machine.node.is_some());
        if self.cut.contains(&(from, to)) || !runs {
            return;
        }
        let last = self.last_arrival.entry((from, to)).or_default();
        let overtaken = *last > number;
        *last = number.max(*last);
        if overtaken {
            self.count("message_overtaken");
        }
        self.tick_trace((from.get() << 8) ^ to.get() ^ ((message.size() as u64) << 40));
        self.with(to, |node, now, out| node.receive(now, from, message, out));
    }

    pub(super) fn try_connect(&mut self, from: NodeId, to: NodeId) {
        let delay = self.micros(500, 20_000);
        self.after(delay, Event::Connect { from, to });
    }

    /// `from` shows itself to `to`, which lets it in once it has noted so.
    pub(super) fn connect(&mut self, from: NodeId, to: NodeId) {
        let both =
            [from, to].iter().all(|id| self.machines.get(id).is_some_and(|machine| machine.node.is_some()));
        if !both || self.cut.contains(&(from, to)) || self.links.contains(&(from, to)) {
            return;
        }
        let ticket = self.random.draw();
        let Some(identity) = self.identity(from) else { return };
        if let Some(machine) = self.machines.get_mut(&to) {
            machine.handshakes.insert(ticket, from);
        }
        let admit = Local::Acceptor(AcceptorInput::Admit { ticket, identity });
        self.with(to, |node, now, out| node.step(now, admit, out));
    }

    /// `id` has judged whoever showed himself.
    pub(super) fn admitted(&mut self, id: NodeId, ticket: u64, verdict: Result<(), Refusal>) {
        let peer = self.machines.get_mut(&id).and_then(|machine| machine.handshakes.remove(&ticket));
        let Some(peer) = peer else { return };
        let Err(refusal) = verdict else {
            self.link_up(peer, id);
            return;
        };
        let stale = self.machines.get(&peer).filter(|machine| machine.is_stale);
        match stale.map(|machine| machine.life) {
            Some(life) => {
                self.count("stale_node_refused");
                let delay = self.micros(50, 1_000);
                self.after(delay, Event::Refused { node: peer, by: id, refusal, life });
            }
            _ => self.judge(Err(Violation::OutOfService {
                node: peer,
                why: format!("n{id} refuses it: {refusal}"),
            })),
        }
    }

    pub(super) fn refused(&mut self, node: NodeId, by: NodeId, refusal: Refusal, life: u64) {
        if self.machines.get(&node).is_some_and(|machine| machine.life == life) {
            let refused = Local::Acceptor(AcceptorInput::Refused { peer: by, refusal });
            self.with(node, |node, now, out| node.step(now, refused, out));
        }
    }

    fn link_up(&mut self, from: NodeId, to: NodeId) {
        let runs = self.machines.get(&from).is_some_and(|machine| machine.node.is_some());
        if runs && !self.cut.contains(&(from, to)) && self.links.insert((from, to)) {
            self.link(from, to, true);
        }
    }

    pub(super) fn link_down(&mut self, from: NodeId, to: NodeId) {
        if self.links.remove(&(from, to)) {
            self.after(Duration::ZERO, Event::LinkDown { from, to });
        }
    }

    /// `to` notices that the connection from `from` is gone, unless another one stands in its place by now: a node that was
    /// paused finds both at once, in either order.
    pub(super) fn notice_down(&mut self, from: NodeId, to: NodeId) {
        if !self.links.contains(&(from, to)) {
            self.link(from, to, false);
        }
    }

    /// `to` learns that the connection from `from` came or went.
    fn link(&mut self, from: NodeId, to: NodeId, up: bool) {
        let what = if up { "is connected to" } else { "is cut off from" };
        self.story.tell(self.now, [from, to], || format!("n{from} {what} n{to}"));
        self.with(to, |node, now, out| node.link(now, from, up, out));
    }

    /// Messages from `a` to `b` are lost from now on; half of the time `b` notices that the connection is gone.
    pub(super) fn cut(&mut self, a: NodeId, b: NodeId, lasts: Duration) {
        if self.cut.insert((a, b)) && self.random.draw().is_multiple_of(2) {
            self.link_down(a, b);
        }
        self.after(lasts, Event::Heal { a, b });
    }

    pub(super) fn heal(&mut self, a: NodeId, b: NodeId) {
        if self.cut.remove(&(a, b)) {
            self.try_connect(a, b);
        }
    }
}
