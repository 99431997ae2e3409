//! Which snapshot has to stay: the one that the newest base names.

use crate::multi::{Record, SnapshotId};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What the journal's side tells the snapshots' side.
#[derive(Debug, Default)]
pub(in crate::storage::file) struct Named(Mutex<Bases>);

#[derive(Debug, Default)]
struct Bases {
    durable: Option<SnapshotId>,
    /// Named by a base that is being written. Until it is durable, a restart would still ask for the other one.
    coming: Option<SnapshotId>,
}

impl Named {
    pub(super) fn new(durable: Option<SnapshotId>) -> Self {
        Self(Mutex::new(Bases { durable, coming: None }))
    }

    /// `records` are about to be made durable.
    pub(in crate::storage::file) fn expect(&self, records: &[Record]) {
        for record in records {
            if let Record::Based { base } = record
                && let Some(named) = base.snapshot
            {
                let mut bases = self.bases();
                let newest = bases.coming.or(bases.durable);
                if newest.is_none_or(|known| known.through <= named.through) {
                    bases.coming = Some(named);
                }
            }
        }
    }

    /// What was expected is durable.
    pub(in crate::storage::file) fn settle(&self) {
        let mut bases = self.bases();
        bases.durable = bases.coming.take().or(bases.durable);
    }

    /// Whether `snapshot` has to stay.
    pub(super) fn keeps(&self, snapshot: SnapshotId) -> bool {
        let bases = self.bases();
        [bases.durable, bases.coming].contains(&Some(snapshot))
    }

    fn bases(&self) -> MutexGuard<'_, Bases> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::multi::{Base, Membership, Memberships, Slot};
    use crate::paxos::NodeId;
    use std::collections::BTreeMap;

    fn snapshot(through: u64) -> SnapshotId {
        SnapshotId { through: Slot::new(through), bytes: 1, checksum: 1 }
    }

    fn based(through: u64) -> [Record; 1] {
        let memberships = Memberships::bootstrap(Membership::voters([(NodeId::new(1), "")]).unwrap());
        let snapshot = Some(snapshot(through));
        [Record::Based {
            base: Base { through: Slot::new(through), memberships, disks: BTreeMap::new(), snapshot },
        }]
    }

    #[test]
    fn the_older_one_stays_until_the_newer_base_is_durable() {
        let named = Named::new(Some(snapshot(5)));
        named.expect(&based(9));
        assert!(named.keeps(snapshot(5)) && named.keeps(snapshot(9)));
        named.settle();
        assert!(!named.keeps(snapshot(5)) && named.keeps(snapshot(9)));
        named.expect(&based(7));
        named.settle();
        assert!(named.keeps(snapshot(9)), "a base that is older says nothing new");
    }
}
