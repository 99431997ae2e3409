//! The world of one seed: its network, its disks and clocks, and the nodes that live on them.

use crate::Mutant;
use crate::clock::Clock;
use crate::disk::Disk;
use crate::line::Line;
use crate::machine::Registers;
use crate::plan::Plan;
use crate::random::Random;
use crate::trace::Trace;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use synod::timer::TokioTimer;
use synod::{Builder, ClusterId, Config, Handle, Host, Membership, Node, NodeId, StartError, StopCause};
use synod_memory::MemoryNetwork;

pub(crate) async fn pause(duration: Duration) {
    tokio::time::sleep(duration).await;
}

/// A node that runs.
struct Running {
    node: Node<Registers>,
    powered: Arc<AtomicBool>,
}

/// What outlives the runs of a node.
#[derive(Clone)]
pub(crate) struct Machine {
    pub(crate) disk: Disk,
    pub(crate) clock: Clock,
    /// How long it stays down after its next end.
    down: Rc<Cell<Duration>>,
}

pub(crate) struct World {
    pub(crate) seed: u64,
    pub(crate) plan: Plan,
    pub(crate) mutant: Mutant,
    pub(crate) trace: Trace,
    pub(crate) network: MemoryNetwork,
    /// There are faults.
    pub(crate) noisy: Cell<bool>,
    machines: RefCell<BTreeMap<u64, Machine>>,
    running: RefCell<BTreeMap<u64, Running>>,
    removed: RefCell<BTreeSet<u64>>,
    starts: Cell<u64>,
}

impl World {
    pub(crate) fn new(seed: u64, plan: Plan, mutant: Mutant) -> Rc<Self> {
        let network = MemoryNetwork::new(seed, Arc::new(TokioTimer::default()));
        network.set_faults(plan.network);
        let world = Self {
            seed,
            mutant,
            trace: Trace::begin(),
            network,
            noisy: Cell::new(true),
            machines: RefCell::default(),
            running: RefCell::default(),
            removed: RefCell::default(),
            starts: Cell::new(0),
            plan,
        };
        let world = Rc::new(world);
        for node in 1..=world.plan.nodes {
            world.add(node);
        }
        world
    }

    /// One more machine, on which a node begins to live.
    pub(crate) fn add(self: &Rc<Self>, node: u64) {
        let mut random = Random::of(self.seed, "machine", node);
        let Plan { append_ms, landed, drift, .. } = self.plan;
        let origin = random.up_to_ms(1000 * 3600 * 24 * 365);
        let rate = 1.0 + drift * (2.0 * random.unit() - 1.0);
        let machine = Machine {
            disk: Disk::new(self.seed, node, append_ms, landed, self.mutant, self.trace.clone()),
            clock: Clock::new(origin, rate),
            down: Rc::new(Cell::new(random.up_to_ms(200))),
        };
        self.machines.borrow_mut().insert(node, machine.clone());
        actix_rt::spawn(live(Rc::clone(self), node, machine));
    }

    /// Ids of the nodes that run.
    pub(crate) fn up(&self) -> Vec<u64> {
        self.running.borrow().keys().copied().collect()
    }

    /// Ids of all nodes that were not removed.
    pub(crate) fn all(&self) -> Vec<u64> {
        let removed = self.removed.borrow();
        self.machines.borrow().keys().copied().filter(|node| !removed.contains(node)).collect()
    }

    /// Ids of all there ever were.
    pub(crate) fn ever(&self) -> u64 {
        self.machines.borrow().len() as u64
    }

    pub(crate) fn machine(&self, node: u64) -> Option<Machine> {
        self.machines.borrow().get(&node).cloned()
    }

    pub(crate) fn handle(&self, node: u64) -> Option<Handle<Registers>> {
        self.running.borrow().get(&node).map(|running| running.node.handle())
    }

    /// The power of a node goes: nothing leaves it any more, and what it was writing is lost, or landed.
    pub(crate) fn crash(&self, node: u64, down: Duration) {
        let Some(running) = self.running.borrow_mut().remove(&node) else { return };
        let Some(machine) = self.machine(node) else { return };
        machine.down.set(down);
        running.powered.store(false, Ordering::Relaxed);
        machine.disk.cut_power();
        drop(running);
    }

    /// Takes a node out, to be shut down.
    pub(crate) fn take(&self, node: u64, down: Duration) -> Option<Node<Registers>> {
        let running = self.running.borrow_mut().remove(&node)?;
        self.machine(node)?.down.set(down);
        Some(running.node)
    }

    /// No faults from now on.
    pub(crate) fn heal(&self) {
        self.noisy.set(false);
        self.network.heal_all();
        self.network.set_faults(synod_memory::Faults::default());
        for machine in self.machines.borrow().values() {
            machine.disk.mend();
        }
        self.trace.note("healed");
    }

    async fn start(&self, node: u64, machine: &Machine) -> Result<Handle<Registers>, StartError> {
        self.starts.set(self.starts.get() + 1);
        let cluster = ClusterId::new("shell").map_err(|_| StartError::NoArbiter)?;
        let config = Config::new(cluster, NodeId::new(node));
        let builder = if machine.disk.is_used() {
            Node::restart(config)
        } else if node > self.plan.nodes {
            Node::join(config)
        } else {
            let members = (1..=self.plan.nodes).map(|member| (NodeId::new(member), ""));
            Node::bootstrap(config, Membership::voters(members).expect("a membership"))
        };
        let powered = Arc::new(AtomicBool::new(true));
        let line = Line {
            from: NodeId::new(node),
            inner: Arc::new(self.network.transport(NodeId::new(node))),
            trace: self.trace.clone(),
            powered: Arc::clone(&powered),
        };
        let builder: Builder<Registers> = builder.state_machine(Registers::default);
        let started = builder
            .transport(line)
            .storage(machine.disk.storage())
            .timer(machine.clock.clone())
            .host(Host::ThisArbiter)
            .seed(Random::of(self.seed, "start", self.starts.get()).next())
            .start()
            .await?;
        let handle = started.handle();
        self.running.borrow_mut().insert(node, Running { node: started, powered });
        Ok(handle)
    }

    fn ended(&self, node: u64, cause: &StopCause) {
        self.running.borrow_mut().remove(&node);
        match cause {
            StopCause::Shutdown => {}
            // As when the power was cut: the disk answers no more.
            StopCause::Storage(_) => self.trace.count("stopped by its disk"),
            StopCause::RolePanicked { .. } => self.trace.count("stopped by panics"),
            StopCause::Removed => {
                self.trace.count("stopped as it was removed");
                self.removed.borrow_mut().insert(node);
            }
            cause => self.trace.wrong(format!("node {node} stopped: {cause}")),
        }
    }
}

/// Starts a node again and again, until it is removed.
async fn live(world: Rc<World>, node: u64, machine: Machine) {
    loop {
        pause(machine.down.get()).await;
        machine.down.set(Duration::from_millis(200));
        match world.start(node, &machine).await {
            Ok(handle) => {
                world.trace.note(("up", node));
                let cause = handle.stopped().await;
                world.trace.note(("down", node));
                world.ended(node, &cause);
                if matches!(cause, StopCause::Removed) {
                    return;
                }
            }
            Err(StartError::Storage(_)) => world.trace.note(("no start", node)),
            Err(error) => world.trace.wrong(format!("node {node} cannot start: {error}")),
        }
    }
}
