//! A log whose membership changes by Lamport's α, and linearizable reads from it: every run of a small cluster.
//!
//! These are models, far smaller than `synod::multi`: they check the rules, not the code. Only quorums and the memberships of
//! slots are the product's own.
//!
//! # The story
//!
//! A log of three or four slots. The first voters, such as A, B and C, govern it until a *change* is chosen in it; a change chosen at slot
//! s governs the slots above s + α. Every leader has one proposal id, one batch of its own, and perhaps one change. The
//! leader with the lowest id is in office when a run begins: everybody has promised it. The others challenge it. Each
//! wins phase 1 in the membership of a slot, proposes there what its promises oblige it to, or what it likes, learns what
//! was chosen, and goes on to the next slot, of which another membership may be in charge.
//!
//! # How the model stays small
//!
//! Nothing is kept that the rest implies, so that a whole scope is walked in seconds:
//!
//! - **No network.** What was sent stays sent: the proposals of the leaders are the Accepts under way, the votes of the
//!   acceptors are the Accepteds. Each may arrive now, later, again, out of order, or never.
//! - **A Prepare is sent to everybody at the start.** An acceptor that promises a higher id may therefore have answered the
//!   lower Prepare just before, and that answer may still be under way. Its contents can no longer change: who has promised
//!   P accepts nothing below P. So to hear a Promise is one step, possible at any time, that raises the promise to P if it
//!   is lower, and shows the votes below P.
//! - **Leaders learn in slot order.** What is learned above a gap only forbids things.
//! - **A no-op is the leader's own batch.** A no-op of one leader then differs from that of another, so a slot that
//!   is filled twice is seen.
//! - **Voters of the same memberships are interchangeable** and kept sorted.
//! - **A leader that crashes falls silent;** one that comes back is the next leader: it has a higher id and has learned
//!   nothing, the worst case. An acceptor that is down does not answer; its disk forgets nothing.
//! - **Everybody has promised the lowest id.** Its promises could report nothing, whenever they came.
//!
//! # What is covered, and what is not
//!
//! Two leaders, one id each, at most one change in a run. α = 1 with three slots: {A, B, C} → {D} by either leader, with and
//! without a read; → {A, D, E} by the challenger; {A} → {A, B, C} with a read. α = 2 needs four slots: {A} → {A, B, C} only, no read.
//! At most one read arrives in a run, at either leader; a follower's read (7.3) is that of its leader.
//! Quorums are majorities, as `synod::multi::Membership` counts them.
//!
//! Not in here: {A, B, C} → anything with α = 2, a change by the sitting leader to {A, D, E}, a third leader or a second
//! change (too large to exhaust in a minute); flexible quorums; leases; the election, and so 6.4 (anyone may challenge);
//! trimming, snapshots and the hand-over (6.5). The checks before a change (6.2) are liveness, and left out. The rules that
//! a change waits until none is pending and stands above recovery are in the model, but no mutant goes without them.
//!
//! *Chosen* is judged from the history of votes, as everybody would judge it who can: whoever knows the log through
//! t − α − 1 counts the votes at t by the membership that follows from it.
//!
//! # The tests
//!
//! `membership` has the rules for choosing, `reads` those for reading. Each walks whole scopes of the correct model, and
//! pins how many states that are: another count says that the model has become another one. Then it leaves out one
//! rule at a time, and the walk has to find what goes wrong.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub)]

mod membership;
mod model;
mod reads;
mod scope;
mod world;
