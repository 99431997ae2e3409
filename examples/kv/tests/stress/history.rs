//! What clients did to each key, and whether one order of it explains every answer.

use std::collections::BTreeMap;
use synod::testing::{LinearizabilityError, Operation, Specification, check_linearizable};

/// What an entry of the store does: it is absent or holds one value. No value is written twice, so that values name versions.
pub(crate) struct Entry;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    Get,
    Put(u64),
    /// Only if this is what is there.
    PutIf(Option<u64>, u64),
    Delete,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    Holds(Option<u64>),
    Stored {
        created: bool,
    },
    Deleted,
    Absent,
    /// What was found is not what the write was for.
    Refused,
}

impl Specification for Entry {
    type State = Option<u64>;
    type Input = Input;
    type Output = Output;

    fn apply(state: &Self::State, input: &Input) -> (Self::State, Output) {
        match input {
            Input::Get => (*state, Output::Holds(*state)),
            Input::PutIf(expected, _) if expected != state => (*state, Output::Refused),
            Input::Put(value) | Input::PutIf(_, value) => {
                (Some(*value), Output::Stored { created: state.is_none() })
            }
            Input::Delete if state.is_none() => (None, Output::Absent),
            Input::Delete => (None, Output::Deleted),
        }
    }
}

pub(crate) type Call = Operation<Input, Output>;

/// What all clients did, by key.
#[derive(Default)]
pub(crate) struct Histories(BTreeMap<String, Vec<Call>>);

/// How much was judged.
#[derive(Debug)]
pub(crate) struct Judged {
    pub(crate) keys: usize,
    pub(crate) operations: usize,
    pub(crate) longest: usize,
    pub(crate) unknown: usize,
}

impl Histories {
    pub(crate) fn add(&mut self, key: String, call: Call) {
        self.0.entry(key).or_default().push(call);
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &String> {
        self.0.keys()
    }

    pub(crate) fn calls(&self) -> impl Iterator<Item = &Call> {
        self.0.values().flatten()
    }

    /// Looks for an order of every key's history; gives the part of a history that has none.
    pub(crate) fn judge(&self) -> Result<Judged, String> {
        for (key, history) in &self.0 {
            check_linearizable::<Entry>(history)
                .map_err(|error| format!("the history of {key}: {error}\n{}", around(history, &error)))?;
        }
        let calls = || self.calls();
        Ok(Judged {
            keys: self.0.len(),
            operations: calls().count(),
            longest: self.0.values().map(Vec::len).max().unwrap_or_default(),
            unknown: calls().filter(|call| call.output.is_none()).count(),
        })
    }
}

/// The operation that no order got past, and those around it in time.
fn around(history: &[Call], error: &LinearizabilityError) -> String {
    let LinearizabilityError::Violated { stuck, .. } = error else { return String::new() };
    let mut order: Vec<usize> = (0..history.len()).collect();
    order.sort_by_key(|at| history[*at].called);
    let place = order.iter().position(|at| at == stuck).unwrap_or_default();
    let lines = order.iter().skip(place.saturating_sub(20)).take(30).map(|at| {
        let Call { client, input, output, called, returned } = &history[*at];
        let mark = if at == stuck { ">" } else { " " };
        let end = if output.is_some() { returned.as_nanos() / 1000 } else { 0 };
        format!(
            "{mark} {:>10} to {end:>10} us, client {client}: {input:?} {output:?}",
            called.as_nanos() / 1000
        )
    });
    lines.collect::<Vec<_>>().join("\n")
}
