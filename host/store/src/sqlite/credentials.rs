//! Credentials: their rows, and the questions that are asked about them.

use portcullis_model::credential::{Kind, SecretDigest};
use portcullis_model::id::{EndpointRef, Id};
use portcullis_model::source::{Credential, SecretVersion};
use portcullis_model::time::{Expiry, UnixTime};
use sqlx::{QueryBuilder, Row as _, SqliteConnection};

use super::Store;
use super::commit::Stamp;
use super::fault;
use super::rows::{Columns, after, encode, fetch, int, limit, number, page, word};
use crate::error::StoreError;
use crate::record::{Actor, CredentialFilter, CredentialRecord, Ends, Page, Paging, Stored};

impl Store {
    /// The credentials that the filter admits, in order of creation. Deleted ones are not there.
    ///
    /// # Errors
    /// Nothing could be read.
    pub async fn credentials(
        &self,
        filter: &CredentialFilter,
        paging: Paging,
    ) -> Result<Page<Stored<CredentialRecord>>, StoreError> {
        let limit = limit(paging);
        let mut query = QueryBuilder::new("SELECT * FROM credential_whole WHERE deleted = 0 AND tenant = ");
        query.push_bind(filter.tenant.as_str()).push(" AND kind = ").push_bind(filter.kind.as_str());
        query.push(" AND seq > ").push_bind(after(paging));
        if let Some(state) = filter.state {
            query.push(" AND state = ").push_bind(word(state)?);
        }
        if let Some(creator) = &filter.creator {
            query.push(" AND creator = ").push_bind(creator.as_str());
        }
        match filter.ends {
            None => {}
            Some(Ends::By(until)) => {
                query.push(" AND expires IS NOT NULL AND expires <= ").push_bind(int(until.as_secs())?);
            }
            Some(Ends::Between(after, until)) => {
                query.push(" AND expires IS NOT NULL AND expires > ").push_bind(int(after.as_secs())?);
                query.push(" AND expires <= ").push_bind(int(until.as_secs())?);
            }
            Some(Ends::After(after)) => {
                query.push(" AND (expires IS NULL OR expires > ").push_bind(int(after.as_secs())?).push(")");
            }
        }
        query.push(" ORDER BY seq LIMIT ").push_bind(fetch(limit));
        let query = query.build();
        page(&query.fetch_all(&self.readers).await?, limit, "credential", stored)
    }

    /// The credential with that id, unless it is deleted.
    ///
    /// # Errors
    /// Nothing could be read.
    pub async fn credential(&self, id: &Id) -> Result<Option<Stored<CredentialRecord>>, StoreError> {
        let query = sqlx::query("SELECT * FROM credential_whole WHERE id = ?1 AND deleted = 0").bind(id.as_str());
        let row = query.fetch_optional(&self.readers).await?;
        row.map(|row| stored(&Columns::new(&row, "credential"))).transpose()
    }

    /// The credential that one version of its secret has that digest of, unless it is deleted.
    ///
    /// # Errors
    /// Nothing could be read.
    pub async fn credential_of(&self, digest: &SecretDigest) -> Result<Option<Stored<CredentialRecord>>, StoreError> {
        let query = sqlx::query(
            "SELECT * FROM credential_whole
             WHERE seq = (SELECT credential_seq FROM credential_secret WHERE sha256 = ?1) AND deleted = 0",
        );
        let row = query.bind(digest.as_bytes().as_slice()).fetch_optional(&self.readers).await?;
        row.map(|row| stored(&Columns::new(&row, "credential"))).transpose()
    }

