//! The part that a new node has in the cluster: asked for by itself, until it has it.

use super::Empty;
use crate::failure::{Failure, told};
use crate::store::Store;
use std::future::pending;
use std::time::Duration;
use synod::multi::ChangeRefusal;
use synod::{ChangeError, Handle, MemberKind, NodeId, RecoverError};
use tokio::time::sleep;

/// How long to wait before the cluster is asked again.
const PAUSE: Duration = Duration::from_secs(1);

/// Sees to it that the node has its part. Resolves only if it is refused for good.
pub(super) async fn take(handle: &Handle<Store>, empty: Empty) -> Failure {
    let failure = match empty {
        Empty::Join(Some(kind)) => join_as(handle, kind).await,
        Empty::Recover(lost) => in_place_of(handle, lost).await,
        Empty::Refuse | Empty::Bootstrap | Empty::Join(None) => None,
    };
    match failure {
        Some(failure) => failure,
        None => pending().await,
    }
}

/// Makes the node a member of this kind, unless it is a member: what it has become since it joined, it stays.
async fn join_as(handle: &Handle<Store>, kind: MemberKind) -> Option<Failure> {
    loop {
        // It knows the members once it has caught up. A witness cannot read; but then it cannot become anything else, either.
        let is_up_to_date = kind == MemberKind::Witness || handle.read(|_| ()).await.is_ok();
        if handle.status().await.ok()?.kind.is_some() {
            return None;
        }
        if is_up_to_date {
            match handle.join_as(kind).await {
                Ok(_) => return None,
                Err(ChangeError::Refused(ChangeRefusal::InProgress | ChangeRefusal::Lagging { .. })) => {}
                Err(error @ ChangeError::Refused(_)) => {
                    return Some(Failure::Refused(format!(
                        "the cluster wants no such member: {}",
                        told(&error)
                    )));
                }
                Err(_) => {}
            }
        }
        sleep(PAUSE).await;
    }
}

/// The node asks by itself; says what became of it.
async fn in_place_of(handle: &Handle<Store>, lost: NodeId) -> Option<Failure> {
    match handle.recovered().await {
        Err(RecoverError::Refused(refusal)) => Some(Failure::Refused(format!(
            "the cluster does not give it the place of node {lost}: {refusal}; see kv member list"
        ))),
        // What has stopped it is told elsewhere.
        Ok(_) | Err(_) => None,
    }
}
