//! Another program that has the database open.

use std::path::Path;

use rusqlite::Connection;

/// A connection that holds what it has begun until it is dropped.
pub(crate) struct Other(Connection);

impl Other {
    pub(crate) fn open(data: &Path) -> Other {
        Other(Connection::open(data.join("portcullis.db")).unwrap())
    }

    pub(crate) fn execute(&self, sql: &str) {
        self.0.execute_batch(sql).unwrap();
    }
}

/// Runs one statement.
pub(crate) fn execute(data: &Path, sql: &str) {
    Other::open(data).execute(sql);
}
