//! The error log: added to in batches, the oldest deleted where a tenant has more than its share.

use std::collections::BTreeMap;

use portcullis_model::id::Id;
use portcullis_model::time::UnixTime;
use sqlx::{Row as _, SqliteConnection};

use super::Store;
use super::commit::Stamp;
use super::rows::{Columns, encode, fetch, int, limit, page};
use crate::error::StoreError;
use crate::error_log::{ErrorEntry, ErrorFilter, ErrorLogSettings, NewErrorEntry};
use crate::record::{Page, Paging, Stored};

/// What a row takes beyond its texts, in bytes: its numbers and its index entries, rounded up.
const ROW_BYTES: u64 = 128;
/// Entries that are looked at once when the oldest are deleted.
const PRUNE_ENTRIES: i64 = 256;

impl Store {
    /// Adds failed calls, and deletes the oldest of each tenant that has more than it may.
    ///
    /// # Errors
    /// Nothing was added.
    pub async fn append_errors(&self, entries: &[NewErrorEntry]) -> Result<(), StoreError> {
        if entries.is_empty() {
            return Ok(());
        }
        let entries = entries.to_vec();
        self.writer.write(move |tx| Box::pin(async move { append(tx, &entries).await })).await
    }

    /// Failed calls of a tenant, or of the installation where none is given, the newest first.
    ///
    /// # Errors
    /// Nothing could be read.
    pub async fn errors(
        &self,
        tenant: Option<&Id>,
        filter: &ErrorFilter,
        paging: Paging,
    ) -> Result<Page<ErrorEntry>, StoreError> {
        let limit = limit(paging);
        let query = sqlx::query(
            "SELECT * FROM error_log
             WHERE tenant = ?1 AND seq < ?2 AND at >= ?3 AND at < ?4 AND (?5 IS NULL OR credential = ?5)
                 AND (?6 IS NULL OR endpoint = ?6) AND (?7 IS NULL OR reason = ?7) AND (?8 IS NULL OR status = ?8)
             ORDER BY seq DESC LIMIT ?9",
        );
        let seconds = |at: UnixTime| i64::try_from(at.as_secs()).unwrap_or(i64::MAX);
        let rows = query
            .bind(tenant.map_or("", Id::as_str))
            .bind(paging.after.map_or(i64::MAX, |after| i64::try_from(after).unwrap_or(i64::MAX)))
            .bind(filter.since.map_or(0, seconds))
            .bind(filter.until.map_or(i64::MAX, seconds))
            .bind(filter.credential.as_deref())
            .bind(filter.endpoint.as_deref())
            .bind(filter.reason.as_deref())
            .bind(filter.status.map(i64::from))
            .bind(fetch(limit))
            .fetch_all(&self.readers)
            .await?;
        page(&rows, limit, "error_log", entry)
    }

    /// One failed call.
    ///
    /// # Errors
    /// Nothing could be read.
    pub async fn error_entry(&self, id: u64) -> Result<Option<ErrorEntry>, StoreError> {
        let Ok(id) = i64::try_from(id) else { return Ok(None) };
        let row = sqlx::query("SELECT * FROM error_log WHERE seq = ?1").bind(id).fetch_optional(&self.readers).await?;
        row.map(|row| entry(&Columns::new(&row, "error_log"))).transpose()
    }

    /// The failed call of a decision, if it was kept.
    ///
    /// # Errors
    /// Nothing could be read.
    pub async fn error_of(&self, decision: u64) -> Result<Option<ErrorEntry>, StoreError> {
        let Ok(decision) = i64::try_from(decision) else { return Ok(None) };
        let query = sqlx::query("SELECT * FROM error_log WHERE decision = ?1 ORDER BY seq LIMIT 1").bind(decision);
        let row = query.fetch_optional(&self.readers).await?;
        row.map(|row| entry(&Columns::new(&row, "error_log"))).transpose()
    }

    /// What a tenant has set for its error log, if anything.
    ///
    /// # Errors
    /// Nothing could be read.
    pub async fn error_log_settings(&self, tenant: &Id) -> Result<Option<Stored<ErrorLogSettings>>, StoreError> {
        let query = sqlx::query("SELECT * FROM error_log_setting WHERE tenant = ?1").bind(tenant.as_str());
        let row = query.fetch_optional(&self.readers).await?;
        let row = row.as_ref().map(|row| Columns::new(row, "error_log_setting"));
        row.map(|row| row.stored(row.json("body")?)).transpose()
    }

    /// What every tenant has set that has set anything.
    ///
    /// # Errors
    /// Nothing could be read.
    pub async fn all_error_log_settings(&self) -> Result<Vec<(Id, ErrorLogSettings)>, StoreError> {
        let rows = sqlx::query("SELECT tenant, body FROM error_log_setting").fetch_all(&self.readers).await?;
        let rows = rows.iter().map(|row| Columns::new(row, "error_log_setting"));
        rows.map(|row| Ok((row.id("tenant")?, row.json("body")?))).collect()
    }
}

