//! What the audit is checked by: the chains recomputed, checkpoints signed, old rows removed behind a stub.

use std::collections::BTreeSet;
use std::sync::Arc;

use portcullis_model::id::{Id, Revision};
use portcullis_model::time::UnixTime;
use rusqlite::{Connection, params};

use super::Store;
use super::chain::{self, Head, audit_row};
use super::rows::{Columns, all, execute, int, number, one, scalar};
use crate::audit::{
    Against, Anchor, AuditReport, ChainCheck, ChainMark, ChainReport, Checkpoint, Checkpointed, Entry, Notary, Pruned,
    Stub,
};
use crate::error::StoreError;

/// The most rows that are removed in one transaction, so that changes do not wait for long.
const PRUNE_ROWS: u64 = 10_000;

/// How many computations of the audit go on at once. Each has a thread, a connection, and a view of the database that keeps the
/// WAL from being folded in; the others wait, and hold nothing.
pub(super) const VERIFIED_AT_ONCE: usize = 1;

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
        // It goes with the work, not with the caller: whoever asks and goes away, again and again, is not ahead of anybody.
        let turn = Arc::clone(&self.verifying).acquire_owned().await.map_err(|_| StoreError::Closed)?;
        let (store, tenant) = (self.clone(), tenant.cloned());
        // It takes long, so it is done where nobody waits for the thread.
        let verified = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            // At once, so that rows, heads and checkpoint are of one moment.
            store.readers.read_at_once(|db| verify(db, tenant))
        });
        verified.await.map_err(|lost| StoreError::Database(Box::new(lost)))?
    }

    /// The newest checkpoint, as it is in the store.
    ///
    /// # Errors
    /// Nothing could be read.
    pub async fn checkpoint(&self) -> Result<Option<Checkpoint>, StoreError> {
        self.readers.read_at_once(checkpoint)
    }

    /// How many rows the chains have got since they were signed last.
    ///
    /// # Errors
    /// Nothing could be read.
    pub async fn unsigned_rows(&self) -> Result<u64, StoreError> {
        let query = "SELECT coalesce(sum(audit_head.count - coalesce(audit_mark.count, 0)), 0)
             FROM audit_head LEFT JOIN audit_mark ON audit_mark.tenant = audit_head.tenant";
        self.readers.read(|db| number(scalar(db, query, [])?))
    }

    /// Signs how long every chain is, unless nothing was added since it was signed last.
    ///
    /// # Errors
    /// [`StoreError::Unsigned`] where the checkpoint that there is was not signed by the notary, or there is none although
    /// there are marks of one: it stays for whoever looks into it. Or the database failed.
    pub async fn sign_checkpoint(&self, at: UnixTime, notary: &Notary) -> Result<Checkpointed, StoreError> {
        let work = self.writer.write(|tx| {
            let last = attested(tx, notary)?;
            sign(tx, last, at, notary, false)
        });
        work.await
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
            let part = self.writer.write(|tx| prune_part(tx, from.as_ref(), retention, at, notary, told));
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

fn verify(db: &Connection, tenant: Option<Id>) -> Result<AuditReport, StoreError> {
    let checkpoint = checkpoint(db)?;
    let tenants = match tenant {
        Some(tenant) => vec![tenant],
        None => chains(db)?,
    };
    let mut report = AuditReport { chains: Vec::with_capacity(tenants.len()), checkpoint };
    for tenant in tenants {
        let mark = report.checkpoint.as_ref().and_then(|checkpoint| checkpoint.mark(&tenant));
        let stub = stub(db, &tenant)?;
        let anchors = mark.map(anchor).into_iter().collect();
        let mut check = ChainCheck::new(&tenant, stub, mark.and_then(|mark| mark.stub), anchors);
        follow(db, &tenant, &mut check, 0, i64::MAX)?;
        let head = chain::head(db, &tenant)?;
        report.chains.push(check.end_at(head.map(|head| (head.count, head.hash))));
    }
    Ok(report)
}

/// Follows the rows of a chain behind `after`, up to `until`; both are ids of rows.
fn follow(tx: &Connection, tenant: &Id, check: &mut ChainCheck, after: i64, until: i64) -> Result<(), StoreError> {
    let query = "SELECT * FROM audit WHERE tenant = ?1 AND seq > ?2 AND seq <= ?3 ORDER BY seq";
    let mut statement = tx.prepare_cached(query)?;
    let mut rows = statement.query(params![tenant.as_str(), after, until])?;
    while let Some(row) = rows.next()? {
        let row = audit_row(&Columns::new(row, "audit")).ok();
        if !check.follow(row.as_ref()) {
            return Ok(());
        }
    }
    Ok(())
}

/// Every tenant with a chain, whoever names it.
fn chains(tx: &Connection) -> Result<Vec<Id>, StoreError> {
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
        found.extend(all(tx, query, [], "audit", |row| row.get::<String>("tenant"))?);
    }
    let damaged = |error| StoreError::Damaged(format!("column `tenant` of the audit: {error}"));
    found.into_iter().map(|tenant| tenant.parse().map_err(damaged)).collect()
}

