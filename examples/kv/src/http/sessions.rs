//! Sessions: what makes a write that is sent again apply once.
//!
//! A client opens a session and numbers its writes. The number is part of the command, and the cluster keeps the replies: for
//! as long as the session is among the thousand that were used last, and of its 64 newest writes. Beyond these bounds a
//! repeat is refused with a word for it, and never applied a second time.

use super::Service;
use super::error::HttpError;
use actix_web::{HttpResponse, web};
use serde::{Deserialize, Serialize};

/// A session that was opened.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SessionBody {
    /// The first part of its writes' `Idempotency-Key`.
    pub(crate) session: String,
}

/// Opens a session.
pub(super) async fn open(service: web::Data<Service>) -> Result<HttpResponse, HttpError> {
    let session = service.handle.open_session().await?.id().to_string();
    Ok(HttpResponse::Created().json(SessionBody { session }))
}
