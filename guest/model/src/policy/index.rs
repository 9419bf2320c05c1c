//! A hash table read in place: from a keyed hash to record numbers.
//!
//! Buckets of 64 bytes, one cache line: eight entries of a tag and a record's number plus one, filled from the front. An
//! entry that does not fit its bucket goes to the next, so a search goes on only behind a full bucket, and for at most
//! [`MAX_PROBES`] buckets. The hash is keyed by the installation's seed (SipHash-1-3), so whoever chooses keys or imports
//! digests cannot choose buckets.

use siphasher::sip::SipHasher13;

use super::Unreadable;

pub(crate) const BUCKET_BYTES: usize = 64;
const ENTRIES: usize = 8;
/// The average number of entries in a bucket that the builder aims for.
pub(crate) const LOAD: usize = 5;
/// The most buckets that one search reads.
const MAX_PROBES: u32 = 16;

/// The keyed hash of every table and trie.
#[inline]
pub(crate) fn hash(keys: (u64, u64), bytes: &[u8]) -> u64 {
    SipHasher13::new_with_keys(keys.0, keys.1).hash(bytes)
}

/// The bucket where a search for `hash` starts.
#[inline]
fn home(hash: u64, buckets: u32) -> u32 {
    // Lemire's reduction of the upper half; the lower half is the tag. The product of two u32 shifted right fits a u32.
    (((hash >> 32) * u64::from(buckets)) >> 32) as u32
}

#[inline]
#[expect(clippy::cast_possible_truncation, reason = "the lower half is the tag")]
fn tag(hash: u64) -> u32 {
    hash as u32
}

/// The number of the record for which no bucket was left. With a secret seed this does not happen by chance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IndexFull {
    pub(crate) record: u32,
}

/// Makes the table for records `0..` with these hashes.
pub(crate) fn build(hashes: &[u64]) -> Result<Vec<u8>, IndexFull> {
    let mut table = vec![[0; BUCKET_BYTES]; hashes.len().div_ceil(LOAD)];
    for (record, hash) in (0..).zip(hashes) {
        Buckets(&mut table).place(record, *hash)?;
    }
    Ok(table.into_flattened())
}

/// A table that is being filled: a bucket for every [`LOAD`] entries that will come, all empty at first.
pub(crate) struct Buckets<'t>(pub(crate) &'t mut [[u8; BUCKET_BYTES]]);

impl Buckets<'_> {
    /// Enters a record's number, and a hash by which it is found.
    pub(crate) fn place(&mut self, record: u32, hash: u64) -> Result<(), IndexFull> {
        let full = IndexFull { record };
        let buckets = u32::try_from(self.0.len()).map_err(|_| full)?;
        let start = home(hash, buckets);
        let packed = (u64::from(record + 1) << 32) | u64::from(tag(hash));
        for probe in 0..MAX_PROBES.min(buckets) {
            let bucket = (u64::from(start) + u64::from(probe)) % u64::from(buckets);
            let bucket = usize::try_from(bucket).ok().and_then(|bucket| self.0.get_mut(bucket)).ok_or(full)?;
            if let Some(free) = bucket.as_chunks_mut::<8>().0.iter_mut().find(|entry| **entry == [0; 8]) {
                *free = packed.to_le_bytes();
                return Ok(());
            }
        }
        Err(full)
    }
}

/// The numbers of the records that may have this hash. The caller compares.
#[inline]
pub(crate) fn probe(table: &[u8], hash: u64) -> Probe<'_> {
    let (table, _) = table.as_chunks();
    let buckets = u32::try_from(table.len()).unwrap_or(u32::MAX);
    Probe { table, hash, bucket: home(hash, buckets), probes: MAX_PROBES.min(buckets), entry: 0 }
}

pub(crate) struct Probe<'a> {
    table: &'a [[u8; BUCKET_BYTES]],
    hash: u64,
    bucket: u32,
    probes: u32,
    entry: usize,
}

impl Iterator for Probe<'_> {
    type Item = Result<u32, Unreadable>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        while self.probes > 0 {
            let Some(bucket) = self.table.get(self.bucket as usize) else {
                self.probes = 0;
                return Some(Err(Unreadable));
            };
            let (entries, _) = bucket.as_chunks::<8>();
            while let Some(entry) = entries.get(self.entry) {
                self.entry += 1;
                let entry = u64::from_le_bytes(*entry);
                if entry == 0 {
                    self.probes = 0;
                    return None;
                }
                if tag(entry) == tag(self.hash) {
                    let number = tag(entry >> 32);
                    return Some(number.checked_sub(1).ok_or(Unreadable));
                }
            }
            debug_assert_eq!(self.entry, ENTRIES);
            self.entry = 0;
            self.probes -= 1;
            self.bucket = if self.bucket as usize + 1 == self.table.len() { 0 } else { self.bucket + 1 };
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_record_is_found_and_strangers_are_not() {
        let keys = (1, 2);
        let hashes: Vec<u64> = (0..10_000u32).map(|n| hash(keys, &n.to_le_bytes())).collect();
        let table = build(&hashes).unwrap();
        for (number, &hash) in (0u32..).zip(&hashes) {
            assert!(probe(&table, hash).any(|found| found == Ok(number)));
        }
        let strangers = (10_000..20_000u32).flat_map(|n| probe(&table, hash(keys, &n.to_le_bytes())));
        assert!(strangers.count() < 10, "tags of 32 bits rarely collide");
    }

    #[test]
    fn an_empty_table_has_nothing() {
        assert_eq!(probe(&build(&[]).unwrap(), 7).count(), 0);
    }

    #[test]
    fn hashes_that_crowd_one_place_are_an_error_of_the_one_too_many() {
        // Few buckets, all full: 16 probes of 8 entries.
        let crowd = vec![7u64; 16 * 8];
        let spread: Vec<u64> = (0..1000u64).map(|n| (1 << 61) + n * ((u64::MAX - (1 << 61)) / 1000)).collect();
        let fits = [crowd.as_slice(), &spread].concat();
        assert!(build(&fits).is_ok());
        let one_more = [&[7u64], crowd.as_slice(), &spread].concat();
        assert_eq!(build(&one_more), Err(IndexFull { record: 128 }));
    }
}
