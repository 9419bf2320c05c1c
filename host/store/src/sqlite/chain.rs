//! The audit's rows: appended, listed, exported.

use std::collections::BTreeMap;
use std::net::IpAddr;

use portcullis_model::id::{Id, Revision};
use rusqlite::types::Value;
use rusqlite::{Connection, params, params_from_iter};

use super::Store;
use super::rows::{Columns, execute, fetch, int, limit, one, page};
use crate::audit::{AuditFilter, AuditRow, Canonical, Entry, ORIGIN, Outcome, OutcomeFilter, RecordedOutcome, RowHash};
use crate::error::StoreError;
use crate::record::{Actor, Channel, Origin, Page, Paging};

/// The most rows of one part of an export.
pub const EXPORT_ROWS: usize = 1000;

impl Store {
    /// The entries that the filter admits; the newest first.
    ///
    /// # Errors
    /// Nothing could be read.
    pub async fn audit(&self, filter: &AuditFilter, paging: Paging) -> Result<Page<AuditRow>, StoreError> {
        let limit = limit(paging);
        let before = paging.after.map_or(i64::MAX, |after| i64::try_from(after).unwrap_or(i64::MAX));
        let mut query = "SELECT * FROM audit WHERE seq < ?".to_owned();
        let mut values: Vec<Value> = vec![before.into()];
        let texts = [
            (" AND tenant = ?", filter.tenant.as_ref().map(Id::as_str)),
            (" AND object_kind = ?", filter.object_kind.as_deref()),
            (" AND object = ?", filter.object.as_deref()),
            (" AND action = ?", filter.action.as_deref()),
        ];
        for (condition, value) in texts {
            if let Some(value) = value {
                query.push_str(condition);
                values.push(value.to_owned().into());
            }
        }
        match filter.outcome {
            Some(OutcomeFilter::Done) => query.push_str(" AND code IS NULL"),
            Some(OutcomeFilter::Refused) => query.push_str(" AND code IS NOT NULL"),
            None => {}
        }
        for (condition, at) in [(" AND at >= ?", filter.from), (" AND at < ?", filter.until)] {
            if let Some(at) = at {
                query.push_str(condition);
                values.push(int(at.as_secs())?.into());
            }
        }
        query.push_str(" ORDER BY seq DESC LIMIT ?");
        values.push(fetch(limit).into());
        self.readers.read(|db| page(db, &query, params_from_iter(values), limit, "audit", audit_row))
    }

    /// The entries of a tenant, or of all, in the order in which they were written; at most [`EXPORT_ROWS`] after the one of
    /// that id.
    ///
    /// # Errors
    /// Nothing could be read.
    pub async fn export_audit(&self, tenant: Option<&Id>, after: Option<u64>) -> Result<Page<AuditRow>, StoreError> {
        let after = after.map_or(0, |after| i64::try_from(after).unwrap_or(i64::MAX));
        let limit = fetch(EXPORT_ROWS);
        self.readers.read(|db| match tenant {
            Some(tenant) => {
                let query = "SELECT * FROM audit WHERE tenant = ?3 AND seq > ?1 ORDER BY seq LIMIT ?2";
                page(db, query, params![after, limit, tenant.as_str()], EXPORT_ROWS, "audit", audit_row)
            }
            None => {
                let query = "SELECT * FROM audit WHERE seq > ?1 ORDER BY seq LIMIT ?2";
                page(db, query, params![after, limit], EXPORT_ROWS, "audit", audit_row)
            }
        })
    }
}

/// The newest row of a chain.
#[derive(Clone, Copy)]
pub(super) struct Head {
    pub(super) count: u64,
    pub(super) hash: RowHash,
}

pub(super) fn head(tx: &Connection, tenant: &Id) -> Result<Option<Head>, StoreError> {
    let query = "SELECT count, hash FROM audit_head WHERE tenant = ?1";
    one(tx, query, [tenant.as_str()], "audit_head", |row| {
        Ok(Head { count: row.number("count")?, hash: row.bytes("hash")? })
    })
}

/// Appends entries to the chains of their tenants, within the writer's transaction.
///
/// INVARIANT (one-chain): only the writer appends, so the head that is read here is the head until the commit.
pub(super) fn append(tx: &Connection, entries: &[Entry]) -> Result<(), StoreError> {
    let mut heads: BTreeMap<&Id, Head> = BTreeMap::new();
    for entry in entries {
        let before = match heads.get(&entry.tenant) {
            Some(head) => *head,
            None => head(tx, &entry.tenant)?.unwrap_or(Head { count: 0, hash: ORIGIN }),
        };
        let count = before.count + 1;
        let head = Head { count, hash: Canonical::of_entry(entry, count).hash(&before.hash) };
        heads.insert(&entry.tenant, head);
        insert(tx, entry, head)?;
    }
    for (tenant, head) in heads {
        let put = "INSERT INTO audit_head (tenant, count, hash) VALUES (?1, ?2, ?3)
             ON CONFLICT (tenant) DO UPDATE SET count = excluded.count, hash = excluded.hash";
        execute(tx, put, params![tenant.as_str(), int(head.count)?, head.hash.as_slice()])?;
    }
    Ok(())
}

fn insert(tx: &Connection, entry: &Entry, head: Head) -> Result<(), StoreError> {
    let (revision, code) = match entry.outcome {
        Outcome::Done { revision } => (Some(int(revision.0)?), None),
        Outcome::Refused { code } => (None, Some(code)),
    };
    let params = params![
        entry.tenant.as_str(),
        int(head.count)?,
        int(entry.at.as_secs())?,
        entry.actor.tenant.as_str(),
        entry.actor.credential.as_ref().map(Id::as_str),
        entry.actor.user.as_ref().map(Id::as_str),
        entry.origin.channel.as_str(),
        entry.origin.address.map(|address| address.to_string()),
        entry.action,
        entry.object_kind,
        entry.object.as_str(),
        revision,
        code,
        entry.details.as_str(),
        head.hash.as_slice(),
    ];
    let insert =
        "INSERT INTO audit (tenant, number, at, actor_tenant, actor_credential, actor_user, channel, address, action,
             object_kind, object, revision, code, details, hash)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)";
    execute(tx, insert, params)?;
    Ok(())
}

pub(super) fn audit_row(row: &Columns<'_>) -> Result<AuditRow, StoreError> {
    let channel = row.text("channel")?;
    let address = row.maybe_text("address")?;
    let revision: Option<i64> = row.get("revision")?;
    let code: Option<String> = row.get("code")?;
    Ok(AuditRow {
        id: row.number("seq")?,
        number: row.number("number")?,
        hash: row.bytes("hash")?,
        at: row.time("at")?,
        tenant: row.id("tenant")?,
        actor: Actor {
            tenant: row.id("actor_tenant")?,
            credential: row.maybe_id("actor_credential")?,
            user: row.maybe_id("actor_user")?,
        },
        origin: Origin {
            channel: Channel::from_name(channel).ok_or_else(|| row.damaged("channel", "an unknown channel"))?,
            address: address.map(str::parse::<IpAddr>).transpose().map_err(|error| row.damaged("address", error))?,
        },
        action: row.get("action")?,
        object_kind: row.get("object_kind")?,
        object: row.get("object")?,
        outcome: match (revision, code) {
            (Some(_), None) => RecordedOutcome::Done { revision: Revision(row.number("revision")?) },
            (None, Some(code)) => RecordedOutcome::Refused { code },
            (Some(_), Some(_)) | (None, None) => return Err(row.damaged("code", "neither done nor refused")),
        },
        details: row.get("details")?,
    })
}
