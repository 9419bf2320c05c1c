//! From a path to a database that is ours, locked and up to date.

use std::ffi::OsString;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use portcullis_model::credential::Seed;
use sqlx::migrate::{Migrate as _, MigrateError, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Connection as _, SqliteConnection};

use super::fault;
use super::rows::{encode, int};
use super::writer::Writer;
use crate::change::{FIRST_REVISION, Fresh};
use crate::error::{OpenError, StoreError};

/// Marks the file as ours (`PRAGMA application_id`): "PTLC".
const APPLICATION_ID: u32 = 0x5054_4c43;
const MARK: &str = "PRAGMA application_id = 0x50544c43";

/// How long a statement waits for another program's lock before it fails.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a reader waits for a connection before it fails.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

/// Connections that read. Reads are the admin API's and the console's; requests are decided without the store.
const READERS: u32 = 4;

/// Prepared statements kept by each connection: more than there are.
const STATEMENTS: usize = 128;

/// The size that the WAL is cut to after a checkpoint, in bytes: long readers let it grow, and it would stay so.
const WAL_BYTES: &str = "67108864";

/// The pages that the writer keeps in memory, as SQLite wants it: kibibytes, negative. Digests and ids are random, so with a
/// million keys each new one is on another page of an index of 50 MB.
const WRITER_CACHE: &str = "-65536";

/// The SQLite file format's header (https://www.sqlite.org/fileformat.html section 1.3).
const HEADER_BYTES: usize = 100;
const HEADER_MAGIC: &[u8] = b"SQLite format 3\0";

static MIGRATIONS: Migrator = sqlx::migrate!();

pub(super) struct Opened {
    pub(super) writer: Writer,
    pub(super) readers: SqlitePool,
    pub(super) unhurried: SqlitePool,
    pub(super) seed: Seed,
}

pub(super) async fn open(path: &Path, fresh: &Fresh) -> Result<Opened, OpenError> {
    let (path, lock) = claim(path)?;
    let options = SqliteConnectOptions::new()
        .filename(&path)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(BUSY_TIMEOUT)
        .statement_cache_capacity(STATEMENTS)
        .disable_statement_logging();
    let failed = |error| failure(&path, error);
    mark(&options).await.map_err(failed)?;
    let writing = options
        .clone()
        .journal_mode(SqliteJournalMode::Wal)
        .pragma("journal_size_limit", WAL_BYTES)
        .pragma("cache_size", WRITER_CACHE);
    let mut connection = writing.connect().await.map_err(failed)?;
    migrate(&path, &mut connection).await?;
    let seed = begin(&mut connection, fresh)
        .await
        .map_err(|error| OpenError::Database { path: path.clone(), source: Box::new(error) })?;
    let reading = options.read_only(true);
    let pool = |connections| {
        let pool = SqlitePoolOptions::new().max_connections(connections).acquire_timeout(ACQUIRE_TIMEOUT);
        pool.idle_timeout(None).max_lifetime(None)
    };
    let readers = pool(READERS).connect_with(reading.clone()).await.map_err(failed)?;
    let unhurried = pool(1).connect_lazy_with(reading);
    Ok(Opened { writer: Writer::new(writing, connection, lock), readers, unhurried, seed })
}

/// Makes folder and file where they are missing, takes the lock, and looks at the file before SQLite does: what is not ours
/// is left as it is.
fn claim(path: &Path) -> Result<(PathBuf, File), OpenError> {
    let io = |source| io_error(path, source);
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        Some(_) | None => Path::new("."),
    };
    if !folder.exists() {
        private_folder(folder).map_err(io)?;
    }
    // One name for the lock, whichever way leads to the file.
    let path = match (path.canonicalize(), path.file_name()) {
        (Ok(path), _) => path,
        (Err(error), Some(name)) if error.kind() == io::ErrorKind::NotFound => {
            folder.canonicalize().map_err(io)?.join(name)
        }
        (Err(error), _) => return Err(io(error)),
    };
    let mut name = OsString::from(&path);
    name.push(".lock");
    let lock = private_file(Path::new(&name)).map_err(io)?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(OpenError::Locked { path }),
        Err(TryLockError::Error(source)) => return Err(io_error(&path, source)),
    }
    // Not before the lock: closing any descriptor of the database drops the POSIX locks that SQLite holds on it in this
    // process (https://www.sqlite.org/howtocorrupt.html section 2.2).
    let found = private_file(&path).and_then(|mut file| foreign(&mut file));
    match found.map_err(|source| io_error(&path, source))? {
        None => Ok((path, lock)),
        Some(what) => Err(OpenError::Foreign { path, what: what.to_owned() }),
    }
}

