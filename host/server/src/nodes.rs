//! The workers that are attached: what each says of itself with every call of a feed, and who waits for them.
//!
//! A worker of a proxy asks for changes again and again, and says with each call by which revision it decides. So the call
//! after a change is the receipt of it. Nothing here is kept over a restart: workers tell it again within seconds.

mod decisions;
mod receipts;
mod report;
mod table;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use portcullis_model::id::Id;
use portcullis_model::time::UnixTime;
use sha2::{Digest as _, Sha256};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Instant;

pub(crate) use self::decisions::read as read_batch;
use self::receipts::MAX_WAITING;
pub(crate) use self::receipts::{Receipt, Receipts};
pub(crate) use self::report::{ModuleDigest, NodeReport};
pub(crate) use self::table::{Full, Row};
use self::table::{Key, Table};
use crate::clock;
use crate::metrics::Metrics;

/// How long after its last call a worker without an open one counts as live.
pub(crate) const LIVE: Duration = Duration::from_secs(10);

/// The most batches of decisions of one node that are taken at once; each is up to 1 MiB.
const MAX_NODE_BATCHES: usize = 8;
/// The most of all nodes together.
const MAX_BATCHES: usize = 64;

/// The table of attached workers. Clones share it.
#[derive(Clone)]
pub(crate) struct Nodes(Arc<Shared>);

struct Shared {
    table: Mutex<Table>,
    /// Told with every call that begins or ends, for whoever waits for receipts.
    changed: watch::Sender<()>,
    /// Batches of decisions that are being taken, by feed and name of the node.
    batches: Mutex<BTreeMap<(Id, String), usize>>,
    /// Who waits for receipts.
    waiting: Arc<Semaphore>,
    /// The digest of the component by which this host itself decides.
    component: ModuleDigest,
    /// What workers report that run the module which this host carries for proxies.
    carried: Option<ModuleDigest>,
}

impl Nodes {
    /// An empty table. `carried` is what workers report that run the module which this host carries for proxies.
    pub(crate) fn new(carried: Option<ModuleDigest>) -> Nodes {
        let component = Sha256::digest(portcullis_engine::COMPONENT).into();
        Nodes(Arc::new(Shared {
            table: Mutex::default(),
            changed: watch::Sender::new(()),
            batches: Mutex::default(),
            waiting: Arc::new(Semaphore::new(MAX_WAITING)),
            component,
            carried,
        }))
    }

    /// Takes note of a call of a worker. Until what is given back is dropped, its call is open and it is live.
    ///
    /// # Errors
    /// The feed has as many live workers as are told apart.
    pub(crate) fn attend(&self, report: NodeReport) -> Result<Attending, Full> {
        let key = report.key();
        self.table().attend(report, clock::now(), Instant::now())?;
        self.0.changed.send_replace(());
        Ok(Attending { nodes: self.clone(), key })
    }

    /// A place for a batch of decisions of a node, until what is given back is dropped. None where as many are being taken as
    /// may be: the worker keeps its batch and comes again.
    pub(crate) fn take_batch(&self, feed: &Id, node: &str) -> Option<TakingBatch> {
        let mut batches = self.batches();
        let of = (feed.clone(), node.to_owned());
        let own = batches.get(&of).copied().unwrap_or(0);
        if own >= MAX_NODE_BATCHES || batches.values().sum::<usize>() >= MAX_BATCHES {
            return None;
        }
        batches.insert(of.clone(), own + 1);
        Some(TakingBatch { nodes: self.clone(), of })
    }

    fn batches(&self) -> MutexGuard<'_, BTreeMap<(Id, String), usize>> {
        self.0.batches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A revision is in force here from now on.
    fn enforced(&self, revision: u64) {
        self.table().enforced(revision, Instant::now());
    }

    /// Takes note of revisions as they come in force.
    pub(crate) async fn follow(self, mut enforced: watch::Receiver<u64>) {
        loop {
            let revision = *enforced.borrow_and_update();
            self.enforced(revision);
            if enforced.changed().await.is_err() {
                return;
            }
        }
    }

    /// Every worker that was heard of lately, by feed, node and worker. `revision` is the one in force here.
    pub(crate) fn rows(&self, revision: u64) -> Vec<Row> {
        self.table().rows(revision, Instant::now())
    }

    /// The digest of the component by which this host itself decides.
    pub(crate) fn component(&self) -> ModuleDigest {
        self.0.component
    }

    /// Whether a module is the one that this host carries for proxies.
    pub(crate) fn is_carried(&self, module: ModuleDigest) -> Option<bool> {
        self.0.carried.map(|carried| carried == module)
    }

    /// A place for somebody who waits for receipts. None where as many wait as may: nothing is to be changed then.
    pub(crate) fn waiting(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.0.waiting).try_acquire_owned().ok()
    }

    /// Sets the measures that are made of the table.
    pub(crate) fn measure(&self, revision: u64, metrics: &Metrics) {
        let rows = self.rows(revision);
        let live = || rows.iter().filter(|row| row.live);
        let lag = live().filter_map(|row| row.lag).max().unwrap_or(0);
        metrics.nodes(live().count(), lag);
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call of a worker that is open.
pub(crate) struct Attending {
    nodes: Nodes,
    key: Key,
}

impl Drop for Attending {
    fn drop(&mut self) {
        self.nodes.table().leave(&self.key, clock::now(), Instant::now());
        self.nodes.0.changed.send_replace(());
    }
}

/// A batch of decisions that is being taken.
pub(crate) struct TakingBatch {
    nodes: Nodes,
    of: (Id, String),
}

impl Drop for TakingBatch {
    fn drop(&mut self) {
        let mut batches = self.nodes.batches();
        match batches.get_mut(&self.of) {
            Some(own) if *own > 1 => *own -= 1,
            Some(_) | None => drop(batches.remove(&self.of)),
        }
    }
}

/// A worker's clock against ours, in seconds: positive where it is ahead.
fn difference(theirs: UnixTime, ours: UnixTime) -> i64 {
    let seconds = |time: UnixTime| i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    seconds(theirs).saturating_sub(seconds(ours))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_taken_as_many_at_once_as_may_be() {
        let (nodes, feed) = (Nodes::new(None), "edge".parse::<Id>().unwrap());
        let mut taking: Vec<_> = (0..MAX_NODE_BATCHES).map(|_| nodes.take_batch(&feed, "edge-1").unwrap()).collect();
        assert!(nodes.take_batch(&feed, "edge-1").is_none());
        taking.pop();
        taking.push(nodes.take_batch(&feed, "edge-1").unwrap());
        for node in 0..(MAX_BATCHES - MAX_NODE_BATCHES) {
            taking.push(nodes.take_batch(&feed, &format!("other-{node}")).unwrap());
        }
        assert!(nodes.take_batch(&feed, "one-more").is_none());
        taking.clear();
        assert!(nodes.batches().is_empty(), "nothing is left of nodes that are done");
    }

    #[test]
    fn as_many_wait_for_receipts_as_may() {
        let nodes = Nodes::new(None);
        let mut waiting: Vec<_> = (0..MAX_WAITING).map(|_| nodes.waiting().unwrap()).collect();
        assert!(nodes.waiting().is_none());
        waiting.pop();
        assert!(nodes.waiting().is_some());
    }
}
