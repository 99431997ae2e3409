//! The simulator: whole clusters of the real core on virtual time, seeded.
//!
//! First faults happen: messages are lost, repeated, overtaken and cut off, nodes crash, are paused and forget what they had
//! not flushed, disks rot, fill up or are lost, members come and go. Then everything heals, and the cluster has to serve.
//! Throughout, what was chosen is judged from the history of messages, never from what the nodes believe.
//!
//! A state machine of your own is a [`Simulated`], with the clients that use it and what they must never see:
//!
//! ```
//! use std::collections::BTreeSet;
//! use synod::multi::Jitter;
//! use synod::testing::Operation;
//! use synod::testing::simulation::{Failure, Simulated, Simulation};
//!
//! /// Hands numbers out.
//! #[derive(Default)]
//! struct Numbers(u64);
//!
//! impl Simulated for Numbers {
//!     type Command = u8;
//!     type Reply = u64;
//!
//!     fn apply(&mut self, count: &u8) -> u64 {
//!         self.0 += u64::from(*count);
//!         self.0
//!     }
//!     fn snapshot(&self) -> Vec<u8> {
//!         self.0.to_le_bytes().to_vec()
//!     }
//!     fn restore(self, snapshot: &[u8]) -> Option<Self> {
//!         Some(Self(u64::from_le_bytes(snapshot.try_into().ok()?)))
//!     }
//!     fn next_command(random: &mut Jitter) -> u8 {
//!         1 + (random.draw() % 9) as u8
//!     }
//!     fn check(history: &[Operation<u8, u64>]) -> Result<(), String> {
//!         let mut given = BTreeSet::new();
//!         let mut numbers = history.iter().filter_map(|operation| operation.output);
//!         numbers.find(|number| !given.insert(*number)).map_or(Ok(()), |number| Err(format!("{number} was given twice")))
//!     }
//! }
//!
//! let report = Simulation::new(7).state_machine(Numbers::default).run()?;
//! assert!(report.slots > 0 && report.operations > 0, "{report:?}");
//! # Ok::<(), Box<Failure>>(())
//! ```
//!
//! [`run_seeds`] runs many seeds, [`Arguments`] reads from a command line which; `examples/simulate.rs` does both and is there to
//! be copied. A seed that breaks a promise is run up to 800 times more to find fewer faults, clients and calls that break it too;
//! its [`Failure`] prints one command that replays it, and the history of the smallest run that was found. That run need not be
//! the smallest there is: whatever is taken away changes all that comes after it.
//!
//! # What it knows, and what it does not
//!
//! Simulated is [`multi::node::Node`](crate::multi::node::Node), the code that runs in production, over a simulated network, disk
//! and clock: batches through both phases, reads by a round of confirmation, elections by heartbeat, sessions, snapshots with
//! their transfer, changes of the membership, transfers of the lead, replaced machines. It does not know
//!
//! - witnesses, observers, flexible quorums, leases and priorities; commands and reads that a node forwards to its leader;
//! - the shell with its actors and queues, the journal with its files, the transports: these have tests of their own;
//! - clocks that run at different rates (they only stand still), forced memberships, and peers that lie;
//! - more faults than a majority survives: never are two disks damaged at once, and none in a cluster of fewer than three nodes.
//!
//! A run ends at the first promise that is broken. A panic of the code under test, or of your state machine, is one: it is
//! caught, and every run that shortens it prints it again.
//!
//! | file | what |
//! |---|---|
//! | `fault.rs`, `weather.rs` | what can go wrong, and how much of it in one seed |
//! | `world.rs`, `world/` | the nodes, the network, disks, operators and clients, on one schedule of events (`event.rs`) |
//! | `machine.rs`, `disk.rs`, `snapshots.rs`, `state.rs` | one machine and what it keeps |
//! | `checks/` | the checkers, one promise each |
//! | `seeds.rs`, `arguments.rs` | many seeds, and command lines |
//! | `violation.rs`, `shorten.rs`, `story.rs`, `report.rs` | what is said of a run |
//! | `breakage.rs` | what is broken on purpose, to prove the checkers |

mod arguments;
mod breakage;
mod checks;
mod disk;
mod event;
mod fault;
mod machine;
mod report;
mod seeds;
mod shorten;
mod simulated;
mod snapshots;
mod state;
mod story;
mod violation;
mod weather;
mod world;

use arguments::Replay;
pub use arguments::{ArgumentError, Arguments};
pub use breakage::Breakage;
pub use fault::{Fault, Faults, UnknownFault};
pub use report::{Failure, Report};
pub use seeds::{Totals, run_seeds};
pub use simulated::{RegisterCommand, Registers, Simulated};
pub use violation::Violation;

use shorten::{Broken, Drawn, Less};
use std::fmt;
use std::time::Duration;
use world::World;

/// The most nodes that a cluster begins with.
pub const NODES_MAX: u64 = 7;

/// How long a healed cluster may take until it serves again.
const PATIENCE: Duration = Duration::from_secs(12);

/// What a run follows from.
#[derive(Clone, Debug)]
struct Options {
    seed: u64,
    nodes: Option<u64>,
    faults: Faults,
    safety: Option<Duration>,
    breakage: Option<Breakage>,
    less: Less,
}

