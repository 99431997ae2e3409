//! Reads: how far one has to wait, and whether this node still leads (protocol 7).
//!
//! ```text
//! arrives ─ mark taken ─► mark learned, and valid? ─yes─► next round of confirmations ─► readable
//!                              │ no: phase 1 in the membership of mark + 1, mark anew
//! ```
//!
//! Invariants: L1 a mark is valid only if phase 1 was won in the membership that governs the slot after it, when it was taken.
//! L2 a round that confirms a read began after the read arrived and its mark was learned. All reads that wait share it.

use super::{Phase, Proposer};
use crate::multi::effect::{Answer, Effect};
use crate::multi::membership::{Membership, Memberships};
use crate::multi::message::Message;
use crate::multi::slot::{Slot, Time};
use crate::paxos::{NodeId, ProposalId};
use std::collections::{BTreeSet, VecDeque};

/// The reads under one id.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Reading {
    /// In order of arrival, so that their marks ascend.
    waiting: VecDeque<Waiting>,
    /// Learned through their marks; the next round is theirs.
    ready: Vec<Ready>,
    round: Option<Round>,
    nonce: u64,
    /// No other leader can be elected before this time, by the membership that governs this slot (7.4).
    lease: Option<(Time, Slot)>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Waiting {
    ticket: u64,
    mark: Slot,
    valid: bool,
    lease: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Ready {
    ticket: u64,
    mark: Slot,
}

/// Voters are asked whether their promise still is this leader's.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Round {
    nonce: u64,
    reads: Vec<Ready>,
    yes: BTreeSet<NodeId>,
    asked: Time,
}

impl Round {
    /// Whether those who said yes are enough for every read: a set that meets every phase-1 quorum, or every phase-2 quorum,
    /// of the membership that governs the slot after its mark (7.2).
    fn is_confirmed(&self, memberships: &Memberships) -> bool {
        let enough = |membership: &Membership| {
            membership.meets_every_phase1_quorum(&self.yes) || membership.meets_every_phase2_quorum(&self.yes)
        };
        let (first, last) = self.marks();
        memberships.governing_any(first.next(), last.next()).all(enough)
    }

    fn marks(&self) -> (Slot, Slot) {
        let marks = || self.reads.iter().map(|read| read.mark);
        (marks().min().unwrap_or_default(), marks().max().unwrap_or_default())
    }

    /// Asks every voter that has not answered.
    fn ask(&self, id: ProposalId, memberships: &Memberships, out: &mut Vec<Effect>) {
        let (first, last) = self.marks();
        let voters = memberships.governing_any(first.next(), last.next()).flat_map(Membership::voting);
        let voters: BTreeSet<NodeId> = voters.filter(|voter| !self.yes.contains(voter)).collect();
        for to in voters {
            let message = Message::Confirm { id, nonce: self.nonce };
            out.push(Effect::Send { to, message, after: None });
        }
    }
}

impl Reading {
    /// The lead is over: whoever waits asks the next leader.
    pub(super) fn end(self, out: &mut Vec<Effect>) {
        let waiting = self.waiting.into_iter().map(|read| read.ticket);
        let in_round = self.round.into_iter().flat_map(|round| round.reads);
        let ready = self.ready.into_iter().chain(in_round).map(|read| read.ticket);
        for ticket in waiting.chain(ready) {
            out.push(Effect::Answer { ticket, answer: Answer::NotLeading });
        }
    }

    /// Leases end before anything that they would stand in the way of (7.4).
    pub(super) fn end_lease(&mut self) {
        self.lease = None;
    }

    fn begin_round(&mut self, now: Time, id: ProposalId, memberships: &Memberships, out: &mut Vec<Effect>) {
        if self.round.is_some() || self.ready.is_empty() {
            return;
        }
        self.nonce += 1;
        let reads = std::mem::take(&mut self.ready);
        let round = Round { nonce: self.nonce, reads, yes: BTreeSet::new(), asked: now };
        round.ask(id, memberships, out);
        self.round = Some(round);
    }
}

