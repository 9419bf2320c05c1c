//! What SQLite's errors mean to callers of the store.

use sqlx::sqlite::SqliteError;

use crate::error::StoreError;

// Result codes of SQLite: https://www.sqlite.org/rescode.html. The low byte of an extended code is its primary code.
const BUSY: i32 = 5;
const LOCKED: i32 = 6;
const IOERR: i32 = 10;
const CORRUPT: i32 = 11;
const FULL: i32 = 13;
const NOT_A_DATABASE: i32 = 26;
const CONSTRAINT_UNIQUE: i32 = 2067;

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> StoreError {
        match (primary(&error), &error) {
            (Some(FULL), _) => StoreError::Full,
            (Some(BUSY | LOCKED), _) => StoreError::Locked,
            (Some(IOERR), _) => StoreError::Io(error.to_string()),
            (Some(CORRUPT | NOT_A_DATABASE), _) => StoreError::Damaged(error.to_string()),
            (_, sqlx::Error::PoolClosed) => StoreError::Closed,
            (_, sqlx::Error::RowNotFound) => StoreError::Damaged("a row that every store has is missing".to_owned()),
            (_, sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_)) => StoreError::Damaged(error.to_string()),
            _ => StoreError::Database(Box::new(error)),
        }
    }
}

/// Whether the file is no database, or none that can be read.
pub(super) fn is_unreadable(error: &sqlx::Error) -> bool {
    matches!(primary(error), Some(CORRUPT | NOT_A_DATABASE))
}

/// Whether a row with that unique value is there already, other than by its primary key.
pub(super) fn is_duplicate(error: &sqlx::Error) -> bool {
    extended(error) == Some(CONSTRAINT_UNIQUE)
}

/// Whether another connection holds the database.
pub(super) fn is_busy(error: &sqlx::Error) -> bool {
    matches!(primary(error), Some(BUSY | LOCKED))
}

fn primary(error: &sqlx::Error) -> Option<i32> {
    extended(error).map(|code| code & 0xff)
}

fn extended(error: &sqlx::Error) -> Option<i32> {
    error.as_database_error()?.try_downcast_ref::<SqliteError>()?;
    error.as_database_error()?.code()?.parse().ok()
}
