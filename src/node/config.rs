//! Configuration: every time-out and every limit, with its default.

use crate::multi::{ClusterId, Log, Membership, Owner};
use crate::paxos::NodeId;
use std::time::Duration;

/// All that a node can be told, beside its membership.
///
/// | field | default | why | at the limit |
/// |---|---|---|---|
/// | `heartbeat` | 50 ms | a leader on a LAN is heard in under 1 ms | — |
/// | `liveness_window` | 300 ms | six heartbeats may be lost before anyone asks | the others are asked whether they hear the leader; a quorum of "no" starts a campaign |
/// | `campaign_timeout` | 500 ms | a promise takes a flush and a round trip | a fresh id after a jittered, growing pause |
/// | `campaign_pause_max` | 2 s | a duel ends by the jitter long before | the pause grows no further |
/// | `resend` | 100 ms | well above a flush on a slow disk | an open slot is sent again, then after twice the time, up to `resend_max` |
/// | `resend_max` | 1 s | | the time grows no further |
/// | `open_slot_age_max` | 5 s | a flush on a sick disk takes a second or two | a leader with an older open slot falls silent, so that another can take over |
/// | `catch_up_timeout` | 300 ms | | the next peer is asked |
/// | `open_slots_max` | 64 | α bounds it too; with batches, 64 flushes in flight are plenty | new commands wait in the batch being filled |
/// | `batch_commands_max` | 4096 | | the next batch begins |
/// | `batch_bytes_max` | 512 KiB | two batches and their frame fit `frame_bytes_max` | the next batch begins; a command above it is `TooLarge` |
/// | `credits` | 8192 | commands that may be under way from this node | `propose` waits, `try_propose` says `Busy` |
/// | `forwarded_max` | 16384 | commands of other nodes under way at the leader | `Busy` goes back |
/// | `propose_deadline` | 5 s | longer than any election | `Unknown`, or `Busy`/`NotLeader` where nothing was sent |
/// | `unacknowledged_bytes_max` | 4 MiB | below `inbox_bytes_max` and a transport's bound | no more is sent to that peer until it answers or the slot is sent again; with as much in open slots, new commands wait |
/// | `inbox_bytes_max` | 16 MiB | what one connection may have delivered and not dealt with | its reading waits |
/// | `frame_bytes_max` | 4 MiB | pages, catch-up chunks and batches stay below it | a message is cut into several |
/// | `catch_up_bytes_max` | 1 MiB | one chunk of learned entries | the rest comes with the next request |
/// | `cache_bytes_max` | 16 MiB | learned entries that lagging peers are likely to ask for | older ones are read back from the storage |
/// | `ahead_bytes_max` | 8 MiB | accepted entries above `chosen_through`; a promise carries them all, so it stays below a transport's bound | an `Accept` beyond is dropped like a lost message |
/// | `ahead_slots_max` | 4096 | | the same |
/// | `near_slots` | 1024 | what a node learns within a heartbeat under load | a node that lags by more is not promoted, and not led by |
/// | `change_patience` | 60 s | a new node fetches the state first | a change whose new voters lag is refused; observers stay |
/// | `snapshot_log_bytes` | 64 MiB | about a second of replay | with more log than that behind the last snapshot, the next is taken |
/// | `snapshot_chunk_bytes` | 256 KiB | below `frame_bytes_max`; a heartbeat waits behind one chunk at most | a snapshot is fetched and written in more chunks |
/// | `snapshot_bytes_per_second` | 32 MiB | a commit waits behind what the disk is writing | drawing a snapshot of the own state pauses |
/// | `transfer_bytes_per_second` | 128 MiB | a node without its state serves nobody, and writes to a disk of its own | sending a snapshot to peers, and writing a peer's, pause |
/// | `scrub_bytes_per_second` | 1 MiB | 64 MiB of log are checked within a minute | the scrub pauses |
/// | `disk_stall` | 1 s | a flush takes milliseconds | a leader whose flush takes longer hands over; such a node is not elected for ten times as long |
/// | `admin_max` | 64 | operators' calls under way | `Busy` |
/// | `restart_budget` | 3 in 60 s | a role that panics again and again will not get better | the node stops with its reason |
/// | `form_retry` | 200 ms | | the members that were not heard are asked again |
/// | `shutdown_deadline` | 2 s | | what is under way is answered `Unknown` |
/// | `address` | empty | not needed where nodes find each other by their ids alone | — |
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// The cluster, its epoch, and this node.
    pub owner: Owner,
    /// Where peers reach this node, in the transport's own notation ([`Config::address`]).
    pub address: String,
    /// How often a leader says that it is alive.
    pub heartbeat: Duration,
    /// How long a leader may be silent; jittered upwards by up to half.
    pub liveness_window: Duration,
    /// How long a campaign may take without a page of a promise arriving.
    pub campaign_timeout: Duration,
    /// The longest pause between two campaigns.
    pub campaign_pause_max: Duration,
    /// When an open slot is sent again.
    pub resend: Duration,
    /// The longest time between two sendings of a slot.
    pub resend_max: Duration,
    /// How old a leader's oldest open slot may be before it falls silent.
    pub open_slot_age_max: Duration,
    /// How long a peer may take to answer a request for entries.
    pub catch_up_timeout: Duration,
    /// Slots that may be open at a time; the membership's α bounds them too.
    pub open_slots_max: u64,
    /// Commands in a batch.
    pub batch_commands_max: usize,
    /// Bytes in a batch; a command must fit one by itself.
    pub batch_bytes_max: usize,
    /// Commands that may be under way from this node.
    pub credits: usize,
    /// Forwarded commands that may be under way at this node while it leads.
    pub forwarded_max: usize,
    /// By when a call is answered.
    pub propose_deadline: Duration,
    /// Whether a node that does not lead forwards commands to the leader.
    pub forward: bool,
    /// Bytes of values that may be under way to a peer without an answer.
    pub unacknowledged_bytes_max: usize,
    /// Bytes that one connection may have delivered and that are not dealt with.
    pub inbox_bytes_max: usize,
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
    /// How many slots a node may lag and still count as near: to be promoted, or to take the lead over.
    pub near_slots: u64,
    /// How long a change waits for new voters to catch up.
    pub change_patience: Duration,
    /// Bytes of log behind the last snapshot after which the next one is taken.
    pub snapshot_log_bytes: u64,
    /// The largest part of a snapshot in one message or one write.
    pub snapshot_chunk_bytes: usize,
    /// How fast a snapshot of the own state is written.
    pub snapshot_bytes_per_second: u64,
    /// How fast snapshots are sent to peers, altogether, and how fast one that a peer sends is written.
    pub transfer_bytes_per_second: u64,
    /// How fast what is on disk is checked for damage in the background; 0 turns it off.
    pub scrub_bytes_per_second: u64,
    /// A flush that takes longer makes the disk a sick one.
    pub disk_stall: Duration,
    /// Operators' calls that may be under way.
    pub admin_max: usize,
    /// This node waits so many heartbeats longer than others before it campaigns: 0 leads first.
    pub priority: u32,
    /// Vouches for the clocks of all voters, so that reads may rest on leases (protocol 7.4): they run at about the same
    /// speed (to a tenth), and go on while a machine is suspended. The default clock of the operating system does not do the
    /// latter on Linux: say so only of machines that are never suspended, or give every node a [`Timer`](crate::Timer) that
    /// does.
    pub trust_clocks: bool,
    /// How often, within a minute, a role may be rebuilt.
    pub restart_budget: u32,
    /// How long to wait for the other initial members before asking again.
    pub form_retry: Duration,
    /// How long `shutdown` drains.
    pub shutdown_deadline: Duration,
    /// Who decides when to campaign.
    pub election: ElectionKind,
}

