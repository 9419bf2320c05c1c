//! The connections that read: as many as there are threads that read at once.

use std::path::PathBuf;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use rusqlite::Connection;

use super::open;
use crate::error::StoreError;

/// How many connections are kept while nobody reads.
const KEPT: usize = 4;

pub(super) struct Readers {
    path: PathBuf,
    state: Mutex<State>,
    returned: Condvar,
}

#[derive(Default)]
struct State {
    kept: Vec<Connection>,
    /// How many are with somebody who reads.
    lent: usize,
    is_closed: bool,
}

impl Readers {
    pub(super) fn new(path: PathBuf) -> Readers {
        Readers { path, state: Mutex::default(), returned: Condvar::new() }
    }

    /// Reads by a connection, each statement as of the last commit before it.
    pub(super) fn read<T>(&self, work: impl FnOnce(&Connection) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let kept = {
            let mut state = self.state();
            if state.is_closed {
                return Err(StoreError::Closed);
            }
            state.lent += 1;
            state.kept.pop()
        };
        let mut lent = Lent { readers: self, connection: kept };
        let connection = match lent.connection.take() {
            Some(connection) => connection,
            None => open::reader(&self.path)?,
        };
        let done = work(lent.connection.insert(connection));
        drop(lent);
        done
    }

    /// Reads by a connection, everything as of the same commit.
    pub(super) fn read_at_once<T>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.read(|db| {
            let tx = db.unchecked_transaction()?;
            work(&tx)
        })
    }

    /// Waits for those who read, closes their connections, and lets nobody in any more.
    pub(super) fn close(&self) {
        let mut state = self.state();
        state.is_closed = true;
        while state.lent > 0 {
            state = self.returned.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.kept.clear();
    }

    /// Nothing that is done under the lock can panic half way.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection that comes back, whatever becomes of whoever has it.
struct Lent<'r> {
    readers: &'r Readers,
    connection: Option<Connection>,
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        let mut state = self.readers.state();
        state.lent -= 1;
        if state.kept.len() < KEPT {
            state.kept.extend(self.connection.take());
        }
        self.readers.returned.notify_all();
    }
}
