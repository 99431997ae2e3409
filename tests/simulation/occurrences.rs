//! How often each fault, and each rare thing that comes of them, has to occur, else the seeds test nothing: about half of what
//! was counted when the numbers were set.

use synod::testing::simulation::{Fault, Totals};

const OCCURRENCES_MIN: &[(&str, u64)] = &[
    ("client_asked_again", 1_200_000),
    ("client_gave_up", 260),
    ("clock_stall", 33_000),
    ("command_repeated", 45_000),
    ("crash", 81_000),
    ("crash_between_effects", 14_000),
    ("cut_both_ways", 51_000),
    ("cut_one_way", 50_000),
    ("cut_to_a_chain", 20_000),
    ("entry_damaged", 2200),
    ("failed_flush", 11_000),
    ("frame_corrupted", 51_000),
    ("full_disk", 6400),
    ("lead_handed_over", 7200),
    ("leader_elected", 57_000),
    ("log_cut", 80_000),
    ("machine_lost", 2900),
    ("machine_replaced", 3900),
    ("majority_down", 12_000),
    ("membership_asked", 20_000),
    ("membership_changed", 6600),
    ("message_delayed", 1_800_000),
    ("message_delayed_long", 94_000),
    ("message_lost", 2_000_000),
    ("message_overtaken", 4_900_000),
    ("message_repeated", 2_600_000),
    ("old_image_restored", 990),
    ("pause", 20_000),
    ("read_served", 870_000),
    ("restart", 140_000),
    ("rolling_cut", 20_000),
    ("session_expired", 17_000),
    ("slow_flush", 13_000),
    ("snapshot_asked", 230_000),
    ("snapshot_damaged", 1100),
    ("snapshot_found_damaged", 770),
    ("snapshot_installed", 11_000),
    ("snapshot_part_spoiled", 390),
    ("snapshot_restored", 34_000),
    ("snapshot_resumed", 270),
    ("snapshot_taken", 46_000),
    ("snapshot_write_failed", 1700),
    ("split_in_two", 20_000),
    ("stale_node_fenced", 990),
    ("stale_node_refused", 1000),
    ("transfer_asked", 12_000),
    ("unflushed_writes_lost", 14_000),
    ("write_misdirected", 6100),
    ("write_torn", 1400),
];

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