    /// Whether a credential has that id or had it before it was deleted.
    ///
    /// # Errors
    /// Nothing could be read.
    pub async fn credential_id_is_taken(&self, id: &Id) -> Result<bool, StoreError> {
        let query = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM credential WHERE id = ?1)").bind(id.as_str());
        Ok(query.fetch_one(&self.readers).await?)
    }

    /// How many credentials of a tenant are active and not expired at `now`.
    ///
    /// # Errors
    /// Nothing could be read.
    pub async fn count_live(&self, tenant: &Id, kind: Kind, now: UnixTime) -> Result<u64, StoreError> {
        // Days after this one are counted already; of this one's keys an index has those that are still to end.
        let query = sqlx::query_scalar(
            "SELECT (SELECT coalesce(sum(count), 0) FROM live_credential
                     WHERE tenant = ?1 AND kind = ?2 AND day > ?3 / 86400)
                  + (SELECT count(*) FROM credential
                     WHERE tenant = ?1 AND kind = ?2 AND deleted = 0 AND state = 'active'
                       AND expires > ?3 AND expires < (?3 / 86400 + 1) * 86400)",
        );
        let count: i64 =
            query.bind(tenant.as_str()).bind(kind.as_str()).bind(int(now.as_secs())?).fetch_one(&self.readers).await?;
        number(count)
    }
}

/// Puts a credential with exactly the versions of its secret that it is put with.
pub(super) async fn put(tx: &mut SqliteConnection, record: &CredentialRecord, stamp: Stamp) -> Result<(), StoreError> {
    let seq = put_row(tx, record, stamp).await?;
    sqlx::query("DELETE FROM credential_secret WHERE credential_seq = ?1").bind(seq).execute(&mut *tx).await?;
    for secret in &record.credential.secrets {
        put_secret(tx, seq, secret).await?;
    }
    put_services(tx, seq, &record.credential.endpoints).await
}

async fn put_row(tx: &mut SqliteConnection, record: &CredentialRecord, stamp: Stamp) -> Result<i64, StoreError> {
    let credential = &record.credential;
    let row = sqlx::query(
        "INSERT INTO credential (id, tenant, kind, state, expires, permission_group, ip_allowlist, endpoints,
             applications, creator, creator_rule, name, description, created_by_tenant, created_by_credential,
             created_by_user, sealed_key, sealed_secret, created, changed, terms, signature_profile, signed_only)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23)
         ON CONFLICT (id) DO UPDATE SET state = excluded.state, expires = excluded.expires,
             permission_group = excluded.permission_group, ip_allowlist = excluded.ip_allowlist,
             endpoints = excluded.endpoints, applications = excluded.applications, creator = excluded.creator,
             creator_rule = excluded.creator_rule, name = excluded.name, description = excluded.description,
             created_by_tenant = excluded.created_by_tenant, created_by_credential = excluded.created_by_credential,
             created_by_user = excluded.created_by_user, sealed_key = excluded.sealed_key,
             sealed_secret = excluded.sealed_secret, changed = excluded.changed, terms = excluded.terms,
             signature_profile = excluded.signature_profile, signed_only = excluded.signed_only
             WHERE deleted = 0 AND tenant = excluded.tenant AND kind = excluded.kind
         RETURNING seq",
    )
    .bind(credential.id.as_str())
    .bind(credential.tenant.as_str())
    .bind(credential.kind.as_str())
    .bind(word(credential.state)?)
    .bind(expiry(credential.expires)?)
    .bind(credential.group.as_ref().map(Id::as_str))
    .bind(encode(&credential.ip_allowlist)?)
    .bind(encode(&credential.endpoints)?)
    .bind(encode(&credential.applications)?)
    .bind(credential.creator.as_ref().map(Id::as_str))
    .bind(word(credential.creator_rule)?)
    .bind(record.name.as_str())
    .bind(record.description.as_str())
    .bind(record.created_by.tenant.as_str())
    .bind(record.created_by.credential.as_ref().map(Id::as_str))
    .bind(record.created_by.user.as_ref().map(Id::as_str))
    .bind(record.sealed_key.as_deref())
    .bind(record.sealed_secret.as_deref())
    .bind(stamp.at)
    .bind(stamp.revision)
    .bind(record.terms.as_ref().map(encode).transpose()?)
    .bind(credential.signature_profile.as_ref().map(Id::as_str))
    .bind(credential.signed_only)
    .fetch_optional(tx)
    .await?;
    match row {
        Some(row) => Ok(row.try_get("seq")?),
        None => Err(StoreError::IdTaken { id: credential.id.clone() }),
    }
}

