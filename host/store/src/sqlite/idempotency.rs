//! Creations that may be repeated.

use portcullis_model::id::{Id, Revision};
use portcullis_model::time::UnixTime;
use sqlx::{Row as _, SqliteConnection};

use super::Store;
use super::commit::Stamp;
use super::rows::{int, number};
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
        let query = sqlx::query(
            "SELECT fingerprint, object, revision FROM idempotency WHERE credential = ?1 AND key = ?2 AND at > ?3",
        );
        let query = query.bind(credential.as_str()).bind(key).bind(int(since.as_secs())?);
        let Some(row) = query.fetch_optional(&self.readers).await? else { return Ok(None) };
        let fingerprint: &[u8] = row.try_get("fingerprint")?;
        let damaged = |_| StoreError::Damaged("a fingerprint that has not 32 bytes".to_owned());
        Ok(Some(Remembered {
            fingerprint: fingerprint.try_into().map_err(damaged)?,
            object: row.try_get("object")?,
            revision: Revision(number(row.try_get("revision")?)?),
        }))
    }

    /// How many creations of a tenant's credentials are remembered since then.
    ///
    /// # Errors
    /// Nothing could be read.
    pub async fn count_remembered(&self, tenant: &Id, since: UnixTime) -> Result<u64, StoreError> {
        let query = sqlx::query_scalar("SELECT count(*) FROM idempotency WHERE tenant = ?1 AND at > ?2");
        number(query.bind(tenant.as_str()).bind(int(since.as_secs())?).fetch_one(&self.readers).await?)
    }
}

/// Adds a row, in place of an outdated one of the same key, and removes others that are outdated.
pub(super) async fn remember(tx: &mut SqliteConnection, new: &Remember, stamp: Stamp) -> Result<(), StoreError> {
    let outdated = "DELETE FROM idempotency WHERE (credential, key) IN
         (SELECT credential, key FROM idempotency WHERE at <= ?1 ORDER BY at LIMIT ?2)";
    sqlx::query(outdated).bind(int(new.outdated.as_secs())?).bind(PRUNED_AT_ONCE).execute(&mut *tx).await?;
    sqlx::query(
        "INSERT INTO idempotency (credential, key, tenant, fingerprint, object, revision, at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
         ON CONFLICT (credential, key) DO UPDATE SET tenant = excluded.tenant, fingerprint = excluded.fingerprint,
             object = excluded.object, revision = excluded.revision, at = excluded.at",
    )
    .bind(new.credential.as_str())
    .bind(new.key.as_str())
    .bind(new.tenant.as_str())
    .bind(new.fingerprint.as_slice())
    .bind(new.object.as_str())
    .bind(stamp.revision)
    .bind(stamp.at)
    .execute(tx)
    .await?;
    Ok(())
}
