//! What the audit is checked by: the chains recomputed, checkpoints signed, old rows removed behind a stub.

use std::collections::BTreeSet;

use portcullis_model::id::{Id, Revision};
use portcullis_model::time::UnixTime;
use sqlx::{Row as _, SqliteConnection};

use super::Store;
use super::chain::{self, Head, audit_row};
use super::rows::{Columns, int, number};
use crate::audit::{
    Against, Anchor, AuditReport, ChainCheck, ChainMark, ChainReport, Checkpoint, Checkpointed, Entry, Notary, Pruned,
    Stub,
};
use crate::error::StoreError;

/// Rows of a chain that are held at once while it is followed.
const CHUNK_ROWS: i64 = 512;

/// The most rows that are removed in one transaction, so that changes do not wait for long.
const PRUNE_ROWS: u64 = 10_000;

/// What is old.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Retention {
    /// Rows from before this time are.
    pub before: Option<UnixTime>,
    /// Rows are of which the chain has so many newer ones.
    pub keep_rows: Option<u64>,
}

impl Store {
    /// Computes the chain of one tenant again, or all chains where none is named, and compares: with their heads, and with
    /// the newest checkpoint, whose signature is not looked at here. It takes as long as there are rows and holds few of them
    /// at a time.
    ///
    /// # Errors
    /// Nothing could be read. A fault of a chain is no error, it is in the report.
    pub async fn verify_audit(&self, tenant: Option<&Id>) -> Result<AuditReport, StoreError> {
        // One transaction, so that rows, heads and checkpoint are of one moment.
        let mut tx = self.readers.begin().await?;
        let checkpoint = checkpoint(&mut tx).await?;
        let tenants = match tenant {
            Some(tenant) => vec![tenant.clone()],
            None => chains(&mut tx).await?,
        };
        let mut report = AuditReport { chains: Vec::with_capacity(tenants.len()), checkpoint };
        for tenant in tenants {
            let mark = report.checkpoint.as_ref().and_then(|checkpoint| checkpoint.mark(&tenant));
            let stub = stub(&mut tx, &tenant).await?;
            let anchors = mark.map(anchor).into_iter().collect();
            let mut check = ChainCheck::new(&tenant, stub, mark.and_then(|mark| mark.stub), anchors);
            follow(&mut tx, &tenant, &mut check, 0, i64::MAX).await?;
            let head = chain::head(&mut tx, &tenant).await?;
            report.chains.push(check.end_at(head.map(|head| (head.count, head.hash))));
        }
        tx.rollback().await?;
        Ok(report)
    }

    /// The newest checkpoint, as it is in the store.
    ///
    /// # Errors
    /// Nothing could be read.
    pub async fn checkpoint(&self) -> Result<Option<Checkpoint>, StoreError> {
        let mut tx = self.readers.begin().await?;
        let found = checkpoint(&mut tx).await?;
        tx.rollback().await?;
        Ok(found)
    }

    /// How many rows the chains have got since they were signed last.
    ///
    /// # Errors
    /// Nothing could be read.
    pub async fn unsigned_rows(&self) -> Result<u64, StoreError> {
        let query = sqlx::query_scalar(
            "SELECT coalesce(sum(audit_head.count - coalesce(audit_mark.count, 0)), 0)
             FROM audit_head LEFT JOIN audit_mark ON audit_mark.tenant = audit_head.tenant",
        );
        number(query.fetch_one(&self.readers).await?)
    }

    /// Signs how long every chain is, unless nothing was added since it was signed last.
    ///
    /// # Errors
    /// [`StoreError::Unsigned`] where the checkpoint that there is was not signed by the notary, or there is none although
    /// there are marks of one: it stays for whoever looks into it. Or the database failed.
    pub async fn sign_checkpoint(&self, at: UnixTime, notary: &Notary) -> Result<Checkpointed, StoreError> {
        let notary = notary.clone();
        self.writer
            .write(move |tx| {
                Box::pin(async move {
                    let last = attested(tx, &notary).await?;
                    sign(tx, last, at, &notary, false).await
                })
            })
            .await
    }

