//! Everything that a policy is compiled from, as of one moment.

use portcullis_model::id::Revision;
use portcullis_model::source::Credential;
use sqlx::{Sqlite, SqliteConnection, Transaction};

use super::Store;
use super::credentials::credential;
use super::read;
use super::rows::{Columns, number};
use crate::change::Snapshot;
use crate::error::StoreError;

/// From how many credentials on they are read by two connections, each one half of them.
const SPLIT_ROWS: i64 = 20_000;

/// Rows that are held at once: a row as SQLite gives it takes several times the memory of its record.
const CHUNK_ROWS: i64 = 1024;

impl Store {
    /// Reads all that a policy is compiled from. Changes that are made meanwhile are not in it.
    ///
    /// # Errors
    /// Nothing could be read.
    pub async fn snapshot(&self) -> Result<Snapshot, StoreError> {
        let (mut tx, revision) = self.pinned().await?;
        // On its own before the other lists: it takes nearly all of the time.
        let last: i64 = sqlx::query_scalar("SELECT coalesce(max(seq), 0) FROM credential").fetch_one(&mut *tx).await?;
        let middle = last / 2;
        let other = if last - middle >= SPLIT_ROWS / 2 { self.pinned_at(revision).await? } else { None };
        let credentials = match other {
            None => credentials(&mut tx, 0, last).await?,
            Some(mut other) => {
                let rest = tokio::spawn(async move { credentials(&mut other, middle, last).await });
                let mut credentials = credentials(&mut tx, 0, middle).await?;
                credentials.extend(rest.await.map_err(|lost| StoreError::Database(Box::new(lost)))??);
                credentials
            }
        };
        let installation = sqlx::query("SELECT * FROM installation").fetch_one(&mut *tx).await?;
        let snapshot = Snapshot {
            revision: Revision(number(revision)?),
            seed: self.seed,
            installation: Columns::new(&installation, "installation").json("body")?,
            services: list(&mut tx, "service", SERVICES, |row| row.json("body")).await?,
            tenants: list(&mut tx, "tenant", TENANTS, read::tenant).await?,
            settings: list(&mut tx, "setting", SETTINGS, |row| Ok((row.id("tenant")?, read::setting(row)?))).await?,
            applications: list(&mut tx, "application", APPLICATIONS, read::application).await?,
            groups: list(&mut tx, "permission_group", GROUPS, read::group).await?,
            users: list(&mut tx, "person", USERS, read::user).await?,
            credentials,
        };
        tx.rollback().await?;
        Ok(snapshot)
    }

    /// A transaction that sees one revision, whatever is written meanwhile.
    async fn pinned(&self) -> Result<(Transaction<'static, Sqlite>, i64), StoreError> {
        // The first statement of a transaction fixes what all of them see.
        let mut tx = self.readers.begin().await?;
        let revision = sqlx::query_scalar("SELECT revision FROM meta").fetch_one(&mut *tx).await?;
        Ok((tx, revision))
    }

    /// Another transaction that sees that revision, unless a change came between: every change of a record makes a new one, so
    /// the two see the same records.
    async fn pinned_at(&self, revision: i64) -> Result<Option<Transaction<'static, Sqlite>>, StoreError> {
        let (tx, found) = self.pinned().await?;
        Ok((found == revision).then_some(tx))
    }
}

/// The credentials behind `after` up to `until`.
async fn credentials(tx: &mut SqliteConnection, after: i64, until: i64) -> Result<Vec<Credential>, StoreError> {
    let mut records = Vec::new();
    let mut after = after;
    loop {
        let rows = sqlx::query(CREDENTIALS).bind(after).bind(CHUNK_ROWS).bind(until).fetch_all(&mut *tx).await?;
        let Some(last) = rows.last() else { return Ok(records) };
        after = Columns::new(last, "credential").get("seq")?;
        records.reserve(rows.len());
        for row in &rows {
            records.push(credential(&Columns::new(row, "credential"))?);
        }
    }
}

const SERVICES: &str = "SELECT seq, body FROM service WHERE seq > ?1 ORDER BY seq LIMIT ?2";
const TENANTS: &str = "SELECT * FROM tenant WHERE seq > ?1 ORDER BY seq LIMIT ?2";
const SETTINGS: &str =
    "SELECT seq, tenant, service, endpoint, ip_ranges, signature FROM setting WHERE seq > ?1 ORDER BY seq LIMIT ?2";
const APPLICATIONS: &str = "SELECT seq, tenant, id FROM application WHERE seq > ?1 ORDER BY seq LIMIT ?2";
const GROUPS: &str = "SELECT seq, tenant, id, permissions FROM permission_group WHERE seq > ?1 ORDER BY seq LIMIT ?2";
const USERS: &str = "SELECT seq, tenant, id, role, state, permission_group FROM person
     WHERE deleted = 0 AND seq > ?1 ORDER BY seq LIMIT ?2";
const CREDENTIALS: &str =
    "SELECT seq, id, tenant, kind, state, expires, secrets, permission_group, ip_allowlist, endpoints,
         applications, creator, creator_rule
     FROM credential_whole WHERE deleted = 0 AND seq > ?1 AND seq <= ?3 ORDER BY seq LIMIT ?2";

/// All rows of a query that goes on behind `?1` and gives at most `?2`.
async fn list<T>(
    tx: &mut SqliteConnection,
    table: &'static str,
    query: &'static str,
    decode: fn(&Columns<'_>) -> Result<T, StoreError>,
) -> Result<Vec<T>, StoreError> {
    let mut records = Vec::new();
    let mut after = 0_i64;
    loop {
        let rows = sqlx::query(query).bind(after).bind(CHUNK_ROWS).fetch_all(&mut *tx).await?;
        let Some(last) = rows.last() else { return Ok(records) };
        after = Columns::new(last, table).get("seq")?;
        records.reserve(rows.len());
        for row in &rows {
            records.push(decode(&Columns::new(row, table))?);
        }
    }
}
