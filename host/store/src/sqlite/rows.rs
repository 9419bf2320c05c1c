//! Columns to values and back. What a column holds that no version writes is [`StoreError::Damaged`].

use std::fmt::Display;

use portcullis_model::id::{Id, Revision};
use portcullis_model::time::UnixTime;
use serde::de::{DeserializeOwned, IntoDeserializer as _, value};
use serde::{Deserialize, Serialize};
use sqlx::sqlite::{Sqlite, SqliteRow};
use sqlx::{Decode, Row as _, Type};

use crate::error::StoreError;
use crate::record::{MAX_PAGE, Page, Paging, Stored};

/// One row, read by the names of its columns.
#[derive(Clone, Copy)]
pub(super) struct Columns<'r> {
    row: &'r SqliteRow,
    table: &'static str,
}

impl<'r> Columns<'r> {
    pub(super) fn new(row: &'r SqliteRow, table: &'static str) -> Columns<'r> {
        Columns { row, table }
    }

    pub(super) fn get<T: Decode<'r, Sqlite> + Type<Sqlite>>(&self, column: &str) -> Result<T, StoreError> {
        self.row.try_get(column).map_err(|error| self.damaged(column, error))
    }

    pub(super) fn number(&self, column: &str) -> Result<u64, StoreError> {
        u64::try_from(self.get::<i64>(column)?).map_err(|error| self.damaged(column, error))
    }

    pub(super) fn small<T: TryFrom<i64, Error: Display>>(&self, column: &str) -> Result<T, StoreError> {
        T::try_from(self.get::<i64>(column)?).map_err(|error| self.damaged(column, error))
    }

    pub(super) fn time(&self, column: &str) -> Result<UnixTime, StoreError> {
        self.seconds(column, self.number(column)?)
    }

    pub(super) fn maybe_time(&self, column: &str) -> Result<Option<UnixTime>, StoreError> {
        match self.get::<Option<i64>>(column)? {
            None => Ok(None),
            Some(seconds) => {
                let seconds = u64::try_from(seconds).map_err(|error| self.damaged(column, error))?;
                self.seconds(column, seconds).map(Some)
            }
        }
    }

    pub(super) fn seconds(&self, column: &str, seconds: u64) -> Result<UnixTime, StoreError> {
        UnixTime::from_secs(seconds).ok_or_else(|| self.damaged(column, "no time"))
    }

    pub(super) fn id(&self, column: &str) -> Result<Id, StoreError> {
        self.get::<&str>(column)?.parse().map_err(|error| self.damaged(column, error))
    }

    pub(super) fn maybe_id(&self, column: &str) -> Result<Option<Id>, StoreError> {
        self.get::<Option<&str>>(column)?.map(str::parse).transpose().map_err(|error| self.damaged(column, error))
    }

    pub(super) fn json<T: Deserialize<'r>>(&self, column: &str) -> Result<T, StoreError> {
        self.as_json(column, self.get(column)?)
    }

    /// A part of a column as JSON.
    pub(super) fn as_json<'t, T: Deserialize<'t>>(&self, column: &str, text: &'t str) -> Result<T, StoreError> {
        serde_json::from_str(text).map_err(|error| self.damaged(column, error))
    }

    /// A variant without data, under the name that it has in JSON.
    pub(super) fn word<T: DeserializeOwned>(&self, column: &str) -> Result<T, StoreError> {
        self.as_word(column, self.get(column)?)
    }

    /// A part of a column as a variant without data.
    pub(super) fn as_word<T: DeserializeOwned>(&self, column: &str, word: &str) -> Result<T, StoreError> {
        T::deserialize(word.into_deserializer()).map_err(|error: value::Error| self.damaged(column, error))
    }

    pub(super) fn bytes<const N: usize>(&self, column: &str) -> Result<[u8; N], StoreError> {
        self.get::<&[u8]>(column)?.try_into().map_err(|error| self.damaged(column, error))
    }

    pub(super) fn stored<T>(&self, record: T) -> Result<Stored<T>, StoreError> {
        Ok(Stored { record, changed: Revision(self.number("changed")?), created: self.time("created")? })
    }

    pub(super) fn damaged(&self, column: &str, what: impl Display) -> StoreError {
        StoreError::Damaged(format!("column `{column}` of `{}`: {what}", self.table))
    }
}

/// A value as JSON text.
pub(super) fn encode<T: Serialize>(value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::Database(Box::new(error)))
}

/// A variant without data as the name that it has in JSON.
pub(super) fn word<T: Serialize>(value: T) -> Result<String, StoreError> {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => Ok(word),
        Ok(other) => Err(StoreError::Database(format!("`{other}` is no word").into())),
        Err(error) => Err(StoreError::Database(Box::new(error))),
    }
}

/// A number as SQLite has them: signed.
pub(super) fn int(number: u64) -> Result<i64, StoreError> {
    i64::try_from(number).map_err(|_| StoreError::Database(format!("the number {number} is too large").into()))
}

pub(super) fn number(int: i64) -> Result<u64, StoreError> {
    u64::try_from(int).map_err(|_| StoreError::Damaged(format!("`{int}` where a count belongs")))
}

/// How many records a page has.
pub(super) fn limit(paging: Paging) -> usize {
    paging.limit.clamp(1, MAX_PAGE) as usize
}

/// How many rows to ask for: one more, which says whether there is a next page.
pub(super) fn fetch(limit: usize) -> i64 {
    i64::try_from(limit).map_or(i64::MAX, |limit| limit.saturating_add(1))
}

/// Where a page in order of creation begins. A cursor that no page gave leads to an empty page.
pub(super) fn after(paging: Paging) -> i64 {
    paging.after.map_or(0, |after| i64::try_from(after).unwrap_or(i64::MAX))
}

/// A page of the rows that were fetched by `limit` and one more.
pub(super) fn page<T>(
    rows: &[SqliteRow],
    limit: usize,
    table: &'static str,
    decode: fn(&Columns<'_>) -> Result<T, StoreError>,
) -> Result<Page<T>, StoreError> {
    let shown = rows.get(..limit).unwrap_or(rows);
    let items = shown.iter().map(|row| decode(&Columns::new(row, table))).collect::<Result<Vec<T>, StoreError>>()?;
    let next = match shown.last() {
        Some(last) if rows.len() > limit => Some(Columns::new(last, table).number("seq")?),
        Some(_) | None => None,
    };
    Ok(Page { items, next })
}
