//! The heartbeat election: campaigns when a quorum hears no leader (protocol 8).
//!
//! ```text
//! waiting ──window over, or the leader's connection closed──► asking ──quorum of "no"──► campaigning
//!    ▲                                                          │ "yes", or time-out          │ lost: jittered pause
//!    └──────────────────────────────────────────────────────────┴─────────────────────────────┘
//! ```
//!
//! The asking (pre-prepare) changes nothing at anybody and spends no proposal id, so a node that is cut off one way does
//! not disturb a leader that the others hear.

use super::{Leader, View};
use crate::multi::{Effect, Jitter, LearnerInput, Local, Message, ProposerInput, ProposerState, Slot, Time};
use crate::paxos::{NodeId, ProposalId};
use std::collections::BTreeSet;
use std::time::Duration;

/// Suspects, asks, campaigns.
#[derive(Debug, Default)]
pub(super) struct Heartbeat {
    stage: Stage,
    /// When the leader, or the lack of one, becomes suspicious.
    suspect_at: Option<Time>,
    nonce: u64,
    /// Campaigns in a row that came to nothing.
    failures: u32,
}

#[derive(Debug, Default)]
enum Stage {
    #[default]
    Waiting,
    Asking {
        no: BTreeSet<NodeId>,
        until: Time,
    },
    /// The proposer is at work and keeps its own time.
    Campaigning,
}

impl Heartbeat {
    /// When to wake.
    pub(super) fn due(&self) -> Option<Time> {
        match &self.stage {
            Stage::Waiting => self.suspect_at,
            Stage::Asking { until, .. } => Some(*until),
            Stage::Campaigning => None,
        }
    }

    pub(super) fn on_briefing(&mut self, now: Time, view: &View, jitter: &mut Jitter) {
        if self.suspect_at.is_none() && view.may_lead() {
            self.wait(now, view, jitter);
        }
    }

    /// A leader was heard: nothing is suspicious for a window.
    pub(super) fn on_leader(&mut self, now: Time, view: &View, jitter: &mut Jitter, out: &mut Vec<Effect>) {
        if matches!(self.stage, Stage::Campaigning) {
            out.push(Effect::Local(Local::Proposer(ProposerInput::StepDown)));
        }
        self.stage = Stage::Waiting;
        self.failures = 0;
        self.wait(now, view, jitter);
    }

    /// A candidate was promised: it gets a window and a half.
    pub(super) fn on_promised(&mut self, now: Time, view: &View, jitter: &mut Jitter) {
        if matches!(self.stage, Stage::Campaigning) {
            return;
        }
        self.stage = Stage::Waiting;
        let window = view.timing.liveness_window;
        self.suspect_at = Some(now + jitter.between(window + window / 2, window / 2));
    }

    /// The leader's connection was closed: that is suspicion at once, though not yet a reason.
    pub(super) fn on_leader_gone(&mut self, now: Time, view: &View, jitter: &mut Jitter) {
        if matches!(self.stage, Stage::Waiting) && view.may_lead() {
            let later = view.timing.heartbeat * view.timing.priority;
            let soon = jitter.between(Duration::from_millis(1), view.timing.heartbeat / 2);
            self.suspect_at = Some(now + soon + later);
        }
    }

    /// The own proposer tells how its campaign went.
    pub(super) fn on_proposer(&mut self, now: Time, state: ProposerState, view: &View, jitter: &mut Jitter) {
        match state {
            ProposerState::Preparing { .. } => self.stage = Stage::Campaigning,
            ProposerState::Leading { .. } => {
                self.stage = Stage::Waiting;
                self.failures = 0;
                self.suspect_at = None;
            }
            ProposerState::Idle => {
                let failed = matches!(self.stage, Stage::Campaigning);
                self.stage = Stage::Waiting;
                if failed {
                    self.pause(now, view, jitter);
                } else {
                    self.wait(now, view, jitter);
                }
            }
        }
    }

    pub(super) fn on_wake(
        &mut self,
        now: Time,
        view: &mut View,
        jitter: &mut Jitter,
        healthy: bool,
        out: &mut Vec<Effect>,
    ) {
        match &self.stage {
            Stage::Waiting if self.suspect_at.is_some_and(|at| at <= now) => {
                if view.may_lead() && healthy {
                    self.ask(now, view, out);
                } else {
                    view.forget_silent_leader(now);
                    self.wait(now, view, jitter);
                }
            }
            Stage::Asking { until, .. } if *until <= now => {
                view.forget_silent_leader(now);
                self.stage = Stage::Waiting;
                self.pause(now, view, jitter);
            }
            _ => {}
        }
    }

    /// Asks every other voter whether it hears a leader (8.1).
    fn ask(&mut self, now: Time, view: &View, out: &mut Vec<Effect>) {
        self.nonce += 1;
        self.stage = Stage::Asking { no: BTreeSet::from([view.me]), until: now + view.timing.heartbeat * 4 };
        for to in view.voters().into_iter().filter(|voter| *voter != view.me) {
            out.push(Effect::Send { to, message: Message::PrePrepare { nonce: self.nonce }, after: None });
        }
        self.campaign_if_permitted(view, out);
    }

    /// "No" from a phase-1 quorum permits a campaign; one "yes" ends the asking and names the leader (8.4).
    #[allow(clippy::too_many_arguments)]
    pub(super) fn on_answer(
        &mut self,
        now: Time,
        from: NodeId,
        nonce: u64,
        leader: Option<ProposalId>,
        view: &mut View,
        jitter: &mut Jitter,
        out: &mut Vec<Effect>,
    ) {
        let Stage::Asking { no, .. } = &mut self.stage else { return };
        if nonce != self.nonce {
            return;
        }
        match leader {
            None => {
                no.insert(from);
                self.campaign_if_permitted(view, out);
            }
            Some(id) if Some(id) < view.promised => {}
            Some(id) => {
                if id.node != view.me {
                    if view.leader.is_none_or(|leader| leader.id < id) {
                        view.leader = Some(Leader { id, heard: None, gone: !view.links.contains(&id.node) });
                    }
                    out.push(Effect::Local(Local::Proposer(ProposerInput::Saw { id })));
                    let behind =
                        LearnerInput::Behind { peer: from, through: Slot::MAX, chosen_through: Slot::ZERO };
                    out.push(Effect::Local(Local::Learner(behind)));
                }
                self.stage = Stage::Waiting;
                self.wait(now, view, jitter);
            }
        }
    }

    fn campaign_if_permitted(&mut self, view: &View, out: &mut Vec<Effect>) {
        let Stage::Asking { no, .. } = &self.stage else { return };
        if view.governing().is_some_and(|membership| membership.is_phase1_quorum(no)) {
            self.stage = Stage::Campaigning;
            out.push(Effect::Local(Local::Proposer(ProposerInput::Campaign)));
        }
    }

    fn wait(&mut self, now: Time, view: &View, jitter: &mut Jitter) {
        let window = view.timing.liveness_window;
        let later = view.timing.heartbeat * view.timing.priority;
        self.suspect_at = Some(now + jitter.between(window, window / 2) + later);
    }

    /// A jittered pause that grows with each failure (8.5).
    fn pause(&mut self, now: Time, view: &View, jitter: &mut Jitter) {
        self.failures = self.failures.saturating_add(1);
        let longest = view.timing.campaign_pause_max;
        let pause = (view.timing.heartbeat * 2u32.saturating_pow(self.failures.min(16))).min(longest);
        self.suspect_at = Some(now + jitter.between(pause / 2, pause / 2));
    }
}
