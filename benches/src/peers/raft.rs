//! `raft` (of TiKV): `RawNode` over its own `MemStorage`, driven ready by ready, as its documentation shows.
//!
//! What is proposed in one turn is one `MsgPropose` with many entries, so that it goes out as one message; a ready's messages
//! of the leader leave before its entries are stored. Entries hold `Bytes`.

use crate::asynchronous::{Applied, Client, Service};
use crate::cluster::Error;
use crate::core::{Load, Replicas};
use crate::digest::Digest;
use ::raft::eraftpb::{Entry, EntryType, Message, MessageType};
use ::raft::storage::MemStorage;
use ::raft::{Config, RawNode, StateRole};
use bytes::Bytes;
use std::collections::VecDeque;
use tokio::sync::{mpsc, oneshot};

fn node(id: u64) -> Result<RawNode<MemStorage>, Error> {
    let config = Config {
        id,
        max_size_per_msg: 1 << 20,
        max_inflight_msgs: 1024,
        max_committed_size_per_ready: u64::MAX,
        ..Config::default()
    };
    config.validate()?;
    let storage = MemStorage::new_with_conf_state((vec![1, 2, 3], vec![]));
    let logger = slog::Logger::root(slog::Discard, slog::o!());
    Ok(RawNode::new(&config, storage, &logger)?)
}

fn propose(leader: &mut RawNode<MemStorage>, entries: Vec<Entry>) -> Result<(), Error> {
    let mut message = Message::default();
    message.set_msg_type(MessageType::MsgPropose);
    message.from = leader.raft.id;
    message.set_entries(entries.into());
    Ok(leader.step(message)?)
}

fn entry(command: Bytes) -> Entry {
    Entry { data: command, ..Entry::default() }
}

/// Does all that the node wants: what is to be sent goes to `send`, what is decided to `apply`, in order.
fn serve(
    node: &mut RawNode<MemStorage>,
    mut send: impl FnMut(Message),
    mut apply: impl FnMut(Entry),
) -> Result<(), Error> {
    let mut apply = |entries: Vec<Entry>| {
        let commands = entries.into_iter().filter(|entry| !entry.data.is_empty());
        commands.filter(|entry| entry.get_entry_type() == EntryType::EntryNormal).for_each(&mut apply);
    };
    while node.has_ready() {
        let mut ready = node.ready();
        ready.take_messages().into_iter().for_each(&mut send);
        apply(ready.take_committed_entries());
        if !ready.entries().is_empty() {
            node.mut_store().wl().append(ready.entries())?;
        }
        if let Some(state) = ready.hs() {
            node.mut_store().wl().set_hardstate(state.clone());
        }
        ready.take_persisted_messages().into_iter().for_each(&mut send);
        let mut light = node.advance(ready);
        if let Some(commit) = light.commit_index() {
            node.mut_store().wl().mut_hard_state().set_commit(commit);
        }
        light.take_messages().into_iter().for_each(&mut send);
        apply(light.take_committed_entries());
        node.advance_apply();
    }
    Ok(())
}

/// Three replicas for the core suite.
pub(crate) struct Trio {
    nodes: Vec<RawNode<MemStorage>>,
    proposed: Vec<Entry>,
    messages: Vec<Message>,
    decided: u64,
}

impl Replicas for Trio {
    fn lead(_load: &Load) -> Result<Self, Error> {
        let nodes = (1..=3).map(node).collect::<Result<Vec<_>, _>>()?;
        let mut trio = Self { nodes, proposed: Vec::new(), messages: Vec::new(), decided: 0 };
        trio.first()?.campaign()?;
        for _ in 0..20 {
            trio.sweep()?;
        }
        match trio.first()?.raft.state {
            StateRole::Leader => Ok(trio),
            other => Err(format!("the first node does not lead: {other:?}").into()),
        }
    }

    fn propose(&mut self, command: &[u8]) -> Result<(), Error> {
        self.proposed.push(entry(Bytes::copy_from_slice(command)));
        Ok(())
    }

    fn carry(&mut self) -> Result<u64, Error> {
        if !self.proposed.is_empty() {
            let entries = std::mem::take(&mut self.proposed);
            propose(self.first()?, entries)?;
        }
        self.sweep()?;
        Ok(self.decided)
    }

    fn logs(&mut self) -> Result<Vec<Digest>, Error> {
        self.sweep()?;
        self.nodes.iter().map(digest).collect()
    }
}

