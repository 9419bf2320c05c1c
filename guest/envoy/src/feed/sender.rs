//! The way back: batches of decisions, one after the other.

use crate::feed::pace::Pace;
use crate::journal::Journal;

/// So many decisions are sent at once.
pub(crate) const FULL_BATCH: usize = 256;
/// Fewer wait so long, in milliseconds.
pub(crate) const MAX_AGE_MS: u64 = 1000;

/// The batch that is on its way, and when there may be the next one.
pub(crate) struct Sender {
    /// It stays the same until the host has it, so that it cannot be stored twice in part.
    batch: Option<Vec<u8>>,
    in_flight: bool,
    pace: Pace,
    not_before_ms: u64,
    last_sent_ms: u64,
}

/// What became of a batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Sent {
    /// The host has it.
    Stored,
    /// It will be sent again.
    Again,
    /// The host will never take it: so many decisions are told as lost.
    Refused(usize),
}

impl Sender {
    /// A sender that has sent nothing.
    #[must_use]
    pub(crate) fn new(random: u64) -> Sender {
        Sender { batch: None, in_flight: false, pace: Pace::new(random), not_before_ms: 0, last_sent_ms: 0 }
    }

    /// The batch that is to be sent now; nothing where there is none, or one is on its way.
    pub(crate) fn next(&mut self, now_ms: u64, journal: &mut Journal) -> Option<&[u8]> {
        if self.in_flight || now_ms < self.not_before_ms {
            return None;
        }
        if self.batch.is_none() {
            let waiting = journal.waiting();
            let is_due = waiting >= FULL_BATCH || (waiting > 0 && now_ms >= self.last_sent_ms + MAX_AGE_MS);
            if !is_due {
                return None;
            }
            self.batch = journal.batch();
        }
        self.in_flight = self.batch.is_some();
        self.last_sent_ms = now_ms;
        self.batch.as_deref()
    }

    /// The host answered; without a status it did not.
    pub(crate) fn answered(&mut self, status: Option<u32>, now_ms: u64, journal: &mut Journal) -> Sent {
        self.in_flight = false;
        match status {
            Some(200 | 204) => {
                self.batch = None;
                self.pace.succeeded();
                journal.taken();
                Sent::Stored
            }
            // The same bytes would be refused for ever, and everything behind them would be lost.
            Some(400 | 413 | 422) => {
                self.batch = None;
                self.not_before_ms = now_ms + self.pace.failed();
                Sent::Refused(journal.refused())
            }
            _ => {
                self.not_before_ms = now_ms + self.pace.failed();
                Sent::Again
            }
        }
    }

    /// The call is gone without an answer, through no fault of the host.
    pub(crate) fn lost(&mut self) {
        self.in_flight = false;
    }
}

#[cfg(test)]
mod tests {
    use portcullis_model::feed::{Told, batch};

    use super::*;
    use crate::feed::pace::MAX_WAIT_MS;

    fn journal(records: usize) -> Journal {
        let mut journal = Journal::new(1, 10_000);
        for _ in 0..records {
            journal.record(1, 0, b"details");
        }
        journal
    }

    #[test]
    fn few_wait_a_second_and_many_do_not() {
        let mut sender = Sender::new(1);
        let mut few = journal(FULL_BATCH - 1);
        assert_eq!(sender.next(MAX_AGE_MS - 1, &mut few), None);
        assert!(Sender::new(1).next(MAX_AGE_MS, &mut few).is_some());
        assert!(sender.next(1, &mut journal(FULL_BATCH)).is_some());
        assert_eq!(Sender::new(1).next(u64::MAX / 2, &mut journal(0)), None);
    }

    #[test]
    fn one_batch_is_on_its_way_at_a_time() {
        let (mut sender, mut journal) = (Sender::new(1), journal(600));
        assert!(sender.next(0, &mut journal).is_some());
        assert_eq!(sender.next(10_000, &mut journal), None);
        assert_eq!(sender.answered(Some(204), 10_000, &mut journal), Sent::Stored);
        assert!(sender.next(20_000, &mut journal).is_some());
        assert_eq!(sender.answered(Some(204), 20_000, &mut journal), Sent::Stored);
        assert_eq!((sender.next(30_000, &mut journal), journal.waiting()), (None, 0));
    }

    #[test]
    fn a_batch_that_failed_is_sent_again_as_the_same_bytes() {
        let (mut sender, mut journal) = (Sender::new(1), journal(300));
        let mut now = 0;
        let first = sender.next(now, &mut journal).unwrap().to_vec();
        for status in [None, Some(503), Some(429), Some(401), Some(404), Some(302)] {
            assert_eq!(sender.answered(status, now, &mut journal), Sent::Again);
            assert_eq!(sender.next(now, &mut journal), None, "it waits after {status:?}");
            journal.record(1, 0, b"more");
            now += MAX_WAIT_MS;
            assert_eq!(sender.next(now, &mut journal), Some(first.as_slice()), "after {status:?}");
        }
        sender.lost();
        assert_eq!(sender.next(now, &mut journal), Some(first.as_slice()));
        assert_eq!(sender.answered(Some(204), now, &mut journal), Sent::Stored);
        assert_eq!(journal.waiting(), 6);
    }

    #[test]
    fn a_batch_that_is_refused_becomes_a_gap() {
        for status in [400, 413, 422] {
            let (mut sender, mut journal) = (Sender::new(1), journal(300));
            let bytes = sender.next(0, &mut journal).unwrap().to_vec();
            let ids: Vec<u64> = batch(&bytes)
                .unwrap()
                .into_iter()
                .filter_map(|told| match told {
                    Told::Decision { id, .. } => Some(id),
                    Told::Gap { .. } => None,
                })
                .collect();
            assert_eq!(sender.answered(Some(status), 0, &mut journal), Sent::Refused(300));
            journal.record(1, 0, b"after");
            let bytes = sender.next(2 * MAX_WAIT_MS, &mut journal).unwrap().to_vec();
            let told = batch(&bytes).unwrap();
            assert_eq!(told.len(), 2);
            assert_eq!(told[0], Told::Gap { count: 300, first: ids[0], last: ids[299] });
            // What is told of what was lost is refused too: nothing of it is left.
            assert_eq!(sender.answered(Some(status), 2 * MAX_WAIT_MS, &mut journal), Sent::Refused(1));
            assert_eq!(journal.waiting(), 1);
        }
    }
}