impl Proposer {
    /// Reads arrive: they take their mark.
    pub(super) fn on_read(&mut self, now: Time, tickets: &[u64], lease: bool, out: &mut Vec<Effect>) {
        let mark = self.take_mark();
        for &ticket in tickets {
            if let (Phase::Leading(led), Some((mark, valid))) = (&mut self.phase, mark) {
                led.reading.waiting.push_back(Waiting { ticket, mark, valid, lease });
            } else {
                out.push(Effect::Answer { ticket, answer: Answer::NotLeading });
            }
        }
        self.look_at_reads(now, out);
    }

    /// The mark of a read that arrives now, and whether it is valid (7.1).
    fn take_mark(&self) -> Option<(Slot, bool)> {
        let (led, memberships) = (self.led()?, self.memberships.as_ref()?);
        let mark = led.leading.read_mark();
        let alpha = memberships.governing(self.chosen_through.next()).map_or(0, Membership::alpha);
        let is_known = mark <= self.chosen_through.plus(alpha);
        Some((mark, is_known && led.leading.is_won_for(mark.next(), memberships)))
    }

    /// Reads whose mark is learned join the next round, or are served by the lease; an invalid mark is taken anew once phase 1
    /// is won.
    pub(super) fn look_at_reads(&mut self, now: Time, out: &mut Vec<Effect>) {
        let is_waited_for = self.led().is_some_and(|led| !led.reading.waiting.is_empty());
        let fresh = if is_waited_for { self.take_mark() } else { return };
        let chosen_through = self.chosen_through;
        let (Phase::Leading(led), Some(memberships)) = (&mut self.phase, &self.memberships) else { return };
        let reading = &mut led.reading;
        while let Some(read) = reading.waiting.front_mut() {
            if !read.valid
                && let Some((mark, true)) = fresh
            {
                (read.mark, read.valid) = (mark, true);
            }
            if !read.valid || read.mark > chosen_through {
                break;
            }
            let Waiting { ticket, mark, lease, .. } = *read;
            reading.waiting.pop_front();
            let is_leased = |(until, next): (Time, Slot)| {
                let (first, last) = (next.min(mark.next()), next.max(mark.next()));
                now < until && memberships.governing_any(first, last).count() == 1
            };
            if lease && reading.lease.is_some_and(is_leased) {
                out.push(Effect::Answer { ticket, answer: Answer::Readable(mark) });
            } else {
                reading.ready.push(Ready { ticket, mark });
            }
        }
        reading.begin_round(now, led.leading.id(), memberships, out);
    }

    /// A voter says yes.
    pub(super) fn on_confirmed(
        &mut self,
        now: Time,
        from: NodeId,
        id: ProposalId,
        nonce: u64,
        out: &mut Vec<Effect>,
    ) {
        let (Phase::Leading(led), Some(memberships)) = (&mut self.phase, &self.memberships) else { return };
        let current = led.leading.id();
        let reading = &mut led.reading;
        let Some(round) = reading.round.as_mut().filter(|round| current == id && round.nonce == nonce) else {
            return;
        };
        round.yes.insert(from);
        if !round.is_confirmed(memberships) {
            return;
        }
        for Ready { ticket, mark } in reading.round.take().into_iter().flat_map(|round| round.reads) {
            out.push(Effect::Answer { ticket, answer: Answer::Readable(mark) });
        }
        reading.begin_round(now, current, memberships, out);
    }

    /// Asks again who has not answered: questions and answers may be lost.
    pub(super) fn confirm_again(&mut self, now: Time, out: &mut Vec<Effect>) {
        let (Phase::Leading(led), Some(memberships)) = (&mut self.phase, &self.memberships) else { return };
        let id = led.leading.id();
        if let Some(round) = led.reading.round.as_mut()
            && now.since(round.asked) >= self.limits.resend
        {
            round.asked = now;
            round.ask(id, memberships, out);
        }
    }

    /// A lease was granted (7.4); not while the lead is handed over.
    pub(super) fn on_lease(&mut self, until: Time, next: Slot) {
        if let Phase::Leading(led) = &mut self.phase
            && !led.changing.is_handing_over()
        {
            led.reading.lease = led.reading.lease.max(Some((until, next)));
        }
    }
}