async fn put_secret(tx: &mut SqliteConnection, seq: i64, secret: &SecretVersion) -> Result<(), StoreError> {
    let query = sqlx::query(
        "INSERT INTO credential_secret (credential_seq, version, sha256, until, signing_slot) VALUES (?1, ?2, ?3, ?4, ?5)",
    );
    let insert = query
        .bind(seq)
        .bind(i64::from(secret.version))
        .bind(secret.sha256.as_bytes().as_slice())
        .bind(expiry(secret.until)?)
        .bind(secret.signing_slot.map(i64::from))
        .execute(tx)
        .await;
    match insert {
        Ok(_) => Ok(()),
        Err(error) if fault::is_duplicate(&error) => Err(StoreError::DuplicateDigest),
        Err(error) => Err(error.into()),
    }
}

pub(super) async fn put_services(
    tx: &mut SqliteConnection,
    seq: i64,
    endpoints: &[EndpointRef],
) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM credential_service WHERE credential_seq = ?1").bind(seq).execute(&mut *tx).await?;
    for endpoint in endpoints {
        sqlx::query("INSERT INTO credential_service (credential_seq, service) VALUES (?1, ?2) ON CONFLICT DO NOTHING")
            .bind(seq)
            .bind(endpoint.service.as_str())
            .execute(&mut *tx)
            .await?;
    }
    Ok(())
}

/// Marks a credential as deleted and forgets its secrets.
pub(super) async fn remove(tx: &mut SqliteConnection, id: &Id, stamp: Stamp) -> Result<(), StoreError> {
    let row = sqlx::query(
        "UPDATE credential SET deleted = 1, sealed_key = NULL, sealed_secret = NULL, changed = ?2
         WHERE id = ?1 AND deleted = 0
         RETURNING seq",
    )
    .bind(id.as_str())
    .bind(stamp.revision)
    .fetch_optional(&mut *tx)
    .await?;
    let Some(row) = row else { return Ok(()) };
    let seq: i64 = row.try_get("seq")?;
    sqlx::query("DELETE FROM credential_secret WHERE credential_seq = ?1").bind(seq).execute(&mut *tx).await?;
    put_services(tx, seq, &[]).await
}

pub(super) fn expiry(expires: Option<Expiry>) -> Result<Option<i64>, StoreError> {
    expires.map(|expires| int(expires.instant().as_secs())).transpose()
}

fn stored(row: &Columns<'_>) -> Result<Stored<CredentialRecord>, StoreError> {
    row.stored(CredentialRecord {
        credential: credential(row)?,
        name: row.get("name")?,
        description: row.get("description")?,
        created_by: Actor {
            tenant: row.id("created_by_tenant")?,
            credential: row.maybe_id("created_by_credential")?,
            user: row.maybe_id("created_by_user")?,
        },
        sealed_key: row.get("sealed_key")?,
        sealed_secret: row.get("sealed_secret")?,
        terms: match row.get::<Option<&str>>("terms")? {
            None => None,
            Some(_) => Some(row.json("terms")?),
        },
    })
}

/// What the policy holds of a row of `credential_whole`.
fn credential(row: &Columns<'_>) -> Result<Credential, StoreError> {
    Ok(Credential {
        id: row.id("id")?,
        tenant: row.id("tenant")?,
        kind: row.word("kind")?,
        state: row.word("state")?,
        expires: row.maybe_time("expires")?.map(Expiry::at),
        secrets: secrets(row)?,
        group: row.maybe_id("permission_group")?,
        ip_allowlist: row.json("ip_allowlist")?,
        endpoints: row.json("endpoints")?,
        applications: row.json("applications")?,
        creator: row.maybe_id("creator")?,
        creator_rule: row.word("creator_rule")?,
        signature_profile: row.maybe_id("signature_profile")?,
        signed_only: row.get("signed_only")?,
    })
}

fn secrets(row: &Columns<'_>) -> Result<Vec<SecretVersion>, StoreError> {
    let versions: Vec<(u16, SecretDigest, Option<u64>, Option<u32>)> = row.json("secrets")?;
    let until = |seconds| UnixTime::from_secs(seconds).map(Expiry::at).ok_or_else(|| row.damaged("until", "no time"));
    versions
        .into_iter()
        .map(|(version, sha256, seconds, signing_slot)| {
            Ok(SecretVersion { version, sha256, until: seconds.map(until).transpose()?, signing_slot })
        })
        .collect()
}
