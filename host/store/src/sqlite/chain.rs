//! The audit's rows: appended, listed, exported.

use std::collections::BTreeMap;
use std::net::IpAddr;

use portcullis_model::id::{Id, Revision};
use sqlx::{QueryBuilder, Sqlite, SqliteConnection};

use super::Store;
use super::rows::{Columns, fetch, int, limit, page};
use crate::audit::{AuditFilter, AuditRow, Canonical, Entry, ORIGIN, Outcome, OutcomeFilter, RecordedOutcome, RowHash};
use crate::error::StoreError;
use crate::record::{Actor, Channel, Origin, Page, Paging};

/// The most rows of one part of an export.
pub const EXPORT_ROWS: usize = 1000;

/// Rows that one statement writes. Each has 15 values, of which SQLite takes 32766.
const INSERT_ROWS: usize = 256;

impl Store {
    /// The entries that the filter admits; the newest first.
    ///
    /// # Errors
    /// Nothing could be read.
    pub async fn audit(&self, filter: &AuditFilter, paging: Paging) -> Result<Page<AuditRow>, StoreError> {
        let limit = limit(paging);
        let before = paging.after.map_or(i64::MAX, |after| i64::try_from(after).unwrap_or(i64::MAX));
        let mut query = QueryBuilder::<Sqlite>::new("SELECT * FROM audit WHERE seq < ");
        query.push_bind(before);
        let texts = [
            (" AND tenant = ", filter.tenant.as_ref().map(Id::as_str)),
            (" AND object_kind = ", filter.object_kind.as_deref()),
            (" AND object = ", filter.object.as_deref()),
            (" AND action = ", filter.action.as_deref()),
        ];
        for (condition, value) in texts {
            if let Some(value) = value {
                query.push(condition).push_bind(value.to_owned());
            }
        }
        match filter.outcome {
            Some(OutcomeFilter::Done) => query.push(" AND code IS NULL"),
            Some(OutcomeFilter::Refused) => query.push(" AND code IS NOT NULL"),
            None => &mut query,
        };
        for (condition, at) in [(" AND at >= ", filter.from), (" AND at < ", filter.until)] {
            if let Some(at) = at {
                query.push(condition).push_bind(int(at.as_secs())?);
            }
        }
        query.push(" ORDER BY seq DESC LIMIT ").push_bind(fetch(limit));
        page(&query.build().fetch_all(&self.readers).await?, limit, "audit", audit_row)
    }

    /// The entries of a tenant, or of all, in the order in which they were written; at most [`EXPORT_ROWS`] after the one of
    /// that id.
    ///
    /// # Errors
    /// Nothing could be read.
    pub async fn export_audit(&self, tenant: Option<&Id>, after: Option<u64>) -> Result<Page<AuditRow>, StoreError> {
        let after = after.map_or(0, |after| i64::try_from(after).unwrap_or(i64::MAX));
        let query = match tenant {
            Some(tenant) => sqlx::query("SELECT * FROM audit WHERE tenant = ?3 AND seq > ?1 ORDER BY seq LIMIT ?2")
                .bind(after)
                .bind(fetch(EXPORT_ROWS))
                .bind(tenant.as_str()),
            None => sqlx::query("SELECT * FROM audit WHERE seq > ?1 ORDER BY seq LIMIT ?2")
                .bind(after)
                .bind(fetch(EXPORT_ROWS)),
        };
        page(&query.fetch_all(&self.readers).await?, EXPORT_ROWS, "audit", audit_row)
    }
}

/// The newest row of a chain.
#[derive(Clone, Copy)]
pub(super) struct Head {
    pub(super) count: u64,
    pub(super) hash: RowHash,
}

pub(super) async fn head(tx: &mut SqliteConnection, tenant: &Id) -> Result<Option<Head>, StoreError> {
    let query = sqlx::query("SELECT count, hash FROM audit_head WHERE tenant = ?1").bind(tenant.as_str());
    let Some(row) = query.fetch_optional(tx).await? else { return Ok(None) };
    let row = Columns::new(&row, "audit_head");
    Ok(Some(Head { count: row.number("count")?, hash: row.bytes("hash")? }))
}

/// Appends entries to the chains of their tenants, within the writer's transaction.
///
/// INVARIANT (one-chain): only the writer appends, so the head that is read here is the head until the commit.
pub(super) async fn append(tx: &mut SqliteConnection, entries: &[Entry]) -> Result<(), StoreError> {
    let mut heads: BTreeMap<&Id, Head> = BTreeMap::new();
    for chunk in entries.chunks(INSERT_ROWS) {
        let mut rows = Vec::with_capacity(chunk.len());
        for entry in chunk {
            let before = match heads.get(&entry.tenant) {
                Some(head) => *head,
                None => head(tx, &entry.tenant).await?.unwrap_or(Head { count: 0, hash: ORIGIN }),
            };
            let count = before.count + 1;
            let hash = Canonical::of_entry(entry, count).hash(&before.hash);
            heads.insert(&entry.tenant, Head { count, hash });
            rows.push((entry, Head { count, hash }));
        }
        insert(tx, &rows).await?;
    }
    for (tenant, head) in heads {
        sqlx::query(
            "INSERT INTO audit_head (tenant, count, hash) VALUES (?1, ?2, ?3)
             ON CONFLICT (tenant) DO UPDATE SET count = excluded.count, hash = excluded.hash",
        )
        .bind(tenant.as_str())
        .bind(int(head.count)?)
        .bind(head.hash.as_slice())
        .execute(&mut *tx)
        .await?;
    }
    Ok(())
}

/// Writes rows by one statement: an import has a hundred thousand of them, and each statement is a way to another thread.
async fn insert(tx: &mut SqliteConnection, rows: &[(&Entry, Head)]) -> Result<(), StoreError> {
    let mut query = QueryBuilder::<Sqlite>::new(
        "INSERT INTO audit (tenant, number, at, actor_tenant, actor_credential, actor_user, channel, address, action,
             object_kind, object, revision, code, details, hash) VALUES ",
    );
    for (index, (entry, head)) in rows.iter().enumerate() {
        let (revision, code) = match entry.outcome {
            Outcome::Done { revision } => (Some(int(revision.0)?), None),
            Outcome::Refused { code } => (None, Some(code)),
        };
        query.push(if index == 0 { "(" } else { ", (" });
        let mut values = query.separated(", ");
        values
            .push_bind(entry.tenant.as_str())
            .push_bind(int(head.count)?)
            .push_bind(int(entry.at.as_secs())?)
            .push_bind(entry.actor.tenant.as_str())
            .push_bind(entry.actor.credential.as_ref().map(Id::as_str))
            .push_bind(entry.actor.user.as_ref().map(Id::as_str))
            .push_bind(entry.origin.channel.as_str())
            .push_bind(entry.origin.address.map(|address| address.to_string()))
            .push_bind(entry.action)
            .push_bind(entry.object_kind)
            .push_bind(entry.object.as_str())
            .push_bind(revision)
            .push_bind(code)
            .push_bind(entry.details.as_str())
            .push_bind(head.hash.to_vec());
        query.push(")");
    }
    query.build().execute(tx).await?;
    Ok(())
}

pub(super) fn audit_row(row: &Columns<'_>) -> Result<AuditRow, StoreError> {
    let channel: &str = row.get("channel")?;
    let address: Option<&str> = row.get("address")?;
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
