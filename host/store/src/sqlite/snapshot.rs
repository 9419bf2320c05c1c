//! Everything that a policy is compiled from, as of one moment.

use portcullis_model::credential::SecretDigest;
use portcullis_model::id::{Id, Revision};
use portcullis_model::source::{Credential, SecretVersion};
use portcullis_model::time::Expiry;
use serde::de::DeserializeOwned;
use sqlx::{Sqlite, SqliteConnection, SqlitePool, Transaction};

use super::Store;
use super::read;
use super::rows::{Columns, number};
use crate::change::Snapshot;
use crate::error::StoreError;

/// From how many credentials on they are read by two connections, each one half of them.
const SPLIT_ROWS: i64 = 20_000;

/// Credentials in one text. Most have 200 bytes; ten thousand address ranges make one of 200 kB.
const CHUNK_LINES: i64 = 512;

/// Rows that are held at once: a row as SQLite gives it takes several times the memory of its record.
const CHUNK_ROWS: i64 = 1024;

impl Store {
    /// Reads all that a policy is compiled from. Changes that are made meanwhile are not in it.
    ///
    /// # Errors
    /// Nothing could be read.
    pub async fn snapshot(&self) -> Result<Snapshot, StoreError> {
        let (mut tx, revision) = pinned(&self.readers).await?;
        // On its own before the other lists: it takes nearly all of the time.
        let last = last(&mut tx).await?;
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
        self.around(credentials, tx, revision).await
    }

    /// The same with one processor and by a connection of its own. What it does has the priority of the thread that waits for
    /// it, from its first use on.
    ///
    /// # Errors
    /// Nothing could be read.
    pub async fn snapshot_unhurried(&self) -> Result<Snapshot, StoreError> {
        let (mut tx, revision) = pinned(&self.unhurried).await?;
        let last = last(&mut tx).await?;
        let credentials = credentials(&mut tx, 0, last).await?;
        self.around(credentials, tx, revision).await
    }

    /// The other lists.
    async fn around(
        &self,
        credentials: Vec<Credential>,
        mut tx: Transaction<'static, Sqlite>,
        revision: i64,
    ) -> Result<Snapshot, StoreError> {
        let installation = sqlx::query("SELECT * FROM installation").fetch_one(&mut *tx).await?;
        let snapshot = Snapshot {
            revision: Revision(number(revision)?),
            seed: self.seed,
            installation: Columns::new(&installation, "installation").json("body")?,
            services: list(&mut tx, "service", SERVICES, |row| Ok((row.json("body")?, row.get("reserved")?))).await?,
            tenants: list(&mut tx, "tenant", TENANTS, read::tenant).await?,
            settings: list(&mut tx, "setting", SETTINGS, |row| Ok((row.id("tenant")?, read::setting(row)?))).await?,
            applications: list(&mut tx, "application", APPLICATIONS, read::application).await?,
            feeds: list(&mut tx, "feed", FEEDS, read::feed).await?,
            groups: list(&mut tx, "permission_group", GROUPS, read::group).await?,
            users: list(&mut tx, "person", USERS, read::user).await?,
            credentials,
        };
        tx.rollback().await?;
        Ok(snapshot)
    }

    /// Another transaction that sees that revision, unless a change came between: every change of a record makes a new one, so
    /// the two see the same records.
    async fn pinned_at(&self, revision: i64) -> Result<Option<Transaction<'static, Sqlite>>, StoreError> {
        let (tx, found) = pinned(&self.readers).await?;
        Ok((found == revision).then_some(tx))
    }
}

/// A transaction that sees one revision, whatever is written meanwhile.
async fn pinned(by: &SqlitePool) -> Result<(Transaction<'static, Sqlite>, i64), StoreError> {
    // The first statement of a transaction fixes what all of them see.
    let mut tx = by.begin().await?;
    let revision = sqlx::query_scalar("SELECT revision FROM meta").fetch_one(&mut *tx).await?;
    Ok((tx, revision))
}

async fn last(tx: &mut SqliteConnection) -> Result<i64, StoreError> {
    Ok(sqlx::query_scalar("SELECT coalesce(max(seq), 0) FROM credential").fetch_one(tx).await?)
}

/// The credentials behind `after` up to `until`.
async fn credentials(tx: &mut SqliteConnection, after: i64, until: i64) -> Result<Vec<Credential>, StoreError> {
    let mut records = Vec::new();
    let mut after = after;
    loop {
        let query = sqlx::query(CREDENTIALS).bind(after).bind(CHUNK_LINES).bind(until);
        let row = query.fetch_one(&mut *tx).await?;
        let row = Columns::new(&row, "credential");
        let Some(last) = row.get::<Option<i64>>("last")? else { return Ok(records) };
        after = last;
        for line in row.get::<&str>("lines")?.split(RECORD_SEPARATOR) {
            records.push(Line { row, fields: line.split(UNIT_SEPARATOR) }.credential()?);
        }
    }
}

/// A credential as a line of text: its columns in the order of [`CREDENTIALS`]. None of them can have a control character in
/// it: ids and words have none, and JSON escapes them.
struct Line<'r> {
    row: Columns<'r>,
    fields: std::str::Split<'r, char>,
}

