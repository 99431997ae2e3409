//! Changing the membership, and handing the lead over (protocol 6.2, 6.5, 8.5).
//!
//! Invariants: H1 one change or transfer at a time. H2 a membership is proposed only when none is pending and quorums of it
//! answer and are near. H3 a leader that the membership in force leaves out hands over only after a set that no later leader
//! can miss durably holds all that it led.

use super::{Led, Phase, Proposer};
use crate::multi::change::{
    AdminCall, AdminOutcome, Change, ChangeRefusal, NextStep, TransferRefusal, next_step,
};
use crate::multi::effect::{Answer, Effect, ElectionInput, Local};
use crate::multi::membership::{MemberKind, Membership};
use crate::multi::message::Message;
use crate::multi::slot::{Slot, Time};
use crate::paxos::{NodeId, ProposalId};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// What is under way under one id, and how far the others are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Changing {
    change: Option<Wanted>,
    transfer: Option<Transfer>,
    /// What each node answered last.
    progress: BTreeMap<NodeId, Progress>,
    held_through: Slot,
}

/// What a node says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Progress {
    at: Time,
    /// How far it has learned, durably.
    through: Slot,
    /// It holds no state.
    witness: bool,
}

/// A membership that is wanted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Wanted {
    ticket: u64,
    goal: Membership,
    until: Time,
}

/// A hand-over of the lead.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Transfer {
    /// Nobody asked, if the membership leaves this leader out.
    ticket: Option<u64>,
    to: NodeId,
    /// No voter keeps a lease from then on that would stand in its way (7.4).
    free: Time,
    until: Time,
    /// When it was told last; the word may be lost, or come while a lease still runs.
    told: Option<Time>,
}

impl Changing {
    /// The lead is over: nobody knows here how it goes on.
    pub(super) fn end(self, out: &mut Vec<Effect>) {
        let change = self.change.map(|change| change.ticket);
        let transfer = self.transfer.and_then(|transfer| transfer.ticket);
        for ticket in change.into_iter().chain(transfer) {
            answer(ticket, AdminOutcome::Unknown, out);
        }
    }

    pub(super) fn is_handing_over(&self) -> bool {
        self.transfer.is_some()
    }

    fn through(&self, node: NodeId) -> Slot {
        self.progress.get(&node).map_or(Slot::ZERO, |progress| progress.through)
    }

    /// A node that is to be a voter, and says that it holds no state.
    fn stateless_voter(&self, goal: &Membership) -> Option<NodeId> {
        let witnesses = self.progress.iter().filter(|(_, progress)| progress.witness);
        witnesses.map(|(node, _)| *node).find(|node| goal.may_lead(*node))
    }
}

fn answer(ticket: u64, outcome: AdminOutcome, out: &mut Vec<Effect>) {
    out.push(Effect::Answer { ticket, answer: Answer::Admin(outcome) });
}

impl Proposer {
    /// An operator's call.
    pub(super) fn on_admin(&mut self, now: Time, ticket: u64, call: AdminCall, out: &mut Vec<Effect>) {
        if !self.led().is_some_and(|led| led.leading.is_recovered()) {
            answer(ticket, AdminOutcome::NotLeader(None), out);
            return;
        }
        match call {
            AdminCall::Change(change) => self.on_change(now, ticket, &change, out),
            AdminCall::Transfer(to) => self.on_transfer(now, ticket, to, out),
        }
    }

    /// Whether a membership is chosen or proposed and not in force, or another call is under way (6.2).
    fn is_changing(&self) -> bool {
        let next = self.chosen_through.next();
        let pending = self.memberships.as_ref().is_some_and(|all| all.coming(next).is_some());
        let busy = |led: &Led| {
            led.changing.change.is_some()
                || led.changing.transfer.is_some()
                || led.leading.has_open_membership()
        };
        pending || self.led().is_some_and(busy)
    }

    // ---------------------------------------------------------------- the membership

    fn on_change(&mut self, now: Time, ticket: u64, change: &Change, out: &mut Vec<Effect>) {
        let goal = match &self.memberships {
            Some(memberships) if !self.is_changing() => change.goal(memberships),
            _ => Err(ChangeRefusal::InProgress),
        };
        match (goal, &mut self.phase) {
            (Ok(goal), Phase::Leading(led)) => {
                let until = now + self.limits.change_patience;
                led.changing.change = Some(Wanted { ticket, goal, until });
                self.advance(now, out);
            }
            (Ok(_), _) => answer(ticket, AdminOutcome::NotLeader(None), out),
            (Err(refusal), _) => answer(ticket, AdminOutcome::ChangeRefused(refusal), out),
        }
    }

