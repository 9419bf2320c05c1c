//! Where a worker is in a feed: the revision that it has, and how much it has of the key sheets.

use std::fmt;
use std::str::FromStr;

use portcullis_model::feed::is_cursor;
use portcullis_model::id::Revision;

/// As it stands in calls: `r7`, or `r7.k12.0123456789abcdef`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Cursor {
    pub(super) revision: Revision,
    /// How much it has of the keys, by the count of the hub of that number. Another hub counts anew, so that a host that was
    /// restarted sends all of them again.
    pub(super) keys: Option<(u64, u64)>,
}

/// A text that no answer gave as a cursor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct NoCursor;

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "r{}", self.revision.0)?;
        self.keys.map_or(Ok(()), |(count, hub)| write!(f, ".k{count}.{hub:016x}"))
    }
}

impl FromStr for Cursor {
    type Err = NoCursor;

    fn from_str(text: &str) -> Result<Cursor, NoCursor> {
        if !is_cursor(text) {
            return Err(NoCursor);
        }
        let rest = text.strip_prefix('r').ok_or(NoCursor)?;
        let (revision, keys) = match rest.split_once('.') {
            None => (rest, None),
            Some((revision, keys)) => {
                let (count, hub) = keys.strip_prefix('k').and_then(|keys| keys.split_once('.')).ok_or(NoCursor)?;
                let hub = u64::from_str_radix(hub, 16).map_err(|_| NoCursor)?;
                (revision, Some((count.parse().map_err(|_| NoCursor)?, hub)))
            }
        };
        let cursor = Cursor { revision: Revision(revision.parse().map_err(|_| NoCursor)?), keys };
        // One spelling, so signs and leading zeros are none.
        if cursor.to_string() == text { Ok(cursor) } else { Err(NoCursor) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_as_it_was_written() {
        for keys in [None, Some((0, 1)), Some((u64::MAX, u64::MAX))] {
            for revision in [0, 7, u64::MAX] {
                let cursor = Cursor { revision: Revision(revision), keys };
                assert!(is_cursor(&cursor.to_string()));
                assert_eq!(cursor.to_string().parse(), Ok(cursor));
            }
        }
    }

    #[test]
    fn other_texts_are_none() {
        let long = format!("r{}", "1".repeat(200));
        for text in [
            "",
            "7",
            "r",
            "r-1",
            "r+1",
            "r07",
            "r7.",
            "r7.k1",
            "r7.k1.1",
            "r7.k1.0123456789ABCDEF",
            "r7.k.0",
            "r7 ",
            &long,
        ] {
            assert_eq!(text.parse::<Cursor>(), Err(NoCursor), "{text}");
        }
    }
}
