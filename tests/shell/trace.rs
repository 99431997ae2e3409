//! The trace of a run: a hash over all that is observable, in order, and how often each fault struck.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::time::Instant;

/// Clones are the same trace.
#[derive(Clone, Debug)]
pub(crate) struct Trace {
    begun: Instant,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    hasher: DefaultHasher,
    counts: BTreeMap<String, u64>,
    wrong: Vec<String>,
}

impl Trace {
    pub(crate) fn begin() -> Self {
        Self { begun: Instant::now(), state: Arc::default() }
    }

    /// Something happened, now.
    pub(crate) fn note(&self, what: impl Hash) {
        let at = self.begun.elapsed();
        let mut state = self.lock();
        (at, what).hash(&mut state.hasher);
    }

    /// A fault struck.
    pub(crate) fn count(&self, fault: &str) {
        self.note(fault);
        let mut state = self.lock();
        match state.counts.get_mut(fault) {
            Some(count) => *count += 1,
            None => drop(state.counts.insert(fault.to_owned(), 1)),
        }
    }

    /// A promise was broken.
    pub(crate) fn wrong(&self, what: String) {
        self.lock().wrong.push(what);
    }

    pub(crate) fn hash(&self) -> u64 {
        self.lock().hasher.finish()
    }

    pub(crate) fn counts(&self) -> BTreeMap<String, u64> {
        self.lock().counts.clone()
    }

    pub(crate) fn first_wrong(&self) -> Option<String> {
        self.lock().wrong.first().cloned()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
