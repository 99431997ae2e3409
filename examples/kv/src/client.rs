//! The client: calls a node over connections that it keeps open.

use crate::http::headers::{FENCING_TOKEN, IDEMPOTENCY_KEY};
use crate::http::locks::{AcquireBody, HolderBody, TokenBody};
use crate::http::members::{ChangeBody, MembersBody};
use crate::http::operators::{LeaderBody, SnapshotBody, TransferBody};
use crate::http::sessions::SessionBody;
use crate::http::status::StatusBody;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::header::{ETAG, HeaderName, IF_MATCH, IF_NONE_MATCH};
use hyper::{Method, Request, StatusCode};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, PercentEncode, utf8_percent_encode};
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

/// What a write says beside its key and value.
#[derive(Clone, Debug, Default)]
pub(crate) struct WriteOptions {
    /// Only if this is the present version.
    pub(crate) if_match: Option<String>,
    /// Only if there is no such key.
    pub(crate) if_absent: bool,
    /// Only while the acquisition of this token holds its lock.
    pub(crate) fence: Option<u64>,
    /// What makes a repeat harmless.
    pub(crate) idempotency_key: Option<String>,
}

impl WriteOptions {
    fn headers(&self) -> Headers {
        let pairs = [
            (IF_MATCH, self.if_match.as_ref().map(|version| format!("\"{version}\""))),
            (IF_NONE_MATCH, self.if_absent.then(|| "*".to_owned())),
            (HeaderName::from_static(FENCING_TOKEN), self.fence.map(|token| token.to_string())),
            (HeaderName::from_static(IDEMPOTENCY_KEY), self.idempotency_key.clone()),
        ];
        pairs.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }
}

