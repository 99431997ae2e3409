//! The service: keys and values, by the conventions of HTTP; and what operators ask for.
//!
//! Any node takes any request; what needs the leader is forwarded to it, by the library. What a call came to is said in a
//! status code; see [`error`] for those that went wrong.

mod error;
pub(crate) mod fuzzing;
pub(crate) mod headers;
pub(crate) mod locks;
pub(crate) mod members;
pub(crate) mod operators;
pub(crate) mod sessions;
pub(crate) mod status;

use crate::condition::{Condition, Version};
use crate::store::{Command, Entry, Reply, Store, Terms};
use actix_web::http::header::{ETag, EntityTag};
use actix_web::{HttpRequest, HttpResponse, web};
use error::HttpError;
use headers::{Key, Once};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use synod::{ClusterId, Handle, ProposeError, ReadError};

/// The longest key, in bytes.
pub(crate) const KEY_BYTES_MAX: usize = 1024;
/// The most entries in one list.
const LIST_ENTRIES_MAX: usize = 1000;
/// A list ends after the entry that brings its values to this many bytes.
const LIST_BYTES_MAX: usize = 1 << 20;
/// The longest request in JSON.
const JSON_BYTES_MAX: usize = 256 << 10;

/// What a request is answered from.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) handle: Handle<Store>,
    pub(crate) cluster: ClusterId,
    /// No longer value is read to its end; whether a shorter one fits a batch with its key is for the node to say.
    pub(crate) value_bytes_max: usize,
}

impl Service {
    /// Proposes `command`; where it has a place in a session, it is applied once, however often it comes.
    async fn propose(&self, Once(stamp): Once, command: Command) -> Result<Reply, ProposeError> {
        match stamp {
            Some(stamp) => self.handle.propose_in_session(stamp, command).await,
            None => self.handle.propose(command).await,
        }
    }
}

/// Everything that the service answers.
pub(crate) fn routes(config: &mut web::ServiceConfig) {
    let entry = web::resource("/kv/{key:.*}")
        .route(web::get().to(get))
        .route(web::head().to(get))
        .route(web::put().to(put))
        .route(web::delete().to(delete));
    let lock = web::resource("/locks/{name:.*}")
        .route(web::get().to(locks::holder))
        .route(web::post().to(locks::acquire))
        .route(web::put().to(locks::renew))
        .route(web::delete().to(locks::release));
    let allowing =
        |allow| web::to(move || async move { HttpResponse::from_error(HttpError::Method { allow }) });
    let resource = |path: &str, allow, route: actix_web::Route| {
        web::resource(path.to_owned()).route(route).default_service(allowing(allow))
    };
    config
        .service(entry.default_service(allowing("GET, HEAD, PUT, DELETE")))
        .service(resource("/kv", "GET", web::get().to(list)))
        .service(lock.default_service(allowing("GET, POST, PUT, DELETE")))
        .service(resource("/sessions", "POST", web::post().to(sessions::open)))
        .service(resource("/status", "GET", web::get().to(status::status)))
        .service(resource("/health", "GET", web::get().to(status::health)))
        .service(
            resource("/members", "GET, POST", web::get().to(operators::members))
                .route(web::post().to(operators::change)),
        )
        .service(resource("/transfer", "POST", web::post().to(operators::transfer)))
        .service(resource("/snapshot", "POST", web::post().to(operators::snapshot)))
        .default_service(web::to(|| async { HttpResponse::from_error(HttpError::NoSuchPath) }));
}

async fn put(
    service: web::Data<Service>,
    Key(key): Key,
    terms: Terms,
    once: Once,
    body: web::Payload,
) -> Result<HttpResponse, HttpError> {
    let bytes_max = service.value_bytes_max;
    let value = body.to_bytes_limited(bytes_max).await.map_err(|_| HttpError::TooLarge { bytes_max })?;
    let value = value.map_err(|error| HttpError::BadRequest(format!("the value was cut off: {error}")))?;
    match service.propose(once, Command::Put { key, value, terms }).await? {
        Reply::Stored { version, created: true } => {
            Ok(HttpResponse::Created().insert_header(etag(version)).finish())
        }
        Reply::Stored { version, .. } => Ok(HttpResponse::Ok().insert_header(etag(version)).finish()),
        reply => Err(reply.into()),
    }
}