/// What a file is, where it is neither empty nor ours.
fn foreign(file: &mut File) -> io::Result<Option<&'static str>> {
    let mut header = Vec::with_capacity(HEADER_BYTES);
    file.take(HEADER_BYTES as u64).read_to_end(&mut header)?;
    if header.is_empty() {
        return Ok(None);
    }
    if !header.starts_with(HEADER_MAGIC) {
        return Ok(Some("it is no SQLite database"));
    }
    // Offset 68: the application id, big-endian. It is written before the file is in WAL mode, so it never waits in the WAL.
    let id = header.get(68..72).and_then(|bytes| bytes.first_chunk()).map(|bytes| u32::from_be_bytes(*bytes));
    Ok((id != Some(APPLICATION_ID)).then_some("it is a SQLite database of another program"))
}

/// Marks an empty database as ours, before it is in WAL mode: then the mark is in the file itself and not in the WAL. It is
/// SQLite who says whether it is empty, because it may just have rolled back a first start that was cut off.
async fn mark(options: &SqliteConnectOptions) -> Result<(), sqlx::Error> {
    let mut connection = options.connect().await?;
    let id: i64 = sqlx::query_scalar("PRAGMA application_id").fetch_one(&mut connection).await?;
    if id == 0 {
        sqlx::query(MARK).execute(&mut connection).await?;
    }
    connection.close().await
}

async fn migrate(path: &Path, connection: &mut SqliteConnection) -> Result<(), OpenError> {
    let known = MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or(0);
    let newer = |found| OpenError::Newer { path: path.to_owned(), found, known };
    connection.ensure_migrations_table(&MIGRATIONS.table_name).await.map_err(|error| migration_failure(path, error))?;
    let applied = connection
        .list_applied_migrations(&MIGRATIONS.table_name)
        .await
        .map_err(|error| migration_failure(path, error))?;
    if let Some(unknown) = applied.iter().rev().find(|applied| !MIGRATIONS.version_exists(applied.version)) {
        return Err(newer(unknown.version));
    }
    MIGRATIONS.run_direct(None, connection, false).await.map_err(|error| migration_failure(path, error))
}

/// Writes the first revision where there is none, and reads the seed.
async fn begin(connection: &mut SqliteConnection, fresh: &Fresh) -> Result<Seed, StoreError> {
    let mut tx = connection.begin_with("BEGIN IMMEDIATE").await?;
    let there: Option<Vec<u8>> = sqlx::query_scalar("SELECT seed FROM meta").fetch_optional(&mut *tx).await?;
    if let Some(seed) = there {
        tx.rollback().await?;
        let damaged = |_| StoreError::Damaged("the seed has not 16 bytes".to_owned());
        return Ok(Seed(seed.try_into().map_err(damaged)?));
    }
    let (revision, at) = (int(FIRST_REVISION.0)?, int(fresh.at.as_secs())?);
    sqlx::query("INSERT INTO meta (only_row, revision, seed, created) VALUES (1, ?1, ?2, ?3)")
        .bind(revision)
        .bind(fresh.seed.0.as_slice())
        .bind(at)
        .execute(&mut *tx)
        .await?;
    sqlx::query("INSERT INTO installation (only_row, body, created, changed) VALUES (1, ?1, ?2, ?3)")
        .bind(encode(&fresh.installation)?)
        .bind(at)
        .bind(revision)
        .execute(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok(fresh.seed)
}

fn migration_failure(path: &Path, error: MigrateError) -> OpenError {
    if let MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) = error {
        failure(path, error)
    } else if let MigrateError::VersionMismatch(_) = error {
        OpenError::Foreign { path: path.to_owned(), what: error.to_string() }
    } else {
        OpenError::Database { path: path.to_owned(), source: Box::new(error) }
    }
}

fn failure(path: &Path, error: sqlx::Error) -> OpenError {
    let path = path.to_owned();
    if let sqlx::Error::Io(source) = error {
        OpenError::Io { path, source }
    } else if fault::is_unreadable(&error) {
        OpenError::Foreign { path, what: error.to_string() }
    } else if fault::is_busy(&error) {
        OpenError::Locked { path }
    } else {
        OpenError::Database { path, source: Box::new(error) }
    }
}

fn io_error(path: &Path, source: io::Error) -> OpenError {
    OpenError::Io { path: path.to_owned(), source }
}

/// A folder that its owner alone can enter.
fn private_folder(path: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

/// A file that its owner alone can read, if it is made here. SQLite gives its WAL the same permissions.
fn private_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}
