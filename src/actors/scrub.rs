//! The scrub: what is on disk is read now and then, slowly, so that rot is found while there are others to mend it from
//! (protocol 11, F7, F8, F10, F11).
//!
//! What it finds goes to the role that can mend it, which tells the operator.
//! Never does: mend anything itself; stop the node.

use super::pace::Pace;
use super::wires::{LearnerMail, Wires};
use crate::multi::{AcceptorInput, Local};
use crate::node::StateMachine;
use crate::storage::Scrubbed;
use futures::future::select;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// Between two parts: short enough for small ones, long enough to let a disk sleep in between.
const PAUSE: Duration = Duration::from_millis(250);
/// Where there is nothing to check.
const IDLE_PAUSE: Duration = Duration::from_secs(1);
/// After an error.
const ERROR_PAUSE: Duration = Duration::from_secs(10);

/// Starts to check, for as long as the node runs.
pub(super) fn start<S: StateMachine>(wires: Rc<Wires<S>>) {
    let bytes_per_second = wires.config.scrub_bytes_per_second;
    if bytes_per_second == 0 {
        return;
    }
    actix_rt::spawn(async move {
        let over = Arc::clone(&wires.shared);
        let over = pin!(async move { over.over().await });
        let scrubbing = pin!(scrub(wires, bytes_per_second));
        select(scrubbing, over).await;
    });
}

async fn scrub<S: StateMachine>(wires: Rc<Wires<S>>, bytes_per_second: u64) {
    let pace = Pace::new(Arc::clone(&wires.timer), bytes_per_second);
    let per_pause = u128::from(bytes_per_second) * PAUSE.as_millis() / 1000;
    let part = usize::try_from(per_pause).unwrap_or(usize::MAX).max(1);
    let mut well = true;
    while !wires.board.over.get() {
        let scrubbed = wires.storage.scrub(part).await;
        let is_well = scrubbed.is_ok();
        let pause = match scrubbed {
            Ok(scrubbed) => {
                let bytes = scrubbed.bytes;
                tell(&wires, scrubbed);
                pace.spend(bytes).await;
                if bytes > 0 { PAUSE } else { IDLE_PAUSE }
            }
            Err(error) => {
                if well {
                    tracing::warn!(node = %wires.me(), %error, "cannot check what is on its disk");
                }
                ERROR_PAUSE
            }
        };
        well = is_well;
        wires.timer.sleep_until(wires.timer.now() + pause).await;
    }
}

/// Brings what was found to whoever can mend it.
fn tell<S: StateMachine>(wires: &Wires<S>, found: Scrubbed) {
    if !found.slots.is_empty() {
        wires.pass(Local::Acceptor(AcceptorInput::Damaged { slots: found.slots }), None);
    }
    if found.facts {
        wires.pass(Local::Acceptor(AcceptorInput::FactsDamaged), None);
    }
    for snapshot in found.snapshots {
        if wires.board.snapshot.get() == Some(snapshot) {
            // The learner's queue is closed only when the node is over.
            let _ = wires.learner.send(LearnerMail::SnapshotDamaged(snapshot));
        } else {
            tracing::warn!(node = %wires.me(), slot = %snapshot.through, "holds a damaged snapshot that is not needed any more");
        }
    }
}
