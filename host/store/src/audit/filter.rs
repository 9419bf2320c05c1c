//! Which entries are asked for.

use portcullis_model::id::Id;
use portcullis_model::time::UnixTime;

/// Which entries are asked for: those that are all of this. What is left out admits everything.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct AuditFilter {
    /// In the chain of this tenant.
    pub tenant: Option<Id>,
    /// About this kind of record.
    pub object_kind: Option<String>,
    /// About the record of this id.
    pub object: Option<String>,
    /// This was done, or wanted.
    pub action: Option<String>,
    /// It ended so.
    pub outcome: Option<OutcomeFilter>,
    /// At this time or later.
    pub from: Option<UnixTime>,
    /// Before this time.
    pub until: Option<UnixTime>,
}

impl AuditFilter {
    /// All entries of a tenant.
    #[must_use]
    pub fn of(tenant: &Id) -> AuditFilter {
        AuditFilter { tenant: Some(tenant.clone()), ..AuditFilter::default() }
    }
}

/// How a command ended, where one of both is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OutcomeFilter {
    /// It was done.
    Done,
    /// It was refused.
    Refused,
}
