//! Linearizability: whether what clients saw can be put in one order that agrees with the clock.
//!
//! In: a history of operations, with when each was called and returned. Out: that there is an order, or where none goes on.
//! The search is Wing and Gong's (*Testing and Verifying Concurrent Objects*, 1993) over a list of calls and returns, with
//! Lowe's memory of what was tried (*Testing for Linearizability*, 2017): an operation may come next if nothing that is left
//! returned before it was called. It takes exponential time at worst; split histories by key, and keep few clients at once.
//! Knows nothing of: Paxos, what the operations mean beyond a [`Specification`].

use crate::multi::Time;
use std::collections::HashSet;
use std::hash::Hash;

/// What an object does when one operation comes after the other: what a cluster is compared with.
pub trait Specification {
    /// What the object holds.
    type State: Clone + Default + Eq + Hash;
    /// What a client asks for.
    type Input;
    /// What it is answered.
    type Output: PartialEq;

    /// The state after `input`, and the answer.
    fn apply(state: &Self::State, input: &Self::Input) -> (Self::State, Self::Output);
}

/// What one client did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation<I, O> {
    /// Who: for whoever reads the history; the check does without.
    pub client: u64,
    /// What was asked for.
    pub input: I,
    /// The answer; none if it is unknown whether it happened: it may have at any time since the call, or never.
    pub output: Option<O>,
    /// When it was called.
    pub called: Time,
    /// When the answer was there; without an answer it is not looked at.
    pub returned: Time,
}

/// Why a history has no verdict of "yes".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LinearizabilityError {
    /// There is no such order.
    #[error("no order explains operation {stuck}; {} operations can be put in order before it", placed.len())]
    Violated {
        /// The place in the history of the operation that no order tried got past.
        stuck: usize,
        /// The longest order that was found, as places in the history.
        placed: Vec<usize>,
    },
    /// The search reached its limit: split the history.
    #[error("no verdict after {steps_max} steps")]
    Undecided {
        /// The limit.
        steps_max: u64,
    },
}

/// How many operations [`check_linearizable`] tries to place before it gives up: some seconds.
pub const STEPS_MAX: u64 = 10_000_000;

/// Looks for an order of `history` in which every operation takes effect between its call and its return and is answered as
/// `S` says. Two at the very same time count as concurrent.
///
/// # Errors
///
/// [`LinearizabilityError`].
pub fn check_linearizable<S: Specification>(
    history: &[Operation<S::Input, S::Output>],
) -> Result<(), LinearizabilityError> {
    Search::<S>::new(history).run()
}

/// A register that holds one value, or nothing yet.
#[derive(Clone, Copy, Debug)]
pub struct Register;

/// What a [`Register`] is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegisterInput {
    /// Answered with what it holds.
    Read,
    /// Answered with what it held before.
    Write(u64),
}

impl Specification for Register {
    type State = Option<u64>;
    type Input = RegisterInput;
    type Output = Option<u64>;

    fn apply(state: &Self::State, input: &RegisterInput) -> (Self::State, Self::Output) {
        match input {
            RegisterInput::Read => (*state, *state),
            RegisterInput::Write(value) => (Some(*value), *state),
        }
    }
}

/// A call or a return, in the order of the clock.
#[derive(Clone, Copy, Debug)]
struct Moment {
    operation: usize,
    is_return: bool,
}

/// The moments that are left, as a list that gives back what was taken out of it last.
struct Left {
    moments: Vec<Moment>,
    /// By moment: the ones around it that are left; the last place stands for both ends.
    next: Vec<usize>,
    previous: Vec<usize>,
}

impl Left {
    fn new(moments: Vec<Moment>) -> Self {
        let end = moments.len();
        let next = (1..=end).chain([0]).collect();
        let previous = [end].into_iter().chain(0..end).collect();
        Self { moments, next, previous }
    }

    fn end(&self) -> usize {
        self.moments.len()
    }

    fn first(&self) -> usize {
        self.after(self.end())
    }

    fn after(&self, at: usize) -> usize {
        self.next.get(at).copied().unwrap_or_else(|| self.end())
    }

    fn join(&mut self, before: usize, after: usize) {
        if let Some(next) = self.next.get_mut(before) {
            *next = after;
        }
        if let Some(previous) = self.previous.get_mut(after) {
            *previous = before;
        }
    }

    fn take(&mut self, at: usize) {
        let before = self.previous.get(at).copied().unwrap_or_else(|| self.end());
        self.join(before, self.after(at));
    }

    /// Only in the reverse order of [`Left::take`].
    fn give_back(&mut self, at: usize) {
        let (before, after) = (self.previous.get(at).copied().unwrap_or_else(|| self.end()), self.after(at));
        self.join(before, at);
        self.join(at, after);
    }
}

/// An operation that was placed, and what held before it.
struct Placed<T> {
    operation: usize,
    call: usize,
    before: T,
}

