//! Statements and what they give: columns to values and back. What a column holds that no version writes is
//! [`StoreError::Damaged`].

use std::fmt::Display;

use portcullis_model::id::{Id, Revision};
use portcullis_model::time::UnixTime;
use rusqlite::types::{FromSql, FromSqlResult, ValueRef};
use rusqlite::{Connection, Params, Row};
use serde::de::{DeserializeOwned, IntoDeserializer as _, value};
use serde::{Deserialize, Serialize};

use crate::error::StoreError;
use crate::record::{MAX_PAGE, Page, Paging, Stored};

/// Runs a statement that gives no rows. How many it changed.
pub(super) fn execute(db: &Connection, statement: &str, params: impl Params) -> Result<usize, StoreError> {
    Ok(db.prepare_cached(statement)?.execute(params)?)
}

/// The one value of the one row that a query always has.
pub(super) fn scalar<T: FromSql>(db: &Connection, query: &str, params: impl Params) -> Result<T, StoreError> {
    Ok(db.prepare_cached(query)?.query_row(params, |row| row.get(0))?)
}

/// The first row, if there is one.
pub(super) fn one<T>(
    db: &Connection,
    query: &str,
    params: impl Params,
    table: &'static str,
    decode: impl FnOnce(&Columns<'_>) -> Result<T, StoreError>,
) -> Result<Option<T>, StoreError> {
    let mut statement = db.prepare_cached(query)?;
    let mut rows = statement.query(params)?;
    rows.next()?.map(|row| decode(&Columns::new(row, table))).transpose()
}

/// Every row.
pub(super) fn all<T>(
    db: &Connection,
    query: &str,
    params: impl Params,
    table: &'static str,
    mut decode: impl FnMut(&Columns<'_>) -> Result<T, StoreError>,
) -> Result<Vec<T>, StoreError> {
    let mut statement = db.prepare_cached(query)?;
    let mut rows = statement.query(params)?;
    let mut records = Vec::new();
    while let Some(row) = rows.next()? {
        records.push(decode(&Columns::new(row, table))?);
    }
    Ok(records)
}

/// A page of a query that asks for `limit` rows and one more: see [`fetch`].
pub(super) fn page<T>(
    db: &Connection,
    query: &str,
    params: impl Params,
    limit: usize,
    table: &'static str,
    decode: impl Fn(&Columns<'_>) -> Result<T, StoreError>,
) -> Result<Page<T>, StoreError> {
    let mut statement = db.prepare_cached(query)?;
    let mut rows = statement.query(params)?;
    let (mut items, mut last) = (Vec::new(), None);
    while let Some(row) = rows.next()? {
        if items.len() == limit {
            return Ok(Page { items, next: last });
        }
        let row = Columns::new(row, table);
        items.push(decode(&row)?);
        last = Some(row.number("seq")?);
    }
    Ok(Page { items, next: None })
}

/// One row, read by the names of its columns.
#[derive(Clone, Copy)]
pub(super) struct Columns<'r> {
    row: &'r Row<'r>,
    table: &'static str,
}

impl<'r> Columns<'r> {
    pub(super) fn new(row: &'r Row<'r>, table: &'static str) -> Columns<'r> {
        Columns { row, table }
    }

    pub(super) fn get<T: FromSql>(&self, column: &str) -> Result<T, StoreError> {
        self.row.get(column).map_err(|error| self.damaged(column, error))
    }

    fn borrowed<T>(&self, column: &str, read: fn(&ValueRef<'r>) -> FromSqlResult<T>) -> Result<T, StoreError> {
        let value = self.row.get_ref(column).map_err(|error| self.damaged(column, error))?;
        read(&value).map_err(|error| self.damaged(column, error))
    }

    pub(super) fn text(&self, column: &str) -> Result<&'r str, StoreError> {
        self.borrowed(column, ValueRef::as_str)
    }

    pub(super) fn maybe_text(&self, column: &str) -> Result<Option<&'r str>, StoreError> {
        self.borrowed(column, ValueRef::as_str_or_null)
    }

    /// The text of the column of that number; names are looked for among all columns each time.
    pub(super) fn text_at(&self, index: usize, column: &str) -> Result<&'r str, StoreError> {
        let value = self.row.get_ref(index).map_err(|error| self.damaged(column, error))?;
        value.as_str().map_err(|error| self.damaged(column, error))
    }

    pub(super) fn blob(&self, column: &str) -> Result<&'r [u8], StoreError> {
        self.borrowed(column, ValueRef::as_blob)
    }

    pub(super) fn maybe_blob(&self, column: &str) -> Result<Option<&'r [u8]>, StoreError> {
        self.borrowed(column, ValueRef::as_blob_or_null)
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
        self.text(column)?.parse().map_err(|error| self.damaged(column, error))
    }

    pub(super) fn maybe_id(&self, column: &str) -> Result<Option<Id>, StoreError> {
        self.maybe_text(column)?.map(str::parse).transpose().map_err(|error| self.damaged(column, error))
    }

    pub(super) fn json<T: Deserialize<'r>>(&self, column: &str) -> Result<T, StoreError> {
        self.as_json(column, self.text(column)?)
    }

    /// A part of a column as JSON.
    pub(super) fn as_json<'t, T: Deserialize<'t>>(&self, column: &str, text: &'t str) -> Result<T, StoreError> {
        serde_json::from_str(text).map_err(|error| self.damaged(column, error))
    }

    /// A variant without data, under the name that it has in JSON.
    pub(super) fn word<T: DeserializeOwned>(&self, column: &str) -> Result<T, StoreError> {
        self.as_word(column, self.text(column)?)
    }

    /// A part of a column as a variant without data.
    pub(super) fn as_word<T: DeserializeOwned>(&self, column: &str, word: &str) -> Result<T, StoreError> {
        T::deserialize(word.into_deserializer()).map_err(|error: value::Error| self.damaged(column, error))
    }

    pub(super) fn bytes<const N: usize>(&self, column: &str) -> Result<[u8; N], StoreError> {
        self.blob(column)?.try_into().map_err(|error| self.damaged(column, error))
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
