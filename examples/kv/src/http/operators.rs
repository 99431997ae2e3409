//! What operators ask for: other members, another leader, a snapshot.

use super::error::HttpError;
use super::members::{ChangeBody, MembersBody};
use super::{Service, json};
use actix_web::{HttpResponse, web};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use synod::NodeId;

/// How long a change of the members or a snapshot may take: a state is fetched or written first.
const STATE_DEADLINE: Duration = Duration::from_secs(60);

/// Whom to hand the lead over to.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TransferBody {
    /// Whoever is nearest, if it is nobody in particular.
    pub(crate) to: Option<u64>,
}

/// Who leads.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct LeaderBody {
    pub(crate) leader: u64,
}

/// What a snapshot covers.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SnapshotBody {
    /// All slots through this one.
    pub(crate) slot: u64,
}

/// The members as this node knows them.
pub(super) async fn members(service: web::Data<Service>) -> Result<HttpResponse, HttpError> {
    let status = service.handle.status().await?;
    let membership = status.membership.as_ref().ok_or(HttpError::Forming)?;
    Ok(HttpResponse::Ok().json(MembersBody::from(membership)))
}

/// Changes the members, and answers with those in force then.
pub(super) async fn change(
    service: web::Data<Service>,
    body: web::Payload,
) -> Result<HttpResponse, HttpError> {
    let body: ChangeBody = json(body).await?;
    if let Some(address) = body.malformed_address() {
        return Err(HttpError::BadRequest(format!("{address:?} is no HOST:PORT")));
    }
    let present = service.handle.status().await?.membership;
    let change = body.change(present.as_ref()).map_err(synod::ChangeError::from)?;
    let membership = service.handle.with_deadline(STATE_DEADLINE).change(change).await?;
    Ok(HttpResponse::Ok().json(MembersBody::from(&membership)))
}

/// Hands the lead over.
pub(super) async fn transfer(
    service: web::Data<Service>,
    body: web::Payload,
) -> Result<HttpResponse, HttpError> {
    let TransferBody { to } = json(body).await?;
    let leader = service.handle.transfer(to.map(NodeId::new)).await?.get();
    Ok(HttpResponse::Ok().json(LeaderBody { leader }))
}

/// Takes a snapshot on this node, and cuts its log below.
pub(super) async fn snapshot(service: web::Data<Service>) -> Result<HttpResponse, HttpError> {
    let slot = service.handle.with_deadline(STATE_DEADLINE).snapshot().await?.through.get();
    Ok(HttpResponse::Ok().json(SnapshotBody { slot }))
}
