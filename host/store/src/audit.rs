//! The audit: what was done and what was refused, in one hash chain for each tenant.

use portcullis_model::id::{Id, Revision};
use portcullis_model::time::UnixTime;

use crate::record::{Actor, Origin};

/// Something that was done to a record, or that somebody wanted to do.
#[derive(Clone, PartialEq, Debug)]
pub struct Entry {
    /// When.
    pub at: UnixTime,
    /// In whose chain it stands: the tenant that the record belongs to, or the system tenant.
    pub tenant: Id,
    /// Who.
    pub actor: Actor,
    /// From where.
    pub origin: Origin,
    /// What: `create`, `edit`, `rotate`, `revoke`, `delete` and so on.
    pub action: &'static str,
    /// To what kind of record: `tenant-key`, `service` and so on.
    pub object_kind: &'static str,
    /// To which record, empty where it has no id yet.
    pub object: String,
    /// How it ended.
    pub outcome: Outcome,
    /// What changed, as a JSON object. It holds no secret.
    pub details: String,
}

/// How a command ended.
#[derive(Clone, PartialEq, Debug)]
pub enum Outcome {
    /// It is done and in force from this revision on.
    Done {
        /// The revision.
        revision: Revision,
    },
    /// It was refused and changed nothing.
    Refused {
        /// The stable code that the caller got.
        code: &'static str,
    },
}