/// How fresh a read has to be.
#[derive(Debug, Deserialize)]
struct GetQuery {
    /// What this node has applied will do.
    #[serde(default)]
    stale: bool,
}

async fn get(
    service: web::Data<Service>,
    Key(key): Key,
    condition: Condition,
    request: HttpRequest,
) -> Result<HttpResponse, HttpError> {
    let GetQuery { stale } = query(&request)?;
    let entry = read(&service.handle, stale, move |store| store.get(&key).cloned()).await?;
    let Some(Entry { value, version }) = entry else { return Err(HttpError::NoSuchKey) };
    if !condition.matches(Some(version)) {
        return Err(HttpError::PreconditionFailed { current: Some(version) });
    }
    if !condition.is_new(Some(version)) {
        return Ok(HttpResponse::NotModified().insert_header(etag(version)).finish());
    }
    Ok(HttpResponse::Ok().insert_header(etag(version)).content_type("application/octet-stream").body(value))
}

async fn delete(
    service: web::Data<Service>,
    Key(key): Key,
    terms: Terms,
    once: Once,
) -> Result<HttpResponse, HttpError> {
    match service.propose(once, Command::Delete { key, terms }).await? {
        Reply::Deleted => Ok(HttpResponse::NoContent().finish()),
        reply => Err(reply.into()),
    }
}

/// What to list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    #[serde(default)]
    prefix: String,
    /// Go on after this key.
    after: Option<String>,
    limit: Option<usize>,
    #[serde(default)]
    stale: bool,
}

#[derive(Debug, Default, Serialize)]
struct ListBody {
    entries: Vec<ListEntry>,
    /// Whether there are more: ask again with `after` as the last key.
    more: bool,
}

#[derive(Debug, Serialize)]
struct ListEntry {
    key: String,
    version: String,
    /// `null` where it is no text in UTF-8.
    value: Option<String>,
}

async fn list(service: web::Data<Service>, request: HttpRequest) -> Result<HttpResponse, HttpError> {
    let ListQuery { prefix, after, limit, stale } = query(&request)?;
    let limit = limit.unwrap_or(100).min(LIST_ENTRIES_MAX);
    let list = read(&service.handle, stale, move |store| {
        let mut list = ListBody::default();
        let mut bytes = 0;
        for (key, Entry { value, version }) in store.list(&prefix, after.as_deref()) {
            list.more = list.entries.len() == limit || bytes >= LIST_BYTES_MAX;
            if list.more {
                break;
            }
            bytes += value.len();
            let value = std::str::from_utf8(value).ok().map(str::to_owned);
            list.entries.push(ListEntry { key: key.clone(), version: version.to_string(), value });
        }
        list
    });
    Ok(HttpResponse::Ok().json(list.await?))
}

/// Linearizable, if not said otherwise.
async fn read<R: Send + 'static>(
    handle: &Handle<Store>,
    stale: bool,
    read: impl FnOnce(&Store) -> R + Send + 'static,
) -> Result<R, ReadError> {
    if stale { handle.read_stale(read).await } else { handle.read(read).await }
}

fn query<T: DeserializeOwned>(request: &HttpRequest) -> Result<T, HttpError> {
    let query = web::Query::from_query(request.query_string());
    query.map(web::Query::into_inner).map_err(|error| HttpError::BadRequest(error.to_string()))
}

/// The request in a body; an empty one is an empty object.
async fn json<T: DeserializeOwned>(body: web::Payload) -> Result<T, HttpError> {
    let body = body.to_bytes_limited(JSON_BYTES_MAX).await;
    let body = body.map_err(|_| HttpError::BadRequest("the request is too long".into()))?;
    let body = body.map_err(|error| HttpError::BadRequest(format!("the request was cut off: {error}")))?;
    let object = if body.is_empty() { b"{}" } else { &body[..] };
    serde_json::from_slice(object)
        .map_err(|error| HttpError::BadRequest(format!("the request is malformed: {error}")))
}

fn etag(version: Version) -> ETag {
    ETag(EntityTag::new_strong(version.to_string()))
}
