//! The external election: the application says when to campaign.
//!
//! There is no pre-prepare and no window: whoever drives it answers for not disturbing a leader that is well.

use super::View;
use crate::multi::{Effect, Local, ProposerInput};

/// Campaigns when told to.
#[derive(Debug)]
pub(super) struct External;

impl External {
    /// Campaigns, unless this node leads already or may not.
    pub(super) fn campaign(&self, view: &View, leads: bool, out: &mut Vec<Effect>) {
        if view.may_lead() && !leads {
            out.push(Effect::Local(Local::Proposer(ProposerInput::Campaign)));
        }
    }
}
