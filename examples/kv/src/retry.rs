//! Calls that are made again: at one node after the other, until one answers.
//!
//! To ask again is harmless for a read. A write needs a [`Session`] for it: the first try may have been applied, though its
//! answer was lost, and the key tells the cluster that the second one is the same write.

use crate::client::{Client, ClientError};
use std::time::{Duration, Instant};
use tokio::time::{sleep, timeout};

/// For so long, calls are made again.
const PATIENCE: Duration = Duration::from_secs(10);
/// So long, one node is waited for: longer than an election.
const TRY: Duration = Duration::from_secs(3);
/// How long to wait before the next node is asked.
const PAUSE: Duration = Duration::from_millis(50);

/// A client that does not give up at once.
#[derive(Clone, Debug)]
pub(crate) struct Patient {
    pub(crate) client: Client,
    /// The HTTP addresses of some nodes, or of one.
    pub(crate) nodes: Vec<String>,
}

impl Patient {
    /// Makes a call until a node answers it, for ten seconds at most. Only for what may be done twice.
    pub(crate) async fn call<T>(
        &self,
        mut call: impl AsyncFnMut(&Client, &str) -> Result<T, ClientError>,
    ) -> Result<T, ClientError> {
        let begin = Instant::now();
        for node in self.nodes.iter().cycle() {
            let error = match timeout(TRY, call(&self.client, node)).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) => error,
                Err(_) => ClientError::Deadline { node: node.clone(), deadline: TRY },
            };
            if !error.may_pass() || begin.elapsed() + PAUSE >= PATIENCE {
                return Err(error);
            }
            sleep(PAUSE).await;
        }
        Err(ClientError::Nowhere)
    }

    /// Opens a session for writes that are sent again. One that was opened without anybody hearing of it expires.
    pub(crate) async fn open_session(&self) -> Result<Session, ClientError> {
        let id = self.call(async |client, node| client.open_session(node).await).await?;
        Ok(Session { id, serial: 0 })
    }
}

/// A session of one write at a time.
#[derive(Debug)]
pub(crate) struct Session {
    id: String,
    serial: u64,
}

impl Session {
    /// The `Idempotency-Key` of the next write, for all its tries. It says that all writes before are answered.
    pub(crate) fn next_key(&mut self) -> String {
        let answered = self.serial;
        self.serial += 1;
        format!("\"{}/{}\"; answered={answered}", self.id, self.serial)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::cell::Cell;

    fn patient(nodes: &[&str]) -> Patient {
        Patient { client: Client::default(), nodes: nodes.iter().map(|node| (*node).into()).collect() }
    }

    fn refused(status: u16) -> ClientError {
        let status = hyper::StatusCode::from_u16(status).unwrap();
        ClientError::Refused { node: "a:1".into(), status, error: String::new(), message: String::new() }
    }

    #[tokio::test]
    async fn what_one_node_cannot_do_now_the_next_is_asked_for() {
        let asked = Cell::new(0);
        let patient = patient(&["a:1", "b:1"]);
        let node = patient.call(async |_, node| {
            asked.set(asked.get() + 1);
            if node == "b:1" { Ok(node.to_owned()) } else { Err(refused(503)) }
        });
        assert_eq!(node.await.unwrap(), "b:1");
        assert_eq!(asked.get(), 2);
    }

    #[tokio::test]
    async fn a_refusal_for_good_is_not_asked_for_again() {
        let asked = Cell::new(0);
        let answer: Result<(), _> = patient(&["a:1", "b:1"])
            .call(async |_, _| {
                asked.set(asked.get() + 1);
                Err(refused(412))
            })
            .await;
        assert!(answer.is_err());
        assert_eq!(asked.get(), 1);
    }

    #[test]
    fn each_write_has_a_key_of_its_own_that_answers_those_before() {
        let mut session = Session { id: "120.3".into(), serial: 0 };
        assert_eq!(session.next_key(), "\"120.3/1\"; answered=0");
        assert_eq!(session.next_key(), "\"120.3/2\"; answered=1");
    }
}
