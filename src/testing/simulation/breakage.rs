//! Breakages: faults that no cluster survives, to prove that the checkers see them.

/// What is broken on purpose. A run with one of these has to fail; if no seed does, the check is worth nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Breakage {
    /// A disk says that a write is durable before it is.
    EarlyFlush,
    /// A node that restarts has forgotten what it promised.
    ForgottenPromise,
    /// A node that restarts has forgotten what it accepted and not yet learned.
    ForgottenVotes,
    /// A client is told of success when its command is proposed.
    EarlyAnswer,
    /// A node answers reads from the state that it has, without asking anybody.
    StaleRead,
    /// The state machine runs a command again that its session knows.
    RepeatedCommand,
    /// One node's state machine now and then misses a command.
    MissedCommand,
    /// A node that restarts says that it restored its snapshot, and has not.
    UnrestoredState,
    /// No leader is ever elected.
    NoElection,
}

impl Breakage {
    /// All of them.
    pub const ALL: &[Self] = &[
        Self::EarlyFlush,
        Self::ForgottenPromise,
        Self::ForgottenVotes,
        Self::EarlyAnswer,
        Self::StaleRead,
        Self::RepeatedCommand,
        Self::MissedCommand,
        Self::UnrestoredState,
        Self::NoElection,
    ];
}
