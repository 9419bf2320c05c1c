//! Ids of decisions, and their records until the host has them: a queue that is bounded in records and in bytes. Where it is
//! full, a decision is counted into a gap.

use std::collections::VecDeque;

use portcullis_model::decision::DecisionId;
use portcullis_model::feed::{ID_COUNT_BITS, ID_WORKER_SHIFT, MAX_BATCH_BYTES, MAX_BATCH_RECORDS, Told};

/// The most bytes of details that wait to be sent: about what 8192 records of a usual request take.
pub const MAX_QUEUED_BYTES: usize = 4 << 20;

/// The low bits of an id that count.
const COUNT: u64 = (1 << ID_WORKER_SHIFT) - 1;
const TAG: u64 = (1 << (ID_COUNT_BITS - ID_WORKER_SHIFT)) - 1;

/// What was decided and not sent yet.
pub struct Journal {
    /// What tells the ids of this worker from those of others; never 0, which are the host's own.
    tag: u64,
    /// The last id, without its tag: the time in milliseconds, and the count.
    last: u64,
    capacity: usize,
    records: VecDeque<Record>,
    bytes: usize,
    gap: Option<Gap>,
    /// What the host did not take. It is told before everything else.
    refused: Option<Gap>,
    /// What is in the batch that is on its way.
    sending: Option<Sending>,
}

#[derive(Clone, Copy)]
struct Sending {
    /// The gap before its records: whether it was told.
    refused: bool,
    /// How many records.
    count: usize,
    /// The gap that follows them.
    gap: Option<Gap>,
}

struct Record {
    id: u64,
    reason: u16,
    details: Box<[u8]>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Gap {
    count: u64,
    first: u64,
    last: u64,
}

impl Journal {
    /// An empty one of at most so many records. `random` gives its tag.
    #[must_use]
    pub fn new(random: u64, capacity: usize) -> Journal {
        let tag = (random & TAG).max(1);
        Journal { tag, last: 0, capacity, records: VecDeque::new(), bytes: 0, gap: None, refused: None, sending: None }
    }

    /// Sets the most records; what is there stays.
    pub fn set_capacity(&mut self, capacity: usize) {
        self.capacity = capacity;
    }

    /// An id for a decision of which no record is kept: of an inline policy, which has nobody to send it to.
    pub fn id(&mut self, now_ms: u64) -> DecisionId {
        DecisionId(self.next_id(now_ms))
    }

    /// Records a decision: the reason's number, 0 for an allow, and the packed details of the answer.
    pub fn record(&mut self, now_ms: u64, reason: u16, details: &[u8]) -> DecisionId {
        let id = self.next_id(now_ms);
        // INVARIANT (order): records come before the gap that follows them, so none is taken while a gap waits to be sent.
        let has_room = self.gap.is_none()
            && self.records.len() < self.capacity
            && self.bytes + details.len() <= MAX_QUEUED_BYTES
            && (Told::Decision { id, reason, details }).packed_len() <= MAX_BATCH_BYTES;
        if has_room {
            self.bytes += details.len();
            self.records.push_back(Record { id, reason, details: details.into() });
        } else {
            let before = self.gap.unwrap_or(Gap { count: 0, first: id, last: id });
            self.gap = Some(Gap { count: before.count + 1, last: id, ..before });
        }
        DecisionId(id)
    }

    /// INVARIANT (rising-ids): each id is larger than every one before it, whatever the clock does.
    fn next_id(&mut self, now_ms: u64) -> u64 {
        // Beyond what the count holds, an id is of the next millisecond.
        self.last = self.last.saturating_add(1).max(now_ms << ID_WORKER_SHIFT);
        let (ms, count) = (self.last >> ID_WORKER_SHIFT, self.last & COUNT);
        ms << ID_COUNT_BITS | self.tag << ID_WORKER_SHIFT | count
    }

    /// How many records wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.records.len() + usize::from(self.gap.is_some()) + usize::from(self.refused.is_some())
    }

    /// The next batch, packed; nothing where there is none. Until it is said to be [`taken`](Journal::taken) it stays, and the
    /// next call gives its records again.
    #[must_use]
    pub fn batch(&mut self) -> Option<Vec<u8>> {
        let (mut bytes, mut count) = (Vec::new(), 0);
        if let Some(gap) = self.refused {
            gap.told().pack(&mut bytes);
        }
        let places = MAX_BATCH_RECORDS - 1 - usize::from(self.refused.is_some());
        for Record { id, reason, details } in &self.records {
            let told = Told::Decision { id: *id, reason: *reason, details };
            // One place is left for a gap.
            if count >= places || bytes.len() + told.packed_len() > MAX_BATCH_BYTES - GAP_BYTES {
                break;
            }
            told.pack(&mut bytes);
            count += 1;
        }
        let gap = self.gap.filter(|_| count == self.records.len());
        if let Some(gap) = gap {
            gap.told().pack(&mut bytes);
        }
        self.sending = (!bytes.is_empty()).then_some(Sending { refused: self.refused.is_some(), count, gap });
        (!bytes.is_empty()).then_some(bytes)
    }

    /// The last batch was stored: what is in it is dropped.
    pub fn taken(&mut self) {
        self.sent();
    }

