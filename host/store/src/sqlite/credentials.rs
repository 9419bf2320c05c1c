//! Credentials: their rows, and the questions that are asked about them.

use portcullis_model::credential::{Kind, SecretDigest};
use portcullis_model::id::Id;
use portcullis_model::source::{Credential, SecretVersion};
use portcullis_model::time::{Expiry, UnixTime};
use rusqlite::types::Value;
use rusqlite::{Connection, params, params_from_iter};

use super::Store;
use super::commit::Stamp;
use super::fault;
use super::rows::{Columns, after, all, encode, execute, fetch, int, limit, number, one, page, scalar, word};
use crate::error::StoreError;
use crate::record::{Actor, CredentialFilter, CredentialRecord, Ends, Page, Paging, Stored, TakenDigest};

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
        let mut query = "SELECT * FROM credential_whole WHERE deleted = 0 AND tenant = ?".to_owned();
        let mut values: Vec<Value> = vec![filter.tenant.to_string().into()];
        let mut and = |condition: &str, value: Value| {
            query.push_str(" AND ");
            query.push_str(condition);
            values.push(value);
        };
        and("kind = ?", filter.kind.as_str().to_owned().into());
        and("seq > ?", after(paging).into());
        if let Some(state) = filter.state {
            and("state = ?", word(state)?.into());
        }
        if let Some(creator) = &filter.creator {
            and("creator = ?", creator.to_string().into());
        }
        match filter.ends {
            None => {}
            Some(Ends::By(until)) => and("expires IS NOT NULL AND expires <= ?", int(until.as_secs())?.into()),
            Some(Ends::Between(after, until)) => {
                and("expires IS NOT NULL AND expires > ?", int(after.as_secs())?.into());
                and("expires <= ?", int(until.as_secs())?.into());
            }
            Some(Ends::After(after)) => and("(expires IS NULL OR expires > ?)", int(after.as_secs())?.into()),
        }
        query.push_str(" ORDER BY seq LIMIT ?");
        values.push(fetch(limit).into());
        self.readers.read(|db| page(db, &query, params_from_iter(values), limit, "credential", stored))
    }

    /// The credential with that id, unless it is deleted.
    ///
    /// # Errors
    /// Nothing could be read.
    pub async fn credential(&self, id: &Id) -> Result<Option<Stored<CredentialRecord>>, StoreError> {
        let query = "SELECT * FROM credential_whole WHERE id = ?1 AND deleted = 0";
        self.readers.read(|db| one(db, query, [id.as_str()], "credential", stored))
    }

    /// The credential that one version of its secret has that digest of, unless it is deleted.
    ///
    /// # Errors
    /// Nothing could be read.
    pub async fn credential_of(&self, digest: &SecretDigest) -> Result<Option<Stored<CredentialRecord>>, StoreError> {
        let query = "SELECT * FROM credential_whole
             WHERE seq = (SELECT credential_seq FROM credential_secret WHERE sha256 = ?1) AND deleted = 0";
        self.readers.read(|db| one(db, query, [digest.as_bytes().as_slice()], "credential", stored))
    }

    /// Whether a credential has that id or had it before it was deleted.
    ///
    /// # Errors
    /// Nothing could be read.
    pub async fn credential_id_is_taken(&self, id: &Id) -> Result<bool, StoreError> {
        let query = "SELECT EXISTS (SELECT 1 FROM credential WHERE id = ?1)";
        self.readers.read(|db| scalar(db, query, [id.as_str()]))
    }

    /// Which of these ids a credential has, or had before it was deleted.
    ///
    /// # Errors
    /// Nothing could be read.
    pub async fn taken_credential_ids(&self, ids: &[Id]) -> Result<Vec<Id>, StoreError> {
        let query = "SELECT id FROM credential WHERE id IN (SELECT value FROM json_each(?1))";
        let ids = encode(&ids)?;
        self.readers.read(|db| all(db, query, [ids], "credential", |row| row.id("id")))
    }

    /// Whose these digests are or were: of credentials that have them, and of those that had them before a rotation or before
    /// they were deleted.
    ///
    /// # Errors
    /// Nothing could be read.
    pub async fn taken_digests(&self, digests: &[SecretDigest]) -> Result<Vec<TakenDigest>, StoreError> {
        let query = "SELECT sha256, tenant, id FROM credential_secret JOIN credential ON seq = credential_seq
             WHERE sha256 IN (SELECT unhex(value) FROM json_each(?1))
             UNION
             SELECT sha256, tenant, id FROM retired_digest JOIN credential ON seq = credential_seq
             WHERE sha256 IN (SELECT unhex(value) FROM json_each(?1))";
        let digests = encode(&digests)?;
        self.readers.read(|db| {
            all(db, query, [digests], "credential_secret", |row| {
                let sha256 = SecretDigest::new(row.bytes("sha256")?);
                Ok(TakenDigest { sha256, tenant: row.id("tenant")?, credential: row.id("id")? })
            })
        })
    }

    /// How many credentials of a tenant are active and not expired at `now`.
    ///
    /// # Errors
    /// Nothing could be read.
    pub async fn count_live(&self, tenant: &Id, kind: Kind, now: UnixTime) -> Result<u64, StoreError> {
        // Days after this one are counted already; of this one's keys an index has those that are still to end.
        let query = "SELECT (SELECT coalesce(sum(count), 0) FROM live_credential
                     WHERE tenant = ?1 AND kind = ?2 AND day > ?3 / 86400)
                  + (SELECT count(*) FROM credential
                     WHERE tenant = ?1 AND kind = ?2 AND deleted = 0 AND state = 'active'
                       AND expires > ?3 AND expires < (?3 / 86400 + 1) * 86400)";
        let params = params![tenant.as_str(), kind.as_str(), int(now.as_secs())?];
        self.readers.read(|db| number(scalar(db, query, params)?))
    }
}

