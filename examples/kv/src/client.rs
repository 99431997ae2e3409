//! The client: calls a node over connections that it keeps open.

use crate::http::members::{ChangeBody, MembersBody};
use crate::http::operators::{LeaderBody, SnapshotBody, TransferBody};
use crate::http::status::StatusBody;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::header::{ETAG, HeaderName, IF_MATCH, IF_NONE_MATCH};
use hyper::{Method, Request, StatusCode};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::time::Duration;

/// Longer than a node takes for a client's call, so that its answer is heard.
const DEADLINE: Duration = Duration::from_secs(10);
/// The same for an operator's call, for which a state may have to be written or fetched.
const OPERATOR_DEADLINE: Duration = Duration::from_secs(70);

/// All but the characters that RFC 3986 never wants encoded.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A client of the service; clones share their connections.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    connections: hyper_util::client::legacy::Client<HttpConnector, Full<Bytes>>,
}

/// A node's answer to a call that went well.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The version of the entry, where there is one.
    pub(crate) version: Option<String>,
    pub(crate) body: Bytes,
}

/// Why a call did not go well.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// The node did not do it, and said why.
    #[error("{node} answers {status}: {message}")]
    Refused { node: String, status: StatusCode, message: String },
    /// There is no such address.
    #[error("http://{node} is no address")]
    Address { node: String, source: hyper::http::Error },
    /// The node cannot be reached, or is gone.
    #[error("{node} does not answer")]
    Connection { node: String, source: Box<dyn std::error::Error + Send + Sync> },
    /// The node took too long.
    #[error("{node} does not answer within {deadline:?}")]
    Deadline { node: String, deadline: Duration },
    /// Whatever is at the address, it is no node.
    #[error("{node} does not speak this protocol")]
    Answer { node: String, source: serde_json::Error },
}

impl ClientError {
    /// Whether another try, at another node, may go better.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Self::Refused { status, .. } => {
                status.is_server_error() || *status == StatusCode::TOO_MANY_REQUESTS
            }
            Self::Connection { .. } | Self::Deadline { .. } => true,
            Self::Address { .. } | Self::Answer { .. } => false,
        }
    }
}

impl Default for Client {
    fn default() -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        Self {
            connections: hyper_util::client::legacy::Client::builder(TokioExecutor::new()).build(connector),
        }
    }
}

impl Client {
    /// Stores `value` under `key`.
    pub(crate) async fn put(
        &self,
        node: &str,
        key: &str,
        value: Bytes,
        if_match: Option<&str>,
        if_absent: bool,
    ) -> Result<Answer, ClientError> {
        let conditions = [(IF_MATCH, if_match), (IF_NONE_MATCH, if_absent.then_some("*"))];
        self.send(Method::PUT, node, &entry(key), conditions, value).await
    }

    /// The value under `key`; a `stale` one is what `node` has applied.
    pub(crate) async fn get(&self, node: &str, key: &str, stale: bool) -> Result<Answer, ClientError> {
        let path = format!("{}{}", entry(key), if stale { "?stale=true" } else { "" });
        self.send(Method::GET, node, &path, [], Bytes::new()).await
    }

    /// Forgets `key`.
    pub(crate) async fn delete(
        &self,
        node: &str,
        key: &str,
        if_match: Option<&str>,
    ) -> Result<Answer, ClientError> {
        self.send(Method::DELETE, node, &entry(key), [(IF_MATCH, if_match)], Bytes::new()).await
    }

    /// Up to `limit` entries whose keys begin with `prefix`, as JSON.
    pub(crate) async fn list(&self, node: &str, prefix: &str, limit: usize) -> Result<Answer, ClientError> {
        let path = format!("/kv?prefix={}&limit={limit}", utf8_percent_encode(prefix, RESERVED));
        self.send(Method::GET, node, &path, [], Bytes::new()).await
    }

