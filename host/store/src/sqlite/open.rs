//! From a path to a database that is ours, locked and up to date.

use std::ffi::OsString;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use portcullis_model::credential::Seed;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, OptionalExtension as _, params};
use rusqlite_migration::{M, Migrations};

use super::fault;
use super::readers::Readers;
use super::rows::{encode, execute, int};
use super::writer::Writer;
use crate::change::{FIRST_REVISION, Fresh};
use crate::error::{OpenError, StoreError};

/// Marks the file as ours (`PRAGMA application_id`): "PTLC".
const APPLICATION_ID: u32 = 0x5054_4c43;

/// How long a statement waits for another program's lock before it fails.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Prepared statements kept by each connection: more than there are.
const STATEMENTS: usize = 128;

/// What every connection sets.
const CONNECTION: &str = "PRAGMA foreign_keys = ON; PRAGMA synchronous = FULL;";

/// What the writer sets besides. The WAL is cut to 64 MiB after a checkpoint: long readers let it grow, and it would stay so.
/// The pages that it keeps in memory are 64 MiB (SQLite wants kibibytes, negative): digests and ids are random, so with a
/// million keys each new one is on another page of an index of 50 MB.
const WRITER: &str = "PRAGMA journal_mode = WAL; PRAGMA journal_size_limit = 67108864; PRAGMA cache_size = -65536;";

/// The SQLite file format's header (https://www.sqlite.org/fileformat.html section 1.3).
const HEADER_BYTES: usize = 100;
const HEADER_MAGIC: &[u8] = b"SQLite format 3\0";

/// In the order in which they are done. Their number is the version of the schema, `PRAGMA user_version`.
const MIGRATIONS: [M<'static>; 10] = [
    M::up(include_str!("../../migrations/0001_initial.sql")),
    M::up(include_str!("../../migrations/0002_audit_evidence.sql")),
    M::up(include_str!("../../migrations/0003_errors.sql")),
    M::up(include_str!("../../migrations/0004_idempotency.sql")),
    M::up(include_str!("../../migrations/0005_live_keys.sql")),
    M::up(include_str!("../../migrations/0006_lifecycle.sql")),
    M::up(include_str!("../../migrations/0007_signing.sql")),
    M::up(include_str!("../../migrations/0009_tokens.sql")),
    M::up(include_str!("../../migrations/0010_feeds.sql")),
    M::up(include_str!("../../migrations/0011_fed_decisions.sql")),
];

/// The version of a database from before it was in `user_version`: its migrations were in a table.
const EARLIER: &str = "SELECT count(*) FROM _sqlx_migrations";

pub(super) struct Opened {
    pub(super) writer: Writer,
    pub(super) readers: Readers,
    pub(super) seed: Seed,
}

pub(super) fn open(path: &Path, fresh: &Fresh) -> Result<Opened, OpenError> {
    let (path, lock) = claim(path)?;
    let failed = |error| failure(&path, error);
    mark(&path).map_err(failed)?;
    let mut connection = writer(&path).map_err(failed)?;
    migrate(&path, &mut connection)?;
    let seed = begin(&mut connection, fresh)
        .map_err(|error| OpenError::Database { path: path.clone(), source: Box::new(error) })?;
    Ok(Opened { readers: Readers::new(path.clone()), writer: Writer::new(path, connection, lock), seed })
}

/// A connection that writes.
pub(super) fn writer(path: &Path) -> rusqlite::Result<Connection> {
    let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    connection.execute_batch(WRITER)?;
    Ok(connection)
}

/// A connection that only reads.
pub(super) fn reader(path: &Path) -> rusqlite::Result<Connection> {
    connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY)
}

fn connect(path: &Path, flags: OpenFlags) -> rusqlite::Result<Connection> {
    // One thread at a time has a connection, so SQLite need not see to it.
    let connection = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    // A statement is planned once: without it, each new value for one that could use a partial index has it planned again.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    connection.execute_batch(CONNECTION)?;
    Ok(connection)
}

/// Runs a statement that is prepared once.
pub(super) fn run(connection: &Connection, statement: &'static str) -> rusqlite::Result<()> {
    connection.prepare_cached(statement)?.execute([]).map(|_| ())
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
fn mark(path: &Path) -> rusqlite::Result<()> {
    let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    let id: u32 = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    if id == 0 {
        connection.pragma_update(None, "application_id", APPLICATION_ID)?;
    }
    Ok(())
}

fn migrate(path: &Path, connection: &mut Connection) -> Result<(), OpenError> {
    let failed = |error| failure(path, error);
    let is_earlier = connection.table_exists(None, "_sqlx_migrations").map_err(failed)?;
    let version = if is_earlier { EARLIER } else { "PRAGMA user_version" };
    let found: i64 = connection.query_row(version, [], |row| row.get(0)).map_err(failed)?;
    let known = MIGRATIONS.len() as i64;
    if found > known {
        return Err(OpenError::Newer { path: path.to_owned(), found, known });
    }
    if is_earlier {
        let taken_over = format!("BEGIN; PRAGMA user_version = {found}; DROP TABLE _sqlx_migrations; COMMIT");
        connection.execute_batch(&taken_over).map_err(failed)?;
    }
    match Migrations::from_slice(&MIGRATIONS).to_latest(connection) {
        Ok(()) => Ok(()),
        Err(rusqlite_migration::Error::RusqliteError { err, .. }) => Err(failure(path, err)),
        Err(error) => Err(OpenError::Database { path: path.to_owned(), source: Box::new(error) }),
    }
}

/// Writes the first revision where there is none, and reads the seed.
fn begin(connection: &mut Connection, fresh: &Fresh) -> Result<Seed, StoreError> {
    let tx = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    let there: Option<Vec<u8>> = tx.query_row("SELECT seed FROM meta", [], |row| row.get(0)).optional()?;
    if let Some(seed) = there {
        let damaged = |_| StoreError::Damaged("the seed has not 16 bytes".to_owned());
        return Ok(Seed(seed.try_into().map_err(damaged)?));
    }
    let (revision, at) = (int(FIRST_REVISION.0)?, int(fresh.at.as_secs())?);
    let meta = "INSERT INTO meta (only_row, revision, seed, created) VALUES (1, ?1, ?2, ?3)";
    execute(&tx, meta, params![revision, fresh.seed.0.as_slice(), at])?;
    let installation = "INSERT INTO installation (only_row, body, created, changed) VALUES (1, ?1, ?2, ?3)";
    execute(&tx, installation, params![encode(&fresh.installation)?, at, revision])?;
    tx.commit()?;
    Ok(fresh.seed)
}

fn failure(path: &Path, error: rusqlite::Error) -> OpenError {
    let path = path.to_owned();
    if fault::is_unreadable(&error) {
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
