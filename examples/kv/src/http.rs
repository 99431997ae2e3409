//! The service: keys and values, by the conventions of HTTP.
//!
//! Any node takes any request; what changes the state is forwarded to the leader, by the library. What a call came to is
//! said in a status code; see [`error`] for those that went wrong.

mod error;

use crate::condition::{Condition, Tags, Version};
use crate::store::{Command, Entry, Reply, Store};
use actix_web::dev::Payload;
use actix_web::http::header::{ETag, EntityTag, Header, IF_MATCH, IF_NONE_MATCH, IfMatch, IfNoneMatch};
use actix_web::{FromRequest, HttpRequest, HttpResponse, web};
use error::HttpError;
use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};
use std::future::{Ready, ready};
use synod::multi::{MemberKind, ProposerState};
use synod::{ClusterId, Handle};

/// The longest key, in bytes.
pub(crate) const KEY_BYTES_MAX: usize = 1024;
/// The most entries in one list.
const LIST_ENTRIES_MAX: usize = 1000;
/// A list ends after the entry that brings its values to this many bytes.
const LIST_BYTES_MAX: usize = 1 << 20;

/// What a request is answered from.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) handle: Handle<Store>,
    pub(crate) cluster: ClusterId,
    /// No longer value is read to its end; whether a shorter one fits a batch with its key is for the node to say.
    pub(crate) value_bytes_max: usize,
}

/// Everything that the service answers.
pub(crate) fn routes(config: &mut web::ServiceConfig) {
    let entry = web::resource("/kv/{key:.*}")
        .route(web::get().to(get))
        .route(web::head().to(get))
        .route(web::put().to(put))
        .route(web::delete().to(delete));
    let allowing =
        |allow| web::to(move || async move { HttpResponse::from_error(HttpError::Method { allow }) });
    config
        .service(entry.default_service(allowing("GET, HEAD, PUT, DELETE")))
        .service(web::resource("/kv").route(web::get().to(list)).default_service(allowing("GET")))
        .service(web::resource("/status").route(web::get().to(status)).default_service(allowing("GET")))
        .service(web::resource("/health").route(web::get().to(health)).default_service(allowing("GET")))
        .default_service(web::to(|| async { HttpResponse::from_error(HttpError::NoSuchPath) }));
}

async fn put(
    service: web::Data<Service>,
    Key(key): Key,
    condition: Condition,
    body: web::Payload,
) -> Result<HttpResponse, HttpError> {
    let bytes_max = service.value_bytes_max;
    let value = body.to_bytes_limited(bytes_max).await.map_err(|_| HttpError::TooLarge { bytes_max })?;
    let value = value.map_err(|error| HttpError::BadRequest(format!("the value was cut off: {error}")))?;
    match service.handle.propose(Command::Put { key, value, condition }).await? {
        Reply::Stored { version, created: true } => {
            Ok(HttpResponse::Created().insert_header(etag(version)).finish())
        }
        Reply::Stored { version, .. } => Ok(HttpResponse::Ok().insert_header(etag(version)).finish()),
        reply => Err(reply.into()),
    }
}

