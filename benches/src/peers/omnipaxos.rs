//! `omnipaxos`: appended to, drained of its messages and fed with them by hand, as its documentation shows; entries are
//! cloned into each message by the library, so they are as cheap to clone as they can be: an array of 16 bytes, or `Bytes`.
//!
//! What is appended in one turn goes out as one message: `batch_size` holds it back and one tick releases it, which is how
//! the library batches. `unicache` is off.

use crate::asynchronous::{Applied, Client, Service};
use crate::cluster::Error;
use crate::core::{Load, Replicas};
use crate::digest::Digest;
use ::omnipaxos::ballot_leader_election::Ballot;
use ::omnipaxos::messages::Message;
use ::omnipaxos::storage::{Entry, NoSnapshot, StopSign, Storage, StorageOp, StorageResult};
use ::omnipaxos::util::LogEntry;
use ::omnipaxos::{ClusterConfig, OmniPaxos, ServerConfig};
use bytes::Bytes;
use std::collections::VecDeque;
use tokio::sync::{mpsc, oneshot};

/// What an entry holds.
pub(crate) trait Payload: Clone + std::fmt::Debug + Send + 'static {
    fn copy(bytes: &[u8]) -> Self;
    fn bytes(&self) -> &[u8];
}

impl Payload for [u8; 16] {
    fn copy(bytes: &[u8]) -> Self {
        bytes.try_into().unwrap_or_default()
    }

    fn bytes(&self) -> &[u8] {
        self
    }
}

impl Payload for Bytes {
    fn copy(bytes: &[u8]) -> Self {
        Self::copy_from_slice(bytes)
    }

    fn bytes(&self) -> &[u8] {
        self
    }
}

/// An entry of the log.
#[derive(Clone, Debug)]
pub(crate) struct Command<P>(P);

impl<P: Payload> Entry for Command<P> {
    type Snapshot = NoSnapshot;
}

type Node<P> = OmniPaxos<Command<P>, Memory<P>>;

/// Elections are not what is measured: the clock that ticks for the batches must not start one.
const NEVER: u64 = u64::MAX / 2;

/// Only the first one, which leads, holds entries back: a follower would wait with its answer.
fn node<P: Payload>(pid: u64, batch_size: usize) -> Result<Node<P>, Error> {
    let batch_size = if pid == 1 { batch_size } else { 1 };
    let cluster = ClusterConfig { configuration_id: 1, nodes: vec![1, 2, 3], flexible_quorum: None };
    let server = ServerConfig {
        pid,
        batch_size,
        flush_batch_tick_timeout: 1,
        election_tick_timeout: NEVER,
        resend_message_tick_timeout: NEVER,
        ..ServerConfig::default()
    };
    Ok(cluster.build_for_server(server, Memory::default())?)
}

/// Three replicas for the core suite.
pub(crate) struct Trio<P: Payload> {
    nodes: Vec<Node<P>>,
    batches: bool,
    messages: Vec<Message<Command<P>>>,
}

impl<P: Payload> Replicas for Trio<P> {
    fn lead(load: &Load) -> Result<Self, Error> {
        let batches = load.window > 1;
        let batch_size = if batches { usize::try_from(load.window)? } else { 1 };
        let nodes = (1..=3).map(|pid| node(pid, batch_size)).collect::<Result<Vec<_>, _>>()?;
        let mut trio = Self { nodes, batches, messages: Vec::new() };
        trio.first()?.try_become_leader();
        for _ in 0..10 {
            trio.sweep()?;
        }
        match trio.first()?.get_current_leader() {
            Some((1, true)) => Ok(trio),
            other => Err(format!("the first node does not lead: {other:?}").into()),
        }
    }

    fn propose(&mut self, command: &[u8]) -> Result<(), Error> {
        let appended = self.first()?.append(Command(P::copy(command)));
        appended.map_err(|refused| format!("{refused:?}").into())
    }

    fn carry(&mut self) -> Result<u64, Error> {
        if self.batches {
            self.first()?.tick();
        }
        self.sweep()?;
        Ok(self.first()?.get_decided_idx() as u64)
    }

    fn logs(&mut self) -> Result<Vec<Digest>, Error> {
        self.sweep()?;
        Ok(self.nodes.iter().map(digest).collect())
    }
}

impl<P: Payload> Trio<P> {
    fn first(&mut self) -> Result<&mut Node<P>, Error> {
        self.nodes.first_mut().ok_or_else(|| "no node".into())
    }

