//! The state machine that is simulated: yours, or a few registers.

use super::checks::registers;
use crate::codec;
use crate::multi::Jitter;
use crate::testing::Operation;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Debug;

/// A state machine to be replicated by a simulated cluster, with the clients that use it.
///
/// The simulation makes one on every node (and one more, to compare with), has clients propose what
/// [`Simulated::next_command`] draws, retries in sessions, and restores snapshots wherever it can. Two states that applied the
/// same commands have to give the same replies and the same snapshots, byte for byte.
pub trait Simulated: Sized + 'static {
    /// What clients ask for.
    type Command: Clone + Debug + Serialize + DeserializeOwned;
    /// What they get back.
    type Reply: Clone + Debug + PartialEq + Serialize + DeserializeOwned;

    /// Runs a command that was chosen.
    fn apply(&mut self, command: &Self::Command) -> Self::Reply;

    /// The answer to a command that changes nothing: such a one is not proposed, but read from a state that is new enough.
    /// `None` for a command that has to be applied; which it is may not depend on the state.
    fn read(&self, command: &Self::Command) -> Option<Self::Reply> {
        let _ = command;
        None
    }

    /// The whole state.
    fn snapshot(&self) -> Vec<u8>;

    /// Takes the state that [`Simulated::snapshot`] wrote, in place of this one, which is new. `None` if it is none.
    fn restore(self, snapshot: &[u8]) -> Option<Self>;

    /// What a client asks for next.
    fn next_command(random: &mut Jitter) -> Self::Command;

    /// Judges what the clients saw. An operation without an output may have happened or not.
    ///
    /// # Errors
    ///
    /// What is wrong, for whoever reads it.
    fn check(history: &[Operation<Self::Command, Self::Reply>]) -> Result<(), String> {
        let _ = history;
        Ok(())
    }
}

/// Three registers, written and read by clients, whose history has to be linearizable: what is simulated unless you put in
/// something of your own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Registers(BTreeMap<u8, u64>);

/// What a client of [`Registers`] asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RegisterCommand {
    /// Answered with what the register holds.
    Read(u8),
    /// Answered with what the register held before.
    Write(u8, u64),
}

impl RegisterCommand {
    /// Which register.
    pub fn key(self) -> u8 {
        match self {
            Self::Read(key) | Self::Write(key, _) => key,
        }
    }
}

const KEYS: u64 = 3;

impl Simulated for Registers {
    type Command = RegisterCommand;
    type Reply = Option<u64>;

    fn apply(&mut self, command: &RegisterCommand) -> Option<u64> {
        match *command {
            RegisterCommand::Read(key) => self.0.get(&key).copied(),
            RegisterCommand::Write(key, value) => self.0.insert(key, value),
        }
    }

    fn read(&self, command: &RegisterCommand) -> Option<Option<u64>> {
        match command {
            RegisterCommand::Read(key) => Some(self.0.get(key).copied()),
            RegisterCommand::Write(..) => None,
        }
    }

    fn snapshot(&self) -> Vec<u8> {
        codec::encode(&self.0).unwrap_or_default()
    }

    fn restore(self, snapshot: &[u8]) -> Option<Self> {
        codec::decode(snapshot).ok().map(Self)
    }

    fn next_command(random: &mut Jitter) -> RegisterCommand {
        let key = u8::try_from(random.draw() % KEYS).unwrap_or_default();
        match random.draw() {
            draw if draw.is_multiple_of(2) => RegisterCommand::Read(key),
            draw => RegisterCommand::Write(key, draw),
        }
    }

    fn check(history: &[Operation<RegisterCommand, Option<u64>>]) -> Result<(), String> {
        for key in (0..KEYS).filter_map(|key| u8::try_from(key).ok()) {
            let of_key: Vec<_> = history.iter().filter(|operation| operation.input.key() == key).collect();
            registers::explain(&of_key).map_err(|why| format!("register {key}: {why}"))?;
        }
        Ok(())
    }
}
