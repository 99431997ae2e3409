//! What a request says outside of its body: the name in the path, conditions, a fencing token, an idempotency key.

use super::KEY_BYTES_MAX;
use super::error::HttpError;
use crate::condition::{Condition, Tags};
use crate::store::Terms;
use actix_web::dev::Payload;
use actix_web::http::header::{EntityTag, Header, IF_MATCH, IF_NONE_MATCH, IfMatch, IfNoneMatch};
use actix_web::{FromRequest, HttpRequest};
use percent_encoding::percent_decode_str;
use std::future::{Ready, ready};
use synod::lock::{FencingToken, NAME_BYTES_MAX};
use synod::multi::SessionStamp;

/// The acquisition of a lock under which a request is made.
pub(crate) const FENCING_TOKEN: &str = "fencing-token";
/// The place of a write in its client's session.
pub(crate) const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// The key in a request's path: 1 to 1024 bytes, percent-encoded UTF-8.
pub(super) struct Key(pub(super) String);

impl FromRequest for Key {
    type Error = HttpError;
    type Future = Ready<Result<Self, HttpError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(in_path(request, "/kv/", "a key", KEY_BYTES_MAX).map(Self))
    }
}

/// The name of a lock in a request's path: 1 to 256 bytes, percent-encoded UTF-8.
pub(super) struct LockName(pub(super) String);

impl FromRequest for LockName {
    type Error = HttpError;
    type Future = Ready<Result<Self, HttpError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(in_path(request, "/locks/", "the name of a lock", NAME_BYTES_MAX).map(Self))
    }
}

/// What follows `prefix` in the path as it came: the router's own decoding would take what is not UTF-8 for something else.
fn in_path(request: &HttpRequest, prefix: &str, what: &str, bytes_max: usize) -> Result<String, HttpError> {
    let encoded = request.uri().path().strip_prefix(prefix).unwrap_or_default();
    match percent_decode_str(encoded).decode_utf8() {
        Ok(text) if (1..=bytes_max).contains(&text.len()) => Ok(text.into_owned()),
        Ok(text) => {
            Err(HttpError::BadRequest(format!("{what} has 1 to {bytes_max} bytes, not {}", text.len())))
        }
        Err(_) => Err(HttpError::BadRequest(format!("{what} is UTF-8, percent-encoded"))),
    }
}

/// `Fencing-Token`: a number, if there is one.
pub(super) struct Fence(pub(super) Option<FencingToken>);

impl FromRequest for Fence {
    type Error = HttpError;
    type Future = Ready<Result<Self, HttpError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(header(request, FENCING_TOKEN, "the number that came with the lock", fence).map(Self))
    }
}

fn fence(text: &str) -> Option<FencingToken> {
    text.parse().ok().map(FencingToken::new)
}

/// `Idempotency-Key`: which command of which session the request is, if it is in one.
pub(super) struct Once(pub(super) Option<SessionStamp>);

impl FromRequest for Once {
    type Error = HttpError;
    type Future = Ready<Result<Self, HttpError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let form =
            "\"SESSION/SERIAL\", then perhaps ; answered=SERIAL; a session is opened by POST /sessions";
        ready(header(request, IDEMPOTENCY_KEY, form, stamp).map(Self))
    }
}

fn stamp(text: &str) -> Option<SessionStamp> {
    let (key, answered) = match text.split_once(';') {
        Some((key, parameter)) => (key, parameter.trim().strip_prefix("answered=")?.parse().ok()?),
        None => (text, 0),
    };
    let (session, serial) = key.trim().strip_prefix('"')?.strip_suffix('"')?.split_once('/')?;
    let (session, serial) = (session.parse().ok()?, serial.parse().ok()?);
    (serial > 0).then_some(SessionStamp { session, serial, answered_through: answered })
}

/// The header `name`, as `read` reads it; refused if it is there and not in its `form`, or there twice.
fn header<T>(
    request: &HttpRequest,
    name: &'static str,
    form: &str,
    read: impl FnOnce(&str) -> Option<T>,
) -> Result<Option<T>, HttpError> {
    let mut values = request.headers().get_all(name);
    let Some(value) = values.next() else { return Ok(None) };
    match value.to_str().ok().and_then(read) {
        Some(read) if values.next().is_none() => Ok(Some(read)),
        _ => Err(HttpError::BadRequest(format!("{name} is {form}"))),
    }
}

impl FromRequest for Terms {
    type Error = HttpError;
    type Future = Ready<Result<Self, HttpError>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let fence = Fence::from_request(request, payload).into_inner();
        ready(fence.and_then(|Fence(fence)| Ok(Self { condition: condition(request)?, fence })))
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
    use crate::condition::Version;
    use actix_web::http::header::HeaderName;
    use actix_web::test::TestRequest;
    use synod::multi::SessionId;
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
    fn an_idempotency_key_names_a_session_and_a_place_in_it() {
        let session = SessionId { slot: Slot::new(120), index: 3 };
        let expected = SessionStamp { session, serial: 7, answered_through: 0 };
        assert_eq!(stamp("\"120.3/7\""), Some(expected));
        let expected = SessionStamp { answered_through: 6, ..expected };
        assert_eq!(stamp("\"120.3/7\"; answered=6"), Some(expected));
        assert_eq!(stamp("\"120.3/7\";answered=6"), Some(expected));
    }

    #[test]
    fn a_key_that_no_session_gave_is_refused() {
        for text in [
            "",
            "7",
            "\"7\"",
            "120.3/7",
            "\"120/7\"",
            "\"120.3/0\"",
            "\"120.3/7",
            "\"120.3/7\"; answered",
            "\"120.3/7\"; answered=x",
            "\"120.3/7\"; asked=6",
            "\"1f0c6f1e-9d2b-4c8e-a8f5-7a1d5a1b9c3d\"",
        ] {
            assert_eq!(stamp(text), None, "{text}");
        }
    }

    #[test]
    fn a_header_that_comes_twice_is_refused() {
        let request = |values: &[&str]| {
            let request = TestRequest::default();
            let request =
                values.iter().fold(request, |request, value| request.append_header((FENCING_TOKEN, *value)));
            header(&request.to_http_request(), FENCING_TOKEN, "a number", fence)
        };
        assert_eq!(request(&[]).unwrap(), None);
        assert_eq!(request(&["33"]).unwrap(), Some(FencingToken::new(33)));
        for values in [&["33", "34"][..], &["x"], &["-1"], &[""]] {
            assert!(matches!(request(values), Err(HttpError::BadRequest(_))), "{values:?}");
        }
    }

    #[test]
    fn a_header_without_a_tag_is_refused() {
        for value in ["", "7", ",", "\"7"] {
            assert!(matches!(read(IF_MATCH, value), Err(HttpError::BadRequest(_))), "{value:?}");
        }
    }
}
