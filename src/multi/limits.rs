//! Limits and time-outs of the roles: the part of the configuration that the core needs.

use std::time::Duration;

/// How much a role may keep, and how long it waits. The defaults and their reasons stand at the node's `Config`.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct Limits {
    pub campaign_timeout: Duration,
    pub campaign_pause_max: Duration,
    pub resend: Duration,
    pub resend_max: Duration,
    pub catch_up_timeout: Duration,
    pub form_retry: Duration,
    pub open_slots_max: u64,
    pub unacknowledged_bytes_max: usize,
    pub frame_bytes_max: usize,
    pub catch_up_bytes_max: usize,
    pub cache_bytes_max: usize,
    pub ahead_bytes_max: usize,
    pub ahead_slots_max: u64,
    pub open_slot_age_max: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            campaign_timeout: Duration::from_millis(500),
            campaign_pause_max: Duration::from_secs(2),
            resend: Duration::from_millis(100),
            resend_max: Duration::from_secs(1),
            catch_up_timeout: Duration::from_millis(300),
            form_retry: Duration::from_millis(200),
            open_slots_max: 64,
            unacknowledged_bytes_max: 4 << 20,
            frame_bytes_max: 4 << 20,
            catch_up_bytes_max: 1 << 20,
            cache_bytes_max: 16 << 20,
            ahead_bytes_max: 64 << 20,
            ahead_slots_max: 4096,
            open_slot_age_max: Duration::from_secs(5),
        }
    }
}