/// Puts a credential with exactly the versions of its secret that it is put with.
pub(super) fn put(tx: &Connection, record: &CredentialRecord, stamp: Stamp) -> Result<(), StoreError> {
    let seq = put_row(tx, PUT, record, stamp)?;
    execute(tx, "DELETE FROM credential_secret WHERE credential_seq = ?1", [seq])?;
    execute(tx, "DELETE FROM credential_service WHERE credential_seq = ?1", [seq])?;
    put_parts(tx, seq, record)
}

/// Adds credentials whose ids are new, numbered in the order they come in.
pub(super) fn add(tx: &Connection, records: &[CredentialRecord], stamp: Stamp) -> Result<(), StoreError> {
    for record in records {
        let seq = put_row(tx, ADD, record, stamp)?;
        put_parts(tx, seq, record)?;
    }
    Ok(())
}

macro_rules! add {
    ($conflict:literal) => {
        concat!(
            "INSERT INTO credential (id, tenant, kind, state, expires, permission_group, ip_allowlist, endpoints,
                 applications, creator, creator_rule, name, description, created_by_tenant, created_by_credential,
                 created_by_user, sealed_key, sealed_secret, created, changed, terms, signature_profile, signed_only)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22,
                 ?23)
             ON CONFLICT (id) DO ",
            $conflict,
            " RETURNING seq"
        )
    };
}

const ADD: &str = add!("NOTHING");
const PUT: &str = add!(
    "UPDATE SET state = excluded.state, expires = excluded.expires,
         permission_group = excluded.permission_group, ip_allowlist = excluded.ip_allowlist,
         endpoints = excluded.endpoints, applications = excluded.applications, creator = excluded.creator,
         creator_rule = excluded.creator_rule, name = excluded.name, description = excluded.description,
         created_by_tenant = excluded.created_by_tenant, created_by_credential = excluded.created_by_credential,
         created_by_user = excluded.created_by_user, sealed_key = excluded.sealed_key,
         sealed_secret = excluded.sealed_secret, changed = excluded.changed, terms = excluded.terms,
         signature_profile = excluded.signature_profile, signed_only = excluded.signed_only
     WHERE deleted = 0 AND tenant = excluded.tenant AND kind = excluded.kind"
);

