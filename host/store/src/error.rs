//! What can go wrong with the store.

use std::path::PathBuf;

use portcullis_model::id::{Id, Revision};

/// Why a store could not be opened. The file is as it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process has it.
    #[error("`{}` is in use by another portcullis: stop that one first, or give this one another data folder", .path.display())]
    Locked {
        /// The database.
        path: PathBuf,
    },
    /// It was written by a newer version.
    #[error("`{}` was written by a newer portcullis (migration {found}, this build knows up to {known}): use that version", .path.display())]
    Newer {
        /// The database.
        path: PathBuf,
        /// The newest migration in it.
        found: i64,
        /// The newest migration of this build.
        known: i64,
    },
    /// It is no database of Portcullis, or is damaged.
    #[error("`{}` is not a database of portcullis: {what}", .path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What was found.
        what: String,
    },
    /// The file or its folder cannot be used.
    #[error("cannot open `{}`: {source}: check the folder, its permissions and its free space", .path.display())]
    Io {
        /// The database.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// SQLite failed.
    #[error("cannot open `{}`: {source}", .path.display())]
    Database {
        /// The database.
        path: PathBuf,
        /// What it said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Why nothing was read or written. A change that failed so is wholly undone.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The store has moved on: another revision is in force than the change was made from.
    #[error("the store is at revision {at}, the change was made from {from}")]
    Conflict {
        /// The revision that the change was made from.
        from: Revision,
        /// The revision there is.
        at: Revision,
    },
    /// Another credential has that digest, so the key would not name one credential.
    #[error("the key is taken: another credential has the same digest")]
    DuplicateDigest,
    /// The id belongs to a deleted record, or to one of another tenant or kind. Neither can be put.
    #[error("the id `{id}` is taken by another record or by a deleted one: choose another")]
    IdTaken {
        /// The id.
        id: Id,
    },
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
    /// The disk is full or its quota used up.
    #[error("the disk is full")]
    Full,
    /// The system refused to read or write the file: a limit on its size, a quota, a disk that fails.
    #[error("the database cannot be read or written: {0}")]
    Io(String),
    /// Another program holds the database.
    #[error("the database is locked by another program")]
    Locked,
    /// The newest checkpoint of the audit was not signed by this installation's key, so nothing is signed after it.
    #[error("the checkpoint of the audit is not the one that was signed: somebody has changed the database")]
    Unsigned,
    /// A sealed secret does not open, so nothing was sealed anew.
    #[error(
        "a sealed secret of `{place}` does not open: it was changed, or the master key is not the one it was sealed under"
    )]
    Sealed {
        /// Where it belongs.
        place: String,
    },
    /// A row holds what no version of Portcullis writes.
    #[error("the database is damaged: {0}")]
    Damaged(String),
    /// SQLite failed.
    #[error("the database failed: {0}")]
    Database(#[source] Box<dyn std::error::Error + Send + Sync>),
}
