//! Single-decree Paxos: how a set of nodes chooses one value, once, whatever is lost, repeated or restarted.
//!
//! # The problem
//!
//! Some nodes want to agree on one value. Each may propose one. Messages are lost, repeated, delayed and reordered;
//! nodes stop and come back with what they wrote to disk. Still: only a proposed value is chosen, at most one value is
//! ever chosen, and a node learns that a value is chosen only if it is (*Paxos Made Simple*, section 2.1).
//!
//! # The protocol
//!
//! A value is **chosen** when a *quorum* of acceptors has accepted it under one [`ProposalId`]. Any two quorums share a
//! node, and that node is how the past speaks to the future. A proposer works in two phases (section 2.2):
//!
//! ```text
//!    proposer                 every acceptor                       every learner
//!       │  Prepare { id } ────────▶│                                     │
//!       │                          │ "I accept nothing below id."        │ phase 1
//!       │◀─ Promise { id, accepted: Option<(id, value)> }                │
//!       │                          │                                     │
//!  a quorum promised: take the value accepted under the highest id,      │
//!  or, if none of them accepted any, the value one wants                 │
//!       │                          │                                     │
//!       │  Accept { id, value } ──▶│                                     │ phase 2
//!       │                          │ "I have accepted it."               │
//!       │                          │── Accepted { id, value } ──────────▶│
//!       │                          │                       a quorum accepted it under one id: chosen
//! ```
//!
//! An acceptor that promised a higher id answers `Nack` instead. The proposer gives up and may try again, later, with
//! an id above.
//!
//! **Why only one value is chosen.** Say `v` was chosen under id 5. Whoever wins phase 1 under 6 heard a promise from a
//! quorum, and one of these acceptors had accepted `v` under 5: before it promised 6, for afterwards it would have
//! refused. So the proposer of 6 proposes `v`; and so, one id after the other, does everyone above. All of it rests on
//! two memories that survive a restart, what an acceptor promised and what it accepted, and on ids that are never used
//! twice. Hence the shape of everything here: a role returns a [`Step`], which says what to write *before* what to send.
//!
//! **What it does not give.** Two proposers can outbid each other for ever (section 2.4). Who should propose, and when to
//! try again, is the business of an election with a clock; this module has no clock.
//!
//! # Reading order
//!
//! | file | what | *Paxos Made Simple* |
//! |---|---|---|
//! | `proposal.rs` | [`NodeId`] and [`ProposalId`]: the order | 2.2 |
//! | `quorum.rs` | [`Quorum`]: how many are enough | 2.2 |
//! | `message.rs` | [`Message`]: the five messages | 2.2, 2.3 |
//! | `step.rs` | [`Step`] and [`Outbox`]: write, then send | 2.5 |
//! | `acceptor.rs` | [`Acceptor`]: the memory | 2.2 |
//! | `proposer.rs` | [`Proposer`]: the voice | 2.2, 2.4 |
//! | `learner.rs` | [`Learner`]: the ear | 2.3 |
//! | `node.rs` | [`Node`]: all three, as one plays them in practice | 2.5 |
//!
//! Everything here is pure: a value goes in, a step comes out. No input or output, no clock, no randomness, no thread.
//! `cargo run --example register` shows two proposers in a duel, message by message.
//!
//! # Example
//!
//! ```
//! use synod::paxos::{Acceptor, Learner, Learned, Message, NodeId, Proposer, Quorum};
//!
//! let me = NodeId::new(1);
//! let quorum = Quorum::majority([me])?; // a cluster of one, to see every message once
//! let mut proposer = Proposer::new(me, quorum.clone());
//! let mut acceptor = Acceptor::default();
//! let mut learner = Learner::new(quorum);
//!
//! let _ = proposer.propose("blue"); // nothing to send yet: phase 1 comes first
//! let step = proposer.prepare()?;
//! let Some(id) = step.write else { unreachable!() }; // make this durable, then send `step.send`
//!
//! let promise = acceptor.on_prepare(id); // again: durable first, then the answer leaves
//! assert_eq!(promise.send, Some(Message::Promise { id, accepted: None }));
//!
//! let accept = proposer.on_promise(me, id, None);
//! assert_eq!(accept.send, Some(Message::Accept { id, value: "blue" }));
//!
//! let accepted = acceptor.on_accept(id, "blue");
//! assert_eq!(accepted.send, Some(Message::Accepted { id, value: "blue" }));
//! assert_eq!(learner.on_accepted(me, id, "blue"), Learned::Chosen { id, value: "blue" });
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

// In reading order; the empty lines keep the formatter from sorting them.
mod proposal;

mod quorum;

mod message;

mod step;

mod acceptor;

mod proposer;

mod learner;

mod node;

pub use acceptor::{Acceptor, AcceptorState};
pub use learner::{Learned, Learner, SafetyViolation};
pub use message::Message;
pub use node::{Durable, Event, Node, Output, To};
pub use proposal::{NodeId, ProposalId, ProposalIdExhausted};
pub use proposer::{GaveUp, Proposer};
pub use quorum::{Quorum, QuorumError};
pub use step::{Due, Outbox, Step};
