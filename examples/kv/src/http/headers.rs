//! What a request says outside of its body: the key in the path, and conditions.

use super::KEY_BYTES_MAX;
use super::error::HttpError;
use crate::condition::{Condition, Tags};
use actix_web::dev::Payload;
use actix_web::http::header::{EntityTag, Header, IF_MATCH, IF_NONE_MATCH, IfMatch, IfNoneMatch};
use actix_web::{FromRequest, HttpRequest};
use percent_encoding::percent_decode_str;
use std::future::{Ready, ready};

/// The key in a request's path: 1 to 1024 bytes, percent-encoded UTF-8.
pub(super) struct Key(pub(super) String);

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
    use crate::condition::Version;
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
