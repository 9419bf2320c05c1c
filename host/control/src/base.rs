//! The policy as a whole: compiled from the store at a start, and again when deltas have gathered.
//!
//! A start has nobody to wait for it and takes what the machine has. A compaction goes on beside requests: it is done by a
//! thread that gives way to every other, which holds no lock that a request or a change could wait for. What is short and
//! under locks, the exchange of instances, is done by an ordinary one.

use std::sync::Arc;
use std::thread;

use portcullis_model::policy;
use tokio::sync::{MutexGuard, oneshot};
use tokio::task::spawn_blocking;

use crate::error::Failed;
use crate::{Control, compile};

/// Deltas in the engine from which a new base is compiled in the background: half of what it takes.
const COMPACT_DELTAS: usize = 32_768;
/// Bytes of deltas in the engine from which a new base is compiled: half of what it takes.
const COMPACT_BYTES: u64 = 32 << 20;

/// The least that a thread can ask for (setpriority(2)).
const LOWEST_PRIORITY: i32 = 19;

impl Control {
    /// Gives the engine a new base where it keeps many deltas. Requests go on meanwhile.
    ///
    /// # Errors
    /// Where the store cannot be read or the base is not accepted; the old base and its deltas stay in force.
    pub async fn compact(&self) -> Result<(), Failed> {
        if !self.is_to_be_compacted() {
            return Ok(());
        }
        let _loading = self.loading.lock().await;
        // The lane may have made a base while this waited.
        if !self.is_to_be_compacted() {
            return Ok(());
        }
        let (store, engine) = (self.store.clone(), Arc::clone(&self.engine));
        let (issuer, checkpoint) = (self.tokens.issuer.clone(), self.witness.for_base());
        let prepared = unhurried(move || {
            let snapshot = store.snapshot_unhurried()?;
            let base = policy::build(&compile::source(snapshot, &issuer, checkpoint))?;
            Ok(engine.prepare(base.into())?)
        });
        let (engine, prepared) = (Arc::clone(&self.engine), prepared.await?);
        let exchanged = spawn_blocking(move || engine.exchange(prepared));
        let revision = exchanged.await.map_err(|_| Failed::Interrupted)??;
        tracing::info!(%revision, "policy compacted");
        self.confirm();
        Ok(())
    }

    fn is_to_be_compacted(&self) -> bool {
        // What is changed again and again takes no more room in an instance, but each delta is kept.
        let (deltas, bytes) = self.engine.kept_deltas();
        deltas >= COMPACT_DELTAS
            || bytes as u64 >= COMPACT_BYTES
            || self.engine.describe().is_ok_and(|described| described.overlay_bytes >= COMPACT_BYTES)
    }

    /// Compiles what is stored and gives it to the engine.
    pub(crate) async fn load(&self) -> Result<(), Failed> {
        let mut loading = self.loading.lock().await;
        self.load_alone(&mut loading).await
    }

    /// The same, for whoever holds the lock.
    pub(crate) async fn load_alone(&self, _loading: &mut MutexGuard<'_, ()>) -> Result<(), Failed> {
        let snapshot = self.store.snapshot().await?;
        let (engine, issuer) = (Arc::clone(&self.engine), self.tokens.issuer.clone());
        let checkpoint = self.witness.for_base();
        let loaded = spawn_blocking(move || -> Result<_, Failed> {
            let base = policy::build(&compile::source(snapshot, &issuer, checkpoint))?;
            Ok(engine.load(base.into())?)
        });
        let revision = loaded.await.map_err(|_| Failed::Interrupted)??;
        tracing::info!(%revision, "policy loaded");
        self.confirm();
        Ok(())
    }
}

/// Does what takes long on a thread of its own and of the lowest priority: priority once given up cannot be had again.
async fn unhurried<T: Send + 'static>(work: impl FnOnce() -> Result<T, Failed> + Send + 'static) -> Result<T, Failed> {
    let (done, result) = oneshot::channel();
    let thread = thread::Builder::new().name("portcullis-base".to_owned());
    let started = thread.spawn(move || {
        if let Err(error) = rustix::process::setpriority_process(None, LOWEST_PRIORITY) {
            tracing::warn!(%error, "a compaction keeps the priority of requests");
        }
        // Whoever asked may be gone.
        drop(done.send(work()));
    });
    started.map_err(|_| Failed::Interrupted)?;
    result.await.map_err(|_| Failed::Interrupted)?
}
