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
//! | `error_log` | calls that failed, and what tenants set for them |
//! | `usage` | when secrets were used last |
//! | `sqlite` | [`Store`]: the file, its one writer, its readers |

mod audit;
mod block;
mod change;
mod decision;
mod error;
mod error_log;
mod record;
mod sqlite;
mod token;
mod usage;

pub use audit::{
    Against, Anchor, AuditFault, AuditFilter, AuditReport, AuditRow, ChainCheck, ChainMark, ChainReport, Checkpoint,
    CheckpointDigest, Checkpointed, Entry, HasSigned, Notary, Outcome, OutcomeFilter, Pruned, RecordedOutcome, RowHash,
    Sign, Signature, Stub,
};
pub use change::{Change, FIRST_REVISION, Fresh, GroupUse, Referring, Remember, Remembered, Snapshot};
pub use decision::{DecisionFilter, DecisionItem, DecisionRecord, Gap, Which};
pub use error::{OpenError, StoreError};
pub use error_log::{ErrorEntry, ErrorFilter, ErrorLogSettings, NewErrorEntry, Redactions, USUAL_ERROR_ENTRIES};
pub use record::{
    Actor, ApplicationRecord, CatalogueMark, Channel, ClientTerms, CredentialFilter, CredentialRecord, Delivery, Ends,
    FeedRecord, GroupKind, GroupRecord, MAX_PAGE, Origin, Page, Paging, Preflight, ServiceRecord, Signer, Stored,
    TakenDigest, TenantRecord, TenantRules, UserRecord, Write,
};
pub use sqlite::{AuditKey, EXPORT_ROWS, Retention, Store};
pub use token::{Grantee, TokenKeyRecord};
pub use usage::{SecretUse, SecretUsed};
