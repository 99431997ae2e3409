//! How a call that went wrong is told in HTTP: a status code, and JSON with `error` and `message`.

use crate::condition::Version;
use crate::store::Reply;
use actix_web::http::StatusCode;
use actix_web::http::header::{ALLOW, RETRY_AFTER};
use actix_web::{HttpResponse, ResponseError};
use synod::lock::{FencingToken, Holder, LockRefusal, LockReply};
use synod::multi::{AbstainReason, ChangeRefusal, TransferRefusal};
use synod::{ChangeError, ProposeError, ReadError, SnapshotError, StopCause, TransferError};

/// Why a request was not served.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HttpError {
    #[error(transparent)]
    Propose(#[from] ProposeError),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Change(#[from] ChangeError),
    #[error(transparent)]
    Transfer(#[from] TransferError),
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    #[error("the node is stopped: {0}")]
    Stopped(#[from] StopCause),
    #[error("no leader is known")]
    NoLeader,
    #[error("the cluster has not formed yet, or this node knows no members yet")]
    Forming,
    #[error("this node may not vote: {0}")]
    Abstains(AbstainReason),
    #[error("there is no such key")]
    NoSuchKey,
    #[error("{}", match current {
        Some(version) => format!("the present version is \"{version}\""),
        None => "there is no such key".into(),
    })]
    PreconditionFailed { current: Option<Version> },
    #[error("token {token} holds no lock any more")]
    Fenced { token: FencingToken },
    #[error("nobody holds the lock")]
    NotHeld,
    #[error("{} holds the lock, under token {}", holder.owner, holder.token)]
    Held { holder: Holder },
    #[error("token {token} does not hold the lock any more")]
    LockLost { token: FencingToken },
    #[error(transparent)]
    Lock(#[from] LockRefusal),
    #[error("{0}")]
    BadRequest(String),
    #[error("the value has more than {bytes_max} bytes")]
    TooLarge { bytes_max: usize },
    #[error("there is no such path")]
    NoSuchPath,
    #[error("allowed here: {allow}")]
    Method { allow: &'static str },
    /// Without a key in a session, the state machine answers each command by its kind.
    #[error("the key was used for another kind of write, which came to {0:?}")]
    OutOfPlace(Reply),
}

impl From<Reply> for HttpError {
    /// The replies that say no.
    fn from(reply: Reply) -> Self {
        match reply {
            Reply::NotFound => Self::NoSuchKey,
            Reply::PreconditionFailed { current } => Self::PreconditionFailed { current },
            Reply::Fenced { token } => Self::Fenced { token },
            Reply::Lock(LockReply::Held(holder)) => Self::Held { holder },
            Reply::Lock(LockReply::Refused(refusal)) => Self::Lock(refusal),
            reply => Self::OutOfPlace(reply),
        }
    }
}

impl HttpError {
    /// The status code, and the word for it that programs may rely on.
    fn kind(&self) -> (StatusCode, &'static str) {
        match self {
            Self::Propose(ProposeError::NotLeader { .. })
            | Self::Read(ReadError::NoLeader { .. })
            | Self::Change(ChangeError::NotLeader { .. })
            | Self::Transfer(TransferError::NotLeader { .. })
            | Self::NoLeader => (StatusCode::SERVICE_UNAVAILABLE, "no_leader"),
            Self::Propose(ProposeError::Stopped { .. })
            | Self::Read(ReadError::Stopped { .. })
            | Self::Change(ChangeError::Stopped { .. })
            | Self::Transfer(TransferError::Stopped { .. })
            | Self::Snapshot(SnapshotError::Stopped { .. })
            | Self::Stopped(_) => (StatusCode::SERVICE_UNAVAILABLE, "stopped"),
            Self::Forming => (StatusCode::SERVICE_UNAVAILABLE, "forming"),
            Self::Abstains(_) => (StatusCode::SERVICE_UNAVAILABLE, "abstains"),
            Self::Propose(ProposeError::Unknown { .. })
            | Self::Change(ChangeError::Unknown)
            | Self::Transfer(TransferError::Unknown) => (StatusCode::GATEWAY_TIMEOUT, "outcome_unknown"),
            Self::Snapshot(SnapshotError::Empty) => (StatusCode::CONFLICT, "nothing_applied"),
            Self::Snapshot(SnapshotError::Deadline) => (StatusCode::GATEWAY_TIMEOUT, "deadline"),
            Self::Read(ReadError::Deadline) => (StatusCode::GATEWAY_TIMEOUT, "deadline"),
            Self::Read(ReadError::Interrupted) | Self::Snapshot(SnapshotError::Interrupted) => {
                (StatusCode::SERVICE_UNAVAILABLE, "interrupted")
            }
            Self::Propose(ProposeError::Busy)
            | Self::Read(ReadError::Busy)
            | Self::Change(ChangeError::Busy)
            | Self::Transfer(TransferError::Busy)
            | Self::Snapshot(SnapshotError::Busy) => (StatusCode::TOO_MANY_REQUESTS, "busy"),
            Self::Change(ChangeError::Refused(refusal)) => change_refused(refusal),
            Self::Transfer(TransferError::Refused(refusal)) => transfer_refused(refusal),
            Self::Snapshot(SnapshotError::InProgress) => (StatusCode::CONFLICT, "snapshot_in_progress"),
            Self::Read(ReadError::Witness) => (StatusCode::MISDIRECTED_REQUEST, "witness"),
            Self::Snapshot(SnapshotError::Witness) => (StatusCode::UNPROCESSABLE_ENTITY, "witness"),
            Self::Snapshot(SnapshotError::Failed(_) | SnapshotError::Panicked { .. }) => {
                (StatusCode::INTERNAL_SERVER_ERROR, "snapshot_failed")
            }
            Self::Propose(ProposeError::TooLarge { .. }) | Self::TooLarge { .. } => {
                (StatusCode::PAYLOAD_TOO_LARGE, "too_large")
            }
            Self::Propose(ProposeError::SessionExpired) => (StatusCode::GONE, "session_expired"),
            Self::Propose(ProposeError::SerialAnswered) => (StatusCode::CONFLICT, "serial_answered"),
            Self::Propose(ProposeError::SerialTooFar) => (StatusCode::CONFLICT, "serial_too_far"),
            Self::Fenced { .. } => (StatusCode::PRECONDITION_FAILED, "fenced"),
            Self::NotHeld => (StatusCode::NOT_FOUND, "not_held"),
            Self::Held { .. } => (StatusCode::CONFLICT, "held"),
            Self::LockLost { .. } => (StatusCode::GONE, "lock_lost"),
            Self::Lock(LockRefusal::Full { .. }) => (StatusCode::SERVICE_UNAVAILABLE, "too_many_locks"),
            Self::Lock(_) => (StatusCode::BAD_REQUEST, "bad_request"),
            Self::NoSuchKey => (StatusCode::NOT_FOUND, "no_such_key"),
            Self::NoSuchPath => (StatusCode::NOT_FOUND, "no_such_path"),
            Self::PreconditionFailed { .. } => (StatusCode::PRECONDITION_FAILED, "precondition_failed"),
            Self::BadRequest(_) => (StatusCode::BAD_REQUEST, "bad_request"),
            Self::Method { .. } => (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed"),
            Self::OutOfPlace(_) => (StatusCode::UNPROCESSABLE_ENTITY, "key_reused"),
            // The enums may grow; what is not known here is no fault of the request.
            Self::Propose(_) | Self::Read(_) | Self::Change(_) | Self::Transfer(_) | Self::Snapshot(_) => {
                (StatusCode::INTERNAL_SERVER_ERROR, "internal")
            }
        }
    }
}

/// 422: can never be. 409: cannot be now.
fn change_refused(refusal: &ChangeRefusal) -> (StatusCode, &'static str) {
    match refusal {
        ChangeRefusal::InProgress => (StatusCode::CONFLICT, "change_in_progress"),
        ChangeRefusal::Lagging { .. } => (StatusCode::CONFLICT, "lagging"),
        ChangeRefusal::NotAMember { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "not_a_member"),
        ChangeRefusal::VotesAlready { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "votes_already"),
        ChangeRefusal::Stateless { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "stateless"),
        ChangeRefusal::Retired { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "retired"),
        _ => (StatusCode::UNPROCESSABLE_ENTITY, "impossible"),
    }
}

fn transfer_refused(refusal: &TransferRefusal) -> (StatusCode, &'static str) {
    match refusal {
        TransferRefusal::NotAVoter { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "not_a_voter"),
        TransferRefusal::Lags { .. } => (StatusCode::CONFLICT, "lagging"),
        TransferRefusal::Nobody => (StatusCode::CONFLICT, "nobody"),
        TransferRefusal::InProgress => (StatusCode::CONFLICT, "change_in_progress"),
        _ => (StatusCode::CONFLICT, "not_taken_over"),
    }
}

impl ResponseError for HttpError {
    fn status_code(&self) -> StatusCode {
        self.kind().0
    }

    fn error_response(&self) -> HttpResponse {
        let (status, error) = self.kind();
        let mut response = HttpResponse::build(status);
        match self {
            Self::PreconditionFailed { current: Some(version) } => {
                response.insert_header(super::etag(*version));
            }
            Self::Method { allow } => {
                response.insert_header((ALLOW, *allow));
            }
            _ if matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS) => {
                response.insert_header((RETRY_AFTER, "1"));
            }
            _ => {}
        }
        response.json(serde_json::json!({ "error": error, "message": self.to_string() }))
    }
}
