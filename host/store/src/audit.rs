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

use portcullis_model::id::{Id, Revision};
use portcullis_model::time::UnixTime;
use sha2::{Digest as _, Sha256};

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

/// What was found in the chains that were looked at.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct AuditReport {
    /// One for each tenant with rows or a head.
    pub chains: Vec<ChainReport>,
}

impl AuditReport {
    /// Whether no chain has a fault.
    #[must_use]
    pub fn is_intact(&self) -> bool {
        self.chains.iter().all(|chain| chain.fault.is_none())
    }
}

/// What was found in one chain.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChainReport {
    /// The tenant.
    pub tenant: Id,
    /// How many rows from the first on are as they were written.
    pub rows: u64,
    /// The hash of the last of these; zeros where there is none.
    pub newest: RowHash,
    /// What is wrong with the row after them, or with the head.
    pub fault: Option<AuditFault>,
}

/// How a chain is not as it was written. Numbers count rows in their chain, from 1.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AuditFault {
    /// A row, or the order of what is in it, was edited.
    #[error("row {number} is not as it was written")]
    Edited {
        /// The row.
        number: u64,
    },
    /// A row is gone.
    #[error("row {number} is missing")]
    Missing {
        /// The row.
        number: u64,
    },
    /// A row is there, in the wrong place.
    #[error("row {number} is not in its place")]
    Reordered {
        /// The row that belongs here.
        number: u64,
    },
    /// The newest rows are gone.
    #[error("the chain ends with row {rows}, its head says {head}")]
    Truncated {
        /// How many rows there are.
        rows: u64,
        /// How many there were.
        head: u64,
    },
    /// The rows hang together and the head is missing or says something else.
    #[error("the head of the chain does not belong to its newest row")]
    Head,
}

/// The bytes of an entry that every store hashes in the same way, whether it goes in or comes out.
#[derive(Clone, Copy)]
pub(crate) struct Canonical<'a> {
    pub(crate) number: u64,
    pub(crate) at: UnixTime,
    pub(crate) tenant: &'a Id,
    pub(crate) actor: &'a Actor,
    pub(crate) origin: Origin,
    pub(crate) action: &'a str,
    pub(crate) object_kind: &'a str,
    pub(crate) object: &'a str,
    pub(crate) outcome: Result<Revision, &'a str>,
    pub(crate) details: &'a str,
}

