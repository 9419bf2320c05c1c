//! Decisions: blocks and gaps, listed newest first, the oldest deleted when there are too many bytes.

use std::collections::BTreeMap;

use sqlx::{Row as _, SqliteConnection};

use super::Store;
use super::rows::{Columns, int, number};
use crate::block::{Block, MAX_SPAN, pack, unpack};
use crate::decision::{DecisionFilter, DecisionItem, DecisionRecord, Gap};
use crate::error::StoreError;
use crate::record::{MAX_PAGE, Page};

/// What a row takes beyond its records, in bytes: its numbers and its index entry, rounded up.
const ROW_BYTES: u64 = 64;

/// Blocks that are read at once for a list.
const CHUNK_BLOCKS: i64 = 8;

/// Blocks that are read for one page of a list. A filter that admits next to nothing gets a short page and goes on from there.
const PAGE_BLOCKS: usize = 128;

/// Blocks that are deleted in one transaction, so that changes do not wait for a long one.
const PRUNE_BLOCKS: i64 = 64;

impl Store {
    /// Adds decisions, in any order, and gaps.
    ///
    /// # Errors
    /// Nothing was added.
    pub async fn append_decisions(&self, records: &[DecisionRecord], gaps: &[Gap]) -> Result<(), StoreError> {
        if records.is_empty() && gaps.is_empty() {
            return Ok(());
        }
        let (blocks, gaps) = (pack(records), gaps.to_vec());
        self.writer.write(move |tx| Box::pin(async move { append(tx, &blocks, &gaps, None).await })).await
    }

    /// Adds decisions and gaps of another source, of which some may have come before: those are passed over. Gives back the
    /// records that are new.
    ///
    /// INVARIANT (stored-once): what is there and what is added are looked at in one transaction of the one writer, so the same
    /// batch twice, at once or one after the other, is stored once.
    ///
    /// # Errors
    /// Nothing was added.
    pub async fn append_fed_decisions(
        &self,
        source: String,
        records: Vec<DecisionRecord>,
        gaps: Vec<Gap>,
    ) -> Result<Vec<DecisionRecord>, StoreError> {
        let work = self.writer.write(move |tx| {
            Box::pin(async move {
                let mut new: BTreeMap<u64, DecisionRecord> = BTreeMap::new();
                for record in records {
                    new.entry(record.id).or_insert(record);
                }
                for id in known(tx, &source, &new).await? {
                    new.remove(&id);
                }
                let mut new_gaps = Vec::new();
                for gap in gaps {
                    if !is_known_gap(tx, &source, gap).await? {
                        new_gaps.push(gap);
                    }
                }
                let new: Vec<DecisionRecord> = new.into_values().collect();
                append(tx, &pack(&new), &new_gaps, Some(&source)).await?;
                Ok(new)
            })
        });
        work.await
    }

    /// The decision with that id, unless it was pruned.
    ///
    /// # Errors
    /// Nothing could be read.
    pub async fn decision(&self, id: u64) -> Result<Option<DecisionRecord>, StoreError> {
        let Ok(wanted) = i64::try_from(id) else { return Ok(None) };
        // A block that has it ends no further on than a block may span; nearly always that is one block.
        let query = sqlx::query(
            "SELECT records FROM decision_block WHERE last BETWEEN ?1 AND ?2 AND first <= ?1 AND records IS NOT NULL",
        );
        let span = i64::try_from(MAX_SPAN).unwrap_or(i64::MAX);
        let rows = query.bind(wanted).bind(wanted.saturating_add(span)).fetch_all(&self.readers).await?;
        for row in &rows {
            let records = Columns::new(row, "decision_block").get::<&[u8]>("records").and_then(records)?;
            if let Some(record) = records.into_iter().find(|record| record.id == id) {
                return Ok(Some(record));
            }
        }
        Ok(None)
    }

