//! Decisions: blocks and gaps, listed newest first, the oldest deleted when there are too many bytes.

use std::collections::BTreeMap;

use rusqlite::{Connection, params};

use super::Store;
use super::rows::{Columns, all, execute, int, number, scalar};
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
        let blocks = pack(records);
        self.writer.write(|tx| append(tx, &blocks, gaps, None)).await
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
        let work = self.writer.write(|tx| {
            let mut new: BTreeMap<u64, DecisionRecord> = BTreeMap::new();
            for record in records {
                new.entry(record.id).or_insert(record);
            }
            for id in known(tx, &source, &new)? {
                new.remove(&id);
            }
            let mut new_gaps = Vec::new();
            for gap in gaps {
                if !is_known_gap(tx, &source, gap)? {
                    new_gaps.push(gap);
                }
            }
            let new: Vec<DecisionRecord> = new.into_values().collect();
            append(tx, &pack(&new), &new_gaps, Some(&source))?;
            Ok(new)
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
        let query =
            "SELECT records FROM decision_block WHERE last BETWEEN ?1 AND ?2 AND first <= ?1 AND records IS NOT NULL";
        let span = i64::try_from(MAX_SPAN).unwrap_or(i64::MAX);
        let blocks = self.readers.read(|db| {
            all(db, query, [wanted, wanted.saturating_add(span)], "decision_block", |row| records(row.blob("records")?))
        })?;
        Ok(blocks.into_iter().flatten().find(|record| record.id == id))
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
            let positions = self.readers.read(|db| {
                blocks(db, filter, before, from, |row| {
                    listing.add(row)?;
                    Position::of(row)
                })
            })?;
            scanned += positions.len();
            let Some(oldest) = positions.last() else {
                return Ok(if listing.settle(0) { listing.full() } else { listing.finished() });
            };
            from = *oldest;
            if listing.settle(number(from.last)?) {
                return Ok(listing.full());
            }
        }
        let next = number(from.last)?;
        Ok(listing.cut(next))
    }

    /// Deletes the oldest blocks until at most `keep_bytes` are left.
    ///
    /// # Errors
    /// Nothing more was deleted.
    pub async fn prune_decisions(&self, keep_bytes: u64) -> Result<(), StoreError> {
        let keep = i64::try_from(keep_bytes).unwrap_or(i64::MAX);
        while self.writer.write(|tx| prune(tx, keep)).await? {}
        Ok(())
    }
}

/// Some blocks, the newest first.
fn blocks<T>(
    db: &Connection,
    filter: &DecisionFilter,
    before: u64,
    from: Position,
    each: impl FnMut(&Columns<'_>) -> Result<T, StoreError>,
) -> Result<Vec<T>, StoreError> {
    // A gap counts as denied: what it hides is unknown.
    let query = match filter.which.is_without_allows() {
        true => {
            "SELECT seq, first, last, count, records FROM decision_block
                 WHERE denied > 0 AND (last, seq) < (?1, ?2) AND first < ?3 ORDER BY last DESC, seq DESC LIMIT ?4"
        }
        false => {
            "SELECT seq, first, last, count, records FROM decision_block
                 WHERE (last, seq) < (?1, ?2) AND first < ?3 ORDER BY last DESC, seq DESC LIMIT ?4"
        }
    };
    let before = i64::try_from(before).unwrap_or(i64::MAX);
    all(db, query, [from.last, from.seq, before, CHUNK_BLOCKS], "decision_block", each)
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
        let Some(bytes) = row.maybe_blob("records")? else {
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
fn known(tx: &Connection, source: &str, records: &BTreeMap<u64, DecisionRecord>) -> Result<Vec<u64>, StoreError> {
    let (Some(first), Some(last)) = (records.keys().next(), records.keys().next_back()) else { return Ok(Vec::new()) };
    // A block that reaches into the batch ends no further on than a block may span.
    let query = "SELECT records FROM decision_block
         WHERE source = ?1 AND last BETWEEN ?2 AND ?4 AND first <= ?3 AND records IS NOT NULL";
    let params = params![source, int(*first)?, int(*last)?, int(last.saturating_add(MAX_SPAN))?];
    let blocks = all(tx, query, params, "decision_block", |row| self::records(row.blob("records")?))?;
    Ok(blocks.into_iter().flatten().map(|record| record.id).filter(|id| records.contains_key(id)).collect())
}

fn is_known_gap(tx: &Connection, source: &str, gap: Gap) -> Result<bool, StoreError> {
    let query = "SELECT EXISTS (SELECT 1 FROM decision_block
         WHERE source = ?1 AND last = ?2 AND first = ?3 AND records IS NULL)";
    scalar(tx, query, params![source, int(gap.last)?, int(gap.first)?])
}

fn append(tx: &Connection, blocks: &[Block], gaps: &[Gap], source: Option<&str>) -> Result<(), StoreError> {
    let mut total = 0_u64;
    for block in blocks {
        let bytes = ROW_BYTES + block.bytes.len() as u64;
        total += bytes;
        execute(
            tx,
            "INSERT INTO decision_block (first, last, count, denied, bytes, records, source)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            params![
                int(block.first)?,
                int(block.last)?,
                int(block.count)?,
                int(block.denied)?,
                int(bytes)?,
                block.bytes.as_slice(),
                source
            ],
        )?;
    }
    for gap in gaps {
        total += ROW_BYTES;
        execute(
            tx,
            "INSERT INTO decision_block (first, last, count, denied, bytes, source) VALUES (?1, ?2, ?3, ?3, ?4, ?5)",
            params![int(gap.first)?, int(gap.last)?, int(gap.count)?, int(ROW_BYTES)?, source],
        )?;
    }
    execute(tx, "UPDATE decision_total SET bytes = bytes + ?1", params![int(total)?])?;
    Ok(())
}

/// Deletes some of the oldest blocks; whether there may be more to delete.
fn prune(tx: &Connection, keep: i64) -> Result<bool, StoreError> {
    let total: i64 = scalar(tx, "SELECT bytes FROM decision_total", [])?;
    let mut excess = total.saturating_sub(keep);
    if excess <= 0 {
        return Ok(false);
    }
    let query = "SELECT seq, bytes FROM decision_block ORDER BY last, seq LIMIT ?1";
    let oldest: Vec<(i64, i64)> =
        all(tx, query, [PRUNE_BLOCKS], "decision_block", |row| Ok((row.get("seq")?, row.get("bytes")?)))?;
    let mut freed = 0_i64;
    for (seq, bytes) in &oldest {
        if excess <= 0 {
            break;
        }
        execute(tx, "DELETE FROM decision_block WHERE seq = ?1", [seq])?;
        excess = excess.saturating_sub(*bytes);
        freed = freed.saturating_add(*bytes);
    }
    execute(tx, "UPDATE decision_total SET bytes = bytes - ?1", [freed])?;
    Ok(excess > 0 && !oldest.is_empty())
}
