//! The story of a run: what happened, and of which nodes and slots, for whoever has to find out why.

use super::fault::Fault;
use super::violation::Violation;
use crate::multi::{Batch, Interval, Message, Time, Value};
use crate::paxos::NodeId;
use crate::testing::Operation;
use std::collections::VecDeque;
use std::fmt::Debug;

/// What a line is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Something went wrong on purpose.
    Fault,
    /// Something befell a node, or it says so.
    Node,
    /// A client called, or was answered.
    Call,
    /// A message of the two phases.
    Message,
    /// A message that says much and matters little: a heartbeat, and the like.
    Chatter,
}

/// One thing that happened.
#[derive(Clone, Debug)]
struct Note {
    at: Time,
    nodes: [NodeId; 2],
    /// The slots that it is about; none if it is about none, or all.
    slots: Vec<Interval>,
    kind: Kind,
    text: String,
}

/// All that happened lately, if anybody wants to know.
#[derive(Debug, Default)]
pub(super) struct Story {
    notes: Option<VecDeque<Note>>,
}

const NOTES_MAX: usize = 50_000;
const NOBODY: [NodeId; 2] = [NodeId::new(0); 2];

impl Story {
    pub(super) fn new(told: bool) -> Self {
        Self { notes: told.then(VecDeque::new) }
    }

    fn push(&mut self, note: impl FnOnce() -> Note) {
        if let Some(notes) = &mut self.notes {
            notes.push_back(note());
            if notes.len() > NOTES_MAX {
                notes.pop_front();
            }
        }
    }

    /// Something happened at a node, or between two.
    pub(super) fn tell(&mut self, at: Time, nodes: [NodeId; 2], text: impl FnOnce() -> String) {
        let Some(notes) = &mut self.notes else { return };
        let text = text();
        match notes.back_mut() {
            // The fault that it comes of was told without a node.
            Some(note) if note.at == at && note.kind == Kind::Fault && note.nodes == NOBODY => {
                note.text = format!("{text}  {}", note.text);
                note.nodes = nodes;
            }
            _ => self.push(|| Note { at, nodes, slots: Vec::new(), kind: Kind::Node, text }),
        }
    }

    /// A message left.
    pub(super) fn tell_message(&mut self, at: Time, from: NodeId, to: NodeId, message: &Message) {
        self.push(|| {
            let (slots, kind) = match message {
                Message::Accept { first, values, .. } => (vec![covered(*first, values)], Kind::Message),
                Message::Accepted { slots, .. } => (slots.clone(), Kind::Message),
                Message::Prepare { .. } | Message::Promise { .. } | Message::Nack { .. } => {
                    (Vec::new(), Kind::Message)
                }
                _ => (Vec::new(), Kind::Chatter),
            };
            let text = format!("n{from} -> n{to}  {}", in_words(message));
            Note { at, nodes: [from, to], slots, kind, text }
        });
    }

    /// Something was counted. If it is a fault, it is told: of the message that just left, or by itself.
    pub(super) fn tell_count(&mut self, at: Time, what: &str) {
        const OF_MESSAGES: [Fault; 5] =
            [Fault::Loss, Fault::Repeat, Fault::Delay, Fault::LongDelay, Fault::Corruption];
        let Some(notes) = self.notes.as_mut().filter(|_| Fault::ALL.iter().any(|fault| fault.name() == what))
        else {
            return;
        };
        let is_of_message = OF_MESSAGES.iter().any(|fault| fault.name() == what);
        let fits = |note: &Note| match note.kind {
            Kind::Message | Kind::Chatter => is_of_message,
            Kind::Node => what == Fault::Crash.name(),
            _ => is_of_message && note.nodes != NOBODY,
        };
        match notes.back_mut().filter(|note| note.at == at && fits(note)) {
            Some(note) => {
                note.text = format!("{}  [{what}]", note.text);
                note.kind = Kind::Fault;
            }
            None => {
                let text = format!("[{what}]");
                self.push(|| Note { at, nodes: NOBODY, slots: Vec::new(), kind: Kind::Fault, text });
            }
        }
    }

    /// What has to do with `violation`, at most `count` lines of it, the violation itself last and marked.
    pub(super) fn about<C: Debug, R: Debug>(
        &self,
        violation: &Violation,
        now: Time,
        calls: &[Operation<C, R>],
        count: usize,
    ) -> Vec<String> {
        let Some(notes) = &self.notes else { return Vec::new() };
        let mut told: Vec<Note> = notes.iter().filter(|note| concerns(note, violation)).cloned().collect();
        if violation.is_of_clients() {
            told.extend(calls.iter().flat_map(notes_of));
            told.sort_by_key(|note| note.at);
        }
        let mut lines = most_of(&without_repeats(told), count.saturating_sub(1));
        lines.push(format!(">>> {}", line_of(now, &violation.to_string())));
        lines
    }

    /// Everything.
    pub(super) fn all(&self) -> Vec<String> {
        self.notes.iter().flatten().map(line).collect()
    }
}

fn concerns(note: &Note, violation: &Violation) -> bool {
    let of_node = violation.node().is_none_or(|node| note.nodes.contains(&node));
    match note.kind {
        Kind::Fault => true,
        Kind::Chatter => false,
        Kind::Call => violation.is_of_clients(),
        Kind::Node => of_node || violation.slot().is_some(),
        Kind::Message => match violation.slot() {
            Some(slot) if !note.slots.is_empty() => note.slots.iter().any(|slots| slots.contains(slot)),
            _ => match violation {
                Violation::AcknowledgedLost { what } => {
                    note.text.ends_with(what) || note.text.contains(&format!("{what},"))
                }
                _ => of_node && !violation.is_of_clients(),
            },
        },
    }
}

