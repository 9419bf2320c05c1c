//! Everything that is sealed under the master key: where it is, and how all of it is sealed anew at once.

use sqlx::{AssertSqlSafe, Row as _, SqliteConnection};

use super::Store;
use super::chain;
use super::rows::{Columns, number};
use crate::audit::{Entry, Outcome};
use crate::error::StoreError;
use portcullis_model::id::Revision;

/// A column with sealed secrets: its table, itself, and what it was sealed for, as an SQL expression.
struct Sealed {
    table: &'static str,
    column: &'static str,
    place: &'static str,
}

/// Every one of them. A test compares it with the schema, so that none is forgotten when the master key changes.
const SEALED: [Sealed; 4] = [
    Sealed { table: "credential", column: "sealed_key", place: "'credential/' || id || '/key'" },
    Sealed { table: "credential", column: "sealed_secret", place: "'credential/' || id || '/secret'" },
    Sealed { table: "audit_key", column: "sealed", place: "'audit/key'" },
    Sealed { table: "token_key", column: "sealed", place: "'token/' || kid" },
];

/// Rows that are sealed anew at a time.
const CHUNK_ROWS: i64 = 512;

/// The key that signs checkpoints of the audit.
#[derive(Clone, PartialEq, Eq)]
pub struct AuditKey {
    /// Its public half.
    pub public: [u8; 32],
    /// Its private half, sealed.
    pub sealed: Vec<u8>,
}

impl std::fmt::Debug for AuditKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AuditKey").field("public", &self.public).finish_non_exhaustive()
    }
}

impl Store {
    /// The key of the audit, once it is made.
    ///
    /// # Errors
    /// Nothing could be read.
    pub async fn audit_key(&self) -> Result<Option<AuditKey>, StoreError> {
        let row = sqlx::query("SELECT public, sealed FROM audit_key").fetch_optional(&self.readers).await?;
        let Some(row) = row else { return Ok(None) };
        let row = Columns::new(&row, "audit_key");
        Ok(Some(AuditKey { public: row.bytes("public")?, sealed: row.get("sealed")? }))
    }

    /// Keeps the key of the audit. It is made once.
    ///
    /// # Errors
    /// There is one already, or the database failed.
    pub async fn put_audit_key(&self, key: &AuditKey) -> Result<(), StoreError> {
        let key = key.clone();
        let put = self.writer.write(move |tx| {
            Box::pin(async move {
                let insert = sqlx::query("INSERT INTO audit_key (only_row, public, sealed) VALUES (1, ?1, ?2)");
                insert.bind(key.public.as_slice()).bind(key.sealed.as_slice()).execute(tx).await?;
                Ok(())
            })
        });
        put.await
    }

    /// Whether anything is sealed: then there is a master key already.
    ///
    /// # Errors
    /// Nothing could be read.
    pub async fn has_sealed(&self) -> Result<bool, StoreError> {
        for Sealed { table, column, .. } in &SEALED {
            let query = format!("SELECT EXISTS (SELECT 1 FROM {table} WHERE {column} IS NOT NULL)");
            if sqlx::query_scalar(AssertSqlSafe(query)).fetch_one(&self.readers).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Seals everything anew, in one transaction with an entry of the audit: `reseal` is given what a secret was sealed for
    /// and the sealed secret. `told` makes the entry, out of the revision and how many secrets there were.
    ///
    /// # Errors
    /// One does not open, or the database failed; nothing has changed then.
    pub async fn reseal(
        &self,
        reseal: impl Fn(&str, &[u8]) -> Option<Vec<u8>> + Send + Sync + 'static,
        told: impl Fn(Revision, u64) -> Entry + Send + 'static,
    ) -> Result<u64, StoreError> {
        let done = self.writer.write(move |tx| {
            Box::pin(async move {
                let mut count = 0;
                for sealed in &SEALED {
                    count += reseal_column(tx, sealed, &reseal).await?;
                }
                let revision: i64 = sqlx::query_scalar("SELECT revision FROM meta").fetch_one(&mut *tx).await?;
                let entry = told(Revision(number(revision)?), count);
                debug_assert!(matches!(entry.outcome, Outcome::Done { .. }));
                chain::append(tx, &[entry]).await?;
                Ok(count)
            })
        });
        done.await
    }
}

async fn reseal_column(
    tx: &mut SqliteConnection,
    Sealed { table, column, place }: &Sealed,
    reseal: &(impl Fn(&str, &[u8]) -> Option<Vec<u8>> + Sync),
) -> Result<u64, StoreError> {
    let read = format!(
        "SELECT rowid AS at, {place} AS place, {column} AS sealed FROM {table}
         WHERE {column} IS NOT NULL AND rowid > ?1 ORDER BY rowid LIMIT ?2"
    );
    let write = format!("UPDATE {table} SET {column} = ?1 WHERE rowid = ?2");
    let (mut count, mut after) = (0, i64::MIN);
    loop {
        let query = sqlx::query(AssertSqlSafe(read.clone())).bind(after).bind(CHUNK_ROWS);
        let rows = query.fetch_all(&mut *tx).await?;
        let Some(last) = rows.last() else { return Ok(count) };
        after = last.try_get("at")?;
        for row in &rows {
            let (at, place): (i64, String) = (row.try_get("at")?, row.try_get("place")?);
            let sealed = reseal(&place, row.try_get("sealed")?).ok_or(StoreError::Sealed { place })?;
            sqlx::query(AssertSqlSafe(write.clone())).bind(sealed).bind(at).execute(&mut *tx).await?;
            count += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use portcullis_model::credential::Seed;
    use portcullis_model::source::Installation;
    use portcullis_model::time::UnixTime;
    use std::collections::BTreeSet;

    use super::*;
    use crate::change::Fresh;

    #[tokio::test]
    async fn every_sealed_column_of_the_schema_is_known() {
        let folder = tempfile::tempdir().unwrap();
        let fresh = Fresh { seed: Seed([1; 16]), at: UnixTime::default(), installation: Installation::default() };
        let store = Store::open(&folder.path().join("db"), &fresh).await.unwrap();
        let columns: Vec<String> = sqlx::query_scalar(
            "SELECT m.name || '.' || c.name FROM sqlite_schema AS m, pragma_table_info(m.name) AS c
             WHERE m.type = 'table' AND c.name LIKE '%sealed%'",
        )
        .fetch_all(&store.readers)
        .await
        .unwrap();
        let known = SEALED.iter().map(|Sealed { table, column, .. }| format!("{table}.{column}"));
        assert_eq!(columns.into_iter().collect::<BTreeSet<_>>(), known.collect());
        assert!(!store.has_sealed().await.unwrap());
    }
}
