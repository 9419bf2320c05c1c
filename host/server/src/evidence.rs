//! The audit outside of the server: exported logs and checkpoints as JSON lines, and checking them without one.
//!
//! A file has one JSON object a line, told apart by `type`:
//!
//! | type | is |
//! |---|---|
//! | `export` | the first line of a log: whose entries follow, of one tenant or of all |
//! | `checkpoint` | a signed checkpoint, as `host/store/src/audit.rs` lays it out; hashes and keys in hex |
//! | `entry` | an entry, with everything that its hash is computed from; `details` is the text that was hashed |
//!
//! A log has one checkpoint, before its entries, which are in the order in which they were written. A checkpoint by itself is
//! a file of one line. Either may be a witness.

mod findings;
mod log;

pub(crate) use portcullis_control::CheckpointLine;
use portcullis_control::store::{Actor, AuditRow, Channel, Origin, RecordedOutcome};
use portcullis_model::id::{Id, Revision};
use portcullis_model::time::UnixTime;
use serde::{Deserialize, Serialize};

pub(crate) use self::findings::Findings;
pub(crate) use self::log::{EvidenceError, Log, Witness};

/// The version of the lines.
const FORMAT: u32 = 1;

/// One line.
#[derive(Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum Line {
    /// What follows.
    Export(ExportLine),
    /// A checkpoint.
    Checkpoint(CheckpointLine),
    /// An entry.
    Entry(Box<EntryLine>),
}

/// How a log begins.
#[derive(Serialize, Deserialize)]
pub(crate) struct ExportLine {
    format: u32,
    /// The tenant whose entries follow; those of all where none is named.
    tenant: Option<Id>,
}

impl ExportLine {
    pub(crate) fn of(tenant: Option<Id>) -> ExportLine {
        ExportLine { format: FORMAT, tenant }
    }
}

/// An entry of the audit.
#[derive(Serialize, Deserialize)]
pub(crate) struct EntryLine {
    tenant: String,
    number: u64,
    /// In seconds since 1970, as it is hashed.
    at: u64,
    actor_tenant: String,
    actor_credential: Option<String>,
    actor_user: Option<String>,
    channel: String,
    address: Option<String>,
    action: String,
    object_kind: String,
    object: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<String>,
    details: String,
    hash: String,
}

impl EntryLine {
    pub(crate) fn of(row: AuditRow) -> EntryLine {
        let (revision, code) = match row.outcome {
            RecordedOutcome::Done { revision } => (Some(revision.0), None),
            RecordedOutcome::Refused { code } => (None, Some(code)),
        };
        EntryLine {
            tenant: row.tenant.to_string(),
            number: row.number,
            at: row.at.as_secs(),
            actor_tenant: row.actor.tenant.to_string(),
            actor_credential: row.actor.credential.map(|id| id.to_string()),
            actor_user: row.actor.user.map(|id| id.to_string()),
            channel: row.origin.channel.as_str().to_owned(),
            address: row.origin.address.map(|address| address.to_string()),
            action: row.action,
            object_kind: row.object_kind,
            object: row.object,
            revision,
            code,
            details: row.details,
            hash: hex(&row.hash),
        }
    }

    /// The entry, or nothing where it is none that Portcullis writes.
    fn read(self) -> Option<AuditRow> {
        let id = |text: Option<String>| text.map(|text| text.parse::<Id>()).transpose().ok();
        Some(AuditRow {
            id: 0,
            number: self.number,
            hash: unhex(&self.hash)?,
            at: UnixTime::from_secs(self.at)?,
            tenant: self.tenant.parse().ok()?,
            actor: Actor {
                tenant: self.actor_tenant.parse().ok()?,
                credential: id(self.actor_credential)?,
                user: id(self.actor_user)?,
            },
            origin: Origin {
                channel: Channel::from_name(&self.channel)?,
                address: self.address.map(|address| address.parse()).transpose().ok()?,
            },
            action: self.action,
            object_kind: self.object_kind,
            object: self.object,
            outcome: match (self.revision, self.code) {
                (Some(revision), None) => RecordedOutcome::Done { revision: Revision(revision) },
                (None, Some(code)) => RecordedOutcome::Refused { code },
                (Some(_), Some(_)) | (None, None) => return None,
            },
            details: self.details,
        })
    }
}

/// Bytes in hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Hex of so many bytes.
pub(crate) fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits: Vec<u8> = text
        .chars()
        .map(|digit| digit.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
        .collect::<Option<_>>()?;
    let bytes: Vec<u8> =
        digits.chunks_exact(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit)).collect();
    (digits.len() == 2 * N).then(|| bytes.try_into().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_is_read_as_it_is_written() {
        let bytes: [u8; 4] = [0, 0x0f, 0xf0, 0xff];
        assert_eq!((hex(&bytes).as_str(), unhex(&hex(&bytes))), ("000ff0ff", Some(bytes)));
        for wrong in ["", "000ff0f", "000ff0ff0", "000ff0ffff", "000ff0fg", "\u{e9}00ff0ff"] {
            assert_eq!(unhex::<4>(wrong), None, "{wrong}");
        }
    }
}
