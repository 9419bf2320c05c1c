//! The error log: added to in batches, the oldest deleted where a tenant has more than its share.

use std::collections::BTreeMap;

use portcullis_model::id::Id;
use portcullis_model::time::UnixTime;
use rusqlite::{Connection, params};

use super::Store;
use super::commit::Stamp;
use super::rows::{Columns, all, encode, execute, fetch, int, limit, one, page};
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
        self.writer.write(|tx| append(tx, entries)).await
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
        let query = "SELECT * FROM error_log
             WHERE tenant = ?1 AND seq < ?2 AND at >= ?3 AND at < ?4 AND (?5 IS NULL OR credential = ?5)
                 AND (?6 IS NULL OR endpoint = ?6) AND (?7 IS NULL OR reason = ?7) AND (?8 IS NULL OR status = ?8)
             ORDER BY seq DESC LIMIT ?9";
        let seconds = |at: UnixTime| i64::try_from(at.as_secs()).unwrap_or(i64::MAX);
        let params = params![
            tenant.map_or("", Id::as_str),
            paging.after.map_or(i64::MAX, |after| i64::try_from(after).unwrap_or(i64::MAX)),
            filter.since.map_or(0, seconds),
            filter.until.map_or(i64::MAX, seconds),
            filter.credential.as_deref(),
            filter.endpoint.as_deref(),
            filter.reason.as_deref(),
            filter.status.map(i64::from),
            fetch(limit),
        ];
        self.readers.read(|db| page(db, query, params, limit, "error_log", entry))
    }

    /// One failed call.
    ///
    /// # Errors
    /// Nothing could be read.
    pub async fn error_entry(&self, id: u64) -> Result<Option<ErrorEntry>, StoreError> {
        let Ok(id) = i64::try_from(id) else { return Ok(None) };
        self.readers.read(|db| one(db, "SELECT * FROM error_log WHERE seq = ?1", [id], "error_log", entry))
    }

    /// The failed call of a decision, if it was kept.
    ///
    /// # Errors
    /// Nothing could be read.
    pub async fn error_of(&self, decision: u64) -> Result<Option<ErrorEntry>, StoreError> {
        let Ok(decision) = i64::try_from(decision) else { return Ok(None) };
        let query = "SELECT * FROM error_log WHERE decision = ?1 ORDER BY seq LIMIT 1";
        self.readers.read(|db| one(db, query, [decision], "error_log", entry))
    }

    /// What a tenant has set for its error log, if anything.
    ///
    /// # Errors
    /// Nothing could be read.
    pub async fn error_log_settings(&self, tenant: &Id) -> Result<Option<Stored<ErrorLogSettings>>, StoreError> {
        let query = "SELECT * FROM error_log_setting WHERE tenant = ?1";
        self.readers
            .read(|db| one(db, query, [tenant.as_str()], "error_log_setting", |row| row.stored(row.json("body")?)))
    }

    /// What every tenant has set that has set anything.
    ///
    /// # Errors
    /// Nothing could be read.
    pub async fn all_error_log_settings(&self) -> Result<Vec<(Id, ErrorLogSettings)>, StoreError> {
        let query = "SELECT tenant, body FROM error_log_setting";
        self.readers
            .read(|db| all(db, query, [], "error_log_setting", |row| Ok((row.id("tenant")?, row.json("body")?))))
    }
}

/// Puts what a tenant sets for its error log.
pub(super) fn put_settings(
    tx: &Connection,
    tenant: &Id,
    settings: &ErrorLogSettings,
    stamp: Stamp,
) -> Result<(), StoreError> {
    execute(
        tx,
        "INSERT INTO error_log_setting (tenant, body, created, changed) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (tenant) DO UPDATE SET body = excluded.body, changed = excluded.changed",
        params![tenant.as_str(), encode(settings)?, stamp.at, stamp.revision],
    )?;
    Ok(())
}

/// How much a tenant may have, by whether its entries are proven.
type Shares<'e> = BTreeMap<(&'e str, bool), (i64, i64)>;

fn append(tx: &Connection, entries: &[NewErrorEntry]) -> Result<(), StoreError> {
    let mut shares = Shares::new();
    for new in entries {
        let tenant = new.tenant.as_ref().map_or("", Id::as_str);
        let bytes = int(ROW_BYTES + new.call.len() as u64)?;
        execute(
            tx,
            "INSERT INTO error_log (tenant, proven, decision, at, credential, endpoint, reason, status, bytes, call)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
            params![
                tenant,
                new.proven,
                int(new.decision)?,
                int(new.at.as_secs())?,
                new.credential.as_deref(),
                new.endpoint.as_deref(),
                new.reason.as_str(),
                i64::from(new.status),
                bytes,
                new.call.as_str()
            ],
        )?;
        execute(
            tx,
            "INSERT INTO error_log_total (tenant, proven, entries, bytes) VALUES (?1, ?2, 1, ?3)
             ON CONFLICT (tenant, proven) DO UPDATE SET entries = entries + 1, bytes = bytes + excluded.bytes",
            params![tenant, new.proven, bytes],
        )?;
        shares.insert((tenant, new.proven), (i64::from(new.max_entries), int(new.max_bytes)?));
    }
    for ((tenant, proven), most) in shares {
        while prune(tx, tenant, proven, most)? {}
    }
    Ok(())
}

/// Deletes some of the oldest entries of a share; whether there may be more to delete.
fn prune(
    tx: &Connection,
    tenant: &str,
    proven: bool,
    (max_entries, max_bytes): (i64, i64),
) -> Result<bool, StoreError> {
    let query = "SELECT entries, bytes FROM error_log_total WHERE tenant = ?1 AND proven = ?2";
    let total = one(tx, query, params![tenant, proven], "error_log_total", |row| {
        Ok((row.get::<i64>("entries")?, row.get::<i64>("bytes")?))
    })?;
    let Some((mut entries, mut bytes)) = total else { return Ok(false) };
    if entries <= max_entries && bytes <= max_bytes {
        return Ok(false);
    }
    let query = "SELECT seq, bytes FROM error_log WHERE tenant = ?1 AND proven = ?2 ORDER BY seq LIMIT ?3";
    let oldest: Vec<(i64, i64)> = all(tx, query, params![tenant, proven, PRUNE_ENTRIES], "error_log", |row| {
        Ok((row.get("seq")?, row.get("bytes")?))
    })?;
    for (seq, size) in &oldest {
        if entries <= max_entries && bytes <= max_bytes {
            break;
        }
        execute(tx, "DELETE FROM error_log WHERE seq = ?1", [seq])?;
        entries = entries.saturating_sub(1);
        bytes = bytes.saturating_sub(*size);
    }
    execute(
        tx,
        "UPDATE error_log_total SET entries = ?3, bytes = ?4 WHERE tenant = ?1 AND proven = ?2",
        params![tenant, proven, entries, bytes],
    )?;
    Ok(!oldest.is_empty() && (entries > max_entries || bytes > max_bytes))
}

fn entry(row: &Columns<'_>) -> Result<ErrorEntry, StoreError> {
    let tenant = row.text("tenant")?;
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