/// A cluster to be simulated: made from a seed, adjusted, run.
pub struct Simulation<S: Simulated = Registers> {
    options: Options,
    replay: Option<String>,
    new: fn() -> S,
}

// By hand, since the state machine need not be `Clone`.
impl<S: Simulated> Clone for Simulation<S> {
    fn clone(&self) -> Self {
        Self { options: self.options.clone(), replay: self.replay.clone(), new: self.new }
    }
}

impl<S: Simulated> fmt::Debug for Simulation<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.options.fmt(f)
    }
}

impl Simulation {
    /// The cluster of this seed, with 3 or 5 nodes and all faults, that keeps a few [`Registers`].
    pub fn new(seed: u64) -> Self {
        let faults = Faults::all();
        let less = Less::default();
        let options = Options { seed, nodes: None, faults, safety: None, breakage: None, less };
        Self { options, replay: None, new: Registers::default }
    }
}

impl<S: Simulated> Simulation<S> {
    /// Another seed.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.options.seed = seed;
        self
    }

    /// So many nodes at the beginning: at least one, at most [`NODES_MAX`].
    #[must_use]
    pub fn nodes(mut self, nodes: u64) -> Self {
        self.options.nodes = Some(nodes.clamp(1, NODES_MAX));
        self
    }

    /// Only these faults.
    #[must_use]
    pub fn faults(mut self, faults: Faults) -> Self {
        self.options.faults = faults;
        self
    }

    /// Faults go on for this long on the virtual clock, in place of what the seed says.
    #[must_use]
    pub fn safety(mut self, safety: Duration) -> Self {
        self.options.safety = Some(safety);
        self
    }

    /// Breaks something on purpose: then a run has to fail.
    #[must_use]
    pub fn breakage(mut self, breakage: Breakage) -> Self {
        self.options.breakage = Some(breakage);
        self
    }

    /// Nodes, faults, time and breakage as a command line says; the seeds are for [`run_seeds`].
    #[must_use]
    pub fn arguments(mut self, arguments: &Arguments) -> Self {
        let Arguments { nodes, faults, safety, broken, .. } = arguments.clone();
        self.options = Options { nodes, faults, safety, breakage: broken, ..self.options };
        self
    }

    /// The command that a [`Failure`] prints to replay it. `{arguments}` in it stands for all that [`Arguments`] needs to make
    /// the same run, `{seed}` for the seed alone.
    #[must_use]
    pub fn replay(mut self, command: impl Into<String>) -> Self {
        self.replay = Some(command.into());
        self
    }

    /// Another state machine, with clients of its own.
    #[must_use]
    pub fn state_machine<T: Simulated>(self, new: fn() -> T) -> Simulation<T> {
        Simulation { options: self.options, replay: self.replay, new }
    }

    /// Runs it.
    ///
    /// # Errors
    ///
    /// The promise that was broken, with the shortest way there that was found.
    pub fn run(&self) -> Result<Report, Box<Failure>> {
        self.run_once().map_err(|broken| Box::new(self.shorten(*broken)))
    }

    fn run_once(&self) -> Result<Report, Box<Broken>> {
        run_once(&self.options, self.new)
    }

    /// Tells of a run of this simulation that broke a promise.
    fn shorten(&self, broken: Broken) -> Failure {
        shorten::shorten(&self.options, self.new, broken, self.replay_command())
    }

    /// Runs it and tells everything that happened, line by line; the violation is the last line, if there is one.
    pub fn tell(&self) -> Vec<String> {
        let Some(mut world) = World::new(self.options.clone(), self.new, true) else { return Vec::new() };
        let end = match world.run() {
            Ok(report) => format!("{report:?}"),
            Err(violation) => violation.to_string(),
        };
        let mut lines = world.whole_history();
        lines.push(end);
        lines
    }

    fn replay_command(&self) -> String {
        let seed = self.options.seed;
        match &self.replay {
            Some(command) => {
                let command = command.replace("{arguments}", &Replay(&self.options).to_string());
                command.replace("{seed}", &seed.to_string())
            }
            None => format!("the same simulation with .seed({seed})"),
        }
    }
}

/// One run; or what went wrong, and when. A panic of the code under test is a violation like any other.
fn run_once<S: Simulated>(options: &Options, new: fn() -> S) -> Result<Report, Box<Broken>> {
    let mut world = None;
    let run = std::panic::AssertUnwindSafe(|| {
        let world = world.insert(World::new(options.clone(), new, false)?);
        Some(world.run())
    });
    let violation = match std::panic::catch_unwind(run) {
        Ok(Some(Ok(report))) => return Ok(report),
        Ok(Some(Err(violation))) => violation,
        Ok(None) => Violation::Panicked { text: "there is no such cluster".to_owned() },
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or_default();
            Violation::Panicked { text: text.to_owned() }
        }
    };
    let world = world.as_ref();
    Err(Box::new(Broken {
        violation,
        at: world.map_or(Duration::ZERO, World::elapsed),
        trace: world.map_or(0, World::trace),
        drawn: world.map_or(Drawn::default(), World::drawn),
        operations: world.map_or(0, World::operations),
        clients: world.map_or(0, World::clients),
        kinds: world.map(World::kinds).unwrap_or_default(),
    }))
}
