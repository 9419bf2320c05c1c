//! Opening, closing, and files that are not ours to open.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use portcullis_model::credential::Seed;
use portcullis_store::{AuditFilter, Fresh, OpenError, Outcome, Store, StoreError, Write};
use rusqlite::Connection;

use crate::sample::*;

async fn open(path: &Path) -> Result<Store, OpenError> {
    Store::open(path, &fresh()).await
}

async fn refused(path: &Path) -> OpenError {
    match open(path).await {
        Ok(_) => panic!("`{}` was opened", path.display()),
        Err(error) => error,
    }
}

#[tokio::test]
async fn a_store_outlives_its_process_closed_or_not() {
    let Sandbox { store, folder } = Sandbox::with_tenants().await;
    let path = folder.path().join("db");
    let before = store.snapshot().await.unwrap();
    store.close().await;
    assert!(!folder.path().join("db-wal").exists(), "a closed store is one file");
    let other = Fresh { seed: Seed([9; 16]), ..fresh() };
    let store = Store::open(&path, &other).await.unwrap();
    assert_eq!(store.snapshot().await.unwrap(), before, "what a first start needs is not looked at again");
    commit(&store, vec![Write::PutService(service("shop", None))]).await.unwrap();
    let before = store.snapshot().await.unwrap();
    drop(store);
    let store = open(&path).await.unwrap();
    assert_eq!(store.snapshot().await.unwrap(), before);
    assert!(store.verify_audit(None).await.unwrap().is_intact());
}

#[tokio::test]
async fn a_closed_store_answers_so_and_its_file_is_free() {
    let Sandbox { store, folder } = Sandbox::with_tenants().await;
    let clone = store.clone();
    store.close().await;
    assert!(matches!(clone.revision().await, Err(StoreError::Closed)));
    assert!(matches!(clone.snapshot().await, Err(StoreError::Closed)));
    assert!(matches!(clone.append_audit(&[]).await, Err(StoreError::Closed)));
    let from = portcullis_model::id::Revision(2);
    assert!(matches!(clone.commit(&change(from, Vec::new())).await, Err(StoreError::Closed)));
    assert!(matches!(clone.prune_decisions(0).await, Err(StoreError::Closed)));
    let again = open(&folder.path().join("db")).await.unwrap();
    clone.close().await;
    assert_eq!(again.revision().await.unwrap(), from, "closing twice closes nobody else's");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn closing_waits_for_what_is_being_written_and_read() {
    let Sandbox { store, folder } = Sandbox::with_tenants().await;
    let (writer, (begun, has_begun), (go_on, goes_on)) = (store.clone(), mpsc::channel(), mpsc::channel());
    let written = tokio::spawn(async move {
        let decide = move |revision, _: &BTreeMap<_, _>| {
            begun.send(()).unwrap();
            goes_on.recv().unwrap();
            (vec![entry("acme", "issue", Outcome::Done { revision })], ())
        };
        writer.record_tokens(BTreeSet::new(), decide).await
    });
    has_begun.recv().unwrap();
    let closed = tokio::spawn(store.clone().close());
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(!closed.is_finished());
    go_on.send(()).unwrap();
    written.await.unwrap().unwrap();
    closed.await.unwrap();
    let store = open(&folder.path().join("db")).await.unwrap();
    assert_eq!(store.audit(&AuditFilter::default(), ALL).await.unwrap().items[0].action, "issue");
}

#[cfg(unix)]
#[tokio::test]
async fn files_and_folders_are_private() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("made/on the way/100% mine?.db");
    let store = open(&path).await.unwrap();
    commit(&store, vec![Write::PutTenant(tenant("acme"))]).await.unwrap();
    let mode = |name: &str| std::fs::metadata(folder.path().join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("made"), 0o700);
    assert_eq!(mode("made/on the way"), 0o700);
    for suffix in ["", "-wal", "-shm", ".lock"] {
        assert_eq!(mode(&format!("made/on the way/100% mine?.db{suffix}")), 0o600, "{suffix}");
    }
}

#[tokio::test]
async fn a_second_store_on_the_same_file_is_refused() {
    let Sandbox { store, folder } = Sandbox::with_tenants().await;
    let path = folder.path().join("db");
    assert!(matches!(refused(&path).await, OpenError::Locked { .. }));
    #[cfg(unix)]
    {
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(matches!(refused(&link).await, OpenError::Locked { .. }), "by another name");
    }
    // The refused attempt has not taken SQLite's locks from the one who has them.
    commit(&store, vec![Write::PutTenant(tenant("third"))]).await.unwrap();
}

/// The other process of the next test: it holds the store until it is killed.
#[tokio::test]
#[ignore = "run by `a_second_process_is_refused` in a process of its own"]
async fn holder() {
    let path = std::env::var_os("STORE_TO_HOLD").unwrap();
    let _store = open(Path::new(&path)).await.unwrap();
    println!("\nheld");
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn a_second_process_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    let mut holder = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "opening::holder", "--ignored", "--nocapture"])
        .env("STORE_TO_HOLD", &path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(holder.stdout.take().unwrap()).lines();
    let held = lines.map_while(Result::ok).any(|line| line == "held");
    let error = refused(&path).await;
    holder.kill().unwrap();
    holder.wait().unwrap();
    assert!(held && matches!(error, OpenError::Locked { .. }), "{error:?}");
    assert!(error.to_string().contains("stop that one first"), "{error}");
    open(&path).await.unwrap();
}

