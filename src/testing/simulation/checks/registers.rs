//! Registers whose writes are told what they replace: whether what clients saw of one can be put in one order.
//!
//! In: the operations on one register, every written value different. Out: that there is an order that agrees with the clock,
//! or why there is none. Each answered write names the value before it, so the values form chains, and only a write of unknown
//! outcome, whose value somebody saw, begins one of which nobody says what came before. Nothing is searched for: it takes no
//! more time than sorting, and never ends without a verdict, as
//! [`check_linearizable`](crate::testing::check_linearizable) may.

use super::super::simulated::RegisterCommand;
use crate::multi::Time;
use crate::testing::Operation;
use std::collections::{BTreeMap, BTreeSet};

type Call = Operation<RegisterCommand, Option<u64>>;

/// Some operations in their only possible order, as others see them.
#[derive(Clone, Copy, Debug)]
struct Chain {
    /// The latest call in it: nothing that returned earlier comes after it.
    called: Time,
    /// The earliest return in it, if anything in it returned: nothing that was called later comes before it.
    returned: Option<Time>,
}

impl Chain {
    /// Puts `call` behind all that is there; false if it had returned before one of these was called.
    fn push(&mut self, call: &Call) -> bool {
        let fits = call.output.is_none() || self.called <= call.returned;
        self.join(call);
        fits
    }

    fn join(&mut self, call: &Call) {
        self.called = self.called.max(call.called);
        if call.output.is_some() {
            self.returned = Some(self.returned.map_or(call.returned, |first| first.min(call.returned)));
        }
    }

    /// Whether all of it may stand before all of `other`.
    fn may_precede(&self, other: &Self) -> bool {
        other.returned.is_none_or(|first| self.called <= first)
    }
}

/// What the operations say of each value.
#[derive(Default)]
struct Values<'a> {
    /// Who wrote it.
    writes: BTreeMap<u64, &'a Call>,
    /// Who read it, or that there is none.
    reads: BTreeMap<Option<u64>, Vec<&'a Call>>,
    /// Which was written in its place.
    next: BTreeMap<Option<u64>, u64>,
    /// Those that an answered write put in the place of a known one.
    follows: BTreeSet<u64>,
    /// Those that somebody was told of.
    seen: BTreeSet<u64>,
}