impl<'r> Line<'r> {
    fn credential(mut self) -> Result<Credential, StoreError> {
        Ok(Credential {
            id: self.id("id")?,
            tenant: self.id("tenant")?,
            kind: self.word("kind")?,
            state: self.word("state")?,
            expires: self.expiry("expires")?,
            group: self.maybe_id("permission_group")?,
            ip_allowlist: self.list("ip_allowlist")?,
            endpoints: self.list("endpoints")?,
            applications: self.list("applications")?,
            creator: self.maybe_id("creator")?,
            creator_rule: self.word("creator_rule")?,
            secrets: self.secrets("secrets")?,
            signature_profile: self.maybe_id("signature_profile")?,
            signed_only: self.next("signed_only")? == "1",
        })
    }

    fn next(&mut self, column: &str) -> Result<&'r str, StoreError> {
        self.fields.next().ok_or_else(|| self.row.damaged(column, "it is missing"))
    }

    fn id(&mut self, column: &str) -> Result<Id, StoreError> {
        self.next(column)?.parse().map_err(|error| self.row.damaged(column, error))
    }

    fn maybe_id(&mut self, column: &str) -> Result<Option<Id>, StoreError> {
        match self.next(column)? {
            "" => Ok(None),
            id => id.parse().map(Some).map_err(|error| self.row.damaged(column, error)),
        }
    }

    fn word<T: DeserializeOwned>(&mut self, column: &str) -> Result<T, StoreError> {
        let word = self.next(column)?;
        self.row.as_word(column, word)
    }

    fn list<T: DeserializeOwned>(&mut self, column: &str) -> Result<Vec<T>, StoreError> {
        match self.next(column)? {
            "[]" => Ok(Vec::new()),
            json => self.row.as_json(column, json),
        }
    }

    fn expiry(&mut self, column: &str) -> Result<Option<Expiry>, StoreError> {
        let seconds = self.next(column)?;
        self.time(column, seconds)
    }

    fn time(&self, column: &str, seconds: &str) -> Result<Option<Expiry>, StoreError> {
        if seconds.is_empty() || seconds == "-" {
            return Ok(None);
        }
        let seconds = seconds.parse::<u64>().map_err(|error| self.row.damaged(column, error))?;
        self.row.seconds(column, seconds).map(|time| Some(Expiry::at(time)))
    }

    /// `VERSION DIGEST END SLOT`, with commas between; `-` stands for an end and a slot that there is not.
    fn secrets(&mut self, column: &str) -> Result<Vec<SecretVersion>, StoreError> {
        let text = self.next(column)?;
        let versions = text.split(',').filter(|version| !version.is_empty()).map(|text| {
            let mut parts = text.split(' ');
            let (version, sha256) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
            Ok(SecretVersion {
                version: version.parse().map_err(|error| self.row.damaged(column, error))?,
                sha256: SecretDigest::try_from(sha256.to_owned()).map_err(|error| self.row.damaged(column, error))?,
                until: self.time(column, parts.next().unwrap_or_default())?,
                signing_slot: match parts.next().unwrap_or_default() {
                    "" | "-" => None,
                    slot => Some(slot.parse().map_err(|error| self.row.damaged(column, error))?),
                },
            })
        });
        versions.collect()
    }
}

const SERVICES: &str = "SELECT seq, body, json_extract(delivery, '$.reserved_prefix') AS reserved FROM service
     WHERE seq > ?1 ORDER BY seq LIMIT ?2";
const TENANTS: &str = "SELECT * FROM tenant WHERE seq > ?1 ORDER BY seq LIMIT ?2";
const SETTINGS: &str = "SELECT seq, tenant, service, endpoint, ip_ranges, signature, replay FROM setting
     WHERE seq > ?1 ORDER BY seq LIMIT ?2";
const APPLICATIONS: &str = "SELECT seq, tenant, id FROM application WHERE seq > ?1 ORDER BY seq LIMIT ?2";
const FEEDS: &str = "SELECT seq, id, services FROM feed WHERE seq > ?1 ORDER BY seq LIMIT ?2";
const GROUPS: &str = "SELECT seq, tenant, id, permissions FROM permission_group WHERE seq > ?1 ORDER BY seq LIMIT ?2";
const USERS: &str = "SELECT seq, tenant, id, role, state, permission_group FROM person
     WHERE deleted = 0 AND seq > ?1 ORDER BY seq LIMIT ?2";
/// One row with a text of many lines: handing over thirteen values of each credential takes three times as long as finding them.
const CREDENTIALS: &str = "SELECT max(seq) AS last, group_concat(line, char(30) ORDER BY seq) AS lines
     FROM (SELECT seq, concat_ws(char(31), id, tenant, kind, state, coalesce(expires, ''),
                  coalesce(permission_group, ''), ip_allowlist, endpoints, applications, coalesce(creator, ''),
                  creator_rule,
                  coalesce((SELECT group_concat(concat_ws(' ', version, hex(sha256), coalesce(until, '-'), signing_slot), ',' ORDER BY version)
                            FROM credential_secret WHERE credential_seq = seq), ''),
                  coalesce(signature_profile, ''), signed_only) AS line
           FROM credential WHERE deleted = 0 AND seq > ?1 AND seq <= ?3 ORDER BY seq LIMIT ?2)";
/// What stands between two lines.
const RECORD_SEPARATOR: char = '\u{1e}';
/// What stands between two columns of a line.
const UNIT_SEPARATOR: char = '\u{1f}';

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
