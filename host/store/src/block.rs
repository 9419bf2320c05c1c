//! A block of decisions as bytes: one row for some hundred records.
//!
//! ```text
//! u8     format, 1
//! then for each record, ids ascending:
//! u64    id
//! u16    reason
//! u32    length of the details
//! [..]   details
//! ```
//!
//! Numbers are little-endian.

use crate::decision::DecisionRecord;

/// The most records in a block: reading one record reads its block.
pub(crate) const MAX_RECORDS: usize = 512;

/// A block is closed once it has this many bytes.
pub(crate) const FULL_BYTES: usize = 256 << 10;

/// The most that the ids of a block lie apart: ten seconds of them (an id is milliseconds times 2^20). Batches arrive nearly
/// in order, not quite; this bounds how many blocks may hold an id.
pub(crate) const MAX_SPAN: u64 = 10_000 << 20;

const FORMAT: u8 = 1;

/// A block that is ready to be stored.
pub(crate) struct Block {
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) count: u64,
    /// How many of them are no allow.
    pub(crate) denied: u64,
    pub(crate) bytes: Vec<u8>,
}

/// Packs records, in any order, into as few blocks as the limits permit.
pub(crate) fn pack(records: &[DecisionRecord]) -> Vec<Block> {
    let mut sorted: Vec<&DecisionRecord> = records.iter().collect();
    sorted.sort_by_key(|record| record.id);
    let mut blocks: Vec<Block> = Vec::new();
    for record in sorted {
        let open = blocks.last_mut().filter(|block| {
            block.count < MAX_RECORDS as u64
                && block.bytes.len() < FULL_BYTES
                && record.id.saturating_sub(block.first) < MAX_SPAN
        });
        match open {
            Some(block) => block.push(record),
            None => {
                let mut block = Block { first: record.id, last: record.id, count: 0, denied: 0, bytes: vec![FORMAT] };
                block.push(record);
                blocks.push(block);
            }
        }
    }
    blocks
}

impl Block {
    fn push(&mut self, record: &DecisionRecord) {
        // The guest's answers end at 64 KiB; details beyond 4 GiB would be cut, never misread.
        let length = u32::try_from(record.details.len()).unwrap_or(u32::MAX);
        self.last = record.id;
        self.count += 1;
        self.denied += u64::from(record.reason != 0);
        self.bytes.extend(record.id.to_le_bytes());
        self.bytes.extend(record.reason.to_le_bytes());
        self.bytes.extend(length.to_le_bytes());
        self.bytes.extend(record.details.iter().take(length as usize));
    }
}

/// The records of a block, in order of their ids.
///
/// # Errors
/// What is wrong with the bytes.
pub(crate) fn unpack(bytes: &[u8]) -> Result<Vec<DecisionRecord>, &'static str> {
    let (format, mut rest) = bytes.split_first().ok_or("a block of decisions is empty")?;
    if *format != FORMAT {
        return Err("a block of decisions has another format");
    }
    let mut records = Vec::new();
    while !rest.is_empty() {
        let (id, after) = rest.split_first_chunk().ok_or(CUT)?;
        let (reason, after) = after.split_first_chunk().ok_or(CUT)?;
        let (length, after) = after.split_first_chunk().ok_or(CUT)?;
        let (details, after) = after.split_at_checked(u32::from_le_bytes(*length) as usize).ok_or(CUT)?;
        records.push(DecisionRecord {
            id: u64::from_le_bytes(*id),
            reason: u16::from_le_bytes(*reason),
            details: details.into(),
        });
        rest = after;
    }
    Ok(records)
}

const CUT: &str = "a block of decisions ends in the middle of a record";

#[cfg(test)]
mod tests {
    use super::*;

    fn record(id: u64, length: usize) -> DecisionRecord {
        DecisionRecord { id, reason: u16::from(id.is_multiple_of(3)), details: vec![7; length].into() }
    }

    fn unpacked(blocks: &[Block]) -> Vec<DecisionRecord> {
        blocks.iter().flat_map(|block| unpack(&block.bytes).unwrap()).collect()
    }

    #[test]
    fn records_come_back_sorted() {
        let records = [record(5, 0), record(3, 10), record(9, 300)];
        let blocks = pack(&records);
        let [block] = blocks.as_slice() else { panic!("one block") };
        assert_eq!((block.first, block.last, block.count, block.denied), (3, 9, 3, 2));
        assert_eq!(unpacked(&blocks), [record(3, 10), record(5, 0), record(9, 300)]);
        assert!(pack(&[]).is_empty());
    }

    #[test]
    fn a_block_ends_at_each_of_its_limits() {
        let many: Vec<_> = (0..MAX_RECORDS as u64).map(|id| record(id, 1)).collect();
        assert_eq!(pack(&many).len(), 1);
        let one_more: Vec<_> = (0..=MAX_RECORDS as u64).map(|id| record(id, 1)).collect();
        assert_eq!(pack(&one_more).len(), 2);
        assert_eq!(unpacked(&pack(&one_more)), one_more);

        assert_eq!(pack(&[record(1, 0), record(MAX_SPAN, 0)]).len(), 1);
        assert_eq!(pack(&[record(1, 0), record(MAX_SPAN + 1, 0)]).len(), 2);

        assert_eq!(pack(&[record(1, FULL_BYTES - 16), record(2, 1)]).len(), 1);
        assert_eq!(pack(&[record(1, FULL_BYTES - 15), record(2, 1)]).len(), 2);
    }

    #[test]
    fn damaged_blocks_are_errors() {
        let block = pack(&[record(1, 3), record(2, 3)]).remove(0).bytes;
        for length in 0..block.len() {
            let whole_record = length == 1 || length == 1 + 14 + 3;
            assert_eq!(unpack(&block[..length]).is_ok(), whole_record, "{length}");
        }
        assert!(unpack(&[2]).is_err());
    }
}
