//! Many new credentials at once: a few statements for a hundred rows, where each on its own takes five.

use portcullis_model::credential::SecretDigest;
use portcullis_model::id::Id;
use sqlx::sqlite::Sqlite;
use sqlx::{QueryBuilder, SqliteConnection};

use super::Store;
use super::commit::Stamp;
use super::credentials::{expiry, put_services};
use super::fault;
use super::rows::{Columns, encode, word};
use crate::error::StoreError;
use crate::record::{CredentialRecord, TakenDigest};

/// Rows in one statement. With 23 columns they need 2,300 parameters; SQLite takes 32,766.
const CHUNK_ROWS: usize = 100;

impl Store {
    /// Whose these digests are or were: of credentials that have them, and of those that had them before a rotation or before
    /// they were deleted.
    ///
    /// # Errors
    /// Nothing could be read.
    pub async fn taken_digests(&self, digests: &[SecretDigest]) -> Result<Vec<TakenDigest>, StoreError> {
        let query = sqlx::query(
            "SELECT sha256, tenant, id FROM credential_secret JOIN credential ON seq = credential_seq
             WHERE sha256 IN (SELECT unhex(value) FROM json_each(?1))
             UNION
             SELECT sha256, tenant, id FROM retired_digest JOIN credential ON seq = credential_seq
             WHERE sha256 IN (SELECT unhex(value) FROM json_each(?1))",
        );
        let rows = query.bind(encode(&digests)?).fetch_all(&self.readers).await?;
        let taken = rows.iter().map(|row| {
            let row = Columns::new(row, "credential_secret");
            let sha256 = SecretDigest::new(row.bytes("sha256")?);
            Ok(TakenDigest { sha256, tenant: row.id("tenant")?, credential: row.id("id")? })
        });
        taken.collect()
    }

    /// Which of these ids a credential has, or had before it was deleted.
    ///
    /// # Errors
    /// Nothing could be read.
    pub async fn taken_credential_ids(&self, ids: &[Id]) -> Result<Vec<Id>, StoreError> {
        let query = sqlx::query("SELECT id FROM credential WHERE id IN (SELECT value FROM json_each(?1))");
        let rows = query.bind(encode(&ids)?).fetch_all(&self.readers).await?;
        rows.iter().map(|row| Columns::new(row, "credential").id("id")).collect()
    }
}

/// Adds credentials whose ids are new.
///
/// INVARIANT (in-order): rows are numbered in the order they come in, because this is the one connection that writes.
pub(super) async fn add(
    tx: &mut SqliteConnection,
    records: &[CredentialRecord],
    stamp: Stamp,
) -> Result<(), StoreError> {
    let last = sqlx::query_scalar("SELECT seq FROM sqlite_sequence WHERE name = 'credential'");
    let mut last: i64 = last.fetch_optional(&mut *tx).await?.unwrap_or(0);
    for chunk in records.chunks(CHUNK_ROWS) {
        let numbered: Vec<(i64, &CredentialRecord)> = (last + 1..).zip(chunk).collect();
        last = numbered.last().map_or(last, |(seq, _)| *seq);
        add_rows(tx, &numbered, stamp).await?;
        add_secrets(tx, &numbered).await?;
        for (seq, record) in &numbered {
            if !record.credential.endpoints.is_empty() {
                put_services(tx, *seq, &record.credential.endpoints).await?;
            }
        }
    }
    Ok(())
}