impl Trio {
    fn first(&mut self) -> Result<&mut RawNode<MemStorage>, Error> {
        self.nodes.first_mut().ok_or_else(|| "no node".into())
    }

    /// Carries every message that is under way now.
    fn sweep(&mut self) -> Result<(), Error> {
        for (at, node) in self.nodes.iter_mut().enumerate() {
            let decided = |_| self.decided += u64::from(at == 0);
            serve(node, |message| self.messages.push(message), decided)?;
        }
        for message in self.messages.drain(..) {
            let at = usize::try_from(message.to)?.saturating_sub(1);
            self.nodes.get_mut(at).ok_or("an unknown receiver")?.step(message)?;
        }
        Ok(())
    }
}

fn digest(node: &RawNode<MemStorage>) -> Result<Digest, Error> {
    let mut digest = Digest::default();
    let log = &node.raft.raft_log;
    let context = ::raft::GetEntriesContext::empty(false);
    for entry in log.slice(log.first_index(), log.committed + 1, None, context)? {
        if !entry.data.is_empty() {
            digest.add(&entry.data);
        }
    }
    Ok(digest)
}

// -------------------------------------------------------------------- tasks

/// So many inputs are taken before the messages that they bring leave.
const TURN: usize = 4096;

/// What a replica's task is told.
pub(crate) enum Mail {
    Call(Bytes, oneshot::Sender<u64>),
    Message(Message),
}

type Outbox = mpsc::UnboundedSender<Mail>;

/// Three replicas for the async suite, a task each.
pub(crate) struct Tasks {
    inboxes: Vec<Outbox>,
    applied: Vec<Applied>,
}

/// A replica on its task.
struct Task {
    node: RawNode<MemStorage>,
    inboxes: Vec<Outbox>,
    /// In the order of the log, since only the leader is called.
    callers: VecDeque<oneshot::Sender<u64>>,
    applied: Applied,
}

impl Service for Tasks {
    type Client = Outbox;

    async fn start(_clients: usize) -> Result<Self, Error> {
        let (inboxes, outlets): (Vec<_>, Vec<_>) = (0..3).map(|_| mpsc::unbounded_channel()).unzip();
        let mut all = Self { inboxes, applied: Vec::new() };
        for (id, outlet) in (1..).zip(outlets) {
            let applied = Applied::default();
            let mut node = node(id)?;
            if id == 1 {
                node.campaign()?;
            }
            let (inboxes, callers) = (all.inboxes.clone(), VecDeque::new());
            let task = Task { node, inboxes, callers, applied: applied.clone() };
            all.applied.push(applied);
            actix_rt::spawn(task.run(outlet));
        }
        // Proposals are dropped while there is no leader.
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
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

impl Client for Outbox {
    async fn call(&self, command: &[u8]) -> Result<u64, Error> {
        let (caller, answer) = oneshot::channel();
        self.send(Mail::Call(Bytes::copy_from_slice(command), caller)).map_err(|_| "the replica is gone")?;
        Ok(answer.await?)
    }
}

impl Task {
    /// Ends when the inbox is closed or the node fails; its callers hear of it, since they are dropped.
    async fn run(mut self, mut inbox: mpsc::UnboundedReceiver<Mail>) {
        let mut mails = Vec::new();
        let mut served = self.serve();
        while served.is_ok() && inbox.recv_many(&mut mails, TURN).await > 0 {
            served = self.take(&mut mails).and_then(|()| self.serve());
        }
    }

    fn take(&mut self, mails: &mut Vec<Mail>) -> Result<(), Error> {
        let mut entries = Vec::new();
        for mail in mails.drain(..) {
            match mail {
                Mail::Message(message) => self.node.step(message)?,
                Mail::Call(command, caller) => {
                    entries.push(entry(command));
                    self.callers.push_back(caller);
                }
            }
        }
        if entries.is_empty() { Ok(()) } else { propose(&mut self.node, entries) }
    }

    fn serve(&mut self) -> Result<(), Error> {
        let Self { node, inboxes, callers, applied } = self;
        let send = |message: Message| {
            let at = usize::try_from(message.to).unwrap_or(0).saturating_sub(1);
            if let Some(inbox) = inboxes.get(at) {
                // A replica that is gone loses its messages.
                let _ = inbox.send(Mail::Message(message));
            }
        };
        applied.change(|digest| {
            serve(node, send, |entry| {
                digest.add(&entry.data);
                if let Some(caller) = callers.pop_front() {
                    // A caller may have gone.
                    let _ = caller.send(digest.count());
                }
            })
        })
    }
}
