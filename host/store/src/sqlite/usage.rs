//! Uses of secrets: added up where they are, and read for a page of credentials at once.

use std::net::IpAddr;

use portcullis_model::id::Id;
use portcullis_model::time::UnixTime;
use sqlx::SqliteConnection;

use super::Store;
use super::rows::{Columns, encode, int};
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
        let uses = uses.to_vec();
        self.writer.write(move |tx| Box::pin(async move { add(tx, &uses).await })).await
    }

    /// What is known of the secrets of credentials; nothing of those that were never used.
    ///
    /// # Errors
    /// Nothing could be read.
    pub async fn uses(&self, credentials: &[Id], now: UnixTime) -> Result<Vec<(Id, SecretUsed)>, StoreError> {
        let query = sqlx::query(
            "SELECT * FROM credential_use WHERE credential IN (SELECT value FROM json_each(?1))
             ORDER BY credential, version",
        );
        let ids: Vec<&str> = credentials.iter().map(Id::as_str).collect();
        let rows = query.bind(encode(&ids)?).fetch_all(&self.readers).await?;
        let today = now.as_secs() / DAY_S;
        rows.iter().map(|row| used(&Columns::new(row, "credential_use"), today)).collect()
    }
}

async fn add(tx: &mut SqliteConnection, uses: &[SecretUse]) -> Result<(), StoreError> {
    for of in uses {
        // Columns on the right are those of the row as it was.
        sqlx::query(
            "INSERT INTO credential_use (credential, version, last_at, address, count, day, today, yesterday)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?5, 0)
             ON CONFLICT (credential, version) DO UPDATE SET
                 address = CASE WHEN excluded.last_at >= last_at THEN excluded.address ELSE address END,
                 last_at = max(last_at, excluded.last_at),
                 count = count + excluded.count,
                 yesterday = CASE WHEN excluded.day <= day THEN yesterday WHEN excluded.day = day + 1 THEN today ELSE 0 END,
                 today = CASE WHEN excluded.day <= day THEN today + excluded.today ELSE excluded.today END,
                 day = max(day, excluded.day)",
        )
        .bind(of.credential.as_str())
        .bind(i64::from(of.version))
        .bind(int(of.last.as_secs())?)
        .bind(of.address.map(|address| address.to_string()))
        .bind(int(of.count)?)
        .bind(int(of.last.as_secs() / DAY_S)?)
        .execute(&mut *tx)
        .await?;
    }
    Ok(())
}

fn used(row: &Columns<'_>, today: u64) -> Result<(Id, SecretUsed), StoreError> {
    let address: Option<&str> = row.get("address")?;
    let address: Option<IpAddr> = address.map(str::parse).transpose().map_err(|error| row.damaged("address", error))?;
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
