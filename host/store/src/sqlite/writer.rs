//! The one connection that writes.

use std::fs::File;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, SqliteConnection};
use tokio::sync::Mutex;

use crate::error::StoreError;

/// What is done within one transaction.
pub(super) type Work<'c, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'c>>;

/// The writer's place. Whoever writes waits here for the one before.
pub(super) struct Writer {
    options: SqliteConnectOptions,
    slot: Mutex<Slot>,
}

enum Slot {
    Open {
        /// Missing while somebody writes, and after a failure that left its transaction in doubt: then the next one connects
        /// anew.
        connection: Option<SqliteConnection>,
        lock: File,
    },
    Closed,
}

/// What is left of a writer that was shut: the file is still locked.
pub(super) struct Shut(Slot);

impl Writer {
    pub(super) fn new(options: SqliteConnectOptions, connection: SqliteConnection, lock: File) -> Writer {
        Writer { options, slot: Mutex::new(Slot::Open { connection: Some(connection), lock }) }
    }

    /// Does `work` in one transaction and commits it.
    ///
    /// INVARIANT (whole-or-nothing): the work runs in a task of its own, so a caller who goes away cannot stop it between
    /// two statements and leave the transaction open to whoever writes next. Should the task itself be dropped, with the
    /// runtime, its connection is dropped with it, and SQLite rolls back.
    pub(super) async fn write<T, F>(self: &Arc<Self>, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut SqliteConnection) -> Work<'c, T> + Send + 'static,
    {
        let writer = Arc::clone(self);
        let task = tokio::spawn(async move { writer.transact(work).await });
        task.await.map_err(|lost| StoreError::Database(Box::new(lost)))?
    }

    async fn transact<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        F: for<'c> FnOnce(&'c mut SqliteConnection) -> Work<'c, T>,
    {
        let mut slot = self.slot.lock().await;
        let Slot::Open { connection: place, .. } = &mut *slot else { return Err(StoreError::Closed) };
        let mut connection = match place.take() {
            Some(connection) => connection,
            None => self.options.connect().await?,
        };
        match transaction(&mut connection, work).await {
            Ok(done) => {
                *place = Some(connection);
                Ok(done)
            }
            Err(Undone::Cleanly(error)) => {
                *place = Some(connection);
                Err(error)
            }
            Err(Undone::InDoubt(error)) => {
                // SQLite may or may not have rolled back by itself (a full disk, an I/O error). Closing settles it; an error
                // of that tells nothing more.
                let _ = connection.close().await;
                Err(error)
            }
        }
    }

    /// Waits for the one who is writing and lets nobody in any more.
    pub(super) async fn shut(&self) -> Shut {
        Shut(std::mem::replace(&mut *self.slot.lock().await, Slot::Closed))
    }
}

impl Shut {
    /// Closes the connection, then gives up the lock.
    pub(super) async fn close(self) {
        if let Slot::Open { connection, lock } = self.0 {
            if let Some(connection) = connection {
                // Nothing is pending: an error here loses no data, and there is nobody left to tell.
                let _ = connection.close().await;
            }
            drop(lock);
        }
    }
}

/// Why a transaction did not come about, and what state its connection is in.
enum Undone {
    Cleanly(StoreError),
    InDoubt(StoreError),
}

async fn transaction<T, F>(connection: &mut SqliteConnection, work: F) -> Result<T, Undone>
where
    F: for<'c> FnOnce(&'c mut SqliteConnection) -> Work<'c, T>,
{
    let in_doubt = |error: sqlx::Error| Undone::InDoubt(error.into());
    // Taking the lock for writing at once: a transaction that reads first could find the database changed when it writes.
    let mut tx = connection.begin_with("BEGIN IMMEDIATE").await.map_err(in_doubt)?;
    match work(&mut tx).await {
        Ok(done) => {
            tx.commit().await.map_err(in_doubt)?;
            Ok(done)
        }
        Err(error) => match tx.rollback().await {
            Ok(()) => Err(Undone::Cleanly(error)),
            Err(_) => Err(Undone::InDoubt(error)),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::{Duration, Instant};

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

    async fn other_program(folder: &Path) -> SqliteConnection {
        let options = SqliteConnectOptions::new().filename(folder.join("db"));
        options.busy_timeout(Duration::ZERO).connect().await.unwrap()
    }

    /// Runs a statement on the writer's own connection, outside of any transaction.
    async fn on_writer(store: &Store, statement: &'static str) {
        let mut slot = store.writer.slot.lock().await;
        let Slot::Open { connection: place, .. } = &mut *slot else { panic!("closed") };
        let mut connection = match place.take() {
            Some(connection) => connection,
            None => store.writer.options.connect().await.unwrap(),
        };
        sqlx::query(statement).execute(&mut connection).await.unwrap();
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
        let mut other = other_program(folder.path()).await;
        on_writer(&store, "PRAGMA busy_timeout = 20").await;
        sqlx::query("BEGIN EXCLUSIVE").execute(&mut other).await.unwrap();
        let error = store.commit(&change(1, "one")).await.unwrap_err();
        assert!(matches!(error, StoreError::Locked), "{error:?}");
        assert_eq!(counts(&store).await, (1, 0, 0), "reading goes on under the lock");
        sqlx::query("ROLLBACK").execute(&mut other).await.unwrap();
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
    async fn work_that_panics_is_an_error_and_the_next_one_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(folder.path()).await;
        let broken: Result<(), StoreError> = store
            .writer
            .write(|tx| {
                Box::pin(async move {
                    sqlx::query("UPDATE meta SET revision = 99").execute(tx).await?;
                    panic!("a fault of ours");
                })
            })
            .await;
        assert!(matches!(broken, Err(StoreError::Database(_))));
        store.commit(&change(1, "one")).await.unwrap();
        assert_eq!(counts(&store).await, (2, 1, 1));
    }

    #[tokio::test]
    async fn a_caller_who_goes_away_leaves_a_whole_change_behind() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(folder.path()).await;
        let deadline = Instant::now() + Duration::from_secs(60);
        for from in 1..=24_u64 {
            let change = change(from, "left alone");
            // Begun by the first poll, dropped after so many more.
            let mut commit = std::pin::pin!(store.commit(&change));
            for _ in 0..from {
                let poll = std::future::poll_fn(|context| std::task::Poll::Ready(commit.as_mut().poll(context)));
                if poll.await.is_ready() {
                    break;
                }
                tokio::task::yield_now().await;
            }
            while store.revision().await.unwrap().0 != from + 1 {
                assert!(Instant::now() < deadline, "the change of revision {from} is lost");
                tokio::task::yield_now().await;
            }
        }
        assert_eq!(counts(&store).await, (25, 24, 24));
        assert!(store.verify_audit(None).await.unwrap().is_intact());
    }

    #[tokio::test]
    async fn a_write_whose_runtime_is_gone_is_rolled_back() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(folder.path()).await;
        let begun = Arc::new(tokio::sync::Notify::new());
        let (writer, reached) = (Arc::clone(&store.writer), Arc::clone(&begun));
        let task = tokio::spawn(async move {
            let stuck = writer.transact(|tx| {
                Box::pin(async move {
                    sqlx::query("UPDATE meta SET revision = 99").execute(tx).await?;
                    reached.notify_one();
                    std::future::pending::<Result<(), StoreError>>().await
                })
            });
            stuck.await
        });
        begun.notified().await;
        task.abort();
        assert!(task.await.unwrap_err().is_cancelled());
        store.commit(&change(1, "one")).await.unwrap();
        assert_eq!(counts(&store).await, (2, 1, 1));
    }
}
