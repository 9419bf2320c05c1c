//! Where decisions are recorded.

use std::sync::atomic::{AtomicU64, Ordering};

use portcullis_model::decision::DecisionId;
use portcullis_model::feed::ID_COUNT_BITS;

use crate::clock;

/// What takes note of decisions, before they are acted on.
pub trait Journal: Send + Sync {
    /// Takes note of a decision: the reason's number, 0 for an allow, and the packed details of the answer, which are empty
    /// where the gate gave none. It must not wait.
    fn record(&self, reason: u16, details: &[u8]) -> DecisionId;
}

/// Gives ids to decisions.
#[derive(Debug, Default)]
pub struct DecisionIds {
    last: AtomicU64,
}

impl DecisionIds {
    /// The next id, for a decision at a time in milliseconds since 1970.
    ///
    /// INVARIANT (rising-ids): each id is larger than every one before it, whatever the clock does.
    pub fn next(&self, now_ms: u64) -> u64 {
        let after = |last: u64| last.saturating_add(1).max(now_ms << ID_COUNT_BITS);
        let rising = |last| Some(after(last));
        // The closure always gives a value, so both arms hold the id before.
        let before = match self.last.fetch_update(Ordering::Relaxed, Ordering::Relaxed, rising) {
            Ok(before) | Err(before) => before,
        };
        after(before)
    }
}

/// A journal that keeps nothing: decisions have ids, for callers to name them by, and nobody can look them up.
#[derive(Debug, Default)]
pub struct Unrecorded {
    ids: DecisionIds,
}

impl Journal for Unrecorded {
    fn record(&self, _reason: u16, _details: &[u8]) -> DecisionId {
        DecisionId(self.ids.next(clock::unix_ms()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_rise_whatever_the_clock_does() {
        let ids = DecisionIds::default();
        let given = [5, 5, 3, 6, 0].map(|now_ms| ids.next(now_ms));
        assert!(given.is_sorted_by(|before, after| before < after), "{given:?}");
        assert_eq!(given[3] >> ID_COUNT_BITS, 6);
        assert_ne!(Unrecorded::default().record(0, b"").0, 0);
    }
}