impl<'a> Values<'a> {
    fn of(calls: &[&'a Call]) -> Result<Self, String> {
        let mut values = Self::default();
        for call in calls {
            if let RegisterCommand::Write(_, value) = call.input
                && values.writes.insert(value, call).is_some()
            {
                return Err(format!("{value} is written twice, and nothing can be said"));
            }
            let Some(told) = call.output else { continue };
            values.seen.extend(told);
            match call.input {
                RegisterCommand::Read(_) => values.reads.entry(told).or_default().push(call),
                RegisterCommand::Write(_, value) => {
                    values.follows.insert(value);
                    if let Some(other) = values.next.insert(told, value) {
                        return Err(format!("{value} and {other} both took the place of {told:?}"));
                    }
                }
            }
        }
        match values.seen.iter().find(|value| !values.writes.contains_key(value)) {
            Some(value) => Err(format!("{value} was seen, and nobody wrote it")),
            None => Ok(values),
        }
    }

    /// Takes `first`, and what followed it, out; with the reads of each.
    fn chain(&mut self, first: Option<u64>) -> Result<Chain, String> {
        let mut chain = Chain { called: Time::ZERO, returned: None };
        let mut value = Some(first);
        while let Some(held) = value {
            let write = held.and_then(|held| self.writes.get(&held)).copied();
            if let Some(write) = write
                && !chain.push(write)
            {
                return Err(format!("the write of {held:?} had returned before one ahead of it was called"));
            }
            // They change nothing: among themselves they may stand as they were called.
            let before = chain;
            for read in self.reads.remove(&held).unwrap_or_default() {
                if before.called > read.returned {
                    return Err(format!("{held:?} was read by {read:?} before it was there"));
                }
                chain.join(read);
            }
            value = self.next.remove(&held).map(|next| {
                self.follows.remove(&next);
                Some(next)
            });
        }
        Ok(chain)
    }
}

/// Whether there is an order in which every one of `calls`, all on one register, takes effect between its call and its return
/// and is told what the register held before it. Two at the very same time count as concurrent; one without an answer may
/// have happened at any time since, or never.
///
/// # Errors
///
/// Why there is none.
pub(in super::super) fn explain(calls: &[&Call]) -> Result<(), String> {
    let mut values = Values::of(calls)?;
    let first = values.chain(None)?;
    let is_head = |(value, write): &(&u64, &&Call)| write.output.is_none() && values.seen.contains(*value);
    let heads: Vec<u64> = values.writes.iter().filter(is_head).map(|(value, _)| *value).collect();
    let mut left = Vec::new();
    for head in heads {
        left.push(values.chain(Some(head))?);
    }
    if let Some(value) = values.follows.first() {
        return Err(format!("{value} follows itself"));
    }
    if !left.iter().all(|chain| first.may_precede(chain)) {
        return Err("a value was there before the first".to_owned());
    }
    while !left.is_empty() {
        let goes_first = |nth: &usize| {
            let others = left.iter().enumerate().filter(|(other, _)| other != nth);
            left.get(*nth)
                .is_some_and(|chain| others.map(|(_, other)| other).all(|other| chain.may_precede(other)))
        };
        let Some(nth) = (0..left.len()).find(goes_first) else {
            return Err(format!("{} chains of values each have to come before another", left.len()));
        };
        left.swap_remove(nth);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::multi::Jitter;
    use crate::testing::{Register, RegisterInput, check_linearizable};

    fn at(nanos: u64) -> Time {
        Time::ZERO + std::time::Duration::from_nanos(nanos)
    }

    /// A history of a register that now and then lies.
    fn history(random: &mut Jitter) -> Vec<Call> {
        let mut below = |bound: u64| random.draw() % bound;
        let (mut clock, mut held, mut calls) = (0, None, Vec::new());
        for client in 0..2 + below(7) {
            clock += below(12);
            let input = match below(2) {
                0 => RegisterCommand::Read(0),
                _ => RegisterCommand::Write(0, client + 1),
            };
            let told = if below(9) == 0 { (below(8) > 0).then(|| 1 + below(8)) } else { held };
            let happens = below(6) > 0;
            if let (RegisterCommand::Write(_, value), true) = (input, happens) {
                held = Some(value);
            }
            let output = (happens && below(5) > 0).then_some(told);
            let called = at(u64::saturating_sub(clock, below(30)));
            calls.push(Operation { client, input, output, called, returned: at(clock + below(30)) });
        }
        calls
    }

    #[test]
    fn it_agrees_with_the_search_for_an_order() {
        let mut verdicts = [0; 2];
        for seed in 0..40_000 {
            let calls = history(&mut Jitter::new(seed));
            let searched: Vec<Operation<RegisterInput, Option<u64>>> = calls
                .iter()
                .map(|call| {
                    let input = match call.input {
                        RegisterCommand::Read(_) => RegisterInput::Read,
                        RegisterCommand::Write(_, value) => RegisterInput::Write(value),
                    };
                    let Operation { client, output, called, returned, .. } = *call;
                    Operation { client, input, output, called, returned }
                })
                .collect();
            let expected = check_linearizable::<Register>(&searched);
            let verdict = explain(&calls.iter().collect::<Vec<_>>());
            assert_eq!(
                verdict.is_ok(),
                expected.is_ok(),
                "seed {seed}: {verdict:?}, {expected:?}: {calls:#?}"
            );
            verdicts[usize::from(verdict.is_ok())] += 1;
        }
        assert!(verdicts.iter().all(|count| *count > 5_000), "{verdicts:?}");
    }
}