    /// The next membership to propose on the way to the one that is wanted, if it is time (6.2). Answers whoever wanted it
    /// when it is in force, or cannot be.
    pub(super) fn next_membership(&mut self, now: Time, out: &mut Vec<Effect>) -> Option<Membership> {
        self.led()?.changing.change.as_ref()?;
        let near = self.near(now);
        let memberships = self.memberships.as_ref()?;
        let present = memberships.newest()?;
        let Phase::Leading(led) = &mut self.phase else { return None };
        if memberships.coming(self.chosen_through.next()).is_some() || led.leading.has_open_membership() {
            return None;
        }
        let wanted = led.changing.change.as_ref()?;
        let stateless = led.changing.stateless_voter(&wanted.goal);
        let outcome = match (next_step(present, &wanted.goal, &near), stateless) {
            (_, Some(node)) => AdminOutcome::ChangeRefused(ChangeRefusal::Stateless { node }),
            (NextStep::Propose(membership), None) => return Some(membership),
            (NextStep::Wait(_), None) if now < wanted.until => return None,
            (NextStep::Wait(lagging), None) => {
                AdminOutcome::ChangeRefused(ChangeRefusal::Lagging { lagging })
            }
            (NextStep::Done, None) => AdminOutcome::Changed(present.clone()),
        };
        let ticket = wanted.ticket;
        led.changing.change = None;
        answer(ticket, outcome, out);
        None
    }

    /// A leader that is left out proposes nothing more, but still answers whoever wanted it so.
    fn answer_when_left_out(&mut self, out: &mut Vec<Effect>) {
        let (Some(memberships), Phase::Leading(led)) = (&self.memberships, &mut self.phase) else { return };
        let next = self.chosen_through.next();
        let in_force = memberships.governing(next).filter(|_| memberships.coming(next).is_none());
        if let Some(membership) = in_force
            && let Some(wanted) = led.changing.change.take_if(|wanted| wanted.goal == *membership)
        {
            answer(wanted.ticket, AdminOutcome::Changed(wanted.goal), out);
        }
    }

    // ---------------------------------------------------------------- how far the others are

    /// `peer` answered a heartbeat.
    pub(super) fn on_progress(
        &mut self,
        now: Time,
        peer: NodeId,
        durable_through: Slot,
        witness: bool,
        out: &mut Vec<Effect>,
    ) {
        let Phase::Leading(led) = &mut self.phase else { return };
        led.changing.progress.insert(peer, Progress { at: now, through: durable_through, witness });
        self.measure_held(out);
        self.advance(now, out);
    }

    /// How far full nodes durably hold of whom every phase-1 quorum of the membership in force has one (4.3, 6.5).
    fn measure_held(&mut self, out: &mut Vec<Effect>) {
        let next = self.chosen_through.next();
        let Some(governing) = self.memberships.as_ref().and_then(|all| all.governing(next)) else { return };
        let Phase::Leading(led) = &mut self.phase else { return };
        let is_full = |node: &NodeId| {
            governing.members().get(node).is_some_and(|member| member.kind == MemberKind::Voter)
        };
        let progress = led.changing.progress.iter();
        let full = progress.filter(|(node, progress)| is_full(node) && !progress.witness);
        let full: Vec<(NodeId, Slot)> = full.map(|(node, progress)| (*node, progress.through)).collect();
        let is_held = |slot: &Slot| {
            let holding = full.iter().filter(|(_, through)| through >= slot).map(|(node, _)| *node).collect();
            governing.meets_every_phase1_quorum(&holding)
        };
        let held = full.iter().map(|(_, through)| *through).filter(is_held).max().unwrap_or_default();
        // Above what this leader has learned another membership may be in force.
        let held = held.min(self.chosen_through);
        if held > led.changing.held_through {
            led.changing.held_through = held;
            out.push(Effect::Local(Local::Election(ElectionInput::Held { through: held })));
        }
    }

    /// Who answered lately and is near, this node included.
    fn near(&self, now: Time) -> BTreeSet<NodeId> {
        let Some(led) = self.led() else { return BTreeSet::new() };
        let is_near = |progress: &Progress| {
            now.since(progress.at) < self.limits.transfer_patience * 2
                && progress.through.plus(self.limits.near_slots) >= self.chosen_through
        };
        let progress = led.changing.progress.iter();
        let near = progress.filter(|(_, progress)| is_near(progress)).map(|(node, _)| *node);
        near.chain([self.me]).collect()
    }

    // ---------------------------------------------------------------- the lead

    fn on_transfer(&mut self, now: Time, ticket: u64, to: Option<NodeId>, out: &mut Vec<Effect>) {
        if to == Some(self.me) {
            answer(ticket, AdminOutcome::Transferred(self.me), out);
            return;
        }
        let target = if self.is_changing() { Err(TransferRefusal::InProgress) } else { self.target(now, to) };
        match target {
            Ok(to) => self.begin_transfer(now, Some(ticket), to, out),
            Err(refusal) => answer(ticket, AdminOutcome::TransferRefused(refusal), out),
        }
    }

