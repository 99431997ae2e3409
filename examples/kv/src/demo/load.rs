//! The load of the long story: clients that create rows, one after the other, until they are told to stop.
//!
//! Each row is created under a key of its own, only if it is not there, and in its client's session. So a row that is lost can
//! be told, and so can one that is applied twice: its second creation is refused.

use super::PAUSE;
use crate::client::{Client, ClientError, WriteOptions};
use crate::cluster::{HANG, hangs};
use crate::failure::Failure;
use crate::retry::{Patient, Session};
use crate::table::Table;
use bytes::Bytes;
use futures::future::try_join_all;
use serde::Deserialize;
use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};
use tokio::time::{sleep, timeout};

/// Clients that write at the same time.
const CLIENTS: usize = 8;
/// How long a client rests between two rows: the story is about what happens to them, not about how many there are.
const REST: Duration = Duration::from_millis(4);
/// How long a client waits for a node. With the key of the session, another node may be asked for the same write.
const PATIENCE: Duration = Duration::from_secs(1);
/// What is read back at a time.
const PAGE: usize = 1000;

/// What has been written so far, and where to.
pub(super) struct Load<'a> {
    client: Client,
    rows: Vec<(&'a str, &'a Bytes)>,
    /// The HTTP addresses of the nodes that are there now.
    nodes: RefCell<Vec<String>>,
    /// The number of the next row.
    next: Cell<usize>,
    acknowledged: Cell<usize>,
    applied_twice: Cell<usize>,
    /// Tries beyond the first.
    retries: Cell<usize>,
    is_over: Cell<bool>,
    /// When the write was sent that was sent last of those that are acknowledged.
    sent_last: Cell<Instant>,
    answered_last: Cell<Instant>,
    longest_pause: Cell<Duration>,
}

impl<'a> Load<'a> {
    pub(super) fn new(client: Client, table: &'a Table) -> Self {
        let now = Instant::now();
        Self {
            client,
            rows: table.iter().map(|(key, value)| (key.as_str(), value)).collect(),
            nodes: RefCell::default(),
            next: Cell::new(0),
            acknowledged: Cell::new(0),
            applied_twice: Cell::new(0),
            retries: Cell::new(0),
            is_over: Cell::new(false),
            sent_last: Cell::new(now),
            answered_last: Cell::new(now),
            longest_pause: Cell::new(Duration::ZERO),
        }
    }

    /// From now on, these nodes are written to.
    pub(super) fn move_to(&self, nodes: Vec<String>) {
        self.nodes.replace(nodes);
    }

    /// Writes until [`Load::finish`]. Ends with an error if a write is refused for good, or if nobody takes it.
    pub(super) async fn run(&self) -> Result<(), Failure> {
        self.answered_last.set(Instant::now());
        try_join_all((0..CLIENTS).map(|number| self.write(number))).await?;
        Ok(())
    }

    /// No client begins another row.
    pub(super) fn finish(&self) {
        self.is_over.set(true);
    }

    /// One client.
    async fn write(&self, number: usize) -> Result<(), Failure> {
        let patient = Patient { client: self.client.clone(), nodes: self.nodes.borrow().clone() };
        let mut session = patient.open_session().await?;
        while !self.is_over.get() {
            let row = self.next.replace(self.next.get() + 1);
            let created = self.create(number, row, &mut session);
            timeout(HANG, created).await.map_err(|_| hangs("the load"))??;
            sleep(REST).await;
        }
        Ok(())
    }

    /// Sends a row until a node says that it is there.
    async fn create(&self, number: usize, row: usize, session: &mut Session) -> Result<(), ClientError> {
        let (key, value) = self.row(row);
        let idempotency_key = Some(session.next_key());
        let options = WriteOptions { if_absent: true, idempotency_key, ..WriteOptions::default() };
        for turn in number.. {
            let node = self.node(turn);
            let sent = Instant::now();
            let put = self.client.put(&node, &key, value.clone(), &options);
            match timeout(PATIENCE, put).await {
                Ok(Ok(_)) => {
                    self.count(sent);
                    break;
                }
                Ok(Err(error)) if error.is("precondition_failed") => {
                    self.applied_twice.set(self.applied_twice.get() + 1);
                    self.count(sent);
                    break;
                }
                Ok(Err(error)) if !error.may_pass() => return Err(error),
                _ => sleep(PAUSE).await,
            }
            self.retries.set(self.retries.get() + 1);
        }
        Ok(())
    }

    fn node(&self, turn: usize) -> String {
        let nodes = self.nodes.borrow();
        nodes.get(turn % nodes.len().max(1)).cloned().unwrap_or_default()
    }

    fn count(&self, sent: Instant) {
        let now = Instant::now();
        self.acknowledged.set(self.acknowledged.get() + 1);
        self.sent_last.set(self.sent_last.get().max(sent));
        self.longest_pause.set(self.longest_pause.get().max(now - self.answered_last.replace(now)));
    }

    /// The table, over and over, each time under other keys.
    fn row(&self, row: usize) -> (String, &Bytes) {
        let (key, value) = self.rows[row % self.rows.len()];
        (format!("{:06}/{key}", row / self.rows.len()), value)
    }

    /// How long after `event` the first write was acknowledged that was sent later.
    pub(super) async fn recovery(&self, event: Instant) -> Result<Duration, Failure> {
        while self.sent_last.get() <= event {
            sleep(Duration::from_millis(1)).await;
        }
        Ok(event.elapsed())
    }

    pub(super) fn acknowledged(&self) -> usize {
        self.acknowledged.get()
    }

    pub(super) fn applied_twice(&self) -> usize {
        self.applied_twice.get()
    }

    pub(super) fn retries(&self) -> usize {
        self.retries.get()
    }

    /// The longest time without an acknowledgement.
    pub(super) fn longest_pause(&self) -> Duration {
        self.longest_pause.get()
    }

    /// How many rows cannot be read back as they were acknowledged.
    pub(super) async fn lost(&self) -> Result<usize, Failure> {
        let patient = Patient { client: self.client.clone(), nodes: self.nodes.borrow().clone() };
        let (mut row, mut lost, mut after) = (0, 0, None);
        loop {
            let page = patient.call(async |client, node| client.list(node, "", after.as_deref(), PAGE).await);
            let page: Page = serde_json::from_slice(&page.await?.body)
                .map_err(|error| Failure::Failed(format!("the list is malformed: {error}")))?;
            for entry in &page.entries {
                // Rows were numbered in the order of their keys: those that are passed over are not there.
                while row < self.next.get() && self.row(row).0 < entry.key {
                    (row, lost) = (row + 1, lost + 1);
                }
                if row < self.next.get() {
                    let (key, value) = self.row(row);
                    lost += usize::from(entry.key == key && entry.value.as_bytes() != value);
                    row += usize::from(entry.key == key);
                }
            }
            match page.entries.last() {
                Some(last) if page.more => after = Some(last.key.clone()),
                _ => return Ok(lost + self.next.get() - row),
            }
        }
    }
}

#[derive(Deserialize)]
struct Page {
    entries: Vec<PageEntry>,
    more: bool,
}

#[derive(Deserialize)]
struct PageEntry {
    key: String,
    value: String,
}
