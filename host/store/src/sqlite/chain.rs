//! The audit's rows: appended, listed, verified.

use std::collections::BTreeMap;
use std::net::IpAddr;

use portcullis_model::id::{Id, Revision};
use sqlx::{Row as _, SqliteConnection};

use super::Store;
use super::rows::{Columns, fetch, int, limit, page};
use crate::audit::{
    AuditFault, AuditReport, AuditRow, Canonical, ChainReport, Entry, ORIGIN, Outcome, RecordedOutcome, RowHash,
};
use crate::error::StoreError;
use crate::record::{Actor, Channel, Origin, Page, Paging};

/// Rows of a chain that are held at once while it is verified.
const CHUNK_ROWS: i64 = 512;

impl Store {
    /// The audit of one tenant, or of all where none is named; the newest entry first.
    ///
    /// # Errors
    /// Nothing could be read.
    pub async fn audit(&self, tenant: Option<&Id>, paging: Paging) -> Result<Page<AuditRow>, StoreError> {
        let limit = limit(paging);
        let before = paging.after.map_or(i64::MAX, |after| i64::try_from(after).unwrap_or(i64::MAX));
        let query = match tenant {
            Some(tenant) => {
                sqlx::query("SELECT * FROM audit WHERE tenant = ?3 AND seq < ?1 ORDER BY seq DESC LIMIT ?2")
                    .bind(before)
                    .bind(fetch(limit))
                    .bind(tenant.as_str())
            }
            None => sqlx::query("SELECT * FROM audit WHERE seq < ?1 ORDER BY seq DESC LIMIT ?2")
                .bind(before)
                .bind(fetch(limit)),
        };
        page(&query.fetch_all(&self.readers).await?, limit, "audit", audit_row)
    }

    /// Computes the chain of one tenant again, or all chains where none is named, and compares. It takes as long as there
    /// are rows and holds few of them at a time; entries that are added meanwhile may or may not be looked at.
    ///
    /// # Errors
    /// Nothing could be read. A fault of a chain is no error, it is in the report.
    pub async fn verify_audit(&self, tenant: Option<&Id>) -> Result<AuditReport, StoreError> {
        let mut report = AuditReport::default();
        if let Some(tenant) = tenant {
            report.chains.push(self.verify_chain(tenant).await?);
            return Ok(report);
        }
        let mut done: Option<Id> = None;
        while let Some(tenant) = self.next_chain(done.as_ref()).await? {
            report.chains.push(self.verify_chain(&tenant).await?);
            done = Some(tenant);
        }
        Ok(report)
    }

    /// The tenant that follows in the order of ids, whether only rows or only a head name it.
    async fn next_chain(&self, done: Option<&Id>) -> Result<Option<Id>, StoreError> {
        let query = sqlx::query(
            "SELECT min(tenant) AS tenant FROM (SELECT min(tenant) AS tenant FROM audit WHERE tenant > ?1
             UNION ALL SELECT min(tenant) FROM audit_head WHERE tenant > ?1)",
        );
        let row = query.bind(done.map_or("", Id::as_str)).fetch_one(&self.readers).await?;
        Columns::new(&row, "audit").maybe_id("tenant")
    }

    async fn verify_chain(&self, tenant: &Id) -> Result<ChainReport, StoreError> {
        // One transaction, so that head and rows are of one moment.
        let mut tx = self.readers.begin().await?;
        let mut check = ChainReport { tenant: tenant.clone(), rows: 0, newest: ORIGIN, fault: None };
        let mut after = 0_i64;
        let query = "SELECT * FROM audit WHERE tenant = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3";
        while check.fault.is_none() {
            let query = sqlx::query(query).bind(tenant.as_str()).bind(after).bind(CHUNK_ROWS);
            let rows = query.fetch_all(&mut *tx).await?;
            let Some(last) = rows.last() else { break };
            after = last.try_get("seq")?;
            for row in &rows {
                check.fault = follow(&mut check, &Columns::new(row, "audit"));
                if check.fault.is_some() {
                    break;
                }
            }
        }
        check.fault = match check.fault {
            Some(AuditFault::Missing { number }) if is_elsewhere(&mut tx, tenant, number).await? => {
                Some(AuditFault::Reordered { number })
            }
            Some(fault) => Some(fault),
            None => compare_head(&check, head(&mut tx, tenant).await?),
        };
        tx.rollback().await?;
        Ok(check)
    }
}

/// Takes the next row into the chain, or says what is wrong with it.
fn follow(check: &mut ChainReport, row: &Columns<'_>) -> Option<AuditFault> {
    let number = check.rows + 1;
    // A row that cannot be read was not written so.
    let Ok(row) = audit_row(row) else { return Some(AuditFault::Edited { number }) };
    if row.number != number {
        return Some(AuditFault::Missing { number });
    }
    if Canonical::of_row(&row).hash(&check.newest) != row.hash {
        return Some(AuditFault::Edited { number });
    }
    check.rows = number;
    check.newest = row.hash;
    None
}

