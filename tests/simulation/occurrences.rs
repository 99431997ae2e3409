//! How often each fault, and each rare thing that comes of them, has to occur, else the seeds test nothing: about half of what
//! was counted when the numbers were set.

use synod::testing::simulation::{Fault, Totals};

const OCCURRENCES_MIN: &[(&str, u64)] = &[];

pub fn assert_often(totals: &Totals) {
    for fault in Fault::ALL {
        assert!(
            OCCURRENCES_MIN.iter().any(|(name, _)| *name == fault.name()),
            "how often is {fault} to occur?"
        );
    }
    for (name, least) in OCCURRENCES_MIN {
        let count = totals.faults.get(name).copied().unwrap_or_default();
        assert!(count >= *least, "{name} only {count} times of {least}: the seeds test nothing");
    }
}