fn put_row(tx: &Connection, statement: &str, record: &CredentialRecord, stamp: Stamp) -> Result<i64, StoreError> {
    let credential = &record.credential;
    let params = params![
        credential.id.as_str(),
        credential.tenant.as_str(),
        credential.kind.as_str(),
        word(credential.state)?,
        expiry(credential.expires)?,
        credential.group.as_ref().map(Id::as_str),
        encode(&credential.ip_allowlist)?,
        encode(&credential.endpoints)?,
        encode(&credential.applications)?,
        credential.creator.as_ref().map(Id::as_str),
        word(credential.creator_rule)?,
        record.name.as_str(),
        record.description.as_str(),
        record.created_by.tenant.as_str(),
        record.created_by.credential.as_ref().map(Id::as_str),
        record.created_by.user.as_ref().map(Id::as_str),
        record.sealed_key.as_deref(),
        record.sealed_secret.as_deref(),
        stamp.at,
        stamp.revision,
        record.terms.as_ref().map(encode).transpose()?,
        credential.signature_profile.as_ref().map(Id::as_str),
        credential.signed_only,
    ];
    let seq = one(tx, statement, params, "credential", |row| row.get("seq"))?;
    seq.ok_or_else(|| StoreError::IdTaken { id: credential.id.clone() })
}

/// The versions of its secret, and the services that its endpoints are of.
fn put_parts(
    tx: &Connection,
    seq: i64,
    CredentialRecord { credential, .. }: &CredentialRecord,
) -> Result<(), StoreError> {
    for secret in &credential.secrets {
        put_secret(tx, seq, secret)?;
    }
    for endpoint in &credential.endpoints {
        let service = "INSERT INTO credential_service (credential_seq, service) VALUES (?1, ?2) ON CONFLICT DO NOTHING";
        execute(tx, service, params![seq, endpoint.service.as_str()])?;
    }
    Ok(())
}

fn put_secret(tx: &Connection, seq: i64, secret: &SecretVersion) -> Result<(), StoreError> {
    let params = params![
        seq,
        i64::from(secret.version),
        secret.sha256.as_bytes().as_slice(),
        expiry(secret.until)?,
        secret.signing_slot.map(i64::from),
    ];
    let mut insert = tx.prepare_cached(
        "INSERT INTO credential_secret (credential_seq, version, sha256, until, signing_slot) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?;
    match insert.execute(params) {
        Ok(_) => Ok(()),
        Err(error) if fault::is_duplicate(&error) => Err(StoreError::DuplicateDigest),
        Err(error) => Err(error.into()),
    }
}

/// Marks a credential as deleted and forgets its secrets.
pub(super) fn remove(tx: &Connection, id: &Id, stamp: Stamp) -> Result<(), StoreError> {
    let remove = "UPDATE credential SET deleted = 1, sealed_key = NULL, sealed_secret = NULL, changed = ?2
         WHERE id = ?1 AND deleted = 0
         RETURNING seq";
    let seq: Option<i64> = one(tx, remove, params![id.as_str(), stamp.revision], "credential", |row| row.get("seq"))?;
    let Some(seq) = seq else { return Ok(()) };
    execute(tx, "DELETE FROM credential_secret WHERE credential_seq = ?1", [seq])?;
    execute(tx, "DELETE FROM credential_service WHERE credential_seq = ?1", [seq])?;
    Ok(())
}

fn expiry(expires: Option<Expiry>) -> Result<Option<i64>, StoreError> {
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
        terms: row.maybe_text("terms")?.map(|terms| row.as_json("terms", terms)).transpose()?,
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