fn stub(tx: &Connection, tenant: &Id) -> Result<Option<Stub>, StoreError> {
    let query = "SELECT number, hash FROM audit_stub WHERE tenant = ?1";
    one(tx, query, [tenant.as_str()], "audit_stub", |row| {
        Ok(Stub { number: row.number("number")?, hash: row.bytes("hash")? })
    })
}

fn anchor(mark: &ChainMark) -> Anchor {
    Anchor { number: mark.count, hash: mark.hash, against: Against::Checkpoint }
}

fn checkpoint(tx: &Connection) -> Result<Option<Checkpoint>, StoreError> {
    let chains = marks(tx)?;
    one(tx, "SELECT * FROM audit_checkpoint", [], "audit_checkpoint", |row| {
        Ok(Checkpoint {
            number: row.number("number")?,
            revision: Revision(row.number("revision")?),
            at: row.time("at")?,
            chains,
            signature: row.bytes("signature")?,
        })
    })
}

fn marks(tx: &Connection) -> Result<Vec<ChainMark>, StoreError> {
    let query = "SELECT audit_mark.tenant, audit_mark.count, audit_mark.hash,
             audit_stub.number AS stub_number, audit_stub.hash AS stub_hash
         FROM audit_mark LEFT JOIN audit_stub ON audit_stub.tenant = audit_mark.tenant
         ORDER BY audit_mark.tenant";
    all(tx, query, [], "audit_mark", |row| {
        let stub = match row.get::<Option<i64>>("stub_number")? {
            Some(_) => Some(Stub { number: row.number("stub_number")?, hash: row.bytes("stub_hash")? }),
            None => None,
        };
        Ok(ChainMark { tenant: row.id("tenant")?, count: row.number("count")?, hash: row.bytes("hash")?, stub })
    })
}

/// The checkpoint that there is, if the notary signed it.
///
/// INVARIANT (nothing-laundered): what somebody else did to the database is never signed. The last checkpoint is checked
/// before the next is made, and each chain must go on from it.
fn attested(tx: &Connection, notary: &Notary) -> Result<Option<Checkpoint>, StoreError> {
    match checkpoint(tx)? {
        Some(last) if (notary.has_signed)(&last.digest(), &last.signature) => Ok(Some(last)),
        Some(_) => Err(StoreError::Unsigned),
        None if marks(tx)?.is_empty() => Ok(None),
        None => Err(StoreError::Unsigned),
    }
}

