//! The keeper of the time: frees the locks whose holders have fallen silent.
//!
//! The table has no clock, so somebody must tell it, by a command in the log, that a holder's time is over. That is the
//! leader (protocol 12.5): it counts, on its own clock, from when it first saw a renewal, and proposes an
//! [`Expire`](LockCommand::Expire) that names this renewal. If the holder has renewed meanwhile, the command is void.
//!
//! A lock is freed late by up to [`LOOK`] and a commit, and by all that went by before a new leader led. It is never freed
//! early: what is seen was chosen before, and a new leader knows nothing of how long the holder was silent, so it starts each
//! time afresh.

use super::HoldsLocks;
use super::table::{FencingToken, Holder, LockCommand, LockTable};
use crate::node::{Handle, Leadership, ReadError};
use crate::timer::{Time, Timer};
use futures::StreamExt;
use futures::future::{Either, join_all, select};
use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The keeper looks at the table this often at least while its node leads.
pub const LOOK: Duration = Duration::from_millis(50);

/// So many locks are freed at a time; the others wait for the next look.
const EXPIRIES_MAX: usize = 256;

/// By when the answer to an [`LockCommand::Expire`] is not waited for any more; the next look shows what became of it.
const PATIENCE: Duration = Duration::from_secs(1);

/// Keeps the time of the locks while the node of `handle` leads, until the node stops. Every node needs one, or locks of silent
/// holders are freed under some leaders only; two on one node do no harm. `timer` is the clock of the time-outs.
///
/// Give it to the node as a service:
///
/// ```
/// # use synod::lock::{LockTable, keep_time};
/// # use synod::{Builder, Node};
/// # fn a_builder(builder: Builder<()>) -> Builder<LockTable> {
/// builder.state_machine(LockTable::default).service(keep_time)
/// # }
/// ```
pub async fn keep_time<S: HoldsLocks>(handle: Handle<S>, timer: Arc<dyn Timer>) {
    let mut leadership = handle.leadership();
    let mut present = leadership.next().await;
    while let Some(change) = present {
        present = match change {
            Leadership::Acquired(_) => {
                match select(pin!(measure(&handle, &timer)), leadership.next()).await {
                    Either::Left(((), _)) => return,
                    Either::Right((next, _)) => next,
                }
            }
            _ => leadership.next().await,
        };
    }
}

/// Frees the locks of silent holders, for as long as the node runs.
async fn measure<S: HoldsLocks>(handle: &Handle<S>, timer: &Arc<dyn Timer>) {
    let watched = Arc::new(Mutex::new(Watched::default()));
    let impatient = handle.with_deadline(PATIENCE);
    loop {
        let (seen, clock) = (Arc::clone(&watched), Arc::clone(timer));
        // The clock is read while the table is looked at: a time that began before could be over too early.
        let look = move |machine: &S| open(&seen).look(machine.locks(), clock.now());
        // Whatever else may be the matter, the next look may find it gone.
        if let Err(ReadError::Stopped { .. }) = handle.read_stale(look).await {
            return;
        }
        let due = open(&watched).due(timer.now());
        join_all(due.into_iter().map(|expire| impatient.propose(S::lock_command(expire)))).await;
        let now = timer.now();
        let next = open(&watched).next_after(now).unwrap_or(now + LOOK);
        timer.sleep_until(next.min(now + LOOK)).await;
    }
}

/// What a panic in the middle of a look has left is mended by the next one.
fn open(watched: &Mutex<Watched>) -> std::sync::MutexGuard<'_, Watched> {
    watched.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a leader has seen of the holders, and since when.
#[derive(Debug, Default)]
struct Watched {
    seen: BTreeMap<String, Seen>,
}

#[derive(Debug)]
struct Seen {
    token: FencingToken,
    renewal: u64,
    /// When the time of the holder is over, if it stays silent.
    over: Time,
}

impl Seen {
    fn is(&self, holder: &Holder) -> bool {
        (self.token, self.renewal) == (holder.token, holder.renewal)
    }
}

