//! Uses of secrets: added up where they are, and read for a page of credentials at once.

use std::net::IpAddr;

use portcullis_model::id::Id;
use portcullis_model::time::UnixTime;
use rusqlite::{Connection, params};

use super::Store;
use super::rows::{Columns, all, encode, execute, int};
use crate::error::StoreError;
use crate::usage::{SecretUse, SecretUsed};

const DAY_S: u64 = 86_400;

impl Store {
    /// Adds uses of secrets. They are no change: there is no revision and no audit entry.
    ///
    /// # Errors
    /// Nothing was added.
    pub async fn add_uses(&self, uses: &[SecretUse]) -> Result<(), StoreError> {
        if uses.is_empty() {
            return Ok(());
        }
        self.writer.write(|tx| add(tx, uses)).await
    }

    /// What is known of the secrets of credentials; nothing of those that were never used.
    ///
    /// # Errors
    /// Nothing could be read.
    pub async fn uses(&self, credentials: &[Id], now: UnixTime) -> Result<Vec<(Id, SecretUsed)>, StoreError> {
        let query = "SELECT * FROM credential_use WHERE credential IN (SELECT value FROM json_each(?1))
             ORDER BY credential, version";
        let (ids, today) = (encode(&credentials)?, now.as_secs() / DAY_S);
        self.readers.read(|db| all(db, query, [ids], "credential_use", |row| used(row, today)))
    }
}

fn add(tx: &Connection, uses: &[SecretUse]) -> Result<(), StoreError> {
    for of in uses {
        // Columns on the right are those of the row as it was.
        execute(tx, "INSERT INTO credential_use (credential, version, last_at, address, count, day, today, yesterday)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?5, 0)
             ON CONFLICT (credential, version) DO UPDATE SET
                 address = CASE WHEN excluded.last_at >= last_at THEN excluded.address ELSE address END,
                 last_at = max(last_at, excluded.last_at),
                 count = count + excluded.count,
                 yesterday = CASE WHEN excluded.day <= day THEN yesterday WHEN excluded.day = day + 1 THEN today ELSE 0 END,
                 today = CASE WHEN excluded.day <= day THEN today + excluded.today ELSE excluded.today END,
                 day = max(day, excluded.day)", params![of.credential.as_str(), i64::from(of.version), int(of.last.as_secs())?, of.address.map(|address| address.to_string()), int(of.count)?, int(of.last.as_secs() / DAY_S)?])?;
    }
    Ok(())
}

fn used(row: &Columns<'_>, today: u64) -> Result<(Id, SecretUsed), StoreError> {
    let address: Option<IpAddr> =
        row.maybe_text("address")?.map(str::parse).transpose().map_err(|error| row.damaged("address", error))?;
    let recent = match today.saturating_sub(row.number("day")?) {
        0 => row.number("today")?.saturating_add(row.number("yesterday")?),
        1 => row.number("today")?,
        _ => 0,
    };
    let used = SecretUsed {
        version: row.small("version")?,
        last: row.time("last_at")?,
        address,
        count: row.number("count")?,
        recent,
    };
    Ok((row.id("credential")?, used))
}
