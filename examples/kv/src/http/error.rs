//! How a call that went wrong is told in HTTP: a status code, and JSON with `error` and `message`.

use crate::condition::Version;
use crate::store::Reply;
use actix_web::http::StatusCode;
use actix_web::http::header::{ALLOW, RETRY_AFTER};
use actix_web::{HttpResponse, ResponseError};
use synod::multi::AbstainReason;
use synod::{ProposeError, ReadError, StopCause};

/// Why a request was not served.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HttpError {
    #[error(transparent)]
    Propose(#[from] ProposeError),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("the node is stopped: {0}")]
    Stopped(#[from] StopCause),
    #[error("no leader is known")]
    NoLeader,
    #[error("this node may not vote: {0}")]
    Abstains(AbstainReason),
    #[error("there is no such key")]
    NoSuchKey,
    #[error("{}", match current {
        Some(version) => format!("the present version is \"{version}\""),
        None => "there is no such key".into(),
    })]
    PreconditionFailed { current: Option<Version> },
    #[error("{0}")]
    BadRequest(String),
    #[error("the value has more than {bytes_max} bytes")]
    TooLarge { bytes_max: usize },
    #[error("there is no such path")]
    NoSuchPath,
    #[error("allowed here: {allow}")]
    Method { allow: &'static str },
    #[error("the state machine answered with {0:?}")]
    OutOfPlace(Reply),
}

impl From<Reply> for HttpError {
    /// The replies that say no.
    fn from(reply: Reply) -> Self {
        match reply {
            Reply::NotFound => Self::NoSuchKey,
            Reply::PreconditionFailed { current } => Self::PreconditionFailed { current },
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
            | Self::NoLeader => (StatusCode::SERVICE_UNAVAILABLE, "no_leader"),
            Self::Propose(ProposeError::Stopped { .. })
            | Self::Read(ReadError::Stopped { .. })
            | Self::Stopped(_) => (StatusCode::SERVICE_UNAVAILABLE, "stopped"),
            Self::Abstains(_) => (StatusCode::SERVICE_UNAVAILABLE, "abstains"),
            Self::Propose(ProposeError::Unknown { .. }) => (StatusCode::GATEWAY_TIMEOUT, "outcome_unknown"),
            Self::Read(ReadError::Deadline) => (StatusCode::GATEWAY_TIMEOUT, "deadline"),
            Self::Propose(ProposeError::Busy) | Self::Read(ReadError::Busy) => {
                (StatusCode::TOO_MANY_REQUESTS, "busy")
            }
            Self::Propose(ProposeError::TooLarge { .. }) | Self::TooLarge { .. } => {
                (StatusCode::PAYLOAD_TOO_LARGE, "too_large")
            }
            Self::NoSuchKey => (StatusCode::NOT_FOUND, "no_such_key"),
            Self::NoSuchPath => (StatusCode::NOT_FOUND, "no_such_path"),
            Self::PreconditionFailed { .. } => (StatusCode::PRECONDITION_FAILED, "precondition_failed"),
            Self::BadRequest(_) => (StatusCode::BAD_REQUEST, "bad_request"),
            Self::Method { .. } => (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed"),
            // Both enums may grow; what is not known here is no fault of the request.
            Self::Propose(_) | Self::Read(_) | Self::OutOfPlace(_) => {
                (StatusCode::INTERNAL_SERVER_ERROR, "internal")
            }
        }
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