    /// The last batch will never be stored: its records are dropped and counted into a gap, which the next batch tells. A gap that
    /// was refused itself is not told again. Gives how many records it was.
    pub fn refused(&mut self) -> usize {
        let Some((records, gap)) = self.sent() else { return 0 };
        self.refused = match (records.first(), records.last()) {
            (Some(first), Some(last)) => {
                let count = gap.map_or(0, |gap| gap.count) + u64::try_from(records.len()).unwrap_or(u64::MAX);
                Some(Gap { count, first: first.id, last: gap.map_or(last.id, |gap| gap.last) })
            }
            _ => None,
        };
        records.len()
    }

    /// Takes out what is in the batch.
    fn sent(&mut self) -> Option<(Vec<Record>, Option<Gap>)> {
        let Sending { refused, count, gap } = self.sending.take()?;
        if refused {
            self.refused = None;
        }
        let records: Vec<Record> = self.records.drain(..count.min(self.records.len())).collect();
        self.bytes -= records.iter().map(|record| record.details.len()).sum::<usize>();
        if let (Some(sent), Some(gap)) = (gap, self.gap) {
            // What was lost since the batch was made is still to be told.
            self.gap = (gap.count > sent.count).then(|| Gap {
                count: gap.count - sent.count,
                first: sent.last + 1,
                last: gap.last,
            });
        }
        Some((records, gap))
    }
}

impl Gap {
    fn told(self) -> Told<'static> {
        let Gap { count, first, last } = self;
        Told::Gap { count, first, last }
    }
}

/// The room that a gap takes in a batch.
const GAP_BYTES: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use portcullis_model::feed::batch;

    fn told(journal: &mut Journal) -> Vec<(u64, u16, Vec<u8>)> {
        let bytes = journal.batch().unwrap_or_default();
        let told = batch(&bytes).unwrap();
        told.into_iter()
            .map(|told| match told {
                Told::Decision { id, reason, details } => (id, reason, details.to_vec()),
                Told::Gap { count, first, last } => (last, u16::MAX, [count, first].map(u64::to_le_bytes).concat()),
            })
            .collect()
    }

    #[test]
    fn ids_rise_and_carry_the_worker_whatever_the_clock_does() {
        let mut journal = Journal::new(0xabc, 1);
        let mut last = 0;
        for now_ms in [5, 5, 9, 3, 3].into_iter().chain(std::iter::repeat_n(9, 600)) {
            let DecisionId(id) = journal.id(now_ms);
            assert!(id > last);
            assert_eq!(id >> ID_WORKER_SHIFT & TAG, 0xabc);
            last = id;
        }
        assert_eq!(last >> ID_COUNT_BITS, 11, "602 ids from the 9th millisecond on take three");
    }

    #[test]
    fn a_tag_is_never_that_of_the_host() {
        let DecisionId(id) = Journal::new(0, 1).id(1);
        assert_eq!(id, 1 << ID_COUNT_BITS | 1 << ID_WORKER_SHIFT);
    }

    #[test]
    fn a_batch_comes_again_until_it_is_taken() {
        let mut journal = Journal::new(1, 10);
        assert_eq!(journal.batch(), None);
        journal.record(1, 0, b"one");
        journal.record(1, 7, b"two");
        let first = told(&mut journal);
        assert_eq!(first.len(), 2);
        assert_eq!(told(&mut journal), first);
        journal.record(1, 0, b"three");
        let _ = journal.batch();
        journal.taken();
        journal.record(2, 0, b"four");
        assert_eq!(told(&mut journal).len(), 1);
        journal.taken();
        assert_eq!((journal.batch(), journal.waiting(), journal.bytes), (None, 0, 0));
    }

    #[test]
    fn what_does_not_fit_is_counted_and_told_after_what_did() {
        let mut journal = Journal::new(1, 2);
        for _ in 0..2 {
            journal.record(1, 0, b"kept");
        }
        assert_eq!(journal.waiting(), 2, "2 of 2");
        let DecisionId(first) = journal.record(1, 0, b"lost");
        let DecisionId(last) = journal.record(1, 0, b"lost");
        let sent = told(&mut journal);
        assert_eq!(sent.len(), 3);
        assert_eq!(sent[2], (last, u16::MAX, [2, first].map(u64::to_le_bytes).concat()));
        // One more is lost while the batch is on its way.
        let DecisionId(later) = journal.record(2, 0, b"lost");
        journal.taken();
        assert_eq!(told(&mut journal), [(later, u16::MAX, [1, last + 1].map(u64::to_le_bytes).concat())]);
        journal.taken();
        journal.record(3, 0, b"kept");
        assert_eq!(told(&mut journal).len(), 1);
    }

    #[test]
    fn the_queue_is_bounded_in_bytes() {
        let mut journal = Journal::new(1, usize::MAX);
        let details = vec![0; MAX_QUEUED_BYTES / 8];
        for _ in 0..8 {
            journal.record(1, 0, &details);
        }
        assert_eq!((journal.waiting(), journal.gap), (8, None));
        journal.record(1, 0, b"x");
        assert!(journal.gap.is_some());
    }

    #[test]
    fn a_batch_is_no_longer_than_the_host_takes() {
        let mut journal = Journal::new(1, 2000);
        for _ in 0..1000 {
            journal.record(1, 0, b"");
        }
        let mut sizes = Vec::new();
        while journal.waiting() > 0 {
            sizes.push(told(&mut journal).len());
            journal.taken();
        }
        assert_eq!(sizes, [511, 489]);
        let details = vec![0; 400_000];
        for _ in 0..5 {
            journal.record(1, 0, &details);
        }
        let mut sizes = Vec::new();
        while journal.waiting() > 0 {
            sizes.push(told(&mut journal).len());
            journal.taken();
        }
        assert_eq!(sizes, [2, 2, 1]);
    }
}
