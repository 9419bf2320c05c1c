//! Signed requests that are accepted once: those that were, until they could no longer come again.
//!
//! One lock for all of it: an entry takes a fraction of a microsecond, and what it would have to be checked against does not
//! come in parts. It is in memory alone; a restart forgets it.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};

use portcullis_model::time::UnixTime;

/// The most entries: about 128 MiB. At 300 s of clock skew that is a thousand signed requests a second that are accepted once.
pub const MAX_ENTRIES: usize = 1 << 20;
/// How many entries whose time is over are dropped by each that is made: so that no request pays for all of them.
const DROPPED_AT_ONCE: usize = 8;

/// The cache.
pub struct Replays {
    limit: usize,
    entries: Mutex<Entries>,
}

#[derive(Default)]
struct Entries {
    until: HashMap<[u8; 32], UnixTime>,
    /// The same by when they end.
    ends: BTreeMap<UnixTime, Vec<[u8; 32]>>,
}

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

impl Replays {
    /// An empty cache of so many entries.
    pub fn new(limit: usize) -> Replays {
        Replays { limit, entries: Mutex::default() }
    }

    /// One that takes nothing.
    pub fn closed() -> Replays {
        Replays::new(0)
    }

    /// Makes an entry that lives until a time, that time included, unless it is there.
    ///
    /// INVARIANT (once): looking and entering are one step under the lock.
    pub fn enter(&self, key: [u8; 32], until: UnixTime, now: UnixTime) -> Once {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let is_full = entries.until.len() >= self.limit;
        entries.forget(now, if is_full { usize::MAX } else { DROPPED_AT_ONCE });
        if entries.until.get(&key).is_some_and(|end| *end >= now) {
            return Once::Seen;
        }
        if entries.until.len() >= self.limit {
            return Once::Full;
        }
        if let Some(before) = entries.until.insert(key, until) {
            // Its time is over, and it was not dropped yet.
            entries.take_end(before, &key);
        }
        entries.ends.entry(until).or_default().push(key);
        Once::Fresh
    }

    /// How many entries there are.
    pub fn entries(&self) -> usize {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).until.len()
    }
}

impl Entries {
    /// Drops at most so many entries whose time is over.
    fn forget(&mut self, now: UnixTime, most: usize) {
        for _ in 0..most {
            let Some(mut first) = self.ends.first_entry().filter(|first| *first.key() < now) else { return };
            match first.get_mut().pop() {
                Some(key) => drop(self.until.remove(&key)),
                None => drop(first.remove()),
            }
        }
    }

    fn take_end(&mut self, end: UnixTime, key: &[u8; 32]) {
        if let Some(keys) = self.ends.get_mut(&end) {
            keys.retain(|known| known != key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn at(secs: u64) -> UnixTime {
        UnixTime::from_secs(secs).unwrap()
    }

    fn key(number: usize) -> [u8; 32] {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&number.to_le_bytes());
        key
    }

    #[test]
    fn an_entry_is_made_once_until_its_time_is_over() {
        let replays = Replays::new(10);
        assert_eq!(replays.enter(key(1), at(100), at(50)), Once::Fresh);
        assert_eq!(replays.enter(key(1), at(100), at(100)), Once::Seen, "until then, inclusive");
        assert_eq!(replays.enter(key(2), at(100), at(100)), Once::Fresh);
        assert_eq!(replays.enter(key(1), at(200), at(101)), Once::Fresh);
        assert_eq!(replays.enter(key(1), at(300), at(102)), Once::Seen);
    }

    #[test]
    fn a_full_cache_takes_nothing_until_entries_end() {
        let replays = Replays::new(3);
        for number in 0..3 {
            assert_eq!(replays.enter(key(number), at(100), at(50)), Once::Fresh, "{number} of 3");
        }
        assert_eq!(replays.enter(key(3), at(100), at(50)), Once::Full);
        assert_eq!(replays.enter(key(0), at(100), at(50)), Once::Seen, "what is there is told all the same");
        assert_eq!(replays.enter(key(3), at(200), at(101)), Once::Fresh);
        assert_eq!(replays.entries(), 1, "those whose time is over are gone");
        assert_eq!(Replays::closed().enter(key(1), at(100), at(50)), Once::Full);
    }

    #[test]
    fn entries_that_are_over_go_a_few_at_a_time() {
        let replays = Replays::new(1000);
        for number in 0..100 {
            replays.enter(key(number), at(100), at(50));
        }
        for number in 100..120 {
            replays.enter(key(number), at(200), at(150));
        }
        assert_eq!(replays.entries(), 20);
    }

    #[test]
    fn of_many_at_once_one_is_first() {
        let (replays, fresh) = (Replays::new(10_000), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for number in 0..1000 {
                        if replays.enter(key(number), at(100), at(50)) == Once::Fresh {
                            fresh.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        assert_eq!(fresh.into_inner(), 1000);
    }
}
