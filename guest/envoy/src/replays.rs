//! Signed requests that are accepted once, across the workers of one proxy.
//!
//! The proxy has one map for all VMs of an id, with compare-and-swap and without removal. So the keys of the map are a fixed
//! number of sets, and what is remembered stands in the values: a set has room for so many uses, those whose time is over make
//! room, and a full set takes nothing.

use portcullis_model::time::UnixTime;

/// How many sets there are.
pub const SETS: u16 = 8192;
/// The most uses of a set. With half as many in the mean, one set in ten thousand is full.
pub const WAYS: usize = 32;
/// How often an entry is tried where other workers write to the same set.
pub const MAX_TRIES: usize = 16;

/// Half of a key tells uses apart: two that share it by chance, at odds of 2^128, cost a denial.
const KEY_BYTES: usize = 16;
const ENTRY_BYTES: usize = KEY_BYTES + 8;
/// What no value in the map has as its version: the proxy counts from 1, and an absent one is entered only where a version is
/// given that is not the present one's.
const ABSENT: u32 = u32::MAX;

/// What became of an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Once {
    /// It was not there, and is now.
    Fresh,
    /// It was there.
    Seen,
    /// There is no room.
    Full,
}

/// The proxy's map.
pub trait Map {
    /// The value and its version; nothing where there is none.
    fn get(&mut self, set: u16) -> Option<(Vec<u8>, u32)>;
    /// Sets the value if it has that version or there is none; tells whether it did.
    fn set(&mut self, set: u16, value: &[u8], version: u32) -> bool;
}

/// Makes an entry that lives until a time, that time included, unless it is there.
///
/// INVARIANT (once): what is written back was read at the version that it replaces.
pub fn enter(map: &mut impl Map, key: &[u8; 32], until: UnixTime, now: UnixTime) -> Once {
    let ([a, b], half) = (set_bytes(key), tag(key));
    let set = u16::from_le_bytes([a, b]) % SETS;
    for _ in 0..MAX_TRIES {
        let (value, version) = map.get(set).unwrap_or((Vec::new(), ABSENT));
        let mut kept = Vec::with_capacity(ENTRY_BYTES * WAYS);
        for (known, end) in entries(&value) {
            if end >= now.as_secs() {
                if known == half {
                    return Once::Seen;
                }
                kept.extend_from_slice(known);
                kept.extend_from_slice(&end.to_le_bytes());
            }
        }
        if kept.len() >= ENTRY_BYTES * WAYS {
            return Once::Full;
        }
        kept.extend_from_slice(half);
        kept.extend_from_slice(&until.as_secs().to_le_bytes());
        if map.set(set, &kept, version) {
            return Once::Fresh;
        }
    }
    Once::Full
}

fn tag(key: &[u8; 32]) -> &[u8; KEY_BYTES] {
    let (half, _) = key.split_first_chunk().unwrap_or((&[0; KEY_BYTES], &[]));
    half
}

fn set_bytes(key: &[u8; 32]) -> [u8; 2] {
    key.last_chunk().copied().unwrap_or_default()
}

fn entries(value: &[u8]) -> impl Iterator<Item = (&[u8; KEY_BYTES], u64)> {
    let (entries, _) = value.as_chunks::<ENTRY_BYTES>();
    entries.iter().filter_map(|entry| Some((entry.first_chunk()?, u64::from_le_bytes(*entry.last_chunk()?))))
}
