//! The story of a run: what happened, and of which nodes and slots, for whoever has to find out why.

use super::violation::Violation;
use crate::multi::{Interval, Message, Time};
use crate::paxos::NodeId;
use std::collections::VecDeque;

/// One thing that happened.
#[derive(Debug)]
struct Note {
    at: Time,
    nodes: [NodeId; 2],
    /// The slots that it is about; none if it is about none, or all.
    slots: Vec<Interval>,
    /// It says much and matters little: a heartbeat, and the like.
    is_chatter: bool,
    text: String,
}

/// All that happened lately, if anybody wants to know.
#[derive(Debug, Default)]
pub(super) struct Story {
    notes: Option<VecDeque<Note>>,
}

const NOTES_MAX: usize = 50_000;

impl Story {
    pub(super) fn new(told: bool) -> Self {
        Self { notes: told.then(VecDeque::new) }
    }

    /// Something happened at a node, or between two.
    pub(super) fn tell(&mut self, at: Time, nodes: [NodeId; 2], text: impl FnOnce() -> String) {
        if let Some(notes) = &mut self.notes {
            notes.push_back(Note { at, nodes, slots: Vec::new(), is_chatter: false, text: text() });
            if notes.len() > NOTES_MAX {
                notes.pop_front();
            }
        }
    }

    /// A message left.
    pub(super) fn tell_message(&mut self, at: Time, from: NodeId, to: NodeId, message: &Message) {
        let Some(notes) = &mut self.notes else { return };
        let (slots, is_chatter) = match message {
            Message::Accept { first, values, .. } => {
                let count = u64::try_from(values.len()).unwrap_or(u64::MAX).saturating_sub(1);
                (vec![Interval::new(*first, first.plus(count))], false)
            }
            Message::Accepted { slots, .. } => (slots.clone(), false),
            Message::Prepare { .. } | Message::Promise { .. } | Message::Nack { .. } => (Vec::new(), false),
            _ => (Vec::new(), true),
        };
        let text = format!("n{from} -> n{to}  {message:?}");
        notes.push_back(Note { at, nodes: [from, to], slots, is_chatter, text });
        if notes.len() > NOTES_MAX {
            notes.pop_front();
        }
    }

    /// The last `count` lines that have to do with `violation`.
    pub(super) fn about(&self, violation: &Violation, count: usize) -> Vec<String> {
        let Some(notes) = &self.notes else { return Vec::new() };
        let concerns = |note: &&Note| {
            let of_node = violation.node().is_none_or(|node| note.nodes.contains(&node));
            let of_slot = match violation.slot() {
                Some(slot) => note.slots.is_empty() || note.slots.iter().any(|slots| slots.contains(slot)),
                None => true,
            };
            let told = violation.slot().is_some() && !note.slots.is_empty();
            of_slot && (of_node || told) && !note.is_chatter
        };
        let mut lines: Vec<String> = notes.iter().rev().filter(concerns).take(count).map(line).collect();
        lines.reverse();
        lines
    }

    /// Everything.
    pub(super) fn all(&self) -> Vec<String> {
        self.notes.iter().flatten().map(line).collect()
    }
}

fn line(note: &Note) -> String {
    const CHARACTERS_MAX: usize = 220;
    let nanos = note.at.as_nanos();
    let text: String = note.text.chars().take(CHARACTERS_MAX).collect();
    format!("{:>5}.{:06} s  {text}", nanos / 1_000_000_000, nanos / 1_000 % 1_000_000)
}