type Headers = Vec<(HeaderName, String)>;

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
    /// The node did not do it, and said why: `error` is the word for programs, if it is one of ours.
    #[error("{node} answers {status}: {message}")]
    Refused { node: String, status: StatusCode, error: String, message: String },
    /// There is no such address.
    #[error("http://{node} is no address")]
    Address { node: String, source: hyper::http::Error },
    /// The node cannot be reached, or is gone.
    #[error("{node} does not answer")]
    Connection { node: String, source: Box<dyn std::error::Error + Send + Sync> },
    /// No node was named.
    #[error("no address of a node is given")]
    Nowhere,
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
                status.is_server_error()
                    || [StatusCode::TOO_MANY_REQUESTS, StatusCode::MISDIRECTED_REQUEST].contains(status)
            }
            Self::Connection { .. } | Self::Deadline { .. } => true,
            Self::Nowhere | Self::Address { .. } | Self::Answer { .. } => false,
        }
    }

    /// Whether a node refused with this word.
    pub(crate) fn is(&self, word: &str) -> bool {
        matches!(self, Self::Refused { error, .. } if error == word)
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
        options: &WriteOptions,
    ) -> Result<Answer, ClientError> {
        self.send(Method::PUT, node, &entry(key), options.headers(), value).await
    }

    /// The value under `key`; a `stale` one is what `node` has applied.
    pub(crate) async fn get(&self, node: &str, key: &str, stale: bool) -> Result<Answer, ClientError> {
        let path = format!("{}{}", entry(key), if stale { "?stale=true" } else { "" });
        self.ask(node, &path).await
    }

    /// Forgets `key`.
    pub(crate) async fn delete(
        &self,
        node: &str,
        key: &str,
        options: &WriteOptions,
    ) -> Result<Answer, ClientError> {
        self.send(Method::DELETE, node, &entry(key), options.headers(), Bytes::new()).await
    }

    /// Up to `limit` entries whose keys begin with `prefix`, from `after` on, as JSON.
    pub(crate) async fn list(
        &self,
        node: &str,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Answer, ClientError> {
        let after = after.map(|after| format!("&after={}", encoded(after))).unwrap_or_default();
        self.ask(node, &format!("/kv?prefix={}&limit={limit}{after}", encoded(prefix))).await
    }

    /// Opens a session; gives its id.
    pub(crate) async fn open_session(&self, node: &str) -> Result<String, ClientError> {
        let answer = self.send(Method::POST, node, "/sessions", Vec::new(), Bytes::new()).await?;
        Ok(read::<SessionBody>(node, &answer)?.session)
    }

    /// Takes a lock that nobody holds; gives the fencing token.
    pub(crate) async fn acquire(
        &self,
        node: &str,
        name: &str,
        wish: &AcquireBody,
    ) -> Result<u64, ClientError> {
        let body = serde_json::json!(wish).to_string();
        let answer = self.send(Method::POST, node, &lock(name), Vec::new(), body.into()).await?;
        Ok(read::<TokenBody>(node, &answer)?.token)
    }

    /// Who holds a lock, as `node` has applied.
    pub(crate) async fn holder(&self, node: &str, name: &str) -> Result<HolderBody, ClientError> {
        let answer = self.ask(node, &format!("{}?stale=true", lock(name))).await?;
        read(node, &answer)
    }

    /// Says that the holder of a lock is alive.
    pub(crate) async fn renew(&self, node: &str, name: &str, token: u64) -> Result<Answer, ClientError> {
        let options = WriteOptions { fence: Some(token), ..WriteOptions::default() };
        self.send(Method::PUT, node, &lock(name), options.headers(), Bytes::new()).await
    }

    /// Frees a lock.
    pub(crate) async fn release(&self, node: &str, name: &str, token: u64) -> Result<Answer, ClientError> {
        let options = WriteOptions { fence: Some(token), ..WriteOptions::default() };
        self.send(Method::DELETE, node, &lock(name), options.headers(), Bytes::new()).await
    }

    /// What `node` knows of itself.
    pub(crate) async fn status(&self, node: &str) -> Result<StatusBody, ClientError> {
        let answer = self.ask(node, "/status").await?;
        read(node, &answer)
    }

    /// The members as `node` knows them.
    pub(crate) async fn members(&self, node: &str) -> Result<MembersBody, ClientError> {
        let answer = self.ask(node, "/members").await?;
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
        let answer =
            self.send_within(OPERATOR_DEADLINE, Method::POST, node, path, Vec::new(), body.into()).await?;
        read(node, &answer)
    }

    /// Goes well while `node` can serve.
    pub(crate) async fn health(&self, node: &str) -> Result<Answer, ClientError> {
        self.ask(node, "/health").await
    }

    async fn ask(&self, node: &str, path: &str) -> Result<Answer, ClientError> {
        self.send(Method::GET, node, path, Vec::new(), Bytes::new()).await
    }

    async fn send(
        &self,
        method: Method,
        node: &str,
        path: &str,
        headers: Headers,
        body: Bytes,
    ) -> Result<Answer, ClientError> {
        self.send_within(DEADLINE, method, node, path, headers, body).await
    }

    async fn send_within(
        &self,
        deadline: Duration,
        method: Method,
        node: &str,
        path: &str,
        headers: Headers,
        body: Bytes,
    ) -> Result<Answer, ClientError> {
        let request = Request::builder().method(method).uri(format!("http://{node}{path}"));
        let request = headers.into_iter().fold(request, |request, (name, value)| request.header(name, value));
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
            let ErrorBody { error, message } = refusal(&body);
            return Err(ClientError::Refused { node: node.into(), status: head.status, error, message });
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
    format!("/kv/{}", encoded(key))
}

fn lock(name: &str) -> String {
    format!("/locks/{}", encoded(name))
}

fn encoded(text: &str) -> PercentEncode<'_> {
    utf8_percent_encode(text, RESERVED)
}

#[derive(serde::Deserialize)]
struct ErrorBody {
    error: String,
    message: String,
}

/// What the node says in its error, or whatever another server said.
fn refusal(body: &[u8]) -> ErrorBody {
    serde_json::from_slice(body).unwrap_or_else(|_| ErrorBody {
        error: String::new(),
        message: String::from_utf8_lossy(body).into_owned(),
    })
}