impl Watched {
    /// Begins the time of every acquisition and renewal that was not seen before.
    fn look(&mut self, table: &LockTable, now: Time) {
        self.seen.retain(|name, seen| table.holder(name).is_some_and(|holder| seen.is(holder)));
        for (name, holder) in table.held() {
            if !self.seen.contains_key(name) {
                let seen = Seen { token: holder.token, renewal: holder.renewal, over: now + holder.ttl };
                self.seen.insert(name.to_owned(), seen);
            }
        }
    }

    /// For whom the time is over, as many as are freed at a time.
    fn due(&self, now: Time) -> Vec<LockCommand> {
        let over = self.seen.iter().filter(|(_, seen)| seen.over <= now).take(EXPIRIES_MAX);
        let expire = |(name, seen): (&String, &Seen)| LockCommand::Expire {
            name: name.clone(),
            token: seen.token,
            renewal: seen.renewal,
        };
        over.map(expire).collect()
    }

    /// When the next time is over, of those that are not.
    fn next_after(&self, now: Time) -> Option<Time> {
        self.seen.values().map(|seen| seen.over).filter(|over| *over > now).min()
    }
}

#[cfg(test)]
#[allow(clippy::panic)]
mod tests {
    use super::*;
    use crate::lock::LockReply;

    const TTL: Duration = Duration::from_secs(10);

    fn at(seconds: u64) -> Time {
        Time::ZERO + Duration::from_secs(seconds)
    }

    fn acquire(table: &mut LockTable, name: &str) -> FencingToken {
        let (name, owner) = (name.to_owned(), "a".to_owned());
        match table.apply(LockCommand::Acquire { name, owner, request: 1, ttl: TTL }) {
            LockReply::Acquired(token) => token,
            reply => panic!("{reply:?}"),
        }
    }

    fn expire(name: &str, token: FencingToken, renewal: u64) -> LockCommand {
        LockCommand::Expire { name: name.to_owned(), token, renewal }
    }

    // protocol 12.5
    #[test]
    fn the_time_counts_from_the_first_sight_of_a_renewal() {
        let (mut table, mut watched) = (LockTable::default(), Watched::default());
        let token = acquire(&mut table, "disk");
        watched.look(&table, at(1));
        watched.look(&table, at(5));
        assert_eq!(watched.next_after(at(5)), Some(at(11)));
        table.apply(LockCommand::Renew { name: "disk".to_owned(), token });
        watched.look(&table, at(6));
        assert_eq!(watched.due(at(15)), []);
        assert_eq!(watched.due(at(16)), [expire("disk", token, 1)]);
    }

    #[test]
    fn another_acquisition_of_a_name_has_a_time_of_its_own() {
        let (mut table, mut watched) = (LockTable::default(), Watched::default());
        let first = acquire(&mut table, "disk");
        watched.look(&table, at(1));
        table.apply(LockCommand::Release { name: "disk".to_owned(), token: first });
        let second = acquire(&mut table, "disk");
        watched.look(&table, at(9));
        assert_eq!(watched.due(at(11)), []);
        assert_eq!(watched.due(at(19)), [expire("disk", second, 0)]);
    }

    #[test]
    fn what_is_free_is_forgotten() {
        let (mut table, mut watched) = (LockTable::default(), Watched::default());
        let token = acquire(&mut table, "disk");
        watched.look(&table, at(1));
        table.apply(expire("disk", token, 0));
        watched.look(&table, at(20));
        assert!(watched.seen.is_empty());
        assert_eq!(watched.next_after(at(20)), None);
    }

    #[test]
    fn so_many_at_a_time_and_no_more() {
        let (mut table, mut watched) = (LockTable::default(), Watched::default());
        for number in 0..=EXPIRIES_MAX {
            acquire(&mut table, &number.to_string());
        }
        watched.look(&table, at(0));
        let due = watched.due(at(10));
        assert_eq!(due.len(), EXPIRIES_MAX);
        due.into_iter().for_each(|expire| drop(table.apply(expire)));
        watched.look(&table, at(10));
        assert_eq!(watched.due(at(10)).len(), 1, "the one that waited");
    }
}
