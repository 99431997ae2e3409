//! What a node tells of itself.

use super::Service;
use super::error::HttpError;
use super::members::{MemberBody, bodies};
use crate::store::Store;
use actix_web::{HttpResponse, web};
use serde::{Deserialize, Serialize};
use synod::multi::ProposerState;
use synod::{MemberKind, ReadError};

/// What a node knows of itself.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct StatusBody {
    pub(crate) id: u64,
    pub(crate) cluster: String,
    /// `leader`, `candidate`, `follower`, `witness`, `observer`, or `forming` until the cluster has its first members.
    pub(crate) role: String,
    pub(crate) leader: Option<u64>,
    /// The leader's, as `NUMBER.NODE`.
    pub(crate) proposal_id: Option<String>,
    pub(crate) chosen: u64,
    pub(crate) applied: u64,
    pub(crate) members: Vec<MemberBody>,
    /// Whether it counts in quorums: a voter or a witness, and fit for it.
    pub(crate) votes: bool,
    /// Why it does not vote any more, if it is unfit for it.
    pub(crate) abstains: Option<String>,
    /// Of the applied state, in hexadecimal; a witness has none.
    pub(crate) digest: Option<String>,
}

pub(super) async fn status(service: web::Data<Service>) -> Result<HttpResponse, HttpError> {
    let status = service.handle.status().await?;
    let digest = match service.handle.read_stale(Store::digest).await {
        Err(ReadError::Witness) => None,
        digest => Some(digest?),
    };
    let votes = status.membership.as_ref().is_some_and(|membership| membership.votes(status.node));
    let role = match (status.proposer, status.kind) {
        (ProposerState::Leading { .. }, _) => "leader",
        (ProposerState::Preparing { .. }, _) => "candidate",
        (_, Some(MemberKind::Voter)) => "follower",
        (_, Some(MemberKind::Witness)) => "witness",
        (_, Some(_)) => "observer",
        // It joined, and is no member yet, or has not learned so.
        (_, None) if status.leader.is_some() || status.membership.is_some() => "observer",
        (_, None) => "forming",
    };
    Ok(HttpResponse::Ok().json(StatusBody {
        id: status.node.get(),
        cluster: service.cluster.to_string(),
        role: role.into(),
        leader: status.leader.map(|leader| leader.node.get()),
        proposal_id: status.leader.map(|leader| leader.to_string()),
        chosen: status.chosen_through.get(),
        applied: status.applied_through.get(),
        members: status.membership.as_ref().map(bodies).unwrap_or_default(),
        votes: votes && status.abstains.is_none(),
        abstains: status.abstains.map(|reason| reason.to_string()),
        digest: digest.map(|digest| format!("{digest:016x}")),
    }))
}

/// Whether requests are well placed here: a leader is known, and nothing is wrong with this node.
pub(super) async fn health(service: web::Data<Service>) -> Result<HttpResponse, HttpError> {
    let status = service.handle.status().await?;
    match (status.abstains, status.leader) {
        (Some(reason), _) => Err(HttpError::Abstains(reason)),
        (None, None) => Err(HttpError::NoLeader),
        (None, Some(_)) => Ok(HttpResponse::Ok().json(serde_json::json!({ "status": "ok" }))),
    }
}