struct Search<'a, S: Specification> {
    history: &'a [Operation<S::Input, S::Output>],
    left: Left,
    /// By operation: its return among the moments, if it has one.
    returns: Vec<Option<usize>>,
    state: S::State,
    order: Vec<Placed<S::State>>,
    /// By operation, one bit each: whether it is placed.
    placed: Vec<u64>,
    tried: HashSet<(Vec<u64>, S::State)>,
    longest: Vec<usize>,
    stuck: usize,
}

impl<'a, S: Specification> Search<'a, S> {
    fn new(history: &'a [Operation<S::Input, S::Output>]) -> Self {
        let calls = history
            .iter()
            .enumerate()
            .map(|(operation, known)| (known.called, Moment { operation, is_return: false }));
        let answered = history.iter().enumerate().filter(|(_, known)| known.output.is_some());
        let ends = answered.map(|(operation, known)| (known.returned, Moment { operation, is_return: true }));
        let mut moments: Vec<(Time, Moment)> = calls.chain(ends).collect();
        moments.sort_by_key(|(at, moment)| (*at, moment.is_return));
        let moments: Vec<Moment> = moments.into_iter().map(|(_, moment)| moment).collect();
        let mut returns = vec![None; history.len()];
        for (at, moment) in moments.iter().enumerate().filter(|(_, moment)| moment.is_return) {
            if let Some(place) = returns.get_mut(moment.operation) {
                *place = Some(at);
            }
        }
        Self {
            history,
            left: Left::new(moments),
            returns,
            state: S::State::default(),
            order: Vec::new(),
            placed: vec![0; history.len().div_ceil(64)],
            tried: HashSet::new(),
            longest: Vec::new(),
            stuck: 0,
        }
    }

    fn run(mut self) -> Result<(), LinearizabilityError> {
        let mut at = self.left.first();
        // Operations of unknown outcome may stay out: it is enough that all that returned are placed.
        let mut answers_left = self.returns.iter().flatten().count();
        let mut steps = 0;
        while answers_left > 0 {
            steps += 1;
            if steps > STEPS_MAX {
                return Err(LinearizabilityError::Undecided { steps_max: STEPS_MAX });
            }
            let moment = self.left.moments.get(at).copied();
            match moment {
                Some(Moment { operation, is_return: false }) => {
                    at = if self.place(operation, at) {
                        answers_left -= usize::from(self.has_returned(operation));
                        self.left.first()
                    } else {
                        self.left.after(at)
                    };
                }
                // Nothing before this return can come next: the last one that was placed was wrong, or came too early.
                returned => {
                    self.note(returned);
                    let Some(last) = self.order.pop() else {
                        return Err(LinearizabilityError::Violated {
                            stuck: self.stuck,
                            placed: self.longest,
                        });
                    };
                    answers_left += usize::from(self.has_returned(last.operation));
                    at = self.left.after(last.call);
                    self.take_back(last);
                }
            }
        }
        Ok(())
    }

    fn has_returned(&self, operation: usize) -> bool {
        self.returns.get(operation).is_some_and(Option::is_some)
    }

    fn flip(&mut self, operation: usize) {
        if let Some(word) = self.placed.get_mut(operation / 64) {
            *word ^= 1 << (operation % 64);
        }
    }

    /// Puts `operation` next, if its answer allows it and this was not tried before.
    fn place(&mut self, operation: usize, call: usize) -> bool {
        let Some(known) = self.history.get(operation) else { return false };
        let (after, answer) = S::apply(&self.state, &known.input);
        if known.output.as_ref().is_some_and(|output| *output != answer) {
            return false;
        }
        self.flip(operation);
        if !self.tried.insert((self.placed.clone(), after.clone())) {
            self.flip(operation);
            return false;
        }
        let before = std::mem::replace(&mut self.state, after);
        self.order.push(Placed { operation, call, before });
        self.left.take(call);
        if let Some(end) = self.returns.get(operation).copied().flatten() {
            self.left.take(end);
        }
        true
    }

    fn take_back(&mut self, last: Placed<S::State>) {
        if let Some(end) = self.returns.get(last.operation).copied().flatten() {
            self.left.give_back(end);
        }
        self.left.give_back(last.call);
        self.flip(last.operation);
        self.state = last.before;
    }

