//! The audit: what was done and what was refused, in one hash chain for each tenant.
//!
//! A row's hash is the SHA-256 of these bytes, so that whoever exports the rows can compute it again:
//!
//! ```text
//! [23]   "portcullis audit row 1\n"
//! [32]   hash of the row before in the same chain; zeros for the first
//! u64    number in the chain, from 1
//! u64    at, seconds since 1970
//! text   tenant
//! text   actor's tenant
//! text   actor's credential, empty where there is none
//! text   actor's user, empty where there is none
//! text   channel: `api`, `cli`, `offline`, `system`
//! text   address, empty where there is none
//! text   action
//! text   kind of the object
//! text   object
//! u8     outcome: 1 done, 2 refused
//! u64    done: the revision
//! text   refused: the code
//! text   details
//! ```
//!
//! Numbers are little-endian; a text is its length in bytes as u32, then its UTF-8. The chain's head (number and hash of its
//! newest row) is kept apart from the rows, so that a tail cut off is noticed as long as the head is not cut with it.
//!
//! A checkpoint says for the whole installation how long every chain is. It is signed by a key of the installation with
//! Ed25519 (RFC 8032); what is signed is the SHA-256 of these bytes:
//!
//! ```text
//! [30]   "portcullis audit checkpoint 1\n"
//! u64    number of the checkpoint, from 1
//! u64    revision of the policy
//! u64    at, seconds since 1970
//! u64    how many chains follow, in the order of the bytes of their tenants' ids
//!   text   tenant
//!   u64    number of the newest row
//!   [32]   its hash
//!   u64    up to which row the chain was removed; 0 where it begins with its first
//!   [32]   that row's hash; zeros where it begins with its first
//! ```
//!
//! The store keeps the newest checkpoint alone, so that nobody can go back to an older one. Before it signs the next it
//! checks the one that there is, and that each chain goes on from it: a chain that does not is left as it was signed last.

mod canonical;
mod check;
mod checkpoint;
mod filter;

use portcullis_model::id::{Id, Revision};
use portcullis_model::time::UnixTime;

pub(crate) use self::canonical::Canonical;
pub use self::check::{Against, Anchor, AuditFault, AuditReport, ChainCheck, ChainReport};
pub use self::checkpoint::{
    ChainMark, Checkpoint, CheckpointDigest, Checkpointed, HasSigned, Notary, Pruned, Sign, Signature, Stub,
};
pub use self::filter::{AuditFilter, OutcomeFilter};
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

/// An entry as it stands in its chain.
#[derive(Clone, PartialEq, Debug)]
pub struct AuditRow {
    /// Its number in the installation, the cursor of pages.
    pub id: u64,
    /// Its number in its chain, from 1.
    pub number: u64,
    /// Its hash.
    pub hash: RowHash,
    /// When.
    pub at: UnixTime,
    /// In whose chain it stands.
    pub tenant: Id,
    /// Who.
    pub actor: Actor,
    /// From where.
    pub origin: Origin,
    /// What.
    pub action: String,
    /// To what kind of record.
    pub object_kind: String,
    /// To which record, empty where it had no id yet.
    pub object: String,
    /// How it ended.
    pub outcome: RecordedOutcome,
    /// What changed, as a JSON object.
    pub details: String,
}

/// How a command ended, as it was read back.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RecordedOutcome {
    /// It was done.
    Done {
        /// The revision from which on it is in force.
        revision: Revision,
    },
    /// It was refused.
    Refused {
        /// The stable code that the caller got.
        code: String,
    },
}

/// The hash of an audit row.
pub type RowHash = [u8; 32];

/// What stands before the first row of a chain.
pub(crate) const ORIGIN: RowHash = [0; 32];
