//! What is hashed of an entry, whether it goes in or comes out.

use portcullis_model::id::{Id, Revision};
use portcullis_model::time::UnixTime;
use sha2::{Digest as _, Sha256};

use super::{AuditRow, Entry, Outcome, RecordedOutcome, RowHash};
use crate::record::{Actor, Origin};

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
    use super::super::ORIGIN;
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
