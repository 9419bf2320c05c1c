//! Creations that may be repeated.

use portcullis_model::id::{Id, Revision};
use portcullis_model::time::UnixTime;
use rusqlite::{Connection, params};

use super::Store;
use super::commit::Stamp;
use super::rows::{execute, int, number, one, scalar};
use crate::change::{Remember, Remembered};
use crate::error::StoreError;

/// How many outdated rows a change removes at most. It adds one, so that they get fewer.
const PRUNED_AT_ONCE: i64 = 100;

impl Store {
    /// What came of the creation that the credential asked for under `key`, if that was after `since`.
    ///
    /// # Errors
    /// Nothing could be read.
    pub async fn remembered(
        &self,
        credential: &Id,
        key: &str,
        since: UnixTime,
    ) -> Result<Option<Remembered>, StoreError> {
        let query =
            "SELECT fingerprint, object, revision FROM idempotency WHERE credential = ?1 AND key = ?2 AND at > ?3";
        let params = params![credential.as_str(), key, int(since.as_secs())?];
        self.readers.read(|db| {
            one(db, query, params, "idempotency", |row| {
                Ok(Remembered {
                    fingerprint: row.bytes("fingerprint")?,
                    object: row.get("object")?,
                    revision: Revision(row.number("revision")?),
                })
            })
        })
    }

    /// How many creations of a tenant's credentials are remembered since then.
    ///
    /// # Errors
    /// Nothing could be read.
    pub async fn count_remembered(&self, tenant: &Id, since: UnixTime) -> Result<u64, StoreError> {
        let query = "SELECT count(*) FROM idempotency WHERE tenant = ?1 AND at > ?2";
        let params = params![tenant.as_str(), int(since.as_secs())?];
        self.readers.read(|db| number(scalar(db, query, params)?))
    }
}

/// Adds a row, in place of an outdated one of the same key, and removes others that are outdated.
pub(super) fn remember(tx: &Connection, new: &Remember, stamp: Stamp) -> Result<(), StoreError> {
    let outdated = "DELETE FROM idempotency WHERE (credential, key) IN
         (SELECT credential, key FROM idempotency WHERE at <= ?1 ORDER BY at LIMIT ?2)";
    execute(tx, outdated, params![int(new.outdated.as_secs())?, PRUNED_AT_ONCE])?;
    execute(
        tx,
        "INSERT INTO idempotency (credential, key, tenant, fingerprint, object, revision, at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
         ON CONFLICT (credential, key) DO UPDATE SET tenant = excluded.tenant, fingerprint = excluded.fingerprint,
             object = excluded.object, revision = excluded.revision, at = excluded.at",
        params![
            new.credential.as_str(),
            new.key.as_str(),
            new.tenant.as_str(),
            new.fingerprint.as_slice(),
            new.object.as_str(),
            stamp.revision,
            stamp.at
        ],
    )?;
    Ok(())
}