/// Makes the checkpoint after `last`, where something was added or `force` says so.
fn sign(
    tx: &Connection,
    last: Option<Checkpoint>,
    at: UnixTime,
    notary: &Notary,
    force: bool,
) -> Result<Checkpointed, StoreError> {
    let (moved, broken) = advance(tx, last.as_ref())?;
    if let Some(checkpoint) = last.as_ref().filter(|_| moved == 0 && !force) {
        return Ok(Checkpointed { checkpoint: checkpoint.clone(), is_new: false, broken });
    }
    let revision: i64 = scalar(tx, "SELECT revision FROM meta", [])?;
    let mut checkpoint = Checkpoint {
        number: last.map_or(0, |last| last.number) + 1,
        revision: Revision(number(revision)?),
        at,
        chains: marks(tx)?,
        signature: [0; 64],
    };
    checkpoint.signature = (notary.sign)(&checkpoint.digest());
    execute(
        tx,
        "INSERT INTO audit_checkpoint (only_row, number, revision, at, signature) VALUES (1, ?1, ?2, ?3, ?4)
         ON CONFLICT (only_row) DO UPDATE SET number = excluded.number, revision = excluded.revision, at = excluded.at,
             signature = excluded.signature",
        params![int(checkpoint.number)?, revision, int(at.as_secs())?, checkpoint.signature.as_slice()],
    )?;
    Ok(Checkpointed { checkpoint, is_new: true, broken })
}

/// Brings the marks to the heads of the chains, each chain followed from its mark on. How many went on, and which cannot.
fn advance(tx: &Connection, last: Option<&Checkpoint>) -> Result<(u64, Vec<ChainReport>), StoreError> {
    let query = "SELECT audit_head.tenant, audit_head.count, audit_head.hash
         FROM audit_head LEFT JOIN audit_mark ON audit_mark.tenant = audit_head.tenant
         WHERE audit_mark.count IS NOT audit_head.count OR audit_mark.hash IS NOT audit_head.hash";
    let heads = all(tx, query, [], "audit_head", |row| {
        Ok((row.id("tenant")?, Head { count: row.number("count")?, hash: row.bytes("hash")? }))
    })?;
    let (mut moved, mut broken) = (0, Vec::new());
    for (tenant, head) in heads {
        let report = follow_from_mark(tx, &tenant, last.and_then(|last| last.mark(&tenant)), head)?;
        if report.fault.is_some() {
            broken.push(report);
            continue;
        }
        moved += 1;
        execute(
            tx,
            "INSERT INTO audit_mark (tenant, count, hash, seq)
             VALUES (?1, ?2, ?3, (SELECT max(seq) FROM audit WHERE tenant = ?1))
             ON CONFLICT (tenant) DO UPDATE SET count = excluded.count, hash = excluded.hash, seq = excluded.seq",
            params![tenant.as_str(), int(head.count)?, head.hash.as_slice()],
        )?;
    }
    Ok((moved, broken))
}

/// Follows a chain from the row that was signed last to its head.
fn follow_from_mark(
    tx: &Connection,
    tenant: &Id,
    mark: Option<&ChainMark>,
    head: Head,
) -> Result<ChainReport, StoreError> {
    let begin = mark.map(|mark| Stub { number: mark.count, hash: mark.hash });
    let mut check = ChainCheck::new(tenant, begin, begin, Vec::new());
    // Should somebody have moved it, the row behind it is not the next one.
    let query = "SELECT seq FROM audit_mark WHERE tenant = ?1";
    let after: Option<i64> = one(tx, query, [tenant.as_str()], "audit_mark", |row| row.get("seq"))?;
    follow(tx, tenant, &mut check, after.unwrap_or(0), i64::MAX)?;
    Ok(check.end_at(Some((head.count, head.hash))))
}

