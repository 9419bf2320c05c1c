//! The one connection that writes.

use std::fs::File;
use std::path::PathBuf;

use rusqlite::Connection;
use tokio::sync::Mutex;

use super::open;
use crate::error::StoreError;

/// The writer's place. Whoever writes waits here for the one before.
pub(super) struct Writer {
    path: PathBuf,
    slot: Mutex<Slot>,
}

enum Slot {
    Open {
        /// Missing while somebody writes, and after a failure that left its transaction in doubt: then the next one connects
        /// anew.
        connection: Option<Connection>,
        lock: File,
    },
    Closed,
}

/// What is left of a writer that was shut: the file is still locked.
pub(super) struct Shut(Slot);

impl Writer {
    pub(super) fn new(path: PathBuf, connection: Connection, lock: File) -> Writer {
        Writer { path, slot: Mutex::new(Slot::Open { connection: Some(connection), lock }) }
    }

    /// Does `work` in one transaction and commits it.
    ///
    /// INVARIANT (whole-or-nothing): a turn is not given up before the transaction has ended, so a caller who goes away cannot
    /// leave it open to whoever writes next. Where the work panics its connection is closed, and SQLite rolls back.
    pub(super) async fn write<T>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut slot = self.slot.lock().await;
        let Slot::Open { connection: place, .. } = &mut *slot else { return Err(StoreError::Closed) };
        let connection = match place.take() {
            Some(connection) => connection,
            None => open::writer(&self.path)?,
        };
        match transaction(&connection, work) {
            Ok(done) => {
                *place = Some(connection);
                Ok(done)
            }
            Err(Undone::Cleanly(error)) => {
                *place = Some(connection);
                Err(error)
            }
            // SQLite may or may not have rolled back by itself (a full disk, an I/O error). Closing settles it.
            Err(Undone::InDoubt(error)) => Err(error),
        }
    }

    /// Waits for the one who is writing and lets nobody in any more.
    pub(super) async fn shut(&self) -> Shut {
        Shut(std::mem::replace(&mut *self.slot.lock().await, Slot::Closed))
    }
}

impl Shut {
    /// Closes the connection, then gives up the lock.
    pub(super) fn close(self) {
        if let Slot::Open { connection, lock } = self.0 {
            drop(connection);
            drop(lock);
        }
    }
}

/// Why a transaction did not come about, and what state its connection is in.
enum Undone {
    Cleanly(StoreError),
    InDoubt(StoreError),
}