    /// Remembers how far this order came, and what it did not get past.
    fn note(&mut self, returned: Option<Moment>) {
        if let Some(moment) = returned
            && self.order.len() >= self.longest.len()
        {
            self.longest = self.order.iter().map(|placed| placed.operation).collect();
            self.stuck = moment.operation;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::multi::Jitter;

    type Call = Operation<RegisterInput, Option<u64>>;

    fn at(nanos: u64) -> Time {
        Time::ZERO + std::time::Duration::from_nanos(nanos)
    }

    fn read(called: u64, returned: u64, value: Option<u64>) -> Call {
        let (input, output) = (RegisterInput::Read, Some(value));
        Operation { client: 0, input, output, called: at(called), returned: at(returned) }
    }

    fn write(called: u64, returned: u64, value: u64, before: Option<u64>) -> Call {
        let (input, output) = (RegisterInput::Write(value), Some(before));
        Operation { client: 1, input, output, called: at(called), returned: at(returned) }
    }

    fn lost(called: u64, value: u64) -> Call {
        let input = RegisterInput::Write(value);
        Operation { client: 2, input, output: None, called: at(called), returned: Time::ZERO }
    }

    fn check(history: &[Call]) -> Result<(), LinearizabilityError> {
        check_linearizable::<Register>(history)
    }

    #[test]
    fn a_read_sees_the_write_that_returned_before_it() {
        assert_eq!(check(&[write(0, 10, 1, None), read(20, 30, Some(1))]), Ok(()));
    }

    #[test]
    fn a_stale_read_is_found() {
        let history = [write(0, 10, 1, None), write(20, 30, 2, Some(1)), read(40, 50, Some(1))];
        let violated = LinearizabilityError::Violated { stuck: 2, placed: vec![0, 1] };
        assert_eq!(check(&history), Err(violated));
    }

    #[test]
    fn a_read_next_to_a_write_may_see_either() {
        for seen in [None, Some(1)] {
            assert_eq!(check(&[write(0, 100, 1, None), read(40, 50, seen)]), Ok(()));
        }
    }

    #[test]
    fn two_reads_one_after_the_other_do_not_go_back() {
        let history = [write(0, 100, 1, None), read(10, 20, Some(1)), read(30, 40, None)];
        assert!(check(&history).is_err());
    }

    #[test]
    fn a_write_of_unknown_outcome_may_happen_late_or_never_but_not_before_its_call() {
        assert_eq!(check(&[lost(0, 7), read(50, 60, None), read(70, 80, Some(7))]), Ok(()));
        assert_eq!(check(&[lost(0, 7), read(50, 60, None)]), Ok(()));
        assert!(check(&[read(10, 20, Some(7)), lost(30, 7)]).is_err());
        assert!(check(&[lost(0, 7), read(50, 60, Some(7)), read(70, 80, None)]).is_err());
    }

    #[test]
    fn two_writes_that_both_say_they_were_first_are_found() {
        assert!(check(&[write(0, 100, 1, None), write(0, 100, 2, None)]).is_err());
        assert_eq!(check(&[write(0, 100, 1, Some(2)), write(0, 100, 2, None)]), Ok(()));
    }

    #[test]
    fn operations_at_the_very_same_time_are_concurrent() {
        assert_eq!(check(&[write(0, 10, 1, None), read(10, 20, None)]), Ok(()));
    }

    /// All orders, tried one by one.
    fn brute_force(history: &[Call], state: Option<u64>, done: u32) -> bool {
        let is_left = |index: &usize| done & (1 << index) == 0;
        let left: Vec<usize> = (0..history.len()).filter(is_left).collect();
        if left.iter().all(|index| history[*index].output.is_none()) {
            return true;
        }
        left.iter().any(|index| {
            let next = &history[*index];
            let is_first = left.iter().all(|other| {
                other == index || history[*other].output.is_none() || history[*other].returned >= next.called
            });
            let (after, answer) = Register::apply(&state, &next.input);
            let agrees = next.output.is_none_or(|output| output == answer);
            is_first && agrees && brute_force(history, after, done | 1 << index)
        })
    }

    #[test]
    fn it_agrees_with_trying_all_orders_of_small_histories() {
        let mut verdicts = [0; 2];
        for seed in 0..20_000 {
            let mut random = Jitter::new(seed);
            let mut below = |bound: u64| random.draw() % bound;
            let history: Vec<Call> = (0..2 + below(5))
                .map(|client| {
                    let called = below(40);
                    let (value, seen) = (below(2), below(3).checked_sub(1));
                    let input = if below(2) == 0 { RegisterInput::Read } else { RegisterInput::Write(value) };
                    let output = (below(6) > 0).then_some(seen);
                    Operation { client, input, output, called: at(called), returned: at(called + below(30)) }
                })
                .collect();
            let expected = brute_force(&history, None, 0);
            assert_eq!(check(&history).is_ok(), expected, "seed {seed}: {history:#?}");
            verdicts[usize::from(expected)] += 1;
        }
        assert!(verdicts.iter().all(|count| *count > 2_000), "{verdicts:?}");
    }

    #[test]
    fn long_histories_of_few_clients_are_checked_quickly() {
        let mut history = Vec::new();
        let mut value = None;
        for number in 0..10_000 {
            history.push(write(number * 10, number * 10 + 8, number, value));
            value = Some(number);
            history.push(read(number * 10 + 2, number * 10 + 12, value));
        }
        assert_eq!(check(&history), Ok(()));
    }
}
