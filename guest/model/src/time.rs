//! Points in time and expiry, in whole seconds since 1970-01-01T00:00:00Z.

use std::fmt;
use std::str::FromStr;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};
use serde::{Deserialize, Serialize};

/// A point in time: seconds since the Unix epoch. The guest has no clock, so every one of them is an argument.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct UnixTime(u64);

impl UnixTime {
    /// The last point in time that can be written as a date: 9999-12-30T22:00:00Z.
    pub const MAX: UnixTime = UnixTime(253_402_207_200);

    /// A point in time, or nothing where it lies beyond [`UnixTime::MAX`].
    #[must_use]
    pub fn from_secs(seconds: u64) -> Option<Self> {
        (seconds <= Self::MAX.0).then_some(UnixTime(seconds))
    }

    /// Seconds since the Unix epoch.
    #[must_use]
    pub fn as_secs(self) -> u64 {
        self.0
    }
}

impl fmt::Display for UnixTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match i64::try_from(self.0).ok().and_then(|seconds| Timestamp::from_second(seconds).ok()) {
            Some(timestamp) => timestamp.fmt(f),
            None => write!(f, "{} s", self.0),
        }
    }
}

impl FromStr for UnixTime {
    type Err = TimeError;

    /// Reads RFC 3339 with an offset, for example `2026-11-21T09:00:00Z`. Fractions of a second are cut off.
    fn from_str(text: &str) -> Result<Self, TimeError> {
        text.parse::<Timestamp>().ok().and_then(since_epoch).ok_or_else(|| TimeError { text: text.to_owned() })
    }
}

/// When a credential ends: it is expired at this second and later.
///
/// Written as RFC 3339 (`2026-12-31T18:00:00Z`) or as a bare date, which means the end of that day in UTC.
///
/// ```
/// use portcullis_model::time::Expiry;
/// let day: Expiry = "2026-12-31".parse().unwrap();
/// let instant: Expiry = "2027-01-01T00:00:00Z".parse().unwrap();
/// assert_eq!(day, instant);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Expiry(UnixTime);

impl Expiry {
    /// Ends at `at`.
    #[must_use]
    pub fn at(at: UnixTime) -> Self {
        Expiry(at)
    }

    /// The first second at which the credential no longer works.
    #[must_use]
    pub fn instant(self) -> UnixTime {
        self.0
    }
}

impl FromStr for Expiry {
    type Err = TimeError;

    fn from_str(text: &str) -> Result<Self, TimeError> {
        // Only the bare form: jiff also reads the date out of a longer text.
        if text.len() == "2026-12-31".len()
            && let Ok(date) = text.parse::<Date>()
        {
            let end = date.checked_add(1.day()).ok().and_then(|next| next.to_zoned(TimeZone::UTC).ok());
            return end
                .and_then(|zoned| since_epoch(zoned.timestamp()))
                .map(Expiry)
                .ok_or_else(|| TimeError { text: text.to_owned() });
        }
        text.parse().map(Expiry)
    }
}

impl TryFrom<String> for Expiry {
    type Error = TimeError;

    fn try_from(text: String) -> Result<Self, TimeError> {
        text.parse()
    }
}

impl From<Expiry> for String {
    fn from(expiry: Expiry) -> String {
        expiry.0.to_string()
    }
}

fn since_epoch(timestamp: Timestamp) -> Option<UnixTime> {
    u64::try_from(timestamp.as_second()).ok().and_then(UnixTime::from_secs)
}

/// A text that is no point in time from 1970 on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a time: write RFC 3339 with an offset, such as `2026-12-31T18:00:00Z`")]
pub struct TimeError {
    text: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_date_ends_with_its_day() {
        let expiry: Expiry = "2026-02-28".parse().unwrap();
        assert_eq!(String::from(expiry), "2026-03-01T00:00:00Z");
    }

    #[test]
    fn times_need_an_offset_and_a_year_from_1970() {
        for bad in ["2026-12-31T18:00:00", "1969-12-30", "yesterday", "2026-13-01", ""] {
            assert!(bad.parse::<Expiry>().is_err(), "{bad:?}");
        }
        assert_eq!("1970-01-01T00:00:01Z".parse::<UnixTime>().unwrap().as_secs(), 1);
        assert_eq!("2026-01-01T01:00:00+01:00".parse::<UnixTime>().unwrap().to_string(), "2026-01-01T00:00:00Z");
    }

    #[test]
    fn a_number_of_seconds_has_an_end() {
        assert!(UnixTime::from_secs(UnixTime::MAX.as_secs()).is_some());
        assert!(UnixTime::from_secs(UnixTime::MAX.as_secs() + 1).is_none());
    }
}