/// Puts what a tenant sets for its error log.
pub(super) async fn put_settings(
    tx: &mut SqliteConnection,
    tenant: &Id,
    settings: &ErrorLogSettings,
    stamp: Stamp,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO error_log_setting (tenant, body, created, changed) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (tenant) DO UPDATE SET body = excluded.body, changed = excluded.changed",
    )
    .bind(tenant.as_str())
    .bind(encode(settings)?)
    .bind(stamp.at)
    .bind(stamp.revision)
    .execute(tx)
    .await?;
    Ok(())
}

/// How much a tenant may have, by whether its entries are proven.
type Shares<'e> = BTreeMap<(&'e str, bool), (i64, i64)>;

async fn append(tx: &mut SqliteConnection, entries: &[NewErrorEntry]) -> Result<(), StoreError> {
    let mut shares = Shares::new();
    for new in entries {
        let tenant = new.tenant.as_ref().map_or("", Id::as_str);
        let bytes = int(ROW_BYTES + new.call.len() as u64)?;
        sqlx::query(
            "INSERT INTO error_log (tenant, proven, decision, at, credential, endpoint, reason, status, bytes, call)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        )
        .bind(tenant)
        .bind(new.proven)
        .bind(int(new.decision)?)
        .bind(int(new.at.as_secs())?)
        .bind(new.credential.as_deref())
        .bind(new.endpoint.as_deref())
        .bind(new.reason.as_str())
        .bind(i64::from(new.status))
        .bind(bytes)
        .bind(new.call.as_str())
        .execute(&mut *tx)
        .await?;
        sqlx::query(
            "INSERT INTO error_log_total (tenant, proven, entries, bytes) VALUES (?1, ?2, 1, ?3)
             ON CONFLICT (tenant, proven) DO UPDATE SET entries = entries + 1, bytes = bytes + excluded.bytes",
        )
        .bind(tenant)
        .bind(new.proven)
        .bind(bytes)
        .execute(&mut *tx)
        .await?;
        shares.insert((tenant, new.proven), (i64::from(new.max_entries), int(new.max_bytes)?));
    }
    for ((tenant, proven), most) in shares {
        while prune(tx, tenant, proven, most).await? {}
    }
    Ok(())
}

/// Deletes some of the oldest entries of a share; whether there may be more to delete.
async fn prune(
    tx: &mut SqliteConnection,
    tenant: &str,
    proven: bool,
    (max_entries, max_bytes): (i64, i64),
) -> Result<bool, StoreError> {
    let query = sqlx::query_as("SELECT entries, bytes FROM error_log_total WHERE tenant = ?1 AND proven = ?2");
    let (mut entries, mut bytes): (i64, i64) = query.bind(tenant).bind(proven).fetch_one(&mut *tx).await?;
    if entries <= max_entries && bytes <= max_bytes {
        return Ok(false);
    }
    let query = sqlx::query("SELECT seq, bytes FROM error_log WHERE tenant = ?1 AND proven = ?2 ORDER BY seq LIMIT ?3");
    let oldest = query.bind(tenant).bind(proven).bind(PRUNE_ENTRIES).fetch_all(&mut *tx).await?;
    for row in &oldest {
        if entries <= max_entries && bytes <= max_bytes {
            break;
        }
        let (seq, size): (i64, i64) = (row.try_get("seq")?, row.try_get("bytes")?);
        sqlx::query("DELETE FROM error_log WHERE seq = ?1").bind(seq).execute(&mut *tx).await?;
        entries = entries.saturating_sub(1);
        bytes = bytes.saturating_sub(size);
    }
    sqlx::query("UPDATE error_log_total SET entries = ?3, bytes = ?4 WHERE tenant = ?1 AND proven = ?2")
        .bind(tenant)
        .bind(proven)
        .bind(entries)
        .bind(bytes)
        .execute(tx)
        .await?;
    Ok(!oldest.is_empty() && (entries > max_entries || bytes > max_bytes))
}

fn entry(row: &Columns<'_>) -> Result<ErrorEntry, StoreError> {
    let tenant: &str = row.get("tenant")?;
    Ok(ErrorEntry {
        id: row.number("seq")?,
        tenant: if tenant.is_empty() { None } else { Some(row.id("tenant")?) },
        proven: row.get("proven")?,
        decision: row.number("decision")?,
        at: row.time("at")?,
        credential: row.get("credential")?,
        endpoint: row.get("endpoint")?,
        reason: row.get("reason")?,
        status: row.small("status")?,
        call: row.get("call")?,
    })
}