    /// Carries every message that is under way now.
    fn sweep(&mut self) -> Result<(), Error> {
        for node in &mut self.nodes {
            node.take_outgoing_messages(&mut self.messages);
        }
        for message in self.messages.drain(..) {
            let at = usize::try_from(message.get_receiver())?.saturating_sub(1);
            self.nodes.get_mut(at).ok_or("an unknown receiver")?.handle_incoming(message);
        }
        Ok(())
    }
}

fn digest<P: Payload>(node: &Node<P>) -> Digest {
    let mut digest = Digest::default();
    for entry in node.read_decided_suffix(0).unwrap_or_default() {
        if let LogEntry::Decided(Command(payload)) = entry {
            digest.add(payload.bytes());
        }
    }
    digest
}

// -------------------------------------------------------------------- storage

/// The log in memory: a vector, whose entries are never trimmed.
#[derive(Debug)]
pub(crate) struct Memory<P> {
    log: Vec<Command<P>>,
    promised: Option<Ballot>,
    accepted_round: Option<Ballot>,
    decided: usize,
    stopsign: Option<StopSign>,
}

impl<P> Default for Memory<P> {
    fn default() -> Self {
        Self { log: Vec::new(), promised: None, accepted_round: None, decided: 0, stopsign: None }
    }
}

impl<P: Payload> Storage<Command<P>> for Memory<P> {
    fn write_atomically(&mut self, ops: Vec<StorageOp<Command<P>>>) -> StorageResult<()> {
        for op in ops {
            match op {
                StorageOp::AppendEntry(entry) => self.append_entry(entry)?,
                StorageOp::AppendEntries(entries) => self.append_entries(entries)?,
                StorageOp::AppendOnPrefix(from, entries) => self.append_on_prefix(from, entries)?,
                StorageOp::SetPromise(promise) => self.set_promise(promise)?,
                StorageOp::SetDecidedIndex(index) => self.set_decided_idx(index)?,
                StorageOp::SetAcceptedRound(round) => self.set_accepted_round(round)?,
                StorageOp::SetStopsign(stopsign) => self.set_stopsign(stopsign)?,
                StorageOp::SetCompactedIdx(_) | StorageOp::Trim(_) | StorageOp::SetSnapshot(_) => {}
            }
        }
        Ok(())
    }

    fn append_entry(&mut self, entry: Command<P>) -> StorageResult<()> {
        self.log.push(entry);
        Ok(())
    }

    fn append_entries(&mut self, mut entries: Vec<Command<P>>) -> StorageResult<()> {
        self.log.append(&mut entries);
        Ok(())
    }

    fn append_on_prefix(&mut self, from: usize, entries: Vec<Command<P>>) -> StorageResult<()> {
        self.log.truncate(from);
        self.append_entries(entries)
    }

    fn set_promise(&mut self, promise: Ballot) -> StorageResult<()> {
        self.promised = Some(promise);
        Ok(())
    }

    fn set_decided_idx(&mut self, index: usize) -> StorageResult<()> {
        self.decided = index;
        Ok(())
    }

    fn get_decided_idx(&self) -> StorageResult<usize> {
        Ok(self.decided)
    }

    fn set_accepted_round(&mut self, round: Ballot) -> StorageResult<()> {
        self.accepted_round = Some(round);
        Ok(())
    }

    fn get_accepted_round(&self) -> StorageResult<Option<Ballot>> {
        Ok(self.accepted_round)
    }

    fn get_entries(&self, from: usize, to: usize) -> StorageResult<Vec<Command<P>>> {
        Ok(self.log.get(from..to).unwrap_or_default().to_vec())
    }

    fn get_log_len(&self) -> StorageResult<usize> {
        Ok(self.log.len())
    }

    fn get_suffix(&self, from: usize) -> StorageResult<Vec<Command<P>>> {
        Ok(self.log.get(from..).unwrap_or_default().to_vec())
    }

    fn get_promise(&self) -> StorageResult<Option<Ballot>> {
        Ok(self.promised)
    }

    fn set_stopsign(&mut self, stopsign: Option<StopSign>) -> StorageResult<()> {
        self.stopsign = stopsign;
        Ok(())
    }

    fn get_stopsign(&self) -> StorageResult<Option<StopSign>> {
        Ok(self.stopsign.clone())
    }

    fn trim(&mut self, _index: usize) -> StorageResult<()> {
        Ok(())
    }

