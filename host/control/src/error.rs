//! Why a command did nothing: refused, for a reason its caller can act on, or failed, for one that the operator can.

use portcullis_engine::{EngineError, LoadError};
use portcullis_model::id::Revision;
use portcullis_model::policy::BuildError;
use portcullis_store::{OpenError, StoreError};

use crate::master_key::MasterKeyError;
use crate::seal::SealError;

/// One field of a command that cannot be what it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FieldFault {
    /// The field, as in the JSON of the command; with an index where it is a list: `ip_allowlist[2]`.
    pub field: String,
    /// What is wrong and what would be right.
    pub what: String,
}

/// Why a command changed nothing. Every variant has a stable code, and a message for whoever gave the command.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refused {
    /// The caller may not do this.
    #[error("{0}")]
    Forbidden(String),
    /// There is no such record, or none that the caller may know of.
    #[error("there is no {kind} `{id}`")]
    NotFound {
        /// The kind of record.
        kind: &'static str,
        /// The id that was given.
        id: String,
    },
    /// There is one already.
    #[error("there is a {kind} `{id}` already, or was: choose another id")]
    Exists {
        /// The kind of record.
        kind: &'static str,
        /// The id that was given.
        id: String,
    },
    /// Fields are wrong.
    #[error("{}", faults(.0))]
    Invalid(Vec<FieldFault>),
    /// The state of the record does not permit it.
    #[error("{what}")]
    State {
        /// The stable code.
        code: &'static str,
        /// What stands against it, and the way out.
        what: String,
    },
    /// It cannot be undone and was not confirmed.
    #[error("{consequence}: confirm it with `\"confirm\": true`")]
    Unconfirmed {
        /// What would happen.
        consequence: String,
    },
    /// The key of an earlier creation came with something else.
    #[error("the `Idempotency-Key` was used for another creation: take a new one for what is new")]
    IdempotencyKeyReused,
    /// The creation of that key is being done.
    #[error("the creation of this `Idempotency-Key` is being done: ask again in a moment")]
    IdempotencyInProgress,
    /// The record has changed since the caller read it.
    #[error("the {kind} was changed at revision {at}: read it again")]
    Changed {
        /// The kind of record.
        kind: &'static str,
        /// The revision that changed it last.
        at: Revision,
    },
}

impl Refused {
    /// The stable code that programs go by.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Refused::Forbidden(_) => "forbidden",
            Refused::NotFound { .. } => "not_found",
            Refused::Exists { .. } => "exists",
            Refused::Invalid(_) => "invalid",
            Refused::State { code, .. } => code,
            Refused::Unconfirmed { .. } => "confirmation_required",
            Refused::IdempotencyKeyReused => "idempotency_key_reused",
            Refused::IdempotencyInProgress => "idempotency_in_progress",
            Refused::Changed { .. } => "changed",
        }
    }

    pub(crate) fn field(field: impl Into<String>, what: impl Into<String>) -> Refused {
        Refused::Invalid(vec![FieldFault { field: field.into(), what: what.into() }])
    }
}

fn faults(faults: &[FieldFault]) -> String {
    let text = |fault: &FieldFault| match fault.field.as_str() {
        "" => fault.what.clone(),
        field => format!("`{field}`: {}", fault.what),
    };
    let texts: Vec<String> = faults.iter().map(text).collect();
    texts.join("; ")
}

/// Why a command was neither done nor refused.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// The store did not take or give it; nothing has changed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The gate does not take the change; nothing has changed.
    #[error("the gate does not take the change: {0}")]
    Gate(#[from] LoadError),
    /// The records do not make a policy; nothing has changed.
    #[error("the records do not make a policy: {0}")]
    Build(#[from] BuildError),
    /// A secret cannot be sealed or opened.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// A key of access tokens cannot be made.
    #[error(transparent)]
    TokenKey(#[from] crate::token::TokenKeyError),
    /// It is written down, but this node could not be brought to decide by it, and stops.
    #[error("the change is written down, but this node does not enforce it and stops: start it again")]
    NotEnforced,
    /// As many commands wait as may.
    #[error("too many commands are waiting: try again")]
    Busy,
    /// The task that made the change ended before it answered.
    #[error("the change did not end: whether it was made is in the audit")]
    Interrupted,
}

/// What comes of a command that did nothing.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// It was refused.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// It failed.
    #[error(transparent)]
    Failed(#[from] Failed),
}

impl From<StoreError> for CommandError {
    fn from(error: StoreError) -> Self {
        CommandError::Failed(error.into())
    }
}

/// Why control could not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The store does not open.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// There is no master key.
    #[error(transparent)]
    MasterKey(#[from] MasterKeyError),
    /// The sandbox does not start.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// What is stored cannot be put in force.
    #[error("what is stored cannot be put in force: {0}")]
    Policy(#[from] Failed),
}

impl From<StoreError> for StartError {
    fn from(error: StoreError) -> Self {
        StartError::Policy(error.into())
    }
}