    /// Decisions and gaps, the newest first; a gap stands where its last decision would. `next` is the `before` of the next
    /// page. A page may be short of `limit` and still have a next one.
    ///
    /// # Errors
    /// Nothing could be read.
    ///
    /// # Limits
    /// `limit` is at most [`MAX_PAGE`].
    pub async fn decisions(&self, filter: &DecisionFilter, limit: u32) -> Result<Page<DecisionItem>, StoreError> {
        let before = filter.before.unwrap_or(u64::MAX);
        let mut listing = Listing {
            filter,
            before,
            limit: limit.clamp(1, MAX_PAGE) as usize,
            pending: BTreeMap::new(),
            items: Vec::new(),
            last: before,
        };
        let mut from = Position::start(before);
        let mut scanned = 0;
        // Blocks that reach beyond `before` do not count: a page that ended among them would lead to itself.
        while scanned < PAGE_BLOCKS || number(from.last)? >= before {
            let rows = self.blocks(filter, before, from).await?;
            scanned += rows.len();
            let Some(oldest) = rows.last() else {
                return Ok(if listing.settle(0) { listing.full() } else { listing.finished() });
            };
            for row in &rows {
                listing.add(&Columns::new(row, "decision_block"))?;
            }
            from = Position::of(&Columns::new(oldest, "decision_block"))?;
            if listing.settle(number(from.last)?) {
                return Ok(listing.full());
            }
        }
        let next = number(from.last)?;
        Ok(listing.cut(next))
    }

    async fn blocks(
        &self,
        filter: &DecisionFilter,
        before: u64,
        from: Position,
    ) -> Result<Vec<sqlx::sqlite::SqliteRow>, StoreError> {
        // A gap counts as denied: what it hides is unknown.
        let query = match filter.which.is_without_allows() {
            true => sqlx::query(
                "SELECT seq, first, last, count, records FROM decision_block
                 WHERE denied > 0 AND (last, seq) < (?1, ?2) AND first < ?3 ORDER BY last DESC, seq DESC LIMIT ?4",
            ),
            false => sqlx::query(
                "SELECT seq, first, last, count, records FROM decision_block
                 WHERE (last, seq) < (?1, ?2) AND first < ?3 ORDER BY last DESC, seq DESC LIMIT ?4",
            ),
        };
        let before = i64::try_from(before).unwrap_or(i64::MAX);
        Ok(query.bind(from.last).bind(from.seq).bind(before).bind(CHUNK_BLOCKS).fetch_all(&self.readers).await?)
    }

    /// Deletes the oldest blocks until at most `keep_bytes` are left.
    ///
    /// # Errors
    /// Nothing more was deleted.
    pub async fn prune_decisions(&self, keep_bytes: u64) -> Result<(), StoreError> {
        let keep = i64::try_from(keep_bytes).unwrap_or(i64::MAX);
        while self.writer.write(move |tx| Box::pin(async move { prune(tx, keep).await })).await? {}
        Ok(())
    }
}

/// Where a list has come to: behind the block that ends at `last` and has the row number `seq`.
#[derive(Clone, Copy)]
struct Position {
    last: i64,
    seq: i64,
}

impl Position {
    /// Before every block that may hold a record with a smaller id than `before`.
    fn start(before: u64) -> Position {
        let last = i64::try_from(before.saturating_add(MAX_SPAN)).unwrap_or(i64::MAX);
        Position { last, seq: i64::MAX }
    }

    fn of(row: &Columns<'_>) -> Result<Position, StoreError> {
        Ok(Position { last: row.get("last")?, seq: row.get("seq")? })
    }
}

/// A page in the making. Blocks come by their last ids; they may overlap, so a record is certain to be the next only when no
/// block that is still to come can reach beyond it.
struct Listing<'f> {
    filter: &'f DecisionFilter,
    before: u64,
    limit: usize,
    pending: BTreeMap<u64, DecisionItem>,
    items: Vec<DecisionItem>,
    /// The id of the last item, and so the `before` of the next page.
    last: u64,
}

impl Listing<'_> {
    fn add(&mut self, row: &Columns<'_>) -> Result<(), StoreError> {
        let Some(bytes) = row.get::<Option<&[u8]>>("records")? else {
            let gap = Gap { count: row.number("count")?, first: row.number("first")?, last: row.number("last")? };
            if gap.last < self.before {
                self.pending.insert(gap.last, DecisionItem::Gap(gap));
            }
            return Ok(());
        };
        let wanted = |record: &DecisionRecord| record.id < self.before && self.filter.which.admits(record);
        let records = records(bytes)?.into_iter().filter(wanted);
        self.pending.extend(records.map(|record| (record.id, DecisionItem::Record(record))));
        Ok(())
    }

    /// Moves what is certain, down to the id `down_to`, to the page; whether the page is full before the list has ended.
    fn settle(&mut self, down_to: u64) -> bool {
        while let Some(newest) = self.pending.last_entry().filter(|newest| *newest.key() >= down_to) {
            if self.items.len() == self.limit {
                return true;
            }
            self.last = *newest.key();
            self.items.push(newest.remove());
        }
        false
    }

    fn full(self) -> Page<DecisionItem> {
        Page { items: self.items, next: Some(self.last) }
    }

    fn cut(self, next: u64) -> Page<DecisionItem> {
        Page { items: self.items, next: Some(next) }
    }

    fn finished(self) -> Page<DecisionItem> {
        Page { items: self.items, next: None }
    }
}