    /// Removes old rows of chains, signs what is left, and adds the entry that `told` makes of it; a part at a time. A chain
    /// keeps every row that is not signed yet or behind which it is broken.
    ///
    /// # Errors
    /// As for [`Store::sign_checkpoint`]; what was removed before stays so.
    pub async fn prune_audit(
        &self,
        retention: Retention,
        at: UnixTime,
        notary: &Notary,
        told: fn(UnixTime, Revision, Pruned) -> Entry,
    ) -> Result<Pruned, StoreError> {
        let mut all = Pruned::default();
        let mut from: Option<Id> = None;
        loop {
            let (notary, begin) = (notary.clone(), from.clone());
            let part = self
                .writer
                .write(move |tx| Box::pin(async move { prune_part(tx, begin, retention, at, &notary, told).await }));
            let (pruned, next) = part.await?;
            all.chains += pruned.chains;
            all.rows += pruned.rows;
            match next {
                None => return Ok(all),
                next => from = next,
            }
        }
    }
}

/// Follows the rows of a chain behind `after`, up to `until`; both are ids of rows.
async fn follow(
    tx: &mut SqliteConnection,
    tenant: &Id,
    check: &mut ChainCheck,
    mut after: i64,
    until: i64,
) -> Result<(), StoreError> {
    let query = "SELECT * FROM audit WHERE tenant = ?1 AND seq > ?2 AND seq <= ?4 ORDER BY seq LIMIT ?3";
    loop {
        let query = sqlx::query(query).bind(tenant.as_str()).bind(after).bind(CHUNK_ROWS).bind(until);
        let rows = query.fetch_all(&mut *tx).await?;
        let Some(last) = rows.last() else { return Ok(()) };
        after = last.try_get("seq")?;
        for row in &rows {
            let row = audit_row(&Columns::new(row, "audit")).ok();
            if !check.follow(row.as_ref()) {
                return Ok(());
            }
        }
    }
}

/// Every tenant with a chain, whoever names it.
async fn chains(tx: &mut SqliteConnection) -> Result<Vec<Id>, StoreError> {
    let mut found: BTreeSet<String> = BTreeSet::new();
    for query in [
        "SELECT tenant FROM audit_head",
        "SELECT tenant FROM audit_mark",
        "SELECT tenant FROM audit_stub",
        // From one tenant to the next by the index, where DISTINCT would read every row.
        "WITH RECURSIVE chain (tenant) AS (
             SELECT min(tenant) FROM audit
             UNION ALL
             SELECT (SELECT min(tenant) FROM audit WHERE audit.tenant > chain.tenant) FROM chain WHERE tenant IS NOT NULL
         )
         SELECT tenant FROM chain WHERE tenant IS NOT NULL",
    ] {
        found.extend(sqlx::query_scalar::<_, String>(query).fetch_all(&mut *tx).await?);
    }
    let damaged = |error| StoreError::Damaged(format!("column `tenant` of the audit: {error}"));
    found.into_iter().map(|tenant| tenant.parse().map_err(damaged)).collect()
}

async fn stub(tx: &mut SqliteConnection, tenant: &Id) -> Result<Option<Stub>, StoreError> {
    let query = sqlx::query("SELECT number, hash FROM audit_stub WHERE tenant = ?1").bind(tenant.as_str());
    let Some(row) = query.fetch_optional(tx).await? else { return Ok(None) };
    let row = Columns::new(&row, "audit_stub");
    Ok(Some(Stub { number: row.number("number")?, hash: row.bytes("hash")? }))
}

fn anchor(mark: &ChainMark) -> Anchor {
    Anchor { number: mark.count, hash: mark.hash, against: Against::Checkpoint }
}

async fn checkpoint(tx: &mut SqliteConnection) -> Result<Option<Checkpoint>, StoreError> {
    let Some(row) = sqlx::query("SELECT * FROM audit_checkpoint").fetch_optional(&mut *tx).await? else {
        return Ok(None);
    };
    let chains = marks(tx).await?;
    let row = Columns::new(&row, "audit_checkpoint");
    Ok(Some(Checkpoint {
        number: row.number("number")?,
        revision: Revision(row.number("revision")?),
        at: row.time("at")?,
        chains,
        signature: row.bytes("signature")?,
    }))
}

async fn marks(tx: &mut SqliteConnection) -> Result<Vec<ChainMark>, StoreError> {
    let query = sqlx::query(
        "SELECT audit_mark.tenant, audit_mark.count, audit_mark.hash,
             audit_stub.number AS stub_number, audit_stub.hash AS stub_hash
         FROM audit_mark LEFT JOIN audit_stub ON audit_stub.tenant = audit_mark.tenant
         ORDER BY audit_mark.tenant",
    );
    let rows = query.fetch_all(tx).await?;
    let mark = |row| {
        let row = Columns::new(row, "audit_mark");
        let stub = match row.get::<Option<i64>>("stub_number")? {
            Some(_) => Some(Stub { number: row.number("stub_number")?, hash: row.bytes("stub_hash")? }),
            None => None,
        };
        Ok(ChainMark { tenant: row.id("tenant")?, count: row.number("count")?, hash: row.bytes("hash")?, stub })
    };
    rows.iter().map(mark).collect()
}