impl<'a> Canonical<'a> {
    pub(crate) fn of_entry(entry: &'a Entry, number: u64) -> Canonical<'a> {
        Canonical {
            number,
            at: entry.at,
            tenant: &entry.tenant,
            actor: &entry.actor,
            origin: entry.origin,
            action: entry.action,
            object_kind: entry.object_kind,
            object: &entry.object,
            outcome: match entry.outcome {
                Outcome::Done { revision } => Ok(revision),
                Outcome::Refused { code } => Err(code),
            },
            details: &entry.details,
        }
    }

    pub(crate) fn of_row(row: &'a AuditRow) -> Canonical<'a> {
        Canonical {
            number: row.number,
            at: row.at,
            tenant: &row.tenant,
            actor: &row.actor,
            origin: row.origin,
            action: &row.action,
            object_kind: &row.object_kind,
            object: &row.object,
            outcome: match &row.outcome {
                RecordedOutcome::Done { revision } => Ok(*revision),
                RecordedOutcome::Refused { code } => Err(code),
            },
            details: &row.details,
        }
    }

    /// The row's hash, given the hash of the row before.
    pub(crate) fn hash(&self, previous: &RowHash) -> RowHash {
        let mut sha = Sha256::new();
        let text = |sha: &mut Sha256, text: &str| {
            // A text beyond 4 GiB does not exist: SQLite and PostgreSQL both end at 1 GiB.
            sha.update(u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes());
            sha.update(text.as_bytes());
        };
        let or_empty = |id: &'a Option<Id>| id.as_ref().map_or("", Id::as_str);
        let address = self.origin.address.map(|address| address.to_string()).unwrap_or_default();
        sha.update(b"portcullis audit row 1\n");
        sha.update(previous);
        sha.update(self.number.to_le_bytes());
        sha.update(self.at.as_secs().to_le_bytes());
        text(&mut sha, self.tenant.as_str());
        text(&mut sha, self.actor.tenant.as_str());
        text(&mut sha, or_empty(&self.actor.credential));
        text(&mut sha, or_empty(&self.actor.user));
        text(&mut sha, self.origin.channel.as_str());
        text(&mut sha, &address);
        text(&mut sha, self.action);
        text(&mut sha, self.object_kind);
        text(&mut sha, self.object);
        match self.outcome {
            Ok(revision) => {
                sha.update([1]);
                sha.update(revision.0.to_le_bytes());
            }
            Err(code) => {
                sha.update([2]);
                text(&mut sha, code);
            }
        }
        text(&mut sha, self.details);
        sha.finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Channel;

    fn entry() -> Entry {
        let id = |text: &str| text.parse::<Id>().unwrap();
        Entry {
            at: UnixTime::from_secs(1_750_000_000).unwrap(),
            tenant: id("acme"),
            actor: Actor { tenant: id("acme"), credential: Some(id("k1")), user: None },
            origin: Origin { channel: Channel::Api, address: Some([192, 0, 2, 7].into()) },
            action: "create",
            object_kind: "tenant-key",
            object: "k2".to_owned(),
            outcome: Outcome::Done { revision: Revision(3) },
            details: r#"{"name":"CRM"}"#.to_owned(),
        }
    }

    #[test]
    fn the_hash_is_the_one_of_the_documented_layout() {
        let mut bytes = b"portcullis audit row 1\n".to_vec();
        bytes.extend([9; 32]);
        bytes.extend(5_u64.to_le_bytes());
        bytes.extend(1_750_000_000_u64.to_le_bytes());
        let text = |bytes: &mut Vec<u8>, text: &str| {
            bytes.extend(u32::try_from(text.len()).unwrap().to_le_bytes());
            bytes.extend(text.as_bytes());
        };
        for field in ["acme", "acme", "k1", "", "api", "192.0.2.7", "create", "tenant-key", "k2"] {
            text(&mut bytes, field);
        }
        bytes.push(1);
        bytes.extend(3_u64.to_le_bytes());
        text(&mut bytes, r#"{"name":"CRM"}"#);
        let expected: RowHash = Sha256::digest(&bytes).into();
        assert_eq!(Canonical::of_entry(&entry(), 5).hash(&[9; 32]), expected);
    }

    #[test]
    fn every_field_changes_the_hash() {
        let of = |entry: &Entry| Canonical::of_entry(entry, 1).hash(&ORIGIN);
        let id = |text: &str| text.parse::<Id>().unwrap();
        type Edit = (&'static str, fn(&mut Entry, Id));
        let edits: [Edit; 12] = [
            ("at", |e, _| e.at = UnixTime::default()),
            ("tenant", |e, id| e.tenant = id),
            ("actor's tenant", |e, id| e.actor.tenant = id),
            ("credential", |e, id| e.actor.credential = Some(id)),
            // The same text in the next field: what the lengths are for.
            ("user", |e, _| e.actor.user = e.actor.credential.take()),
            ("channel", |e, _| e.origin.channel = Channel::Cli),
            ("address", |e, _| e.origin.address = None),
            ("action", |e, _| e.action = "edit"),
            ("kind", |e, _| e.object_kind = "service"),
            ("object", |e, _| e.object.push('x')),
            ("outcome", |e, _| e.outcome = Outcome::Refused { code: "limit" }),
            ("details", |e, _| e.details.clear()),
        ];
        for (what, edit) in edits {
            let mut edited = entry();
            edit(&mut edited, id("other"));
            assert_ne!(of(&edited), of(&entry()), "{what}");
        }
        assert_ne!(Canonical::of_entry(&entry(), 2).hash(&ORIGIN), of(&entry()), "number");
        assert_ne!(Canonical::of_entry(&entry(), 1).hash(&[1; 32]), of(&entry()), "row before");
    }
}
