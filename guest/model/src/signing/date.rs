//! The date of a signed request: `20260307T123456Z`, or `Sat, 07 Mar 2026 12:34:56 GMT` (RFC 9110 section 5.6.7).

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use crate::key_sheet::Day;
use crate::time::UnixTime;

const DAY_S: u64 = 86_400;
const WEEKDAYS: [&[u8; 3]; 7] = [b"Thu", b"Fri", b"Sat", b"Sun", b"Mon", b"Tue", b"Wed"];
const MONTHS: [&[u8; 3]; 12] =
    [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];

/// What a wrong day of the week is worth.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Weekday {
    /// The date is none then.
    Checked,
    /// Nothing: signers in the wild write wrong ones, and their time is what counts.
    Ignored,
}

/// Reads a date in either spelling, and nothing else.
#[must_use]
pub fn read(text: &[u8], weekday: Weekday) -> Option<UnixTime> {
    match text {
        [date @ .., b'T', h1, h2, m1, m2, s1, s2, b'Z'] if date.len() == 8 => {
            let (year, rest) = date.split_first_chunk::<4>()?;
            let (month, day) = rest.split_first_chunk::<2>()?;
            time(
                digits(year)?,
                digits(month)?,
                digits(day)?,
                [digits(&[*h1, *h2])?, digits(&[*m1, *m2])?, digits(&[*s1, *s2])?],
            )
        }
        [
            name @ ..,
            b',',
            b' ',
            d1,
            d2,
            b' ',
            o1,
            o2,
            o3,
            b' ',
            y1,
            y2,
            y3,
            y4,
            b' ',
            h1,
            h2,
            b':',
            m1,
            m2,
            b':',
            s1,
            s2,
            b' ',
            b'G',
            b'M',
            b'T',
        ] if name.len() == 3 => {
            let month = MONTHS.iter().zip(1..).find(|(month, _)| ***month == [*o1, *o2, *o3])?.1;
            let clock = [digits(&[*h1, *h2])?, digits(&[*m1, *m2])?, digits(&[*s1, *s2])?];
            let at = time(digits(&[*y1, *y2, *y3, *y4])?, month, digits(&[*d1, *d2])?, clock)?;
            let of_week = usize::try_from(at.as_secs() / DAY_S % 7).ok().and_then(|day| WEEKDAYS.get(day))?;
            let is_name = WEEKDAYS.iter().any(|day| day.as_slice() == name);
            let fits = weekday == Weekday::Ignored || of_week.as_slice() == name;
            (is_name && fits).then_some(at)
        }
        _ => None,
    }
}

/// A point in time as `YYYYMMDDTHHMMSSZ`.
#[must_use]
pub fn long_date(at: UnixTime) -> [u8; 16] {
    let of_day = at.as_secs() % DAY_S;
    let mut out = *b"00000000T000000Z";
    let day = short(Day::of(at));
    let clock = [of_day / 3600, of_day / 60 % 60, of_day % 60].map(two);
    let places = out.iter_mut();
    let text = day.iter().chain(b"T").chain(clock.iter().flatten());
    places.zip(text).for_each(|(place, byte)| *place = *byte);
    out
}

/// A point in time as HTTP writes it.
#[must_use]
pub fn http_date(at: UnixTime) -> String {
    let day = at.as_secs() / DAY_S;
    let (year, month, of_month) = civil(day);
    let name = |names: &[&[u8; 3]], at: u64| {
        let name = usize::try_from(at).ok().and_then(|at| names.get(at)).copied().unwrap_or(b"???");
        String::from_utf8_lossy(name).into_owned()
    };
    let of_day = at.as_secs() % DAY_S;
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    let (week, month) = (name(&WEEKDAYS, day % 7), name(&MONTHS, month - 1));
    format!("{week}, {of_month:02} {month} {year:04} {hour:02}:{minute:02}:{second:02} GMT")
}

/// A day as `YYYYMMDD`. The last day of a year that can be written in four digits stands for those after it.
pub(super) fn short(day: Day) -> [u8; 8] {
    let last = UnixTime::MAX.as_secs() / DAY_S;
    let (year, month, of_month) = civil(u64::from(day.0).min(last));
    let [a, b] = two(year / 100);
    let [c, d] = two(year % 100);
    let [e, f] = two(month);
    let [g, h] = two(of_month);
    [a, b, c, d, e, f, g, h]
}