    fn set_compacted_idx(&mut self, _index: usize) -> StorageResult<()> {
        Ok(())
    }

    fn get_compacted_idx(&self) -> StorageResult<usize> {
        Ok(0)
    }

    fn set_snapshot(&mut self, _snapshot: Option<NoSnapshot>) -> StorageResult<()> {
        Ok(())
    }

    fn get_snapshot(&self) -> StorageResult<Option<NoSnapshot>> {
        Ok(None)
    }
}

// -------------------------------------------------------------------- tasks

/// So many inputs are taken before the messages that they bring leave.
const TURN: usize = 4096;

/// What a replica's task is told.
pub(crate) enum Mail<P: Payload> {
    Call(P, oneshot::Sender<u64>),
    Message(Message<Command<P>>),
}

type Outbox<P> = mpsc::UnboundedSender<Mail<P>>;

/// Three replicas for the async suite, a task each.
pub(crate) struct Tasks<P: Payload> {
    inboxes: Vec<Outbox<P>>,
    applied: Vec<Applied>,
}

/// A replica on its task.
struct Task<P: Payload> {
    node: Node<P>,
    inboxes: Vec<Outbox<P>>,
    messages: Vec<Message<Command<P>>>,
    /// In the order of the log, since only the leader is called.
    callers: VecDeque<oneshot::Sender<u64>>,
    read: usize,
    applied: Applied,
}

impl<P: Payload> Service for Tasks<P> {
    type Client = Outbox<P>;

    async fn start(clients: usize) -> Result<Self, Error> {
        let (inboxes, outlets): (Vec<_>, Vec<_>) = (0..3).map(|_| mpsc::unbounded_channel()).unzip();
        let mut all = Self { inboxes, applied: Vec::new() };
        for (pid, outlet) in (1..).zip(outlets) {
            let applied = Applied::default();
            let mut node = node(pid, clients)?;
            if pid == 1 {
                node.try_become_leader();
            }
            let task = Task {
                node,
                inboxes: all.inboxes.clone(),
                messages: Vec::new(),
                callers: VecDeque::new(),
                read: 0,
                applied: applied.clone(),
            };
            all.applied.push(applied);
            actix_rt::spawn(task.run(outlet));
        }
        Ok(all)
    }

    fn client(&self) -> Self::Client {
        self.inboxes[0].clone()
    }

    async fn applied(&self) -> Result<Vec<Digest>, Error> {
        Ok(self.applied.iter().map(|applied| applied.change(|digest| *digest)).collect())
    }

    async fn stop(self) -> Result<(), Error> {
        Ok(())
    }
}

impl<P: Payload> Client for Outbox<P> {
    async fn call(&self, command: &[u8]) -> Result<u64, Error> {
        let (caller, answer) = oneshot::channel();
        self.send(Mail::Call(P::copy(command), caller)).map_err(|_| "the replica is gone")?;
        Ok(answer.await?)
    }
}

impl<P: Payload> Task<P> {
    async fn run(mut self, mut inbox: mpsc::UnboundedReceiver<Mail<P>>) {
        let mut mails = Vec::new();
        self.send();
        while inbox.recv_many(&mut mails, TURN).await > 0 {
            for mail in mails.drain(..) {
                match mail {
                    Mail::Message(message) => self.node.handle_incoming(message),
                    Mail::Call(payload, caller) => {
                        // A refused command drops its caller, who hears of it.
                        if self.node.append(Command(payload)).is_ok() {
                            self.callers.push_back(caller);
                        }
                    }
                }
            }
            self.node.tick();
            self.send();
            self.apply();
        }
    }

    fn send(&mut self) {
        self.node.take_outgoing_messages(&mut self.messages);
        for message in self.messages.drain(..) {
            let at = usize::try_from(message.get_receiver()).unwrap_or(0).saturating_sub(1);
            if let Some(inbox) = self.inboxes.get(at) {
                // A replica that is gone loses its messages.
                let _ = inbox.send(Mail::Message(message));
            }
        }
    }

    fn apply(&mut self) {
        let Some(entries) = self.node.read_decided_suffix(self.read) else { return };
        self.read += entries.len();
        self.applied.change(|digest| {
            for entry in entries {
                let LogEntry::Decided(Command(payload)) = entry else { continue };
                digest.add(payload.bytes());
                if let Some(caller) = self.callers.pop_front() {
                    // A caller may have gone.
                    let _ = caller.send(digest.count());
                }
            }
        });
    }
}