/// The checkpoint that there is, if the notary signed it.
///
/// INVARIANT (nothing-laundered): what somebody else did to the database is never signed. The last checkpoint is checked
/// before the next is made, and each chain must go on from it.
async fn attested(tx: &mut SqliteConnection, notary: &Notary) -> Result<Option<Checkpoint>, StoreError> {
    match checkpoint(tx).await? {
        Some(last) if (notary.has_signed)(&last.digest(), &last.signature) => Ok(Some(last)),
        Some(_) => Err(StoreError::Unsigned),
        None if marks(tx).await?.is_empty() => Ok(None),
        None => Err(StoreError::Unsigned),
    }
}

/// Makes the checkpoint after `last`, where something was added or `force` says so.
async fn sign(
    tx: &mut SqliteConnection,
    last: Option<Checkpoint>,
    at: UnixTime,
    notary: &Notary,
    force: bool,
) -> Result<Checkpointed, StoreError> {
    let (moved, broken) = advance(tx, last.as_ref()).await?;
    if let Some(checkpoint) = last.as_ref().filter(|_| moved == 0 && !force) {
        return Ok(Checkpointed { checkpoint: checkpoint.clone(), is_new: false, broken });
    }
    let revision: i64 = sqlx::query_scalar("SELECT revision FROM meta").fetch_one(&mut *tx).await?;
    let mut checkpoint = Checkpoint {
        number: last.map_or(0, |last| last.number) + 1,
        revision: Revision(number(revision)?),
        at,
        chains: marks(tx).await?,
        signature: [0; 64],
    };
    checkpoint.signature = (notary.sign)(&checkpoint.digest());
    sqlx::query(
        "INSERT INTO audit_checkpoint (only_row, number, revision, at, signature) VALUES (1, ?1, ?2, ?3, ?4)
         ON CONFLICT (only_row) DO UPDATE SET number = excluded.number, revision = excluded.revision, at = excluded.at,
             signature = excluded.signature",
    )
    .bind(int(checkpoint.number)?)
    .bind(revision)
    .bind(int(at.as_secs())?)
    .bind(checkpoint.signature.as_slice())
    .execute(tx)
    .await?;
    Ok(Checkpointed { checkpoint, is_new: true, broken })
}

/// Brings the marks to the heads of the chains, each chain followed from its mark on. How many went on, and which cannot.
async fn advance(tx: &mut SqliteConnection, last: Option<&Checkpoint>) -> Result<(u64, Vec<ChainReport>), StoreError> {
    let query = sqlx::query(
        "SELECT audit_head.tenant, audit_head.count, audit_head.hash
         FROM audit_head LEFT JOIN audit_mark ON audit_mark.tenant = audit_head.tenant
         WHERE audit_mark.count IS NOT audit_head.count OR audit_mark.hash IS NOT audit_head.hash",
    );
    let (mut moved, mut broken) = (0, Vec::new());
    for row in query.fetch_all(&mut *tx).await? {
        let row = Columns::new(&row, "audit_head");
        let (tenant, head) = (row.id("tenant")?, Head { count: row.number("count")?, hash: row.bytes("hash")? });
        let report = follow_from_mark(tx, &tenant, last.and_then(|last| last.mark(&tenant)), head).await?;
        if report.fault.is_some() {
            broken.push(report);
            continue;
        }
        moved += 1;
        sqlx::query(
            "INSERT INTO audit_mark (tenant, count, hash, seq)
             VALUES (?1, ?2, ?3, (SELECT max(seq) FROM audit WHERE tenant = ?1))
             ON CONFLICT (tenant) DO UPDATE SET count = excluded.count, hash = excluded.hash, seq = excluded.seq",
        )
        .bind(tenant.as_str())
        .bind(int(head.count)?)
        .bind(head.hash.as_slice())
        .execute(&mut *tx)
        .await?;
    }
    Ok((moved, broken))
}

