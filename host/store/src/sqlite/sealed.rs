//! Everything that is sealed under the master key: where it is, and how all of it is sealed anew at once.

use rusqlite::{Connection, params};

use super::Store;
use super::chain;
use super::rows::{all, execute, number, one, scalar};
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
        self.readers.read(|db| {
            one(db, "SELECT public, sealed FROM audit_key", [], "audit_key", |row| {
                Ok(AuditKey { public: row.bytes("public")?, sealed: row.get("sealed")? })
            })
        })
    }

    /// Keeps the key of the audit. It is made once.
    ///
    /// # Errors
    /// There is one already, or the database failed.
    pub async fn put_audit_key(&self, key: &AuditKey) -> Result<(), StoreError> {
        let insert = "INSERT INTO audit_key (only_row, public, sealed) VALUES (1, ?1, ?2)";
        let put = self.writer.write(|tx| {
            execute(tx, insert, params![key.public.as_slice(), key.sealed.as_slice()])?;
            Ok(())
        });
        put.await
    }

    /// Whether anything is sealed: then there is a master key already.
    ///
    /// # Errors
    /// Nothing could be read.
    pub async fn has_sealed(&self) -> Result<bool, StoreError> {
        self.readers.read(|db| {
            for Sealed { table, column, .. } in &SEALED {
                let query = format!("SELECT EXISTS (SELECT 1 FROM {table} WHERE {column} IS NOT NULL)");
                if scalar(db, &query, [])? {
                    return Ok(true);
                }
            }
            Ok(false)
        })
    }

    /// Seals everything anew, in one transaction with an entry of the audit: `reseal` is given what a secret was sealed for
    /// and the sealed secret. `told` makes the entry, out of the revision and how many secrets there were.
    ///
    /// # Errors
    /// One does not open, or the database failed; nothing has changed then.
    pub async fn reseal(
        &self,
        reseal: impl Fn(&str, &[u8]) -> Option<Vec<u8>>,
        told: impl Fn(Revision, u64) -> Entry,
    ) -> Result<u64, StoreError> {
        let done = self.writer.write(|tx| {
            let mut count = 0;
            for sealed in &SEALED {
                count += reseal_column(tx, sealed, &reseal)?;
            }
            let revision: i64 = scalar(tx, "SELECT revision FROM meta", [])?;
            let entry = told(Revision(number(revision)?), count);
            debug_assert!(matches!(entry.outcome, Outcome::Done { .. }));
            chain::append(tx, &[entry])?;
            Ok(count)
        });
        done.await
    }
}

fn reseal_column(
    tx: &Connection,
    Sealed { table, column, place }: &Sealed,
    reseal: &impl Fn(&str, &[u8]) -> Option<Vec<u8>>,
) -> Result<u64, StoreError> {
    let read = format!(
        "SELECT rowid AS at, {place} AS place, {column} AS sealed FROM {table}
         WHERE {column} IS NOT NULL AND rowid > ?1 ORDER BY rowid LIMIT ?2"
    );
    let write = format!("UPDATE {table} SET {column} = ?1 WHERE rowid = ?2");
    let (mut count, mut after) = (0, i64::MIN);
    loop {
        // A row that is written while it is read could be met again.
        let rows: Vec<(i64, Vec<u8>)> = all(tx, &read, [after, CHUNK_ROWS], table, |row| {
            let place = row.text("place")?;
            let sealed = reseal(place, row.blob("sealed")?);
            Ok((row.get("at")?, sealed.ok_or_else(|| StoreError::Sealed { place: place.to_owned() })?))
        })?;
        let Some((last, _)) = rows.last() else { return Ok(count) };
        after = *last;
        for (at, sealed) in rows {
            execute(tx, &write, params![sealed, at])?;
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
        let query = "SELECT m.name || '.' || c.name AS name FROM sqlite_schema AS m, pragma_table_info(m.name) AS c
             WHERE m.type = 'table' AND c.name LIKE '%sealed%'";
        let read = |db: &Connection| all(db, query, [], "sqlite_schema", |row| row.get("name"));
        let columns: Vec<String> = store.readers.read(read).unwrap();
        let known = SEALED.iter().map(|Sealed { table, column, .. }| format!("{table}.{column}"));
        assert_eq!(columns.into_iter().collect::<BTreeSet<_>>(), known.collect());
        assert!(!store.has_sealed().await.unwrap());
    }
}
