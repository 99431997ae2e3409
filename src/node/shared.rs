//! What a node and its handles share across threads: the credits, the leadership, how far a recovery is, and whether the node
//! still runs.

use super::credits::Credits;
use super::watch::Watch;
use super::{Leadership, Recovery, StopCause};
use crate::paxos::NodeId;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// How far a node has come to its end.
#[derive(Clone, Debug)]
pub(crate) enum Life {
    /// It runs.
    Running,
    /// It takes nothing more; its storage is being closed.
    Ending(StopCause),
    /// Nothing of it is left.
    Ended(StopCause),
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) credits: Arc<Credits>,
    pub(crate) leadership: Arc<Watch<Leadership>>,
    pub(crate) recovery: Arc<Watch<Option<Recovery>>>,
    pub(crate) life: Arc<Watch<Life>>,
    /// The node holds no state machine.
    pub(crate) witness: bool,
    draining: AtomicBool,
}

impl Shared {
    /// Of a node that is started in the place of `lost`, if that is given.
    pub(crate) fn new(credits: usize, witness: bool, lost: Option<NodeId>) -> Arc<Self> {
        let recovery = lost.map(|lost| Recovery::UnderWay { lost, waits_for: None });
        Arc::new(Self {
            credits: Credits::new(credits),
            leadership: Watch::new(Leadership::Changed(None)),
            recovery: Watch::new(recovery),
            life: Watch::new(Life::Running),
            witness,
            draining: AtomicBool::new(false),
        })
    }

    /// New calls are refused from now on; those under way go on.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Release);
        self.credits.close();
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// The first cause stays.
    pub(crate) fn ending(&self, cause: StopCause) {
        self.drain();
        self.life.update(|life| matches!(life, Life::Running).then_some(Life::Ending(cause)));
    }

    /// Nothing is left; a cause given before stays, unless closing the storage failed.
    pub(crate) fn ended(&self, otherwise: StopCause) {
        self.drain();
        self.life.update(|life| match (life, otherwise) {
            (Life::Running, otherwise) => Some(Life::Ended(otherwise)),
            (Life::Ending(StopCause::Shutdown), otherwise @ StopCause::Storage(_)) => {
                Some(Life::Ended(otherwise))
            }
            (Life::Ending(cause), _) => Some(Life::Ended(cause.clone())),
            (Life::Ended(_), _) => None,
        });
        self.life.close();
        self.leadership.close();
        self.recovery.close();
    }

    /// Why the node takes no calls, if so.
    pub(crate) fn stopped(&self) -> Option<StopCause> {
        match self.life.get() {
            Life::Running => self.is_draining().then_some(StopCause::Shutdown),
            Life::Ending(cause) | Life::Ended(cause) => Some(cause),
        }
    }

    /// Resolves when nothing is left of the node, with the cause.
    pub(crate) async fn over(&self) -> StopCause {
        let mut changes = self.life.subscribe();
        loop {
            match std::future::poll_fn(|context| changes.poll_change(context)).await {
                Some(Life::Ended(cause)) => return cause,
                Some(Life::Running | Life::Ending(_)) => {}
                None => return StopCause::Gone,
            }
        }
    }
}