/// Removes old rows from the chain of `from` on, at most so many. What was removed, and where to go on.
fn prune_part(
    tx: &Connection,
    from: Option<&Id>,
    retention: Retention,
    at: UnixTime,
    notary: &Notary,
    told: fn(UnixTime, Revision, Pruned) -> Entry,
) -> Result<(Pruned, Option<Id>), StoreError> {
    // What is not signed is not removed, and only what the notary signed counts as signed.
    let Some(last) = attested(tx, notary)? else { return Ok((Pruned::default(), None)) };
    let mut pruned = Pruned::default();
    let mut next = None;
    let is_left = |mark: &&ChainMark| from.is_none_or(|from| mark.tenant.as_str() >= from.as_str());
    for mark in last.chains.iter().filter(is_left) {
        if pruned.rows >= PRUNE_ROWS {
            next = Some(mark.tenant.clone());
            break;
        }
        let removed = prune_chain(tx, mark, retention, at, PRUNE_ROWS - pruned.rows)?;
        pruned.rows += removed;
        pruned.chains += u64::from(removed > 0);
        if pruned.rows >= PRUNE_ROWS {
            // There may be more in the same chain.
            next = Some(mark.tenant.clone());
            break;
        }
    }
    if pruned.rows > 0 {
        let revision: i64 = scalar(tx, "SELECT revision FROM meta", [])?;
        chain::append(tx, &[told(at, Revision(number(revision)?), pruned)])?;
        sign(tx, Some(last), at, notary, true)?;
    }
    Ok((pruned, next))
}

/// Removes the oldest rows of a chain, if they are as they were written. How many.
fn prune_chain(
    tx: &Connection,
    mark: &ChainMark,
    retention: Retention,
    at: UnixTime,
    limit: u64,
) -> Result<u64, StoreError> {
    let query = "SELECT seq, number, at FROM audit WHERE tenant = ?1 ORDER BY seq LIMIT ?2";
    let oldest: Vec<(i64, u64, UnixTime)> =
        all(tx, query, params![mark.tenant.as_str(), int(limit)?], "audit", |row| {
            Ok((row.get("seq")?, row.number("number")?, row.time("at")?))
        })?;
    // The newest row of all stays: SQLite gives out the number behind it, and no row has the number of an earlier one.
    let newest: Option<i64> = scalar(tx, "SELECT max(seq) FROM audit", [])?;
    let mut cut: Option<i64> = None;
    for (seq, number, written) in oldest {
        let is_old = retention.before.is_some_and(|before| written < before)
            || retention.keep_rows.is_some_and(|keep| number.saturating_add(keep) <= mark.count);
        if !is_old || number > mark.count || Some(seq) == newest {
            break;
        }
        cut = Some(seq);
    }
    let Some(cut) = cut else { return Ok(0) };
    let mut check = ChainCheck::new(&mark.tenant, mark.stub, mark.stub, Vec::new());
    follow(tx, &mark.tenant, &mut check, 0, cut)?;
    let found = check.end();
    let removed = found.rows.saturating_sub(found.removed);
    // A chain that is broken stays as it is, for whoever looks into it.
    if found.fault.is_some() || removed == 0 {
        return Ok(0);
    }
    execute(
        tx,
        "INSERT INTO audit_stub (tenant, number, hash, at) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (tenant) DO UPDATE SET number = excluded.number, hash = excluded.hash, at = excluded.at",
        params![mark.tenant.as_str(), int(found.rows)?, found.newest.as_slice(), int(at.as_secs())?],
    )?;
    execute(tx, "DELETE FROM audit WHERE tenant = ?1 AND seq <= ?2", params![mark.tenant.as_str(), cut])?;
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use portcullis_model::credential::Seed;
    use portcullis_model::source::Installation;

    use super::*;
    use crate::change::Fresh;

    #[tokio::test]
    async fn one_audit_is_computed_at_a_time_also_where_its_caller_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let fresh = Fresh { seed: Seed([1; 16]), at: UnixTime::default(), installation: Installation::default() };
        let store = Store::open(&folder.path().join("db"), &fresh).await.unwrap();
        let turn = Arc::clone(&store.verifying).acquire_owned().await.unwrap();
        let waiting = tokio::time::timeout(Duration::from_millis(20), store.verify_audit(None));
        assert!(waiting.await.is_err(), "it waits for the one before");
        drop(turn);
        // Begun and given up: its turn ends with the work.
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        let mut given_up = Box::pin(store.verify_audit(None));
        assert!(given_up.as_mut().poll(&mut context).is_pending());
        drop(given_up);
        assert!(store.verify_audit(None).await.unwrap().is_intact());
        assert_eq!(store.verifying.available_permits(), VERIFIED_AT_ONCE);
    }
}
