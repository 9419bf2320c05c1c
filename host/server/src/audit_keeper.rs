//! What is done for the audit while the server runs: refusals written, checkpoints signed, old entries removed.

use std::sync::Arc;
use std::time::Duration;

use portcullis_control::store::Entry;
use portcullis_control::{AuditRetention, Control};
use tokio::time::{Instant, MissedTickBehavior};

use crate::admin::{Pending, Refusals};
use crate::clock;

/// How often refusals that were noted are written, in one batch.
const WRITE_INTERVAL: Duration = Duration::from_secs(1);
/// How often a checkpoint is signed, where anything was added.
const SIGN_INTERVAL: Duration = Duration::from_secs(60);
/// After how many changes one is signed before its time.
const SIGN_CHANGES: u64 = 1000;
/// How often old entries are removed.
const PRUNE_INTERVAL: Duration = Duration::from_secs(24 * 60 * 60);

/// Keeps the audit until the task is dropped.
pub(crate) async fn keep(control: Arc<Control>, refusals: Arc<Refusals>, retention: AuditRetention) {
    let mut ticks = tokio::time::interval(WRITE_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let enforced = control.enforced();
    let (mut signed_at, mut signed_revision) = (Instant::now(), *enforced.borrow());
    let mut pruned_at: Option<Instant> = None;
    loop {
        let now = ticks.tick().await;
        write(&control, &refusals, refusals.take(clock::now())).await;
        let revision = *enforced.borrow();
        if now.duration_since(signed_at) >= SIGN_INTERVAL || revision >= signed_revision.saturating_add(SIGN_CHANGES) {
            control.keep_checkpoint().await;
            (signed_at, signed_revision) = (now, revision);
        }
        if pruned_at.is_none_or(|at| now.duration_since(at) >= PRUNE_INTERVAL) {
            pruned_at = Some(now);
            prune(&control, retention).await;
        }
    }
}

/// Writes the last refusals, when no request can come any more.
pub(crate) async fn end(control: &Control, refusals: &Refusals) {
    write(control, refusals, refusals.end()).await;
}

async fn write(control: &Control, refusals: &Refusals, pending: Vec<Pending>) {
    if pending.is_empty() {
        return;
    }
    let entries: Vec<Entry> = pending.iter().map(|pending| pending.entry.clone()).collect();
    if let Err(error) = control.record_refusals(&entries).await {
        tracing::error!(%error, entries = entries.len(), "refusals could not be written to the audit yet");
        refusals.give_back(pending);
    }
}

async fn prune(control: &Control, retention: AuditRetention) {
    match control.prune_audit(retention).await {
        Ok(pruned) if pruned.rows > 0 => {
            tracing::info!(chains = pruned.chains, rows = pruned.rows, "old entries of the audit removed");
        }
        Ok(_) => {}
        Err(error) => tracing::error!(%error, "old entries of the audit could not be removed"),
    }
}