/// What happens again and again is told once.
fn without_repeats(told: Vec<Note>) -> Vec<Note> {
    let mut short: Vec<(Note, u64)> = Vec::new();
    for note in told {
        match short.last_mut().filter(|(last, _)| last.text == note.text) {
            Some((_, times)) => *times += 1,
            None => short.push((note, 1)),
        }
    }
    let told = |(note, times): (Note, u64)| match times {
        1 => note,
        times => Note { text: format!("{}  ({times} times)", note.text), ..note },
    };
    short.into_iter().map(told).collect()
}

/// If there are too many, messages go first, and of what is left the oldest.
fn most_of(told: &[Note], count: usize) -> Vec<String> {
    let surplus = told.len().saturating_sub(count);
    if surplus == 0 {
        return told.iter().map(line).collect();
    }
    // One line says that something is left out.
    let mut go = surplus + 1;
    let mut left: Vec<bool> = vec![true; told.len()];
    for kinds in [&[Kind::Message][..], &[Kind::Message, Kind::Call, Kind::Node], &[Kind::Fault]] {
        // The newest half is spared until nothing else is left to go.
        let old = if kinds == [Kind::Fault] { told.len() } else { told.len().saturating_sub(count / 2) };
        for (note, left) in told.iter().zip(&mut left).take(old) {
            if go > 0 && *left && kinds.contains(&note.kind) {
                *left = false;
                go -= 1;
            }
        }
    }
    let kept = told.iter().zip(left).filter(|(_, left)| *left).map(|(note, _)| line(note));
    std::iter::once(format!("    ({} lines of this are left out)", surplus + 1)).chain(kept).collect()
}

fn notes_of<C: Debug, R: Debug>(operation: &Operation<C, R>) -> Vec<Note> {
    let Operation { client, input, output, called, returned } = operation;
    let note = |at, text| Note { at, nodes: NOBODY, slots: Vec::new(), kind: Kind::Call, text };
    let call = note(*called, format!("client {client} asks for {input:?}"));
    let answer = output
        .as_ref()
        .map(|output| note(*returned, format!("client {client} is answered {output:?} to {input:?}")));
    std::iter::once(call).chain(answer).collect()
}

fn covered(first: crate::multi::Slot, values: &[Value]) -> Interval {
    let count = u64::try_from(values.len()).unwrap_or(u64::MAX).saturating_sub(1);
    Interval::new(first, first.plus(count))
}

/// What is longer is told by its name alone.
const NAME_ONLY_ABOVE: usize = 100;

/// A message as a reader of the protocol would say it.
fn in_words(message: &Message) -> String {
    match message {
        Message::Prepare { id, from } => format!("prepare {id} from slot {from}"),
        Message::Promise { id, chosen_through, page, .. } => {
            let accepted: Vec<String> = page
                .entries
                .iter()
                .map(|(slot, id, value)| format!("{slot} under {id} {}", value_in_words(value)))
                .collect();
            let accepted = if accepted.is_empty() { "nothing".to_owned() } else { accepted.join(", ") };
            let unknown = match page.unknown.as_slice() {
                [] => String::new(),
                slots => format!(", unknown: {}", slots_in_words(slots)),
            };
            format!("promise {id}, chosen through {chosen_through}, accepted above: {accepted}{unknown}")
        }
        Message::Nack { asked, promised } => format!("nack {asked}, promised {promised}"),
        Message::Accept { id, first, values, .. } => {
            let words: Vec<String> = values.iter().map(value_in_words).collect();
            format!("accept {id}, {}: {}", slots_in_words(&[covered(*first, values)]), words.join(", "))
        }
        Message::Accepted { id, slots, .. } => format!("accepted {id}, {}", slots_in_words(slots)),
        message => {
            let whole = format!("{message:?}");
            let name = whole.split(' ').next().unwrap_or_default().to_owned();
            if whole.len() > NAME_ONLY_ABOVE { name } else { whole }
        }
    }
}

fn slots_in_words(slots: &[Interval]) -> String {
    let words = slots.iter().map(|Interval { first, last }| match first == last {
        true => format!("{first}"),
        false => format!("{first} to {last}"),
    });
    format!("slot {}", words.collect::<Vec<_>>().join(", "))
}

fn value_in_words(value: &Value) -> String {
    match value {
        Value::Noop => "no-op".to_owned(),
        Value::Membership(membership) => {
            let ids: Vec<String> = membership.members().keys().map(|id| format!("n{id}")).collect();
            format!("members {}", ids.join(" "))
        }
        Value::Batch(bytes) => match Batch::read(bytes.clone()) {
            Ok(batch) => {
                let id = batch.id();
                format!("batch {}.{}.{}", id.node, id.incarnation, id.serial)
            }
            Err(_) => "a batch that cannot be read".to_owned(),
        },
    }
}

fn line(note: &Note) -> String {
    format!("    {}", line_of(note.at, &note.text))
}

fn line_of(at: Time, text: &str) -> String {
    const CHARACTERS_MAX: usize = 160;
    let micros = at.as_nanos() / 1_000;
    let mut short: String = text.chars().take(CHARACTERS_MAX).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    format!("{:>6}.{:03} ms  {short}", micros / 1_000, micros % 1_000)
}
