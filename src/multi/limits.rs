//! Limits and time-outs of the roles: the part of the configuration that the core needs.

use std::time::Duration;

/// How much a role may keep, and how long it waits. The defaults and their reasons stand at the node's `Config`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Limits {
    /// How long a campaign may take without a page of a promise arriving.
    pub campaign_timeout: Duration,
    /// When an open slot is sent again.
    pub resend: Duration,
    /// The longest time between two sendings of a slot.
    pub resend_max: Duration,
    /// How long a peer may take to answer a request for entries.
    pub catch_up_timeout: Duration,
    /// How long to wait for the other initial members before asking them again.
    pub form_retry: Duration,
    /// Slots that may be open at a time; the membership's α bounds them too.
    pub open_slots_max: u64,
    /// Bytes of values that may be under way to a peer without an answer, and about as many in open slots.
    pub unacknowledged_bytes_max: usize,
    /// The largest message, about.
    pub frame_bytes_max: usize,
    /// Values in one answer to a request for entries.
    pub catch_up_bytes_max: usize,
    /// Learned entries kept in memory.
    pub cache_bytes_max: usize,
    /// Bytes of accepted entries above what is learned.
    pub ahead_bytes_max: usize,
    /// How many slots above what is learned an entry may be accepted.
    pub ahead_slots_max: u64,
    /// How many slots a node may lag and still count as near.
    pub near_slots: u64,
    /// How long a change waits for new voters to catch up.
    pub change_patience: Duration,
    /// How long a transfer of the lead may take: one liveness window.
    pub transfer_patience: Duration,
    /// The largest part of a snapshot in one message.
    pub snapshot_chunk_bytes: usize,
    /// A leader whose oldest open slot is older than this falls silent (8.3).
    pub open_slot_age_max: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            campaign_timeout: Duration::from_millis(500),
            resend: Duration::from_millis(100),
            resend_max: Duration::from_secs(1),
            catch_up_timeout: Duration::from_millis(300),
            form_retry: Duration::from_millis(200),
            open_slots_max: 64,
            unacknowledged_bytes_max: 4 << 20,
            frame_bytes_max: 4 << 20,
            catch_up_bytes_max: 1 << 20,
            cache_bytes_max: 16 << 20,
            ahead_bytes_max: 8 << 20,
            ahead_slots_max: 4096,
            near_slots: 1024,
            change_patience: Duration::from_secs(60),
            transfer_patience: Duration::from_millis(300),
            snapshot_chunk_bytes: 256 << 10,
            open_slot_age_max: Duration::from_secs(5),
        }
    }
}