/// Who decides when a node campaigns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ElectionKind {
    /// The node, when it has not heard a leader for the liveness window.
    #[default]
    Heartbeat,
    /// The application, by `Handle::campaign` and `Handle::step_down`.
    External,
}

/// Limits that contradict each other.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{field}` {problem}")]
pub struct ConfigError {
    /// The field.
    pub field: &'static str,
    /// What is wrong with it.
    pub problem: &'static str,
}

impl Config {
    /// The defaults, for `node` of `cluster`.
    pub fn new(cluster: ClusterId, node: NodeId) -> Self {
        Self {
            owner: Owner { cluster, epoch: 0, node },
            address: String::new(),
            heartbeat: Duration::from_millis(50),
            liveness_window: Duration::from_millis(300),
            campaign_timeout: Duration::from_millis(500),
            campaign_pause_max: Duration::from_secs(2),
            resend: Duration::from_millis(100),
            resend_max: Duration::from_secs(1),
            open_slot_age_max: Duration::from_secs(5),
            catch_up_timeout: Duration::from_millis(300),
            open_slots_max: 64,
            batch_commands_max: 4096,
            batch_bytes_max: 512 << 10,
            credits: 8192,
            forwarded_max: 16384,
            propose_deadline: Duration::from_secs(5),
            forward: true,
            unacknowledged_bytes_max: 4 << 20,
            inbox_bytes_max: 16 << 20,
            frame_bytes_max: 4 << 20,
            catch_up_bytes_max: 1 << 20,
            cache_bytes_max: 16 << 20,
            ahead_bytes_max: 8 << 20,
            near_slots: 1024,
            change_patience: Duration::from_secs(60),
            snapshot_log_bytes: 64 << 20,
            snapshot_chunk_bytes: 256 << 10,
            snapshot_bytes_per_second: 32 << 20,
            transfer_bytes_per_second: 128 << 20,
            scrub_bytes_per_second: 1 << 20,
            disk_stall: Duration::from_secs(1),
            admin_max: 64,
            priority: 0,
            trust_clocks: false,
            ahead_slots_max: 4096,
            restart_budget: 3,
            form_retry: Duration::from_millis(200),
            shutdown_deadline: Duration::from_secs(2),
            election: ElectionKind::Heartbeat,
        }
    }

