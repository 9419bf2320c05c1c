//! The bytes of a fragment while they are written: sections of fixed length, and behind them the arena, which grows.

use hashbrown::HashTable;

use super::BuildError;
use crate::address::Cidr;
use crate::credential::SecretDigest;
#[cfg(test)]
use crate::policy::format::Fragment;
use crate::policy::format::{HEADER_BYTES, MAX_POLICY_BYTES, SECTIONS, Section, checksum};
use crate::policy::index::{self, BUCKET_BYTES};
use crate::policy::ranges;

/// A fragment that is being written. What records point to is stored once.
pub(crate) struct Draft {
    bytes: Vec<u8>,
    /// Of each section but the arena: its offset and the number of its records.
    places: [(usize, usize); SECTIONS - 1],
    arena: usize,
    pub(crate) keys: (u64, u64),
    /// Where texts and blobs stand in `bytes`: offset and length, found by what they are.
    texts: HashTable<(usize, usize)>,
    blobs: HashTable<(usize, usize)>,
}

impl Draft {
    /// # Errors
    /// The sections alone are too long.
    pub(super) fn new(counts: [usize; SECTIONS - 1], keys: (u64, u64)) -> Result<Draft, BuildError> {
        let mut end = HEADER_BYTES;
        let mut places = [(0, 0); SECTIONS - 1];
        for ((place, section), count) in places.iter_mut().zip(Section::ALL).zip(counts) {
            // Whole cache lines for what is looked up at random.
            end = end.next_multiple_of(if section.record_bytes() == 64 { 64 } else { 4 });
            *place = (end, count);
            end += count * section.record_bytes();
        }
        if end > MAX_POLICY_BYTES {
            return Err(BuildError::TooLarge);
        }
        let bytes = vec![0; end];
        Ok(Draft { bytes, places, arena: end, keys, texts: HashTable::new(), blobs: HashTable::new() })
    }

    /// An arena alone, at that offset.
    #[cfg(test)]
    pub(crate) fn arena_at(start: usize, keys: (u64, u64)) -> Draft {
        let places = [(0, 0); SECTIONS - 1];
        Draft { bytes: vec![0; start], places, arena: start, keys, texts: HashTable::new(), blobs: HashTable::new() }
    }

    /// A fragment that is this arena alone, at its offset.
    #[cfg(test)]
    pub(crate) fn into_fragment(self) -> Fragment {
        Fragment::of(self.bytes, self.keys)
    }

    pub(super) fn length(&self) -> usize {
        self.bytes.len()
    }

    /// Offset and number of records of each section.
    pub(super) fn places(&self) -> impl Iterator<Item = (usize, usize)> {
        self.places.into_iter().chain([(self.arena, self.bytes.len() - self.arena)])
    }

    /// Puts the header in its place, with the checksum of all.
    pub(super) fn finish(mut self, header: &[u8; HEADER_BYTES]) -> Vec<u8> {
        if let Some(place) = self.bytes.first_chunk_mut() {
            *place = *header;
        }
        let sum = checksum(&self.bytes).to_le_bytes();
        if let Some(place) = self.bytes.get_mut(8..16) {
            place.copy_from_slice(&sum);
        }
        self.bytes
    }

    /// Writes the words of the record of that number.
    pub(super) fn put(&mut self, section: Section, number: usize, words: impl IntoIterator<Item = u32>) {
        fill(self.record(section, number), words);
    }

    /// Writes the record of a credential: a digest, and words.
    pub(super) fn put_credential(&mut self, number: u32, digest: &SecretDigest, words: [u32; 8]) {
        let record = self.record(Section::Credentials, number as usize);
        if let Some((place, rest)) = record.split_first_chunk_mut() {
            *place = *digest.as_bytes();
            fill(rest, words);
        }
    }

    fn record(&mut self, section: Section, number: usize) -> &mut [u8] {
        let length = section.record_bytes();
        let record = self.table(section).get_mut(number * length..).and_then(|rest| rest.get_mut(..length));
        debug_assert!(record.is_some(), "sections are as long as they were counted");
        record.unwrap_or_default()
    }

    /// The buckets of a section that is an index.
    pub(super) fn buckets(&mut self, section: Section) -> &mut [[u8; BUCKET_BYTES]] {
        self.table(section).as_chunks_mut().0
    }

    fn table(&mut self, section: Section) -> &mut [u8] {
        let (offset, count) = self.places.get(section as usize).copied().unwrap_or_default();
        self.bytes.get_mut(offset..offset + count * section.record_bytes()).unwrap_or_default()
    }

    fn offset(&self) -> u32 {
        at(self.bytes.len())
    }

    /// The offset of a text that is surely not there yet.
    pub(super) fn push_text(&mut self, text: &str) -> u32 {
        let offset = self.offset();
        crate::packed::put_text(&mut self.bytes, text);
        offset
    }

    /// The offset of a text, stored once. The empty text is at 0.
    pub(crate) fn text(&mut self, text: &str) -> u32 {
        if text.is_empty() {
            return 0;
        }
        let hash = index::text_hash(self.keys, text.as_bytes());
        if let Some((offset, _)) = self.texts.find(hash, |place| stands(&self.bytes, 2, *place) == text.as_bytes()) {
            return at(*offset);
        }
        let place = (self.bytes.len(), text.len());
        let offset = self.push_text(text);
        let (bytes, keys) = (&self.bytes, self.keys);
        self.texts.insert_unique(hash, place, |place| index::text_hash(keys, stands(bytes, 2, *place)));
        offset
    }

    /// The offset of bytes on a multiple of 4, stored once.
    pub(crate) fn blob(&mut self, blob: &[u8]) -> u32 {
        let hash = index::text_hash(self.keys, blob);
        if let Some((offset, _)) = self.blobs.find(hash, |place| stands(&self.bytes, 0, *place) == blob) {
            return at(*offset);
        }
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        let place = (self.bytes.len(), blob.len());
        self.bytes.extend_from_slice(blob);
        let (bytes, keys) = (&self.bytes, self.keys);
        self.blobs.insert_unique(hash, place, |place| index::text_hash(keys, stands(bytes, 0, *place)));
        at(place.0)
    }

    /// The offset of a list: its entries behind their number. The empty list is at 0.
    pub(crate) fn list<const N: usize>(&mut self, entries: impl ExactSizeIterator<Item = [u8; N]>) -> u32 {
        if entries.len() == 0 {
            return 0;
        }
        let mut blob = Vec::with_capacity(4 + entries.len() * N);
        blob.extend_from_slice(&at(entries.len()).to_le_bytes());
        entries.for_each(|entry| blob.extend_from_slice(&entry));
        self.blob(&blob)
    }

    pub(super) fn ranges(&mut self, cidrs: &[Cidr]) -> u32 {
        if cidrs.is_empty() { 0 } else { self.blob(&ranges::encode(cidrs)) }
    }
}

fn fill(record: &mut [u8], words: impl IntoIterator<Item = u32>) {
    for (place, word) in record.as_chunks_mut().0.iter_mut().zip(words) {
        *place = word.to_le_bytes();
    }
}

/// Too large a policy saturates here and is refused at the end.
fn at(offset: usize) -> u32 {
    u32::try_from(offset).unwrap_or(u32::MAX)
}

/// What stands at a place, behind so many bytes of length.
fn stands(bytes: &[u8], length_bytes: usize, (offset, length): (usize, usize)) -> &[u8] {
    bytes.get(offset + length_bytes..).and_then(|rest| rest.get(..length)).unwrap_or_default()
}
