//! The bases of feeds that workers are fetching: kept for a while after they were asked for last.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use portcullis_model::feed::PART_BYTES;
use portcullis_model::id::{Id, Revision};
use sha2::{Digest as _, Sha256};

/// How long a base is kept after it was asked for last.
pub const BASE_KEPT: Duration = Duration::from_secs(600);
/// The most bytes of bases that are kept; the newest one is whatever its size. Beyond them that goes which was asked for the
/// longest time ago, and its workers begin anew.
pub const MAX_BASES_BYTES: usize = 1 << 30;
/// The most bases of one feed.
pub const MAX_BASES_OF_FEED: usize = 3;

/// The policy of a feed at a revision.
#[derive(Debug)]
pub struct FeedBase {
    feed: Id,
    /// What it is asked for by.
    pub id: String,
    /// The revision that it is of.
    pub revision: Revision,
    /// The SHA-256 of each part of [`PART_BYTES`].
    pub sha256: Vec<[u8; 32]>,
    bytes: Vec<u8>,
}

impl FeedBase {
    pub(super) fn new(feed: Id, revision: Revision, bytes: Vec<u8>) -> FeedBase {
        let sha256: Vec<[u8; 32]> = bytes.chunks(PART_BYTES).map(|part| Sha256::digest(part).into()).collect();
        let mut all = Sha256::new();
        all.update(feed.as_str().as_bytes());
        all.update(revision.0.to_le_bytes());
        sha256.iter().for_each(|part| all.update(part));
        let digest: [u8; 32] = all.finalize().into();
        let (half, _) = digest.split_at(digest.len() / 2);
        let id = base16ct::lower::encode_string(half);
        FeedBase { feed, id, revision, sha256, bytes }
    }

    /// How long it is.
    #[must_use]
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// A part, counted from 0.
    #[must_use]
    pub fn part(&self, number: usize) -> Option<&[u8]> {
        self.bytes.chunks(PART_BYTES).nth(number)
    }
}

/// Those that are kept.
#[derive(Default)]
pub(super) struct Bases(Mutex<BTreeMap<String, Kept>>);

struct Kept {
    base: Arc<FeedBase>,
    asked: Instant,
}

impl Bases {
    /// Keeps a base.
    pub(super) fn put(&self, base: Arc<FeedBase>, now: Instant) {
        let mut kept = self.kept();
        prune(&mut kept, now);
        let of_feed = |kept: &BTreeMap<String, Kept>| {
            kept.values().filter(|other| other.base.feed == base.feed && other.base.id != base.id).count()
        };
        while of_feed(&kept) >= MAX_BASES_OF_FEED {
            forget_oldest(&mut kept, |other| other.feed == base.feed);
        }
        let bytes = |kept: &BTreeMap<String, Kept>| kept.values().map(|kept| kept.base.size()).sum::<usize>();
        while !kept.is_empty() && bytes(&kept) + base.size() > MAX_BASES_BYTES {
            forget_oldest(&mut kept, |_| true);
        }
        kept.insert(base.id.clone(), Kept { base, asked: now });
    }

    /// A base of a feed, asked for now.
    pub(super) fn get(&self, feed: &Id, id: &str, now: Instant) -> Option<Arc<FeedBase>> {
        let mut kept = self.kept();
        prune(&mut kept, now);
        let found = kept.get_mut(id).filter(|kept| kept.base.feed == *feed)?;
        found.asked = now;
        Some(Arc::clone(&found.base))
    }

    /// The newest base of a feed, asked for now.
    pub(super) fn newest(&self, feed: &Id, now: Instant) -> Option<Arc<FeedBase>> {
        let mut kept = self.kept();
        prune(&mut kept, now);
        let of_feed = kept.values_mut().filter(|kept| kept.base.feed == *feed);
        let found = of_feed.max_by_key(|kept| kept.base.revision)?;
        found.asked = now;
        Some(Arc::clone(&found.base))
    }

    /// Lets go of what nobody has asked for in a while.
    pub(super) fn prune(&self, now: Instant) {
        prune(&mut self.kept(), now);
    }

    fn kept(&self) -> MutexGuard<'_, BTreeMap<String, Kept>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn prune(kept: &mut BTreeMap<String, Kept>, now: Instant) {
    kept.retain(|_, kept| now.saturating_duration_since(kept.asked) <= BASE_KEPT);
}

fn forget_oldest(kept: &mut BTreeMap<String, Kept>, of: impl Fn(&FeedBase) -> bool) {
    let oldest = kept.values().filter(|kept| of(&kept.base)).min_by_key(|kept| kept.asked);
    if let Some(id) = oldest.map(|kept| kept.base.id.clone()) {
        kept.remove(&id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base(feed: &str, revision: u64, bytes: usize) -> Arc<FeedBase> {
        Arc::new(FeedBase::new(feed.parse().unwrap(), Revision(revision), vec![7; bytes]))
    }

    fn id(text: &str) -> Id {
        text.parse().unwrap()
    }

    #[test]
    fn a_base_comes_in_parts() {
        let base = base("edge", 1, 2 * PART_BYTES + 1);
        let parts: Vec<usize> = (0..3).filter_map(|number| base.part(number).map(<[u8]>::len)).collect();
        assert_eq!((parts, base.part(3)), (vec![PART_BYTES, PART_BYTES, 1], None));
        assert_eq!(base.sha256.len(), 3);
        assert_eq!(base.sha256[2], <[u8; 32]>::from(Sha256::digest([7])));
    }

    #[test]
    fn ids_are_of_feed_revision_and_content() {
        let ids =
            [base("edge", 1, 9), base("edge", 2, 9), base("core", 1, 9), base("edge", 1, 8)].map(|b| b.id.clone());
        assert_eq!(ids.iter().collect::<std::collections::BTreeSet<_>>().len(), 4);
        assert_eq!(base("edge", 1, 9).id, ids[0]);
    }

    #[test]
    fn it_stays_for_ten_minutes_after_it_was_asked_for_last() {
        let (bases, start, made) = (Bases::default(), Instant::now(), base("edge", 1, 9));
        bases.put(Arc::clone(&made), start);
        let second = start + BASE_KEPT;
        assert!(bases.get(&id("edge"), &made.id, second).is_some());
        assert!(bases.get(&id("core"), &made.id, second).is_none(), "it is another feed's");
        let last = second + BASE_KEPT;
        assert!(bases.get(&id("edge"), &made.id, last).is_some());
        assert!(bases.get(&id("edge"), &made.id, last + BASE_KEPT + Duration::from_secs(1)).is_none());
    }

    #[test]
    fn a_feed_has_a_few_and_the_newest_is_offered() {
        let (bases, now) = (Bases::default(), Instant::now());
        let of = |revision| base("edge", revision, 9).id.clone();
        for revision in 1..=3 {
            bases.put(base("edge", revision, 9), now + Duration::from_secs(revision));
        }
        let later = now + Duration::from_secs(9);
        assert!(bases.get(&id("edge"), &of(1), later).is_some());
        bases.put(base("edge", 4, 9), later);
        assert!(bases.get(&id("edge"), &of(2), later).is_none(), "it was asked for the longest time ago");
        assert!(bases.get(&id("edge"), &of(1), later).is_some());
        assert_eq!(bases.newest(&id("edge"), later).map(|base| base.revision), Some(Revision(4)));
    }
}
