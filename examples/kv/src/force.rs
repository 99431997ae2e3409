//! `kv force`: the last resort of a cluster that has lost its quorum for ever.

use crate::cli::say;
use crate::failure::{Failure, told};
use clap::Args;
use std::path::PathBuf;
use synod::storage::{FileStorage, ForceError, StorageError};
use synod::{ClusterId, NodeId};

/// Leave a node alone with what it has, when the others are lost for ever; says what may be lost.
///
/// When more than half of the voters are lost, nobody can say what they had chosen: writes that were acknowledged may be lost, and this says which may be.
/// So it is never done by itself. The survivor goes on as a cluster of one, in a new epoch that no other node of the old
/// cluster can talk to. Do it on one survivor only, the one that has learned most (see `chosen` in `kv status`), while it is
/// stopped. Then start it with `kv serve`, wipe all others, and let them join under new ids and the new `--epoch`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The node that survives.
    #[arg(long)]
    id: u64,
    /// The cluster that it belongs to.
    #[arg(long, value_name = "NAME")]
    cluster: String,
    /// Its directory; no process may have it open.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Say that you know that acknowledged writes may be lost.
    #[arg(long, required = true)]
    accept_loss: bool,
}

/// Forces the membership, and says what may be lost.
pub(crate) fn force(options: &Options) -> Result<(), Failure> {
    let Options { id, cluster, data, .. } = options;
    let cluster = ClusterId::new(cluster).map_err(|error| Failure::Refused(told(&error)))?;
    let forced = FileStorage::at(data).force_membership(&cluster, NodeId::new(*id));
    say(forced.map_err(|error| Failure::Refused(format!("{}; {}", told(&error), advice(&error, *id))))?);
    Ok(())
}

fn advice(error: &ForceError, id: u64) -> String {
    match error {
        ForceError::NotFormed | ForceError::Witness | ForceError::NotAMember => {
            "choose another survivor".into()
        }
        ForceError::Storage(StorageError::Locked { .. }) => {
            format!("stop node {id} first; if a quorum is alive, there is nothing to force")
        }
        ForceError::Storage(StorageError::WrongOwner { .. }) => {
            "give the --id and --cluster that the directory belongs to".into()
        }
        _ => "nothing was forced, unless a restart says so".into(),
    }
}