async fn get(
    service: web::Data<Service>,
    Key(key): Key,
    condition: Condition,
) -> Result<HttpResponse, HttpError> {
    let entry = service.handle.read(move |store| store.get(&key).cloned()).await?;
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
    condition: Condition,
) -> Result<HttpResponse, HttpError> {
    match service.handle.propose(Command::Delete { key, condition }).await? {
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
    let query = web::Query::<ListQuery>::from_query(request.query_string());
    let ListQuery { prefix, after, limit } =
        query.map_err(|error| HttpError::BadRequest(error.to_string()))?.0;
    let limit = limit.unwrap_or(100).min(LIST_ENTRIES_MAX);
    let list = service.handle.read(move |store| {
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

/// What a node knows of itself.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct StatusBody {
    pub(crate) id: u64,
    pub(crate) cluster: String,
    /// `leader`, `candidate`, `follower`, `observer`, or `forming` until the cluster has its first members.
    pub(crate) role: String,
    pub(crate) leader: Option<u64>,
    /// The leader's, as `NUMBER.NODE`.
    pub(crate) proposal_id: Option<String>,
    pub(crate) chosen: u64,
    pub(crate) applied: u64,
    pub(crate) members: Vec<MemberBody>,
    /// Of the applied state, in hexadecimal.
    pub(crate) digest: String,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct MemberBody {
    pub(crate) id: u64,
    pub(crate) address: String,
    pub(crate) kind: String,
}

async fn status(service: web::Data<Service>) -> Result<HttpResponse, HttpError> {
    let status = service.handle.status().await?;
    let digest = service.handle.read_stale(Store::digest).await?;
    let votes = status.membership.as_ref().map(|membership| membership.votes(status.node));
    let role = match (status.proposer, votes) {
        (ProposerState::Leading { .. }, _) => "leader",
        (ProposerState::Preparing { .. }, _) => "candidate",
        (_, Some(true)) => "follower",
        (_, Some(false)) => "observer",
        // It joined, and follows a cluster whose members it has not learned.
        (_, None) if status.leader.is_some() => "observer",
        (_, None) => "forming",
    };
    let members = status.membership.iter().flat_map(|membership| membership.members());
    let members = members.map(|(id, member)| MemberBody {
        id: id.get(),
        address: member.address.clone(),
        kind: match member.kind {
            MemberKind::Voter => "voter",
            MemberKind::Witness => "witness",
            MemberKind::Observer => "observer",
        }
        .into(),
    });
    Ok(HttpResponse::Ok().json(StatusBody {
        id: status.node.get(),
        cluster: service.cluster.to_string(),
        role: role.into(),
        leader: status.leader.map(|leader| leader.node.get()),
        proposal_id: status.leader.map(|leader| leader.to_string()),
        chosen: status.chosen_through.get(),
        applied: status.applied_through.get(),
        members: members.collect(),
        digest: format!("{digest:016x}"),
    }))
}

/// Whether requests are well placed here: a leader is known, and nothing is wrong with this node.
async fn health(service: web::Data<Service>) -> Result<HttpResponse, HttpError> {
    let status = service.handle.status().await?;
    match (status.abstains, status.leader) {
        (Some(reason), _) => Err(HttpError::Abstains(reason)),
        (None, None) => Err(HttpError::NoLeader),
        (None, Some(_)) => Ok(HttpResponse::Ok().json(serde_json::json!({ "status": "ok" }))),
    }
}

fn etag(version: Version) -> ETag {
    ETag(EntityTag::new_strong(version.to_string()))
}

/// The key in a request's path: 1 to 1024 bytes, percent-encoded UTF-8.
struct Key(String);

impl FromRequest for Key {
    type Error = HttpError;
    type Future = Ready<Result<Self, HttpError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        // From the path as it came: the router's own decoding would take what is not UTF-8 for something else.
        let encoded = request.uri().path().strip_prefix("/kv/").unwrap_or_default();
        ready(match percent_decode_str(encoded).decode_utf8() {
            Ok(key) if (1..=KEY_BYTES_MAX).contains(&key.len()) => Ok(Self(key.into_owned())),
            Ok(key) => {
                Err(HttpError::BadRequest(format!("a key has 1 to {KEY_BYTES_MAX} bytes, not {}", key.len())))
            }
            Err(_) => Err(HttpError::BadRequest("a key is UTF-8, percent-encoded".into())),
        })
    }
}

impl FromRequest for Condition {
    type Error = HttpError;
    type Future = Ready<Result<Self, HttpError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(condition(request))
    }
}

/// Reads `If-Match` and `If-None-Match`. A tag that is none of ours matches nothing; a header without any tag is an error.
fn condition(request: &HttpRequest) -> Result<Condition, HttpError> {
    let malformed =
        |name| HttpError::BadRequest(format!("{name} is `*` or a list of \"VERSION\", in double quotes"));
    let mut condition = Condition::default();
    if request.headers().contains_key(IF_MATCH) {
        condition.if_match = Some(match IfMatch::parse(request).map_err(|_| malformed(IF_MATCH))? {
            IfMatch::Any => Tags::Any,
            IfMatch::Items(tags) if tags.is_empty() => return Err(malformed(IF_MATCH)),
            // The strong comparison: a weak tag never matches.
            IfMatch::Items(tags) => versions(tags.iter().filter(|tag| !tag.weak)),
        });
    }
    if request.headers().contains_key(IF_NONE_MATCH) {
        condition.if_none_match =
            Some(match IfNoneMatch::parse(request).map_err(|_| malformed(IF_NONE_MATCH))? {
                IfNoneMatch::Any => Tags::Any,
                IfNoneMatch::Items(tags) if tags.is_empty() => return Err(malformed(IF_NONE_MATCH)),
                // The weak comparison: a weak tag is as good as a strong one.
                IfNoneMatch::Items(tags) => versions(tags.iter()),
            });
    }
    Ok(condition)
}

fn versions<'a>(tags: impl Iterator<Item = &'a EntityTag>) -> Tags {
    Tags::Versions(tags.filter_map(|tag| tag.tag().parse().ok()).collect())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use actix_web::http::header::HeaderName;
    use actix_web::test::TestRequest;
    use synod::{Position, Slot};

    fn read(name: HeaderName, value: &str) -> Result<Condition, HttpError> {
        condition(&TestRequest::default().insert_header((name, value)).to_http_request())
    }

    fn only(slots: &[u64]) -> Option<Tags> {
        let version = |slot: &u64| Version(Position { slot: Slot::new(*slot), index: 0 });
        Some(Tags::Versions(slots.iter().map(version).collect()))
    }

    #[test]
    fn a_request_without_conditions_always_holds() {
        assert_eq!(condition(&TestRequest::default().to_http_request()).unwrap(), Condition::default());
    }

    #[test]
    fn a_list_of_tags_names_each_version() {
        assert_eq!(read(IF_MATCH, r#""7", "8""#).unwrap().if_match, only(&[7, 8]));
        assert_eq!(read(IF_MATCH, "*").unwrap().if_match, Some(Tags::Any));
        assert_eq!(read(IF_NONE_MATCH, "*").unwrap().if_none_match, Some(Tags::Any));
    }

    #[test]
    fn a_weak_tag_matches_only_where_weakness_is_good_enough() {
        assert_eq!(read(IF_MATCH, r#"W/"7", "8""#).unwrap().if_match, only(&[8]));
        assert_eq!(read(IF_NONE_MATCH, r#"W/"7", "8""#).unwrap().if_none_match, only(&[7, 8]));
    }

    #[test]
    fn a_tag_of_another_server_matches_nothing() {
        assert_eq!(read(IF_MATCH, r#""an-md5-sum""#).unwrap().if_match, only(&[]));
    }

    #[test]
    fn a_header_without_a_tag_is_refused() {
        for value in ["", "7", ",", "\"7"] {
            assert!(matches!(read(IF_MATCH, value), Err(HttpError::BadRequest(_))), "{value:?}");
        }
    }
}
