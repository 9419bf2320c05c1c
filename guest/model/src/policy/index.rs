//! A hash table read in place: from a keyed hash to record numbers.
//!
//! Buckets of 64 bytes, one cache line: eight entries of a tag and a record's number plus one, filled from the front. An
//! entry that does not fit its bucket goes to the next, so a search goes on only behind a full bucket, and for at most
//! [`MAX_PROBES`] buckets. The hash is keyed by the installation's seed, so whoever chooses keys or imports digests cannot
//! choose buckets: SipHash-1-3 for ids, NH for digests. Names that only operators give have a faster hash.

use siphasher::sip::SipHasher13;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::Unreadable;
use crate::sweep;

pub(crate) const BUCKET_BYTES: usize = 64;
const ENTRIES: usize = 8;
/// The average number of entries in a bucket that the builder aims for.
pub(crate) const LOAD: usize = 5;
/// The most buckets that one search reads.
const MAX_PROBES: u32 = 16;

/// The keyed hash of a text.
#[inline]
pub(crate) fn text_hash(keys: (u64, u64), text: &[u8]) -> u64 {
    SipHasher13::new_with_keys(keys.0, keys.1).hash(text)
}

/// The keyed hash of a digest: NH over its four words (Black and others, UMAC, 1999; RFC 4418 section 5.2 has it for words of 32
/// bits). Two digests meet by chance alone for whoever does not know the keys, and it takes a tenth of SipHash's steps.
#[inline]
pub(crate) fn digest_hash(keys: (u64, u64), digest: &[u8; 32]) -> u64 {
    /// What makes four keys of the seed's two: the golden ratio and the square root of two, in binary.
    const STRETCH: (u64, u64) = (0x9e37_79b9_7f4a_7c15, 0x6a09_e667_f3bc_c909);
    let [a, b, c, d] = words(digest);
    let product = |one: u64, other: u64| u128::from(one) * u128::from(other);
    let first = product(a.wrapping_add(keys.0), b.wrapping_add(keys.1));
    let second = product(c.wrapping_add(keys.0 ^ STRETCH.0), d.wrapping_add(keys.1 ^ STRETCH.1));
    finish(first.wrapping_add(second))
}

/// The hash of a name that only an operator gives, beside a number. A fast one will do: whoever sends requests puts nothing into
/// these tables, and a search reads a bounded part of them.
#[inline]
pub(crate) fn name_hash(keys: (u64, u64), name: &[u8], number: u32) -> u64 {
    match sweep::two_words(name) {
        Some([a, b]) => {
            let number = (name.len() as u64) << 32 | u64::from(number);
            finish(u128::from(a ^ keys.0) * u128::from(b ^ number ^ keys.1))
        }
        None => xxh3_64_with_seed(name, keys.0 ^ (u64::from(number) << 32 | u64::from(number))),
    }
}

/// Sums that are alike come of texts that are: the finish of MurmurHash3 gives every bit a part in every other.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "the two halves")]
fn finish(sum: u128) -> u64 {
    let mut hash = (sum >> 64) as u64 ^ sum as u64;
    for factor in [0xff51_afd7_ed55_8ccd, 0xc4ce_b9fe_1a85_ec53] {
        hash = (hash ^ (hash >> 33)).wrapping_mul(factor);
    }
    hash ^ (hash >> 33)
}

/// A digest as four words.
#[inline]
pub(crate) fn words(digest: &[u8; 32]) -> [u64; 4] {
    let (words, _) = digest.as_chunks();
    std::array::from_fn(|at| words.get(at).copied().map_or(0, u64::from_le_bytes))
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

/// Makes a table of entries, each a record's number and a hash by which it is found.
pub(crate) fn build(entries: &[(u32, u64)]) -> Result<Vec<u8>, IndexFull> {
    let mut table = vec![[0; BUCKET_BYTES]; entries.len().div_ceil(LOAD)];
    for (record, hash) in entries {
        Buckets(&mut table).place(*record, *hash)?;
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

    /// The table of records `0..`.
    fn numbered(hashes: &[u64]) -> Result<Vec<u8>, IndexFull> {
        build(&(0..).zip(hashes.iter().copied()).collect::<Vec<_>>())
    }

    #[test]
    fn every_record_is_found_and_strangers_are_not() {
        let keys = (1, 2);
        let hashes: Vec<u64> = (0..10_000u32).map(|n| text_hash(keys, &n.to_le_bytes())).collect();
        let table = numbered(&hashes).unwrap();
        for (number, &hash) in (0u32..).zip(&hashes) {
            assert!(probe(&table, hash).any(|found| found == Ok(number)));
        }
        let strangers = (10_000..20_000u32).flat_map(|n| probe(&table, text_hash(keys, &n.to_le_bytes())));
        assert!(strangers.count() < 10, "tags of 32 bits rarely collide");
    }

    #[test]
    fn digests_that_differ_in_one_bit_are_spread_over_the_table() {
        let keys = (0x452b_6a11_93de_7f08, 0xd1c7_30e9_4b5a_26f3);
        let mut digests = vec![[0u8; 32]];
        for bit in 0..256 {
            for other in 0..bit {
                let mut digest = [0u8; 32];
                digest[bit / 8] |= 1 << (bit % 8);
                digest[other / 8] |= 1 << (other % 8);
                digests.push(digest);
            }
        }
        let hashes: Vec<u64> = digests.iter().map(|digest| digest_hash(keys, digest)).collect();
        let table = numbered(&hashes).unwrap();
        for (number, &hash) in (0u32..).zip(&hashes) {
            assert!(probe(&table, hash).any(|found| found == Ok(number)));
        }
        let mut distinct = hashes.clone();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), hashes.len());
    }

    #[test]
    fn an_empty_table_has_nothing() {
        assert_eq!(probe(&numbered(&[]).unwrap(), 7).count(), 0);
    }

    #[test]
    fn hashes_that_crowd_one_place_are_an_error_of_the_one_too_many() {
        // Few buckets, all full: 16 probes of 8 entries.
        let crowd = vec![7u64; 16 * 8];
        let spread: Vec<u64> = (0..1000u64).map(|n| (1 << 61) + n * ((u64::MAX - (1 << 61)) / 1000)).collect();
        let fits = [crowd.as_slice(), &spread].concat();
        assert!(numbered(&fits).is_ok());
        let one_more = [&[7u64], crowd.as_slice(), &spread].concat();
        assert_eq!(numbered(&one_more), Err(IndexFull { record: 128 }));
    }
}
