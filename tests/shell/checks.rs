//! What must hold at the end of a run: the nodes agree, what clients were told is true, and some order explains it all.

use crate::client::{History, Told};
use crate::machine::{KEYS, Registers};
use crate::trace::Trace;
use std::collections::{BTreeMap, BTreeSet};
use synod::testing::{LinearizabilityError, Operation, Register, RegisterInput, check_linearizable};

/// Each node's state, and each client's history.
pub(crate) fn check(
    states: &BTreeMap<u64, Registers>,
    histories: &[History],
    trace: &Trace,
) -> Result<(), String> {
    let Some(state) = states.values().next() else { return Err("no node is left".to_owned()) };
    for (node, other) in states {
        if other != state {
            return Err(format!("node {node} holds {other:?}, another one {state:?}"));
        }
    }
    let mut applied = BTreeSet::new();
    if let Some(value) = state.applied.iter().find(|value| !applied.insert(**value)) {
        return Err(format!("{value} was applied twice"));
    }
    for call in histories.iter().flat_map(|history| &history.writes) {
        let value = call.write.value;
        let held = applied.contains(&value);
        match &call.told {
            Told::Done(_) if !held => return Err(format!("{value} was acknowledged and is lost")),
            Told::Done(Some(written)) if state.applied.get(written.place - 1) != Some(&value) => {
                return Err(format!("{value} is not in the place that was told: {written:?}"));
            }
            Told::Refused if held => return Err(format!("{value} was refused and is applied")),
            _ => {}
        }
    }
    (0..KEYS as usize).try_for_each(|key| check_register(key, histories, &applied, trace))
}

fn check_register(
    key: usize,
    histories: &[History],
    applied: &BTreeSet<u64>,
    trace: &Trace,
) -> Result<(), String> {
    let mut history: Vec<Operation<RegisterInput, Option<u64>>> = Vec::new();
    for one in histories {
        // What was not applied in the end never was.
        let writes =
            one.writes.iter().filter(|call| call.write.key == key && applied.contains(&call.write.value));
        history.extend(writes.map(|call| call.operation.clone()));
        history.extend(one.reads.iter().filter(|call| call.key == key).map(|call| call.operation.clone()));
    }
    match check_linearizable::<Register>(&history) {
        Ok(()) => Ok(()),
        Err(LinearizabilityError::Undecided { .. }) => {
            trace.count("history undecided");
            Ok(())
        }
        Err(error) => Err(format!("register {key} is not linearizable: {error}\n{history:#?}")),
    }
}
