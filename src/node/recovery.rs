//! Recovery: a machine whose disk is lost or in doubt comes back as a new node in the old one's place (protocol 9.2, 10.1).
//!
//! What its acceptor had promised and accepted is gone, and a quorum may rest on it; so the old id votes never again. The
//! machine joins under a new id, and one change of the membership puts that in the place of the old one, after it has
//! caught up as an observer.
//! Never does: start over what a cluster has refused for good.

use super::{ChangeError, Handle, StateMachine, Status, StopCause};
use crate::multi::{Change, ChangeRefusal, MemberKind, Membership};
use crate::paxos::NodeId;
use crate::timer::Timer;
use std::sync::Arc;
use std::time::Duration;

/// The cluster is asked again after so long.
const PAUSE: Duration = Duration::from_secs(1);

/// The node looks at its own membership again after so long.
const LOOK: Duration = Duration::from_millis(20);

/// How far a node has come that was started in the place of a lost one.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Recovery {
    /// It learns what was chosen, and asks for the lost node's place.
    UnderWay {
        /// The lost node.
        lost: NodeId,
        /// Why it has not got it yet, if the cluster has said so: it asks again.
        waits_for: Option<ChangeRefusal>,
    },
    /// It does in the cluster what the lost node did.
    Done {
        /// The membership in force.
        membership: Membership,
    },
    /// The cluster never gives it the lost node's place. It goes on as what it is by then: an observer, or no member at all.
    Refused(ChangeRefusal),
}

/// Why a node has not got the place of a lost one.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecoverError {
    /// The cluster has refused it, and would again.
    #[error("the cluster does not give the lost node's place to this one: {0}")]
    Refused(#[from] ChangeRefusal),
    /// The node was not started in the place of another.
    #[error("the node was not started in the place of a lost one")]
    NotRecovering,
    /// The node is stopped, or stopping.
    #[error("the node is stopped: {cause}")]
    Stopped {
        /// Why.
        cause: StopCause,
    },
}

/// Asks for the place of `lost` until it is given or refused for good.
pub(super) async fn recover<S: StateMachine>(handle: Handle<S>, timer: Arc<dyn Timer>, lost: NodeId) {
    let node = handle.node();
    tracing::info!(%node, %lost, "asks for the place of a lost node");
    let replace = Change::Replace { lost, node, address: handle.address().to_owned() };
    let mut part = None;
    loop {
        part = part_of(&handle, lost).await.or(part);
        let stage = match handle.change(replace.clone()).await {
            Ok(membership) => {
                know(&handle, &timer, lost).await;
                Recovery::Done { membership }
            }
            Err(ChangeError::Refused(refusal)) => judge(&handle, lost, part, refusal).await,
            // Nobody knows; asked again, the change goes on from where it is.
            Err(_) => Recovery::UnderWay { lost, waits_for: None },
        };
        match &stage {
            Recovery::UnderWay { .. } => {}
            Recovery::Done { .. } => tracing::info!(%node, %lost, "has the place of the lost node"),
            Recovery::Refused(refusal) => {
                tracing::error!(%node, %lost, %refusal, "is refused the place of the lost node");
            }
        }
        let over = !matches!(stage, Recovery::UnderWay { .. });
        handle.show_recovery(stage);
        if over {
            return;
        }
        timer.sleep_until(timer.now() + PAUSE).await;
    }
}

/// Waits until this node, too, has learned that `lost` is no member any more.
async fn know<S: StateMachine>(handle: &Handle<S>, timer: &Arc<dyn Timer>, lost: NodeId) {
    while part_of(handle, lost).await.is_some() {
        timer.sleep_until(timer.now() + LOOK).await;
    }
}

/// What `node` does in the cluster, as far as is known here.
async fn part_of<S: StateMachine>(handle: &Handle<S>, node: NodeId) -> Option<MemberKind> {
    let membership = handle.status().await.ok()?.membership?;
    membership.members().get(&node).map(|member| member.kind)
}

/// What a refusal comes to; the lost node did `part`, if that is known.
async fn judge<S: StateMachine>(
    handle: &Handle<S>,
    lost: NodeId,
    part: Option<MemberKind>,
    refusal: ChangeRefusal,
) -> Recovery {
    match refusal {
        ChangeRefusal::InProgress | ChangeRefusal::Lagging { .. } => {
            Recovery::UnderWay { lost, waits_for: Some(refusal) }
        }
        // An observer's place: asked for again after the answer was lost, it is taken already.
        ChangeRefusal::NotAMember { node } if node == lost => match handle.status().await {
            Ok(Status { kind: Some(kind), membership: Some(membership), .. })
                if part.is_none_or(|part| part == kind) =>
            {
                Recovery::Done { membership }
            }
            _ => Recovery::Refused(refusal),
        },
        refusal => Recovery::Refused(refusal),
    }
}