    /// As this one, for a node that peers reach at `address`.
    ///
    /// Addresses come from the log (protocol 6.4), so a node that shall become a member brings its own: it stands in the entry
    /// that [`Handle::join_as`](super::Handle::join_as) and [`Node::recover`](super::Node::recover) ask for, and every node
    /// calls it there from then on. It is what peers have to dial, not what the transport listens on. A node that finds
    /// another one in the membership says so in the log, and goes on.
    #[must_use]
    pub fn address(self, address: impl Into<String>) -> Self {
        Self { address: address.into(), ..self }
    }

    /// Whether the limits fit each other.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] names the first field that does not.
    pub fn check(&self) -> Result<(), ConfigError> {
        let err = |field, problem| Err(ConfigError { field, problem });
        if self.address.len() > Membership::ADDRESS_BYTES_MAX {
            return err("address", "must have at most 256 bytes");
        }
        if self.heartbeat.is_zero() {
            return err("heartbeat", "must be above zero");
        }
        if self.liveness_window < self.heartbeat * 2 {
            return err("liveness_window", "must be at least two heartbeats");
        }
        if self.resend.is_zero() || self.resend_max < self.resend {
            return err("resend", "must be above zero and at most `resend_max`");
        }
        if self.open_slots_max == 0 {
            return err("open_slots_max", "must be at least 1");
        }
        if self.batch_commands_max == 0 {
            return err("batch_commands_max", "must be at least 1");
        }
        if self.credits == 0 {
            return err("credits", "must be at least 1");
        }
        if self.batch_bytes_max < 64 || self.batch_bytes_max * 2 > self.frame_bytes_max {
            return err("batch_bytes_max", "must be at least 64 and at most half of `frame_bytes_max`");
        }
        if self.catch_up_bytes_max * 2 > self.frame_bytes_max {
            return err("catch_up_bytes_max", "must be at most half of `frame_bytes_max`");
        }
        if self.unacknowledged_bytes_max < self.batch_bytes_max {
            return err("unacknowledged_bytes_max", "must hold a batch");
        }
        if self.inbox_bytes_max <= self.unacknowledged_bytes_max {
            return err("inbox_bytes_max", "must exceed `unacknowledged_bytes_max`");
        }
        if self.ahead_bytes_max < self.unacknowledged_bytes_max + self.batch_bytes_max
            || self.ahead_slots_max == 0
        {
            return err("ahead_bytes_max", "must hold `unacknowledged_bytes_max` and a batch more");
        }
        if self.ahead_slots_max > Log::AHEAD_SLOTS_MAX {
            return err("ahead_slots_max", "must be at most `Log::AHEAD_SLOTS_MAX`");
        }
        if self.snapshot_chunk_bytes == 0 || self.snapshot_chunk_bytes * 2 > self.frame_bytes_max {
            return err("snapshot_chunk_bytes", "must be above zero and at most half of `frame_bytes_max`");
        }
        if self.snapshot_bytes_per_second == 0 {
            return err("snapshot_bytes_per_second", "must be above zero");
        }
        if self.transfer_bytes_per_second == 0 {
            return err("transfer_bytes_per_second", "must be above zero");
        }
        if self.snapshot_log_bytes == 0 {
            return err("snapshot_log_bytes", "must be above zero");
        }
        if self.ahead_bytes_max >= self.inbox_bytes_max {
            return err(
                "ahead_bytes_max",
                "must be below `inbox_bytes_max`, since a promise carries that much",
            );
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_fit_each_other() {
        Config::new(ClusterId::new("c").unwrap(), NodeId::new(1)).check().unwrap();
    }

    #[test]
    fn an_address_that_no_membership_can_hold_is_refused() {
        let config = Config::new(ClusterId::new("c").unwrap(), NodeId::new(1));
        config.clone().address("a".repeat(256)).check().unwrap();
        assert_eq!(config.address("a".repeat(257)).check().unwrap_err().field, "address");
    }

    #[test]
    fn a_window_shorter_than_two_heartbeats_is_refused() {
        let mut config = Config::new(ClusterId::new("c").unwrap(), NodeId::new(1));
        config.liveness_window = config.heartbeat;
        assert_eq!(config.check().unwrap_err().field, "liveness_window");
    }
}
