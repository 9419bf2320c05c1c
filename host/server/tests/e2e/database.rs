//! Another program that has the database open.

use std::path::Path;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _, SqliteConnection};
use tokio::runtime::Runtime;

/// A connection that holds what it has begun until it is dropped.
pub(crate) struct Other {
    runtime: Runtime,
    connection: SqliteConnection,
}

impl Other {
    pub(crate) fn open(data: &Path) -> Other {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let options = SqliteConnectOptions::new().filename(data.join("portcullis.db"));
        let connection = runtime.block_on(options.connect()).unwrap();
        Other { runtime, connection }
    }

    pub(crate) fn execute(&mut self, sql: &str) {
        self.runtime.block_on(self.connection.execute(AssertSqlSafe(sql))).unwrap();
    }

    pub(crate) fn close(self) {
        self.runtime.block_on(self.connection.close()).unwrap();
    }
}

/// Runs one statement.
pub(crate) fn execute(data: &Path, sql: &str) {
    let mut other = Other::open(data);
    other.execute(sql);
    other.close();
}