    /// Whom to hand over to: a voter that answers and is near.
    fn target(&self, now: Time, to: Option<NodeId>) -> Result<NodeId, TransferRefusal> {
        let next = self.chosen_through.next();
        let governing = self.memberships.as_ref().and_then(|all| all.governing(next));
        let may_lead = |node: NodeId| governing.is_some_and(|membership| membership.may_lead(node));
        let near = self.near(now);
        let Some(led) = self.led() else { return Err(TransferRefusal::Nobody) };
        match to {
            Some(node) if !may_lead(node) => Err(TransferRefusal::NotAVoter { node }),
            Some(node) if near.contains(&node) => Ok(node),
            Some(node) => {
                let through = led.changing.through(node);
                let slots = self.chosen_through.get().saturating_sub(through.get());
                Err(TransferRefusal::Lags { node, slots })
            }
            None => {
                let others = near.into_iter().filter(|node| *node != self.me && may_lead(*node));
                others.max_by_key(|node| led.changing.through(*node)).ok_or(TransferRefusal::Nobody)
            }
        }
    }

    fn begin_transfer(&mut self, now: Time, ticket: Option<u64>, to: NodeId, out: &mut Vec<Effect>) {
        let next = self.chosen_through.next();
        let governing = self.memberships.as_ref().and_then(|all| all.governing(next));
        // A voter keeps what it granted last, which may be just now.
        let lease = governing.map_or(Duration::ZERO, Membership::lease);
        let free = now + lease;
        let patience = self.limits.transfer_patience;
        let until = free + if lease.is_zero() { patience } else { patience * 2 };
        let Phase::Leading(led) = &mut self.phase else { return };
        led.changing.transfer = Some(Transfer { ticket, to, free, until, told: None });
        out.push(Effect::Local(Local::Election(ElectionInput::Lease(false))));
        self.hand_over(now, out);
        self.wake_soon(now, out);
    }

    /// Tells the next leader to campaign once nothing is open and no lease stands in its way; leads on if it does not come to
    /// lead in time (8.5). A leader that the membership in force leaves out hands over by itself (6.5).
    pub(super) fn hand_over(&mut self, now: Time, out: &mut Vec<Effect>) {
        self.answer_when_left_out(out);
        self.leave_if_left_out(now, out);
        let Phase::Leading(led) = &mut self.phase else { return };
        let id = led.leading.id();
        if let Some(late) = led.changing.transfer.take_if(|transfer| now >= transfer.until) {
            out.push(Effect::Local(Local::Election(ElectionInput::Lease(true))));
            if let Some(ticket) = late.ticket {
                answer(ticket, AdminOutcome::TransferRefused(TransferRefusal::TimedOut), out);
            }
        }
        let Some(transfer) = &mut led.changing.transfer else { return };
        let is_due = transfer.told.is_none_or(|told| now.since(told) >= self.limits.resend);
        if is_due && now >= transfer.free && led.leading.has_nothing_open() {
            led.reading.end_lease();
            transfer.told = Some(now);
            out.push(Effect::Send { to: transfer.to, message: Message::TakeOver { id }, after: None });
        }
    }

    /// The membership in force leaves this leader out: once all that it led is held by a set that no later leader can miss, it
    /// hands over.
    fn leave_if_left_out(&mut self, now: Time, out: &mut Vec<Effect>) {
        let Some(memberships) = &self.memberships else { return };
        let next = self.chosen_through.next();
        let Some(led) = self.led() else { return };
        let left_out = memberships.governing(next).is_some_and(|membership| !membership.may_lead(self.me));
        if left_out
            && !led.changing.is_handing_over()
            && led.changing.held_through >= memberships.governs_from(next).minus(1)
            && led.leading.has_nothing_open()
            && let Ok(to) = self.target(now, None)
        {
            self.begin_transfer(now, None, to, out);
        }
    }

    /// Another node was promised `id`: if it is the one to hand over to, this leader gives way at once.
    pub(super) fn yield_to(&mut self, id: ProposalId, out: &mut Vec<Effect>) {
        let Phase::Leading(led) = &mut self.phase else { return };
        let own = led.leading.id();
        let is_next = |transfer: &mut Transfer| id > own && transfer.to == id.node;
        let Some(transfer) = led.changing.transfer.take_if(is_next) else { return };
        if let Some(ticket) = transfer.ticket {
            answer(ticket, AdminOutcome::Transferred(id.node), out);
        }
        self.step_down(out);
    }
}
