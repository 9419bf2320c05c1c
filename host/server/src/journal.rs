//! The queue between decisions and their records.
//!
//! A request is acted on only after its decision has been taken here. Taking never waits: where the queue is full, because
//! the disk is slow or gone, the decision is counted into a gap, and the record of the gap says how many are missing.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use portcullis_control::store::{DecisionRecord, Gap};
pub(crate) use portcullis_model::decision::DecisionId;
use portcullis_tower::journal::DecisionIds;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

use crate::clock;

/// The most records of one batch, which is one transaction of the store: it waits for the disk.
pub(crate) const MAX_BATCH: usize = 1_024;
/// How long a batch gathers after its first record.
pub(crate) const BATCH_WAIT: Duration = Duration::from_millis(200);

/// Makes a queue of at most `capacity` records.
pub(crate) fn channel(capacity: usize) -> (Journal, Batches) {
    let (sender, receiver) = mpsc::channel(capacity.max(1));
    let shared = Arc::new(Shared { ids: DecisionIds::default(), gap: Mutex::new(None), gapped: Notify::new() });
    let batches = Batches { receiver, shared: Arc::clone(&shared), held: None, passed: 0 };
    (Journal { sender, shared }, batches)
}

/// Where decisions are recorded. Clones share one queue.
#[derive(Clone)]
pub(crate) struct Journal {
    sender: mpsc::Sender<DecisionRecord>,
    shared: Arc<Shared>,
}

struct Shared {
    ids: DecisionIds,
    /// What was not accepted since the last gap was taken.
    gap: Mutex<Option<Gap>>,
    /// Told when a gap begins, so that the last gap before a silence is taken too.
    gapped: Notify,
}

/// Whether the record itself was kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kept {
    /// In the queue.
    Queued,
    /// Counted into a gap.
    Counted,
}

impl Journal {
    /// Records a decision: the reason's number, 0 for an allow, and the packed details of the answer.
    pub(crate) fn record(&self, reason: u16, details: &[u8]) -> (DecisionId, Kept) {
        let id = self.shared.ids.next(clock::unix_ms());
        let kept = match self.sender.try_send(DecisionRecord { id, reason, details: details.into() }) {
            Ok(()) => Kept::Queued,
            Err(TrySendError::Full(_) | TrySendError::Closed(_)) => {
                self.count(id);
                Kept::Counted
            }
        };
        (DecisionId(id), kept)
    }

    #[cold]
    fn count(&self, id: u64) {
        let mut gap = self.shared.gap.lock().unwrap_or_else(PoisonError::into_inner);
        let before = gap.unwrap_or(Gap { count: 0, first: id, last: id });
        *gap = Some(Gap { count: before.count + 1, first: before.first.min(id), last: before.last.max(id) });
        drop(gap);
        self.shared.gapped.notify_one();
    }
}

impl portcullis_tower::journal::Journal for Journal {
    fn record(&self, reason: u16, details: &[u8]) -> DecisionId {
        Journal::record(self, reason, details).0
    }
}

/// The other end of the queue: what the store writes.
pub(crate) struct Batches {
    receiver: mpsc::Receiver<DecisionRecord>,
    shared: Arc<Shared>,
    /// A gap that was taken and whose place has not come yet.
    held: Option<Gap>,
    /// The largest id that has been handed over.
    passed: u64,
}

/// What has gathered: records, then the gap that follows them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Batch {
    /// The records, in order of their ids.
    pub(crate) records: Vec<DecisionRecord>,
    /// What is missing after them.
    pub(crate) gap: Option<Gap>,
}

impl Batches {
    /// The next batch, or nothing once every journal is gone and all has been handed over.
    ///
    /// A batch that was received and is then dropped by the caller is lost; dropping the future itself loses at most what
    /// it had gathered.
    pub(crate) async fn next(&mut self) -> Option<Batch> {
        loop {
            let mut records = Vec::new();
            let first = tokio::select! {
                biased;
                first = self.receiver.recv() => first,
                () = self.shared.gapped.notified() => None,
            };
            if let Some(first) = first {
                records.push(first);
                self.gather(&mut records).await;
            }
            records.sort_unstable_by_key(|record| record.id);
            self.passed = records.last().map_or(self.passed, |last| self.passed.max(last.id));
            let gap = self.gap_here();
            if !records.is_empty() || gap.is_some() {
                return Some(Batch { records, gap });
            }
            if self.receiver.is_closed() && self.receiver.is_empty() && self.held.is_none() {
                return None;
            }
        }
    }

    async fn gather(&mut self, records: &mut Vec<DecisionRecord>) {
        let until = Instant::now() + BATCH_WAIT;
        while records.len() < MAX_BATCH {
            let room = MAX_BATCH - records.len();
            match tokio::time::timeout_at(until, self.receiver.recv_many(records, room)).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
        }
    }

    /// A gap comes after the records that filled the queue: once one that is younger has passed, or all have.
    fn gap_here(&mut self) -> Option<Gap> {
        if self.held.is_none() {
            self.held = self.shared.gap.lock().unwrap_or_else(PoisonError::into_inner).take();
        }
        let gap = self.held?;
        if self.receiver.is_empty() || self.passed > gap.first { self.held.take() } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn records_come_in_order_and_in_batches_of_bounded_size() {
        let (journal, mut batches) = channel(2 * MAX_BATCH);
        let ids: Vec<_> = (0..=MAX_BATCH).map(|_| journal.record(0, b"facts").0.0).collect();
        let first = batches.next().await.unwrap();
        assert_eq!((first.records.len(), first.gap), (MAX_BATCH, None));
        let second = batches.next().await.unwrap();
        assert_eq!(second.records, [DecisionRecord { id: ids[MAX_BATCH], reason: 0, details: (*b"facts").into() }]);
        assert!(first.records.iter().map(|record| record.id).eq(ids[..MAX_BATCH].iter().copied()));
        drop(journal);
        assert_eq!(batches.next().await, None);
    }

    #[tokio::test]
    async fn a_full_queue_counts_what_it_cannot_hold() {
        let (journal, mut batches) = channel(2);
        let recorded: Vec<_> = (0..5).map(|_| journal.record(70, &[])).collect();
        let kept: Vec<_> = recorded.iter().map(|(_, kept)| *kept).collect();
        assert_eq!(kept, [Kept::Queued, Kept::Queued, Kept::Counted, Kept::Counted, Kept::Counted]);
        let batch = batches.next().await.unwrap();
        assert_eq!(batch.records.len(), 2);
        assert_eq!(batch.gap, Some(Gap { count: 3, first: recorded[2].0.0, last: recorded[4].0.0 }));
        journal.record(70, &[]);
        drop(journal);
        let batch = batches.next().await.unwrap();
        assert_eq!((batch.records.len(), batch.gap), (1, None));
        assert_eq!(batches.next().await, None);
    }

    #[tokio::test]
    async fn a_gap_is_told_even_where_nothing_follows_it() {
        let (journal, mut batches) = channel(1);
        journal.record(0, &[]);
        let taken = batches.receiver.recv().await.unwrap();
        journal.record(0, &[]);
        let (lost, kept) = journal.record(0, &[]);
        assert_eq!(kept, Kept::Counted);
        drop(batches.receiver.recv().await.unwrap());
        let batch = batches.next().await.unwrap();
        assert_eq!(batch, Batch { records: Vec::new(), gap: Some(Gap { count: 1, first: lost.0, last: lost.0 }) });
        assert!(taken.id < lost.0);
    }
}