fn records(bytes: &[u8]) -> Result<Vec<DecisionRecord>, StoreError> {
    unpack(bytes).map_err(|what| StoreError::Damaged(what.to_owned()))
}

/// Which of these records of a source are stored already.
async fn known(
    tx: &mut SqliteConnection,
    source: &str,
    records: &BTreeMap<u64, DecisionRecord>,
) -> Result<Vec<u64>, StoreError> {
    let (Some(first), Some(last)) = (records.keys().next(), records.keys().next_back()) else { return Ok(Vec::new()) };
    // A block that reaches into the batch ends no further on than a block may span.
    let query = sqlx::query(
        "SELECT records FROM decision_block
         WHERE source = ?1 AND last BETWEEN ?2 AND ?4 AND first <= ?3 AND records IS NOT NULL",
    );
    let query = query.bind(source).bind(int(*first)?).bind(int(*last)?);
    let rows = query.bind(int(last.saturating_add(MAX_SPAN))?).fetch_all(tx).await?;
    let mut known = Vec::new();
    for row in &rows {
        let stored = Columns::new(row, "decision_block").get::<&[u8]>("records").and_then(self::records)?;
        known.extend(stored.into_iter().map(|record| record.id).filter(|id| records.contains_key(id)));
    }
    Ok(known)
}

async fn is_known_gap(tx: &mut SqliteConnection, source: &str, gap: Gap) -> Result<bool, StoreError> {
    let query = sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM decision_block
         WHERE source = ?1 AND last = ?2 AND first = ?3 AND records IS NULL)",
    );
    Ok(query.bind(source).bind(int(gap.last)?).bind(int(gap.first)?).fetch_one(tx).await?)
}

async fn append(
    tx: &mut SqliteConnection,
    blocks: &[Block],
    gaps: &[Gap],
    source: Option<&str>,
) -> Result<(), StoreError> {
    let mut total = 0_u64;
    for block in blocks {
        let bytes = ROW_BYTES + block.bytes.len() as u64;
        total += bytes;
        sqlx::query(
            "INSERT INTO decision_block (first, last, count, denied, bytes, records, source)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )
        .bind(int(block.first)?)
        .bind(int(block.last)?)
        .bind(int(block.count)?)
        .bind(int(block.denied)?)
        .bind(int(bytes)?)
        .bind(block.bytes.as_slice())
        .bind(source)
        .execute(&mut *tx)
        .await?;
    }
    for gap in gaps {
        total += ROW_BYTES;
        sqlx::query(
            "INSERT INTO decision_block (first, last, count, denied, bytes, source) VALUES (?1, ?2, ?3, ?3, ?4, ?5)",
        )
        .bind(int(gap.first)?)
        .bind(int(gap.last)?)
        .bind(int(gap.count)?)
        .bind(int(ROW_BYTES)?)
        .bind(source)
        .execute(&mut *tx)
        .await?;
    }
    sqlx::query("UPDATE decision_total SET bytes = bytes + ?1").bind(int(total)?).execute(tx).await?;
    Ok(())
}

/// Deletes some of the oldest blocks; whether there may be more to delete.
async fn prune(tx: &mut SqliteConnection, keep: i64) -> Result<bool, StoreError> {
    let total: i64 = sqlx::query_scalar("SELECT bytes FROM decision_total").fetch_one(&mut *tx).await?;
    let mut excess = total.saturating_sub(keep);
    if excess <= 0 {
        return Ok(false);
    }
    let query = sqlx::query("SELECT seq, bytes FROM decision_block ORDER BY last, seq LIMIT ?1").bind(PRUNE_BLOCKS);
    let oldest = query.fetch_all(&mut *tx).await?;
    let mut freed = 0_i64;
    for row in &oldest {
        if excess <= 0 {
            break;
        }
        let (seq, bytes): (i64, i64) = (row.try_get("seq")?, row.try_get("bytes")?);
        sqlx::query("DELETE FROM decision_block WHERE seq = ?1").bind(seq).execute(&mut *tx).await?;
        excess = excess.saturating_sub(bytes);
        freed = freed.saturating_add(bytes);
    }
    sqlx::query("UPDATE decision_total SET bytes = bytes - ?1").bind(freed).execute(tx).await?;
    Ok(excess > 0 && !oldest.is_empty())
}