fn two(number: u64) -> [u8; 2] {
    let digit = |number: u64| b'0' + u8::try_from(number % 10).unwrap_or_default();
    [digit(number / 10), digit(number)]
}

fn digits(text: &[u8]) -> Option<u64> {
    text.iter().try_fold(0, |number, digit| digit.is_ascii_digit().then(|| number * 10 + u64::from(digit - b'0')))
}

fn time(year: u64, month: u64, day: u64, [hour, minute, second]: [u64; 3]) -> Option<UnixTime> {
    // A leap second is the last of its day in no clock that signs; it is no time here.
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let date = Date::new(i16::try_from(year).ok()?, i8::try_from(month).ok()?, i8::try_from(day).ok()?).ok()?;
    let midnight = date.to_zoned(TimeZone::UTC).ok()?.timestamp().as_second();
    UnixTime::from_secs(u64::try_from(midnight).ok()? + hour * 3600 + minute * 60 + second)
}

/// Year, month and day of a number of days since 1970.
fn civil(days: u64) -> (u64, u64, u64) {
    let midnight = i64::try_from(days * DAY_S).ok().and_then(|second| Timestamp::from_second(second).ok());
    let date = midnight.unwrap_or(Timestamp::MAX).to_zoned(TimeZone::UTC).date();
    let [year, month, day] = [date.year(), date.month().into(), date.day().into()].map(i16::unsigned_abs);
    (year.into(), month.into(), day.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> UnixTime {
        text.parse().unwrap()
    }

    #[test]
    fn both_spellings_are_read_and_written() {
        for (text, long, http) in [
            ("2026-03-07T12:34:56Z", "20260307T123456Z", "Sat, 07 Mar 2026 12:34:56 GMT"),
            ("2000-02-29T23:59:59Z", "20000229T235959Z", "Tue, 29 Feb 2000 23:59:59 GMT"),
            ("1970-01-01T00:00:00Z", "19700101T000000Z", "Thu, 01 Jan 1970 00:00:00 GMT"),
            ("9999-12-30T22:00:00Z", "99991230T220000Z", "Thu, 30 Dec 9999 22:00:00 GMT"),
        ] {
            let at = at(text);
            assert_eq!(read(long.as_bytes(), Weekday::Checked), Some(at), "{long}");
            assert_eq!(read(http.as_bytes(), Weekday::Checked), Some(at), "{http}");
            assert_eq!((long_date(at).as_slice(), http_date(at).as_str()), (long.as_bytes(), http));
            assert_eq!(short(Day::of(at)), long.as_bytes()[..8]);
        }
    }

    /// `jiff` is the oracle.
    #[test]
    fn every_day_has_one_name() {
        for day in (0..2_932_000_u64).step_by(97) {
            let time = UnixTime::from_secs(day * DAY_S).unwrap();
            let expected: String = time.to_string().chars().take(10).filter(|c| *c != '-').collect();
            assert_eq!(short(Day::of(time)), expected.as_bytes());
            assert_eq!(read(&long_date(time), Weekday::Checked), Some(time));
        }
    }

    #[test]
    fn what_is_no_date_is_none() {
        for wrong in [
            "",
            "20260307T123456",
            "20260307T123456Zx",
            " 20260307T123456Z",
            "20260307 123456Z",
            "20260229T000000Z",
            "20261301T000000Z",
            "20260100T000000Z",
            "20260307T240000Z",
            "20260307T126056Z",
            "20260307T123460Z",
            "19691231T235959Z",
            "99991231T235959Z",
            "+0260307T123456Z",
            "Sat, 7 Mar 2026 12:34:56 GMT",
            "Sat, 07 mar 2026 12:34:56 GMT",
            "Sat, 07 Mar 2026 12:34:56 UTC",
            "Sat, 07 Mar 2026 12:34:56 GMT ",
            "Saturday, 07-Mar-26 12:34:56 GMT",
            "Sat Mar  7 12:34:56 2026",
            "Xxx, 07 Mar 2026 12:34:56 GMT",
            "2026-03-07T12:34:56Z",
        ] {
            assert_eq!(read(wrong.as_bytes(), Weekday::Ignored), None, "{wrong}");
        }
        let wrong_day = b"Sun, 07 Mar 2026 12:34:56 GMT";
        assert_eq!(read(wrong_day, Weekday::Checked), None);
        assert!(read(wrong_day, Weekday::Ignored).is_some());
    }
}
