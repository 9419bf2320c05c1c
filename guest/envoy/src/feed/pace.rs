//! How long is waited before something is tried again.

/// The shortest wait, in milliseconds.
pub(crate) const MIN_WAIT_MS: u64 = 100;
/// The longest wait, in milliseconds.
pub(crate) const MAX_WAIT_MS: u64 = 5000;

/// Waits that grow with each failure and differ from worker to worker, so that a thousand of them do not come back at once.
pub(crate) struct Pace {
    random: u64,
    last_ms: u64,
}

impl Pace {
    /// Waits as after no failure. `random` tells this worker from others.
    #[must_use]
    pub(crate) fn new(random: u64) -> Pace {
        // A xorshift generator stays at zero for ever, and is poor at first after a small number.
        let random = (random ^ 0x9e37_79b9_7f4a_7c15).wrapping_mul(0xff51_afd7_ed55_8ccd) | 1;
        Pace { random, last_ms: MIN_WAIT_MS }
    }

    /// How long to wait after one more failure: from [`MIN_WAIT_MS`] to three times the last wait, and [`MAX_WAIT_MS`] at most.
    pub(crate) fn failed(&mut self) -> u64 {
        let most = (self.last_ms * 3).min(MAX_WAIT_MS);
        self.last_ms = MIN_WAIT_MS + self.below(most - MIN_WAIT_MS + 1);
        self.last_ms
    }

    /// The next failure is the first one again.
    pub(crate) fn succeeded(&mut self) {
        self.last_ms = MIN_WAIT_MS;
    }

    /// A random number below `bound`; 0 where that is 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random.checked_rem(bound).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_stay_in_bounds_and_begin_anew() {
        for seed in 0..200 {
            let mut pace = Pace::new(seed * 0x9e37_79b9);
            let waits: Vec<u64> = (0..40).map(|_| pace.failed()).collect();
            assert!(waits.iter().all(|wait| (MIN_WAIT_MS..=MAX_WAIT_MS).contains(wait)), "{waits:?}");
            assert!(waits[0] <= 3 * MIN_WAIT_MS && waits.iter().any(|wait| *wait > 2000), "{waits:?}");
            pace.succeeded();
            assert!(pace.failed() <= 3 * MIN_WAIT_MS);
        }
    }

    #[test]
    fn workers_do_not_come_at_once() {
        let waits: std::collections::BTreeSet<u64> = (0..1000_u64)
            .map(|seed| {
                let mut pace = Pace::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
                (0..4).map(|_| pace.failed()).sum()
            })
            .collect();
        assert!(waits.len() > 400, "{} different waits", waits.len());
    }
}
