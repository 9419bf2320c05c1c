//! Opening, closing, and files that are not ours to open.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use portcullis_model::credential::Seed;
use portcullis_store::{Fresh, OpenError, Store, StoreError, Write};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _};

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

#[tokio::test]
async fn closing_waits_for_what_is_being_written() {
    let Sandbox { store, folder } = Sandbox::with_tenants().await;
    let writer = store.clone();
    let begun = change(portcullis_model::id::Revision(2), vec![Write::PutTenant(tenant("third"))]);
    let mut commit = std::pin::pin!(writer.commit(&begun));
    let poll = std::future::poll_fn(|context| std::task::Poll::Ready(commit.as_mut().poll(context)));
    assert!(poll.await.is_pending());
    tokio::task::yield_now().await;
    store.close().await;
    commit.await.unwrap();
    let store = open(&folder.path().join("db")).await.unwrap();
    assert!(store.tenant(&id("third")).await.unwrap().is_some());
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
    let mut raw = SqliteConnectOptions::new().filename(&path).connect().await.unwrap();
    sqlx::query("INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) VALUES (77, 'x', 1, x'00', 0)")
        .execute(&mut raw)
        .await
        .unwrap();
    raw.close().await.unwrap();
    let error = refused(&path).await;
    assert!(matches!(error, OpenError::Newer { found: 77, known: 5, .. }), "{error:?}");
    assert!(matches!(refused(&path).await, OpenError::Newer { .. }), "the lock was given up");
}

#[tokio::test]
async fn a_database_with_another_first_migration_is_refused() {
    let Sandbox { store, folder } = Sandbox::with_tenants().await;
    let path = folder.path().join("db");
    store.close().await;
    let mut raw = SqliteConnectOptions::new().filename(&path).connect().await.unwrap();
    sqlx::query("UPDATE _sqlx_migrations SET checksum = x'00'").execute(&mut raw).await.unwrap();
    raw.close().await.unwrap();
    assert!(matches!(refused(&path).await, OpenError::Foreign { .. }));
}

#[tokio::test]
async fn files_of_others_are_refused_and_left_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("other.db");
    let options = SqliteConnectOptions::new().filename(&database).create_if_missing(true);
    let mut raw = options.connect().await.unwrap();
    sqlx::query("CREATE TABLE note (text TEXT)").execute(&mut raw).await.unwrap();
    raw.close().await.unwrap();
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
    let options = SqliteConnectOptions::new().filename(&path).create_if_missing(true);
    let marked = options.pragma("application_id", "1347701827");
    marked.connect().await.unwrap().close().await.unwrap();
    let store = open(&path).await.unwrap();
    assert_eq!(store.snapshot().await.unwrap().seed, fresh().seed);
}

#[tokio::test]
async fn a_first_start_that_sqlite_rolls_back_is_done_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    let options = SqliteConnectOptions::new().filename(&path).create_if_missing(true);
    let marked = options.pragma("application_id", "1347701827");
    marked.connect().await.unwrap().close().await.unwrap();
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