/// Follows a chain from the row that was signed last to its head.
async fn follow_from_mark(
    tx: &mut SqliteConnection,
    tenant: &Id,
    mark: Option<&ChainMark>,
    head: Head,
) -> Result<ChainReport, StoreError> {
    let begin = mark.map(|mark| Stub { number: mark.count, hash: mark.hash });
    let mut check = ChainCheck::new(tenant, begin, begin, Vec::new());
    // Should somebody have moved it, the row behind it is not the next one.
    let query = sqlx::query_scalar("SELECT seq FROM audit_mark WHERE tenant = ?1").bind(tenant.as_str());
    let after: Option<i64> = query.fetch_optional(&mut *tx).await?;
    follow(tx, tenant, &mut check, after.unwrap_or(0), i64::MAX).await?;
    Ok(check.end_at(Some((head.count, head.hash))))
}

/// Removes old rows from the chain of `from` on, at most so many. What was removed, and where to go on.
async fn prune_part(
    tx: &mut SqliteConnection,
    from: Option<Id>,
    retention: Retention,
    at: UnixTime,
    notary: &Notary,
    told: fn(UnixTime, Revision, Pruned) -> Entry,
) -> Result<(Pruned, Option<Id>), StoreError> {
    // What is not signed is not removed, and only what the notary signed counts as signed.
    let Some(last) = attested(tx, notary).await? else { return Ok((Pruned::default(), None)) };
    let mut pruned = Pruned::default();
    let mut next = None;
    let is_left = |mark: &&ChainMark| from.as_ref().is_none_or(|from| mark.tenant.as_str() >= from.as_str());
    for mark in last.chains.iter().filter(is_left) {
        if pruned.rows >= PRUNE_ROWS {
            next = Some(mark.tenant.clone());
            break;
        }
        let removed = prune_chain(tx, mark, retention, at, PRUNE_ROWS - pruned.rows).await?;
        pruned.rows += removed;
        pruned.chains += u64::from(removed > 0);
        if pruned.rows >= PRUNE_ROWS {
            // There may be more in the same chain.
            next = Some(mark.tenant.clone());
            break;
        }
    }
    if pruned.rows > 0 {
        let revision: i64 = sqlx::query_scalar("SELECT revision FROM meta").fetch_one(&mut *tx).await?;
        chain::append(tx, &[told(at, Revision(number(revision)?), pruned)]).await?;
        sign(tx, Some(last), at, notary, true).await?;
    }
    Ok((pruned, next))
}

/// Removes the oldest rows of a chain, if they are as they were written. How many.
async fn prune_chain(
    tx: &mut SqliteConnection,
    mark: &ChainMark,
    retention: Retention,
    at: UnixTime,
    limit: u64,
) -> Result<u64, StoreError> {
    let query = sqlx::query("SELECT seq, number, at FROM audit WHERE tenant = ?1 ORDER BY seq LIMIT ?2");
    let oldest = query.bind(mark.tenant.as_str()).bind(int(limit)?).fetch_all(&mut *tx).await?;
    // The newest row of all stays: SQLite gives out the number behind it, and no row has the number of an earlier one.
    let newest: Option<i64> = sqlx::query_scalar("SELECT max(seq) FROM audit").fetch_one(&mut *tx).await?;
    let mut cut: Option<i64> = None;
    for row in &oldest {
        let row = Columns::new(row, "audit");
        let (number, written) = (row.number("number")?, row.time("at")?);
        let is_old = retention.before.is_some_and(|before| written < before)
            || retention.keep_rows.is_some_and(|keep| number.saturating_add(keep) <= mark.count);
        let seq: i64 = row.get("seq")?;
        if !is_old || number > mark.count || Some(seq) == newest {
            break;
        }
        cut = Some(seq);
    }
    let Some(cut) = cut else { return Ok(0) };
    let mut check = ChainCheck::new(&mark.tenant, mark.stub, mark.stub, Vec::new());
    follow(tx, &mark.tenant, &mut check, 0, cut).await?;
    let found = check.end();
    let removed = found.rows.saturating_sub(found.removed);
    // A chain that is broken stays as it is, for whoever looks into it.
    if found.fault.is_some() || removed == 0 {
        return Ok(0);
    }
    sqlx::query(
        "INSERT INTO audit_stub (tenant, number, hash, at) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (tenant) DO UPDATE SET number = excluded.number, hash = excluded.hash, at = excluded.at",
    )
    .bind(mark.tenant.as_str())
    .bind(int(found.rows)?)
    .bind(found.newest.as_slice())
    .bind(int(at.as_secs())?)
    .execute(&mut *tx)
    .await?;
    let delete = sqlx::query("DELETE FROM audit WHERE tenant = ?1 AND seq <= ?2");
    delete.bind(mark.tenant.as_str()).bind(cut).execute(tx).await?;
    Ok(removed)
}
