//! Whom the acceptor deals with: the start, formation, and peers that show themselves (protocol 9).
//!
//! Invariants: V1 nothing is voted before the cluster has formed. V2 a peer's newest start is durable before it is let
//! in. V3 a node that a peer proves stale votes no more.

use super::{Acceptor, STRANGERS_MAX};
use crate::multi::effect::{
    Briefing, Effect, ElectionInput, Event, LearnerInput, Local, ProposerInput, Refusal,
};
use crate::multi::formation::{Formation, Heard};
use crate::multi::identity::{DiskId, Identity};
use crate::multi::membership::{Membership, Memberships};
use crate::multi::message::Message;
use crate::multi::record::{AbstainReason, Record, Sequence};
use crate::multi::slot::{Slot, Time};
use crate::paxos::NodeId;

impl Acceptor {
    pub(super) fn start(&mut self, now: Time, out: &mut Vec<Effect>) {
        self.brief(out);
        self.cut(out);
        if let Some(record) = self.formation.as_ref().and_then(Formation::complete) {
            self.formed(record, out);
        }
        self.ask_to_form(now, out);
    }

    pub(super) fn brief(&self, out: &mut Vec<Effect>) {
        let briefing = Briefing {
            memberships: self.log.memberships().cloned(),
            chosen_through: self.log.chosen_through(),
            promised: self.log.promised(),
            votes: self.votes(),
        };
        out.push(Effect::Local(Local::Proposer(ProposerInput::Briefing(briefing.clone()))));
        out.push(Effect::Local(Local::Learner(LearnerInput::Briefing(briefing.clone()))));
        out.push(Effect::Local(Local::Election(ElectionInput::Briefing(briefing))));
    }

    pub(super) fn ask_to_form(&self, now: Time, out: &mut Vec<Effect>) {
        let Some(formation) = &self.formation else { return };
        for peer in formation.others() {
            let message = formation.form_for(peer, self.identity.disk);
            out.push(Effect::Send { to: peer, message, after: None });
        }
        out.push(Effect::Deadline(now + self.limits.form_retry));
    }

    pub(super) fn on_form(
        &mut self,
        from: NodeId,
        membership: &Membership,
        disk: DiskId,
        yours: Option<DiskId>,
        out: &mut Vec<Effect>,
    ) {
        let mine = self.identity.disk;
        if let Some(base) = self.log.base() {
            let Some(known) = self.log.formed_disk(from) else { return };
            let first = base.memberships.governing(Slot::FIRST);
            if known != disk {
                out.push(self.answer(from, Message::AlreadyFormed { disk: known }));
            } else if yours != Some(mine) || first != Some(membership) {
                match first.cloned() {
                    Some(first) => {
                        let message = Message::Form { membership: first, disk: mine, yours: Some(disk) };
                        out.push(self.answer(from, message));
                    }
                    None => self.send_base(from, out),
                }
            }
            return;
        }
        let Some(formation) = &mut self.formation else { return };
        match formation.hear(from, membership, disk) {
            Heard::Differs { outvoted } => {
                out.push(Effect::Event(Event::FormationDiffers { peer: from, outvoted }));
            }
            Heard::Waiting if yours == Some(mine) => {}
            Heard::Waiting => {
                let message = formation.form_for(from, mine);
                out.push(Effect::Send { to: from, message, after: None });
            }
            Heard::Complete(record) => {
                let message = formation.form_for(from, mine);
                self.formed(record, out);
                out.push(self.answer(from, message));
            }
        }
    }

    pub(super) fn formed(&mut self, record: Record, out: &mut Vec<Effect>) {
        self.formation = None;
        self.write(vec![record], out);
        out.push(Effect::Event(Event::Formed));
        self.brief(out);
    }

    /// A peer shows itself: its newest start is remembered durably before it is let in (9.3).
    pub(super) fn on_admit(&mut self, ticket: u64, identity: &Identity, out: &mut Vec<Effect>) {
        let node = identity.node();
        let verdict = self.judge(identity);
        let mut after = None;
        if let (Ok(()), Some(incarnation)) = (&verdict, identity.incarnation()) {
            if self.log.peer(node).seen != Some((identity.disk, incarnation)) {
                self.write(vec![Record::PeerSeen { node, disk: identity.disk, incarnation }], out);
            }
            after = Some(self.sequence);
        }
        out.push(Effect::Admission { ticket, verdict, after });
    }

    pub(super) fn judge(&self, identity: &Identity) -> Result<(), Refusal> {
        let node = identity.node();
        let Some(incarnation) = identity.incarnation() else { return Err(Refusal::Unavailable) };
        if identity.incarnations.len() > Identity::INCARNATIONS_MAX {
            return Err(Refusal::Unavailable);
        }
        let known = self.log.peer(node);
        let formed_disk = self.log.formed_disk(node);
        if formed_disk.is_some_and(|disk| disk != identity.disk) {
            return Err(Refusal::OtherDisk);
        }
        let Some((disk, seen)) = known.seen else {
            let newest = self.log.memberships().and_then(Memberships::newest);
            let members = newest.map_or(0, |newest| newest.members().len());
            let full = self.log.peers_seen() >= members + STRANGERS_MAX;
            let is_named = newest.is_some_and(|newest| newest.members().contains_key(&node));
            let member = self.formation.is_some() || formed_disk.is_some() || is_named;
            return if full && !member { Err(Refusal::Unavailable) } else { Ok(()) };
        };
        if disk != identity.disk {
            // Until the cluster has formed nobody has voted, so a directory may be made anew.
            return if self.log.is_formed() { Err(Refusal::OtherDisk) } else { Ok(()) };
        }
        if !identity.incarnations.contains(&seen) {
            return Err(Refusal::StaleIncarnation { known: seen });
        }
        if incarnation != seen && identity.sequence < known.sequence {
            return Err(Refusal::StaleJournal { known: known.sequence, shown: identity.sequence });
        }
        Ok(())
    }

    pub(super) fn on_votes(&mut self, sequences: Vec<(NodeId, Sequence)>) {
        for (node, sequence) in sequences {
            if self.log.peer(node).sequence < sequence {
                let record = Record::PeerSequence { node, sequence };
                self.log.apply(&record);
                self.unwritten.retain(
                    |known| !matches!(known, Record::PeerSequence { node: same, .. } if *same == node),
                );
                self.unwritten.push(record);
            }
        }
    }

    pub(super) fn on_refused(&mut self, peer: NodeId, refusal: &Refusal, out: &mut Vec<Effect>) {
        match refusal {
            Refusal::StaleIncarnation { .. } | Refusal::StaleJournal { .. } => {
                self.abstain(AbstainReason::StaleIncarnation, out);
            }
            Refusal::OtherDisk => self.abstain(AbstainReason::AlreadyFormed, out),
            Refusal::WrongCluster if !self.log.is_formed() => {
                // One that joins and has met nobody yet asked the wrong cluster.
                let outvoted = match &mut self.formation {
                    Some(formation) => formation.differs(peer),
                    None => self.log.peers_seen() == 0,
                };
                out.push(Effect::Event(Event::FormationDiffers { peer, outvoted }));
            }
            _ => {}
        }
    }

    /// From now on this node votes no more, and never again under this id.
    pub(super) fn abstain(&mut self, reason: AbstainReason, out: &mut Vec<Effect>) {
        if self.log.abstains().is_none() {
            self.write(vec![Record::Abstains { reason }], out);
            out.push(Effect::Event(Event::Abstains { reason }));
            self.brief(out);
        }
    }
}
