//! What SQLite's errors mean to callers of the store.

use rusqlite::{Error, ErrorCode, ffi};

use crate::error::StoreError;

impl From<Error> for StoreError {
    fn from(error: Error) -> StoreError {
        use ErrorCode as Code;
        match (error.sqlite_error_code(), &error) {
            (Some(Code::DiskFull), _) => StoreError::Full,
            (Some(Code::DatabaseBusy | Code::DatabaseLocked), _) => StoreError::Locked,
            (Some(Code::SystemIoFailure), _) => StoreError::Io(error.to_string()),
            (Some(Code::DatabaseCorrupt | Code::NotADatabase), _) => StoreError::Damaged(error.to_string()),
            (_, Error::QueryReturnedNoRows) => StoreError::Damaged("a row that every store has is missing".to_owned()),
            (
                _,
                Error::FromSqlConversionFailure(..) | Error::InvalidColumnType(..) | Error::IntegralValueOutOfRange(..),
            ) => StoreError::Damaged(error.to_string()),
            _ => StoreError::Database(Box::new(error)),
        }
    }
}

/// Whether the file is no database, or none that can be read.
pub(super) fn is_unreadable(error: &Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

/// Whether a row with that unique value is there already, other than by its primary key.
pub(super) fn is_duplicate(error: &Error) -> bool {
    error.sqlite_extended_error_code() == Some(ffi::SQLITE_CONSTRAINT_UNIQUE)
}

/// Whether another connection holds the database.
pub(super) fn is_busy(error: &Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}
