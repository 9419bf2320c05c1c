//! What Portcullis remembers: records, revisions, audit and decisions, in one SQLite file.
//!
//! A [`Change`] is one transaction: rows, audit entries, the next revision; after a crash it is there with all of them or
//! not at all. One process at a time has the file.

mod audit;
mod decision;
mod error;
mod record;

pub use audit::{Entry, Outcome};
pub use decision::{DecisionRecord, Gap};
pub use error::{OpenError, StoreError};
pub use record::{
    Actor, ApplicationRecord, Channel, CredentialFilter, CredentialRecord, Delivery, GroupKind, GroupRecord, MAX_PAGE,
    Origin, Page, Paging, Preflight, ServiceRecord, Stored, TenantRecord, UserRecord, Write,
};
