//! A log whose membership changes by Lamport's α, and linearizable reads from it: every run of a small cluster.
//!
//! These are models, far smaller than `synod::multi`: they check the rules, not the code. Only the counting of quorums and
//! the memberships of slots are held to the product's own.
//!
//! # The story
//!
//! A log of three or four slots. The first voters, such as A, B and C, govern it until a *change* is chosen in it; a change
//! chosen at slot s governs the slots above s + α. Every leader has one proposal id, one batch of its own, and perhaps one change. The
//! leader with the lowest id is in office when a run begins: everybody has promised it. The other challenges it. Each
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
//! Two leaders, one id each; one change comes into force in a run. At most one read arrives, at either leader.
//!
//! | α | slots | first | change | of | reads |
//! |---|---|---|---|---|---|
//! | 1 | 3 | {A, B, C} | {D} | the sitting leader | with and without |
//! | 1 | 3 | {A, B, C} | {D} | the challenger | with and without |
//! | 1 | 3 | {A, B, C} | {A, D, E} | the challenger | without |
//! | 1 | 3 | {A} | {A, B, C} | the sitting leader | with |
//! | 2 | 4 | {A} | {A, B, C} | the sitting leader | with and without |
//! | 2 | 4 | {A} | {A, B, C} | the challenger | without |
//! | 2 | 4 | {A} | {D} | both | without |
//!
//! Not in here, for the time it would take: α = 2 with {A, B, C} as the first voters; {A, D, E} with a read or by the
//! sitting leader; a third leader (so which of several reported ids is the highest is never in question); a second change
//! that comes into force above the first.
//!
//! Not in here at all: flexible quorum sizes; leases (7.4); a follower's read (7.3), which is its leader's mark plus waiting;
//! the election and who may campaign (6.4: here anyone may challenge); trimming, snapshots and the hand-over (6.5); disks
//! that forget; the checks before a change (6.2), which are for liveness. That a change waits until none is pending and
//! stands above `recovery_through` (6.2) is kept, but no mutant goes without it.
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
