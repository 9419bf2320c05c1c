//! The end of what is no longer allowed: long bodies and upgraded connections are judged again at every revision.

use std::sync::Arc;
use std::time::Duration;

use portcullis_engine::Engine;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::clock;
use crate::metrics::Metrics;
use portcullis_tower::enforce::{Permit, still_allows};

/// How often streams are judged where no revision comes: by this much a stream may outlive its credential's expiry.
const EXPIRY_INTERVAL: Duration = Duration::from_secs(10);

/// What judges again. It is shared whole: a request takes one count of it, not one of each part.
pub(super) struct Judge {
    engine: Arc<Engine>,
    revisions: watch::Receiver<u64>,
    metrics: Metrics,
}

/// One permitted request whose streams are still open. Its bodies and its tunnel share it.
pub(super) struct Watched {
    permit: Permit,
    judge: Arc<Judge>,
}

impl Judge {
    pub(super) fn new(engine: Arc<Engine>, revisions: watch::Receiver<u64>, metrics: Metrics) -> Arc<Self> {
        Arc::new(Judge { engine, revisions, metrics })
    }

    pub(super) fn watch(self: &Arc<Self>, permit: Permit) -> Arc<Watched> {
        Arc::new(Watched { permit, judge: Arc::clone(self) })
    }
}

impl Watched {
    /// What was permitted.
    pub(super) fn permit(&self) -> &Permit {
        &self.permit
    }

    /// What is counted.
    pub(super) fn metrics(&self) -> &Metrics {
        &self.judge.metrics
    }

    /// Waits until the request would no longer be allowed. It is judged at once, at each revision, and from time to time.
    pub(super) async fn until_denied(self: Arc<Self>) {
        let facts = self.permit.facts();
        let mut revisions = self.judge.revisions.clone();
        // The revision by which the request was decided may be an older one, so the first judgement does not wait.
        revisions.mark_changed();
        let mut next = Instant::now() + EXPIRY_INTERVAL;
        loop {
            tokio::select! {
                biased;
                // Where nobody tells of revisions any more, this branch is out and time goes on.
                Ok(()) = revisions.changed() => {}
                () = sleep_until(next) => {}
            }
            next = Instant::now() + EXPIRY_INTERVAL;
            if !still_allows(self.judge.engine.judge(&facts, clock::now())) {
                self.judge.metrics.stream_cut();
                return;
            }
        }
    }
}
