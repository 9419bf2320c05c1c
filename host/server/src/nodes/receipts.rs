//! Receipts: who of the live workers decides by a revision, and how long it took.

use std::collections::BTreeMap;
use std::time::Duration;

use portcullis_model::id::Id;
use tokio::time::Instant;

use super::Nodes;
use super::report::WorkerId;

/// The most revocations that wait for receipts at once: each looks at every worker again and again.
pub(super) const MAX_WAITING: usize = 64;
/// How long calls gather before the table is looked at again, so that a thousand calls are not a thousand looks. Latencies do
/// not have it in them.
const GATHER: Duration = Duration::from_millis(2);

/// What a worker is known to decide by.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Receipt {
    pub(crate) node: String,
    pub(crate) worker: WorkerId,
    pub(crate) feed: Id,
    /// The revision by which it decides.
    pub(crate) enforced: Option<u64>,
    /// How long it took until it said so; nothing where it has not.
    pub(crate) latency: Option<Duration>,
    /// It fell silent before it said so.
    pub(crate) gone: bool,
}

/// All of them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Receipts {
    /// The revision that was waited for.
    pub(crate) revision: u64,
    /// By feed, node and worker.
    pub(crate) workers: Vec<Receipt>,
}

impl Receipts {
    /// Whether every worker that was live decides by the revision.
    pub(crate) fn is_complete(&self) -> bool {
        self.workers.iter().all(|receipt| receipt.latency.is_some())
    }
}

/// Whether there is somebody to wait for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Standing {
    /// Every live worker has reached the revision.
    Reached,
    /// One has not. At that time the first of them is live no more unless it calls.
    Waits { until: Option<Instant> },
}

impl Standing {
    /// With one more who has not, and who is live until then.
    pub(super) fn and_waits_until(self, ends: Option<Instant>) -> Standing {
        let until = match self {
            Standing::Reached | Standing::Waits { until: None } => ends,
            Standing::Waits { until: Some(first) } => Some(ends.map_or(first, |ends| ends.min(first))),
        };
        Standing::Waits { until }
    }
}

impl Nodes {
    /// Waits until every live worker decides by a revision, or the time is over. Latencies count from `since`.
    pub(crate) async fn receipts(&self, revision: u64, since: Instant, timeout: Duration) -> Receipts {
        let mut changed = self.0.changed.subscribe();
        let over = Instant::now() + timeout;
        let mut receipts = BTreeMap::new();
        loop {
            changed.mark_unchanged();
            let now = Instant::now();
            let standing = self.table().note(revision, since, now, &mut receipts);
            let until = match standing {
                Standing::Waits { until } if now < over => until.map_or(over, |until| until.min(over)),
                Standing::Waits { .. } | Standing::Reached => break,
            };
            tokio::select! {
                _ = changed.changed() => tokio::time::sleep(GATHER).await,
                () = tokio::time::sleep_until(until) => {}
            }
        }
        let mut workers: Vec<Receipt> = receipts.into_values().collect();
        workers.sort_by(|a, b| (&a.feed, &a.node, a.worker).cmp(&(&b.feed, &b.node, b.worker)));
        Receipts { revision, workers }
    }
}
