//! Election: when to campaign.
use crate::multi::{Effect, ElectionInput, Time};
use crate::paxos::{NodeId, ProposalId};
use std::time::Duration;

/// How long a leader may be silent, and how often it speaks.
#[derive(Clone, Debug)]
pub struct Timing {
    /// How often a leader says that it is alive.
    pub heartbeat: Duration,
    /// How long a leader may be silent.
    pub liveness_window: Duration,
    /// How long a campaign may take without a page of a promise arriving.
    pub campaign_timeout: Duration,
    /// The longest pause between two campaigns.
    pub campaign_pause_max: Duration,
}

/// When this node campaigns, and whether it leads with a quorum's contact.
#[derive(Debug)]
pub struct Election {}

impl Election {
    /// The node decides by itself.
    pub fn heartbeat(_me: NodeId, _timing: Timing, _seed: u64) -> Self {
        todo!()
    }

    /// The application decides.
    pub fn external(_me: NodeId, _timing: Timing, _seed: u64) -> Self {
        todo!()
    }

    /// Takes one input.
    pub fn step(&mut self, _now: Time, _input: ElectionInput, _out: &mut Vec<Effect>) {
        todo!()
    }

    /// The leader that this node follows, itself included.
    pub fn leader(&self) -> Option<ProposalId> {
        todo!()
    }
}
