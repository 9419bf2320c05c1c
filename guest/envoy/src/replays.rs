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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// A map as the proxy has it, and how often another worker comes between reading and writing.
    #[derive(Default)]
    struct Shared {
        values: BTreeMap<u16, (Vec<u8>, u32)>,
        writes: u32,
        between: usize,
    }

    impl Map for Shared {
        fn get(&mut self, set: u16) -> Option<(Vec<u8>, u32)> {
            let got = self.values.get(&set).cloned();
            if self.between > 0 {
                self.between -= 1;
                let other = key(1000 + self.between, set);
                let (mut value, _) = got.clone().unwrap_or_default();
                value.extend_from_slice(tag(&other));
                value.extend_from_slice(&u64::MAX.to_le_bytes());
                self.writes += 1;
                self.values.insert(set, (value, self.writes));
            }
            got
        }

        fn set(&mut self, set: u16, value: &[u8], version: u32) -> bool {
            if self.values.get(&set).is_some_and(|(_, present)| *present != version) {
                return false;
            }
            self.writes += 1;
            self.values.insert(set, (value.to_vec(), self.writes));
            true
        }
    }

    fn at(secs: u64) -> UnixTime {
        UnixTime::from_secs(secs).unwrap()
    }

    fn key(number: usize, set: u16) -> [u8; 32] {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&number.to_le_bytes());
        key[30..].copy_from_slice(&set.to_le_bytes());
        key
    }

    #[test]
    fn an_entry_is_made_once_until_its_time_is_over() {
        let mut shared = Shared::default();
        assert_eq!(enter(&mut shared, &key(1, 7), at(100), at(50)), Once::Fresh);
        assert_eq!(enter(&mut shared, &key(1, 7), at(100), at(100)), Once::Seen, "until then, inclusive");
        assert_eq!(enter(&mut shared, &key(2, 7), at(100), at(100)), Once::Fresh);
        assert_eq!(enter(&mut shared, &key(1, 8), at(100), at(100)), Once::Fresh, "another set");
        assert_eq!(enter(&mut shared, &key(1, 7), at(200), at(101)), Once::Fresh);
    }

    #[test]
    fn a_full_set_takes_nothing_until_entries_end() {
        let mut shared = Shared::default();
        for number in 0..WAYS {
            assert_eq!(enter(&mut shared, &key(number, 7), at(100), at(50)), Once::Fresh, "{number} of {WAYS}");
        }
        assert_eq!(enter(&mut shared, &key(WAYS, 7), at(100), at(50)), Once::Full);
        assert_eq!(enter(&mut shared, &key(0, 7), at(100), at(50)), Once::Seen, "what is there is told all the same");
        assert_eq!(enter(&mut shared, &key(WAYS, 7), at(200), at(101)), Once::Fresh);
        assert_eq!(shared.values[&7].0.len(), ENTRY_BYTES, "those whose time is over are gone");
    }

    #[test]
    fn there_are_no_more_sets_than_are_named() {
        let mut shared = Shared::default();
        for set in 0..=u16::MAX {
            enter(&mut shared, &key(usize::from(set), set), at(100), at(50));
        }
        assert_eq!(shared.values.len(), usize::from(SETS));
    }

    #[test]
    fn another_worker_in_between_is_not_overwritten() {
        let mut shared = Shared { between: MAX_TRIES - 1, ..Shared::default() };
        assert_eq!(enter(&mut shared, &key(1, 7), at(100), at(50)), Once::Fresh);
        assert_eq!(shared.values[&7].0.len(), MAX_TRIES * ENTRY_BYTES);
        let mut shared = Shared { between: MAX_TRIES, ..Shared::default() };
        assert_eq!(enter(&mut shared, &key(1, 7), at(100), at(50)), Once::Full, "it is not tried for ever");
    }

    proptest! {
        /// Against a map that forgets nothing but what is over.
        #[test]
        fn what_was_accepted_is_accepted_no_more(uses in vec((0..60_usize, 0..3_u64, 0..50_u64), 1..200)) {
            let (mut shared, mut known, mut now) = (Shared::default(), BTreeMap::<usize, u64>::new(), 1000);
            for (number, passed, life) in uses {
                now += passed;
                known.retain(|_, until| *until >= now);
                let expected = match known.get(&number) {
                    Some(_) => Once::Seen,
                    None if known.len() >= WAYS => Once::Full,
                    None => Once::Fresh,
                };
                let until = now + life;
                prop_assert_eq!(enter(&mut shared, &key(number, 7), at(until), at(now)), expected);
                if expected == Once::Fresh {
                    known.insert(number, until);
                }
            }
        }
    }
}