fn transaction<T>(
    connection: &Connection,
    work: impl FnOnce(&Connection) -> Result<T, StoreError>,
) -> Result<T, Undone> {
    let run = |statement| open::run(connection, statement).map_err(|error| Undone::InDoubt(error.into()));
    // Taking the lock for writing at once: a transaction that reads first could find the database changed when it writes.
    run("BEGIN IMMEDIATE")?;
    match work(connection) {
        Ok(done) => run("COMMIT").map(|()| done),
        Err(error) => match run("ROLLBACK") {
            Ok(()) => Err(Undone::Cleanly(error)),
            Err(_) => Err(Undone::InDoubt(error)),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future as _;
    use std::path::Path;
    use std::sync::Arc;
    use std::time::Duration;

    use portcullis_model::credential::Seed;
    use portcullis_model::id::{Id, Revision};
    use portcullis_model::source::Installation;
    use portcullis_model::time::UnixTime;

    use super::*;
    use crate::audit::{AuditFilter, Entry, Outcome};
    use crate::change::{Change, Fresh};
    use crate::record::{Actor, Channel, MAX_PAGE, Origin, Paging, TenantRecord, Write};
    use crate::sqlite::Store;

    const PAGE: Paging = Paging { after: None, limit: MAX_PAGE };

    async fn store(folder: &Path) -> Store {
        let fresh = Fresh { seed: Seed([1; 16]), at: UnixTime::default(), installation: Installation::default() };
        Store::open(&folder.join("db"), &fresh).await.unwrap()
    }

    fn other_program(folder: &Path) -> Connection {
        let other = Connection::open(folder.join("db")).unwrap();
        other.busy_timeout(Duration::ZERO).unwrap();
        other
    }

    /// Runs a statement on the writer's own connection, outside of any transaction.
    async fn on_writer(store: &Store, statement: &'static str) {
        let mut slot = store.writer.slot.lock().await;
        let Slot::Open { connection: place, .. } = &mut *slot else { panic!("closed") };
        let connection = place.take().unwrap_or_else(|| open::writer(&store.writer.path).unwrap());
        connection.execute_batch(statement).unwrap();
        *place = Some(connection);
    }

    fn change(from: u64, name: &str) -> Change {
        let system: Id = "system".parse().unwrap();
        let (at, to) = (UnixTime::default(), Revision(from + 1));
        let tenant = TenantRecord {
            id: format!("tenant-{from}").parse().unwrap(),
            name: name.to_owned(),
            state: Default::default(),
            modules: Vec::new(),
            key_limit: 10,
            rules: Default::default(),
        };
        let entry = Entry {
            at,
            tenant: system.clone(),
            actor: Actor { tenant: system, credential: None, user: None },
            origin: Origin { channel: Channel::System, address: None },
            action: "create",
            object_kind: "tenant",
            object: tenant.id.to_string(),
            outcome: Outcome::Done { revision: to },
            details: "{}".to_owned(),
        };
        Change {
            from: Revision(from),
            to,
            at,
            writes: vec![Write::PutTenant(tenant)],
            audit: vec![entry],
            remember: None,
        }
    }

    /// What the store holds, to see that it is all or nothing.
    async fn counts(store: &Store) -> (u64, usize, usize) {
        let tenants = store.tenants(PAGE).await.unwrap().items.len();
        let entries = store.audit(&AuditFilter::default(), PAGE).await.unwrap().items.len();
        (store.revision().await.unwrap().0, tenants, entries)
    }

    #[tokio::test]
    async fn a_full_disk_undoes_the_change_and_the_next_one_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(folder.path()).await;
        store.commit(&change(1, "one")).await.unwrap();
        let large = "x".repeat(1 << 20);
        for _ in 0..2 {
            // SQLite brings it to the number of pages there are; it holds for this connection.
            on_writer(&store, "PRAGMA max_page_count = 1").await;
            let error = store.commit(&change(2, &large)).await.unwrap_err();
            assert!(matches!(error, StoreError::Full), "{error:?}");
            assert_eq!(counts(&store).await, (2, 1, 1));
        }
        on_writer(&store, "PRAGMA max_page_count = 1000000").await;
        store.commit(&change(2, &large)).await.unwrap();
        assert_eq!(counts(&store).await, (3, 2, 2));
        assert!(store.verify_audit(None).await.unwrap().is_intact());
    }

    #[tokio::test]
    async fn a_foreign_lock_fails_the_change_and_the_next_one_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(folder.path()).await;
        let other = other_program(folder.path());
        on_writer(&store, "PRAGMA busy_timeout = 20").await;
        other.execute_batch("BEGIN EXCLUSIVE").unwrap();
        let error = store.commit(&change(1, "one")).await.unwrap_err();
        assert!(matches!(error, StoreError::Locked), "{error:?}");
        assert_eq!(counts(&store).await, (1, 0, 0), "reading goes on under the lock");
        other.execute_batch("ROLLBACK").unwrap();
        store.commit(&change(1, "one")).await.unwrap();
        assert_eq!(counts(&store).await, (2, 1, 1));
    }

    #[tokio::test]
    async fn a_commit_that_fails_at_its_end_is_undone_and_the_next_one_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(folder.path()).await;
        let mut dangling = change(1, "one");
        let tenant = "nobody".parse().unwrap();
        let settings = portcullis_model::source::EndpointSettings {
            endpoint: "shop/events".to_owned().try_into().unwrap(),
            ip_ranges: Vec::new(),
            signature: Default::default(),
            replay: Default::default(),
        };
        // References are checked when the transaction is committed.
        dangling.writes.push(Write::PutSettings { tenant, settings });
        let error = store.commit(&dangling).await.unwrap_err();
        assert!(matches!(error, StoreError::Database(_)), "{error:?}");
        assert_eq!(counts(&store).await, (1, 0, 0));
        store.commit(&change(1, "one")).await.unwrap();
        assert_eq!(counts(&store).await, (2, 1, 1));
    }

    #[tokio::test]
    async fn work_that_panics_is_rolled_back_and_the_next_one_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(folder.path()).await;
        let writer = Arc::clone(&store.writer);
        let broken = tokio::spawn(async move {
            let work = |tx: &Connection| -> Result<(), StoreError> {
                tx.execute("UPDATE meta SET revision = 99", [])?;
                panic!("a fault of ours");
            };
            writer.write(work).await
        });
        assert!(broken.await.unwrap_err().is_panic());
        store.commit(&change(1, "one")).await.unwrap();
        assert_eq!(counts(&store).await, (2, 1, 1));
    }

    #[tokio::test]
    async fn a_caller_who_goes_away_leaves_a_whole_change_or_none() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(folder.path()).await;
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        // One that waits for its turn and gives it up,
        let turn = store.writer.slot.lock().await;
        let waiting = change(1, "gives up");
        let mut commit = Box::pin(store.commit(&waiting));
        assert!(commit.as_mut().poll(&mut context).is_pending());
        drop(commit);
        drop(turn);
        assert_eq!(counts(&store).await, (1, 0, 0));
        // and one whose turn it is.
        let change = change(1, "is done");
        let mut commit = Box::pin(store.commit(&change));
        assert!(commit.as_mut().poll(&mut context).is_ready());
        drop(commit);
        assert_eq!(counts(&store).await, (2, 1, 1));
        assert!(store.verify_audit(None).await.unwrap().is_intact());
    }
}