#[tokio::test]
async fn a_newer_database_is_refused() {
    let Sandbox { store, folder } = Sandbox::with_tenants().await;
    let path = folder.path().join("db");
    store.close().await;
    Connection::open(&path).unwrap().pragma_update(None, "user_version", 77).unwrap();
    let error = refused(&path).await;
    assert!(matches!(error, OpenError::Newer { found: 77, known: 1..77, .. }), "{error:?}");
    assert!(matches!(refused(&path).await, OpenError::Newer { .. }), "the lock was given up");
}

#[tokio::test]
async fn a_database_whose_migrations_are_in_a_table_is_taken_over() {
    let Sandbox { store, folder } = Sandbox::with_tenants().await;
    let path = folder.path().join("db");
    store.close().await;
    let table = "CREATE TABLE _sqlx_migrations (version BIGINT PRIMARY KEY);
         INSERT INTO _sqlx_migrations VALUES (1), (2), (3), (4), (5), (6), (7), (9), (10), (11);
         PRAGMA user_version = 0;";
    Connection::open(&path).unwrap().execute_batch(table).unwrap();
    for _ in 0..2 {
        let store = open(&path).await.unwrap();
        assert!(store.tenant(&id("acme")).await.unwrap().is_some());
        store.close().await;
    }
    let raw = Connection::open(&path).unwrap();
    assert!(!raw.table_exists(None, "_sqlx_migrations").unwrap());
    assert_eq!(raw.pragma_query_value(None, "user_version", |row| row.get::<_, u32>(0)).unwrap(), 10);
    let newer = "CREATE TABLE _sqlx_migrations (version BIGINT PRIMARY KEY);
         INSERT INTO _sqlx_migrations SELECT value FROM json_each('[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]');";
    raw.execute_batch(newer).unwrap();
    assert!(matches!(refused(&path).await, OpenError::Newer { found: 11, .. }));
    assert!(raw.table_exists(None, "_sqlx_migrations").unwrap(), "it is left as it is");
}

#[tokio::test]
async fn files_of_others_are_refused_and_left_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("other.db");
    Connection::open(&database).unwrap().execute_batch("CREATE TABLE note (text TEXT)").unwrap();
    let text = folder.path().join("notes.txt");
    std::fs::write(&text, "remember the milk").unwrap();
    for (path, what) in [(&database, "another program"), (&text, "no SQLite database")] {
        let before = std::fs::read(path).unwrap();
        let error = refused(path).await;
        assert!(matches!(&error, OpenError::Foreign { .. }) && error.to_string().contains(what), "{error}");
        assert_eq!(std::fs::read(path).unwrap(), before);
    }
}

#[tokio::test]
async fn a_damaged_database_is_refused() {
    let Sandbox { store, folder } = Sandbox::with_tenants().await;
    let path = folder.path().join("db");
    store.close().await;
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[100..4096].fill(0xff);
    std::fs::write(&path, &bytes).unwrap();
    let error = refused(&path).await;
    assert!(matches!(error, OpenError::Foreign { .. }), "{error:?}");
}

#[tokio::test]
async fn an_empty_file_becomes_a_store() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    std::fs::write(&path, "").unwrap();
    open(&path).await.unwrap();
}

#[tokio::test]
async fn a_first_start_that_was_cut_off_is_done_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    // What is there after the file was marked, and before anything else.
    Connection::open(&path).unwrap().pragma_update(None, "application_id", 1_347_701_827).unwrap();
    let store = open(&path).await.unwrap();
    assert_eq!(store.snapshot().await.unwrap().seed, fresh().seed);
}

#[tokio::test]
async fn a_first_start_that_sqlite_rolls_back_is_done_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    Connection::open(&path).unwrap().pragma_update(None, "application_id", 1_347_701_827).unwrap();
    // A hot journal that leads back to an empty file (https://www.sqlite.org/fileformat.html section 3): magic, no pages,
    // nonce, pages before, sector size, page size.
    let mut journal = vec![0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7];
    journal.extend([0_u32, 1, 0, 512, 4096].into_iter().flat_map(u32::to_be_bytes));
    journal.resize(512, 0);
    std::fs::write(folder.path().join("db-journal"), journal).unwrap();
    let store = open(&path).await.unwrap();
    assert_eq!(std::fs::read(&path).unwrap()[68..72], 1_347_701_827_u32.to_be_bytes());
    store.close().await;
    open(&path).await.unwrap();
}

#[tokio::test]
async fn a_place_that_cannot_hold_a_file_is_named() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("file"), "").unwrap();
    for path in [folder.path().to_owned(), folder.path().join("file/db")] {
        let error = refused(&path).await;
        assert!(matches!(error, OpenError::Io { .. }), "{error:?}");
        assert!(error.to_string().contains(&path.display().to_string()), "{error}");
    }
}
