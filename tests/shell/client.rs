//! A client: reads and writes registers, through whichever node, and keeps what it was told.

use crate::Mutant;
use crate::machine::{KEYS, Registers, Write, Written};
use crate::random::Random;
use crate::world::{World, pause};
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;
use synod::testing::{Operation, RegisterInput};
use synod::timer::Time;
use synod::{Handle, ProposeError, Session};
use tokio::time::Instant;

/// How often a call is made again.
const ATTEMPTS: u64 = 6;

/// What a client knows of a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// It was applied.
    Done(Option<Written>),
    /// It was not and will not be.
    Refused,
    /// Nobody knows.
    Nothing,
}

#[derive(Clone, Debug)]
pub(crate) struct WriteCall {
    pub(crate) write: Write,
    pub(crate) told: Told,
    pub(crate) operation: Operation<RegisterInput, Option<u64>>,
}

#[derive(Clone, Debug)]
pub(crate) struct ReadCall {
    pub(crate) key: usize,
    pub(crate) operation: Operation<RegisterInput, Option<u64>>,
}

/// All that one client did.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    pub(crate) writes: Vec<WriteCall>,
    pub(crate) reads: Vec<ReadCall>,
}

pub(crate) struct Client {
    world: Rc<World>,
    number: u64,
    begun: Instant,
    random: Random,
    deadline: Duration,
    session: Option<Session<Registers>>,
    history: History,
}

impl Client {
    pub(crate) fn new(world: &Rc<World>, number: u64, begun: Instant) -> Self {
        let mut random = Random::of(world.seed, "client", number);
        let deadline = Duration::from_millis(200) + random.up_to_ms(2000);
        let (world, history) = (Rc::clone(world), History::default());
        Self { world, number, begun, random, deadline, session: None, history }
    }

    /// Calls until there are no faults any more.
    pub(crate) async fn run(mut self) -> History {
        while self.world.noisy.get() {
            let think = self.random.up_to_ms(self.world.plan.think_ms);
            pause(think).await;
            let key = self.random.below(KEYS) as usize;
            if self.random.happens(self.world.plan.reads) {
                self.read(key).await;
            } else {
                self.write(key).await;
            }
        }
        self.history
    }

    fn now(&self) -> Time {
        Time::ZERO + self.begun.elapsed()
    }

    /// Some node that runs; none after a while without any.
    async fn node(&mut self) -> Option<Handle<Registers>> {
        for _ in 0..20 {
            let up = self.world.up();
            if let Some(handle) = self.random.pick(&up).and_then(|node| self.world.handle(*node)) {
                return Some(handle.with_deadline(self.deadline));
            }
            pause(Duration::from_millis(100)).await;
        }
        None
    }

    /// Waits for a call; an impatient client gives it up early.
    async fn wait<T>(&mut self, call: impl Future<Output = T>) -> Option<T> {
        let patience = if self.random.happens(self.world.plan.impatient) {
            self.world.trace.count("call given up");
            self.random.up_to_ms(100)
        } else {
            // Every call ends within its deadline, by a clock that may stall or be slow.
            2 * self.deadline + Duration::from_secs(5)
        };
        let outcome = tokio::time::timeout(patience, call).await.ok();
        if outcome.is_none() && patience > self.deadline {
            self.world.trace.wrong(format!("client {}: a call did not end", self.number));
        }
        outcome
    }

    async fn read(&mut self, key: usize) {
        let Some(handle) = self.node().await else { return };
        let called = self.now();
        let look = move |registers: &Registers| registers.values.get(key).copied().flatten();
        let stale = self.world.mutant == Mutant::StaleRead;
        let read = async { if stale { handle.read_stale(look).await } else { handle.read(look).await } };
        let outcome = self.wait(read).await;
        self.world.trace.note((self.number, key, matches!(outcome, Some(Ok(_)))));
        if let Some(Ok(value)) = outcome {
            self.world.trace.count("read answered");
            self.world.trace.note(value);
            let (client, returned) = (self.number, self.now());
            let input = RegisterInput::Read;
            let operation = Operation { client, input, output: Some(value), called, returned };
            self.history.reads.push(ReadCall { key, operation });
        }
    }

    async fn write(&mut self, key: usize) {
        let value = self.number * 1_000_000 + self.history.writes.len() as u64;
        let write = Write { key, value };
        let called = self.now();
        let told = if self.random.happens(self.world.plan.in_session) {
            self.write_in_session(write).await
        } else {
            self.write_plainly(write).await
        };
        self.world.trace.note((value, format!("{told:?}")));
        let fault = match &told {
            Told::Done(_) => "write answered",
            Told::Refused => "write refused",
            Told::Nothing => "write unknown",
        };
        self.world.trace.count(fault);
        let output = if let Told::Done(written) = &told { written.map(|it| it.before) } else { None };
        let (client, returned) = (self.number, self.now());
        let input = RegisterInput::Write(value);
        let operation = Operation { client, input, output, called, returned };
        self.history.writes.push(WriteCall { write, told, operation });
    }

    /// A write that is made again only if it is known that nothing was proposed.
    async fn write_plainly(&mut self, write: Write) -> Told {
        for _ in 0..ATTEMPTS {
            let Some(handle) = self.node().await else { return Told::Refused };
            let called = Instant::now();
            let outcome = self.wait(handle.propose(write)).await;
            let told_early = self.world.mutant == Mutant::EarlyAnswer && called.elapsed() > self.deadline / 2;
            match outcome {
                Some(Ok(written)) => return Told::Done(Some(written)),
                _ if told_early => return Told::Done(None),
                Some(Err(ProposeError::NotLeader { .. } | ProposeError::Busy)) => {
                    pause(Duration::from_millis(50)).await;
                }
                Some(Err(ProposeError::Unknown { .. })) if self.world.mutant == Mutant::BlindRetry => {}
                Some(Err(ProposeError::Unknown { .. } | ProposeError::Stopped { .. })) | None => {
                    return Told::Nothing;
                }
                Some(Err(error)) => {
                    self.world.trace.wrong(format!("{write:?}: {error}"));
                    return Told::Nothing;
                }
            }
        }
        Told::Refused
    }

    /// A write that is made again through any node until it is answered.
    async fn write_in_session(&mut self, write: Write) -> Told {
        let Some(session) = self.session().await else { return Told::Refused };
        let call = match session.call(write) {
            Ok(call) => call,
            Err(error) => {
                self.world.trace.wrong(format!("{write:?}: {error}"));
                return Told::Refused;
            }
        };
        let mut sent = 0;
        for _ in 0..ATTEMPTS {
            let Some(handle) = self.node().await else { break };
            sent += 1;
            match self.wait(call.send_through(&handle)).await {
                Some(Ok(written)) => {
                    if sent > 1 {
                        self.world.trace.count("session call answered at a retry");
                    }
                    return Told::Done(Some(written));
                }
                None
                | Some(Err(ProposeError::Unknown { retry_is_safe: true } | ProposeError::Stopped { .. })) => {
                }
                Some(Err(ProposeError::NotLeader { .. } | ProposeError::Busy)) => {
                    pause(Duration::from_millis(50)).await;
                }
                Some(Err(error)) => {
                    self.world.trace.wrong(format!("{write:?}: {error}"));
                    break;
                }
            }
        }
        Told::Nothing
    }

    async fn session(&mut self) -> Option<Session<Registers>> {
        for _ in 0..ATTEMPTS {
            if self.session.is_some() {
                break;
            }
            let handle = self.node().await?;
            self.session = self.wait(handle.open_session()).await.and_then(Result::ok);
        }
        self.session.clone()
    }
}
