//! The faults that a simulation knows, and which of them are switched on.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

macro_rules! faults {
    ($($(#[doc = $doc:literal])+ $fault:ident = $name:literal,)+) => {
        /// A kind of thing that goes wrong. How often it does is drawn anew for every seed, also as never.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Fault {
            $($(#[doc = $doc])+ $fault,)+
        }

        impl Fault {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$fault,)+];

            /// As it is counted, printed and read.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$fault => $name,)+
                }
            }
        }
    };
}

faults! {
    /// A message is lost (F18).
    Loss = "message_lost",
    /// A message arrives twice (F19).
    Repeat = "message_repeated",
    /// A message takes up to 0.3 s, and others overtake it (F20).
    Delay = "message_delayed",
    /// A message takes up to two minutes (F20).
    LongDelay = "message_delayed_long",
    /// A byte of a frame is wrong: the frame is dropped, its connection closed (F21).
    Corruption = "frame_corrupted",
    /// Two nodes do not reach each other.
    Cut = "cut_both_ways",
    /// One node does not reach another, which reaches it (F22).
    OneWayCut = "cut_one_way",
    /// Each node reaches only its neighbours in a chain (F23).
    ChainCut = "cut_to_a_chain",
    /// Two groups of nodes do not reach each other.
    Split = "split_in_two",
    /// One node after the other reaches nobody.
    RollingCut = "rolling_cut",
    /// More than half of the nodes are down at once (F24).
    MajorityLoss = "majority_down",
    /// A node loses power, and what it has not flushed (F1, F2, F6).
    Crash = "crash",
    /// A node loses power between two effects of one step (F3).
    CrashWithin = "crash_between_effects",
    /// Of the write that is under way when power is lost a first part is there, and its last record is cut off (F5).
    TornWrite = "write_torn",
    /// A node does nothing for up to 30 s, then goes on (F17).
    Pause = "pause",
    /// A node's clock stands still for a while (F17).
    ClockStall = "clock_stall",
    /// Flushes take up to 1.5 s for a while (F25).
    SlowFlush = "slow_flush",
    /// A disk takes nothing until there is space again (F14).
    FullDisk = "full_disk",
    /// A flush ends in an error (F13).
    FailedFlush = "failed_flush",
    /// What is written of one slot is damaged (F8, F9, F11).
    Rot = "entry_damaged",
    /// A snapshot is damaged (F10).
    SnapshotRot = "snapshot_damaged",
    /// A write lands where another was, which its header shows (F12).
    Misdirected = "write_misdirected",
    /// A snapshot cannot be written, or arrives changed.
    SnapshotWrite = "snapshot_write_failed",
    /// A machine is lost with its disk, and another one replaces it (F30).
    Wipe = "machine_lost",
    /// A node starts from an old image of its disk (F31).
    OldImage = "old_image_restored",
    /// Operators add, remove and replace nodes.
    Membership = "membership_asked",
    /// Operators have the lead handed over.
    Transfer = "transfer_asked",
    /// Operators ask for snapshots.
    Snapshot = "snapshot_asked",
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that no fault has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no fault {name:?}")]
pub struct UnknownFault {
    /// What was given.
    pub name: String,
}

impl FromStr for Fault {
    type Err = UnknownFault;

    fn from_str(name: &str) -> Result<Self, UnknownFault> {
        let found = Self::ALL.iter().find(|fault| fault.name() == name);
        found.copied().ok_or_else(|| UnknownFault { name: name.to_owned() })
    }
}

/// Which faults may happen. What of them does, and how often, follows from the seed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults(BTreeSet<Fault>);

impl Faults {
    /// Every one.
    pub fn all() -> Self {
        Self(Fault::ALL.iter().copied().collect())
    }

    /// None: a quiet cluster.
    pub fn none() -> Self {
        Self(BTreeSet::new())
    }

    /// These and no others.
    pub fn only(faults: impl IntoIterator<Item = Fault>) -> Self {
        Self(faults.into_iter().collect())
    }

    /// All of these but one.
    #[must_use]
    pub fn without(&self, fault: Fault) -> Self {
        let mut left = self.clone();
        left.0.remove(&fault);
        left
    }

    /// Whether `fault` may happen.
    pub fn has(&self, fault: Fault) -> bool {
        self.0.contains(&fault)
    }

    /// In order.
    pub fn iter(&self) -> impl Iterator<Item = Fault> + '_ {
        self.0.iter().copied()
    }
}

impl Default for Faults {
    fn default() -> Self {
        Self::all()
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.iter().map(Fault::name).collect();
        f.write_str(&names.join(","))
    }
}
