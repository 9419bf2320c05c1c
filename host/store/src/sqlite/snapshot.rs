//! Everything that a policy is compiled from, as of one moment.

use portcullis_model::credential::SecretDigest;
use portcullis_model::id::{Id, Revision};
use portcullis_model::source::{Credential, SecretVersion};
use portcullis_model::time::Expiry;
use rusqlite::Connection;
use serde::de::DeserializeOwned;

use super::Store;
use super::read;
use super::rows::{Columns, all, number, scalar};
use crate::change::Snapshot;
use crate::error::StoreError;

/// From how many credentials on they are read by two connections, each one half of them.
const SPLIT_ROWS: i64 = 20_000;

impl Store {
    /// Reads all that a policy is compiled from. Changes that are made meanwhile are not in it.
    ///
    /// # Errors
    /// Nothing could be read.
    pub async fn snapshot(&self) -> Result<Snapshot, StoreError> {
        let store = self.clone();
        // It takes long, so it is done where nobody waits for the thread.
        let read = tokio::task::spawn_blocking(move || store.pinned(|db, revision| store.snapshot_of(db, revision)));
        read.await.map_err(lost)?
    }

    /// The same on the thread that asks, which has to wait for it: for one whose priority is low.
    ///
    /// # Errors
    /// Nothing could be read.
    pub fn snapshot_unhurried(&self) -> Result<Snapshot, StoreError> {
        self.pinned(|db, revision| {
            let credentials = credentials(db, 0, last(db)?)?;
            self.around(db, credentials, revision)
        })
    }

    /// Reads by a transaction that sees one revision, whatever is written meanwhile.
    fn pinned<T>(&self, work: impl FnOnce(&Connection, i64) -> Result<T, StoreError>) -> Result<T, StoreError> {
        // The first statement of a transaction fixes what all of them see.
        self.readers.read_at_once(|db| work(db, scalar(db, "SELECT revision FROM meta", [])?))
    }

    fn snapshot_of(&self, db: &Connection, revision: i64) -> Result<Snapshot, StoreError> {
        let last = last(db)?;
        let middle = last / 2;
        if last - middle < SPLIT_ROWS / 2 {
            return self.around(db, credentials(db, 0, last)?, revision);
        }
        std::thread::scope(|scope| {
            // Unless a change came between: every change of a record makes a new revision, so otherwise the two see the same.
            let other = scope.spawn(|| {
                self.pinned(
                    |other, found| {
                        if found == revision { credentials(other, middle, last).map(Some) } else { Ok(None) }
                    },
                )
            });
            let mut records = credentials(db, 0, middle)?;
            let rest = other.join().map_err(|_| StoreError::Database("a thread that read panicked".into()))??;
            records.extend(match rest {
                Some(rest) => rest,
                None => credentials(db, middle, last)?,
            });
            self.around(db, records, revision)
        })
    }

    /// The other lists.
    fn around(&self, db: &Connection, credentials: Vec<Credential>, revision: i64) -> Result<Snapshot, StoreError> {
        let installation = all(db, "SELECT body FROM installation", [], "installation", |row| row.json("body"))?;
        let installation = installation.into_iter().next();
        Ok(Snapshot {
            revision: Revision(number(revision)?),
            seed: self.seed,
            installation: installation.ok_or_else(|| StoreError::Damaged("there is no installation".to_owned()))?,
            services: all(db, SERVICES, [], "service", |row| Ok((row.json("body")?, row.get("reserved")?)))?,
            tenants: all(db, "SELECT * FROM tenant ORDER BY seq", [], "tenant", read::tenant)?,
            settings: all(db, SETTINGS, [], "setting", |row| Ok((row.id("tenant")?, read::setting(row)?)))?,
            applications: all(db, APPLICATIONS, [], "application", read::application)?,
            feeds: all(db, "SELECT id, services FROM feed ORDER BY seq", [], "feed", read::feed)?,
            groups: all(db, GROUPS, [], "permission_group", read::group)?,
            users: all(db, USERS, [], "person", read::user)?,
            credentials,
        })
    }
}

fn lost(error: tokio::task::JoinError) -> StoreError {
    StoreError::Database(Box::new(error))
}

fn last(db: &Connection) -> Result<i64, StoreError> {
    scalar(db, "SELECT coalesce(max(seq), 0) FROM credential", [])
}

/// The credentials behind `after` up to `until`.
fn credentials(db: &Connection, after: i64, until: i64) -> Result<Vec<Credential>, StoreError> {
    all(db, CREDENTIALS, [after, until], "credential", |row| Values { row: *row, next: 0 }.credential())
}

/// A credential, read in the order of [`CREDENTIALS`]: with a million of them, to look for each column by its name takes
/// longer than to find the row.
struct Values<'r> {
    row: Columns<'r>,
    next: usize,
}

impl<'r> Values<'r> {
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
        let index = self.next;
        self.next += 1;
        self.row.text_at(index, column)
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

const SERVICES: &str = "SELECT body, json_extract(delivery, '$.reserved_prefix') AS reserved FROM service ORDER BY seq";
const SETTINGS: &str = "SELECT tenant, service, endpoint, ip_ranges, signature, replay FROM setting ORDER BY seq";
const APPLICATIONS: &str = "SELECT tenant, id FROM application ORDER BY seq";
const GROUPS: &str = "SELECT tenant, id, permissions FROM permission_group ORDER BY seq";
const USERS: &str = "SELECT tenant, id, role, state, permission_group FROM person WHERE deleted = 0 ORDER BY seq";
/// All of them as text; what is missing is empty.
const CREDENTIALS: &str = "SELECT id, tenant, kind, state, CAST(coalesce(expires, '') AS TEXT), coalesce(permission_group, ''),
         ip_allowlist, endpoints, applications, coalesce(creator, ''), creator_rule,
         coalesce((SELECT group_concat(concat_ws(' ', version, hex(sha256), coalesce(until, '-'), signing_slot), ',' ORDER BY version)
                   FROM credential_secret WHERE credential_seq = seq), ''),
         coalesce(signature_profile, ''), CAST(signed_only AS TEXT)
     FROM credential WHERE deleted = 0 AND seq > ?1 AND seq <= ?2 ORDER BY seq";
