//! The store in one SQLite file: one connection that writes, a few that only read.
//!
//! The file is in WAL mode, so readers see the last commit and never wait for the writer. A lock on a file beside it keeps a
//! second process out. Dialect and errors of SQLite stay below this module.
//!
//! SQLite works on the thread that asks: handing a statement over to another thread and waiting for it costs several times
//! what most of them take. So a task that asks holds its thread up, for some ten microseconds with a record and for a few
//! milliseconds with a commit; those that carry requests must not be on that thread. What takes seconds is handed over.

mod chain;
mod commit;
mod credentials;
mod decisions;
mod error_log;
mod evidence;
mod fault;
mod idempotency;
mod open;
mod read;
mod readers;
mod rows;
mod sealed;
mod signers;
mod snapshot;
mod tokens;
mod usage;
mod writer;

pub use chain::EXPORT_ROWS;
pub use evidence::Retention;
pub use sealed::AuditKey;

use std::path::Path;
use std::sync::Arc;

use portcullis_model::credential::Seed;
use portcullis_model::id::Revision;
use tokio::sync::Semaphore;

use crate::audit::Entry;
use crate::change::{Change, Fresh};
use crate::error::{OpenError, StoreError};
use readers::Readers;
use rows::{number, scalar};
use writer::Writer;

/// What Portcullis remembers. Clones are the same store.
///
/// # Invariants
/// A write that was begun is carried to its end even when its caller is gone; it is done wholly or not at all.
#[derive(Clone)]
pub struct Store {
    writer: Arc<Writer>,
    readers: Arc<Readers>,
    verifying: Arc<Semaphore>,
    seed: Seed,
}

impl Store {
    /// Opens the database, or makes it (with its folder) where there is none. The file is then readable by its owner alone.
    ///
    /// # Errors
    /// Another process has it, a newer version wrote it, it is something else, or the system does not let us.
    pub async fn open(path: &Path, fresh: &Fresh) -> Result<Store, OpenError> {
        let open::Opened { writer, readers, seed } = open::open(path, fresh)?;
        let verifying = Arc::new(Semaphore::new(evidence::VERIFIED_AT_ONCE));
        Ok(Store { writer: Arc::new(writer), readers: Arc::new(readers), verifying, seed })
    }

    /// Ends what is being written, then closes the file and gives up the lock. Every clone is closed with it and answers
    /// [`StoreError::Closed`] from now on.
    pub async fn close(self) {
        // The writer goes last: the last connection to close folds the WAL into the file.
        let writer = self.writer.shut().await;
        self.readers.close();
        writer.close();
    }

    /// The installation's seed.
    #[must_use]
    pub fn seed(&self) -> Seed {
        self.seed
    }

    /// The revision that is in the store.
    ///
    /// # Errors
    /// Nothing could be read.
    pub async fn revision(&self) -> Result<Revision, StoreError> {
        let revision: i64 = self.readers.read(|db| scalar(db, "SELECT revision FROM meta", []))?;
        Ok(Revision(number(revision)?))
    }

    /// Makes a change: all of it or, with any error, nothing.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] where the store is not at `change.from`, [`StoreError::DuplicateDigest`],
    /// [`StoreError::IdTaken`], or the database failed.
    pub async fn commit(&self, change: &Change) -> Result<(), StoreError> {
        self.writer.write(|tx| commit::apply(tx, change)).await
    }

    /// Adds entries for commands that changed nothing, without a new revision.
    ///
    /// # Errors
    /// Nothing was added.
    pub async fn append_audit(&self, entries: &[Entry]) -> Result<(), StoreError> {
        self.writer.write(|tx| chain::append(tx, entries)).await
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").finish_non_exhaustive()
    }
}