fn compare_head(check: &ChainReport, head: Option<Head>) -> Option<AuditFault> {
    match head {
        None if check.rows == 0 => None,
        None => Some(AuditFault::Head),
        Some(head) if head.count > check.rows => Some(AuditFault::Truncated { rows: check.rows, head: head.count }),
        Some(head) if head.count < check.rows || head.hash != check.newest => Some(AuditFault::Head),
        Some(_) => None,
    }
}

async fn is_elsewhere(tx: &mut SqliteConnection, tenant: &Id, number: u64) -> Result<bool, StoreError> {
    let query = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM audit WHERE tenant = ?1 AND number = ?2)");
    Ok(query.bind(tenant.as_str()).bind(int(number)?).fetch_one(tx).await?)
}

/// The newest row of a chain.
#[derive(Clone, Copy)]
struct Head {
    count: u64,
    hash: RowHash,
}

async fn head(tx: &mut SqliteConnection, tenant: &Id) -> Result<Option<Head>, StoreError> {
    let query = sqlx::query("SELECT count, hash FROM audit_head WHERE tenant = ?1").bind(tenant.as_str());
    let Some(row) = query.fetch_optional(tx).await? else { return Ok(None) };
    let row = Columns::new(&row, "audit_head");
    Ok(Some(Head { count: row.number("count")?, hash: row.bytes("hash")? }))
}

/// Appends entries to the chains of their tenants, within the writer's transaction.
///
/// INVARIANT (one-chain): only the writer appends, so the head that is read here is the head until the commit.
pub(super) async fn append(tx: &mut SqliteConnection, entries: &[Entry]) -> Result<(), StoreError> {
    let mut heads: BTreeMap<&Id, Head> = BTreeMap::new();
    for entry in entries {
        let before = match heads.get(&entry.tenant) {
            Some(head) => *head,
            None => head(tx, &entry.tenant).await?.unwrap_or(Head { count: 0, hash: ORIGIN }),
        };
        let number = before.count + 1;
        let hash = Canonical::of_entry(entry, number).hash(&before.hash);
        insert(tx, entry, number, &hash).await?;
        heads.insert(&entry.tenant, Head { count: number, hash });
    }
    for (tenant, head) in heads {
        sqlx::query(
            "INSERT INTO audit_head (tenant, count, hash) VALUES (?1, ?2, ?3)
             ON CONFLICT (tenant) DO UPDATE SET count = excluded.count, hash = excluded.hash",
        )
        .bind(tenant.as_str())
        .bind(int(head.count)?)
        .bind(head.hash.as_slice())
        .execute(&mut *tx)
        .await?;
    }
    Ok(())
}

async fn insert(tx: &mut SqliteConnection, entry: &Entry, number: u64, hash: &RowHash) -> Result<(), StoreError> {
    let (revision, code) = match entry.outcome {
        Outcome::Done { revision } => (Some(int(revision.0)?), None),
        Outcome::Refused { code } => (None, Some(code)),
    };
    sqlx::query(
        "INSERT INTO audit (tenant, number, at, actor_tenant, actor_credential, actor_user, channel, address, action,
             object_kind, object, revision, code, details, hash)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)",
    )
    .bind(entry.tenant.as_str())
    .bind(int(number)?)
    .bind(int(entry.at.as_secs())?)
    .bind(entry.actor.tenant.as_str())
    .bind(entry.actor.credential.as_ref().map(Id::as_str))
    .bind(entry.actor.user.as_ref().map(Id::as_str))
    .bind(entry.origin.channel.as_str())
    .bind(entry.origin.address.map(|address| address.to_string()))
    .bind(entry.action)
    .bind(entry.object_kind)
    .bind(entry.object.as_str())
    .bind(revision)
    .bind(code)
    .bind(entry.details.as_str())
    .bind(hash.as_slice())
    .execute(tx)
    .await?;
    Ok(())
}

fn audit_row(row: &Columns<'_>) -> Result<AuditRow, StoreError> {
    let channel: &str = row.get("channel")?;
    let address: Option<&str> = row.get("address")?;
    let revision: Option<i64> = row.get("revision")?;
    let code: Option<String> = row.get("code")?;
    Ok(AuditRow {
        id: row.number("seq")?,
        number: row.number("number")?,
        hash: row.bytes("hash")?,
        at: row.time("at")?,
        tenant: row.id("tenant")?,
        actor: Actor {
            tenant: row.id("actor_tenant")?,
            credential: row.maybe_id("actor_credential")?,
            user: row.maybe_id("actor_user")?,
        },
        origin: Origin {
            channel: Channel::from_name(channel).ok_or_else(|| row.damaged("channel", "an unknown channel"))?,
            address: address.map(str::parse::<IpAddr>).transpose().map_err(|error| row.damaged("address", error))?,
        },
        action: row.get("action")?,
        object_kind: row.get("object_kind")?,
        object: row.get("object")?,
        outcome: match (revision, code) {
            (Some(_), None) => RecordedOutcome::Done { revision: Revision(row.number("revision")?) },
            (None, Some(code)) => RecordedOutcome::Refused { code },
            (Some(_), Some(_)) | (None, None) => return Err(row.damaged("code", "neither done nor refused")),
        },
        details: row.get("details")?,
    })
}
