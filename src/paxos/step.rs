//! The step: write, then send.
//!
//! Invariant S1: a message leaves only when the write that it rests on, and every write before it, is durable.
//! Knows nothing of: what is written or sent, nor where to.

use std::collections::VecDeque;

/// What the caller must do next, in this order.
///
/// *Paxos Made Simple*, section 2.5: "An acceptor records its intended response in stable storage before actually
/// sending the response."
///
/// Steps are carried out in the order in which they were returned. That includes those without a write: the answer to a
/// repeated message rests on the write that the first one asked for. A caller that blocks while it writes does this
/// without thinking; one that does not can use an [`Outbox`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a step that is not carried out loses a promise"]
pub struct Step<W, M> {
    /// Make this durable first. If that fails, send nothing and stop this role.
    pub write: Option<W>,
    /// Only then send this. Losing it is safe; sending it early is not.
    pub send: M,
}

impl<W, M> Step<W, M> {
    /// Writes, then sends.
    pub fn write_then_send(write: W, send: M) -> Self {
        Self { write: Some(write), send }
    }

    /// Sends what rests on writes that were asked for before.
    pub fn send(send: M) -> Self {
        Self { write: None, send }
    }

    /// Changes nothing and says nothing.
    pub fn nothing() -> Self
    where
        M: Default,
    {
        Self::send(M::default())
    }
}

/// Keeps steps in order for a caller whose writes take time.
///
/// [`push`](Self::push) each step as it comes; ask for what is [`due`](Self::due) until there is nothing; say
/// [`written`](Self::written) when the write under way is durable, and ask again. While a write is under way nothing is
/// due, not even a step that was pushed without a write.
///
/// If a write fails, drop the outbox with the role: what waits in it rests on something that was never written.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Outbox<W, M> {
    steps: VecDeque<(Option<W>, M)>,
    is_writing: bool,
}

/// One thing to do now.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "what is due is handed out once"]
pub enum Due<W, M> {
    /// Make this durable, then call [`Outbox::written`].
    Write(W),
    /// Send this.
    Send(M),
}

impl<W, M> Default for Outbox<W, M> {
    fn default() -> Self {
        Self { steps: VecDeque::new(), is_writing: false }
    }
}

impl<W, M> Outbox<W, M> {
    /// Adds the step that a role has just returned.
    pub fn push(&mut self, step: Step<W, M>) {
        self.steps.push_back((step.write, step.send));
    }

    /// The next thing to do; nothing while a write is under way. Keeps S1.
    pub fn due(&mut self) -> Option<Due<W, M>> {
        if self.is_writing {
            return None;
        }
        if let Some(write) = self.steps.front_mut()?.0.take() {
            self.is_writing = true;
            return Some(Due::Write(write));
        }
        self.steps.pop_front().map(|(_, send)| Due::Send(send))
    }

    /// The write under way is durable.
    pub fn written(&mut self) {
        self.is_writing = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_send_waits_for_its_write() {
        let mut outbox = Outbox::default();
        outbox.push(Step::write_then_send("state", "promise"));
        assert_eq!(outbox.due(), Some(Due::Write("state")));
        assert_eq!(outbox.due(), None);
        outbox.written();
        assert_eq!(outbox.due(), Some(Due::Send("promise")));
        assert_eq!(outbox.due(), None);
    }

    #[test]
    fn a_step_without_a_write_waits_for_the_writes_before_it() {
        let mut outbox = Outbox::default();
        outbox.push(Step::write_then_send("state", "promise"));
        outbox.push(Step::send("the same promise again"));
        assert_eq!(outbox.due(), Some(Due::Write("state")));
        assert_eq!(outbox.due(), None);
        outbox.written();
        assert_eq!(outbox.due(), Some(Due::Send("promise")));
        assert_eq!(outbox.due(), Some(Due::Send("the same promise again")));
    }

    #[test]
    fn a_step_without_a_write_is_due_at_once_when_none_is_under_way() {
        let mut outbox = Outbox::<(), _>::default();
        outbox.push(Step::send("nack"));
        assert_eq!(outbox.due(), Some(Due::Send("nack")));
    }
}
