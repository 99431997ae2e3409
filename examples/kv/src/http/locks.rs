//! Locks: who holds which, under which fencing token.
//!
//! A node keeps nothing of a lock for its client, so any of them takes the next request: the table of locks is a part of
//! the store, and the leader measures the time (`synod::lock::keep_time`, see `serve.rs`).

use super::error::HttpError;
use super::headers::{Fence, LockName, Once};
use super::{GetQuery, Service, json, query, read};
use crate::store::{Command, Reply};
use actix_web::{HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use synod::lock::{Holder, HoldsLocks, LockCommand, LockReply};

/// A wish for a lock.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AcquireBody {
    pub(crate) owner: String,
    /// Of the owner's choice: the same request gets the same acquisition, however often it is sent.
    pub(crate) request: u64,
    /// How long the holder may be silent.
    pub(crate) ttl_ms: u64,
}

/// A lock that was acquired.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct TokenBody {
    /// Higher than that of every earlier acquisition.
    pub(crate) token: u64,
}

/// Who holds a lock.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct HolderBody {
    pub(crate) owner: String,
    pub(crate) token: u64,
    /// How often it has renewed.
    pub(crate) renewals: u64,
    pub(crate) ttl_ms: u64,
}

impl From<&Holder> for HolderBody {
    fn from(holder: &Holder) -> Self {
        Self {
            owner: holder.owner.clone(),
            token: holder.token.get(),
            renewals: holder.renewal,
            ttl_ms: u64::try_from(holder.ttl.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

/// Says who holds the lock.
pub(super) async fn holder(
    service: web::Data<Service>,
    LockName(name): LockName,
    request: HttpRequest,
) -> Result<HttpResponse, HttpError> {
    let GetQuery { stale } = query(&request)?;
    let holder =
        read(&service.handle, stale, move |store| store.locks().holder(&name).map(HolderBody::from)).await?;
    Ok(HttpResponse::Ok().json(holder.ok_or(HttpError::NotHeld)?))
}

/// Takes the lock, if nobody holds it.
pub(super) async fn acquire(
    service: web::Data<Service>,
    LockName(name): LockName,
    once: Once,
    body: web::Payload,
) -> Result<HttpResponse, HttpError> {
    let AcquireBody { owner, request, ttl_ms } = json(body).await?;
    let ttl = Duration::from_millis(ttl_ms);
    match propose(&service, once, LockCommand::Acquire { name, owner, request, ttl }).await? {
        LockReply::Acquired(token) => Ok(HttpResponse::Ok().json(TokenBody { token: token.get() })),
        reply => Err(Reply::Lock(reply).into()),
    }
}

/// Says that the holder is alive: its time begins anew.
pub(super) async fn renew(
    service: web::Data<Service>,
    LockName(name): LockName,
    Fence(fence): Fence,
    once: Once,
) -> Result<HttpResponse, HttpError> {
    let token = fence.ok_or_else(no_token)?;
    match propose(&service, once, LockCommand::Renew { name, token }).await? {
        LockReply::Renewed { .. } => Ok(HttpResponse::NoContent().finish()),
        LockReply::Void => Err(HttpError::LockLost { token }),
        reply => Err(Reply::Lock(reply).into()),
    }
}

/// Frees the lock.
pub(super) async fn release(
    service: web::Data<Service>,
    LockName(name): LockName,
    Fence(fence): Fence,
    once: Once,
) -> Result<HttpResponse, HttpError> {
    let token = fence.ok_or_else(no_token)?;
    match propose(&service, once, LockCommand::Release { name, token }).await? {
        LockReply::Released => Ok(HttpResponse::NoContent().finish()),
        LockReply::Void => Err(HttpError::LockLost { token }),
        reply => Err(Reply::Lock(reply).into()),
    }
}

async fn propose(service: &Service, once: Once, command: LockCommand) -> Result<LockReply, HttpError> {
    match service.propose(once, Command::Lock(command)).await? {
        Reply::Lock(reply) => Ok(reply),
        reply => Err(reply.into()),
    }
}

fn no_token() -> HttpError {
    HttpError::BadRequest("Fencing-Token says which acquisition is meant".into())
}
