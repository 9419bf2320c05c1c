//! Tokens: the keys that sign them, and the transaction in which they are written down.

use std::collections::{BTreeMap, BTreeSet};

use portcullis_model::id::{Id, Revision};
use portcullis_model::time::Expiry;
use rusqlite::{Connection, params};

use super::Store;
use super::chain;
use super::commit::Stamp;
use super::rows::{Columns, all, encode, execute, int, number, scalar, word};
use crate::audit::Entry;
use crate::error::StoreError;
use crate::record::Stored;
use crate::token::{Grantee, TokenKeyRecord};

impl Store {
    /// The keys that sign tokens, in order of creation.
    ///
    /// # Errors
    /// Nothing could be read.
    pub async fn token_keys(&self) -> Result<Vec<Stored<TokenKeyRecord>>, StoreError> {
        self.readers.read(|db| all(db, "SELECT * FROM token_key ORDER BY seq", [], "token_key", key))
    }

    /// Writes down what becomes of requests for tokens, all of them in one transaction. `decide` gets what is known of the
    /// credentials that ask, as of the revision that the transaction sees, and says what the audit has of each.
    ///
    /// INVARIANT (issued-under-the-revision-in-force): only the writer changes credentials, so what `decide` sees stands when
    /// the entries are committed. A revocation is either seen by it, or committed after the token was.
    ///
    /// # Errors
    /// Nothing of it was written down.
    pub async fn record_tokens<T, F>(&self, asking: BTreeSet<Id>, decide: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(Revision, &BTreeMap<Id, Grantee>) -> (Vec<Entry>, T) + Send + 'static,
    {
        let work = self.writer.write(|tx| {
            let revision: i64 = scalar(tx, "SELECT revision FROM meta", [])?;
            let known = grantees(tx, &asking)?;
            let (entries, done) = decide(Revision(number(revision)?), &known);
            chain::append(tx, &entries)?;
            Ok(done)
        });
        work.await
    }
}

fn grantees(tx: &Connection, asking: &BTreeSet<Id>) -> Result<BTreeMap<Id, Grantee>, StoreError> {
    if asking.is_empty() {
        return Ok(BTreeMap::new());
    }
    let query = "SELECT c.id, c.tenant, c.kind, c.expires, c.terms, c.creator, c.deleted, t.rules,
             max(c.changed, t.changed, coalesce(p.changed, 0)) AS changed,
             (SELECT json_group_array(json_array(version, until)) FROM credential_secret WHERE credential_seq = c.seq)
                 AS versions
         FROM credential AS c JOIN tenant AS t ON t.id = c.tenant
         LEFT JOIN person AS p ON p.tenant = c.tenant AND p.id = c.creator
         WHERE c.kind IN ('client', 'personal') AND c.id IN (SELECT value FROM json_each(?1))";
    let grantees = all(tx, query, [encode(asking)?], "credential", |row| {
        let grantee = Grantee {
            tenant: row.id("tenant")?,
            kind: row.word("kind")?,
            expires: row.maybe_time("expires")?.map(Expiry::at),
            terms: row.maybe_text("terms")?.map(|terms| row.as_json("terms", terms)).transpose()?,
            owner: row.maybe_id("creator")?,
            versions: row.json("versions")?,
            rules: row.json("rules")?,
            changed: Revision(row.number("changed")?),
            deleted: row.get("deleted")?,
        };
        Ok((row.id("id")?, grantee))
    });
    Ok(grantees?.into_iter().collect())
}

fn key(row: &Columns<'_>) -> Result<Stored<TokenKeyRecord>, StoreError> {
    row.stored(TokenKeyRecord {
        kid: row.get("kid")?,
        algorithm: row.word("algorithm")?,
        sealed: row.get("sealed")?,
        signs_from: row.time("signs_from")?,
    })
}

pub(super) fn put_key(tx: &Connection, key: &TokenKeyRecord, stamp: Stamp) -> Result<(), StoreError> {
    execute(
        tx,
        "INSERT INTO token_key (kid, algorithm, sealed, signs_from, created, changed) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
         ON CONFLICT (kid) DO UPDATE SET signs_from = excluded.signs_from, changed = excluded.changed",
        params![
            key.kid.as_str(),
            word(key.algorithm)?,
            key.sealed.as_slice(),
            int(key.signs_from.as_secs())?,
            stamp.at,
            stamp.revision
        ],
    )?;
    Ok(())
}

pub(super) fn remove_key(tx: &Connection, kid: &str) -> Result<(), StoreError> {
    execute(tx, "DELETE FROM token_key WHERE kid = ?1", params![kid])?;
    Ok(())
}
