//! What the admin API answers where it does not do what was asked: problem details (RFC 9457) with a stable code.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use portcullis_control::store::StoreError;
use portcullis_control::{CommandError, Failed, FieldFault, Refused};
use schemars::JsonSchema;
use serde::Serialize;

use crate::journal::DecisionId;

/// A problem: what went wrong and how to mend it. It holds no secret.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Problem {
    /// Always `about:blank`: the code tells what it is.
    #[serde(rename = "type")]
    kind: &'static str,
    /// The status in words.
    title: &'static str,
    /// The status.
    status: u16,
    /// What programs go by.
    code: &'static str,
    /// What people read: the fault and the way out.
    detail: Box<str>,
    /// Each field that is wrong.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    faults: Vec<Fault>,
    /// The decision, where the gate denied it: what an administrator can look for.
    #[serde(skip_serializing_if = "Option::is_none")]
    decision: Option<Box<str>>,
}

/// A field that is wrong.
#[derive(Debug, Serialize, JsonSchema)]
struct Fault {
    /// The field, with an index where it is in a list: `ip_allowlist[2]`. Empty for the body as a whole.
    field: String,
    /// What is wrong and what would be right.
    detail: String,
}

impl Problem {
    pub(super) fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Problem {
        let title = status.canonical_reason().unwrap_or("Error");
        Problem {
            kind: "about:blank",
            title,
            status: status.as_u16(),
            code,
            detail: detail.into().into(),
            faults: Vec::new(),
            decision: None,
        }
    }

    /// The same, of a decision of the gate.
    pub(super) fn of_decision(self, id: DecisionId) -> Problem {
        Problem { decision: Some(id.to_string().into()), ..self }
    }

    /// Fields that cannot be what they are.
    pub(super) fn invalid(faults: Vec<FieldFault>) -> Problem {
        let detail = Refused::Invalid(faults.clone()).to_string();
        let faults = faults.into_iter().map(|fault| Fault { field: fault.field, detail: fault.what }).collect();
        Problem { faults, ..Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", detail) }
    }
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Problem {
        let status = match &refused {
            Refused::Forbidden(_) => StatusCode::FORBIDDEN,
            Refused::NotFound { .. } => StatusCode::NOT_FOUND,
            Refused::Exists { .. }
            | Refused::State { .. }
            | Refused::Unconfirmed { .. }
            | Refused::IdempotencyInProgress => StatusCode::CONFLICT,
            Refused::IdempotencyKeyReused => StatusCode::UNPROCESSABLE_ENTITY,
            Refused::Changed { .. } => StatusCode::PRECONDITION_FAILED,
            Refused::Invalid(faults) => return Problem::invalid(faults.clone()),
        };
        Problem::new(status, refused.code(), refused.to_string())
    }
}

impl From<Failed> for Problem {
    fn from(failed: Failed) -> Problem {
        let (status, code, detail) = match &failed {
            Failed::Store(StoreError::Full) => {
                let detail = "the disk is full, nothing has changed: make room and try again";
                (StatusCode::INSUFFICIENT_STORAGE, "disk_full", detail)
            }
            Failed::Store(StoreError::Locked) => {
                let detail = "another program holds the database, nothing has changed: close it and try again";
                (StatusCode::SERVICE_UNAVAILABLE, "database_locked", detail)
            }
            Failed::Store(StoreError::Conflict { .. }) => {
                let detail = "the database was ahead of what is in force, nothing has changed: try again";
                (StatusCode::SERVICE_UNAVAILABLE, "database_ahead", detail)
            }
            Failed::Busy => {
                let detail = "too many commands are waiting, nothing has changed: try again";
                (StatusCode::SERVICE_UNAVAILABLE, "busy", detail)
            }
            Failed::Store(StoreError::Io(_)) => {
                let detail =
                    "the disk did not take it, nothing has changed: look at its room, its quota and its health";
                (StatusCode::SERVICE_UNAVAILABLE, "storage_failed", detail)
            }
            Failed::NotEnforced => {
                let detail = "the change is written down, but this node does not enforce it and stops";
                (StatusCode::INTERNAL_SERVER_ERROR, "not_enforced", detail)
            }
            Failed::Interrupted => {
                let detail = "the change did not end: whether it was made is in the audit";
                (StatusCode::INTERNAL_SERVER_ERROR, "interrupted", detail)
            }
            Failed::Store(_) | Failed::Gate(_) | Failed::Build(_) | Failed::Seal(_) | Failed::TokenKey(_) => {
                let detail = "it failed and nothing has changed: the log of the server says why";
                (StatusCode::INTERNAL_SERVER_ERROR, "failed", detail)
            }
        };
        tracing::error!(error = %failed, code, "a command failed");
        Problem::new(status, code, detail)
    }
}

impl From<CommandError> for Problem {
    fn from(error: CommandError) -> Problem {
        match error {
            CommandError::Refused(refused) => refused.into(),
            CommandError::Failed(failed) => failed.into(),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(self)).into_response();
        let problem = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(header::CONTENT_TYPE, problem);
        response
    }
}