async fn add_rows(
    tx: &mut SqliteConnection,
    numbered: &[(i64, &CredentialRecord)],
    stamp: Stamp,
) -> Result<(), StoreError> {
    let mut query: QueryBuilder<Sqlite> = QueryBuilder::new(
        "INSERT INTO credential (seq, id, tenant, kind, state, expires, permission_group, ip_allowlist, endpoints,
             applications, creator, creator_rule, name, description, created_by_tenant, created_by_credential,
             created_by_user, sealed_key, sealed_secret, created, changed, signature_profile, signed_only) ",
    );
    let mut rows = Vec::with_capacity(numbered.len());
    for (seq, record) in numbered {
        rows.push((*seq, *record, Encoded::of(record)?));
    }
    query.push_values(rows, |mut row, (seq, record, encoded)| {
        let credential = &record.credential;
        let Encoded { state, expires, ip_allowlist, endpoints, applications, creator_rule } = encoded;
        row.push_bind(seq)
            .push_bind(credential.id.as_str())
            .push_bind(credential.tenant.as_str())
            .push_bind(credential.kind.as_str())
            .push_bind(state)
            .push_bind(expires)
            .push_bind(credential.group.as_ref().map(Id::as_str))
            .push_bind(ip_allowlist)
            .push_bind(endpoints)
            .push_bind(applications)
            .push_bind(credential.creator.as_ref().map(Id::as_str))
            .push_bind(creator_rule)
            .push_bind(record.name.as_str())
            .push_bind(record.description.as_str())
            .push_bind(record.created_by.tenant.as_str())
            .push_bind(record.created_by.credential.as_ref().map(Id::as_str))
            .push_bind(record.created_by.user.as_ref().map(Id::as_str))
            .push_bind(record.sealed_key.as_deref())
            .push_bind(record.sealed_secret.as_deref())
            .push_bind(stamp.at)
            .push_bind(stamp.revision)
            .push_bind(credential.signature_profile.as_ref().map(Id::as_str))
            .push_bind(credential.signed_only);
    });
    match query.build().execute(&mut *tx).await {
        Ok(_) => Ok(()),
        Err(error) if fault::is_duplicate(&error) => Err(StoreError::IdTaken { id: first_taken(tx, numbered).await? }),
        Err(error) => Err(error.into()),
    }
}

/// Which id it was that is taken; an insert of many rows does not tell.
async fn first_taken(tx: &mut SqliteConnection, numbered: &[(i64, &CredentialRecord)]) -> Result<Id, StoreError> {
    let mut seen = std::collections::BTreeSet::new();
    for (_, CredentialRecord { credential, .. }) in numbered {
        let query = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM credential WHERE id = ?1)");
        let is_taken: bool = query.bind(credential.id.as_str()).fetch_one(&mut *tx).await?;
        if is_taken || !seen.insert(&credential.id) {
            return Ok(credential.id.clone());
        }
    }
    Err(StoreError::Database("a credential is a duplicate, and none of its ids is taken".into()))
}

async fn add_secrets(tx: &mut SqliteConnection, numbered: &[(i64, &CredentialRecord)]) -> Result<(), StoreError> {
    let mut secrets = Vec::with_capacity(numbered.len());
    for (seq, record) in numbered {
        for secret in &record.credential.secrets {
            secrets.push((*seq, secret, expiry(secret.until)?));
        }
    }
    for chunk in secrets.chunks(CHUNK_ROWS) {
        let mut query: QueryBuilder<Sqlite> =
            QueryBuilder::new("INSERT INTO credential_secret (credential_seq, version, sha256, until, signing_slot) ");
        query.push_values(chunk, |mut row, (seq, secret, until)| {
            row.push_bind(*seq)
                .push_bind(i64::from(secret.version))
                .push_bind(secret.sha256.as_bytes().as_slice())
                .push_bind(*until)
                .push_bind(secret.signing_slot.map(i64::from));
        });
        match query.build().execute(&mut *tx).await {
            Ok(_) => {}
            Err(error) if fault::is_duplicate(&error) => return Err(StoreError::DuplicateDigest),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// The columns of a credential that are not as the record has them.
struct Encoded {
    state: String,
    expires: Option<i64>,
    ip_allowlist: String,
    endpoints: String,
    applications: String,
    creator_rule: String,
}

impl Encoded {
    fn of(CredentialRecord { credential, .. }: &CredentialRecord) -> Result<Encoded, StoreError> {
        Ok(Encoded {
            state: word(credential.state)?,
            expires: expiry(credential.expires)?,
            ip_allowlist: encode(&credential.ip_allowlist)?,
            endpoints: encode(&credential.endpoints)?,
            applications: encode(&credential.applications)?,
            creator_rule: word(credential.creator_rule)?,
        })
    }
}
