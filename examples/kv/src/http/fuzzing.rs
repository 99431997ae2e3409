//! For fuzzers: what a request says, read as the service reads it, as a pure function of any bytes.

use super::headers::{Fence, Key, LockName, Once};
use super::locks::AcquireBody;
use super::members::ChangeBody;
use super::operators::TransferBody;
use super::{GetQuery, ListQuery, query};
use crate::condition::{Condition, Tags};
use crate::store::Terms;
use actix_web::http::Uri;
use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::test::TestRequest;
use actix_web::{FromRequest, HttpRequest, dev};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// What a request says: `bytes` as a path in the first line, headers in the lines that follow, a body behind an empty one.
/// What is understood is written anew, and has to be read as the same.
///
/// # Panics
///
/// If it is read as something else then: a bug.
pub fn request(bytes: &[u8]) {
    let (head, body) = parts(bytes);
    let mut lines = head.split(|byte| *byte == b'\n');
    let path = lines.next().unwrap_or_default();
    let headers: Vec<(HeaderName, HeaderValue)> = lines.filter_map(header).collect();
    if let Ok(uri) = Uri::try_from(path)
        && uri.path().starts_with('/')
    {
        let request = made(&uri, &headers);
        names(&request);
        conditions(&request);
        // Refused or not: it must not panic.
        let _ = (query::<GetQuery>(&request), query::<ListQuery>(&request));
    }
    body_of::<ChangeBody>(body);
    body_of::<AcquireBody>(body);
    body_of::<TransferBody>(body);
    if let Ok(change) = serde_json::from_slice::<ChangeBody>(body) {
        let _ = change.malformed_address();
        let _ = change.change(None);
    }
}

fn parts(bytes: &[u8]) -> (&[u8], &[u8]) {
    match bytes.windows(2).position(|pair| pair == b"\n\n") {
        Some(at) => (bytes.get(..at).unwrap_or_default(), bytes.get(at + 2..).unwrap_or_default()),
        None => (bytes, &[]),
    }
}

fn header(line: &[u8]) -> Option<(HeaderName, HeaderValue)> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    let name = HeaderName::from_bytes(line.get(..colon)?).ok()?;
    Some((name, HeaderValue::from_bytes(line.get(colon + 1..)?.trim_ascii()).ok()?))
}

fn made(uri: &Uri, headers: &[(HeaderName, HeaderValue)]) -> HttpRequest {
    let request = TestRequest::default().uri(&uri.to_string());
    headers.iter().fold(request, |request, header| request.append_header(header.clone())).to_http_request()
}

fn read<T: FromRequest>(request: &HttpRequest) -> Option<T> {
    futures::FutureExt::now_or_never(T::from_request(request, &mut dev::Payload::None))?.ok()
}

/// A request of one path and one header.
fn again(path: &str, name: &'static str, value: &str) -> Option<HttpRequest> {
    let header = (HeaderName::from_static(name), HeaderValue::from_str(value).ok()?);
    Some(made(&Uri::try_from(path).ok()?, &[header]))
}

fn names(request: &HttpRequest) {
    if let Some(Key(key)) = read(request)
        && request.uri().path().starts_with("/kv/")
    {
        let path = format!("/kv/{}", utf8_percent_encode(&key, NON_ALPHANUMERIC));
        let found = again(&path, "accept", "*/*").and_then(|request| read(&request)).map(|Key(key)| key);
        assert_eq!(found, Some(key));
    }
    if let Some(LockName(name)) = read(request)
        && request.uri().path().starts_with("/locks/")
    {
        let path = format!("/locks/{}", utf8_percent_encode(&name, NON_ALPHANUMERIC));
        let found =
            again(&path, "accept", "*/*").and_then(|request| read(&request)).map(|LockName(name)| name);
        assert_eq!(found, Some(name));
    }
}

fn conditions(request: &HttpRequest) {
    // Refused or not: it must not panic.
    let _ = read::<Terms>(request);
    if let Some(Fence(Some(token))) = read(request) {
        let found = again("/kv/a", super::headers::FENCING_TOKEN, &token.get().to_string());
        assert_eq!(found.and_then(|request| read(&request)).and_then(|Fence(token)| token), Some(token));
    }
    if let Some(Once(Some(stamp))) = read(request) {
        let text = format!("\"{}/{}\"; answered={}", stamp.session, stamp.serial, stamp.answered_through);
        let found = again("/kv/a", super::headers::IDEMPOTENCY_KEY, &text);
        assert_eq!(found.and_then(|request| read(&request)).and_then(|Once(stamp)| stamp), Some(stamp));
    }
    if let Some(Condition { if_match: Some(Tags::Versions(versions)), .. }) = read(request)
        && !versions.is_empty()
    {
        let tags: Vec<String> = versions.iter().map(|version| format!("\"{version}\"")).collect();
        let found = again("/kv/a", "if-match", &tags.join(", ")).and_then(|request| read(&request));
        let found = found.and_then(|condition: Condition| condition.if_match);
        assert_eq!(found, Some(Tags::Versions(versions)));
    }
}

/// A body that is understood is written as it would be by a client, and then understood as the same.
fn body_of<T: DeserializeOwned + Serialize>(body: &[u8]) {
    let Ok(read) = serde_json::from_slice::<T>(body) else { return };
    let text = serde_json::to_string(&read).ok();
    let again = text.as_deref().and_then(|text| serde_json::from_str::<T>(text).ok());
    assert_eq!(again.and_then(|again| serde_json::to_string(&again).ok()), text);
}