    /// What `node` knows of itself.
    pub(crate) async fn status(&self, node: &str) -> Result<StatusBody, ClientError> {
        let answer = self.send(Method::GET, node, "/status", [], Bytes::new()).await?;
        read(node, &answer)
    }

    /// The members as `node` knows them.
    pub(crate) async fn members(&self, node: &str) -> Result<MembersBody, ClientError> {
        let answer = self.send(Method::GET, node, "/members", [], Bytes::new()).await?;
        read(node, &answer)
    }

    /// Changes the members; gives those in force then.
    pub(crate) async fn change(&self, node: &str, change: &ChangeBody) -> Result<MembersBody, ClientError> {
        self.operate(node, "/members", change).await
    }

    /// Hands the lead over.
    pub(crate) async fn transfer(&self, node: &str, to: Option<u64>) -> Result<LeaderBody, ClientError> {
        self.operate(node, "/transfer", &TransferBody { to }).await
    }

    /// Takes a snapshot on `node`.
    pub(crate) async fn snapshot(&self, node: &str) -> Result<SnapshotBody, ClientError> {
        self.operate(node, "/snapshot", &serde_json::json!({})).await
    }

    async fn operate<T: DeserializeOwned>(
        &self,
        node: &str,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        let body = serde_json::json!(body).to_string();
        let answer = self.send_within(OPERATOR_DEADLINE, Method::POST, node, path, [], body.into()).await?;
        read(node, &answer)
    }

    /// Goes well while `node` can serve.
    pub(crate) async fn health(&self, node: &str) -> Result<Answer, ClientError> {
        self.send(Method::GET, node, "/health", [], Bytes::new()).await
    }

    async fn send<const N: usize>(
        &self,
        method: Method,
        node: &str,
        path: &str,
        headers: [(HeaderName, Option<&str>); N],
        body: Bytes,
    ) -> Result<Answer, ClientError> {
        self.send_within(DEADLINE, method, node, path, headers, body).await
    }

    async fn send_within<const N: usize>(
        &self,
        deadline: Duration,
        method: Method,
        node: &str,
        path: &str,
        headers: [(HeaderName, Option<&str>); N],
        body: Bytes,
    ) -> Result<Answer, ClientError> {
        let mut request = Request::builder().method(method).uri(format!("http://{node}{path}"));
        for (name, value) in headers {
            if let Some(value) = value {
                request = request.header(name, value);
            }
        }
        let request = request
            .body(Full::new(body))
            .map_err(|source| ClientError::Address { node: node.into(), source })?;
        tokio::time::timeout(deadline, self.exchange(node, request))
            .await
            .unwrap_or_else(|_| Err(ClientError::Deadline { node: node.into(), deadline }))
    }

    async fn exchange(&self, node: &str, request: Request<Full<Bytes>>) -> Result<Answer, ClientError> {
        let gone = |source| ClientError::Connection { node: node.into(), source };
        let (head, body) =
            self.connections.request(request).await.map_err(|error| gone(error.into()))?.into_parts();
        let body = body.collect().await.map_err(|error| gone(error.into()))?.to_bytes();
        if !head.status.is_success() {
            return Err(ClientError::Refused {
                node: node.into(),
                status: head.status,
                message: message(&body),
            });
        }
        let version =
            head.headers.get(ETAG).and_then(|tag| tag.to_str().ok()).map(|tag| tag.trim_matches('"').into());
        Ok(Answer { version, body })
    }
}

fn read<T: DeserializeOwned>(node: &str, answer: &Answer) -> Result<T, ClientError> {
    serde_json::from_slice(&answer.body).map_err(|source| ClientError::Answer { node: node.into(), source })
}

fn entry(key: &str) -> String {
    format!("/kv/{}", utf8_percent_encode(key, RESERVED))
}

/// What the node says in its error, or whatever another server said.
fn message(body: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Body {
        message: String,
    }
    serde_json::from_slice(body)
        .map_or_else(|_| String::from_utf8_lossy(body).into_owned(), |body: Body| body.message)
}
