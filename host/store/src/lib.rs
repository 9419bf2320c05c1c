//! What Portcullis remembers: records, revisions, audit and decisions, in one SQLite file.
//!
//! A [`Change`] is one transaction: rows, audit entries, the next revision; after a crash it is there with all of them or
//! not at all. One process at a time has the file.
//!
//! | module | holds |
//! |---|---|
//! | `record` | the records and the writes that change them |
//! | `change` | what is written and read as a whole |
//! | `audit` | entries, the chain of hashes they stand in, and what the chains are checked by |
//! | `decision`, `block` | records of decisions, and how they are packed |
//! | `sqlite` | [`Store`]: the file, its one writer, its readers |

mod audit;
mod block;
mod change;
mod decision;
mod error;
mod record;
mod sqlite;

pub use audit::{
    Against, Anchor, AuditFault, AuditFilter, AuditReport, AuditRow, ChainCheck, ChainMark, ChainReport, Checkpoint,
    CheckpointDigest, Checkpointed, Entry, HasSigned, Notary, Outcome, OutcomeFilter, Pruned, RecordedOutcome, RowHash,
    Sign, Signature, Stub,
};
pub use change::{Change, FIRST_REVISION, Fresh, GroupUse, Referring, Snapshot};
pub use decision::{DecisionFilter, DecisionItem, DecisionRecord, Gap, Which};
pub use error::{OpenError, StoreError};
pub use record::{
    Actor, ApplicationRecord, Channel, CredentialFilter, CredentialRecord, Delivery, GroupKind, GroupRecord, MAX_PAGE,
    Origin, Page, Paging, Preflight, ServiceRecord, Stored, TenantRecord, UserRecord, Write,
};
pub use sqlite::{AuditKey, EXPORT_ROWS, Retention, Store};
